// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `verify`: what a bundle says, and whether who may sign it did. Needs no root and no kernel, and
//! changes nothing.

use aegis_trust::{Bundle, Envelope, KeyId, Kind, PublicKey, TrustRoot};
use serde_json::{Value, json};

use crate::{
    cli,
    context::Context,
    failure::Refusal,
    output::{Answer, COULD_NOT_TELL, one_line},
    provenance::Log,
    trust::{Installed, Refused as _, TrustStore, clock, keys, malformed, named},
};

pub(super) fn run(context: &Context, args: &cli::Verify) -> anyhow::Result<Answer> {
    let what = args.bundle.display();
    let envelope = keys::envelope(Kind::Bundle, &args.bundle)?;
    if args.public_key.is_empty() {
        return by_root(context, args, &envelope);
    }
    let mut missing = Vec::new();
    let mut signers = Vec::new();
    for path in &args.public_key {
        let key: PublicKey = keys::public(path)?;
        let signed = !envelope.signers([&key]).is_empty();
        if signed { &mut signers } else { &mut missing }.push(key.id());
    }
    if let Some(key) = missing.first() {
        let message = format!("{what} has no signature of key {key} that holds");
        return Err(Refusal::new("SIGNER_UNKNOWN", message)
            .hint("`aegisbpf sign BUNDLE --key K` adds one")
            .into());
    }
    let bundle = agreeing(&envelope, &what.to_string())?;
    Ok(answer(&bundle, &envelope, &signers, Judged::ByKeys))
}

/// On whose word it was judged.
enum Judged {
    ByKeys,
    /// By a root of this version.
    ByRoot(u32),
    Not,
}

fn by_root(context: &Context, args: &cli::Verify, envelope: &Envelope) -> anyhow::Result<Answer> {
    let what = args.bundle.display();
    let root = match &args.trust_root {
        Some(path) => {
            let envelope = keys::envelope(Kind::Root, path)?;
            let root = TrustRoot::first(&envelope, envelope.payload_digest());
            root.map_err(|error| error.about(path.display()))?
        }
        None => match TrustStore::new(context).installed(&Log::new(context)) {
            Ok(Installed::Root(root)) => *root,
            // Whoever signs is often not root, or on another machine.
            _ => {
                let bundle = agreeing(envelope, &what.to_string())?;
                return Ok(answer(&bundle, envelope, &[], Judged::Not));
            }
        },
    };
    let verified = root.verify(envelope, named).map_err(|error| error.about(&what))?;
    let signers: Vec<KeyId> = verified.signers().iter().copied().collect();
    Ok(answer(verified.content(), envelope, &signers, Judged::ByRoot(root.root().version)))
}

/// What is said, if all of it agrees with the text.
fn agreeing(envelope: &Envelope, what: &str) -> anyhow::Result<Bundle> {
    let bundle = Bundle::claimed(envelope).map_err(|error| malformed(what, &error))?;
    let found = named(&bundle.text).map_err(|fault| {
        Refusal::new("BUNDLE_MALFORMED", format!("{what}: the text in it is no policy: {fault}"))
    })?;
    if found != (bundle.name.clone(), bundle.version) {
        let message = format!(
            "{what}: it says that it is policy {} version {}, and its text is policy {} version {}",
            bundle.name, bundle.version, found.0, found.1
        );
        return Err(Refusal::new("BUNDLE_DISAGREES", message).into());
    }
    Ok(bundle)
}

fn answer(bundle: &Bundle, envelope: &Envelope, signers: &[KeyId], judged: Judged) -> Answer {
    let now = clock();
    let (from, to) = (bundle.not_before, bundle.expires);
    let valid = (from..to).contains(&now);
    let headline = match judged {
        Judged::ByKeys => "signed by these keys".to_owned(),
        Judged::ByRoot(version) => format!("signed as trust root version {version} demands"),
        Judged::Not => "could not tell whether its signatures hold".to_owned(),
    };
    let mut lines = vec![format!("{headline}: policy {} version {}", bundle.name, bundle.version)];
    lines.push(format!("  policy    sha256:{}", bundle.policy_digest()));
    lines.push(format!("  bundle    sha256:{}", envelope.payload_digest()));
    let state = if valid { "" } else { ": not now" };
    lines.push(format!("  valid     {from} to {to}{state}"));
    if let Some(source) = &bundle.source {
        let commit =
            source.commit.as_ref().map_or_else(String::new, |commit| format!(" at {commit}"));
        lines.push(format!("  source    {}{}", one_line(&source.repository), one_line(&commit)));
    }
    for (what, text) in [("author", &bundle.author), ("notes", &bundle.notes)] {
        lines.extend(text.iter().map(|text| format!("  {what:<9} {}", one_line(text))));
    }
    lines.extend(signers.iter().map(|key| format!("  signed    by key {key}")));
    let claimed: Vec<&str> = envelope.claimed_signers().collect();
    if matches!(judged, Judged::Not) {
        let claims =
            claimed.iter().map(|key| format!("  claims    to be signed by key {}", one_line(key)));
        lines.extend(claims);
        lines.push("  to tell   --trust-root ROOT, or --public-key PUB".to_owned());
    }
    let verified = if matches!(judged, Judged::Not) { Value::Null } else { true.into() };
    let source = bundle.source.as_ref();
    let json = json!({
        "verified": verified,
        "root_version": match judged { Judged::ByRoot(version) => Some(version), _ => None },
        "name": bundle.name,
        "version": bundle.version,
        "policy_digest": bundle.policy_digest().to_string(),
        "bundle_digest": envelope.payload_digest().to_string(),
        "not_before": from.to_string(),
        "expires": to.to_string(),
        "valid_now": valid,
        "source": source.map(|source| &source.repository),
        "commit": source.and_then(|source| source.commit.as_ref()),
        "author": bundle.author,
        "notes": bundle.notes,
        "signers": signers.iter().map(KeyId::to_string).collect::<Vec<_>>(),
        "claimed_signers": claimed,
    });
    let exit = match judged {
        Judged::Not => COULD_NOT_TELL,
        _ => u8::from(!valid),
    };
    Answer { text: lines.join("\n"), json, exit }
}
