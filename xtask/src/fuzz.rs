// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs each fuzz target for a while.
//!
//! The targets are laid out for `cargo fuzz` and can be run by it. This needs no more than stable
//! cargo and a C++ compiler: the instrumentation that libFuzzer wants is asked for with flags that
//! stable rustc has. What is left out so is AddressSanitizer, which code without `unsafe` does not need.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::command::{cargo, program, root, run, target};
use crate::talk::{answer, note};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How long each target runs.
    #[arg(long, default_value_t = 30)]
    seconds: u32,
    /// Targets; all without.
    targets: Vec<String>,
}

/// Every target, each for so many seconds.
pub(crate) fn all(seconds: u32) -> anyhow::Result<Vec<String>> {
    fuzz(&Arguments { seconds, targets: Vec::new() })
}

/// Builds the targets and runs them one after the other: every finding, as a line each.
pub(crate) fn fuzz(arguments: &Arguments) -> anyhow::Result<Vec<String>> {
    let unknown = arguments.targets.iter().find(|name| !TARGETS.iter().any(|(own, _)| own == name));
    if let Some(unknown) = unknown {
        let known = TARGETS.map(|(name, _)| name).join(", ");
        bail!("there is no fuzz target {unknown}\nhint: the targets are {known}");
    }
    let built = target("fuzz");
    note("building the fuzz targets");
    run(cargo()
        .current_dir(root().join("fuzz"))
        .args(["build", "--quiet", "--release", "--target", TRIPLE])
        .env("CARGO_TARGET_DIR", &built)
        .env("CARGO_ENCODED_RUSTFLAGS", INSTRUMENTED.join("\u{1f}"))
        .env_remove("RUSTFLAGS"))?;
    let mut findings = Vec::new();
    for (name, seeds) in TARGETS {
        if arguments.targets.is_empty() || arguments.targets.iter().any(|wanted| wanted == name) {
            let binary = built.join(TRIPLE).join("release").join(name);
            findings.extend(fuzz_one(&binary, name, seeds, arguments.seconds)?);
        }
    }
    Ok(findings)
}

fn fuzz_one(
    binary: &Path,
    name: &str,
    seeds: Option<&str>,
    seconds: u32,
) -> anyhow::Result<Option<String>> {
    let corpus = root().join("fuzz/corpus").join(name);
    let artifacts = root().join("fuzz/artifacts").join(name);
    for directory in [&corpus, &artifacts] {
        let making = || format!("failed to make {}", directory.display());
        fs::create_dir_all(directory).with_context(making)?;
    }
    let mut fuzzer = program(binary);
    fuzzer
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args(["-max_len=4096", "-rss_limit_mb=2048", "-timeout=10", "-verbosity=0"])
        .arg(&corpus);
    if let Some(seeds) = seeds {
        fuzzer.arg(root().join(seeds));
    }
    note(format!("fuzzing {name} for {seconds} s"));
    let status =
        fuzzer.status().with_context(|| format!("failed to start {}", binary.display()))?;
    if !status.success() {
        return Ok(Some(format!("fuzz target {name}: a finding is in {}", artifacts.display())));
    }
    answer(format_args!("fuzz target {name}: nothing found in {seconds} s"));
    Ok(None)
}

/// Each target, and a directory with inputs to begin with.
const TARGETS: [(&str, Option<&str>); 4] = [
    ("policy_text", Some("policy/tests/corpus")),
    ("event_bytes", None),
    ("log_lines", Some("trust/tests/corpus/log")),
    ("signed_documents", Some("trust/tests/corpus/signed")),
];

const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// What makes a program's way through its code visible to libFuzzer.
const INSTRUMENTED: [&str; 8] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    // Overflows and broken assumptions are findings.
    "-Cdebug-assertions=on",
];
