// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is on record of what was enforced, and who can tell whether the record is whole.
//!
//! Each test begins with a machine on which nothing was ever applied, and leaves one like that.

use std::{
    fs,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
};

use aegis_tests::{Case, Policy, Rule, aegisbpf};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::Value;

#[test]
fn every_change_and_every_refusal_is_on_record() {
    let node = Node::new();
    let policy = node.apply(2);
    let older = node.policy(1);
    node.case.try_apply(&older).refused("VERSION_LOWER", &[]);
    aegisbpf(&["remove", "other", "--reason", "a slip"]).refused("NO_SUCH_POLICY", &[]);
    aegisbpf(&["apply", "/tmp/none.toml", "--allow-unsigned"]).failed(&["No such file"]);
    node.case.removed(&policy.name);
    aegisbpf(&["emergency", "disable", "--reason", "a drill"]).yes();
    aegisbpf(&["detach", "--reason", "the end"]).yes();
    // It ends with what it was about, also over a reboot.
    assert!(!Path::new("/var/lib/aegisbpf/emergency.json").exists());

    let shown = aegisbpf(&["provenance", "show"]).yes();
    let entries = records(&shown);
    let said: Vec<String> = entries
        .iter()
        .map(|record| {
            let entry = &record["entry"];
            let code = entry["error"]["code"].as_str().unwrap_or("-");
            format!("{} {} {code}", text(&entry["command"]), text(&entry["phase"]))
        })
        .collect();
    assert_eq!(
        said,
        [
            "log note LOG_BEGUN",
            "apply begin -",
            "apply done -",
            "apply refused VERSION_LOWER",
            "remove refused NO_SUCH_POLICY",
            "apply refused ERROR",
            "remove begin -",
            "remove done -",
            "emergency disable done -",
            "detach begin -",
            "detach done -",
        ]
    );
    let done = &entries[2];
    assert_eq!(done["uid"], 0);
    assert!(done["pid"].is_u64() && done["boot"].is_string() && done["time"].is_string(), "{done}");
    let entry = &done["entry"];
    assert_eq!(entry["begun"], 2);
    assert_eq!(entry["policies"], serde_json::json!([policy.name]));
    let set = &entry["effect"]["in_force"];
    assert_eq!(set["policies"][0]["version"], 2, "{set}");
    assert_eq!(set["policies"][0]["mode"], "enforce", "{set}");
    assert_eq!(entry["proof"]["by-inode"], "denied_by_us", "{entry}");
    assert!(entry["steps"].as_array().is_some_and(|steps| steps.len() > 5), "{entry}");
    let remove = &entries[6]["entry"];
    assert_eq!(remove["weakening"], true);
    assert_eq!(remove["reason"], "a test");
    assert_eq!(remove["before"], set["set_digest"], "{remove}");
    let about = aegisbpf(&["provenance", "show", "--policy", "other"]).yes();
    assert_eq!(records(&about).len(), 1, "{about}");
}

#[test]
fn the_kernel_knows_the_newest_entry_and_finds_what_was_done_to_the_log() {
    let node = Node::new();
    node.apply(1);
    let whole = aegisbpf(&["provenance", "verify"]).yes();
    assert_eq!(whole["kernel"]["confirms"], whole["head"]["sequence"], "{whole}");
    assert_eq!(whole["head"]["sequence"], 3, "{whole}");
    let segment = node.segment();
    let bytes = fs::read(&segment).unwrap();

    let found = |code: &str| {
        let answer = aegisbpf(&["provenance", "verify"]);
        assert_eq!((answer.status, &answer.json["whole"]), (1, &Value::Bool(false)), "{answer:?}");
        let faults = answer.json["faults"].as_array().unwrap();
        assert!(faults.iter().any(|fault| fault["code"] == code), "no {code}: {}", answer.json);
    };
    let mut changed = bytes.clone();
    changed[bytes.len() / 2] ^= 1;
    fs::write(&segment, &changed).unwrap();
    found("BAD_LINE");
    // Without its last line every line that is left is as it was written.
    let shorter = bytes[..bytes.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    fs::write(&segment, &bytes[..shorter]).unwrap();
    found("KERNEL_HEAD");
    fs::remove_file(&segment).unwrap();
    found("KERNEL_HEAD");
    fs::write(&segment, &bytes).unwrap();
    assert_eq!(aegisbpf(&["provenance", "verify"]).yes(), whole);

    // Who goes on with a log that was shortened says so, and begins another instance.
    fs::write(&segment, &bytes[..shorter]).unwrap();
    node.apply(2);
    let verified = aegisbpf(&["provenance", "verify"]);
    assert_eq!(verified.status, 1, "{verified:?}");
    let noted = verified.json["on_record"].as_array().unwrap();
    assert_eq!(noted.last().unwrap()["code"], "LOG_LOST", "{}", verified.json);
    assert_ne!(verified.json["instance"], whole["instance"]);
    let head = text(&verified.json["head"]["hash"]);
    let vouched = aegisbpf(&["provenance", "verify", "--head", head]).yes();
    assert_eq!(vouched["given"]["confirms"], vouched["head"]["sequence"]);
    let gone = text(&whole["head"]["hash"]);
    assert_eq!(aegisbpf(&["provenance", "verify", "--head", gone]).status, 1);
}

#[test]
fn what_somebody_put_in_force_without_us_is_found() {
    let node = Node::new();
    node.apply(1);
    // The programs go, and nobody said so.
    for pin in crate::life::pins() {
        let path = Path::new("/sys/fs/bpf").join(pin.trim_start_matches("/sys/fs/bpf/"));
        if path.is_file() {
            fs::remove_file(path).unwrap();
        }
    }
    fs::remove_dir("/sys/fs/bpf/aegisbpf").unwrap();
    let answer = aegisbpf(&["provenance", "verify"]);
    assert_eq!(answer.status, 1, "{answer:?}");
    assert_eq!(answer.json["faults"][0]["code"], "KERNEL_ACTIVE", "{}", answer.json);
}

#[test]
fn which_policy_was_enforced_at_a_time_is_one_line() {
    let node = Node::new();
    let before = node.apply(1);
    let first = aegisbpf(&["provenance", "show", "--last", "1"]).yes();
    let then = text(&records(&first)[0]["time"]).to_owned();
    node.apply(2);
    node.case.removed(&before.name);

    let answer = aegisbpf(&["provenance", "at", &then]).yes();
    assert_eq!(answer["trusted"], true, "{answer}");
    let policy = &answer["in_force"]["policies"][0];
    assert_eq!((text(&policy["name"]), &policy["version"]), (before.name.as_str(), &1.into()));
    assert_eq!(answer["since"]["uid"], 0, "{answer}");
    let (status, line, _) = aegis_tests::program::aegisbpf_for_people(&["provenance", "at", &then]);
    assert_eq!((status, line.lines().count()), (0, 1), "{line}");
    assert!(line.contains(&format!("{} version 1 (enforce, sha256:", before.name)), "{line}");
    assert!(line.contains("the log is whole, as the kernel confirms"), "{line}");

    let last = aegisbpf(&["provenance", "show", "--last", "1"]).yes();
    let now = text(&records(&last)[0]["time"]).to_owned();
    let answer = aegisbpf(&["provenance", "at", &now]).yes();
    assert_eq!(answer["in_force"]["policies"], serde_json::json!([]), "{answer}");
    let long_ago = aegisbpf(&["provenance", "at", "1999-12-31T23:59Z"]);
    assert_eq!((long_ago.status, &long_ago.json["known"]), (2, &Value::Bool(false)));

    // A copy of the log says the same elsewhere, where there is no kernel to ask.
    let copy = "/tmp/provenance.jsonl";
    let exported = aegisbpf(&["provenance", "export", "--output", copy]).yes();
    let head = text(&exported["head"]["hash"]);
    let verify = ["provenance", "verify", "--file", copy, "--head", head];
    assert_eq!(aegisbpf(&verify).yes()["entries"], exported["entries"]);
    let answer = aegisbpf(&["provenance", "at", &then, "--file", copy]).yes();
    assert_eq!(answer["in_force"]["policies"][0]["version"], 1, "{answer}");
    let mut bytes = fs::read(copy).unwrap();
    bytes[100] ^= 1;
    fs::write(copy, bytes).unwrap();
    assert_eq!(aegisbpf(&["provenance", "at", &then, "--file", copy]).status, 1);
}

#[test]
fn each_head_is_told_to_the_journal() {
    let node = Node::new();
    fs::create_dir_all("/run/systemd/journal").unwrap();
    let journal = UnixDatagram::bind("/run/systemd/journal/socket").unwrap();
    journal.set_nonblocking(true).unwrap();
    node.apply(1);
    let mut heads = Vec::new();
    let mut buffer = [0; 65536];
    while let Ok(size) = journal.recv(&mut buffer) {
        let fields = String::from_utf8_lossy(&buffer[..size]).into_owned();
        assert!(fields.contains("SYSLOG_IDENTIFIER=aegisbpf\n"), "{fields}");
        let head = fields.lines().find_map(|line| line.strip_prefix("AEGISBPF_LOG_HEAD="));
        heads.extend(head.map(str::to_owned));
    }
    fs::remove_dir_all("/run/systemd").unwrap();
    assert_eq!(heads.len(), 3, "{heads:?}");
    for head in &heads {
        aegisbpf(&["provenance", "verify", "--head", head]).yes();
    }
    let verified = aegisbpf(&["provenance", "verify"]).yes();
    assert_eq!(text(&verified["head"]["hash"]), heads[2]);
}

#[test]
fn on_a_full_disk_nothing_is_weakened_that_is_not_on_record() {
    let node = Node::new();
    let policy = node.apply(1);
    let state = Path::new("/var/lib/aegisbpf");
    let segment = node.segment();
    let segment = (segment.clone(), fs::read(&segment).unwrap());
    let sets = fs::read_dir(state.join("sets")).unwrap();
    let sets = sets.map(|set| set.unwrap().path()).map(|set| (set.clone(), fs::read(set).unwrap()));
    let sets: Vec<_> = sets.collect();
    mount("tmpfs", state, "tmpfs", MountFlags::empty(), Some(c"size=1m,mode=700")).unwrap();
    for (path, bytes) in sets.iter().chain([&segment]) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    // Whoever writes makes the reserve, while there is room.
    let slip = || aegisbpf(&["remove", "x", "--reason", "y"]);
    slip().refused("NO_SUCH_POLICY", &[]);
    let filler = state.join("filler");
    fs::write(&filler, vec![0; 2 << 20]).unwrap_err();
    // What is left of the segment's last page takes some small entries.
    let full = (0..10).find(|_| slip().stderr.contains("not in the provenance log"));
    assert!(full.is_some(), "the disk is not full");
    let reason = "a reason that is longer than what may be left of a page ".repeat(4);
    for weakening in [&["remove", "p", "--reason", &reason][..], &["detach", "--reason", &reason]] {
        let answer = aegisbpf(weakening);
        answer.failed(&["No space left on device", "hint: free some space"]);
        assert!(answer.stderr.contains("not in the provenance log"), "{}", answer.stderr);
    }
    let status = aegisbpf(&["status"]).yes();
    assert_eq!(status["runtime_state"], "ENFORCE", "{status}");
    let verified = aegisbpf(&["provenance", "verify"]).yes();
    assert_eq!(verified["kernel"]["confirms"], verified["head"]["sequence"], "{verified}");
    fs::remove_file(&filler).unwrap();
    node.case.removed(&policy.name);
    aegisbpf(&["provenance", "verify"]).yes();
    aegisbpf(&["detach", "--reason", "the end"]).yes();
    unmount(state, UnmountFlags::empty()).unwrap();
}

#[test]
fn a_log_that_cannot_be_gone_on_with_is_kept_aside_on_record() {
    let node = Node::new();
    let policy = node.apply(1);
    let segment = node.segment();
    let mut bytes = fs::read(&segment).unwrap();
    let last = bytes.len() - 100;
    bytes[last] ^= 1;
    fs::write(&segment, &bytes).unwrap();
    let answer = aegisbpf(&["remove", &policy.name, "--reason", "x"]);
    answer.refused("LOG_BROKEN", &["hint: ", "aegisbpf provenance restart"]);
    let answer = aegisbpf(&["provenance", "restart", "--reason", "a bad block"]).yes();
    let kept = Path::new(text(&answer["kept_in"])).join(segment.file_name().unwrap());
    assert_eq!(fs::read(kept).unwrap(), bytes);
    let verified = aegisbpf(&["provenance", "verify"]);
    let codes: Vec<&str> = verified.json["on_record"]
        .as_array()
        .unwrap()
        .iter()
        .map(|noted| text(&noted["code"]))
        .collect();
    assert_eq!(codes, ["LOG_BEGUN", "LOG_LOST", "LOG_RESTARTED"], "{}", verified.json);
    assert_eq!(verified.status, 1);
    node.case.removed(&policy.name);
}

/// A machine without a past.
struct Node {
    case: Case,
    secret: PathBuf,
}

impl Node {
    fn new() -> Self {
        aegisbpf(&["detach", "--purge", "--reason", "a test begins"]).yes();
        let case = Case::new();
        let secret = case.file("secret");
        Self { case, secret }
    }

    fn policy(&self, version: u32) -> Policy {
        let mut policy = self.case.policy().rule(Rule::deny("r").file(&self.secret));
        policy.name = "p".to_owned();
        policy.version = Some(version);
        policy
    }

    /// Puts the policy `p` in force.
    #[track_caller]
    fn apply(&self, version: u32) -> Policy {
        let policy = self.policy(version);
        self.case.try_apply(&policy).yes();
        policy
    }

    /// The log's only segment.
    fn segment(&self) -> PathBuf {
        let log = fs::read_dir("/var/lib/aegisbpf/provenance").unwrap();
        let names = log.map(|entry| entry.unwrap().path());
        let mut segments =
            names.filter(|name| name.extension().is_some_and(|extension| extension == "jsonl"));
        let segment = segments.next().expect("a segment");
        assert_eq!(segments.next(), None, "one segment");
        segment
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            aegisbpf(&["detach", "--purge", "--reason", "the test has ended"]).yes();
        }
    }
}

fn records(shown: &Value) -> Vec<&Value> {
    shown["entries"].as_array().unwrap().iter().map(|entry| &entry["record"]).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}
