// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Rows → an idle slot: written, read back, compared, frozen. Nothing here decides.

use std::{collections::HashMap, fmt, os::fd::AsRawFd as _};

use aegis_abi::{
    Count, CountKey, Rows,
    generated::{AEGIS_CGROUP_CACHE, AEGIS_LATE_ROWS, aegis_generation},
};
use aegis_fault::{self as fault, Point};
use libbpf_rs::{MapCore as _, MapFlags, MapHandle, MapInfo, libbpf_sys};
use zerocopy::{FromBytes as _, FromZeros as _, IntoBytes};

use crate::{Error, Kernel, Slot};

/// What is in a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Its number, from 1; never used twice on a host as long as our pins stay.
    pub number: u64,
    /// How often the same policies were bound anew under this number.
    pub revision: u32,
    /// SHA-256 of the set of policies that it was compiled from.
    pub set_digest: [u8; 32],
    /// How many policies that set has.
    pub policies: u32,
    /// When it was filled: seconds since 1970.
    pub filled_at: u64,
    /// Its labels and scopes, with the empty ones.
    pub labels: u32,
    /// See `labels`.
    pub scopes: u32,
    /// The accesses that any rule speaks of: one bit each, by [`aegis_abi::Access::index`].
    pub accesses: u32,
}

impl Generation {
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let raw = aegis_generation::read_from_bytes(bytes).ok()?;
        (raw.number != 0).then_some(Self {
            number: raw.number,
            revision: raw.revision,
            set_digest: raw.set_digest,
            policies: raw.policies,
            filled_at: raw.filled_at,
            labels: raw.labels,
            scopes: raw.scopes,
            accesses: raw.accesses,
        })
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.revision {
            0 => write!(f, "{}", self.number),
            revision => write!(f, "{}.{revision}", self.number),
        }
    }
}

impl Kernel {
    /// Fills an idle slot with `rows` and returns it. What decides is not touched.
    ///
    /// `filled_at` is in seconds since 1970; `exempt_cgroup` is the id of the cgroup that rules on
    /// `"*"` leave alone, if there is one.
    ///
    /// # Errors
    /// If the kernel has no room or refuses a map; then the slot is empty and its memory given back.
    pub fn fill(
        &self,
        rows: &Rows,
        filled_at: u64,
        exempt_cgroup: Option<u64>,
    ) -> Result<(Slot, Generation), Error> {
        self.fill_as(rows, filled_at, exempt_cgroup, None)
    }

    /// The same for the policies of the generation in `slot`, which are bound anew: the number stays,
    /// and so do the counts, which go on in both slots, unless other rules can be hit now.
    ///
    /// # Errors
    /// See [`Kernel::fill`].
    pub fn fill_anew(
        &self,
        rows: &Rows,
        filled_at: u64,
        exempt_cgroup: Option<u64>,
        slot: Slot,
    ) -> Result<(Slot, Generation), Error> {
        self.fill_as(rows, filled_at, exempt_cgroup, Some(slot))
    }

    fn fill_as(
        &self,
        rows: &Rows,
        filled_at: u64,
        exempt_cgroup: Option<u64>,
        anew: Option<Slot>,
    ) -> Result<(Slot, Generation), Error> {
        let slot = self.idle_slot()?;
        let mut raw = aegis_generation::new_zeroed();
        self.write_generation(slot, &raw)?; // half filled, from here on
        self.wait_for_decisions()?;
        self.bystanders.clear(slot);
        self.marks.clear(slot);
        let filled = self.by_slot.fill(slot, rows).and_then(|()| match anew {
            Some(before) => self.by_slot.share_counts(before, slot, rows),
            None => Ok(()),
        });
        let filled = filled.and_then(|()| fault::step(Point::HalfFilled).map_err(Error::fault));
        if let Err(error) = filled {
            self.by_slot.clear(slot)?;
            return Err(error);
        }
        match anew.map(|before| self.generation(before)).transpose()?.flatten() {
            Some(before) => {
                raw.number = before.number;
                raw.revision = before.revision.saturating_add(1);
            }
            None => raw.number = self.control().next_number(),
        }
        raw.seed = rows.seed;
        raw.exempt_cgroup = exempt_cgroup.unwrap_or(0);
        raw.filled_at = filled_at;
        raw.labels = rows.labels;
        raw.scopes = rows.scopes;
        raw.root_scope = rows.root_scope;
        raw.root_flags = rows.root_flags;
        raw.unknown_scope = rows.unknown_scope;
        raw.unknown_label = rows.unknown_label;
        raw.accesses = rows.accesses;
        raw.policies = rows.policies;
        raw.set_digest = rows.set_digest;
        self.write_generation(slot, &raw)?;
        let generation =
            self.generation(slot)?.ok_or(Error::NotAsWritten { map: "generations" })?;
        if let Err(error) = self.fit_hooks() {
            self.empty(slot)?;
            return Err(error);
        }
        Ok((slot, generation))
    }

    /// Empties a slot that decides nothing, and gives its memory back.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn empty(&self, slot: Slot) -> Result<(), Error> {
        self.write_generation(slot, &aegis_generation::new_zeroed())?;
        self.by_slot.clear(slot)?;
        self.fit_hooks()
    }

    /// Every count of a slot's generation.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn counts(&self, slot: Slot) -> Result<HashMap<CountKey, Count>, Error> {
        let map = self.by_slot.inner("counts", slot)?;
        let mut counts = HashMap::new();
        for key in map.keys() {
            let value =
                map.lookup(&key, MapFlags::ANY).map_err(|e| Error::map("read", "counts", e))?;
            let odd = |()| Error::OtherMap {
                map: "counts".to_owned(),
                what: "its keys or values have another size",
            };
            let Some(value) = value else { continue };
            let key = CountKey::read_from_bytes(key.as_slice()).map_err(|_size| odd(()))?;
            let count = Count::read_from_bytes(value.as_slice()).map_err(|_size| odd(()))?;
            counts.insert(key, count);
        }
        Ok(counts)
    }

    /// The scope of a cgroup in a slot, by its id; 0 if it is in none, or has not asked lately.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn scope_of(&self, slot: Slot, cgroup: u64) -> Result<u32, Error> {
        let map = self.by_slot.inner("scopes", slot)?;
        let scope = map
            .lookup(&cgroup.to_ne_bytes(), MapFlags::ANY)
            .map_err(|source| Error::map("read", "scopes", source))?;
        Ok(scope.and_then(|scope| scope.try_into().ok()).map_or(0, u32::from_ne_bytes))
    }

    /// A slot that neither decides, nor may decide without being filled first; an empty one if there is.
    pub(crate) fn idle_slot(&self) -> Result<Slot, Error> {
        let mut taken = self.named_slots();
        taken.extend(&self.avoided);
        let mut idle: Option<Slot> = None;
        for slot in Slot::all().filter(|slot| !taken.contains(slot)) {
            if self.generation(slot)?.is_none() {
                return Ok(slot);
            }
            idle = idle.or(Some(slot));
        }
        idle.ok_or_else(|| Error::OtherMap {
            map: "control".to_owned(),
            what: "it names every slot as in use",
        })
    }

    fn write_generation(&self, slot: Slot, raw: &aegis_generation) -> Result<(), Error> {
        self.generations
            .update(&slot.number().to_ne_bytes(), raw.as_bytes(), MapFlags::ANY)
            .map_err(|source| Error::map("write", "generations", source))
    }
}

/// The outer maps: for each kind of row, the inner maps by slot.
#[derive(Debug)]
pub(crate) struct BySlot {
    outer: Vec<(&'static str, MapHandle)>,
}

impl BySlot {
    /// The kinds of rows: the names of the outer maps and of their pins.
    pub(crate) const KINDS: &[&str] =
        &["objects", "names", "late", "filesystems", "cgroups", "scopes", "verdicts", "counts"];

    pub(crate) fn open(open: &impl Fn(&str) -> Result<MapHandle, Error>) -> Result<Self, Error> {
        let outer = Self::KINDS
            .iter()
            .map(|kind| Ok((*kind, open(kind)?)))
            .collect::<Result<_, Error>>()?;
        Ok(Self { outer })
    }

    /// Makes every inner map of `slot` from `rows`.
    fn fill(&self, slot: Slot, rows: &Rows) -> Result<(), Error> {
        self.put(slot, "objects", &pairs(&rows.objects))?;
        self.put(slot, "names", &pairs(&rows.names))?;
        self.put(slot, "filesystems", &pairs(&rows.filesystems))?;
        self.put(slot, "cgroups", &pairs(&rows.cgroups))?;
        let verdicts: Vec<_> = (0_u32..).zip(rows.verdicts.iter().copied()).collect();
        self.put(slot, "verdicts", &pairs(&verdicts))?;
        let counts: Vec<_> = rows.counts.iter().map(|key| (*key, Count::new_zeroed())).collect();
        self.put(slot, "counts", &pairs(&counts))?;
        // These two are written by the programs while the generation decides.
        let cache = self.make("scopes", AEGIS_CGROUP_CACHE as usize)?;
        self.set(slot, "scopes", &cache)?;
        let late = self.make("late", AEGIS_LATE_ROWS as usize)?;
        self.set(slot, "late", &late)
    }

    /// Lets a slot count where another does, if that has a row for each of its counts.
    fn share_counts(&self, from: Slot, to: Slot, rows: &Rows) -> Result<(), Error> {
        let shared = self.inner("counts", from)?;
        for key in &rows.counts {
            let there = shared.lookup(key.as_bytes(), MapFlags::ANY);
            if there.map_err(|source| Error::map("read", "counts", source))?.is_none() {
                return Ok(());
            }
        }
        self.set(to, "counts", &shared)
    }

    /// Makes one inner map, fills it, compares it, freezes it and puts it into its slot.
    fn put(&self, slot: Slot, kind: &'static str, rows: &[(&[u8], &[u8])]) -> Result<(), Error> {
        let map = self.make(kind, rows.len())?;
        for (key, value) in rows {
            map.update(key, value, MapFlags::ANY).map_err(|source| Error::NoRoom {
                map: kind,
                rows: rows.len(),
                source,
            })?;
        }
        let mut value_back = vec![0; map.value_size() as usize];
        for (key, value) in rows {
            let there = map
                .lookup_into(key, &mut value_back, MapFlags::ANY)
                .map_err(|source| Error::map("read back", kind, source))?;
            if !there || value_back != *value {
                return Err(Error::NotAsWritten { map: kind });
            }
        }
        map.freeze().map_err(|source| Error::map("freeze", kind, source))?;
        self.set(slot, kind, &map)
    }

    /// A new inner map like the template in slot 0, with room for `rows`.
    fn make(&self, kind: &'static str, rows: usize) -> Result<MapHandle, Error> {
        let template = self.inner_number(kind, 0)?;
        let info = MapInfo::new(std::os::fd::AsFd::as_fd(&template))
            .map_err(|source| Error::map("look at the template of", kind, source))?
            .info;
        // SAFETY: asks for a descriptor by number; the answer is checked and then owned.
        let btf = unsafe {
            let fd = libbpf_sys::bpf_btf_get_fd_by_id(info.btf_id);
            if fd < 0 {
                let source = rustix::io::Errno::from_raw_os_error(-fd);
                return Err(Error::System { attempt: "open the types of our programs", source });
            }
            <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd)
        };
        let options = libbpf_sys::bpf_map_create_opts {
            sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
            // Up to 6.1 an inner map with other types than the template's is refused.
            btf_fd: btf.as_raw_fd().cast_unsigned(),
            btf_key_type_id: info.btf_key_type_id,
            btf_value_type_id: info.btf_value_type_id,
            map_flags: info.map_flags,
            ..Default::default()
        };
        let size = u32::try_from(rows.max(1)).unwrap_or(u32::MAX);
        MapHandle::create(
            template.map_type(),
            Some(kind),
            template.key_size(),
            template.value_size(),
            size,
            &options,
        )
        .map_err(|source| Error::NoRoom { map: kind, rows, source })
    }

    fn set(&self, slot: Slot, kind: &'static str, inner: &MapHandle) -> Result<(), Error> {
        let fd = std::os::fd::AsFd::as_fd(inner).as_raw_fd();
        self.outer(kind)?
            .update(&slot.number().to_ne_bytes(), &fd.to_ne_bytes(), MapFlags::ANY)
            .map_err(|source| Error::map("put a generation into", kind, source))
    }

    /// Takes every inner map out of a slot; the kernel frees them.
    fn clear(&self, slot: Slot) -> Result<(), Error> {
        for (kind, outer) in &self.outer {
            match outer.delete(&slot.number().to_ne_bytes()) {
                Ok(()) => {}
                Err(source) if source.kind() == libbpf_rs::ErrorKind::NotFound => {}
                Err(source) => return Err(Error::map("take a generation out of", kind, source)),
            }
        }
        Ok(())
    }

    /// Whether any inner map is in a slot.
    pub(crate) fn holds(&self, slot: Slot) -> Result<bool, Error> {
        for (kind, outer) in &self.outer {
            let inner = outer
                .lookup(&slot.number().to_ne_bytes(), MapFlags::ANY)
                .map_err(|source| Error::map("read", kind, source))?;
            if inner.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The kernel waits for all programs that run before it returns from an update of an outer map:
    /// slot 0 gets the template that it has.
    pub(crate) fn wait_for_readers(&self) -> Result<(), Error> {
        let kind = "objects";
        let template = self.inner_number(kind, 0)?;
        let fd = std::os::fd::AsFd::as_fd(&template).as_raw_fd();
        self.outer(kind)?
            .update(&0_u32.to_ne_bytes(), &fd.to_ne_bytes(), MapFlags::ANY)
            .map_err(|source| Error::map("wait for the readers of", kind, source))
    }

    pub(crate) fn inner(&self, kind: &'static str, slot: Slot) -> Result<MapHandle, Error> {
        self.inner_number(kind, slot.number())
    }

    fn inner_number(&self, kind: &'static str, slot: u32) -> Result<MapHandle, Error> {
        let id = self
            .outer(kind)?
            .lookup(&slot.to_ne_bytes(), MapFlags::ANY)
            .map_err(|source| Error::map("read", kind, source))?
            .and_then(|id| Some(u32::from_ne_bytes(id.try_into().ok()?)))
            .ok_or_else(|| Error::OtherMap { map: kind.to_owned(), what: "the slot is empty" })?;
        MapHandle::from_map_id(id).map_err(|source| Error::map("open a slot of", kind, source))
    }

    fn outer(&self, kind: &'static str) -> Result<&MapHandle, Error> {
        self.outer
            .iter()
            .find_map(|(name, map)| (*name == kind).then_some(map))
            .ok_or_else(|| Error::OtherMap { map: kind.to_owned(), what: "there is no such kind" })
    }
}

/// Rows as the bytes that maps hold.
fn pairs<K: IntoBytes + zerocopy::Immutable, V: IntoBytes + zerocopy::Immutable>(
    rows: &[(K, V)],
) -> Vec<(&[u8], &[u8])> {
    rows.iter().map(|(key, value)| (key.as_bytes(), value.as_bytes())).collect()
}
