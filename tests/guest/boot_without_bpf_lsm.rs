// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A kernel that attaches programs happily and never calls them. In a boot of its own.

use std::path::Path;

use aegis_tests::{Case, Rule, aegisbpf, operation::*};

#[test]
fn a_kernel_that_never_calls_programs_is_refused_and_left_as_it_was() {
    let lsm = std::fs::read_to_string("/sys/kernel/security/lsm").unwrap();
    assert!(!lsm.split(',').any(|name| name == "bpf"), "this is the wrong boot: {lsm}");
    let case = Case::new();
    let secret = case.file("secret");
    let mut inside = case.inside();
    // Asking what a host can do leaves the answer there; what is refused leaves nothing.
    drop(std::fs::remove_dir_all("/var/lib/aegisbpf"));
    let policy = case.policy().rule(Rule::deny("r").file(&secret));
    let answer = case.try_apply(&policy);
    answer.refused(
        "BPF_NOT_IN_LSM",
        &["this host cannot enforce policies", "LSM_PROGRAM_NOT_CALLED", "hint: ", "lsm=", ",bpf`"],
    );
    case.allowed(&mut inside, &read(&secret));
    assert_eq!(super::life::pins(), Vec::<String>::new());
    for path in ["/sys/fs/cgroup/aegisbpf", "/run/aegisbpf", "/var/lib/aegisbpf"] {
        assert!(!Path::new(path).exists(), "{path} is left");
    }
}

#[test]
fn a_kernel_that_never_calls_programs_is_never_said_to_enforce() {
    let status = aegisbpf(&["status"]).yes();
    assert_eq!(status["runtime_state"], "NOT_LOADED", "{status}");
    assert_eq!(status["enforce_capable"], false, "{status}");
    let status = aegisbpf(&["capabilities"]);
    assert_eq!(status.status, 1, "{}", status.json);
    let status = status.json;
    assert_eq!(status["enforce_capable"], false, "{status}");
    assert_eq!(status["requirements_met"], false, "{status}");
    let blockers = status["enforce_blockers"].as_array().unwrap();
    let codes: Vec<&str> = blockers.iter().filter_map(|each| each["code"].as_str()).collect();
    assert_eq!(codes, ["BPF_NOT_IN_LSM", "LSM_PROGRAM_NOT_CALLED"], "{status}");
    assert!(
        blockers.iter().all(|each| each["fix"].as_str().is_some_and(|fix| fix.contains("bpf")))
    );
    for arguments in [&["health"][..], &["health", "--require-enforce"]] {
        assert_eq!(aegisbpf(arguments).status, 1);
    }
}
