// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Commands that are stopped at a point, where the kernel or another command acts before they go on: what the next
//! boot begins with is what was confirmed, whoever comes when.

mod denial {
    use std::fs;

    use aegis_tests::{
        Case, Process, Rule, aegisbpf, operation::*, policy::newer_version, program::Stopped,
    };
    use rustix::mount::{UnmountFlags, mount_bind, unmount};
    use serde_json::Value;

    use crate::{
        rollback::denial::Two,
        trust::{bundle, with_a_root},
    };

    /// The number of what the next boot begins with.
    fn noted() -> Value {
        let text = fs::read_to_string("/var/lib/aegisbpf/confirmed.json").unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["generation"].clone()
    }

    #[test]
    fn a_deadline_that_passes_before_apply_has_ended_confirms_nothing_and_accepts_nothing() {
        let (two, mut inside) = Two::new();
        let (case, old, new) = (&two.case, &two.old, &two.new);
        let first = two.deny(old, &[]);
        case.denied(&mut inside, "r", &read(old));
        let desk = with_a_root();
        let version = newer_version();
        let later = bundle(&desk, &two.policy(new).version(version + 1), "later.bundle");
        let apply = Stopped::at("proved-again", &["apply", &later, "--confirm-within", "4s"]);
        assert_eq!(inside.perform(&read(new)), Tried::Refused(1), "it decides");
        // It ends by nothing but the time.
        while inside.perform(&read(new)) != Tried::Allowed {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        let applied = apply.goes_on().yes();
        assert_eq!(applied["changed"], true, "{applied}");
        assert_eq!(noted(), first["generation"], "what nobody confirmed is noted");
        // A version below the one that nobody confirmed is none that is too low.
        let lower = bundle(&desk, &two.policy(new).version(version), "lower.bundle");
        aegisbpf(&["apply", &lower, "--dry-run"]).yes();
        case.denied(&mut inside, "r", &read(old));
        case.forget();
    }

    #[test]
    fn what_the_next_boot_begins_with_is_what_decides_wherever_a_rollback_comes_in_between() {
        let (two, mut inside) = Two::new();
        let (case, old, new) = (&two.case, &two.old, &two.new);
        let first = two.deny(old, &[]);
        case.denied(&mut inside, "r", &read(old));
        let change = |denied| {
            let file = case.write_policy(&two.policy(denied).version(newer_version()));
            ["apply".to_owned(), file, "--allow-unsigned".to_owned()]
        };
        let back = ["rollback", "--reason", "a test"];

        // It has looked what decides, and is about to note it.
        let apply = Stopped::at("noting", &change(new));
        case.denied(&mut inside, "r", &read(new));
        // The second file that a rollback writes is of its proof.
        let rollback = Stopped::at_visit("write-begun", 2, &back);
        case.denied(&mut inside, "r", &read(old));
        let applied = apply.goes_on().yes();
        let rolled = rollback.goes_on().yes();
        assert_eq!(rolled["generation"], first["generation"], "{rolled}");
        case.denied(&mut inside, "r", &read(old));
        assert_eq!(noted(), first["generation"], "{applied}");

        // A rollback is about to note what it led to, and an apply puts something else in force meanwhile.
        let third = case.file("third");
        let apply = Stopped::at("log-begun", &change(&third));
        let rollback = Stopped::at("noting", &back);
        case.denied(&mut inside, "r", &read(new));
        let applied = apply.goes_on().yes();
        let rolled = rollback.goes_on();
        assert_eq!((rolled.status, &rolled.json["changed"]), (1, &Value::Bool(true)), "{rolled:?}");
        case.denied(&mut inside, "r", &read(&third));
        assert_eq!(noted(), applied["generation"], "{}", rolled.json);
        case.forget();
    }

    /// What has acted is no failure.
    #[test]
    fn a_rollback_that_cannot_be_proved_says_that_it_happened() {
        let (two, mut inside) = Two::new();
        let (case, old, new) = (&two.case, &two.old, &two.new);
        let first = two.deny(old, &[]);
        two.deny(new, &[]);
        case.denied(&mut inside, "r", &read(new));
        let scratch = "/sys/fs/cgroup/aegisbpf/scratch/cgroup.procs";
        mount_bind("/proc/version", scratch).unwrap();
        let rolled = aegisbpf(&["rollback", "--reason", "a test"]);
        unmount(scratch, UnmountFlags::empty()).unwrap();
        assert_eq!(rolled.status, 1, "{rolled:?}");
        assert_eq!(rolled.json["changed"], true, "{rolled:?}");
        assert_ne!(rolled.json["runtime_state"], "ENFORCE", "{rolled:?}");
        case.denied(&mut inside, "r", &read(old));
        case.allowed(&mut inside, &read(new));
        assert_eq!(noted(), first["generation"], "what was taken back comes with the next boot");
        let history = aegisbpf(&["history", "--last", "1"]).yes();
        assert_eq!(history["changes"][0]["command"], "rollback", "{history}");
        // What an earlier test has made its log lose is on record, and no fault.
        let log = aegisbpf(&["provenance", "verify"]).json;
        assert_eq!(log["faults"], serde_json::json!([]), "{log}");
        case.settle();
    }

    /// The hooks write it down in the set that is being filled before what is known of it comes there.
    #[test]
    fn what_leaves_one_more_place_during_an_apply_stays_denied_by_the_rules_of_both() {
        let case = Case::new();
        let other = format!("{}-other", case.workload());
        let mut processes = [case.inside(), Process::inside(&case.make_cgroup(&other))];
        let (one, two) = (case.directory("one"), case.directory("two"));
        let (file, left) = (case.file("one/file"), case.path("left"));
        for process in &mut processes {
            case.control(process, &[read(&file)]);
        }
        let policy = case.policy().workload("other", &[&other]);
        let policy = policy
            .rule(Rule::deny("one").beneath(&one))
            .rule(Rule::deny("two").of("other").beneath(&two));
        case.apply(&policy);
        fs::rename(&file, &left).unwrap();
        case.denied(&mut processes[0], "one", &read(&left));
        case.allowed(&mut processes[1], &read(&left));

        let newer = case.write_policy(&policy.version(newer_version()));
        let apply = Stopped::at("filled", &["apply", &newer, "--allow-unsigned"]);
        fs::rename(&left, two.join("file")).unwrap();
        fs::rename(two.join("file"), &left).unwrap();
        let applied = apply.goes_on().yes();
        assert_eq!(applied["changed"], true, "{applied}");
        case.denied(&mut processes[0], "one", &read(&left));
        case.denied(&mut processes[1], "two", &read(&left));
        // Of nothing else: that set was not taken for all that there is.
        let neighbour = case.file("neighbour");
        case.allowed(&mut processes[0], &read(&neighbour));
        case.settle();
    }
}
