// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Keys come, go and are lost; roots follow each other.

use std::collections::BTreeSet;

use aegis_trust::{Envelope, Kind, Names, Root, TrustRoot};

use crate::world::{
    after, bundle, code, day, delegate, in_force, key, know, role, root, signed, told, verify,
};

fn follow(now: &TrustRoot, next: &Root, seeds: &[u8]) -> Result<TrustRoot, &'static str> {
    now.next(&signed(next.envelope().unwrap(), seeds))
        .map_err(|error| told(error.code(), error.hint()))
}

const FEW: &str = "ROOT_SIGNATURES_TOO_FEW";

#[test]
fn the_first_root_is_the_one_whose_fingerprint_is_known() {
    let envelope = signed(root().envelope().unwrap(), &[1, 2]);
    let other = signed(Root { expires: day(99), ..root() }.envelope().unwrap(), &[1, 2]);
    let fingerprint = envelope.payload_digest();
    assert_eq!(TrustRoot::first(&envelope, fingerprint).unwrap().fingerprint(), fingerprint);
    let refused = TrustRoot::first(&other, fingerprint).unwrap_err();
    assert_eq!(told(refused.code(), refused.hint()), "ROOT_FINGERPRINT");
    let one = signed(root().envelope().unwrap(), &[1]);
    assert_eq!(one.payload_digest(), fingerprint, "signatures are no part of it");
    assert_eq!(TrustRoot::first(&one, fingerprint).unwrap_err().code(), FEW);
    let bundle = bundle("web", 1).envelope().unwrap();
    let refused = TrustRoot::first(&bundle, bundle.payload_digest()).unwrap_err();
    assert_eq!(told(refused.code(), refused.hint()), "ROOT_MALFORMED");
}

#[test]
fn a_key_that_is_added_signs_from_the_next_root_on() {
    let one = in_force(&root());
    let mut document = after(one.root());
    delegate(&mut document, "web", 1, &[4]);
    let envelope = signed(bundle("web", 1).envelope().unwrap(), &[4]);
    assert_eq!(code(verify(&one, &envelope)), "SIGNER_UNKNOWN");
    let two = follow(&one, &document, &[1, 2]).unwrap();
    assert!(verify(&two, &envelope).is_ok());
}

#[test]
fn root_keys_rotate_with_the_consent_of_both_sides() {
    let one = in_force(&root());
    let mut document = after(one.root());
    know(&mut document, &[4, 5]);
    document.root = role(2, &[4, 5]);
    assert_eq!(follow(&one, &document, &[4, 5]), Err(FEW), "the new keys alone");
    assert_eq!(follow(&one, &document, &[1, 2]), Err(FEW), "the old keys alone");
    assert_eq!(follow(&one, &document, &[1, 4, 5]), Err(FEW));
    assert_eq!(follow(&one, &document, &[1, 2, 4]), Err(FEW));
    let two = follow(&one, &document, &[1, 2, 4, 5]).unwrap();
    let third = after(two.root());
    assert_eq!(follow(&two, &third, &[1, 2, 3]), Err(FEW), "those of before are nobody now");
    assert!(follow(&two, &third, &[4, 5]).is_ok());
}

#[test]
fn two_of_three_are_two_different_keys() {
    let one = in_force(&root());
    let next = after(one.root());
    assert_eq!(follow(&one, &next, &[1]), Err(FEW));
    assert_eq!(follow(&one, &next, &[1, 1]), Err(FEW));
    let twice = signed(next.envelope().unwrap(), &[1]);
    let text = String::from_utf8(twice.write()).unwrap();
    let from = text.find("[{").unwrap();
    let signature = text[from + 1..text.len() - 2].to_owned();
    let nameless = signature.replace(&key(1).public().id().to_string(), "");
    for again in [&signature, &nameless] {
        let text = text.replace(&signature, &format!("{signature},{again}"));
        let envelope = Envelope::read(Kind::Root, text.as_bytes()).unwrap();
        assert_eq!(one.next(&envelope).map_err(|error| error.code()), Err(FEW));
    }
    for pair in [[1, 2], [2, 3], [3, 1]] {
        assert!(follow(&one, &next, &pair).is_ok());
    }
}

#[test]
fn a_key_that_is_listed_twice_is_a_fault() {
    let text = |from: &str, to: &str| {
        let payload = String::from_utf8(root().envelope().unwrap().signed_bytes()).unwrap();
        let payload = payload.splitn(5, ' ').nth(4).unwrap().to_owned();
        assert!(payload.contains(from), "{from} is not in {payload}");
        let envelope = Envelope::new(Kind::Root, payload.replacen(from, to, 1).into_bytes());
        Root::claimed(&envelope).map_err(|error| error.to_string())
    };
    let id = |seed: u8| key(seed).public().id().to_string();
    let hex = |seed: u8| key(seed).public().hex();
    let role = "\"root\":{\"keys\":[";
    assert!(text(role, role).is_ok());
    let twice = text(role, &format!("{role}\"{}\",", id(1))).unwrap_err();
    assert!(twice.ends_with("a key that does not stand before as well"), "{twice}");
    let keys = "\"keys\":[{";
    let one = format!("{{\"id\":\"{}\",\"public\":\"{}\"}}", id(1), hex(1));
    let twice = text(keys, &format!("\"keys\":[{one},{{")).unwrap_err();
    assert!(twice.ends_with("a key that does not stand above as well"), "{twice}");
    // The same key by another id would be two keys to a threshold.
    let other = format!("{{\"id\":\"{}\",\"public\":\"{}\"}}", id(9), hex(1));
    let renamed = text(keys, &format!("\"keys\":[{other},{{")).unwrap_err();
    assert!(renamed.ends_with("for this key"), "{renamed}");
    let weak = format!("{{\"id\":\"{}\",\"public\":\"01{}\"}}", id(9), "00".repeat(31));
    let weak = text(keys, &format!("\"keys\":[{weak},{{")).unwrap_err();
    assert!(weak.ends_with("that is not weak"), "{weak}");
}

#[test]
fn a_revoked_key_signs_nothing_and_never_comes_back() {
    let one = in_force(&root());
    let envelope = signed(bundle("web", 1).envelope().unwrap(), &[1]);
    let before = verify(&one, &envelope).unwrap();
    let mut document = after(one.root());
    let id = key(1).public().id();
    document.revoked.insert(id);
    assert!(document.envelope().is_err(), "it is still among the keys");
    document.keys.remove(&id);
    document.root = role(2, &[2, 3]);
    assert!(document.envelope().is_err(), "it is still delegated to");
    document.delegations.insert(Names::read("*").unwrap(), role(1, &[2]));
    let two = follow(&one, &document, &[2, 3]).unwrap();
    let refused = verify(&two, &envelope).unwrap_err();
    assert_eq!(refused.code(), "SIGNER_UNKNOWN");
    assert!(refused.to_string().contains(&format!("key {id} is revoked")), "{refused}");
    assert!(one.trusts("web", before.signers()));
    assert!(!two.trusts("web", before.signers()), "what is in force shows as revoked");
    let both = signed(bundle("web", 1).envelope().unwrap(), &[1, 2]);
    assert_eq!(verify(&two, &both).unwrap().signers().len(), 1);
    let mut third = after(two.root());
    third.revoked = BTreeSet::new();
    assert_eq!(follow(&two, &third, &[2, 3]), Err("ROOT_REVIVES_KEY"));
    know(&mut third, &[1]);
    third.revoked.insert(id);
    assert!(third.envelope().is_err(), "a revoked key among the keys");
}

#[test]
fn roots_come_one_after_the_other() {
    let one = in_force(&root());
    let two = after(one.root());
    let (again, third) = (one.root().clone(), after(&two));
    let first = Root { expires: day(99), ..again.clone() };
    for other in [&again, &first, &third, &Root { version: u32::MAX, ..third.clone() }] {
        assert_eq!(follow(&one, other, &[1, 2, 3]), Err("ROOT_NOT_NEXT"), "{}", other.version);
    }
    let two = follow(&one, &two, &[1, 2]).unwrap();
    assert_eq!(follow(&two, &again, &[1, 2]), Err("ROOT_NOT_NEXT"), "and never back");
    assert!(follow(&two, &third, &[1, 2]).is_ok());
}

#[test]
fn an_expired_root_verifies_its_successor() {
    let mut old = root();
    (old.issued, old.expires) = (day(-100), day(-50));
    let one = in_force(&old);
    let two = Root { issued: day(0), expires: day(100), ..after(one.root()) };
    let two = follow(&one, &two, &[1, 2]).unwrap();
    assert_eq!(two.root().version, 2);
}

#[test]
fn a_root_that_nobody_could_sign_next_is_a_fault() {
    for (threshold, seeds) in [(0, &[1, 2][..]), (3, &[1, 2]), (1, &[]), (u32::MAX, &[1, 2, 3])] {
        let document = Root { root: role(threshold, seeds), ..root() };
        let error = document.envelope().unwrap_err().to_string();
        assert!(error.contains("threshold"), "{error}");
    }
    assert!(Root { root: role(3, &[1, 2, 3]), ..root() }.envelope().is_ok());
    let unknown = Root { root: role(1, &[4]), ..root() };
    assert!(unknown.envelope().unwrap_err().to_string().contains("one of the keys above"));
    let mut document = root();
    delegate(&mut document, "web", 2, &[4]);
    assert!(document.envelope().unwrap_err().to_string().contains("web: threshold"));
    assert!(Root { expires: day(-10), ..root() }.envelope().is_err(), "no longer than an instant");
    assert!(Root { version: 0, ..root() }.envelope().is_err());
}

#[test]
fn minimums_and_resets_are_of_names_and_do_not_contradict() {
    let with = |minimum: u32, reset: u32| {
        let mut document = root();
        document.minimums.insert("web".to_owned(), minimum);
        document.resets.insert("web".to_owned(), reset);
        document.envelope().map_err(|error| error.to_string())
    };
    assert!(with(3, 3).is_ok());
    assert!(with(3, 4).is_ok());
    assert!(with(3, 2).unwrap_err().ends_with("no lower than its minimum"));
    assert!(with(0, 2).unwrap_err().ends_with("a version of at least 1"));
    let mut document = root();
    document.minimums.insert("Web".to_owned(), 1);
    assert!(document.envelope().is_err());
}

#[test]
fn names_are_exact_or_begin_so() {
    for names in ["*", "web", "web*", "web-*", "0", "a.b*"] {
        assert_eq!(Names::read(names).unwrap().as_str(), names);
    }
    for names in ["", "**", "*web", "we*b", "Web", "web?", "a b", &"a".repeat(64), ".a"] {
        assert!(Names::read(names).is_none(), "{names}");
    }
}
