// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Keys, roots and bundles to begin with.

use std::collections::{BTreeMap, BTreeSet};

use aegis_trust::{
    Bundle, Envelope, Key, Moment, Names, Role, Root, SecretKey, Source, TrustRoot, Untrusted,
    Verified,
};

/// The day on which tests happen.
pub(crate) const NOW: Moment = Moment::from_seconds(1_800_000_000);

/// So many days later, or earlier.
pub(crate) fn day(days: i64) -> Moment {
    Moment::from_seconds(NOW.seconds().checked_add_signed(days * 86_400).unwrap())
}

/// A key for each number.
pub(crate) fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

/// So many of these keys.
pub(crate) fn role(threshold: u32, seeds: &[u8]) -> Role {
    Role { threshold, keys: seeds.iter().map(|seed| key(*seed).public().id()).collect() }
}

/// Version 1: keys 1 to 3 are root keys of which two must sign, key 1 signs every policy.
pub(crate) fn root() -> Root {
    let mut root = Root {
        version: 1,
        issued: day(-10),
        expires: day(100),
        keys: BTreeMap::new(),
        root: role(2, &[1, 2, 3]),
        delegations: BTreeMap::from([(Names::read("*").unwrap(), role(1, &[1]))]),
        minimums: BTreeMap::new(),
        resets: BTreeMap::new(),
        revoked: BTreeSet::new(),
    };
    know(&mut root, &[1, 2, 3]);
    root
}

/// The one after it, with nothing else changed.
pub(crate) fn after(root: &Root) -> Root {
    Root { version: root.version + 1, resets: BTreeMap::new(), ..root.clone() }
}

/// Adds keys.
pub(crate) fn know(root: &mut Root, seeds: &[u8]) {
    for seed in seeds {
        let public = key(*seed).public();
        root.keys.insert(public.id(), Key { public, owner: Some(format!("owner {seed}")) });
    }
}

/// Delegates names.
pub(crate) fn delegate(root: &mut Root, names: &str, threshold: u32, seeds: &[u8]) {
    know(root, seeds);
    root.delegations.insert(Names::read(names).unwrap(), role(threshold, seeds));
}

/// The envelope, signed by these.
pub(crate) fn signed(mut envelope: Envelope, seeds: &[u8]) -> Envelope {
    for seed in seeds {
        envelope.sign(&key(*seed)).unwrap();
    }
    envelope
}

/// A root that is in force.
pub(crate) fn in_force(root: &Root) -> TrustRoot {
    let envelope = signed(root.envelope().unwrap(), &[1, 2, 3]);
    TrustRoot::first(&envelope, envelope.payload_digest()).unwrap()
}

/// A policy `name` in this version, valid from yesterday for 30 days.
pub(crate) fn bundle(name: &str, version: u32) -> Bundle {
    Bundle {
        name: name.to_owned(),
        version,
        text: format!("{name} {version}\nwith a second line"),
        not_before: day(-1),
        expires: day(30),
        source: Some(Source {
            repository: "ssh://git/policies".to_owned(),
            commit: Some("c0ffee".to_owned()),
        }),
        author: Some("alice".to_owned()),
        notes: Some("two\nlines".to_owned()),
    }
}

/// Reads the texts that [`bundle`] makes: name, space, version.
pub(crate) fn read(text: &str) -> Result<(String, u32), String> {
    let (name, version) =
        text.lines().next().and_then(|line| line.split_once(' ')).ok_or("no policy")?;
    let version = version.parse().ok().ok_or("no version")?;
    Ok((name.to_owned(), version))
}

/// What the root says of an envelope.
pub(crate) fn verify(root: &TrustRoot, envelope: &Envelope) -> Result<Verified<Bundle>, Untrusted> {
    root.verify(envelope, read)
}

/// A bundle that key 1 signed, verified.
pub(crate) fn verified(root: &TrustRoot, bundle: &Bundle) -> Verified<Bundle> {
    verify(root, &signed(bundle.envelope().unwrap(), &[1])).unwrap()
}

/// The code of what was refused. Whoever reads it is told what to do.
pub(crate) fn code(refused: Result<Verified<Bundle>, Untrusted>) -> &'static str {
    let error = refused.expect_err("it is refused");
    told(error.code(), error.hint())
}

/// The code of a refusal, whose hint must be the one for it.
pub(crate) fn told(code: &'static str, hint: &str) -> &'static str {
    let (_, advice) = ADVICE.iter().find(|(known, _)| *known == code).unwrap();
    assert!(hint.contains(advice), "{code}: {hint}");
    code
}

/// By code, what to do.
const ADVICE: [(&str, &str); 16] = [
    ("BUNDLE_MALFORMED", "sign the policy again"),
    ("SIGNER_UNKNOWN", "trust show"),
    ("NOT_DELEGATED", "--delegate NAME=KEY"),
    ("SIGNATURES_TOO_FEW", "sign BUNDLE --key K"),
    ("BUNDLE_DISAGREES", "sign the policy again"),
    ("ROOT_MALFORMED", "trust propose"),
    ("ROOT_FINGERPRINT", "ask whoever made the root"),
    ("ROOT_SIGNATURES_TOO_FEW", "trust sign ROOT --key K"),
    ("ROOT_NOT_NEXT", "the roots in between first"),
    ("ROOT_REVIVES_KEY", "trust propose"),
    ("VERSION_LOWER", "--reset NAME=VERSION"),
    ("VERSION_REUSED", "a higher version"),
    ("VERSION_TOO_FAR", "--minimum NAME=VERSION"),
    ("NOT_YET_VALID", "set the clock of this host"),
    ("EXPIRED", "a later --expires"),
    ("ROOT_EXPIRED", "install a successor"),
];
