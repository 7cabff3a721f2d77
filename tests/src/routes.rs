// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Ways to a file that need system calls without a safe name: the only unsafe code of the tests.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::{ffi::OsStrExt as _, process::CommandExt as _},
    },
    path::Path,
    process::{Command, Stdio},
};

use io_uring::{IoUring, opcode, squeue, types};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::operation::{Failure, before};

pub(crate) fn open_by_io_uring(path: &Path) -> Result<(), Failure> {
    let path = before(CString::new(path.as_os_str().as_bytes()))?;
    let mut ring = before(IoUring::new(2))?;
    let open = opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), path.as_ptr())
        .flags(libc::O_RDONLY | libc::O_CLOEXEC)
        .build()
        // On a thread of the kernel, not in this one's system call.
        .flags(squeue::Flags::ASYNC);
    // SAFETY: `path` outlives the operation, which is waited for below.
    before(unsafe { ring.submission().push(&open) })?;
    before(ring.submit_and_wait(1))?;
    let answer = ring.completion().next().map(|entry| entry.result());
    match answer {
        None => Err(Failure::Before("io_uring gave no answer".to_owned())),
        Some(number) if number < 0 => Err(Failure::Refused(-number)),
        Some(descriptor) => {
            // SAFETY: the kernel just made this descriptor for us, and nobody else knows it.
            drop(unsafe { OwnedFd::from_raw_fd(descriptor) });
            Ok(())
        }
    }
}

pub(crate) fn open_by_handle(path: &Path) -> Result<(), Failure> {
    // Any file of the same filesystem will do; the root of the tests' disk is never denied.
    let top = path.ancestors().filter(|above| above.parent() == Some(Path::new("/"))).last();
    let mount = before(rustix::fs::open(
        top.unwrap_or(path),
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    ))?;
    let path = before(CString::new(path.as_os_str().as_bytes()))?;
    let mut handle = Handle { bytes: HANDLE_MAX, kind: 0, handle: [0; HANDLE_MAX as usize] };
    let mut mount_id = 0;
    let place = (&raw mut handle).cast();
    // SAFETY: `handle` is a file_handle with room for as many bytes as it says.
    let named =
        unsafe { libc::name_to_handle_at(libc::AT_FDCWD, path.as_ptr(), place, &mut mount_id, 0) };
    if named != 0 {
        return Err(Failure::Before(io::Error::last_os_error().to_string()));
    }
    // SAFETY: `handle` was filled by the kernel just now.
    let opened = unsafe { libc::open_by_handle_at(mount.as_raw_fd(), place, libc::O_RDONLY) };
    if opened < 0 {
        return Err(Failure::of(io::Error::last_os_error()));
    }
    // SAFETY: the kernel just made this descriptor for us, and nobody else knows it.
    drop(unsafe { OwnedFd::from_raw_fd(opened) });
    Ok(())
}

/// `struct file_handle` with room.
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    handle: [u8; HANDLE_MAX as usize],
}

const HANDLE_MAX: u32 = 128;

pub(crate) fn run_descriptor(path: &Path) -> Result<(), Failure> {
    let program = before(rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()))?;
    let descriptor = program.as_raw_fd();
    let mut command = Command::new(path);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let name = before(CString::new(path.as_os_str().as_bytes()))?;
    let run = move || {
        let arguments = [name.as_ptr(), std::ptr::null()];
        let environment = [std::ptr::null_mut()];
        // SAFETY: both lists end with NULL, and what they point to lives until the call returns.
        unsafe {
            libc::execveat(
                descriptor,
                c"".as_ptr(),
                arguments.as_ptr().cast(),
                environment.as_ptr(),
                libc::AT_EMPTY_PATH,
            );
        }
        Err(io::Error::last_os_error())
    };
    // SAFETY: between fork and exec, only one system call is made, and nothing is allocated.
    unsafe { command.pre_exec(run) };
    command.status().map(drop).map_err(Failure::of)
}

pub(crate) fn leave_mounts() -> Result<(), Failure> {
    // SAFETY: the mount namespace and the current directory, which nothing else here depends on.
    before(unsafe { unshare_unsafe(UnshareFlags::NEWNS) })?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    before(mount_change("/", private))
}
