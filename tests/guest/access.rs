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
}
