// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Ways around that have worked elsewhere.

mod denial {
    use std::{ffi::CString, fs, path::Path};

    use aegis_tests::{Case, Process, Rule, operation::*};
    use rustix::{
        fs::ResolveFlags,
        mount::{MountFlags, UnmountFlags, mount, unmount},
    };

    #[test]
    fn no_spelling_of_a_path_gets_around_a_rule() {
        let case = Case::new();
        let secret = case.file("vault/secret");
        let top = case.path("");
        let spellings = [
            case.path("vault/../vault/./secret"),
            case.path("vault//secret"),
            top.join("../../proc/self/root").join(secret.strip_prefix("/").unwrap()),
            format!("/proc/{}/root{}", std::process::id(), secret.display()).into(),
            format!("/proc/1/cwd/..{}", secret.display()).into(),
        ];
        let mut operations: Vec<_> = spellings.iter().map(read).collect();
        operations.push(relative(case.path("vault"), "secret"));
        operations.push(relative(case.path("vault"), "../vault/secret"));
        operations.push(relative("/proc/self/root", format!("data/../{}", secret.display())));
        let mut inside = case.inside();
        case.control(&mut inside, &operations);
        case.enforce(Rule::deny("r").file(&secret).access(&["read"]));
        for operation in &operations {
            case.denied(&mut inside, "r", operation);
        }
        for event in case.settle() {
            assert_eq!(event["path"], secret.to_str().unwrap(), "an event has the one true path");
        }
    }

    #[test]
    fn no_system_call_that_opens_gets_around_a_rule() {
        let case = Case::new();
        let secret = case.file("vault/secret");
        let operations = [
            read(&secret),
            openat2(&secret, ResolveFlags::empty()),
            openat2(&secret, ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS),
            openat2(&secret, ResolveFlags::IN_ROOT),
            reopen(&secret),
            by_handle(&secret),
            in_thread(&secret),
            io_uring(&secret),
        ];
        let mut inside = case.inside();
        case.control(&mut inside, &operations);
        case.enforce(Rule::deny("r").beneath(case.path("vault")));
        for operation in &operations {
            case.denied(&mut inside, "r", operation);
        }
        case.settle();
    }

    #[test]
    fn a_mount_namespace_of_ones_own_is_no_way_around() {
        let case = Case::new();
        let secret = case.file("vault/secret");
        let (place, mount) = (case.file("place"), case.directory("mount"));
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret), leave_mounts()]);
        case.enforce(Rule::deny("r").file(&secret).beneath(case.path("vault")));
        case.allowed(&mut inside, &bind(&secret, &place));
        case.allowed(&mut inside, &bind(case.path("vault"), &mount));
        // What these paths are is another thing outside, where the file itself is the control.
        case.denied(&mut inside, "r", &read(&secret));
        case.denied_to_all(&mut inside, "r", &read(&place));
        case.denied_to_all(&mut inside, "r", &read(mount.join("secret")));
        case.file("vault/later");
        case.denied_to_all(&mut inside, "r", &read(mount.join("later")));
        case.settle();
    }

    /// Somebody who may mount puts a directory without rules over one with.
    #[test]
    fn what_is_mounted_over_the_way_changes_no_name() {
        let case = Case::new();
        let secret = case.file("a/secret");
        case.file("other/secret");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret)]);
        case.enforce(Rule::deny("r").file(&secret));
        rustix::mount::mount_bind(case.path("other"), case.path("a")).unwrap();
        case.denied(&mut inside, "r", &read(&secret));
        unmount(case.path("a"), UnmountFlags::DETACH).unwrap();
        case.settle();
    }

    /// Another filesystem shows the same files. Not on the disk of the other cases: kernels refuse layers on a
    /// filesystem that might ignore case.
    #[test]
    fn an_overlay_over_a_directory_is_no_way_around() {
        let case = Case::new();
        let top = Path::new("/xfs").join(format!("T{}", std::process::id()));
        let [vault, upper, work, merged] =
            ["vault", "upper", "work", "merged"].map(|name| top.join(name));
        for directory in [&vault, &upper, &work, &merged] {
            fs::create_dir_all(directory).unwrap();
        }
        let secret = vault.join("secret");
        fs::write(&secret, "content").unwrap();
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret)]);
        case.enforce(Rule::deny("r").beneath(&vault));
        let [lower, upper, work] = [&vault, &upper, &work].map(|path| path.display());
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        let options = CString::new(options).unwrap();
        let flags = MountFlags::empty();
        mount("overlay", &merged, "overlay", flags, Some(options.as_c_str())).unwrap();
        case.denied(&mut inside, "r", &read(merged.join("secret")));
        unmount(&merged, UnmountFlags::DETACH).unwrap();
        case.settle();
    }

    #[test]
    fn a_child_cgroup_or_a_copy_of_the_process_is_no_way_out() {
        let case = Case::new();
        let secret = case.file("secret");
        let child = case.make_cgroup(&format!("{}/child", case.workload()));
        let grandchild = case.make_cgroup(&format!("{}/child/grandchild", case.workload()));
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret)]);
        case.enforce(Rule::deny("r").file(&secret));
        case.denied(&mut inside, "r", &read(&secret));
        for cgroup in [child, grandchild] {
            inside.joins(&cgroup);
            case.denied(&mut inside, "r", &read(&secret));
        }
        let later = case.make_cgroup(&format!("{}/child/later", case.workload()));
        let mut other = Process::inside(&later);
        case.denied(&mut other, "r", &read(&secret));
        case.settle();
    }
}
