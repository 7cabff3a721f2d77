// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Numbers of events and counters → names. The texts of a generation are compiled again, which gives
//! the same numbers as when it was filled.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    rc::Rc,
};

use aegis_abi::{
    Action, Event,
    generated::{
        AEGIS_RULE_UNKNOWN, AEGIS_WHY_DIRECTORY, AEGIS_WHY_EXCEPT, AEGIS_WHY_INCOMPLETE,
        AEGIS_WHY_INODE, AEGIS_WHY_LATE, AEGIS_WHY_MOUNT, AEGIS_WHY_NAME, AEGIS_WHY_REFER,
        AEGIS_WHY_WAY,
    },
};
use aegis_kernel::{Kernel, Slot, probe};
use aegis_policy::{BuiltIn, NumberedRule, Ruleset, compile, escape};
use serde_json::{Value, json};

use crate::{
    cgroups,
    context::Context,
    failure::Refusal,
    proof::ProofFiles,
    state::{State, StoredSet},
    time,
};

/// Compiles a set as every command does.
pub(crate) fn compile_set(set: &StoredSet, built_in: &BuiltIn) -> anyhow::Result<Ruleset> {
    compile(&set.set, built_in).map_err(|errors| {
        let lines = errors.iter().map(|error| format!("  {error}\n    {}", error.hint())).collect();
        Refusal::new("TOO_LARGE", "the set of policies is beyond a limit").details(lines).into()
    })
}

/// What is known of generations and cgroups.
#[derive(Debug)]
pub(crate) struct Decoder {
    state: State,
    built_in: BuiltIn,
    rulesets: HashMap<u64, Option<Rc<Ruleset>>>,
    /// The policies that somebody signed, by generation.
    signed: HashMap<u64, BTreeSet<String>>,
    cgroups: BTreeMap<u64, Vec<u8>>,
}

impl Decoder {
    pub(crate) fn new(context: &Context) -> Self {
        Self {
            state: State::new(context.state.clone()),
            built_in: ProofFiles::new(context).built_in(),
            rulesets: HashMap::new(),
            signed: HashMap::new(),
            cgroups: BTreeMap::new(),
        }
    }

    /// What a generation was made from, for a caller who knows it already.
    pub(crate) fn know(&mut self, generation: u64, stored: &StoredSet, ruleset: &Rc<Ruleset>) {
        self.signed.insert(generation, stored.signatures.keys().cloned().collect());
        self.rulesets.insert(generation, Some(Rc::clone(ruleset)));
    }

    /// Asks again for generations that were not known: they may be by now.
    pub(crate) fn retry(&mut self) {
        self.rulesets.retain(|_, ruleset| ruleset.is_some());
    }

    /// One event as a line of the log.
    pub(crate) fn record(&mut self, kernel: &Kernel, sequence: u64, event: &Event) -> Value {
        self.learn(kernel, event);
        let ruleset = self.rulesets.get(&event.generation).and_then(Option::as_deref);
        let rule = ruleset.and_then(|ruleset| ruleset.rule(event.rule));
        let cgroup = self.cgroups.get(&event.cgroup).map(|path| escape(path));
        let reason = match (rule, event.rule) {
            (Some(rule), _) => rule.rule.reason.clone(),
            (None, AEGIS_RULE_UNKNOWN) => UNKNOWN.to_owned(),
            (None, _) => FORGOTTEN.to_owned(),
        };
        json!({
            "seq": sequence,
            "time": time::written_exactly(time::of_event(event.time)),
            "generation": event.generation,
            "verdict": event.action.name(),
            "spared_by": spared_by(event),
            "access": event.access.name(),
            "policy": rule.map(|rule| &rule.policy),
            "signed": rule.map(|rule| {
                self.signed.get(&event.generation).is_some_and(|signed| signed.contains(&rule.policy))
            }),
            "rule": rule.map(|rule| &rule.rule.id),
            "reason": reason,
            "why": why(event.why),
            "path": escape(&event.path),
            "path_truncated": event.path_truncated,
            "workload": ruleset.zip(rule).map(|(ruleset, rule)| workload(ruleset, rule, event.scope)),
            "cgroup": cgroup,
            "cgroup_id": event.cgroup,
            "pid": event.pid,
            "tid": event.tid,
            "uid": event.uid,
            "comm": escape(&event.comm),
            "exe": escape(&event.exe),
            "exe_truncated": event.exe_truncated,
        })
    }

    /// Looks for what is not known yet, each generation once.
    fn learn(&mut self, kernel: &Kernel, event: &Event) {
        if !self.rulesets.contains_key(&event.generation) {
            let ruleset = self.ruleset(kernel, event.generation).map(Rc::new);
            self.rulesets.insert(event.generation, ruleset);
        }
        if !self.cgroups.contains_key(&event.cgroup)
            && let Some(mount) = probe::cgroup2_mount()
        {
            // What is gone by now keeps the path that it was seen with.
            self.cgroups.extend(cgroups::paths_by_id(&mount));
        }
    }

    fn ruleset(&mut self, kernel: &Kernel, number: u64) -> Option<Ruleset> {
        let mut generations = Slot::all().filter_map(|slot| kernel.generation(slot).ok().flatten());
        let generation = generations.find(|generation| generation.number == number)?;
        let stored = self.state.load(&generation.set_digest).ok()?;
        self.signed.insert(number, stored.signatures.keys().cloned().collect());
        compile_set(&stored, &self.built_in).ok()
    }
}

/// The workloads for which a rule spoke.
fn workload(ruleset: &Ruleset, rule: &NumberedRule, scope: u32) -> String {
    let holds = ruleset.scope_workloads(scope);
    let names = holds.filter(|workload| rule.workloads.contains(&workload.number));
    names.map(|workload| workload.name.as_str()).collect::<Vec<_>>().join(",")
}

/// Why what a deny rule speaks of was let through.
fn spared_by(event: &Event) -> Option<&'static str> {
    match event.action {
        Action::WouldDeny if event.by_emergency => Some("emergency"),
        Action::WouldDeny => Some("mode"),
        Action::Deny | Action::Audit => None,
    }
}

const fn why(number: u32) -> &'static str {
    match number {
        AEGIS_WHY_INODE => "inode",
        AEGIS_WHY_NAME => "name",
        AEGIS_WHY_DIRECTORY => "directory",
        AEGIS_WHY_MOUNT => "mount",
        AEGIS_WHY_INCOMPLETE => "incomplete",
        AEGIS_WHY_EXCEPT => "except",
        AEGIS_WHY_LATE => "late",
        AEGIS_WHY_REFER => "refer",
        AEGIS_WHY_WAY => "on-the-way",
        _ => "unknown",
    }
}

const UNKNOWN: &str = "it could not be told what this is, so the strictest answer holds";
const FORGOTTEN: &str = "the policies of this generation are not known any more";
