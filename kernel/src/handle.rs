// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Files without their names: whether a number, in one of its lives, still stands for a file.
//!
//! Handles are made here and not by the kernel, since what is known of a file that has left its place is what
//! the programs know of it. Filesystems keep the form of their handles, which other hosts hold for years.

use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use rustix::io::Errno;

/// Whether files of the filesystem with this magic number have the same number and generation whenever it is
/// mounted: on ext4, xfs and btrfs.
pub const fn outlives(magic: u64) -> bool {
    matches!(magic, EXT4 | XFS | BTRFS)
}

/// Whether [`is_there`] can tell on such a filesystem: on btrfs it would take the number of the subvolume as well.
pub const fn can_tell(magic: u64) -> bool {
    matches!(magic, EXT4 | XFS)
}

/// Whether the number still stands for the same file, on the filesystem that `top` is on; `None` if that cannot be
/// told.
///
/// # Errors
/// What the kernel says, but that there is no such file.
pub fn is_there(
    top: BorrowedFd<'_>,
    magic: u64,
    ino: u64,
    generation: u32,
) -> Result<Option<bool>, Errno> {
    let Some(mut handle) = Handle::new(magic, ino, generation) else { return Ok(None) };
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    let place = (&raw mut handle).cast();
    // SAFETY: `handle` is a file_handle with as many bytes behind it as it says.
    let opened = unsafe { libc::open_by_handle_at(top.as_raw_fd(), place, flags) };
    if opened < 0 {
        let error = std::io::Error::last_os_error();
        return match Errno::from_io_error(&error).unwrap_or(Errno::IO) {
            Errno::STALE => Ok(Some(false)),
            error => Err(error),
        };
    }
    // SAFETY: the kernel just made this descriptor for us, and nobody else knows it.
    drop(unsafe { OwnedFd::from_raw_fd(opened) });
    Ok(Some(true))
}

/// `struct file_handle`, with room for the longest.
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    handle: [u8; 12],
}

impl Handle {
    fn new(magic: u64, ino: u64, generation: u32) -> Option<Self> {
        let mut handle = [0; 12];
        let (kind, bytes) = match magic {
            EXT4 => {
                let ino = u32::try_from(ino).ok()?;
                handle[..4].copy_from_slice(&ino.to_ne_bytes());
                handle[4..8].copy_from_slice(&generation.to_ne_bytes());
                (FILEID_INO32_GEN, 8)
            }
            XFS => {
                handle[..8].copy_from_slice(&ino.to_ne_bytes());
                handle[8..].copy_from_slice(&generation.to_ne_bytes());
                (FILEID_INO32_GEN | XFS_FILEID_TYPE_64FLAG, 12)
            }
            _ => return None,
        };
        Some(Self { bytes, kind, handle })
    }
}

const EXT4: u64 = 0xef53;
const XFS: u64 = 0x5846_5342;
const BTRFS: u64 = 0x9123_683e;

/// `<linux/exportfs.h>`, and `fs/xfs/xfs_export.h`.
const FILEID_INO32_GEN: i32 = 1;
const XFS_FILEID_TYPE_64FLAG: i32 = 0x80;
