// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The same questions that the programs ask of a slot's maps: which label has an inode, which a path,
//! which scope a cgroup, and what the answer is. Reads only.

use aegis_abi::{
    InodeKey, NameKey, ObjectRow, Verdict,
    generated::{AEGIS_NAME, AEGIS_ROW_DIRECTORY, aegis_generation},
    hash_name,
};
use libbpf_rs::{MapCore as _, MapFlags, MapHandle};
use zerocopy::{FromBytes as _, IntoBytes as _};

use crate::{Error, Kernel, Slot};

/// The frozen maps of one slot, opened.
#[derive(Debug)]
pub struct Asked {
    objects: MapHandle,
    names: MapHandle,
    verdicts: MapHandle,
    scopes: MapHandle,
    seed: u64,
    labels: u32,
}

impl Kernel {
    /// Opens a slot to be asked; `None` if it is empty.
    ///
    /// # Errors
    /// If a map cannot be opened.
    pub fn ask(&self, slot: Slot) -> Result<Option<Asked>, Error> {
        let bytes = self
            .generations
            .lookup(&slot.number().to_ne_bytes(), MapFlags::ANY)
            .map_err(|source| Error::map("read", "generations", source))?;
        let raw = bytes.and_then(|bytes| aegis_generation::read_from_bytes(&bytes).ok());
        let Some(raw) = raw.filter(|raw| raw.number != 0) else { return Ok(None) };
        Ok(Some(Asked {
            objects: self.by_slot.inner("objects", slot)?,
            names: self.by_slot.inner("names", slot)?,
            verdicts: self.by_slot.inner("verdicts", slot)?,
            scopes: self.by_slot.inner("scopes", slot)?,
            seed: raw.seed,
            labels: raw.labels,
        }))
    }
}

impl Asked {
    /// The label that an inode has by itself; 0 if none.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn of_inode(&self, key: &InodeKey) -> Result<u32, Error> {
        Ok(row(&self.objects, "objects", key.as_bytes())?.map_or(0, |row| row.label))
    }

    /// The label to which the names of a path lead, from the root on; 0 if none.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn of_path(&self, path: &[u8]) -> Result<u32, Error> {
        let mut at = ObjectRow { label: 0, node: ROOT, flags: 0, beneath: 0 };
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            let hash = hash_name(self.seed, name);
            let key = NameKey { node: at.node, kind: AEGIS_NAME, hash };
            match row(&self.names, "names", key.as_bytes())? {
                Some(below) => at = below,
                None => return Ok(0),
            }
        }
        Ok(at.label)
    }

    /// The label that holds for a path by its names: its own, or that of the nearest directory above which
    /// speaks for what is beneath it; 0 if none.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn beneath_path(&self, path: &[u8]) -> Result<u32, Error> {
        let mut at = ObjectRow { label: 0, node: ROOT, flags: 0, beneath: 0 };
        let mut above = 0;
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            let hash = hash_name(self.seed, name);
            let key = NameKey { node: at.node, kind: AEGIS_NAME, hash };
            if at.label != 0 && at.flags & AEGIS_ROW_DIRECTORY != 0 {
                above = at.label;
            }
            match row(&self.names, "names", key.as_bytes())? {
                Some(below) => at = below,
                None => return Ok(above),
            }
        }
        Ok(if at.label == 0 { above } else { at.label })
    }

    /// The answer for a scope and a label.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn verdict(&self, scope: u32, label: u32) -> Result<Option<Verdict>, Error> {
        let at = scope.wrapping_mul(self.labels).wrapping_add(label);
        let bytes = self
            .verdicts
            .lookup(&at.to_ne_bytes(), MapFlags::ANY)
            .map_err(|source| Error::map("read", "verdicts", source))?;
        Ok(bytes.and_then(|bytes| Verdict::read_from_bytes(&bytes).ok()))
    }

    /// The scope that the programs found for a cgroup when it last asked; `None` if it did not yet.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn scope(&self, cgroup: u64) -> Result<Option<u32>, Error> {
        let bytes = self
            .scopes
            .lookup(&cgroup.to_ne_bytes(), MapFlags::ANY)
            .map_err(|source| Error::map("read", "scopes", source))?;
        Ok(bytes.and_then(|bytes| Some(u32::from_ne_bytes(bytes.try_into().ok()?))))
    }
}

fn row(map: &MapHandle, name: &str, key: &[u8]) -> Result<Option<ObjectRow>, Error> {
    let bytes =
        map.lookup(key, MapFlags::ANY).map_err(|source| Error::map("read", name, source))?;
    Ok(bytes.and_then(|bytes| ObjectRow::read_from_bytes(&bytes).ok()))
}

/// The node of `/`.
const ROOT: u32 = 1;
