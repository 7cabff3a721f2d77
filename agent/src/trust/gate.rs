// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What apply asks about candidates while it has the lock, and tells when they are in force.
//!
//! Before the flip it is on disk that they are about to be accepted, afterwards that they are. Whoever
//! is killed in between leaves the first, and whoever comes next knows from the kernel what became of it.

use std::path::PathBuf;

use aegis_trust::{Digest, Floors};
use anyhow::Context as _;

use super::{
    Candidate, Refused as _, clock,
    store::{Installed, TrustStore},
};
use crate::{context::Context, failure::Refusal, files};

/// The floors, and the root as it is now.
#[derive(Debug)]
pub(crate) struct Gate {
    store: TrustStore,
    installed: Installed,
    floors: Floors,
    /// Files of bundles that nobody accepted before.
    kept: Vec<PathBuf>,
}

impl Gate {
    /// `active` is the digest of the set that is in force.
    pub(crate) fn open(context: &Context, active: Option<[u8; 32]>) -> anyhow::Result<Self> {
        let store = TrustStore::new(context);
        let installed = store.installed()?;
        let mut floors = store.floors()?;
        floors.settle(active.map(Digest::from_bytes));
        Ok(Self { store, installed, floors, kept: Vec::new() })
    }

    /// Whether a candidate may be applied here and now.
    ///
    /// # Errors
    /// A refusal that says why not.
    pub(crate) fn admit(&self, candidate: &Candidate) -> anyhow::Result<()> {
        let policy = candidate.policy();
        let not_applied = || format!("policy {} is not applied", policy.name);
        match candidate.signed() {
            Some(signed) => {
                if self.installed.root()?.root().version != signed.bundle().root_version() {
                    let message = "another trust root was installed meanwhile; nothing was changed";
                    return Err(Refusal::new("ROOT_CHANGED", message).hint("do this again").into());
                }
                let admitted = self.floors.admit(signed.bundle(), clock());
                admitted.map_err(|error| error.about(not_applied()))?;
            }
            // What nobody signed goes no lower than what somebody did.
            None => {
                let digest = Digest::from_bytes(policy.digest);
                let admitted = self.floors.admit_unsigned(&policy.name, policy.version, digest);
                admitted.map_err(|error| error.about(not_applied()))?;
            }
        }
        Ok(())
    }

    /// Whether a root has lowered the floor of a policy, so that even what is in force may be undercut.
    pub(crate) fn is_lowered(&self, name: &str) -> bool {
        self.floors.floor(name).is_some_and(|floor| floor.accepted.is_none())
    }

    /// Puts on disk that these are about to be in force, within the set of this digest.
    pub(crate) fn begin(&mut self, candidates: &[Candidate], set: [u8; 32]) -> anyhow::Result<()> {
        let signed = || candidates.iter().filter_map(Candidate::signed);
        for signed in signed() {
            self.kept.extend(self.store.keep(signed)?);
        }
        if signed().next().is_some() {
            self.floors.begin(signed().map(super::SignedPolicy::bundle), Digest::from_bytes(set));
            self.store.save(&self.floors)?;
        }
        Ok(())
    }

    /// They are in force.
    pub(crate) fn accept(&mut self) -> anyhow::Result<()> {
        let before = self.floors.clone();
        self.floors.accept();
        if self.floors == before { Ok(()) } else { self.store.save(&self.floors) }
    }

    /// They are not.
    pub(crate) fn cancel(&mut self) -> anyhow::Result<()> {
        for file in self.kept.drain(..) {
            files::remove(&file).with_context(|| format!("failed to remove {}", file.display()))?;
        }
        let before = self.floors.clone();
        self.floors.cancel();
        if self.floors == before { Ok(()) } else { self.store.save(&self.floors) }
    }
}
