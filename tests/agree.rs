// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The decision in C and the same in Rust give the same answers. Needs no kernel.
//!
//! `decide.h` is compiled natively and held against what its comments promise, written down again in
//! Rust without a look at how it gets there. That labels and rows say what rules say is shown in the policy crate.

use aegis_abi::{
    Access, Action, EmergencyWord, SlotsWord, Verdict, hash_cgroup_name, hash_cgroup_suffix,
    hash_name,
};
use proptest::prelude::*;

mod c {
    //! `tests/shim/decide.c`.

    use aegis_abi::Verdict;

    /// `struct aegis_answer`.
    #[repr(C)]
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(super) struct Answer {
        pub(super) rule: u32,
        pub(super) action: u32,
        pub(super) access: u32,
        pub(super) why: u32,
        pub(super) spared: u32,
    }

    #[link(name = "aegis_decide", kind = "static")]
    unsafe extern "C" {
        fn shim_weigh(
            answer: *mut Answer,
            verdict: *const Verdict,
            wanted: u32,
            weakest: u32,
            why: u32,
        );
        fn shim_is_denied(answer: *const Answer) -> i32;
        fn shim_accesses_of_open(reads: i32, writes: i32, executes: i32, truncates: i32) -> u32;
        fn shim_deciding_slot(slots: u64, now: u64) -> u32;
        fn shim_spare(answer: *mut Answer, emergency: u64, now: u64, is_guard: i32);
        fn shim_hash_word(hash: u64, word: u64) -> u64;
        fn shim_hash_byte(hash: u64, byte: u8) -> u64;
    }

    pub(super) fn weigh(
        answer: &mut Answer,
        verdict: &Verdict,
        wanted: u32,
        weakest: u32,
        why: u32,
    ) {
        // SAFETY: both are valid for the call, and of the types that the header declares.
        unsafe { shim_weigh(answer, verdict, wanted, weakest, why) }
    }

    pub(super) fn is_denied(answer: &Answer) -> bool {
        // SAFETY: it is valid for the call, and of the type that the header declares.
        unsafe { shim_is_denied(answer) != 0 }
    }

    pub(super) fn accesses_of_open(asks: [bool; 4]) -> u32 {
        let [reads, writes, executes, truncates] = asks.map(i32::from);
        // SAFETY: it takes and returns numbers.
        unsafe { shim_accesses_of_open(reads, writes, executes, truncates) }
    }

    pub(super) fn deciding_slot(slots: u64, now: u64) -> u32 {
        // SAFETY: it takes and returns numbers.
        unsafe { shim_deciding_slot(slots, now) }
    }

    pub(super) fn spare(answer: &mut Answer, emergency: u64, now: u64, is_guard: bool) {
        // SAFETY: it is valid for the call, and of the type that the header declares.
        unsafe { shim_spare(answer, emergency, now, i32::from(is_guard)) }
    }

    pub(super) fn hash_word(hash: u64, word: u64) -> u64 {
        // SAFETY: it takes and returns numbers.
        unsafe { shim_hash_word(hash, word) }
    }

    pub(super) fn hash_byte(hash: u64, byte: u8) -> u64 {
        // SAFETY: it takes and returns numbers.
        unsafe { shim_hash_byte(hash, byte) }
    }
}

/// One label that was found: its verdict, the weakest action that counts there, and why it holds.
type Found = (Verdict, u32, u32);

/// What speaks: over all that was found, the strongest action, then the earliest rule, then the earliest access, then
/// what was found first.
fn strongest(found: &[Found], wanted: u32) -> Option<(u32, u32, u32, u32)> {
    let mut speaks = Vec::new();
    for (order, (verdict, weakest, why)) in found.iter().enumerate() {
        for action in Action::ALL {
            for access in Access::ALL {
                let rule = verdict.rule[action.index()][access.index()];
                let (action, access) = (number(action.index()), number(access.index()));
                if rule != 0 && action <= *weakest && wanted & (1 << access) != 0 {
                    speaks.push(((action, rule), order, access, *why));
                }
            }
        }
    }
    speaks.sort();
    let ((action, rule), _, access, why) = speaks.first().copied()?;
    Some((rule, action, access, why))
}

fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

fn verdict() -> impl Strategy<Value = Verdict> {
    // Few numbers, so that rules meet; none and the one that no policy has among them.
    let rule = prop_oneof![4 => Just(0_u32), 6 => 1_u32..5, 1 => Just(u32::MAX)];
    prop::array::uniform3(prop::array::uniform3(rule)).prop_map(|rule| Verdict { rule })
}

fn found() -> impl Strategy<Value = Vec<Found>> {
    prop::collection::vec((verdict(), 0_u32..3, 1_u32..6), 0..6)
}

proptest! {
    #[test]
    fn the_strongest_of_all_that_is_found_wins(found in found(), wanted in 0_u32..8) {
        let mut answer = c::Answer::default();
        for (verdict, weakest, why) in &found {
            c::weigh(&mut answer, verdict, wanted, *weakest, *why);
        }
        match strongest(&found, wanted) {
            None => prop_assert_eq!(answer, c::Answer::default()),
            Some((rule, action, access, why)) => {
                prop_assert_eq!(answer, c::Answer { rule, action, access, why, spared: 0 });
            }
        }
        let denies = strongest(&found, wanted).is_some_and(|(_, action, _, _)| action == 0);
        prop_assert_eq!(c::is_denied(&answer), denies);
    }

    #[test]
    fn what_is_found_later_never_makes_an_answer_weaker(
        found in found(), more in verdict(), wanted in 0_u32..8
    ) {
        let mut answer = c::Answer::default();
        for (verdict, weakest, why) in &found {
            c::weigh(&mut answer, verdict, wanted, *weakest, *why);
        }
        let before = answer;
        c::weigh(&mut answer, &more, wanted, 2, 1);
        prop_assert!(before.rule == 0 || answer.rule != 0);
        prop_assert!(before.rule == 0 || (answer.action, answer.rule) <= (before.action, before.rule));
    }

    /// Around the deadline and far from it, with every slot.
    #[test]
    fn programs_and_commands_agree_which_slot_decides(
        active in 0_u32..5, previous in 0_u32..5, kept in 0_u32..5,
        deadline in prop_oneof![Just(0_u64), 1_u64..10, 0_u64..1 << 55], now in 0_u64..20
    ) {
        let slots = SlotsWord { active, previous, kept, deadline };
        for now in [now, deadline, deadline.saturating_sub(1), u64::MAX] {
            prop_assert_eq!(c::deciding_slot(slots.word(), now), slots.at(now).active);
        }
    }

    #[test]
    fn an_emergency_spares_what_is_denied_and_reports_it(
        until in 0_u64..10, now in 0_u64..10, guards_too: bool, is_guard: bool, none: bool,
        rule in 0_u32..3, action in 0_u32..3
    ) {
        let word = if none { 0 } else { EmergencyWord { place: 3, guards_too, until }.word() };
        let before = c::Answer { rule, action, access: 1, why: 2, spared: 0 };
        let mut answer = before;
        c::spare(&mut answer, word, now, is_guard);
        let holds = EmergencyWord::at(word, now).is_some() && (guards_too || !is_guard);
        if holds && rule != 0 && action == 0 {
            prop_assert_eq!(answer, c::Answer { action: 1, spared: 1, ..before });
        } else {
            prop_assert_eq!(answer, before);
        }
    }

    #[test]
    fn an_open_asks_for_what_its_flags_say(asks in prop::array::uniform4(any::<bool>())) {
        let [reads, writes, executes, truncates] = asks;
        let (read, write, exec) = (1 << Access::Read.index(), 1 << Access::Write.index(), 1 << Access::Exec.index());
        let expected = if executes {
            exec
        } else if !reads && !writes && !truncates {
            read | write
        } else {
            (u32::from(reads) * read) | (u32::from(writes || truncates) * write)
        };
        prop_assert_eq!(c::accesses_of_open(asks), expected);
    }

    /// Of names up to the longest, in pieces of 23 bytes and a NUL as the programs read them.
    #[test]
    fn a_name_has_one_hash(seed: u64, name in prop::collection::vec(1_u8..=255, 0..=255)) {
        let mut hash = seed;
        // A name of just so many pieces ends with an empty one.
        let mut pieces: Vec<&[u8]> = name.chunks(23).collect();
        if pieces.last().is_none_or(|last| last.len() == 23) {
            pieces.push(&[]);
        }
        for piece in pieces {
            let mut padded = [0_u8; 24];
            padded[..piece.len()].copy_from_slice(piece);
            for word in padded.chunks_exact(8) {
                hash = c::hash_word(hash, u64::from_le_bytes(word.try_into().expect("eight")));
            }
        }
        prop_assert_eq!(hash_name(seed, &name), hash);
    }

    #[test]
    fn a_cgroup_name_has_one_hash_from_either_end(
        seed: u64, name in prop::collection::vec(1_u8..=255, 0..=255)
    ) {
        let forward = name.iter().fold(seed, |hash, byte| c::hash_byte(hash, *byte));
        let backward = name.iter().rev().fold(seed, |hash, byte| c::hash_byte(hash, *byte));
        prop_assert_eq!(hash_cgroup_name(seed, &name), forward);
        prop_assert_eq!(hash_cgroup_suffix(seed, &name), backward);
    }
}
