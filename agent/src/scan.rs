// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which files beneath a directory have several names. One of them may be elsewhere, where no directory
//! speaks for it.
//!
//! Symbolic links are not followed, nothing is mounted, and what is mounted beneath is looked at as
//! well; but not filesystems whose files cannot have a second name.

use std::{
    collections::VecDeque,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use aegis_kernel::stat;
use rustix::{
    fs::{Dir, FileType, Mode, OFlags, fstatfs, openat},
    io::Errno,
};

use crate::looker::{c_string, open};

/// Tells of every file (device, socket, pipe) beneath a directory that has several links, by its path.
///
/// Whatever goes away meanwhile is left out.
///
/// # Errors
/// What the kernel says, and what `tell` says.
pub(crate) fn linked(
    root: &OwnedFd,
    top: &[u8],
    tell: &mut impl FnMut(Vec<u8>) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let mut left = vec![top.to_vec()];
    let mut above = Above::default();
    while let Some(path) = left.pop() {
        let Some(directory) = gone(above.open(root, &path))? else { continue };
        if SINGLE.contains(&fstatfs(&directory)?.f_type) {
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Some(listed) = gone(openat(&directory, c".", flags, Mode::empty()))? else { continue };
        for entry in Dir::new(listed)? {
            let entry = entry?;
            let name = entry.file_name();
            if [c".", c".."].contains(&name) {
                continue;
            }
            let beneath = || [path.as_slice(), b"/", name.to_bytes()].concat();
            match kind(directory.as_fd(), &entry)? {
                Some((FileType::Directory, _)) => left.push(beneath()),
                Some((_, links)) if links > 1 => tell(beneath())?,
                _ => {}
            }
        }
        above.push(path, directory);
    }
    Ok(())
}

/// The directories above the one that is looked at, as far as they are held: what is looked at next is most
/// often in the one before, and a tree of any depth must not be walked from its top for each.
#[derive(Default)]
struct Above(VecDeque<(Vec<u8>, OwnedFd)>);

impl Above {
    /// Opens a directory; those that are not above it are held no longer.
    fn open(&mut self, root: &OwnedFd, path: &[u8]) -> Result<OwnedFd, Errno> {
        let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(at) => path.split_at(at),
            None => (&b""[..], path),
        };
        while self.0.back().is_some_and(|(held, _)| held != parent) {
            self.0.pop_back();
        }
        match self.0.back() {
            Some((_, parent)) => {
                let name = name.strip_prefix(b"/").unwrap_or(name);
                open(parent.as_fd(), c_string(name)?.as_c_str())
            }
            None => walk(root, path),
        }
    }

    fn push(&mut self, path: Vec<u8>, directory: OwnedFd) {
        if self.0.len() == HELD {
            self.0.pop_front();
        }
        self.0.push_back((path, directory));
    }
}

/// What an entry is, and how many links it has; `None` for a symbolic link, and for what is gone.
fn kind(
    directory: BorrowedFd<'_>,
    entry: &rustix::fs::DirEntry,
) -> Result<Option<(FileType, u32)>, Errno> {
    match entry.file_type() {
        FileType::Symlink => return Ok(None),
        FileType::Directory => return Ok(Some((FileType::Directory, 1))),
        _ => {}
    }
    let Some(found) = stat(directory, entry.file_name())? else { return Ok(None) };
    let kind = FileType::from_raw_mode(found.stx_mode.into());
    Ok((kind != FileType::Symlink).then_some((kind, found.stx_nlink)))
}

/// Name by name, so that a path may be longer than the kernel takes.
fn walk(root: &OwnedFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    let mut at = open(root.as_fd(), c".")?;
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        at = open(at.as_fd(), c_string(name)?.as_c_str())?;
    }
    Ok(at)
}

fn gone<T>(result: Result<T, Errno>) -> Result<Option<T>, Errno> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(error) => Err(error),
    }
}

/// How many directories above are held open.
const HELD: usize = 64;

/// `f_type` of filesystems whose files have one name each: proc, sysfs, cgroup2, cgroup, bpf, devpts,
/// debugfs, tracefs, securityfs, selinuxfs, pstore, configfs, efivarfs.
const SINGLE: [i64; 13] = [
    0x9fa0,
    0x6265_6572,
    0x6367_7270,
    0x0027_e0eb,
    0xcafe_4a11,
    0x1cd1,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
    0xf97c_ff8c,
    0x6165_676c,
    0x6265_6570,
    0xde5e_81e4,
];

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, os::unix::ffi::OsStrExt as _};

    use super::*;
    use crate::files::tests::Scratch;

    /// Deeper than directories are held, with more beside the way at some levels.
    #[test]
    fn a_file_with_several_links_is_found_wherever_it_is_in_a_tree() {
        let scratch = Scratch::new();
        let mut expected = BTreeSet::new();
        let mut at = scratch.0.clone();
        for level in 0..HELD * 2 + 5 {
            at.push("d");
            fs::create_dir(&at).unwrap();
            if level % 20 == 0 {
                for beside in ["a", "z/deeper"] {
                    let directory = at.join(beside);
                    fs::create_dir_all(&directory).unwrap();
                    let (one, other) = (directory.join("one"), directory.join("other"));
                    fs::write(&one, "content").unwrap();
                    fs::write(directory.join("alone"), "content").unwrap();
                    fs::hard_link(&one, &other).unwrap();
                    expected.extend([one, other].map(|path| path.as_os_str().as_bytes().to_vec()));
                }
            }
        }
        let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let mut found = BTreeSet::new();
        let mut tell = |path: Vec<u8>| {
            assert!(found.insert(path), "it is told once");
            Ok(())
        };
        linked(&root, scratch.0.as_os_str().as_bytes(), &mut tell).unwrap();
        assert_eq!(found, expected);
    }
}
