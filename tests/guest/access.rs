// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What each access is: the table of the documents, row by row.

mod denial {
    use std::fs;

    use aegis_tests::{Case, Rule, operation::*};
    use rustix::fs::{OFlags, XattrFlags, setxattr};

    /// Names, sizes and times are nobody's secret, of files and of directories.
    #[test]
    fn what_is_never_covered_stays_possible() {
        let (case, secret, mut inside) = Case::of_a_vault(|rule| rule);
        for path in [&secret, &case.path("vault")] {
            case.allowed(&mut inside, &look(path));
            case.allowed(&mut inside, &open(path, OFlags::PATH));
        }
        case.denied(&mut inside, "r", &read(&secret));
        case.denied(&mut inside, "r", &list(case.path("vault")));
        case.settle();
    }

    #[test]
    fn where_only_reading_is_denied_every_change_of_a_file_goes_on() {
        let (case, secret, mut inside) = Case::of_a_vault(|rule| rule.access(&["read"]));
        case.denied(&mut inside, "r", &read(&secret));
        setxattr(&secret, "user.aegis", b"value", XattrFlags::empty()).unwrap();
        for change in [
            write(&secret),
            open(&secret, OFlags::WRONLY | OFlags::APPEND),
            truncate(&secret),
            chmod(&secret),
            chown(&secret),
            utimes(&secret),
            remove_attribute(&secret),
            set_attribute(&secret),
            set_acl(&secret),
            remove_acl(&secret),
        ] {
            case.allowed(&mut inside, &change);
        }
        case.denied(&mut inside, "r", &read(&secret));
        case.settle();
    }

    #[test]
    fn where_only_reading_is_denied_names_are_made_and_changed_within() {
        let (case, secret, mut inside) = Case::of_a_vault(|rule| rule.access(&["read"]));
        let [one, two, three, directory, pipe, symbolic, temporary] =
            ["one", "two", "three", "dir", "pipe", "symbolic", "temporary"]
                .map(|name| case.path("vault").join(name));
        for change in [
            create(&one),
            mkdir(&directory),
            mknod(&pipe),
            symlink("secret", &symbolic),
            link(&secret, &two),
            link_descriptor(&secret, &three),
            link_temporary(case.path("vault"), &temporary),
            rename(&two, directory.join("two")),
            exchange(&three, &one),
            unlink(&one),
            unlink(directory.join("two")),
            rmdir(&directory),
        ] {
            case.allowed(&mut inside, &change);
        }
        for path in [&secret, &three, &temporary] {
            case.denied(&mut inside, "r", &read(path));
        }
        case.settle();
    }

    /// The source of a clone or a copy has to be opened for reading.
    #[test]
    fn a_clone_or_a_copy_is_a_read_of_its_source() {
        let case = Case::new();
        let mut rule = Rule::deny("r").access(&["read"]);
        let mut tries = Vec::new();
        for top in ["/xfs", "/btrfs", "/data"] {
            let top = std::path::Path::new(top).join(format!("T{}-copy", std::process::id()));
            fs::create_dir_all(top.join("vault")).unwrap();
            let source = top.join("vault/source");
            fs::write(&source, "content").unwrap();
            rule = rule.beneath(top.join("vault"));
            tries.push(copy_to(&source, top.join("copy")));
            // Other filesystems have no clones.
            if !top.starts_with("/data") {
                tries.push(clone_to(&source, top.join("clone")));
            }
        }
        let mut inside = case.inside();
        case.control(&mut inside, &tries);
        case.enforce(rule);
        for each in &tries {
            case.denied(&mut inside, "r", each);
        }
        case.settle();
    }

    #[test]
    fn where_only_running_is_denied_a_program_is_read_and_written() {
        let case = Case::new();
        let program = case.program("bin");
        let mut inside = case.inside();
        case.control(&mut inside, &[run(&program), run_descriptor(&program)]);
        case.enforce(Rule::deny("r").beneath(case.path("bin")).access(&["exec"]));
        case.denied(&mut inside, "r", &run(&program));
        case.denied(&mut inside, "r", &run_descriptor(&program));
        for other in [
            read(&program),
            write(&program),
            map(&program, Mapping::Read),
            map(&program, Mapping::SharedWrite),
            chmod(&program),
            list(case.path("bin")),
            create(case.path("bin/new")),
        ] {
            case.allowed(&mut inside, &other);
        }
        case.settle();
    }

    /// Attributes, lengths and content: of a file beneath a directory, of one that is an object by itself, and of a
    /// directory.
    #[test]
    fn each_change_of_a_file_is_denied_where_writing_is() {
        let case = Case::new();
        let (below, exact, vault) =
            (case.file("vault/below"), case.file("exact"), case.path("vault"));
        let mut changes = Vec::new();
        for path in [&below, &exact] {
            setxattr(path, "user.aegis", b"value", XattrFlags::empty()).unwrap();
            changes.extend([
                write(path),
                open(path, OFlags::WRONLY | OFlags::APPEND),
                open(path, OFlags::RDONLY | OFlags::TRUNC).denied_for("write"),
                truncate(path),
                set_acl(path),
            ]);
        }
        for path in [&below, &exact, &vault] {
            changes.extend([chmod(path), chown(path), utimes(path), set_attribute(path)]);
        }
        changes.extend([remove_attribute(&below), remove_attribute(&exact)]);
        let mut inside = case.inside();
        // Taking back an attribute that is set takes it away: the last ones first.
        changes.reverse();
        case.control(&mut inside, &changes);
        for path in [&below, &exact] {
            setxattr(path, "user.aegis", b"value", XattrFlags::empty()).unwrap();
        }
        case.enforce(Rule::deny("r").file(&exact).beneath(&vault).access(&["write"]));
        for change in &changes {
            case.denied_to_all(&mut inside, "r", change);
        }
        for other in [read(&below), read(&exact), list(&vault), look(&exact)] {
            case.allowed(&mut inside, &other);
        }
        case.settle();
    }

    #[test]
    fn an_access_control_list_is_neither_set_nor_removed_where_writing_is_denied() {
        let case = Case::new();
        let (one, two) = (case.file("vault/one"), case.file("vault/two"));
        assert_eq!(set_acl(&two).perform(), Tried::Allowed);
        let mut inside = case.inside();
        case.control(&mut inside, &[set_acl(&one), remove_acl(&two)]);
        case.enforce(Rule::deny("r").beneath(case.path("vault")).access(&["write"]));
        case.denied(&mut inside, "r", &set_acl(&one));
        case.denied(&mut inside, "r", &remove_acl(&two));
        case.allowed(&mut inside, &read(&two));
        case.settle();
    }

    #[test]
    fn no_name_is_made_where_writing_is_denied() {
        let case = Case::new();
        case.file("vault/deep/file");
        let (other, pending) = (case.file("other"), case.path("pending"));
        let mut makes = Vec::new();
        for new in [case.path("vault/new"), case.path("vault/deep/new"), pending.clone()] {
            makes.extend([
                create(&new),
                open(&new, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL).denied_for("write"),
                mkdir(&new),
                mknod(&new),
                symlink("other", &new),
                link(&other, &new),
                link_descriptor(&other, &new),
                link_temporary(case.path(""), &new),
                rename(&other, &new),
                whiteout(&other, &new),
            ]);
        }
        let mut inside = case.inside();
        // An open that makes a file is no operation that is taken back.
        let undone = |make: &&Operation| !make.to_string().starts_with("open ");
        let tries: Vec<Operation> = makes.iter().filter(undone).cloned().collect();
        case.control(&mut inside, &tries);
        case.enforce(Rule::deny("r").file(&pending).beneath(case.path("vault")).access(&["write"]));
        for make in &makes {
            case.denied_to_all(&mut inside, "r", make);
        }
        assert!(!pending.exists() && !case.path("vault/new").exists() && other.exists());
        case.allowed(&mut inside, &create(case.path("beside")));
        case.settle();
    }

    #[test]
    fn no_name_is_taken_away_or_changed_where_writing_is_denied() {
        let case = Case::new();
        let (exact, other) = (case.file("exact"), case.file("other"));
        let below = case.file("vault/below");
        let empty = case.directory("vault/empty");
        let vault = case.path("vault");
        let out = case.path("out");
        let mut changes = vec![
            rename(&below, vault.join("renamed")),
            rename(&empty, vault.join("renamed")),
            rename(&vault, &out),
            exchange(&below, &empty),
            rmdir(&empty),
            link(&below, vault.join("linked")),
        ];
        for path in [&exact, &below] {
            changes.extend([
                unlink(path),
                rename(path, &out),
                rename(&other, path),
                exchange(path, &other),
                exchange(&other, path),
                whiteout(path, &out),
                link(path, &out),
                link_descriptor(path, &out),
            ]);
        }
        let mut inside = case.inside();
        case.control(&mut inside, &changes);
        case.enforce(Rule::deny("r").file(&exact).beneath(&vault).access(&["write"]));
        for change in &changes {
            case.denied_to_all(&mut inside, "r", change);
        }
        assert!(below.exists() && exact.exists() && empty.exists() && !out.exists());
        case.allowed(&mut inside, &read(&below));
        case.allowed(&mut inside, &rename(&other, &out));
        case.allowed(&mut inside, &unlink(&out));
        case.settle();
    }

    /// Running needs no execve: a library is mapped.
    #[test]
    fn a_program_is_not_mapped_to_be_run_where_running_is_denied() {
        let case = Case::new();
        let program = case.program("bin");
        let maps = [map(&program, Mapping::Exec), map(&program, Mapping::LateExec)];
        let mut inside = case.inside();
        case.control(&mut inside, &maps);
        case.enforce(Rule::deny("r").beneath(case.path("bin")).access(&["exec"]));
        for each in &maps {
            case.denied(&mut inside, "r", each);
        }
        case.allowed(&mut inside, &map(&program, Mapping::Read));
        case.settle();
    }

    /// A descriptor from before is no permission to map, or to cut what is behind it.
    #[test]
    fn a_descriptor_from_before_maps_nothing_that_is_denied() {
        let case = Case::new();
        let [unread, unwritten, unrun] =
            ["unread", "unwritten", "unrun"].map(|name| case.program(name));
        let mut inside = case.inside();
        for path in [&unread, &unwritten, &unrun] {
            case.control(&mut inside, &[hold(path, OFlags::RDWR)]);
        }
        let maps = [
            ("read", map(&unread, Mapping::Read)),
            ("write", map(&unwritten, Mapping::SharedWrite)),
            ("exec", map(&unrun, Mapping::Exec)),
            ("exec", map(&unrun, Mapping::LateExec)),
            ("write", truncate_held(&unwritten)),
        ];
        for (_, each) in &maps {
            case.control(&mut inside, std::slice::from_ref(each));
        }
        case.apply(
            &case
                .policy()
                .rule(Rule::deny("read").file(&unread).access(&["read"]))
                .rule(Rule::deny("write").file(&unwritten).access(&["write"]))
                .rule(Rule::deny("exec").file(&unrun).access(&["exec"])),
        );
        for (rule, each) in &maps {
            case.denied_to_all(&mut inside, rule, each);
        }
        case.allowed(&mut inside, &map(&unwritten, Mapping::Read));
        case.allowed(&mut inside, &map(&unrun, Mapping::SharedWrite));
        case.settle();
    }

    #[test]
    fn changes_that_are_only_watched_are_made_and_reported() {
        let case = Case::new();
        let watched = case.file("vault/watched");
        let mut inside = case.inside();
        let policy = case.policy().rule(Rule::deny("closed").file(case.file("closed")));
        let vault = case.path("vault");
        case.apply(&policy.rule(Rule::audit("watch").beneath(&vault).access(&["write"])));
        for change in [
            chmod(&watched),
            truncate(&watched),
            mknod(vault.join("new")),
            unlink(vault.join("new")),
            mkdir(vault.join("dir")),
            rmdir(vault.join("dir")),
        ] {
            case.reported(&mut inside, "audit", "watch", &change);
        }
        case.denied(&mut inside, "closed", &chmod(case.path("closed")));
        case.settle();
    }

    #[test]
    fn a_change_that_is_refused_names_the_path_and_the_rule() {
        let (case, secret, mut inside) = Case::of_a_vault(|rule| rule.access(&["write"]));
        let new = case.path("vault/new");
        case.denied(&mut inside, "r", &chmod(&secret));
        case.denied(&mut inside, "r", &unlink(&secret));
        case.denied(&mut inside, "r", &mkdir(&new));
        let events = case.settle();
        let paths: Vec<_> = events.iter().map(|event| event["path"].as_str()).collect();
        // As the filesystem knows them: where it is mounted, and how often, is nothing to such a change.
        let below =
            |path: &std::path::Path| format!("/{}", path.strip_prefix("/data").unwrap().display());
        let (secret, new) = (below(&secret), below(&new));
        let expected = [&secret, &secret, &new].map(|path| Some(path.as_str()));
        assert_eq!(paths, expected, "{events:?}");
        assert!(events.iter().all(|event| event["path_truncated"] == true), "{events:?}");
    }
}
