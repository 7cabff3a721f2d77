// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask test`: everything, in stages; the last line is the sum.
//!
//! Stages go on after a failure, so that one run says all there is to say. A stage that is no set of tests counts only
//! when it fails, as one.

use std::ops::AddAssign;
use std::path::PathBuf;
use std::process::Command;
use std::thread::ScopedJoinHandle;
use std::time::Instant;

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use crate::command::{cargo, program, root, tool};
use crate::talk::{answer, note};
use crate::{
    abi, bench, deps, dist, foreign, fuzz, guests, interop, mutate, payload, rules, setup,
};

/// What to run.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Ask more of those tests that can: more generated cases, more time.
    #[arg(long)]
    full: bool,
    /// Only these series of kernels.
    #[arg(long)]
    kernel: Vec<String>,
    /// Only this part.
    #[arg(long)]
    only: Option<Part>,
    /// Only tests whose name has this in it.
    #[arg(default_value = "")]
    filter: String,
}

/// A part of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Format, generated code, lints, documentation, house rules.
    Checks,
    /// Tests that need no kernel of their own.
    Host,
    /// Tests on kernels.
    Guests,
    /// What the product costs, against its budgets.
    Cost,
}

/// How many passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

impl Counts {
    pub(crate) fn one_failure() -> Self {
        Self { passed: 0, failed: 1 }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// 0 if nothing failed, else 1.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<i32> {
    let mut counts = Counts::default();
    counts += stage("set up", || setup::ensure().map(|()| Counts::default()));
    counts += std::thread::scope(|scope| {
        // Linking what guests run takes minutes of one processor, while the stages before theirs leave one idle.
        let built = scope.spawn(|| arguments.has(Part::Guests).then(Built::make));
        let mut counts = before_guests(arguments);
        let built = joined(built);
        // Beside the tests: what decides how long it all takes is how many guests run at once.
        let others = scope.spawn(|| answers(arguments));
        let cost = scope.spawn(|| cost(arguments));
        if let Some(built) = built {
            counts += stage("tests on kernels", || on_kernels(arguments, &built?));
        }
        counts += joined(others);
        counts += joined(cost);
        counts
    });
    if arguments.full && arguments.filter.is_empty() && arguments.has(Part::Guests) {
        counts += stage("hooks and steps taken out", || Ok(list(&mutate::check()?)));
    }
    answer("");
    answer(format_args!("{} passed, {} failed", counts.passed, counts.failed));
    Ok(i32::from(counts.failed > 0))
}

impl Arguments {
    fn has(&self, part: Part) -> bool {
        self.only.is_none_or(|only| only == part)
    }
}

fn before_guests(arguments: &Arguments) -> Counts {
    let mut counts = Counts::default();
    // Somebody who looks for one test does not look for lints.
    if arguments.has(Part::Checks) && (arguments.filter.is_empty() || arguments.only.is_some()) {
        counts += checks();
    }
    if arguments.has(Part::Host) {
        counts += stage("tests on this host", || host_tests(&arguments.filter, arguments.full));
        if arguments.filter.is_empty() {
            let seconds = if arguments.full { 300 } else { 5 };
            counts += stage("bundles of others", || interop::check().map(|()| Counts::default()));
            counts += stage("hostile bytes", || Ok(list(&fuzz::all(seconds)?)));
        }
    }
    counts
}

fn on_kernels(arguments: &Arguments, built: &Built) -> anyhow::Result<Counts> {
    let Built { binary, programs } = built;
    guests::run(binary, programs, &arguments.kernel, &arguments.filter, arguments.full)
}

fn answers(arguments: &Arguments) -> Counts {
    if !arguments.filter.is_empty() || !arguments.has(Part::Guests) {
        return Counts::default();
    }
    stage("answers, read by others", || Ok(list(&foreign::check(&arguments.kernel)?)))
}

/// It counts instructions, so that what else runs makes no difference to it.
fn cost(arguments: &Arguments) -> Counts {
    let measures = arguments.has(Part::Cost) && arguments.kernel.is_empty();
    if !measures || !arguments.filter.is_empty() {
        return Counts::default();
    }
    stage("cost", || Ok(list(&bench::check()?)))
}

fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn checks() -> Counts {
    let mut counts = Counts::default();
    counts += stage("format of Rust", || quiet(cargo().args(["fmt", "--all", "--check"])));
    counts += stage("format of C", format_of_c);
    counts += stage("generated code", || abi::run(true).map(one));
    counts += stage("lints", || {
        let scope = ["--workspace", "--all-targets", "--all-features"];
        quiet(cargo().args(["clippy", "--quiet"]).args(scope).args(["--", "--deny", "warnings"]))
    });
    counts += stage("documentation", || {
        let mut doc = cargo();
        doc.args(["doc", "--quiet", "--workspace", "--no-deps", "--document-private-items"]);
        quiet(doc.env("RUSTDOCFLAGS", "--deny warnings"))
    });
    counts += stage("house rules", || Ok(list(&rules::check()?)));
    counts += stage("dependencies", || Ok(list(&deps::check()?)));
    counts
}

/// Runs one stage, says how long it took, and turns an error into a failure.
fn stage(name: &str, work: impl FnOnce() -> anyhow::Result<Counts>) -> Counts {
    let since = Instant::now();
    let counts = work().unwrap_or_else(|error| {
        answer(format_args!("{error:#}"));
        Counts::one_failure()
    });
    let result = if counts.failed == 0 { "ok" } else { "FAILED" };
    answer(format_args!("{name} … {result} ({:.1} s)", since.elapsed().as_secs_f32()));
    counts
}

/// A check that says nothing when all is well.
fn quiet(command: &mut Command) -> anyhow::Result<Counts> {
    let output = command.output().context("failed to start a check")?;
    if !output.status.success() {
        note(String::from_utf8_lossy(&output.stdout));
        note(String::from_utf8_lossy(&output.stderr));
    }
    Ok(one(output.status.success()))
}

fn one(good: bool) -> Counts {
    if good { Counts::default() } else { Counts::one_failure() }
}

fn list(faults: &[String]) -> Counts {
    for fault in faults {
        answer(fault);
    }
    one(faults.is_empty())
}

fn format_of_c() -> anyhow::Result<Counts> {
    let mut git = program("git");
    git.current_dir(root()).args(["ls-files", "--", "*.c", "*.h"]);
    let files = crate::command::output(&mut git)?;
    let ours = files.lines().filter(|file| !file.ends_with("vmlinux.h"));
    let mut format = tool("clang-format");
    quiet(format.current_dir(root()).args(["--dry-run", "-Werror"]).args(ours))
}

/// Each crate's own tests and its examples in documentation; those for guests are compiled by the lints.
fn host_tests(filter: &str, full: bool) -> anyhow::Result<Counts> {
    let mut test = cargo();
    test.args(["test", "--workspace", "--no-fail-fast", "--quiet"]);
    if full {
        test.env("AEGIS_FULL", "1").env("PROPTEST_CASES", "4096");
    }
    if !filter.is_empty() {
        test.args(["--", filter]);
    }
    let output = test.output().context("failed to start cargo test")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut counts = Counts::default();
    for line in text.lines() {
        counts += summary(line).unwrap_or_default();
    }
    if !output.status.success() {
        answer(&text);
        note(String::from_utf8_lossy(&output.stderr));
        counts.failed = counts.failed.max(1);
    }
    answer(format_args!("{} passed, {} failed on this host", counts.passed, counts.failed));
    Ok(counts)
}

/// `test result: ok. 3 passed; 0 failed; …`
fn summary(line: &str) -> Option<Counts> {
    let (_, numbers) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let number = |word: &str| {
        let part = numbers.split("; ").find(|part| part.ends_with(word))?;
        part.split(' ').next()?.parse().ok()
    };
    Some(Counts { passed: number(" passed")?, failed: number(" failed")? })
}

/// What guests run.
#[derive(Debug)]
struct Built {
    binary: PathBuf,
    programs: Vec<payload::Program>,
}

impl Built {
    fn make() -> anyhow::Result<Self> {
        let binary = dist::build()?;
        let faults = payload::Program::started("aegisbpf-faults", dist::build_with_faults()?);
        let mut programs = payload::build()?;
        programs.push(faults);
        Ok(Self { binary, programs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_that_of_all_programs() {
        let line = "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 1 filtered out; finished in 1s";
        assert_eq!(summary(line), Some(Counts { passed: 12, failed: 3 }));
        assert_eq!(summary("running 3 tests"), None);
    }

    #[test]
    fn a_stage_that_cannot_be_tried_has_failed() {
        assert_eq!(stage("a stage", || anyhow::bail!("nothing there")), Counts::one_failure());
        assert_eq!(stage("a stage", || Ok(Counts::default())), Counts::default());
    }
}
