// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What many processes did to the same paths at the same time, and which of it no order of events allows.
//!
//! Each change and each open has a begin and an end, by one clock; it happened at some moment between them. What is
//! at a path is what the last change left there. So an open that succeeded is right if there is a change that may have
//! been the last one before some moment of it, and that left something free:
//!
//! ```text
//!   changes   |-- denied --|        |-- free --|
//!   open                   |-----|                  nothing free can have been there: wrong
//!   open                        |-----|             the second change may have happened first: right
//! ```
//!
//! Pure, but for [`watch`] and [`now`].

use crate::operation::{Operation, Tried};

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing, or what nobody may be refused.
    Free,
    /// What must be denied in the scope.
    Denied,
}

/// Something came to a path, or left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// When it began, in nanoseconds.
    pub begin: u64,
    /// When it had ended.
    pub end: u64,
    /// What was there afterwards.
    pub after: State,
}

/// Somebody opened a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// When it began, in nanoseconds.
    pub begin: u64,
    /// When it had ended.
    pub end: u64,
    /// Whether it succeeded.
    pub succeeded: bool,
}

/// The opens that no order of events allows.
///
/// @changes: of one path, the first of them before any open. Those of one process come one after the other; those of
/// several may overlap.
pub fn impossible(changes: &[Change], opens: &[Open]) -> Vec<Open> {
    let mut by_end: Vec<&Change> = changes.iter().collect();
    by_end.sort_by_key(|change| change.end);
    // The latest begin among all changes that end no later than this one.
    let begins: Vec<u64> = by_end
        .iter()
        .scan(0, |latest, change| {
            *latest = change.begin.max(*latest);
            Some(*latest)
        })
        .collect();
    let free: Vec<&Change> = by_end.iter().copied().filter(|c| c.after == State::Free).collect();
    let is_impossible = |open: &&Open| {
        // Whatever ended before this had begun was over when the open began: another change came surely later.
        let over = by_end.partition_point(|change| change.end < open.begin);
        let latest = over.checked_sub(1).map_or(0, |last| begins[last]);
        let first = free.partition_point(|change| change.end < latest);
        open.succeeded && !free[first..].iter().any(|change| change.begin <= open.end)
    };
    opens.iter().filter(is_impossible).copied().collect()
}

/// Does operations in turn until a time: the number of each, begin, end, and the error number or 0.
pub fn watch(operations: &[Operation], until: u64) -> Vec<[u64; 4]> {
    let mut done = Vec::new();
    let mut begin = now();
    while begin < until {
        for (number, operation) in (0..).zip(operations) {
            begin = now();
            let tried = operation.perform();
            let end = now();
            let answer = match tried {
                Tried::Allowed => 0,
                Tried::Refused(error) => error.unsigned_abs().into(),
                Tried::CouldNotTry(_) => u64::MAX,
            };
            done.push([number, begin, end, answer]);
        }
    }
    done
}

/// CLOCK_MONOTONIC, in nanoseconds.
pub fn now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let nanoseconds = now.tv_sec * 1_000_000_000 + now.tv_nsec;
    nanoseconds.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::{
        State::{Denied, Free},
        *,
    };

    fn change(begin: u64, end: u64, after: State) -> Change {
        Change { begin, end, after }
    }

    fn is_possible(changes: &[Change], begin: u64, end: u64) -> bool {
        let open = Open { begin, end, succeeded: true };
        let refused = Open { succeeded: false, ..open };
        assert_eq!(impossible(changes, &[refused]), [], "a refusal may be strict");
        impossible(changes, &[open]).is_empty()
    }

    #[test]
    fn what_was_denied_all_the_time_cannot_have_been_opened() {
        let changes = [change(0, 1, Free), change(10, 20, Denied), change(30, 40, Denied)];
        assert!(is_possible(&changes, 2, 5));
        assert!(is_possible(&changes, 5, 15));
        assert!(is_possible(&changes, 15, 50), "it may have come before the denial");
        assert!(is_possible(&changes, 20, 50), "an end is part of what ends");
        assert!(!is_possible(&changes, 21, 29));
        assert!(!is_possible(&changes, 32, 38), "from denied to denied there is no moment between");
        assert!(!is_possible(&changes, 41, 50));
    }

    #[test]
    fn what_becomes_free_meanwhile_can_have_been_opened() {
        let changes = [change(0, 1, Denied), change(10, 20, Free), change(30, 40, Denied)];
        assert!(!is_possible(&changes, 2, 9));
        assert!(is_possible(&changes, 2, 10));
        assert!(is_possible(&changes, 12, 13));
        assert!(is_possible(&changes, 25, 26));
        assert!(is_possible(&changes, 35, 50));
        assert!(!is_possible(&changes, 41, 50));
    }

    #[test]
    fn of_changes_at_once_any_may_be_the_last() {
        let changes = [change(0, 1, Denied), change(10, 40, Free), change(20, 30, Denied)];
        assert!(is_possible(&changes, 35, 36));
        assert!(is_possible(&changes, 50, 60), "the free one may have come last");
        let later = [change(0, 1, Denied), change(10, 18, Free), change(20, 30, Denied)];
        assert!(!is_possible(&later, 50, 60));
        let long = [change(0, 100, Free), change(5, 10, Denied), change(20, 30, Denied)];
        assert!(is_possible(&long, 40, 50));
        assert!(is_possible(&long, 110, 120), "it may have come at its very end");
    }

    #[test]
    fn without_changes_nothing_can_be_told_to_be_free() {
        assert!(!is_possible(&[], 1, 2));
        assert!(!is_possible(&[change(0, 1, Denied)], 5, 6));
    }

    /// Held against every order that there is.
    #[test]
    fn it_says_what_trying_all_orders_says() {
        let mut random = crate::model::random::Random::new(1);
        let mut wrong = 0;
        for _ in 0..3_000 {
            let mut changes = vec![change(0, 1, if random.one_in(2) { Free } else { Denied })];
            for _ in 0..random.below(4) {
                let begin = 2 + random.below(20) as u64;
                let end = begin + 1 + random.below(10) as u64;
                changes.push(change(begin, end, if random.one_in(2) { Free } else { Denied }));
            }
            let begin = 2 + random.below(25) as u64;
            let end = begin + 1 + random.below(10) as u64;
            let possible = is_possible(&changes, begin, end);
            assert_eq!(possible, by_all_moments(&changes, begin, end), "{changes:?} {begin} {end}");
            wrong += usize::from(!possible);
        }
        assert!(wrong > 300, "{wrong}");
    }

    /// Every choice of a moment for each change and for the open, in half steps so that there is room between.
    fn by_all_moments(changes: &[Change], begin: u64, end: u64) -> bool {
        (begin..=end).any(|moment| {
            // A change can be the last before a moment if it can come before it, and no other one surely comes
            // between the two.
            changes.iter().filter(|change| change.after == Free).any(|change| {
                (change.begin..=change.end.min(moment)).any(|own| {
                    changes
                        .iter()
                        .filter(|other| *other != change)
                        .all(|other| (other.begin..=other.end).any(|at| at <= own || at >= moment))
                })
            })
        })
    }
}
