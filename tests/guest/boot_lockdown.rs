// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A kernel that keeps its memory to itself, and so refuses programs that read it. In a boot of its own.

use std::fs;

use aegis_tests::{Case, Rule, aegisbpf, operation::*};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

const SECURITYFS: &str = "/sys/kernel/security";

#[test]
fn a_kernel_that_is_locked_down_is_refused_or_falls_back_and_says_why() {
    let lockdown = fs::read_to_string(format!("{SECURITYFS}/lockdown")).unwrap();
    assert!(lockdown.contains("[confidentiality]"), "this is the wrong boot: {lockdown}");
    let case = Case::new();
    let secret = case.file("secret");
    let mut inside = case.inside();
    let policy = case.write_policy(&case.policy().rule(Rule::deny("r").file(&secret)));
    let mut ask = |code: &[&str]| {
        let apply = ["apply", &policy, "--allow-unsigned"];
        let refused = aegisbpf(&apply);
        assert_eq!(refused.status, 1, "{} {}", refused.json, refused.stderr);
        let found = refused.json["error_code"].as_str().unwrap_or_default().to_owned();
        assert!(code.contains(&found.as_str()), "{}", refused.json);
        let blockers = refused.json["enforce_blockers"].as_array().unwrap();
        assert!(
            blockers.iter().all(|each| each["fix"].as_str().is_some_and(|fix| !fix.is_empty()))
        );
        let fallback = [&apply[..], &["--enforce-gate-mode", "audit-fallback"]].concat();
        let fallback = aegisbpf(&fallback).yes();
        assert_eq!(fallback["runtime_state"], "AUDIT_FALLBACK", "{fallback}");
        assert_eq!(fallback["denies"], false, "{fallback}");
        case.allowed(&mut inside, &read(&secret));
        assert_eq!(super::life::pins(), Vec::<String>::new());
        assert_eq!(aegisbpf(&["health", "--require-enforce"]).status, 1);
        aegisbpf(&["detach", "--reason", "a fresh host", "--purge"]).yes();
    };
    ask(&["LOCKDOWN"]);
    // Where no file tells, trying does: the verifier refuses.
    unmount(SECURITYFS, UnmountFlags::DETACH).unwrap();
    ask(&["LSM_PROGRAM_REFUSED", "PROGRAMS_REFUSED"]);
    mount("securityfs", SECURITYFS, "securityfs", MountFlags::empty(), None).unwrap();
}
