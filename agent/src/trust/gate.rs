// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What apply asks about candidates while it has the lock, and tells when they are in force.
//!
//! Before the flip it is on disk that they are about to be accepted, afterwards that they are. Whoever
//! is killed in between leaves the first, and whoever comes next knows from the kernel what became of it.

use std::path::PathBuf;

use aegis_policy::PolicySet;
use aegis_trust::{Digest, Floors};
use anyhow::Context as _;

use super::{
    Candidate, Refused as _, clock,
    store::{Installed, TrustStore},
};
use crate::{context::Context, failure::Refusal, files, provenance::Log};

/// The floors, and the root as it is now.
#[derive(Debug)]
pub(crate) struct Gate {
    store: TrustStore,
    installed: Installed,
    floors: Floors,
    /// As the file has them.
    on_disk: Floors,
    /// Files of bundles that nobody accepted before.
    kept: Vec<PathBuf>,
}

impl Gate {
    /// `active` is the digest of the set that is in force.
    pub(crate) fn open(context: &Context, active: Option<[u8; 32]>) -> anyhow::Result<Self> {
        let store = TrustStore::new(context);
        let installed = store.installed(&Log::new(context))?;
        let on_disk = store.floors()?;
        let mut floors = on_disk.clone();
        floors.settle(active.map(Digest::from_bytes));
        Ok(Self { store, installed, floors, on_disk, kept: Vec::new() })
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

    /// Whether what this node accepted before may come back: the root may want a newer version by now.
    ///
    /// # Errors
    /// A refusal that names the policy.
    pub(crate) fn check_minimums(
        &self,
        before: &PolicySet,
        after: &PolicySet,
    ) -> Result<(), Refusal> {
        self.installed.check_minimums(before, after)
    }

    /// Puts on disk that these are about to be in force, within the set of this digest.
    pub(crate) fn begin(&mut self, candidates: &[Candidate], set: [u8; 32]) -> anyhow::Result<()> {
        let signed = || candidates.iter().filter_map(Candidate::signed);
        for signed in signed() {
            self.kept.extend(self.store.keep(signed)?);
        }
        if signed().next().is_some() {
            self.floors.begin(signed().map(super::SignedPolicy::bundle), Digest::from_bytes(set));
        }
        // What was found to be accepted must not depend on which set is in force from now on.
        self.save()
    }

    /// They are in force.
    pub(crate) fn accept(&mut self) -> anyhow::Result<()> {
        self.floors.accept();
        self.save()
    }

    /// They are not.
    pub(crate) fn cancel(&mut self) -> anyhow::Result<()> {
        for file in self.kept.drain(..) {
            files::remove(&file).with_context(|| format!("failed to remove {}", file.display()))?;
        }
        self.floors.cancel();
        self.save()
    }

    fn save(&mut self) -> anyhow::Result<()> {
        if self.floors != self.on_disk {
            self.store.save(&self.floors)?;
            self.on_disk = self.floors.clone();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tests::Scratch;

    const NOTED: [u8; 32] = [7; 32];

    /// Somebody noted that version 5 is about to be in force within the set `NOTED`, and was killed.
    fn killed() -> (Scratch, TrustStore) {
        let scratch = Scratch::new();
        let store = TrustStore::at(&scratch.0);
        let hex = |byte: u8| Digest::from_bytes([byte; 32]).to_string();
        let text = serde_json::json!({
            "schema": 1, "floors": {}, "notBefore": "1970-01-01T00:00:00Z", "resetBy": 0,
            "pending": {
                "set": hex(7), "notBefore": "1970-01-01T00:00:00Z",
                "floors": { "p": { "version": 5, "policy": hex(1), "payload": hex(2) } },
            },
        })
        .to_string();
        store.save(&Floors::read(text.as_bytes()).unwrap()).unwrap();
        (scratch, store)
    }

    fn gate(store: &TrustStore, active: [u8; 32]) -> Gate {
        let on_disk = store.floors().unwrap();
        let mut floors = on_disk.clone();
        floors.settle(Some(Digest::from_bytes(active)));
        Gate { store: store.clone(), installed: Installed::None, floors, on_disk, kept: Vec::new() }
    }

    #[test]
    fn what_a_killed_apply_put_in_force_stays_accepted_when_others_follow() {
        let (_scratch, store) = killed();
        // The set is in force; then one is put there that has nothing signed in it.
        let mut next = gate(&store, NOTED);
        next.begin(&[], [8; 32]).unwrap();
        next.accept().unwrap();
        let later = gate(&store, [8; 32]);
        assert_eq!(later.floors.floor("p").map(|floor| floor.version), Some(5));
    }

    #[test]
    fn what_it_did_not_put_in_force_is_forgotten() {
        let (_scratch, store) = killed();
        assert_eq!(gate(&store, [8; 32]).floors.floor("p"), None);
    }
}
