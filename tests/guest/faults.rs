// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Commands that are cut off, or fail, at each point that the program knows: what is in force is one
//! whole set, and the next command works.
//!
//! The points are those of another build of the program, which goes wrong where it is told to. What is
//! asked of the machine afterwards is asked of the program that is released.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use aegis_tests::{
    Case, Policy, Process, Rule, aegisbpf,
    amnesia::forget_the_root,
    config,
    operation::*,
    program::{Answer, WITH_FAULTS, command, command_with_fault},
    runbook::Desk,
};
use serde_json::{Value, json};

use crate::life::{below, pins};

/// Of a change on a node that enforces, before the new set decides.
const BEFORE: &[&str] = &[
    "locked",
    "compiled",
    "installed",
    "cgroups-made",
    "resolved",
    "half-filled",
    "filled",
    "write-begun",
    "write-synced",
    "write-renamed",
    "resolved-again",
    "stored",
    "trial-begun",
    "trial-ended",
    "floors-noted",
    "line-announced",
    "line-written",
    "line-confirmed",
    "log-begun",
];

/// From when on it does.
const AFTER: &[&str] =
    &["flipped", "proved-again", "noting", "accepted", "recorded", "tidied", "log-done"];

/// After these nothing can fail.
const KILLED_ONLY: &[&str] = &[
    "line-written",
    "line-confirmed",
    "noting",
    "accepted",
    "recorded",
    "tidied",
    "log-done",
    "detach-begun",
    "pins-gone",
    "root-installed",
];

/// Where something is taken back that was not there at the point before.
const UNDONE: &[&str] = &[
    "cgroups-made",
    "half-filled",
    "filled",
    "write-synced",
    "write-renamed",
    "stored",
    "trial-begun",
    "floors-noted",
    "line-announced",
    "flipped",
    "proved-again",
];

/// More of them, on a host on which nothing of ours is.
const FRESH: &[&str] = &["half-installed", "installed"];

/// Of taking everything out.
const DETACH: &[&str] = &["detach-begun", "undecided", "links-gone", "pins-gone", "cgroups-gone"];

/// Of programs that take over from those of another build; see `handover.rs`.
const HANDOVER: &[&str] = &[
    "beside",
    "beside-proved",
    "sealed",
    "decided",
    "name-free",
    "name-taken",
    "others-silent",
    "others-gone",
];

/// Of installing a trust root.
const TRUST: &[&str] = &["root-kept", "root-floors-kept", "root-installed"];

/// What is asked of another point at each visit, since many things come there.
const OFTEN: &[&str] = &["write-begun", "write-synced", "write-renamed", "line-announced"];

/// Where what is left behind is something to say.
const REPAIRED: &[&str] = &["half-filled", "trial-begun", "flipped"];

/// What only a program with fault points has among its bytes.
const VARIABLE: &[u8] = b"AEGIS_FAULT";

const DETACHED: &[&str] = &["detach", "--reason", "a test"];
const STATE: &str = "/var/lib/aegisbpf";
const RUN: &str = "/run/aegisbpf";

#[test]
fn the_released_program_has_no_fault_points() {
    let has = |program: &Path| {
        let bytes = fs::read(program).unwrap();
        bytes.windows(VARIABLE.len()).any(|part| part == VARIABLE)
    };
    assert!(has(Path::new(WITH_FAULTS)), "this looks for the wrong bytes");
    let released = PathBuf::from(std::env::var_os("AEGIS_BIN").unwrap());
    assert!(!has(&released), "{} can be told to go wrong", released.display());
    let mut command = Command::new(released);
    let output = command.arg("list").env("AEGIS_FAULT", "list").output().unwrap();
    assert!(!String::from_utf8_lossy(&output.stdout).contains("flipped"), "{output:?}");
}

#[test]
fn every_point_is_one_of_these() {
    let output = Command::new(WITH_FAULTS).env("AEGIS_FAULT", "list").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let known: BTreeSet<&str> = text.lines().collect();
    let ours = [BEFORE, AFTER, FRESH, DETACH, HANDOVER, TRUST].concat().into_iter().collect();
    assert_eq!(known, ours);
    for wrong in ["no-such-point:kill", "locked:explode", "locked"] {
        let answer = Answer::of(command_with_fault(wrong, &["list"]).output().unwrap());
        assert_eq!(answer.status, 2, "{wrong}: {answer:?}");
        assert!(answer.stderr.contains("AEGIS_FAULT"), "{wrong}: {answer:?}");
    }
}

/// Runs a command that must kill itself at this point.
#[track_caller]
fn killed(point: &str, arguments: &[&str]) {
    assert!(is_killed(point, arguments), "{point} was not visited by {arguments:?}");
}

/// Whether it kills itself there.
#[track_caller]
fn is_killed(point: &str, arguments: &[&str]) -> bool {
    let output = command_with_fault(&with(point, "kill"), arguments).output().unwrap();
    let was_killed = output.status.signal() == Some(9);
    assert!(was_killed || output.status.success(), "{point}: {:?}", Answer::of(output));
    was_killed
}

fn failing(point: &str, arguments: &[&str]) -> Answer {
    Answer::of(command_with_fault(&with(point, "fail"), arguments).output().unwrap())
}

/// A point, or `POINT:3` for its third visit, with what happens there.
fn with(point: &str, act: &str) -> String {
    match point.split_once(':') {
        Some((name, visit)) => format!("{name}:{act}:{visit}"),
        None => format!("{point}:{act}"),
    }
}

fn full() -> bool {
    std::env::var_os("AEGIS_FULL").is_some()
}

/// Everything of ours that has a name, without what a program writes of itself at any time.
fn everything() -> Vec<String> {
    let mut names = pins();
    for top in [RUN, STATE, "/sys/fs/cgroup/aegisbpf"] {
        names.extend(below(Path::new(top)));
    }
    names
}

/// What is in force, without what was counted.
fn list() -> Value {
    let mut list = aegisbpf(&["list"]).yes();
    for policy in list["policies"].as_array_mut().unwrap() {
        policy.as_object_mut().unwrap().remove("hits_by_rule");
    }
    list
}

#[track_caller]
fn nothing_is_left() {
    assert_eq!(pins(), Vec::<String>::new());
    assert!(!Path::new("/sys/fs/cgroup/aegisbpf").exists());
    assert!(!Path::new(RUN).exists());
}

/// Files of writes that were cut off, made older than anybody writes.
fn half_written() -> Vec<String> {
    let names = [STATE, RUN].map(|top| below(Path::new(top))).concat();
    let left: Vec<String> = names.into_iter().filter(|name| name.ends_with(".new")).collect();
    for name in &left {
        let file = fs::File::options().write(true).open(name).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(100)).unwrap();
    }
    left
}

/// A node that enforces one of two sets, which differ in one file and agree in another.
struct Node {
    case: Case,
    inside: Process,
    always: PathBuf,
    files: [PathBuf; 2],
    /// Which of the two is in force.
    now: usize,
}

impl Node {
    fn new() -> Self {
        let case = Case::new();
        let always = case.file("always");
        let files = ["zero", "one"].map(|name| case.file(name));
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&always), read(&files[0]), read(&files[1])]);
        // What tests before this one left would be cleared away once it is old: the first change does it now.
        half_written();
        case.apply(&case.policy().rule(Rule::deny("r").file(&always).file(&files[0])));
        case.denied(&mut inside, "r", &read(&always));
        let mut node = Self { case, inside, always, files, now: 0 };
        node.is_whole("at the beginning");
        node
    }

    /// The command that puts the other set in force.
    fn change(&self) -> Vec<String> {
        let last = &self.files[1 - self.now];
        let policy = self.case.policy().rule(Rule::deny("r").file(&self.always).file(last));
        let file = self.case.write_policy(&policy);
        ["apply", &file, "--allow-unsigned"].map(str::to_owned).into()
    }

    #[track_caller]
    fn is_killed(&self, point: &str) -> bool {
        let arguments = self.change();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        is_killed(point, &arguments)
    }

    /// One whole set is in force, and the log says so; which set it is.
    #[track_caller]
    fn is_whole(&mut self, point: &str) {
        self.case.denied(&mut self.inside, "r", &read(&self.always));
        let tried = [&self.files[0], &self.files[1]].map(|path| self.inside.perform(&read(path)));
        self.now = match tried {
            [Tried::Refused(1), Tried::Allowed] => 0,
            [Tried::Allowed, Tried::Refused(1)] => 1,
            other => panic!("{point}: no whole set is in force: {other:?}"),
        };
        let log = aegisbpf(&["provenance", "verify"]).json;
        assert_eq!(log["faults"], json!([]), "{point}: {log}");
    }

    #[track_caller]
    fn is_proven(&self, point: &str) {
        let proved = aegisbpf(&["prove"]).json;
        assert_eq!(proved["runtime_state"], "ENFORCE", "{point}: {proved}");
    }

    /// The next change works; what it had to repair.
    #[track_caller]
    fn goes_on(&mut self, point: &str) -> Vec<String> {
        let report = aegisbpf(&self.change()).yes();
        let before = self.now;
        self.is_whole(point);
        assert_eq!(self.now, 1 - before, "{point}: {report}");
        let warnings = report["warnings"].as_array().cloned().unwrap_or_default();
        let said = warnings.iter().filter_map(Value::as_str).map(str::to_owned);
        said.filter(|said| said.starts_with("repaired: ")).collect()
    }
}

impl Node {
    /// Taking a policy out fails and is killed at each point: it is there or it is not, and what else is in force
    /// stays.
    fn removals_are_cut_off(&mut self) {
        let other = self.case.file("other");
        let policy = Policy::new("u").workload("w", &[&self.case.workload()]);
        let policy = policy.rule(Rule::deny("u").file(&other));
        let remove = ["remove", "u", "--reason", "a test"];
        for point in [BEFORE, AFTER].concat() {
            // Whether it is there or not, and whatever was left behind.
            self.case.apply(&policy);
            self.case.denied(&mut self.inside, "u", &read(&other));
            if !KILLED_ONLY.contains(&point) {
                failing(point, &remove).failed(&["Input/output error"]);
                self.case.denied(&mut self.inside, "u", &read(&other));
                self.is_whole(point);
            }
            killed(point, &remove);
            self.is_whole(point);
            let gone = self.inside.perform(&read(&other)) == Tried::Allowed;
            assert_eq!(gone, AFTER.contains(&point), "{point}: whether the policy is in force");
        }
        self.is_proven("removals");
        self.case.was_removed("u");
    }
}

/// Installing takes longest, so one goes on where another was cut off.
#[test]
fn an_install_or_a_detach_that_is_cut_off_is_finished_by_the_next() {
    let case = Case::new();
    let secret = case.file("secret");
    let mut inside = case.inside();
    case.control(&mut inside, &[read(&secret)]);
    let file = case.write_policy(&case.policy().rule(Rule::deny("r").file(&secret)));
    let apply = ["apply", file.as_str(), "--allow-unsigned"];
    let fresh = || {
        aegisbpf(&[DETACHED, &["--purge"]].concat()).yes();
        nothing_is_left();
    };

    fresh();
    let points = if full() { [FRESH, BEFORE].concat() } else { vec!["trial-ended"] };
    for point in points.into_iter().filter(|point| !KILLED_ONLY.contains(point)) {
        let answer = failing(point, &apply);
        answer.failed(&["Input/output error"]);
        assert_eq!(pins(), Vec::<String>::new(), "{point}");
        nothing_is_left();
    }
    for point in FRESH {
        killed(point, &apply);
        case.allowed(&mut inside, &read(&secret));
        let health = aegisbpf(&["health"]);
        assert_eq!(health.status, 1, "{point}: {}", health.json);
        if full() {
            fresh();
        }
    }
    case.apply(&case.policy().rule(Rule::deny("r").file(&secret)));
    case.denied(&mut inside, "r", &read(&secret));
    case.settle();

    for point in DETACH {
        if !KILLED_ONLY.contains(point) {
            let answer = failing(point, DETACHED);
            let told = ["Input/output error", "nothing is enforced any more", "do this again"];
            answer.failed_half_way(&told);
            let log = aegisbpf(&["provenance", "verify"]).json;
            assert_eq!(log["faults"], json!([]), "{point}: {log}");
        }
        killed(point, DETACHED);
        // Whatever is still there, nobody takes it for enforcement.
        let tried = inside.perform(&read(&secret));
        let enforces = *point == "detach-begun";
        assert_eq!(tried == Tried::Refused(1), enforces, "{point}: {tried}");
        let health = aegisbpf(&["health", "--require-enforce"]);
        assert_eq!(health.status == 0, enforces, "{point}: {}", health.json);
        if full() {
            aegisbpf(DETACHED).yes();
            nothing_is_left();
            aegisbpf(&apply).yes();
        }
    }
    aegisbpf(DETACHED).yes();
    nothing_is_left();
    let log = aegisbpf(&["provenance", "verify"]).json;
    assert_eq!(log["faults"], json!([]), "{log}");
    case.forget();
}

#[test]
fn a_trust_root_binds_or_does_not_wherever_its_installation_is_killed() {
    let case = Case::new();
    let file = case.write_policy(&case.policy().rule(Rule::deny("r").file(case.file("secret"))));
    let unsigned = ["apply", file.as_str(), "--allow-unsigned", "--dry-run"];
    let desk = Desk::new();
    let (key, root) = (desk.file("admin.key"), desk.file("root.json"));
    aegisbpf(&["keygen", "-o", &key]).yes();
    aegisbpf(&["trust", "init", "--key", &key, "--expires", "365d", "-o", &root]).yes();
    let shown = aegisbpf(&["trust", "show", &root]).yes();
    let fingerprint = shown["fingerprint"].as_str().unwrap().to_owned();
    let install = ["trust", "install", &root, "--fingerprint", &fingerprint];
    let writes = (1..=4).map(|visit| format!("write-renamed:{visit}"));
    for point in TRUST.iter().map(|point| (*point).to_owned()).chain(writes) {
        forget_the_root();
        if !is_killed(&point, &install) {
            continue;
        }
        // Whoever asks with the same words again has a root that binds.
        aegisbpf(&install).yes();
        aegisbpf(&unsigned).refused("UNSIGNED_FORBIDDEN", &["hint: "]);
        let status = aegisbpf(&["status"]).yes();
        assert_eq!(status["trust"]["root"]["version"], 1, "{point}: {status}");
    }
    for point in TRUST.iter().filter(|point| !KILLED_ONLY.contains(point)) {
        forget_the_root();
        failing(point, &install).failed(&["Input/output error"]);
        // It binds nobody, and is in nobody's way.
        aegisbpf(&unsigned).yes();
        aegisbpf(&install).yes();
    }
    // What is said of one that fails in the place of another is what the node says afterwards.
    let other = desk.file("other.json");
    aegisbpf(&["trust", "init", "--key", &key, "--expires", "300d", "-o", &other]).yes();
    let shown = aegisbpf(&["trust", "show", &other]).yes();
    let fingerprint = shown["fingerprint"].as_str().unwrap();
    let reason = ["--replace", "--reason", "a test"];
    let replace = ["trust", "install", &other, "--fingerprint", fingerprint];
    let replace = [&replace[..], &reason].concat();
    let binds = || aegisbpf(&["status"]).yes()["trust"].clone();
    let first = binds();
    let failed = [("write-begun", false), ("write-renamed", true), ("write-renamed:3", true)];
    for (point, changed) in failed {
        let answer = failing(point, &replace);
        assert_eq!(answer.json["changed"], changed, "{point}: {}", answer.json);
        assert_eq!(binds() != first, changed, "{point}: {}", binds());
    }
    assert_eq!(binds()["root"]["fingerprint"], fingerprint, "{}", binds());
    assert_eq!(aegisbpf(&replace).yes()["changed"], false);
    // Nor is anything permitted by what cannot be read.
    for name in ["trust-root", "trust/floors.json", "trust/roots/1.json"] {
        let path = Path::new(STATE).join(name);
        let whole = fs::read(&path).unwrap();
        let ends = [whole.len() / 2, 0, whole.len() - 2];
        for end in &ends[..if full() { 3 } else { 1 }] {
            fs::write(&path, &whole[..*end]).unwrap();
            let answer = aegisbpf(&unsigned);
            assert!([1, 2].contains(&answer.status), "{name}, {end}: {answer:?}");
            assert!(!answer.stderr.contains("panicked"), "{name}, {end}: {answer:?}");
            assert!(aegisbpf(&["status"]).json.is_object(), "{name}, {end}");
        }
        fs::write(&path, &whole).unwrap();
    }
}

mod denial {
    use super::*;

    /// What is in force is one whole set, the old or the new, wherever an apply dies.
    #[test]
    fn an_apply_that_is_killed_leaves_a_whole_set_in_force() {
        let case = Case::new();
        let (always, old, new) = (case.file("always"), case.file("old"), case.file("new"));
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&always), read(&old), read(&new)]);
        let either = |last: &Path| case.policy().rule(Rule::deny("r").file(&always).file(last));
        case.apply(&either(&old));
        for delay in [60, 500, 900, 1200, 1500] {
            let file = case.write_policy(&either(&new));
            let mut apply = command(&["apply", &file, "--allow-unsigned"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(Duration::from_millis(delay));
            apply.kill().unwrap();
            apply.wait().unwrap();
            case.denied(&mut inside, "r", &read(&always));
            let tried = [&old, &new].map(|path| inside.perform(&read(path)));
            let whole = [[Tried::Refused(1), Tried::Allowed], [Tried::Allowed, Tried::Refused(1)]];
            assert!(whole.contains(&tried), "after {delay} ms: {tried:?}");
            // The log as well: at most its last change has no end.
            let log = aegisbpf(&["provenance", "verify"]).json;
            assert_eq!(log["faults"], serde_json::json!([]), "after {delay} ms: {log}");
        }
        let status = aegisbpf(&["prove"]).yes();
        assert_eq!(status["runtime_state"], "ENFORCE", "{status}");
        // And what a killed command left behind is in nobody's way.
        case.apply(&either(&new));
        case.denied(&mut inside, "r", &read(&new));
        case.allowed(&mut inside, &read(&old));
        case.forget();
    }

    #[test]
    fn an_apply_that_is_killed_at_any_point_leaves_one_whole_set_in_force() {
        let mut node = Node::new();
        for point in [BEFORE, AFTER].concat() {
            let before = node.now;
            assert!(node.is_killed(point), "{point} was not visited");
            node.is_whole(point);
            let changed = node.now != before;
            assert_eq!(changed, AFTER.contains(&point), "{point}: which set is in force");
            if full() || REPAIRED.contains(&point) {
                if full() || point == "trial-begun" {
                    node.is_proven(point);
                }
                let repaired = node.goes_on(point);
                let wanted = REPAIRED.contains(&point);
                assert!(!wanted || !repaired.is_empty(), "{point}: it was repaired in silence");
            }
        }
        node.is_proven("all points");
        if full() {
            node.removals_are_cut_off();
        }
        // What a write leaves that was cut off goes with the next change.
        assert!(node.is_killed("write-synced"));
        assert!(!half_written().is_empty(), "nothing was left half written");
        let repaired = node.goes_on("write-synced");
        assert!(repaired.iter().any(|said| said.contains(".new")), "{repaired:?}");
        assert_eq!(half_written(), Vec::<String>::new());
        node.case.forget();
    }

    /// The first visit of a point may be of another file than the one that matters.
    #[test]
    fn a_kill_at_any_write_leaves_one_whole_set_in_force() {
        let mut node = Node::new();
        let points = if full() { OFTEN } else { &["write-synced"] };
        for point in points {
            let mut visits = 2;
            while node.is_killed(&format!("{point}:{visits}")) {
                node.is_whole(&format!("{point}:{visits}"));
                visits += 1;
            }
            assert!(visits > 2, "{point} is visited several times: {visits}");
            node.is_whole(point);
            node.is_proven(point);
        }
        node.case.forget();
    }

    #[test]
    fn an_apply_that_fails_at_any_point_changes_nothing() {
        let mut node = Node::new();
        let arguments = node.change();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let (list, names) = (list(), everything());
        for point in [BEFORE, AFTER].concat() {
            if KILLED_ONLY.contains(&point) || !(full() || UNDONE.contains(&point)) {
                continue;
            }
            let answer = failing(point, &arguments);
            assert_ne!(answer.status, 0, "{point} was not visited: {}", answer.json);
            answer.failed(&["Input/output error"]);
            node.is_whole(point);
            assert_eq!(node.now, 0, "{point}: another set is in force");
            assert_eq!(everything(), names, "{point}: what is left behind");
            if full() {
                assert_eq!(self::list(), list, "{point}");
                node.is_proven(point);
            }
        }
        assert_eq!(self::list(), list);
        node.is_proven("all points");
        assert_eq!(node.goes_on("all points"), Vec::<String>::new(), "nothing was left");
        node.case.forget();
    }

    /// A power cut on a filesystem that does not keep its word: files end early.
    #[test]
    fn files_that_end_early_make_nothing_weaker_and_are_named() {
        let mut node = Node::new();
        let parts: &[usize] = if full() { &[0, 1, 2, 3] } else { &[0] };
        for part in parts.iter().copied() {
            let whole = Files::of_the_node();
            whole.cut(part).write();
            for command in [&["status"][..], &["list"], &["health"], &["provenance", "verify"]] {
                let answer = aegisbpf(command);
                assert!((0..=2).contains(&answer.status), "{part}: {command:?}: {answer:?}");
                assert!(answer.json.is_object(), "{part}: {command:?}: {answer:?}");
                assert!(!answer.stderr.contains("panicked"), "{part}: {command:?}: {answer:?}");
            }
            node.case.denied(&mut node.inside, "r", &read(&node.always));
            let answer = aegisbpf(&node.change());
            answer.refused("SET_MISSING", &["/var/lib/aegisbpf/sets/", "hint: put the file back"]);
            node.case.denied(&mut node.inside, "r", &read(&node.always));
            let health = aegisbpf(&["health", "--require-enforce"]);
            assert_ne!(health.status, 0, "{part}: {}", health.json);
            whole.sets().write();
            let repaired = node.goes_on("torn files");
            assert_eq!(repaired, Vec::<String>::new(), "{part}");
            node.is_proven("torn files");
        }
        // What cannot be read is no permission: the configuration says what is forbidden.
        let text = "[trust]\nallow_unsigned = \"never\"\n";
        for end in [1, text.len() / 2, text.len() - 2] {
            let _torn = config::Written::new(&text[..end]);
            let answer = aegisbpf(&node.change());
            assert_ne!(answer.status, 0, "{end}: {}", answer.json);
            assert!(answer.stderr.contains("config.toml:"), "{end}: {}", answer.stderr);
            node.case.denied(&mut node.inside, "r", &read(&node.always));
        }
        node.case.forget();
    }

    /// Files with what is in them.
    struct Files(Vec<(PathBuf, Vec<u8>)>);

    impl Files {
        /// What this node keeps, but for its log, whose torn ends are a subject of their own.
        fn of_the_node() -> Self {
            let names = [STATE, RUN].map(|top| below(Path::new(top))).concat();
            let files = names.into_iter().filter(|name| name.ends_with(".json"));
            Self(files.map(|name| (name.clone().into(), fs::read(name).unwrap())).collect())
        }

        /// The texts of what is in force.
        fn sets(&self) -> Self {
            let is_set = |path: &Path| path.starts_with(Path::new(STATE).join("sets"));
            Self(self.0.iter().filter(|(path, _)| is_set(path)).cloned().collect())
        }

        /// Of one nothing, of the next a byte, of others half, or all but a byte; which comes first is
        /// chosen.
        fn cut(&self, part: usize) -> Self {
            let cut = |(at, (path, content)): (usize, &(PathBuf, Vec<u8>))| {
                let ends = [0, 1, content.len() / 2, content.len().saturating_sub(1)];
                let end = ends[(at + part) % ends.len()].min(content.len());
                (path.clone(), content[..end].to_vec())
            };
            Self(self.0.iter().enumerate().map(cut).collect())
        }

        fn write(&self) {
            assert!(!self.0.is_empty(), "there is nothing to tear");
            for (path, content) in &self.0 {
                fs::write(path, content).unwrap();
            }
        }
    }
}
