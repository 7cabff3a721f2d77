// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whether a log is whole, and whether it says what its witnesses say.

use super::{BadLine, Head, Held, Phase, Sealed, Time, code, read_line};
use crate::Digest;

/// Reads a log segment by segment, and holds it against its witnesses.
#[derive(Debug)]
pub struct Verifier {
    given: Vec<(Digest, Option<u64>)>,
    kernel: KernelWitness,
    /// The hash in the log at the sequence of the kernel's newest and announced head.
    at_kernel: [Option<Digest>; 2],
    /// Entries after the kernel's head of which it should have been told.
    beyond: u64,
    segments: usize,
    entries: u64,
    head: Head,
    last_time: Time,
    instance: Option<String>,
    faults: Vec<Fault>,
    torn: Option<Torn>,
    noted: Vec<Noted>,
    held: Held,
}

/// What the kernel's control map says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KernelWitness {
    /// It could not be asked.
    #[default]
    NotAsked,
    /// Nothing of ours is in the kernel.
    Nothing {
        /// The present boot.
        boot: Option<String>,
    },
    /// Something is.
    Pinned {
        /// The two heads that it knows.
        heads: [KernelHead; 2],
        /// Number and set of the active generation.
        active: Option<(u64, Digest)>,
        /// The present boot.
        boot: Option<String>,
    },
}

/// A head as the kernel knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelHead {
    /// The line; sequence 0: none.
    pub head: Head,
    /// Whether the line was on disk when the kernel was told last; if not, it was about to be.
    pub written: bool,
}

impl KernelHead {
    /// No head.
    pub const NONE: Self = Self { head: Head::NONE, written: false };
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Stable, for programs.
    pub code: &'static str,
    /// Where: a segment and a line, or a witness.
    pub place: String,
    /// What.
    pub message: String,
}

/// Bytes at the end of a log that are no whole line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// The segment.
    pub segment: String,
    /// Where in it they begin.
    pub offset: usize,
    /// How many.
    pub bytes: usize,
}

/// What the log says of itself: something was lost, kept aside, or could not be logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    /// The entry.
    pub sequence: u64,
    /// Its code.
    pub code: String,
    /// When.
    pub time: Time,
    /// What it says.
    pub message: String,
    /// Whether something is missing there, for which nobody has vouched.
    pub loss: bool,
}

/// What came of verifying.
#[derive(Clone, Debug)]
pub struct Verification {
    /// How many segments were read.
    pub segments: usize,
    /// How many entries.
    pub entries: u64,
    /// The newest line.
    pub head: Head,
    /// When the newest line was made.
    pub last_time: Time,
    /// The log's own id, as its newest line has it.
    pub instance: Option<String>,
    /// What is not as it should be; none: the log is whole, as far as its witnesses can show.
    pub faults: Vec<Fault>,
    /// A last line that was not finished.
    pub torn: Option<Torn>,
    /// What the log says of itself.
    pub noted: Vec<Noted>,
    /// The entry up to which the kernel confirms the log.
    pub kernel_confirms: Option<u64>,
    /// The newest entry whose hash was given by whoever asked.
    pub given_confirms: Option<u64>,
    /// What holds now, as the log says.
    pub held: Held,
}

impl Verification {
    /// Whether every entry that was ever made is there as it was made, as far as witnesses can show.
    pub fn is_whole(&self) -> bool {
        self.faults.is_empty() && self.torn.is_none() && !self.noted.iter().any(|noted| noted.loss)
    }
}

impl Verifier {
    /// Begins; each of `given` is a hash that must be one of the log's.
    pub fn new(given: &[Digest], kernel: KernelWitness) -> Self {
        Self {
            given: given.iter().map(|hash| (*hash, None)).collect(),
            kernel,
            at_kernel: [None; 2],
            beyond: 0,
            segments: 0,
            entries: 0,
            head: Head::NONE,
            last_time: Time::default(),
            instance: None,
            faults: Vec::new(),
            torn: None,
            noted: Vec::new(),
            held: Held::default(),
        }
    }

    /// Reads the next segment; `each` is handed every line that can be read.
    pub fn segment(&mut self, name: &str, bytes: &[u8], each: &mut impl FnMut(&Sealed)) {
        self.segments += 1;
        if let Some(torn) = self.torn.take() {
            let message = "its last line is not finished, and others follow it";
            self.fault("BROKEN_LINE", torn.segment, message);
        }
        let mut offset = 0;
        for (number, line) in (1..).zip(bytes.split_inclusive(|byte| *byte == b'\n')) {
            let place = || format!("{name}:{number}");
            match line.strip_suffix(b"\n") {
                None => {
                    self.torn = Some(Torn { segment: name.to_owned(), offset, bytes: line.len() });
                }
                Some(whole) => match read_line(whole) {
                    Ok(sealed) => {
                        if number == 1 {
                            self.named(name, &sealed);
                        }
                        self.line(&place, &sealed);
                        each(&sealed);
                    }
                    Err(error) => self.unreadable(place(), &error),
                },
            }
            offset += line.len();
        }
    }

    /// Reads the reserve, which holds what found no room elsewhere, before zeros.
    pub fn reserve(&mut self, name: &str, bytes: &[u8], each: &mut impl FnMut(&Sealed)) {
        let (lines, rest) = reserve_lines(bytes);
        if lines.is_empty() && rest.is_empty() {
            return;
        }
        for (number, line) in (1..).zip(lines) {
            let place = || format!("{name}:{number}");
            match read_line(line) {
                // Moved to a segment already; a kill came before it was cleared here.
                Ok(sealed) if sealed.record.sequence <= self.head.sequence => {}
                Ok(sealed) => {
                    self.line(&place, &sealed);
                    each(&sealed);
                }
                Err(error) => self.unreadable(place(), &error),
            }
        }
        if !rest.is_empty() && self.torn.is_none() {
            let torn = Torn { segment: name.to_owned(), offset: 0, bytes: rest.len() };
            self.torn = Some(torn);
        }
    }

    /// Ends; `now` decides about what the kernel takes back by itself.
    pub fn finish(mut self, now: Time) -> Verification {
        self.held.lapse(now);
        let kernel_confirms = self.compare_heads();
        self.compare_active();
        let lost: Vec<Digest> =
            self.given.iter().filter(|(_, at)| at.is_none()).map(|(hash, _)| *hash).collect();
        for hash in lost {
            self.fault("HEAD_UNKNOWN", hash.to_string(), "no entry of the log has this hash");
        }
        let given_confirms = self.given.iter().filter_map(|(_, at)| *at).max();
        for noted in &mut self.noted {
            noted.loss &= given_confirms.is_none_or(|vouched| noted.sequence > vouched);
        }
        Verification {
            segments: self.segments,
            entries: self.entries,
            head: self.head,
            last_time: self.last_time,
            instance: self.instance,
            faults: self.faults,
            torn: self.torn,
            noted: self.noted,
            kernel_confirms,
            given_confirms,
            held: self.held,
        }
    }

    fn line(&mut self, place: &impl Fn() -> String, sealed: &Sealed) {
        let record = &sealed.record;
        let next = self.head.sequence.saturating_add(1);
        if record.sequence != next {
            let message = match (self.head.sequence, record.sequence > next) {
                (0, true) => format!("it is entry {}, and nothing is before it", record.sequence),
                (last, true) => format!("it is entry {} after entry {last}", record.sequence),
                (last, false) => format!("it is entry {} again, after {last}", record.sequence),
            };
            self.fault("ENTRIES_MISSING", place(), &message);
        } else if record.previous != self.head.hash {
            let message = format!("it does not follow entry {}: that has another hash", next - 1);
            self.fault("BROKEN_CHAIN", place(), &message);
        }
        self.entries += 1;
        self.head = sealed.head();
        self.last_time = record.time;
        self.instance = Some(record.instance.clone());
        for (hash, at) in &mut self.given {
            if *hash == sealed.hash {
                *at = Some(record.sequence);
            }
        }
        let [newest, announced] = self.kernel.heads();
        for (at, known) in self.at_kernel.iter_mut().zip([newest, announced]) {
            if known.head.sequence == record.sequence {
                *at = Some(sealed.hash);
            }
        }
        if record.kernel_told && record.sequence > newest.head.sequence {
            self.beyond += 1;
        }
        if let Some(code) = record.log_code().filter(|_| record.entry.phase == Phase::Note) {
            let error = record.entry.error.as_ref();
            self.noted.push(Noted {
                sequence: record.sequence,
                code: code.to_owned(),
                time: record.time,
                message: error.map(|error| error.message.clone()).unwrap_or_default(),
                loss: code::is_loss(code),
            });
        }
        self.held.take(sealed);
    }

    /// A segment is named by its first entry; other files may hold a log as well.
    fn named(&mut self, name: &str, sealed: &Sealed) {
        if name.starts_with(SEGMENT) && name != segment_name(sealed.record.sequence) {
            let message = format!("its first entry is {}", sealed.record.sequence);
            self.fault("MISPLACED", name.to_owned(), &message);
        }
    }

    fn unreadable(&mut self, place: String, error: &BadLine) {
        self.fault("BAD_LINE", place, &error.to_string());
    }

    /// Holds the newest head that the kernel knows to have been on disk against the log.
    fn compare_heads(&mut self) -> Option<u64> {
        let [newest, announced] = self.kernel.heads();
        let Head { sequence, hash } = newest.head;
        let [at_newest, at_announced] = self.at_kernel;
        if sequence > 0 {
            match at_newest {
                Some(found) if found == hash => {}
                Some(_) => {
                    let message = format!("entry {sequence} was {hash}, and is another one now");
                    self.fault("KERNEL_HEAD", "the kernel".to_owned(), &message);
                    return None;
                }
                None => {
                    let message = format!(
                        "entry {sequence} ({hash}) was on disk, and the log ends with entry {}",
                        self.head.sequence
                    );
                    self.fault("KERNEL_HEAD", "the kernel".to_owned(), &message);
                    return None;
                }
            }
        }
        let finished = at_announced.is_some() && at_announced == Some(announced.head.hash);
        let known = u64::from(finished);
        if !self.kernel.knows_heads() || self.beyond <= known {
            return self
                .kernel
                .knows_heads()
                .then(|| sequence.max(known * announced.head.sequence));
        }
        let message = format!(
            "{} after entry {sequence} say that it was told of them, and it was not",
            self.beyond - known
        );
        self.fault("KERNEL_HEAD", "the kernel".to_owned(), &message);
        None
    }

    /// Holds the active generation against what the log says is in force.
    fn compare_active(&mut self) {
        let (active, boot) = match &self.kernel {
            KernelWitness::NotAsked => return,
            KernelWitness::Nothing { boot } => (None, boot),
            KernelWitness::Pinned { active, boot, .. } => (*active, boot),
        };
        let said = self.held.may_be_active(boot.as_deref());
        if said.contains(&active) {
            return;
        }
        let told = |set: &Option<(u64, Digest)>| match set {
            None => "nothing is in force".to_owned(),
            Some((generation, digest)) => {
                format!("generation {generation} with the set {digest} is in force")
            }
        };
        let said: Vec<String> = said.iter().map(told).collect();
        let message = format!(
            "{} in the kernel; the log says that {}",
            told(&active),
            said.join(", or that ")
        );
        self.fault("KERNEL_ACTIVE", "the kernel".to_owned(), &message);
    }

    fn fault(&mut self, code: &'static str, place: String, message: &str) {
        // Of a log that is wrong from the first to the last line the first faults say enough.
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(Fault { code, place, message: message.to_owned() });
        }
    }
}

impl KernelWitness {
    /// The newest head that was on disk, and one that was about to be.
    fn heads(&self) -> [KernelHead; 2] {
        let Self::Pinned { heads, .. } = self else { return [KernelHead::NONE; 2] };
        let newest = |written| {
            let known = heads.iter().filter(|known| known.written == written);
            known.max_by_key(|known| known.head.sequence).copied().unwrap_or(KernelHead::NONE)
        };
        [newest(true), newest(false)]
    }

    fn knows_heads(&self) -> bool {
        self.heads().iter().any(|known| known.head.sequence > 0)
    }
}

/// The name of the segment that begins with this entry; names sort as entries do.
pub fn segment_name(first: u64) -> String {
    format!("{SEGMENT}{first:020}.jsonl")
}

/// The whole lines of a reserve, and what follows them and is not zeros.
pub fn reserve_lines(bytes: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let (used, _) = bytes.split_at(used);
    let whole = used.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    let (whole, rest) = used.split_at(whole);
    let lines = whole.split_inclusive(|byte| *byte == b'\n');
    (lines.filter_map(|line| line.strip_suffix(b"\n")).collect(), rest)
}

const SEGMENT: &str = "segment-";
const FAULTS_MAX: usize = 100;
