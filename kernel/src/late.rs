// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Late rows, which hooks add while user space reads and adds them.

use aegis_abi::{InodeKey, LateRow, late_labels, pack_late_labels};
use libbpf_rs::{ErrorKind, MapCore as _, MapFlags, MapHandle};
use zerocopy::{FromBytes as _, IntoBytes as _};

use crate::{Error, Kernel, Slot};

/// A key and its row.
type Keyed = (InodeKey, LateRow);

impl Kernel {
    /// What things took along from places that they have left, in a slot.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn late(&self, slot: Slot) -> Result<Vec<(InodeKey, LateRow)>, Error> {
        let map = self.by_slot.inner("late", slot)?;
        let mut rows = Vec::new();
        for key in map.keys() {
            let key = InodeKey::read_from_bytes(&key).map_err(|_size| odd())?;
            // A row may go while the others are read.
            rows.extend(look_up(&map, &key)?.map(|row| (key, row)));
        }
        Ok(rows)
    }

    /// Adds to what things took along, in a slot that is filled; what hooks add meanwhile stays, and
    /// counts as well. `every` is the label of all rules: where both come to more than a row has room
    /// for, or a hook may have been written over, it takes the place of the others.
    ///
    /// # Errors
    /// If the map has no room: then some may be added and others not.
    pub fn add_late(
        &self,
        slot: Slot,
        rows: &[(InodeKey, LateRow)],
        every: u32,
    ) -> Result<(), Error> {
        if rows.is_empty() {
            return Ok(());
        }
        let map = self.by_slot.inner("late", slot)?;
        for (key, row) in rows {
            match map.update(key.as_bytes(), row.as_bytes(), MapFlags::NO_EXIST) {
                Ok(()) => self.marks.add_late(slot),
                // A hook was first: the same thing has left another place just now.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(source) => {
                    return Err(Error::NoRoom { map: "late", rows: rows.len(), source });
                }
            }
        }
        // One that has found no row may write its own over the one that was added.
        self.wait_for_decisions()?;
        unite(&InSlot { kernel: self, slot, map: &map }, rows.to_vec(), every)
    }

    /// Counts what there was no room for among late rows, as the hooks do.
    pub fn count_lost(&self, slot: Slot, rows: u32) {
        self.marks.add_lost(slot, rows);
    }
}

/// Rows that hooks add to at any time.
trait Shared {
    /// `None` once its inode is gone; the number is then another's.
    fn row(&self, key: &InodeKey) -> Result<Option<LateRow>, Error>;

    /// Writes a row that was there, unless it is gone, and counts that as hooks do.
    fn replace(&self, key: &InodeKey, row: &LateRow) -> Result<(), Error>;

    /// How often rows were written.
    fn epoch(&self) -> u32;

    /// Waits until every hook that runs now has ended.
    fn wait(&self) -> Result<(), Error>;
}

struct InSlot<'a> {
    kernel: &'a Kernel,
    slot: Slot,
    map: &'a MapHandle,
}

impl Shared for InSlot<'_> {
    fn row(&self, key: &InodeKey) -> Result<Option<LateRow>, Error> {
        look_up(self.map, key)
    }

    fn replace(&self, key: &InodeKey, row: &LateRow) -> Result<(), Error> {
        match self.map.update(key.as_bytes(), row.as_bytes(), MapFlags::EXIST) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(source) => return Err(Error::map("write", "late", source)),
        }
        self.kernel.marks.add_epoch(self.slot);
        Ok(())
    }

    fn epoch(&self) -> u32 {
        self.kernel.marks(self.slot).epoch
    }

    fn wait(&self) -> Result<(), Error> {
        self.kernel.wait_for_decisions()
    }
}

/// Adds to rows that are there. Neither side can lock one: a hook that has read it before it was
/// written here may write it once more without that, and what a hook wrote in between is lost. Both
/// are seen once every such hook has ended: the one by the row, the other by the epoch.
fn unite(shared: &impl Shared, mut rows: Vec<Keyed>, every: u32) -> Result<(), Error> {
    while !rows.is_empty() {
        let epoch = shared.epoch();
        let mut written = Vec::new();
        for (key, row) in rows {
            let Some(present) = shared.row(&key)? else { continue };
            let united = both(&present, &row, every);
            if united != present {
                shared.replace(&key, &united)?;
                written.push((key, row));
            }
        }
        shared.wait()?;
        let ours = u32::try_from(written.len()).unwrap_or(u32::MAX);
        if shared.epoch() != epoch.wrapping_add(ours) {
            for (_, row) in &mut written {
                (row.labels, row.beneath) = (only(every), only(every));
            }
        }
        rows = written;
    }
    Ok(())
}

fn look_up(map: &MapHandle, key: &InodeKey) -> Result<Option<LateRow>, Error> {
    let row = map.lookup(key.as_bytes(), MapFlags::ANY);
    let row = row.map_err(|source| Error::map("read", "late", source))?;
    row.map(|row| LateRow::read_from_bytes(&row).map_err(|_size| odd())).transpose()
}

fn odd() -> Error {
    Error::OtherMap { map: "late".to_owned(), what: "its keys or values have another size" }
}

/// What either of two rows says. A row has one node: what is named below the other is denied by
/// every rule.
fn both(present: &LateRow, row: &LateRow, every: u32) -> LateRow {
    let labels = |present: u64, more: u64| {
        let known = |label: &u32| late_labels(present).any(|one| one == *label || one == every);
        let mut new = late_labels(more).filter(|label| !known(label)).peekable();
        match new.peek() {
            None => present,
            Some(_) => {
                pack_late_labels(late_labels(present).chain(new)).unwrap_or_else(|| only(every))
            }
        }
    };
    let one_node = row.node == 0 || present.node == 0 || row.node == present.node;
    LateRow {
        labels: labels(present.labels, row.labels),
        beneath: labels(present.beneath, if one_node { row.beneath } else { only(every) }),
        node: if present.node == 0 { row.node } else { present.node },
        uid: present.uid,
    }
}

fn only(label: u32) -> u64 {
    pack_late_labels([label]).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    const EVERY: u32 = 9;

    fn row(labels: &[u32], beneath: &[u32], node: u32) -> LateRow {
        let pack = |labels: &[u32]| pack_late_labels(labels.iter().copied()).unwrap();
        LateRow { labels: pack(labels), beneath: pack(beneath), node, uid: 0 }
    }

    #[test]
    fn two_rows_are_one_that_says_both() {
        for (present, more, united) in [
            (row(&[2], &[], 0), row(&[1], &[3], 0), row(&[2, 1], &[3], 0)),
            (row(&[2, 1], &[], 5), row(&[1], &[], 0), row(&[2, 1], &[], 5)),
            (row(&[], &[], 0), row(&[], &[1], 5), row(&[], &[1], 5)),
            (row(&[1, 2, 3], &[], 0), row(&[4], &[], 0), row(&[EVERY], &[], 0)),
            (row(&[1, EVERY], &[], 0), row(&[4], &[], 0), row(&[1, EVERY], &[], 0)),
            (row(&[], &[1], 5), row(&[], &[2], 6), row(&[], &[1, EVERY], 5)),
        ] {
            assert_eq!(both(&present, &more, EVERY), united);
        }
    }

    const KEY: InodeKey = InodeKey { ino: 1, dev: 1, generation: 1 };

    /// One row, and what hooks do while it is written or waited for.
    struct Busy {
        row: Cell<Option<LateRow>>,
        epoch: Cell<u32>,
        /// Hooks that add a label between our reading and our writing.
        in_between: RefCell<Vec<u32>>,
        /// Hooks that had read the row before, and write that once more with a label.
        behind: RefCell<Vec<(LateRow, u32)>>,
    }

    impl Busy {
        fn new(present: LateRow) -> Self {
            let row = Cell::new(Some(present));
            let (in_between, behind) = (RefCell::default(), RefCell::default());
            Self { row, epoch: Cell::new(7), in_between, behind }
        }

        fn hook(&self, read: &LateRow, label: u32) {
            self.row.set(Some(both(read, &row(&[label], &[], 0), EVERY)));
            self.epoch.set(self.epoch.get() + 1);
        }

        fn united(&self, more: LateRow) -> LateRow {
            unite(self, vec![(KEY, more)], EVERY).unwrap();
            self.row.get().unwrap()
        }
    }

    impl Shared for Busy {
        fn row(&self, _: &InodeKey) -> Result<Option<LateRow>, Error> {
            let read = self.row.get();
            if let Some(label) = self.in_between.borrow_mut().pop() {
                self.hook(&read.unwrap(), label);
            }
            Ok(read)
        }

        fn replace(&self, _: &InodeKey, row: &LateRow) -> Result<(), Error> {
            self.row.set(Some(*row));
            self.epoch.set(self.epoch.get() + 1);
            Ok(())
        }

        fn epoch(&self) -> u32 {
            self.epoch.get()
        }

        fn wait(&self) -> Result<(), Error> {
            if let Some((read, label)) = self.behind.borrow_mut().pop() {
                self.hook(&read, label);
            }
            Ok(())
        }
    }

    #[test]
    fn while_no_hook_writes_two_rows_are_united_as_they_are() {
        let busy = Busy::new(row(&[2], &[], 0));
        assert_eq!(busy.united(row(&[1], &[], 0)), row(&[2, 1], &[], 0));
        assert_eq!(busy.united(row(&[1], &[], 0)), row(&[2, 1], &[], 0));
        assert_eq!(busy.epoch.get(), 8);
    }

    #[test]
    fn what_a_hook_adds_meanwhile_is_never_missing() {
        let before = row(&[2], &[], 0);
        // Written over: what it was nobody knows.
        let busy = Busy::new(before);
        busy.in_between.borrow_mut().push(3);
        assert_eq!(busy.united(row(&[1], &[], 0)), row(&[2, 1, EVERY], &[EVERY], 0));
        // It writes over ours, twice.
        let busy = Busy::new(before);
        busy.behind.borrow_mut().extend([(before, 4), (before, 3)]);
        assert_eq!(busy.united(row(&[1], &[], 0)), row(&[2, 4, EVERY], &[EVERY], 0));
    }

    #[test]
    fn what_is_gone_meanwhile_stays_gone() {
        let busy = Busy::new(row(&[2], &[], 0));
        busy.row.set(None);
        unite(&busy, vec![(KEY, row(&[1], &[], 0))], EVERY).unwrap();
        assert_eq!((busy.row.get(), busy.epoch.get()), (None, 7));
    }
}
