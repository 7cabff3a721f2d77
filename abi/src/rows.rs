// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Everything that a generation is filled with.

use crate::{CgroupRow, CountKey, FilesystemRow, InodeKey, NameKey, ObjectRow, Verdict, generated};

/// One compiled and resolved set of policies, as rows of the kernel's maps.
///
/// The policy crate makes it, the kernel crate writes it, compares it and switches it on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// What starts every hash of a name in this generation.
    pub seed: u64,
    /// Inodes with a label of their own, and directories with bound names below them.
    pub objects: Vec<(InodeKey, ObjectRow)>,
    /// Names below the nodes of the tree of paths.
    pub names: Vec<(NameKey, ObjectRow)>,
    /// Filesystems with at least one object, by `s_dev`.
    pub filesystems: Vec<(u32, FilesystemRow)>,
    /// Names, and classes of names, below the nodes of the tree of cgroups.
    pub cgroups: Vec<(NameKey, CgroupRow)>,
    /// `scopes` × `labels` answers, a scope's answers side by side; scope 0 and label 0 are empty.
    pub verdicts: Vec<Verdict>,
    /// Every (rule, scope) that a report may name.
    pub counts: Vec<CountKey>,
    /// Labels, with the empty label 0.
    pub labels: u32,
    /// Scopes, with the empty scope 0.
    pub scopes: u32,
    /// The scope of a cgroup that no policy names: `"*"` alone, or 0.
    pub root_scope: u32,
    /// Flags of node 1, the root of the tree of cgroups.
    pub root_flags: u32,
    /// Every workload at once, for a cgroup that cannot be told.
    pub unknown_scope: u32,
    /// The union of all rules, for an object that cannot be told.
    pub unknown_label: u32,
    /// The accesses that any rule speaks of, but those of the proof: one bit each, by
    /// [`Access::index`](crate::Access::index).
    pub accesses: u32,
    /// How many policies it was compiled from.
    pub policies: u32,
    /// SHA-256 of the set of policies.
    pub set_digest: [u8; 32],
}

impl Verdict {
    /// No rule speaks.
    pub const NONE: Self =
        Self { rule: [[0; generated::AEGIS_ACCESSES as usize]; generated::AEGIS_ACTIONS as usize] };
}
