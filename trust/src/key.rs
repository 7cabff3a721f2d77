// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Ed25519 keys, their names, and the files that hold them.
//!
//! Files are PEM as OpenSSL and everybody else writes it: PKCS#8 for what is secret (RFC 8410),
//! `SubjectPublicKeyInfo` for what is not. A key's id is the one that TUF and securesystemslib compute.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use zeroize::Zeroizing;

use crate::digest::{Digest, from_hex, hex};

/// The name of a public key: SHA-256 of it, written as TUF writes keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(Digest);

impl KeyId {
    /// The id that 64 small hexadecimal digits are; any other spelling is `None`.
    pub fn read(text: &str) -> Option<Self> {
        Digest::from_hex(text).map(Self)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A public key with which a signature means something: of the whole group's order, in the one
/// encoding that it has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// The key that these bytes encode (RFC 8032, 5.1.3).
    ///
    /// # Errors
    /// [`KeyError::NoPoint`], or [`KeyError::Weak`] for a point of small or mixed order, with which
    /// one signature can hold for several messages, or that is encoded in an unusual way.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        let no_point = |_: ed25519_dalek::SignatureError| KeyError::NoPoint;
        let key = VerifyingKey::from_bytes(bytes).map_err(no_point)?;
        let point = key.to_edwards();
        if key.is_weak() || !point.is_torsion_free() || point.compress().as_bytes() != bytes {
            return Err(KeyError::Weak);
        }
        Ok(Self(key))
    }

    /// The key in a PEM file.
    ///
    /// # Errors
    /// [`KeyError`]: it is no such file, or no key for signatures.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let der = read_pem(text, PUBLIC_LABEL)?;
        Self::from_bytes(after_prefix(&der, &PUBLIC_PREFIX).ok_or(KeyError::NotEd25519)?)
    }

    /// The key as the content of a PEM file.
    pub fn to_pem(self) -> String {
        write_pem(PUBLIC_LABEL, &PUBLIC_PREFIX, self.0.as_bytes()).to_string()
    }

    /// The key that [`PublicKey::hex`] wrote.
    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        Self::from_bytes(&from_hex(text)?).ok()
    }

    /// Its 32 bytes in hexadecimal digits.
    pub fn hex(self) -> String {
        hex(self.0.as_bytes())
    }

    /// What it is called in signatures and roots.
    pub fn id(self) -> KeyId {
        // Canonical JSON of the key, as TUF defines it.
        let canonical = format!(
            r#"{{"keytype":"ed25519","keyval":{{"public":"{}"}},"scheme":"ed25519"}}"#,
            self.hex()
        );
        KeyId(Digest::of(canonical.as_bytes()))
    }

    /// Whether this is the one signature that the key's owner can have made of a message: neither
    /// its bytes nor the key's could be others and still hold.
    pub fn verifies(self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.0.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.hex())
    }
}

/// A key to sign with. It is wiped from memory when it is dropped, and never printed.
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// The key of 32 random bytes, which is for the caller to draw.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The key in a PEM file.
    ///
    /// # Errors
    /// [`KeyError`]: it is no such file, encrypted, or a key of another kind.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        if text.contains("ENCRYPTED PRIVATE KEY-----") {
            return Err(KeyError::Encrypted);
        }
        let der = read_pem(text, SECRET_LABEL)?;
        let seed = after_prefix(&der, &SECRET_PREFIX).ok_or(KeyError::NotEd25519)?;
        Ok(Self::from_seed(seed))
    }

    /// The key as the content of a PEM file.
    pub fn to_pem(&self) -> Zeroizing<String> {
        write_pem(SECRET_LABEL, &SECRET_PREFIX, self.0.as_bytes())
    }

    /// What others check its signatures with.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// The signature of a message.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey of {:?}", self.public())
    }
}

/// Why something is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// There is no block of this kind, or more than one, or it is torn.
    #[error("it is not one PEM block \"{0}\"")]
    NotPem(&'static str),
    /// It has to be decrypted first.
    #[error("the private key in it is encrypted")]
    Encrypted,
    /// It is a key of another kind.
    #[error("the key in it is not an Ed25519 key")]
    NotEd25519,
    /// The bytes are no point of the curve.
    #[error("the public key is no point of the curve")]
    NoPoint,
    /// Signatures would mean nothing, or not only one thing.
    #[error("the public key is weak: of small or mixed order, or not in its canonical encoding")]
    Weak,
}

impl KeyError {
    /// What the operator can do.
    pub const fn hint(self) -> &'static str {
        match self {
            Self::Encrypted => {
                "sign elsewhere and bring the signature: `sign --prepare`, then `sign --attach`; or \
                 decrypt it: `openssl pkey -in FILE -out FILE2`"
            }
            _ => "make one with `aegisbpf keygen -o FILE`, or `openssl genpkey -algorithm ed25519`",
        }
    }
}

fn after_prefix<'a>(der: &'a [u8], prefix: &[u8]) -> Option<&'a [u8; 32]> {
    der.strip_prefix(prefix)?.try_into().ok()
}

fn read_pem(text: &str, label: &'static str) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let body = || {
        let body = text.trim().strip_prefix("-----BEGIN ")?.strip_prefix(label)?;
        let body = body.strip_prefix("-----")?.strip_suffix("-----")?.strip_suffix(label)?;
        let body = body.strip_suffix("-----END ")?;
        let lines = Zeroizing::new(body.lines().map(str::trim).collect::<String>());
        STANDARD.decode(lines.as_bytes()).ok().map(Zeroizing::new)
    };
    body().ok_or(KeyError::NotPem(label))
}

fn write_pem(label: &str, prefix: &[u8], key: &[u8; 32]) -> Zeroizing<String> {
    let der = Zeroizing::new([prefix, key].concat());
    let body = Zeroizing::new(STANDARD.encode(der.as_slice()));
    Zeroizing::new(format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", body.as_str()))
}

const SECRET_LABEL: &str = "PRIVATE KEY";
const PUBLIC_LABEL: &str = "PUBLIC KEY";

/// DER of everything before the 32 bytes of the seed: `SEQUENCE { 0, { 1.3.101.112 }, OCTET STRING }`.
const SECRET_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// DER of everything before the 32 bytes of the key: `SEQUENCE { { 1.3.101.112 }, BIT STRING }`.
const PUBLIC_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_from_its_file_and_is_never_printed() {
        let key = SecretKey::from_seed(&[7; 32]);
        let again = SecretKey::from_pem(&key.to_pem()).unwrap();
        assert_eq!(again.public(), key.public());
        assert_eq!(PublicKey::from_pem(&key.public().to_pem()), Ok(key.public()));
        assert_eq!(PublicKey::from_hex(&key.public().hex()), Some(key.public()));
        let printed = format!("{key:?}");
        assert_eq!(printed, format!("SecretKey of PublicKey({})", key.public().hex()));
        assert!(!printed.contains("0707"), "{printed}");
        let spaced = key.to_pem().replace('\n', " \r\n") + "\n\n";
        assert_eq!(SecretKey::from_pem(&spaced).unwrap().public(), key.public());
    }

    /// Appendix of RFC 8410.
    #[test]
    fn keys_are_read_as_others_write_them() {
        let secret = "-----BEGIN PRIVATE KEY-----\n\
                      MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
                      -----END PRIVATE KEY-----\n";
        let public = "-----BEGIN PUBLIC KEY-----\n\
                      MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
                      -----END PUBLIC KEY-----\n";
        let key = SecretKey::from_pem(secret).unwrap();
        assert_eq!(key.public().to_pem(), public);
        assert_eq!(*key.to_pem(), secret);
    }

    #[test]
    fn what_is_no_key_is_told_apart() {
        let pem = SecretKey::from_seed(&[7; 32]).to_pem();
        let refused = |text: &str| SecretKey::from_pem(text).expect_err("no key");
        assert_eq!(refused(&pem.replace("PRIVATE", "ENCRYPTED PRIVATE")), KeyError::Encrypted);
        assert_eq!(refused(&pem.replace("BwcHBw", "BwcH")), KeyError::NotPem("PRIVATE KEY"));
        assert_eq!(refused(&pem.replace("PRIVATE", "PUBLIC")), KeyError::NotPem("PRIVATE KEY"));
        assert_eq!(refused(&format!("{}{}", *pem, *pem)), KeyError::NotPem("PRIVATE KEY"));
        assert_eq!(refused(""), KeyError::NotPem("PRIVATE KEY"));
        // X25519 has the number 110.
        assert_eq!(refused(&pem.replace("K2Vw", "K2Vu")), KeyError::NotEd25519);
        assert!(KeyError::Encrypted.hint().contains("openssl pkey -in"));
        assert!(KeyError::Weak.hint().contains("keygen"));
    }

    /// Computed by securesystemslib 1.6.0.
    #[test]
    fn an_id_is_the_one_that_others_compute() {
        let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        let id = PublicKey::from_hex(public).unwrap().id().to_string();
        assert_eq!(id, "74c181c7ad8a0855d4b55e44d2ba87aabdddb196832571f15f92fece332e4916");
    }
}
