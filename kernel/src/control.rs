// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The switches, shared with the programs through one mapping each.
//!
//! A flip is one aligned 64-bit store here. The two structs at the top own the only unsafe code of
//! this crate: a mapping of a BPF array map, and atomic access to its words.

use std::{
    ffi::c_void,
    mem::offset_of,
    os::fd::AsFd as _,
    path::Path,
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use aegis_abi::{
    Marks, SlotsWord,
    generated::{
        AEGIS_ABI_VERSION, AEGIS_BYSTANDERS, AEGIS_SLOTS, AEGIS_TICK_SHIFT, aegis_asking,
        aegis_control, aegis_resolved, aegis_toggle,
    },
};
use libbpf_rs::{MapCore as _, MapHandle};
use rustix::{
    mm::{MapFlags, ProtFlags, mmap, munmap},
    time::{ClockId, clock_gettime},
};

use crate::{Error, install};

/// A place for a generation: 1 to 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u32);

impl Slot {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        (1..AEGIS_SLOTS).map(Self)
    }

    /// Its number, from 1.
    pub const fn number(self) -> u32 {
        self.0
    }

    pub(crate) fn from_number(number: u32) -> Option<Self> {
        (1..AEGIS_SLOTS).contains(&number).then_some(Self(number))
    }
}

/// The mapping of `.data.control`.
#[derive(Debug)]
pub(crate) struct Control {
    shared: Shared,
    /// Which map it is: the kernel gives no number twice.
    number: u32,
}

impl Control {
    /// Opens the one that is pinned at a place.
    pub(crate) fn open_at(place: &Path) -> Result<Self, Error> {
        let path = place.join(install::CONTROL);
        let map =
            MapHandle::from_pinned_path(&path).map_err(|source| Error::OpenPin { path, source })?;
        Self::of(&map)
    }

    /// Maps the control map, after making sure that it is one that this binary knows.
    pub(crate) fn of(map: &MapHandle) -> Result<Self, Error> {
        let size = u32::try_from(size_of::<aegis_control>()).unwrap_or(u32::MAX);
        if map.value_size() < 8 {
            return Err(Error::OtherMap {
                map: map.name().to_string_lossy().into_owned(),
                what: "it is too small to be a control map",
            });
        }
        let info = map.info().map_err(|source| Error::map("look at", "control", source))?;
        let control = Self { shared: Shared::of(map)?, number: info.info.id };
        let found = control.word(offset_of!(aegis_control, abi_version)).load(Ordering::Relaxed);
        let found_size = control.word(offset_of!(aegis_control, size)).load(Ordering::Relaxed);
        if found != AEGIS_ABI_VERSION || found_size != size || map.value_size() != size {
            return Err(Error::OtherAbi { found, size: found_size, known: AEGIS_ABI_VERSION });
        }
        Ok(control)
    }

    /// Which map it is.
    pub(crate) const fn number(&self) -> u32 {
        self.number
    }

    /// What holds now.
    pub(crate) fn slots(&self) -> SlotsWord {
        SlotsWord::from_word(self.slots_word().load(Ordering::Acquire)).at(now())
    }

    /// What stands in the word, whatever the clock says.
    pub(crate) fn raw_slots(&self) -> SlotsWord {
        SlotsWord::from_word(self.slots_word().load(Ordering::Acquire))
    }

    pub(crate) fn trial(&self) -> Option<Slot> {
        Slot::from_number(self.trial_word().load(Ordering::Acquire))
    }

    /// Changes what holds, with one store; `change` is asked again if somebody else was faster. The
    /// answer is what held before and what holds now, or `None` if there is nothing to change.
    pub(crate) fn change(
        &self,
        change: impl Fn(SlotsWord) -> Option<SlotsWord>,
    ) -> Option<(SlotsWord, SlotsWord)> {
        let word = self.slots_word();
        let mut found = word.load(Ordering::Acquire);
        loop {
            let before = SlotsWord::from_word(found).at(now());
            let after = change(before)?;
            match word.compare_exchange(found, after.word(), Ordering::SeqCst, Ordering::Acquire) {
                Ok(_) => return Some((before, after)),
                Err(other) => found = other,
            }
        }
    }

    pub(crate) fn try_out(&self, slot: Slot) {
        self.trial_word().store(slot.0, Ordering::SeqCst);
    }

    pub(crate) fn end_trial(&self) -> Option<Slot> {
        Slot::from_number(self.trial_word().swap(0, Ordering::SeqCst))
    }

    /// Where proofs are made: a trial decides there, and an emergency does not hold.
    pub(crate) fn set_scratch(&self, cgroup: u64) {
        self.long(offset_of!(aegis_control, scratch_cgroup)).store(cgroup, Ordering::SeqCst);
    }

    /// Numbers of generations go on from here, if they are not beyond it.
    pub(crate) fn number_from(&self, last: u64) {
        self.long(offset_of!(aegis_control, last_number)).fetch_max(last, Ordering::SeqCst);
    }

    /// The number of the newest generation.
    pub(crate) fn last_number(&self) -> u64 {
        self.long(offset_of!(aegis_control, last_number)).load(Ordering::SeqCst)
    }

    /// The hash of the object that the attached programs are from.
    pub(crate) fn programs(&self) -> &AtomicU64 {
        self.long(offset_of!(aegis_control, programs))
    }

    /// The next number for a generation; never one that was used before.
    pub(crate) fn next_number(&self) -> u64 {
        self.long(offset_of!(aegis_control, last_number)).fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Counts the events that were taken out of the ring, and those that were lost before them.
    pub(crate) fn event_sequence(&self) -> &AtomicU64 {
        self.long(offset_of!(aegis_control, event_sequence))
    }

    /// Whether a trust root was installed on this node, as far as is known here: 0 or 1.
    pub(crate) fn trust_root(&self) -> &AtomicU32 {
        self.word(offset_of!(aegis_control, trust_root))
    }

    /// The word that says whether there is an emergency.
    pub(crate) fn emergency(&self) -> &AtomicU64 {
        self.long(offset_of!(aegis_control, emergency))
    }

    /// How many toggles of it there were.
    pub(crate) fn toggles(&self) -> &AtomicU64 {
        self.long(offset_of!(aegis_control, toggles))
    }

    /// One word of the toggle at a place.
    pub(crate) fn toggle(&self, place: usize, word: usize) -> &AtomicU64 {
        let start = offset_of!(aegis_control, toggle) + place * size_of::<aegis_toggle>();
        self.long(start + word * 8)
    }

    fn slots_word(&self) -> &AtomicU64 {
        self.long(offset_of!(aegis_control, slots))
    }

    fn trial_word(&self) -> &AtomicU32 {
        self.word(offset_of!(aegis_control, trial_slot))
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        self.shared.word(offset)
    }

    pub(crate) fn long(&self, offset: usize) -> &AtomicU64 {
        self.shared.long(offset)
    }
}

/// Ticks since boot, suspended time included: the clock of deadlines.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    let (seconds, nanoseconds) =
        (u64::try_from(time.tv_sec).unwrap_or(0), u64::try_from(time.tv_nsec).unwrap_or(0));
    // Rounded down, as the programs do: what is due there is due here.
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds) >> AEGIS_TICK_SHIFT
}

/// The mapping of `.bss.bystanders`: cgroups known to be in no scope, by slot.
#[derive(Debug)]
pub(crate) struct Bystanders(Shared);

impl Bystanders {
    pub(crate) fn of(map: &MapHandle) -> Result<Self, Error> {
        let shared = Shared::of(map)?;
        if shared.size < AEGIS_SLOTS as usize * Self::ROW {
            return Err(Error::OtherMap {
                map: map.name().to_string_lossy().into_owned(),
                what: "it is too small to be the table of bystanders",
            });
        }
        Ok(Self(shared))
    }

    /// Forgets a slot's cgroups. Only while no program decides by that slot.
    pub(crate) fn clear(&self, slot: Slot) {
        let start = slot.0 as usize * Self::ROW;
        for offset in (start..start + Self::ROW).step_by(8) {
            self.0.long(offset).store(0, Ordering::Relaxed);
        }
        std::sync::atomic::fence(Ordering::SeqCst);
    }

    const ROW: usize = AEGIS_BYSTANDERS as usize * 8;
}

/// The mapping of `.bss.marks`: what happened to each slot, counted by the hooks.
#[derive(Debug)]
pub(crate) struct AllMarks(Shared);

impl AllMarks {
    pub(crate) fn of(map: &MapHandle) -> Result<Self, Error> {
        let shared = Shared::of(map)?;
        if shared.size < AEGIS_SLOTS as usize * Self::ROW {
            return Err(Error::OtherMap {
                map: map.name().to_string_lossy().into_owned(),
                what: "it is too small to be the table of marks",
            });
        }
        Ok(Self(shared))
    }

    pub(crate) fn of_slot(&self, slot: Slot) -> Marks {
        let mut bytes = [0; size_of::<Marks>()];
        for (at, to) in bytes.chunks_exact_mut(4).enumerate() {
            let word = self.0.word(slot.0 as usize * Self::ROW + at * 4);
            to.copy_from_slice(&word.load(Ordering::Acquire).to_ne_bytes());
        }
        zerocopy::transmute!(bytes)
    }

    /// Counts a late row that user space has added, as the hooks count theirs.
    pub(crate) fn add_late(&self, slot: Slot) {
        self.add(slot, offset_of!(Marks, late), 1);
        self.add_epoch(slot);
    }

    /// Has decisions that are being made look once more at late rows.
    pub(crate) fn add_epoch(&self, slot: Slot) {
        self.add(slot, offset_of!(Marks, epoch), 1);
    }

    /// Counts late rows that user space had no room for.
    pub(crate) fn add_lost(&self, slot: Slot, rows: u32) {
        self.add(slot, offset_of!(Marks, lost), rows);
    }

    fn add(&self, slot: Slot, offset: usize, more: u32) {
        let word = self.0.word(slot.0 as usize * Self::ROW + offset);
        word.fetch_add(more, Ordering::SeqCst);
    }

    /// Forgets what happened to a slot. Only while no generation is in it.
    pub(crate) fn clear(&self, slot: Slot) {
        let start = slot.0 as usize * Self::ROW;
        for offset in (start..start + Self::ROW).step_by(4) {
            self.0.word(offset).store(0, Ordering::SeqCst);
        }
    }

    const ROW: usize = size_of::<Marks>();
}

/// The mapping of `.bss.asking` of the resolver's object.
#[derive(Debug)]
pub(crate) struct Asking(Shared);

impl Asking {
    pub(crate) fn of(map: &MapHandle) -> Result<Self, Error> {
        Ok(Self(Shared::of(map)?))
    }

    /// The thread that is answered.
    pub(crate) fn thread(&self) -> &AtomicU32 {
        self.0.word(offset_of!(aegis_asking, thread))
    }

    /// How often the program ran for the present question.
    pub(crate) fn calls(&self) -> &AtomicU32 {
        self.0.word(offset_of!(aegis_asking, answer) + offset_of!(aegis_resolved, calls))
    }

    /// The answer, read word by word.
    pub(crate) fn answer(&self) -> aegis_resolved {
        let mut bytes = [0; size_of::<aegis_resolved>()];
        for (at, to) in bytes.chunks_exact_mut(4).enumerate() {
            let word = self.0.word(offset_of!(aegis_asking, answer) + at * 4);
            to.copy_from_slice(&word.load(Ordering::Acquire).to_ne_bytes());
        }
        zerocopy::transmute!(bytes)
    }
}

/// A BPF array map's memory. Both sides change it at any time, so it is only reached as atomics.
#[derive(Debug)]
struct Shared {
    start: NonNull<c_void>,
    size: usize,
}

impl Shared {
    fn of(map: &MapHandle) -> Result<Self, Error> {
        let page = rustix::param::page_size();
        let size = (map.value_size() as usize).next_multiple_of(page);
        // SAFETY: a new mapping at an address of the kernel's choice; nothing of ours lies there.
        let start = unsafe {
            mmap(
                std::ptr::null_mut(),
                size,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                map.as_fd(),
                0,
            )
        }
        .map_err(|source| Error::System { attempt: "map a BPF map into memory", source })?;
        let start = NonNull::new(start).ok_or(Error::System {
            attempt: "map a BPF map into memory",
            source: rustix::io::Errno::FAULT,
        })?;
        Ok(Self { start, size })
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        self.check(offset, 4);
        // SAFETY: inside of the mapping and aligned (checked), alive as long as `self`, and every
        // access from this side is atomic.
        unsafe { AtomicU32::from_ptr(self.start.as_ptr().byte_add(offset).cast()) }
    }

    fn long(&self, offset: usize) -> &AtomicU64 {
        self.check(offset, 8);
        // SAFETY: as in `word`.
        unsafe { AtomicU64::from_ptr(self.start.as_ptr().byte_add(offset).cast()) }
    }

    fn check(&self, offset: usize, size: usize) {
        assert!(
            offset.is_multiple_of(size) && offset + size <= self.size,
            "offset {offset} is outside of a mapping of {} bytes",
            self.size
        );
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: the mapping that `of` made; references into it cannot outlive `self`.
        let unmapped = unsafe { munmap(self.start.as_ptr(), self.size) };
        debug_assert!(unmapped.is_ok(), "a mapping of ours can be taken away");
    }
}

// SAFETY: the mapping belongs to the process, not to a thread, and is only reached as atomics.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}
