// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Ways to a file that need system calls without a safe name: with `amnesia` the only unsafe code of the tests.

use std::{
    collections::BTreeMap,
    ffi::CString,
    fs::File,
    io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::{ffi::OsStrExt as _, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use io_uring::{IoUring, opcode, squeue, types};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{
    UnshareFlags, set_thread_groups, set_thread_res_gid, set_thread_res_uid, unshare_unsafe,
};

use crate::operation::{Failure, Mapping, before};

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

/// Remembers a file's handle, under its path.
pub(crate) fn hold_handle(path: PathBuf) -> Result<(), Failure> {
    let name = before(CString::new(path.as_os_str().as_bytes()))?;
    let mut handle = Handle { bytes: HANDLE_MAX, kind: 0, handle: [0; HANDLE_MAX as usize] };
    let mut mount_id = 0;
    let place = (&raw mut handle).cast();
    // SAFETY: `handle` is a file_handle with room for as many bytes as it says.
    let named =
        unsafe { libc::name_to_handle_at(libc::AT_FDCWD, name.as_ptr(), place, &mut mount_id, 0) };
    if named != 0 {
        return Err(Failure::Before(io::Error::last_os_error().to_string()));
    }
    before(HANDLES.lock())?.insert(path, handle);
    Ok(())
}

/// Opens by the handle that is remembered under this path.
pub(crate) fn open_handle(path: &Path, flags: &OFlags) -> Result<OwnedFd, Failure> {
    let mut handles = before(HANDLES.lock())?;
    let handle = before(handles.get_mut(path).ok_or("no handle is remembered"))?;
    // Any file of the same filesystem will do; the root of the tests' disk is never denied.
    let top = path.ancestors().filter(|above| above.parent() == Some(Path::new("/"))).last();
    let mount = before(rustix::fs::open(
        top.unwrap_or(path),
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    ))?;
    let flags = (*flags | OFlags::CLOEXEC).bits().cast_signed();
    let place = (&raw mut *handle).cast();
    // SAFETY: `handle` was filled by the kernel.
    let opened = unsafe { libc::open_by_handle_at(mount.as_raw_fd(), place, flags) };
    if opened < 0 {
        return Err(Failure::of(io::Error::last_os_error()));
    }
    // SAFETY: the kernel just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(opened) })
}

static HANDLES: Mutex<BTreeMap<PathBuf, Handle>> = Mutex::new(BTreeMap::new());

/// `struct file_handle` with room.
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    handle: [u8; HANDLE_MAX as usize],
}

const HANDLE_MAX: u32 = 128;

pub(crate) fn run_nothing(path: &Path) -> Result<(), Failure> {
    let path = before(CString::new(path.as_os_str().as_bytes()))?;
    let (arguments, environment) = ([path.as_ptr(), std::ptr::null()], [std::ptr::null()]);
    // SAFETY: both lists end with NULL, and what they point to lives until the call returns.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ENOEXEC) { Ok(()) } else { Err(Failure::of(error)) }
}

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

/// Keeps a file open, under its path.
pub(crate) fn hold(path: PathBuf, file: File) -> Result<(), Failure> {
    before(HELD.lock())?.insert(path, Arc::new(file));
    Ok(())
}

/// The file that is kept open under this path.
pub(crate) fn held(path: &Path) -> Result<Arc<File>, Failure> {
    let held = before(HELD.lock())?.get(path).map(Arc::clone);
    before(held.ok_or("no descriptor is held"))
}

static HELD: Mutex<BTreeMap<PathBuf, Arc<File>>> = Mutex::new(BTreeMap::new());

/// Maps a file that is kept open, or opens it first, and lets go of the mapping.
pub(crate) fn map(path: &Path, mapping: u32) -> Result<(), Failure> {
    let writes = mapping == Mapping::SharedWrite as u32;
    let file = match held(path) {
        Ok(file) => file,
        Err(_) => Arc::new(before(File::options().read(true).write(writes).open(path))?),
    };
    let (protection, flags) = match mapping {
        one if one == Mapping::SharedWrite as u32 => {
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED)
        }
        one if one == Mapping::Exec as u32 => (libc::PROT_EXEC, libc::MAP_PRIVATE),
        _ => (libc::PROT_READ, libc::MAP_PRIVATE),
    };
    let (none, size) = (std::ptr::null_mut(), 4096);
    // SAFETY: a new mapping, which nobody looks into.
    let place = unsafe { libc::mmap(none, size, protection, flags, file.as_raw_fd(), 0) };
    if place == libc::MAP_FAILED {
        return Err(Failure::of(io::Error::last_os_error()));
    }
    let mut result = Ok(());
    if mapping == Mapping::LateExec as u32 {
        // SAFETY: the mapping from above, which nobody else knows.
        if unsafe { libc::mprotect(place, size, libc::PROT_READ | libc::PROT_EXEC) } != 0 {
            result = Err(Failure::of(io::Error::last_os_error()));
        }
    }
    // SAFETY: the mapping from above, which nobody else knows.
    unsafe { libc::munmap(place, size) };
    result
}

pub(crate) fn truncate(path: &Path) -> Result<(), Failure> {
    let path = before(CString::new(path.as_os_str().as_bytes()))?;
    // SAFETY: the path ends with NUL and outlives the call.
    match unsafe { libc::truncate(path.as_ptr(), 4) } {
        0 => Ok(()),
        _ => Err(Failure::of(io::Error::last_os_error())),
    }
}

/// Makes a btrfs subvolume at `path`: a new one, or a snapshot of another.
pub(crate) fn subvolume(path: &Path, of: Option<&Path>) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = rustix::fs::open(path.parent().unwrap_or(path), flags, Mode::empty())?;
    let of = of.map(|of| rustix::fs::open(of, flags, Mode::empty())).transpose()?;
    let mut arguments = VolumeArguments { source: -1, name: [0; 4088] };
    let name = path.file_name().unwrap_or_default().as_bytes();
    arguments.name[..name.len()].copy_from_slice(name);
    if let Some(of) = &of {
        arguments.source = of.as_raw_fd().into();
    }
    let request = if of.is_some() { SNAP_CREATE } else { SUBVOL_CREATE };
    // SAFETY: both requests take a `btrfs_ioctl_vol_args`, and both descriptors are open.
    match unsafe { libc::ioctl(parent.as_raw_fd(), request, &raw const arguments) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct VolumeArguments {
    source: i64,
    name: [u8; 4088],
}

/// `BTRFS_IOC_SNAP_CREATE` and `BTRFS_IOC_SUBVOL_CREATE` of `<linux/btrfs.h>`.
const SNAP_CREATE: libc::Ioctl = 0x5000_9401;
const SUBVOL_CREATE: libc::Ioctl = 0x5000_940e;

/// Becomes nobody, and root of a new user namespace, with a mount namespace in it.
pub(crate) fn leave_users() -> Result<(), Failure> {
    let (nobody, group) = (Uid::from_raw(65534), Gid::from_raw(65534));
    before(set_thread_groups(&[]))?;
    before(set_thread_res_gid(group, group, group))?;
    before(set_thread_res_uid(nobody, nobody, nobody))?;
    // Whoever changes who he is does not own his own files in /proc any more.
    before(set_dumpable_behavior(DumpableBehavior::Dumpable))?;
    // SAFETY: namespaces, which nothing else here depends on.
    before(unsafe { unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNS) })?;
    for (file, text) in [("setgroups", "deny"), ("uid_map", "0 65534 1"), ("gid_map", "0 65534 1")]
    {
        before(std::fs::write(Path::new("/proc/self").join(file), text))?;
    }
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    before(mount_change("/", private))
}

pub(crate) fn leave_cgroups() -> Result<(), Failure> {
    // SAFETY: the cgroup namespace, which nothing else here depends on.
    before(unsafe { unshare_unsafe(UnshareFlags::NEWCGROUP) })
}

pub(crate) fn leave_mounts() -> Result<(), Failure> {
    // SAFETY: the mount namespace and the current directory, which nothing else here depends on.
    before(unsafe { unshare_unsafe(UnshareFlags::NEWNS) })?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    before(mount_change("/", private))
}
