// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Verbs of a policy's life: back, and what there was.

use clap::Args;

use super::reason;

/// Flags of `rollback`.
#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// Only this policy: its last text or mode that is not the present one
    #[arg(conflicts_with = "to")]
    pub(crate) name: Option<String>,
    /// The set that had this number; see `history`
    #[arg(long, value_name = "N")]
    pub(crate) to: Option<u64>,
    /// Even if more policies change than the last apply changed
    #[arg(long, conflicts_with = "name")]
    pub(crate) all: bool,
    /// Say what would change, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Why; goes into the provenance log
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub(crate) reason: String,
}

/// Flags of `history`.
#[derive(Debug, Args)]
pub(crate) struct ShowHistory {
    /// How many of the newest changes
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) last: usize,
}

/// Arguments of `diff`.
#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// The number of a generation, `active` or `previous`
    #[arg(value_name = "A")]
    pub(crate) before: String,
    /// The same for what it is compared with
    #[arg(value_name = "B")]
    pub(crate) after: String,
}
