// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `config`: whether the configuration is sound, and where each value comes from.

use std::path::Path;

use anyhow::Context as _;
use serde_json::json;

use crate::{
    cli,
    config::{self, Config, FileRead, Loaded},
    context::Context,
    output::{Answer, plural},
};

pub(super) fn run(context: &Context, args: &cli::Config) -> anyhow::Result<Answer> {
    match &args.what {
        cli::ConfigVerb::Check { file: Some(file) } => {
            let failed = || format!("failed to read {}", file.display());
            let text = std::fs::read_to_string(file).with_context(failed)?;
            let (_, diagnostics) = config::read(file, &text);
            Ok(checked(file, &config::rendered(file, &text, &diagnostics)))
        }
        cli::ConfigVerb::Check { file: None } => {
            let path = Config::path(&context.root);
            let Loaded { faults, .. } = Config::load(&path)?;
            Ok(checked(&path, &faults))
        }
        cli::ConfigVerb::Show => Ok(shown(&context.config)),
    }
}

/// What the file says, for a command that must not wait for it.
pub(super) fn read(root: &Path) -> anyhow::Result<Answer> {
    let json = serde_json::to_value(FileRead::of(&Config::path(root))?)?;
    Ok(Answer { text: String::new(), json, exit: 0 })
}

fn checked(path: &Path, faults: &[String]) -> Answer {
    let there = if path.exists() { "" } else { " is not there, so everything has its default" };
    let mut lines = faults.to_vec();
    let errors = plural(faults.len(), "error");
    lines.push(format!("{}{there}: {errors}", path.display()));
    Answer {
        text: lines.join("\n"),
        json: json!({
            "ok": faults.is_empty(),
            "file": path.display().to_string(),
            "present": path.exists(),
            "faults": faults,
        }),
        exit: u8::from(!faults.is_empty()),
    }
}

fn shown(config: &Config) -> Answer {
    let width = config.shown().map(|(key, value, _)| key.name.len() + value.len()).max();
    let width = width.unwrap_or(0) + 3;
    let line = |(key, value, origin): (&config::Key, String, config::Origin)| {
        format!("{:width$}  # {origin}", format!("{} = {value}", key.name))
    };
    let value = |(key, value, origin): (&config::Key, String, config::Origin)| {
        json!({
            "key": key.name,
            "value": value.trim_matches('"'),
            "from": origin.to_string(),
            "takes": key.takes,
            "reloads": key.reloads,
            "meaning": key.what,
        })
    };
    Answer {
        text: config.shown().map(line).collect::<Vec<_>>().join("\n"),
        json: json!({ "config": config.shown().map(value).collect::<Vec<_>>() }),
        exit: 0,
    }
}
