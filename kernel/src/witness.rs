// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the kernel's memory knows of the provenance log: its two newest lines, how much could not be
//! logged, and whether a line said that a trust root is installed.
//!
//! Programs never read it. It is one more place where a hash of the log is; whoever shortens or
//! rewrites the file has to know of it, and needs more than access to files to change it.

use std::{
    mem::offset_of,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use aegis_abi::generated::{aegis_control, aegis_log_head};

use crate::{Error, control::Control, install};

/// The part of the control map that witnesses the log. Whoever writes holds the log's lock.
#[derive(Debug)]
pub struct Witness(Control);

/// A line of the log, as the kernel's memory has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogHead {
    /// Its sequence; 0: none.
    pub sequence: u64,
    /// Its hash.
    pub hash: [u8; 32],
    /// Whether it was on disk when that was last said.
    pub written: bool,
}

impl Witness {
    /// Opens the control map that is pinned below `pins`; `None` if nothing is.
    ///
    /// # Errors
    /// If it is of another version, or cannot be opened.
    pub fn open(pins: &Path) -> Result<Option<Self>, Error> {
        libbpf_rs::set_print(None);
        let open = |place: &Path| match place.join(install::CONTROL).exists() {
            true => Control::open_at(place).map(|control| Some(Self(control))),
            false => Ok(None),
        };
        Ok(install::open_in_place(pins, open)?.flatten())
    }

    pub(crate) const fn control(&self) -> &Control {
        &self.0
    }

    /// Both heads, in no order.
    pub fn heads(&self) -> [LogHead; 2] {
        [0, 1].map(|place| self.head(place))
    }

    /// Says that a line is about to be written. The newest line that is on disk stays known.
    pub fn announce(&self, sequence: u64, hash: &[u8; 32]) {
        let [one, other] = self.heads();
        let place = usize::from(one.written && (!other.written || one.sequence > other.sequence));
        let word = |field| self.word(place, field);
        // Half written it is no head at all.
        word(SEQUENCE).store(0, Ordering::SeqCst);
        word(WRITTEN).store(0, Ordering::SeqCst);
        for (at, bytes) in hash.as_chunks::<8>().0.iter().enumerate() {
            word(HASH + at * 8).store(u64::from_ne_bytes(*bytes), Ordering::SeqCst);
        }
        word(SEQUENCE).store(sequence, Ordering::SeqCst);
    }

    /// Says that the line that was announced is on disk.
    pub fn confirm(&self, sequence: u64) {
        for place in [0, 1] {
            if self.word(place, SEQUENCE).load(Ordering::SeqCst) == sequence {
                self.word(place, WRITTEN).store(1, Ordering::SeqCst);
            }
        }
    }

    /// Takes back what was announced and never written.
    pub fn retract(&self, sequence: u64) {
        for place in [0, 1] {
            let is = |field| self.word(place, field).load(Ordering::SeqCst);
            if is(SEQUENCE) == sequence && is(WRITTEN) == 0 {
                self.word(place, SEQUENCE).store(0, Ordering::SeqCst);
            }
        }
    }

    /// Forgets all lines but this one: what they were is on record in it.
    pub fn keep_only(&self, sequence: u64) {
        for place in [0, 1] {
            if self.word(place, SEQUENCE).load(Ordering::SeqCst) != sequence {
                self.word(place, SEQUENCE).store(0, Ordering::SeqCst);
            }
        }
    }

    /// Says that a trust root was installed on this node. It is known as long as anything is pinned.
    pub fn remember_root(&self) {
        self.0.trust_root().store(1, Ordering::SeqCst);
    }

    /// Whether that was said.
    pub fn remembers_root(&self) -> bool {
        self.0.trust_root().load(Ordering::SeqCst) != 0
    }

    /// Counts something that acted and could not be logged.
    pub fn count_unlogged(&self) {
        self.unlogged_word().fetch_add(1, Ordering::SeqCst);
    }

    /// How much acted and could not be logged.
    pub fn unlogged(&self) -> u64 {
        self.unlogged_word().load(Ordering::SeqCst)
    }

    /// So many of them are on record now.
    pub fn forget_unlogged(&self, count: u64) {
        self.unlogged_word().fetch_sub(count, Ordering::SeqCst);
    }

    fn head(&self, place: usize) -> LogHead {
        let is = |field| self.word(place, field).load(Ordering::SeqCst);
        let mut hash = [0; 32];
        for (at, to) in hash.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            *to = is(HASH + at * 8).to_ne_bytes();
        }
        LogHead { sequence: is(SEQUENCE), hash, written: is(WRITTEN) == 1 }
    }

    fn unlogged_word(&self) -> &AtomicU64 {
        self.0.long(offset_of!(aegis_control, log_unlogged))
    }

    fn word(&self, place: usize, field: usize) -> &AtomicU64 {
        let heads = offset_of!(aegis_control, log_heads);
        self.0.long(heads + place * size_of::<aegis_log_head>() + field)
    }
}

const SEQUENCE: usize = offset_of!(aegis_log_head, sequence);
const WRITTEN: usize = offset_of!(aegis_log_head, written);
const HASH: usize = offset_of!(aegis_log_head, hash);
