// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `check`: everything that is to be said about policies. Asks no host and no kernel.

use aegis_policy::Severity;
use serde_json::json;

use super::sources;
use crate::{
    cli,
    output::{Answer, plural},
};

pub(super) fn run(args: &cli::Check) -> anyhow::Result<Answer> {
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
    let json = json!({
        "ok": errors == 0,
        "errors": errors,
        "warnings": warnings,
        "files": files.iter().map(sources::Read::json).collect::<Vec<_>>(),
    });
    Ok(Answer { text: lines.join("\n"), json, exit: u8::from(errors > 0) })
}
