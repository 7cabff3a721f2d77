// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What becomes of a command to enforce where the host cannot: it is refused, or it goes on without, in
//! `AUDIT_FALLBACK`, and everything says so. Neither takes away what is pinned.
//!
//! [`decide`] is pure; that a fallback was taken is written down in the state directory until somebody
//! puts policies in force or takes everything out.

use std::fs;

use aegis_kernel::Error as KernelError;
use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::{
    config::GateMode, context::Context, failure::Refusal, files, requirements::Blocker, time,
};

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Nothing is missing.
    Enforce,
    /// Exit with an error, and change nothing.
    Refuse,
    /// Go on without, change nothing in the kernel, and say so.
    FallBack,
}

/// The gate.
pub(crate) const fn decide(mode: GateMode, blockers: &[Blocker]) -> Decision {
    match (blockers.is_empty(), mode) {
        (true, _) => Decision::Enforce,
        (false, GateMode::FailClosed) => Decision::Refuse,
        (false, GateMode::AuditFallback) => Decision::FallBack,
    }
}

/// That a command went on without enforcing.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Fallback {
    /// Since when, RFC 3339.
    pub(crate) since: String,
    pub(crate) command: String,
    /// What was to be put in force: name and version.
    pub(crate) policies: Vec<(String, u32)>,
    pub(crate) blockers: Vec<Hindrance>,
}

/// A blocker as it was found then.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Hindrance {
    pub(crate) code: String,
    pub(crate) found: String,
    pub(crate) fix: String,
}

impl Fallback {
    pub(crate) fn new(command: &str, policies: Vec<(String, u32)>, blockers: &[Blocker]) -> Self {
        let hindrance = |blocker: &Blocker| Hindrance {
            code: blocker.code.to_owned(),
            found: blocker.found.clone(),
            fix: blocker.fix.clone(),
        };
        Self {
            since: time::written(time::now()),
            command: command.to_owned(),
            policies,
            blockers: blockers.iter().map(hindrance).collect(),
        }
    }

    /// What is written down.
    pub(crate) fn recorded(context: &Context) -> Option<Self> {
        serde_json::from_slice(&fs::read(path(context)).ok()?).ok()
    }

    /// Writes it down.
    pub(crate) fn record(&self, context: &Context) -> anyhow::Result<()> {
        files::make_directory(&context.state)?;
        let bytes = serde_json::to_vec(self).context("failed to write a fallback as JSON")?;
        files::write_whole(&path(context), &bytes)
    }

    /// Forgets it: what was asked for is in force, or nobody asks for it any more.
    pub(crate) fn forget(context: &Context) -> anyhow::Result<()> {
        files::remove(&path(context)).context("failed to forget that nothing is enforced")
    }

    /// One line for a person.
    pub(crate) fn told(&self) -> String {
        let codes: Vec<&str> = self.blockers.iter().map(|each| each.code.as_str()).collect();
        format!("since {}, by `{}`: {}", self.since, self.command, codes.join(", "))
    }
}

/// What kept an apply from enforcing, if that is why it failed.
pub(crate) fn inability(error: &anyhow::Error) -> Vec<Blocker> {
    for cause in error.chain() {
        if let Some(refusal) = cause.downcast_ref::<Refusal>() {
            return if refusal.code == "PROOF_FAILED" {
                let fix = refusal.hint.clone().unwrap_or_default();
                vec![Blocker { code: refusal.code, found: refusal.to_string(), fix }]
            } else {
                refusal.blockers.clone()
            };
        }
        let code = match cause.downcast_ref::<KernelError>() {
            Some(KernelError::Refused { .. } | KernelError::Attach { .. }) => "PROGRAMS_REFUSED",
            Some(KernelError::NotCalled) => "LSM_PROGRAM_NOT_CALLED",
            Some(KernelError::NoRoom { .. }) => "NO_ROOM",
            _ => continue,
        };
        let fix = "see `aegisbpf capabilities`; on kernels before 5.11 also raise `ulimit -l`";
        return vec![Blocker { code, found: format!("{error:#}"), fix: fix.to_owned() }];
    }
    Vec::new()
}

/// The error of a command that was refused, with what kept it from enforcing.
pub(crate) fn refused(error: anyhow::Error, blockers: &[Blocker]) -> anyhow::Error {
    match blockers.first() {
        // No cause of its own: a program that the kernel refuses.
        Some(first) if first.code == "PROGRAMS_REFUSED" => {
            Refusal::new(first.code, format!("{error:#}; nothing was changed"))
                .hint(first.fix.clone())
                .blockers(blockers)
                .into()
        }
        _ => error,
    }
}

fn path(context: &Context) -> std::path::PathBuf {
    context.state.join("fallback.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        distribution::Distribution,
        requirements::{
            blockers, requirements,
            tests::{facts, lacking},
        },
    };

    fn gate(mode: GateMode, facts: &aegis_kernel::probe::Facts) -> Decision {
        let needed = requirements(facts, &Distribution::default(), "/sys/fs/bpf");
        decide(mode, &blockers(&needed))
    }

    #[test]
    fn a_host_that_can_enforces_in_both_modes() {
        for mode in [GateMode::FailClosed, GateMode::AuditFallback] {
            assert_eq!(gate(mode, &facts()), Decision::Enforce);
        }
    }

    #[test]
    fn each_missing_fact_refuses_or_falls_back_and_never_enforces() {
        for (facts, code) in lacking() {
            assert_eq!(gate(GateMode::FailClosed, &facts), Decision::Refuse, "{code}");
            assert_eq!(gate(GateMode::AuditFallback, &facts), Decision::FallBack, "{code}");
        }
    }

    #[test]
    fn only_what_keeps_from_enforcing_is_an_inability() {
        let refused = KernelError::NotCalled;
        assert_eq!(inability(&anyhow::Error::from(refused))[0].code, "LSM_PROGRAM_NOT_CALLED");
        let failed = Refusal::new("PROOF_FAILED", "it was not denied").hint("look");
        assert_eq!(inability(&failed.into())[0].fix, "look");
        for other in ["LOCKED", "BAD_POLICY", "VERSION_LOWER", "OBJECTS", "REASON_NEEDED"] {
            assert!(inability(&Refusal::new(other, "no").into()).is_empty(), "{other}");
        }
        assert!(inability(&anyhow::anyhow!("the disk is full")).is_empty());
    }
}
