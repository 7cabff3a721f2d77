// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `check`: everything that is to be said about policies. Asks no host and no kernel, unless told to.

use aegis_policy::{Mode, Severity, resolve};
use anyhow::Context as _;
use serde::Serialize;
use serde_json::json;

use super::sources;
use crate::{
    apply::unresolved,
    cli,
    context::Context,
    decoder::compile_set,
    host::ThisHost,
    lockout::{self, LockOut},
    output::{Answer, plural},
    proof::ProofFiles,
    report::Bound,
    state::StoredSet,
};

pub(super) fn run(context: &Context, args: &cli::Check) -> anyhow::Result<Answer> {
    let mut files = Vec::new();
    for path in &args.files {
        files.extend(sources::read(path)?);
    }
    let count = |severity: Severity| {
        let all = files.iter().flat_map(|file| &file.diagnostics);
        all.filter(|diagnostic| diagnostic.severity == severity).count()
    };
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let mut lines: Vec<String> = files.iter().flat_map(sources::Read::rendered).collect();
    lines.push(format!(
        "{}: {}, {}",
        plural(files.len(), "policy file"),
        plural(errors, "error"),
        plural(warnings, "warning")
    ));
    let host = (args.host && errors == 0).then(|| host(context, &files)).transpose()?;
    let lockouts = host.iter().flat_map(|host| &host.lockouts).count();
    lines.extend(host.iter().flat_map(Here::lines));
    let json = json!({
        "ok": errors == 0 && lockouts == 0,
        "host": host,
        "errors": errors,
        "warnings": warnings,
        "files": files.iter().map(sources::Read::json).collect::<Vec<_>>(),
    });
    Ok(Answer { text: lines.join("\n"), json, exit: u8::from(errors + lockouts > 0) })
}

/// What policies come to on this host.
#[derive(Serialize)]
struct Here {
    #[serde(flatten)]
    bound: Bound,
    lockouts: Vec<LockOut>,
}

impl Here {
    fn lines(&self) -> Vec<String> {
        let lockouts = self.lockouts.iter().map(|found| format!("lock-out: {}", found.line()));
        let warnings =
            self.bound.warnings().into_iter().map(|line| format!("on this host: {line}"));
        lockouts.chain(warnings).collect()
    }
}

/// As if they alone were applied in mode enforce.
fn host(context: &Context, files: &[sources::Read]) -> anyhow::Result<Here> {
    let mut set = StoredSet::default();
    for file in files {
        if let Some(policy) = &file.policy {
            set.insert(policy.clone(), Mode::Enforce, file.text.clone());
        }
    }
    let ruleset = compile_set(&set, &ProofFiles::new(context).built_in())?;
    let mut host = ThisHost::new(context.patience_to_apply())
        .context("failed to look at this host, which only root can")?;
    let places = resolve(&ruleset, &mut host);
    let places = places.map_err(|errors| unresolved(&host, &errors))?;
    Ok(Here { bound: Bound::of(&ruleset, &places), lockouts: lockout::find(&ruleset, &places) })
}
