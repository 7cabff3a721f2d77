// SPDX-License-Identifier: Apache-2.0 OR MIT
//! DSSE: bytes of a declared type, and signatures over both.
//!
//! What is signed is the [`Envelope::signed_bytes`], which say type and length of everything: no byte
//! can move from one part into another. An envelope says nothing about whether a signature holds; see
//! [`TrustRoot`](crate::TrustRoot).

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use crate::{
    Digest, KeyId, Malformed, PublicKey, SecretKey,
    json::{Fields, read, unexpected},
};

/// What an envelope holds. The type is signed, so that none can pass for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A signed policy: an in-toto statement.
    Bundle,
    /// A trust root.
    Root,
}

impl Kind {
    /// The media type of the payload.
    pub const fn payload_type(self) -> &'static str {
        match self {
            Self::Bundle => "application/vnd.in-toto+json",
            Self::Root => "application/vnd.aegisbpf.trust-root+json",
        }
    }

    /// For messages.
    pub(crate) const fn document(self) -> &'static str {
        match self {
            Self::Bundle => "the bundle",
            Self::Root => "the trust root",
        }
    }

    /// The longest payload, in bytes.
    pub(crate) const fn most_bytes(self) -> usize {
        match self {
            Self::Bundle => 12 << 20,
            Self::Root => 1 << 20,
        }
    }

    /// The longest envelope, in bytes: what whoever reads one needs to read at most.
    pub const fn most_envelope_bytes(self) -> usize {
        self.most_bytes() / 3 * 4 + (64 << 10)
    }
}

/// A payload with the signatures that came along. Nobody has looked at either.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    kind: Kind,
    payload: Vec<u8>,
    signatures: Vec<Signature>,
}

/// One signature, and whose it says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Signature {
    /// Empty if it does not say.
    key: String,
    bytes: [u8; 64],
}

impl Envelope {
    /// A payload that nobody has signed yet.
    pub const fn new(kind: Kind, payload: Vec<u8>) -> Self {
        Self { kind, payload, signatures: Vec::new() }
    }

    /// Reads an envelope of this kind.
    ///
    /// # Errors
    /// [`Malformed`], with the place.
    pub fn read(kind: Kind, bytes: &[u8]) -> Result<Self, Malformed> {
        let mut fields = read(kind.document(), bytes, kind.most_envelope_bytes())?;
        fields.exactly("payloadType", kind.payload_type())?;
        let payload = fields.parsed("payload", BASE64, |text| STANDARD.decode(text).ok())?;
        let mut signatures = Vec::new();
        for (place, item) in fields.list("signatures", MOST_SIGNATURES)? {
            signatures.push(Signature::read(Fields::of(item, place)?)?);
        }
        fields.end()?;
        Ok(Self { kind, payload, signatures })
    }

    /// The envelope as a file holds it: one line, and no byte that could be another.
    pub fn write(&self) -> Vec<u8> {
        let signature = |signature: &Signature| json!({ "keyid": signature.key, "sig": STANDARD.encode(signature.bytes) });
        json!({
            "payloadType": self.kind.payload_type(),
            "payload": STANDARD.encode(&self.payload),
            "signatures": self.signatures.iter().map(signature).collect::<Vec<_>>(),
        })
        .to_string()
        .into_bytes()
    }

    /// What it holds.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The payload. What it says counts only if somebody signed it who may.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// SHA-256 of the payload; the same whoever signed it.
    pub fn payload_digest(&self) -> Digest {
        Digest::of(&self.payload)
    }

    /// What a signature is over: DSSE's "pre-authentication encoding".
    pub fn signed_bytes(&self) -> Vec<u8> {
        let kind = self.kind.payload_type();
        let head = format!("DSSEv1 {} {kind} {} ", kind.len(), self.payload.len());
        [head.as_bytes(), &self.payload].concat()
    }

    /// Adds the signature of a key, in the place of an earlier one.
    ///
    /// # Errors
    /// [`AttachError::Full`].
    pub fn sign(&mut self, key: &SecretKey) -> Result<(), AttachError> {
        let bytes = key.sign(&self.signed_bytes());
        self.attach(key.public(), &bytes)
    }

    /// Adds a signature that was made elsewhere, in the place of an earlier one by its key.
    ///
    /// # Errors
    /// [`AttachError`], if it does not hold or there are too many.
    pub fn attach(&mut self, key: PublicKey, signature: &[u8]) -> Result<(), AttachError> {
        let bytes = <&[u8; 64]>::try_from(signature)
            .ok()
            .filter(|bytes| key.verifies(&self.signed_bytes(), bytes))
            .ok_or_else(|| AttachError::DoesNotHold { key: key.id() })?;
        let id = key.id().to_string();
        let others = self.signatures.iter().filter(|signature| signature.key != id).count();
        if others == MOST_SIGNATURES {
            return Err(AttachError::Full);
        }
        self.signatures.retain(|signature| signature.key != id);
        self.signatures.push(Signature { key: id, bytes: *bytes });
        Ok(())
    }

    /// Which of these keys have signed it, each once, however often it signed. A signature that says
    /// whose it is holds for no other key.
    pub fn signers<'k>(&self, keys: impl IntoIterator<Item = &'k PublicKey>) -> BTreeSet<KeyId> {
        let message = self.signed_bytes();
        let has_signed = |key: &PublicKey, id: &str| {
            self.signatures.iter().any(|signature| {
                (signature.key.is_empty() || signature.key == id)
                    && key.verifies(&message, &signature.bytes)
            })
        };
        keys.into_iter()
            .map(|key| (key, key.id()))
            .filter(|(key, id)| has_signed(key, &id.to_string()))
            .map(|(_, id)| id)
            .collect()
    }

    /// Whose signatures it says that it has. Nobody has checked that.
    pub fn claimed_signers(&self) -> impl Iterator<Item = &str> {
        self.signatures.iter().map(|signature| signature.key.as_str())
    }
}

impl Signature {
    fn read(mut fields: Fields) -> Result<Self, Malformed> {
        let key = fields.optional_text("keyid")?.unwrap_or_default();
        if key.len() > MOST_KEYID_BYTES {
            return Err(unexpected(&fields.place("keyid"), "at most 256 bytes long"));
        }
        let expected = "64 bytes in base64, in its one spelling";
        let bytes =
            fields.parsed("sig", expected, |text| STANDARD.decode(text).ok()?.try_into().ok())?;
        fields.end()?;
        Ok(Self { key, bytes })
    }
}

/// Why a signature was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// The key did not make this signature of this payload.
    #[error("the signature is not one of key {key} over this payload")]
    DoesNotHold {
        /// The key.
        key: KeyId,
    },
    /// No more fit.
    #[error("there are {MOST_SIGNATURES} signatures already, which is the most")]
    Full,
}

/// Signatures on one envelope.
pub const MOST_SIGNATURES: usize = 16;

const MOST_KEYID_BYTES: usize = 256;
const BASE64: &str = "base64 in its one spelling: no line breaks, with padding, no stray bits";

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the DSSE specification.
    #[test]
    fn the_signed_bytes_are_those_of_the_standard() {
        let envelope = Envelope::new(Kind::Bundle, b"hello world".to_vec());
        let wanted = b"DSSEv1 28 application/vnd.in-toto+json 11 hello world";
        assert_eq!(envelope.signed_bytes(), wanted);
        let root = Envelope::new(Kind::Root, b"hello world".to_vec());
        assert!(root.signed_bytes().starts_with(b"DSSEv1 40 application/vnd.aegisbpf.trust-root"));
    }

    fn signed() -> (SecretKey, Envelope) {
        let key = SecretKey::from_seed(&[1; 32]);
        let mut envelope = Envelope::new(Kind::Bundle, b"{}".to_vec());
        envelope.sign(&key).unwrap();
        (key, envelope)
    }

    #[test]
    fn the_longest_payload_fits_with_all_signatures() {
        for kind in [Kind::Bundle, Kind::Root] {
            let payload = STANDARD.encode(vec![0; kind.most_bytes()]).len();
            let rest = kind.most_envelope_bytes() - payload;
            assert!((65_000..=65_536).contains(&rest), "{kind:?}: {rest}");
        }
    }

    #[test]
    fn who_signed_is_at_most_so_long() {
        let named = |length| {
            let (_, mut envelope) = signed();
            envelope.signatures.iter_mut().for_each(|signature| signature.key = "k".repeat(length));
            Envelope::read(Kind::Bundle, &envelope.write())
        };
        assert!(named(256).is_ok());
        assert!(named(257).unwrap_err().to_string().contains("at most 256 bytes long"));
    }

    #[test]
    fn an_envelope_comes_back_from_its_file() {
        let (_, envelope) = signed();
        assert_eq!(Envelope::read(Kind::Bundle, &envelope.write()).unwrap(), envelope);
        assert!(Envelope::read(Kind::Root, &envelope.write()).is_err());
    }

    #[test]
    fn a_key_counts_once_and_only_as_itself() {
        let (key, mut envelope) = signed();
        let other = SecretKey::from_seed(&[2; 32]);
        let keys = [key.public(), other.public()];
        envelope.sign(&key).unwrap();
        assert_eq!(envelope.signatures.len(), 1, "the second takes the place of the first");
        envelope.signatures.extend_from_within(..1);
        assert_eq!(envelope.signers(&keys), BTreeSet::from([key.public().id()]));
        for signature in &mut envelope.signatures {
            signature.key.clear();
        }
        assert_eq!(envelope.signers(&keys), BTreeSet::from([key.public().id()]));
        for signature in &mut envelope.signatures {
            signature.key = other.public().id().to_string();
        }
        assert_eq!(envelope.signers(&keys), BTreeSet::new());
        assert_eq!(envelope.claimed_signers().count(), 2);
    }

    #[test]
    fn only_a_signature_that_holds_is_attached_and_at_most_sixteen() {
        let (key, mut envelope) = signed();
        let signature = key.sign(&envelope.signed_bytes());
        assert_eq!(envelope.attach(key.public(), &signature), Ok(()));
        let other = SecretKey::from_seed(&[2; 32]).public();
        let refused = Err(AttachError::DoesNotHold { key: other.id() });
        assert_eq!(envelope.attach(other, &signature), refused);
        let refused = Err(AttachError::DoesNotHold { key: key.public().id() });
        assert_eq!(envelope.attach(key.public(), &signature[..63]), refused);
        assert_eq!(envelope.attach(key.public(), &key.sign(b"{}")), refused);
        for seed in 2..17 {
            envelope.sign(&SecretKey::from_seed(&[seed; 32])).unwrap();
        }
        let full = envelope.write();
        assert_eq!(Envelope::read(Kind::Bundle, &full).unwrap().signatures.len(), 16);
        assert_eq!(envelope.sign(&SecretKey::from_seed(&[17; 32])), Err(AttachError::Full));
        assert_eq!(envelope.sign(&key), Ok(()), "one that is there can be renewed");
        envelope.signatures.extend_from_within(..1);
        let error = Envelope::read(Kind::Bundle, &envelope.write()).unwrap_err().to_string();
        assert_eq!(error, "the bundle: signatures must be a list of at most 16");
    }

    #[test]
    fn base64_has_one_spelling() {
        let (_, envelope) = signed();
        let text = String::from_utf8(envelope.write()).unwrap();
        assert!(text.contains("\"e30=\""));
        for other in ["e30", "e31=", "e3 0=", "e30=\\n", "e30==", "e30=e30=", "e_0="] {
            let text = text.replace("e30=", other);
            let error = Envelope::read(Kind::Bundle, text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("the bundle: payload must be base64"), "{error}");
        }
    }
}
