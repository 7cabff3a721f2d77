// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Programs of another build take over and are taken over from, and there is no moment in between.
//!
//! The other build is the program with fault points, which passes for one if it is told to.

use std::process::Command;

use aegis_tests::program::{Answer, WITH_FAULTS};

/// Runs a command of the other build; what is to go wrong with it, if anything is.
fn other_build(fault: Option<&str>, arguments: &[&str]) -> Command {
    let mut command = Command::new(WITH_FAULTS);
    command.args(arguments).arg("--json").env_clear().env("AEGIS_BUILD", "7");
    command.envs(fault.map(|fault| ("AEGIS_FAULT", fault)));
    command
}

fn of_other_build(arguments: &[&str]) -> Answer {
    Answer::of(other_build(None, arguments).output().unwrap())
}

mod denial {
    use std::{
        fs,
        os::unix::process::ExitStatusExt as _,
        path::Path,
        sync::{
            Mutex,
            atomic::{AtomicBool, Ordering},
        },
        time::Duration,
    };

    use aegis_tests::{
        Case, Rule, aegisbpf,
        agent::Agent,
        amnesia::AnotherVersion,
        operation::*,
        program::{Stopped, command_with_fault},
        runbook::Desk,
    };
    use serde_json::{Value, json};

    use super::*;
    use crate::life::{newer, pins};

    /// Where a hand-over is taken back.
    const UNDECIDED: &[&str] = &["beside", "beside-proved", "sealed"];

    /// Where it is finished.
    const DECIDED: &[&str] = &["name-free", "name-taken", "others-silent", "others-gone"];

    fn full() -> bool {
        std::env::var_os("AEGIS_FULL").is_some()
    }

    /// Kills the other build's command at a point.
    #[track_caller]
    fn killed(point: &str, arguments: &[&str]) {
        let fault = format!("{point}:kill");
        let output = other_build(Some(&fault), arguments).output().unwrap();
        assert_eq!(output.status.signal(), Some(9), "{point}: {:?}", Answer::of(output));
    }

    #[track_caller]
    fn said(report: &Value, what: &str) {
        let warnings = report["warnings"].to_string();
        assert!(warnings.contains(what), "{what:?} was not said: {report}");
    }

    /// There and back, with every way to be cut off on the way there; what files took along, an emergency,
    /// numbers and events go along.
    #[test]
    fn no_try_succeeds_while_programs_of_another_build_take_over() {
        let case = Case::new();
        let (secret, moved) = (case.file("secret"), case.path("open/moved"));
        case.file("vault/moved");
        case.directory("open");
        let mut attacker = case.inside();
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret), read(case.path("vault/moved"))]);
        let first = case.policy().rule(Rule::deny("r").file(&secret));
        case.apply(&first);
        let policy = first.version(newer()).rule(Rule::deny("v").beneath(case.path("vault")));
        let applied = case.apply(&policy);
        case.denied(&mut inside, "r", &read(&secret));
        let before = applied["generation"].as_u64().unwrap();
        fs::rename(case.path("vault/moved"), &moved).unwrap();
        case.denied(&mut inside, "v", &read(&moved));
        aegisbpf(&["emergency", "disable", "--reason", "a drill", "--for", "1h"]).yes();
        aegisbpf(&["emergency", "enable", "--reason", "it is over"]).yes();
        let thrown = || aegisbpf(&["emergency", "status"]).yes()["toggles"]["count"].as_u64();
        let throws = thrown();
        let file = case.write_policy(&policy);
        let apply = ["apply", file.as_str(), "--allow-unsigned"];
        let (names, over, tries) = (pins(), AtomicBool::new(false), Mutex::new(0));
        let there_then = Mutex::new(Value::Null);
        std::thread::scope(|scope| {
            let attack = scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let mut tries = tries.lock().unwrap();
                    let tried = attacker.perform(&read(&secret));
                    assert_eq!(tried, Tried::Refused(1), "NOT DENIED: try {tries}");
                    *tries += 1;
                    drop(tries);
                    std::thread::sleep(Duration::from_millis(4));
                }
            });
            // Whatever fails here, the attacker ends.
            let ends = Ends(&over);

            // What fails changes nothing, and what is killed before it is decided is taken back.
            for point in if full() { UNDECIDED } else { &[] } {
                let fault = format!("{point}:fail");
                let failed = other_build(Some(&fault), &apply).output().unwrap();
                let why = ["Input/output error", "go on as they were"];
                Answer::of(failed).refused("HANDOVER_FAILED", &why);
                assert_eq!(pins(), names, "{point}");
                killed(point, &apply);
                assert_ne!(pins(), names, "{point}");
                let again = aegisbpf(&apply).yes();
                said(&again, "repaired: programs that were to take over had not");
                assert_eq!(again["changed"], false, "{point}: {again}");
                assert_eq!(again["generation"], before, "{point}: {again}");
                assert_eq!(pins(), names, "{point}");
                let back = aegisbpf(&["rollback", "--reason", "a test", "--dry-run"]).yes();
                assert_eq!(back["from_generation"], before, "{point}: it leads back: {back}");
            }

            // What is killed afterwards is finished by whoever comes next.
            killed("decided", &apply);
            {
                // The switch is thrown for both.
                let _pause = tries.lock().unwrap();
                aegisbpf(&["emergency", "disable", "--reason", "a drill", "--for", "1h"]).yes();
                let tried = inside.perform(&read(&secret));
                assert_eq!(tried, Tried::Allowed, "in an emergency");
                for point in if full() { DECIDED } else { &["name-free", "others-silent"] } {
                    killed(point, &apply);
                    let status = aegisbpf(&["emergency", "status"]).yes();
                    assert_eq!(status["emergency"]["reason"], "a drill", "{point}: {status}");
                    let tried = inside.perform(&read(&secret));
                    assert_eq!(tried, Tried::Allowed, "{point}: in an emergency");
                }
                aegisbpf(&["emergency", "enable", "--reason", "it is over"]).yes();
            }
            case.denied(&mut inside, "r", &read(&secret));
            case.denied(&mut inside, "v", &read(&moved));
            let there = of_other_build(&apply).yes();
            // Those of what was taken back are not used again.
            let used = if full() { before + 1 } else { before };
            assert!(there["generation"].as_u64() > Some(used), "no number twice: {there}");
            *there_then.lock().unwrap() = there.clone();
            assert_eq!(pins().len(), names.len(), "{:?}", pins());
            let status = aegisbpf(&["status"]).yes();
            said(&status, "of another build than this binary");
            assert_eq!(thrown(), throws.map(|throws| throws + 2));

            // If what was asked for besides fails, that much is changed.
            let more = policy.version(newer()).rule(Rule::deny("m").file(case.file("more")));
            let file = case.write_policy(&more);
            let back = ["apply", &file, "--allow-unsigned"];
            let back = Answer::of(command_with_fault("stored:fail", &back).output().unwrap());
            assert!(back.stderr.contains("Input/output error"), "{back:?}");
            assert!(back.stderr.contains("programs of this binary decide now"), "{back:?}");
            assert_eq!(back.json["changed"], true, "{back:?}");
            assert_eq!(pins(), names);
            case.denied(&mut inside, "v", &read(&moved));

            let back = case.apply(&more);
            assert!(back["generation"].as_u64() > there["generation"].as_u64(), "{back}");
            case.denied(&mut inside, "m", &read(case.path("more")));
            let back = aegisbpf(&["rollback", "--reason", "a test"]).yes();
            assert_eq!(back["changed"], true, "{back}");
            case.denied(&mut inside, "v", &read(&moved));
            case.allowed(&mut inside, &read(case.path("more")));
            drop(ends);
            attack.join().unwrap();
        });
        let status = aegisbpf(&["prove"]).yes();
        assert_eq!(status["runtime_state"], "ENFORCE", "{status}");
        assert!(!status["warnings"].to_string().contains("another build"), "{status}");
        assert_eq!(thrown(), throws.map(|throws| throws + 2));
        let log = aegisbpf(&["provenance", "verify"]).json;
        assert_eq!(log["faults"], json!([]), "{log}");
        // Events of all of them are in one order, and none has a number of another.
        let tries = *tries.lock().unwrap();
        let events = case.events();
        let numbers: Vec<u64> = events.iter().filter_map(|event| event["seq"].as_u64()).collect();
        assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
        let generation = |report: &Value| report["generation"].as_u64();
        for of in [Some(before), generation(&there_then.into_inner().unwrap())] {
            assert!(events.iter().any(|event| generation(event) == of), "no event of {of:?}");
        }
        assert!(tries > 100, "{tries}");
        case.forget();
    }

    /// Neither by what puts something in force, nor by what takes something back.
    #[test]
    fn what_another_version_has_made_is_refused_and_goes_on() {
        let (case, secret, mut inside) = Case::of_a_secret();
        let file = case.write_policy(&case.policy().rule(Rule::deny("r").file(&secret)));
        case.denied(&mut inside, "r", &read(&secret));
        let names = pins();
        let passes = AnotherVersion::new();
        let reason = ["--reason", "a test"];
        for command in [
            &["apply", &file, "--allow-unsigned"][..],
            &["start"],
            &[&["rollback"][..], &reason].concat(),
            &[&["emergency", "disable", "--for", "1h"][..], &reason].concat(),
        ] {
            aegisbpf(command).refused("OTHER_VERSION", &["use the aegisbpf that put it there"]);
            assert_eq!(pins(), names, "{command:?}");
        }
        let status = aegisbpf(&["status"]).json;
        assert_ne!(status["runtime_state"], "ENFORCE", "{status}");
        case.denied(&mut inside, "r", &read(&secret));
        drop(passes);
        case.settle();
    }

    /// Takes back one version and then the other, without waiting for anybody: what is rolled back is not
    /// denied by programs that were to take over.
    #[test]
    fn a_rollback_holds_wherever_a_hand_over_is() {
        let case = Case::new();
        let (secret, more) = (case.file("secret"), case.file("more"));
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret), read(&more)]);
        let first = case.policy().version(newer()).rule(Rule::deny("r").file(&secret));
        case.apply(&first);
        let second = first.clone().version(newer()).rule(Rule::deny("m").file(&more));
        case.apply(&second);
        case.denied(&mut inside, "m", &read(&more));
        let names = pins();
        let file = case.write_policy(&second);
        let apply = ["apply", file.as_str(), "--allow-unsigned"];
        let rollback = ["rollback", "--reason", "a test"];

        if full() {
            // Before anything is beside, after what is in force was looked at.
            let other = other_build(Some("cgroups-made:wait"), &apply);
            let stopped = Stopped::of(other, "cgroups-made");
            aegisbpf(&rollback).yes();
            stopped.goes_on().refused("HANDOVER_FAILED", &["something else decides by now"]);
            assert_eq!(pins(), names);
            case.denied(&mut inside, "r", &read(&secret));
            case.allowed(&mut inside, &read(&more));
            aegisbpf(&rollback).yes();
            case.denied(&mut inside, "m", &read(&more));

            // There and back again: ours were silenced on the way.
            let other = other_build(Some("beside-proved:wait"), &apply);
            let stopped = Stopped::of(other, "beside-proved");
            for _ in 0..2 {
                // It is done, and cannot be proved as long as another makes a proof.
                let back = aegisbpf(&rollback).json;
                assert_eq!(back["changed"], true, "{back}");
            }
            stopped.goes_on().refused("HANDOVER_FAILED", &["something else decides by now"]);
            assert_eq!(pins(), names);
            case.denied(&mut inside, "m", &read(&more));
        }

        // While both decide.
        killed("beside-proved", &apply);
        said(&aegisbpf(&["status"]).yes(), "about to take over");
        // Another instance ends nothing of it.
        let (beside, root) = (pins(), case.directory("other"));
        let elsewhere = [&["--root", root.to_str().unwrap()][..], &apply].concat();
        aegisbpf(&elsewhere).refused("OTHER_INSTANCE", &["state directory /var/lib/aegisbpf"]);
        assert_eq!(pins(), beside);
        aegisbpf(&rollback).yes();
        case.allowed(&mut inside, &read(&more));
        case.denied(&mut inside, "r", &read(&secret));
        let ended = aegisbpf(&["start"]).yes();
        said(&ended, "repaired: programs that were to take over had not");
        assert_eq!(pins(), names);
        case.allowed(&mut inside, &read(&more));
        case.settle();
    }

    /// It takes the events of both in their order; and that there was a trust root is known to what took
    /// over, if to nobody else.
    #[test]
    fn an_agent_and_a_trust_root_go_on_with_programs_that_took_over() {
        let (case, secret, mut inside) = Case::of_a_secret();
        case.denied(&mut inside, "r", &read(&secret));
        case.settle();
        let desk = Desk::new();
        let (key, root) = (desk.file("admin.key"), desk.file("root.json"));
        aegisbpf(&["keygen", "-o", &key]).yes();
        aegisbpf(&["trust", "init", "--key", &key, "--expires", "365d", "-o", &root]).yes();
        let shown = aegisbpf(&["trust", "show", &root]).yes();
        let fingerprint = shown["fingerprint"].as_str().unwrap();
        aegisbpf(&["trust", "install", &root, "--fingerprint", fingerprint]).yes();
        let mut agent = Agent::start(&[]);
        agent.says("ENFORCE");
        case.denied(&mut inside, "r", &read(&secret));
        let there = of_other_build(&["start"]).yes();
        assert_eq!(there["changed"], true, "{there}");
        case.denied(&mut inside, "r", &read(&secret));
        case.events_are_taken();
        let events = case.settle();
        let numbers: Vec<u64> = events.iter().filter_map(|event| event["seq"].as_u64()).collect();
        assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
        assert_eq!(events.last().unwrap()["generation"], there["generation"], "{events:?}");
        agent.ends();

        for name in ["trust", "trust-root", "provenance"] {
            let path = Path::new("/var/lib/aegisbpf").join(name);
            fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path)).unwrap();
        }
        let file = case.write_policy(&case.policy().rule(Rule::deny("r").file(&secret)));
        let unsigned = aegisbpf(&["apply", &file, "--allow-unsigned", "--dry-run"]);
        unsigned.refused("UNSIGNED_FORBIDDEN", &["hint: "]);
        let back = aegisbpf(&["start"]).yes();
        assert_eq!(back["changed"], true, "{back}");
        case.denied(&mut inside, "r", &read(&secret));
        case.settle();
    }

    struct Ends<'a>(&'a AtomicBool);

    impl Drop for Ends<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}
