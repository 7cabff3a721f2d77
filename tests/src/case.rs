// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One test's part of the machine, and its judgement.
//!
//! A case has a directory on /data, a cgroup, and policies; programs stay loaded from one case to the next, since
//! loading them takes longest. Each case's policy `t` takes the place of the one before.

use std::{
    cell::RefCell,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    operation::{Operation, Tried, read},
    policy::{Policy, Rule},
    process::Process,
    program::{Answer, aegisbpf},
};

/// Where cgroups are.
pub const CGROUPS: &str = "/sys/fs/cgroup";

/// One test's part of the machine.
#[derive(Debug)]
pub struct Case {
    name: String,
    directory: PathBuf,
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Cgroups of this case, as events name them.
    cgroups: Vec<u64>,
    /// Events that must come, in this order, and no others.
    expected: Vec<[String; 3]>,
    /// How many have been held against what came.
    settled: usize,
    /// Policies beside `t`.
    policies: Vec<String>,
    applied: bool,
}

impl Default for Case {
    fn default() -> Self {
        Self::new()
    }
}

impl Case {
    /// A case in a directory and a cgroup that nobody used before.
    pub fn new() -> Self {
        let name = format!("T{}", std::process::id());
        let directory = Path::new("/data").join(&name);
        fs::create_dir(&directory).expect("a new directory on /data");
        let case = Self { name, directory, state: RefCell::default() };
        case.make_cgroup(&case.workload());
        case
    }

    /// The usual one: a case whose file `secret` is denied by rule `r`, for all that a process in its cgroup may ask.
    pub fn of_a_secret() -> (Self, PathBuf, Process) {
        let case = Self::new();
        let secret = case.file("secret");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret)]);
        case.enforce(Rule::deny("r").file(&secret));
        (case, secret, inside)
    }

    /// The same for a directory `vault`, with a file `vault/secret`, and a rule that may say more of it.
    pub fn of_a_vault(rule: impl FnOnce(Rule) -> Rule) -> (Self, PathBuf, Process) {
        let case = Self::new();
        let secret = case.file("vault/secret");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret)]);
        case.enforce(rule(Rule::deny("r").beneath(case.path("vault"))));
        (case, secret, inside)
    }

    /// A path below the case's directory.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.join(name)
    }

    /// A new file there, with the directories above it.
    pub fn file(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("it is below a directory")).expect("directories");
        fs::write(&path, "content").expect("a new file");
        path
    }

    /// A new directory there.
    pub fn directory(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).expect("a new directory");
        path
    }

    /// A program there that does nothing and succeeds.
    pub fn program(&self, name: &str) -> PathBuf {
        let path = self.directory(name).join("true");
        fs::copy("/bin/busybox", &path).expect("a copy of busybox");
        path
    }

    /// The name of the case's cgroup, as a policy writes it.
    pub fn workload(&self) -> String {
        format!("/{}", self.name)
    }

    /// Makes a cgroup by its name in a policy; its directory.
    pub fn make_cgroup(&self, name: &(impl AsRef<Path> + ?Sized)) -> PathBuf {
        let name = name.as_ref();
        let path = Path::new(CGROUPS).join(name.strip_prefix("/").unwrap_or(name));
        fs::create_dir(&path).expect("a new cgroup");
        let id = fs::metadata(&path).expect("it is there").ino();
        self.state.borrow_mut().cgroups.push(id);
        path
    }

    /// A process in the case's cgroup.
    pub fn inside(&self) -> Process {
        Process::inside(&Path::new(CGROUPS).join(&self.name))
    }

    /// The policy `t` with the workload `w`, the case's cgroup.
    pub fn policy(&self) -> Policy {
        Policy::new("t").workload("w", &[&self.workload()])
    }

    /// Applies the policy `t` with one rule.
    #[track_caller]
    pub fn enforce(&self, rule: Rule) -> Value {
        self.apply(&self.policy().rule(rule))
    }

    /// Applies a policy, which must succeed; the report. In a null run, nothing enforces afterwards.
    #[track_caller]
    pub fn apply(&self, policy: &Policy) -> Value {
        self.apply_with(policy, &[])
    }

    /// The same with more flags.
    #[track_caller]
    pub fn apply_with(&self, policy: &Policy, flags: &[&str]) -> Value {
        let report = self.try_apply_with(policy, flags).yes();
        let mut state = self.state.borrow_mut();
        state.applied = true;
        if policy.name != "t" && !state.policies.contains(&policy.name) {
            state.policies.push(policy.name.clone());
        }
        report
    }

    /// Takes a policy out of force again; the report.
    #[track_caller]
    pub fn removed(&self, name: &str) -> Value {
        let report = aegisbpf(&["remove", name, "--reason", "a test"]).yes();
        self.was_removed(name);
        report
    }

    /// Somebody has taken a policy out of force.
    pub fn was_removed(&self, name: &str) {
        self.state.borrow_mut().policies.retain(|policy| policy != name);
    }

    /// Applies a policy; what came of it.
    pub fn try_apply(&self, policy: &Policy) -> Answer {
        self.try_apply_with(policy, &[])
    }

    /// The same with more flags.
    pub fn try_apply_with(&self, policy: &Policy, flags: &[&str]) -> Answer {
        let file = self.write_policy(policy);
        let mut arguments = vec!["apply", &file, "--allow-unsigned", "--mode", policy.mode];
        if std::env::var_os("AEGIS_NULL").is_some() {
            arguments.push("--dry-run");
        }
        arguments.extend(flags);
        aegisbpf(&arguments)
    }

    /// Writes a policy to a file; its path.
    pub fn write_policy(&self, policy: &Policy) -> String {
        let file = format!("/tmp/{}-{}.toml", self.name, policy.name);
        fs::write(&file, policy.text()).expect("a policy file");
        file
    }

    /// The same operations by a process inside succeed, before any policy speaks of it; what they change is taken back.
    #[track_caller]
    pub fn control(&self, process: &mut Process, operations: &[Operation]) {
        assert!(!self.state.borrow().applied, "a control comes before the policy");
        for operation in operations {
            let tried = process.try_out(operation);
            assert_eq!(tried, Tried::Allowed, "before the policy: {operation}: {tried}");
        }
    }

    /// It is denied to the process by this rule, and to nobody outside.
    #[track_caller]
    pub fn denied(&self, process: &mut Process, rule: &str, operation: &Operation) {
        let control = operation.try_out();
        assert_eq!(control, Tried::Allowed, "outside: {operation}: {control}");
        self.denied_to_all(process, rule, operation);
    }

    /// It is denied to the process by this rule; nobody is outside.
    #[track_caller]
    pub fn denied_to_all(&self, process: &mut Process, rule: &str, operation: &Operation) {
        let tried = process.perform(operation);
        match tried {
            Tried::Refused(EPERM) => self.expect("deny", rule, operation.access),
            Tried::Allowed => panic!("NOT DENIED: {operation}"),
            Tried::Refused(_) => panic!("denied by somebody else: {operation}: {tried}"),
            Tried::CouldNotTry(_) => panic!("{operation}: {tried}"),
        }
    }

    /// It is allowed to the process, and no rule speaks.
    #[track_caller]
    pub fn allowed(&self, process: &mut Process, operation: &Operation) {
        let tried = process.perform(operation);
        assert_eq!(tried, Tried::Allowed, "inside: {operation}: {tried}");
    }

    /// It is allowed, and reported with this verdict.
    #[track_caller]
    pub fn reported(
        &self,
        process: &mut Process,
        verdict: &str,
        rule: &str,
        operation: &Operation,
    ) {
        self.allowed(process, operation);
        self.expect(verdict, rule, operation.access);
    }

    /// For a test that tried it by itself: it was denied by this rule.
    pub fn expects_denial(&self, rule: &str, access: &str) {
        self.expect("deny", rule, access);
    }

    fn expect(&self, verdict: &str, rule: &str, access: &str) {
        let event = [verdict, rule, access].map(str::to_owned);
        self.state.borrow_mut().expected.push(event);
    }

    /// What was denied was denied by us: there is one event for each denial and report so far, in their order, and no
    /// other. The events.
    #[track_caller]
    pub fn settle(&self) -> Vec<Value> {
        let events = self.events();
        let mut state = self.state.borrow_mut();
        let word = |event: &Value, key: &str| event[key].as_str().unwrap_or("?").to_owned();
        let came = events
            .iter()
            .map(|event| ["verdict", "rule", "access"].map(|key| word(event, key)))
            .collect::<Vec<_>>();
        assert_eq!(came, state.expected, "the events that came, and those of what was tried");
        state.settled = state.expected.len();
        events
    }

    /// Waits until an agent has taken as many events as there must be: it is woken for them, and takes its time.
    pub fn events_are_taken(&self) {
        let expected = self.state.borrow().expected.len();
        while self.events().len() < expected {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// For a test that has held what came against what it tried by itself.
    pub fn forget(&self) {
        let mut state = self.state.borrow_mut();
        state.settled = state.expected.len();
    }

    /// All events of this case's cgroups.
    pub fn events(&self) -> Vec<Value> {
        let answer = aegisbpf(&["events"]).yes();
        let all = answer["events"].as_array().cloned().unwrap_or_default();
        let state = self.state.borrow();
        let ours = |event: &Value| {
            event["cgroup_id"].as_u64().is_some_and(|cgroup| state.cgroups.contains(&cgroup))
        };
        all.into_iter().filter(ours).collect()
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        // What fails leaves things as they are; then everything is taken out before the next test.
        if std::thread::panicking() {
            return;
        }
        let state = self.state.take();
        assert_eq!(state.settled, state.expected.len(), "denials that nobody held against events");
        for name in &state.policies {
            aegisbpf(&["remove", name, "--reason", "the test has ended"]).yes();
        }
    }
}

const EPERM: i32 = 1;
