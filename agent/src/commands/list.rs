// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `list`: the policies in force, and how often each rule was hit since they are.

use std::collections::BTreeMap;

use aegis_abi::Action;
use aegis_policy::{Ruleset, escape};
use serde_json::{Value, json};

use crate::{
    context::Context,
    output::{Answer, one_line, plural},
    report::{self, short},
    state::hex,
    view::{self, View},
};

pub(super) fn run(context: &Context) -> anyhow::Result<Answer> {
    let view = view::in_force(context)?;
    let Some(active) = &view.active else {
        let json = json!({ "generation": null, "set_digest": null, "policies": [] });
        return Ok(Answer { text: "no policy is in force".to_owned(), json, exit: 0 });
    };
    let (stored, ruleset) = active.known()?;
    let hits = hits(&view)?;
    let mut lines = Vec::new();
    let mut policies = Vec::new();
    for (policy, mode) in stored.set.iter() {
        let mut object = report::policy(policy, mode, stored.signatures.get(&policy.name));
        lines.push(format!(
            "{} version {}, mode {}, {}, {}, {}",
            policy.name,
            policy.version,
            mode.name(),
            plural(policy.rules.len(), "rule"),
            report::signed_by(stored.signatures.get(&policy.name)),
            short(&policy.digest)
        ));
        let rules = rules(ruleset, &policy.name, &hits, &mut lines);
        if let Some(fields) = object.as_object_mut() {
            fields.insert("hits_by_rule".to_owned(), rules);
        }
        policies.push(object);
    }
    if lines.is_empty() {
        lines.push("no policy is in force".to_owned());
    }
    let json = json!({
        "generation": active.generation.number,
        "revision": active.generation.revision,
        "set_digest": hex(&active.generation.set_digest),
        "policies": policies,
    });
    Ok(Answer { text: lines.join("\n"), json, exit: 0 })
}

fn rules(
    ruleset: &Ruleset,
    policy: &str,
    hits: &BTreeMap<u32, ([u64; 3], u64)>,
    lines: &mut Vec<String>,
) -> Value {
    let own = ruleset.rules().iter().filter(|rule| rule.policy == policy);
    own.map(|rule| {
        let ([deny, would_deny, audit], drops) =
            hits.get(&rule.number).copied().unwrap_or_default();
        lines.push(format!(
            "  {:<32} {:<5} denied {deny}, would deny {would_deny}, reported {audit}  {}",
            escape(rule.rule.id.as_bytes()),
            rule.rule.action.name(),
            one_line(&rule.rule.reason),
        ));
        json!({
            "rule": rule.rule.id, "action": rule.rule.action.name(), "reason": rule.rule.reason,
            "deny": deny, "would_deny": would_deny, "audit": audit, "drops": drops,
        })
    })
    .collect()
}

/// Hits by action, and drops, of each rule.
fn hits(view: &View) -> anyhow::Result<BTreeMap<u32, ([u64; 3], u64)>> {
    let mut hits: BTreeMap<u32, ([u64; 3], u64)> = BTreeMap::new();
    for (key, count) in view::counts(view)? {
        let (actions, drops) = hits.entry(key.rule).or_default();
        for action in Action::ALL {
            if let (Some(sum), Some(more)) =
                (actions.get_mut(action.index()), count.hits.get(action.index()))
            {
                *sum += more;
            }
        }
        *drops += count.drops;
    }
    Ok(hits)
}
