// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What files took along from places that they have left, from one generation into the next.
//!
//! The kernel adds such rows to a generation while it decides. Labels and nodes have other numbers in
//! another generation, so it is written down what they stand for.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use aegis_abi::{InodeKey, LateRow};
use aegis_kernel::{Generation, Kernel, Slot};
use aegis_policy::{Meaning, Ruleset, TakenAlong};
use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::{context::Context, files, time};

/// Rows of the generation that decides, as another ruleset numbers them.
pub(crate) struct Leaving<'a> {
    kernel: &'a Kernel,
    slot: Slot,
    before: Ruleset,
    /// If it is not known, every row is taken for every rule.
    meaning: Meaning,
}

/// As it is kept: numbers of generations begin anew with each boot.
#[derive(Deserialize, Serialize)]
struct Kept {
    generation: u64,
    revision: u32,
    boot: Option<String>,
    labels: Vec<Vec<u32>>,
    nodes: BTreeMap<u32, Vec<u8>>,
}

impl<'a> Leaving<'a> {
    /// Of a slot whose generation was made from `before`.
    pub(crate) fn new(
        context: &Context,
        kernel: &'a Kernel,
        slot: Slot,
        generation: &Generation,
        before: Ruleset,
    ) -> Self {
        let meaning = kept(context, slot, generation).unwrap_or_default();
        Self { kernel, slot, before, meaning }
    }

    /// Those whose rules are still there.
    pub(crate) fn rows(&self, after: &Ruleset) -> anyhow::Result<Vec<(InodeKey, TakenAlong)>> {
        let rows = self.kernel.late(self.slot).context("failed to read what files took along")?;
        let read = |(key, row): (InodeKey, LateRow)| {
            self.meaning.read(&row, &self.before, after).map(|taken| (key, taken))
        };
        Ok(rows.into_iter().filter_map(read).collect())
    }

    /// The sets of rules that need a label.
    pub(crate) fn rules(&self, after: &Ruleset) -> anyhow::Result<BTreeSet<Vec<u32>>> {
        Ok(self.rows(after)?.into_iter().flat_map(|(_, taken)| taken.rules).collect())
    }

    /// Adds them to a slot that is filled, perhaps of other programs, so that no more can be missed; how
    /// many.
    pub(crate) fn carry(
        &self,
        kernel: &Kernel,
        to: Slot,
        meaning: &Meaning,
        every: u32,
        after: &Ruleset,
    ) -> anyhow::Result<usize> {
        let rows = self.rows(after)?;
        let rows: Vec<(InodeKey, LateRow)> =
            rows.into_iter().map(|(key, taken)| (key, meaning.write(&taken, every))).collect();
        kernel.add_late(to, &rows).context("failed to carry over what files took along")?;
        Ok(rows.len())
    }
}

/// Writes down what the numbers in a slot stand for.
pub(crate) fn keep(
    context: &Context,
    slot: Slot,
    generation: &Generation,
    meaning: &Meaning,
) -> anyhow::Result<()> {
    let kept = Kept {
        generation: generation.number,
        revision: generation.revision,
        boot: time::boot(),
        labels: meaning.labels.clone(),
        nodes: meaning.nodes.clone(),
    };
    let bytes = serde_json::to_vec(&kept).context("failed to write meanings as JSON")?;
    files::write_whole(&context.meaning(slot.number()), &bytes)
}

fn kept(context: &Context, slot: Slot, generation: &Generation) -> Option<Meaning> {
    let kept: Kept =
        serde_json::from_slice(&fs::read(context.meaning(slot.number())).ok()?).ok()?;
    let same = (kept.generation, kept.revision) == (generation.number, generation.revision);
    (same && kept.boot.is_some() && kept.boot == time::boot())
        .then_some(Meaning { labels: kept.labels, nodes: kept.nodes })
}
