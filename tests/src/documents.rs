// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What documents tell people to type, and what is shipped for them to start from.

use std::collections::{BTreeMap, BTreeSet};

include!(concat!(env!("OUT_DIR"), "/documents.rs"));

/// Every command of `program` in the documents that its help does not know, with its flags. The help of a verb, or of a
/// verb's verb, is asked for by their names, that of the program by none.
pub fn faults(program: &str, help: impl Fn(&[&str]) -> String) -> Vec<String> {
    let verbs_of_all = verbs(&help(&[]));
    let verbs = &verbs_of_all;
    assert!(verbs.len() > 2, "the help of {program} lists its commands: {verbs:?}");
    let mut helps: BTreeMap<Vec<String>, String> = BTreeMap::new();
    let mut help_of = |names: &[&str]| {
        let key = names.iter().map(|name| (*name).to_owned()).collect();
        helps.entry(key).or_insert_with(|| help(names)).clone()
    };
    let mut faults = Vec::new();
    let mut seen = 0;
    for (document, text) in DOCUMENTS {
        for line in commands(text, program) {
            let mut words = line.split_whitespace().skip_while(|word| word.starts_with('-'));
            let Some(verb) = words.next().map(|word| word.trim_matches(punctuation)) else {
                continue;
            };
            let Some(verb) = verbs.get(verb) else {
                faults.push(format!("{document}: there is no `{program} {verb}`"));
                continue;
            };
            seen += 1;
            let mut help = help_of(&[verb]);
            let inner = words.clone().next().unwrap_or_default();
            if self::verbs(&help).contains(inner) {
                help = help_of(&[verb, inner]);
            }
            let known = long_flags(&help);
            // What follows is another program's.
            for word in words.take_while(|word| *word != "--") {
                let flag = word.trim_matches(punctuation).split('=').next().unwrap_or_default();
                if flag.starts_with("--") && !known.contains(flag) {
                    faults.push(format!("{document}: `{program} {verb}` has no {flag}"));
                }
            }
        }
    }
    assert!(seen > 0, "documents without a single command show nothing");
    faults
}

/// The verbs that a help lists.
fn verbs(help: &str) -> BTreeSet<String> {
    let list = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let lines = list.take_while(|line| !line.is_empty());
    lines.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

fn long_flags(help: &str) -> BTreeSet<String> {
    let words = help.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '-'));
    words.filter(|word| word.starts_with("--")).map(str::to_owned).collect()
}

/// What follows the program in code, up to the end of the code or a pipe.
fn commands(text: &str, program: &str) -> Vec<String> {
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
            if let Some(rest) = words.strip_prefix(program).and_then(|rest| rest.strip_prefix(' '))
            {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_does_not_exist_is_a_fault() {
        let text =
            "Run `tool apply --force X`.\n```\n$ sudo tool nonsense # comment\n```\ntool prose\n";
        assert_eq!(commands(text, "tool"), ["apply --force X", "nonsense "]);
        let help =
            "Does things.\n\nCommands:\n  apply  Apply\n  list   List\n\nOptions:\n      --json\n";
        assert_eq!(verbs(help), BTreeSet::from(["apply".to_owned(), "list".to_owned()]));
        assert_eq!(
            long_flags("  -x, --force <F>  [--mode]"),
            BTreeSet::from(["--force".to_owned(), "--mode".to_owned()])
        );
    }
}
