// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The configuration: what it changes, and what becomes of a faulty one.

use std::path::Path;

use aegis_tests::{Case, Rule, aegisbpf, config::Written};

#[test]
fn a_faulty_configuration_keeps_what_changes_something_and_nothing_else() {
    let case = Case::new();
    let policy = case.policy().rule(Rule::deny("r").file(case.file("secret")));
    let written = Written::new("enforce_gate_mode = \"open\"\nnonsense = true\n");
    let check = aegisbpf(&["config", "check"]);
    assert_eq!(check.status, 1, "{}", check.json);
    assert_eq!(check.json["faults"].as_array().map(Vec::len), Some(2), "{}", check.json);
    let answer = case.try_apply(&policy);
    answer.refused("BAD_CONFIG", &["config.toml:1:21", "config.toml:2:1", "hint: "]);
    let status = aegisbpf(&["status"]);
    assert_eq!(status.status, 0, "{}", status.json);
    assert!(status.stderr.contains("config.toml:1:21"), "{}", status.stderr);
    aegisbpf(&["detach", "--reason", "it goes without the file"]).yes();
    drop(written);
    case.apply(&policy);
}

#[test]
fn a_configuration_can_forbid_policies_that_nobody_signed() {
    let case = Case::new();
    let policy = case.policy().rule(Rule::deny("r").file(case.file("secret")));
    let written = Written::new("[trust]\nallow_unsigned = \"never\"\n");
    let answer = case.try_apply(&policy);
    answer.refused("UNSIGNED_FORBIDDEN", &["hint: sign it", "trust.allow_unsigned"]);
    let shown = aegisbpf(&["config", "show"]).yes();
    let values = shown["config"].as_array().unwrap();
    let key = values.iter().find(|value| value["key"] == "trust.allow_unsigned").unwrap();
    assert_eq!(key["from"], "/etc/aegisbpf/config.toml:2", "{key}");
    drop(written);
    case.apply(&policy);
}

#[test]
fn directories_of_the_configuration_are_used() {
    let case = Case::new();
    let policy = case.policy().rule(Rule::deny("r").file(case.file("secret")));
    aegisbpf(&["detach", "--reason", "from the beginning", "--purge"]).yes();
    let written =
        Written::new("[directories]\nstate = \"/var/lib/elsewhere\"\nrun = \"/run/elsewhere\"\n");
    case.apply(&policy);
    assert!(Path::new("/var/lib/elsewhere/sets").is_dir());
    assert!(Path::new("/run/elsewhere/proof").is_dir());
    assert!(!Path::new("/var/lib/aegisbpf").exists());
    aegisbpf(&["detach", "--reason", "as it was", "--purge"]).yes();
    drop(written);
}
