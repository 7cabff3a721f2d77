// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where the objects of a ruleset are: a tree of names, and what stood at each when it was asked.
//!
//! [`resolve`](crate::resolve()) makes it with a host; [`Places::as_written`] without one, as if
//! nothing existed yet.

use std::collections::BTreeMap;

use aegis_abi::InodeKey;

use crate::{Component, Object, Ruleset, filesystems, names, policy::covers};

/// The objects of a ruleset, each with what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// Parents come before their children; the first is `/`.
    pub(crate) nodes: Vec<Node>,
    /// Sorted by object: as an object of all its rules, and then for each rule that excepts it, since each takes it
    /// out of objects of its own.
    pub(crate) objects: Vec<Place>,
    /// Roots of filesystems mounted beneath directory objects.
    pub(crate) mounts: Vec<(Vec<u8>, Component)>,
    /// Files with several links beneath directory objects, by each path there.
    pub(crate) linked: Vec<(Vec<u8>, Component)>,
    /// Every filesystem that was there, by `s_dev`.
    pub(crate) filesystems: Vec<u32>,
}

/// One name on the way to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) parent: usize,
    pub(crate) name: Vec<u8>,
    pub(crate) children: BTreeMap<Vec<u8>, usize>,
    pub(crate) seen: Seen,
}

/// What stood at a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    NotAsked,
    Absent,
    Link(Vec<u8>),
    There(Component),
}

/// One object or except of a ruleset, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The object as the rules write it.
    pub object: Object,
    /// Numbers of the rules with this object; none if it is an except.
    pub rules: Vec<u32>,
    /// The number of the rule that excepts it; none if it is an object.
    pub excepted_by: Option<u32>,
    /// Whether it was there.
    pub state: ObjectState,
    /// Its path with all symbolic links followed, as far as it exists. Of an except, those on the way
    /// to the objects that it is taken out of.
    pub canonical: Vec<u8>,
    /// The symbolic links that were followed, each with what it contains.
    pub links: Vec<(Vec<u8>, Vec<u8>)>,
    /// Why a rule on it is worth less than on other objects.
    pub weaker: Vec<&'static str>,
    /// Every path by which it is bound, as written first, `canonical` last.
    pub bound: Vec<Vec<u8>>,
    /// The nodes of these paths.
    pub(crate) nodes: Vec<usize>,
}

/// Whether an object was there when the host was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectState {
    /// It is bound by inode and by name.
    Bound(Component),
    /// It is bound by name, and so covered from the moment that it appears.
    Pending {
        /// The first name on the way that is not there (or leads on to nothing).
        missing: Vec<u8>,
    },
    /// A symbolic link is on the way to an except, or is there: nothing but its own name is free.
    Unfollowed,
}

impl Places {
    /// The objects as if nothing existed: no host is asked, every path is taken as written.
    pub fn as_written(ruleset: &Ruleset) -> Self {
        let mut places = Self::empty(ruleset);
        for number in 0..places.objects.len() {
            let Some(place) = places.objects.get(number) else { continue };
            let path = place.object.path.clone();
            let node = places.insert(&path);
            if let Some(place) = places.objects.get_mut(number) {
                place.nodes = vec![node];
                place.bound = vec![path];
            }
        }
        places
    }

    /// Every object of the ruleset and every except, by path.
    pub fn iter(&self) -> impl Iterator<Item = &Place> {
        self.objects.iter()
    }

    /// Filesystems that are mounted beneath directory objects: where.
    pub fn mounts(&self) -> impl Iterator<Item = &[u8]> {
        self.mounts.iter().map(|(path, _)| path.as_slice())
    }

    /// The paths by which this inode is known: as an object, or for its several links.
    pub fn paths_of(&self, key: InodeKey) -> impl Iterator<Item = &[u8]> {
        let objects = self.objects.iter().filter(move |place| match &place.state {
            ObjectState::Bound(component) => component.key == key,
            ObjectState::Pending { .. } | ObjectState::Unfollowed => false,
        });
        let linked = self.linked.iter().filter(move |(_, component)| component.key == key);
        let objects = objects.map(|place| place.canonical.as_slice());
        objects.chain(linked.map(|(path, _)| path.as_slice()))
    }

    /// Files with several links that were found beneath directory objects: each path.
    pub fn linked(&self) -> impl Iterator<Item = &[u8]> {
        self.linked.iter().map(|(path, _)| path.as_slice())
    }

    /// The objects without their nodes.
    pub(crate) fn empty(ruleset: &Ruleset) -> Self {
        let mut objects: BTreeMap<(&Object, Option<u32>), Vec<u32>> = BTreeMap::new();
        for rule in ruleset.rules() {
            let number = rule.number;
            for object in &rule.rule.objects {
                objects.entry((object, None)).or_default().push(number);
            }
            for object in &rule.rule.except {
                objects.entry((object, Some(number))).or_default();
            }
        }
        let place = |((object, excepted_by), rules): ((&Object, Option<u32>), Vec<u32>)| Place {
            object: object.clone(),
            rules,
            excepted_by,
            state: ObjectState::Pending { missing: object.path.clone() },
            canonical: object.path.clone(),
            links: Vec::new(),
            weaker: Vec::new(),
            bound: Vec::new(),
            nodes: Vec::new(),
        };
        let root = Node {
            parent: ROOT,
            name: Vec::new(),
            children: BTreeMap::new(),
            seen: Seen::NotAsked,
        };
        Self {
            nodes: vec![root],
            objects: objects.into_iter().map(place).collect(),
            mounts: Vec::new(),
            linked: Vec::new(),
            filesystems: Vec::new(),
        }
    }

    /// The node of a path, made if there is none yet.
    pub(crate) fn insert(&mut self, path: &[u8]) -> usize {
        names::components(path).fold(ROOT, |at, name| self.child(at, name))
    }

    /// The node of a name, made if there is none yet.
    pub(crate) fn child(&mut self, parent: usize, name: &[u8]) -> usize {
        let fresh = self.nodes.len();
        let Some(node) = self.nodes.get_mut(parent) else { return ROOT };
        if let Some(child) = node.children.get(name) {
            return *child;
        }
        node.children.insert(name.to_vec(), fresh);
        self.nodes.push(Node {
            parent,
            name: name.to_vec(),
            children: BTreeMap::new(),
            seen: Seen::NotAsked,
        });
        fresh
    }

    /// Whether a path is that of an object, or on the way to one.
    pub(crate) fn names(&self, path: &[u8]) -> bool {
        self.find(path).is_some()
    }

    /// The node of a path, if there is one.
    pub(crate) fn find(&self, path: &[u8]) -> Option<usize> {
        let child = |at: usize, name: &[u8]| self.nodes.get(at)?.children.get(name).copied();
        names::components(path).try_fold(ROOT, child)
    }

    /// The path of a node.
    pub(crate) fn path(&self, mut at: usize) -> Vec<u8> {
        let mut names = Vec::new();
        while let Some(node) = self.nodes.get(at).filter(|_| at != ROOT) {
            names.push(node.name.as_slice());
            at = node.parent;
        }
        if names.is_empty() {
            return b"/".to_vec();
        }
        let mut path = Vec::new();
        for name in names.into_iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        path
    }

    /// What stands at a node, if it was asked and is there.
    pub(crate) fn component(&self, at: usize) -> Option<&Component> {
        match &self.nodes.get(at)?.seen {
            Seen::There(component) => Some(component),
            Seen::NotAsked | Seen::Absent | Seen::Link(_) => None,
        }
    }

    /// What stands at a node, if its inode tells it from everything else.
    ///
    /// `/` is where every walk ends, so it is bound whatever its inode is.
    pub(crate) fn by_inode(&self, at: usize) -> Option<&Component> {
        self.component(at).filter(|component| at == ROOT || !component.is_ambiguous())
    }

    /// A node and each above it, `/` last.
    pub(crate) fn nodes_up(&self, node: usize) -> impl Iterator<Item = usize> {
        let above = |at: &usize| self.nodes.get(*at).map(|node| node.parent);
        std::iter::successors(Some(node), move |at| above(at).filter(|_| *at != ROOT))
    }

    /// What stands at a node and at each above it, as far as it is there, the innermost first.
    pub(crate) fn way_up(&self, node: usize) -> impl Iterator<Item = &Component> {
        self.nodes_up(node).filter_map(|at| self.component(at))
    }

    /// What stands at a node, or at the nearest above it that is there.
    pub(crate) fn nearest(&self, node: usize) -> Option<&Component> {
        self.way_up(node).next()
    }
}

impl Place {
    /// Whether one of its bound paths is the path or a directory above it.
    pub fn covers(&self, path: &[u8]) -> bool {
        self.bound.iter().any(|bound| covers(bound, self.object.directory, path))
    }

    /// Why a rule on what stands here is worth less, as far as the filesystem goes.
    pub(crate) fn add_filesystem(&mut self, magic: u64) {
        self.weaker.extend(filesystems::filesystem(magic).weaker);
    }
}

/// The node of `/`.
pub(crate) const ROOT: usize = 0;
