// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Any byte of a signed document is another one: nobody takes it.

use aegis_trust::{Envelope, Kind, TrustRoot};

use crate::world::{NOW, after, bundle, in_force, root, signed, verify};

/// Calls `accepts` with every byte replaced by others, and with each left out or doubled.
fn every_change(whole: &[u8], others: &[u8], accepts: impl Fn(&[u8]) -> bool) {
    assert!(accepts(whole), "else nothing is shown");
    for at in 0..whole.len() {
        let mut changed = whole.to_vec();
        for other in others {
            changed[at] = whole[at] ^ other;
            assert!(!accepts(&changed), "byte {at} of {}, xor {other:#x}", whole.len());
        }
        changed[at] = whole[at];
        changed.insert(at, whole[at]);
        assert!(!accepts(&changed), "byte {at} doubled");
        changed.drain(at..at + 2);
        assert!(!accepts(&changed), "byte {at} left out");
    }
    for end in 0..whole.len() {
        assert!(!accepts(&whole[..end]), "cut at {end}");
    }
}

/// Every bit, and all of them; 0x2a and 0x29 make spaces and line ends of letters.
const OTHERS: [u8; 11] = [1, 2, 4, 8, 16, 32, 64, 128, 255, 0x2a, 0x29];

#[test]
fn no_byte_of_a_bundle_can_be_another() {
    let root = in_force(&root());
    let file = signed(bundle("web", 3).envelope().unwrap(), &[1]).write();
    every_change(&file, &OTHERS, |bytes| {
        let envelope = Envelope::read(Kind::Bundle, bytes);
        envelope.is_ok_and(|envelope| verify(&root, &envelope).is_ok())
    });
}

#[test]
fn no_byte_of_a_root_can_be_another() {
    let one = root();
    let file = signed(after(&one).envelope().unwrap(), &[1, 2]).write();
    let one = in_force(&one);
    every_change(&file, &OTHERS, |bytes| {
        Envelope::read(Kind::Root, bytes).is_ok_and(|envelope| one.next(&envelope).is_ok())
    });
}

#[test]
fn no_byte_of_a_first_root_can_be_another() {
    let envelope = signed(root().envelope().unwrap(), &[1, 2]);
    let fingerprint = envelope.payload_digest();
    every_change(&envelope.write(), &OTHERS, |bytes| {
        Envelope::read(Kind::Root, bytes)
            .is_ok_and(|envelope| TrustRoot::first(&envelope, fingerprint).is_ok())
    });
}

/// A damaged file of floors is noticed, or still says the same of the version.
#[test]
fn floors_that_are_torn_are_no_floors() {
    let root = in_force(&root());
    let mut floors = aegis_trust::Floors::default();
    floors.begin([&crate::world::verified(&root, &bundle("web", 3))], root.fingerprint());
    let pending = floors.write();
    floors.accept();
    for file in [pending, floors.write()] {
        assert!(aegis_trust::Floors::read(&file).is_ok_and(|read| read.write() == file));
        for end in 0..file.len() {
            assert!(aegis_trust::Floors::read(&file[..end]).is_err(), "cut at {end}");
        }
    }
    assert!(floors.time(NOW) == NOW);
}
