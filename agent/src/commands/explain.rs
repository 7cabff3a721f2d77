// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `explain`: what policies answer, and why. Asks no host: paths are taken as they are written; but see
//! `live`.

use std::os::unix::ffi::OsStrExt as _;

use aegis_abi::{Access, Action};
use aegis_policy::{
    Accesses, Explanation, Mode, Places, Question, RuleMatch, Ruleset, escape, explain,
};
use serde_json::{Value, json};

use super::{
    live::{self, Asked},
    sources,
};
use crate::{
    cli,
    context::Context,
    decoder::compile_set,
    output::{Answer, one_line},
    state::StoredSet,
};

pub(super) fn run(context: &Context, args: &cli::Explain) -> anyhow::Result<Answer> {
    let accesses = accesses(&args.access)?;
    let path = absolute("--path", args.path.as_os_str().as_bytes())?;
    let cgroup = absolute("--cgroup", args.cgroup.as_bytes())?;
    let Some(policies) = &args.policies else {
        let asked = Asked { cgroup: &cgroup, path: &path, accesses };
        return live::run(context, &asked, tell);
    };
    let mut set = StoredSet::default();
    for (policy, text) in sources::policies(policies)? {
        set.insert(policy, Mode::Enforce, text);
    }
    // The proof's own rules are about files that no question is about.
    let built_in = aegis_policy::BuiltIn { proof_directory: b"/run/aegisbpf/proof".to_vec() };
    let ruleset = compile_set(&set, &built_in)?;
    let places = Places::as_written(&ruleset);
    let paths = [path.clone()];
    let question = Question { cgroup: &cgroup, paths: &paths, accesses };
    let explanation = explain(&ruleset, &places, &question);
    let denied = explanation.decision.is_some_and(|decision| decision.action == Action::Deny);
    let (text, matches) = tell(&ruleset, &explanation, &path, &cgroup);
    let decision = explanation.decision.and_then(|decision| {
        let rule = ruleset.rule(decision.rule)?;
        Some(json!({
            "verdict": decision.action.name(),
            "access": decision.access.name(),
            "policy": rule.policy,
            "rule": rule.rule.id,
            "reason": rule.rule.reason,
        }))
    });
    let json = json!({
        "allowed": !denied,
        "verdict": explanation.decision.map_or("allow", |decision| decision.action.name()),
        "decision": decision,
        "cgroup": escape(&cgroup),
        "path": escape(&path),
        "workloads": workloads(&ruleset, &explanation),
        "exempt": explanation.exempt,
        "matches": matches,
    });
    Ok(Answer { text, json, exit: u8::from(denied) })
}

fn tell(
    ruleset: &Ruleset,
    explanation: &Explanation,
    path: &[u8],
    cgroup: &[u8],
) -> (String, Vec<Value>) {
    let (path, cgroup) = (escape(path), escape(cgroup));
    let decided =
        explanation.decision.and_then(|decision| Some((decision, ruleset.rule(decision.rule)?)));
    let mut lines = vec![match decided {
        Some((decision, rule)) => format!(
            "{} {} of {path} for {cgroup}: {}/{}: {}",
            verdict(decision.action),
            decision.access.name(),
            rule.policy,
            rule.rule.id,
            one_line(&rule.rule.reason)
        ),
        None => format!("allowed: no rule speaks about {path} for {cgroup}"),
    }];
    if explanation.exempt {
        lines.push(format!("  {cgroup} is exempt from every rule"));
    }
    let names = workloads(ruleset, explanation);
    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    lines.push(format!("  workloads of the cgroup: {names}"));
    let mut matches = Vec::new();
    for found in &explanation.matches {
        let Some(rule) = ruleset.rule(found.rule) else { continue };
        let (id, what) = (&rule.rule.id, rule.rule.action.name());
        lines.push(format!("  {}/{id} ({what} {}): {}", rule.policy, found.object, says(found)));
        matches.push(json!({
            "policy": rule.policy,
            "rule": id,
            "action": what,
            "object": found.object,
            "excepted": found.excepted,
            "selects": found.selects,
            "accesses": found.accesses.iter().map(Access::name).collect::<Vec<_>>(),
            "decides": found.decides,
        }));
    }
    (lines.join("\n"), matches)
}

fn says(found: &RuleMatch) -> String {
    if let Some(except) = &found.excepted {
        return format!("does not speak: except {except}");
    }
    if !found.selects {
        return "does not speak: the cgroup is in none of its workloads".to_owned();
    }
    if found.accesses.is_empty() {
        return "does not speak: it is about other accesses".to_owned();
    }
    let accesses: Vec<&str> = found.accesses.iter().map(Access::name).collect();
    let decides = if found.decides { ", and is the one that is named" } else { "" };
    format!("speaks about {}{decides}", accesses.join(", "))
}

fn workloads(ruleset: &Ruleset, explanation: &Explanation) -> Vec<String> {
    let all = ruleset.workloads();
    let held = all.iter().filter(|workload| explanation.workloads.contains(&workload.number));
    held.map(|workload| match workload.number {
        0 => "*".to_owned(),
        _ => format!("{}/{}", workload.policy, workload.name),
    })
    .collect()
}

const fn verdict(action: Action) -> &'static str {
    match action {
        Action::Deny => "denied:",
        Action::WouldDeny => "allowed, and reported as it would be denied:",
        Action::Audit => "allowed and reported:",
    }
}

fn accesses(text: &str) -> anyhow::Result<Accesses> {
    let mut accesses = Accesses::NONE;
    for name in text.split(',') {
        let access = Access::ALL.into_iter().find(|access| access.name() == name);
        match access {
            Some(access) => accesses = accesses.with(access),
            None => anyhow::bail!(
                "failed to understand --access {text}: {name:?} is not read, write or exec"
            ),
        }
    }
    Ok(accesses)
}

fn absolute(flag: &str, path: &[u8]) -> anyhow::Result<Vec<u8>> {
    let plain = path.split(|byte| *byte == b'/').all(|name| !matches!(name, b"." | b".."));
    if path.first() != Some(&b'/') || !plain {
        let message = format!("{flag} {} is not an absolute path without . and ..", escape(path));
        return Err(anyhow::Error::msg(message));
    }
    let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
    let joined: Vec<u8> = names.flat_map(|name| [b"/".as_slice(), name].concat()).collect();
    Ok(if joined.is_empty() { b"/".to_vec() } else { joined })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_a_question_is_taken_without_detours() {
        assert_eq!(absolute("--path", b"//a//b/").unwrap(), b"/a/b");
        assert_eq!(absolute("--path", b"/").unwrap(), b"/");
        assert!(absolute("--path", b"a").is_err());
        assert!(absolute("--path", b"/a/../b").is_err());
    }

    #[test]
    fn accesses_are_words_with_commas() {
        assert_eq!(accesses("read,exec").unwrap().iter().count(), 2);
        assert!(accesses("reed").is_err());
    }
}
