// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask mutants`: no change of the crate `trust` that its own tests do not notice.
//!
//! cargo-mutants makes the changes, one at a time, in a copy of the sources. What survives is a fault, unless
//! `tests/mutants-of-trust.toml` says why nobody could ever notice it. A change that makes the tests hang counts as
//! one that survives: it may as well have been a slow machine.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use toml::{Table, Value};

use crate::command::{cargo, program, root, run as run_command, target};
use crate::talk::{answer, note};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only changes of this file, such as trust/src/root.rs; all without.
    #[arg(long)]
    file: Vec<String>,
    /// How many are tried at once.
    #[arg(long, default_value_t = 2)]
    jobs: u32,
}

/// What became of all changes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    caught: usize,
    unviable: usize,
    /// Each with its place.
    survivors: Vec<String>,
    /// Survivors that nobody could notice, with the reason.
    equivalent: Vec<(String, String)>,
}

/// 0 if every change is noticed.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<i32> {
    let known = equivalent(&fs::read_to_string(root().join(EQUIVALENT))?)?;
    let tool = tool()?;
    let out = target("mutants");
    let results = out.join("mutants.out");
    if results.exists() {
        fs::remove_dir_all(&results)
            .with_context(|| format!("failed to remove {}", results.display()))?;
    }
    let mut mutants = program(tool);
    mutants
        .current_dir(root())
        .args(["mutants", "--package", "aegis-trust", "--profile", "mutants", "--no-times"])
        .arg("--jobs")
        .arg(arguments.jobs.to_string())
        .args(["--minimum-test-timeout", "90", "--colors", "never", "--output"])
        .arg(&out);
    for file in &arguments.file {
        mutants.arg("--file").arg(file);
    }
    // Tests that do not compile as they should take as long as all others together, and are no different.
    mutants.args(["--", "--lib", "--tests"]);
    let status = mutants.status().context("failed to start cargo-mutants")?;
    // 2: something survived, 3: something took too long. Those are for us to judge.
    ensure!(matches!(status.code(), Some(0 | 2 | 3)), "cargo-mutants ended with {status}");
    let outcome = read(&results, &known)?;
    tell(&outcome);
    Ok(i32::from(!outcome.survivors.is_empty()))
}

fn tell(outcome: &Outcome) {
    for (mutant, why) in &outcome.equivalent {
        answer(format_args!("nobody could notice: {mutant}: {why}"));
    }
    for mutant in &outcome.survivors {
        answer(format_args!("no test notices: {mutant}"));
    }
    answer(format_args!("{} changes do not compile", outcome.unviable));
    answer(format_args!("{} passed, {} failed", outcome.caught, outcome.survivors.len()));
}

/// Reads what cargo-mutants wrote: a line for each change in a file for each result.
fn read(results: &Path, known: &BTreeMap<String, String>) -> anyhow::Result<Outcome> {
    let lines = |name: &str| {
        let path = results.join(name);
        let text = fs::read_to_string(&path);
        let text = text.with_context(|| format!("failed to read {}", path.display()))?;
        anyhow::Ok(text.lines().map(str::to_owned).collect::<Vec<_>>())
    };
    let mut outcome = Outcome {
        caught: lines("caught.txt")?.len(),
        unviable: lines("unviable.txt")?.len(),
        ..Outcome::default()
    };
    for mutant in lines("missed.txt")?.into_iter().chain(lines("timeout.txt")?) {
        match known.get(&without_place(&mutant)) {
            Some(why) => outcome.equivalent.push((mutant, why.clone())),
            None => outcome.survivors.push(mutant),
        }
    }
    ensure!(outcome != Outcome::default(), "nothing was changed: no such file, or an empty one");
    Ok(outcome)
}

/// `file: what`, of `file:line:column: what`: lines move.
fn without_place(mutant: &str) -> String {
    let (place, what) = mutant.split_once(": ").unwrap_or((mutant, ""));
    let file = place.split(':').next().unwrap_or(place);
    format!("{file}: {what}")
}

/// The changes that make no difference, each with the reason.
fn equivalent(text: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let table: Table = text.parse().with_context(|| format!("failed to read {EQUIVALENT}"))?;
    let reason = |(mutant, value): (String, Value)| match value {
        Value::String(why) if !why.trim().is_empty() => Ok((mutant, why)),
        _ => bail!("{EQUIVALENT}: {mutant} has no reason"),
    };
    table.into_iter().map(reason).collect()
}

/// cargo-mutants, built once.
fn tool() -> anyhow::Result<PathBuf> {
    let tools = target("tools");
    let tool = tools.join("bin/cargo-mutants");
    if !tool.exists() {
        note(format_args!("building cargo-mutants {VERSION}"));
        run_command(
            cargo()
                .args(["install", "--locked", "--quiet", "--version", VERSION, "--root"])
                .arg(&tools)
                .arg("cargo-mutants"),
        )?;
    }
    Ok(tool)
}

const VERSION: &str = "27.1.0";
const EQUIVALENT: &str = "tests/mutants-of-trust.toml";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_survivor_fails_unless_it_is_named_with_a_reason_whatever_its_line() {
        let results = std::env::temp_dir().join(format!("mutants-{}", std::process::id()));
        fs::create_dir_all(&results).unwrap();
        let write = |name: &str, text: &str| fs::write(results.join(name), text).unwrap();
        write("caught.txt", "a.rs:1:1: one\na.rs:2:1: two\n");
        write("missed.txt", "a.rs:3:9: replace f with ()\na.rs:4:1: three\n");
        write("timeout.txt", "a.rs:5:1: four\n");
        write("unviable.txt", "");
        let known = equivalent("\"a.rs: replace f with ()\" = \"it is never called\"").unwrap();
        let outcome = read(&results, &known).unwrap();
        assert_eq!((outcome.caught, outcome.equivalent.len()), (2, 1));
        assert_eq!(outcome.survivors, ["a.rs:4:1: three", "a.rs:5:1: four"]);
        for name in ["caught.txt", "missed.txt", "timeout.txt"] {
            write(name, "");
        }
        assert!(read(&results, &known).is_err(), "nothing was tried");
        fs::remove_dir_all(&results).unwrap();
        assert!(equivalent("\"a.rs: five\" = \"\"").is_err(), "no reason");
    }
}
