// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The table of verbs and flags. What they do is in `commands/`.

mod life;
pub(crate) mod provenance;
mod signing;

use std::{path::PathBuf, time::Duration};

use aegis_policy::Mode;
use clap::{Args, Parser, Subcommand};

use crate::emergency;

pub(crate) use life::{Diff, Rollback, ShowHistory};
pub(crate) use signing::{By, Init, Install, Keygen, Propose, Show, Sign, SignRoot, Trust, Verify};

/// Denies workloads the files that their policy forbids, in the kernel.
///
/// Exit status: 0 yes, 1 no, 2 could not tell or bad usage.
#[derive(Debug, Parser)]
#[command(name = "aegisbpf", version, propagate_version = true)]
pub(crate) struct Cli {
    /// Answer with one JSON object on stdout.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Keep state and run-time files below this directory.
    #[arg(long, global = true, value_name = "DIR", default_value = "/")]
    pub(crate) root: PathBuf,
    /// The bpffs in which the directory `aegisbpf` holds our pins [default: /sys/fs/bpf]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) bpffs: Option<PathBuf>,
    /// How long to wait for an answer about one path of a policy, as 90s or 2m [default: 60s to apply
    /// and remove, 5s to look only]
    #[arg(long, global = true, value_name = "TIME", value_parser = patience)]
    pub(crate) resolve_within: Option<Duration>,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Say everything that is wrong with policies
    Check(Check),
    /// Say what policies would answer, and why
    Explain(Explain),
    /// Make a key to sign policies with
    Keygen(Keygen),
    /// Make a bundle of a policy, signed; or add a signature to one
    Sign(Sign),
    /// Say what a bundle says, and whether who may sign it did
    Verify(Verify),
    /// Make, show and install trust roots: who may sign what
    #[command(subcommand)]
    Trust(Trust),
    /// Put policies in force, beside those that are
    Apply(Apply),
    /// Take one policy out of force
    Remove(Remove),
    /// Go back to what was in force before, or to an earlier text of one policy
    Rollback(Rollback),
    /// Keep what was put in force with --confirm-within
    Confirm,
    /// Say what was put in force, by whom and why
    History(ShowHistory),
    /// Say what is not the same in two generations
    Diff(Diff),
    /// Put in force what was last confirmed: for the start of the host
    Start,
    /// List the policies in force, and how often each rule was hit
    List,
    /// Say what this node really does now
    Status,
    /// Say which cgroups and processes belong to each workload now
    Workloads,
    /// Let through what rules deny, for a while; or end that
    #[command(subcommand)]
    Emergency(Emergency),
    /// Take everything of AegisBPF out of this kernel
    Detach(Detach),
    /// Provoke denials, and compare the kernel with the policies
    Prove,
    /// Answer whether this node is in order
    Health(Health),
    /// Print denials and reports
    Events(Events),
    /// Explain the last denials, and how to except them
    Why(Why),
    /// Say what is counted, as OpenMetrics text
    Metrics(Metrics),
    /// Take over what a benchmark measured, to show it
    Perf(Perf),
    /// Say what this host can do, by trying
    Capabilities,
    /// Check the configuration, or say where its values come from
    Config(Config),
    /// Run the agent in the foreground: keep events, renew the proof
    Run(Run),
    /// Say what was enforced, who changed it, and whether the record of it is whole
    Provenance(provenance::Provenance),
    /// Open files from two cgroups, for the proof
    #[command(name = "__probe", hide = true)]
    Probe(Probe),
    /// Look at paths, for another command
    #[command(name = "__look", hide = true)]
    Look,
    /// Open a file from a cgroup, for `explain --live`
    #[command(name = "__open", hide = true)]
    Open(Open),
    /// Read the configuration, for `emergency`
    #[command(name = "__configuration", hide = true)]
    Configuration,
    /// Write down what became of the emergency switch, for `emergency`
    #[command(name = "__settle", hide = true)]
    Settle(Settle),
}

/// Flags of `check`.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Also look at this host: what is not there, is worth less, or would lock you out
    #[arg(long)]
    pub(crate) host: bool,
    /// Policy files, or directories of them
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
}

/// Flags of `explain`.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// A policy file, or a directory of them
    #[arg(value_name = "FILE|DIR", required_unless_present = "live")]
    pub(crate) policies: Option<PathBuf>,
    /// Of what is in force: try it from that cgroup, and compare what the kernel does with the rules
    #[arg(long, conflicts_with = "policies")]
    pub(crate) live: bool,
    /// The cgroup that asks, from the root of the hierarchy
    #[arg(long, value_name = "C")]
    pub(crate) cgroup: String,
    /// The path that is opened, as the host names it
    #[arg(long, value_name = "P")]
    pub(crate) path: PathBuf,
    /// What it is opened for: read, write, exec, or several with commas
    #[arg(long, value_name = "A", default_value = "read")]
    pub(crate) access: String,
}

/// Flags of `apply`.
#[derive(Debug, Args)]
pub(crate) struct Apply {
    /// A bundle, or a directory whose *.bundle are applied together; with --allow-unsigned also policy
    /// files, *.toml
    #[arg(value_name = "FILE|DIR")]
    pub(crate) policies: PathBuf,
    /// Accept policies that nobody signed, if the configuration lets you
    #[arg(long)]
    pub(crate) allow_unsigned: bool,
    /// Whether deny rules deny, or only report what they would deny
    #[arg(long, value_parser = mode, default_value = "enforce", value_name = "enforce|audit")]
    pub(crate) mode: Mode,
    /// Refuse objects that do not exist yet, or on which rules are worth less
    #[arg(long)]
    pub(crate) strict: bool,
    /// Do not search directories for files with several links, whose other names then stay open
    #[arg(long)]
    pub(crate) no_link_scan: bool,
    /// Insist on denying what is needed to log in: init, shells, libc, PAM
    #[arg(long)]
    pub(crate) allow_lockout: bool,
    /// Forget that files have left denied places with no room to note it, once they are dealt with
    #[arg(long, requires = "reason")]
    pub(crate) forget_lost: bool,
    /// Do everything but put it in force
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// What to do where this host cannot enforce: refuse, or go on in AUDIT_FALLBACK
    #[arg(long, value_name = "fail-closed|audit-fallback")]
    pub(crate) enforce_gate_mode: Option<String>,
    /// Why; needed if less is denied afterwards
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub(crate) reason: Option<String>,
    /// The kernel goes back by itself after this time, as 90s, 5m or 1h (from 1s to 24h), unless
    /// `confirm` comes first
    #[arg(long, value_name = "TIME", value_parser = limit)]
    pub(crate) confirm_within: Option<Duration>,
}

/// Flags of `remove`.
#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// The name of the policy
    pub(crate) name: String,
    /// Why; goes into the provenance log
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub(crate) reason: String,
    /// The kernel goes back by itself after this time, as 90s, 5m or 1h (from 1s to 24h), unless
    /// `confirm` comes first
    #[arg(long, value_name = "TIME", value_parser = limit)]
    pub(crate) confirm_within: Option<Duration>,
}

/// What of `emergency`.
#[derive(Debug, Subcommand)]
pub(crate) enum Emergency {
    /// From now on let through what rules deny, and report it; the kernel ends that by itself
    Disable(Disable),
    /// Deny again
    Enable(Enable),
    /// Say whether rules deny, who said so, and until when
    Status,
}

/// Flags of `emergency disable`.
#[derive(Debug, Args)]
pub(crate) struct Disable {
    /// Why; stays in the kernel's memory and goes into the provenance log
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub(crate) reason: String,
    /// For how long, as 90s, 15m or 2h: from 1s to 24h
    #[arg(long = "for", value_name = "TIME", value_parser = limit, default_value = "15m")]
    pub(crate) limit: Duration,
    /// Also what protects the enforcement itself
    #[arg(long)]
    pub(crate) guards_too: bool,
}

/// Flags of `emergency enable`.
#[derive(Debug, Args)]
pub(crate) struct Enable {
    /// Why; stays in the kernel's memory and goes into the provenance log
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub(crate) reason: String,
}

/// Arguments of what writes down what became of the emergency switch.
#[derive(Debug, Args)]
pub(crate) struct Settle {
    /// What was typed
    pub(crate) command: String,
    /// That it was refused, for this reason of the operator's
    #[arg(long)]
    pub(crate) refused: Option<String>,
    /// That the configuration does not answer
    #[arg(long)]
    pub(crate) unconfigured: bool,
}

/// Flags of `detach`.
#[derive(Debug, Args)]
pub(crate) struct Detach {
    /// Why; goes into the provenance log
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub(crate) reason: String,
    /// Remove the state directory as well
    #[arg(long)]
    pub(crate) purge: bool,
    /// Take it out even if another instance has put it in force
    #[arg(long)]
    pub(crate) foreign: bool,
}

/// Flags of `health`.
#[derive(Debug, Args)]
pub(crate) struct Health {
    /// Only a node that enforces is in order
    #[arg(long)]
    pub(crate) require_enforce: bool,
}

/// Flags of `events`.
#[derive(Debug, Args)]
pub(crate) struct Events {
    /// Go on as they come, until interrupted
    #[arg(long)]
    pub(crate) follow: bool,
    /// Also those of the proof
    #[arg(long)]
    pub(crate) all: bool,
}

/// Flags of `why`.
#[derive(Debug, Args)]
pub(crate) struct Why {
    /// Only denials of this process
    #[arg(long, value_name = "P")]
    pub(crate) pid: Option<u32>,
    /// Only denials of this path
    #[arg(long, value_name = "P")]
    pub(crate) path: Option<PathBuf>,
}

/// Flags of `metrics`.
#[derive(Debug, Args)]
pub(crate) struct Metrics {
    /// Write them to this file, whole or not at all
    #[arg(long, value_name = "PATH")]
    pub(crate) textfile: Option<PathBuf>,
}

/// What of `perf`.
#[derive(Debug, Args)]
pub(crate) struct Perf {
    #[command(subcommand)]
    pub(crate) what: PerfVerb,
}

/// What to do with a benchmark's answer.
#[derive(Debug, Subcommand)]
pub(crate) enum PerfVerb {
    /// Check a benchmark's answer and keep it
    Import {
        /// What the benchmark wrote
        file: PathBuf,
    },
}

/// What of `config`.
#[derive(Debug, Args)]
pub(crate) struct Config {
    #[command(subcommand)]
    pub(crate) what: ConfigVerb,
}

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigVerb {
    /// Say every fault of the configuration
    Check {
        /// Another file than the one that is in use
        file: Option<PathBuf>,
    },
    /// Say each value, and where it comes from
    Show,
}

/// Flags of `run`.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Take everything out of the kernel when the agent ends
    #[arg(long)]
    pub(crate) detach_on_exit: bool,
    /// What to do where this host cannot enforce: refuse, or go on in AUDIT_FALLBACK
    #[arg(long, value_name = "fail-closed|audit-fallback")]
    pub(crate) enforce_gate_mode: Option<String>,
}

/// Arguments of the probe.
#[derive(Debug, Args)]
pub(crate) struct Probe {
    /// `cgroup.procs` of the cgroup in which opening must succeed
    pub(crate) neutral: PathBuf,
    /// `cgroup.procs` of the cgroup in which it must not
    pub(crate) scratch: PathBuf,
    /// What is opened
    pub(crate) files: Vec<PathBuf>,
}

fn mode(text: &str) -> Result<Mode, String> {
    Mode::from_name(text).ok_or_else(|| "it is enforce or audit".to_owned())
}

/// Arguments of what `explain --live` tries.
#[derive(Debug, Args)]
pub(crate) struct Open {
    /// `cgroup.procs` of the cgroup
    pub(crate) cgroup: PathBuf,
    /// Of open(2)
    pub(crate) flags: u32,
    /// What is opened
    pub(crate) path: PathBuf,
}

fn limit(text: &str) -> Result<Duration, String> {
    let wrong = || "it is from 1s to 24h, as 90s, 15m or 2h".to_owned();
    let (digits, unit) = match text.as_bytes().last() {
        Some(b's') => (text.strip_suffix('s'), 1),
        Some(b'm') => (text.strip_suffix('m'), 60),
        Some(b'h') => (text.strip_suffix('h'), 3600),
        _ => (None, 0),
    };
    let number = digits.and_then(|digits| digits.parse::<u64>().ok()).ok_or_else(wrong)?;
    let limit = Duration::from_secs(number.checked_mul(unit).ok_or_else(wrong)?);
    let allowed = Duration::from_secs(1)..=emergency::LONGEST;
    Some(limit).filter(|limit| allowed.contains(limit)).ok_or_else(wrong)
}

fn patience(text: &str) -> Result<Duration, String> {
    let (digits, unit) = match text.strip_suffix('m') {
        Some(minutes) => (minutes, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    let seconds = digits.parse::<u32>().ok().and_then(|number| number.checked_mul(unit));
    let wrong = || "it is a number of seconds or minutes, as 90s or 2m, and not 0".to_owned();
    seconds
        .filter(|seconds| *seconds > 0)
        .map(|it| Duration::from_secs(it.into()))
        .ok_or_else(wrong)
}

fn reason(text: &str) -> Result<String, String> {
    match text.len() {
        _ if text.trim().is_empty() => Err("a reason has words".to_owned()),
        // It has to fit into the provenance log's reserve, with what else is said there.
        bytes if bytes > REASON_MAX => Err(format!("a reason has at most {REASON_MAX} bytes")),
        _ => Ok(text.to_owned()),
    }
}

const REASON_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_table_of_verbs_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn patience_is_seconds_or_minutes_and_never_nothing() {
        assert_eq!(patience("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(patience("90"), patience("90s"));
        assert_eq!(patience("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "0", "-1", "1h", "99999999m"] {
            assert!(patience(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_emergency_lasts_from_a_second_to_a_day() {
        assert_eq!(limit("1s"), Ok(Duration::from_secs(1)));
        assert_eq!(limit("15m"), Ok(Duration::from_secs(900)));
        assert_eq!(limit("24h"), Ok(emergency::LONGEST));
        for wrong in ["", "s", "0s", "-1m", "25h", "1441m", "86401s", "15", "1d", "1.5h", "+ 1m"] {
            assert!(limit(wrong).is_err(), "{wrong}");
        }
        assert!(limit("99999999999999999999h").is_err());
    }

    #[test]
    fn a_weakening_without_a_reason_is_bad_usage() {
        for line in [
            &["aegisbpf", "detach"][..],
            &["aegisbpf", "remove", "x", "--reason", " "],
            &["aegisbpf", "emergency", "disable"],
            &["aegisbpf", "emergency", "disable", "--reason", ""],
        ] {
            let error = Cli::try_parse_from(line).expect_err("needs a reason");
            assert_eq!(error.exit_code(), 2);
        }
    }
}
