// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Policies come, stay, change and go.

use std::{fs, path::Path};

use aegis_tests::{Case, Rule, aegisbpf, operation::*};

#[test]
fn the_same_policy_again_changes_nothing() {
    let case = Case::new();
    let policy = case.policy().version(newer()).rule(Rule::deny("r").file(case.file("secret")));
    let first = case.apply(&policy);
    assert_eq!(first["changed"], true, "{first}");
    let again = case.apply(&policy);
    assert_eq!(again["changed"], false, "{again}");
    assert_eq!(again["generation"], first["generation"], "{again}");
    assert_eq!(again["set_digest"], first["set_digest"], "{again}");
}

#[test]
fn a_version_never_goes_down_and_is_never_used_twice() {
    let case = Case::new();
    let version = newer();
    let policy = case.policy().version(version).rule(Rule::deny("r").file(case.file("secret")));
    case.apply(&policy);
    let lower = case.try_apply(&policy.clone().version(version - 1));
    lower.refused("VERSION_LOWER", &["versions never go down", "hint: "]);
    let other = policy.clone().rule(Rule::deny("more").file(case.file("other")));
    case.try_apply(&other).refused("VERSION_REUSED", &["another text", "hint: "]);
    let again = case.apply(&policy);
    assert_eq!(again["changed"], false, "{again}");
    // A newer one may well drop a rule.
    case.apply(
        &case.policy().version(version + 1).rule(Rule::deny("more").file(case.file("other"))),
    );
}

#[test]
fn a_dry_run_says_what_would_be_and_changes_nothing() {
    let case = Case::new();
    let secret = case.file("secret");
    let mut inside = case.inside();
    case.enforce(Rule::deny("r").file(case.file("other")));
    let before = aegisbpf(&["list"]).yes();
    let file = case.write_policy(&case.policy().rule(Rule::deny("r").file(&secret)));
    let report = aegisbpf(&["apply", &file, "--allow-unsigned", "--dry-run"]).yes();
    assert_eq!(report["objects"]["bound"], 1, "{report}");
    assert_eq!(report["changed"], false, "{report}");
    case.allowed(&mut inside, &read(&secret));
    assert_eq!(aegisbpf(&["list"]).yes(), before);
}

#[test]
fn what_nobody_signed_is_refused_unless_allowed() {
    let case = Case::new();
    let file = case.write_policy(&case.policy().rule(Rule::deny("r").file(case.file("secret"))));
    aegisbpf(&["apply", &file]).refused("UNSIGNED", &["is not signed", "--allow-unsigned"]);
}

/// Everything that is pinned.
pub(crate) fn pins() -> Vec<String> {
    below(Path::new("/sys/fs/bpf"))
}

/// Everything below a directory, without it.
pub(crate) fn below(top: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(top).into_iter().flatten().flatten() {
        let path = entry.path();
        found.push(path.display().to_string());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(below(&path));
        }
    }
    found.sort();
    found
}

/// Higher than what other tests have used: they take the time since boot.
pub(crate) fn newer() -> u32 {
    let text = fs::read_to_string("/proc/uptime").unwrap();
    let hundredths: String = text.split(' ').next().unwrap().replace('.', "");
    hundredths.parse::<u32>().unwrap() + 1
}

mod denial {
    use std::{
        io::{BufRead as _, BufReader},
        path::Path,
        process::{Child, Stdio},
    };

    use aegis_tests::{
        Case, Process, aegisbpf,
        operation::*,
        program::{Answer, command},
    };

    #[test]
    fn it_outlives_every_process_and_ends_with_its_removal() {
        let (case, secret, mut inside) = Case::of_a_secret();
        case.denied(&mut inside, "r", &read(&secret));
        // Apply has ended; so has an agent, and one that was killed.
        let agent = Agent::start(&[]);
        case.denied(&mut inside, "r", &read(&secret));
        agent.ends();
        case.denied(&mut inside, "r", &read(&secret));
        let mut agent = Agent::start(&[]);
        agent.0.kill().unwrap();
        agent.0.wait().unwrap();
        case.denied(&mut inside, "r", &read(&secret));
        case.settle();
        case.removed("t");
        case.allowed(&mut inside, &read(&secret));
        case.settle();
        let list = aegisbpf(&["list"]).yes();
        assert!(!list.to_string().contains("\"t\""), "{list}");
        let health = aegisbpf(&["health"]);
        assert_eq!(health.status, 1, "nothing is enforced: {}", health.json);
    }

    #[test]
    fn detach_leaves_nothing_and_everything_works_again() {
        let (case, secret, mut inside) = Case::of_a_secret();
        case.denied(&mut inside, "r", &read(&secret));
        case.settle();
        let mut operator = Process::inside(Path::new("/sys/fs/cgroup/aegisbpf/exempt"));
        let detached = aegisbpf(&["detach", "--reason", "a test", "--purge"]).yes();
        assert_eq!(detached["changed"], true, "{detached}");
        case.allowed(&mut inside, &read(&secret));
        case.allowed(&mut operator, &read(&secret));
        nothing_is_left();
        assert!(!Path::new("/var/lib/aegisbpf").exists());
        let again = aegisbpf(&["detach", "--reason", "a test"]).yes();
        assert_eq!(again["changed"], false, "{again}");
        let status = aegisbpf(&["status"]).yes();
        assert_eq!(status["runtime_state"], "NOT_LOADED", "{status}");
        assert_eq!(status["reason_code"], "NOT_ATTACHED", "{status}");
        assert_eq!(status["enforce_capable"], true, "{status}");
        for arguments in [&["health"][..], &["health", "--require-enforce"]] {
            let health = aegisbpf(arguments);
            assert_eq!(health.status, 1, "{}", health.json);
        }
        nothing_is_left();
    }

    #[test]
    fn an_agent_that_shall_detach_when_it_ends_does() {
        let (case, secret, mut inside) = Case::of_a_secret();
        case.denied(&mut inside, "r", &read(&secret));
        let agent = Agent::start(&["--detach-on-exit"]);
        case.denied(&mut inside, "r", &read(&secret));
        case.events_are_taken();
        case.settle();
        agent.ends();
        case.allowed(&mut inside, &read(&secret));
        nothing_is_left();
    }

    #[track_caller]
    fn nothing_is_left() {
        assert_eq!(super::pins(), Vec::<String>::new());
        assert!(!Path::new("/sys/fs/cgroup/aegisbpf").exists());
        assert!(!Path::new("/run/aegisbpf").exists());
    }

    /// `aegisbpf run`, from the moment that it serves.
    struct Agent(Child);

    impl Agent {
        fn start(flags: &[&str]) -> Self {
            let arguments: Vec<&str> = [&["run"], flags].concat();
            let mut child = command(&arguments).stdout(Stdio::piped()).spawn().unwrap();
            // What it has to say of others before it comes first.
            let mut lines = BufReader::new(child.stdout.take().unwrap());
            let mut line = String::new();
            while !line.contains("\"ENFORCE\"") {
                line.clear();
                assert!(lines.read_line(&mut line).unwrap() > 0, "it ended and never said ENFORCE");
            }
            Self(child)
        }

        /// As a service manager ends it.
        fn ends(self) {
            let pid = rustix::process::Pid::from_child(&self.0);
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
            let answer = Answer::of(self.0.wait_with_output().unwrap());
            assert_eq!(answer.status, 0, "{}", answer.stderr);
        }
    }
}
