// SPDX-License-Identifier: Apache-2.0 OR MIT
//! This host, as policies ask about it: what stands at a path, as the kernel sees it.
//!
//! Directories are opened name by name, without following a link, and kept open along the present
//! way; so each name is asked for once, and what is asked for is in the directory that was seen.

use std::{
    ffi::CString,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
};

use aegis_abi::Resolved;
use aegis_kernel::Resolver;
use aegis_policy::{Component, Found, Host, HostError, Kind};
use rustix::{
    fs::{CWD, FileType, Mode, OFlags, openat, readlinkat},
    io::Errno,
};

use crate::cgroups::unescape;

/// A host that answers through the kernel.
#[derive(Debug)]
pub(crate) struct ThisHost<'a> {
    resolver: &'a Resolver,
    root: OwnedFd,
    /// The directories of the present way, each with its name.
    way: Vec<(Vec<u8>, OwnedFd)>,
}

impl<'a> ThisHost<'a> {
    pub(crate) fn new(resolver: &'a Resolver) -> anyhow::Result<Self> {
        let root = open_directory(CWD, c"/")?;
        Ok(Self { resolver, root, way: Vec::new() })
    }

    /// The directory with these names, or `None` if one of them is no directory any more.
    fn directory(&mut self, names: &[&[u8]]) -> Result<Option<BorrowedFd<'_>>, Failed> {
        let same = self.way.iter().zip(names).take_while(|((name, _), wanted)| name == *wanted);
        let same = same.count();
        self.way.truncate(same);
        for name in names.iter().skip(same) {
            let parent = self.nearest();
            match open_directory(parent, c_string(name)?.as_c_str()) {
                Ok(open) => self.way.push((name.to_vec(), open)),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(self.nearest()))
    }

    fn nearest(&self) -> BorrowedFd<'_> {
        self.way.last().map_or_else(|| self.root.as_fd(), |(_, open)| open.as_fd())
    }

    fn ask(&mut self, path: &[u8]) -> Result<Found, Failed> {
        let mut names: Vec<&[u8]> =
            path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).collect();
        let name = c_string(names.pop().unwrap_or_default())?;
        let resolver = self.resolver;
        let Some(directory) = self.directory(&names)? else { return Ok(Found::Absent) };
        let Some(resolved) = resolver.ask(directory, &name)? else { return Ok(Found::Absent) };
        match FileType::from_raw_mode(resolved.mode) {
            FileType::Symlink => match readlinkat(directory, &name, Vec::new()) {
                Ok(target) => Ok(Found::Link(target.into_bytes())),
                // Replaced since it was asked for: names are bound whatever stands there.
                Err(Errno::NOENT | Errno::INVAL) => Ok(Found::Absent),
                Err(error) => Err(error.into()),
            },
            kind => Ok(Found::There(component(&resolved, kind))),
        }
    }
}

impl Host for ThisHost<'_> {
    fn look(&mut self, path: &[u8]) -> Result<Found, HostError> {
        self.ask(path).map_err(HostError)
    }

    fn mounts(&mut self) -> Result<Vec<Vec<u8>>, HostError> {
        let mounts = std::fs::read(MOUNTS).map_err(|error| HostError(Box::new(error)))?;
        Ok(mount_points(&mounts))
    }
}

/// The fifth field of each line of mountinfo.
fn mount_points(mountinfo: &[u8]) -> Vec<Vec<u8>> {
    mountinfo
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4))
        .map(unescape)
        .collect()
}

fn component(resolved: &Resolved, kind: FileType) -> Component {
    Component {
        key: resolved.key,
        kind: match kind {
            FileType::Directory => Kind::Directory,
            FileType::RegularFile => Kind::File,
            _ => Kind::Other,
        },
        case_insensitive: resolved.i_flags & S_CASEFOLD != 0,
        magic: resolved.magic,
    }
}

fn open_directory(parent: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

fn c_string(name: &[u8]) -> Result<CString, Failed> {
    Ok(CString::new(name)?)
}

/// Whether both are one file: device and inode, as stat(2) tells.
pub(crate) fn is_same_file(one: &Path, other: &Path) -> bool {
    let (one, other) = (rustix::fs::stat(one), rustix::fs::stat(other));
    one.is_ok_and(|one| {
        other.is_ok_and(|other| (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
    })
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Ours, which is the host's: anything else is a blocker.
const MOUNTS: &str = "/proc/self/mountinfo";

/// `S_CASEFOLD` of `<linux/fs.h>`, the same since it came with 5.2.
const S_CASEFOLD: u32 = 1 << 15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_is_read_as_it_is_named() {
        let lines = b"22 1 0:5 / / rw - ext4 /dev/vda rw\n\
            23 22 0:6 / /a\\040b\\134c rw - tmpfs t rw\n";
        assert_eq!(mount_points(lines), [b"/".to_vec(), b"/a b\\c".to_vec()]);
    }
}
