// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Operations that change names, attributes or lengths. Each can be taken back, so that it can be tried before a
//! policy speaks of it and leave everything as it was.

use std::{
    fs, io,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, UTIME_NOW, Uid,
    XattrFlags, chmodat, chownat, copy_file_range, ioctl_ficlone, linkat, mkdirat, mknodat,
    removexattr, renameat_with, setxattr, symlinkat, unlinkat, utimensat,
};

use crate::{
    operation::{Failure, Operation, Undo, before, bytes, nothing, with},
    routes,
};

/// Renaming, onto what may be there.
pub fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Operation {
    two("rename", from, to)
}

/// RENAME_EXCHANGE.
pub fn exchange(one: impl AsRef<Path>, other: impl AsRef<Path>) -> Operation {
    two("exchange", one, other)
}

/// RENAME_WHITEOUT: what overlayfs leaves behind takes the old name.
pub fn whiteout(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Operation {
    two("whiteout", from, to)
}

/// A hard link by paths.
pub fn link(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Operation {
    two("link", from, to)
}

/// A hard link to what an O_PATH descriptor holds, by /proc/self/fd.
pub fn link_descriptor(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Operation {
    two("link_descriptor", from, to)
}

/// A file without a name in a directory (O_TMPFILE), and then a name for it.
pub fn link_temporary(directory: impl AsRef<Path>, to: impl AsRef<Path>) -> Operation {
    two("link_temporary", directory, to)
}

/// Removing a file.
pub fn unlink(path: impl AsRef<Path>) -> Operation {
    one("unlink", path)
}

/// Removing a directory.
pub fn rmdir(path: impl AsRef<Path>) -> Operation {
    one("rmdir", path)
}

/// Making a directory.
pub fn mkdir(path: impl AsRef<Path>) -> Operation {
    one("mkdir", path)
}

/// Making a named pipe.
pub fn mknod(path: impl AsRef<Path>) -> Operation {
    one("mknod", path)
}

/// Making a symbolic link.
pub fn symlink(target: impl AsRef<Path>, path: impl AsRef<Path>) -> Operation {
    two("symlink", target, path)
}

/// Making a file that was not there.
pub fn create(path: impl AsRef<Path>) -> Operation {
    one("create", path)
}

/// Making an empty file that anybody may read, write and run, without opening it (mknod).
pub fn make(path: impl AsRef<Path>) -> Operation {
    one("make", path)
}

/// Changing permissions, to what they are.
pub fn chmod(path: impl AsRef<Path>) -> Operation {
    one("chmod", path)
}

/// Changing the owner, to root.
pub fn chown(path: impl AsRef<Path>) -> Operation {
    one("chown", path)
}

/// Changing times, to now.
pub fn utimes(path: impl AsRef<Path>) -> Operation {
    one("utimes", path)
}

/// truncate(2), without a descriptor.
pub fn truncate(path: impl AsRef<Path>) -> Operation {
    one("truncate", path)
}

/// ftruncate, by a descriptor for writing that [`hold`](crate::operation::hold) has left open.
pub fn truncate_held(path: impl AsRef<Path>) -> Operation {
    one("truncate_held", path)
}

/// Setting an extended attribute.
pub fn set_attribute(path: impl AsRef<Path>) -> Operation {
    one("set_attribute", path)
}

/// Removing the attribute that [`set_attribute`] sets.
pub fn remove_attribute(path: impl AsRef<Path>) -> Operation {
    one("remove_attribute", path)
}

/// Setting an access control list.
pub fn set_acl(path: impl AsRef<Path>) -> Operation {
    one("set_acl", path)
}

/// Removing it.
pub fn remove_acl(path: impl AsRef<Path>) -> Operation {
    one("remove_acl", path)
}

/// FICLONE into a new file; what asks is opening the source.
pub fn clone_to(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Operation {
    two("clone_to", from, to).denied_for("read")
}

/// copy_file_range into a new file; what asks is opening the source.
pub fn copy_to(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Operation {
    two("copy_to", from, to).denied_for("read")
}

/// Does it, if it is one of these; how it is taken back.
pub(crate) fn change_by(verb: &[u8], operation: &Operation) -> Option<Result<Undo, Failure>> {
    let (path, other) = (operation.path(1), operation.path(2));
    Some(match verb {
        b"rename" => rename_with(path, other, RenameFlags::empty()),
        b"whiteout" => rename_with(path, other, RenameFlags::WHITEOUT),
        b"exchange" => exchange_both(path, other),
        b"link" => done(linkat(CWD, &path, CWD, &other, AtFlags::empty()), remove(other)),
        b"link_descriptor" => link_by_descriptor(&path, OFlags::PATH, other),
        b"link_temporary" => link_by_descriptor(&path, OFlags::WRONLY | OFlags::TMPFILE, other),
        b"unlink" => {
            let mode = fs::symlink_metadata(&path).map(|found| found.permissions());
            let again = path.clone();
            done(unlinkat(CWD, &path, AtFlags::empty()), move || {
                fs::write(&again, "content")?;
                fs::set_permissions(&again, mode?)
            })
        }
        b"rmdir" => done(unlinkat(CWD, &path, AtFlags::REMOVEDIR), move || fs::create_dir(&path)),
        b"mkdir" => {
            let made = mkdirat(CWD, &path, Mode::from_raw_mode(0o755));
            done(made, move || fs::remove_dir(&path))
        }
        b"mknod" | b"make" => {
            let (kind, mode) = match verb {
                b"make" => (FileType::RegularFile, 0o755),
                _ => (FileType::Fifo, 0o644),
            };
            done(mknodat(CWD, &path, kind, Mode::from_raw_mode(mode), 0), remove(path))
        }
        b"symlink" => done(symlinkat(&path, CWD, &other), remove(other)),
        b"create" => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let made = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o644));
            done(made.map(drop), remove(path))
        }
        _ => return attributes(verb, path, other),
    })
}

fn attributes(verb: &[u8], path: PathBuf, other: PathBuf) -> Option<Result<Undo, Failure>> {
    Some(match verb {
        b"chmod" => before(fs::metadata(&path)).and_then(|found| {
            let mode = Mode::from_raw_mode(found.mode() & 0o7777);
            done(chmodat(CWD, &path, mode, AtFlags::empty()), || Ok(()))
        }),
        b"chown" => {
            let (root, group) = (Some(Uid::ROOT), Some(Gid::ROOT));
            done(chownat(CWD, &path, root, group, AtFlags::empty()), || Ok(()))
        }
        b"utimes" => {
            let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
            let now = Timestamps { last_access: now, last_modification: now };
            done(utimensat(CWD, &path, &now, AtFlags::empty()), || Ok(()))
        }
        b"truncate" => routes::truncate(&path).map(|()| nothing()),
        b"truncate_held" => routes::held(&path)
            .and_then(|file| file.set_len(4).map_err(Failure::of))
            .map(|()| nothing()),
        b"set_attribute" => {
            done(setxattr(&path, ATTRIBUTE, b"value", XattrFlags::empty()), move || {
                Ok(removexattr(&path, ATTRIBUTE)?)
            })
        }
        b"remove_attribute" => done(removexattr(&path, ATTRIBUTE), move || {
            Ok(setxattr(&path, ATTRIBUTE, b"value", XattrFlags::empty())?)
        }),
        b"set_acl" => done(setxattr(&path, ACL, &acl(), XattrFlags::empty()), move || {
            Ok(removexattr(&path, ACL)?)
        }),
        b"remove_acl" => done(removexattr(&path, ACL), move || {
            Ok(setxattr(&path, ACL, &acl(), XattrFlags::empty())?)
        }),
        b"clone_to" | b"copy_to" => copy(verb, &path, other),
        _ => return None,
    })
}

fn rename_with(from: PathBuf, to: PathBuf, flags: RenameFlags) -> Result<Undo, Failure> {
    let replaced = to.symlink_metadata().is_ok();
    let renamed = renameat_with(CWD, &from, CWD, &to, flags);
    done(renamed, move || {
        fs::rename(&to, &from)?;
        if replaced { fs::write(&to, "content") } else { Ok(()) }
    })
}

fn exchange_both(one: PathBuf, other: PathBuf) -> Result<Undo, Failure> {
    let exchanged = renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE);
    done(exchanged, move || Ok(renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE)?))
}

fn link_by_descriptor(path: &Path, flags: OFlags, to: PathBuf) -> Result<Undo, Failure> {
    let mode = Mode::from_raw_mode(if flags.contains(OFlags::TMPFILE) { 0o644 } else { 0 });
    let held = before(rustix::fs::open(path, flags | OFlags::CLOEXEC, mode))?;
    let name = format!("/proc/self/fd/{}", held.as_raw_fd());
    done(linkat(CWD, name, CWD, &to, AtFlags::SYMLINK_FOLLOW), remove(to))
}

fn copy(verb: &[u8], from: &Path, to: PathBuf) -> Result<Undo, Failure> {
    let target = before(fs::File::create(&to))?;
    let source = fs::File::open(from).map_err(Failure::of)?;
    if verb == b"clone_to" {
        before(ioctl_ficlone(&target, &source))?;
    } else {
        before(copy_file_range(&source, None, &target, None, 7))?;
    }
    done(Ok(()), remove(to))
}

fn remove(path: PathBuf) -> impl FnOnce() -> io::Result<()> {
    move || fs::remove_file(path)
}

fn done(
    result: rustix::io::Result<()>,
    undo: impl FnOnce() -> io::Result<()> + 'static,
) -> Result<Undo, Failure> {
    match result {
        Ok(()) => Ok(Box::new(undo)),
        Err(error) => Err(Failure::Refused(error.raw_os_error())),
    }
}

fn one(verb: &str, path: impl AsRef<Path>) -> Operation {
    with(verb, "write", &[bytes(path.as_ref())])
}

fn two(verb: &str, path: impl AsRef<Path>, other: impl AsRef<Path>) -> Operation {
    with(verb, "write", &[bytes(path.as_ref()), bytes(other.as_ref())])
}

/// As `getfacl` prints it: `u::rw-,u:65534:rw-,g::r--,m::rw-,o::r--`, in the form that the kernel takes.
fn acl() -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    let entries =
        [(1, 6, NOBODY), (2, 6, 65534), (4, 4, NOBODY), (0x10, 6, NOBODY), (0x20, 4, NOBODY)];
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend_from_slice(&u16::to_le_bytes(tag));
        bytes.extend_from_slice(&u16::to_le_bytes(permissions));
        bytes.extend_from_slice(&u32::to_le_bytes(id));
    }
    bytes
}

const ATTRIBUTE: &str = "user.aegis";
const ACL: &str = "system.posix_acl_access";
