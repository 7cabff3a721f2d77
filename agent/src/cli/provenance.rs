// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The table of verbs and flags of `provenance`.

use std::path::PathBuf;

use aegis_trust::{Digest, provenance::Time};
use clap::{Args, Subcommand};

use super::reason;

/// Verbs of `provenance`.
#[derive(Debug, Args)]
pub(crate) struct Provenance {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What to do with the provenance log.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Print entries of the log
    Show(Show),
    /// Find any change to the log that its witnesses can show, and compare it with the kernel
    Verify(Verify),
    /// Say in one line what was enforced at a time, and whether that is certain
    At(AtTime),
    /// Write the whole log to a file, for `verify --file` elsewhere
    Export(Export),
    /// Keep a log that cannot be gone on with aside, and begin another that says so
    Restart(Restart),
}

/// Flags of `provenance show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Only entries of this time or later (2026-11-25T03:12Z, or with +01:00)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) since: Option<Time>,
    /// Only entries of this time or earlier
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) until: Option<Time>,
    /// Only entries about this policy, or about sets that it is in
    #[arg(long, value_name = "NAME")]
    pub(crate) policy: Option<String>,
    /// Only the last ones of them
    #[arg(long, value_name = "N")]
    pub(crate) last: Option<usize>,
    /// Read what `provenance export` wrote, in the place of this node's log
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// Flags of `provenance verify`.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// A hash that must be in the log, from the journal or a note; whoever gives it vouches for all before it
    #[arg(long = "head", value_name = "HASH", value_parser = digest)]
    pub(crate) heads: Vec<Digest>,
    /// Read what `provenance export` wrote, in the place of this node's log; the kernel is not asked
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// Flags of `provenance at`.
#[derive(Debug, Args)]
pub(crate) struct AtTime {
    /// RFC 3339: 2026-11-25T03:12Z, or 2026-11-25T04:12:30+01:00
    #[arg(value_name = "TIME", value_parser = moment)]
    pub(crate) time: Time,
    /// A hash that must be in the log
    #[arg(long = "head", value_name = "HASH", value_parser = digest)]
    pub(crate) heads: Vec<Digest>,
    /// Read what `provenance export` wrote, in the place of this node's log
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// Flags of `provenance export`.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The file to write, mode 0600
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: PathBuf,
}

/// Flags of `provenance restart`.
#[derive(Debug, Args)]
pub(crate) struct Restart {
    /// Why; it is the first thing that the new log says
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub(crate) reason: String,
}

fn moment(text: &str) -> Result<Time, String> {
    Time::read(text).ok_or_else(|| "write it like 2026-11-25T03:12:00Z".to_owned())
}

fn digest(text: &str) -> Result<Digest, String> {
    Digest::from_hex(text).ok_or_else(|| "it is 64 small hexadecimal digits".to_owned())
}
