// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Each prerequisite taken away, in both gate modes, on a fresh host and on one that enforces: what a command
//! answers, what the node says of itself, and what an open really does.
//!
//! In no cell says anything `ENFORCE` while the open succeeds, and none takes away what is pinned. What needs
//! a boot of its own (`lsm=` without bpf, lockdown) is in the module of that boot.

use std::{fs, path::Path, process::Command};

use aegis_tests::{
    Case, Rule, aegisbpf,
    operation::*,
    program::{Answer, command},
};
use rustix::{
    mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount},
    thread::{CapabilitySet, remove_capability_from_bounding_set},
};

const MODES: [&str; 2] = ["fail-closed", "audit-fallback"];

/// Runs a command while something is missing.
type Without = fn(&[&str]) -> Answer;

/// What is missing, and the code of its blocker.
const MISSING: [(&str, Without); 5] = [
    ("NO_BTF", without_types),
    ("NO_BPFFS", without_bpffs),
    ("NO_CGROUP2", without_cgroup2),
    ("NO_CAPABILITY", without_capability),
    ("NOT_HOST_NAMESPACE", in_a_namespace),
];

/// Proofs: everything is there, and what was to be denied is not, or nobody can try.
const UNPROVEN: [(&str, Without); 2] =
    [("PROOF_FAILED", with_a_proof_that_fails), ("PROOF_FAILED", with_a_proof_that_cannot_run)];

#[test]
fn a_fresh_host_that_lacks_something_is_never_said_to_enforce() {
    let case = Case::new();
    for (code, without) in MISSING {
        for mode in MODES {
            fresh(&case, code, mode, without);
        }
    }
}

/// All programs are loaded for each of these, which takes long: half of the cells, the rest in full.
#[test]
fn a_fresh_host_without_a_proof_is_never_said_to_enforce() {
    let case = Case::new();
    let full = std::env::var_os("AEGIS_FULL").is_some();
    for (number, (code, without)) in UNPROVEN.into_iter().enumerate() {
        for (other, mode) in MODES.into_iter().enumerate() {
            if full || number == other {
                fresh(&case, code, mode, without);
            }
        }
    }
}

/// A host on which nothing of ours is.
fn fresh(case: &Case, code: &str, mode: &str, without: Without) {
    let cell = format!("{code}, {mode}, fresh");
    aegisbpf(&["detach", "--reason", "a fresh host", "--purge"]).yes();
    let secret = case.file("secret");
    let mut inside = case.inside();
    let policy = case.write_policy(&case.policy().rule(Rule::deny("r").file(&secret)));
    asked(&cell, code, mode, &policy, without);
    case.allowed(&mut inside, &read(&secret));
    let fallback = mode == "audit-fallback";
    let state = if fallback { "AUDIT_FALLBACK" } else { "NOT_LOADED" };
    let status = aegisbpf(&["status"]).yes();
    assert_eq!(status["runtime_state"], state, "{cell}: {status}");
    let health = aegisbpf(&["health"]);
    assert_eq!(health.status, i32::from(!fallback), "{cell}: {}", health.json);
    let required = aegisbpf(&["health", "--require-enforce"]);
    assert_ne!(required.status, 0, "{cell}: {}", required.json);
    assert_eq!(crate::life::pins(), Vec::<String>::new(), "{cell}");
    aegisbpf(&["detach", "--reason", "a fresh host", "--purge"]).yes();
}

/// A host that enforces.
fn enforcing(cells: &[(&str, Without)]) {
    let case = Case::new();
    let (secret, other) = (case.file("secret"), case.file("other"));
    let mut inside = case.inside();
    case.control(&mut inside, &[read(&secret), read(&other)]);
    case.enforce(Rule::deny("r").file(&secret));
    case.denied(&mut inside, "r", &read(&secret));
    let newer = case.write_policy(&case.policy().rule(Rule::deny("r").file(&other)));
    for (code, without) in cells {
        for mode in MODES {
            let cell = format!("{code}, {mode}, enforcing");
            asked(&cell, code, mode, &newer, *without);
            case.denied(&mut inside, "r", &read(&secret));
            case.allowed(&mut inside, &read(&other));
            let proved = aegisbpf(&["prove"]);
            assert_eq!(proved.json["runtime_state"], "ENFORCE", "{cell}: {}", proved.json);
        }
    }
    case.settle();
}

/// Asks for a policy while something is missing; what is said of it, and that it is said.
fn asked(cell: &str, code: &str, mode: &str, policy: &str, without: Without) {
    let apply = ["apply", policy, "--allow-unsigned", "--enforce-gate-mode", mode];
    let answer = without(&apply);
    let fallback = mode == "audit-fallback";
    assert_eq!(answer.status, i32::from(!fallback), "{cell}: {} {}", answer.json, answer.stderr);
    let blockers = answer.json["enforce_blockers"].as_array().cloned().unwrap_or_default();
    let of = |key: &str| -> Vec<String> {
        let texts = blockers.iter().filter_map(|blocker| blocker[key].as_str());
        texts.map(str::to_owned).collect()
    };
    if !fallback && code == "PROOF_FAILED" {
        assert_eq!(answer.json["error_code"], code, "{cell}: {}", answer.json);
    } else {
        assert!(of("code").iter().any(|found| found == code), "{cell}: {}", answer.json);
        assert!(of("fix").iter().all(|fix| !fix.is_empty()), "{cell}: {}", answer.json);
    }
    assert_eq!(answer.json["changed"], false, "{cell}: {}", answer.json);
    // What was in force before may well go on being enforced; the open tells.
    if cell.ends_with("fresh") {
        assert_ne!(answer.json["runtime_state"], "ENFORCE", "{cell}");
    }
    // An agent is no way around the gate.
    if !fallback && code != "PROOF_FAILED" {
        let agent = without(&["run", "--enforce-gate-mode", mode]);
        assert_eq!(agent.status, 1, "{cell}: {} {}", agent.json, agent.stderr);
        assert_eq!(agent.json["error_code"], code, "{cell}: {}", agent.json);
    }
}

fn without_types(arguments: &[&str]) -> Answer {
    below_a_mount("/sys/kernel/btf", arguments)
}

fn without_bpffs(arguments: &[&str]) -> Answer {
    below_a_mount("/sys/fs/bpf", arguments)
}

fn below_a_mount(path: &str, arguments: &[&str]) -> Answer {
    mount("tmpfs", path, "tmpfs", MountFlags::empty(), None).unwrap();
    let answer = aegisbpf(arguments);
    unmount(path, UnmountFlags::empty()).unwrap();
    answer
}

fn without_cgroup2(arguments: &[&str]) -> Answer {
    let path = "/sys/fs/cgroup";
    unmount(path, UnmountFlags::DETACH).unwrap();
    let answer = aegisbpf(arguments);
    mount("cgroup2", path, "cgroup2", MountFlags::empty(), None).unwrap();
    answer
}

/// Capabilities belong to a thread, so this takes one of its own.
fn without_capability(arguments: &[&str]) -> Answer {
    let mut command = command(arguments);
    let run = std::thread::spawn(move || {
        for capability in [CapabilitySet::SYS_ADMIN, CapabilitySet::BPF, CapabilitySet::PERFMON] {
            remove_capability_from_bounding_set(capability).unwrap();
        }
        Answer::of(command.output().unwrap())
    });
    run.join().unwrap()
}

fn in_a_namespace(arguments: &[&str]) -> Answer {
    let inner = command(arguments);
    let mut outer = Command::new("/bin/busybox");
    outer.args(["unshare", "-m"]).arg(inner.get_program()).args(inner.get_args());
    Answer::of(outer.output().unwrap())
}

/// What is to enter the scratch cgroup enters the exempt one, and nothing is denied there.
fn with_a_proof_that_fails(arguments: &[&str]) -> Answer {
    with_in_place_of_scratch("/sys/fs/cgroup/aegisbpf/exempt/cgroup.procs", arguments)
}

/// Nothing can enter the scratch cgroup.
fn with_a_proof_that_cannot_run(arguments: &[&str]) -> Answer {
    with_in_place_of_scratch("/proc/version", arguments)
}

fn with_in_place_of_scratch(file: &str, arguments: &[&str]) -> Answer {
    let own = Own::make();
    mount_bind(file, SCRATCH).unwrap();
    let answer = aegisbpf(arguments);
    unmount(SCRATCH, UnmountFlags::empty()).unwrap();
    drop(own);
    answer
}

/// Our cgroups, made before any command makes them; those that were not there go again.
struct Own(Vec<&'static str>);

impl Own {
    fn make() -> Self {
        let paths = [
            "/sys/fs/cgroup/aegisbpf",
            "/sys/fs/cgroup/aegisbpf/exempt",
            "/sys/fs/cgroup/aegisbpf/scratch",
        ];
        let fresh = paths.into_iter().filter(|path| !Path::new(path).exists());
        let fresh: Vec<&str> = fresh.collect();
        for path in &fresh {
            fs::create_dir(path).unwrap();
        }
        Self(fresh)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            drop(fs::remove_dir(path));
        }
    }
}

const SCRATCH: &str = "/sys/fs/cgroup/aegisbpf/scratch/cgroup.procs";

mod denial {
    use super::*;

    #[test]
    fn what_is_missing_takes_no_enforcement_away() {
        enforcing(&MISSING);
    }

    #[test]
    fn a_proof_that_fails_takes_no_enforcement_away() {
        enforcing(&UNPROVEN);
    }
}
