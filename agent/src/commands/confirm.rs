// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `confirm`: what was put in force with a deadline stays.

use aegis_kernel::Kernel;
use aegis_trust::{
    Digest,
    provenance::{Effect, Entry},
};
use serde_json::json;

use crate::{
    apply::active,
    confirmation::{self, Open},
    context::Context,
    failure::Refusal,
    instances, late,
    lock::Lock,
    output::Answer,
    posture::Reason,
    provenance::{Log, in_force},
    report::short,
    starts,
    state::State,
    trust::Gate,
};

pub(super) fn run(context: &Context) -> anyhow::Result<Answer> {
    if !rustix::process::geteuid().is_root() {
        let meaning = Reason::NotRoot.meaning();
        return Err(Refusal::new(meaning.code, "only root can confirm what is in force")
            .hint(meaning.fix)
            .into());
    }
    let Some(kernel) = Kernel::open(&context.pins)? else {
        return Err(nothing_to_confirm().into());
    };
    instances::refuse_another(context, &kernel)?;
    let _lock = Lock::take(&context.lock(), "confirm")?;
    let warning = confirmation::settle(context, &kernel)?;
    let (Some(open), Some((_, generation))) = (Open::of(&kernel), active(Some(&kernel))?) else {
        return Err(nothing_to_confirm().details(warning.into_iter().collect()).into());
    };
    let state = State::new(context.state.clone());
    let stored = state.load(&generation.set_digest)?;
    let mut gate = Gate::open(context, Some(generation.set_digest))?;
    let begun = Log::new(context).begin(Entry {
        command: "confirm".to_owned(),
        policies: stored.set.iter().map(|(policy, _)| policy.name.clone()).collect(),
        before: Some(Digest::from_bytes(generation.set_digest)),
        effect: Effect::InForce(in_force(&generation, &stored)),
        ..Entry::default()
    })?;
    if !kernel.confirm() {
        let refusal = anyhow::Error::from(too_late());
        return Err(match begun.undone(&refusal) {
            Some(warning) => refusal.context(warning),
            None => refusal,
        });
    }
    let mut warnings: Vec<String> = begun.done().into_iter().collect();
    let kept = [gate.accept(), confirmation::note(context, &kernel), starts::settle(context)];
    warnings.extend(kept.into_iter().filter_map(|kept| Some(format!("{:#}", kept.err()?))));
    warnings.extend(late::warning(context, &kernel));
    let digest = short(&generation.set_digest);
    let mut lines = vec![format!(
        "generation {generation} is confirmed, set {digest}; {} s were left",
        open.seconds_left
    )];
    lines.extend(warnings.iter().map(|warning| format!("  warning   {warning}")));
    let json = json!({
        "changed": true,
        "generation": generation.number,
        "revision": generation.revision,
        "set_digest": Digest::from_bytes(generation.set_digest),
        "seconds_left": open.seconds_left,
        "warnings": warnings,
    });
    Ok(Answer { text: lines.join("\n"), json, exit: 0 })
}

fn nothing_to_confirm() -> Refusal {
    Refusal::new("NOTHING_TO_CONFIRM", "nothing waits to be confirmed").hint(
        "the deadline may have passed: `aegisbpf history` says so, `aegisbpf status` what is in force",
    )
}

fn too_late() -> Refusal {
    Refusal::new("TOO_LATE", "the deadline passed: the kernel has gone back to what was before")
        .hint("apply it again")
}
