// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The log on a disk, without a kernel: what is written is whole, whoever is killed.

use std::{fs, path::Path};

use aegis_trust::provenance::{KernelWitness, Verification, Verifier, segment_name};

use super::*;
use crate::files::tests::Scratch;

fn log(scratch: &Scratch) -> Log {
    Log {
        directory: scratch.0.join("state/provenance"),
        state: scratch.0.join("state"),
        trust: TrustStore::at(&scratch.0.join("state")),
        pins: scratch.0.join("no-pins"),
        journal: scratch.0.join("no-journal"),
        segment_max: store::SEGMENT_MAX,
        on_record: Arc::default(),
    }
}

fn entry(command: &str) -> Entry {
    Entry { command: command.to_owned(), ..Entry::default() }
}

/// One change, begun and done.
fn change(log: &Log, command: &str) {
    assert_eq!(log.begin(entry(command)).unwrap().done(), None);
}

fn verify(log: &Log) -> Verification {
    let mut verifier = Verifier::new(&[], KernelWitness::NotAsked);
    for path in segments(log) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        verifier.segment(&name, &fs::read(&path).unwrap(), &mut |_| {});
    }
    let reserve = fs::read(log.directory.join(RESERVE)).unwrap();
    verifier.reserve(RESERVE, &reserve, &mut |_| {});
    verifier.finish(now())
}

fn segments(log: &Log) -> Vec<PathBuf> {
    let names = fs::read_dir(&log.directory).unwrap().map(|each| each.unwrap().path());
    let is_segment = |path: &Path| path.extension().is_some_and(|extension| extension == "jsonl");
    let mut segments: Vec<_> = names.filter(|path| is_segment(path)).collect();
    segments.sort();
    segments
}

#[test]
fn what_is_begun_and_done_is_two_entries_of_one_chain() {
    let scratch = Scratch::new();
    let log = log(&scratch);
    change(&log, "apply");
    change(&log, "remove");
    let verified = verify(&log);
    assert!(verified.is_whole(), "{verified:?}");
    // And the first, which says that the log was begun.
    assert_eq!(verified.entries, 5);
    assert_eq!(verified.noted.len(), 1);
    assert_eq!(verified.noted[0].code, code::BEGUN);
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&segments(&log)[0]).unwrap());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_write_that_was_cut_off_anywhere_is_kept_aside_and_said() {
    let scratch = Scratch::new();
    let log = log(&scratch);
    change(&log, "apply");
    let segment = segments(&log).remove(0);
    let before = fs::read(&segment).unwrap();
    change(&log, "remove");
    let after = fs::read(&segment).unwrap();
    let first = after[before.len()..].iter().position(|byte| *byte == b'\n').unwrap();
    for cut in (1..=first).step_by(41).chain([first - 1, first]) {
        fs::write(&segment, &after[..before.len() + cut]).unwrap();
        let torn = verify(&log);
        assert!(!torn.is_whole() && torn.torn.is_some(), "{cut}: {torn:?}");
        change(&log, "detach");
        let verified = verify(&log);
        assert!(verified.is_whole(), "{cut}: {verified:?}");
        let note = verified.noted.last().unwrap();
        assert_eq!((note.code.as_str(), note.sequence), (code::TORN, 4), "{cut}");
        let kept: Vec<_> = fs::read_dir(&log.directory)
            .unwrap()
            .map(|each| each.unwrap().path())
            .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("torn-"))
            .collect();
        assert_eq!(kept.len(), 1);
        assert_eq!(fs::read(&kept[0]).unwrap(), after[before.len()..before.len() + cut]);
        fs::remove_file(&kept[0]).unwrap();
        fs::write(&segment, &before).unwrap();
    }
}

#[test]
fn of_many_writers_at_once_each_has_its_place() {
    let scratch = Scratch::new();
    let log = log(&scratch);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..10).for_each(|_| change(&log, "apply")));
        }
    });
    let verified = verify(&log);
    assert!(verified.is_whole(), "{verified:?}");
    assert_eq!(verified.entries, 1 + 4 * 10 * 2);
}

#[test]
fn a_new_segment_goes_on_with_the_chain() {
    let scratch = Scratch::new();
    let mut log = log(&scratch);
    log.segment_max = 2000;
    (0..10).for_each(|_| change(&log, "apply"));
    let verified = verify(&log);
    assert!(verified.is_whole(), "{verified:?}");
    assert!(verified.segments > 3, "{verified:?}");
    // A kill right after a segment was made leaves it empty.
    fs::write(log.directory.join(segment_name(verified.head.sequence + 1)), "").unwrap();
    assert!(verify(&log).is_whole());
    change(&log, "apply");
    assert!(verify(&log).is_whole());
}

#[test]
fn a_last_line_that_cannot_be_read_stops_every_change_before_it_acts() {
    let scratch = Scratch::new();
    let log = log(&scratch);
    change(&log, "apply");
    let segment = segments(&log).remove(0);
    let mut bytes = fs::read(&segment).unwrap();
    let place = bytes.len() - 100;
    bytes[place] ^= 1;
    fs::write(&segment, &bytes).unwrap();
    let error = log.begin(entry("remove")).unwrap_err();
    assert_eq!(failure::tell(&error).code, "LOG_BROKEN", "{error:#}");
    assert_eq!(fs::read(&segment).unwrap(), bytes, "nothing is written behind it");
}

#[test]
fn a_directory_that_others_can_change_is_not_used() {
    let scratch = Scratch::new();
    let log = log(&scratch);
    change(&log, "apply");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(&log.directory, open).unwrap();
    let error = log.begin(entry("remove")).unwrap_err();
    let told = failure::tell(&error);
    assert_eq!(told.code, "UNSAFE_FILE", "{error:#}");
    assert!(told.hint.is_some_and(|hint| hint.starts_with("chmod go-w ")));
}

#[test]
fn the_state_of_another_machine_is_said_and_has_a_new_instance() {
    let scratch = Scratch::new();
    let log = log(&scratch);
    change(&log, "apply");
    let before = verify(&log);
    let elsewhere = Origin { machine: Some(Digest::of(b"another")), ..Origin::now() };
    let here = Origin { machine: Some(Digest::of(b"this one")), ..Origin::now() };
    log.append_from(elsewhere, &entry("remove"), Urgency::Before).unwrap();
    log.append_from(here, &entry("remove"), Urgency::Before).unwrap();
    let verified = verify(&log);
    assert!(verified.is_whole(), "{verified:?}");
    assert_eq!(verified.noted.last().unwrap().code, code::MOVED);
    assert_ne!(verified.instance, before.instance);
}

#[test]
fn what_has_acted_goes_into_the_reserve_and_from_there_into_the_chain() {
    let scratch = Scratch::new();
    let log = log(&scratch);
    change(&log, "apply");
    let before = verify(&log);
    let mut store = Store::open(&log.directory, Wait::LONG, log.segment_max).unwrap();
    let tail = store.tail().unwrap();
    let mut record = tail.last.unwrap().record;
    record.sequence += 1;
    record.previous = before.head.hash;
    record.entry = entry("emergency");
    let (line, head) = seal(&record).unwrap();
    store.reserve(line.as_bytes()).unwrap();
    drop(store);
    let reserved = verify(&log);
    assert!(reserved.is_whole() && reserved.head == head, "{reserved:?}");
    // A kill after the move and before the reserve was cleared: the line is there twice, and counts once.
    let reserve = fs::read(log.directory.join(RESERVE)).unwrap();
    change(&log, "remove");
    let moved = verify(&log);
    assert!(moved.is_whole() && moved.entries == before.entries + 3, "{moved:?}");
    fs::write(log.directory.join(RESERVE), &reserve).unwrap();
    assert!(verify(&log).is_whole());
    change(&log, "remove");
    assert!(verify(&log).is_whole());
    assert!(fs::read(log.directory.join(RESERVE)).unwrap().iter().all(|byte| *byte == 0));
}

#[test]
fn a_reserve_that_does_not_go_on_with_the_chain_stops_every_change() {
    let scratch = Scratch::new();
    let log = log(&scratch);
    change(&log, "apply");
    let last = fs::read_to_string(&segments(&log)[0]).unwrap();
    let mut record =
        aegis_trust::provenance::read_line(last.lines().last().unwrap().as_bytes()).unwrap().record;
    record.sequence += 1;
    let (line, _) = seal(&record).unwrap();
    let mut reserve = fs::read(log.directory.join(RESERVE)).unwrap();
    reserve[..line.len()].copy_from_slice(line.as_bytes());
    fs::write(log.directory.join(RESERVE), &reserve).unwrap();
    let error = log.begin(entry("remove")).unwrap_err();
    assert_eq!(failure::tell(&error).code, "LOG_BROKEN", "{error:#}");
    assert!(!verify(&log).is_whole());
}

/// What somebody leaves who deletes files: the log of a node whose root, and all that is of it, is gone.
fn without_its_root(scratch: &Scratch) -> Log {
    let mut log = log(scratch);
    log.segment_max = 2000;
    change(&log, "apply");
    let marker = scratch.0.join("state/trust-root");
    fs::write(&marker, "{}").unwrap();
    change(&log, "trust install");
    fs::remove_file(&marker).unwrap();
    (0..3).for_each(|_| change(&log, "remove"));
    log
}

#[test]
fn one_line_that_is_left_of_the_log_is_enough_to_know_of_a_trust_root() {
    let scratch = Scratch::new();
    let none = log(&scratch);
    assert_eq!(none.remembers_root().unwrap(), None, "there is no log yet");
    change(&none, "apply");
    assert_eq!(none.remembers_root().unwrap(), None);
    let log = without_its_root(&scratch);
    let all = segments(&log);
    assert!(all.len() > 3, "{all:?}");
    // The first segments were written before there was a root.
    for left in &all[2..] {
        let scratch = Scratch::new();
        let alone = self::log(&scratch);
        fs::create_dir_all(&alone.directory).unwrap();
        fs::copy(left, alone.directory.join(left.file_name().unwrap())).unwrap();
        assert!(alone.remembers_root().unwrap().is_some(), "{left:?}");
        let installed = alone.trust.installed(&alone).unwrap();
        let error = installed.root().unwrap_err();
        assert_eq!(failure::tell(&error.into()).code, "ROOT_LOST");
        let allowed = crate::config::AllowUnsigned::UntilRoot;
        assert!(TrustStore::unsigned(&installed, allowed).is_err(), "{left:?}");
    }
    all.iter().for_each(|segment| fs::remove_file(segment).unwrap());
    assert_eq!(log.remembers_root().unwrap(), None, "all is gone at once: a fresh node");
}

#[test]
fn no_end_of_a_log_and_no_beginning_makes_it_forget_a_trust_root() {
    let scratch = Scratch::new();
    let log = without_its_root(&scratch);
    let knows = |when: &str| assert!(log.remembers_root().unwrap().is_some(), "{when}");
    let last = segments(&log).pop().unwrap();
    let whole = fs::read(&last).unwrap();
    fs::write(&last, [&whole[..], b"{\"record\":half a li"].concat()).unwrap();
    knows("a torn line at the end");
    fs::write(&last, [&whole[..], b"no line\n"].concat()).unwrap();
    knows("a line that cannot be read");
    fs::write(&last, "").unwrap();
    knows("a new segment without a line");
    fs::write(&last, &whole).unwrap();
    let reserve = fs::read(log.directory.join(RESERVE)).unwrap();
    // As `restart` leaves it if it is killed in the middle.
    let mut store = Store::open(&log.directory, Wait::LONG, log.segment_max).unwrap();
    store.set_aside(&format!("{}1", store::ASIDE)).unwrap();
    drop(store);
    knows("a log that was kept aside");
    change(&log, "apply");
    fs::remove_dir_all(log.directory.join(format!("{}1", store::ASIDE))).unwrap();
    knows("another log");
    log.restart("a test").unwrap();
    knows("the log after it");
    // And the reserve, where what a full disk has no room for waits.
    let newest = fs::read(segments(&log).pop().unwrap()).unwrap();
    fs::remove_dir_all(&log.directory).unwrap();
    change(&log, "apply");
    assert_eq!(log.remembers_root().unwrap(), None);
    let mut filled = newest;
    filled.resize(reserve.len(), 0);
    fs::write(log.directory.join(RESERVE), &filled).unwrap();
    knows("a line that waits in the reserve");
}
