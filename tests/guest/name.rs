// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Names that break programs, and ways longer than programs expect.

mod denial {
    use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt as _};

    use aegis_tests::{Case, Rule, operation::*, policy::unwritten};

    #[test]
    fn names_are_bytes_and_come_back_as_they_were() {
        let case = Case::new();
        let long = [b'x'; 255];
        let longer_by_end = [&[b'x'; 254][..], b"y"].concat();
        let names: [&[u8]; 7] = [
            b"with a space",
            b"with\na newline",
            b"not\xffUTF-8\xc3",
            b"\x1b[31mred",
            b"quote\"back\\slash%41",
            b"thirty-one-bytes-are-one-piece.",
            &long,
        ];
        let mut rule = Rule::deny("r");
        let mut operations = Vec::new();
        for name in names {
            let path = case.file(OsStr::from_bytes(name));
            rule = rule.file(&path);
            operations.push((path.clone(), read(path)));
        }
        let innocent = [
            case.file(OsStr::from_bytes(&longer_by_end)),
            case.file("with"),
            case.file("with a spac"),
        ];
        let mut inside = case.inside();
        for (_, operation) in &operations {
            case.control(&mut inside, std::slice::from_ref(operation));
        }
        case.enforce(rule);
        for (path, operation) in &operations {
            // The name alone, not the inode.
            fs::rename(case.file("new"), path).unwrap();
            case.denied(&mut inside, "r", operation);
        }
        for path in innocent {
            case.allowed(&mut inside, &read(path));
        }
        for (event, (path, _)) in case.settle().iter().zip(&operations) {
            let seen = unwritten(event["path"].as_str().unwrap());
            assert_eq!(seen, path.as_os_str().as_bytes(), "{event}");
        }
    }

    /// So many directories, counted from the root of the filesystem, and a file in the last.
    #[test]
    fn trees_of_127_128_129_and_2000_levels_are_denied_to_their_end() {
        let case = Case::new();
        let top = case.directory("top");
        // The case's directory is the first level, `top` the second.
        let levels = [125, 126, 127, 1998];
        let mut inside = case.inside();
        case.control(&mut inside, &levels.map(|levels| deep(&top, levels)));
        case.enforce(Rule::deny("r").beneath(&top));
        for levels in levels {
            case.denied(&mut inside, "r", &deep(&top, levels));
        }
        let events = case.settle();
        let why = events.iter().map(|event| event["why"].as_str()).collect::<Vec<_>>();
        assert_eq!(why[0], Some("directory"), "{why:?}");
        assert_eq!(why[3], Some("incomplete"), "{why:?}");
    }

    #[test]
    fn names_of_one_letter_of_dots_and_of_blanks_are_told_apart() {
        let case = Case::new();
        let names = ["...", " ", "-", "..a", "a ", "\t", "~"];
        let mut rule = Rule::deny("r");
        for name in names {
            rule = rule.beneath(case.directory(name));
        }
        let files = names.map(|name| case.file(format!("{name}/file")));
        let others = ["....", "  ", "--", "..b", "a", "\t\t", "~~"];
        let others = others.map(|name| case.file(format!("{name}/file")));
        let mut inside = case.inside();
        case.control(&mut inside, &files.each_ref().map(read));
        case.enforce(rule);
        for (name, file) in names.iter().zip(&files) {
            case.denied(&mut inside, "r", &read(file));
            // The name alone.
            fs::rename(case.path(name), case.path("old")).unwrap();
            case.file(format!("{name}/file"));
            case.denied(&mut inside, "r", &read(file));
            fs::remove_dir_all(case.path("old")).unwrap();
        }
        for other in &others {
            case.allowed(&mut inside, &read(other));
        }
        case.settle();
    }

    #[test]
    fn a_way_deeper_than_is_climbed_is_denied_and_says_so() {
        let case = Case::new();
        let top = case.directory("top");
        let mut inside = case.inside();
        case.control(&mut inside, &[deep(&top, 100), deep(&top, 200)]);
        case.enforce(Rule::deny("r").beneath(&top));
        for levels in [100, 125] {
            case.denied(&mut inside, "r", &deep(&top, levels));
        }
        case.denied(&mut inside, "r", &deep(&top, 200));
        let events = case.settle();
        assert_eq!(events[1]["why"], "directory", "{}", events[1]);
        assert_eq!(events[2]["why"], "incomplete", "{}", events[2]);
        assert_eq!(events[2]["path_truncated"], true, "{}", events[2]);
    }
}
