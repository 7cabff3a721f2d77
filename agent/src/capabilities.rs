// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The report of what this host can do: facts, requirements, blockers. It is written to the state
//! directory each time that somebody tried, so that it is never older than what it is asked for.

use std::path::PathBuf;

use aegis_kernel::probe::{Facts, LsmProgram};
use anyhow::Context as _;
use serde_json::{Value, json};

use crate::{
    context::Context,
    distribution::Distribution,
    files,
    requirements::{Blocker, Requirement, blockers, requirements, warnings},
    time,
};

/// What this host can do.
#[derive(Debug)]
pub(crate) struct Capabilities {
    pub(crate) facts: Facts,
    pub(crate) host: Distribution,
    pub(crate) requirements: Vec<Requirement>,
    pub(crate) blockers: Vec<Blocker>,
    pub(crate) warnings: Vec<String>,
}

impl Capabilities {
    /// Tries everything: loads one small program, for a moment.
    pub(crate) fn tried(context: &Context) -> Self {
        Self::of(context, Facts::gather(&context.pins))
    }

    /// Looks only.
    pub(crate) fn seen(context: &Context) -> Self {
        Self::of(context, Facts::glance(&context.pins))
    }

    fn of(context: &Context, facts: Facts) -> Self {
        let host = Distribution::of_this_host();
        let requirements = requirements(&facts, &host, &context.bpffs.display().to_string());
        Self {
            blockers: blockers(&requirements),
            warnings: warnings(&facts),
            facts,
            host,
            requirements,
        }
    }

    /// Whether everything is there, and nothing of it unknown.
    pub(crate) fn met(&self) -> bool {
        self.requirements.iter().all(|needed| needed.met == Some(true) || is_optional(needed))
    }

    /// The report.
    pub(crate) fn json(&self) -> Value {
        let facts = &self.facts;
        json!({
            "checked_at": time::written(time::now()),
            "boot": time::boot(),
            "version": env!("CARGO_PKG_VERSION"),
            "kernel": facts.kernel,
            "architecture": std::env::consts::ARCH,
            "distribution": self.host,
            "facts": {
                "root": facts.root,
                "missing_capabilities": facts.missing_capabilities,
                "lsm": facts.lsm,
                "lockdown": facts.lockdown,
                "btf": facts.btf,
                "missing_hooks": facts.missing_hooks,
                "jit": facts.jit,
                "bpffs": facts.bpffs,
                "cgroups": facts.cgroups.name(),
                "cgroup2": facts.cgroup2.as_ref().map(|mount| mount.display().to_string()),
                "foreign_namespaces": facts.foreign_namespaces,
                "lsm_program": match facts.lsm_program {
                    LsmProgram::Called => "called",
                    LsmProgram::Refused(_) => "refused",
                    LsmProgram::NotCalled => "not_called",
                    LsmProgram::NotTried => "not_tried",
                },
            },
            "requirements": self.requirements,
            "requirements_met": self.met(),
            "enforce_capable": self.blockers.is_empty() && self.met(),
            "enforce_blockers": self.blockers,
            "warnings": self.warnings,
        })
    }

    /// Writes the report down.
    pub(crate) fn record(&self, context: &Context) -> anyhow::Result<()> {
        files::make_directory(&context.state)?;
        let mut report = self.json();
        if let Some(fields) = report.as_object_mut() {
            fields.insert("schema".to_owned(), json!(1));
        }
        let bytes = serde_json::to_vec(&report).context("failed to write capabilities as JSON")?;
        files::write_whole(&path(context), &bytes)
    }
}

/// Trying a program tells more than these do, where securityfs or procfs do not show them.
fn is_optional(needed: &Requirement) -> bool {
    needed.met.is_none()
        && matches!(needed.requirement, "lockdown" | "jit" | "bpf-in-lsm" | "hooks")
}

/// Where the report is.
pub(crate) fn path(context: &Context) -> PathBuf {
    context.state.join("capabilities.json")
}
