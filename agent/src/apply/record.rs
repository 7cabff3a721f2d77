// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What an apply puts on record: that it is about to flip, and what came of it.

use std::io;

use aegis_policy::{PolicyDifference, PolicySet, difference};
use aegis_trust::{
    Digest,
    provenance::{Effect, Entry, Time},
};

use super::*;
use crate::provenance::{Log, in_force, now, proof_of, steps_of};

impl Attempt<'_> {
    /// Puts on record that this set is about to be put in force; the log's directory.
    pub(super) fn begin(
        &self,
        kernel: &Kernel,
        wanted: &StoredSet,
        generation: &Generation,
    ) -> anyhow::Result<PathBuf> {
        let before = match active(Some(kernel))? {
            Some((_, generation)) => self.state.load(&generation.set_digest)?.set,
            None => PolicySet::new(),
        };
        let changes = difference(&before, &wanted.set);
        let policies = match &self.request.wish {
            Wish::Put(verified, _) => {
                verified.iter().map(|candidate| candidate.policy().name.clone()).collect()
            }
            Wish::Remove(name) | Wish::Back(name, _) => vec![name.clone()],
            Wish::Whole(_) => changes.iter().map(|policy| policy.name.clone()).collect(),
            Wish::Anew(_) | Wish::Same => Vec::new(),
        };
        let weakening = changes.iter().any(PolicyDifference::denies_less)
            || matches!(self.request.wish, Wish::Remove(_))
            || self.request.forget_lost;
        let refilled = self.refilled.iter().flat_map(|why| {
            let revision = generation.revision.to_string();
            [("refilled".to_owned(), why.clone()), ("revision".to_owned(), revision)]
        });
        let log = Log::new(self.context);
        let begun = log.begin(Entry {
            command: self.request.command.to_owned(),
            weakening,
            reason: self.request.reason.map(str::to_owned),
            policies,
            before: self.before.map(Digest::from_bytes),
            effect: Effect::InForce(in_force(generation, wanted)),
            until: self.until(kernel),
            details: refilled.collect(),
            ..Entry::default()
        })?;
        self.begun.replace(Some(begun));
        Ok(log.directory().to_owned())
    }

    /// When the kernel goes back by itself: what is bound anew changes nothing of that.
    fn until(&self, kernel: &Kernel) -> Option<Time> {
        let left = match (&self.request.wish, self.request.confirm_within) {
            (Wish::Anew(_), _) => {
                Duration::from_nanos(kernel.slots().confirm_by?.saturating_sub(time::since_boot()))
            }
            (_, within) => within?,
        };
        let us = u64::try_from(left.as_micros()).unwrap_or(u64::MAX);
        Some(Time::from_us(now().us().saturating_add(us)))
    }

    /// Puts on record that it was; what to warn of.
    pub(super) fn log_done(&self, proof: &Proof, steps: &mut Steps) -> Option<String> {
        let mut begun = self.begun.take()?;
        begun.entry().proof = proof_of(proof);
        begun.entry().steps = steps_of(steps.end());
        begun.done()
    }

    /// Puts on record that what was begun there was taken back; what to warn of.
    pub(super) fn log_undone(&self, error: &anyhow::Error, steps: &mut Steps) -> Option<String> {
        let mut begun = self.begun.take()?;
        begun.entry().steps = steps_of(steps.end());
        begun.undone(error)
    }
}

/// Removes what is at a path, but for what has to be kept and the way to it.
pub(super) fn remove_but(path: &Path, keep: Option<&Path>) -> io::Result<()> {
    let there = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        there => there?,
    };
    match keep.filter(|keep| keep.starts_with(path)) {
        Some(keep) if keep == path => Ok(()),
        Some(_) => std::fs::read_dir(path)?.try_for_each(|each| remove_but(&each?.path(), keep)),
        None if there.is_dir() => std::fs::remove_dir_all(path),
        None => std::fs::remove_file(path),
    }
}
