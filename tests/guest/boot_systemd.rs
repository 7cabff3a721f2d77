// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Our units, as systemd runs them. In a boot of its own, where it is the first process.

use std::process::Command;

use aegis_tests::{Case, aegisbpf, operation::*};
use serde_json::Value;

const LOAD: &str = "aegisbpf-load.service";
const AGENT: &str = "aegisbpf.service";

/// What a command of systemd says; it must succeed.
#[track_caller]
fn told(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap());
    assert!(output.status.success(), "{program} {arguments:?}: {out}{err}{}", journal());
    out.trim().to_owned()
}

/// What there is to read where a unit failed.
fn journal() -> String {
    let output = Command::new("journalctl")
        .args(["--boot", "--no-pager", "--lines", "30"])
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[track_caller]
fn property(unit: &str, name: &str) -> String {
    told("systemctl", &["show", "--property", name, "--value", unit])
}

/// Transitions that the journal has of a unit.
#[track_caller]
fn transitions(unit: &str) -> Vec<Value> {
    let id = "MESSAGE_ID=7d0c5a9b3e1f4d6c8a2b90f1e3d4c5b6";
    let lines = told("journalctl", &["--boot", "--output", "json", "--unit", unit, id]);
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_units_put_what_was_confirmed_in_force_and_keep_an_agent() {
    told("systemd-analyze", &["verify", LOAD, AGENT]);
    // A node without a policy: the one ends well, the other waits until it can be proved.
    told("systemctl", &["start", LOAD]);
    assert_eq!(property(LOAD, "Result"), "success");
    let (case, secret, mut inside) = Case::of_a_secret();
    case.denied(&mut inside, "r", &read(&secret));
    case.settle();

    // As after a boot: nothing of ours is in the kernel.
    told("systemctl", &["stop", LOAD]);
    case.denied(&mut inside, "r", &read(&secret));
    case.settle();
    aegisbpf(&["detach", "--reason", "as after a boot"]).yes();
    case.allowed(&mut inside, &read(&secret));
    told("systemctl", &["start", AGENT]);
    // It is wanted by the agent, and was before it.
    assert_eq!(property(LOAD, "ActiveState"), "active");
    assert_eq!(property(LOAD, "Result"), "success");
    case.denied(&mut inside, "r", &read(&secret));
    // Started, it is proved.
    let health = aegisbpf(&["health", "--require-enforce"]).yes();
    assert_eq!(health["runtime_state"], "ENFORCE", "{health}");
    let status = property(AGENT, "StatusText");
    assert!(status.starts_with("ENFORCE"), "{status}");

    let enforces = |entry: &Value| entry["AEGISBPF_RUNTIME_STATE"] == "ENFORCE";
    let said = transitions(AGENT);
    assert!(said.iter().any(enforces), "{said:?}{}", journal());

    told("systemctl", &["reload", AGENT]);
    assert_eq!(property(AGENT, "ActiveState"), "active");
    // Killed, it comes again, and nothing is allowed in between.
    let first = property(AGENT, "MainPID");
    told("systemctl", &["kill", "--signal", "KILL", AGENT]);
    while property(AGENT, "NRestarts") != "1" || property(AGENT, "ActiveState") != "active" {
        case.denied(&mut inside, "r", &read(&secret));
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    assert_ne!(property(AGENT, "MainPID"), first);
    assert_eq!(property(AGENT, "WatchdogUSec"), "1min");
    told("systemctl", &["stop", AGENT, LOAD]);
    assert_eq!(property(AGENT, "Result"), "success");
    case.denied(&mut inside, "r", &read(&secret));
    case.forget();
}
