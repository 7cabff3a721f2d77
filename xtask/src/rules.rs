// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The house rules that a machine can check: sizes, licences, promises with tests, nothing left for later.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::Context as _;

use crate::command::{output, program, root};

/// A longer file has more than one subject.
const MOST_LINES: usize = 800;
/// The page of promises.
const GUARANTEES: &str = "GUARANTEES.md";
/// What a policy means, statement by statement.
const SEMANTICS: &str = "docs/policy.md";

/// Every breach, as a line each.
pub(crate) fn check() -> anyhow::Result<Vec<String>> {
    let mut faults = Vec::new();
    let mut tests = BTreeSet::new();
    for file in files()? {
        let Ok(text) = fs::read_to_string(root().join(&file)) else { continue };
        if is_source(&file) {
            faults.extend(of_source(&file, &text));
            if file.ends_with(".rs") {
                tests.extend(test_names(&text));
            }
        }
    }
    for page in [GUARANTEES, SEMANTICS] {
        match fs::read_to_string(root().join(page)) {
            Ok(text) => faults.extend(of_promises(page, &text, &tests)),
            Err(error) => faults.push(format!("failed to read {page}: {error}")),
        }
    }
    Ok(faults)
}

/// What git knows, and what it would be told: files ignored are none of ours.
fn files() -> anyhow::Result<Vec<String>> {
    let mut git = program("git");
    git.current_dir(root()).args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    let names = output(&mut git).context("failed to list the files of the repository")?;
    Ok(names.lines().map(str::to_owned).collect())
}

/// Rust, C, and scripts, which have no extension or `.sh`.
fn is_source(file: &str) -> bool {
    match Path::new(file).extension().and_then(|extension| extension.to_str()) {
        Some("rs" | "c" | "h" | "sh") => true,
        Some(_) => false,
        None => fs::read(root().join(file)).is_ok_and(|bytes| bytes.starts_with(b"#!")),
    }
}

fn of_source(file: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let lines = text.lines().count();
    if lines > MOST_LINES {
        faults.push(format!("{file}: {lines} lines, {MOST_LINES} is the most"));
    }
    let mut head = text.lines();
    let first = head.next().unwrap_or_default();
    let licensed = if first.starts_with("#!") { head.next().unwrap_or_default() } else { first };
    if !licensed.contains(SPDX) {
        faults.push(format!("{file}: the first line names no licence ({SPDX})"));
    }
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with(concat!("#[", "ignore")) {
            faults.push(format!("{file}:{number}: a test that is left out shows nothing"));
        }
        for word in LATER {
            if line.split(|letter: char| !letter.is_alphanumeric()).any(|part| part == word) {
                faults.push(format!(
                    "{file}:{number}: {word}: make it a row PLANNED in {GUARANTEES}"
                ));
            }
        }
    }
    faults
}

const SPDX: &str = concat!("SPDX-License-", "Identifier:");
/// Words for what was not done, put together so that this file does not find itself.
const LATER: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

/// Names of the functions under `#[test]`, or in a `proptest!` block, of one file.
fn test_names(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim_start) {
        if line.starts_with("#[test]") {
            is_test = true;
        } else if let Some(rest) = line.strip_prefix("fn ") {
            if is_test {
                let name = rest.split(|letter: char| !(letter.is_alphanumeric() || letter == '_'));
                names.extend(name.take(1).map(str::to_owned));
            }
            is_test = false;
        }
    }
    names
}

/// Rows of tables: an ENFORCED one names living tests in its last column, in backquotes; no two promises
/// have one number.
fn of_promises(page: &str, text: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut numbers = BTreeSet::new();
    for (number, line) in (1..).zip(text.lines()) {
        let promise = line.strip_prefix("| G").and_then(|rest| rest.split_once(' '));
        if let Some((promise, _)) = promise
            && !numbers.insert(promise)
        {
            faults.push(format!("{page}:{number}: there is another promise G{promise}"));
        }
        let columns: Vec<&str> = line.split('|').map(str::trim).collect();
        let is_enforced = line.starts_with('|')
            && columns.iter().any(|column| column.trim_matches('*') == "ENFORCED");
        let Some(last) = columns.iter().rev().nth(1).filter(|_| is_enforced) else { continue };
        let named: Vec<&str> = last.split('`').skip(1).step_by(2).collect();
        if named.is_empty() {
            faults.push(format!("{page}:{number}: an ENFORCED row without a test"));
        }
        for name in named {
            let function = name.rsplit("::").next().unwrap_or(name);
            if !tests.contains(function) {
                faults.push(format!("{page}:{number}: no test is called {name}"));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_without_a_living_test_is_a_fault() {
        let tests = BTreeSet::from(["a_rename_keeps_the_denial".to_owned()]);
        let page = "| G1 | promise | ENFORCED | `object::a_rename_keeps_the_denial` |\n\
                    | G2 | promise | ENFORCED | `no_such_test` |\n\
                    | G3 | promise | ENFORCED | |\n| G3 | promise | PLANNED | |\n";
        let faults = of_promises("page", page, &tests);
        assert_eq!(faults.len(), 3, "{faults:?}");
        assert!(faults[0].contains(":2:") && faults[1].contains(":3:"));
        assert!(faults[2].contains(":4: there is another promise G3"));
    }

    #[test]
    fn only_functions_under_the_attribute_are_tests() {
        let text = "fn helper() {}\n#[test]\n#[cfg(x)]\nfn a_test() {}\nfn other() {}\n";
        assert_eq!(test_names(text), ["a_test"]);
    }

    #[test]
    fn a_file_without_licence_or_with_something_left_is_a_fault() {
        let later = format!("fn x() {{}} // {}: more\n", LATER[0]);
        assert_eq!(of_source("x.rs", &later).len(), 2);
        let script = format!("#!/bin/sh\n# {SPDX} MIT\n");
        assert!(of_source("x", &script).is_empty());
        assert_eq!(
            of_source("x.rs", &format!("// {SPDX} MIT\n{}", "\n".repeat(MOST_LINES))).len(),
            1
        );
    }
}
