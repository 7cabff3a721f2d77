// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The tests that need a real kernel, as static programs that run in a guest, and the reading of what they answer.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::command::output;
use crate::dist::{TRIPLE, static_cargo};
use crate::talk::Step;

/// A program of tests, or one that they start.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// The name of its target; it begins the names of its tests.
    name: String,
    pub(crate) file: PathBuf,
    has_tests: bool,
}

impl Program {
    /// Where it is in a guest.
    pub(crate) fn place(&self) -> String {
        format!("{}/{}", if self.has_tests { "/tests" } else { "/usr/bin" }, self.name)
    }

    /// One that tests start.
    pub(crate) fn started(name: &str, file: PathBuf) -> Self {
        Self { name: name.to_owned(), file, has_tests: false }
    }
}

/// Builds the targets of `aegis-tests` that ask for the feature `vm`: tests, and programs that they start.
pub(crate) fn build() -> anyhow::Result<Vec<Program>> {
    let step = Step::begin("building the tests for guests");
    let result = build_quietly();
    step.end(if result.is_ok() { "" } else { "failed" });
    result
}

fn build_quietly() -> anyhow::Result<Vec<Program>> {
    let mut cargo = static_cargo()?;
    cargo.args(["test", "--no-run", "--quiet", "--package", "aegis-tests", "--features", "vm"]);
    cargo.args(["--test", "*", "--message-format", "json-render-diagnostics"]);
    // Symbols would be most of what each guest has to unpack.
    cargo.env("CARGO_PROFILE_TEST_STRIP", "debuginfo").env("CARGO_PROFILE_DEV_STRIP", "debuginfo");
    cargo.stderr(std::process::Stdio::inherit());
    let messages = output(&mut cargo).context("failed to build the tests for guests")?;
    let only_in_guests = targets_for_guests()?;
    let mut programs = Vec::new();
    for message in messages.lines() {
        let message: Value =
            serde_json::from_str(message).context("failed to read a message of cargo")?;
        let name = message.pointer("/target/name").and_then(Value::as_str);
        let file = message.get("executable").and_then(Value::as_str);
        if let (Some(name), Some(file)) = (name, file)
            && only_in_guests.iter().any(|target| target == name)
        {
            let has_tests = message.pointer("/profile/test").and_then(Value::as_bool);
            programs.push(Program {
                name: name.to_owned(),
                file: file.into(),
                has_tests: has_tests.unwrap_or(false),
            });
        }
    }
    if !programs.iter().any(|program| program.has_tests) {
        bail!(
            "failed to find tests for guests: no target of aegis-tests has `required-features = [\"vm\"]` ({TRIPLE})"
        );
    }
    Ok(programs)
}

fn targets_for_guests() -> anyhow::Result<Vec<String>> {
    let metadata = crate::deps::metadata()?;
    let mut names = Vec::new();
    let packages = metadata.get("packages").and_then(Value::as_array).into_iter().flatten();
    for package in
        packages.filter(|package| package.get("name").is_some_and(|name| name == "aegis-tests"))
    {
        for target in package.get("targets").and_then(Value::as_array).into_iter().flatten() {
            let needs =
                target.get("required-features").and_then(Value::as_array).into_iter().flatten();
            if needs.into_iter().any(|feature| feature == "vm")
                && let Some(name) = target.get("name").and_then(Value::as_str)
            {
                names.push(name.to_owned());
            }
        }
    }
    Ok(names)
}

/// What the tests of one guest answered.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) tests: Vec<Test>,
    /// Programs that could not even list their tests.
    pub(crate) broken: Vec<String>,
    /// How many tests the guest says it ran; none if it never came to the end.
    pub(crate) ended: Option<usize>,
}

/// One test's answer.
#[derive(Debug, PartialEq)]
pub(crate) struct Test {
    pub(crate) name: String,
    pub(crate) passed: bool,
    pub(crate) seconds: f32,
    /// Of a failed one.
    pub(crate) output: String,
}

impl Results {
    /// Reads what `guest/run-tests` wrote.
    pub(crate) fn read(text: &str) -> Self {
        let mut results = Self::default();
        let mut in_broken = false;
        for line in text.lines() {
            if let Some(said) = line.strip_prefix("| ").or_else(|| (line == "|").then_some("")) {
                let output = if in_broken {
                    results.broken.last_mut()
                } else {
                    results.tests.last_mut().map(|test| &mut test.output)
                };
                if let Some(output) = output {
                    output.extend(said.chars().filter(|letter| !letter.is_control()));
                    output.push('\n');
                }
            } else if let Some(test) = line.strip_prefix("test ").and_then(Test::read) {
                in_broken = false;
                results.tests.push(test);
            } else if let Some(broken) = line.strip_prefix("broken ") {
                in_broken = true;
                results.broken.push(format!("{broken}\n"));
            } else if let Some(count) = line.strip_prefix("end of ") {
                results.ended = count.strip_suffix(" tests").and_then(|count| count.parse().ok());
            }
        }
        results
    }

    /// What keeps these results from being believed, whatever they are.
    pub(crate) fn doubt(&self) -> Option<String> {
        match self.ended {
            None => Some(format!(
                "it never came to the end of its tests; {} had answered",
                self.tests.len()
            )),
            Some(count) if count != self.tests.len() => {
                Some(format!("it ran {count} tests, {} answers arrived", self.tests.len()))
            }
            Some(0) => Some("it ran no test".to_owned()),
            Some(_) => self.broken.first().map(|broken| broken.trim().to_owned()),
        }
    }
}

impl Test {
    /// `NAME ... ok SECONDS` or `NAME ... FAILED SECONDS status N`
    fn read(line: &str) -> Option<Self> {
        let (name, answer) = line.split_once(" ... ")?;
        let mut words = answer.split(' ');
        let passed = match words.next()? {
            "ok" => true,
            "FAILED" => false,
            _ => return None,
        };
        let seconds = words.next()?.parse().ok()?;
        let output = match words.nth(1) {
            Some("137") => "killed after 120 s, or by the kernel\n".to_owned(),
            _ => String::new(),
        };
        Some(Self { name: name.to_owned(), passed, seconds, output })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "test open::a ... ok 0.31\ntest open::b ... FAILED 1.00 status 101\n| thread panicked\n|\n\
                        | test open::c ... ok 0.1\n\nend of 2 tests\n";

    #[test]
    fn output_of_a_test_is_never_taken_for_a_result() {
        let results = Results::read(GOOD);
        assert_eq!(results.tests.len(), 2);
        assert!(results.tests[0].passed && !results.tests[1].passed);
        assert_eq!(results.tests[1].output, "thread panicked\n\ntest open::c ... ok 0.1\n");
        assert_eq!(results.doubt(), None);
    }

    #[test]
    fn a_missing_end_is_a_failure_and_so_is_a_missing_answer() {
        let cut = GOOD.replace("end of 2 tests\n", "");
        assert!(Results::read(&cut).doubt().is_some());
        assert!(Results::read(&GOOD.replace("end of 2", "end of 3")).doubt().is_some());
        assert!(Results::read("end of 0 tests\n").doubt().is_some());
        let broken = format!("broken open: its tests cannot be listed\n| no such file\n{GOOD}");
        assert_eq!(
            Results::read(&broken).doubt().as_deref(),
            Some("open: its tests cannot be listed\nno such file")
        );
    }
}
