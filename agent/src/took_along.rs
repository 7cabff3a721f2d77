// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How much room there is for what files take along from denied places, and who has used it.
//!
//! Whoever may write beneath a denied directory has the hooks add a row by moving a file out of it. Nothing is ever
//! evicted for another row, so where there is no room, the next file that leaves is not denied any more.

use std::{cmp::Reverse, collections::BTreeMap};

use aegis_abi::generated::AEGIS_LATE_ROWS;
use aegis_kernel::{Kernel, Slot};
use serde::Serialize;

/// The rows of a generation.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TookAlong {
    /// Those that are there.
    pub(crate) rows: u32,
    /// As many as there can be.
    room: u32,
    /// Files for which there was no room.
    pub(crate) lost: u32,
    /// Who had them made, the most first; only where some were lost or soon will be.
    users: Vec<User>,
}

#[derive(Clone, Debug, Serialize)]
struct User {
    /// In the initial user namespace; none: it is not known any more.
    uid: Option<u32>,
    rows: usize,
}

impl TookAlong {
    /// # Errors
    /// If the rows have to be read and cannot be.
    pub(crate) fn of(kernel: &Kernel, slot: Slot) -> Result<Self, aegis_kernel::Error> {
        let marks = kernel.marks(slot);
        let mut found =
            Self { rows: marks.late, room: AEGIS_LATE_ROWS, lost: marks.lost, users: Vec::new() };
        if !found.is_short() {
            return Ok(found);
        }
        let mut rows = BTreeMap::new();
        for (_, row) in kernel.late(slot)? {
            *rows.entry((row.uid != u32::MAX).then_some(row.uid)).or_insert(0) += 1;
        }
        let mut users: Vec<User> = rows.into_iter().map(|(uid, rows)| User { uid, rows }).collect();
        users.sort_by_key(|user| Reverse(user.rows));
        users.truncate(USERS);
        found.users = users;
        Ok(found)
    }

    /// Whether there was no room, or soon will be none.
    const fn is_short(&self) -> bool {
        self.lost > 0 || self.rows > self.room / 4 * 3
    }

    /// What to say if so.
    pub(crate) fn told(&self) -> Option<String> {
        let lost = match self.lost {
            0 => String::new(),
            lost => format!("{lost} more had no room; "),
        };
        let by = |user: &User| match user.uid {
            Some(uid) => format!("user {uid}: {}", user.rows),
            None => format!("not known: {}", user.rows),
        };
        let users: Vec<String> = self.users.iter().map(by).collect();
        let (rows, room) = (self.rows, self.room);
        self.is_short().then(|| {
            let users = users.join(", ");
            format!("{rows} of {room} rows for files that left denied places are in use; {lost}by {users}")
        })
    }
}

/// Whether files have left when there was no room to note it.
pub(crate) fn lost(kernel: &Kernel, slot: Slot) -> bool {
    kernel.marks(slot).lost > 0
}

/// As many users are named.
const USERS: usize = 8;
