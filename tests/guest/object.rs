// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is touched: files and directories, as they are replaced, renamed and linked.

use std::{fs, os::unix::fs::MetadataExt as _};

use aegis_tests::{Case, Rule, operation::*};

/// The kernel gives a freed number to another file: the innocent file is not the protected one.
#[test]
fn a_number_used_again_is_another_file() {
    let case = Case::new();
    let secret = case.file("secret/file");
    let elsewhere = case.directory("elsewhere");
    let mut inside = case.inside();
    case.enforce(Rule::deny("r").file(&secret));
    let number = fs::metadata(&secret).unwrap().ino();
    fs::remove_file(&secret).unwrap();
    let innocent = (0..10_000)
        .map(|count| {
            let path = elsewhere.join(count.to_string());
            fs::write(&path, "innocent").unwrap();
            path
        })
        .find(|path| fs::metadata(path).unwrap().ino() == number)
        .expect("ext4 gives the number away again");
    case.allowed(&mut inside, &read(&innocent));
    case.settle();
}

/// One part of a policy that is not there takes nothing away from the rest.
#[test]
fn a_missing_object_aborts_nothing_unless_asked_to() {
    let case = Case::new();
    let there = case.file("there");
    let missing = case.path("no/such/file");
    let policy = case.policy().rule(Rule::deny("r").file(&there).file(&missing));
    let report = case.apply(&policy);
    assert_eq!(report["objects"]["bound"], 1, "{report}");
    let pending = &report["objects"]["pending"];
    assert_eq!(pending[0]["object"], missing.to_str().unwrap(), "{report}");
    assert_eq!(pending[0]["missing"], case.path("no").to_str().unwrap(), "{report}");
    let file = case.write_policy(&policy);
    let strict = aegis_tests::aegisbpf(&["apply", &file, "--allow-unsigned", "--strict"]);
    strict.refused("STRICT", &["is pending", "hint: "]);
}

/// What a rule is worth where a link is on the way is the operator's to know.
#[test]
fn an_object_behind_a_link_is_told() {
    let case = Case::new();
    let real = case.file("real/file");
    std::os::unix::fs::symlink("real", case.path("link")).unwrap();
    let report = case.enforce(Rule::deny("r").file(case.path("link/file")));
    let via = &report["objects"]["via_symlink"][0];
    assert_eq!(via["object"], case.path("link/file").to_str().unwrap(), "{report}");
    assert_eq!(via["canonical"], real.to_str().unwrap(), "{report}");
}

mod denial {
    use aegis_tests::{Case, Rule, operation::*};
    use rustix::fs::{CWD, OFlags};
    use std::fs;

    #[test]
    fn every_way_of_opening_is_judged_by_what_it_asks_for() {
        let case = Case::new();
        let secret = case.file("secret");
        let directory = case.directory("directory");
        let accesses = [
            open(&secret, OFlags::RDONLY),
            open(&secret, OFlags::WRONLY),
            open(&secret, OFlags::RDWR),
            open(&secret, OFlags::WRONLY | OFlags::APPEND),
            open(&secret, OFlags::RDONLY | OFlags::TRUNC),
            open(&secret, OFlags::RDWR | OFlags::CREATE),
            open(&secret, OFlags::from_bits_retain(O_ACCMODE)),
            open(&secret, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK),
            list(&directory),
            reopen(&secret),
            open(&directory, OFlags::RDWR | OFlags::TMPFILE),
        ];
        let mut inside = case.inside();
        case.control(&mut inside, &accesses);
        case.enforce(Rule::deny("r").file(&secret).beneath(&directory));
        for access in &accesses {
            case.denied(&mut inside, "r", access);
        }
        case.allowed(&mut inside, &open(&secret, OFlags::PATH));
        case.settle();
    }

    #[test]
    fn a_rule_takes_only_the_accesses_that_it_names() {
        let case = Case::new();
        let (unread, unwritten, unrun) =
            (case.program("unread"), case.program("unwritten"), case.program("unrun"));
        let both = |path| open(path, OFlags::RDWR);
        let mut inside = case.inside();
        case.control(&mut inside, &[run(&unread), both(&unwritten), run(&unrun)]);
        case.apply(
            &case
                .policy()
                .rule(Rule::deny("no-reading").file(&unread).access(&["read"]))
                .rule(Rule::deny("no-writing").file(&unwritten).access(&["write"]))
                .rule(Rule::deny("no-running").file(&unrun).access(&["exec"])),
        );
        case.denied(&mut inside, "no-reading", &read(&unread));
        case.denied(&mut inside, "no-reading", &both(&unread));
        case.allowed(&mut inside, &write(&unread));
        case.allowed(&mut inside, &run(&unread));

        case.denied(&mut inside, "no-writing", &write(&unwritten));
        case.denied(&mut inside, "no-writing", &both(&unwritten).denied_for("write"));
        let append = open(&unwritten, OFlags::WRONLY | OFlags::APPEND);
        case.denied(&mut inside, "no-writing", &append);
        case.allowed(&mut inside, &read(&unwritten));
        case.allowed(&mut inside, &run(&unwritten));

        case.denied(&mut inside, "no-running", &run(&unrun));
        case.allowed(&mut inside, &both(&unrun));
        let cut = open(&unwritten, OFlags::RDONLY | OFlags::TRUNC);
        case.denied(&mut inside, "no-writing", &cut.denied_for("write"));
        case.settle();
    }

    #[test]
    fn a_denied_program_does_not_run_and_neither_does_a_script_of_it() {
        let case = Case::new();
        let program = case.program("bin");
        let script = case.path("script");
        fs::write(&script, format!("#!{}\n", program.display())).unwrap();
        let denied_script = case.path("denied-script");
        fs::write(&denied_script, "#!/bin/busybox true\n").unwrap();
        for path in [&script, &denied_script] {
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let runs = [run(&program), run_descriptor(&program), run(&script), run(&denied_script)];
        let mut inside = case.inside();
        case.control(&mut inside, &runs);
        case.enforce(Rule::deny("r").file(&program).file(&denied_script).access(&["exec"]));
        for each in &runs {
            case.denied(&mut inside, "r", each);
        }
        // As the documents say: the image can still be read.
        case.allowed(&mut inside, &read(&program));
        let events = case.settle();
        assert_eq!(
            events[2]["path"],
            program.to_str().unwrap(),
            "the interpreter is what is denied"
        );
    }

    #[test]
    fn a_directory_covers_what_is_there_what_comes_and_what_is_deep() {
        let case = Case::new();
        let directory = case.directory("d");
        let before = case.file("d/before");
        let deep = case.file("d/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/18/19/20/file");
        let outside = case.file("outside/moved/file");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&before), read(&deep), list(&directory)]);
        case.enforce(Rule::deny("r").beneath(&directory).access(&["read"]));
        case.denied(&mut inside, "r", &read(&before));
        case.denied(&mut inside, "r", &read(&deep));
        case.denied(&mut inside, "r", &list(&directory));
        // By somebody outside, and by the process itself.
        let later = case.file("d/later");
        case.denied(&mut inside, "r", &read(&later));
        let own = directory.join("own");
        case.allowed(&mut inside, &open(&own, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL));
        case.denied(&mut inside, "r", &read(&own));
        let new = case.file("d/new/directory/file");
        case.denied(&mut inside, "r", &read(&new));
        fs::rename(outside.parent().unwrap(), directory.join("moved")).unwrap();
        case.denied(&mut inside, "r", &read(directory.join("moved/file")));
        case.settle();
    }

    #[test]
    fn a_rename_over_the_file_keeps_the_denial() {
        let (case, secret, mut inside) = Case::of_a_secret();
        case.denied(&mut inside, "r", &read(&secret));
        fs::rename(case.file("new"), &secret).unwrap();
        case.denied(&mut inside, "r", &read(&secret));
        // An editor moves the old one away first.
        fs::rename(&secret, case.path("secret~")).unwrap();
        case.file("secret");
        case.denied(&mut inside, "r", &read(&secret));
        fs::remove_file(&secret).unwrap();
        case.file("secret");
        case.denied(&mut inside, "r", &write(&secret));
        case.settle();
    }

    #[test]
    fn an_exchange_leaves_both_denied() {
        let case = Case::new();
        let (secret, other) = (case.file("secret"), case.file("other"));
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret), read(&other)]);
        case.enforce(Rule::deny("r").file(&secret));
        case.allowed(&mut inside, &read(&other));
        let exchange = rustix::fs::RenameFlags::EXCHANGE;
        rustix::fs::renameat_with(CWD, &secret, CWD, &other, exchange).unwrap();
        // One has the name, the other is what had it.
        case.denied(&mut inside, "r", &read(&secret));
        case.denied(&mut inside, "r", &read(&other));
        case.settle();
    }

    /// As Kubernetes rotates a secret: the links stay, and one of them leads elsewhere.
    #[test]
    fn a_link_that_is_switched_leads_to_nothing_new() {
        let case = Case::new();
        let link = |target: &str, name: &str| {
            std::os::unix::fs::symlink(target, case.path(name)).unwrap();
        };
        case.file("volume/..1/key");
        link("..1", "volume/..data");
        link("..data/key", "volume/key");
        let key = case.path("volume/key");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&key)]);
        case.enforce(Rule::deny("r").beneath(case.path("volume")));
        case.denied(&mut inside, "r", &read(&key));
        case.file("volume/..2/key");
        link("..2", "volume/..new");
        fs::rename(case.path("volume/..new"), case.path("volume/..data")).unwrap();
        case.denied(&mut inside, "r", &read(&key));
        case.settle();
    }

    #[test]
    fn other_names_of_a_file_do_not_help() {
        let case = Case::new();
        let secret = case.file("vault/secret");
        let linked_before = case.path("before");
        fs::hard_link(&secret, &linked_before).unwrap();
        let place = case.file("place");
        let mount = case.directory("mount");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&linked_before)]);
        case.enforce(Rule::deny("r").file(&secret));
        let (linked, symbolic) = (case.path("linked"), case.path("symbolic"));
        fs::hard_link(&secret, &linked).unwrap();
        std::os::unix::fs::symlink(&secret, &symbolic).unwrap();
        rustix::mount::mount_bind(&secret, &place).unwrap();
        rustix::mount::mount_bind(case.path("vault"), &mount).unwrap();
        for path in [linked_before, linked, symbolic, place.clone(), mount.join("secret")] {
            case.denied(&mut inside, "r", &read(&path));
        }
        // A new file of that name, seen by the other mount, is denied by the name.
        fs::rename(case.file("new"), &secret).unwrap();
        case.denied(&mut inside, "r", &read(mount.join("secret")));
        for path in [&place, &mount] {
            rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH).unwrap();
        }
        case.settle();
    }

    #[test]
    fn a_directory_on_the_way_may_be_replaced() {
        let case = Case::new();
        let secret = case.file("a/b/secret");
        let beneath = case.file("a/c/d/file");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret), read(&beneath)]);
        let rule = Rule::deny("r").file(&secret).beneath(case.path("a/c/d"));
        case.enforce(rule);
        fs::rename(case.path("a"), case.path("old")).unwrap();
        case.file("a/b/secret");
        case.file("a/c/d/file");
        case.denied(&mut inside, "r", &read(&secret));
        case.denied(&mut inside, "r", &read(&beneath));
        case.denied(&mut inside, "r", &read(case.path("old/b/secret")));
        case.denied(&mut inside, "r", &read(case.path("old/c/d/file")));
        // In one step, as a release is switched.
        case.file("next/secret");
        fs::remove_dir_all(case.path("a/b")).unwrap();
        fs::rename(case.path("next"), case.path("a/b")).unwrap();
        case.denied(&mut inside, "r", &read(&secret));
        let neighbour = case.file("a/b/neighbour");
        case.allowed(&mut inside, &read(&neighbour));
        case.settle();
    }

    #[test]
    fn what_is_not_there_yet_is_denied_when_it_comes() {
        let case = Case::new();
        let (one, two, three) = (case.path("one"), case.path("x/y/two"), case.path("p/q/r"));
        let mut inside = case.inside();
        let rule = Rule::deny("r").file(&one).file(&two).beneath(&three);
        let report = case.enforce(rule);
        assert_eq!(report["objects"]["pending"].as_array().map(Vec::len), Some(3), "{report}");
        case.file("one");
        case.denied(&mut inside, "r", &read(&one));
        case.file("x/y/two");
        case.denied(&mut inside, "r", &read(&two));
        // A whole tree that comes by one rename.
        case.file("made/q/r/deep/file");
        fs::rename(case.path("made"), case.path("p")).unwrap();
        case.denied(&mut inside, "r", &read(three.join("deep/file")));
        let neighbour = case.file("x/y/three");
        case.allowed(&mut inside, &read(&neighbour));
        case.settle();
    }

    #[test]
    fn except_frees_what_it_names_and_no_more() {
        let case = Case::new();
        let closed = case.file("d/closed");
        let free = case.file("d/free");
        let below = case.file("d/public/sub/file");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&closed), read(&free)]);
        case.enforce(
            Rule::deny("r")
                .beneath(case.path("d"))
                .except_file(&free)
                .except_beneath(case.path("d/public")),
        );
        case.denied(&mut inside, "r", &read(&closed));
        case.allowed(&mut inside, &read(&free));
        case.allowed(&mut inside, &read(&below));
        let later = case.file("d/public/later");
        case.allowed(&mut inside, &read(&later));
        let other = case.file("d/publicity");
        case.denied(&mut inside, "r", &read(&other));
        case.settle();
    }

    #[test]
    fn what_comes_and_goes_while_a_policy_is_applied_is_denied_afterwards() {
        use std::sync::atomic::{AtomicBool, Ordering};
        use std::time::Duration;

        let case = Case::new();
        let (replaced, removed) = (case.file("d/replaced"), case.file("d/removed"));
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&replaced), read(&removed)]);
        let done = AtomicBool::new(false);
        let new = case.path("new");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    fs::write(&new, "content").unwrap();
                    fs::rename(&new, &replaced).unwrap();
                    fs::remove_file(&removed).unwrap();
                    fs::write(&removed, "content").unwrap();
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
            case.enforce(Rule::deny("r").file(&replaced).file(&removed));
            done.store(true, Ordering::Relaxed);
        });
        case.denied(&mut inside, "r", &read(&replaced));
        case.denied(&mut inside, "r", &read(&removed));
        case.settle();
    }

    #[test]
    fn a_great_many_objects_are_told_apart() {
        let full = std::env::var_os("AEGIS_FULL").is_some();
        let objects: usize = if full { 100_000 } else { 20_000 };
        let case = Case::new();
        let directory = case.path("many");
        // Names cost the same whether their files are there; these are.
        let there: Vec<usize> = (0..objects).step_by(objects / 100).chain([objects - 1]).collect();
        for number in &there {
            case.file(format!("many/{number}"));
        }
        let neighbour = case.file("many/neighbour");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(directory.join("0"))]);
        let mut rule = Rule::deny("r");
        for number in 0..objects {
            rule = rule.file(directory.join(number.to_string()));
        }
        let report = case.enforce(rule);
        assert_eq!(report["objects"]["bound"], there.len(), "{report:.300}");
        assert!(!report["steps"].is_null(), "it says how long it took");
        for number in [0, objects / 2, objects - 1] {
            case.denied(&mut inside, "r", &read(directory.join(number.to_string())));
        }
        let later = case.file("many/7777");
        case.denied(&mut inside, "r", &read(later));
        case.allowed(&mut inside, &read(neighbour));
        let beyond = case.file(format!("many/{objects}"));
        case.allowed(&mut inside, &read(beyond));
        case.settle();
    }
}
