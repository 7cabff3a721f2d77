// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `status`: what this node really does, with everything that says so.

use aegis_abi::Action;
use aegis_kernel::Kernel;
use serde_json::{Value, json};

use crate::{
    context::Context,
    emergency::Switch,
    instances,
    output::{Answer, plural},
    proof::{Outcome, Proof},
    report::{self, short, some},
    state::hex,
    view::{self, View},
};

pub(super) fn run(context: &Context) -> anyhow::Result<Answer> {
    let view = view::glance(context)?;
    let meaning = view.reason.meaning();
    let exit = if view.facts.root { 0 } else { meaning.health };
    Ok(Answer { text: text(&view), json: json(&view), exit })
}

/// The same for a program; `health` answers with it as well.
pub(super) fn json(view: &View) -> Value {
    let meaning = view.reason.meaning();
    let generation = view.active.as_ref().map(|active| &active.generation);
    let texts = view.active.as_ref().and_then(|active| active.texts.as_ref());
    let coverage = view.proof.as_ref().map(|proof| &proof.coverage);
    let hook = |(hook, error): &(&str, Option<String>)| json!({ "hook": hook, "attached": error.is_none(), "error": error });
    let (counters, uncounted) = match counters(view) {
        Ok(counters) => (counters, None),
        Err(error) => (Value::Null, Some(format!("{error:#}"))),
    };
    json!({
        "runtime_state": meaning.state,
        "reason_code": meaning.code,
        "reason": meaning.reason,
        "fix": meaning.fix,
        "denies": view.denies(),
        "generation": generation.map(|generation| generation.number),
        "revision": generation.map(|generation| generation.revision),
        "set_digest": generation.map(|generation| hex(&generation.set_digest)),
        "policies": texts.map_or_else(|| json!([]), |(stored, _)| report::policies(stored)),
        "hooks": view.hooks.iter().map(hook).collect::<Vec<_>>(),
        "unreadable": view.unreadable,
        "instance": view.kernel.as_ref().and_then(Kernel::owner).map(|owner| json!({
            "id": owner.instance(), "state_directory": owner.state(),
        })),
        "other_instances": view.others,
        "changed": view.changed,
        "moved": coverage.and_then(|found| found.moved.as_ref()),
        "took_along": view.took_along,
        "unbound": coverage.map_or(&[][..], |found| &found.unbound),
        "trust": view.trust.as_ref().map(crate::trust::Summary::json),
        "warnings": view.warnings.iter().chain(&uncounted).collect::<Vec<_>>(),
        "proof": view.proof,
        "proof_age_seconds": view.proof.as_ref().map(Proof::age),
        "gate_fallback": view.fallback,
        "unconfirmed": view.unconfirmed(),
        "emergency": view.emergency(),
        "emergency_toggles": view.switch.as_ref().map(Switch::json),
        "counters": counters,
        "perf": view.perf.as_ref().map(|perf| json!({
            "objectives_met": perf.met(), "age_seconds": perf.age(), "measured_on": perf.measured_on,
            "unit": perf.unit, "operations": perf.operations,
        })),
        "enforce_capable": view.blockers.is_empty(),
        "enforce_blockers": view.blockers,
        "kernel": view.facts.kernel,
        "lsm": view.facts.lsm,
    })
}

pub(super) fn text(view: &View) -> String {
    let meaning = view.reason.meaning();
    let mut lines =
        vec![format!("{} ({}): {}", meaning.state.name(), meaning.code, meaning.reason)];
    if !meaning.fix.is_empty() {
        lines.push(format!("  to do     {}", meaning.fix));
    }
    lines.extend(view.emergency().map(|holds| format!("  emergency {}", holds.told())));
    if let Some(owner) = &view.another {
        lines.push(format!("  instance  what is pinned here is of {}", instances::told(owner)));
    }
    if let Some(error) = &view.unreadable {
        lines.push(format!("  pins      {error}"));
    }
    for blocker in &view.blockers {
        lines.push(format!("  blocker   {}: {}", blocker.code, blocker.found));
        lines.push(format!("            fix: {}", blocker.fix));
    }
    if let Some(active) = &view.active {
        let generation = &active.generation;
        let digest = short(&generation.set_digest);
        lines.push(format!("  active    generation {generation}, set {digest}"));
    }
    lines.extend(view.unconfirmed().map(|open| format!("  confirm   {}", open.told())));
    let texts = view.active.as_ref().and_then(|active| active.texts.as_ref());
    for (policy, mode) in texts.into_iter().flat_map(|(stored, _)| stored.set.iter()) {
        let rules = plural(policy.rules.len(), "rule");
        let (name, version, mode) = (&policy.name, policy.version, mode.name());
        let signed = texts.and_then(|(stored, _)| stored.signatures.get(name));
        let signed = report::signed_by(signed);
        lines.push(format!("  policy    {name} version {version}, mode {mode}, {rules}, {signed}"));
    }
    lines.extend(view.trust.iter().map(|trust| format!("  trust     {}", trust.line())));
    for (hook, error) in &view.hooks {
        let state = error.as_deref().unwrap_or("attached");
        lines.push(format!("  hook      {hook}: {state}"));
    }
    for path in view.proof.iter().flat_map(|proof| &proof.paths) {
        let result = match path.result {
            Outcome::DeniedByUs => "denied by us",
            Outcome::NotDenied => "NOT DENIED",
            Outcome::DeniedByOther => "denied by something else",
            Outcome::CouldNotRun => "could not be tried",
        };
        let detail = path.detail.as_ref().map_or_else(String::new, |detail| format!(": {detail}"));
        lines.push(format!("  proof     {}: {result}{detail}", path.path));
    }
    if let Some(proof) = &view.proof {
        lines.push(format!("            tried at {}, {} s ago", proof.time, proof.age()));
    }
    if let Some(fallback) = &view.fallback {
        lines.push(format!("  fallback  {}", fallback.told()));
        for blocker in &fallback.blockers {
            lines.push(format!("            {}: {}", blocker.code, blocker.found));
            lines.push(format!("            fix: {}", blocker.fix));
        }
    }
    lines.extend(view.changed.iter().map(|changed| format!("  changed   {changed}")));
    for found in view.proof.iter().map(|proof| &proof.coverage) {
        lines.extend(found.moved.iter().map(|moved| format!("  moved     {moved}")));
        lines.extend(found.unbound.iter().map(|unbound| format!("  unbound   {unbound}")));
    }
    lines.extend(view.perf.iter().map(|perf| format!("  perf      {}", perf.told())));
    some(&mut lines, "warning", &view.warnings, String::clone);
    if view.active.is_some() {
        lines.push(match counters(view) {
            Ok(counters) => format!(
                "  counters  denied {}, would deny {}, reported {}, events dropped {}",
                counters["deny"], counters["would_deny"], counters["audit"], counters["drops"]
            ),
            Err(error) => format!("  counters  {error:#}"),
        });
    }
    lines.join("\n")
}

/// Sums over all rules, the denials of the proof left out.
fn counters(view: &View) -> anyhow::Result<Value> {
    let mut hits = [0_u64; 3];
    let mut drops = 0;
    for count in view::counts(view)?.values() {
        for (sum, more) in hits.iter_mut().zip(count.hits) {
            *sum += more;
        }
        drops += count.drops;
    }
    let of = |action: Action| hits.get(action.index()).copied().unwrap_or(0);
    Ok(json!({
        "deny": of(Action::Deny),
        "would_deny": of(Action::WouldDeny),
        "audit": of(Action::Audit),
        "drops": drops,
    }))
}
