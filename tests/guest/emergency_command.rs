// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The emergency switch, as an operator throws it: with everything broken that it must not need, on record,
//! and over a reboot.

use std::fs;

use aegis_tests::{
    Case, Rule, aegisbpf,
    agent::Agent,
    config::{FILE, Written},
};
use serde_json::Value;

/// It is asked of what weakens, and of nothing that ends it.
#[test]
fn a_reason_that_the_configuration_does_not_take_is_refused_with_the_pattern() {
    let case = Case::new();
    case.enforce(Rule::deny("r").file(case.file("secret")));
    let written = Written::new("[emergency]\nreason_pattern = \"INC-[0-9]+: .+\"\n");
    let answer = disable("see INC-7: it burns");
    answer.refused("REASON_PATTERN", &["INC-[0-9]+: .+", "hint: ", "emergency.reason_pattern"]);
    assert_eq!(aegisbpf(&["emergency", "status"]).yes()["emergency"], Value::Null);
    let last = last_entry();
    assert_eq!(
        (&last["phase"], &last["error"]["code"]),
        (&"refused".into(), &"REASON_PATTERN".into())
    );
    let disabled = disable("INC-7: it burns").yes();
    assert_eq!(disabled["warnings"], serde_json::json!([]), "{disabled}");
    assert_eq!(last_entry()["effect"], "emergency_disabled");
    // Another one takes the place of the one that holds.
    let longer = ["emergency", "disable", "--reason", "INC-8: more", "--for", "2h", "--guards-too"];
    let longer = aegisbpf(&longer).yes();
    assert_eq!(longer["before"]["reason"], "INC-7: it burns", "{longer}");
    assert_eq!(longer["before"]["guards_too"], false, "{longer}");
    assert_eq!(longer["emergency"]["guards_too"], true, "{longer}");
    assert!(longer["emergency"]["remaining_seconds"].as_u64() > Some(6000), "{longer}");
    enable().yes();
    let last = last_entry();
    assert_eq!(last["effect"], "emergency_enabled", "{last}");
    assert_eq!(last["details"]["thrown_by_uid"], "0", "{last}");
    drop(written);
}

/// What the log has of the last change.
fn last_entry() -> Value {
    let shown = aegisbpf(&["provenance", "show", "--last", "1"]).yes();
    shown["entries"][0]["record"]["entry"].clone()
}

fn disable(reason: &str) -> aegis_tests::program::Answer {
    aegisbpf(&["emergency", "disable", "--reason", reason, "--for", "1h"])
}

fn enable() -> aegis_tests::program::Answer {
    aegisbpf(&["emergency", "enable", "--reason", "the drill is over"])
}

mod denial {
    use std::{fs::File, path::Path};

    use aegis_tests::{Silent, machine::Mounted, operation::*};
    use rustix::{
        fs::{FlockOperation, flock},
        mount::{MountFlags, mount_remount},
    };

    use super::*;

    const STATE: &str = "/var/lib/aegisbpf";

    #[test]
    fn nothing_that_is_broken_keeps_an_emergency_from_acting() {
        let (case, secret, mut inside) = Case::of_a_secret();
        case.denied(&mut inside, "r", &read(&secret));
        let held = File::open("/run/aegisbpf/lock").unwrap();
        flock(&held, FlockOperation::LockExclusive).unwrap();
        let torn = Written::new("[emergency\nreason_pattern = \"never\"\n\0");
        let mut acts = |disk: &str, warned: &str| {
            let disabled = disable("everything burns").yes();
            let warnings = disabled["warnings"].to_string();
            assert!(warnings.contains("configuration"), "{disk}: {disabled}");
            assert!(warnings.contains(warned), "{disk}: {disabled}");
            case.reported(&mut inside, "would_deny", "r", &read(&secret));
            let enabled = enable().yes();
            assert_eq!(enabled["changed"], true, "{disk}: {enabled}");
            assert!(enabled["warnings"].to_string().contains(warned), "{disk}: {enabled}");
            case.denied(&mut inside, "r", &read(&secret));
        };
        let full = Mounted::new("tmpfs", "tmpfs", STATE, "size=4k");
        fs::write(format!("{STATE}/filler"), [0; 4096]).unwrap();
        acts("full", "No space left on device");
        full.unmount();
        let read_only = Mounted::bind(STATE, STATE);
        mount_remount(STATE, MountFlags::BIND | MountFlags::RDONLY, c"").unwrap();
        acts("read-only", "Read-only file system");
        read_only.unmount();
        drop((held, torn));

        // And a state directory that never answers: what is thrown acts, and its command ends.
        let silent = Silent::mounted(Path::new(STATE));
        let disabled = disable("the disk hangs").yes();
        assert!(disabled["warnings"].to_string().contains("does not answer"), "{disabled}");
        case.reported(&mut inside, "would_deny", "r", &read(&secret));
        drop(silent);

        // Whoever looks next puts into the log what could not be.
        let mut agent = Agent::start(&[]);
        agent.tells("put 5 throws of the emergency switch into the log");
        agent.says("EMERGENCY_DISABLED");
        enable().yes();
        agent.says("ENFORCE");
        drop(agent); // as with SIGKILL
        // And a configuration that never answers: nobody knows what it wants of a reason.
        let silent = Silent::mounted(Path::new(FILE).parent().unwrap());
        let disabled = disable("the agent is gone").yes();
        let warnings = disabled["warnings"].to_string();
        assert!(warnings.contains("is not known"), "{disabled}");
        assert!(!warnings.contains("does not answer"), "it is written down: {disabled}");
        drop(silent);
        case.reported(&mut inside, "would_deny", "r", &read(&secret));
        enable().yes();
        case.denied(&mut inside, "r", &read(&secret));
        case.settle();
        let shown = aegisbpf(&["provenance", "show", "--last", "9"]).yes();
        let entries = shown["entries"].as_array().unwrap();
        let of = |command: &str| -> Vec<&str> {
            let entries = entries.iter().map(|entry| &entry["record"]["entry"]);
            let entries = entries.filter(|entry| entry["command"] == command);
            entries.map(|entry| entry["reason"].as_str().unwrap_or("-")).collect()
        };
        let burns = "everything burns";
        assert_eq!(
            of("emergency disable"),
            [burns, burns, "the disk hangs", "the agent is gone"],
            "{shown}"
        );
        assert_eq!(of("emergency enable").len(), 4, "{shown}");
        let verified = aegisbpf(&["provenance", "verify"]).json;
        assert_eq!(verified["faults"], serde_json::json!([]), "{verified}");
    }

    /// The pins are what a reboot takes away; what is on the disk stays.
    #[test]
    fn an_emergency_that_has_not_ended_goes_on_after_a_reboot() {
        let (case, secret, mut inside) = Case::of_a_secret();
        case.denied(&mut inside, "r", &read(&secret));
        case.settle();
        let before = disable("a drill").yes();
        assert!(Path::new("/var/lib/aegisbpf/emergency.json").exists(), "{before}");
        let (directories, files): (Vec<_>, Vec<_>) =
            crate::life::pins().into_iter().partition(|pin| Path::new(pin).is_dir());
        files.iter().for_each(|pin| fs::remove_file(pin).unwrap());
        directories.iter().rev().for_each(|pin| fs::remove_dir(pin).unwrap());
        fs::remove_dir_all("/run/aegisbpf").unwrap();
        disable("too early").refused("NOT_ATTACHED", &["hint: "]);

        let report = case.enforce(Rule::deny("r").file(&secret));
        assert_eq!(report["runtime_state"], "EMERGENCY_DISABLED", "{report}");
        assert!(report["warnings"].to_string().contains("an emergency goes on"), "{report}");
        case.allowed(&mut inside, &read(&secret));
        let status = aegisbpf(&["status"]).yes();
        assert_eq!(status["emergency"]["reason"], "a drill", "{status}");
        assert_eq!(status["emergency"]["until"], before["emergency"]["until"], "{status}");
        assert_eq!(status["emergency_toggles"]["count"], 1, "{status}");

        enable().yes();
        assert!(!Path::new("/var/lib/aegisbpf/emergency.json").exists());
        assert_eq!(inside.perform(&read(&secret)), Tried::Refused(1));
        let often = || aegisbpf(&["status"]).yes()["warnings"].to_string();
        let twice = often();
        assert!(!twice.contains("emergency switch"), "{twice}");
        // The third and fourth time within an hour.
        disable("another drill").yes();
        enable().yes();
        let warned = often();
        assert!(warned.contains("emergency switch was thrown 4 times"), "{warned}");
        case.forget();
    }
}
