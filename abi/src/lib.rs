// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The contract between the programs in the kernel and user space, as Rust.
//!
//! `include/aegis.h` is the one place where it is written down; [`generated`] is made from it.
//! This crate adds Rust names, the hashes of names, and two shapes that crates hand to each other:
//! [`Rows`] (what a generation is filled with) and [`Event`] (what comes out of the ring).
//!
//! Nothing here talks to a kernel, reads a file or knows what a policy is.

mod event;
#[allow(
    missing_docs,
    clippy::allow_attributes_without_reason,
    non_camel_case_types,
    reason = "made from the C header, which documents every item"
)]
pub mod generated;
mod hash;
mod late;
mod rows;
mod switches;

pub use event::{BadEvent, Event};
pub use generated::{
    aegis_cgroup_row as CgroupRow, aegis_count as Count, aegis_count_key as CountKey,
    aegis_filesystem_row as FilesystemRow, aegis_inode_key as InodeKey, aegis_late_row as LateRow,
    aegis_marks as Marks, aegis_name_key as NameKey, aegis_object_row as ObjectRow,
    aegis_resolved as Resolved, aegis_verdict as Verdict,
};
pub use hash::{hash_cgroup_name, hash_cgroup_suffix, hash_name};
pub use late::{late_labels, pack_late_labels};
pub use rows::Rows;
pub use switches::{EmergencyWord, SlotsWord, nanoseconds, ticks};

/// What a task wants to do with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// Open for reading, list a directory.
    Read,
    /// Open for writing, truncate on opening.
    Write,
    /// Run as a program, or as the interpreter of one.
    Exec,
}

impl Access {
    /// All of them, in the contract's order.
    pub const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Exec];

    /// The place in [`Verdict`]'s rows.
    pub const fn index(self) -> usize {
        match self {
            Self::Read => generated::AEGIS_READ as usize,
            Self::Write => generated::AEGIS_WRITE as usize,
            Self::Exec => generated::AEGIS_EXEC as usize,
        }
    }

    /// The word that policies and events use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Exec => "exec",
        }
    }

    /// The access with this number in an event.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|access| access.index() == number as usize)
    }
}

/// What comes of an access that a rule speaks about; the earlier wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Refused with `EPERM`.
    Deny,
    /// A deny rule of a policy in mode `audit`: allowed and reported.
    WouldDeny,
    /// Allowed and reported.
    Audit,
}

impl Action {
    /// All of them, strongest first.
    pub const ALL: [Self; 3] = [Self::Deny, Self::WouldDeny, Self::Audit];

    /// The place in [`Verdict`]'s table.
    pub const fn index(self) -> usize {
        match self {
            Self::Deny => generated::AEGIS_DENY as usize,
            Self::WouldDeny => generated::AEGIS_WOULD_DENY as usize,
            Self::Audit => generated::AEGIS_AUDIT as usize,
        }
    }

    /// The word that events use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::WouldDeny => "would_deny",
            Self::Audit => "audit",
        }
    }

    /// The action with this number in an event.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.index() == number as usize)
    }
}
