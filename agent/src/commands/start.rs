// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `start`: what was last confirmed is put in force, before the workloads of the host begin.

use aegis_kernel::{Generation, Kernel};
use aegis_trust::Digest;
use serde_json::json;

use super::apply::answer_or_fall_back;
use crate::{
    apply::{Request, Wish, active, apply},
    bindings,
    confirmation::{self, Open},
    context::Context,
    failure::Refusal,
    instances,
    output::Answer,
    posture::Reason,
    starts::{self, Starts},
    state::State,
    switched_off,
};

pub(super) fn run(context: &Context) -> anyhow::Result<Answer> {
    if !rustix::process::geteuid().is_root() {
        let meaning = Reason::NotRoot.meaning();
        return Err(Refusal::new(meaning.code, "only root can put policies in force")
            .hint(meaning.fix)
            .into());
    }
    switched_off::refuse()?;
    if let Some(kernel) = Kernel::open(&context.pins)? {
        instances::refuse_another(context, &kernel)?;
        let warning = confirmation::settle_unless_busy(context, &kernel)?;
        if let Some((_, generation)) = active(Some(&kernel))? {
            let others = !kernel.has_own_programs() || Kernel::is_handing_over(&context.pins);
            if others && Open::of(&kernel).is_none() {
                return take_over(context, &generation);
            }
            let mut text = format!("nothing to do: generation {generation} is in force");
            text.extend(warning.iter().map(|warning| format!("\n  warning   {warning}")));
            let json = json!({
                "changed": false,
                "generation": generation.number,
                "set_digest": Digest::from_bytes(generation.set_digest),
                "warnings": warning.iter().collect::<Vec<_>>(),
            });
            return Ok(Answer { text, json, exit: 0 });
        }
    }
    let state = State::new(context.state.clone());
    let Some(confirmed) = state.confirmed()? else {
        let text = "nothing to do: nothing was ever confirmed on this node".to_owned();
        return Ok(Answer { text, json: json!({ "changed": false }), exit: 0 });
    };
    let digest = confirmed.digest().ok_or_else(|| {
        Refusal::new("STATE_TORN", "confirmed.json in the state directory names no set")
            .hint("apply the policies again: that writes it anew")
    })?;
    let set = state.load(&digest)?;
    let starts = Starts::begin(context)?;
    let (set, reason) = if starts.only_report() {
        (starts::reporting(&set), starts.told())
    } else {
        (set, format!("the start of the host: what was confirmed at {}", confirmed.time))
    };
    let asked = set.set.iter().map(|(policy, _)| (policy.name.clone(), policy.version)).collect();
    let request = Request {
        confirms: false,
        takes_over: true,
        ..Request::new("start", Wish::Whole(Box::new(set)), Some(&reason))
    };
    let applied = apply(context, &request).map(|mut report| {
        report.warnings.extend(starts.only_report().then(|| starts.told()));
        report.answer()
    });
    answer_or_fall_back(context, "start", asked, false, applied)
}

/// The set that is in force stays, and programs of this binary take over from those of another.
fn take_over(context: &Context, generation: &Generation) -> anyhow::Result<Answer> {
    let set = State::new(context.state.clone()).load(&generation.set_digest)?;
    let asked = set.set.iter().map(|(policy, _)| (policy.name.clone(), policy.version)).collect();
    let reason = "programs of another build were in force";
    let request = Request {
        confirms: false,
        takes_over: true,
        link_scan: bindings::last_link_scan(context),
        ..Request::new("start", Wish::Same, Some(reason))
    };
    let applied = apply(context, &request).map(|report| report.answer());
    answer_or_fall_back(context, "start", asked, false, applied)
}
