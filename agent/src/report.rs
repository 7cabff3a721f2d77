// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What an apply found and did, for a person and for a program.

use std::time::Duration;

use aegis_kernel::Generation;
use aegis_policy::{Mode, ObjectState, Place, Places, Policy, Ruleset, escape};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    cgroups::{self, Cgroup},
    confirmation::Open,
    output::{Answer, plural},
    posture::Reason,
    proof::Proof,
    reach::{self, Reach},
    state::{StoredSet, hex},
    steps,
    trust::Signature,
};

/// What an apply found and did.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) changed: bool,
    pub(crate) dry_run: bool,
    pub(crate) generation: Option<Generation>,
    pub(crate) set: StoredSet,
    pub(crate) objects: Objects,
    pub(crate) workloads: Vec<Workload>,
    pub(crate) reason: Option<Reason>,
    pub(crate) proof: Option<Proof>,
    pub(crate) steps: Vec<(&'static str, Duration)>,
    /// Why a set that was in force already was put in force again.
    pub(crate) refilled: Option<String>,
    /// What waits to be confirmed.
    pub(crate) unconfirmed: Option<Open>,
    /// What went wrong after everything was in force, and takes nothing back.
    pub(crate) warnings: Vec<String>,
}

/// How objects are bound.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Objects {
    #[serde(flatten)]
    pub(crate) found: Bound,
    #[serde(flatten)]
    pub(crate) reach: Reach,
}

/// What resolving found.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Bound {
    pub(crate) bound: usize,
    pub(crate) pending: Vec<Pending>,
    pub(crate) weaker: Vec<Weaker>,
    pub(crate) via_symlink: Vec<ViaSymlink>,
    /// Names of files with several links beneath directory objects, each bound by its inode as well.
    pub(crate) linked: usize,
}

#[derive(Debug, Serialize)]
pub(crate) struct Pending {
    pub(crate) object: String,
    /// The first part of its path that is not there.
    pub(crate) missing: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct Weaker {
    pub(crate) object: String,
    pub(crate) reasons: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ViaSymlink {
    pub(crate) object: String,
    /// Where it leads.
    pub(crate) canonical: String,
}

/// A workload, and what of it is there now.
#[derive(Debug, Serialize)]
pub(crate) struct Workload {
    pub(crate) policy: String,
    pub(crate) workload: String,
    pub(crate) patterns: Vec<String>,
    /// Cgroups that exist; none: it is pending, and covered from its first moment.
    pub(crate) cgroups: Vec<String>,
    pub(crate) processes: usize,
}

impl Objects {
    /// What resolving found, and who cannot see it.
    pub(crate) fn of(ruleset: &Ruleset, places: &Places, all: &[Cgroup]) -> Self {
        let reach = reach::unreachable(ruleset, places, all);
        Self { found: Bound::of(ruleset, places), reach }
    }
}

impl Bound {
    pub(crate) fn of(ruleset: &Ruleset, places: &Places) -> Self {
        let mut objects = Self { linked: places.linked().count(), ..Self::default() };
        let of_operators = |place: &&Place| {
            let numbers = place.rules.iter().chain(&place.excepted_by);
            numbers.filter_map(|number| ruleset.rule(*number)).any(|rule| !rule.built_in)
        };
        // What several rules except is told once, if it is the same for all.
        let mut all: Vec<&Place> = places.iter().filter(of_operators).collect();
        all.dedup_by(|place, before| {
            let as_before = (&place.object, &place.state, &place.weaker)
                == (&before.object, &before.state, &before.weaker);
            as_before && place.excepted_by.is_some() && before.excepted_by.is_some()
        });
        for place in all {
            let object = place.object.written();
            match &place.state {
                ObjectState::Bound(_) => objects.bound += 1,
                // Among those that are weaker.
                ObjectState::Unfollowed => {}
                ObjectState::Pending { missing } => {
                    objects
                        .pending
                        .push(Pending { object: object.clone(), missing: escape(missing) });
                }
            }
            if !place.weaker.is_empty() {
                objects
                    .weaker
                    .push(Weaker { object: object.clone(), reasons: place.weaker.clone() });
            }
            if !place.links.is_empty() {
                objects
                    .via_symlink
                    .push(ViaSymlink { object, canonical: escape(&place.canonical) });
            }
        }
        objects
    }

    /// Objects on which a rule is worth less: the first of them a line each, and how many more there are.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut lines = Vec::new();
        first(&mut lines, "pending", &self.pending, |pending| {
            format!("{} is pending: {} is not there yet", pending.object, pending.missing)
        });
        first(&mut lines, "weaker", &self.weaker, |weaker| {
            format!("{} is weaker: {}", weaker.object, weaker.reasons.join("; "))
        });
        lines
    }
}

fn first<T>(lines: &mut Vec<String>, what: &str, all: &[T], line: impl Fn(&T) -> String) {
    lines.extend(all.iter().take(SHOWN).map(line));
    if let Some(more) = all.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        lines
            .push(format!("{more} more objects are {what}: see `aegisbpf apply --dry-run --json`"));
    }
}

/// Every workload of operators' policies.
pub(crate) fn workloads(ruleset: &Ruleset, all: &[Cgroup]) -> Vec<Workload> {
    let named =
        ruleset.workloads().iter().filter(|workload| !workload.built_in && workload.number != 0);
    named
        .map(|workload| {
            let present = cgroups::present(workload, all);
            Workload {
                policy: workload.policy.clone(),
                workload: workload.name.clone(),
                patterns: workload
                    .cgroups
                    .iter()
                    .map(aegis_policy::CgroupPattern::written)
                    .collect(),
                cgroups: present.cgroups.iter().map(|path| escape(path)).collect(),
                processes: present.processes.len(),
            }
        })
        .collect()
}

/// One policy of a set, for a program.
pub(crate) fn policy(policy: &Policy, mode: Mode, signature: Option<&Signature>) -> Value {
    json!({
        "name": policy.name,
        "version": policy.version,
        "mode": mode.name(),
        "policy_digest": hex(&policy.digest),
        "signed": signature.is_some(),
        "signature": signature,
        "rules": policy.rules.len(),
        "objects": policy.rules.iter().map(|rule| rule.objects.len()).sum::<usize>(),
    })
}

/// Who signed a policy, in short.
pub(crate) fn signed_by(signature: Option<&Signature>) -> String {
    let Some(signature) = signature else { return "not signed".to_owned() };
    let short = |id: &String| id.get(..8).unwrap_or(id).to_owned();
    let keys: Vec<String> = signature.signers.iter().map(short).collect();
    format!("signed by {}", keys.join(", "))
}

/// All policies of a set, for a program.
pub(crate) fn policies(set: &StoredSet) -> Value {
    let signature = |policy: &Policy| set.signatures.get(&policy.name);
    set.set.iter().map(|(one, mode)| policy(one, mode, signature(one))).collect()
}

impl Report {
    /// The answer of the command.
    pub(crate) fn answer(&self) -> Answer {
        let meaning = self.reason.map(Reason::meaning);
        let json = json!({
            "changed": self.changed,
            "dry_run": self.dry_run,
            "runtime_state": meaning.map(|meaning| meaning.state),
            "reason_code": meaning.map(|meaning| meaning.code),
            "reason": meaning.map(|meaning| meaning.reason),
            "generation": self.generation.as_ref().map(|generation| generation.number),
            "revision": self.generation.as_ref().map(|generation| generation.revision),
            "set_digest": hex(&self.set.set.digest()),
            "policies": policies(&self.set),
            "objects": self.objects,
            "workloads": self.workloads,
            "proof": self.proof,
            "refilled": self.refilled,
            "unconfirmed": self.unconfirmed,
            "steps": steps::json(&self.steps),
            "warnings": self.warnings,
        });
        Answer { text: self.text(), json, exit: 0 }
    }

    fn text(&self) -> String {
        let mut lines = vec![self.headline()];
        for (policy, mode) in self.set.set.iter() {
            lines.push(format!(
                "  policy    {} version {}, mode {}, {}, {}, {}",
                policy.name,
                policy.version,
                mode.name(),
                plural(policy.rules.len(), "rule"),
                signed_by(self.set.signatures.get(&policy.name)),
                short(&policy.digest)
            ));
        }
        if self.changed || self.dry_run {
            self.found(&mut lines);
        }
        lines.extend(self.unconfirmed.iter().map(|open| format!("  confirm   {}", open.told())));
        lines.extend(self.refilled.iter().map(|why| format!("  anew      {why}")));
        if let Some(proof) = &self.proof {
            let paths: Vec<&str> = proof.paths.iter().map(|path| path.path.as_str()).collect();
            lines.push(format!("  proof     denied {}, each by our own rule", paths.join(", ")));
        }
        if self.changed || self.dry_run {
            let total: Duration = self.steps.iter().map(|(_, time)| *time).sum();
            let each = self.steps.iter().map(|(step, time)| format!("{step} {}", steps::ms(*time)));
            let each: Vec<String> = each.collect();
            lines.push(format!("  took      {} ms: {}", steps::ms(total), each.join(", ")));
        }
        lines.extend(self.warnings.iter().map(|warning| format!("  warning   {warning}")));
        lines.join("\n")
    }

    fn headline(&self) -> String {
        let digest = short(&self.set.set.digest());
        let state = self.reason.map_or("", |reason| reason.meaning().state.name());
        match &self.generation {
            _ if self.dry_run => {
                format!("nothing was changed (dry run): set {digest} can be applied")
            }
            Some(generation) if self.changed && self.set.set.is_empty() => {
                format!("{state}: no policy is left, generation {generation} is empty")
            }
            Some(generation) if self.changed => {
                format!("{state}: generation {generation} is in force, set {digest}")
            }
            Some(generation) => format!(
                "nothing to change: generation {generation} has these policies already, set {digest}"
            ),
            None => "nothing to change".to_owned(),
        }
    }

    fn found(&self, lines: &mut Vec<String>) {
        let (objects, unreachable) = (&self.objects.found, &self.objects.reach.unreachable);
        lines.push(format!(
            "  objects   {} bound, {} pending, {} weaker, {} via a symlink, {} unreachable, {} linked",
            objects.bound,
            objects.pending.len(),
            objects.weaker.len(),
            objects.via_symlink.len(),
            unreachable.len(),
            objects.linked
        ));
        some(lines, "pending", &objects.pending, |pending| {
            format!("{}: {} is not there yet", pending.object, pending.missing)
        });
        some(lines, "weaker", &objects.weaker, |weaker| {
            format!("{}: {}", weaker.object, weaker.reasons.join("; "))
        });
        some(lines, "symlink", &objects.via_symlink, |via| {
            format!("{} leads to {} now; if that changes, apply again", via.object, via.canonical)
        });
        some(lines, "unseen", unreachable, reach::line);
        if self.objects.reach.not_asked > 0 {
            lines.push(format!(
                "  unseen    {} not asked, or not for all: FUSE or a network may serve their files",
                processes(self.objects.reach.not_asked)
            ));
        }
        some(lines, "workload", &self.workloads, |workload| {
            let now = if workload.cgroups.is_empty() {
                "pending: covered from its first process".to_owned()
            } else {
                let cgroups = plural(workload.cgroups.len(), "cgroup");
                format!("{cgroups}, {}", processes(workload.processes))
            };
            format!("{} ({}): {now}", workload.workload, workload.policy)
        });
    }
}

/// The first of many, and how many more there are.
pub(crate) fn some<T>(lines: &mut Vec<String>, what: &str, all: &[T], line: impl Fn(&T) -> String) {
    lines.extend(all.iter().take(SHOWN).map(|one| format!("  {what:<9} {}", line(one))));
    if let Some(more) = all.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        lines.push(format!("  {what:<9} and {more} more: see --json"));
    }
}

/// `1 process`, `2 processes`.
pub(crate) fn processes(count: usize) -> String {
    if count == 1 { "1 process".to_owned() } else { format!("{count} processes") }
}

/// The beginning of a digest, enough to tell two apart.
pub(crate) fn short(digest: &[u8]) -> String {
    hex(digest.get(..6).unwrap_or(digest))
}

const SHOWN: usize = 10;
