// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What moves: from inside nothing leaves a place for one where less is denied; what outsiders move keeps its denials.

use std::fs;

use aegis_tests::{Case, Rule, aegisbpf, machine::Mounted};

/// What a file took along is known as long as the file is there, and no longer: the room for it is not endless.
#[test]
fn what_a_file_took_along_goes_with_it() {
    let case = Case::new();
    let files = ["one", "two"].map(|name| case.file(format!("vault/{name}")));
    case.enforce(Rule::deny("r").beneath(case.path("vault")));
    let rows = || aegisbpf(&["status"]).yes()["took_along"]["rows"].as_u64().unwrap();
    let before = rows();
    let left = ["one", "two"].map(|name| case.path(name));
    for (file, left) in files.iter().zip(&left) {
        fs::rename(file, left).unwrap();
    }
    assert_eq!(rows(), before + 2);
    fs::remove_file(&left[0]).unwrap();
    assert_eq!(rows(), before + 1);
    fs::rename(&left[1], &files[1]).unwrap();
    fs::remove_file(&files[1]).unwrap();
    assert_eq!(rows(), before);
    case.settle();
}

/// Its number may be that of another.
#[test]
fn what_a_file_took_along_goes_with_its_filesystem() {
    let case = Case::new();
    let disk = case.directory("disk");
    let mounted = Mounted::tmpfs(&disk);
    let secret = case.file("disk/vault/secret");
    case.enforce(Rule::deny("r").beneath(case.path("disk/vault")));
    let rows = || aegisbpf(&["status"]).yes()["took_along"]["rows"].as_u64().unwrap();
    let before = rows();
    fs::rename(&secret, disk.join("moved")).unwrap();
    assert_eq!(rows(), before + 1);
    mounted.unmount();
    assert_eq!(rows(), before);
    case.settle();
}

mod denial {
    use std::{
        fs,
        path::{Path, PathBuf},
    };

    use aegis_tests::{Case, Process, Rule, machine::Mounted, operation::*, policy::newer_version};
    use rustix::fs::{CWD, RenameFlags, renameat_with};

    /// A vault that must not be read, with a directory beneath, and a file in an open place beside it.
    fn vault() -> (Case, Process) {
        let case = Case::new();
        case.file("vault/secret");
        case.file("vault/sub/deep/secret");
        case.file("open/file");
        let mut inside = case.inside();
        let [secret, free] = ["vault/secret", "open/file"].map(|name| case.path(name));
        case.control(&mut inside, &[read(&secret), rename(&secret, case.path("open/secret"))]);
        case.control(&mut inside, &[read(&free), exchange(&secret, &free)]);
        case.enforce(Rule::deny("r").beneath(case.path("vault")).access(&["read"]));
        (case, inside)
    }

    /// A move that would let somebody read what he must not: refused for the sake of reading.
    fn refer(operation: Operation) -> Operation {
        operation.denied_for("read")
    }

    fn swap(one: PathBuf, other: PathBuf) {
        renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
    }

    #[test]
    fn nothing_is_renamed_out_of_a_denied_directory_from_inside() {
        let (case, mut inside) = vault();
        let [secret, sub, out] =
            ["vault/secret", "vault/sub", "open/new"].map(|name| case.path(name));
        for from in
            [&secret, &sub, &case.path("vault/sub/deep"), &case.path("vault/sub/deep/secret")]
        {
            case.denied_to_all(&mut inside, "r", &refer(rename(from, &out)));
        }
        case.denied_to_all(&mut inside, "r", &refer(rename(&secret, case.path("open/file"))));
        case.denied_to_all(&mut inside, "r", &refer(whiteout(&secret, &out)));
        case.settle();
        assert!(secret.exists() && sub.exists() && !out.exists());
    }

    #[test]
    fn nothing_is_exchanged_out_of_a_denied_directory_from_inside() {
        let (case, mut inside) = vault();
        let [secret, sub, file, open] =
            ["vault/secret", "vault/sub", "open/file", "open"].map(|name| case.path(name));
        // Either half may be named first.
        case.denied_to_all(&mut inside, "r", &refer(exchange(&secret, &file)));
        case.denied_to_all(&mut inside, "r", &refer(exchange(&file, &secret)));
        case.denied_to_all(&mut inside, "r", &refer(exchange(&sub, &open)));
        case.denied_to_all(&mut inside, "r", &refer(exchange(&open, &sub)));
        case.settle();
    }

    #[test]
    fn nothing_in_a_denied_directory_gets_a_name_outside_from_inside() {
        let (case, mut inside) = vault();
        let (secret, out) = (case.path("vault/secret"), case.path("open/new"));
        case.denied_to_all(&mut inside, "r", &refer(link(&secret, &out)));
        case.denied_to_all(&mut inside, "r", &refer(link_descriptor(&secret, &out)));
        case.denied_to_all(&mut inside, "r", &refer(link_temporary(case.path("vault"), &out)));
        case.settle();
        assert!(!out.exists());
    }

    #[test]
    fn moves_to_where_as_much_or_more_is_denied_go_on() {
        let case = Case::new();
        let one = case.file("one/secret");
        case.file("one/other");
        case.directory("two");
        case.directory("open");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&one), link(&one, case.path("open/link"))]);
        case.apply(
            &case
                .policy()
                .rule(
                    Rule::deny("r")
                        .beneath(case.path("one"))
                        .beneath(case.path("two"))
                        .access(&["read"]),
                )
                .rule(Rule::deny("exec").beneath(case.path("two")).access(&["exec"])),
        );
        case.allowed(&mut inside, &rename(&one, case.path("one/renamed")));
        case.allowed(&mut inside, &exchange(case.path("one/renamed"), case.path("one/other")));
        case.allowed(&mut inside, &link(case.path("one/other"), case.path("two/linked")));
        case.allowed(&mut inside, &rename(case.path("one/renamed"), case.path("two/renamed")));
        let free = case.file("open/free");
        case.allowed(&mut inside, &rename(&free, case.path("two/free")));
        for name in ["one/other", "two/linked", "two/renamed", "two/free"] {
            case.denied(&mut inside, "r", &read(case.path(name)));
        }
        // Back is a move to where less is denied.
        let back = rename(case.path("two/free"), case.path("one/free")).denied_for("exec");
        case.denied_to_all(&mut inside, "exec", &back);
        case.settle();
    }

    #[test]
    fn the_rule_that_is_named_is_the_one_that_would_be_escaped() {
        let case = Case::new();
        let secret = case.file("one/secret");
        case.directory("two");
        let mut inside = case.inside();
        case.control(&mut inside, &[rename(&secret, case.path("two/secret"))]);
        case.apply(
            &case
                .policy()
                .rule(
                    Rule::deny("both")
                        .beneath(case.path("one"))
                        .beneath(case.path("two"))
                        .access(&["read"]),
                )
                .rule(Rule::deny("one").beneath(case.path("one")).access(&["exec"])),
        );
        let out = rename(&secret, case.path("two/secret")).denied_for("exec");
        case.denied_to_all(&mut inside, "one", &out);
        case.settle();
    }

    #[test]
    fn what_came_to_a_denied_name_does_not_leave_it_from_inside() {
        let case = Case::new();
        let secret = case.file("secret");
        case.directory("open");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret), rename(&secret, case.path("open/out"))]);
        case.enforce(Rule::deny("r").file(&secret).access(&["read"]));
        fs::rename(case.file("new"), &secret).unwrap();
        for to in ["open/out", "beside"] {
            case.denied_to_all(&mut inside, "r", &refer(rename(&secret, case.path(to))));
            case.denied_to_all(&mut inside, "r", &refer(link(&secret, case.path(to))));
        }
        case.denied_to_all(&mut inside, "r", &read(&secret));
        case.settle();
    }

    /// Whoever renames a directory on the way would take all names below away from the policy.
    #[test]
    fn directories_on_the_way_are_not_moved_from_inside() {
        let case = Case::new();
        let secret = case.file("a/b/secret");
        case.directory("other");
        let mut inside = case.inside();
        let [a, b, other] = ["a", "a/b", "other"].map(|name| case.path(name));
        case.control(&mut inside, &[rename(&a, case.path("x")), exchange(&b, &other)]);
        case.enforce(Rule::deny("r").file(&secret).access(&["read"]));
        for change in [
            rename(&a, case.path("x")),
            rename(&b, case.path("a/x")),
            rename(&b, case.path("x")),
            exchange(&b, &other),
            exchange(&other, &b),
        ] {
            case.denied(&mut inside, "r", &refer(change));
        }
        case.allowed(&mut inside, &rename(&other, case.path("another")));
        case.settle();
    }

    #[test]
    fn an_empty_directory_on_the_way_is_not_removed_from_inside() {
        let case = Case::new();
        let way = case.directory("a/b");
        let free = case.directory("a/c");
        let mut inside = case.inside();
        case.control(&mut inside, &[rmdir(&way)]);
        case.enforce(Rule::deny("r").file(way.join("later")).access(&["read"]));
        case.denied(&mut inside, "r", &refer(rmdir(&way)));
        case.allowed(&mut inside, &rmdir(&free));
        case.settle();
    }

    #[test]
    fn nobody_outside_is_refused_any_of_these_moves() {
        let (case, _inside) = vault();
        let mut outside = Process::inside(&case.make_cgroup(&format!("{}x", case.workload())));
        let [secret, file, new, sub, open] =
            ["vault/secret", "open/file", "open/new", "vault/sub", "open"]
                .map(|name| case.path(name));
        for change in [
            rename(&secret, &new),
            exchange(&secret, &file),
            exchange(&sub, &open),
            whiteout(&secret, &new),
            link(&secret, &new),
            link_descriptor(&secret, &new),
            link_temporary(case.path("vault"), &new),
            unlink(&secret),
            chmod(&secret),
            truncate(&secret),
            rename(case.path("vault"), case.path("x")),
        ] {
            assert_eq!(outside.try_out(&change), Tried::Allowed, "{change}");
        }
        let mut inside = case.inside();
        case.denied(&mut inside, "r", &read(&secret));
        case.settle();
    }

    /// A log that is rotated: its name decides while it has it, and it stays what it was afterwards.
    #[test]
    fn yesterdays_logs_stay_denied() {
        let case = Case::new();
        let log = case.file("log");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&log)]);
        case.enforce(Rule::deny("r").file(&log));
        for _ in 0..3 {
            for (from, to) in [("log.2", "log.3"), ("log.1", "log.2"), ("log", "log.1")] {
                if case.path(from).exists() {
                    fs::rename(case.path(from), case.path(to)).unwrap();
                }
            }
            case.file("log");
        }
        for name in ["log", "log.1", "log.2", "log.3"] {
            case.denied(&mut inside, "r", &read(case.path(name)));
        }
        let innocent = case.file("log.4");
        case.allowed(&mut inside, &read(&innocent));
        case.settle();
    }

    #[test]
    fn what_an_outsider_moves_out_of_a_denied_directory_stays_denied() {
        let (case, mut inside) = vault();
        fs::rename(case.path("vault/secret"), case.path("open/out")).unwrap();
        case.denied(&mut inside, "r", &read(case.path("open/out")));
        case.file("vault/later");
        fs::rename(case.path("vault/later"), case.path("open/later")).unwrap();
        case.denied(&mut inside, "r", &read(case.path("open/later")));
        // And on, and back, and out again.
        fs::rename(case.path("open/later"), case.path("later")).unwrap();
        fs::rename(case.path("later"), case.path("vault/later")).unwrap();
        fs::rename(case.path("vault/later"), case.path("open/again")).unwrap();
        case.denied(&mut inside, "r", &read(case.path("open/again")));
        case.allowed(&mut inside, &read(case.path("open/file")));
        case.settle();
    }

    #[test]
    fn what_an_outsider_links_out_of_a_denied_directory_stays_denied() {
        let (case, mut inside) = vault();
        let (secret, out) = (case.path("vault/secret"), case.path("open/link"));
        fs::hard_link(&secret, &out).unwrap();
        case.denied(&mut inside, "r", &read(&out));
        fs::hard_link(&out, case.path("open/second")).unwrap();
        fs::remove_file(&secret).unwrap();
        case.denied(&mut inside, "r", &read(&out));
        case.denied(&mut inside, "r", &read(case.path("open/second")));
        // The name is not what was linked.
        case.file("vault/secret");
        case.denied(&mut inside, "r", &read(&secret));
        case.settle();
    }

    #[test]
    fn what_is_replaced_or_removed_and_has_another_name_stays_denied() {
        let case = Case::new();
        let (one, two) = (case.file("one"), case.file("two"));
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&one), read(&two)]);
        case.enforce(Rule::deny("r").file(&one).file(&two));
        // Files that came later, each with a second name.
        for name in ["one", "two"] {
            let new = case.file("new");
            fs::hard_link(&new, case.path(format!("{name}.kept"))).unwrap();
            fs::rename(&new, case.path(name)).unwrap();
        }
        fs::rename(case.file("newer"), &one).unwrap();
        fs::remove_file(&two).unwrap();
        case.denied(&mut inside, "r", &read(case.path("one.kept")));
        case.denied(&mut inside, "r", &read(case.path("two.kept")));
        case.settle();
    }

    #[test]
    fn what_is_exchanged_away_by_an_outsider_stays_denied() {
        let (case, mut inside) = vault();
        case.file("vault/later");
        swap(case.path("vault/later"), case.path("open/file"));
        case.denied(&mut inside, "r", &read(case.path("open/file")));
        case.denied(&mut inside, "r", &read(case.path("vault/later")));
        case.directory("open/dir");
        case.file("open/dir/free");
        swap(case.path("vault/sub"), case.path("open/dir"));
        case.denied(&mut inside, "r", &read(case.path("open/dir/deep/secret")));
        case.denied(&mut inside, "r", &read(case.path("vault/sub/free")));
        case.settle();
    }

    #[test]
    fn a_directory_that_is_moved_out_stays_denied_with_all_that_is_in_it() {
        let (case, mut inside) = vault();
        case.file("vault/new/deep/secret");
        fs::rename(case.path("vault/sub"), case.path("open/sub")).unwrap();
        fs::rename(case.path("vault/new"), case.path("open/new")).unwrap();
        for name in ["open/sub/deep/secret", "open/new/deep/secret"] {
            case.denied(&mut inside, "r", &read(case.path(name)));
        }
        let later = case.file("open/new/deep/later");
        case.denied(&mut inside, "r", &read(&later));
        case.denied(&mut inside, "r", &list(case.path("open/new")));
        // And a part of it, moved on.
        fs::rename(case.path("open/new/deep"), case.path("deep")).unwrap();
        case.denied(&mut inside, "r", &read(case.path("deep/secret")));
        case.allowed(&mut inside, &read(case.path("open/file")));
        case.settle();
    }

    #[test]
    fn directories_of_policies_that_change_places_are_both_denied() {
        let case = Case::new();
        let (one, two) = (case.file("one/secret"), case.file("two/key"));
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&one), read(&two)]);
        case.apply(
            &case
                .policy()
                .rule(Rule::deny("one").file(&one).beneath(case.path("one/dir")))
                .rule(Rule::deny("two").file(&two).beneath(case.path("two/dir"))),
        );
        swap(case.path("one"), case.path("two"));
        // By the inode, at the other place.
        case.denied(&mut inside, "one", &read(case.path("two/secret")));
        case.denied(&mut inside, "two", &read(case.path("one/key")));
        // By the name, in the other directory.
        case.file("one/secret");
        case.file("two/key");
        case.file("one/dir/file");
        case.file("two/dir/file");
        case.denied(&mut inside, "one", &read(case.path("one/secret")));
        case.denied(&mut inside, "two", &read(case.path("two/key")));
        for (rule, name) in [("one", "one/dir/file"), ("two", "two/dir/file")] {
            let tried = inside.perform(&read(case.path(name)));
            assert_ne!(tried, Tried::Allowed, "NOT DENIED: {name} by {rule}");
        }
        case.forget();
    }

    /// Which of the two holds there can only be known by looking again, so to each workload what either says. On the
    /// root filesystem: elsewhere the names from the mount point on are followed in any case.
    #[test]
    fn directories_of_two_workloads_that_change_places_are_denied_to_each_by_name() {
        let case = Case::new();
        let other = format!("{}/other", case.workload());
        case.make_cgroup(&other);
        let top = Path::new("/").join(format!("root-{}", std::process::id()));
        let file = |name: &str| {
            let path = top.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "content").unwrap();
            path
        };
        let paths = ["one/dir/file", "two/dir/file"].map(file);
        let mut inside = case.inside();
        case.control(&mut inside, &paths.each_ref().map(read));
        case.apply(
            &case
                .policy()
                .workload("o", &[&other])
                .rule(Rule::deny("one").beneath(top.join("one/dir")))
                .rule(Rule::deny("two").of("o").beneath(top.join("two/dir"))),
        );
        case.denied(&mut inside, "one", &read(&paths[0]));
        case.allowed(&mut inside, &read(&paths[1]));
        swap(top.join("one"), top.join("two"));
        // Another directory by that name, in the one that came here.
        file("fresh/file");
        swap(top.join("one/dir"), top.join("fresh"));
        case.denied(&mut inside, "one", &read(file("one/dir/more")));
        case.settle();
        fs::remove_dir_all(&top).unwrap();
    }

    /// A directory with a place of its own among policies that stood at another one has both to take along.
    #[test]
    fn a_directory_that_stood_for_two_takes_the_rules_of_both_along() {
        let case = Case::new();
        let (one, two) = (case.file("one/secret"), case.file("two/key"));
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&one), read(&two)]);
        case.apply(
            &case.policy().rule(Rule::deny("one").file(&one)).rule(Rule::deny("two").file(&two)),
        );
        swap(case.path("one"), case.path("two"));
        // In the directory that was `one`, by its name of now.
        let key = case.file("two/key");
        case.denied(&mut inside, "two", &read(&key));
        fs::rename(case.path("two"), case.path("away")).unwrap();
        case.denied(&mut inside, "one", &read(case.path("away/secret")));
        let again = case.path("away/key");
        fs::remove_file(&again).unwrap();
        case.file("away/key");
        let tried = inside.perform(&read(&again));
        assert_ne!(tried, Tried::Allowed, "NOT DENIED: {}", read(&again));
        case.forget();
    }

    /// What is made in a directory that has the names of two has them as well, and so takes both along.
    #[test]
    fn a_directory_made_where_two_changed_places_takes_the_rules_of_both_along() {
        let case = Case::new();
        let [one, two] = ["one", "two"].map(|name| case.directory(name));
        let mut inside = case.inside();
        let key = case.file("free/key");
        case.control(&mut inside, &[read(&key), write(&key)]);
        let rule =
            |name, access| Rule::deny(name).file(case.path(name).join("sub/key")).access(&[access]);
        case.apply(&case.policy().rule(rule("one", "read")).rule(rule("two", "write")));
        swap(one, two.clone());
        case.file("two/sub/key");
        let away = case.path("away");
        for at in [two.join("sub"), away.clone()] {
            case.denied(&mut inside, "one", &read(at.join("key")));
            case.denied(&mut inside, "two", &write(at.join("key")));
            if at != away {
                fs::rename(at, &away).unwrap();
            }
        }
        case.settle();
    }

    /// Each level by itself, and then away with all of them.
    #[test]
    fn a_tree_that_came_level_by_level_stays_denied_when_it_leaves() {
        let case = Case::new();
        let secret = case.path("p/q/r/secret");
        let mut inside = case.inside();
        case.enforce(Rule::deny("r").file(&secret).beneath(case.path("p/q/vault")));
        for level in ["p", "p/q", "p/q/r", "p/q/vault"] {
            fs::create_dir(case.path(level)).unwrap();
        }
        case.file("p/q/r/secret");
        case.file("p/q/vault/a/file");
        let neighbour = case.file("p/q/r/neighbour");
        case.denied(&mut inside, "r", &read(&secret));
        case.allowed(&mut inside, &read(&neighbour));
        fs::rename(case.path("p"), case.path("old")).unwrap();
        case.denied(&mut inside, "r", &read(case.path("old/q/r/secret")));
        case.denied(&mut inside, "r", &read(case.path("old/q/vault/a/file")));
        // And once more, by another tree.
        case.file("p/q/r/secret");
        fs::rename(case.path("p/q/r"), case.path("moved")).unwrap();
        case.denied(&mut inside, "r", &read(case.path("moved/secret")));
        case.settle();
    }

    #[test]
    fn what_an_outsider_publishes_at_an_exception_is_free() {
        let case = Case::new();
        let free = case.file("d/free");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&free)]);
        let rule = Rule::deny("r").beneath(case.path("d")).except_file(&free);
        case.enforce(rule.except_beneath(case.path("d/public")).access(&["read"]));
        let closed = case.file("d/closed");
        case.denied(&mut inside, "r", &read(&closed));
        fs::rename(&closed, &free).unwrap();
        case.allowed(&mut inside, &read(&free));
        case.directory("d/public");
        let draft = case.file("d/draft");
        fs::rename(&draft, case.path("d/public/page")).unwrap();
        case.allowed(&mut inside, &read(case.path("d/public/page")));
        // Out of there again it is what it was made.
        fs::rename(case.path("d/public/page"), case.path("d/draft")).unwrap();
        case.denied(&mut inside, "r", &read(&draft));
        case.settle();
    }

    #[test]
    fn nobody_inside_publishes_at_an_exception() {
        let case = Case::new();
        let free = case.file("d/free");
        let closed = case.file("d/closed");
        let page = case.path("d/public/page");
        case.directory("d/public");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&closed), rename(&closed, &page), link(&closed, &page)]);
        let rule = Rule::deny("r").beneath(case.path("d")).except_file(&free);
        case.enforce(rule.except_beneath(case.path("d/public")).access(&["read"]));
        for change in [
            rename(&closed, &free),
            rename(&closed, &page),
            link(&closed, &page),
            exchange(&closed, &free),
        ] {
            case.denied_to_all(&mut inside, "r", &refer(change));
        }
        case.allowed(&mut inside, &read(&free));
        case.settle();
    }

    /// An `except` that names something in a directory frees it there whatever the directory was before.
    #[test]
    fn nobody_inside_brings_a_directory_to_where_an_exception_is_beneath() {
        let case = Case::new();
        let secret = case.file("d/secret");
        let [made, old, place] = ["d/made", "d/old", "d/a"].map(|name| case.path(name));
        let hidden = made.join("b/free/secret");
        fs::create_dir_all(hidden.parent().unwrap()).unwrap();
        let mut inside = case.inside();
        case.control(&mut inside, &[rename(&made, &place), rename(&secret, &hidden)]);
        let rule = Rule::deny("r").beneath(case.path("d")).access(&["read"]);
        let policy = case.policy().rule(rule.except_beneath(place.join("b/free")));
        case.apply(&policy);
        case.allowed(&mut inside, &rename(&secret, &hidden));
        let elsewhere = case.path("d/elsewhere");
        case.allowed(&mut inside, &rename(&made, &elsewhere));
        case.allowed(&mut inside, &rename(&elsewhere, &made));
        case.denied_to_all(&mut inside, "r", &refer(rename(&made, &place)));
        fs::create_dir_all(place.join("b/free")).unwrap();
        case.denied_to_all(&mut inside, "r", &refer(rename(made.join("b"), place.join("b"))));
        case.denied_to_all(&mut inside, "r", &refer(exchange(&made, &place)));
        // Nor does it come back, once it was somewhere else.
        fs::rename(&place, &old).unwrap();
        case.denied_to_all(&mut inside, "r", &refer(rename(&old, &place)));
        case.denied_to_all(&mut inside, "r", &refer(rename(&made, &place)));
        // Whoever is denied nothing publishes what he likes.
        fs::rename(&made, &place).unwrap();
        case.apply(&policy.version(newer_version()));
        case.allowed(&mut inside, &read(place.join("b/free/secret")));
        case.settle();
    }

    /// It frees nothing while directories of policies are where others were, and does so again afterwards.
    #[test]
    fn nobody_inside_publishes_at_an_exception_that_frees_nothing_for_now() {
        let case = Case::new();
        let other = format!("{}-other", case.workload());
        let mut writing = Process::inside(&case.make_cgroup(&other));
        let [closed, hidden] = ["d/closed", "d/hidden"].map(|name| case.file(name));
        let page = case.file("d/public/page");
        // A directory that was elsewhere, and one with a rule of its own, are free there as well.
        let [came, own] = ["d/public/came", "d/public/own"].map(|name| case.directory(name));
        let [one, two] = ["one", "two"].map(|name| case.directory(name));
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&page), rename(&closed, case.path("d/public/closed"))]);
        let rule = Rule::deny("r").beneath(case.path("d")).access(&["read"]);
        let policy = case.policy().workload("o", &[&other]);
        let policy = policy.rule(rule.except_beneath(case.path("d/public")));
        let policy = policy.rule(Rule::deny("o").of("o").file(one.join("x")).file(two.join("x")));
        let rule = Rule::deny("p").of("o").beneath(case.path("d/public")).beneath(&own);
        let policy = policy.rule(rule.access(&["read"]));
        case.apply(&policy);
        case.allowed(&mut inside, &read(&page));
        case.allowed(&mut inside, &rename(&came, case.path("elsewhere")));
        case.allowed(&mut inside, &rename(case.path("elsewhere"), &came));
        swap(one, two);
        case.denied(&mut inside, "r", &read(&page));
        let public = ["closed", "hidden"].map(|name| case.path("d/public").join(name));
        for to in [&public[0], &came.join("closed"), &own.join("closed")] {
            case.denied_to_all(&mut inside, "r", &refer(rename(&closed, to)));
        }
        // By somebody who is denied something else it takes along what others are denied.
        case.allowed(&mut writing, &rename(&hidden, &public[1]));
        // What stays where it is takes nothing along, whatever is said there for now.
        let [new, saved] = ["d/public/new", "d/public/saved"].map(|name| case.path(name));
        case.allowed(&mut writing, &create(&new));
        case.allowed(&mut writing, &rename(&new, &saved));
        case.apply(&policy.version(newer_version()));
        case.allowed(&mut inside, &read(&page));
        case.allowed(&mut inside, &read(&saved));
        case.denied(&mut inside, "r", &read(&public[1]));
        case.settle();
    }

    #[test]
    fn what_has_left_its_name_stays_denied_when_the_policy_is_applied_again() {
        let case = Case::new();
        let secret = case.file("vault/secret");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret)]);
        case.enforce(Rule::deny("r").beneath(case.path("vault")));
        fs::rename(&secret, case.path("moved")).unwrap();
        case.denied(&mut inside, "r", &read(case.path("moved")));
        case.enforce(Rule::deny("r").beneath(case.path("vault")).file(case.path("more")));
        case.denied(&mut inside, "r", &read(case.path("moved")));
        // Not for a rule that is gone.
        case.enforce(Rule::deny("other").file(case.path("more")));
        case.allowed(&mut inside, &read(case.path("moved")));
        case.settle();
    }

    /// A rule on one file holds for whatever has its name, and for nothing that lies in it.
    #[test]
    fn a_directory_at_the_name_of_a_file_takes_its_rule_along_for_itself_alone() {
        let case = Case::new();
        case.file("vault/other");
        let (name, file, made) = (case.path("vault/name"), case.file("dir/file"), case.path("dir"));
        let mut inside = case.inside();
        case.control(&mut inside, &[list(&made), read(&file), write(&file)]);
        let policy = case
            .policy()
            .rule(Rule::deny("own").file(&name).access(&["read"]))
            .rule(Rule::deny("all").beneath(case.path("vault")).access(&["write"]));
        case.apply(&policy);
        let here = |case: &Case, inside: &mut Process, at: &Path| {
            case.denied(inside, "own", &list(at));
            case.allowed(inside, &read(at.join("file")));
        };
        // By its name, then by what it took along, then by that in another generation.
        fs::rename(&made, &name).unwrap();
        here(&case, &mut inside, &name);
        case.denied(&mut inside, "all", &write(name.join("file")));
        let left = case.path("left");
        fs::rename(&name, &left).unwrap();
        here(&case, &mut inside, &left);
        case.denied(&mut inside, "all", &write(left.join("file")));
        case.apply(&policy.version(newer_version()));
        here(&case, &mut inside, &left);
        case.denied(&mut inside, "all", &write(left.join("file")));
        case.settle();
    }

    /// A row has room for the rules of three places.
    #[test]
    fn what_left_four_places_stays_denied_by_the_rules_of_each() {
        let case = Case::new();
        let (places, left) = (["one", "two", "three", "four"], case.path("left"));
        let mut policy = case.policy();
        let mut processes = Vec::new();
        for place in places {
            let cgroup = format!("{}-{place}", case.workload());
            processes.push(Process::inside(&case.make_cgroup(&cgroup)));
            case.directory(place);
            policy = policy
                .workload(place, &[&cgroup])
                .rule(Rule::deny(place).of(place).beneath(case.path(place)));
        }
        let mut at = case.file("one/file");
        for process in &mut processes {
            case.control(process, &[read(&at)]);
        }
        case.apply(&policy);
        for to in ["two/file", "three/file", "four/file", "left"] {
            fs::rename(&at, case.path(to)).unwrap();
            at = case.path(to);
        }
        let mut each = |case: &Case| {
            for (process, place) in processes.iter_mut().zip(places) {
                case.denied(process, place, &read(&left));
            }
        };
        each(&case);
        // What does not fit is not forgotten by the generation that comes next.
        case.apply(&policy.version(newer_version()));
        each(&case);
        case.settle();
    }

    /// A directory that took a name along stands where another rule names it, in a generation that was bound since. On the
    /// root's filesystem: of any other, names are also followed from where it is mounted.
    #[test]
    fn a_name_that_a_directory_took_along_hides_no_rule_of_its_new_place() {
        let case = Case::new();
        let top = PathBuf::from(format!("/moves-{}", std::process::id()));
        let (vault, there) = (top.join("way/vault"), top.join("there"));
        fs::create_dir_all(top.join("way")).unwrap();
        fs::create_dir(top.join("other")).unwrap();
        let (secret, other) = (there.join("secret"), top.join("other/secret"));
        fs::write(&other, "content").unwrap();
        let named = Rule::deny("named").file(vault.join("secret")).access(&["write"]);
        let policy = case.policy().rule(named).rule(Rule::deny("there").beneath(&there));
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&other)]);
        case.apply(&policy);
        fs::create_dir(&vault).unwrap();
        fs::rename(&vault, &there).unwrap();
        fs::write(&secret, "content").unwrap();
        for _ in 0..2 {
            case.denied(&mut inside, "there", &read(&secret));
            case.denied(&mut inside, "named", &write(&secret));
            let mounted = Mounted::bind(other.parent().unwrap(), &there);
            case.denied(&mut inside, "there", &read(&secret));
            mounted.unmount();
            case.apply(&policy.clone().version(newer_version()));
        }
        case.settle();
        fs::remove_dir_all(top).unwrap();
    }
}
