// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which links, programs and maps are behind our pins now: numbers that the kernel never gives twice.
//!
//! Reads only. Whoever remembers an [`Identity`] can tell later whether somebody took something away or
//! put something else in its place; what ought to be there is not known here.

use std::{collections::BTreeMap, path::Path};

use libbpf_rs::{Link, MapCore as _, MapFlags, MapHandle, query::LinkTypeInfo};

use crate::{
    Error, Kernel,
    generation::BySlot,
    hooks::HOOKS,
    install::{self, BYSTANDERS, CONTROL, MARKS},
};

/// Names of what is pinned, each with what it is.
pub type Identity = BTreeMap<String, String>;

impl Kernel {
    /// Everything that does not change from an install to its end: links with their programs and what
    /// these are attached to, and the maps that programs and commands share.
    ///
    /// What cannot be opened is not in it.
    pub fn installed(pins: &Path) -> Identity {
        libbpf_rs::set_print(None);
        // For a moment during a hand-over they have another name.
        let place = install::place(pins).ok().flatten();
        let pins = place.as_ref().map_or(pins, |place| &place.path);
        let mut identity = Identity::new();
        for hook in HOOKS {
            if let Some(link) = link(pins, hook) {
                identity.insert(format!("link_{hook}"), link);
            }
        }
        for name in
            [CONTROL, BYSTANDERS, MARKS, "generations", "events"].iter().chain(BySlot::KINDS)
        {
            if let Some(id) = open(pins, name).and_then(|map| number(&map)) {
                identity.insert((*name).to_owned(), format!("map {id}"));
            }
        }
        identity
    }

    /// The maps in a slot: they do not change as long as its generation stays.
    ///
    /// # Errors
    /// If an outer map cannot be read.
    pub fn filled(&self, slot: crate::Slot) -> Result<Identity, Error> {
        let key = slot.number().to_ne_bytes();
        let mut identity = Identity::new();
        for name in BySlot::KINDS {
            let Some(outer) = open(&self.pins, name) else { continue };
            let inner = outer
                .lookup(&key, MapFlags::ANY)
                .map_err(|source| Error::map("read", name, source))?;
            if let Some(Ok(id)) = inner.map(|id| <[u8; 4]>::try_from(id.as_slice())) {
                identity.insert((*name).to_owned(), format!("map {}", u32::from_ne_bytes(id)));
            }
        }
        Ok(identity)
    }
}

fn link(pins: &Path, hook: &str) -> Option<String> {
    let info = Link::open(install::link_pin(pins, hook)).ok()?.info().ok()?;
    let at = match info.info {
        LinkTypeInfo::Tracing(tracing) => tracing.target_btf_id,
        _ => 0,
    };
    Some(format!("link {} program {} at {at}", info.id, info.prog_id))
}

fn open(pins: &Path, name: &str) -> Option<MapHandle> {
    MapHandle::from_pinned_path(pins.join(name)).ok()
}

fn number(map: &MapHandle) -> Option<u32> {
    map.info().ok().map(|info| info.info.id)
}
