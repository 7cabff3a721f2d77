// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Parts of signed documents put together in other ways, and documents of odd shapes.

use aegis_trust::{Bundle, Envelope, Kind};

use crate::world::{after, bundle, code, day, delegate, in_force, key, root, signed, verify};

/// A statement like that of [`bundle`], changed as text and then signed by who may sign.
fn changed_and_signed(from: &str, to: &str) -> Result<&'static str, String> {
    let statement = statement();
    assert!(statement.contains(from), "{from} is not in {statement}");
    let envelope = Envelope::new(Kind::Bundle, statement.replace(from, to).into_bytes());
    match verify(&in_force(&root()), &signed(envelope, &[1])) {
        Ok(_) => Err(format!("{to} was taken")),
        Err(error) => Ok(match error.code() {
            "BUNDLE_MALFORMED" => "BUNDLE_MALFORMED",
            other => other,
        }),
    }
}

fn statement() -> String {
    let envelope = bundle("web", 3).envelope().unwrap();
    let signed_bytes = String::from_utf8(envelope.signed_bytes()).unwrap();
    signed_bytes.splitn(5, ' ').nth(4).unwrap().to_owned()
}

/// A peer signed `version` and `timestamp` with nothing between them: digits moved from one to the
/// other made a newer version of an old bundle, without a key.
#[test]
fn nothing_can_be_moved_from_one_field_into_another() {
    let root = in_force(&root());
    let good = signed(bundle("web", 3).envelope().unwrap(), &[1]);
    let file = String::from_utf8(good.write()).unwrap();
    let payload = statement();
    for (from, to) in [
        // Between neighbours in what is signed.
        ("\"version\":3", "\"version\":32"),
        ("\"notBefore\":\"2", "\"notBefore\":\""),
        ("\"web\",\"notBefore\"", "\"we\",\"notBefore\""),
        ("\"author\":\"alice\"", "\"author\":\"alic\""),
    ] {
        assert!(payload.contains(from), "{from} is not in {payload}");
        let moved = Envelope::new(Kind::Bundle, payload.replace(from, to).into_bytes());
        let moved = String::from_utf8(moved.write()).unwrap();
        let signatures = &file[file.find("\"signatures\"").unwrap()..];
        let moved = moved.replace("\"signatures\":[]}", signatures);
        let envelope = Envelope::read(Kind::Bundle, moved.as_bytes()).unwrap();
        assert_eq!(code(verify(&root, &envelope)), "SIGNER_UNKNOWN", "{to}");
    }
    // Between type and payload: what is signed says the length of both.
    let longer = file.replace("vnd.in-toto+json", "vnd.in-toto+json ");
    assert!(Envelope::read(Kind::Bundle, longer.as_bytes()).is_err());
    for split in 0..payload.len() {
        let (_, tail) = payload.split_at(split);
        let other = Envelope::new(Kind::Bundle, tail.as_bytes().to_vec());
        assert!(split == 0 || other.signed_bytes() != good.signed_bytes());
    }
}

#[test]
fn a_signature_holds_for_one_payload_and_one_type() {
    let root = in_force(&root());
    let (one, two) = (bundle("web", 3).envelope().unwrap(), bundle("web", 4).envelope().unwrap());
    let text = |envelope: Envelope| String::from_utf8(envelope.write()).unwrap();
    let signatures = |text: &str| text[text.find("\"signatures\"").unwrap()..].to_owned();
    let old = signatures(&text(signed(one, &[1])));
    let mixed = text(two).replace("\"signatures\":[]}", &old);
    let envelope = Envelope::read(Kind::Bundle, mixed.as_bytes()).unwrap();
    assert_eq!(code(verify(&root, &envelope)), "SIGNER_UNKNOWN");
    // What a root key signed as a root is no bundle, and the other way round.
    let as_root = signed(Envelope::new(Kind::Root, statement().into_bytes()), &[1]);
    assert_eq!(code(verify(&root, &as_root)), "BUNDLE_MALFORMED");
    let retyped = text(as_root).replace(Kind::Root.payload_type(), Kind::Bundle.payload_type());
    let envelope = Envelope::read(Kind::Bundle, retyped.as_bytes()).unwrap();
    assert_eq!(code(verify(&root, &envelope)), "SIGNER_UNKNOWN");
    let next = signed(after(root.root()).envelope().unwrap(), &[1, 2]);
    let retyped = text(next).replace(Kind::Root.payload_type(), Kind::Bundle.payload_type());
    let envelope = Envelope::read(Kind::Bundle, retyped.as_bytes()).unwrap();
    assert_eq!(code(verify(&root, &envelope)), "SIGNER_UNKNOWN");
    assert!(root.next(&envelope).is_err());
}

/// Whoever may sign still cannot say two things at once.
#[test]
fn name_version_and_digest_agree_with_the_text() {
    let malformed = Ok("BUNDLE_MALFORMED");
    assert_eq!(
        changed_and_signed("\"subject\":[{\"digest\"", "\"subject\":[{\"digets\""),
        malformed
    );
    assert_eq!(changed_and_signed("\"name\":\"web\"}]", "\"name\":\"base\"}]"), malformed);
    assert_eq!(changed_and_signed("web 3\\nwith", "web 3\\nWith"), malformed, "the digest");
    assert_eq!(changed_and_signed("\"version\":3", "\"version\":4"), Ok("BUNDLE_DISAGREES"));
    let root = in_force(&root());
    let mut other = bundle("web", 3);
    other.text = bundle("base", 3).text;
    let envelope = signed(other.envelope().unwrap(), &[1]);
    assert_eq!(code(verify(&root, &envelope)), "BUNDLE_DISAGREES");
    other.text = "nonsense".to_owned();
    let envelope = signed(other.envelope().unwrap(), &[1]);
    assert_eq!(code(verify(&root, &envelope)), "BUNDLE_MALFORMED");
}

#[test]
fn unknown_shapes_are_refused_whoever_signs() {
    for (from, to) in [
        ("\"version\":3", "\"version\":\"3\""),
        ("\"version\":3", "\"version\":3.5"),
        ("\"version\":3", "\"version\":0"),
        ("\"version\":3", "\"version\":4294967299"),
        ("\"version\":3", "\"version\":3,\"version\":4"),
        ("\"version\":3", "\"version\":3,\"extra\":1"),
        ("\"author\":\"alice\"", "\"author\":\"\""),
        ("\"author\":\"alice\"", "\"author\":null"),
        ("\"author\":\"alice\"", "\"author\":\"al\\u001bice\""),
        ("\"commit\":\"c0ffee\"", "\"commit\":[]"),
        ("\"source\":{", "\"source\":{\"x\":\"\","),
        (
            "\"predicateType\":\"urn:aegisbpf:policy:v1\"",
            "\"predicateType\":\"urn:aegisbpf:policy:v2\"",
        ),
        ("Statement/v1", "Statement/v0.1"),
        ("\"subject\":[", "\"subject\":[{\"name\":\"web\",\"digest\":{}},"),
        ("\"sha256\":", "\"sha512\":\"\",\"sha256\":"),
    ] {
        assert_eq!(changed_and_signed(from, to), Ok("BUNDLE_MALFORMED"), "{to}");
    }
    assert!(Bundle { expires: day(-1), ..bundle("web", 3) }.envelope().is_err());
    for name in ["", "Web", "a b", "-a", ".a", &"a".repeat(64), "a*"] {
        assert!(bundle(name, 3).envelope().is_err(), "{name}");
    }
    assert!(bundle(&"a".repeat(63), 3).envelope().is_ok());
    let long = |bytes: usize| Bundle { text: "a".repeat(bytes), ..bundle("web", 3) };
    assert!(long(aegis_trust::MOST_TEXT_BYTES).envelope().is_ok());
    assert!(long(aegis_trust::MOST_TEXT_BYTES + 1).envelope().is_err());
    let noted = |bytes: usize| Bundle { notes: Some("a".repeat(bytes)), ..bundle("web", 3) };
    assert!(noted(4096).envelope().is_ok());
    assert!(noted(4097).envelope().is_err());
}

#[test]
fn envelopes_of_odd_shapes_are_refused() {
    let good =
        String::from_utf8(signed(bundle("web", 3).envelope().unwrap(), &[1]).write()).unwrap();
    let id = key(1).public().id().to_string();
    for (from, to) in [
        ("\"payloadType\"", "\"extra\":1,\"payloadType\""),
        ("\"payloadType\"", "\"payload\":\"\",\"payloadType\""),
        ("\"keyid\"", "\"keyid\":\"\",\"keyid\""),
        ("\"sig\"", "\"cert\":\"\",\"sig\""),
        ("\"signatures\":[{", "\"signatures\":{\"0\":{"),
        ("\"signatures\":[", "\"signatures\":[[],"),
        (id.as_str(), &"a".repeat(257)),
        ("==\"", "=\""),
        ("==\"", "=Q\""),
    ] {
        assert!(good.contains(from), "{from}");
        let odd = good.replace(from, to);
        assert!(Envelope::read(Kind::Bundle, odd.as_bytes()).is_err(), "{to}");
    }
    let most = Kind::Bundle.most_envelope_bytes();
    let error = Envelope::read(Kind::Bundle, &vec![b' '; most + 1]).unwrap_err().to_string();
    assert!(error.contains(&format!("{most} is the most")), "{error}");
    // Spaces and no key id are for those who write envelopes in another way.
    let spaced = good.replace("\":", "\" : \n").replace(&id, "");
    let envelope = Envelope::read(Kind::Bundle, spaced.as_bytes()).unwrap();
    assert!(verify(&in_force(&root()), &envelope).is_ok());
}

#[test]
fn nobody_signs_for_names_of_others() {
    let mut document = root();
    delegate(&mut document, "web", 2, &[4, 5]);
    delegate(&mut document, "web-*", 1, &[6]);
    delegate(&mut document, "web-a*", 1, &[7]);
    let root_in_force = in_force(&document);
    let who = |name: &str, seeds: &[u8]| {
        let envelope = signed(bundle(name, 1).envelope().unwrap(), seeds);
        match verify(&root_in_force, &envelope) {
            Ok(verified) => format!("{}", verified.signers().len()),
            Err(error) => error.code().to_owned(),
        }
    };
    let few = "SIGNATURES_TOO_FEW";
    for (name, seeds, wanted) in [
        ("web", &[4, 5][..], "2"),
        ("web", &[4], few),
        ("web", &[4, 1], few),
        ("web", &[1, 2, 3, 6, 7], few),
        ("web-b", &[6], "1"),
        ("web-b", &[6, 4], "1"),
        ("web-b", &[7], few),
        ("web-b", &[1], few),
        ("web-a", &[7], "1"),
        ("web-ab", &[7], "1"),
        ("web-ab", &[6], few),
        ("web-", &[6], "1"),
        ("webs", &[1], "1"),
        ("webs", &[6], few),
        ("other", &[1], "1"),
        ("other", &[8], "SIGNER_UNKNOWN"),
    ] {
        assert_eq!(who(name, seeds), wanted, "{name} {seeds:?}");
    }
    // The name itself counts before any beginning of it, also one that is as long.
    let mut both = document.clone();
    delegate(&mut both, "web*", 1, &[6]);
    let both = in_force(&both);
    let envelope = |seeds: &[u8]| signed(bundle("web", 1).envelope().unwrap(), seeds);
    assert_eq!(code(verify(&both, &envelope(&[6]))), few);
    assert!(verify(&both, &envelope(&[4, 5])).is_ok());
    document.delegations.retain(|names, _| names.as_str() != "*");
    let narrow = in_force(&document);
    let envelope = signed(bundle("other", 1).envelope().unwrap(), &[1]);
    assert_eq!(code(verify(&narrow, &envelope)), "NOT_DELEGATED");
}
