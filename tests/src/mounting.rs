// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Operations on mounts, namespaces and roots. None of them is refused by a rule: they are made so that what follows
//! can be tried.

use std::{
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, Mode, OFlags},
    mount::{
        MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount_bind, mount_remount,
        move_mount, open_tree, unmount,
    },
    process::{chroot, pivot_root},
};

use crate::{
    operation::{Failure, Operation, before, bytes, with},
    routes,
};

/// Going into a mount namespace of its own.
pub fn leave_mounts() -> Operation {
    with("leave_mounts", "", &[])
}

/// Becoming nobody, and then root of a user namespace with mounts of its own.
pub fn user_namespace() -> Operation {
    with("user_namespace", "", &[])
}

/// Going into a cgroup namespace of its own, whose root is its cgroup.
pub fn leave_cgroups() -> Operation {
    with("leave_cgroups", "", &[])
}

/// Mounting a file or directory in another place as well.
pub fn bind(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Operation {
    two("bind", from, to)
}

/// Mounting an empty tmpfs.
pub fn mount_tmpfs(on: impl AsRef<Path>) -> Operation {
    with("mount_tmpfs", "", &[bytes(on.as_ref())])
}

/// Taking away the topmost mount of a place.
pub fn unmount_from(path: impl AsRef<Path>) -> Operation {
    with("unmount_from", "", &[bytes(path.as_ref())])
}

/// Making a mount read-only.
pub fn remount(path: impl AsRef<Path>) -> Operation {
    with("remount", "", &[bytes(path.as_ref())])
}

/// open_tree of a copy, and then move_mount of it.
pub fn clone_tree(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Operation {
    two("clone_tree", from, to)
}

/// move_mount of a mount that is there.
pub fn move_tree(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Operation {
    two("move_tree", from, to)
}

/// Opening for reading below a copy by open_tree that is mounted nowhere.
pub fn read_in_tree(top: impl AsRef<Path>, path: impl AsRef<Path>) -> Operation {
    two("read_in_tree", top, path).denied_for("read")
}

/// Making a mount the root of the mount namespace; the root from before is on `old`, below it.
pub fn pivot(new: impl AsRef<Path>, old: impl AsRef<Path>) -> Operation {
    two("pivot", new, old)
}

/// Making a directory the root of the process.
pub fn change_root(path: impl AsRef<Path>) -> Operation {
    with("change_root", "", &[bytes(path.as_ref())])
}

/// Mounting what a handle leads to that [`hold_handle`](crate::operation::hold_handle) remembers.
pub fn bind_handle(handle: impl AsRef<Path>, to: impl AsRef<Path>) -> Operation {
    two("bind_handle", handle, to)
}

/// Does it, if it is one of these.
pub(crate) fn mount_by(verb: &[u8], operation: &Operation) -> Option<Result<(), Failure>> {
    let (path, other) = (operation.path(1), operation.path(2));
    Some(match verb {
        b"leave_mounts" => routes::leave_mounts(),
        b"leave_cgroups" => routes::leave_cgroups(),
        b"user_namespace" => routes::leave_users(),
        b"bind" => before(mount_bind(&path, &other)),
        b"mount_tmpfs" => {
            let flags = MountFlags::empty();
            before(rustix::mount::mount("tmpfs", &path, "tmpfs", flags, None))
        }
        b"unmount_from" => before(unmount(&path, UnmountFlags::DETACH)),
        b"remount" => before(mount_remount(&path, MountFlags::BIND | MountFlags::RDONLY, c"")),
        b"clone_tree" => {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::AT_RECURSIVE;
            move_from(&path, &other, flags)
        }
        b"move_tree" => move_from(&path, &other, OpenTreeFlags::empty()),
        b"read_in_tree" => read_below_copy(&path, &other),
        b"pivot" => before(pivot_root(&path, &other).and_then(|()| rustix::process::chdir("/"))),
        b"change_root" => before(chroot(&path).and_then(|()| rustix::process::chdir("/"))),
        b"bind_handle" => routes::open_handle(&path, &OFlags::PATH).and_then(|held| {
            let source = PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()));
            before(mount_bind(&source, &other))
        }),
        _ => return None,
    })
}

fn move_from(from: &Path, to: &Path, flags: OpenTreeFlags) -> Result<(), Failure> {
    let tree = before(open_tree(CWD, from, flags | OpenTreeFlags::OPEN_TREE_CLOEXEC))?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    before(move_mount(&tree, "", CWD, to, flags))
}

fn read_below_copy(top: &Path, path: &Path) -> Result<(), Failure> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = before(open_tree(CWD, top, flags))?;
    rustix::fs::openat(&tree, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map(drop)
        .map_err(|error| Failure::Refused(error.raw_os_error()))
}

fn two(verb: &str, path: impl AsRef<Path>, other: impl AsRef<Path>) -> Operation {
    with(verb, "", &[bytes(path.as_ref()), bytes(other.as_ref())])
}
