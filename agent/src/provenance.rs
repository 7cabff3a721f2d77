// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The provenance log on this node: everything that changes what is enforced, and what was refused.
//!
//! ```text
//!   Log::begin(entry)? ── acts ──▶ begun.done(…) | begun.undone(…)      refusals: Log::refused
//!   store      segments, a reserve for a full disk, the lock            format, chain: aegis_trust::provenance
//!   journal    each head, for a witness elsewhere                       kernel: aegis_kernel::Witness
//! ```
//!
//! What cannot be logged is not begun. What has acted already and cannot be logged is counted in the
//! kernel's memory, and said in the next entry that can be written.

mod journal;
mod origin;
mod store;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use aegis_fault::{self as fault, Point};
use aegis_kernel::{Generation, Kernel, LogHead, Owner, Witness};
use aegis_trust::{
    Digest,
    provenance::{
        Effect, Entry, Failure, Head, InForce, KernelHead, KernelWitness, LOG, Phase,
        PolicyInForce, Record, Sealed, Step, Verification, Verifier, code, seal,
    },
};
use anyhow::Context as _;

use crate::{
    context::Context,
    failure,
    proof::Proof,
    state::StoredSet,
    time,
    trust::{Signature, TrustStore},
};

use origin::Origin;
use store::{Store, Tail, Wait};

pub(crate) use origin::{login_uid, now};
pub(crate) use store::{RESERVE, Snapshot};

/// The log of this node.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    directory: PathBuf,
    /// The state directory that it is in.
    state: PathBuf,
    trust: TrustStore,
    pins: PathBuf,
    journal: PathBuf,
    segment_max: u64,
    on_record: Arc<AtomicBool>,
}

/// A change that is on record, and whose end is not yet.
#[must_use = "whatever was begun ends, done or undone"]
#[derive(Debug)]
pub(crate) struct Begun {
    log: Log,
    entry: Entry,
    sequence: u64,
    instance: String,
}

/// An entry that is on disk.
struct Written {
    head: Head,
    instance: String,
}

/// The log and the kernel at one moment.
#[derive(Debug)]
pub(crate) struct Look {
    /// What is on disk; `None`: there is no log.
    pub(crate) snapshot: Option<Snapshot>,
    /// What the kernel says.
    pub(crate) kernel: KernelWitness,
    /// Why it could not be asked.
    pub(crate) unasked: Option<String>,
}

/// What an entry may use, and whether what it says waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Urgency {
    /// Nothing happens if this cannot be written.
    Before,
    /// It has happened: the reserve is for this.
    After,
}

impl Log {
    /// The log of an installation. Nothing is opened.
    pub(crate) fn new(context: &Context) -> Self {
        Self {
            directory: context.state.join("provenance"),
            state: context.state.clone(),
            trust: TrustStore::new(context),
            pins: context.pins.clone(),
            journal: PathBuf::from(journal::SOCKET),
            segment_max: store::SEGMENT_MAX,
            on_record: Arc::clone(&context.on_record),
        }
    }

    /// Its directory.
    pub(crate) fn directory(&self) -> &std::path::Path {
        &self.directory
    }

    /// Puts on record that something is about to happen. It must not happen if this fails.
    ///
    /// # Errors
    /// If the entry is not on disk for certain; refusals are `LOG_BUSY`, `LOG_BROKEN`, `UNSAFE_FILE`.
    pub(crate) fn begin(&self, mut entry: Entry) -> anyhow::Result<Begun> {
        entry.phase = Phase::Begin;
        let Written { head, instance } = self.append(&entry, Urgency::Before)?;
        self.on_record.store(true, Ordering::Relaxed);
        Ok(Begun { log: self.clone(), entry, sequence: head.sequence, instance })
    }

    /// Puts on record what has happened, and was not begun by this command. The answer is what to warn of.
    pub(crate) fn happened(&self, mut entry: Entry) -> Option<String> {
        entry.phase = Phase::Done;
        self.after(&entry)
    }

    /// Puts on record that something was asked for and refused, unless this command has said already
    /// what became of it. The answer is what to warn of.
    ///
    /// On a host that has no state directory it goes to the journal alone: a command that fails there
    /// leaves nothing behind.
    pub(crate) fn refused(&self, mut entry: Entry, error: &anyhow::Error) -> Option<String> {
        entry.phase = Phase::Refused;
        entry.error = Some(failure_of(error));
        if !rustix::process::geteuid().is_root() || self.on_record.load(Ordering::Relaxed) {
            return None;
        }
        if !self.directory.exists() {
            journal::tell_refusal(&self.journal, &entry);
            return None;
        }
        // Nothing happened, so nothing is missing if this is not there; but it is said.
        let error = self.append(&entry, Urgency::Before).err()?;
        journal::tell_refusal(&self.journal, &entry);
        Some(format!("the refusal is not in the provenance log: {error:#}"))
    }

    /// Who remembers that a trust root was installed on this node, apart from its files; `None`: nobody.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub(crate) fn remembers_root(&self) -> anyhow::Result<Option<&'static str>> {
        // Whoever cannot read what is pinned puts nothing in force there.
        let witness = Witness::open(&self.pins).ok().flatten();
        if witness.is_some_and(|witness| witness.remembers_root()) {
            return Ok(Some("the kernel"));
        }
        Ok(store::remembers_root(&self.directory)?.then_some("the provenance log"))
    }

    /// Everything that is there, and what the kernel says of it, at one moment.
    ///
    /// # Errors
    /// If it cannot be read, or somebody writes for too long.
    pub(crate) fn look(&self) -> anyhow::Result<Look> {
        let (snapshot, kernel) = Snapshot::take(&self.directory, || self.ask_kernel())?;
        Ok(match kernel {
            Ok(kernel) => Look { snapshot, kernel, unasked: None },
            Err(error) => Look {
                snapshot,
                kernel: KernelWitness::NotAsked,
                unasked: Some(format!("{error:#}")),
            },
        })
    }

    /// Keeps what is there aside, whatever it is, and begins another log that says so. The answer is where
    /// it is kept.
    ///
    /// # Errors
    /// If it cannot be moved, or nothing can be written.
    pub(crate) fn restart(&self, reason: &str) -> anyhow::Result<PathBuf> {
        let mut store = Store::open(&self.directory, Wait::LONG, self.segment_max)?;
        let name = format!("{}{}", store::ASIDE, now());
        let digest = store.set_aside(&name)?;
        let entry = Entry {
            weakening: true,
            reason: Some(reason.to_owned()),
            details: [("kept_in", name.clone()), ("sha256", digest.to_string())]
                .map(|(key, value)| (key.to_owned(), value))
                .into(),
            ..note(code::RESTARTED, "the log before this one was kept aside by an operator")
        };
        self.writer(&mut store, Origin::now(), &Tail::EMPTY, Urgency::Before)?
            .write(Tail::EMPTY, &entry)?;
        Ok(self.directory.join(name))
    }

    /// Does something that no line may come in between.
    ///
    /// # Errors
    /// If somebody writes for too long; then it is not done.
    pub(crate) fn while_nobody_writes<T>(&self, act: impl FnOnce() -> T) -> anyhow::Result<T> {
        let _store = Store::open(&self.directory, Wait::LONG, self.segment_max)
            .context("failed to lock the provenance log")?;
        Ok(act())
    }

    /// Whether this log is that of who put in force what decides: by the name of the state directory, or by
    /// the instance if that was moved.
    pub(crate) fn is_of(&self, owner: &Owner) -> bool {
        owner.has_state(&self.state) || store::is_of(&self.directory, owner.instance())
    }

    /// What the kernel knows of this log; `None` if nothing is pinned, or by another instance.
    fn own_witness(&self) -> Result<Option<Witness>, aegis_kernel::Error> {
        let is_own = |witness: &Witness| witness.owner().is_none_or(|owner| self.is_of(&owner));
        Ok(Witness::open(&self.pins)?.filter(is_own))
    }

    fn ask_kernel(&self) -> anyhow::Result<KernelWitness> {
        let boot = time::boot();
        let Some(witness) = self.own_witness()? else {
            return Ok(KernelWitness::Nothing { boot });
        };
        let kernel = Kernel::open(&self.pins)?;
        let active = crate::apply::active(kernel.as_ref())?;
        let number = |generation: &Generation| {
            (generation.number, Digest::from_bytes(generation.set_digest))
        };
        let head = |head: LogHead| KernelHead {
            head: Head { sequence: head.sequence, hash: Digest::from_bytes(head.hash) },
            written: head.written,
        };
        Ok(KernelWitness::Pinned {
            heads: witness.heads().map(head),
            active: active.as_ref().map(|(_, generation)| number(generation)),
            boot,
        })
    }

    /// Puts on record what acted without having been begun, because it must not wait for a disk. That it
    /// could not be logged is for the caller to count, once.
    ///
    /// # Errors
    /// If it is not on disk for certain.
    pub(crate) fn acted(&self, mut entry: Entry) -> anyhow::Result<()> {
        entry.phase = Phase::Done;
        self.append(&entry, Urgency::After).map(drop)
    }

    /// Counts something that acted and could not be logged.
    pub(crate) fn count_unlogged(&self) {
        if let Ok(Some(witness)) = self.own_witness() {
            witness.count_unlogged();
        }
    }

    /// Puts on record what has acted already.
    fn after(&self, entry: &Entry) -> Option<String> {
        let error = self.append(entry, Urgency::After).err()?;
        self.count_unlogged();
        Some(format!("`{}` is not in the provenance log: {error:#}", entry.command))
    }

    fn append(&self, entry: &Entry, urgency: Urgency) -> anyhow::Result<Written> {
        self.append_from(Origin::now(), entry, urgency)
    }

    fn append_from(
        &self,
        mut origin: Origin,
        entry: &Entry,
        urgency: Urgency,
    ) -> anyhow::Result<Written> {
        let failed = "failed to write to the provenance log";
        let wait = if urgency == Urgency::Before { Wait::LONG } else { Wait::SHORT };
        let mut store = Store::open(&self.directory, wait, self.segment_max).context(failed)?;
        let tail = store.tail().context(failed)?;
        // As late as it can be, so that entries are in the order of their times.
        origin.set_time();
        let mut writer = self.writer(&mut store, origin, &tail, urgency).context(failed)?;
        let head = writer.write(tail, entry).context(failed)?;
        Ok(Written { head, instance: writer.instance.unwrap_or_default() })
    }

    fn writer<'a>(
        &'a self,
        store: &'a mut Store,
        origin: Origin,
        tail: &Tail,
        urgency: Urgency,
    ) -> anyhow::Result<Writer<'a>> {
        // A witness that cannot be reached keeps nobody from writing; the entry says so. What another
        // instance has pinned knows of that one's log.
        let witness = self.own_witness().ok().flatten();
        let (head, instance) = (tail.head(), tail.instance());
        let trust_root = self.trust.has_files()
            || witness.as_ref().is_some_and(Witness::remembers_root)
            || match &tail.last {
                Some(last) => last.record.trust_root,
                None => store::remembers_root(&self.directory)?,
            };
        Ok(Writer { log: self, store, witness, origin, head, instance, trust_root, urgency })
    }
}

impl Look {
    /// Reads every entry, and holds them against each other and against witnesses.
    ///
    /// # Errors
    /// If a segment cannot be read.
    pub(crate) fn verify(
        &self,
        given: &[Digest],
        each: &mut impl FnMut(&Sealed),
    ) -> anyhow::Result<Verification> {
        let mut verifier = Verifier::new(given, self.kernel.clone());
        if let Some(snapshot) = &self.snapshot {
            snapshot.each(|name, bytes| {
                verifier.segment(name, bytes, each);
                Ok(())
            })?;
            verifier.reserve(RESERVE, &snapshot.reserve, each);
        }
        Ok(verifier.finish(now()))
    }
}

impl Begun {
    /// Whose log it is in.
    pub(crate) fn owner(&self) -> Owner {
        Owner::new(&self.instance, &self.log.state)
    }

    /// The entry so far, to be completed with what only the end knows.
    pub(crate) fn entry(&mut self) -> &mut Entry {
        &mut self.entry
    }

    /// It happened. The answer is what to warn of.
    pub(crate) fn done(mut self) -> Option<String> {
        self.entry.phase = Phase::Done;
        self.entry.begun = Some(self.sequence);
        self.log.after(&self.entry)
    }

    /// It failed and was taken back. The answer is what to warn of.
    pub(crate) fn undone(mut self, error: &anyhow::Error) -> Option<String> {
        self.entry.phase = Phase::Undone;
        self.entry.begun = Some(self.sequence);
        self.entry.effect = Effect::None;
        self.entry.error = Some(failure_of(error));
        self.log.after(&self.entry)
    }
}

/// Writes one entry, and before it what has to be said about the log itself.
struct Writer<'a> {
    log: &'a Log,
    store: &'a mut Store,
    witness: Option<Witness>,
    origin: Origin,
    head: Head,
    instance: Option<String>,
    /// Whether this node ever had a trust root.
    trust_root: bool,
    urgency: Urgency,
}

impl Writer<'_> {
    fn write(&mut self, tail: Tail, entry: &Entry) -> anyhow::Result<Head> {
        let mut notes = Vec::new();
        let last = tail.last.clone();
        if let Some(torn) = tail.torn {
            notes.push(self.store.keep_aside(&torn, self.head.sequence)?);
        }
        if let Err(error) = self.store.settle_reserve() {
            // There is no more room than before, and what has happened goes on into the reserve.
            if self.urgency == Urgency::Before {
                return Err(error);
            }
        }
        let lost = self.lost(last.as_ref())?;
        match &last {
            None => notes.push(note(code::BEGUN, "the first entry of this log")),
            Some(last) => notes.extend(self.moved(last)),
        }
        if last.is_none() || lost.is_some() || notes.iter().any(|note| is(note, code::MOVED)) {
            self.instance = None;
        }
        let found_lost = lost.is_some();
        notes.extend(lost);
        let unlogged = self.witness.as_ref().map_or(0, Witness::unlogged);
        if unlogged > 0 {
            let what = format!("{unlogged} changes were made that could not be logged");
            notes.push(note(code::UNLOGGED, &what));
        }
        if self.instance.is_none() {
            self.instance = Some(origin::new_instance()?);
        }
        for each in &notes {
            self.line(each)?;
        }
        if let Some(witness) = &self.witness {
            if found_lost {
                witness.keep_only(self.head.sequence);
            }
            witness.forget_unlogged(unlogged);
        }
        self.line(entry)?;
        Ok(self.head)
    }

    /// Writes a line: announced to the kernel, on disk, confirmed, told to the journal.
    fn line(&mut self, entry: &Entry) -> anyhow::Result<()> {
        let record = Record {
            schema: Record::SCHEMA,
            sequence: self.head.sequence + 1,
            previous: self.head.hash,
            instance: self.instance.clone().unwrap_or_default(),
            machine: self.origin.machine,
            time: self.origin.time,
            boot: self.origin.boot.clone(),
            since_boot_ms: self.origin.since_boot_ms,
            uid: self.origin.uid,
            login_uid: self.origin.login_uid,
            pid: std::process::id(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            kernel_told: self.witness.is_some(),
            trust_root: self.trust_root,
            entry: entry.clone(),
        };
        let (line, head) = seal(&record)?;
        if let Some(witness) = &self.witness {
            witness.announce(head.sequence, head.hash.bytes());
        }
        let written = fault::step(Point::LineAnnounced)
            .map_err(anyhow::Error::from)
            .and_then(|()| self.store.write(head.sequence, &line, self.urgency == Urgency::After));
        fault::passed(Point::LineWritten);
        if let Some(witness) = &self.witness {
            match &written {
                Ok(()) => {
                    witness.confirm(head.sequence);
                    if self.trust_root {
                        witness.remember_root();
                    }
                }
                Err(_) => witness.retract(head.sequence),
            }
        }
        written?;
        fault::passed(Point::LineConfirmed);
        self.head = head;
        journal::tell(&self.log.journal, &record, head);
        Ok(())
    }

    /// What the kernel knows to have been on disk and is not there.
    fn lost(&self, last: Option<&Sealed>) -> anyhow::Result<Option<Entry>> {
        let heads = self.witness.as_ref().map(Witness::heads);
        let newest = heads.into_iter().flatten().filter(|head| head.written && head.sequence > 0);
        let Some(LogHead { sequence, hash, .. }) = newest.max_by_key(|head| head.sequence) else {
            return Ok(None);
        };
        let there = match last {
            Some(last) if last.record.sequence == sequence => Some(last.hash),
            Some(last) if last.record.sequence > sequence => self.store.hash_at(sequence)?,
            _ => None,
        };
        let hash = Digest::from_bytes(hash);
        if there == Some(hash) {
            return Ok(None);
        }
        let what = format!(
            "the kernel knows that entry {sequence} with the hash {hash} was on disk, and the log \
             ended with entry {}",
            self.head.sequence
        );
        Ok(Some(note(code::LOST, &what)))
    }

    /// Whether the state comes from another machine.
    fn moved(&self, last: &Sealed) -> Option<Entry> {
        let (before, now) = (last.record.machine?, self.origin.machine?);
        (before != now)
            .then(|| note(code::MOVED, "the entries before this one are of another machine"))
    }
}

fn note(code: &str, message: &str) -> Entry {
    Entry {
        command: LOG.to_owned(),
        phase: Phase::Note,
        error: Some(Failure { code: code.to_owned(), message: message.to_owned() }),
        ..Entry::default()
    }
}

fn is(entry: &Entry, code: &str) -> bool {
    entry.error.as_ref().is_some_and(|error| error.code == code)
}

/// Why something did not happen, as the log has it.
pub(crate) fn failure_of(error: &anyhow::Error) -> Failure {
    let told = failure::tell(error);
    Failure { code: told.code.to_owned(), message: shortened(told.message) }
}

/// A generation and its set, as the log has them.
pub(crate) fn in_force(generation: &Generation, stored: &StoredSet) -> InForce {
    let policies = stored.set.iter().map(|(policy, mode)| {
        let signature = stored.signatures.get(&policy.name);
        PolicyInForce {
            name: policy.name.clone(),
            version: policy.version,
            mode: mode.name().to_owned(),
            policy_digest: Digest::from_bytes(policy.digest),
            bundle_digest: signature.and_then(|signed| Digest::from_hex(&signed.bundle_digest)),
            key_ids: signature
                .map_or_else(Vec::new, |signed| signed.signers.iter().cloned().collect()),
            source: signature.and_then(Signature::origin),
        }
    });
    InForce {
        generation: generation.number,
        set_digest: Digest::from_bytes(generation.set_digest),
        policies: policies.collect(),
    }
}

/// What came of each path of a proof, as the log has it.
pub(crate) fn proof_of(proof: &Proof) -> BTreeMap<String, String> {
    let result =
        |path: &crate::proof::PathProof| (path.path.clone(), path.result.name().to_owned());
    proof.paths.iter().map(result).collect()
}

/// How long each step of a command took, as the log has it.
pub(crate) fn steps_of(taken: &[(&'static str, std::time::Duration)]) -> Vec<Step> {
    let us = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    taken.iter().map(|(step, time)| Step { step: (*step).to_owned(), us: us(*time) }).collect()
}

/// A message may carry what a verifier or somebody else wrote; an entry has bounds.
fn shortened(mut text: String) -> String {
    if text.len() > TEXT_MAX {
        let end = (0..=TEXT_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

const TEXT_MAX: usize = 4096;
