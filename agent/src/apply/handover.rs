// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Programs of this binary take over from those of another, with the set that is in force: attached beside
//! them, filled, proved, and only then in their place. Whatever fails leaves the others as they were.

use aegis_kernel::Handover;
use aegis_trust::{
    Digest,
    provenance::{Effect, Entry},
};

use super::*;
use crate::{
    handover,
    provenance::{Log, in_force, proof_of, steps_of},
};

/// What decides beside the others, and has denied.
struct Beside {
    slot: Slot,
    generation: Generation,
    names: bindings::Names,
    proof: Proof,
    begun: Begun,
}

impl Attempt<'_> {
    /// Whether the programs that are pinned go before anything else is done.
    pub(super) fn takes_over(&self, kernel: &Kernel) -> bool {
        self.request.takes_over && !self.request.dry_run && !kernel.has_own_programs()
    }

    /// Hands over; the set that is in force is the same afterwards.
    pub(super) fn hand_over(
        &mut self,
        old: Kernel,
        now: &StoredSet,
        steps: &mut Steps,
    ) -> anyhow::Result<Kernel> {
        let seen = old.slots();
        let decides = seen.active.map(|slot| old.generation(slot)).transpose()?.flatten();
        if decides.map(|generation| generation.set_digest) != self.before {
            return Err(cannot(&replaced_meanwhile().into()).into());
        }
        steps.next("attach beside");
        let mut handover = Handover::begin(&self.context.pins, old)
            .map_err(|error| cannot(&anyhow::Error::from(error)))?;
        let mut undo = Undo::new(self.context);
        // Held until the others are gone: in a proof of theirs ours would deny as well.
        let turn = proof::take_turn(self.context, self.request.command);
        let beside = turn.and_then(|turn| {
            let beside = self.go_beside(&mut handover, seen, now, steps, &mut undo)?;
            Ok((beside, turn))
        });
        let (beside, _turn) = match beside {
            Ok(beside) => beside,
            Err(error) => {
                self.repaired.extend(handover::give_up(self.context, handover)?);
                undo.all()?;
                return Err(cannot(&error).into());
            }
        };
        self.handed_over = true;
        steps.next("take over");
        let (kernel, warnings) = handover::finish(self.context, handover)?;
        self.repaired.extend(warnings);
        let what = "programs of another build were replaced by those of this binary, without a gap";
        self.repaired.push(what.to_owned());
        if let Some(beside) = beside {
            self.put_down(beside, steps);
        }
        Ok(kernel)
    }

    /// Ours decide beside the others, and nothing leads back any more. `None`: nothing was in force.
    fn go_beside(
        &self,
        handover: &mut Handover,
        seen: Slots,
        now: &StoredSet,
        steps: &mut Steps,
        undo: &mut Undo,
    ) -> anyhow::Result<Option<Beside>> {
        fault::step(Point::Beside)?;
        let before = active(handover.old_one())?.map(|(_, generation)| generation);
        let beside = match before {
            Some(before) => Some(self.prove_beside(handover, &before, now, steps, undo)?),
            None => None,
        };
        let decided =
            fault::step(Point::BesideProved).map_err(anyhow::Error::from).and_then(|()| {
                // An emergency holds in both before one of them is alone.
                handover.carry();
                let slot = beside.as_ref().map(|beside| beside.slot);
                if handover.decide(seen, slot)? { Ok(()) } else { Err(replaced_meanwhile().into()) }
            });
        match decided {
            Ok(()) => Ok(beside),
            Err(error) => Err(match beside.and_then(|beside| beside.begun.undone(&error)) {
                Some(warning) => error.context(warning),
                None => error,
            }),
        }
    }

    fn prove_beside(
        &self,
        handover: &mut Handover,
        before: &Generation,
        now: &StoredSet,
        steps: &mut Steps,
        undo: &mut Undo,
    ) -> anyhow::Result<Beside> {
        handover.stand_aside(self.own.scratch_id()?)?;
        let kernel = handover.new_one();
        let ruleset = Rc::new(compile_set(now, &self.files.built_in())?);
        let exempt = self.own.exempt_id()?;
        let from = handover.old_one().unwrap_or(kernel);
        let Filled { slot, generation, found } =
            self.fill(kernel, from, &ruleset, exempt, steps, undo)?;

        steps.next("prove beside");
        self.files.renew()?;
        let log = EventLog::open(self.context, kernel)?;
        if let Some(log) = &log {
            log.know(generation.number, now, &ruleset);
        }
        let bench = Bench { kernel, own: &self.own, files: &self.files, log: log.as_ref() };
        kernel.try_out(slot, self.own.scratch_id()?);
        let tried = bench.prove(slot, &generation, &ruleset);
        kernel.end_trial();
        demand(&tried, "before it was put in force")?;
        let begun = Log::new(self.context).begin(Entry {
            command: self.request.command.to_owned(),
            reason: self.request.reason.map(str::to_owned),
            before: Some(Digest::from_bytes(before.set_digest)),
            effect: Effect::InForce(in_force(&generation, now)),
            details: [("programs".to_owned(), "of another build were replaced".to_owned())].into(),
            ..Entry::default()
        })?;
        handover.decide_too(slot);
        let waited = kernel.wait_for_decisions().map_err(anyhow::Error::from);
        let proof = waited.and_then(|()| {
            let proof = bench.prove(slot, &generation, &ruleset);
            demand(&proof, "after it was put in force").map(|()| proof)
        });
        match proof {
            Ok(proof) => Ok(Beside { slot, generation, names: found.names, proof, begun }),
            Err(error) => Err(match begun.undone(&error) {
                Some(warning) => error.context(warning),
                None => error,
            }),
        }
    }

    /// Writes down what is in force now; what cannot be is said.
    fn put_down(&mut self, beside: Beside, steps: &Steps) {
        let Beside { slot, generation, names, proof, mut begun } = beside;
        let exempt = self.own.exempt_id().ok();
        let bindings = Bindings::new(&generation, exempt, self.request.link_scan, names);
        let kept =
            [proof::record(self.context, &proof), bindings::record(self.context, slot, &bindings)];
        self.repaired
            .extend(kept.into_iter().filter_map(|kept| Some(format!("{:#}", kept.err()?))));
        begun.entry().proof = proof_of(&proof);
        begun.entry().steps = steps_of(&steps.so_far());
        self.repaired.extend(begun.done());
    }
}

/// Why they do not take over.
fn cannot(error: &anyhow::Error) -> Refusal {
    let message = format!(
        "the programs of this binary cannot take over, and those of the other go on as they were: {:#}",
        error
    );
    Refusal::new("HANDOVER_FAILED", message).hint(
        "use the aegisbpf that put them there; `aegisbpf detach --reason …` and apply again would do \
         without them for a moment",
    )
}
