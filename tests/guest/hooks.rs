// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which programs are on which hooks: each costs every process that passes it.

use std::{fs, path::Path};

use aegis_tests::{Case, Rule};

/// The hooks whose links are pinned.
fn attached() -> Vec<String> {
    let pins = fs::read_dir(Path::new("/sys/fs/bpf/aegisbpf")).expect("our pins");
    let names = pins.map(|pin| pin.expect("a pin").file_name().into_string().expect("ASCII"));
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
