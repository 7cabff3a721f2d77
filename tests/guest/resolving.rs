// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What stands at the paths of policies is looked at: in time, once more, and by all of its names.

mod denial {
    use std::{
        fs,
        io::{BufRead as _, BufReader},
        os::unix::fs::symlink,
        path::Path,
        process::{Command, Stdio},
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
        thread::JoinHandle,
        time::Duration,
    };

    use aegis_tests::{Automount, Case, Rule, Silent, aegisbpf, operation::*, program::command};
    use serde_json::Value;

    use rustix::{
        fs::{CWD, RenameFlags, renameat_with},
        mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount},
    };

    #[test]
    fn a_filesystem_that_never_answers_holds_no_command() {
        let case = Case::new();
        let secret = case.file("secret");
        let silent = case.directory("silent");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret)]);
        let rule = || Rule::deny("r").file(&secret).file(silent.join("below/x"));
        case.enforce(rule());
        case.denied(&mut inside, "r", &read(&secret));
        let mounted = Silent::mounted(&silent);
        let newer = case.policy().rule(rule().file(case.path("more")));
        let answer = case.try_apply_with(&newer, &["--resolve-within", "2s"]);
        let about = silent.display().to_string();
        answer.refused(
            "NO_ANSWER",
            &["no answer within 2 s", &about, "hint: mend or unmount the fuse"],
        );
        case.denied(&mut inside, "r", &read(&secret));
        // A mount came on the way to an object, and nobody can say what is there now.
        let status = aegisbpf(&["prove", "--resolve-within", "2s"]);
        assert_eq!(status.status, 1, "{}", status.json);
        let status = status.json;
        assert_eq!(status["reason_code"], "OBJECTS_MOVED", "{status}");
        assert_eq!(status["denies"], true, "{status}");
        assert!(status["warnings"].to_string().contains("no answer within 2 s"), "{status}");
        assert!(status["warnings"].to_string().contains(&about), "{status}");
        case.denied(&mut inside, "r", &read(&secret));
        drop(mounted);
        let status = aegisbpf(&["prove"]).json;
        assert!(!status["warnings"].to_string().contains("no answer"), "{status}");
        case.apply(&newer);
        case.denied(&mut inside, "r", &read(&secret));
        case.settle();
    }

    /// What is mounted as soon as somebody walks into it is not mounted for us.
    #[test]
    fn asking_what_is_there_mounts_nothing() {
        let case = Case::new();
        let secret = case.file("net/secret");
        let trigger = case.directory("net/trigger");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret)]);
        let automount = Automount::on(&trigger);
        // Whoever walks into it waits.
        let mut walks = Command::new("cat").arg(trigger.join("file")).spawn().unwrap();
        assert!(automount.is_asked_within(Duration::from_secs(60)));
        walks.kill().unwrap();
        walks.wait().unwrap();
        let rule = Rule::deny("r").file(trigger.join("file")).beneath(case.path("net"));
        case.apply_with(&case.policy().rule(rule), &["--resolve-within", "10s"]);
        assert!(!automount.is_asked_within(Duration::ZERO));
        case.denied(&mut inside, "r", &read(&secret));
        case.settle();
    }

    /// On a host where nothing was before, a child that cannot be ended is in nobody's way.
    #[test]
    fn a_first_apply_without_an_answer_leaves_nothing_behind() {
        let case = Case::new();
        let secret = case.file("secret");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret)]);
        aegisbpf(&["detach", "--reason", "a test", "--purge"]).yes();
        let silent = case.directory("silent");
        let mounted = Silent::mounted(&silent);
        let policy = case.policy().rule(Rule::deny("r").file(silent.join("x")));
        let answer = case.try_apply_with(&policy, &["--resolve-within", "2"]);
        answer.refused("NO_ANSWER", &["no answer within 2 s"]);
        assert_eq!(crate::life::pins(), Vec::<String>::new());
        assert!(!Path::new("/sys/fs/cgroup/aegisbpf").exists());
        assert!(!Path::new("/run/aegisbpf").exists());
        drop(mounted);
        case.enforce(Rule::deny("r").file(&secret));
        case.denied(&mut inside, "r", &read(&secret));
        case.settle();
    }

    #[test]
    fn a_hard_link_from_before_is_denied_by_its_other_name() {
        let case = Case::new();
        let other = case.path("other");
        fs::hard_link(case.file("d/deep/er/secret"), &other).unwrap();
        // In a filesystem of its own, of which a part is beneath the directory.
        let (top, part) = (case.directory("top"), case.directory("d/part"));
        mount("tmpfs", &top, "tmpfs", MountFlags::empty(), None).unwrap();
        fs::hard_link(case.file("top/part/secret"), top.join("other")).unwrap();
        mount_bind(top.join("part"), &part).unwrap();
        // A link leads out of it.
        let beside = case.path("beside");
        fs::hard_link(case.file("elsewhere/file"), &beside).unwrap();
        symlink(case.path("elsewhere"), case.path("d/link")).unwrap();
        let public = case.path("public");
        fs::hard_link(case.file("d/public"), &public).unwrap();
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&other), read(top.join("other"))]);
        let rule = Rule::deny("r").beneath(case.path("d")).except_file(case.path("d/public"));
        let report = case.enforce(rule);
        assert_eq!(report["objects"]["linked"], 3, "{report}");
        case.denied(&mut inside, "r", &read(&other));
        case.denied(&mut inside, "r", &read(case.path("d/deep/er/secret")));
        case.denied(&mut inside, "r", &read(top.join("other")));
        case.allowed(&mut inside, &read(&beside));
        case.allowed(&mut inside, &read(&public));
        case.allowed(&mut inside, &read(case.path("d/public")));
        unmount(&part, UnmountFlags::DETACH).unwrap();
        case.denied(&mut inside, "r", &read(top.join("other")));
        unmount(&top, UnmountFlags::DETACH).unwrap();
        case.settle();
    }

    #[test]
    fn without_a_scan_for_links_less_is_claimed_and_it_is_remembered() {
        let case = Case::new();
        let (secret, other) = (case.file("d/secret"), case.path("other"));
        fs::hard_link(&secret, &other).unwrap();
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret), read(&other)]);
        let policy = case.policy().version(crate::life::newer());
        let policy = policy.rule(Rule::deny("r").beneath(case.path("d")));
        let warns = |json: &Value| {
            let warned = json["warnings"].to_string().contains("--no-link-scan");
            assert!(warned, "{json}");
        };
        warns(&case.try_apply_with(&policy, &["--no-link-scan"]).yes());
        case.denied(&mut inside, "r", &read(&secret));
        case.allowed(&mut inside, &read(&other));
        warns(&aegisbpf(&["status"]).yes());
        // Another policy's end does not change how it was made.
        let beside = aegis_tests::Policy::new("beside").workload("w", &["/none"]);
        let beside = case.write_policy(&beside.rule(Rule::deny("r").file(&other)));
        aegisbpf(&["apply", &beside, "--allow-unsigned", "--no-link-scan"]).yes();
        aegisbpf(&["remove", "beside", "--reason", "a test"]).yes();
        warns(&aegisbpf(&["status"]).yes());
        let again = case.apply(&policy);
        assert_eq!(again["changed"], true, "{again}");
        case.denied(&mut inside, "r", &read(&other));
        case.settle();
    }

    /// Nothing is lost between looking and deciding: not the directories on the way, swapped all the time.
    #[test]
    fn parents_that_are_swapped_during_an_apply_hide_nothing() {
        let case = Case::new();
        let (here, there) = (case.file("here/secret"), case.file("there/secret"));
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&here), read(&there)]);
        let rounds = if std::env::var_os("AEGIS_FULL").is_some() { 10 } else { 1 };
        for round in 0..rounds {
            let swapping = Swapping::start(case.path("here"), case.path("there"));
            case.enforce(Rule::deny("r").file(&here).file(case.path(format!("round-{round}"))));
            swapping.ends();
            case.denied(&mut inside, "r", &read(&here));
        }
        case.settle();
    }

    /// A link that leads elsewhere all the time cannot be bound; it is refused, or what it leads to in the end is
    /// denied, or the node says that it is not.
    #[test]
    fn a_link_that_changes_during_an_apply_is_never_believed() {
        let case = Case::new();
        let (one, other) = (case.file("one/secret"), case.file("other/secret"));
        let links = [case.path("link"), case.path("spare")];
        for (link, to) in links.iter().zip([&one, &other]) {
            symlink(to.parent().unwrap(), link).unwrap();
        }
        let secret = links[0].join("secret");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&one), read(&other)]);
        case.enforce(Rule::deny("r").file(case.path("nothing")));
        let swapping = Swapping::start(links[0].clone(), links[1].clone());
        let answer = case.try_apply(&case.policy().rule(Rule::deny("r").file(&secret)));
        swapping.ends();
        match answer.status {
            0 => {
                let status = aegisbpf(&["prove"]).json;
                let denied = inside.perform(&read(&secret)) != Tried::Allowed;
                assert!(denied || status["reason_code"] == "OBJECTS_MOVED", "NOT DENIED: {status}");
            }
            _ => answer.refused("OBJECTS_MOVING", &["change all the time", "hint: apply again"]),
        }
        case.apply(&case.policy().rule(Rule::deny("r").file(&secret)));
        case.forget();
        case.denied(&mut inside, "r", &read(&secret));
        case.forget();
    }

    #[test]
    fn what_leads_elsewhere_is_bound_anew_by_the_agent() {
        let case = Case::new();
        let (one, other) = (case.file("one/secret"), case.file("other/secret"));
        let link = case.path("link");
        symlink(one.parent().unwrap(), &link).unwrap();
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&one), read(&other)]);
        case.enforce(Rule::deny("before").file(case.path("nothing")));
        let first = case.enforce(Rule::deny("r").file(link.join("secret")));
        case.denied(&mut inside, "r", &read(&one));
        symlink(other.parent().unwrap(), case.path("new")).unwrap();
        fs::rename(case.path("new"), &link).unwrap();
        let status = aegisbpf(&["status"]).yes();
        assert_eq!(status["reason_code"], "OBJECTS_MOVED", "{status}");
        assert_eq!(status["runtime_state"], "DEGRADED", "{status}");
        let mut agent = command(&["run"]).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(agent.stdout.take().unwrap()).lines();
        let mut lines = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
        let mut next = || lines.next().unwrap();
        let moved = next();
        assert_eq!(moved["reason_code"], "OBJECTS_MOVED", "{moved}");
        let bound_anew = format!("bound anew as generation {}.1: ", first["generation"]);
        let said =
            |line: &Value| line["message"].as_str().is_some_and(|it| it.starts_with(&bound_anew));
        while !said(&next()) {}
        let proven = next();
        assert_eq!(proven["runtime_state"], "ENFORCE", "{proven}");
        agent.kill().unwrap();
        agent.wait().unwrap();
        case.denied(&mut inside, "r", &read(&other));
        let status = aegisbpf(&["status"]).yes();
        assert_eq!(status["runtime_state"], "ENFORCE", "{status}");
        assert_eq!((&status["generation"], &status["revision"]), (&first["generation"], &1.into()));
        // It is counted as if nothing had happened.
        assert_eq!(status["counters"]["deny"], 2, "{status}");
        let (_, text, _) = aegis_tests::program::aegisbpf_for_people(&["status"]);
        assert!(text.contains(&format!("generation {}.1,", first["generation"])), "{text}");
        case.settle();
    }

    #[test]
    fn what_would_lock_the_operator_out_is_refused_unless_insisted_on() {
        let case = Case::new();
        let secret = case.file("secret");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret)]);
        case.enforce(Rule::deny("r").file(&secret));
        let newer = case.policy().rule(Rule::deny("r").file(&secret));
        let newer = newer.rule(Rule::deny("all").of("*").beneath("/bin"));
        case.try_apply(&newer).refused("LOCKOUT", &["/bin/sh", "every process", "hint: ", "t/all"]);
        let checked = aegisbpf(&["check", "--host", &case.write_policy(&newer)]);
        assert_eq!(checked.status, 1, "{}", checked.json);
        assert!(checked.json["host"]["lockouts"].to_string().contains("/bin/busybox"));
        case.denied(&mut inside, "r", &read(&secret));
        let narrow = case.policy().rule(Rule::deny("r").file(&secret).file(case.path("more")));
        let checked = aegisbpf(&["check", "--host", &case.write_policy(&narrow)]).yes();
        assert_eq!(checked["host"]["pending"][0]["missing"], case.path("more").to_str().unwrap());
        case.settle();
    }

    #[test]
    fn explain_live_says_where_the_kernel_and_the_rules_differ() {
        let case = Case::new();
        let (one, other) = (case.file("one/secret"), case.file("other/secret"));
        let link = case.path("link");
        symlink(one.parent().unwrap(), &link).unwrap();
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&one), write(&one), read(&other)]);
        case.enforce(Rule::deny("r").access(&["read"]).file(link.join("secret")));
        let live = |path: &Path, access: &str, status: i32| {
            let path = path.to_str().unwrap();
            let workload = case.workload();
            let asked =
                ["explain", "--live", "--cgroup", &workload, "--path", path, "--access", access];
            let answer = aegisbpf(&asked);
            assert_eq!(
                answer.status, status,
                "{path} {access}: {}\n{}",
                answer.json, answer.stderr
            );
            answer.json
        };
        case.denied(&mut inside, "r", &read(&one));
        let denied = live(&one, "read", 1);
        assert_eq!(denied["kernel"]["rule"], "r", "{denied}");
        assert_eq!(denied["kernel"]["workloads"][0], "t/w", "{denied}");
        assert_eq!(denied["differs"], false, "{denied}");
        assert_eq!(denied["kernel"]["label"], serde_json::json!(["t/r"]), "{denied}");
        assert_eq!(live(&one, "write", 0)["kernel"]["verdict"], "allow");
        assert_eq!(live(&other, "read", 0)["kernel"]["label"], serde_json::json!([]));
        fs::rename(case.file("another"), &one).unwrap();
        assert_eq!(live(&one, "write", 0)["differs"], false, "what took its place has its label");
        live(&one, "exec", 1);
        // What the link leads to now is denied by the rules, and not yet by the kernel.
        symlink(other.parent().unwrap(), case.path("new")).unwrap();
        fs::rename(case.path("new"), &link).unwrap();
        let differs = live(&other, "read", 2);
        assert_eq!(differs["kernel"]["verdict"], "allow", "{differs}");
        assert_eq!(differs["rules"]["rule"], "r", "{differs}");
        assert_eq!(differs["differs"], true, "{differs}");
        // Nobody is denied writing there, neither by the kernel nor by the rules; but one holds on it.
        let differs = live(&other, "write", 2);
        assert_eq!(differs["kernel"]["verdict"], differs["rules"]["verdict"], "{differs}");
        assert_eq!(differs["kernel"]["label"], serde_json::json!([]), "{differs}");
        assert_eq!(differs["rules"]["label"], serde_json::json!(["t/r"]), "{differs}");
        // Each try is an event of its own.
        assert_eq!(case.events().len(), 2);
        case.forget();
    }

    /// What has left its name stays denied when other policies come: what stood there when the rule was bound, what
    /// came after that, and what is named below a directory on the way.
    #[test]
    fn what_a_file_took_along_is_carried_over_as_long_as_its_rule_is_there() {
        let case = Case::new();
        let (secret, below) = (case.file("secret"), case.file("way/below"));
        let left = ["first", "old", "gone/below"].map(|name| case.path(name));
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret), read(&below)]);
        case.enforce(Rule::deny("r").file(&secret).file(&below));
        fs::rename(&secret, &left[0]).unwrap();
        fs::rename(case.file("new"), &secret).unwrap();
        fs::rename(&secret, &left[1]).unwrap();
        fs::rename(case.path("way"), case.path("gone")).unwrap();
        for path in &left {
            case.denied(&mut inside, "r", &read(path));
        }
        // Rules and labels have other numbers now.
        let more = || case.policy().rule(Rule::deny("a").beneath(case.path("d")));
        let other = Rule::deny("r").file(&secret).file(&below).file(case.path("more"));
        case.apply(&more().rule(other));
        for path in &left {
            case.denied(&mut inside, "r", &read(path));
        }
        // What is made anew at a name that went along is bound by it.
        fs::remove_file(&left[2]).unwrap();
        let again = case.file("gone/below");
        case.denied(&mut inside, "r", &read(&again));
        case.apply(&more());
        for path in &left {
            case.allowed(&mut inside, &read(path));
        }
        case.settle();
    }

    /// A thread that exchanges two names.
    struct Swapping(Arc<AtomicBool>, JoinHandle<()>);

    impl Swapping {
        fn start(one: std::path::PathBuf, other: std::path::PathBuf) -> Self {
            let goes_on = Arc::new(AtomicBool::new(true));
            let watched = Arc::clone(&goes_on);
            let thread = std::thread::spawn(move || {
                while watched.load(Ordering::Relaxed) {
                    renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
                }
            });
            Self(goes_on, thread)
        }

        fn ends(self) {
            self.0.store(false, Ordering::Relaxed);
            self.1.join().unwrap();
        }
    }
}
