// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The trust root that binds this node, and what it has accepted, in the state directory:
//!
//! ```text
//!   trust-root               version and fingerprint of the root; its rename is what installs one, the first
//!                            before its files are there: until they are, whoever asks again finishes it
//!   trust/roots/N.json       every root that was installed
//!   trust/floors.json        the versions that were accepted
//!   trust/accepted/…         every bundle that was accepted, by the digest of its policy
//! ```
//!
//! The first is apart from the others: that a root was installed must not be forgotten with the root. If
//! both are gone, each line of the provenance log and the kernel's memory still know that there was one.

use std::{
    fs,
    path::{Path, PathBuf},
};

use aegis_fault::{self as fault, Point};
use aegis_policy::PolicySet;
use aegis_trust::{Digest, Envelope, Floors, Kind, TrustRoot};
use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::{Refused as _, Signature, Signatures, SignedPolicy, clock, malformed};
use crate::{
    config::AllowUnsigned, context::Context, failure::Refusal, files, provenance::Log, state::hex,
};

/// Its files.
#[derive(Clone, Debug)]
pub(crate) struct TrustStore {
    directory: PathBuf,
    marker: PathBuf,
}

/// What is remembered of a root, apart from it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Remembered {
    schema: u32,
    pub(crate) version: u32,
    pub(crate) fingerprint: String,
    /// When it was installed here.
    pub(crate) installed: String,
}

/// The root of this node.
#[derive(Clone, Debug)]
pub(crate) enum Installed {
    /// None was ever installed.
    None,
    /// This one.
    Root(Box<TrustRoot>),
    /// There was one, and it cannot be followed: nothing is accepted any more.
    Lost {
        /// What is remembered of it.
        remembered: Option<Remembered>,
        /// What is wrong.
        why: String,
    },
}

/// The permission to apply what nobody signed. Only [`TrustStore::unsigned`] gives it.
#[derive(Debug)]
pub(crate) struct Unsigned(());

impl TrustStore {
    pub(crate) fn new(context: &Context) -> Self {
        Self::at(&context.state)
    }

    /// The one in this state directory.
    pub(crate) fn at(state: &Path) -> Self {
        Self { directory: state.join("trust"), marker: state.join("trust-root") }
    }

    /// Whether there is anything that only a root leaves.
    pub(crate) fn has_files(&self) -> bool {
        [&self.marker, &self.directory].iter().any(|path| fs::symlink_metadata(path).is_ok())
    }

    /// The root that binds this node; `log` remembers that there is one if its files are gone.
    ///
    /// # Errors
    /// If its files cannot be read, or others than root can write them.
    pub(crate) fn installed(&self, log: &Log) -> anyhow::Result<Installed> {
        let Some(bytes) = self.read(&self.marker, MOST_MARKER_BYTES)? else {
            let marker = self.marker.display();
            let why = if self.has_files() {
                format!("{marker} is gone")
            } else {
                let Some(who) = log.remembers_root()? else { return Ok(Installed::None) };
                format!(
                    "{marker} and {} are gone, and {who} knows of one",
                    self.directory.display()
                )
            };
            return Ok(Installed::Lost { remembered: None, why });
        };
        let remembered: Remembered = match serde_json::from_slice(&bytes) {
            Ok(remembered) => remembered,
            Err(error) => {
                let why = format!("{} is torn: {error}", self.marker.display());
                return Ok(Installed::Lost { remembered: None, why });
            }
        };
        Ok(match self.remembered_root(&remembered)? {
            Ok(root) => Installed::Root(Box::new(root)),
            Err(why) => Installed::Lost { remembered: Some(remembered), why },
        })
    }

    fn remembered_root(
        &self,
        remembered: &Remembered,
    ) -> anyhow::Result<Result<TrustRoot, String>> {
        let Some(fingerprint) = Digest::from_hex(&remembered.fingerprint) else {
            return Ok(Err(format!("{} is torn", self.marker.display())));
        };
        let path = self.root_path(remembered.version);
        let most = u64::try_from(Kind::Root.most_envelope_bytes()).unwrap_or(u64::MAX);
        let Some(bytes) = self.read(&path, most)? else {
            return Ok(Err(format!("{} is gone", path.display())));
        };
        if !self.floors_path().exists() {
            return Ok(Err(format!("{} is gone", self.floors_path().display())));
        }
        let root = Envelope::read(Kind::Root, &bytes)
            .map_err(|error| malformed(path.display(), &error))
            .and_then(|envelope| {
                TrustRoot::first(&envelope, fingerprint)
                    .map_err(|error| error.about(path.display()))
            });
        Ok(root.map_err(|refusal| refusal.to_string()))
    }

    /// Permits what nobody signed, as the configuration says.
    ///
    /// # Errors
    /// A refusal `UNSIGNED_FORBIDDEN`.
    pub(crate) fn unsigned(
        installed: &Installed,
        allowed: AllowUnsigned,
    ) -> Result<Unsigned, Refusal> {
        let why = match (allowed, installed) {
            (AllowUnsigned::Always, _) | (AllowUnsigned::UntilRoot, Installed::None) => {
                return Ok(Unsigned(()));
            }
            (AllowUnsigned::Never, _) => "the configuration says trust.allow_unsigned = \"never\"",
            (AllowUnsigned::UntilRoot, _) => "a trust root was installed on this node",
        };
        let message =
            format!("policies that nobody signed are not applied: {why}; nothing was changed");
        Err(Refusal::new("UNSIGNED_FORBIDDEN", message).hint(
            "sign it: `aegisbpf sign FILE --key K --expires 90d -o FILE.bundle`; or set \
             trust.allow_unsigned in the configuration, if that is meant",
        ))
    }

    /// What was accepted on this node.
    pub(crate) fn floors(&self) -> anyhow::Result<Floors> {
        let path = self.floors_path();
        match self.read(&path, MOST_FLOORS_BYTES)? {
            None => Ok(Floors::default()),
            Some(bytes) => {
                Floors::read(&bytes).map_err(|error| malformed(path.display(), &error).into())
            }
        }
    }

    pub(super) fn save(&self, floors: &Floors) -> anyhow::Result<()> {
        files::make_directory(&self.directory)?;
        files::write_whole(&self.floors_path(), &floors.write())
    }

    /// Makes a root the one that binds this node: it does when this returns. One that takes the place
    /// of another does not before its last step; of a first one the mark comes first, so that a kill
    /// leaves either nothing or what the same command finishes.
    pub(crate) fn install(
        &self,
        envelope: &Envelope,
        root: &TrustRoot,
        floors: &Floors,
    ) -> anyhow::Result<()> {
        let remembered = Remembered {
            schema: 1,
            version: root.root().version,
            fingerprint: root.fingerprint().to_string(),
            installed: clock().to_string(),
        };
        let first = !self.directory.exists();
        let marked_first = first && !self.marker.exists();
        let marker =
            serde_json::to_vec(&remembered).context("failed to write the root's mark as JSON")?;
        let install = || {
            if marked_first {
                files::write_whole(&self.marker, &marker)?;
            }
            files::make_directory(&self.directory.join("roots"))?;
            files::write_whole(&self.root_path(remembered.version), &envelope.write())?;
            fault::step(Point::RootKept)?;
            self.save(floors)?;
            fault::step(Point::RootFloorsKept)?;
            if marked_first { Ok(()) } else { files::write_whole(&self.marker, &marker) }
        };
        let installed = install();
        fault::passed(Point::RootInstalled);
        if installed.is_err() && first {
            // What is half there would look as if a root was lost.
            self.forget(marked_first)?;
        }
        installed
    }

    /// Takes away what is half installed, the mark last: without the files it says what is missing.
    fn forget(&self, and_mark: bool) -> anyhow::Result<()> {
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error)
                    .with_context(|| format!("failed to remove {}", self.directory.display()));
            }
            _ => {}
        }
        if and_mark {
            files::remove(&self.marker)
                .with_context(|| format!("failed to remove {}", self.marker.display()))?;
        }
        Ok(())
    }

    /// Keeps a bundle for those who ask later who signed what was enforced; the files that are new.
    pub(super) fn keep(&self, signed: &SignedPolicy) -> anyhow::Result<Vec<PathBuf>> {
        let directory = self.directory.join("accepted");
        files::make_directory(&directory)?;
        let digest = signed.bundle().content().policy_digest().to_string();
        let files = ["bundle", "json"].map(|end| directory.join(format!("{digest}.{end}")));
        let new = files.iter().filter(|file| !file.exists()).cloned().collect();
        let [bundle, about] = files;
        files::write_whole(&bundle, signed.file())?;
        let record = serde_json::to_vec(&Signature::of(signed, clock()))
            .context("failed to write who signed as JSON")?;
        files::write_whole(&about, &record)?;
        Ok(new)
    }

    /// Who signed the policies of a set, by name; those that nobody signed are not in it.
    pub(crate) fn signatures(&self, set: &PolicySet) -> anyhow::Result<Signatures> {
        let mut signatures = Signatures::new();
        for (policy, _) in set.iter() {
            let digest = hex(&policy.digest);
            let path = self.directory.join("accepted").join(format!("{digest}.json"));
            let Some(bytes) = self.read(&path, MOST_RECORD_BYTES)? else { continue };
            let signature: Signature = serde_json::from_slice(&bytes)
                .with_context(|| format!("failed to read {}", path.display()))?;
            if signature.is_of(policy, &digest) {
                signatures.insert(policy.name.clone(), signature);
            }
        }
        Ok(signatures)
    }

    fn read(&self, path: &Path, most: u64) -> anyhow::Result<Option<Vec<u8>>> {
        match files::read_trusted(path, most) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if files::is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn root_path(&self, version: u32) -> PathBuf {
        self.directory.join("roots").join(format!("{version}.json"))
    }

    fn floors_path(&self) -> PathBuf {
        self.directory.join("floors.json")
    }
}

impl Installed {
    /// Refuses a policy that is not in force and is older than what the root wants at least. What is lost
    /// wants nothing: going back must not wait for a file.
    ///
    /// # Errors
    /// A refusal that names the policy.
    pub(crate) fn check_minimums(
        &self,
        before: &PolicySet,
        after: &PolicySet,
    ) -> Result<(), Refusal> {
        let Self::Root(root) = self else { return Ok(()) };
        let minimums = &root.root().minimums;
        for (policy, _) in after.iter() {
            let present = before.policy(&policy.name);
            let comes = present.is_none_or(|(present, _)| present.digest != policy.digest);
            let Some(minimum) = minimums.get(&policy.name).filter(|_| comes) else { continue };
            if policy.version < *minimum {
                let message = format!(
                    "policy {} would come back with version {}, and the trust root wants {minimum} at least",
                    policy.name, policy.version
                );
                return Err(Refusal::new("VERSION_LOWER", message)
                    .hint("apply a newer bundle; or `aegisbpf remove NAME --reason …`"));
            }
        }
        Ok(())
    }

    /// The root, or why there is none to follow.
    pub(crate) fn root(&self) -> Result<&TrustRoot, Refusal> {
        match self {
            Self::Root(root) => Ok(root),
            Self::None => {
                Err(Refusal::new("NO_ROOT", "no trust root is installed on this node").hint(
                    "`aegisbpf trust install ROOT --fingerprint F`; `aegisbpf trust init` makes one",
                ))
            }
            Self::Lost { remembered, why } => {
                let message = format!("the trust root of this node is lost: {why}");
                let again = remembered.as_ref().map_or_else(
                    || "`aegisbpf trust install ROOT --fingerprint F --replace --reason TEXT`".to_owned(),
                    |root| {
                        format!(
                            "version {} again: `aegisbpf trust install ROOT --fingerprint {}`",
                            root.version, root.fingerprint
                        )
                    },
                );
                Err(Refusal::new("ROOT_LOST", message)
                    .hint(format!("put the file back from a backup, or install {again}")))
            }
        }
    }
}

const MOST_MARKER_BYTES: u64 = 4 << 10;
const MOST_FLOORS_BYTES: u64 = 4 << 20;
const MOST_RECORD_BYTES: u64 = 64 << 10;
