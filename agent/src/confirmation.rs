// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What was put in force until somebody confirms it: the kernel goes back by itself at the deadline,
//! whoever is alive by then. Who comes next puts that on record.

use std::time::{Duration, Instant};

use aegis_fault::{self as fault, Point};
use aegis_kernel::{Generation, Kernel, Slot, Slots};
use aegis_policy::{PolicyDifference, difference};
use aegis_trust::{
    Digest,
    provenance::{Effect, Entry},
};
use anyhow::{Context as _, bail};
use serde::Serialize;

use crate::{
    apply::active,
    changes,
    config::Rollout,
    context::Context,
    failure::Refusal,
    lock::Lock,
    provenance::{Log, in_force},
    state::{State, StoredSet},
    time,
    withdrawn::Withdrawn,
};

/// A confirmation that is waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Open {
    /// When the kernel goes back, RFC 3339.
    pub(crate) until: String,
    /// Seconds until then.
    pub(crate) seconds_left: u64,
}

impl Open {
    /// The one that is open in the kernel.
    pub(crate) fn of(kernel: &Kernel) -> Option<Self> {
        let left = kernel.slots().confirm_by?.saturating_sub(time::since_boot());
        // What is left of a second is one more: nobody may think that it was over before it is.
        let seconds_left = left.div_ceil(1_000_000_000);
        Some(Self { until: time::written(time::now() + seconds_left), seconds_left })
    }

    /// For a person.
    pub(crate) fn told(&self) -> String {
        format!(
            "waits for `aegisbpf confirm` until {} ({} s); then the kernel goes back by itself",
            self.until, self.seconds_left
        )
    }

    /// Why nothing else is put in force meanwhile.
    pub(crate) fn refusal(&self) -> Refusal {
        let message = format!("what is in force {}", self.told());
        Refusal::new("CONFIRM_OPEN", message).hint(
            "`aegisbpf confirm` keeps it, `aegisbpf rollback --reason …` takes it back now; or wait",
        )
    }
}

/// Refuses what would be in force for good, if the configuration wants everything to be confirmed.
pub(crate) fn check_rollout(
    context: &Context,
    within: Option<Duration>,
    command: &str,
) -> Result<(), Refusal> {
    if context.config.rollout == Rollout::Direct || within.is_some() {
        return Ok(());
    }
    let message = "the configuration says rollout = \"confirm\"; nothing was changed";
    Err(Refusal::new("CONFIRM_NEEDED", message)
        .hint(format!("`aegisbpf {command} … --confirm-within 5m`, then `aegisbpf confirm`")))
}

/// When a deadline that is so far away comes: nanoseconds since boot, suspended time included.
pub(crate) fn deadline(within: Duration) -> u64 {
    let within = u64::try_from(within.as_nanos()).unwrap_or(u64::MAX);
    time::since_boot().saturating_add(within)
}

/// What the kernel has gone back from and to by itself, as long as that is not on record.
struct Fallen {
    from: Option<(Generation, StoredSet)>,
    to: Option<(Generation, StoredSet)>,
    slots: Slots,
    changes: Vec<PolicyDifference>,
}

impl Fallen {
    fn look(context: &Context, kernel: &Kernel) -> anyhow::Result<Option<Self>> {
        let Some(fell) = kernel.fell_from() else { return Ok(None) };
        let slots = kernel.slots();
        let state = State::new(context.state.clone());
        let stored = |slot: Option<Slot>| -> anyhow::Result<_> {
            let Some(slot) = slot else { return Ok(None) };
            let generation = kernel.generation(slot).context("failed to read a generation")?;
            let Some(generation) = generation else { return Ok(None) };
            // Texts that are gone keep nobody from saying that it happened.
            let set = state.load(&generation.set_digest).unwrap_or_default();
            Ok(Some((generation, set)))
        };
        let (from, to) = (stored(Some(fell))?, stored(slots.active)?);
        let set = |side: &Option<(_, StoredSet)>| {
            side.as_ref().map(|(_, set)| set.set.clone()).unwrap_or_default()
        };
        let changes = difference(&set(&from), &set(&to));
        Ok(Some(Self { from, to, slots, changes }))
    }
}

/// The policies that the kernel has taken back by itself, as long as that is not on record.
pub(crate) fn fallen(context: &Context, kernel: &Kernel) -> anyhow::Result<Option<Vec<String>>> {
    Ok(Fallen::look(context, kernel)?.map(|fallen| changes::names(&fallen.changes)))
}

/// Puts on record that the kernel has gone back by itself, if it has and nobody did; what to warn of.
/// The caller has the lock.
pub(crate) fn settle(context: &Context, kernel: &Kernel) -> anyhow::Result<Option<String>> {
    let Some(Fallen { from, to, slots, changes }) = Fallen::look(context, kernel)? else {
        return Ok(None);
    };
    let mut warnings = Vec::new();
    if let Err(error) = Withdrawn::record(context, kernel, slots, &changes) {
        warnings.push(format!("a rollback would not know what was taken back: {error:#}"));
    }
    warnings.extend(Log::new(context).happened(Entry {
        command: COMMAND.to_owned(),
        weakening: changes.iter().any(PolicyDifference::denies_less),
        reason: Some("nobody confirmed it in time: the kernel went back by itself".to_owned()),
        policies: changes::names(&changes),
        before: from.map(|(generation, _)| Digest::from_bytes(generation.set_digest)),
        effect: match &to {
            Some((generation, set)) => Effect::InForce(in_force(generation, set)),
            None => Effect::None,
        },
        ..Entry::default()
    }));
    kernel.settle();
    // What was not confirmed leads nowhere now.
    kernel.reclaim().context("failed to empty the slot of what was not confirmed")?;
    Ok(warnings.into_iter().reduce(|one, other| format!("{one}; {other}")))
}

/// Notes for the next boot what decides. The caller has the lock, and nothing waits to be confirmed: so
/// everything that can decide now was confirmed and proven. A rollback takes no lock and may come at any
/// moment, so what decides is looked at again after it was noted.
pub(crate) fn note(context: &Context, kernel: &Kernel) -> anyhow::Result<()> {
    note_what_decides(context, kernel, |_| true).map(drop)
}

/// The same for a rollback, after which one of these numbers decides, while somebody else is at work. If something
/// else does, it is theirs, and noted when they are done.
pub(crate) fn note_unlocked(
    context: &Context,
    kernel: &Kernel,
    ours: &[u64],
) -> anyhow::Result<()> {
    if note_what_decides(context, kernel, |number| ours.contains(&number))? {
        return Ok(());
    }
    let until = Instant::now() + THEIRS;
    while Instant::now() < until {
        if let Some(_lock) = Lock::try_take(&context.lock(), "rollback")? {
            return if Open::of(kernel).is_some() { Ok(()) } else { note(context, kernel) };
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    bail!("what the next boot begins with is what the rollback led to, and something else decides")
}

/// Whether what was noted last is what decided after that, or nothing was noted.
fn note_what_decides(
    context: &Context,
    kernel: &Kernel,
    is_ours: impl Fn(u64) -> bool,
) -> anyhow::Result<bool> {
    let state = State::new(context.state.clone());
    let mut noted = None;
    loop {
        let now = active(Some(kernel))?.map(|(_, generation)| generation);
        let number = now.as_ref().map(|generation| generation.number);
        match now.filter(|now| noted != number && is_ours(now.number)) {
            Some(now) => {
                fault::passed(Point::Noting);
                state.confirm(&now)?;
                noted = number;
            }
            None => return Ok(noted.is_none() || noted == number),
        }
    }
}

/// The same as [`settle`] for who has no lock: if somebody has it, they do it.
pub(crate) fn settle_unless_busy(
    context: &Context,
    kernel: &Kernel,
) -> anyhow::Result<Option<String>> {
    if kernel.fell_from().is_none() {
        return Ok(None);
    }
    match Lock::try_take(&context.lock(), COMMAND)? {
        Some(_lock) => settle(context, kernel),
        None => Ok(None),
    }
}

/// How long a rollback waits for somebody at work to be done, once it has acted.
const THEIRS: Duration = Duration::from_secs(5);

/// What the log calls it.
const COMMAND: &str = "deadline";
