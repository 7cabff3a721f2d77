// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who asks: cgroups by name, whenever they are made, and all that is in them.

use std::fs;

use aegis_tests::{Case, Process, Rule, operation::*};
use rustix::fs::OFlags;

/// Everything that outsiders do goes on as if there were no policy.
#[test]
fn outsiders_are_not_hindered() {
    let case = Case::new();
    let secret = case.file("d/secret");
    let program = case.program("d/bin");
    let other = case.make_cgroup(&format!("{}x", case.workload()));
    let mut outside = Process::inside(&other);
    case.enforce(Rule::deny("r").file(&secret).beneath(case.path("d")));
    let made = case.path("d/made");
    for operation in [
        read(&secret),
        write(&secret),
        list(case.path("d")),
        run(&program),
        open(&made, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL),
    ] {
        case.allowed(&mut outside, &operation);
    }
    fs::metadata(&secret).unwrap();
    fs::rename(&made, case.path("d/renamed")).unwrap();
    fs::remove_file(case.path("d/renamed")).unwrap();
    case.settle();
}

#[test]
fn what_a_rule_watches_is_allowed_and_reported() {
    let case = Case::new();
    let watched = case.file("watched");
    let mut inside = case.inside();
    case.enforce(Rule::audit("watch").file(&watched).access(&["write"]));
    case.reported(&mut inside, "audit", "watch", &write(&watched));
    case.allowed(&mut inside, &read(&watched));
    case.settle();
}

#[test]
fn in_mode_audit_a_denial_is_only_reported() {
    let case = Case::new();
    let secret = case.file("secret");
    let mut inside = case.inside();
    let policy = case.policy().rule(Rule::deny("r").file(&secret)).audit();
    let mut policy = policy;
    policy.name = "t-audit".to_owned();
    case.apply(&policy);
    case.reported(&mut inside, "would_deny", "r", &read(&secret));
    case.settle();
}

mod denial {
    use std::{fs, path::Path};

    use aegis_tests::{Case, Policy, Process, Rule, case::CGROUPS, operation::*};

    #[test]
    fn a_cgroup_that_is_removed_and_made_again_is_the_same_workload() {
        let case = Case::new();
        let secret = case.file("secret");
        let name = format!("{}-service", case.workload());
        let cgroup = case.make_cgroup(&name);
        let mut first = Process::inside(&cgroup);
        case.control(&mut first, &[read(&secret)]);
        let workload = Policy::new("t").workload("w", &[&name]);
        case.apply(&workload.rule(Rule::deny("r").file(&secret)));
        case.denied(&mut first, "r", &read(&secret));
        first.ends();
        fs::remove_dir(&cgroup).unwrap();
        let mut again = Process::inside(&case.make_cgroup(&name));
        case.denied(&mut again, "r", &read(&secret));
        case.settle();
    }

    #[test]
    fn a_workload_that_does_not_exist_yet_is_covered_from_its_first_moment() {
        let case = Case::new();
        let secret = case.file("secret");
        let top = format!("{}-later", case.workload());
        let (middle, name) = (format!("{top}/middle"), format!("{top}/middle/service"));
        let workload = Policy::new("t").workload("w", &[&name]);
        let report = case.apply(&workload.rule(Rule::deny("r").file(&secret)));
        assert_eq!(report["workloads"][0]["cgroups"].as_array().map(Vec::len), Some(0), "{report}");
        case.make_cgroup(&top);
        let mut above = Process::inside(&case.make_cgroup(&middle));
        let mut inside = Process::inside(&case.make_cgroup(&name));
        case.denied(&mut inside, "r", &read(&secret));
        case.allowed(&mut above, &read(&secret));
        case.settle();
    }

    #[test]
    fn a_pattern_takes_what_begins_and_ends_like_it() {
        let case = Case::new();
        let secret = case.file("secret");
        let stem = format!("{}-svc-", case.workload());
        let workload = Policy::new("t").workload("w", &[&format!("{stem}*.service")]);
        let mut members = ["a.service", ".service", "b.c.service"]
            .map(|end| Process::inside(&case.make_cgroup(&format!("{stem}{end}"))));
        let mut others = ["a.service2", "a.servic", "a.scope"]
            .map(|end| Process::inside(&case.make_cgroup(&format!("{stem}{end}"))));
        case.control(&mut members[0], &[read(&secret)]);
        case.apply(&workload.rule(Rule::deny("r").file(&secret)));
        for member in &mut members {
            case.denied(member, "r", &read(&secret));
        }
        for other in &mut others {
            case.allowed(other, &read(&secret));
        }
        let later = case.make_cgroup(&format!("{stem}later.service"));
        case.denied(&mut Process::inside(&later), "r", &read(&secret));
        let below = case.make_cgroup(&format!("{stem}later.service/below"));
        case.denied(&mut Process::inside(&below), "r", &read(&secret));
        case.settle();
    }

    #[test]
    fn whoever_comes_in_is_denied_with_all_threads_and_whoever_leaves_is_free() {
        let case = Case::new();
        let secret = case.file("secret");
        let mut process = Process::outside();
        case.control(&mut process, &[read(&secret), in_thread(&secret)]);
        case.enforce(Rule::deny("r").file(&secret));
        case.allowed(&mut process, &read(&secret));
        let move_to = |cgroup: &Path, process: &Process| {
            fs::write(cgroup.join("cgroup.procs"), process.pid().to_string()).unwrap();
        };
        move_to(&Path::new(CGROUPS).join(case.workload().trim_start_matches('/')), &process);
        case.denied(&mut process, "r", &read(&secret));
        case.denied(&mut process, "r", &in_thread(&secret));
        move_to(Path::new(CGROUPS), &process);
        case.allowed(&mut process, &read(&secret));
        case.settle();
    }

    /// A cgroup is of all workloads that name it or one above it, never of the nearest alone.
    #[test]
    fn a_named_cgroup_below_a_named_cgroup_has_the_rules_of_both() {
        let case = Case::new();
        let (of_parent, of_child) = (case.file("of-parent"), case.file("of-child"));
        let child = format!("{}/child", case.workload());
        let mut inside = Process::inside(&case.make_cgroup(&child));
        let mut parent = case.inside();
        case.control(&mut inside, &[read(&of_parent), read(&of_child)]);
        case.apply(
            &case
                .policy()
                .workload("child", &[&child])
                .rule(Rule::deny("parent").file(&of_parent))
                .rule(Rule::deny("child").of("child").file(&of_child)),
        );
        case.denied(&mut inside, "parent", &read(&of_parent));
        case.denied(&mut inside, "child", &read(&of_child));
        case.denied(&mut parent, "parent", &read(&of_parent));
        case.allowed(&mut parent, &read(&of_child));
        let below = case.make_cgroup(&format!("{child}/below"));
        case.denied(&mut Process::inside(&below), "child", &read(&of_child));
        case.settle();
    }

    /// And the one who must undo it always can.
    #[test]
    fn everybody_is_denied_but_the_operator() {
        let case = Case::new();
        let secret = case.file("secret");
        let other = case.make_cgroup(&format!("{}-unrelated", case.workload()));
        let mut unrelated = Process::inside(&other);
        let mut operator = Process::outside();
        case.control(&mut unrelated, &[read(&secret)]);
        let mut policy = Policy::new("t-all");
        policy = policy.rule(Rule::deny("all").of("*").file(&secret));
        case.apply(&policy);
        case.denied_to_all(&mut unrelated, "all", &read(&secret));
        let mut inside = case.inside();
        case.denied_to_all(&mut inside, "all", &read(&secret));
        operator.joins(&Path::new(CGROUPS).join("aegisbpf/exempt"));
        case.allowed(&mut operator, &read(&secret));
        case.settle();
    }

    /// A rule that takes even the program that undoes it from everybody is undone by it.
    #[test]
    fn the_operator_can_undo_what_denies_everybody_everything() {
        let case = Case::new();
        let program = case.directory("bin").join("aegisbpf");
        fs::copy(std::env::var_os("AEGIS_BIN").unwrap(), &program).unwrap();
        let mut unrelated = Process::outside();
        case.control(&mut unrelated, &[run(&program)]);
        let mut policy = Policy::new("t-all");
        policy = policy.rule(Rule::deny("all").of("*").beneath(case.path("bin")));
        case.apply(&policy);
        unrelated.joins(&case.make_cgroup(&format!("{}-unrelated", case.workload())));
        case.denied_to_all(&mut unrelated, "all", &run(&program));
        case.settle();
        // As from the operator's shell: this test is one process.
        fs::write(Path::new(CGROUPS).join("aegisbpf/exempt/cgroup.procs"), "0").unwrap();
        let arguments = ["remove", "t-all", "--reason", "it denies too much"];
        let removed = std::process::Command::new(&program).args(arguments).output().unwrap();
        assert!(removed.status.success(), "{removed:?}");
        case.allowed(&mut unrelated, &run(&program));
        case.was_removed("t-all");
    }

    #[test]
    fn of_two_policies_either_denies_and_one_that_goes_leaves_the_other() {
        let case = Case::new();
        let (one, two, both) = (case.file("one"), case.file("two"), case.file("both"));
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&one), read(&two), read(&both)]);
        case.enforce(Rule::deny("first").file(&one).file(&both));
        let mut second = case.policy().rule(Rule::deny("second").file(&two).file(&both));
        second.name = "t-second".to_owned();
        case.apply(&second);
        case.denied(&mut inside, "first", &read(&one));
        case.denied(&mut inside, "second", &read(&two));
        // The policy whose name comes first is named.
        case.denied(&mut inside, "first", &read(&both));
        case.removed("t-second");
        case.allowed(&mut inside, &read(&two));
        case.denied(&mut inside, "first", &read(&both));
        case.settle();
    }
}
