// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Logs that somebody was at: what the chain finds, what only a witness can, and what nobody can.
#![allow(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that reaches too far fails"
)]

use serde_json::Value;

use super::*;

/// A log that is written line by line.
#[derive(Clone)]
struct Written {
    segments: Vec<(String, Vec<u8>)>,
    /// By their sequence; the first is that of no entry.
    heads: Vec<Head>,
    records: Vec<Record>,
    boot: String,
    /// When that boot was, in microseconds since 1970.
    started: u64,
    since_boot_ms: u64,
}

impl Written {
    fn new() -> Self {
        Self {
            segments: vec![(segment_name(1), Vec::new())],
            heads: vec![Head::NONE],
            records: Vec::new(),
            boot: "boot-1".to_owned(),
            started: START,
            since_boot_ms: 60_000,
        }
    }

    /// Three segments of three, two and one entries: begun, applied, a refusal, removed.
    fn sample() -> Self {
        let mut log = Self::new();
        log.add(note(code::BEGUN));
        log.change("apply", set(1, 1));
        log.segment();
        log.add(Entry { phase: Phase::Refused, ..entry("apply") });
        let remove = Entry {
            weakening: true,
            reason: Some("a \"reason\" with \\ and \u{202e}".to_owned()),
            effect: set(2, 2),
            ..entry("remove")
        };
        log.add(Entry { phase: Phase::Begin, ..remove.clone() });
        log.segment();
        log.add(Entry { phase: Phase::Done, begun: Some(5), ..remove });
        log
    }

    fn segment(&mut self) {
        self.segments.push((segment_name(self.head().sequence + 1), Vec::new()));
    }

    fn head(&self) -> Head {
        *self.heads.last().unwrap()
    }

    fn hash(&self, sequence: usize) -> Digest {
        self.heads[sequence].hash
    }

    fn time(&self) -> Time {
        Time::from_us(self.started + self.since_boot_ms * 1000)
    }

    /// Begun, and a second later done.
    fn change(&mut self, command: &str, effect: Effect) {
        let change = Entry { effect, ..entry(command) };
        let begun = self.add(Entry { phase: Phase::Begin, ..change.clone() });
        self.add(Entry { phase: Phase::Done, begun: Some(begun), ..change });
    }

    /// One entry, a second after the one before.
    fn add(&mut self, entry: Entry) -> u64 {
        self.since_boot_ms += 1000;
        let record = Record {
            schema: Record::SCHEMA,
            sequence: self.head().sequence + 1,
            previous: self.head().hash,
            instance: "00ff".to_owned(),
            machine: None,
            time: self.time(),
            boot: Some(self.boot.clone()),
            since_boot_ms: self.since_boot_ms,
            uid: 0,
            login_uid: Some(1000),
            pid: 7,
            program: "0".to_owned(),
            kernel_told: true,
            trust_root: false,
            entry,
        };
        let (line, head) = seal(&record).unwrap();
        self.segments.last_mut().unwrap().1.extend(line.as_bytes());
        self.heads.push(head);
        self.records.push(record);
        head.sequence
    }

    /// So long after the last entry the node is started again.
    fn restart(&mut self, boot: &str, after_ms: u64) {
        self.started = self.time().us() + after_ms * 1000;
        self.since_boot_ms = 0;
        self.boot = boot.to_owned();
    }

    /// What an honest kernel says.
    fn kernel(&self) -> KernelWitness {
        let before = self.heads[self.heads.len() - 2];
        self.kernel_with([known(before, true), known(self.head(), true)], Some((2, digest(2))))
    }

    fn kernel_with(&self, heads: [KernelHead; 2], active: Option<(u64, Digest)>) -> KernelWitness {
        KernelWitness::Pinned { heads, active, boot: Some(self.boot.clone()) }
    }

    fn verify(&self, given: &[Digest], kernel: KernelWitness) -> Verification {
        let mut verifier = Verifier::new(given, kernel);
        for (name, bytes) in &self.segments {
            verifier.segment(name, bytes, &mut |_| {});
        }
        verifier.finish(self.time())
    }

    fn lines(&self) -> Vec<Vec<u8>> {
        let all: Vec<u8> = self.segments.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        all.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
    }

    /// The same lines in one file.
    fn of_lines(&self, lines: &[Vec<u8>]) -> Self {
        Self { segments: vec![("copy".to_owned(), lines.concat())], ..self.clone() }
    }

    fn at(&self, time: Time) -> Answer {
        let mut at = At::new(time);
        let mut verifier = Verifier::new(&[], KernelWitness::NotAsked);
        for (name, bytes) in &self.segments {
            verifier.segment(name, bytes, &mut |sealed| at.take(sealed));
        }
        let now = Now {
            time: self.time(),
            boot: Some(self.boot.clone()),
            since_boot_ms: self.since_boot_ms,
        };
        at.finish(&verifier.finish(self.time()), &now)
    }

    /// The generation at so many milliseconds after an entry, and whether that is certain.
    fn generation_at(&self, sequence: usize, after_ms: u64) -> (Option<u64>, bool) {
        let time = self.records[sequence - 1].time.us() + after_ms * 1000;
        let answer = self.at(Time::from_us(time));
        (answer.held.set.map(|set| set.generation), answer.known && answer.doubts.is_empty())
    }
}

fn entry(command: &str) -> Entry {
    Entry { command: command.to_owned(), ..Entry::default() }
}

fn note(code: &str) -> Entry {
    let error = Failure { code: code.to_owned(), message: "a test".to_owned() };
    Entry { error: Some(error), ..entry(LOG) }
}

fn set(generation: u64, digest_of: u8) -> Effect {
    let policy = |name: &str, mode: &str| PolicyInForce {
        name: name.to_owned(),
        mode: mode.to_owned(),
        ..PolicyInForce::default()
    };
    let policies = vec![policy("p", "enforce"), policy("q", "audit")];
    Effect::InForce(InForce { generation, set_digest: digest(digest_of), policies })
}

fn digest(of: u8) -> Digest {
    Digest::of(&[of])
}

const fn known(head: Head, written: bool) -> KernelHead {
    KernelHead { head, written }
}

fn codes(verified: &Verification) -> Vec<&'static str> {
    verified.faults.iter().map(|fault| fault.code).collect()
}

const START: u64 = 1_795_000_000_000_000;

#[test]
fn an_honest_log_is_whole_and_comes_back_as_it_was_written() {
    let log = Written::sample();
    let mut back = Vec::new();
    let mut verifier = Verifier::new(&[log.hash(3)], log.kernel());
    for (name, bytes) in &log.segments {
        verifier.segment(name, bytes, &mut |sealed| back.push(sealed.record.clone()));
    }
    let verified = verifier.finish(log.time());
    assert!(verified.is_whole(), "{verified:?}");
    assert_eq!(back, log.records);
    assert_eq!((verified.entries, verified.segments, verified.head), (6, 3, log.head()));
    assert_eq!((verified.kernel_confirms, verified.given_confirms), (Some(6), Some(3)));
}

#[test]
fn no_byte_can_be_another() {
    let log = Written::sample();
    for segment in 0..log.segments.len() {
        for at in 0..log.segments[segment].1.len() {
            let mut bad = log.clone();
            bad.segments[segment].1[at] ^= 1;
            let verified = bad.verify(&[], KernelWitness::NotAsked);
            assert!(!verified.is_whole(), "segment {segment}, byte {at}");
        }
    }
    // Nor in another case, nor beyond ASCII.
    let line = log.lines()[4].clone();
    for at in 0..line.len() - 1 {
        for bit in [1, 3, 5, 7] {
            let mut bad = line[..line.len() - 1].to_vec();
            bad[at] ^= 1 << bit;
            assert!(read_line(&bad).is_err(), "byte {at}, bit {bit}");
        }
    }
}

#[test]
fn no_byte_can_be_taken_out_or_put_in() {
    let log = Written::sample();
    let line = log.segments[2].1.clone();
    let with = |line: Vec<u8>| {
        let mut bad = log.clone();
        bad.segments[2].1 = line;
        bad.verify(&[], KernelWitness::NotAsked)
    };
    for at in 0..line.len() {
        let mut less = line.clone();
        less.remove(at);
        assert!(!with(less).is_whole(), "without byte {at}");
        let mut more = line.clone();
        more.insert(at, if at % 2 == 0 { b'\n' } else { b' ' });
        assert!(!with(more).is_whole(), "another byte at {at}");
    }
}

#[test]
fn a_line_that_is_gone_moved_or_there_twice_is_found_unless_it_is_the_last() {
    let log = Written::sample();
    let lines = log.lines();
    for at in 0..lines.len() {
        let mut less = lines.clone();
        less.remove(at);
        let verified = log.of_lines(&less).verify(&[], KernelWitness::NotAsked);
        assert_eq!(verified.is_whole(), at == lines.len() - 1, "without line {at}");
        let mut twice = lines.clone();
        twice.insert(at, lines[at].clone());
        assert!(
            !log.of_lines(&twice).verify(&[], KernelWitness::NotAsked).is_whole(),
            "{at} twice"
        );
        for other in 0..at {
            let mut moved = lines.clone();
            moved.swap(at, other);
            let verified = log.of_lines(&moved).verify(&[], KernelWitness::NotAsked);
            assert!(!verified.is_whole(), "{at} in the place of {other}");
        }
    }
}

#[test]
fn a_fault_says_what_is_missing_and_a_hundred_of_them_say_enough() {
    let log = Written::sample();
    let lines = log.lines();
    let first = |lines: &[Vec<u8>]| {
        log.of_lines(lines).verify(&[], KernelWitness::NotAsked).faults.remove(0).message
    };
    assert_eq!(first(&lines[1..]), "it is entry 2, and nothing is before it");
    assert_eq!(first(&[&lines[..2], &lines[3..]].concat()), "it is entry 4 after entry 2");
    assert_eq!(first(&[&lines[..2], &lines[..1]].concat()), "it is entry 1 again, after 2");
    let bad = log.of_lines(&vec![b"no line\n".to_vec(); 150]);
    assert_eq!(bad.verify(&[], KernelWitness::NotAsked).faults.len(), 100);
}

#[test]
fn a_line_that_is_sealed_anew_breaks_the_chain_after_it() {
    let log = Written::sample();
    for at in 0..5 {
        let mut lines = log.lines();
        let mut record = log.records[at].clone();
        record.uid = 1000;
        lines[at] = seal(&record).unwrap().0.into_bytes();
        let verified = log.of_lines(&lines).verify(&[], KernelWitness::NotAsked);
        assert_eq!(codes(&verified), ["BROKEN_CHAIN"], "line {at}");
    }
}

#[test]
fn a_segment_that_is_gone_moved_or_renamed_is_found_unless_it_is_the_last() {
    let log = Written::sample();
    for at in 0..3 {
        let mut less = log.clone();
        less.segments.remove(at);
        let verified = less.verify(&[], KernelWitness::NotAsked);
        assert_eq!(verified.is_whole(), at == 2, "without segment {at}");
    }
    let mut swapped = log.clone();
    swapped.segments.swap(0, 1);
    assert!(codes(&swapped.verify(&[], KernelWitness::NotAsked)).contains(&"ENTRIES_MISSING"));
    let mut renamed = log;
    renamed.segments[2].0 = segment_name(7);
    assert_eq!(codes(&renamed.verify(&[], KernelWitness::NotAsked)), ["MISPLACED"]);
}

#[test]
fn what_is_cut_off_at_the_end_only_witnesses_can_tell() {
    let log = Written::sample();
    let lines = log.lines();
    for kept in 0..lines.len() {
        let cut = log.of_lines(&lines[..kept]);
        let alone = cut.verify(&[], KernelWitness::NotAsked);
        assert!(alone.is_whole(), "{kept}: the chain cannot show it: {alone:?}");
        let by_kernel = cut.verify(&[], log.kernel());
        assert!(codes(&by_kernel).contains(&"KERNEL_HEAD"), "{kept}: {by_kernel:?}");
        assert_eq!(by_kernel.kernel_confirms, None);
        let by_note = cut.verify(&[log.hash(6)], KernelWitness::NotAsked);
        assert_eq!(codes(&by_note), ["HEAD_UNKNOWN"], "{kept}");
    }
}

#[test]
fn a_log_that_is_written_anew_only_witnesses_can_tell() {
    let log = Written::sample();
    let mut forged = Written::new();
    for record in &log.records {
        let mut entry = record.entry.clone();
        entry.reason = entry.reason.map(|_| "another reason".to_owned());
        if [4, 6].contains(&record.sequence) {
            forged.segment();
        }
        forged.add(entry);
    }
    assert!(forged.verify(&[], KernelWitness::NotAsked).is_whole());
    assert_eq!(codes(&forged.verify(&[], log.kernel())), ["KERNEL_HEAD"]);
    assert_eq!(codes(&forged.verify(&[log.hash(6)], KernelWitness::NotAsked)), ["HEAD_UNKNOWN"]);
    // A note that is older than what was changed vouches for what is before it.
    assert!(forged.verify(&[log.hash(4)], KernelWitness::NotAsked).is_whole());
}

#[test]
fn a_line_that_the_kernel_was_not_told_of_is_found() {
    let log = Written::sample();
    let mut longer = log.clone();
    longer.add(entry("apply"));
    let verified = longer.verify(&[], log.kernel());
    assert_eq!(codes(&verified), ["KERNEL_HEAD"], "{verified:?}");
}

#[test]
fn a_kill_at_any_point_of_a_write_leaves_a_log_that_is_whole() {
    let log = Written::sample();
    let (five, six) = (log.heads[5], log.heads[6]);
    let active = Some((2, digest(2)));
    let without = log.of_lines(&log.lines()[..5]);
    // Announced, and killed before the disk had it; after; and after that was said.
    let announced = log.kernel_with([known(five, true), known(six, false)], active);
    for (what, log, kernel) in [
        ("before", &without, announced.clone()),
        ("after", &log, announced),
        ("said", &log, log.kernel()),
        (
            "half announced",
            &without,
            log.kernel_with([known(five, true), KernelHead::NONE], active),
        ),
    ] {
        let verified = log.verify(&[], kernel);
        assert!(verified.is_whole(), "{what}: {verified:?}");
    }
    // Another line than the one that was announced is none of ours.
    let mut other = without;
    other.heads.pop();
    other.add(entry("apply"));
    let announced = other.kernel_with([known(five, true), known(six, false)], active);
    assert_eq!(codes(&other.verify(&[], announced)), ["KERNEL_HEAD"]);
}

#[test]
fn the_kernel_must_enforce_what_the_log_says() {
    let log = Written::sample();
    let heads = [known(log.heads[5], true), known(log.heads[6], true)];
    for active in [None, Some((1, digest(1))), Some((2, digest(1))), Some((3, digest(2)))] {
        let verified = log.verify(&[], log.kernel_with(heads, active));
        assert_eq!(codes(&verified), ["KERNEL_ACTIVE"], "{active:?}");
    }
    let boot = Some(log.boot.clone());
    assert_eq!(codes(&log.verify(&[], KernelWitness::Nothing { boot })), ["KERNEL_ACTIVE"]);
    // After a start nothing is in the kernel, until something is put in force, on record.
    let boot = Some("boot-2".to_owned());
    assert!(log.verify(&[], KernelWitness::Nothing { boot: boot.clone() }).is_whole());
    let loaded =
        KernelWitness::Pinned { heads: [KernelHead::NONE; 2], active: Some((2, digest(2))), boot };
    assert_eq!(codes(&log.verify(&[], loaded)), ["KERNEL_ACTIVE"]);
}

#[test]
fn while_a_change_is_under_way_the_kernel_may_be_at_either() {
    let mut log = Written::sample();
    log.add(Entry { phase: Phase::Begin, effect: set(3, 3), ..entry("apply") });
    let heads = [known(log.heads[6], true), known(log.heads[7], true)];
    for (active, may) in [(2, true), (3, true), (1, false)] {
        let kernel = log.kernel_with(heads, Some((active, digest(active as u8))));
        assert_eq!(log.verify(&[], kernel).is_whole(), may, "{active}");
    }
    log.add(Entry { phase: Phase::Undone, begun: Some(7), ..entry("apply") });
    let heads = [known(log.heads[7], true), known(log.heads[8], true)];
    assert!(!log.verify(&[], log.kernel_with(heads, Some((3, digest(3))))).is_whole());
}

#[test]
fn a_change_whose_command_was_killed_is_settled_by_what_the_next_one_found() {
    let begin = |generation: u8, before: u8| Entry {
        phase: Phase::Begin,
        before: Some(digest(before)),
        effect: set(u64::from(generation), generation),
        ..entry("apply")
    };
    let mut killed = Written::sample();
    let begun = killed.add(begin(3, 2));
    for (found, active) in [(3, [4, 3]), (2, [4, 2])] {
        let mut log = killed.clone();
        log.add(begin(4, found));
        let heads = [known(log.heads[7], true), known(log.heads[8], true)];
        for generation in [2, 3, 4_u8] {
            let kernel = log.kernel_with(heads, Some((generation.into(), digest(generation))));
            let may = active.contains(&generation);
            assert_eq!(log.verify(&[], kernel).is_whole(), may, "found {found}: {generation}");
        }
        log.add(Entry { phase: Phase::Undone, begun: Some(begun + 1), ..entry("apply") });
        assert_eq!(log.generation_at(9, 0), (Some(found.into()), true));
        let since = log.at(log.time()).held.since.unwrap();
        assert_eq!(since.sequence, if found == 3 { begun } else { 6 });
    }
    // As long as nobody looked, both may be.
    assert_eq!(killed.generation_at(7, 0), (Some(2), false));
}

#[test]
fn a_detach_that_was_killed_is_settled_as_well() {
    let mut log = Written::sample();
    let detach = Entry { effect: Effect::Detached, before: Some(digest(2)), ..entry("detach") };
    log.add(Entry { phase: Phase::Begin, ..detach });
    let whole = |log: &Written, active: Option<u8>| {
        let last = log.heads.len() - 1;
        let heads = [known(log.heads[last - 1], true), known(log.heads[last], true)];
        let active = active.map(|active| (active.into(), digest(active)));
        log.verify(&[], log.kernel_with(heads, active)).is_whole()
    };
    assert!(whole(&log, None) && whole(&log, Some(2)) && !whole(&log, Some(1)));
    log.add(Entry { phase: Phase::Begin, effect: set(3, 3), ..entry("apply") });
    assert!(whole(&log, None) && whole(&log, Some(3)) && !whole(&log, Some(2)));
}

#[test]
fn what_ends_ends_what_it_began_and_no_more_unless_it_puts_a_set_in_force() {
    let mut log = Written::sample();
    log.add(Entry { phase: Phase::Begin, effect: set(3, 3), ..entry("apply") });
    log.change("emergency", Effect::EmergencyDisabled);
    let doubts = |log: &Written| log.at(log.time()).doubts;
    let killed = "entry 7 begins `apply`, and its end is not on record before that time";
    assert_eq!(doubts(&log), [killed]);
    log.change("apply", set(4, 4));
    assert!(doubts(&log).is_empty());
}

#[test]
fn a_loss_that_is_on_record_counts_until_somebody_vouches_for_what_came_later() {
    let mut log = Written::sample();
    log.add(note(code::LOST));
    log.add(entry("apply"));
    let verified = log.verify(&[], KernelWitness::NotAsked);
    assert!(!verified.is_whole() && verified.faults.is_empty(), "{verified:?}");
    assert!(!log.verify(&[log.hash(6)], KernelWitness::NotAsked).is_whole());
    assert!(log.verify(&[log.hash(7)], KernelWitness::NotAsked).is_whole());
}

#[test]
fn a_torn_line_is_found_wherever_it_is() {
    let mut log = Written::sample();
    let whole = log.clone();
    for kept in 1..log.segments[2].1.len() {
        log.segments[2].1 = whole.segments[2].1[..kept].to_vec();
        let verified = log.verify(&[], KernelWitness::NotAsked);
        let torn = verified.torn.as_ref().expect("torn");
        assert_eq!((torn.offset, torn.bytes), (0, kept));
        assert!(!verified.is_whole());
    }
    let mut lines = whole.lines();
    lines.last_mut().unwrap().pop();
    let before: usize = lines.iter().rev().skip(1).map(Vec::len).sum();
    let torn = whole.of_lines(&lines).verify(&[], KernelWitness::NotAsked).torn.expect("torn");
    assert_eq!(torn.offset, before);
    let mut inner = whole.clone();
    inner.segments[0].1.pop();
    assert!(codes(&inner.verify(&[], KernelWitness::NotAsked)).contains(&"BROKEN_LINE"));
}

#[test]
fn the_reserve_goes_on_with_the_chain_and_holds_nothing_else() {
    let log = Written::sample();
    let verify = |reserve: &[u8]| {
        let mut verifier = Verifier::new(&[], log.kernel());
        for (name, bytes) in log.segments.iter().take(2) {
            verifier.segment(name, bytes, &mut |_| {});
        }
        verifier.reserve("reserve", reserve, &mut |_| {});
        verifier.finish(log.time())
    };
    let mut reserve = log.segments[2].1.clone();
    let used = reserve.len();
    reserve.resize(used + 1000, 0);
    assert!(verify(&reserve).is_whole());
    // Moved to a segment, and not cleared yet.
    let moved = [log.segments[1].1.clone(), reserve.clone()].concat();
    assert!(verify(&moved).is_whole());
    for at in 0..reserve.len() {
        let mut bad = reserve.clone();
        bad[at] ^= 1;
        assert!(!verify(&bad).is_whole(), "byte {at}");
    }
}

#[test]
fn fields_of_a_later_version_are_passed_over_and_another_meaning_is_not() {
    let record = Written::sample().records.remove(0);
    let text = serde_json::to_string(&record).unwrap();
    let sealed = |json: &str| {
        let hash = line::hash(json.as_bytes());
        format!("{{\"record\":{json},\"hash\":\"{hash}\"}}")
    };
    assert_eq!(read_line(sealed(&text).as_bytes()).unwrap().record, record);
    let more = text.replacen('{', "{\"colour\":\"red\",", 1);
    assert_eq!(read_line(sealed(&more).as_bytes()).unwrap().record, record);
    let other = text.replacen("\"schema\":1", "\"schema\":2", 1);
    assert!(matches!(read_line(sealed(&other).as_bytes()), Err(BadLine::Schema(2))));
    let twice = text.replacen('{', "{\"sequence\":1,", 1);
    assert!(matches!(read_line(sealed(&twice).as_bytes()), Err(BadLine::Record(_))));
    // However deep what is passed over is, no stack grows with it.
    let deep = format!("{{\"x\":{}{},", "[".repeat(99_999), "]".repeat(99_999));
    let deep = text.replacen('{', &deep, 1);
    assert_eq!(read_line(sealed(&deep).as_bytes()).unwrap().record, record);
}

#[test]
fn a_line_has_a_most_that_both_sides_know() {
    let mut record = Written::sample().records.remove(0);
    record.entry.reason = Some("x".repeat(LINE_MAX));
    assert!(matches!(seal(&record), Err(BadLine::TooLong(_))));
    assert!(matches!(read_line(&vec![b'x'; LINE_MAX]), Err(BadLine::TooLong(_))));
    let mut of_length = |length| {
        record.entry.reason = Some("x".repeat(length));
        seal(&record).map(|(line, _)| line.len())
    };
    let more = of_length(1).unwrap() - 1;
    assert_eq!(of_length(LINE_MAX - more).unwrap(), LINE_MAX);
    assert!(of_length(LINE_MAX - more + 1).is_err());
}

#[test]
fn what_was_enforced_at_a_time_is_what_the_last_change_before_it_did() {
    let log = Written::sample();
    let before = Time::from_us(log.records[0].time.us() - 1);
    assert!(!log.at(before).known);
    assert_eq!(log.generation_at(1, 0), (None, true));
    // Between its begin and its end a change may have happened or not.
    assert_eq!(log.generation_at(2, 500), (None, false));
    assert_eq!(log.generation_at(3, 0), (Some(1), true));
    assert_eq!(log.generation_at(4, 500), (Some(1), true));
    assert_eq!(log.generation_at(6, 0), (Some(2), true));
    let since = log.at(log.time()).held.since.unwrap();
    assert_eq!((since.sequence, since.command.as_str()), (6, "remove"));
    assert_eq!(log.generation_at(6, 3_600_000), (Some(2), false), "that is yet to come");
}

#[test]
fn a_kernel_that_does_not_tell_its_boot_is_taken_to_be_up_still() {
    let log = Written::sample();
    let mut at = At::new(log.time());
    let mut verifier = Verifier::new(&[], KernelWitness::NotAsked);
    for (name, bytes) in &log.segments {
        verifier.segment(name, bytes, &mut |sealed| at.take(sealed));
    }
    let now = Now { time: log.time(), boot: None, since_boot_ms: log.since_boot_ms };
    let answer = at.finish(&verifier.finish(log.time()), &now);
    assert_eq!(answer.held.set.map(|set| set.generation), Some(2));
    assert!(answer.doubts.is_empty() && answer.down_by.is_none());
}

#[test]
fn the_kernel_confirms_what_it_knows_to_be_written_and_what_it_was_told_of_and_is_there() {
    let log = Written::sample();
    let active = Some((2, digest(2)));
    let confirms = |heads| log.verify(&[], log.kernel_with(heads, active)).kernel_confirms;
    assert_eq!(confirms([known(log.heads[5], true), known(log.heads[6], false)]), Some(6));
    let never = Head { sequence: 7, hash: digest(9) };
    assert_eq!(confirms([known(log.heads[6], true), known(never, false)]), Some(6));
}

#[test]
fn a_start_of_the_node_ends_what_was_enforced() {
    let mut log = Written::sample();
    log.restart("boot-2", 100_000);
    log.since_boot_ms = 30_000;
    log.change("apply", set(3, 3));
    // While the first boot may have gone on; after the start; and after the apply.
    assert_eq!(log.generation_at(6, 50_000), (Some(2), true));
    let up = Time::from_us(log.records[5].time.us() + 50_000_000);
    assert_eq!(log.at(up).down_by, Some(Time::from_us(log.started)));
    assert_eq!(log.generation_at(6, 110_000), (None, true));
    let empty = Time::from_us(log.records[5].time.us() + 110_000_000);
    assert_eq!(log.at(empty).empty_since, Some(Time::from_us(log.started)));
    assert_eq!(log.generation_at(8, 0), (Some(3), true));
}

#[test]
fn a_clock_that_was_set_makes_an_answer_uncertain_and_only_there() {
    let mut log = Written::sample();
    log.started += 3_600_000_000;
    log.change("apply", set(3, 3));
    log.since_boot_ms += 5000;
    assert_eq!(log.generation_at(6, 1000), (Some(2), false));
    let then = Time::from_us(log.records[5].time.us() + 1_000_000);
    assert_eq!(log.at(then).doubts, ["the clock was set by 3600 s after entry 6"]);
    assert_eq!(log.generation_at(8, 1000), (Some(3), true));
    assert_eq!(log.generation_at(3, 0), (Some(1), true));
    // As much as nobody has to set it for.
    let mut log = Written::sample();
    log.started += 10_000_000;
    log.change("apply", set(3, 3));
    assert_eq!(log.generation_at(6, 1000), (Some(2), true));
    // Back: the same time comes twice.
    let mut log = Written::sample();
    log.started -= 10_000_000;
    log.change("apply", set(3, 3));
    let (_, certain) = log.generation_at(6, 0);
    assert!(!certain);
}

#[test]
fn what_the_kernel_takes_back_by_itself_is_taken_back_in_the_answer() {
    let mut log = Written::sample();
    let until = Time::from_us(log.time().us() + 20_000_000);
    let unconfirmed = Entry { effect: set(3, 3), until: Some(until), ..entry("apply") };
    let begun = log.add(Entry { phase: Phase::Begin, ..unconfirmed.clone() });
    log.add(Entry { phase: Phase::Done, begun: Some(begun), ..unconfirmed });
    log.since_boot_ms += 60_000;
    assert_eq!(log.generation_at(8, 10_000), (Some(3), true));
    assert_eq!(log.generation_at(8, 30_000), (Some(2), true));
    let confirmed = {
        let mut log = log.clone();
        log.since_boot_ms -= 55_000;
        log.add(Entry { phase: Phase::Done, effect: set(3, 3), ..entry("confirm") });
        log.since_boot_ms += 60_000;
        log
    };
    assert_eq!(confirmed.generation_at(8, 30_000), (Some(3), true));
    let until = Time::from_us(log.time().us() + 20_000_000);
    let disabled = Entry {
        phase: Phase::Done,
        effect: Effect::EmergencyDisabled,
        until: Some(until),
        ..entry("emergency")
    };
    let sequence = usize::try_from(log.add(disabled)).unwrap();
    log.since_boot_ms += 60_000;
    let emergency = |after: u64| {
        log.at(Time::from_us(log.records[sequence - 1].time.us() + after * 1000)).held.emergency
    };
    assert!(emergency(0) && emergency(10_000) && !emergency(30_000));
}

#[test]
fn an_answer_from_a_log_with_a_fault_is_not_certain() {
    let mut log = Written::sample();
    let last = log.segments[0].1.len() - 10;
    log.segments[0].1[last] ^= 1;
    assert!(!log.generation_at(6, 0).1);
    let mut log = Written::sample();
    log.add(note(code::LOST));
    let (_, certain) = log.generation_at(6, 100);
    assert!(!certain, "something may have happened after the last entry that is there");
}

#[test]
fn a_line_is_as_its_schema_says() {
    let schema: Value =
        serde_json::from_str(include_str!("../../../docs/provenance.schema.json")).unwrap();
    let mut full = Written::sample();
    full.add(Entry {
        until: Some(full.time()),
        before: Some(digest(1)),
        policies: vec!["p".to_owned()],
        proof: [("by-inode".to_owned(), "denied_by_us".to_owned())].into(),
        steps: vec![Step { step: "look".to_owned(), us: 1 }],
        effect: Effect::InForce(InForce {
            policies: vec![PolicyInForce {
                mode: "enforce".to_owned(),
                bundle_digest: Some(digest(2)),
                key_ids: vec!["key".to_owned()],
                source: Some("somewhere".to_owned()),
                ..PolicyInForce::default()
            }],
            ..InForce::default()
        }),
        details: [("key".to_owned(), "value".to_owned())].into(),
        ..note(code::TORN)
    });
    for effect in [Effect::Detached, Effect::EmergencyDisabled, Effect::EmergencyEnabled] {
        full.add(Entry { effect, ..entry("a test") });
    }
    full.records.last_mut().unwrap().machine = Some(digest(3));
    for line in full.lines() {
        let line: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(against(&schema, &schema, &line), Ok(()), "{line}");
    }
    let machine = serde_json::to_value(full.records.last().unwrap()).unwrap();
    assert_eq!(against(&schema, &schema["$defs"]["record"], &machine), Ok(()));
    // And it says no where it must.
    let mut bad = machine;
    for (field, value) in [("uid", Value::from("root")), ("colour", Value::from(1))] {
        let before = bad.as_object_mut().unwrap().insert(field.to_owned(), value);
        assert!(against(&schema, &schema["$defs"]["record"], &bad).is_err(), "{field}");
        bad[field] = before.unwrap_or_default();
    }
}

/// As much of JSON Schema as ours uses. Fields that it does not name are faults here, so that it names
/// all that we write.
fn against(root: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let fault = |what: &str| Err(format!("{what}: {value} against {schema}"));
    if let Some(reference) = schema["$ref"].as_str() {
        return against(root, root.pointer(&reference[1..]).unwrap(), value);
    }
    if let Some(all) = schema["oneOf"].as_array() {
        let fitting = all.iter().filter(|one| against(root, one, value).is_ok()).count();
        return if fitting == 1 { Ok(()) } else { fault("not one of them") };
    }
    if let Some(all) = schema["enum"].as_array() {
        return if all.contains(value) { Ok(()) } else { fault("none of them") };
    }
    if !schema["const"].is_null() {
        return if schema["const"] == *value { Ok(()) } else { fault("another") };
    }
    match (schema["type"].as_str().unwrap(), value) {
        ("boolean", Value::Bool(_)) => Ok(()),
        ("integer", Value::Number(number)) if number.as_u64() >= schema["minimum"].as_u64() => {
            Ok(())
        }
        ("string", Value::String(text)) => match schema["pattern"].as_str() {
            Some(pattern) if pattern.contains("{64}") && Digest::from_hex(text).is_none() => {
                fault("no digest")
            }
            Some(pattern) if pattern.contains('T') && Time::read(text).is_none() => {
                fault("no time")
            }
            _ => Ok(()),
        },
        ("array", Value::Array(all)) => {
            all.iter().try_for_each(|each| against(root, &schema["items"], each))
        }
        ("object", Value::Object(fields)) => {
            for name in schema["required"].as_array().into_iter().flatten() {
                if !fields.contains_key(name.as_str().unwrap()) {
                    return fault("a field is missing");
                }
            }
            fields.iter().try_for_each(|(name, field)| {
                let own = &schema["properties"][name];
                let any = &schema["additionalProperties"];
                match (own.is_object(), any.is_object()) {
                    (true, _) => against(root, own, field),
                    (false, true) => against(root, any, field),
                    (false, false) => fault(&format!("{name} is not known")),
                }
            })
        }
        _ => fault("another type"),
    }
}
