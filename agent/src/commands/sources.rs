// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Policy files → policies, with everything that is to be said about them.

use std::{
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
};

use aegis_policy::{Diagnostic, Policy, Severity, Source, limits, parse};
use aegis_trust::Kind;
use anyhow::Context as _;
use serde_json::{Value, json};

use crate::{
    context::Context,
    failure::Refusal,
    provenance::Log,
    trust::{Candidate, Installed, SignedPolicy, TrustStore, UnsignedPolicy, keys},
};

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
    let files = listed(path, "toml")?;
    if files.is_empty() {
        let message = format!("there is no *.toml in {}", path.display());
        return Err(Refusal::new("NO_POLICY_FILE", message).into());
    }
    files.iter().map(|file| read_one(file)).collect()
}

/// The policies of a file or a directory, none of which has an error.
pub(crate) fn policies(path: &Path) -> anyhow::Result<Vec<(Policy, String)>> {
    let read = read(path)?;
    if read.iter().any(|read| read.policy.is_none()) {
        let rendered = read.iter().flat_map(Read::rendered).collect();
        let message = format!("{} has errors", path.display());
        return Err(Refusal::new("BAD_POLICY", message).details(rendered).into());
    }
    Ok(read.into_iter().filter_map(|read| Some((read.policy?, read.text))).collect())
}

/// What may be applied of a bundle or a policy file, or of those in a directory; warnings are handed
/// back to be told.
pub(crate) fn candidates(
    context: &Context,
    path: &Path,
    allow_unsigned: bool,
) -> anyhow::Result<(Vec<Candidate>, Vec<String>)> {
    let installed = TrustStore::new(context).installed(&Log::new(context))?;
    let (bundles, texts) = sort(path)?;
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut warnings = Vec::new();
    for file in bundles {
        let envelope = keys::envelope(Kind::Bundle, &file)?;
        let name = file.to_string_lossy();
        let signed = SignedPolicy::verify(installed.root()?, &envelope, &name)?;
        let text = &signed.bundle().content().text;
        let (_, diagnostics) = parse(Source { name: &name, text });
        let source = Source { name: &name, text };
        warnings.extend(diagnostics.iter().map(|diagnostic| diagnostic.render(source, false)));
        add(&mut candidates, Candidate::Signed(Box::new(signed)), &file)?;
    }
    let read = texts.iter().map(|file| read_one(file)).collect::<anyhow::Result<Vec<_>>>()?;
    let known = |read: &Read| {
        let policy = read.policy.as_ref();
        policy.is_some_and(|policy| {
            candidates.iter().any(|candidate| candidate.policy().name == policy.name)
        })
    };
    // The text beside a bundle is where that was made from.
    let unsigned: Vec<Read> = match allow_unsigned {
        true => read,
        false => read.into_iter().filter(|read| !known(read)).collect(),
    };
    let Some(first) = unsigned.first() else { return Ok((candidates, warnings)) };
    if !allow_unsigned {
        return Err(not_signed(&first.path, &installed).into());
    }
    let permission = TrustStore::unsigned(&installed, context.config.allow_unsigned)?;
    warnings.extend(unsigned.iter().flat_map(Read::rendered));
    if unsigned.iter().any(|read| read.policy.is_none()) {
        let message = format!("{} has errors; nothing was changed", path.display());
        return Err(Refusal::new("BAD_POLICY", message).details(warnings).into());
    }
    for Read { path, text, policy, .. } in unsigned {
        let Some(policy) = policy else { continue };
        let unsigned = UnsignedPolicy::nobody_signed(&permission, policy, text);
        add(&mut candidates, Candidate::Unsigned(unsigned), &path)?;
    }
    Ok((candidates, warnings))
}

fn add(candidates: &mut Vec<Candidate>, new: Candidate, file: &Path) -> Result<(), Refusal> {
    let name = &new.policy().name;
    if candidates.iter().any(|candidate| candidate.policy().name == *name) {
        let line = format!("{}: another file has a policy {name} as well", file.display());
        let message = format!("policy {name} is there twice; nothing was changed");
        return Err(Refusal::new("BAD_POLICY", message).details(vec![line]));
    }
    candidates.push(new);
    Ok(())
}

fn not_signed(file: &Path, installed: &Installed) -> Refusal {
    let message = format!("{} is not signed; nothing was changed", file.display());
    let hint = match installed {
        Installed::None => {
            "--allow-unsigned applies what nobody signed; docs/trust.md shows the way to signatures"
        }
        _ => "`aegisbpf sign FILE --key K --expires 90d -o FILE.bundle`, then apply that",
    };
    Refusal::new("UNSIGNED", message).hint(hint)
}

/// The bundles and the texts that a path stands for.
fn sort(path: &Path) -> anyhow::Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let failed = || format!("failed to read {}", path.display());
    if fs::metadata(path).with_context(failed)?.is_dir() {
        let (bundles, texts) = (listed(path, "bundle")?, listed(path, "toml")?);
        if bundles.is_empty() && texts.is_empty() {
            let message = format!("there is no *.bundle and no *.toml in {}", path.display());
            return Err(Refusal::new("NO_POLICY_FILE", message).into());
        }
        return Ok((bundles, texts));
    }
    let file = vec![path.to_owned()];
    // A policy can be large; what it begins with is enough.
    let begins = keys::read(path, 64)?;
    Ok(if keys::is_envelope(&begins) { (file, Vec::new()) } else { (Vec::new(), file) })
}

/// The files in a directory whose names end so, by name.
fn listed(directory: &Path, extension: &str) -> anyhow::Result<Vec<PathBuf>> {
    let failed = || format!("failed to read {}", directory.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).with_context(failed)? {
        let file = entry.with_context(failed)?.path();
        if file.extension().is_some_and(|found| found == extension) {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
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
