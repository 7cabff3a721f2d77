// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Workloads inside each other, by pattern and by name, and those who go from one to another.

use std::{fs, path::Path};

use aegis_tests::{Case, Policy, Process, case::CGROUPS};

/// As a service manager moves a process, or one thread of it.
fn put(cgroup: &Path, file: &str, number: u32) {
    fs::write(cgroup.join(file), number.to_string()).unwrap();
}

/// A policy `t` with a workload for each name.
fn policy(workloads: &[(&str, &str)]) -> Policy {
    let new = Policy::new("t");
    workloads.iter().fold(new, |policy, (name, cgroup)| policy.workload(name, &[cgroup]))
}

/// A process in a cgroup that is made for it.
fn process(case: &Case, cgroup: &str) -> Process {
    Process::inside(&case.make_cgroup(cgroup))
}

mod denial {
    use std::{
        ffi::OsStr,
        fs,
        os::unix::ffi::OsStrExt as _,
        path::{Path, PathBuf},
    };

    use aegis_tests::{Case, Policy, Process, Rule, machine::Mounted, operation::*};
    use rustix::mount::{MountFlags, UnmountFlags, mount, mount_move, unmount};

    use super::{CGROUPS, policy, process, put};

    #[test]
    fn a_pattern_below_a_name_and_a_name_below_a_pattern_select_alike() {
        let case = Case::new();
        let (one, two) = (case.file("one"), case.file("two"));
        let top = case.workload();
        let mut service = process(&case, &format!("{top}/svc-1.service"));
        let mut other = process(&case, &format!("{top}/other"));
        case.make_cgroup(&format!("{top}-a"));
        let mut worker = process(&case, &format!("{top}-a/worker"));
        let mut helper = process(&case, &format!("{top}-a/helper"));
        case.control(&mut service, &[read(&one), read(&two)]);
        let services = format!("{top}/svc-*.service");
        let workers = format!("{top}-*/worker");
        case.apply(
            &policy(&[("w", &services), ("workers", &workers)])
                .rule(Rule::deny("service").file(&one))
                .rule(Rule::deny("worker").of("workers").file(&two)),
        );
        case.denied(&mut service, "service", &read(&one));
        case.allowed(&mut service, &read(&two));
        case.allowed(&mut other, &read(&one));
        case.denied(&mut worker, "worker", &read(&two));
        case.allowed(&mut worker, &read(&one));
        case.allowed(&mut helper, &read(&two));
        // Below what a pattern selects, and in a cgroup that it selects only now.
        let mut below = process(&case, &format!("{top}/svc-1.service/below"));
        case.denied(&mut below, "service", &read(&one));
        case.make_cgroup(&format!("{top}-later"));
        let mut later = process(&case, &format!("{top}-later/worker"));
        case.denied(&mut later, "worker", &read(&two));
        case.settle();
    }

    /// The parent by name, its children by pattern, one child by name: all of their rules hold for it.
    #[test]
    fn workloads_inside_each_other_add_up() {
        let case = Case::new();
        let files = ["parent", "pattern", "child"].map(|name| case.file(name));
        let top = case.workload();
        let (pattern, child) = (format!("{top}/c*"), format!("{top}/child"));
        let mut inner = process(&case, &child);
        let mut sibling = process(&case, &format!("{top}/cousin"));
        let mut parent = case.inside();
        case.control(&mut inner, &files.each_ref().map(read));
        let all = [("w", top.as_str()), ("pattern", &pattern), ("child", &child)];
        case.apply(
            &policy(&all)
                .rule(Rule::deny("parent").file(&files[0]))
                .rule(Rule::deny("pattern").of("pattern").file(&files[1]))
                .rule(Rule::deny("child").of("child").file(&files[2])),
        );
        for (rule, file) in ["parent", "pattern", "child"].iter().zip(&files) {
            case.denied(&mut inner, rule, &read(file));
        }
        case.denied(&mut sibling, "parent", &read(&files[0]));
        case.denied(&mut sibling, "pattern", &read(&files[1]));
        case.allowed(&mut sibling, &read(&files[2]));
        case.denied(&mut parent, "parent", &read(&files[0]));
        case.allowed(&mut parent, &read(&files[1]));
        case.settle();
    }

    #[test]
    fn who_moves_from_one_scope_to_another_takes_the_rules_of_the_new_one() {
        let case = Case::new();
        let (one, two) = (case.file("one"), case.file("two"));
        let names = ["a", "b"].map(|name| format!("{}/{name}", case.workload()));
        let cgroups = names.each_ref().map(|name| case.make_cgroup(name));
        let mut traveller = Process::inside(&cgroups[0]);
        case.control(&mut traveller, &[read(&one), read(&two), in_thread(&one)]);
        case.apply(
            &policy(&[("w", &names[0]), ("b", &names[1])])
                .rule(Rule::deny("a").file(&one))
                .rule(Rule::deny("b").of("b").file(&two)),
        );
        for _ in 0..2 {
            case.denied(&mut traveller, "a", &read(&one));
            case.denied(&mut traveller, "a", &in_thread(&one));
            case.allowed(&mut traveller, &read(&two));
            put(&cgroups[1], "cgroup.procs", traveller.pid());
            case.denied(&mut traveller, "b", &read(&two));
            case.denied(&mut traveller, "b", &in_thread(&two));
            case.allowed(&mut traveller, &read(&one));
            put(&cgroups[0], "cgroup.procs", traveller.pid());
        }
        case.settle();
    }

    /// In a threaded cgroup each thread has a cgroup of its own.
    #[test]
    fn a_thread_in_a_cgroup_of_its_own_has_the_scope_of_that() {
        let case = Case::new();
        let secret = case.file("secret");
        let mut process = case.inside();
        case.control(&mut process, &[read(&secret), in_thread(&secret)]);
        let name = format!("{}/threads", case.workload());
        let threads = case.make_cgroup(&name);
        fs::write(threads.join("cgroup.type"), "threaded").unwrap();
        case.apply(&policy(&[("w", &name)]).rule(Rule::deny("r").file(&secret)));
        case.allowed(&mut process, &in_thread(&secret));
        let pid = process.pid();
        let thread = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
        let thread = thread.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let thread = thread.into_iter().find(|thread| *thread != pid).unwrap();
        put(&threads, "cgroup.threads", thread);
        case.denied(&mut process, "r", &in_thread(&secret));
        case.allowed(&mut process, &read(&secret));
        put(&threads, "cgroup.threads", pid);
        case.denied(&mut process, "r", &read(&secret));
        case.settle();
    }

    #[test]
    fn a_cgroup_namespace_changes_nobodys_workload() {
        let case = Case::new();
        let secret = case.file("secret");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret), leave_cgroups()]);
        case.enforce(Rule::deny("r").file(&secret));
        case.denied(&mut inside, "r", &read(&secret));
        case.settle();
    }

    #[test]
    fn names_of_cgroups_are_bytes() {
        let case = Case::new();
        let secret = case.file("secret");
        let long = [b'x'; 255];
        let names: [&[u8]; 5] = [b"a b", b"not\xffUTF-8", br"dev\x2duuid", b"star*%2A", &long];
        let mut all = Policy::new("t").workload("none", &["/no/such/cgroup"]);
        let mut processes = Vec::new();
        let top = case.workload();
        for (number, name) in names.iter().enumerate() {
            let escape = |byte: &u8| match byte {
                b'a'..=b'z' => char::from(*byte).to_string(),
                other => format!("%{other:02X}"),
            };
            let written: String = name.iter().map(escape).collect();
            let workload = format!("w{number}");
            let rule = Rule::deny(&format!("r{number}")).of(&workload).file(&secret);
            all = all.workload(&workload, &[&format!("{top}/{written}")]).rule(rule);
            let directory = Path::new(&top).join(OsStr::from_bytes(name));
            processes.push(Process::inside(&case.make_cgroup(&directory)));
        }
        let mut neighbour = Process::inside(&case.make_cgroup(&Path::new(&top).join("a")));
        case.control(&mut processes[0], &[read(&secret)]);
        case.apply(&all);
        for (number, process) in processes.iter_mut().enumerate() {
            case.denied(process, &format!("r{number}"), &read(&secret));
        }
        case.allowed(&mut neighbour, &read(&secret));
        case.settle();
    }

    #[test]
    fn a_cgroup_thirty_levels_below_belongs_to_the_workload() {
        let case = Case::new();
        let secret = case.file("secret");
        let mut name = case.workload();
        for _ in 0..30 {
            name.push_str("/d");
            case.make_cgroup(&name);
        }
        let deepest = Path::new(CGROUPS).join(name.trim_start_matches('/'));
        let mut inside = Process::inside(&deepest);
        case.control(&mut inside, &[read(&secret)]);
        case.enforce(Rule::deny("r").file(&secret));
        case.denied(&mut inside, "r", &read(&secret));
        case.settle();
    }

    /// What a cgroup was found to be under one policy is no answer under the next.
    #[test]
    fn a_new_policy_selects_others_at_once() {
        let case = Case::new();
        let secret = case.file("secret");
        let names = ["a", "b"].map(|name| format!("{}/{name}", case.workload()));
        let mut processes = names.each_ref().map(|name| process(&case, name));
        for process in &mut processes {
            case.control(process, &[read(&secret)]);
        }
        for (selected, other) in [(0, 1), (1, 0)] {
            let chosen = policy(&[("w", &names[selected])]);
            case.apply(&chosen.rule(Rule::deny("r").file(&secret)));
            case.denied(&mut processes[selected], "r", &read(&secret));
            case.allowed(&mut processes[other], &read(&secret));
        }
        case.settle();
    }

    /// A process is in one cgroup of each v1 hierarchy as well, and those are of no account.
    #[test]
    fn on_a_hybrid_host_the_cgroup2_hierarchy_decides() {
        let case = Case::new();
        let secret = case.file("secret");
        let unified = case.workload();
        let unified = unified.trim_start_matches('/');
        let hybrid = Hybrid::new(&case);
        let (v1, v2) = (hybrid.path("systemd"), hybrid.path("unified"));
        let (like, elsewhere) = (v1.join(unified), v2.join(format!("{unified}-elsewhere")));
        fs::create_dir(&like).unwrap();
        fs::create_dir(&elsewhere).unwrap();
        let mut inside = Process::inside(&v2.join(unified));
        let mut outside = Process::inside(&elsewhere);
        outside.joins(&like);
        case.control(&mut inside, &[read(&secret)]);
        case.enforce(Rule::deny("r").file(&secret));
        case.denied(&mut inside, "r", &read(&secret));
        case.allowed(&mut outside, &read(&secret));
        case.settle();
        // No process is left in what is taken away.
        drop((inside, outside));
        fs::remove_dir(&like).unwrap();
    }

    /// Something else is mounted over it: whoever works there works in another filesystem.
    #[test]
    fn a_mount_of_the_hierarchy_that_is_hidden_is_not_taken() {
        let case = Case::new();
        let secret = case.file("secret");
        let place = case.directory("place");
        let hidden = Mounted::new("cgroup2", "cgroup2", &place, "");
        let over = Mounted::tmpfs(&place);
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret)]);
        case.enforce(Rule::deny("r").file(&secret));
        case.denied(&mut inside, "r", &read(&secret));
        case.settle();
        assert_eq!(fs::read_dir(&place).unwrap().count(), 0, "nothing was made there");
        over.unmount();
        hidden.unmount();
    }

    /// Hierarchies as systemd mounts them on hybrid hosts, until it is dropped.
    struct Hybrid {
        aside: PathBuf,
    }

    impl Hybrid {
        fn new(case: &Case) -> Self {
            let hybrid = Self { aside: case.directory("aside") };
            let (v1, v2) = (hybrid.path("systemd"), hybrid.path("unified"));
            let plain = MountFlags::empty();
            mount_move(CGROUPS, &hybrid.aside).unwrap();
            mount("tmpfs", CGROUPS, "tmpfs", plain, None).unwrap();
            fs::create_dir(&v1).unwrap();
            fs::create_dir(&v2).unwrap();
            mount_move(&hybrid.aside, &v2).unwrap();
            mount("cgroup", &v1, "cgroup", plain, Some(c"none,name=systemd")).unwrap();
            hybrid
        }

        fn path(&self, name: &str) -> PathBuf {
            Path::new(CGROUPS).join(name)
        }
    }

    impl Drop for Hybrid {
        fn drop(&mut self) {
            unmount(self.path("systemd"), UnmountFlags::DETACH).unwrap();
            mount_move(self.path("unified"), &self.aside).unwrap();
            unmount(CGROUPS, UnmountFlags::DETACH).unwrap();
            mount_move(&self.aside, CGROUPS).unwrap();
        }
    }
}
