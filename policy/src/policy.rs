// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A policy whose text had no fault: what [`parse`](crate::parse) makes and all else takes.
//!
//! Its fields need no further look: names are in their alphabet, paths are normalised, every
//! workload that a rule names exists. The text itself stays with whoever read it.

use aegis_abi::Access;

use crate::{
    Accesses,
    names::{self, CgroupPattern},
};

/// One policy text, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What it is called; the key of a set.
    pub name: String,
    /// Only goes up, which is for whoever applies it to see to.
    pub version: u32,
    /// The workloads that its rules speak of, by name.
    pub workloads: Vec<Workload>,
    /// Its rules, in the order of the text.
    pub rules: Vec<Rule>,
    /// SHA-256 of the text, byte for byte: `policy_digest`.
    pub digest: [u8; 32],
}

/// A named set of cgroups; a cgroup selects itself and all below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Unique in its policy.
    pub name: String,
    /// The cgroups that it selects.
    pub cgroups: Vec<CgroupPattern>,
}

/// One entry of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Unique in its policy.
    pub id: String,
    /// Whom it is about.
    pub who: Who,
    /// What it does.
    pub action: RuleAction,
    /// The accesses that it is about.
    pub access: Accesses,
    /// What it is about.
    pub objects: Vec<Object>,
    /// What it is not about although it is beneath its objects.
    pub except: Vec<Object>,
    /// Why it is there, for whoever is denied.
    pub reason: String,
    /// The line of the text where it begins, counted from 1.
    pub line: usize,
}

impl Rule {
    /// Whether the rule speaks of what this path names.
    pub fn covers(&self, path: &[u8]) -> bool {
        self.objects.iter().any(|object| object.covers(path))
            && !self.except.iter().any(|object| object.covers(path))
    }

    /// Whether the rule speaks of this access.
    pub const fn is_about(&self, access: Access) -> bool {
        self.access.contains(access)
    }
}

/// Whom a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// `"*"`: every task but those in the exempt cgroup.
    Everyone,
    /// Indices of [`Policy::workloads`].
    Workloads(Vec<usize>),
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleAction {
    /// Refuses, or would refuse if its policy is applied in mode `audit`.
    Deny,
    /// Reports and allows.
    Audit,
}

impl RuleAction {
    /// The word that policies use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Audit => "audit",
        }
    }
}

/// A file, or a directory with everything beneath it, as a path names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Object {
    /// Absolute and normalised, without a trailing slash (but for `/` itself).
    pub path: Vec<u8>,
    /// Written with a trailing slash: the directory and everything beneath.
    pub directory: bool,
}

impl Object {
    /// Whether this object is what the path names, or a directory above it.
    pub fn covers(&self, path: &[u8]) -> bool {
        covers(&self.path, self.directory, path)
    }

    /// The object as a policy would write it.
    pub fn written(&self) -> String {
        let mut written = names::escape_star(&self.path);
        if self.directory && self.path != b"/" {
            written.push('/');
        }
        written
    }
}

/// Whether an object with this path is what another path names, or a directory above it.
pub(crate) fn covers(object: &[u8], directory: bool, path: &[u8]) -> bool {
    match path.strip_prefix(object) {
        Some(b"") => true,
        Some(rest) => directory && (object == b"/" || rest.starts_with(b"/")),
        None => false,
    }
}
