// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A name → the inode behind it, as the kernel itself sees it.

use std::{ffi::CStr, os::fd::BorrowedFd, sync::atomic::Ordering};

use aegis_abi::Resolved;
use libbpf_rs::{Link, MapCore as _, MapHandle, Object};
use rustix::{
    fs::{AtFlags, StatxFlags, statx},
    io::Errno,
};

use crate::{Error, control::Asking, load::load};

/// Asks the kernel about inodes. While one lives, each stat on the host costs a little more.
///
/// Belongs to the thread that made it: the program answers no other.
#[derive(Debug)]
pub struct Resolver {
    _link: Link,
    _object: Object,
    asking: Asking,
}

impl Resolver {
    /// Loads and attaches the program that answers.
    ///
    /// # Errors
    /// If the kernel refuses. That its hooks are never called shows with the first question.
    pub fn new() -> Result<Self, Error> {
        let object = load("resolve", RESOLVE)?;
        let section = ".bss.asking";
        let map =
            object.maps().find(|map| map.name().to_string_lossy().ends_with(section)).ok_or_else(
                || Error::OtherMap { map: section.to_owned(), what: "the object has none" },
            )?;
        let map =
            MapHandle::try_from(&map).map_err(|source| Error::map("hold", section, source))?;
        let asking = Asking::of(&map)?;
        let me = rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
        asking.thread().store(me, Ordering::SeqCst);
        let hook = "inode_getattr";
        let link = object
            .progs_mut()
            .find(|program| program.name() == "aegis_inode_getattr")
            .ok_or_else(|| Error::OtherMap {
                map: hook.to_owned(),
                what: "the object has no such program",
            })?
            .attach_lsm()
            .map_err(|source| Error::Attach { hook, source })?;
        Ok(Self { _link: link, _object: object, asking })
    }

    /// The inode of `name` in `directory`; of `directory` itself if `name` is empty. The last
    /// component is not followed if it is a symlink, and nothing is mounted on the way.
    ///
    /// `None`: there is no such file.
    ///
    /// # Errors
    /// [`Error::NotCalled`] if the kernel does not call our program; else what statx says.
    pub fn ask(&self, directory: BorrowedFd<'_>, name: &CStr) -> Result<Option<Resolved>, Error> {
        self.asking.calls().store(0, Ordering::SeqCst);
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::EMPTY_PATH;
        match statx(directory, name, flags, StatxFlags::INO) {
            Ok(_) => {}
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(source) => return Err(Error::System { attempt: "ask for an inode", source }),
        }
        let answer = self.asking.answer();
        if answer.calls == 0 { Err(Error::NotCalled) } else { Ok(Some(answer)) }
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.asking.thread().store(0, Ordering::SeqCst);
    }
}

/// The compiled program.
static RESOLVE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/resolve.bpf.o"));
