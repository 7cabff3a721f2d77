// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Any bytes as a provenance log, and any bytes as records of one whose hashes are right: whatever an
//! answer is made from was read as it was written.
#![no_main]

use aegis_trust::{
    Digest,
    provenance::{At, KernelWitness, Now, Time, Verifier, read_line, reserve_lines, seal},
};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (first, second) = bytes.split_at(bytes.len() / 2);
    look(&[first, second], bytes);
    // No fuzzer finds a hash: so that it gets behind it, each line is a record with the right one.
    let lines: Vec<u8> = bytes.split(|byte| *byte == b'\n').flat_map(with_hash).collect();
    look(&[&lines], &lines);
    for line in lines.split(|byte| *byte == b'\n') {
        let Ok(sealed) = read_line(line) else { continue };
        let (again, head) = seal(&sealed.record).expect("it was short enough");
        let back = read_line(again.trim_end().as_bytes()).expect("what was written is read");
        assert_eq!((back.record, back.hash), (sealed.record, head.hash));
    }
});

fn look(segments: &[&[u8]], reserve: &[u8]) {
    let mut at = At::new(Time::from_us(1_795_000_100_000_000));
    let mut verifier = Verifier::new(&[Digest::of(b"none")], KernelWitness::NotAsked);
    for segment in segments {
        verifier.segment("segment", segment, &mut |sealed| at.take(sealed));
    }
    let (lines, rest) = reserve_lines(reserve);
    assert!(lines.iter().map(|line| line.len() + 1).sum::<usize>() + rest.len() <= reserve.len());
    verifier.reserve("reserve", reserve, &mut |sealed| at.take(sealed));
    let verification = verifier.finish(Time::from_us(1_795_000_200_000_000));
    assert!(!verification.is_whole(), "no entry has the hash that was given");
    assert!(verification.faults.len() <= 100);
    let now = Now { time: Time::from_us(0), boot: None, since_boot_ms: u64::MAX };
    assert!(!at.finish(&verification, &now).doubts.is_empty(), "the log is not whole");
}

fn with_hash(json: &[u8]) -> Vec<u8> {
    let hashed = [b"aegisbpf provenance record 1\n", json].concat();
    let hash = Digest::of(&hashed);
    [b"{\"record\":", json, format!(",\"hash\":\"{hash}\"}}\n").as_bytes()].concat()
}
