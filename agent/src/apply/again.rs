// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The set that is in force is asked for again: whether it still holds, or has to be filled anew.
//!
//! The text says nothing about that: what the proof needs may be gone, and links and mounts may lead
//! elsewhere than when the generation was filled.

use super::*;

/// What came of a look at what is in force.
pub(super) enum Again {
    /// It does what it would do if it was filled now.
    Holds(Box<Report>),
    /// It does not, and why.
    Fill(String),
}

impl Attempt<'_> {
    /// Proves what is in force, and compares what it is bound to with what is there.
    pub(super) fn again(
        &self,
        kernel: &Kernel,
        (slot, generation): (Slot, &Generation),
        wanted: &StoredSet,
        ruleset: &Ruleset,
        steps: &mut Steps,
    ) -> anyhow::Result<Again> {
        let mut proof = None;
        if !self.request.dry_run {
            steps.next("prove");
            let made = self.prove_active(kernel, slot, generation, ruleset)?;
            if !made.passed() {
                return Ok(Again::Fill(format!(
                    "the proof failed: {}",
                    made.fault().unwrap_or_default()
                )));
            }
            proof = Some(made);
        }
        steps.next("resolve");
        let mut host = self.host()?;
        let found = self.find(&mut host, ruleset)?;
        let Some(before) = bindings::last(self.context, slot, generation) else {
            return Ok(Again::Fill("what objects were bound to is not known".to_owned()));
        };
        if let Some(moved) =
            before.stale(self.own.exempt_id().ok(), self.request.link_scan, &found.names)
        {
            return Ok(Again::Fill(format!("bindings moved: {moved}")));
        }
        if let Some(unbound) = late::unbound(self.context, kernel, &mut host, slot, ruleset)? {
            return Ok(Again::Fill(unbound));
        }
        drop(host);
        let around = self.look_around(ruleset, &found.places, steps)?;
        Ok(Again::Holds(Box::new(Report {
            changed: false,
            dry_run: self.request.dry_run,
            generation: Some(generation.clone()),
            set: wanted.clone(),
            workloads: workloads(ruleset, &around.cgroups.all),
            objects: around.objects,
            reason: proof.as_ref().map(|_| reason(wanted, kernel)),
            proof,
            steps: steps.end().to_vec(),
            refilled: None,
            unconfirmed: None,
            warnings: self.warnings(&around.cgroups),
        })))
    }

    fn prove_active(
        &self,
        kernel: &Kernel,
        slot: Slot,
        generation: &Generation,
        ruleset: &Ruleset,
    ) -> anyhow::Result<Proof> {
        let _turn = proof::take_turn(self.context, self.request.command)?;
        // With the turn, a trial that is left is of a command that was killed.
        kernel.end_trial();
        self.files.renew()?;
        let log = EventLog::open(self.context, kernel)?;
        let bench = Bench { kernel, own: &self.own, files: &self.files, log: log.as_ref() };
        let proof = bench.prove(slot, generation, ruleset);
        if proof.passed() {
            proof::record(self.context, &proof)?;
        }
        Ok(proof)
    }
}
