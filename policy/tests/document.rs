// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `docs/policy.md` says what the code says.
#![allow(clippy::unwrap_used, reason = "tests may")]

use aegis_policy::{Source, filesystems::FILESYSTEMS, limits, parse};

const DOCUMENT: &str = include_str!("../../docs/policy.md");

#[test]
fn the_document_states_every_limit() {
    let stated: Vec<usize> = DOCUMENT
        .split("## Limits")
        .nth(1)
        .unwrap()
        .lines()
        .filter_map(|line| line.trim_end_matches(" |").rsplit("| ").next()?.parse().ok())
        .collect();
    let known = [
        limits::TEXT_BYTES,
        limits::NAME_BYTES,
        limits::REASON_BYTES,
        limits::PATH_BYTES,
        limits::COMPONENT_BYTES,
        limits::PATH_DEPTH,
        limits::CGROUP_DEPTH,
        limits::POLICIES,
        limits::WORKLOADS,
        limits::RULES,
        limits::OBJECTS,
        limits::LABELS,
        limits::SCOPES,
        limits::CGROUP_ROWS,
        limits::VERDICTS,
        limits::LINKS,
        limits::LINKED,
    ];
    assert_eq!(stated, known);
}

#[test]
fn the_document_names_every_filesystem_and_its_weakness() {
    for filesystem in FILESYSTEMS {
        let told = match filesystem.weaker {
            None => DOCUMENT.lines().any(|line| {
                line.contains("worth the same, ENFORCED") && line.contains(filesystem.name)
            }),
            Some(why) => DOCUMENT.lines().any(|line| {
                let mut cells = line.split('|').skip(1).map(str::trim);
                let names = cells.next().unwrap_or("").split(", ").any(|n| n == filesystem.name);
                names && cells.next() == Some(why)
            }),
        };
        assert!(told, "{filesystem:?}");
    }
}

#[test]
fn the_example_of_the_document_is_a_policy() {
    let text = DOCUMENT.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let (policy, diagnostics) = parse(Source { name: "docs/policy.md", text });
    assert!(policy.is_some() && diagnostics.is_empty(), "{diagnostics:#?}");
}
