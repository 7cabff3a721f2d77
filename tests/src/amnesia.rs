// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A node without a past, whose programs stay loaded: loading them takes longest.
//!
//! No operator can do this. That a trust root was installed is known to its files, to each line of the
//! provenance log and to the kernel's memory; here all three forget it, and the kernel forgets the log
//! with it. Nor can anybody have what is pinned pass for another version's. It is the one place of the tests that
//! knows where something is in a map.

use std::{
    ffi::CString,
    fs, io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::Path,
};

/// Takes away everything that remembers a trust root.
pub fn forget_the_root() {
    let state = Path::new("/var/lib/aegisbpf");
    for name in ["trust", "trust-root", "provenance"] {
        let path = state.join(name);
        drop(fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path)));
    }
    let forget = |value: &mut [u8], end: usize| {
        value[TRUST_ROOT..TRUST_ROOT + 4].fill(0);
        value[end - LOG..end].fill(0);
    };
    match change_control(forget) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        forgotten => forgotten.expect("the kernel forgets the root"),
    }
}

/// What is pinned passes for what another version has made, until this is dropped.
#[derive(Debug)]
pub struct AnotherVersion(u32);

impl AnotherVersion {
    /// From now on.
    pub fn new() -> Self {
        Self(write_version(u32::MAX))
    }
}

impl Default for AnotherVersion {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for AnotherVersion {
    fn drop(&mut self) {
        write_version(self.0);
    }
}

/// The answer is which it was.
fn write_version(to: u32) -> u32 {
    let mut before = 0;
    let written = change_control(|value, _| {
        before = u32::from_ne_bytes(value[..4].try_into().expect("four bytes"));
        value[..4].copy_from_slice(&to.to_ne_bytes());
    });
    written.expect("the kernel takes a version");
    before
}

/// Changes what the kernel's memory says; the second argument is how long that is.
fn change_control(change: impl FnOnce(&mut [u8], usize)) -> io::Result<()> {
    let pin = CString::new("/sys/fs/bpf/aegisbpf/control")?;
    let opened = bpf(OBJ_GET, &mut [pin.as_ptr() as u64, 0])?;
    // SAFETY: the kernel has just handed it out, and nobody else has it.
    let map = unsafe { OwnedFd::from_raw_fd(opened) };
    let descriptor = u64::from(map.as_raw_fd().unsigned_abs());
    let (key, mut value) = (0_u32, vec![0_u8; MOST]);
    let mut element = [descriptor, std::ptr::from_ref(&key) as u64, value.as_mut_ptr() as u64, 0];
    bpf(LOOKUP, &mut element)?;
    let size = u32::from_ne_bytes(value[SIZE..SIZE + 4].try_into().expect("four bytes"));
    let end = usize::try_from(size).expect("a size");
    change(&mut value, end);
    bpf(UPDATE, &mut element).map(drop)
}

/// The system call; the attributes begin with these words.
fn bpf(command: i32, words: &mut [u64]) -> io::Result<i32> {
    // SAFETY: `words` is as long as it is said to be, and what it points to is alive and no shorter than the
    // map's key and value.
    let answer =
        unsafe { libc::syscall(libc::SYS_bpf, command, words.as_mut_ptr(), size_of_val(words)) };
    match i32::try_from(answer) {
        Ok(answer) if answer >= 0 => Ok(answer),
        _ => Err(io::Error::last_os_error()),
    }
}

const LOOKUP: i32 = 1;
const UPDATE: i32 = 2;
const OBJ_GET: i32 = 7;

/// More than the control map has.
const MOST: usize = 1 << 16;

/// `struct aegis_control`: its size, the mark, and at its end two heads of the log and a count.
const SIZE: usize = 4;
const TRUST_ROOT: usize = 28;
const LOG: usize = 2 * 48 + 8;
