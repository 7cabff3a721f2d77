// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One directory, seen at several paths: what bind mounts do to the tree of names.
//!
//! Everything beneath such a directory has several paths as well, and what holds for one of them
//! holds for the thing. So the paths share their nodes ([`Same`]), and a label beneath takes in what
//! the other paths hand down ([`Lineages`]); else the nearest label would hide it.

use std::collections::{BTreeSet, HashMap};

use aegis_abi::InodeKey;

use crate::{Kind, Places, folding::Folding, places::ROOT};

/// Nodes that are one directory seen at several paths (bind mounts), and so share a number: what is
/// bound below one of them is bound below all.
pub(crate) struct Same {
    /// The first of the nodes that each is the same as.
    first: Vec<usize>,
    /// Whether names are bound below, by first node.
    leads_on: Vec<bool>,
}

impl Same {
    pub(crate) fn new(places: &Places) -> Self {
        let mut same = Self {
            first: (0..places.nodes.len()).collect(),
            leads_on: vec![false; places.nodes.len()],
        };
        let mut directories: HashMap<InodeKey, usize> = HashMap::new();
        let mut pairs: Vec<(usize, usize)> = Vec::new();
        for number in 0..places.nodes.len() {
            let component = places.by_inode(number);
            if let Some(directory) = component.filter(|found| found.kind == Kind::Directory) {
                let first = *directories.entry(directory.key).or_insert(number);
                pairs.push((first, number));
            }
        }
        // What lies below one directory by the same name is the same as well, there or not: that
        // may join more, so it goes on until nothing is joined.
        pairs.retain(|(one, other)| one != other);
        while !pairs.is_empty() {
            for (one, other) in std::mem::take(&mut pairs) {
                same.join(one, other);
            }
            let mut children: HashMap<(usize, &[u8]), usize> = HashMap::new();
            for (number, node) in places.nodes.iter().enumerate().skip(1) {
                let key = (same.first(node.parent), node.name.as_slice());
                let twin = *children.entry(key).or_insert(number);
                if same.first(twin) != same.first(number) {
                    pairs.push((twin, number));
                }
            }
        }
        for node in places.nodes.iter().skip(1) {
            let first = same.first(node.parent);
            if let Some(leads_on) = same.leads_on.get_mut(first) {
                *leads_on = true;
            }
        }
        same
    }

    /// The first of the nodes that are the same.
    pub(crate) fn first(&self, mut node: usize) -> usize {
        while let Some(first) = self.first.get(node).filter(|first| **first != node) {
            node = *first;
        }
        node
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.first(one), self.first(other));
        if let Some(first) = self.first.get_mut(one.max(other)) {
            *first = one.min(other);
        }
    }

    pub(crate) fn leads_on(&self, node: usize) -> bool {
        self.leads_on.get(self.first(node)).copied().unwrap_or(false)
    }

    /// The number of a node in the kernel's tree; the root, being first, has 1.
    pub(crate) fn number(&self, node: usize) -> u32 {
        u32::try_from(self.first(node) + 1).unwrap_or(u32::MAX)
    }
}

/// What is handed down to a node by paths on which policies name nothing.
pub(crate) struct Lineages {
    /// By first node.
    rules: HashMap<usize, BTreeSet<u32>>,
}

impl Lineages {
    pub(crate) fn new(places: &Places, same: &Same, folding: &Folding) -> Self {
        let twins = Twins::new(places, same, folding);
        let mut lineages = Self { rules: HashMap::new() };
        // A directory can be seen beneath itself, so what is handed down can come round again.
        while !twins.twins.is_empty() || !twins.mounted.is_empty() {
            let mut grown = false;
            for (number, node) in places.nodes.iter().enumerate().skip(1) {
                let above = same.first(node.parent);
                let mut handed = lineages.rules.get(&above).cloned().unwrap_or_default();
                handed.extend(twins.handed_down(places, folding, above, &node.name));
                if !handed.is_empty() {
                    let known = lineages.rules.entry(same.first(number)).or_default();
                    let before = known.len();
                    known.append(&mut handed);
                    grown |= known.len() > before;
                }
            }
            if !grown {
                break;
            }
        }
        lineages
    }

    pub(crate) fn of(&self, same: &Same, node: usize) -> impl Iterator<Item = &u32> {
        self.rules.get(&same.first(node)).into_iter().flatten()
    }
}

/// Directories with several paths.
struct Twins {
    /// The nodes of each, by first node.
    twins: HashMap<usize, Vec<usize>>,
    /// What holds beneath them by a mount at a path that policies do not name, by first node.
    mounted: HashMap<usize, Vec<u32>>,
}

impl Twins {
    fn new(places: &Places, same: &Same, folding: &Folding) -> Self {
        let mut twins: HashMap<usize, Vec<usize>> = HashMap::new();
        let mut directories: HashMap<InodeKey, usize> = HashMap::new();
        for number in 0..places.nodes.len() {
            twins.entry(same.first(number)).or_default().push(number);
            if let Some(component) = places.by_inode(number) {
                directories.insert(component.key, same.first(number));
            }
        }
        twins.retain(|_, nodes| nodes.len() > 1);
        let mut mounted: HashMap<usize, Vec<u32>> = HashMap::new();
        for (path, component) in &places.mounts {
            if let Some(first) = directories.get(&component.key)
                && !places.names(path)
            {
                mounted.entry(*first).or_default().extend(folding.beneath(places, path));
            }
        }
        Self { twins, mounted }
    }

    /// What holds for this name in a directory by those of its paths where no object ends
    /// with that name.
    fn handed_down(
        &self,
        places: &Places,
        folding: &Folding,
        directory: usize,
        name: &[u8],
    ) -> Vec<u32> {
        let mut rules = self.mounted.get(&directory).cloned().unwrap_or_default();
        for twin in self.twins.get(&directory).into_iter().flatten() {
            let child = places.nodes.get(*twin).and_then(|node| node.children.get(name));
            let held = child.and_then(|child| folding.node(*child));
            let bound = held.is_some_and(|held| held.own.is_some());
            if let Some(held) = folding.node(*twin).filter(|_| !bound) {
                rules.extend(held.handed_down());
            }
        }
        rules
    }
}

const _: () = assert!(ROOT == 0, "node 1 is the root of the kernel's tree");
