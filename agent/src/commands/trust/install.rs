// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `trust install`: from then on this root says whose policies are applied here.

use std::collections::BTreeMap;

use aegis_kernel::Kernel;
use aegis_trust::{Digest, Envelope, Kind, TrustRoot, provenance::Entry};
use anyhow::Context as _;
use serde_json::{Value, json};

use crate::{
    apply::active,
    cli::Install,
    context::Context,
    failure::{Changed, Refusal},
    files,
    lock::Lock,
    output::Answer,
    provenance::{Begun, Log, failure_of},
    state::{State, StoredSet},
    trust::{Installed, Refused as _, Summary, TrustStore, keys},
};

pub(super) fn run(context: &Context, args: &Install) -> anyhow::Result<Answer> {
    let envelope = keys::envelope(Kind::Root, &args.document)?;
    files::make_directory(&context.run)?;
    let _lock = Lock::take(&context.lock(), COMMAND)?;
    let store = TrustStore::new(context);
    let installed = store.installed(&Log::new(context))?;
    if let Installed::Root(root) = &installed
        && root.fingerprint() == envelope.payload_digest()
    {
        return Ok(unchanged(root));
    }
    let root = believed(args, &envelope, &installed)?;
    let kernel = Kernel::open(&context.pins).context("failed to open what is pinned")?;
    let active = active(kernel.as_ref())?.map(|(_, generation)| generation.set_digest);
    let stored = match active {
        Some(digest) => State::new(context.state.clone()).load(&digest)?,
        None => StoredSet::default(),
    };
    // Floors that are damaged with a root that is lost begin anew with it.
    let mut floors = match store.floors() {
        Err(error) if !args.replace => return Err(error),
        floors => floors.unwrap_or_default(),
    };
    floors.settle(active.map(Digest::from_bytes));
    if !matches!(installed, Installed::None) {
        // Where they are lost with the root, at least what is in force is known.
        stored.set.iter().for_each(|(policy, _)| floors.begin_at(&policy.name, policy.version));
    }
    if args.replace {
        floors.new_line();
    }
    floors.installed(&root);
    let begun = Log::new(context).begin(entry(args, &root, &installed))?;
    if let Err(error) = store.install(&envelope, &root, &floors) {
        return Err(half_done(context, &installed, &root, error, begun));
    }
    let warning = begun.done();
    Ok(answer(context, &root, &stored, warning))
}

/// What is said of an installation that failed: which root binds after it is for the files to say.
fn half_done(
    context: &Context,
    before: &Installed,
    root: &TrustRoot,
    error: anyhow::Error,
    mut begun: Begun,
) -> anyhow::Error {
    let now = TrustStore::new(context).installed(&Log::new(context));
    let what = match (before, now) {
        (Installed::None, Ok(Installed::None))
        | (Installed::Lost { .. }, Ok(Installed::Lost { .. })) => None,
        (Installed::Root(before), Ok(Installed::Root(now)))
            if before.fingerprint() == now.fingerprint() =>
        {
            None
        }
        (_, Ok(Installed::Root(now))) if now.fingerprint() == root.fingerprint() => {
            begun.entry().error = Some(failure_of(&error));
            drop(begun.done());
            let what = "the root binds this node all the same, and may not after a power cut: do this again";
            return error.context(Changed(what.to_owned()));
        }
        _ => Some("no root can be read any more, and no policy is accepted: do this again"),
    };
    drop(begun.undone(&error));
    match what {
        Some(what) => error.context(Changed(what.to_owned())),
        None => error,
    }
}

/// What the log says: a root that takes the place of another without its consent is a weakening.
fn entry(args: &Install, root: &TrustRoot, installed: &Installed) -> Entry {
    let mut details: BTreeMap<String, String> = BTreeMap::new();
    let mut detail = |name: &str, value: String| details.insert(name.to_owned(), value);
    detail("root_version", root.root().version.to_string());
    detail("root_fingerprint", root.fingerprint().to_string());
    if let Installed::Root(before) = installed {
        detail("root_before", before.fingerprint().to_string());
    }
    Entry {
        command: COMMAND.to_owned(),
        weakening: args.replace || matches!(installed, Installed::Lost { .. }),
        reason: args.reason.clone(),
        details,
        ..Entry::default()
    }
}

fn believed(
    args: &Install,
    envelope: &Envelope,
    installed: &Installed,
) -> anyhow::Result<TrustRoot> {
    let file = args.document.display();
    let about = |error: aegis_trust::RootError| error.about(&file);
    let given = args.fingerprint.as_deref().map(|text| {
        let digest = Digest::from_hex(text.strip_prefix("sha256:").unwrap_or(text));
        digest.ok_or_else(|| Refusal::new("BAD_USAGE", format!("{text} is no fingerprint")))
    });
    let given = given.transpose()?;
    match (installed, given) {
        (_, Some(fingerprint)) if args.replace => {
            Ok(TrustRoot::first(envelope, fingerprint).map_err(about)?)
        }
        (Installed::Root(now), given) => {
            let next = now.next(envelope).map_err(about)?;
            match given.filter(|given| *given != next.fingerprint()) {
                Some(wanted) => {
                    let found = next.fingerprint();
                    Err(about(aegis_trust::RootError::OtherFingerprint { found, wanted }).into())
                }
                None => Ok(next),
            }
        }
        (Installed::None, Some(fingerprint)) => {
            Ok(TrustRoot::first(envelope, fingerprint).map_err(about)?)
        }
        (Installed::Lost { remembered, .. }, Some(fingerprint)) => {
            let remembered = remembered.as_ref().map(|root| root.fingerprint.as_str());
            if remembered == Some(fingerprint.to_string().as_str()) {
                return Ok(TrustRoot::first(envelope, fingerprint).map_err(about)?);
            }
            let message = "the root that was installed here is lost, and this is another one";
            Err(Refusal::new("ROOT_LOST", message)
                .hint("if that is meant: --replace --reason TEXT; what was accepted stays known")
                .into())
        }
        (_, None) => {
            let message = format!(
                "{file} would be the first trust root of this node, and nobody said which is right"
            );
            Err(Refusal::new("FINGERPRINT_NEEDED", message)
                .hint(
                    "ask whoever made it for its fingerprint, by another way than you got the file: \
                     --fingerprint F",
                )
                .into())
        }
    }
}

fn unchanged(root: &TrustRoot) -> Answer {
    let version = root.root().version;
    let json = json!({
        "changed": false, "version": version, "fingerprint": root.fingerprint().to_string(),
    });
    let text = format!("nothing to change: trust root version {version} is installed already");
    Answer { text, json, exit: 0 }
}

fn answer(
    context: &Context,
    root: &TrustRoot,
    stored: &StoredSet,
    warning: Option<String>,
) -> Answer {
    let version = root.root().version;
    let mut lines = vec![format!("trust root version {version} binds this node")];
    lines.push(format!("  fingerprint {}", root.fingerprint()));
    lines.push(format!("  valid until {}", root.root().expires));
    // The root binds: what cannot be told of it is no failure any more.
    let (trust, mut warnings) = match Summary::of(context, &stored.set, &stored.signatures) {
        Ok(summary) => (summary.json(), summary.warnings()),
        Err(error) => (Value::Null, vec![format!("what follows from it is not known: {error:#}")]),
    };
    warnings.extend(warning);
    lines.extend(warnings.iter().map(|warning| format!("  warning   {warning}")));
    let json = json!({
        "changed": true, "version": version, "fingerprint": root.fingerprint().to_string(),
        "expires": root.root().expires.to_string(),
        "trust": trust,
        "warnings": warnings,
    });
    Answer { text: lines.join("\n"), json, exit: 0 }
}

const COMMAND: &str = "trust install";
