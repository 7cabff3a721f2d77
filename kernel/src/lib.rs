// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Everything that talks BPF: programs, maps, pins.
//!
//! ```text
//!   Host facts          probe            what this host can do, by trying
//!   path → InodeKey     Resolver         as the kernel sees it
//!   Rows → slot         Kernel::fill     written, compared, frozen
//!   slot → decides      Kernel::switch   one store, and back: slots
//!   rules → reports     Kernel::begin_emergency  one store as well
//!   ring → Event        Kernel::take_events
//!   log → its newest    Witness
//!   programs → others   Handover         beside them, then in their place
//! ```
//!
//! Everything lives on in pins below one directory of a bpffs, so each command opens it anew
//! ([`Kernel::open`]) and enforcement outlives all of them. What a policy is, and where files of
//! ours lie, is for others to know.

mod ask;
mod control;
mod emergency;
mod error;
mod events;
mod generation;
mod handle;
mod handover;
mod hooks;
mod identity;
mod install;
mod late;
mod load;
mod owner;
pub mod probe;
mod resolve;
mod slots;
mod witness;

use std::path::{Path, PathBuf};

use libbpf_rs::{MapCore as _, MapFlags, MapHandle};

pub use aegis_abi::Marks;
pub use ask::Asked;
pub use control::Slot;
pub use emergency::{Emergency, Switches, Toggle};
pub use error::Error;
pub use events::{Events, Taken};
pub use generation::Generation;
pub use handle::{can_tell, is_there, outlives};
pub use handover::Handover;
pub use identity::Identity;
pub use owner::Owner;
pub use resolve::{Resolver, stat};
pub use slots::Slots;
pub use witness::{LogHead, Witness};

use control::{Bystanders, Control};

/// Our programs and maps on this host, pinned and attached.
#[derive(Debug)]
pub struct Kernel {
    pins: PathBuf,
    switches: Switches,
    bystanders: Bystanders,
    marks: control::AllMarks,
    generations: MapHandle,
    events: MapHandle,
    /// The outer maps, one for each kind of row.
    by_slot: generation::BySlot,
    /// What is not filled here, since its number is in use where this takes over.
    avoided: Vec<Slot>,
}

impl Kernel {
    /// Opens what is pinned below `pins` (`/sys/fs/bpf/aegisbpf`); `None` if nothing is.
    ///
    /// # Errors
    /// If something is pinned that this binary does not know, or not all of it can be opened.
    pub fn open(pins: &Path) -> Result<Option<Self>, Error> {
        // Errors carry what there is to say; libbpf would write to stderr as well.
        libbpf_rs::set_print(None);
        install::open_in_place(pins, Self::open_at)
    }

    /// Opens what is pinned at this very place.
    pub(crate) fn open_at(pins: &Path) -> Result<Self, Error> {
        let map = |name: &str| {
            let path = pins.join(name);
            MapHandle::from_pinned_path(&path).map_err(|source| Error::OpenPin { path, source })
        };
        let switches = Switches(Control::of(&map(install::CONTROL)?)?);
        Ok(Self {
            switches,
            bystanders: Bystanders::of(&map(install::BYSTANDERS)?)?,
            marks: control::AllMarks::of(&map(install::MARKS)?)?,
            generations: map("generations")?,
            events: map("events")?,
            by_slot: generation::BySlot::open(&map)?,
            avoided: Vec::new(),
            pins: pins.to_owned(),
        })
    }

    const fn control(&self) -> &Control {
        &self.switches.0
    }

    /// Where everything is pinned.
    pub fn pins(&self) -> &Path {
        &self.pins
    }

    /// The slot that decides now.
    pub fn active(&self) -> Option<Slot> {
        self.slots().active
    }

    /// The slot that decided before the last switch.
    pub fn previous(&self) -> Option<Slot> {
        self.slots().previous
    }

    /// Lets `slot` decide for the one cgroup with this id, whatever is active for the others.
    pub fn try_out(&self, slot: Slot, cgroup: u64) {
        self.control().set_scratch(cgroup);
        self.control().try_out(slot);
    }

    /// Says in which cgroup proofs are made: emergencies do not hold there.
    pub fn set_scratch(&self, cgroup: u64) {
        self.control().set_scratch(cgroup);
    }

    /// Numbers of generations go on behind `last`, which was the newest before our pins came.
    pub fn number_from(&self, last: u64) {
        self.control().number_from(last);
    }

    /// Ends [`Kernel::try_out`]; the slot that was tried, if one was.
    pub fn end_trial(&self) -> Option<Slot> {
        self.control().end_trial()
    }

    /// Waits until no program decides any more by what was switched away from.
    ///
    /// # Errors
    /// If the kernel refuses the update that waits.
    pub fn wait_for_decisions(&self) -> Result<(), Error> {
        self.by_slot.wait_for_readers()
    }

    /// What is in a slot; `None` if it is empty or half filled.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn generation(&self, slot: Slot) -> Result<Option<Generation>, Error> {
        let bytes = self
            .generations
            .lookup(&slot.number().to_ne_bytes(), MapFlags::ANY)
            .map_err(|source| Error::map("read", "generations", source))?;
        Ok(bytes.and_then(|bytes| Generation::from_bytes(&bytes)))
    }

    /// Whether each of our hooks is attached, by name; those that this kernel lacks, and those that
    /// no generation needs, are left out.
    pub fn hooks(&self) -> Vec<(&'static str, Result<(), Error>)> {
        let writes = self.has_rules_on_writing().unwrap_or(true);
        let needed = self.hooks_here().filter(|hook| writes || !hooks::FOR_WRITING.contains(hook));
        needed.map(|hook| (*hook, install::check_hook(&self.pins, hook))).collect()
    }

    /// Attaches what the generations need, and takes off what none does any more. What decides is
    /// not touched: a hook is attached before the first generation that needs it can decide.
    pub(crate) fn fit_hooks(&self) -> Result<(), Error> {
        let writes = self.has_rules_on_writing()?;
        for hook in self.hooks_here().filter(|hook| hooks::FOR_WRITING.contains(hook)) {
            if writes {
                install::attach(&self.pins, hook)?;
            } else {
                install::take_off(&self.pins, hook)?;
            }
        }
        Ok(())
    }

    /// Those that this kernel has, as was found when the programs were loaded: what it lacks has no
    /// pinned program. (To ask its types again would take longer than all else that a command does.)
    fn hooks_here(&self) -> impl Iterator<Item = &'static &'static str> {
        let is_here = |hook: &&&'static str| {
            !hooks::LATER.contains(hook) || install::has_program(&self.pins, hook)
        };
        hooks::HOOKS.iter().filter(is_here)
    }

    fn has_rules_on_writing(&self) -> Result<bool, Error> {
        for slot in Slot::all() {
            let accesses = self.generation(slot)?.map_or(0, |generation| generation.accesses);
            if accesses & 1 << aegis_abi::Access::Write.index() != 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What has happened to a slot's generation since it was filled.
    pub fn marks(&self, slot: Slot) -> Marks {
        self.marks.of_slot(slot)
    }
}
