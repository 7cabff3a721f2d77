// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The emergency switch: rules report what they deny and let it through, until a moment that the kernel
//! keeps. One store begins it and one ends it; nothing is loaded, locked or written to a disk.
//!
//! Who did it and why is written into the control map before the store, and says so for the last
//! eight times, whatever became of any log.

use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use aegis_abi::{
    EmergencyWord,
    generated::{AEGIS_REASON_MAX, AEGIS_TOGGLES, aegis_toggle},
    nanoseconds, ticks,
};
use zerocopy::{FromZeros as _, IntoBytes as _};

use crate::{
    Error, Kernel,
    control::{self, Control},
    install,
};

/// Somebody began an emergency, or ended it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toggle {
    /// From 1, never again on this host as long as pins stay.
    pub number: u64,
    /// When: seconds since 1970.
    pub time: u64,
    /// When it was to end by itself: seconds since 1970. `None`: this one ended it.
    pub until: Option<u64>,
    /// Who did it.
    pub uid: u32,
    /// Who had logged in, whatever they became.
    pub login_uid: Option<u32>,
    /// The process.
    pub pid: u32,
    /// Whether guards are off as well.
    pub guards_too: bool,
    /// Why; cut off after 255 bytes.
    pub reason: String,
}

/// An emergency that holds now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emergency {
    /// When it ends by itself: nanoseconds since boot, suspended time included.
    pub until: u64,
    /// Whether guards are off as well.
    pub guards_too: bool,
    /// Who began it; `None` if so many others did since that it is not known any more.
    pub toggle: Option<Toggle>,
}

/// The switches alone: all that an emergency needs, whatever else is broken.
#[derive(Debug)]
pub struct Switches(pub(crate) Control);

impl Kernel {
    /// The switches.
    pub const fn switches(&self) -> &Switches {
        &self.switches
    }
}

impl Switches {
    /// Opens the switches that are pinned below `pins`; `None` if nothing is.
    ///
    /// # Errors
    /// If they cannot be opened, or are of another version.
    pub fn open(pins: &Path) -> Result<Option<Self>, Error> {
        libbpf_rs::set_print(None);
        install::open_in_place(pins, |place| Control::open_at(place).map(Self))
    }

    /// Those of programs that are beside these, and may decide as well: in the middle of a hand-over, or
    /// of one that was cut off. What cannot be opened is left out.
    pub fn beside(&self, pins: &Path) -> Vec<Self> {
        let there = Kernel::places(pins).into_iter().filter_map(|it| Control::open_at(&it).ok());
        there.filter(|other| other.number() != self.0.number()).map(Self).collect()
    }

    /// Which control map they are in; the kernel gives no number twice.
    pub const fn number(&self) -> u32 {
        self.0.number()
    }

    /// Whether these are the switches below `pins` by now: others may have taken over, and go on with
    /// what these said before.
    ///
    /// # Errors
    /// If they cannot be opened.
    pub fn are_at(&self, pins: &Path) -> Result<bool, Error> {
        let there = install::open_in_place(pins, Control::open_at)?;
        Ok(there.is_some_and(|there| there.number() == self.0.number()))
    }

    /// The emergency that holds now.
    pub fn emergency(&self) -> Option<Emergency> {
        let word = self.0.emergency().load(Ordering::Acquire);
        let emergency = EmergencyWord::at(word, control::now())?;
        Some(Emergency {
            until: nanoseconds(emergency.until),
            guards_too: emergency.guards_too,
            toggle: self.toggle_at(emergency.place).filter(|toggle| toggle.until.is_some()),
        })
    }

    /// From now on rules let through what they deny, until `until` (nanoseconds since boot). The
    /// number that `toggle` has is not looked at; the answer is the one that it got.
    pub fn begin_emergency(&self, toggle: &Toggle, until: u64) -> u64 {
        let (number, place) = self.write_toggle(toggle);
        let word = EmergencyWord { place, guards_too: toggle.guards_too, until: ticks(until) };
        self.0.emergency().store(word.word(), Ordering::SeqCst);
        number
    }

    /// Rules deny again. The answer is what held before, if anything did; then `toggle` is remembered.
    pub fn end_emergency(&self, toggle: &Toggle) -> Option<Emergency> {
        let before = self.emergency();
        if before.is_some() {
            self.write_toggle(toggle);
        }
        self.0.emergency().store(0, Ordering::SeqCst);
        before
    }

    /// How often emergencies were begun or ended since our pins came, and what is known of the last.
    pub fn toggles(&self) -> (u64, Vec<Toggle>) {
        let count = self.0.toggles().load(Ordering::Acquire);
        let mut known: Vec<Toggle> =
            (0..AEGIS_TOGGLES).filter_map(|at| self.toggle_at(at)).collect();
        known.sort_by_key(|toggle| toggle.number);
        (count, known)
    }

    /// Everything but the word that switches.
    fn write_toggle(&self, toggle: &Toggle) -> (u64, u32) {
        let number = self.0.toggles().fetch_add(1, Ordering::SeqCst) + 1;
        let place = place_of(number);
        let mut raw = aegis_toggle::new_zeroed();
        raw.time = toggle.time;
        raw.until = toggle.until.unwrap_or(0);
        raw.uid = toggle.uid;
        raw.login_uid = toggle.login_uid.unwrap_or(u32::MAX);
        raw.pid = toggle.pid;
        raw.guards_too = toggle.guards_too.into();
        // The last byte stays NUL; a character that is cut in two is read as far as it is one.
        for (to, from) in raw.reason.iter_mut().take(REASON - 1).zip(toggle.reason.bytes()) {
            *to = from;
        }
        let word = |at| self.0.toggle(place as usize, at);
        word(0).store(0, Ordering::SeqCst);
        for (at, bytes) in raw.as_bytes().chunks_exact(8).enumerate().skip(1) {
            store(word(at), bytes);
        }
        word(0).store(number, Ordering::SeqCst);
        (number, place)
    }

    fn toggle_at(&self, place: u32) -> Option<Toggle> {
        let word = |at: usize| self.0.toggle(place as usize, at).load(Ordering::Acquire);
        let number = word(0);
        let mut raw = aegis_toggle::new_zeroed();
        for (at, bytes) in raw.as_mut_bytes().chunks_exact_mut(8).enumerate() {
            bytes.copy_from_slice(&word(at).to_ne_bytes());
        }
        // Half written, or written anew meanwhile.
        if number == 0 || raw.number != number || word(0) != number {
            return None;
        }
        let reason = raw.reason.split(|byte| *byte == 0).next().unwrap_or_default();
        Some(Toggle {
            number,
            time: raw.time,
            until: (raw.until != 0).then_some(raw.until),
            uid: raw.uid,
            login_uid: (raw.login_uid != u32::MAX).then_some(raw.login_uid),
            pid: raw.pid,
            guards_too: raw.guards_too != 0,
            reason: String::from_utf8_lossy(reason).into_owned(),
        })
    }
}

fn store(word: &AtomicU64, bytes: &[u8]) {
    if let Ok(bytes) = bytes.try_into() {
        word.store(u64::from_ne_bytes(bytes), Ordering::SeqCst);
    }
}

fn place_of(number: u64) -> u32 {
    u32::try_from((number - 1) % u64::from(AEGIS_TOGGLES)).unwrap_or(0)
}

const REASON: usize = AEGIS_REASON_MAX as usize;
