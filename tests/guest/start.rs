// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The start of a host: what is in the state directory comes into force, and nothing else.

use std::{fs, path::Path};

use aegis_tests::{Case, Rule, aegisbpf, machine::Mounted};

#[test]
fn a_kernel_command_line_keeps_us_out() {
    let case = Case::new();
    let policy = case.policy().rule(Rule::deny("r").file(case.file("secret")));
    aegisbpf(&["detach", "--reason", "the host starts"]).yes();
    // There is a log, as on a host that had policies before.
    fs::create_dir_all("/var/lib/aegisbpf/provenance").unwrap();
    let line = fs::read_to_string("/proc/cmdline").unwrap();
    fs::write("/tmp/cmdline", format!("{} aegisbpf=off\n", line.trim_end())).unwrap();
    let off = Mounted::bind("/tmp/cmdline", "/proc/cmdline");
    for arguments in [&["start"][..], &["apply", &case.write_policy(&policy), "--allow-unsigned"]] {
        aegisbpf(arguments).refused("SWITCHED_OFF", &["aegisbpf=off", "without that word"]);
    }
    let status = aegisbpf(&["status"]).yes();
    assert_eq!(status["reason_code"], "NOT_ATTACHED", "{status}");
    assert!(status["warnings"].to_string().contains("aegisbpf=off"), "{status}");
    assert!(!Path::new("/sys/fs/bpf/aegisbpf").exists());
    let log = aegisbpf(&["provenance", "show", "--last", "1"]).yes();
    assert_eq!(log["entries"][0]["record"]["entry"]["error"]["code"], "SWITCHED_OFF", "{log}");
    off.unmount();
}

#[test]
fn where_nothing_was_confirmed_nothing_comes_into_force() {
    let _case = Case::new();
    aegisbpf(&["detach", "--reason", "nothing is loaded", "--purge"]).yes();
    let start = aegisbpf(&["start"]).yes();
    assert_eq!(start["changed"], false, "{start}");
    assert!(!Path::new("/sys/fs/bpf/aegisbpf").exists());
    fs::create_dir_all("/var/lib/aegisbpf").unwrap();
    fs::write("/var/lib/aegisbpf/confirmed.json", "{").unwrap();
    aegisbpf(&["start"]).failed(&["confirmed.json is torn"]);
    fs::remove_file("/var/lib/aegisbpf/confirmed.json").unwrap();
}

mod denial {
    use std::{fs, path::Path};

    use aegis_tests::{Case, Rule, aegisbpf, operation::*};

    /// Neither more nor less than what was confirmed; and what decides goes on being counted from there.
    #[test]
    fn what_was_confirmed_comes_into_force_and_what_was_not_does_not() {
        let (case, secret, mut inside) = Case::of_a_secret();
        case.denied(&mut inside, "r", &read(&secret));
        let other = case.file("other");
        let unconfirmed = case.policy().rule(Rule::deny("r").file(&other));
        let unconfirmed = case.apply_with(&unconfirmed, &["--confirm-within", "1h"]);
        case.denied(&mut inside, "r", &read(&other));
        case.settle();
        aegisbpf(&["detach", "--reason", "the host starts"]).yes();
        case.allowed(&mut inside, &read(&secret));
        let started = aegisbpf(&["start"]).yes();
        assert_eq!(started["runtime_state"], "ENFORCE", "{started}");
        assert!(started["generation"].as_u64() > unconfirmed["generation"].as_u64(), "{started}");
        case.denied(&mut inside, "r", &read(&secret));
        case.allowed(&mut inside, &read(&other));
        let again = aegisbpf(&["start"]).yes();
        assert_eq!(again["changed"], false, "{again}");
        assert_eq!(again["generation"], started["generation"], "{again}");
        let log = aegisbpf(&["provenance", "verify"]).yes();
        assert_eq!(log["whole"], true, "{log}");
        case.forget();
    }

    /// A policy that keeps a host from coming up must not do so for ever.
    #[test]
    fn after_starts_that_ended_badly_policies_only_report() {
        let (case, secret, mut inside) = Case::of_a_secret();
        case.denied(&mut inside, "r", &read(&secret));
        case.settle();
        aegisbpf(&["detach", "--reason", "the host starts"]).yes();
        let starts = "/var/lib/aegisbpf/starts.json";
        fs::write(starts, "{\"unsettled\":3,\"boot\":\"the one before\"}").unwrap();
        let started = aegisbpf(&["start"]).yes();
        assert_eq!(started["runtime_state"], "AUDIT", "{started}");
        case.reported(&mut inside, "would_deny", "r", &read(&secret));
        let status = aegisbpf(&["status"]).yes();
        let told = "the last 3 starts of this host did not end with a node in order";
        assert!(status["warnings"].to_string().contains(told), "{status}");
        // Whoever applies is there to see what comes of it.
        case.enforce(Rule::deny("r").file(&secret));
        case.denied(&mut inside, "r", &read(&secret));
        assert!(!Path::new(starts).exists());
        case.forget();
    }
}
