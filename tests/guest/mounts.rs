// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is mounted where, by whom and when: a rule holds for the thing and its name, not for a mount.

use std::process::Command;

use aegis_tests::{Case, Process, Rule, aegisbpf, machine::Mounted, operation::*};

/// Who makes a mount namespace, as every container and many services do, tells the mounts in it to be private.
#[test]
fn a_mount_namespace_that_is_made_moves_nothing_and_a_mount_does() {
    let case = Case::new();
    let secret = case.file("here/secret");
    case.enforce(Rule::deny("r").file(&secret));
    let made = Command::new("/bin/busybox")
        .args(["unshare", "-m", "/bin/busybox", "true"])
        .status()
        .unwrap();
    assert!(made.success(), "{made}");
    let status = aegisbpf(&["status"]).yes();
    assert_eq!(status["reason_code"], "PROVEN", "{status}");
    let mounted = Mounted::tmpfs(case.path("here"));
    let status = aegisbpf(&["status"]).yes();
    assert_eq!(status["reason_code"], "OBJECTS_MOVED", "{status}");
    drop(mounted);
}

fn reason() -> serde_json::Value {
    aegisbpf(&["status"]).yes()["reason_code"].clone()
}

#[test]
fn a_mount_that_is_taken_away_moves_what_was_bound_in_it() {
    let case = Case::new();
    let mounted = Mounted::tmpfs(case.directory("here"));
    let secret = case.file("here/secret");
    case.enforce(Rule::deny("r").file(&secret));
    assert_eq!(reason(), "PROVEN");
    mounted.unmount();
    assert_eq!(reason(), "OBJECTS_MOVED");
}

#[test]
fn what_becomes_the_root_of_a_mount_namespace_moves_what_is_bound_in_it() {
    let case = Case::new();
    let (vault, new) = (case.directory("vault"), case.directory("new"));
    case.directory("vault/old");
    case.enforce(Rule::deny("r").beneath(&vault));
    let mut outsider = Process::outside();
    case.allowed(&mut outsider, &leave_mounts());
    case.allowed(&mut outsider, &bind(&vault, &new));
    assert_eq!(reason(), "PROVEN");
    case.allowed(&mut outsider, &pivot(&new, new.join("old")));
    assert_eq!(reason(), "OBJECTS_MOVED");
}

mod denial {
    use std::{
        fs,
        os::unix::fs::MetadataExt as _,
        path::{Path, PathBuf},
    };

    use aegis_tests::{
        Case, Process, Rule,
        machine::{Mounted, drop_caches},
        operation::*,
        policy::newer_version,
    };

    #[test]
    fn a_user_namespace_of_somebody_without_rights_is_no_way_around() {
        let case = Case::new();
        let secret = case.file("vault/secret");
        let exact = case.file("exact");
        let (place, mount) = (case.file("place"), case.directory("mount"));
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret), read(&exact), user_namespace()]);
        case.enforce(Rule::deny("r").file(&exact).beneath(case.path("vault")));
        case.allowed(&mut inside, &bind(case.path("vault"), &mount));
        case.allowed(&mut inside, &bind(&exact, &place));
        for path in [&secret, &exact, &place, &mount.join("secret")] {
            case.denied_to_all(&mut inside, "r", &read(path));
        }
        let later = case.file("vault/later");
        case.denied_to_all(&mut inside, "r", &read(mount.join("later")));
        case.denied_to_all(&mut inside, "r", &read(&later));
        case.settle();
    }

    #[test]
    fn a_copy_of_a_tree_that_is_mounted_nowhere_is_no_way_around() {
        let case = Case::new();
        let secret = case.file("vault/deep/secret");
        let vault = case.path("vault");
        let deep = case.path("vault/deep");
        let top = case.path("");
        let tries = [
            read_in_tree(&vault, "deep/secret"),
            read_in_tree(&deep, "secret"),
            read_in_tree(&top, "vault/deep/secret"),
        ];
        let mut inside = case.inside();
        case.control(&mut inside, &tries);
        case.enforce(Rule::deny("r").beneath(&vault));
        for each in &tries {
            case.denied(&mut inside, "r", each);
        }
        case.denied(&mut inside, "r", &read(&secret));
        case.settle();
    }

    #[test]
    fn a_tree_that_is_mounted_elsewhere_and_moved_on_is_no_way_around() {
        let case = Case::new();
        let secret = case.file("vault/secret");
        let (one, two) = (case.directory("one"), case.directory("two"));
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret), leave_mounts()]);
        case.enforce(Rule::deny("r").beneath(case.path("vault")));
        case.allowed(&mut inside, &clone_tree(case.path("vault"), &one));
        case.denied_to_all(&mut inside, "r", &read(one.join("secret")));
        case.allowed(&mut inside, &move_tree(&one, &two));
        case.denied_to_all(&mut inside, "r", &read(two.join("secret")));
        case.file("vault/later");
        case.denied_to_all(&mut inside, "r", &read(two.join("later")));
        case.settle();
    }

    #[test]
    fn another_root_of_the_process_or_of_its_mounts_is_no_way_around() {
        let case = Case::new();
        let secret = case.file("vault/secret");
        case.directory("vault/old");
        let new = case.directory("new");
        let mut inside = case.inside();
        let mut pivoting = case.inside();
        case.control(&mut inside, &[read(&secret), leave_mounts()]);
        case.control(&mut pivoting, &[read(&secret), leave_mounts()]);
        case.enforce(Rule::deny("r").beneath(case.path("vault")));
        case.allowed(&mut inside, &change_root(case.path("vault")));
        case.denied_to_all(&mut inside, "r", &read("/secret"));
        case.allowed(&mut pivoting, &bind(case.path("vault"), &new));
        case.allowed(&mut pivoting, &pivot(&new, new.join("old")));
        case.denied_to_all(&mut pivoting, "r", &read("/secret"));
        case.allowed(&mut pivoting, &unmount_from("/old"));
        case.denied_to_all(&mut pivoting, "r", &read("/secret"));
        case.settle();
    }

    #[test]
    fn mounts_stacked_on_the_way_change_no_name() {
        let case = Case::new();
        let secret = case.file("a/b/secret");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret)]);
        let rule = || Rule::deny("r").file(&secret);
        case.enforce(rule());
        let _first = Mounted::tmpfs(case.path("a"));
        case.file("a/b/secret");
        case.denied(&mut inside, "r", &read(&secret));
        let second = Mounted::tmpfs(case.path("a"));
        case.file("a/b/secret");
        case.denied(&mut inside, "r", &read(&secret));
        let neighbour = case.file("a/b/neighbour");
        // What was not there when objects were bound may be any of them, until they are bound afresh.
        case.denied(&mut inside, "r", &read(&neighbour));
        case.enforce(rule());
        case.allowed(&mut inside, &read(&neighbour));
        second.unmount();
        case.denied(&mut inside, "r", &read(&secret));
        case.settle();
    }

    #[test]
    fn what_is_mounted_over_a_denied_file_is_denied_at_its_place() {
        let case = Case::new();
        let (secret, other) = (case.file("secret"), case.file("other"));
        // There is one more mount point on the way to the one, and none on the way to the other.
        let at_the_top = PathBuf::from(format!("/secret-{}", std::process::id()));
        fs::write(&at_the_top, "content").unwrap();
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret), read(&at_the_top), read(&other)]);
        case.enforce(Rule::deny("r").file(&secret).file(&at_the_top));
        for secret in [&secret, &at_the_top] {
            let over = Mounted::bind(&other, secret);
            case.denied(&mut inside, "r", &read(secret));
            case.allowed(&mut inside, &read(&other));
            over.unmount();
            case.denied(&mut inside, "r", &read(secret));
        }
        case.settle();
        fs::remove_file(at_the_top).unwrap();
    }

    /// Opens are judged by where the mount lies as well, and names by where they are.
    #[test]
    fn what_is_seen_through_a_mount_is_opened_as_its_place_says() {
        let case = Case::new();
        let (file, spare) = (case.file("other/file"), case.file("other/spare"));
        let place = case.directory("way/place");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&file), create(case.path("other/made"))]);
        case.enforce(Rule::deny("r").beneath(case.path("way")));
        let mounted = Mounted::bind(file.parent().unwrap(), &place);
        case.denied(&mut inside, "r", &read(place.join("file")));
        case.allowed(&mut inside, &read(&file));
        case.denied_to_all(&mut inside, "r", &create(place.join("new")));
        assert_eq!(fs::metadata(case.path("other/new")).unwrap().len(), 0);
        case.allowed(&mut inside, &unlink(place.join("spare")));
        assert!(!spare.exists());
        mounted.unmount();
        case.settle();
    }

    /// Its new place excepts the name that a file in the mount has.
    #[test]
    fn what_a_directory_took_along_holds_for_what_is_mounted_on_it() {
        let case = Case::new();
        let (denied, there) = (case.directory("denied"), case.path("there"));
        let other = case.file("other/file");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&other), list(&denied)]);
        let except = Rule::deny("e").beneath(&there).except_file(there.join("file"));
        let except = except.access(&["exec"]);
        let policy = case.policy().rule(Rule::deny("r").beneath(&denied)).rule(except);
        case.apply(&policy);
        fs::rename(&denied, &there).unwrap();
        // In the second generation it is what the other rule names.
        for _ in 0..2 {
            let mounted = Mounted::bind(other.parent().unwrap(), &there);
            case.denied(&mut inside, "r", &read(there.join("file")));
            case.allowed(&mut inside, &read(&other));
            mounted.unmount();
            case.apply(&policy.clone().version(newer_version()));
        }
        case.settle();
    }

    #[test]
    fn names_that_a_directory_took_along_are_those_of_what_is_mounted_on_it() {
        let case = Case::new();
        let (other, neighbour) = (case.file("other/secret"), case.file("other/neighbour"));
        let (way, elsewhere) = (case.directory("way"), case.path("elsewhere"));
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&other)]);
        // It was not there when names were bound below it, and is where none are when something is mounted on it.
        case.enforce(Rule::deny("r").file(way.join("vault/secret")));
        fs::create_dir(way.join("vault")).unwrap();
        fs::rename(way.join("vault"), &elsewhere).unwrap();
        let mounted = Mounted::bind(other.parent().unwrap(), &elsewhere);
        case.denied(&mut inside, "r", &read(elsewhere.join("secret")));
        case.allowed(&mut inside, &read(elsewhere.join("neighbour")));
        case.allowed(&mut inside, &read(&neighbour));
        mounted.unmount();
        case.settle();
    }

    /// On the filesystem of the root, where a mount is the first thing on the way up.
    #[test]
    fn names_reach_into_a_mount_below_directories_that_were_not_there() {
        let case = Case::new();
        let (other, neighbour) = (case.file("other/secret"), case.file("other/neighbour"));
        let top = PathBuf::from(format!("/top-{}", std::process::id()));
        let (old, new) = (top.join("old"), top.join("old/a/b"));
        fs::create_dir_all(&old).unwrap();
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&other)]);
        case.enforce(Rule::deny("r").file(new.join("secret")));
        // Once below what was there, once below what took its place, and once with the mount as it came.
        for round in 0..3 {
            let made = if round == 2 { top.join("made") } else { old.clone() };
            let place = made.join("a/b");
            fs::create_dir_all(&place).unwrap();
            let mounted = Mounted::bind(other.parent().unwrap(), &place);
            if round == 2 {
                fs::rename(&made, &old).unwrap();
            }
            case.denied(&mut inside, "r", &read(new.join("secret")));
            case.allowed(&mut inside, &read(new.join("neighbour")));
            case.allowed(&mut inside, &read(&neighbour));
            rustix::mount::unmount(&new, rustix::mount::UnmountFlags::DETACH).unwrap();
            std::mem::forget(mounted);
            fs::remove_dir_all(&old).unwrap();
        }
        case.settle();
        fs::remove_dir(top).unwrap();
    }

    #[test]
    fn mounts_beneath_a_directory_come_and_go_and_come_again() {
        let (case, secret, mut inside) = Case::of_a_vault(|rule| rule);
        let place = case.directory("vault/deep/place");
        for _ in 0..3 {
            let mount = Mounted::tmpfs(&place);
            let file = case.file("vault/deep/place/a/file");
            case.denied(&mut inside, "r", &read(&file));
            case.denied(&mut inside, "r", &list(&place));
            mount.unmount();
        }
        case.denied(&mut inside, "r", &read(&secret));
        case.settle();
    }

    #[test]
    fn mounts_on_the_object_itself_come_and_go_and_come_again() {
        let (case, secret, mut inside) = Case::of_a_vault(|rule| rule);
        for _ in 0..3 {
            let mount = Mounted::tmpfs(case.path("vault"));
            let over = case.file("vault/secret");
            case.denied(&mut inside, "r", &read(&over));
            mount.unmount();
            case.denied(&mut inside, "r", &read(&secret));
        }
        case.settle();
    }

    /// What was mounted beneath a directory when the policy was applied is an object wherever it is mounted.
    #[test]
    fn a_filesystem_beneath_a_directory_is_denied_at_every_other_place() {
        let case = Case::new();
        let nested = case.directory("vault/nested");
        let elsewhere = case.directory("elsewhere");
        let moved = case.directory("moved");
        let _nested = Mounted::tmpfs(&nested);
        let secret = case.file("vault/nested/a/secret");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret), leave_mounts()]);
        case.enforce(Rule::deny("r").beneath(case.path("vault")));
        case.denied(&mut inside, "r", &read(&secret));
        case.allowed(&mut inside, &bind(&nested, &elsewhere));
        case.denied_to_all(&mut inside, "r", &read(elsewhere.join("a/secret")));
        case.allowed(&mut inside, &bind(nested.join("a"), &moved));
        case.denied_to_all(&mut inside, "r", &read(moved.join("secret")));
        case.allowed(&mut inside, &unmount_from(&nested));
        case.denied_to_all(&mut inside, "r", &read(elsewhere.join("a/secret")));
        case.file("vault/nested/a/later");
        case.denied_to_all(&mut inside, "r", &read(moved.join("later")));
        case.settle();
    }

    #[test]
    fn a_mount_that_was_there_and_is_taken_away_uncovers_nothing() {
        let case = Case::new();
        let below = case.file("a/secret");
        let mount = Mounted::tmpfs(case.path("a"));
        let secret = case.file("a/secret");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret)]);
        case.enforce(Rule::deny("r").file(&secret));
        case.denied(&mut inside, "r", &read(&secret));
        mount.unmount();
        case.denied(&mut inside, "r", &read(&below));
        case.settle();
    }

    #[test]
    fn remounting_changes_nothing() {
        let case = Case::new();
        let secret = case.file("vault/secret");
        let mount = case.directory("mount");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret), leave_mounts()]);
        case.enforce(Rule::deny("r").beneath(case.path("vault")));
        case.allowed(&mut inside, &bind(case.path("vault"), &mount));
        case.allowed(&mut inside, &remount(&mount));
        case.denied_to_all(&mut inside, "r", &read(mount.join("secret")));
        case.denied_to_all(&mut inside, "r", &read(&secret));
        case.settle();
    }

    /// A handle leads to an inode of which no name is known; nothing above it can be looked at.
    #[test]
    fn what_only_a_handle_leads_to_is_denied_and_so_is_a_mount_of_it() {
        let case = Case::new();
        let secret = case.file("vault/secret");
        let innocent = case.file("innocent");
        let place = case.file("place");
        let mut inside = case.inside();
        case.control(&mut inside, &[hold_handle(&secret), by_held_handle(&secret)]);
        case.control(&mut inside, &[hold_handle(&innocent), by_held_handle(&innocent)]);
        case.control(&mut inside, &[leave_mounts()]);
        case.enforce(Rule::deny("r").beneath(case.path("vault")));
        drop_caches();
        case.denied_to_all(&mut inside, "r", &by_held_handle(&secret));
        drop_caches();
        case.allowed(&mut inside, &bind_handle(&secret, &place));
        case.denied_to_all(&mut inside, "r", &read(&place));
        // Nobody can tell where it is either.
        drop_caches();
        case.denied_to_all(&mut inside, "r", &by_held_handle(&innocent));
        let events = case.settle();
        assert!(events.iter().all(|event| event["why"] == "incomplete"), "{events:?}");
        // Its name is known again.
        fs::metadata(&innocent).unwrap();
        case.allowed(&mut inside, &read(&innocent));
        case.allowed(&mut inside, &by_held_handle(&innocent));
        case.settle();
    }

    #[test]
    fn a_mount_on_the_way_that_is_bound_elsewhere_keeps_its_denials() {
        let case = Case::new();
        let way = case.directory("way");
        let other = case.directory("other");
        let _mount = Mounted::tmpfs(&way);
        let (secret, inner) = (case.file("way/a/secret"), case.file("way/b/file"));
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret), read(&inner), leave_mounts()]);
        case.enforce(Rule::deny("r").file(&secret).beneath(case.path("way/b")));
        case.allowed(&mut inside, &bind(&way, &other));
        case.allowed(&mut inside, &unmount_from(&way));
        case.denied_to_all(&mut inside, "r", &read(other.join("a/secret")));
        case.denied_to_all(&mut inside, "r", &read(other.join("b/file")));
        fs::rename(case.file("way/new"), &secret).unwrap();
        case.denied_to_all(&mut inside, "r", &read(other.join("a/secret")));
        case.settle();
    }

    /// Seen through a bind mount in a mount namespace of somebody inside, where it has no names.
    fn denied_elsewhere(case: &Case, mounted: &Path, elsewhere: &Path) {
        let mut later = case.inside();
        case.allowed(&mut later, &leave_mounts());
        case.allowed(&mut later, &bind(mounted, elsewhere));
        case.denied_to_all(&mut later, "r", &read(elsewhere.join("a/secret")));
        case.settle();
    }

    /// What was mounted after the policy was applied is not known by its inodes; bound elsewhere it has no names either.
    #[test]
    fn what_was_mounted_later_is_denied_at_every_other_place() {
        let (case, _, mut inside) = Case::of_a_vault(|rule| rule);
        let nested = case.directory("vault/nested");
        let elsewhere = case.directory("elsewhere");
        case.allowed(&mut inside, &leave_mounts());
        let _mount = Mounted::tmpfs(&nested);
        case.file("vault/nested/a/secret");
        denied_elsewhere(&case, &nested, &elsewhere);
    }

    /// The kernel gives a filesystem without a device the number of one that has gone.
    #[test]
    fn a_device_number_that_is_used_again_is_another_filesystem() {
        let case = Case::new();
        let [nested, elsewhere, before] =
            ["vault/nested", "elsewhere", "before"].map(|name| case.directory(name));
        let mut inside = case.inside();
        case.control(&mut inside, &[leave_mounts()]);
        let gone = Mounted::tmpfs(&before);
        let number = fs::metadata(&before).unwrap().dev();
        case.enforce(Rule::deny("r").beneath(case.path("vault")));
        gone.unmount();
        let _mount = Mounted::tmpfs(&nested);
        assert_eq!(fs::metadata(&nested).unwrap().dev(), number);
        case.file("vault/nested/a/secret");
        denied_elsewhere(&case, &nested, &elsewhere);
    }

    /// Nothing is known of its names, and when policies are bound afresh other names would be free.
    #[test]
    fn nothing_is_moved_from_inside_on_a_filesystem_that_was_mounted_later() {
        let case = Case::new();
        let (way, secret) = (case.directory("way"), case.path("way/secret"));
        let mut inside = case.inside();
        case.control(&mut inside, &[list(&way)]);
        let policy = case.policy().rule(Rule::deny("r").file(&secret).access(&["read"]));
        case.apply(&policy);
        let _mount = Mounted::tmpfs(&way);
        case.file("way/secret");
        for change in [rename(&secret, way.join("free")), link(&secret, way.join("free"))] {
            case.denied_to_all(&mut inside, "r", &change.denied_for("read"));
        }
        case.apply(&policy.version(newer_version()));
        case.denied(&mut inside, "r", &read(&secret));
        case.settle();
    }

    /// The same by move_mount(2), of what was mounted where no object is.
    #[test]
    fn what_was_moved_there_later_is_denied_at_every_other_place() {
        let (case, _, mut inside) = Case::of_a_vault(|rule| rule);
        let (nested, elsewhere) = (case.directory("vault/nested"), case.directory("elsewhere"));
        let other = case.directory("other");
        // Of a shared mount nothing is moved away.
        let private = Mounted::bind(&other, &other);
        rustix::mount::mount_change(&other, rustix::mount::MountPropagationFlags::PRIVATE).unwrap();
        case.directory("other/place");
        let mount = Mounted::tmpfs(case.path("other/place"));
        case.file("other/place/a/secret");
        case.allowed(&mut inside, &leave_mounts());
        let mut outsider = Process::outside();
        case.allowed(&mut outsider, &move_tree(case.path("other/place"), &nested));
        denied_elsewhere(&case, &nested, &elsewhere);
        rustix::mount::unmount(&nested, rustix::mount::UnmountFlags::DETACH).unwrap();
        std::mem::forget(mount);
        private.unmount();
    }

    #[test]
    fn mounts_one_inside_the_other_on_the_way_change_no_name() {
        let case = Case::new();
        let secret = case.file("a/b/secret");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret)]);
        case.enforce(Rule::deny("r").file(&secret));
        let first = Mounted::tmpfs(case.path("a"));
        case.directory("a/b");
        let second = Mounted::tmpfs(case.path("a/b"));
        case.file("a/b/secret");
        case.denied(&mut inside, "r", &read(&secret));
        second.unmount();
        first.unmount();
        case.denied(&mut inside, "r", &read(&secret));
        case.settle();
    }

    /// Whoever has no rights can mount what he likes there, and must not take anything from others of his scope by it.
    #[test]
    fn mounts_in_a_user_namespace_of_ones_own_deny_nobody_else_anything() {
        let (case, secret, mut inside) = Case::of_a_vault(|rule| rule);
        let mut other = case.inside();
        let free = case.file("free/file");
        let place = case.directory("free/place");
        case.allowed(&mut inside, &user_namespace());
        case.allowed(&mut inside, &mount_tmpfs(case.path("vault")));
        case.allowed(&mut inside, &mount_tmpfs(&place));
        case.allowed(&mut other, &read(&free));
        case.allowed(&mut other, &read("/usr/bin/aegis-probe"));
        case.allowed(&mut inside, &read(&free));
        case.allowed(&mut inside, &create(place.join("own")));
        case.allowed(&mut inside, &read(place.join("own")));
        case.denied_to_all(&mut inside, "r", &create(case.path("vault/own")));
        case.denied(&mut other, "r", &read(&secret));
        case.settle();
    }
    /// A rule on one file holds for what has its name, and not for what lies in a directory that is mounted there.
    #[test]
    fn what_lies_in_a_mount_at_the_name_of_a_file_is_not_that_file() {
        let case = Case::new();
        let (name, sub) = (case.path("name"), case.directory("other/sub"));
        let file = case.file("other/sub/file");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&file)]);
        case.enforce(Rule::deny("r").file(&name));
        case.directory("name");
        case.denied(&mut inside, "r", &list(&name));
        let mounted = Mounted::bind(sub.parent().unwrap(), &name);
        let seen = name.join("sub");
        case.allowed(&mut inside, &read(seen.join("file")));
        case.allowed(&mut inside, &list(&seen));
        case.allowed(&mut inside, &create(seen.join("new")));
        mounted.unmount();
        case.denied(&mut inside, "r", &list(&name));
        case.settle();
    }
}
