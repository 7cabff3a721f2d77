// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The state directory: what the kernel's generations were made from.
//!
//! The kernel alone says which set is active, by its digest; here are the texts under that digest. A
//! set is on disk before it decides anything, so whatever is killed wherever, the two agree.

use std::{
    collections::BTreeMap,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use aegis_policy::{Mode, Policy, PolicySet, Source};
use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use crate::{
    failure::Refusal,
    files,
    trust::{Candidate, Signature, Signatures, TrustStore, clock},
};

/// The directory.
#[derive(Clone, Debug)]
pub(crate) struct State {
    directory: PathBuf,
}

/// A set of policies with their texts.
#[derive(Clone, Debug, Default)]
pub(crate) struct StoredSet {
    /// What is compiled.
    pub(crate) set: PolicySet,
    /// The text of each policy, by its name.
    pub(crate) texts: BTreeMap<String, String>,
    /// Who signed them, by name; what is not in it nobody signed.
    pub(crate) signatures: Signatures,
}

impl StoredSet {
    /// Adds a policy, in the place of one of the same name.
    pub(crate) fn insert(&mut self, policy: Policy, mode: Mode, text: String) {
        self.texts.insert(policy.name.clone(), text);
        self.set.insert(policy, mode);
    }

    /// Takes a policy out.
    pub(crate) fn remove(&mut self, name: &str) {
        self.texts.remove(name);
        self.signatures.remove(name);
        self.set.remove(name);
    }

    /// Notes who signed what was just inserted.
    pub(crate) fn sign(&mut self, candidate: &Candidate) {
        let name = &candidate.policy().name;
        match candidate.signed() {
            Some(signed) => self.signatures.insert(name.clone(), Signature::of(signed, clock())),
            None => self.signatures.remove(name),
        };
    }
}

/// A set as its file holds it.
#[derive(Debug, Deserialize, Serialize)]
struct SetFile {
    schema: u32,
    set_digest: String,
    policies: Vec<PolicyFile>,
}

#[derive(Debug, Deserialize, Serialize)]
struct PolicyFile {
    name: String,
    version: u32,
    mode: String,
    policy_digest: String,
    text: String,
}

impl State {
    pub(crate) const fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// The set with this digest.
    ///
    /// # Errors
    /// A refusal with the code `SET_MISSING` if it is not there, or is not what its name says.
    pub(crate) fn load(&self, digest: &[u8; 32]) -> anyhow::Result<StoredSet> {
        let empty = StoredSet::default();
        if empty.set.digest() == *digest {
            return Ok(empty);
        }
        let path = self.set_path(digest);
        let bytes = match files::read_trusted(&path, SET_MAX) {
            Err(error) if files::is_missing(&error) => {
                return Err(missing(&path, "it is not there").into());
            }
            bytes => bytes?,
        };
        let mut stored = read_set(&bytes).map_err(|error| missing(&path, &format!("{error:#}")))?;
        if stored.set.digest() != *digest {
            return Err(missing(&path, "its content has another digest").into());
        }
        stored.signatures = TrustStore::at(&self.directory).signatures(&stored.set)?;
        Ok(stored)
    }

    /// Writes a set down. Nothing is done if it is there already.
    pub(crate) fn store(&self, stored: &StoredSet) -> anyhow::Result<()> {
        let digest = stored.set.digest();
        if stored.set.is_empty() || self.load(&digest).is_ok() {
            return Ok(());
        }
        files::make_directory(&self.sets())?;
        let policies = stored.set.iter().map(|(policy, mode)| PolicyFile {
            name: policy.name.clone(),
            version: policy.version,
            mode: mode.name().to_owned(),
            policy_digest: hex(&policy.digest),
            text: stored.texts.get(&policy.name).cloned().unwrap_or_default(),
        });
        let file = SetFile { schema: 1, set_digest: hex(&digest), policies: policies.collect() };
        let bytes =
            serde_json::to_vec(&file).context("failed to write a set of policies as JSON")?;
        files::write_whole(&self.set_path(&digest), &bytes)
    }

    /// Removes every set but these.
    pub(crate) fn keep_only(&self, digests: &[[u8; 32]]) -> anyhow::Result<()> {
        let failed = || format!("failed to tidy {}", self.sets().display());
        let entries = match fs::read_dir(self.sets()) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            entries => entries.with_context(failed)?,
        };
        let kept: Vec<PathBuf> = digests.iter().map(|digest| self.set_path(digest)).collect();
        for entry in entries {
            let path = entry.with_context(failed)?.path();
            if !kept.contains(&path) {
                files::remove(&path).with_context(failed)?;
            }
        }
        Ok(())
    }

    fn sets(&self) -> PathBuf {
        self.directory.join("sets")
    }

    /// Where a set is written down.
    pub(crate) fn set_path(&self, digest: &[u8; 32]) -> PathBuf {
        self.sets().join(format!("{}.json", hex(digest)))
    }
}

fn read_set(bytes: &[u8]) -> anyhow::Result<StoredSet> {
    let file: SetFile = serde_json::from_slice(bytes).context("its content is torn")?;
    let mut stored = StoredSet::default();
    for PolicyFile { name, mode, text, .. } in file.policies {
        let mode = Mode::from_name(&mode).with_context(|| format!("{mode} is no mode"))?;
        let (policy, _) = aegis_policy::parse(Source { name: &name, text: &text });
        match policy.filter(|policy| policy.name == name) {
            Some(policy) => stored.insert(policy, mode, text),
            None => bail!("the text of policy {name} is no policy"),
        }
    }
    Ok(stored)
}

fn missing(path: &Path, why: &str) -> Refusal {
    let message = format!(
        "the kernel enforces a set of policies whose texts are not in {}: {why}",
        path.display()
    );
    Refusal::new("SET_MISSING", message).hint(
        "put the file back from a backup; or take everything out with `aegisbpf detach --reason …` \
         and apply the policies again",
    )
}

/// Bytes of the largest set: more than the policies that the kernel takes can have.
const SET_MAX: u64 = 1 << 30;

/// A digest as it is written.
pub(crate) fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tests::Scratch;

    fn stored(version: u32) -> StoredSet {
        let text = format!(
            "schema = 1\nname = \"p\"\nversion = {version}\n[workloads.w]\ncgroups = [\"/w\"]\n\
             [[rules]]\nid = \"r\"\nworkloads = [\"w\"]\naction = \"deny\"\nobjects = [\"/x\"]\n\
             reason = \"a test\"\n"
        );
        let (policy, faults) = aegis_policy::parse(Source { name: "p", text: &text });
        let mut stored = StoredSet::default();
        stored.insert(policy.unwrap_or_else(|| panic!("{faults:?}")), Mode::Audit, text);
        stored
    }

    fn state() -> (Scratch, State) {
        let scratch = Scratch::new();
        let state = State::new(scratch.0.join("state"));
        (scratch, state)
    }

    fn code(error: &anyhow::Error) -> &'static str {
        error.downcast_ref::<Refusal>().expect("a refusal").code
    }

    #[test]
    fn a_set_comes_back_as_it_was_stored() {
        let (_scratch, state) = state();
        let one = stored(1);
        state.store(&one).unwrap();
        let back = state.load(&one.set.digest()).unwrap();
        assert_eq!((back.set, back.texts), (one.set, one.texts));
    }

    #[test]
    fn a_torn_or_changed_set_is_an_error_and_no_empty_set() {
        let (_scratch, state) = state();
        let (one, two) = (stored(1), stored(2));
        state.store(&one).unwrap();
        state.store(&two).unwrap();
        let path = state.set_path(&one.set.digest());
        let whole = fs::read(&path).unwrap();
        for end in [0, 1, whole.len() / 2, whole.len() - 1] {
            fs::write(&path, &whole[..end]).unwrap();
            assert_eq!(code(&state.load(&one.set.digest()).unwrap_err()), "SET_MISSING");
        }
        fs::copy(state.set_path(&two.set.digest()), &path).unwrap();
        assert_eq!(code(&state.load(&one.set.digest()).unwrap_err()), "SET_MISSING");
        state.store(&one).unwrap();
        assert!(state.load(&one.set.digest()).is_ok(), "storing mends it");
    }

    #[test]
    fn sets_that_nothing_names_are_tidied_away() {
        let (_scratch, state) = state();
        let (one, two) = (stored(1), stored(2));
        state.keep_only(&[]).unwrap();
        state.store(&one).unwrap();
        state.store(&two).unwrap();
        state.keep_only(&[two.set.digest()]).unwrap();
        assert!(state.load(&one.set.digest()).is_err());
        assert!(state.load(&two.set.digest()).is_ok());
    }

    #[test]
    fn no_policies_are_a_set_that_needs_no_file() {
        let (_scratch, state) = state();
        assert!(state.load(&PolicySet::new().digest()).unwrap().set.is_empty());
    }
}
