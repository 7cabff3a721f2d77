// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `sign`: a policy becomes a bundle, or a bundle gets another signature. Needs no root and no kernel.

use std::path::Path;

use aegis_policy::{Source as PolicySource, parse};
use aegis_trust::{Bundle, Envelope, Kind, MOST_TEXT_BYTES, Source};
use serde_json::json;

use crate::{
    cli,
    failure::Refusal,
    output::Answer,
    trust::{clock, from_now, keys, malformed},
};

pub(super) fn run(args: &cli::Sign) -> anyhow::Result<Answer> {
    let most = u64::try_from(Kind::Bundle.most_envelope_bytes()).unwrap_or(u64::MAX);
    let bytes = keys::read(&args.file, most)?;
    let mut envelope =
        if keys::is_envelope(&bytes) { again(args, &bytes)? } else { fresh(args, bytes)? };
    let bundle =
        Bundle::claimed(&envelope).map_err(|error| malformed(args.file.display(), &error))?;
    let elsewhere = keys::sign(&mut envelope, &args.by)?;
    let out = args.out.as_ref().unwrap_or(&args.file);
    let what = format!("policy {} version {}", bundle.name, bundle.version);
    let mut answer = publish(&envelope, out, elsewhere.as_deref(), &what)?;
    if let Some(fields) = answer.json.as_object_mut() {
        fields.insert("name".to_owned(), bundle.name.clone().into());
        fields.insert("version".to_owned(), bundle.version.into());
        fields.insert("policy_digest".to_owned(), bundle.policy_digest().to_string().into());
        fields.insert("not_before".to_owned(), bundle.not_before.to_string().into());
        fields.insert("expires".to_owned(), bundle.expires.to_string().into());
    }
    answer.text.push_str(&format!("\n  valid     {} to {}", bundle.not_before, bundle.expires));
    Ok(answer)
}

/// Writes an envelope, and what has to be signed elsewhere beside it.
pub(super) fn publish(
    envelope: &Envelope,
    out: &Path,
    elsewhere: Option<&[u8]>,
    what: &str,
) -> anyhow::Result<Answer> {
    keys::publish(out, &envelope.write())?;
    let signers: Vec<&str> = envelope.claimed_signers().collect();
    let digest = envelope.payload_digest();
    let mut lines = vec![format!("{}: {what}", out.display())];
    lines.push(format!("  digest    sha256:{digest}"));
    lines.extend(signers.iter().map(|signer| format!("  signed    by key {signer}")));
    let mut to_sign = None;
    if let Some(bytes) = elsewhere {
        let path = keys::beside(out, ".tosign");
        keys::publish(&path, bytes)?;
        lines.push(format!(
            "  to sign   {}: every byte of it, with Ed25519 and no hash",
            path.display()
        ));
        lines.push(format!(
            "  then      aegisbpf … sign {} --attach SIGNATURE --public-key PUB",
            out.display()
        ));
        to_sign = Some(path.to_string_lossy().into_owned());
    }
    let json = json!({
        "changed": true, "file": out.to_string_lossy(), "payload_digest": digest.to_string(),
        "signers": signers, "to_sign": to_sign,
    });
    Ok(Answer { text: lines.join("\n"), json, exit: 0 })
}

/// A bundle that is signed by somebody more.
fn again(args: &cli::Sign, bytes: &[u8]) -> anyhow::Result<Envelope> {
    let says_more = args.expires.is_some()
        || args.not_before.is_some()
        || args.source.is_some()
        || args.author.is_some()
        || args.notes.is_some();
    if says_more {
        let message =
            format!("{} is a bundle: what it says is signed already", args.file.display());
        return Err(Refusal::new("SIGNED_ALREADY", message)
            .hint("only add signatures to it; or sign the policy's text anew")
            .into());
    }
    let read = Envelope::read(Kind::Bundle, bytes);
    read.map_err(|error| malformed(args.file.display(), &error).into())
}

/// A bundle made of a policy's text.
fn fresh(args: &cli::Sign, bytes: Vec<u8>) -> anyhow::Result<Envelope> {
    let file = args.file.display();
    let needs = |what: &str, hint: &str| {
        Refusal::new("BAD_USAGE", format!("{file} is a policy, and {what}")).hint(hint)
    };
    let Some(expires) = &args.expires else {
        return Err(needs("its bundle needs an end", "say until when: --expires 90d").into());
    };
    if args.out.is_none() {
        return Err(needs("its bundle needs a file", "say where it goes: -o FILE.bundle").into());
    }
    if bytes.len() > MOST_TEXT_BYTES {
        let what = format!("texts of more than {MOST_TEXT_BYTES} bytes are not signed");
        return Err(needs(&what, "name directories rather than many files").into());
    }
    let text = String::from_utf8(bytes)
        .map_err(|error| needs(&format!("not UTF-8: {error}"), "see `aegisbpf check`"))?;
    let name = file.to_string();
    let source = PolicySource { name: &name, text: &text };
    let (policy, diagnostics) = parse(source);
    let Some(policy) = policy else {
        let details = diagnostics.iter().map(|fault| fault.render(source, false)).collect();
        let message = format!("{file} has errors; nothing was signed");
        return Err(Refusal::new("BAD_POLICY", message).details(details).into());
    };
    let now = clock();
    let not_before = args.not_before.as_ref().map(|text| from_now("--not-before", text, now));
    let bundle = Bundle {
        name: policy.name,
        version: policy.version,
        not_before: not_before.transpose()?.unwrap_or(now),
        expires: from_now("--expires", expires, now)?,
        source: args
            .source
            .clone()
            .map(|repository| Source { repository, commit: args.commit.clone() }),
        author: args.author.clone(),
        notes: args.notes.clone(),
        text,
    };
    bundle.envelope().map_err(|error| malformed(file, &error).into())
}
