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
    time::SystemTime,
};

use aegis_kernel::Generation;
use aegis_policy::{Mode, Policy, PolicySet, Source};
use aegis_trust::Digest;
use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use crate::{
    failure::Refusal,
    files, time,
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

    /// Takes a policy, with its mode and signature, from another set, as it is there: or not at all.
    pub(crate) fn take(&mut self, name: &str, from: &Self) {
        self.remove(name);
        let Some((policy, mode)) = from.set.policy(name) else { return };
        let text = from.texts.get(name).cloned().unwrap_or_default();
        self.insert(policy.clone(), mode, text);
        if let Some(signature) = from.signatures.get(name) {
            self.signatures.insert(name.to_owned(), signature.clone());
        }
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

/// The set that the next boot begins with.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Confirmed {
    schema: u32,
    /// Of the set, as its file is named.
    pub(crate) set_digest: String,
    /// The number that it had.
    pub(crate) generation: u64,
    /// When it was confirmed, RFC 3339.
    pub(crate) time: String,
}

impl Confirmed {
    /// The digest of the set.
    pub(crate) fn digest(&self) -> Option<[u8; 32]> {
        Digest::from_hex(&self.set_digest).map(|digest| *digest.bytes())
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
        if stored.set.is_empty() {
            return Ok(());
        }
        if self.load(&digest).is_ok() {
            // Of the sets that decide nothing the newest are kept, and this one is asked for now.
            let touched = fs::File::open(self.set_path(&digest))
                .and_then(|file| file.set_modified(SystemTime::now()));
            return touched.context("failed to touch a set of policies");
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

    /// Removes every set but these, the confirmed one, and the newest `others`.
    pub(crate) fn keep_only(&self, digests: &[[u8; 32]], others: usize) -> anyhow::Result<()> {
        let failed = || format!("failed to tidy {}", self.sets().display());
        let entries = match fs::read_dir(self.sets()) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            entries => entries.with_context(failed)?,
        };
        let mut kept: Vec<PathBuf> = digests.iter().map(|digest| self.set_path(digest)).collect();
        if let Some(confirmed) = self.confirmed()? {
            kept.push(self.sets().join(format!("{}.json", confirmed.set_digest)));
        }
        let mut rest = Vec::new();
        for entry in entries {
            let entry = entry.with_context(failed)?;
            let path = entry.path();
            // What a killed command was writing is no set, and has another ending.
            let is_set = path.extension().is_some_and(|extension| extension == "json");
            if !is_set {
                files::remove(&path).with_context(failed)?;
            } else if !kept.contains(&path) {
                let changed = entry.metadata().and_then(|about| about.modified());
                rest.push((changed.with_context(failed)?, path));
            }
        }
        rest.sort();
        rest.truncate(rest.len().saturating_sub(others));
        rest.iter().try_for_each(|(_, path)| files::remove(path).with_context(failed))
    }

    /// Writes down that a set is confirmed and proven: the next boot begins with it.
    pub(crate) fn confirm(&self, generation: &Generation) -> anyhow::Result<()> {
        let confirmed = Confirmed {
            schema: 1,
            set_digest: hex(&generation.set_digest),
            generation: generation.number,
            time: time::written(time::now()),
        };
        let bytes =
            serde_json::to_vec(&confirmed).context("failed to write what is confirmed as JSON")?;
        files::write_whole(&self.confirmed_path(), &bytes)
    }

    /// The set that was last confirmed and proven; `None` if none ever was, or it was taken out.
    ///
    /// # Errors
    /// If it is written down and cannot be read.
    pub(crate) fn confirmed(&self) -> anyhow::Result<Option<Confirmed>> {
        let path = self.confirmed_path();
        match files::read_trusted(&path, CONFIRMED_MAX) {
            Err(error) if files::is_missing(&error) => Ok(None),
            bytes => {
                let confirmed: Confirmed = serde_json::from_slice(&bytes?)
                    .with_context(|| format!("{} is torn", path.display()))?;
                Ok(Some(confirmed))
            }
        }
    }

    fn confirmed_path(&self) -> PathBuf {
        self.directory.join("confirmed.json")
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

const CONFIRMED_MAX: u64 = 4 << 10;

/// How many sets that decide nothing are kept, to go back to.
pub(crate) const SETS_KEPT: usize = 16;

/// A digest as it is written.
pub(crate) fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
        state.keep_only(&[], 0).unwrap();
        state.store(&one).unwrap();
        state.store(&two).unwrap();
        state.keep_only(&[two.set.digest()], 0).unwrap();
        assert!(state.load(&one.set.digest()).is_err());
        assert!(state.load(&two.set.digest()).is_ok());
    }

    #[test]
    fn the_newest_sets_are_kept_to_go_back_to() {
        let (_scratch, state) = state();
        let all = [1, 2, 3].map(stored);
        let set_time = |at: &StoredSet, seconds| {
            let file = fs::File::open(state.set_path(&at.set.digest())).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
        };
        for (one, seconds) in all.iter().zip([10, 20, 30]) {
            state.store(one).unwrap();
            set_time(one, seconds);
        }
        // Asked for once more, the oldest is the newest.
        state.store(&all[0]).unwrap();
        state.keep_only(&[], 2).unwrap();
        let there = all.each_ref().map(|one| state.load(&one.set.digest()).is_ok());
        assert_eq!(there, [true, false, true]);
    }

    #[test]
    fn no_policies_are_a_set_that_needs_no_file() {
        let (_scratch, state) = state();
        assert!(state.load(&PolicySet::new().digest()).unwrap().set.is_empty());
    }
}
