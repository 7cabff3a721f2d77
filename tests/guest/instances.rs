// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Two instances on one host: whoever comes second is told whose work is there, and takes nothing of it away.

pub(crate) mod denial {
    use std::{fs, path::Path};

    use aegis_tests::{Case, Policy, Rule, aegisbpf, operation::*, program::Answer};
    use serde_json::Value;

    const EPERM: i32 = 1;

    /// A second instance: a root of its own.
    struct Other {
        root: String,
        flags: Vec<String>,
    }

    impl Other {
        fn new(case: &Case, flags: &[&str]) -> Self {
            let root = case.directory("other").to_str().expect("UTF-8").to_owned();
            Self { root, flags: flags.iter().map(|flag| (*flag).to_owned()).collect() }
        }

        fn asks(&self, arguments: &[&str]) -> Answer {
            let mut all = vec!["--root", &self.root];
            all.extend(self.flags.iter().map(String::as_str));
            all.extend(arguments);
            aegisbpf(&all)
        }

        fn state(&self) -> String {
            format!("{}/var/lib/aegisbpf", self.root)
        }
    }

    #[test]
    fn what_one_instance_has_put_in_force_another_names_and_leaves_as_it_is() {
        let (case, secret, mut inside) = Case::of_a_secret();
        let first = case.enforce(Rule::deny("r").file(&secret));
        case.denied(&mut inside, "r", &read(&secret));
        let policy = Policy::new("u").workload("w", &[&case.workload()]);
        let policy = policy.rule(Rule::deny("s").of("w").file(case.path("pending")));
        let policy = case.write_policy(&policy);
        let other = Other::new(&case, &[]);
        let status = other.asks(&["status"]).yes();
        assert_eq!(status["reason_code"], "OTHER_INSTANCE", "{status}");
        assert_eq!(status["runtime_state"], "DEGRADED", "{status}");
        assert_eq!(status["denies"], true, "{status}");
        let owner = &status["instance"];
        assert_eq!(owner["state_directory"], "/var/lib/aegisbpf", "{status}");
        assert_eq!(aegisbpf(&["status"]).yes()["instance"], *owner);
        assert_eq!(other.asks(&["health"]).status, 1);
        let id = owner["id"].as_str().expect("an instance");
        let why = ["--reason", "a test"];
        // What an earlier test has made the log lose is on record in it.
        let log = || {
            let log = aegisbpf(&["provenance", "verify"]).json;
            assert_eq!(log["faults"], serde_json::json!([]), "{log}");
            log["on_record"].clone()
        };
        let before = log();
        let changes: [&[&str]; 10] = [
            &["apply", &policy, "--allow-unsigned"],
            &["apply", &policy, "--allow-unsigned", "--dry-run"],
            &["remove", "t", why[0], why[1]],
            &["rollback", why[0], why[1]],
            &["rollback", "--to", "1", why[0], why[1]],
            &["confirm"],
            &["start"],
            &["detach", why[0], why[1]],
            &["list"],
            &["events"],
        ];
        // Twice: by then it has a log with refusals, which is another one all the same.
        for _ in 0..2 {
            for change in changes {
                let answer = other.asks(change);
                answer.refused("OTHER_INSTANCE", &[id, "state directory /var/lib/aegisbpf"]);
            }
            fs::create_dir_all(format!("{}/provenance", other.state())).unwrap();
        }
        case.denied(&mut inside, "r", &read(&secret));
        let status = aegisbpf(&["prove"]).yes();
        assert_eq!(status["reason_code"], "PROVEN", "{status}");
        assert_eq!(status["generation"], first["generation"], "{status}");
        assert_eq!(log(), before);
        // Whoever needs an emergency gets one.
        other.asks(&["emergency", "disable", why[0], why[1]]).yes();
        case.reported(&mut inside, "would_deny", "r", &read(&secret));
        aegisbpf(&["emergency", "enable", why[0], why[1]]).yes();
        case.denied(&mut inside, "r", &read(&secret));
        assert_eq!(log(), before);
        case.settle();
        // And what is left of one that is gone can be taken out.
        other.asks(&["detach", "--foreign", why[0], why[1]]).yes();
        case.allowed(&mut inside, &read(&secret));
    }

    #[test]
    fn instances_beside_each_other_find_each_other_and_both_deny() {
        let (case, secret, mut inside) = Case::of_a_secret();
        case.enforce(Rule::deny("r").file(&secret));
        case.denied(&mut inside, "r", &read(&secret));
        fs::create_dir("/sys/fs/bpf/second").expect("a bpffs takes directories");
        let other = Other::new(&case, &["--bpffs", "/sys/fs/bpf/second"]);
        let mine = case.file("mine");
        let policy = Policy::new("u")
            .workload("t", &[&case.workload()])
            .rule(Rule::deny("s").of("t").file(&mine));
        let policy = case.write_policy(&policy);
        other.asks(&["apply", &policy, "--mode", "enforce", "--allow-unsigned"]).yes();
        case.denied(&mut inside, "r", &read(&secret));
        assert_eq!(inside.perform(&read(&mine)), Tried::Refused(EPERM));
        let sees = |status: &Value, pins: &str, state: &str| {
            let others = status["other_instances"].as_array().expect("a list");
            assert_eq!(others.len(), 1, "{status}");
            assert_eq!(others[0]["pins"], pins, "{status}");
            assert_eq!(others[0]["state_directory"], state, "{status}");
            assert_eq!(others[0]["decides"], true, "{status}");
            assert!(status["warnings"].to_string().contains(pins), "{status}");
            assert_eq!(status["reason_code"], "PROVEN", "{status}");
        };
        sees(&aegisbpf(&["prove"]).yes(), "/sys/fs/bpf/second/aegisbpf", &other.state());
        sees(&other.asks(&["prove"]).yes(), "/sys/fs/bpf/aegisbpf", "/var/lib/aegisbpf");
        // One goes, and takes nothing of the other along.
        other.asks(&["detach", "--reason", "a test"]).yes();
        assert!(!Path::new("/sys/fs/bpf/second/aegisbpf").exists());
        fs::remove_dir("/sys/fs/bpf/second").unwrap();
        case.allowed(&mut inside, &read(&mine));
        case.denied(&mut inside, "r", &read(&secret));
        let status = aegisbpf(&["prove"]).yes();
        assert_eq!(status["reason_code"], "PROVEN", "{status}");
        assert_eq!(status["other_instances"], serde_json::json!([]), "{status}");
        case.settle();
    }
}
