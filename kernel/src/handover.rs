// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Programs of this binary take over from those of another, and there is no moment in which neither
//! decides.
//!
//! ```text
//!   PINS                  the others decide
//!   PINS     PINS-new     ours are beside them, and may decide as well: what is cut off is undone
//!   PINS     PINS-next    ours have denied, nothing leads back: what is cut off is finished
//!   PINS-old PINS-next    the others have lost the name: whoever looks finds ours
//!   PINS-old PINS         ours have it
//!            PINS         ours alone
//! ```
//!
//! As long as both decide, what either denies is denied. What is carried over is what the control map
//! says; what a generation has noted is for whoever fills the slot.

use std::{
    mem::offset_of,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use aegis_abi::{
    SlotsWord,
    generated::{AEGIS_TOGGLES, aegis_control, aegis_log_head, aegis_toggle},
};
use aegis_fault::{self as fault, Point};
use rustix::fs::{self, CWD};

use crate::{
    Error, Kernel, Slot, Slots,
    control::Control,
    install::{NEXT, OLD, beside, remove_pins},
    owner,
};

/// Programs that take over, and those that they take over from.
#[derive(Debug)]
pub struct Handover {
    pins: PathBuf,
    /// `None`: of them only names are left.
    old: Option<Kernel>,
    new: Kernel,
}

impl Handover {
    /// Attaches the programs of this binary beside those that are pinned. They decide nothing yet.
    ///
    /// # Errors
    /// If the kernel refuses anything; then nothing of them stays.
    pub fn begin(pins: &Path, old: Kernel) -> Result<Self, Error> {
        let new = Kernel::prepare(pins)?;
        let handover = Self { pins: pins.to_owned(), old: Some(old), new };
        handover.carry();
        Ok(handover)
    }

    /// One that was cut off after it was decided.
    ///
    /// # Errors
    /// If what takes over cannot be opened.
    pub fn resume(pins: &Path) -> Result<Option<Self>, Error> {
        let (next, aside) = (beside(pins, NEXT), beside(pins, OLD));
        let (new, old) = match (next.exists(), pins.exists(), aside.exists()) {
            (true, true, _) => (Kernel::open_at(&next)?, Some(Kernel::open_at(pins)?)),
            (true, false, _) => (Kernel::open_at(&next)?, Kernel::open_at(&aside).ok()),
            (false, true, true) => (Kernel::open_at(pins)?, Kernel::open_at(&aside).ok()),
            (false, ..) => return Ok(None),
        };
        Ok(Some(Self { pins: pins.to_owned(), old, new }))
    }

    /// One that was cut off before it was decided: it has to be given up.
    ///
    /// # Errors
    /// If what decides cannot be opened.
    pub fn undecided(pins: &Path) -> Result<Option<Self>, Error> {
        let half_done = Kernel::half_done(pins);
        if !pins.exists() || !half_done.exists() {
            return Ok(None);
        }
        let old = Kernel::open_at(pins)?;
        let Ok(new) = Kernel::open_at(&half_done) else {
            // Not all of it was there yet, so it has decided nothing.
            remove_pins(&half_done)?;
            return Ok(None);
        };
        Ok(Some(Self { pins: pins.to_owned(), old: Some(old), new }))
    }

    /// What takes over.
    pub const fn new_one(&self) -> &Kernel {
        &self.new
    }

    /// What it takes over from; `None` if only names are left of it.
    pub const fn old_one(&self) -> Option<&Kernel> {
        self.old.as_ref()
    }

    /// From now on the others decide nothing for the one cgroup with this id, so that a denial there is
    /// one of ours.
    ///
    /// # Errors
    /// If they have no slot without anything in it.
    pub fn stand_aside(&mut self, scratch: u64) -> Result<(), Error> {
        let Some(old) = &self.old else { return Ok(()) };
        let nothing = old.idle_slot()?;
        old.empty(nothing)?;
        old.try_out(nothing, scratch);
        self.new.avoided = old.named_slots();
        Ok(())
    }

    /// From now on ours decide by `slot` as well, until somebody goes back in the others.
    pub fn decide_too(&self, slot: Slot) {
        self.new.control().change(|_| Some(undecided(Some(slot))));
    }

    /// Ours take over for good, if the others still decide as `seen` says: from here on nobody can go
    /// back in them. `false`: somebody has, and this has to be given up.
    ///
    /// # Errors
    /// If the pins cannot be renamed; then it has to be given up as well.
    pub fn decide(&mut self, seen: Slots, slot: Option<Slot>) -> Result<bool, Error> {
        if self.old.as_ref().is_some_and(|old| !old.seal(seen)) {
            return Ok(false);
        }
        // Whoever went back and forth again has silenced ours, or is about to: one of both happens.
        let claimed = |now| SlotsWord { previous: 0, ..now };
        let is_ours = |now: SlotsWord| (now == undecided(slot)).then(|| claimed(now));
        if self.new.control().change(is_ours).is_none() {
            return Ok(false);
        }
        fault::step(Point::Sealed).map_err(Error::fault)?;
        self.move_new(NEXT)?;
        fault::passed(Point::Decided);
        Ok(true)
    }

    /// Ours get the name of the pins. The caller holds the lock of the provenance log, whose newest
    /// lines go along.
    ///
    /// # Errors
    /// If the pins cannot be renamed: then ours are found all the same, and it can be done again.
    pub fn exchange(&mut self) -> Result<(), Error> {
        let aside = beside(&self.pins, OLD);
        if self.new.pins == self.pins {
            return Ok(());
        }
        if let Some(old) = self.old.as_mut().filter(|old| old.pins == self.pins) {
            remove_pins(&aside)?; // of an earlier hand-over
            carry_log(old.control(), self.new.control());
            rename(&self.pins, &aside)?;
            old.pins = aside;
            fault::passed(Point::NameFree);
        }
        self.move_new("")?;
        fault::passed(Point::NameTaken);
        Ok(())
    }

    /// Carries over what was done with the switches, and how far numbers have gone. It can be done again
    /// and again: what was done with ours since stays.
    pub fn carry(&self) {
        let Some(old) = &self.old else { return };
        let (from, to) = (old.control(), self.new.control());
        to.number_from(from.last_number());
        self.new.go_on_from(old);
        carry_switches(from, to);
    }

    /// The others decide nothing any more.
    pub fn silence(&self) {
        if let Some(old) = &self.old {
            old.switch(None, None);
            old.end_trial();
        }
        fault::passed(Point::OthersSilent);
    }

    /// The others go, and ours stay.
    ///
    /// # Errors
    /// If a pin cannot be removed: the next hand-over does it.
    pub fn end(mut self) -> Result<Kernel, Error> {
        remove_pins(&beside(&self.pins, OLD))?;
        fault::passed(Point::OthersGone);
        self.new.avoided.clear();
        Ok(self.new)
    }

    /// The others decide as if nothing had been, but for numbers, which are never used twice.
    pub fn step_back(&self) {
        self.new.switch(None, None);
        if let Some(old) = &self.old {
            old.lead_on();
            old.number_from(self.new.control().last_number());
        }
    }

    /// After that: ours go.
    ///
    /// # Errors
    /// If a pin cannot be removed.
    pub fn give_up(self) -> Result<(), Error> {
        remove_pins(&self.new.pins).map(drop)
    }

    fn move_new(&mut self, to: &str) -> Result<(), Error> {
        let place = beside(&self.pins, to);
        rename(&self.new.pins, &place)?;
        self.new.pins = place;
        Ok(())
    }
}

impl Kernel {
    /// Numbers of events go on behind those that were taken there.
    pub fn go_on_from(&self, other: &Self) {
        let last = other.control().event_sequence().load(Ordering::SeqCst);
        self.control().event_sequence().fetch_max(last, Ordering::SeqCst);
    }

    /// Somebody went back here: what is about to take over would go on denying by what was in force
    /// before. What has taken over by now stays.
    pub(crate) fn silence_beside(&self) {
        if let Ok(control) = Control::open_at(&Self::half_done(&self.pins)) {
            let is_undecided = |now: &SlotsWord| now.previous == now.active;
            control.change(|now| is_undecided(&now).then(SlotsWord::default));
        }
    }

    /// From now on nobody can go back to what was previous, unless something else holds than `seen`.
    /// What was stays in the word, where nothing reads it without a deadline.
    fn seal(&self, seen: Slots) -> bool {
        let sealed = |now: SlotsWord| SlotsWord { previous: 0, kept: now.previous, ..now };
        let changed = self.control().change(|now| (now == seen.word()).then(|| sealed(now)));
        changed.is_some()
    }

    /// Decides for everybody, and leads back again.
    fn lead_on(&self) {
        self.end_trial();
        let is_sealed = |now: &SlotsWord| now.deadline == 0 && now.previous == 0;
        self.control().change(|now| {
            is_sealed(&now).then_some(SlotsWord { previous: now.kept, kept: 0, ..now })
        });
    }
}

/// What stands in the word of programs that decide beside others, and may be silenced by whoever goes
/// back in those: what was previous is what decides, which no switch makes.
fn undecided(slot: Option<Slot>) -> SlotsWord {
    let slot = slot.map_or(0, Slot::number);
    SlotsWord { active: slot, previous: slot, ..SlotsWord::default() }
}

fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    fs::renameat(CWD, from, CWD, to).map_err(|source| Error::file("move the pins to", to, source))
}

/// The newest lines of the provenance log and whose that is, what could not be logged, and that there was a
/// trust root.
fn carry_log(from: &Control, to: &Control) {
    let words = size_of::<aegis_log_head>() / 8 * 2;
    let heads = offset_of!(aegis_control, log_heads);
    for offset in (0..words).map(|word| heads + word * 8) {
        to.long(offset).store(from.long(offset).load(Ordering::SeqCst), Ordering::SeqCst);
    }
    let unlogged = offset_of!(aegis_control, log_unlogged);
    to.long(unlogged).store(from.long(unlogged).load(Ordering::SeqCst), Ordering::SeqCst);
    owner::carry(from, to);
    to.trust_root().store(from.trust_root().load(Ordering::SeqCst), Ordering::SeqCst);
}

/// The emergency, and who threw its switch when. Whoever throws it while names change does so again if
/// it was the wrong one; so only what was not thrown at `to` since is taken from `from`.
fn carry_switches(from: &Control, to: &Control) {
    let (there, here) =
        (from.toggles().load(Ordering::SeqCst), to.toggles().load(Ordering::SeqCst));
    let last = |control: &Control| {
        let place = usize::try_from(here.wrapping_sub(1) % u64::from(AEGIS_TOGGLES)).unwrap_or(0);
        let words = 0..size_of::<aegis_toggle>() / 8;
        words.map(|word| control.toggle(place, word).load(Ordering::SeqCst)).collect::<Vec<u64>>()
    };
    // One that is half written has no number.
    let is_carried = || {
        let ours = last(to);
        here == 0 || ours.first() == Some(&0) || ours == last(from)
    };
    if here > there || (here == there && !is_carried()) {
        return;
    }
    for place in 0..AEGIS_TOGGLES as usize {
        for word in 0..size_of::<aegis_toggle>() / 8 {
            let said = from.toggle(place, word).load(Ordering::SeqCst);
            to.toggle(place, word).store(said, Ordering::SeqCst);
        }
    }
    to.toggles().store(there, Ordering::SeqCst);
    let word = from.emergency().load(Ordering::SeqCst);
    to.emergency().store(word, Ordering::SeqCst);
}
