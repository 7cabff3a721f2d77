// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whether what it says of itself is true.

use aegis_tests::{Case, Rule, aegisbpf, agent::Agent};
use serde_json::Value;

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

/// Not a health that loads programs, or answers what it does not know.
#[test]
fn health_loads_nothing_changes_nothing_and_believes_no_old_proof() {
    let case = Case::new();
    case.enforce(Rule::deny("r").file(case.file("secret")));
    let before = (programs(), files());
    let health = aegisbpf(&["health", "--require-enforce"]).yes();
    assert!(health["proof_age_seconds"].as_u64().is_some_and(|age| age < 300), "{health}");
    aegisbpf(&["status"]).yes();
    assert_eq!((programs(), files()), before, "loaded, or written");
    // An older proof stands for nothing, and a new one does.
    age_the_proof();
    let health = aegisbpf(&["health"]);
    assert_eq!(health.json["reason_code"], "PROOF_MISSING", "{}", health.json);
    assert_eq!(health.json["runtime_state"], "DEGRADED", "{}", health.json);
    assert_eq!(health.status, 2, "it could not tell");
    assert_eq!(aegisbpf(&["health", "--require-enforce"]).status, 2);
    let proved = aegisbpf(&["prove"]).yes();
    assert_eq!(proved["runtime_state"], "ENFORCE", "{proved}");
    aegisbpf(&["health", "--require-enforce"]).yes();
}

#[test]
fn a_proof_says_what_of_the_policies_the_kernel_has() {
    let case = Case::new();
    let secret = case.file("secret");
    let policy = case.policy().rule(Rule::deny("r").file(&secret).file(case.path("pending")));
    case.apply(&policy);
    let proved = aegisbpf(&["prove"]).yes();
    assert_eq!(proved["proof"]["coverage"]["objects"], 2, "{proved}");
    assert!(proved["proof"]["coverage"]["cgroups"].as_u64() >= Some(1), "{proved}");
    assert_eq!(proved["unbound"], serde_json::json!([]), "{proved}");
    let warnings = proved["warnings"].to_string();
    assert!(warnings.contains("is pending"), "{warnings}");
}

/// Each transition is told once, with its reason, where people and programs look.
#[test]
fn every_transition_is_on_record() {
    let case = Case::new();
    aegisbpf(&["detach", "--reason", "from the beginning", "--purge"]).yes();
    case.enforce(Rule::deny("r").file(case.file("secret")));
    aegisbpf(&["prove"]).yes();
    age_the_proof();
    aegisbpf(&["health"]);
    let events = aegisbpf(&["events"]).yes();
    let of_posture = |event: &&Value| event["event"] == "posture";
    let events: Vec<&Value> =
        events["events"].as_array().unwrap().iter().filter(of_posture).collect();
    assert_eq!(events.len(), 1, "{events:?}");
    aegisbpf(&["detach", "--reason", "the end"]).yes();
    let text = std::fs::read_to_string("/var/lib/aegisbpf/transitions.jsonl").unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<[&str; 3]> = lines
        .iter()
        .map(|line| {
            ["runtime_state", "reason_code", "command"].map(|key| line[key].as_str().unwrap())
        })
        .collect();
    let enforced = ["ENFORCE", "PROVEN", "apply"];
    assert_eq!(told, [enforced, ["NOT_LOADED", "NOT_ATTACHED", "detach"]], "{text}");
    assert_eq!(lines[1]["from"]["runtime_state"], "ENFORCE", "{text}");
}

/// Not a report that is written once and never again.
#[test]
fn the_report_of_capabilities_is_renewed() {
    let case = Case::new();
    case.enforce(Rule::deny("r").file(case.file("secret")));
    let path = "/var/lib/aegisbpf/capabilities.json";
    let report =
        || -> Value { serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap() };
    assert_eq!(report()["enforce_capable"], true, "{}", report());
    std::fs::write(path, "{\"enforce_capable\":false}").unwrap();
    let answer = aegisbpf(&["capabilities"]).yes();
    assert_eq!(answer["recorded"], path, "{answer}");
    assert_eq!(report()["enforce_capable"], true, "{}", report());
    std::fs::remove_file(path).unwrap();
    let mut agent = Agent::start(&[]);
    agent.says("ENFORCE");
    assert_eq!(report()["enforce_capable"], true, "{}", report());
    agent.ends();
}

/// Somebody takes away or replaces what was put there, while the agent runs.
#[test]
fn what_is_tampered_with_is_found_by_the_agent() {
    let case = Case::new();
    case.enforce(Rule::deny("r").file(case.file("secret")));
    for (what, code, replaced) in [
        ("link_file_open", "HOOK_MISSING", false),
        ("events", "PINS_UNREADABLE", false),
        ("objects", "PINS_UNREADABLE", false),
        ("names", "PINS_CHANGED", true),
    ] {
        let mut agent = Agent::start(&[]);
        agent.says("ENFORCE");
        let pin = format!("/sys/fs/bpf/aegisbpf/{what}");
        std::fs::rename(&pin, "/sys/fs/bpf/elsewhere").unwrap();
        if replaced {
            // Another map under the name of one of ours.
            std::fs::hard_link("/sys/fs/bpf/aegisbpf/objects", &pin).unwrap();
        }
        let said = agent.says("DEGRADED");
        assert_eq!(said["reason_code"], code, "{what}: {said}");
        agent.ends();
        let health = aegisbpf(&["health"]);
        assert_ne!(health.status, 0, "{what}: {}", health.json);
        if replaced {
            std::fs::remove_file(&pin).unwrap();
        }
        std::fs::rename("/sys/fs/bpf/elsewhere", &pin).unwrap();
        aegisbpf(&["prove"]).yes();
    }
}

/// The programs that are loaded on this machine, and how much the kernel gives away of them.
fn programs() -> String {
    let output = std::process::Command::new("sh")
        .args([
            "-c",
            "cat /proc/*/fdinfo/* 2>/dev/null | grep -c prog_id; grep -c bpf_prog /proc/kallsyms",
        ])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Every file of ours, with when it was last changed.
fn files() -> Vec<(String, std::time::SystemTime)> {
    let places = ["/run/aegisbpf", "/var/lib/aegisbpf", "/sys/fs/bpf/aegisbpf"];
    let all = places.iter().flat_map(|place| super::life::below(std::path::Path::new(place)));
    all.map(|file| {
        let changed = std::fs::metadata(&file).unwrap().modified().unwrap();
        (file, changed)
    })
    .collect()
}

/// As if it was made ten minutes ago.
fn age_the_proof() {
    let path = "/run/aegisbpf/proof.json";
    let mut proof: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    // A guest is not up for so long: before its boot is no time, so it is another boot's.
    proof["at"] = proof["at"].as_u64().unwrap().saturating_sub(600_000_000_000).into();
    if proof["at"] == 0 {
        proof["boot"] = "another".into();
    }
    std::fs::write(path, proof.to_string()).unwrap();
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
