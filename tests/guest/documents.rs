// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What documents tell people to type exists, and what is shipped works on a bare host.

use aegis_tests::{
    aegisbpf,
    documents::{POLICIES, faults},
    program::aegisbpf_for_people,
};

#[test]
fn every_command_and_flag_in_the_documents_exists() {
    let help = |verbs: &[&str]| {
        let arguments: Vec<&str> = verbs.iter().copied().chain(["--help"]).collect();
        let (status, stdout, _) = aegisbpf_for_people(&arguments);
        assert_eq!(status, 0);
        stdout
    };
    let faults = faults("aegisbpf", help);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Nothing of what they speak about is there.
#[test]
fn every_shipped_policy_can_be_applied() {
    for (name, text) in POLICIES {
        let file = format!("/tmp/{name}");
        std::fs::write(&file, text).unwrap();
        let report = aegisbpf(&["apply", &file, "--allow-unsigned", "--dry-run"]).yes();
        assert!(report["policies"].as_array().is_some_and(|all| !all.is_empty()), "{report}");
    }
    assert!(!POLICIES.is_empty());
}
