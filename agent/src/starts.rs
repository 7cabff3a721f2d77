// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Starts of the host after which nobody found this node in order. A policy that keeps a host from
//! coming up must not do so for ever: after a few such starts everything only reports.

use std::path::{Path, PathBuf};

use aegis_policy::Mode;
use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::{context::Context, files, state::StoredSet, time};

/// What is written down of starts that are not known to have ended well.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Starts {
    /// How many there were in a row, the present one included.
    pub(crate) unsettled: u32,
    /// The last of them.
    boot: Option<String>,
}

impl Starts {
    /// What is written down. What cannot be read counts as nothing: it must not keep policies out.
    pub(crate) fn recorded(context: &Context) -> Self {
        let bytes = std::fs::read(path(context)).ok();
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// One more, unless it is the same boot.
    fn after(&self, boot: Option<String>) -> Self {
        let same = boot.is_some() && boot == self.boot;
        Self { unsettled: self.unsettled.saturating_add(u32::from(!same)), boot }
    }

    /// Counts this start before it can do any harm.
    pub(crate) fn begin(context: &Context) -> anyhow::Result<Self> {
        let next = Self::recorded(context).after(time::boot());
        files::make_directory(&context.state)?;
        let bytes = serde_json::to_vec(&next).context("failed to write starts as JSON")?;
        files::write_whole(&path(context), &bytes)?;
        Ok(next)
    }

    /// Whether so many did not end well that policies only report.
    pub(crate) const fn only_report(&self) -> bool {
        self.unsettled > MOST
    }

    /// Why they only report, for a person.
    pub(crate) fn told(&self) -> String {
        format!(
            "the last {} starts of this host did not end with a node in order, so policies only report \
             what they would deny",
            self.unsettled - 1
        )
    }
}

/// The node is in order: whatever came before has ended well.
pub(crate) fn settle(context: &Context) -> anyhow::Result<()> {
    settle_at(&path(context), SETTLES_AFTER)
}

/// Somebody has proved that the node is in order: if the host has been up for a while, its start has ended well.
pub(crate) fn seen_in_order(context: &Context) -> anyhow::Result<()> {
    settle_at(&path(context), time::since_boot())
}

fn settle_at(file: &Path, since_boot: u64) -> anyhow::Result<()> {
    if since_boot < SETTLES_AFTER {
        return Ok(());
    }
    files::remove(file).context("failed to write down that this start has ended well")
}

/// The same policies, none of which denies.
pub(crate) fn reporting(set: &StoredSet) -> StoredSet {
    let mut reporting = set.clone();
    for (policy, _) in set.set.iter() {
        reporting.set.insert(policy.clone(), Mode::Audit);
    }
    reporting
}

/// How long a host has to be up, in nanoseconds: what keeps it from coming up does so before.
const SETTLES_AFTER: u64 = 300_000_000_000;

/// How many starts in a row may end badly.
const MOST: u32 = 3;

fn path(context: &Context) -> PathBuf {
    context.state.join("starts.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tests::Scratch;

    #[test]
    fn a_start_ends_well_only_on_a_host_that_has_been_up_for_a_while() {
        let scratch = Scratch::new();
        let file = scratch.0.join("starts.json");
        std::fs::write(&file, "{}").unwrap();
        settle_at(&file, SETTLES_AFTER - 1).unwrap();
        assert!(file.exists());
        settle_at(&file, SETTLES_AFTER).unwrap();
        assert!(!file.exists());
        settle_at(&file, SETTLES_AFTER).unwrap();
    }

    #[test]
    fn a_boot_counts_once_and_the_fourth_in_a_row_only_reports() {
        let mut starts = Starts::default();
        for (boot, unsettled, reports) in
            [("a", 1, false), ("a", 1, false), ("b", 2, false), ("c", 3, false), ("d", 4, true)]
        {
            starts = starts.after(Some(boot.to_owned()));
            assert_eq!((starts.unsettled, starts.only_report()), (unsettled, reports), "{boot}");
        }
        assert_eq!(starts.after(None).after(None).unsettled, 6, "a boot without a name is another");
    }
}
