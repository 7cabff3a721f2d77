// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What goes wrong, says so, and leaves exactly the state from before.

use aegis_tests::program::aegisbpf_as_nobody;

#[test]
fn whoever_is_not_root_is_told_so() {
    let answer = aegisbpf_as_nobody(&["detach", "--reason", "mischief"]);
    answer.refused("NOT_ROOT", &["only root", "hint: run this as root"]);
    let status = aegisbpf_as_nobody(&["status"]);
    assert_eq!(status.json["reason_code"], "NOT_ROOT", "{}", status.json);
    assert_eq!(status.status, 2, "who cannot tell says neither yes nor no");
}

mod denial {
    use std::{
        fs,
        fs::File,
        os::unix::process::ExitStatusExt as _,
        path::{Path, PathBuf},
        process::{Command, Output, Stdio},
    };

    use aegis_tests::{
        Case, Policy, Rule, aegisbpf,
        operation::*,
        program::{Answer, aegisbpf_as_nobody, command},
    };
    use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount};
    use rustix::process::{Resource, Rlimit};
    use serde_json::Value;

    use crate::life::{below, pins};

    #[test]
    fn a_bad_policy_is_refused_with_every_fault_and_its_place() {
        let case = InForce::new();
        let file = "/tmp/bad.toml";
        fs::write(file, "schema = 1\nname = \"t\"\nversion = 0\nnonsense = 1\n").unwrap();
        let answer = aegisbpf(&["apply", file, "--allow-unsigned"]);
        answer.refused("BAD_POLICY", &["bad.toml:3:", "bad.toml:4:", "nonsense"]);
        let answer = aegisbpf(&["apply", "/tmp/no-such-file.toml", "--allow-unsigned"]);
        answer.failed(&["/tmp/no-such-file.toml", "No such file"]);
        case.unchanged();
    }

    #[test]
    fn a_file_written_as_a_directory_is_refused() {
        let case = InForce::new();
        let policy = case.newer(Rule::deny("r").beneath(&case.secret));
        case.case.try_apply(&policy).refused("OBJECTS", &["hint: "]);
        case.unchanged();
    }

    #[test]
    fn without_bpffs_types_or_root_nothing_is_tried() {
        let case = InForce::new();
        let policy = case.case.write_policy(&case.newer(Rule::deny("r").file(&case.secret)));
        let apply = ["apply", &policy, "--allow-unsigned"];
        let over = |path: &str, code: &str, said: &[&str]| {
            mount("tmpfs", path, "tmpfs", MountFlags::empty(), None).unwrap();
            let answer = aegisbpf(&apply);
            unmount(path, UnmountFlags::empty()).unwrap();
            answer.refused(code, said);
        };
        over("/sys/fs/bpf", "NO_BPFFS", &["hint: mount -t bpf bpf /sys/fs/bpf"]);
        over("/sys/kernel/btf", "NO_BTF", &["NO_BTF: ", "hint: "]);
        aegisbpf_as_nobody(&apply).refused("NOT_ROOT", &["hint: run this as root"]);
        case.unchanged();
    }

    #[test]
    fn of_two_applies_at_once_one_is_refused() {
        let case = InForce::new();
        let held = File::open("/run/aegisbpf/lock").unwrap();
        rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
        let policy = case.newer(Rule::deny("r").file(&case.secret));
        case.case.try_apply(&policy).refused("LOCKED", &["another command", "hint: wait"]);
        case.unchanged();
        drop(held);
        // And two that really start together: each succeeds or is refused, and the end is one whole set.
        let file = |name: &str| {
            let mut policy = case.newer(Rule::deny("r").file(&case.secret));
            policy.name = name.to_owned();
            case.case.write_policy(&policy)
        };
        let start = |file: &str| {
            let mut apply = command(&["apply", file, "--allow-unsigned"]);
            apply.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let both = [start(&file("t-one")), start(&file("t-two"))];
        let answers = both.map(|child| Answer::of(child.wait_with_output().unwrap()));
        let done = answers.iter().filter(|answer| answer.status == 0).count();
        assert!(done >= 1, "{answers:?}");
        for answer in answers.iter().filter(|answer| answer.status != 0) {
            answer.refused("LOCKED", &["`aegisbpf apply`"]);
        }
        let list = aegisbpf(&["list"]).yes();
        assert_eq!(list["policies"].as_array().map(Vec::len), Some(1 + done), "{list}");
        for (name, answer) in ["t-one", "t-two"].iter().zip(&answers) {
            if answer.status == 0 {
                aegisbpf(&["remove", name, "--reason", "the test has ended"]).yes();
            }
        }
    }

    #[test]
    fn a_full_or_read_only_disk_is_told_and_changes_nothing() {
        let case = InForce::new();
        let state = Path::new("/var/lib/aegisbpf");
        let copy = copy_of(state);
        let policy = case.newer(Rule::deny("r").file(&case.secret).file(case.case.path("more")));

        mount("tmpfs", state, "tmpfs", MountFlags::empty(), Some(c"size=2m")).unwrap();
        copy_all(&copy, state);
        let filler = state.join("filler");
        while fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(&filler)
            .and_then(|mut file| std::io::Write::write_all(&mut file, &[0; 4096]))
            .is_ok()
        {}
        let answer = case.case.try_apply(&policy);
        unmount(state, UnmountFlags::empty()).unwrap();
        answer.failed(&["/var/lib/aegisbpf", "No space left on device", "hint: free some space"]);
        case.unchanged();

        mount_bind(state, state).unwrap();
        mount_remount(state, MountFlags::BIND | MountFlags::RDONLY, c"").unwrap();
        let answer = case.case.try_apply(&policy);
        unmount(state, UnmountFlags::empty()).unwrap();
        answer.failed(&["/var/lib/aegisbpf", "Read-only file system", "hint: "]);
        case.unchanged();
    }

    /// More answers than there is memory for.
    #[test]
    fn an_apply_without_memory_changes_nothing() {
        let case = InForce::new();
        let mut policy = case.case.policy();
        for number in 0..WORKLOADS {
            let workload = format!("w{number}");
            let cgroup = format!("{}-{number}", case.case.workload());
            let object = case.case.path(format!("many/{number}"));
            policy = policy.workload(&workload, &[&cgroup]);
            policy = policy.rule(Rule::deny(&format!("r{number}")).of(&workload).file(object));
        }
        let file = case.case.write_policy(&policy);
        let mut apply = command(&["apply", &file, "--allow-unsigned"]);
        if std::env::var("AEGIS_KERNEL").as_deref() == Ok("5.10") {
            let answer = Answer::of(with_locked_memory(&mut apply));
            answer.failed(&["failed to fill a generation", "hint: free memory"]);
        } else {
            let killed = with_memory(&mut apply).status;
            assert_eq!(killed.signal(), Some(9), "{} MB were enough", MEMORY >> 20);
        }
        case.unchanged();
    }

    /// Before 5.11 maps count as locked memory.
    fn with_locked_memory(apply: &mut Command) -> Output {
        // libbpf would take the limit away again.
        let resource = rustix::thread::CapabilitySet::SYS_RESOURCE;
        rustix::thread::remove_capability_from_bounding_set(resource).unwrap();
        let limit = Rlimit { current: Some(LOCKED), maximum: Some(LOCKED) };
        rustix::process::setrlimit(Resource::Memlock, limit).unwrap();
        apply.output().unwrap()
    }

    /// Later, as memory of the cgroup in which commands work; there the kernel kills who asks for too much.
    fn with_memory(apply: &mut Command) -> Output {
        let controllers = "/sys/fs/cgroup/cgroup.subtree_control";
        fs::write(controllers, "+memory").unwrap();
        fs::write("/sys/fs/cgroup/aegisbpf/memory.max", MEMORY.to_string()).unwrap();
        let output = apply.output().unwrap();
        fs::write(controllers, "-memory").unwrap();
        output
    }

    /// A node that enforces one policy, and everything about it that must stay.
    struct InForce {
        case: Case,
        secret: PathBuf,
        state: Value,
        left: Vec<String>,
    }

    impl InForce {
        fn new() -> Self {
            let (case, secret, mut inside) = Case::of_a_secret();
            case.denied(&mut inside, "r", &read(&secret));
            let (state, left) = state();
            Self { case, secret, state, left }
        }

        fn newer(&self, rule: Rule) -> Policy {
            self.case.policy().rule(rule)
        }

        #[track_caller]
        fn unchanged(&self) {
            let (now, left) = state();
            assert_eq!(now, self.state, "status");
            assert_eq!(left, self.left, "what is left behind");
            let mut inside = self.case.inside();
            self.case.denied(&mut inside, "r", &read(&self.secret));
            self.case.settle();
        }
    }

    /// What a node says of itself, without what moves, and every file of ours.
    fn state() -> (Value, Vec<String>) {
        let mut status = aegisbpf(&["status"]).yes();
        let fields = status.as_object_mut().unwrap();
        fields.remove("proof");
        fields.remove("proof_age_seconds");
        fields.remove("counters");
        let mut files = pins();
        for path in ["/run/aegisbpf", "/var/lib/aegisbpf", "/sys/fs/cgroup/aegisbpf"] {
            files.extend(below(Path::new(path)));
        }
        (status, files)
    }

    fn copy_of(directory: &Path) -> PathBuf {
        let copy = PathBuf::from(format!("/tmp/T{}-state", std::process::id()));
        fs::create_dir(&copy).unwrap();
        copy_all(directory, &copy);
        copy
    }

    fn copy_all(from: &Path, to: &Path) {
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let place = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                fs::create_dir(&place).unwrap();
                copy_all(&entry.path(), &place);
            } else {
                fs::copy(entry.path(), place).unwrap();
            }
        }
    }

    /// So many scopes, and as many labels: 36 MB of answers.
    const WORKLOADS: usize = 1000;
    const MEMORY: usize = 24 << 20;
    const LOCKED: u64 = 24 << 20;
}
