// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Any bytes as everything that trust reads: they are refused, or what was understood is written again
//! as something that means the same.
#![no_main]

use aegis_trust::{Bundle, Envelope, Floors, Kind, PublicKey, Root, SecretKey};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for kind in [Kind::Bundle, Kind::Root] {
        if let Ok(envelope) = Envelope::read(kind, bytes) {
            assert_eq!(Envelope::read(kind, &envelope.write()).as_ref().ok(), Some(&envelope));
            assert!(envelope.claimed_signers().count() <= aegis_trust::MOST_SIGNATURES);
            claimed(&envelope);
        }
        claimed(&Envelope::new(kind, bytes.to_vec()));
    }
    if let Ok(floors) = Floors::read(bytes) {
        assert_eq!(Floors::read(&floors.write()).ok(), Some(floors));
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(key) = PublicKey::from_pem(text) {
            assert_eq!(PublicKey::from_pem(&key.to_pem()), Ok(key));
        }
        if let Ok(key) = SecretKey::from_pem(text) {
            assert_eq!(SecretKey::from_pem(&key.to_pem()).map(|key| key.public()), Ok(key.public()));
        }
    }
});

fn claimed(envelope: &Envelope) {
    if let Ok(bundle) = Bundle::claimed(envelope) {
        let again = bundle.envelope().expect("what was read can be written");
        assert_eq!(Bundle::claimed(&again).ok(), Some(bundle));
    }
    if let Ok(root) = Root::claimed(envelope) {
        let again = root.envelope().expect("what was read can be written");
        assert_eq!(Root::claimed(&again).ok(), Some(root));
    }
}
