// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Ruleset and places → rows of the kernel's maps.
//!
//! Pure: the same ruleset, places and seed give the same rows, in the same order.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use aegis_abi::{
    Access, CgroupRow, CountKey, FilesystemRow, InodeKey, NameKey, ObjectRow, Rows, Verdict,
    generated, hash_cgroup_name, hash_cgroup_suffix, hash_name,
};

use crate::{
    Kind, Places, Ruleset,
    cgroups::{StepKey, Target},
    folding::{Folding, Labels, TooManyLabels},
    limits,
    meaning::Meaning,
    places::Seen,
    same::{Lineages, Same},
};

/// Writes the rows of a generation whose hashes start from `seed`.
///
/// # Errors
/// [`LowerError`] if the rules hold in too many combinations.
pub fn lower(ruleset: &Ruleset, places: &Places, seed: u64) -> Result<Rows, LowerError> {
    lower_with(ruleset, places, seed, &BTreeSet::new()).map(|lowered| lowered.rows)
}

/// Rows, and what their numbers mean.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// The rows.
    pub rows: Rows,
    /// What labels and nodes stand for.
    pub meaning: Meaning,
}

/// The same, with labels for sets of rules that were taken along by what has left its place, each with the device
/// that it is on: nothing holds on a filesystem without a label.
///
/// # Errors
/// See [`lower()`].
pub fn lower_with(
    ruleset: &Ruleset,
    places: &Places,
    seed: u64,
    taken_along: &BTreeSet<(u32, Vec<u32>)>,
) -> Result<Lowered, LowerError> {
    let same = Same::new(places);
    let folding = Folding::new(places);
    let lineages = Lineages::new(places, &same, &folding);
    let labels = Labels::new();
    let beneath = beneath(places, &same);
    let freeing = freeing(places, &same);
    let mut lowering =
        Lowering { ruleset, places, seed, same, folding, lineages, beneath, freeing, labels };
    let names = lowering.names()?;
    let objects = lowering.objects()?;
    let filesystems = lowering.filesystems(taken_along)?;
    let every_rule = ruleset.rules().iter().map(|rule| rule.number).collect();
    let unknown_label = lowering.labels.number(every_rule)?;
    // Last, since these may be coarse where labels run short.
    for (_, rules) in taken_along {
        lowering.labels.number(rules.clone())?;
    }
    let names = lowering.rows(names, unknown_label);
    let objects = lowering.rows(objects, unknown_label);
    let cgroups = lowering.cgroups()?;
    let verdicts = lowering.verdicts()?;
    let counts = counts(&verdicts, lowering.labels.count());
    let meaning = Meaning::new(places, &lowering.same, lowering.labels.sets());
    let rows = Rows {
        seed,
        objects,
        names,
        filesystems,
        cgroups,
        verdicts,
        counts,
        labels: u32::try_from(lowering.labels.count()).unwrap_or(u32::MAX),
        scopes: ruleset.scopes(),
        root_scope: ruleset.cgroups.root_scope,
        root_flags: if ruleset.cgroups.root_patterns {
            generated::AEGIS_CGROUP_PATTERNS
        } else {
            0
        },
        unknown_scope: ruleset.unknown_scope(),
        unknown_label,
        accesses: accesses(ruleset),
        policies: ruleset.policies(),
        set_digest: ruleset.digest(),
    };
    Ok(Lowered { rows, meaning })
}

/// Why rules cannot become rows, although they could be compiled and resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LowerError {
    /// Too many distinct sets of rules.
    #[error("rules hold on objects in more than {} combinations", limits::LABELS)]
    Labels,
    /// Too many answers.
    #[error("{scopes} scopes times {labels} labels: the limit is {} answers", limits::VERDICTS)]
    Verdicts {
        /// Scopes, with the empty one.
        scopes: usize,
        /// Labels, with the empty one.
        labels: usize,
    },
    /// Two names have one hash, by chance.
    #[error("two names have the same hash with this seed")]
    Collision,
}

impl LowerError {
    /// What an operator can do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Labels => "let rules name directories, or the same objects, rather than overlap",
            Self::Verdicts { .. } => {
                "let fewer workloads select the same cgroups, or fewer rules overlap"
            }
            Self::Collision => "do the same again: every attempt takes another seed",
        }
    }
}

impl From<TooManyLabels> for LowerError {
    fn from(_: TooManyLabels) -> Self {
        Self::Labels
    }
}

struct Lowering<'a> {
    ruleset: &'a Ruleset,
    places: &'a Places,
    seed: u64,
    same: Same,
    folding: Folding,
    lineages: Lineages,
    /// All rules with an object at a node or anywhere beneath it, by first node.
    beneath: HashMap<usize, BTreeSet<u32>>,
    /// Nodes beneath which an `except` ends, by first node.
    freeing: HashSet<usize>,
    labels: Labels,
}

/// What will be a row: the rules of a label if there is one, a node, flags.
#[derive(Default)]
struct Draft {
    rules: Option<BTreeSet<u32>>,
    node: u32,
    flags: u32,
    beneath: BTreeSet<u32>,
}

/// A row whose label is known, and the rules at it and beneath.
type Drafted<K> = (K, ObjectRow, BTreeSet<u32>);

impl Draft {
    fn add(&mut self, rules: &[u32], directory: bool) {
        self.rules.get_or_insert_default().extend(rules);
        if directory {
            self.flags |= generated::AEGIS_ROW_DIRECTORY;
        }
    }
}

impl Lowering<'_> {
    /// One row for each name on the way to an object, and for the object's own.
    fn names(&mut self) -> Result<Vec<Drafted<NameKey>>, LowerError> {
        let mut drafts: BTreeMap<(u32, &[u8]), Draft> = BTreeMap::new();
        for (number, node) in self.places.nodes.iter().enumerate().skip(1) {
            let draft = drafts.entry((self.same.number(node.parent), &node.name)).or_default();
            self.add(draft, number);
            if matches!(node.seen, Seen::Link(_)) {
                draft.flags |= generated::AEGIS_ROW_LINK;
            }
        }
        let mut rows = Vec::with_capacity(drafts.len());
        let mut keys = HashSet::with_capacity(drafts.len());
        for ((node, name), draft) in drafts {
            let hash = hash_name(self.seed, name);
            if !keys.insert((node, hash)) {
                return Err(LowerError::Collision);
            }
            let key = NameKey { node, kind: generated::AEGIS_NAME, hash };
            let (row, beneath) = self.row(draft)?;
            rows.push((key, row, beneath));
        }
        Ok(rows)
    }

    /// One row for each inode that is an object, or a directory on the way to one.
    fn objects(&mut self) -> Result<Vec<Drafted<InodeKey>>, LowerError> {
        let mut drafts: BTreeMap<Order, Draft> = BTreeMap::new();
        for number in 0..self.places.nodes.len() {
            if let Some(component) = self.places.by_inode(number) {
                self.add(drafts.entry(Order::of(component.key)).or_default(), number);
            }
        }
        // What is mounted is also beneath the place where it is mounted.
        for (path, component) in &self.places.mounts {
            if component.is_ambiguous() {
                continue;
            }
            let rules = self.folding.beneath(self.places, path);
            let draft = drafts.entry(Order::of(component.key)).or_default();
            draft.beneath.extend(&rules);
            draft.add(&rules, component.kind == Kind::Directory);
        }
        // What has another name is what its names beneath a directory say, by whichever it is opened.
        for (path, component) in &self.places.linked {
            let own = self.places.find(path).and_then(|node| self.folding.node(node)?.own.as_ref());
            let rules = self.folding.beneath(self.places, path);
            if own.is_none() && !rules.is_empty() {
                drafts.entry(Order::of(component.key)).or_default().add(&rules, false);
            }
        }
        let mut rows = Vec::with_capacity(drafts.len());
        for (order, draft) in drafts {
            if draft.rules.is_some() || draft.node != 0 {
                let (row, beneath) = self.row(draft)?;
                rows.push((order.key(), row, beneath));
            }
        }
        Ok(rows)
    }

    fn add(&self, draft: &mut Draft, number: usize) {
        if self.same.leads_on(number) {
            draft.node = self.same.number(number);
        }
        if let Some(held) = self.folding.node(number)
            && let Some(own) = &held.own
        {
            draft.add(own, held.directory);
            draft.rules.get_or_insert_default().extend(self.lineages.of(&self.same, number));
            if held.excepted {
                draft.flags |= generated::AEGIS_ROW_EXCEPT;
            }
        }
        let first = self.same.first(number);
        if let Some(beneath) = self.beneath.get(&first) {
            draft.beneath.extend(beneath);
        }
        if self.freeing.contains(&first) {
            draft.flags |= generated::AEGIS_ROW_FREES;
        }
    }

    fn row(&mut self, draft: Draft) -> Result<(ObjectRow, BTreeSet<u32>), LowerError> {
        let label = match draft.rules {
            Some(rules) => self.labels.number(rules.into_iter().collect())?,
            None => 0,
        };
        let row = ObjectRow { label, node: draft.node, flags: draft.flags, beneath: 0 };
        Ok((row, draft.beneath))
    }

    /// Rows with what is beneath them: their own label for it, or that of every rule.
    fn rows<K>(&mut self, drafted: Vec<Drafted<K>>, every: u32) -> Vec<(K, ObjectRow)> {
        let limit = limits::VERDICTS / self.ruleset.cgroups.scopes.len().max(1);
        let number = |labels: &mut Labels, rules: BTreeSet<u32>| {
            let rules: Vec<u32> = rules.into_iter().collect();
            let known = labels.known(&rules);
            if known.is_some() || labels.count() < limit {
                return known.or_else(|| labels.number(rules).ok()).unwrap_or(every);
            }
            every
        };
        let rows = drafted.into_iter().map(|(key, mut row, beneath)| {
            if !beneath.is_empty() {
                row.beneath = number(&mut self.labels, beneath);
            }
            (key, row)
        });
        rows.collect()
    }

    /// For each filesystem on the way to an object, from `/` on, all rules with an object there or
    /// beyond: names are only compared on a filesystem with a row, and what is mounted on the way
    /// now can be mounted anew, or be gone, later.
    fn filesystems(
        &mut self,
        taken_along: &BTreeSet<(u32, Vec<u32>)>,
    ) -> Result<Vec<(u32, FilesystemRow)>, LowerError> {
        let mut rules: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        for place in self.places.iter().filter(|place| !place.rules.is_empty()) {
            let mut devices: Vec<u32> = Vec::new();
            for node in &place.nodes {
                devices.extend(self.places.way_up(*node).map(|component| component.key.dev));
            }
            devices.sort_unstable();
            devices.dedup();
            for device in devices {
                rules.entry(device).or_default().extend(&place.rules);
            }
        }
        for (path, component) in self.places.mounts.iter().chain(&self.places.linked) {
            let beneath = self.folding.beneath(self.places, path);
            rules.entry(component.key.dev).or_default().extend(beneath);
        }
        for (device, taken) in taken_along {
            rules.entry(*device).or_default().extend(taken);
        }
        let here = |dev: &u32| !rules.contains_key(dev);
        let others: BTreeSet<u32> = self.places.filesystems.iter().copied().filter(here).collect();
        let mut rows: Vec<_> =
            others.into_iter().map(|dev| (dev, FilesystemRow { label: 0 })).collect();
        rows.reserve(rules.len());
        for (dev, rules) in rules {
            let label = self.labels.number(rules.into_iter().collect())?;
            rows.push((dev, FilesystemRow { label }));
        }
        Ok(rows)
    }

    fn cgroups(&self) -> Result<Vec<(NameKey, CgroupRow)>, LowerError> {
        let mut keys = HashSet::new();
        let mut rows = Vec::with_capacity(self.ruleset.cgroups.steps.len());
        for step in &self.ruleset.cgroups.steps {
            let (kind, hash) = match &step.key {
                StepKey::Name(name) => (generated::AEGIS_NAME, hash_cgroup_name(self.seed, name)),
                StepKey::Prefix(name) => {
                    (generated::AEGIS_PREFIX, hash_cgroup_name(self.seed, name))
                }
                StepKey::Suffix(name) => {
                    (generated::AEGIS_SUFFIX, hash_cgroup_suffix(self.seed, name))
                }
                StepKey::Class(prefix, suffix) => {
                    (generated::AEGIS_CLASS, u64::from(*prefix) << 32 | u64::from(*suffix))
                }
            };
            if !keys.insert((step.node, kind, hash)) {
                return Err(LowerError::Collision);
            }
            let Target { scope, node, patterns } = step.to;
            let flags = if patterns { generated::AEGIS_CGROUP_PATTERNS } else { 0 };
            rows.push((NameKey { node: step.node, kind, hash }, CgroupRow { scope, node, flags }));
        }
        Ok(rows)
    }

    /// For each scope and label the first rule of each action for each access.
    fn verdicts(&self) -> Result<Vec<Verdict>, LowerError> {
        let (scopes, labels) = (self.ruleset.cgroups.scopes.len(), self.labels.count());
        let cells = scopes.saturating_mul(labels);
        if cells > limits::VERDICTS {
            return Err(LowerError::Verdicts { scopes, labels });
        }
        let mut verdicts = vec![Verdict::NONE; cells];
        let speaking = self.scopes_by_rule();
        for (label, rules) in (1..).zip(self.labels.sets()) {
            for number in rules {
                let Some(rule) = self.ruleset.rule(*number) else { continue };
                for scope in speaking.get(number).into_iter().flatten() {
                    let Some(verdict) = verdicts.get_mut(scope * labels + label) else { continue };
                    let Some(row) = verdict.rule.get_mut(rule.action().index()) else { continue };
                    for access in
                        Access::ALL.into_iter().filter(|access| rule.rule.is_about(*access))
                    {
                        // Rules come by number, and the first is the one that is named.
                        if let Some(first @ 0) = row.get_mut(access.index()) {
                            *first = *number;
                        }
                    }
                }
            }
        }
        Ok(verdicts)
    }

    /// The scopes that each rule is about.
    fn scopes_by_rule(&self) -> HashMap<u32, Vec<usize>> {
        let scopes = &self.ruleset.cgroups.scopes;
        let mut by_workload: HashMap<u32, Vec<usize>> = HashMap::new();
        for (scope, workloads) in scopes.iter().enumerate() {
            for workload in workloads {
                by_workload.entry(*workload).or_default().push(scope);
            }
        }
        let scopes_of = |rule: &crate::NumberedRule| {
            let scopes = rule.workloads.iter().filter_map(|workload| by_workload.get(workload));
            let scopes: BTreeSet<usize> = scopes.flatten().copied().collect();
            (rule.number, scopes.into_iter().collect())
        };
        self.ruleset.rules().iter().map(scopes_of).collect()
    }
}

/// The accesses that any rule speaks of; the proof's rules are about opening alone.
fn accesses(ruleset: &Ruleset) -> u32 {
    let spoken = |access: &Access| {
        ruleset.rules().iter().any(|rule| !rule.built_in && rule.rule.is_about(*access))
    };
    Access::ALL.into_iter().filter(spoken).map(|access| 1 << access.index()).sum()
}

/// The rules with an object at each node or beneath it, by first node.
fn beneath(places: &Places, same: &Same) -> HashMap<usize, BTreeSet<u32>> {
    let mut rules: HashMap<usize, BTreeSet<u32>> = HashMap::new();
    for place in places.iter().filter(|place| !place.rules.is_empty()) {
        for node in &place.nodes {
            for above in places.nodes_up(*node) {
                rules.entry(same.first(above)).or_default().extend(&place.rules);
            }
        }
    }
    rules
}

/// The nodes beneath which an `except` ends, by first node.
fn freeing(places: &Places, same: &Same) -> HashSet<usize> {
    let excepts = places.iter().filter(|place| place.excepted_by.is_some());
    let above = excepts.flat_map(|place| &place.nodes).flat_map(|node| {
        let ends = same.first(*node);
        places.nodes_up(*node).map(|above| same.first(above)).filter(move |above| *above != ends)
    });
    above.collect()
}

/// Every (rule, scope) that some verdict names, and for each scope the rule of what cannot be told.
fn counts(verdicts: &[Verdict], labels: usize) -> Vec<CountKey> {
    let mut keys = BTreeSet::new();
    for (scope, verdicts) in (0..).zip(verdicts.chunks(labels)) {
        let named = verdicts.iter().flat_map(|verdict| verdict.rule).flatten();
        let named: HashSet<u32> = named.filter(|rule| *rule != 0).collect();
        keys.extend(named.into_iter().map(|rule| (rule, scope)));
        keys.extend((scope != 0).then_some((generated::AEGIS_RULE_UNKNOWN, scope)));
    }
    keys.into_iter().map(|(rule, scope)| CountKey { rule, scope }).collect()
}

/// Inode keys in an order.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Order(u32, u64, u32);

impl Order {
    const fn of(key: InodeKey) -> Self {
        Self(key.dev, key.ino, key.generation)
    }

    const fn key(&self) -> InodeKey {
        InodeKey { ino: self.1, dev: self.0, generation: self.2 }
    }
}
