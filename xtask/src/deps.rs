// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which crate may name which, and how many crates the program is made of.

use std::collections::BTreeSet;

use anyhow::Context as _;
use serde_json::Value;

use crate::command::{cargo, output};

/// What each crate of ours may name. `aegis-policy`, `aegis-kernel` and `aegis-trust` never name each other.
const MAY_NAME: [(&str, &[&str]); 10] = [
    ("aegis-abi", &[]),
    ("aegis-abi-bindgen", &[]),
    ("aegis-policy", &["aegis-abi"]),
    ("aegis-trust", &[]),
    ("aegis-fault", &[]),
    ("aegis-kernel", &["aegis-abi", "aegis-fault"]),
    ("aegisbpf", &["aegis-abi", "aegis-fault", "aegis-policy", "aegis-trust", "aegis-kernel"]),
    ("aegis-tests", &["aegis-abi", "aegis-policy", "aegis-trust", "aegis-kernel", "aegisbpf"]),
    ("aegis-bench", &["aegis-kernel"]),
    ("xtask", &[]),
];

/// A bound on what has to be read to trust the program; CONTRIBUTING.md says how to ask for one more.
const MOST_CRATES: usize = 65;

/// Every breach, as a line each.
pub(crate) fn check() -> anyhow::Result<Vec<String>> {
    let mut faults = directions(&metadata()?);
    let crates = resolved()?;
    if crates.len() > MOST_CRATES {
        faults.push(format!(
            "aegisbpf is made of {} crates, {MOST_CRATES} is the most",
            crates.len()
        ));
    }
    Ok(faults)
}

/// What `cargo metadata` says of our own packages.
pub(crate) fn metadata() -> anyhow::Result<Value> {
    let text = output(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    serde_json::from_str(&text).context("failed to read what cargo metadata says")
}

fn directions(metadata: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    for package in metadata.get("packages").and_then(Value::as_array).into_iter().flatten() {
        let name = package.get("name").and_then(Value::as_str).unwrap_or_default();
        let Some((_, allowed)) = MAY_NAME.iter().find(|(crate_name, _)| *crate_name == name) else {
            faults.push(format!(
                "crate {name} has no place in the order of crates (xtask/src/deps.rs)"
            ));
            continue;
        };
        for dependency in
            package.get("dependencies").and_then(Value::as_array).into_iter().flatten()
        {
            let other = dependency.get("name").and_then(Value::as_str).unwrap_or_default();
            let is_ours = dependency.get("path").is_some_and(|path| !path.is_null());
            // A crate's tests may ask for its own features.
            if is_ours && other != name && !allowed.contains(&other) {
                faults.push(format!("crate {name} must not name {other}"));
            }
        }
    }
    faults
}

/// Names and versions of all crates that end up in the program, macros included.
fn resolved() -> anyhow::Result<BTreeSet<String>> {
    let mut tree = cargo();
    tree.args(["tree", "--package", "aegisbpf", "--edges", "normal", "--prefix", "none"]);
    tree.args(["--no-dedupe", "--target", crate::dist::TRIPLE, "--format", "{p}"]);
    let text = output(&mut tree)?;
    let name = |line: &str| line.split(" (").next().unwrap_or_default().trim().to_owned();
    Ok(text.lines().map(name).filter(|line| !line.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_direction_is_named() {
        let metadata = serde_json::json!({ "packages": [{
            "name": "aegis-policy",
            "dependencies": [
                { "name": "aegis-abi", "path": "/abi" },
                { "name": "aegis-kernel", "path": "/kernel" },
                { "name": "toml", "path": null },
            ],
        }] });
        assert_eq!(directions(&metadata), ["crate aegis-policy must not name aegis-kernel"]);
    }
}
