// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What stands at the paths of a set of policies, and a slot filled with it.
//!
//! While it is looked and written, things move. So once the slot is filled, from when on whatever
//! moves is noted in it, everything is looked at once more: what is not as it was is written anew.

use aegis_policy::{ObjectError, ObjectFault, resolve};

use super::*;
use crate::{
    bindings::{Names, Remembering},
    cgroups,
    late::{self, Leaving},
    report::Objects,
};

/// What was found on this host.
pub(super) struct Found {
    pub(super) places: Places,
    pub(super) names: Names,
}

/// Who is there to be denied something.
pub(super) struct Around {
    pub(super) objects: Objects,
    pub(super) cgroups: Cgroups,
}

/// A slot that is ready to be tried.
pub(super) struct Filled {
    pub(super) slot: Slot,
    pub(super) generation: Generation,
    pub(super) found: Found,
}

impl Attempt<'_> {
    pub(super) fn host(&self) -> anyhow::Result<ThisHost> {
        ThisHost::with(self.resolver.take(), self.context.patience_to_apply())
    }

    /// Looks at every object.
    pub(super) fn find(&self, host: &mut ThisHost, ruleset: &Ruleset) -> anyhow::Result<Found> {
        let mut remembering = Remembering::everything(host, self.request.link_scan)?;
        let places = resolve(ruleset, &mut remembering);
        let names = remembering.names();
        match places {
            Ok(places) => Ok(Found { places, names }),
            Err(errors) => Err(unresolved(host, &errors).into()),
        }
    }

    /// Fills a slot with what stands there, and makes sure that it stood there when it was filled. What
    /// files took along comes from what decides in `from`, and from the disk.
    pub(super) fn fill(
        &self,
        kernel: &Kernel,
        from: &Kernel,
        ruleset: &Ruleset,
        exempt: u64,
        steps: &mut Steps,
        undo: &mut Undo,
    ) -> anyhow::Result<Filled> {
        steps.next("resolve");
        let mut host = self.host()?;
        let mut found = self.find(&mut host, ruleset)?;
        fault::step(Point::Resolved)?;
        let mut looks = 1;
        let leaving = Leaving::new(self.context, from, &mut host)?;
        loop {
            steps.next("lower");
            let taken_along = leaving.rules(ruleset)?;
            let Lowered { rows, meaning } = lower_with_seed(ruleset, &found.places, &taken_along)?;
            steps.next("fill");
            let filled = match self.anew {
                Some(of) => kernel.fill_anew(&rows, time::now(), Some(exempt), of),
                None => kernel.fill(&rows, time::now(), Some(exempt)),
            };
            let (slot, generation) = filled.context("failed to fill a generation")?;
            undo.filled = Some(slot);
            fault::step(Point::Filled)?;
            let every = rows.unknown_label;
            drop(rows);
            // From now on the hooks note what leaves in this slot as well.
            leaving.carry(kernel, slot, &meaning, every, ruleset, self.request.forget_lost)?;
            undo.note(&self.context.meaning(slot.number()));
            late::keep(self.context, slot, &generation, &meaning)?;
            steps.next("look again");
            let now = self.find(&mut host, ruleset)?;
            fault::step(Point::ResolvedAgain)?;
            looks += 1;
            if now.places == found.places {
                return Ok(Filled { slot, generation, found });
            }
            if looks > LOOKS {
                // A directory or file that is replaced has its name, which is bound whatever
                // stands there; where a link or a mount leads is only known from looking.
                return match found.names.leads_elsewhere(&now.names) {
                    None => Ok(Filled { slot, generation, found }),
                    Some(moved) => Err(restless(&moved).into()),
                };
            }
            found = now;
            undo.filled = None;
            kernel.empty(slot).context("failed to empty a slot")?;
        }
    }

    /// Who is there, and can see what was found.
    pub(super) fn look_around(
        &self,
        ruleset: &Ruleset,
        places: &Places,
        steps: &mut Steps,
    ) -> anyhow::Result<Around> {
        steps.next("look around");
        let cgroups = cgroups::all(self.own.mount());
        let objects = Objects::of(ruleset, places, &cgroups.all);
        if self.request.strict {
            strict(&objects.found)?;
        }
        Ok(Around { objects, cgroups })
    }
}

fn restless(moved: &str) -> Refusal {
    let message = format!(
        "links or mounts on the way to objects change all the time: {moved}; nothing was changed"
    );
    Refusal::new("OBJECTS_MOVING", message).hint("apply again when whatever changes them is done")
}

pub(crate) fn unresolved(host: &ThisHost, errors: &[ObjectError]) -> Refusal {
    if let Some(hung) = host.hung() {
        let asked = errors.iter().find(|error| matches!(error.fault, ObjectFault::Host(_)));
        return hung.refusal(&asked.map_or_else(String::new, |error| format!("{error}: ")));
    }
    let line = |error: &ObjectError| {
        let mut text = format!("  {error}");
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        format!("{text}\n    hint: {}", error.hint())
    };
    let mut details: Vec<String> = errors.iter().take(SHOWN).map(line).collect();
    if errors.len() > SHOWN {
        details.push(format!("  and {} more", errors.len() - SHOWN));
    }
    Refusal::new("OBJECTS", "some objects cannot be bound on this host; nothing was changed")
        .details(details)
}

/// How often it is looked while things move.
const LOOKS: u32 = 4;
const SHOWN: usize = 20;
