// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The one consumer of the ring: events → lines of JSON in `events.jsonl`, where all others read.
//!
//! Whoever holds the lock takes events: the agent while it runs, else each command that wants some.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, BufReader, Write as _},
    os::{
        fd::BorrowedFd,
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use aegis_kernel::{Events, Kernel, Slot};
use aegis_policy::{BuiltIn, Ruleset};
use anyhow::Context as _;
use serde_json::{Value, json};

use crate::{context::Context, decoder::Decoder, files, instances, lock::Lock, state::StoredSet};

/// The right to take events, and the log that they go to.
#[derive(Debug)]
pub(crate) struct EventLog<'kernel> {
    kernel: &'kernel Kernel,
    events: Events<'kernel>,
    decoder: RefCell<Decoder>,
    path: PathBuf,
    drops: PathBuf,
    _lock: Lock,
}

/// What a proof looks for among the events.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) rule: u32,
    pub(crate) generation: u64,
    pub(crate) pid: u32,
}

impl<'kernel> EventLog<'kernel> {
    /// Becomes the consumer, unless somebody is: another process, or the instance whose rules these are.
    pub(crate) fn open(context: &Context, kernel: &'kernel Kernel) -> anyhow::Result<Option<Self>> {
        if instances::another(context, kernel).is_some() {
            return Ok(None);
        }
        files::make_directory(&context.run)?;
        let Some(lock) = Lock::try_take(&context.run.join("events.lock"), "events")? else {
            return Ok(None);
        };
        Ok(Some(Self {
            kernel,
            events: kernel.events().context("failed to open the ring of events")?,
            decoder: RefCell::new(Decoder::new(context)),
            path: path(context),
            drops: context.run.join("drops.json"),
            _lock: lock,
        }))
    }

    /// What a generation was made from, for a caller who knows it already.
    pub(crate) fn know(&self, generation: u64, stored: &StoredSet, ruleset: &Rc<Ruleset>) {
        self.decoder.borrow_mut().know(generation, stored, ruleset);
    }

    /// Takes all events that are there into the log.
    pub(crate) fn drain(&self) -> anyhow::Result<Vec<Seen>> {
        let lost = self.newly_lost()?;
        let taken = self.events.take(Duration::ZERO, lost).context("failed to take events")?;
        self.decoder.borrow_mut().retry();
        let mut seen = Vec::with_capacity(taken.len());
        let mut lines = String::new();
        for taken in taken {
            let line = match &taken.event {
                Ok(event) => {
                    let (rule, generation, pid) = (event.rule, event.generation, event.pid);
                    seen.push(Seen { rule, generation, pid });
                    self.decoder.borrow_mut().record(self.kernel, taken.sequence, event)
                }
                Err(bad) => json!({ "seq": taken.sequence, "error": bad.to_string() }),
            };
            lines.push_str(&line.to_string());
            lines.push('\n');
        }
        if !lines.is_empty() {
            self.append(&lines)
                .with_context(|| format!("failed to write to {}", self.path.display()))?;
        }
        Ok(seen)
    }

    /// Becomes readable when there are events.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    fn append(&self, lines: &str) -> io::Result<()> {
        let full = fs::metadata(&self.path).is_ok_and(|file| file.len() > ROTATE);
        if full {
            fs::rename(&self.path, older(&self.path))?;
        }
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?;
        file.write_all(lines.as_bytes())
    }

    /// Events that were dropped since somebody last asked.
    fn newly_lost(&self) -> anyhow::Result<u64> {
        let before: BTreeMap<u64, u64> = fs::read(&self.drops)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        // Those of programs that others took over from may still be asked for.
        let mut now = before.clone();
        for slot in Slot::all() {
            if let Some(generation) = self.kernel.generation(slot)? {
                let counts = self.kernel.counts(slot).context("failed to read the counters")?;
                now.insert(generation.number, counts.values().map(|count| count.drops).sum());
            }
        }
        let lost = now.iter().map(|(generation, drops): (&u64, &u64)| {
            drops.saturating_sub(before.get(generation).copied().unwrap_or(0))
        });
        let lost = lost.sum();
        while now.len() > DROPS_KEPT {
            now.pop_first();
        }
        if before != now {
            let bytes = serde_json::to_vec(&now).context("failed to write drops as JSON")?;
            files::write_whole(&self.drops, &bytes)?;
        }
        Ok(lost)
    }
}

/// Takes what is in the ring, if nobody else does.
pub(crate) fn drain_if_free(context: &Context, kernel: &Kernel) -> anyhow::Result<()> {
    if let Some(log) = EventLog::open(context, kernel)? {
        log.drain()?;
    }
    Ok(())
}

/// Reads the log from its beginning, and then what is added.
#[derive(Debug)]
pub(crate) struct Reader {
    path: PathBuf,
    file: Option<BufReader<File>>,
    /// A line whose end was not there yet.
    torn: String,
}

impl Reader {
    pub(crate) fn new(context: &Context) -> Self {
        Self { path: path(context), file: None, torn: String::new() }
    }

    /// Everything that was not read before.
    pub(crate) fn read(&mut self) -> anyhow::Result<Vec<Value>> {
        let failed = || format!("failed to read {}", self.path.display());
        let mut records = Vec::new();
        if self.file.is_none()
            && let Some(file) = open(&older(&self.path)).with_context(failed)?
        {
            read_from(&mut BufReader::new(file), &mut self.torn, &mut records)
                .with_context(failed)?;
        }
        loop {
            if let Some(file) = &mut self.file {
                read_from(file, &mut self.torn, &mut records).with_context(failed)?;
            }
            // The one that is being written may be another by now.
            let there = fs::metadata(&self.path).ok().map(|file| file.ino());
            let ours = self.file.as_ref().and_then(|file| file.get_ref().metadata().ok());
            if there.is_none() || there == ours.map(|file| file.ino()) {
                return Ok(records);
            }
            self.file = open(&self.path).with_context(failed)?.map(BufReader::new);
        }
    }
}

/// Whether an event is of the proof, which happens all the time.
pub(crate) fn is_of_proof(record: &Value) -> bool {
    let is = |field, text| record.get(field).and_then(Value::as_str) == Some(text);
    is("policy", BuiltIn::POLICY) || is("cgroup", BuiltIn::SCRATCH_CGROUP)
}

fn read_from(
    file: &mut BufReader<File>,
    torn: &mut String,
    records: &mut Vec<Value>,
) -> io::Result<()> {
    loop {
        let mut bytes = Vec::new();
        if file.read_until(b'\n', &mut bytes)? == 0 {
            return Ok(());
        }
        torn.push_str(&String::from_utf8_lossy(&bytes));
        if torn.ends_with('\n') {
            // A line that a killed process left torn is no event.
            records.extend(serde_json::from_str::<Value>(torn.trim_end()).ok());
            torn.clear();
        }
    }
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The log that is written now.
pub(crate) fn path(context: &Context) -> PathBuf {
    context.run.join("events.jsonl")
}

fn older(path: &Path) -> PathBuf {
    path.with_extension("jsonl.1")
}

/// Generations whose drops are remembered: twice as many as there are slots.
const DROPS_KEPT: usize = 8;

/// Bytes after which a log becomes the older one, and the older one is forgotten.
const ROTATE: u64 = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tests::Scratch;

    fn context(scratch: &Scratch) -> Context {
        Context {
            root: scratch.0.clone(),
            config: crate::config::Config::default(),
            unconfigured: false,
            state: scratch.0.join("state"),
            run: scratch.0.clone(),
            bpffs: scratch.0.clone(),
            pins: scratch.0.join("pins"),
            on_record: std::sync::Arc::default(),
            patience: None,
            unit: None,
        }
    }

    fn numbers(records: &[Value]) -> Vec<u64> {
        records.iter().filter_map(|record| record["seq"].as_u64()).collect()
    }

    #[test]
    fn a_reader_follows_the_log_over_a_rotation() {
        let scratch = Scratch::new();
        let context = context(&scratch);
        let path = path(&context);
        fs::write(older(&path), "{\"seq\":1}\n").unwrap();
        fs::write(&path, "{\"seq\":2}\n{\"se").unwrap();
        let mut reader = Reader::new(&context);
        assert_eq!(numbers(&reader.read().unwrap()), [1, 2]);
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"q\":3}\nnonsense\n").unwrap();
        assert_eq!(numbers(&reader.read().unwrap()), [3]);
        file.write_all(b"{\"seq\":4}\n").unwrap();
        fs::rename(&path, older(&path)).unwrap();
        fs::write(&path, "{\"seq\":5}\n").unwrap();
        assert_eq!(numbers(&reader.read().unwrap()), [4, 5]);
    }
}
