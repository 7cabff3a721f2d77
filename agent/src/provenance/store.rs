// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The files of the log: segments that only grow, a reserve for a full disk, one lock.
//!
//! The lock is on the directory itself, so that taking it needs no room on the disk. Who reads holds it
//! only while looking how long the segments are: they only grow.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use aegis_trust::{
    Digest,
    provenance::{
        BadLine, Entry, Failure, Head, LOG, Phase, Sealed, code, read_line, reserve_lines,
        segment_name,
    },
};
use anyhow::Context as _;
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use crate::{failure::Refusal, files};

/// The log's directory, locked for writing.
#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
    _lock: File,
    /// By their first entry, in order.
    segments: Vec<u64>,
    /// Lines in the reserve that no segment has.
    pending: Vec<Vec<u8>>,
    /// Bytes of the reserve that are not zero.
    reserved: usize,
    segment_max: u64,
}

/// Where a log ends.
#[derive(Debug)]
pub(super) struct Tail {
    /// Its newest line.
    pub(super) last: Option<Sealed>,
    /// What follows it and is no line.
    pub(super) torn: Option<Torn>,
}

impl Tail {
    /// Of a log without a line.
    pub(super) const EMPTY: Self = Self { last: None, torn: None };

    pub(super) fn head(&self) -> Head {
        self.last.as_ref().map_or(Head::NONE, Sealed::head)
    }

    pub(super) fn instance(&self) -> Option<String> {
        self.last.as_ref().map(|last| last.record.instance.clone())
    }
}

/// Bytes of a line that was not finished.
#[derive(Debug)]
pub(super) struct Torn {
    file: PathBuf,
    offset: u64,
    bytes: Vec<u8>,
}

/// How long is waited for somebody else who writes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait(Duration);

impl Wait {
    pub(super) const LONG: Self = Self(Duration::from_secs(10));
    /// Whatever it is has happened, and nobody waits for long at such a time.
    pub(super) const SHORT: Self = Self(Duration::from_secs(2));
}

/// A log as it is at one moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    path: PathBuf,
    /// Name and length of each segment.
    segments: Vec<(String, u64)>,
    /// The reserve, with its zeros.
    pub(crate) reserve: Vec<u8>,
}

impl Store {
    /// Opens the directory, made if there is none, and locks it.
    pub(super) fn open(path: &Path, wait: Wait, segment_max: u64) -> anyhow::Result<Self> {
        files::make_directory(path)?;
        let lock = lock(path, FlockOperation::NonBlockingLockExclusive, wait)?;
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
            segments: segments(path)?,
            pending: Vec::new(),
            reserved: 0,
            segment_max,
        })
    }

    /// Finds the end of the log.
    pub(super) fn tail(&mut self) -> anyhow::Result<Tail> {
        let mut tail = self.tail_of_segments()?;
        let bytes = match files::read_trusted(&self.path.join(RESERVE), RESERVE_SIZE * 2) {
            Err(error) if files::is_missing(&error) => return Ok(tail),
            bytes => bytes?,
        };
        let (lines, rest) = reserve_lines(&bytes);
        for line in lines {
            let sealed = read_line(line).map_err(|error| broken(RESERVE, &error))?;
            let head = tail.head();
            // The others are in a segment, and a kill came before they were cleared here.
            if sealed.record.sequence > head.sequence {
                if sealed.record.sequence != head.sequence + 1
                    || sealed.record.previous != head.hash
                {
                    return Err(does_not_follow(RESERVE).into());
                }
                self.pending.push([line, b"\n"].concat());
                tail.last = Some(sealed);
            }
            self.reserved += line.len() + 1;
        }
        if !rest.is_empty() && tail.torn.is_none() {
            tail.torn = Some(Torn {
                file: self.path.join(RESERVE),
                offset: u64::try_from(self.reserved)?,
                bytes: rest.to_vec(),
            });
        }
        Ok(tail)
    }

    fn tail_of_segments(&self) -> anyhow::Result<Tail> {
        let mut torn = None;
        for (from_end, first) in self.segments.iter().rev().enumerate() {
            let file = self.path.join(segment_name(*first));
            let bytes = files::read_trusted(&file, SEGMENT_READ)?;
            let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
            let (whole, rest) = bytes.split_at(whole);
            if !rest.is_empty() {
                if from_end > 0 {
                    return Err(does_not_follow(&segment_name(*first)).into());
                }
                let offset = u64::try_from(whole.len())?;
                torn = Some(Torn { file, offset, bytes: rest.to_vec() });
            }
            let Some(line) = whole.strip_suffix(b"\n") else { continue };
            let start = line.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
            let line = line.get(start..).unwrap_or_default();
            let last = read_line(line).map_err(|error| broken(&segment_name(*first), &error))?;
            return Ok(Tail { last: Some(last), torn });
        }
        Ok(Tail { last: None, torn })
    }

    /// Takes what is no line out of the log, and keeps it in a file of its own.
    pub(super) fn keep_aside(&mut self, torn: &Torn, after: u64) -> anyhow::Result<Entry> {
        let digest = Digest::of(&torn.bytes).to_string();
        let name = format!("torn-{:020}-{}", after + 1, digest.get(..16).unwrap_or_default());
        files::write_whole(&self.path.join(&name), &torn.bytes)?;
        let failed = || format!("failed to write to {}", torn.file.display());
        let file = OpenOptions::new().write(true).open(&torn.file).with_context(failed)?;
        if torn.file.ends_with(RESERVE) {
            file.write_all_at(&vec![0; torn.bytes.len()], torn.offset).with_context(failed)?;
        } else {
            file.set_len(torn.offset).with_context(failed)?;
        }
        file.sync_all().with_context(failed)?;
        let from = torn.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let message = format!(
            "{} bytes after entry {after} were no whole line: a write that was cut off",
            torn.bytes.len()
        );
        Ok(Entry {
            command: LOG.to_owned(),
            phase: Phase::Note,
            error: Some(Failure { code: code::TORN.to_owned(), message }),
            details: [("from", from), ("kept_in", name), ("sha256", digest)]
                .map(|(key, value)| (key.to_owned(), value))
                .into(),
            ..Entry::default()
        })
    }

    /// Moves what the reserve holds to a segment, if there is room by now, and makes the reserve anew if
    /// it is gone.
    pub(super) fn settle_reserve(&mut self) -> anyhow::Result<()> {
        while let Some(line) = self.pending.first().cloned() {
            let sealed = read_line(line.strip_suffix(b"\n").unwrap_or(&line))
                .map_err(|error| broken(RESERVE, &error))?;
            self.append(sealed.record.sequence, &line)?;
            self.pending.remove(0);
        }
        let path = self.path.join(RESERVE);
        let there = fs::symlink_metadata(&path).is_ok_and(|found| found.len() == RESERVE_SIZE);
        if !there {
            files::write_whole(&path, &vec![0; usize::try_from(RESERVE_SIZE)?])?;
        } else if self.reserved > 0 {
            let failed = || format!("failed to clear {}", path.display());
            let file = OpenOptions::new().write(true).open(&path).with_context(failed)?;
            file.write_all_at(&vec![0; self.reserved], 0).with_context(failed)?;
            file.sync_data().with_context(failed)?;
        }
        self.reserved = 0;
        Ok(())
    }

    /// Writes a line behind the last, on disk when this returns.
    pub(super) fn write(
        &mut self,
        sequence: u64,
        line: &str,
        may_use_reserve: bool,
    ) -> anyhow::Result<()> {
        // Whatever is in the reserve comes first.
        let written = if self.pending.is_empty() {
            self.append(sequence, line.as_bytes())
        } else {
            Err(io::Error::from(Errno::NOSPC))
                .with_context(|| format!("failed to empty {}", self.path.join(RESERVE).display()))
        };
        match written {
            // If the reserve takes it no more either, the first failure says what is wrong.
            Err(error) if may_use_reserve => self.reserve(line.as_bytes()).or(Err(error)),
            written => written,
        }
    }

    /// The hash of an entry that is not the last.
    pub(super) fn hash_at(&self, sequence: u64) -> anyhow::Result<Option<Digest>> {
        let Some(first) = self.segments.iter().rev().find(|first| **first <= sequence) else {
            return Ok(None);
        };
        let bytes = files::read_trusted(&self.path.join(segment_name(*first)), SEGMENT_READ)?;
        let lines = bytes.split(|byte| *byte == b'\n').filter_map(|line| read_line(line).ok());
        let mut lines = lines.chain(
            self.pending
                .iter()
                .filter_map(|line| read_line(line.strip_suffix(b"\n").unwrap_or(line)).ok()),
        );
        let found = lines.find(|sealed| sealed.record.sequence == sequence);
        Ok(found.map(|sealed| sealed.hash))
    }

    /// Moves everything that is there into a directory beside it; its name, and the digest of what the
    /// segments hold.
    pub(super) fn set_aside(&mut self, name: &str) -> anyhow::Result<Digest> {
        let aside = self.path.join(name);
        files::make_directory(&aside)?;
        let mut all = Vec::new();
        let failed = || format!("failed to keep the log aside in {}", aside.display());
        for first in self.segments.drain(..) {
            let segment = self.path.join(segment_name(first));
            all.extend(files::read_trusted(&segment, u64::MAX >> 1)?);
            fs::rename(&segment, aside.join(segment_name(first))).with_context(failed)?;
        }
        match fs::rename(self.path.join(RESERVE), aside.join(RESERVE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            moved => moved.with_context(failed)?,
        }
        files::sync_directory_of(&aside.join(RESERVE)).with_context(failed)?;
        files::sync_directory_of(&aside).with_context(failed)?;
        Ok(Digest::of(&all))
    }

    fn append(&mut self, sequence: u64, line: &[u8]) -> anyhow::Result<()> {
        let added = u64::try_from(line.len())?;
        let last = self.segments.last().map(|first| self.path.join(segment_name(*first)));
        let room = match &last {
            Some(path) => {
                let length = fs::symlink_metadata(path)
                    .with_context(|| format!("failed to look at {}", path.display()))?
                    .len();
                (length == 0 || length + added <= self.segment_max).then_some((path, length))
            }
            None => None,
        };
        if let Some((path, length)) = room {
            return append(path, length, line);
        }
        let path = self.path.join(segment_name(sequence));
        let failed = || format!("failed to write {}", path.display());
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        made.and_then(|_| files::sync_directory_of(&path)).with_context(failed)?;
        self.segments.push(sequence);
        append(&path, 0, line)
    }

    pub(super) fn reserve(&mut self, line: &[u8]) -> anyhow::Result<()> {
        let path = self.path.join(RESERVE);
        let failed = || format!("failed to write to {}", path.display());
        let end = self.reserved + line.len();
        if u64::try_from(end)? > RESERVE_SIZE {
            return Err(io::Error::from(Errno::NOSPC)).with_context(failed);
        }
        let file = OpenOptions::new().write(true).open(&path).with_context(failed)?;
        file.write_all_at(line, u64::try_from(self.reserved)?).with_context(failed)?;
        file.sync_data().with_context(failed)?;
        self.reserved = end;
        self.pending.push(line.to_vec());
        Ok(())
    }
}

/// Whether the newest line that can be read, here or in a log that was kept aside, says that a trust
/// root was installed. Nobody is waited for: no line says less of it than the one before.
pub(super) fn remembers_root(path: &Path) -> anyhow::Result<bool> {
    let mut logs = aside(path)?;
    logs.push(path.to_owned());
    for log in logs {
        let segments = segments(&log)?.into_iter().rev().map(segment_name);
        // What the reserve holds may be newer than all segments, or older than the last.
        let newest = [newest(&log, [RESERVE.to_owned()])?, newest(&log, segments)?];
        if newest.iter().flatten().any(|line| line.record.trust_root) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the newest line that can be read is of this instance.
pub(super) fn is_of(path: &Path, instance: &str) -> bool {
    let segments = segments(path).unwrap_or_default().into_iter().rev().map(segment_name);
    let lines = [newest(path, [RESERVE.to_owned()]), newest(path, segments)];
    lines.iter().flatten().flatten().any(|line| line.record.instance == instance)
}

/// The last line that can be read in the first file that has one.
fn newest(log: &Path, files: impl IntoIterator<Item = String>) -> anyhow::Result<Option<Sealed>> {
    for name in files {
        let bytes = match files::read_trusted(&log.join(name), SEGMENT_READ) {
            Err(error) if files::is_missing(&error) => continue,
            bytes => bytes?,
        };
        let mut lines = bytes.rsplit(|byte| matches!(byte, b'\n' | 0));
        if let Some(line) = lines.find_map(|line| read_line(line).ok()) {
            return Ok(Some(line));
        }
    }
    Ok(None)
}

impl Snapshot {
    /// Looks how long everything is while nobody writes; what `also` looks at belongs to it.
    pub(super) fn take<T>(
        path: &Path,
        also: impl FnOnce() -> T,
    ) -> anyhow::Result<(Option<Self>, T)> {
        let there = fs::symlink_metadata(path);
        if there.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return Ok((None, also()));
        }
        let _lock = lock(path, FlockOperation::NonBlockingLockShared, Wait::LONG)?;
        let length = |first: &u64| {
            let name = segment_name(*first);
            let found = fs::symlink_metadata(path.join(&name))
                .with_context(|| format!("failed to look at {}", path.join(&name).display()))?;
            anyhow::Ok((name, found.len()))
        };
        let segments = segments(path)?.iter().map(length).collect::<anyhow::Result<_>>()?;
        let reserve = match files::read_trusted(&path.join(RESERVE), RESERVE_SIZE * 2) {
            Err(error) if files::is_missing(&error) => Vec::new(),
            reserve => reserve?,
        };
        Ok((Some(Self { path: path.to_owned(), segments, reserve }), also()))
    }

    /// Hands out each segment, by name, as it was then.
    pub(crate) fn each(
        &self,
        mut with: impl FnMut(&str, &[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        for (name, length) in &self.segments {
            let mut bytes = files::read_trusted(&self.path.join(name), SEGMENT_READ)?;
            bytes.truncate(usize::try_from(*length)?);
            with(name, &bytes)?;
        }
        Ok(())
    }
}

fn lock(path: &Path, operation: FlockOperation, Wait(wait): Wait) -> anyhow::Result<File> {
    let directory = files::open_trusted_directory(path)?;
    let until = Instant::now() + wait;
    loop {
        match flock(&directory, operation) {
            Ok(()) => return Ok(directory),
            Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(Errno::WOULDBLOCK) => {
                let what = format!("another process has locked {} for long", path.display());
                return Err(Refusal::new("LOG_BUSY", what)
                    .hint("find it with `lsof` and see what it waits for, then do this again")
                    .into());
            }
            Err(error) => {
                return Err(io::Error::from(error))
                    .with_context(|| format!("failed to lock {}", path.display()));
            }
        }
    }
}

/// The first entry of each segment, in order.
fn segments(path: &Path) -> anyhow::Result<Vec<u64>> {
    let first = |name: &str| {
        let first = name.strip_prefix("segment-")?.strip_suffix(".jsonl")?.parse::<u64>().ok()?;
        (segment_name(first) == name).then_some(first)
    };
    listed(path, first)
}

/// Where logs before this one are kept, in order.
fn aside(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    listed(path, |name| name.starts_with(ASIDE).then(|| path.join(name)))
}

/// What is there of one kind, in order; nothing if there is no log.
fn listed<T: Ord>(path: &Path, kind: impl Fn(&str) -> Option<T>) -> anyhow::Result<Vec<T>> {
    let failed = || format!("failed to list {}", path.display());
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.with_context(failed)?.file_name();
        found.extend(name.to_str().and_then(&kind));
    }
    found.sort_unstable();
    Ok(found)
}

fn append(path: &Path, length: u64, line: &[u8]) -> anyhow::Result<()> {
    let failed = || format!("failed to write to {}", path.display());
    let flags = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits())?;
    let mut file =
        OpenOptions::new().append(true).custom_flags(flags).open(path).with_context(failed)?;
    let whole = file.write_all(line).and_then(|()| file.sync_data());
    if let Err(error) = whole {
        // Half a line would spoil the next one as well.
        file.set_len(length).with_context(failed)?;
        return Err(error).with_context(failed);
    }
    Ok(())
}

fn broken(file: &str, error: &BadLine) -> Refusal {
    refuse(&format!("the last line of {file} cannot be read: {error}"))
}

fn does_not_follow(file: &str) -> Refusal {
    refuse(&format!("the last lines do not follow each other in {file}"))
}

fn refuse(what: &str) -> Refusal {
    Refusal::new("LOG_BROKEN", format!("the provenance log cannot be gone on with: {what}")).hint(
        "see `aegisbpf provenance verify`; to keep this log aside and begin another one: `aegisbpf \
         provenance restart --reason …`",
    )
}

/// How the name of a directory begins that a log was moved to.
pub(super) const ASIDE: &str = "aside-";

/// What is kept free for what must be logged when the disk is full.
pub(crate) const RESERVE: &str = "reserve";

const RESERVE_SIZE: u64 = 64 << 10;

/// A segment that is longer takes no more lines.
pub(super) const SEGMENT_MAX: u64 = 1 << 20;

/// More than a segment can have.
const SEGMENT_READ: u64 = 4 << 20;
