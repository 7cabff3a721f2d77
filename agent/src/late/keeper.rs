// SPDX-License-Identifier: Apache-2.0 OR MIT
//! When the agent writes down what files took along: whenever the kernel has noted more, or less.

use std::time::{Duration, Instant};

use aegis_kernel::{Kernel, Slot};

use super::settle;
use crate::context::Context;

/// What was last written down, and said.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    noted: Vec<Noted>,
    failed: bool,
    /// Until when it rests.
    rests: Option<Instant>,
    said: Option<String>,
}

/// The generation of a slot, how many late rows it has, how many were added, and how many found no room.
type Noted = (u64, u32, u32, u32, u32);

impl Keeper {
    /// Writes it down if something has changed, or if that failed some time ago. The answer is what is new to be said.
    pub(crate) fn keep(&mut self, context: &Context, kernel: &Kernel) -> Option<String> {
        if self.rests.is_some_and(|until| Instant::now() < until) {
            return None;
        }
        self.keep_now(context, kernel)
    }

    /// The same without a rest.
    pub(crate) fn keep_now(&mut self, context: &Context, kernel: &Kernel) -> Option<String> {
        let noted = |slot| {
            let generation = kernel.generation(slot).ok().flatten()?;
            let marks = kernel.marks(slot);
            Some((generation.number, generation.revision, marks.late, marks.epoch, marks.lost))
        };
        let now = Slot::all().filter_map(noted).collect();
        if self.noted == now && !self.failed {
            return None;
        }
        self.noted = now;
        let begun = Instant::now();
        let told = settle(context, kernel);
        self.failed = told.is_err();
        self.rests = Some(Instant::now() + rest(begun.elapsed(), self.failed));
        let told = told.unwrap_or_else(|error| {
            Some(format!("what files took along could not be written down: {error:#}"))
        });
        if told == self.said {
            return None;
        }
        self.said.clone_from(&told);
        told
    }
}

/// Whoever moves files all the time keeps the agent from other work for a fifth of its time at most.
fn rest(took: Duration, failed: bool) -> Duration {
    let rest = took.saturating_mul(4);
    if failed { rest.max(AGAIN) } else { rest }
}

/// How long after a failure it is tried again.
const AGAIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rests_for_longer_the_longer_it_took() {
        let second = Duration::from_secs(1);
        assert_eq!(rest(second, false), 4 * second);
        assert_eq!(rest(second, true), AGAIN);
        assert_eq!(rest(2 * second, true), 8 * second);
    }
}
