// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whether what it says of itself is true.

use aegis_tests::{Case, Rule, aegisbpf};

#[test]
fn a_node_enforces_only_after_a_proof_and_says_which() {
    let case = Case::new();
    let report = case.enforce(Rule::deny("r").file(case.file("secret")));
    assert_eq!(report["runtime_state"], "ENFORCE", "{report}");
    let status = aegisbpf(&["status"]).yes();
    assert_eq!(status["runtime_state"], "ENFORCE", "{status}");
    assert_eq!(status["reason_code"], "PROVEN", "{status}");
    assert_eq!(status["enforce_capable"], true, "{status}");
    assert_eq!(status["generation"], report["generation"], "{status}");
    assert_eq!(status["set_digest"], report["set_digest"], "{status}");
    for found in [&report, &status] {
        let paths = found["proof"]["paths"].as_array().expect("a proof");
        let ways: Vec<&str> = paths.iter().filter_map(|path| path["path"].as_str()).collect();
        assert_eq!(ways, ["by-inode", "by-name", "by-directory"], "{found}");
        assert!(paths.iter().all(|path| path["result"] == "denied_by_us"), "{found}");
    }
    let health = aegisbpf(&["health", "--require-enforce"]).yes();
    assert_eq!(health["healthy"], true, "{health}");
}

/// What decides was taken away behind our back: a node that says ENFORCE then lies.
#[test]
fn a_hook_that_is_gone_is_noticed() {
    let case = Case::new();
    case.enforce(Rule::deny("r").file(case.file("secret")));
    let link = super::life::pins().into_iter().find(|pin| pin.contains("link"));
    let link = link.expect("a pinned link");
    std::fs::remove_file(&link).unwrap();
    let status = aegisbpf(&["status"]).json;
    let health = aegisbpf(&["health"]);
    let required = aegisbpf(&["health", "--require-enforce"]);
    aegisbpf(&["detach", "--reason", "what is left is of no use"]).yes();
    assert_ne!(status["runtime_state"], "ENFORCE", "{status}");
    assert_ne!(health.status, 0, "{}", health.json);
    assert_ne!(required.status, 0, "{}", required.json);
}

#[test]
fn a_node_where_all_is_audit_does_not_enforce() {
    let case = Case::new();
    aegisbpf(&["detach", "--reason", "from the beginning"]).yes();
    let mut policy = case.policy().rule(Rule::deny("r").file(case.file("secret"))).audit();
    policy.name = "t-audit".to_owned();
    let report = case.apply(&policy);
    assert_eq!(report["runtime_state"], "AUDIT", "{report}");
    assert_eq!(aegisbpf(&["health"]).status, 0);
    let health = aegisbpf(&["health", "--require-enforce"]);
    assert_eq!(health.status, 1, "{}", health.json);
}
