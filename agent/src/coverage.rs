// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whether the kernel has what policies name: each object's label, with an answer for each scope of its
//! rules, and the scope of each live cgroup. As the kernel sees it: inodes come from the resolver, labels,
//! answers and scopes from the maps that the programs read.

use aegis_kernel::{Asked, Kernel, Slot};
use aegis_policy::{NumberedRule, ObjectState, Place, Places, Ruleset, escape};
use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::cgroups::{self, Cgroup};

/// What a comparison of the kernel with the policies found.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Coverage {
    /// Objects that were compared.
    pub(crate) objects: usize,
    /// Live cgroups of workloads that were compared.
    pub(crate) cgroups: usize,
    /// Of these, those that have not asked since the policies are in force: their scope is computed,
    /// by the kernel, when they do.
    pub(crate) cgroups_not_asked_yet: usize,
    /// What does not have what it should, in words; the first of them.
    pub(crate) unbound: Vec<String>,
    /// A link or a mount that leads elsewhere than when it was bound.
    pub(crate) moved: Option<String>,
    /// What is worth knowing and no difference.
    pub(crate) warnings: Vec<String>,
}

impl Coverage {
    fn miss(&mut self, what: String) {
        if self.unbound.len() < SHOWN {
            self.unbound.push(what);
        }
    }

    /// Compares where objects are now with what the kernel has.
    pub(crate) fn compare_objects(
        &mut self,
        kernel: &Kernel,
        slot: Slot,
        ruleset: &Ruleset,
        places: &Places,
    ) -> anyhow::Result<()> {
        let Some(asked) = kernel.ask(slot).context("failed to open the active generation")? else {
            anyhow::bail!("the active generation is empty");
        };
        for place in places.iter() {
            let rules: Vec<&NumberedRule> = place
                .rules
                .iter()
                .filter_map(|number| ruleset.rule(*number))
                .filter(|rule| !rule.built_in && !is_excepted(rule, place))
                .collect();
            if rules.is_empty() {
                continue;
            }
            self.objects += 1;
            if let Some(missing) = object(&asked, ruleset, place, &rules)? {
                self.miss(format!("{}: {missing}", place.object.written()));
            }
        }
        Ok(())
    }

    /// Compares the scopes that cgroups have with those that they should have.
    pub(crate) fn compare_cgroups(
        &mut self,
        kernel: &Kernel,
        slot: Slot,
        ruleset: &Ruleset,
        mount: &std::path::Path,
    ) -> anyhow::Result<()> {
        let Some(asked) = kernel.ask(slot).context("failed to open the active generation")? else {
            anyhow::bail!("the active generation is empty");
        };
        let all = cgroups::all(mount);
        self.warnings.extend(all.warning());
        for Cgroup { path, id, .. } in &all.all {
            let workloads = ruleset.workloads_of(path);
            let named = workloads.iter().filter_map(|number| {
                ruleset.workloads().iter().find(|workload| workload.number == *number)
            });
            if !named.into_iter().any(|workload| workload.number != 0 && !workload.built_in) {
                continue;
            }
            self.cgroups += 1;
            match asked.scope(*id)? {
                None => self.cgroups_not_asked_yet += 1,
                Some(scope) if ruleset.scope(scope) == workloads.as_slice() => {}
                Some(scope) => self.miss(format!(
                    "the cgroup {}: its scope is {scope}, which is not that of its workloads",
                    escape(path)
                )),
            }
        }
        Ok(())
    }
}

/// What an object lacks.
fn object(
    asked: &Asked,
    ruleset: &Ruleset,
    place: &Place,
    rules: &[&NumberedRule],
) -> anyhow::Result<Option<String>> {
    let by_inode = match &place.state {
        ObjectState::Bound(there) => asked.of_inode(&there.key)?,
        ObjectState::Pending { .. } | ObjectState::Unfollowed => 0,
    };
    let mut by_name = Vec::new();
    for path in &place.bound {
        by_name.push(asked.of_path(path)?);
    }
    // What took an object's place has the label of the name; what was there keeps its own as well.
    let labels = by_name.into_iter().chain([by_inode]).filter(|label| *label != 0);
    let labels: Vec<u32> = labels.collect();
    if labels.is_empty() {
        return Ok(Some("neither its inode nor its name has a label".to_owned()));
    }
    for rule in rules {
        for scope in 1..ruleset.scopes() {
            if !rule.is_about_any(ruleset.scope(scope)) {
                continue;
            }
            for access in rule.rule.access.iter() {
                let mut answered = false;
                for label in &labels {
                    answered |= asked.verdict(scope, *label)?.is_some_and(|verdict| {
                        let of =
                            |row: &[u32; 3]| row.get(access.index()).is_some_and(|rule| *rule != 0);
                        verdict.rule.iter().any(of)
                    });
                }
                if !answered {
                    let (policy, id) = (&rule.policy, &rule.rule.id);
                    let access = access.name();
                    return Ok(Some(format!("no answer of {policy}/{id} for {access}")));
                }
            }
        }
    }
    Ok(None)
}

fn is_excepted(rule: &NumberedRule, place: &Place) -> bool {
    let covers = |path: &[u8]| rule.rule.except.iter().any(|except| except.covers(path));
    covers(&place.canonical) || place.bound.iter().any(|path| covers(path))
}

/// How many differences are told.
const SHOWN: usize = 20;
