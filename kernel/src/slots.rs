// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which slot decides: forward, back, and back by itself. Each change is one store of one word.
//!
//! Nothing here takes a lock. Whoever fills or empties slots does; all that happens here is that the
//! slots which the word names change places, so that such a slot is never idle.

use aegis_abi::{SlotsWord, nanoseconds, ticks};

use crate::{Error, Kernel, Slot, control};

/// What holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slots {
    /// Decides.
    pub active: Option<Slot>,
    /// Decided before the last switch.
    pub previous: Option<Slot>,
    /// Until when somebody must confirm, lest the kernel goes back to `previous`: nanoseconds since
    /// boot, suspended time included.
    pub confirm_by: Option<u64>,
    /// Is previous again if nobody does.
    pub kept: Option<Slot>,
}

impl Slots {
    fn of(word: SlotsWord) -> Self {
        Self {
            active: Slot::from_number(word.active),
            previous: Slot::from_number(word.previous),
            confirm_by: (word.deadline != 0).then(|| nanoseconds(word.deadline)),
            kept: Slot::from_number(word.kept),
        }
    }

    pub(crate) fn word(self) -> SlotsWord {
        SlotsWord {
            active: number(self.active),
            previous: number(self.previous),
            kept: number(self.kept),
            deadline: self.confirm_by.map_or(0, ticks),
        }
    }
}

impl Kernel {
    /// What holds now.
    pub fn slots(&self) -> Slots {
        Slots::of(self.control().slots())
    }

    /// The slot from which the kernel went back by itself, as long as nobody has taken note of it.
    pub fn fell_from(&self) -> Option<Slot> {
        let raw = self.control().raw_slots();
        let fell = raw != raw.at(control::now());
        Slot::from_number(raw.active).filter(|_| fell)
    }

    /// Takes note that the kernel has gone back by itself. What decides does not change.
    pub fn settle(&self) {
        self.control().change(Some);
    }

    /// Gives back the memory of every slot that can only decide after it was filled anew: what a
    /// killed command left, and what nothing leads back to. The answer is which slots had anything.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn reclaim(&self) -> Result<Vec<Slot>, Error> {
        let named = self.named_slots();
        let mut reclaimed = Vec::new();
        for slot in Slot::all().filter(|slot| !named.contains(slot)) {
            if self.generation(slot)?.is_some() || self.by_slot.holds(slot)? {
                if reclaimed.is_empty() {
                    self.wait_for_decisions()?; // by what was switched away from just now
                }
                self.empty(slot)?;
                reclaimed.push(slot);
            }
        }
        Ok(reclaimed)
    }

    /// Lets `slot` decide from now on; what decides becomes previous. With a deadline (nanoseconds
    /// since boot) the kernel goes back by itself then, unless [`Kernel::confirm`] comes first. The
    /// answer is what held before.
    pub fn switch(&self, slot: Option<Slot>, confirm_by: Option<u64>) -> Slots {
        let next = |before: SlotsWord| {
            let kept = if confirm_by.is_some() { before.previous } else { 0 };
            let deadline = confirm_by.map_or(0, ticks);
            Some(SlotsWord { active: number(slot), previous: before.active, kept, deadline })
        };
        self.changed(next)
    }

    /// Lets `slot` decide in the place of `of`, as the same policies bound anew: what was previous
    /// stays it, and so does a deadline. The answer is what held before; `None` if `of` does not
    /// decide any more, and then nothing is changed.
    pub fn replace(&self, of: Slot, slot: Slot) -> Option<Slots> {
        let changed = self.control().change(|before| {
            let decides = before.active == of.number();
            decides.then_some(SlotsWord { active: slot.number(), ..before })
        });
        changed.map(|(before, _)| Slots::of(before))
    }

    /// Takes back a [`Kernel::switch`] or [`Kernel::replace`] to `slot`, after which `before` is to
    /// hold again. What somebody else has switched to meanwhile stays.
    pub fn switch_back(&self, slot: Slot, before: Slots) {
        self.control().change(|now| {
            let before = before.word();
            if now.active == slot.number() {
                Some(before)
            } else if now.previous == slot.number() {
                Some(SlotsWord { previous: before.previous, ..now })
            } else {
                None
            }
        });
    }

    /// What decides goes on deciding after the deadline. `false`: it was too late, or there is none.
    pub fn confirm(&self) -> bool {
        let confirmed = self
            .control()
            .change(|now| (now.deadline != 0).then_some(SlotsWord { kept: 0, deadline: 0, ..now }));
        let Some((before, after)) = confirmed else { return false };
        // Stopped for so long between the look at the clock and the store that the deadline passed:
        // the kernel had gone back, and there it stays.
        if before == before.at(control::now()) {
            return true;
        }
        self.control().change(|now| (now == after).then(|| before.at(u64::MAX)));
        false
    }

    /// Goes back to the previous slot if `seen` still holds; an open confirmation ends with what was
    /// there before it. Otherwise what decided becomes previous, so that the same leads forward again.
    pub fn roll_back(&self, seen: Slots) -> bool {
        let rolled = self.control().change(|now| {
            if now != seen.word() || now.previous == 0 {
                None
            } else if now.deadline != 0 {
                Some(now.at(u64::MAX))
            } else {
                Some(SlotsWord { active: now.previous, previous: now.active, ..now })
            }
        });
        if rolled.is_some() {
            self.silence_beside();
        }
        rolled.is_some()
    }

    /// Every slot that decides, has decided, or may decide again without anybody's help.
    pub(crate) fn named_slots(&self) -> Vec<Slot> {
        let raw = self.control().raw_slots();
        let named = [raw.active, raw.previous, raw.kept].map(Slot::from_number);
        named.into_iter().chain([self.control().trial()]).flatten().collect()
    }

    fn changed(&self, next: impl Fn(SlotsWord) -> Option<SlotsWord>) -> Slots {
        let changed = self.control().change(next);
        changed.map_or_else(|| self.slots(), |(before, _)| Slots::of(before))
    }
}

fn number(slot: Option<Slot>) -> u32 {
    slot.map_or(0, Slot::number)
}
