// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Signatures as RFC 8032 has them, and those that only an attacker makes.

use aegis_trust::{KeyError, PublicKey, SecretKey};
use curve25519_dalek::{
    EdwardsPoint, Scalar,
    constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION},
};
use ed25519_dalek::Verifier as _;
use sha2::Digest as _;

fn hex<const N: usize>(text: &str) -> [u8; N] {
    bytes(text).try_into().unwrap()
}

fn bytes(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// RFC 8032, 7.1: secret key, public key, message, signature. The one of 1023 bytes is left out.
const VECTORS: [[&str; 4]; 4] = [
    [
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9\
         b46bd25bf5f0595bbe24655141438e7a100b",
    ],
    [
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f1\
         1d8c387b2eaeb4302aeeb00d291612bb0c00",
    ],
    [
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984d\
         c6594a7c15e9716ed28dc027beceea1ec40a",
    ],
    [
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3fe\
         ebbd454d4423643ce80e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431\
         e0303dca179c138ac17ad9bef1177331a704",
    ],
];

#[test]
fn signatures_are_those_of_the_standard() {
    for [secret, public, message, signature] in VECTORS {
        let key = SecretKey::from_seed(&hex(secret));
        let (message, signature) = (bytes(message), hex(signature));
        assert_eq!(key.public(), PublicKey::from_bytes(&hex(public)).unwrap());
        assert_eq!(key.sign(&message), signature);
        assert!(key.public().verifies(&message, &signature));
    }
}

#[test]
fn of_a_signature_every_bit_counts() {
    let key = SecretKey::from_seed(&[9; 32]);
    let signature = key.sign(b"message");
    for bit in 0..512 {
        let mut flipped = signature;
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(!key.public().verifies(b"message", &flipped), "bit {bit}");
    }
    assert!(!key.public().verifies(b"massage", &signature));
    assert!(!SecretKey::from_seed(&[8; 32]).public().verifies(b"message", &signature));
}

/// S and S + L are the same number to the curve: a second signature that nobody made.
#[test]
fn a_signature_that_was_made_from_another_is_none() {
    let key = SecretKey::from_seed(&[9; 32]);
    let mut signature = key.sign(b"message");
    let order = (Scalar::ZERO - Scalar::ONE).to_bytes();
    let mut carry = 1; // L is one more than the scalar -1.
    for (byte, add) in signature[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        (*byte, carry) = (sum.to_le_bytes()[0], sum >> 8);
    }
    assert!(!key.public().verifies(b"message", &signature));
}

/// With a public key of small order one signature holds for many messages, without any secret.
#[test]
fn keys_of_small_order_are_none_in_any_encoding() {
    let mut encodings: Vec<[u8; 32]> =
        EIGHT_TORSION.iter().map(|point| point.compress().to_bytes()).collect();
    // The y of p and p + 1 are 0 and 1 written in another way; and there is a second sign of zero.
    for first in [0xed, 0xee] {
        for last in [0x7f, 0xff] {
            let mut encoding = [0xff; 32];
            (encoding[0], encoding[31]) = (first, last);
            encodings.push(encoding);
        }
    }
    let mut minus_zero = [0; 32];
    (minus_zero[0], minus_zero[31]) = (1, 0x80);
    encodings.push(minus_zero);
    for encoding in encodings {
        let refused = PublicKey::from_bytes(&encoding).expect_err("no key");
        assert!(matches!(refused, KeyError::Weak | KeyError::NoPoint), "{encoding:x?}: {refused}");
    }
}

/// A key plus a point of small order: signatures hold for some verifiers and not for others.
#[test]
fn keys_of_mixed_order_are_none() {
    let good = ED25519_BASEPOINT_POINT * Scalar::from(12_345_u32);
    assert!(PublicKey::from_bytes(&good.compress().to_bytes()).is_ok());
    for point in &EIGHT_TORSION[1..] {
        let mixed = (good + point).compress().to_bytes();
        assert_eq!(PublicKey::from_bytes(&mixed), Err(KeyError::Weak));
    }
}

#[test]
fn what_is_no_point_is_no_key() {
    let mut refused = 0;
    for y in 2..50 {
        let mut encoding = [0; 32];
        encoding[0] = y;
        refused += usize::from(PublicKey::from_bytes(&encoding) == Err(KeyError::NoPoint));
    }
    assert!(refused > 10, "half of all numbers are no y of a point: {refused}");
}

/// With R of small order the equation can hold although nobody chose an R: standard verifiers take
/// such a signature, and this one must not.
#[test]
fn a_signature_whose_r_is_of_small_order_is_none() {
    let (a, message) = (Scalar::from(12_345_u32), b"message");
    let public: EdwardsPoint = ED25519_BASEPOINT_POINT * a;
    let public = public.compress().to_bytes();
    let identity = EIGHT_TORSION[0].compress().to_bytes();
    let hash = sha2::Sha512::new_with_prefix(identity).chain_update(public).chain_update(message);
    let k = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
    let signature: [u8; 64] = [identity, (k * a).to_bytes()].concat().try_into().unwrap();
    let lax = ed25519_dalek::VerifyingKey::from_bytes(&public).unwrap();
    let same = ed25519_dalek::Signature::from_bytes(&signature);
    assert!(lax.verify(message, &same).is_ok(), "else this shows nothing");
    assert!(!PublicKey::from_bytes(&public).unwrap().verifies(message, &signature));
}
