// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A name → the inode behind it, as the kernel itself sees it.

use std::{ffi::CStr, os::fd::BorrowedFd, sync::atomic::Ordering};

use aegis_abi::Resolved;
use libbpf_rs::{Link, MapCore as _, MapHandle, Object};
use rustix::{
    fs::{AtFlags, Statx, StatxFlags, statx},
    io::Errno,
};

use crate::{Error, control::Asking, load::load};

/// Listens to what the kernel says of inodes that one thread asks for with [`stat`]. While one lives,
/// each stat on the host costs a little more.
#[derive(Debug)]
pub struct Resolver {
    _link: Link,
    _object: Object,
    asking: Asking,
}

impl Resolver {
    /// Loads and attaches the program that answers, for the thread that calls.
    ///
    /// # Errors
    /// If the kernel refuses. That its hooks are never called shows with the first question.
    pub fn new() -> Result<Self, Error> {
        let object = load("resolve", RESOLVE, |_| Ok(()))?;
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

    /// Listens to another thread from now on, by its number in the initial pid namespace. It needs nothing
    /// of ours: the answer comes to whoever holds this. The first that it asks for is the answer, so it
    /// must ask for nothing of its own.
    pub fn listen_to(&self, thread: u32) {
        self.asking.thread().store(thread, Ordering::SeqCst);
    }

    /// Forgets the last answer: to be called before each question.
    pub fn forget(&self) {
        self.asking.calls().store(0, Ordering::SeqCst);
    }

    /// What the kernel said of the last question.
    ///
    /// # Errors
    /// [`Error::NotCalled`] if it does not call our program.
    pub fn answer(&self) -> Result<Resolved, Error> {
        let answer = self.asking.answer();
        if answer.calls == 0 { Err(Error::NotCalled) } else { Ok(answer) }
    }

    /// Asks for `name` in `directory` from this thread; see [`stat`].
    ///
    /// # Errors
    /// [`Error::NotCalled`] if the kernel does not call our program; else what statx says.
    pub fn ask(&self, directory: BorrowedFd<'_>, name: &CStr) -> Result<Option<Resolved>, Error> {
        self.forget();
        match stat(directory, name) {
            Ok(Some(_)) => self.answer().map(Some),
            Ok(None) => Ok(None),
            Err(source) => Err(Error::System { attempt: "ask for an inode", source }),
        }
    }
}

/// Asks for `name` in `directory`; for `directory` itself if `name` is empty. The last component is not
/// followed if it is a symlink, and nothing is mounted on the way.
///
/// `None`: there is no such file.
///
/// # Errors
/// What statx says.
pub fn stat(directory: BorrowedFd<'_>, name: &CStr) -> Result<Option<Statx>, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::EMPTY_PATH;
    match statx(directory, name, flags, StatxFlags::INO | StatxFlags::TYPE | StatxFlags::NLINK) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.asking.thread().store(0, Ordering::SeqCst);
    }
}

/// The compiled program.
static RESOLVE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/resolve.bpf.o"));
