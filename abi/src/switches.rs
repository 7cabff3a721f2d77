// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The two words that switch everything, taken apart: bit for bit `enum aegis_slots_word` and
//! `enum aegis_emergency_word` of the header. Pure: which clock says now is for the caller to know.

use crate::generated::{
    AEGIS_DEADLINE_AT, AEGIS_GUARDS_TOO, AEGIS_KEPT_AT, AEGIS_PREVIOUS_AT, AEGIS_SLOT_MASK,
    AEGIS_TICK_SHIFT, AEGIS_TOGGLE_MASK, AEGIS_UNTIL_AT,
};

/// Which slot decides. Slots are numbers from 1; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotsWord {
    /// Decides, until the deadline.
    pub active: u32,
    /// Decided before, and decides again from the deadline on.
    pub previous: u32,
    /// Is previous again once that has happened.
    pub kept: u32,
    /// In ticks since boot; 0: there is none.
    pub deadline: u64,
}

impl SlotsWord {
    /// Takes a word apart.
    pub const fn from_word(word: u64) -> Self {
        Self {
            active: slot(word),
            previous: slot(word >> AEGIS_PREVIOUS_AT),
            kept: slot(word >> AEGIS_KEPT_AT),
            deadline: word >> AEGIS_DEADLINE_AT,
        }
    }

    /// The word.
    pub const fn word(self) -> u64 {
        self.deadline << AEGIS_DEADLINE_AT
            | (self.kept as u64) << AEGIS_KEPT_AT
            | (self.previous as u64) << AEGIS_PREVIOUS_AT
            | self.active as u64
    }

    /// What holds at a tick: past the deadline, what was there before the switch.
    pub const fn at(self, now: u64) -> Self {
        if self.deadline == 0 || now < self.deadline {
            return self;
        }
        Self { active: self.previous, previous: self.kept, kept: 0, deadline: 0 }
    }
}

/// An emergency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmergencyWord {
    /// The place of its toggle in the control map.
    pub place: u32,
    /// Whether guards are off as well.
    pub guards_too: bool,
    /// When it ends by itself, in ticks since boot.
    pub until: u64,
}

impl EmergencyWord {
    /// Takes a word apart; `None` if there is no emergency at this tick.
    pub const fn at(word: u64, now: u64) -> Option<Self> {
        let until = word >> AEGIS_UNTIL_AT;
        if now >= until {
            return None;
        }
        #[allow(clippy::cast_possible_truncation, reason = "three bits")]
        let place = (word & AEGIS_TOGGLE_MASK as u64) as u32;
        Some(Self { place, guards_too: word & AEGIS_GUARDS_TOO as u64 != 0, until })
    }

    /// The word.
    pub const fn word(self) -> u64 {
        let guards = if self.guards_too { AEGIS_GUARDS_TOO as u64 } else { 0 };
        self.until << AEGIS_UNTIL_AT | guards | (self.place & AEGIS_TOGGLE_MASK) as u64
    }
}

/// Nanoseconds since boot → ticks, not before that moment.
pub const fn ticks(nanoseconds: u64) -> u64 {
    nanoseconds.div_ceil(1 << AEGIS_TICK_SHIFT)
}

/// Ticks → nanoseconds since boot.
pub const fn nanoseconds(ticks: u64) -> u64 {
    ticks << AEGIS_TICK_SHIFT
}

#[allow(clippy::cast_possible_truncation, reason = "three bits")]
const fn slot(word: u64) -> u32 {
    (word & AEGIS_SLOT_MASK as u64) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_what_it_was_made_from() {
        let slots = SlotsWord { active: 3, previous: 1, kept: 4, deadline: 1 << 54 };
        assert_eq!(SlotsWord::from_word(slots.word()), slots);
        let emergency = EmergencyWord { place: 5, guards_too: true, until: (1 << 55) - 1 };
        assert_eq!(EmergencyWord::at(emergency.word(), 0), Some(emergency));
        assert_eq!(EmergencyWord::at(0, 0), None);
    }

    #[test]
    fn at_the_deadline_everything_is_as_before_the_switch() {
        let before = SlotsWord { active: 1, previous: 2, kept: 0, deadline: 0 };
        let open = SlotsWord { active: 3, previous: 1, kept: 2, deadline: 100 };
        assert_eq!(open.at(99), open);
        assert_eq!(open.at(100), before);
        assert_eq!(before.at(u64::MAX), before);
    }
}
