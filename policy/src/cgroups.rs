// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Cgroup patterns of all workloads → one deterministic tree of names.
//!
//! The kernel follows a cgroup's path from the root, one name at a time, and is at one node only:
//! a node stands for *all* places in *all* patterns that the names so far lead to, and for the
//! workloads that they already selected. So the scope of a cgroup is a function of its path alone,
//! and a cgroup that is made again, or made for the first time, has it before anything runs there.
//!
//! A name is looked up whole first. Where patterns begin, the longest known prefix and the longest
//! known suffix of the name give a class each, and the two classes together lead on: a name's
//! longest known prefix tells which shorter ones it has as well.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::{CgroupPattern, NamePattern, limits};

/// The tree, not yet hashed. Node 1 is the root cgroup.
#[derive(Clone, Debug)]
pub(crate) struct CgroupTree {
    /// What leads from where to where.
    pub(crate) steps: Vec<Step>,
    /// Sets of workloads, by scope; 0 is the empty one.
    pub(crate) scopes: Vec<Vec<u32>>,
    /// The scope of a cgroup that no workload selects.
    pub(crate) root_scope: u32,
    /// Whether patterns begin at the root.
    pub(crate) root_patterns: bool,
}

/// One row of the tree.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) node: u32,
    pub(crate) key: StepKey,
    pub(crate) to: Target,
}

/// What is compared with a name, or found out about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StepKey {
    Name(Vec<u8>),
    Prefix(Vec<u8>),
    Suffix(Vec<u8>),
    /// Prefix class and suffix class, numbered from 1 in each node.
    Class(u32, u32),
}

/// Where a step leads. For a prefix or suffix `node` is the class, and the rest is empty.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Target {
    pub(crate) scope: u32,
    pub(crate) node: u32,
    pub(crate) patterns: bool,
}

/// Why no tree can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TooLarge {
    Scopes,
    Rows,
}

impl CgroupTree {
    /// The tree of no workload.
    pub(crate) fn empty() -> Self {
        Self { steps: Vec::new(), scopes: vec![Vec::new()], root_scope: 0, root_patterns: false }
    }

    /// Makes the tree of these workloads, each with its number.
    ///
    /// `everywhere` are the workloads that hold for every cgroup.
    pub(crate) fn new<'a>(
        workloads: impl Iterator<Item = (u32, &'a [CgroupPattern])>,
        everywhere: &[u32],
    ) -> Result<Self, TooLarge> {
        let mut places = Places { places: vec![Place::default()] };
        for (workload, patterns) in workloads {
            for pattern in patterns {
                places.insert(workload, pattern);
            }
        }
        let mut builder = Builder {
            places,
            numbers: HashMap::new(),
            states: Vec::new(),
            scopes: Scopes::new(),
            steps: Vec::new(),
        };
        let root_scope = builder.scopes.number(everywhere.to_vec())?;
        let root = builder.target(vec![ROOT_PLACE], root_scope);
        let mut next = 0;
        while let Some(state) = builder.states.get(next).cloned() {
            next += 1;
            builder.expand(next, &state)?;
        }
        Ok(Self {
            steps: builder.steps,
            scopes: builder.scopes.sets,
            root_scope,
            root_patterns: root.patterns,
        })
    }

    /// The number of a set of workloads, which is given one if it has none yet.
    pub(crate) fn intern(&mut self, set: Vec<u32>) -> Result<u32, TooLarge> {
        if let Some(number) = self.scopes.iter().position(|known| *known == set) {
            return Ok(u32::try_from(number).unwrap_or(u32::MAX));
        }
        if self.scopes.len() > limits::SCOPES {
            return Err(TooLarge::Scopes);
        }
        self.scopes.push(set);
        Ok(u32::try_from(self.scopes.len() - 1).unwrap_or(u32::MAX))
    }
}

/// One place that patterns lead to: patterns with the same beginning share it.
#[derive(Default)]
struct Place {
    names: BTreeMap<Vec<u8>, usize>,
    patterns: BTreeMap<(Vec<u8>, Vec<u8>), usize>,
    /// Workloads with a pattern that ends here.
    selected: BTreeSet<u32>,
}

impl Place {
    fn leads_on(&self) -> bool {
        !self.names.is_empty() || !self.patterns.is_empty()
    }
}

struct Places {
    places: Vec<Place>,
}

impl Places {
    fn insert(&mut self, workload: u32, pattern: &CgroupPattern) {
        let mut at = ROOT_PLACE;
        for component in &pattern.components {
            let fresh = self.places.len();
            let Some(place) = self.places.get_mut(at) else { return };
            at = *match component {
                NamePattern::Exact(name) => place.names.entry(name.clone()).or_insert(fresh),
                NamePattern::Star { prefix, suffix } => {
                    place.patterns.entry((prefix.clone(), suffix.clone())).or_insert(fresh)
                }
            };
            if at == fresh {
                self.places.push(Place::default());
            }
        }
        if let Some(place) = self.places.get_mut(at) {
            place.selected.insert(workload);
        }
    }

    fn all<'a>(&'a self, numbers: &'a [usize]) -> impl Iterator<Item = &'a Place> {
        numbers.iter().filter_map(|number| self.places.get(*number))
    }
}

/// Where the names so far lead to, and what they selected.
type State = (Vec<usize>, u32);

struct Builder {
    places: Places,
    numbers: HashMap<State, u32>,
    states: Vec<State>,
    scopes: Scopes,
    steps: Vec<Step>,
}

impl Builder {
    /// Writes the steps that lead on from one state.
    fn expand(&mut self, number: usize, (here, scope): &State) -> Result<(), TooLarge> {
        let node = u32::try_from(number).map_err(|_large| TooLarge::Rows)?;
        let mut names: BTreeSet<Vec<u8>> = BTreeSet::new();
        let mut patterns: BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<usize>>> = BTreeMap::new();
        for place in self.places.all(here) {
            names.extend(place.names.keys().cloned());
            for ((prefix, suffix), to) in &place.patterns {
                patterns
                    .entry(prefix.clone())
                    .or_default()
                    .entry(suffix.clone())
                    .or_default()
                    .push(*to);
            }
        }
        for name in names {
            let mut there: Vec<usize> =
                self.places.all(here).filter_map(|place| place.names.get(&name).copied()).collect();
            for (prefix, suffixes) in &patterns {
                if name.starts_with(prefix) {
                    let fitting = suffixes.iter().filter(|(suffix, _)| name.ends_with(suffix));
                    there.extend(fitting.flat_map(|(_, to)| to));
                }
            }
            self.step(node, StepKey::Name(name), there, *scope)?;
        }
        self.classes(node, *scope, &patterns)
    }

    fn classes(
        &mut self,
        node: u32,
        scope: u32,
        patterns: &BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<usize>>>,
    ) -> Result<(), TooLarge> {
        let suffixes: BTreeSet<&Vec<u8>> = patterns.values().flat_map(BTreeMap::keys).collect();
        let suffix_classes: Vec<(u32, &Vec<u8>)> = (1..).zip(suffixes).collect();
        for (class, suffix) in &suffix_classes {
            self.class(node, StepKey::Suffix((*suffix).clone()), *class)?;
        }
        for (prefix_class, prefix) in (1..).zip(patterns.keys()) {
            self.class(node, StepKey::Prefix(prefix.clone()), prefix_class)?;
            // What a name with this prefix and one of these suffixes can be, however short.
            let shorter = (0..=prefix.len()).filter_map(|end| patterns.get(prefix.get(..end)?));
            let fitting: Vec<(&Vec<u8>, &Vec<usize>)> = shorter.flatten().collect();
            for (suffix_class, suffix) in &suffix_classes {
                let there: Vec<usize> = fitting
                    .iter()
                    .filter(|(short, _)| suffix.ends_with(short))
                    .flat_map(|(_, to)| to.iter().copied())
                    .collect();
                if !there.is_empty() {
                    self.step(node, StepKey::Class(prefix_class, *suffix_class), there, scope)?;
                }
            }
        }
        Ok(())
    }

    fn class(&mut self, node: u32, key: StepKey, class: u32) -> Result<(), TooLarge> {
        self.push(Step { node, key, to: Target { scope: 0, node: class, patterns: false } })
    }

    fn step(
        &mut self,
        node: u32,
        key: StepKey,
        mut there: Vec<usize>,
        scope: u32,
    ) -> Result<(), TooLarge> {
        there.sort_unstable();
        there.dedup();
        let selected = self.places.all(&there).flat_map(|place| place.selected.iter().copied());
        let scope = self.scopes.joined(scope, selected.collect())?;
        let to = self.target(there, scope);
        self.push(Step { node, key, to })
    }

    fn push(&mut self, step: Step) -> Result<(), TooLarge> {
        if self.steps.len() >= limits::CGROUP_ROWS {
            return Err(TooLarge::Rows);
        }
        self.steps.push(step);
        Ok(())
    }

    fn target(&mut self, mut there: Vec<usize>, scope: u32) -> Target {
        there.retain(|place| self.places.places.get(*place).is_some_and(Place::leads_on));
        let patterns = self.places.all(&there).any(|place| !place.patterns.is_empty());
        if there.is_empty() {
            return Target { scope, node: 0, patterns };
        }
        let state = (there, scope);
        let node = *self.numbers.entry(state).or_insert_with_key(|state| {
            self.states.push(state.clone());
            u32::try_from(self.states.len()).unwrap_or(u32::MAX)
        });
        Target { scope, node, patterns }
    }
}

struct Scopes {
    sets: Vec<Vec<u32>>,
    numbers: HashMap<Vec<u32>, u32>,
}

impl Scopes {
    fn new() -> Self {
        Self { sets: vec![Vec::new()], numbers: HashMap::from([(Vec::new(), 0)]) }
    }

    fn joined(&mut self, scope: u32, more: Vec<u32>) -> Result<u32, TooLarge> {
        if more.is_empty() {
            return Ok(scope);
        }
        let known = self.sets.get(scope as usize).into_iter().flatten().copied();
        let set: BTreeSet<u32> = known.chain(more).collect();
        self.number(set.into_iter().collect())
    }

    fn number(&mut self, set: Vec<u32>) -> Result<u32, TooLarge> {
        if let Some(number) = self.numbers.get(&set) {
            return Ok(*number);
        }
        let number = self.sets.len();
        if number > limits::SCOPES {
            return Err(TooLarge::Scopes);
        }
        let number = u32::try_from(number).map_err(|_large| TooLarge::Scopes)?;
        self.sets.push(set.clone());
        self.numbers.insert(set, number);
        Ok(number)
    }
}

const ROOT_PLACE: usize = 0;
