// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Policy files → policies, with everything that is to be said about them.

use std::{
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
};

use aegis_policy::{Diagnostic, Policy, Severity, Source, limits, parse};
use anyhow::Context as _;
use serde_json::{Value, json};

use crate::{apply::Verified, failure::Refusal};

/// One file, read and understood as far as it can be.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    /// `None` if it has an error.
    pub(crate) policy: Option<Policy>,
    pub(crate) diagnostics: Vec<Diagnostic>,
}

impl Read {
    /// Every diagnostic, as a person reads it.
    pub(crate) fn rendered(&self) -> Vec<String> {
        let name = self.path.to_string_lossy();
        let source = Source { name: &name, text: &self.text };
        self.diagnostics.iter().map(|diagnostic| diagnostic.render(source, false)).collect()
    }

    /// The same for a program.
    pub(crate) fn json(&self) -> Value {
        let diagnostic = |diagnostic: &Diagnostic| {
            let (line, column) = diagnostic.position(&self.text);
            json!({
                "severity": severity(diagnostic.severity),
                "line": line,
                "column": column,
                "message": diagnostic.message,
                "hint": diagnostic.help,
            })
        };
        json!({
            "file": self.path.to_string_lossy(),
            "name": self.policy.as_ref().map(|policy| &policy.name),
            "version": self.policy.as_ref().map(|policy| policy.version),
            "policy_digest": self.policy.as_ref().map(|policy| crate::state::hex(&policy.digest)),
            "diagnostics": self.diagnostics.iter().map(diagnostic).collect::<Vec<_>>(),
        })
    }
}

/// Reads a file, or every `*.toml` in a directory by name.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<Read>> {
    let failed = || format!("failed to read {}", path.display());
    let metadata = fs::metadata(path).with_context(failed)?;
    if !metadata.is_dir() {
        return Ok(vec![read_one(path)?]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).with_context(failed)? {
        let file = entry.with_context(failed)?.path();
        if file.extension().is_some_and(|extension| extension == "toml") {
            files.push(file);
        }
    }
    if files.is_empty() {
        let message = format!("there is no *.toml in {}", path.display());
        return Err(Refusal::new("NO_POLICY_FILE", message).into());
    }
    files.sort();
    files.iter().map(|file| read_one(file)).collect()
}

/// The policies of files without errors; warnings are handed back to be told.
pub(crate) fn verify(path: &Path) -> anyhow::Result<(Vec<Verified>, Vec<String>)> {
    let read = read(path)?;
    let mut rendered: Vec<String> = read.iter().flat_map(Read::rendered).collect();
    let mut verified: Vec<Verified> = Vec::new();
    let mut errors = 0;
    for Read { path, text, policy, .. } in read {
        let Some(policy) = policy else {
            errors += 1;
            continue;
        };
        if verified.iter().any(|other| other.policy.name == policy.name) {
            let name = &policy.name;
            rendered.push(format!("{}: another file has a policy {name} as well", path.display()));
            errors += 1;
        }
        verified.push(Verified { policy, text });
    }
    if errors == 0 {
        return Ok((verified, rendered));
    }
    let message = format!("{} has errors; nothing was changed", path.display());
    Err(Refusal::new("BAD_POLICY", message).details(rendered).into())
}

fn read_one(path: &Path) -> anyhow::Result<Read> {
    let failed = || format!("failed to read {}", path.display());
    let mut bytes = Vec::new();
    let most = limits::TEXT_BYTES as u64 + 1;
    File::open(path)
        .and_then(|file| file.take(most).read_to_end(&mut bytes))
        .with_context(failed)?;
    match String::from_utf8(bytes) {
        Ok(text) => {
            let name = path.to_string_lossy();
            let (policy, diagnostics) = parse(Source { name: &name, text: &text });
            Ok(Read { path: path.to_owned(), text, policy, diagnostics })
        }
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            let diagnostic = Diagnostic {
                severity: Severity::Error,
                message: "a policy is written in UTF-8, and this byte is not".to_owned(),
                span: at..at + 1,
                label: String::new(),
                help: Some("write %XX in a path for a byte that is not UTF-8".to_owned()),
            };
            Ok(Read { path: path.to_owned(), text, policy: None, diagnostics: vec![diagnostic] })
        }
    }
}

const fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}
