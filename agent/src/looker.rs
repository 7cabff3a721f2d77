// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The hidden verb that looks at paths for another command, in a process of its own: a filesystem that
//! never answers holds this one, which can be left behind, and nothing else.
//!
//! One question a line on stdin, its answers on stdout, until stdin ends. It knows nothing of policies
//! and holds nothing of ours. Directories are opened name by name, without following a link and
//! without mounting anything, and kept open along the present way; so each name is asked for once,
//! and what is asked for is in the directory that was seen.

use std::{
    ffi::CString,
    io::{self, BufRead as _, BufWriter, Write},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use aegis_kernel::{is_there, stat};
use anyhow::Context as _;
use rustix::{
    fs::{CWD, FileType, Mode, OFlags, fstat, major, minor, openat, readlinkat},
    io::Errno,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{output::Answer, scan};

/// What is asked.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) enum Question {
    /// Whether it is there, and has asked the kernel for everything that it needs for itself.
    Ready,
    /// What stands at this absolute path, a symbolic link itself and not what it leads to.
    Look(Vec<u8>),
    /// What beneath this directory has several links.
    Linked(Vec<u8>),
    /// Whether a number still stands for the same file.
    Number(Number),
}

/// A file without a name.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Number {
    /// A directory on its filesystem.
    pub(crate) top: Vec<u8>,
    /// What `s_dev` that has to have, lest another filesystem is asked.
    pub(crate) dev: u32,
    pub(crate) magic: u64,
    pub(crate) ino: u64,
    pub(crate) generation: u32,
}

/// What is answered. What an inode is the kernel tells whoever asked, not this process.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) enum Reply {
    Ready,
    Absent,
    There,
    Link(Vec<u8>),
    /// One of several answers, another comes.
    Linked(Vec<u8>),
    /// The last of several answers.
    NoMore,
    /// An error number.
    Failed(i32),
}

/// Answers until nobody asks any more.
pub(crate) fn serve() -> anyhow::Result<Answer> {
    let mut looker = Looker::new().context("failed to open /")?;
    let mut replies = BufWriter::new(io::stdout().lock());
    for line in io::stdin().lock().lines() {
        let line = line.context("failed to read a question")?;
        let question = serde_json::from_str(&line).context("failed to understand a question")?;
        let reply = match question {
            Question::Ready => Ok(Reply::Ready),
            Question::Look(path) => looker.look(&path),
            Question::Linked(path) => {
                let mut tell = |path: Vec<u8>| say(&mut replies, &Reply::Linked(path));
                scan::linked(&looker.root, &path, &mut tell).map(|()| Reply::NoMore)
            }
            Question::Number(number) => looker.number(&number),
        };
        let reply = reply.unwrap_or_else(|error| Reply::Failed(error.raw_os_error()));
        say(&mut replies, &reply).context(LISTENER)?;
        replies.flush().context(LISTENER)?;
    }
    Ok(Answer { text: String::new(), json: json!({}), exit: 0 })
}

fn say(to: &mut impl Write, reply: &Reply) -> Result<(), Errno> {
    let failed = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    serde_json::to_writer(&mut *to, reply).map_err(|error| failed(error.into()))?;
    to.write_all(b"\n").map_err(failed)
}

struct Looker {
    root: OwnedFd,
    /// The directories of the present way, each with its name.
    way: Vec<(Vec<u8>, OwnedFd)>,
}

impl Looker {
    fn new() -> Result<Self, Errno> {
        Ok(Self { root: open(CWD, c"/")?, way: Vec::new() })
    }

    fn look(&mut self, path: &[u8]) -> Result<Reply, Errno> {
        let mut names: Vec<&[u8]> =
            path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).collect();
        let name = c_string(names.pop().unwrap_or_default())?;
        let Some(directory) = self.directory(&names)? else { return Ok(Reply::Absent) };
        let Some(found) = stat(directory, &name)? else { return Ok(Reply::Absent) };
        if FileType::from_raw_mode(found.stx_mode.into()) != FileType::Symlink {
            return Ok(Reply::There);
        }
        match readlinkat(directory, &name, Vec::new()) {
            Ok(target) => Ok(Reply::Link(target.into_bytes())),
            // Replaced since it was asked for: names are bound whatever stands there.
            Err(Errno::NOENT | Errno::INVAL) => Ok(Reply::Absent),
            Err(error) => Err(error),
        }
    }

    /// Where it cannot be told, it is there.
    fn number(&mut self, number: &Number) -> Result<Reply, Errno> {
        let Number { top, dev, magic, ino, generation } = number;
        let names: Vec<&[u8]> =
            top.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).collect();
        let directory = self.directory(&names)?.ok_or(Errno::NOENT)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = openat(directory, c".", flags, Mode::empty())?;
        let found = fstat(&top)?.st_dev;
        if major(found) << 20 | minor(found) != *dev {
            return Err(Errno::NODEV);
        }
        let there = is_there(top.as_fd(), *magic, *ino, *generation)?;
        Ok(if there == Some(false) { Reply::Absent } else { Reply::There })
    }

    /// What has these names, one in the other; `None` if it is not there any more.
    fn directory(&mut self, names: &[&[u8]]) -> Result<Option<BorrowedFd<'_>>, Errno> {
        let same = self.way.iter().zip(names).take_while(|((name, _), wanted)| name == *wanted);
        let same = same.count();
        self.way.truncate(same);
        for name in names.iter().skip(same) {
            match open(self.nearest(), c_string(name)?.as_c_str()) {
                Ok(open) => self.way.push((name.to_vec(), open)),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(self.nearest()))
    }

    fn nearest(&self) -> BorrowedFd<'_> {
        self.way.last().map_or_else(|| self.root.as_fd(), |(_, open)| open.as_fd())
    }
}

/// Not as a directory: that alone would mount what waits to be mounted there. What is none says so
/// when a name is asked for in it.
pub(crate) fn open(parent: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<OwnedFd, Errno> {
    openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

pub(crate) fn c_string(name: &[u8]) -> Result<CString, Errno> {
    CString::new(name).map_err(|_nul| Errno::INVAL)
}

const LISTENER: &str = "failed to answer";
