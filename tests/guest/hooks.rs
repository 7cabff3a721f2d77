// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which programs are on which hooks: each costs every process that passes it.

use std::{fs, path::Path};

use aegis_tests::{Case, Rule};

/// The hooks whose links are pinned.
fn attached() -> Vec<String> {
    let pins = fs::read_dir(Path::new("/sys/fs/bpf/aegisbpf"));
    let names = pins
        .into_iter()
        .flatten()
        .map(|pin| pin.expect("a pin").file_name().into_string().expect("ASCII"));
    names.filter_map(|name| Some(name.strip_prefix("link_")?.to_owned())).collect()
}

#[test]
fn hooks_that_only_decide_writing_are_there_while_a_rule_is_about_writing() {
    let case = Case::new();
    let (file, other) = (case.file("file"), case.file("other"));
    let has = |hook: &str| attached().iter().any(|attached| attached == hook);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release");
    if kernel.starts_with("5.10.") {
        // There a program that was taken off cannot be attached again: all of them stay.
        case.enforce(Rule::deny("r").file(&file).access(&["read"]));
        assert!(has("inode_setattr") && has("inode_create"), "{:?}", attached());
        case.settle();
        return;
    }
    case.enforce(Rule::deny("r").file(&file).access(&["read", "exec"]));
    // What was in force before this may come back at any time, so its hooks stay for as long.
    case.enforce(Rule::deny("r").file(&other).access(&["read"]));
    assert!(has("file_open") && has("inode_rename"), "{:?}", attached());
    assert!(!has("inode_setattr") && !has("inode_create"), "{:?}", attached());
    case.enforce(Rule::deny("r").file(&file).access(&["write"]));
    assert!(has("inode_setattr") && has("inode_create"), "{:?}", attached());
    case.enforce(Rule::deny("r").file(&file).access(&["read"]));
    case.enforce(Rule::deny("r").file(&other).access(&["read"]));
    assert!(!has("inode_setattr") && !has("inode_create"), "{:?}", attached());
    case.settle();
}

mod denial {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        time::Duration,
    };

    use aegis_tests::{Case, Rule, operation::*};

    use super::attached;

    /// A first rule on writing comes with hooks of its own: somebody who tries all the time finds each of them there
    /// as soon as one of them is.
    #[test]
    fn no_way_of_writing_lives_on_once_one_is_denied() {
        let case = Case::new();
        let secret = case.file("vault/secret");
        let reads = |name| Rule::deny("r").file(case.path(name)).access(&["read"]);
        let mut inside = case.inside();
        // Twice, so that no rule on writing is in the generation before either.
        case.enforce(reads("one"));
        case.enforce(reads("other"));
        let stay = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let has = attached().iter().any(|hook| hook == "inode_setattr");
        assert_eq!(has, stay.starts_with("5.10.") && !attached().is_empty(), "{:?}", attached());
        let vault = case.path("vault");
        let tries = |round: usize| {
            [
                write(&secret),
                chmod(&secret),
                mkdir(vault.join(format!("directory-{round}"))),
                utimes(&secret),
                set_attribute(&secret),
                create(vault.join(format!("file-{round}"))),
            ]
        };
        let over = AtomicBool::new(false);
        let (before, after) = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let (mut before, mut after) = (0, 0);
                while !over.load(Ordering::Relaxed) {
                    for operation in tries(before + after) {
                        match inside.perform(&operation) {
                            Tried::Allowed if after == 0 => before += 1,
                            Tried::Refused(1) => after += 1,
                            Tried::Allowed => {
                                panic!("NOT DENIED: {operation}, after {after} denials")
                            }
                            other => panic!("{operation}: {other}"),
                        }
                    }
                    // Each denial is an event, which somebody has to write down.
                    std::thread::sleep(Duration::from_millis(4));
                }
                (before, after)
            });
            // Whatever fails here, the writer ends.
            let ends = Ends(&over);
            case.enforce(Rule::deny("r").beneath(&vault).access(&["write"]));
            drop(ends);
            writer.join().unwrap()
        });
        for operation in tries(usize::MAX) {
            let tried = inside.perform(&operation);
            assert_eq!(tried, Tried::Refused(1), "NOT DENIED: {operation}, after the apply");
        }
        eprintln!("{before} changes, and then {after} denials");
        assert!(before > 0 && after > 0, "{before} {after}");
        assert!(case.events().iter().all(|event| event["access"] == "write"));
        case.forget();
    }

    struct Ends<'a>(&'a AtomicBool);

    impl Drop for Ends<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}
