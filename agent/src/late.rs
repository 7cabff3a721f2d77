// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What files took along from places that they have left: from one generation into the next, and over a reboot.
//!
//! The kernel adds such rows to a generation while it decides. Labels and nodes have other numbers in
//! another generation, so it is written down what they stand for; and files have other keys after a reboot, so
//! the rows are kept on disk as well, by whoever comes next: each command that changes something, and the agent.

mod keeper;
mod kept;

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fs,
};

use aegis_abi::{InodeKey, LateRow, generated::AEGIS_LATE_ROWS};
use aegis_kernel::{Generation, Kernel, Slot};
use aegis_policy::{Meaning, Ruleset, TakenAlong};
use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::{
    context::Context, decoder::compile_set, files, host::ThisHost, instances, lock::Lock,
    output::plural, proof::ProofFiles, state::State, time,
};

use kept::{Filesystems, Kept};

pub(crate) use keeper::Keeper;

/// Rows of the generation that decides, and what is kept on disk, as another ruleset numbers them.
pub(crate) struct Leaving<'a> {
    kernel: &'a Kernel,
    active: Option<Filled>,
    kept: Kept,
    filesystems: Filesystems,
}

/// A slot, and what its numbers stand for.
struct Filled {
    slot: Slot,
    generation: Generation,
    ruleset: Ruleset,
    /// If it is not known, every row is taken for every rule.
    meaning: Meaning,
    known: bool,
}

/// A key, in an order.
type Key = (u32, u64, u32);

/// As it is written down: numbers of generations begin anew with each boot.
#[derive(Deserialize, Serialize)]
struct Written {
    generation: u64,
    revision: u32,
    boot: Option<String>,
    labels: Vec<Vec<u32>>,
    nodes: BTreeMap<u32, Vec<u8>>,
}

impl<'a> Leaving<'a> {
    /// Of the slot that decides, and of what is on disk.
    pub(crate) fn new(
        context: &Context,
        kernel: &'a Kernel,
        host: &mut ThisHost,
    ) -> anyhow::Result<Self> {
        let active = match crate::apply::active(Some(kernel))? {
            Some((slot, generation)) => Some(Filled::new(context, slot, generation)?),
            None => None,
        };
        // What cannot be read keeps nothing from being put in force: `settle` comes next, and says so.
        let mut kept = Kept::read(context).unwrap_or_default();
        let mut filesystems = Filesystems::default();
        if !kept.is_empty() {
            filesystems = Filesystems::find(host)?;
            let mut there = BTreeSet::new();
            if let Some(active) = &active {
                let rows = active.late(kernel)?;
                there.extend(rows.iter().filter_map(|(key, _)| filesystems.lasting(key)));
            }
            kept.keep_files(host, &filesystems, &there)?;
        }
        Ok(Self { kernel, active, kept, filesystems })
    }

    /// Those whose rules are still there.
    fn rows(&self, after: &Ruleset) -> anyhow::Result<BTreeMap<Key, TakenAlong>> {
        let mut rows = BTreeMap::new();
        if let Some(active) = &self.active {
            for (key, row) in active.late(self.kernel)? {
                let taken = active.meaning.read(&row, &active.ruleset, after);
                rows.extend(taken.map(|taken| (in_order(&key), taken)));
            }
        }
        for (key, taken) in self.kept.rows(&self.filesystems, after) {
            match rows.entry(in_order(&key)) {
                Entry::Vacant(there) => drop(there.insert(taken)),
                Entry::Occupied(mut there) => unite(there.get_mut(), taken),
            }
        }
        Ok(rows)
    }

    /// The sets of rules that need a label, each with the device of the file; where a file only leads on to names,
    /// any rule may hold.
    pub(crate) fn rules(&self, after: &Ruleset) -> anyhow::Result<BTreeSet<(u32, Vec<u32>)>> {
        let mut all = BTreeSet::new();
        for ((dev, ..), taken) in self.rows(after)? {
            if taken.node.is_some() {
                all.insert((dev, after.rules().iter().map(|rule| rule.number).collect()));
            }
            let sets = [taken.rules, taken.beneath].into_iter();
            all.extend(sets.filter(|rules| !rules.is_empty()).map(|rules| (dev, rules)));
        }
        Ok(all)
    }

    /// Adds them to a slot that is filled, perhaps of other programs, so that no more can be missed. That some were
    /// lost for want of room goes along as well, unless it `forgets_lost`.
    pub(crate) fn carry(
        &self,
        kernel: &Kernel,
        to: Slot,
        meaning: &Meaning,
        every: u32,
        after: &Ruleset,
        forgets_lost: bool,
    ) -> anyhow::Result<()> {
        // A hook that began before the slot was filled notes only in the one that decides.
        kernel.wait_for_decisions()?;
        let rows = self.rows(after)?;
        let write = |((dev, ino, generation), taken): (Key, TakenAlong)| {
            (InodeKey { ino, dev, generation }, meaning.write(&taken, every))
        };
        let rows: Vec<(InodeKey, LateRow)> = rows.into_iter().map(write).collect();
        let (rows, lost) = rows.split_at(rows.len().min(AEGIS_LATE_ROWS as usize));
        kernel.count_lost(to, u32::try_from(lost.len()).unwrap_or(u32::MAX));
        // A generation that is filled anew knows no more of them than the one before, or the one before a reboot.
        if !forgets_lost {
            let active = self.active.as_ref().map(|active| self.kernel.marks(active.slot).lost);
            kernel.count_lost(to, active.unwrap_or(self.kept.lost));
        }
        kernel.add_late(to, rows, every).context("failed to carry over what files took along")
    }
}

impl Filled {
    fn new(context: &Context, slot: Slot, generation: Generation) -> anyhow::Result<Self> {
        let stored = State::new(context.state.clone()).load(&generation.set_digest)?;
        let ruleset = compile_set(&stored, &ProofFiles::new(context).built_in())?;
        let meaning = meaning(context, slot, &generation);
        let known = meaning.is_some();
        Ok(Self { slot, generation, ruleset, meaning: meaning.unwrap_or_default(), known })
    }

    fn late(&self, kernel: &Kernel) -> anyhow::Result<Vec<(InodeKey, LateRow)>> {
        kernel.late(self.slot).context("failed to read what files took along")
    }
}

/// [`settle`], for a command that has done what it was asked for.
pub(crate) fn warning(context: &Context, kernel: &Kernel) -> Option<String> {
    settle(context, kernel).unwrap_or_else(|error| {
        Some(format!("what files took along could not be written down: {error:#}"))
    })
}

/// Writes down what files took along by now, and forgets what is gone; what to warn of.
fn settle(context: &Context, kernel: &Kernel) -> anyhow::Result<Option<String>> {
    // What another instance has put in force is kept by that one.
    if instances::another(context, kernel).is_some() {
        return Ok(None);
    }
    let mut generations = Vec::new();
    for slot in Slot::all() {
        let generation = kernel.generation(slot).context("failed to read a generation")?;
        generations.extend(generation.map(|generation| (slot, generation)));
    }
    let mut marks = generations.iter().map(|(slot, _)| kernel.marks(*slot));
    let any = marks.any(|marks| marks.late > 0 || marks.lost > 0);
    if !any && !Kept::is_written(context) {
        return Ok(None);
    }
    let turn = Lock::wait(&context.run.join("late.lock"), "late")?;
    let _turn = turn.context("another command has done so for ten seconds")?;
    let (before, unread) = match Kept::read(context) {
        Ok(kept) => (kept, None),
        Err(error) => (Kept::default(), Some(kept::set_aside(context, &error)?)),
    };
    let slots = generations.len();
    let mut filled = Vec::new();
    for (slot, generation) in generations {
        let is_active = kernel.active() == Some(slot);
        match Filled::new(context, slot, generation) {
            Ok(one) if one.known || is_active => filled.push(one),
            Err(error) if is_active => return Err(error),
            // Somebody fills it right now, and comes here when it decides.
            _ => {}
        }
    }
    // Where the pins are gone by now, so may be what the numbers stand for: a detach has written it down.
    if !Kernel::installed(&context.pins).contains_key("late") {
        return Ok(unread);
    }
    let mut host = ThisHost::new(context.patience_to_look())?;
    let filesystems = Filesystems::find(&mut host)?;
    let mut kept = before.clone();
    if let Some(active) = kernel.active() {
        kept.lost = kernel.marks(active).lost;
    }
    let mut with_rows = BTreeSet::new();
    for one in &filled {
        for (key, row) in one.late(kernel)? {
            let taken = one.meaning.read(&row, &one.ruleset, &one.ruleset);
            if let Some((file, taken)) = filesystems.lasting(&key).zip(taken) {
                kept.add(file.clone(), &taken, &one.ruleset);
                with_rows.insert(file);
            }
        }
    }
    // What could not be forgotten is no reason to write nothing.
    let looked = kept.keep_files(&mut host, &filesystems, &with_rows);
    let understood = filled.len() == slots && filled.iter().all(|one| one.known);
    let forgotten = if understood { forget_rules(context, &filled, &mut kept) } else { Ok(()) };
    if kept != before {
        kept.write(context)?;
    }
    looked?;
    forgotten?;
    let pending = kept.pending(&filesystems);
    let pending = (pending > 0).then(|| {
        let files = plural(pending, "file");
        format!("what {files} took along is bound once their filesystem is mounted")
    });
    Ok(unread.into_iter().chain(pending).reduce(|one, other| format!("{one}; {other}")))
}

/// Forgets rules that neither a slot nor the next start can bring into force.
fn forget_rules(context: &Context, filled: &[Filled], kept: &mut Kept) -> anyhow::Result<()> {
    let state = State::new(context.state.clone());
    let confirmed = state.confirmed()?.and_then(|confirmed| confirmed.digest());
    let known =
        confirmed.is_none_or(|digest| filled.iter().any(|one| one.generation.set_digest == digest));
    let next = match confirmed {
        Some(digest) if !known => {
            Some(compile_set(&state.load(&digest)?, &ProofFiles::new(context).built_in())?)
        }
        _ => None,
    };
    let rulesets = filled.iter().map(|one| &one.ruleset).chain(&next);
    let rules = rulesets.flat_map(|ruleset| ruleset.rules());
    let rules = rules.map(|rule| (rule.policy.clone(), rule.rule.id.clone())).collect();
    kept.keep_rules(&rules, |path| {
        !known || filled.iter().any(|one| one.meaning.nodes.values().any(|node| node == path))
    });
    Ok(())
}

/// What is written down and not in a slot, though the filesystem is mounted by now: it was mounted where no object
/// is, and the hooks have seen nothing of it.
pub(crate) fn unbound(
    context: &Context,
    kernel: &Kernel,
    host: &mut ThisHost,
    slot: Slot,
    ruleset: &Ruleset,
) -> anyhow::Result<Option<String>> {
    // What cannot be read is said by whoever sets it aside.
    let mut kept = Kept::read(context).unwrap_or_default();
    if kept.is_empty() {
        return Ok(None);
    }
    let filesystems = Filesystems::find(host)?;
    let late = kernel.late(slot).context("failed to read what files took along")?;
    let there: BTreeSet<Key> = late.iter().map(|(key, _)| in_order(key)).collect();
    let with_rows = late.iter().filter_map(|(key, _)| filesystems.lasting(key)).collect();
    kept.keep_files(host, &filesystems, &with_rows)?;
    let wanted = kept.rows(&filesystems, ruleset);
    let missing = wanted.iter().filter(|(key, _)| !there.contains(&in_order(key))).count();
    Ok((missing > 0).then(|| {
        let files = plural(missing, "file");
        format!("{files} that took rules along are on filesystems that were mounted since")
    }))
}

/// That what was written down once could not be read, until somebody has looked at it.
pub(crate) fn unread(context: &Context) -> Option<String> {
    let aside = context.left_aside();
    fs::symlink_metadata(&aside).is_ok().then(|| {
        format!(
            "{} could not be used: what it says that files took along may not be denied; look what has left denied \
             places, then remove it",
            aside.display()
        )
    })
}

/// Two of the same file, as one.
fn unite(taken: &mut TakenAlong, other: TakenAlong) {
    for (rules, more) in [(&mut taken.rules, other.rules), (&mut taken.beneath, other.beneath)] {
        rules.extend(more);
        rules.sort_unstable();
        rules.dedup();
    }
    taken.node = taken.node.take().or(other.node);
    taken.uid = taken.uid.or(other.uid);
}

const fn in_order(key: &InodeKey) -> Key {
    (key.dev, key.ino, key.generation)
}

/// Writes down what the numbers in a slot stand for.
pub(crate) fn keep(
    context: &Context,
    slot: Slot,
    generation: &Generation,
    meaning: &Meaning,
) -> anyhow::Result<()> {
    let written = Written {
        generation: generation.number,
        revision: generation.revision,
        boot: time::boot(),
        labels: meaning.labels.clone(),
        nodes: meaning.nodes.clone(),
    };
    let bytes = serde_json::to_vec(&written).context("failed to write meanings as JSON")?;
    files::write_whole(&context.meaning(slot.number()), &bytes)
}

/// What the numbers in a slot stand for, if it is known.
pub(crate) fn meaning(context: &Context, slot: Slot, generation: &Generation) -> Option<Meaning> {
    let written: Written =
        serde_json::from_slice(&fs::read(context.meaning(slot.number())).ok()?).ok()?;
    let same = (written.generation, written.revision) == (generation.number, generation.revision);
    (same && written.boot.is_some() && written.boot == time::boot())
        .then_some(Meaning { labels: written.labels, nodes: written.nodes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_of_the_same_file_the_rules_of_both_hold() {
        let one = |rules: &[u32], beneath: &[u32], node: Option<&[u8]>| TakenAlong {
            uid: None,
            rules: rules.to_vec(),
            beneath: beneath.to_vec(),
            node: node.map(<[u8]>::to_vec),
        };
        let mut both = one(&[1, 3], &[], None);
        unite(&mut both, one(&[2, 3], &[4], Some(b"/d")));
        assert_eq!(both, one(&[1, 2, 3], &[4], Some(b"/d")));
        let mut none = one(&[], &[], None);
        unite(&mut none, one(&[], &[], None));
        assert!(none.is_nothing());
    }
}
