// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What was last taken back before anybody had confirmed it, by the kernel or by an operator: going back
//! once more from there would take along what others had put in force before it.
//!
//! After every other change, what was before it is what a rollback leads to, and nothing has to be known. The
//! provenance log knows this as well, but it grows, and who goes back is in a hurry. The file is beside
//! what holds for this boot, as the pins do.

use std::path::PathBuf;

use aegis_kernel::{Generation, Kernel, Slots};
use aegis_policy::PolicyDifference;
use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::{changes, context::Context, files};

/// It.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Withdrawn {
    schema: u32,
    /// The number of what decides since then.
    active: u64,
    /// The number of what decided before that.
    previous: u64,
    /// The policies that were taken back.
    policies: Vec<String>,
}

impl Withdrawn {
    /// Writes down that these were taken back; `after` is what holds since then.
    pub(crate) fn record(
        context: &Context,
        kernel: &Kernel,
        after: Slots,
        changes: &[PolicyDifference],
    ) -> anyhow::Result<()> {
        let number = |slot: Option<_>| -> anyhow::Result<Option<u64>> {
            let Some(slot) = slot else { return Ok(None) };
            let generation = kernel.generation(slot).context("failed to read a generation")?;
            Ok(generation.map(|generation| generation.number))
        };
        // Where nothing was before, nothing can be gone back to.
        let (Some(active), Some(previous)) = (number(after.active)?, number(after.previous)?)
        else {
            return Self::forget(context);
        };
        let withdrawn = Self { schema: 1, active, previous, policies: changes::names(changes) };
        let bytes = serde_json::to_vec(&withdrawn)
            .context("failed to write what was taken back as JSON")?;
        files::write_whole(&path(context), &bytes)
    }

    /// Forgets it: what was taken back since then was confirmed.
    pub(crate) fn forget(context: &Context) -> anyhow::Result<()> {
        let path = path(context);
        files::remove(&path).with_context(|| format!("failed to remove {}", path.display()))
    }

    /// The policies that the last change took back, if it led to `active`, from which a rollback leads to
    /// `previous`, and nobody had confirmed what it took back.
    ///
    /// # Errors
    /// If it is written down and cannot be read.
    pub(crate) fn last(
        context: &Context,
        active: &Generation,
        previous: &Generation,
    ) -> anyhow::Result<Option<Vec<String>>> {
        let path = path(context);
        let bytes = match files::read_trusted(&path, MOST) {
            Err(error) if files::is_missing(&error) => return Ok(None),
            bytes => bytes?,
        };
        let found: Self = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is torn", path.display()))?;
        let holds = (found.active, found.previous) == (active.number, previous.number);
        Ok(holds.then_some(found.policies))
    }
}

fn path(context: &Context) -> PathBuf {
    context.run.join("withdrawn.json")
}

/// Bytes of the largest: more than the names of all policies that the kernel takes.
const MOST: u64 = 1 << 20;
