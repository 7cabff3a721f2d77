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
    /// Why that is not known.
    #[serde(skip)]
    unread: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
struct User {
    /// In the initial user namespace; none: it is not known any more.
    uid: Option<u32>,
    rows: usize,
}

impl TookAlong {
    pub(crate) fn of(kernel: &Kernel, slot: Slot) -> Self {
        let marks = kernel.marks(slot);
        let (rows, lost) = (marks.late, marks.lost);
        let mut found = Self { rows, room: AEGIS_LATE_ROWS, lost, users: Vec::new(), unread: None };
        if found.is_short() {
            match kernel.late(slot) {
                Ok(rows) => found.users = users(rows.iter().map(|(_, row)| row.uid)),
                Err(error) => found.unread = Some(format!("{:#}", anyhow::Error::from(error))),
            }
        }
        found
    }

    /// Whether there was no room, or soon will be none.
    const fn is_short(&self) -> bool {
        self.lost > 0 || self.rows > self.room / 4 * 3
    }

    /// What to say if so.
    pub(crate) fn told(&self) -> Option<String> {
        if !self.is_short() {
            return None;
        }
        let (rows, room, lost) = (self.rows, self.room, self.lost);
        let used = format!(
            "{rows} of {room} rows for files that left denied places are in use, {lost} found no room"
        );
        let by = |user: &User| match user.uid {
            Some(uid) => format!("user {uid}: {}", user.rows),
            None => format!("not known: {}", user.rows),
        };
        let users: Vec<String> = self.users.iter().map(by).collect();
        let whose = match &self.unread {
            Some(error) => format!("; whose they are is not known: {error}"),
            None if users.is_empty() => String::new(),
            None => format!("; by {}", users.join(", ")),
        };
        Some(used + &whose)
    }
}

/// Those with the most rows.
fn users(rows: impl Iterator<Item = u32>) -> Vec<User> {
    let mut counted = BTreeMap::new();
    for uid in rows {
        *counted.entry((uid != u32::MAX).then_some(uid)).or_insert(0) += 1;
    }
    let mut users: Vec<User> = counted.into_iter().map(|(uid, rows)| User { uid, rows }).collect();
    users.sort_by_key(|user| Reverse(user.rows));
    users.truncate(USERS);
    users
}

/// As many users are named.
const USERS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_who_has_used_the_room_as_far_as_that_is_known() {
        let found = |rows, lost, uids: &[u32]| TookAlong {
            rows,
            room: 100,
            lost,
            users: users(uids.iter().copied()),
            unread: None,
        };
        let used = "rows for files that left denied places are in use";
        assert_eq!(found(75, 0, &[]).told(), None);
        assert_eq!(
            found(76, 0, &[7, u32::MAX, 7]).told(),
            Some(format!("76 of 100 {used}, 0 found no room; by user 7: 2, not known: 1"))
        );
        // All that had a row are gone, and still one has left without any.
        assert_eq!(found(0, 1, &[]).told(), Some(format!("0 of 100 {used}, 1 found no room")));
    }
}
