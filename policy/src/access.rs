// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A set of accesses, as a rule lists them and as one open asks for them.

use aegis_abi::Access;

/// A set of [`Access`]es.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Accesses(u8);

impl Accesses {
    /// No access at all.
    pub const NONE: Self = Self(0);

    /// Read, write and exec.
    pub fn all() -> Self {
        Access::ALL.into_iter().collect()
    }

    /// This set and one more.
    #[must_use]
    pub const fn with(self, access: Access) -> Self {
        Self(self.0 | 1 << access.index())
    }

    /// Whether the access is in the set.
    pub const fn contains(self, access: Access) -> bool {
        self.0 & 1 << access.index() != 0
    }

    /// Whether nothing is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What is in the set, in the contract's order.
    pub fn iter(self) -> impl Iterator<Item = Access> {
        Access::ALL.into_iter().filter(move |access| self.contains(*access))
    }
}

impl FromIterator<Access> for Accesses {
    fn from_iter<I: IntoIterator<Item = Access>>(accesses: I) -> Self {
        accesses.into_iter().fold(Self::NONE, Self::with)
    }
}

impl From<Access> for Accesses {
    fn from(access: Access) -> Self {
        Self::NONE.with(access)
    }
}
