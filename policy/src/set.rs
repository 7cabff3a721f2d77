// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The policies that hold together on a node, by name, each in its mode.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use crate::Policy;

/// How a policy is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Its deny rules deny.
    Enforce,
    /// Its deny rules only report what they would deny.
    Audit,
}

impl Mode {
    /// The word that commands and digests use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Audit => "audit",
        }
    }

    /// The mode of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Enforce, Self::Audit].into_iter().find(|mode| mode.name() == name)
    }
}

/// Policies by name. They compose by union, so nothing depends on the order of insertion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicySet {
    policies: BTreeMap<String, (Policy, Mode)>,
}

impl PolicySet {
    /// A set without policies.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a policy, in the place of one of the same name, which is handed back.
    pub fn insert(&mut self, policy: Policy, mode: Mode) -> Option<(Policy, Mode)> {
        self.policies.insert(policy.name.clone(), (policy, mode))
    }

    /// Takes a policy out.
    pub fn remove(&mut self, name: &str) -> Option<(Policy, Mode)> {
        self.policies.remove(name)
    }

    /// The policy of this name, and its mode.
    pub fn policy(&self, name: &str) -> Option<(&Policy, Mode)> {
        self.policies.get(name).map(|(policy, mode)| (policy, *mode))
    }

    /// All policies by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Policy, Mode)> {
        self.policies.values().map(|(policy, mode)| (policy, *mode))
    }

    /// How many policies there are.
    pub fn len(&self) -> usize {
        self.policies.len()
    }

    /// Whether there is no policy.
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }

    /// `set_digest`: SHA-256 over names, modes and digests of all policies.
    ///
    /// Each part goes in after its length, so that no two sets make the same bytes.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        part(b"aegisbpf set of policies 1");
        for (policy, mode) in self.iter() {
            part(policy.name.as_bytes());
            part(mode.name().as_bytes());
            part(&policy.digest);
        }
        hash.finalize().into()
    }
}
