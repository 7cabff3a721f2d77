// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Each `corpus/NAME.toml` is read, and what comes of it is `corpus/NAME.expected`: the diagnostics
//! as a person sees them, then the policy if there is one. `BLESS=1` writes what came of it.
#![allow(clippy::unwrap_used, reason = "tests may")]

use std::{fmt::Write as _, fs, path::Path};

use aegis_policy::{Mode, Policy, PolicySet, Source, Who, parse};

#[test]
fn every_text_is_read_and_answered_as_expected() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut differing = Vec::new();
    let mut count = 0;
    for entry in fs::read_dir(&corpus).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        count += 1;
        let name = path.file_name().unwrap().to_str().unwrap();
        let found = answer(name, &fs::read_to_string(&path).unwrap());
        assert!(!found.contains('\u{1b}'), "{name}: an escape sequence reaches the terminal");
        let expected = path.with_extension("expected");
        if std::env::var_os("BLESS").is_some() {
            fs::write(&expected, &found).unwrap();
        } else if fs::read_to_string(&expected).ok().as_deref() != Some(&found) {
            differing.push(format!("{name}: found\n{found}"));
        }
    }
    assert!(count >= 40, "only {count} texts in the corpus");
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn examples_are_policies() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist/policies");
    let mut count = 0;
    for entry in fs::read_dir(&examples).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let (policy, diagnostics) = parse(Source { name: "example", text: &text });
        assert!(policy.is_some(), "{}: {diagnostics:#?}", path.display());
        count += 1;
    }
    assert!(count >= 3, "only {count} examples");
}

#[test]
fn the_digest_of_a_set_tells_every_part_of_it_and_no_order() {
    let text = |name: &str, version: u32| {
        format!(
            "schema = 1\nname = \"{name}\"\nversion = {version}\n[[rules]]\nid = \"r\"\n\
             workloads = [\"*\"]\naction = \"deny\"\nobjects = [\"/x\"]\nreason = \"why\"\n"
        )
    };
    let policy =
        |name: &str, version| parse(Source { name: "text", text: &text(name, version) }).0.unwrap();
    let set = |policies: &[(Policy, Mode)]| {
        let mut set = PolicySet::new();
        for (policy, mode) in policies {
            set.insert(policy.clone(), *mode);
        }
        set.digest()
    };
    let (one, other) = ((policy("a", 1), Mode::Enforce), (policy("b", 1), Mode::Enforce));
    let both = set(&[one.clone(), other.clone()]);
    assert_eq!(both, set(&[other.clone(), one.clone()]));
    assert_ne!(both, set(std::slice::from_ref(&one)));
    assert_ne!(both, set(&[one.clone(), (other.0.clone(), Mode::Audit)]));
    assert_ne!(both, set(&[one, (policy("b", 2), Mode::Enforce)]));
}

fn answer(name: &str, text: &str) -> String {
    let source = Source { name, text };
    let (policy, diagnostics) = parse(source);
    let mut answer = String::new();
    for diagnostic in &diagnostics {
        writeln!(answer, "{}\n", diagnostic.render(source, false)).unwrap();
    }
    match policy {
        None => answer.push_str("no policy\n"),
        Some(policy) => summarise(&mut answer, &policy),
    }
    answer
}

fn summarise(answer: &mut String, policy: &Policy) {
    writeln!(answer, "policy {} version {}", policy.name, policy.version).unwrap();
    for workload in &policy.workloads {
        let cgroups: Vec<String> = workload.cgroups.iter().map(|one| one.written()).collect();
        writeln!(answer, "workload {}: {}", workload.name, cgroups.join(" ")).unwrap();
    }
    for rule in &policy.rules {
        let who = match &rule.who {
            Who::Everyone => "everybody".to_owned(),
            Who::Workloads(numbers) => {
                let names = numbers.iter().map(|number| policy.workloads[*number].name.as_str());
                names.collect::<Vec<_>>().join(",")
            }
        };
        let access: Vec<&str> = rule.access.iter().map(aegis_abi::Access::name).collect();
        let (action, access) = (rule.action.name(), access.join(","));
        writeln!(answer, "{}: rule {}: {action} {who} {access}", rule.line, rule.id).unwrap();
        for object in &rule.objects {
            writeln!(answer, "  on {}", object.written()).unwrap();
        }
        for object in &rule.except {
            writeln!(answer, "  but {}", object.written()).unwrap();
        }
        writeln!(answer, "  since {}", rule.reason).unwrap();
    }
}
