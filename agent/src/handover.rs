// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Programs of this binary take over from those of another: its end, which is the same for who began it
//! and for who finds it cut off.
//!
//! What comes before, until ours have denied beside the others, is in `apply/handover.rs`.

use aegis_kernel::{Handover, Kernel};
use anyhow::Context as _;

use crate::{context::Context, emergency, event_log, installed, provenance::Log};

/// Ours get the name of the pins and all that the others knew, and the others go. The caller has the lock
/// of changes.
pub(crate) fn finish(
    context: &Context,
    mut handover: Handover,
) -> anyhow::Result<(Kernel, Vec<String>)> {
    let mut warnings = Vec::new();
    // It would only say again what is in the log already.
    let known = handover.old_one().map_or(Ok(()), |old| {
        emergency::hand_on(context, old.switches(), handover.new_one().switches())
    });
    warnings.extend(known.err().map(|error| format!("{error:#}")));
    installed::forget(context)?;
    Log::new(context)
        .while_nobody_writes(|| handover.exchange())
        .and_then(|exchanged| exchanged.map_err(anyhow::Error::from))
        .context("they do not have the name of the pins yet, so this has to be done again")?;
    // Whatever was done with the switches of the others up to now.
    handover.carry();
    handover.silence();
    let taken =
        handover.old_one().map_or(Ok(()), |old| take_last_events(context, old, handover.new_one()));
    warnings.extend(taken.err().map(|error| format!("{error:#}")));
    let kernel =
        handover.end().context("pins of the others are left, so this has to be done again")?;
    let renewed = installed::renew(context, &kernel);
    warnings.extend(renewed.err().map(|error| format!("{error:#}")));
    Ok((kernel, warnings))
}

/// Finishes or takes back what a killed command left; what there was, in words.
pub(crate) fn after_a_kill(context: &Context) -> anyhow::Result<Vec<String>> {
    let failed = "failed to open what a hand-over left that was cut off";
    if let Some(handover) = Handover::resume(&context.pins).context(failed)? {
        let (_kernel, mut said) = finish(context, handover)?;
        let what = "repaired: programs of another build had been replaced, and were not gone";
        said.push(what.to_owned());
        return Ok(said);
    }
    if let Some(handover) = Handover::undecided(&context.pins).context(failed)? {
        let warning = give_up(context, handover)?;
        let what = "repaired: programs that were to take over had not, and were taken away";
        return Ok(warning.into_iter().chain([what.to_owned()]).collect());
    }
    Ok(Vec::new())
}

/// The others go on as they were, and ours go; what to warn of.
pub(crate) fn give_up(context: &Context, handover: Handover) -> anyhow::Result<Option<String>> {
    handover.step_back();
    let taken =
        handover.old_one().map_or(Ok(()), |old| take_last_events(context, handover.new_one(), old));
    handover.give_up().context("failed to take away programs that did not take over")?;
    Ok(taken.err().map(|error| format!("{error:#}")))
}

/// What those that go have reported comes into the log before what the others report, unless an agent
/// takes events: then it does.
fn take_last_events(context: &Context, go: &Kernel, stay: &Kernel) -> anyhow::Result<()> {
    go.wait_for_decisions().context("failed to wait for decisions of programs that go")?;
    go.go_on_from(stay);
    event_log::drain_if_free(context, go)?;
    stay.go_on_from(go);
    Ok(())
}
