// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who put in force what decides, as the control map has it. Programs never read it: it is for people who
//! find pins that are not of their own instance.

use std::{
    mem::offset_of,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use aegis_abi::generated::{aegis_control, aegis_owner};
use zerocopy::{FromZeros as _, IntoBytes as _};

use crate::{Kernel, Witness, control::Control};

/// An instance of AegisBPF: one state directory with one provenance log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    instance: String,
    state: PathBuf,
}

impl Owner {
    /// With a path as long as it can be written down.
    pub fn new(instance: &str, state: &Path) -> Self {
        let state = state.as_os_str().as_bytes();
        let state = state.get(..STATE - 1).unwrap_or(state);
        Self { instance: instance.to_owned(), state: os_path(state) }
    }

    /// The instance that its log has: 128 bits in hex.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Its state directory, as it is called where that is; cut off after 255 bytes.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Whether a state directory is its own, as far as the name tells.
    pub fn has_state(&self, directory: &Path) -> bool {
        self.state == Self::new("", directory).state
    }
}

impl Kernel {
    /// Who put in force what decides; `None` if nothing ever was.
    pub fn owner(&self) -> Option<Owner> {
        read(self.control())
    }

    /// Says who it is. Whoever does holds the lock of commands.
    pub fn belong_to(&self, owner: &Owner) {
        write(self.control(), owner);
    }
}

impl Witness {
    /// Whose pins these are; `None` if nothing was ever put in force.
    pub fn owner(&self) -> Option<Owner> {
        read(self.control())
    }
}

fn read(control: &Control) -> Option<Owner> {
    let mut raw = aegis_owner::new_zeroed();
    for (at, bytes) in raw.as_mut_bytes().chunks_exact_mut(8).enumerate() {
        let word = control.long(OWNER + at * 8).load(Ordering::Acquire);
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    let instance = String::from_utf8_lossy(before_nul(&raw.instance)).into_owned();
    let state = os_path(before_nul(&raw.state));
    (!instance.is_empty()).then_some(Owner { instance, state })
}

fn write(control: &Control, owner: &Owner) {
    let mut raw = aegis_owner::new_zeroed();
    let copy = |to: &mut [u8], from: &[u8]| {
        to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    };
    copy(&mut raw.instance, owner.instance.as_bytes());
    copy(&mut raw.state, owner.state.as_os_str().as_bytes());
    for (at, bytes) in raw.as_bytes().as_chunks::<8>().0.iter().enumerate() {
        control.long(OWNER + at * 8).store(u64::from_ne_bytes(*bytes), Ordering::SeqCst);
    }
}

/// The same owner, for programs that take over.
pub(crate) fn carry(from: &Control, to: &Control) {
    if let Some(owner) = read(from) {
        write(to, &owner);
    }
}

fn before_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn os_path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsString::from_vec(bytes.to_vec()))
}

const OWNER: usize = offset_of!(aegis_control, owner);
const STATE: usize = size_of::<aegis_owner>() - offset_of!(aegis_owner, state);
