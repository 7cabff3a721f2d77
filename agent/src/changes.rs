// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is another between two sets of policies, for a person and for a program.

use aegis_policy::{Mode, PolicyDifference, RuleDifference, RuleParts, escape};
use serde_json::{Value, json};

use crate::output::one_line;

/// The difference for a program.
pub(crate) fn json(changes: &[PolicyDifference]) -> Value {
    changes.iter().map(policy_json).collect()
}

/// The same for a person: a line for each policy, and one for each rule.
pub(crate) fn lines(changes: &[PolicyDifference]) -> Vec<String> {
    changes.iter().flat_map(policy_lines).collect()
}

/// The names of the policies that change.
pub(crate) fn names(changes: &[PolicyDifference]) -> Vec<String> {
    changes.iter().map(|policy| policy.name.clone()).collect()
}

fn policy_json(policy: &PolicyDifference) -> Value {
    let side = |side: Option<(u32, Mode)>| {
        side.map(|(version, mode)| json!({ "version": version, "mode": mode.name() }))
    };
    let rule = |rule: &RuleDifference| {
        json!({
            "rule": rule.id,
            "before": rule.present.0,
            "after": rule.present.1,
            "gained": parts(&rule.gained),
            "lost": parts(&rule.lost),
            "denies_less": rule.denies_less,
        })
    };
    json!({
        "policy": policy.name,
        "before": side(policy.before),
        "after": side(policy.after),
        "denies_less": policy.denies_less(),
        "rules": policy.rules.iter().map(rule).collect::<Vec<_>>(),
    })
}

fn parts(parts: &RuleParts) -> Value {
    json!({
        "action": parts.action,
        "access": parts.access,
        "cgroups": parts.cgroups,
        "objects": parts.objects,
        "except": parts.except,
    })
}

fn policy_lines(policy: &PolicyDifference) -> Vec<String> {
    let side = |side: Option<(u32, Mode)>| {
        side.map_or_else(
            || "none".to_owned(),
            |(version, mode)| format!("version {version}, mode {}", mode.name()),
        )
    };
    let less = if policy.denies_less() { ", denies less" } else { "" };
    let (before, after) = (side(policy.before), side(policy.after));
    let mut lines = vec![format!("  policy    {}: {before} -> {after}{less}", policy.name)];
    lines.extend(policy.rules.iter().map(rule_line));
    lines
}

fn rule_line(rule: &RuleDifference) -> String {
    let sign = match rule.present {
        (false, true) => '+',
        (true, false) => '-',
        _ => '~',
    };
    let mut said = Vec::new();
    for (sign, parts) in [('-', &rule.lost), ('+', &rule.gained)] {
        said.extend(parts.action.map(|action| format!("{sign}{action}")));
        said.extend(parts.access.iter().map(|access| format!("{sign}{access}")));
        said.extend(parts.cgroups.iter().map(|cgroup| format!("{sign}for {cgroup}")));
        said.extend(parts.objects.iter().map(|object| format!("{sign}{object}")));
        said.extend(parts.except.iter().map(|object| format!("{sign}except {object}")));
    }
    let id = escape(rule.id.as_bytes());
    one_line(&format!("            {sign} {id}: {}", said.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_says_what_came_and_what_went() {
        let rule = RuleDifference {
            id: "r".to_owned(),
            present: (true, true),
            gained: RuleParts { objects: vec!["/b".to_owned()], ..RuleParts::default() },
            lost: RuleParts { objects: vec!["/a".to_owned()], ..RuleParts::default() },
            denies_less: true,
        };
        let policy = PolicyDifference {
            name: "p".to_owned(),
            before: Some((2, Mode::Enforce)),
            after: None,
            rules: vec![rule],
        };
        let told = lines(std::slice::from_ref(&policy)).join("\n");
        assert_eq!(
            told,
            "  policy    p: version 2, mode enforce -> none, denies less\n            ~ r: -/a +/b"
        );
        assert_eq!(json(&[policy])[0]["rules"][0]["lost"]["objects"], json!(["/a"]));
    }
}
