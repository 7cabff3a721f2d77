// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What documents tell people to type exists.

use std::collections::{BTreeMap, BTreeSet};

use aegis_tests::program::aegisbpf_for_people;

/// Every document of the repository, by its name.
const DOCUMENTS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/documents.rs"));

#[test]
fn every_command_and_flag_in_the_documents_exists() {
    let (status, help, _) = aegisbpf_for_people(&["--help"]);
    assert_eq!(status, 0);
    let verbs = verbs(&help);
    assert!(verbs.contains("apply") && verbs.contains("detach"), "{verbs:?}");
    let mut flags: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut faults = Vec::new();
    let mut seen = 0;
    for (document, text) in DOCUMENTS {
        for line in commands(text) {
            let mut words = line.split_whitespace().skip_while(|word| word.starts_with('-'));
            let Some(verb) = words.next().map(|word| word.trim_end_matches(punctuation)) else {
                continue;
            };
            let Some(verb) = verbs.get(verb) else {
                faults.push(format!("{document}: there is no `aegisbpf {verb}`"));
                continue;
            };
            seen += 1;
            let known = flags.entry(verb).or_insert_with(|| long_flags(verb));
            for word in words {
                let flag = word.trim_matches(punctuation).split('=').next().unwrap_or_default();
                if flag.starts_with("--") && flag.len() > 2 && !known.contains(flag) {
                    faults.push(format!("{document}: `aegisbpf {verb}` has no {flag}"));
                }
            }
        }
    }
    assert!(seen > 0, "documents without a single command show nothing");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The verbs that help lists.
fn verbs(help: &str) -> BTreeSet<String> {
    let list = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let lines = list.take_while(|line| !line.is_empty());
    lines.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

fn long_flags(verb: &str) -> BTreeSet<String> {
    let (_, help, _) = aegisbpf_for_people(&[verb, "--help"]);
    let words = help.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '-'));
    words.filter(|word| word.starts_with("--")).map(str::to_owned).collect()
}

/// What follows `aegisbpf ` in code, up to the end of the code or a pipe.
fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut in_block = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
            continue;
        }
        let pieces: Vec<&str> =
            if in_block { vec![line] } else { line.split('`').skip(1).step_by(2).collect() };
        for piece in pieces {
            let words = piece.trim_start().trim_start_matches("$ ").trim_start_matches("sudo ");
            if let Some(rest) = words.strip_prefix("aegisbpf ") {
                let end = rest.find(['|', '#', ';', '>']).unwrap_or(rest.len());
                found.push(rest[..end].to_owned());
            }
        }
    }
    found
}

fn punctuation(letter: char) -> bool {
    matches!(letter, '[' | ']' | ',' | '.' | ')' | '(' | ':' | '…')
}
