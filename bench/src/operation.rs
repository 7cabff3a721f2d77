// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is measured: one call, or a few that belong together, again and again.

use std::{
    ffi::CString,
    os::fd::OwnedFd,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, bail};
use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags},
    io::Errno,
    mount::{UnmountFlags, mount_bind, unmount},
};
use serde::{Deserialize, Serialize};

/// What is done to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Operation {
    /// open for reading, and close.
    Open,
    /// open for reading, refused with EPERM.
    DeniedOpen,
    /// stat.
    Stat,
    /// rename to a free name beside it, and back: counted as two.
    Rename,
    /// open a new file for writing, and close; names are taken away outside of the measurement.
    Create,
    /// unlink; files are made outside of the measurement.
    Unlink,
    /// one more name for a file; names are taken away outside of the measurement.
    Link,
    /// chmod, to what it is.
    Chmod,
    /// map for reading, and unmap: by a descriptor that stays open.
    Map,
    /// a directory bind mounted on itself, and taken away again.
    Mount,
    /// start a program of two instructions, and wait for its end.
    Exec,
}

impl Operation {
    /// How often it is done between two looks at the clock: not so often that a tick of the kernel's
    /// timer falls into every batch.
    pub(crate) const fn batch(self) -> u32 {
        match self {
            Self::Exec => 1,
            _ => 100,
        }
    }
}

/// An operation on one path, prepared so that nothing but the calls is measured.
#[derive(Debug)]
pub(crate) struct Prepared {
    operation: Operation,
    path: CString,
    beside: CString,
    /// The directory that it is in.
    directory: CString,
    /// The file, open.
    file: OwnedFd,
    fresh: Vec<CString>,
    program: String,
}

impl Prepared {
    pub(crate) fn new(operation: Operation, path: &str) -> anyhow::Result<Self> {
        let c_string = |text: String| CString::new(text).context("failed to use a path with NUL");
        let fresh = (0..operation.batch()).map(|number| c_string(format!("{path}.{number:03}")));
        // Who is denied the file maps another one.
        let readable = if operation == Operation::Map { path } else { "/" };
        let file = rustix::fs::open(readable, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .with_context(|| format!("failed to open {readable}"))?;
        let directory = path.rsplit_once('/').map_or("/", |(directory, _)| directory);
        Ok(Self {
            operation,
            directory: c_string(directory.to_owned())?,
            file,
            path: c_string(path.to_owned())?,
            beside: c_string(format!("{path}.beside"))?,
            fresh: fresh.collect::<anyhow::Result<_>>()?,
            program: path.to_owned(),
        })
    }

    /// Does it [`Operation::batch`] times; the nanoseconds that this took, which under the clock of
    /// the guest are instructions.
    ///
    /// # Errors
    /// If any one of them ends otherwise than the operation says.
    pub(crate) fn batch(&self) -> anyhow::Result<u128> {
        if self.operation == Operation::Unlink {
            self.create()?;
        }
        let since = Instant::now();
        match self.operation {
            Operation::Open => self.repeat(|| open(&self.path))?,
            Operation::DeniedOpen => self.repeat(|| match open(&self.path) {
                Err(Errno::PERM) => Ok(()),
                Err(other) => Err(other),
                Ok(()) => Err(Errno::ALREADY),
            })?,
            Operation::Stat => self.repeat(|| rustix::fs::stat(&self.path).map(drop))?,
            Operation::Rename => {
                for _ in 0..self.operation.batch() / 2 {
                    rustix::fs::rename(&self.path, &self.beside).context("failed to rename")?;
                    rustix::fs::rename(&self.beside, &self.path)
                        .context("failed to rename back")?;
                }
            }
            Operation::Create => self.create()?,
            Operation::Link => self.link()?,
            Operation::Chmod => self.repeat(|| {
                rustix::fs::chmodat(CWD, &self.path, Mode::from_raw_mode(0o755), AtFlags::empty())
            })?,
            Operation::Map => self.repeat(|| map(&self.file))?,
            Operation::Mount => self.repeat(|| {
                mount_bind(&self.directory, &self.directory)?;
                unmount(&self.directory, UnmountFlags::DETACH)
            })?,
            Operation::Unlink => self.unlink()?,
            Operation::Exec => {
                for _ in 0..self.operation.batch() {
                    execute(&self.program)?;
                }
            }
        }
        let took = since.elapsed().as_nanos();
        if matches!(self.operation, Operation::Create | Operation::Link) {
            self.unlink()?;
        }
        Ok(took)
    }

    fn repeat(&self, call: impl Fn() -> Result<(), Errno>) -> anyhow::Result<()> {
        for _ in 0..self.operation.batch() {
            call().with_context(|| format!("failed at {:?} of {:?}", self.operation, self.path))?;
        }
        Ok(())
    }

    fn create(&self) -> anyhow::Result<()> {
        for path in &self.fresh {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)
                .map(drop)
                .with_context(|| format!("failed to create {path:?}"))?;
        }
        Ok(())
    }

    fn link(&self) -> anyhow::Result<()> {
        for path in &self.fresh {
            rustix::fs::linkat(CWD, &self.path, CWD, path, AtFlags::empty())
                .with_context(|| format!("failed to link {path:?}"))?;
        }
        Ok(())
    }

    fn unlink(&self) -> anyhow::Result<()> {
        for path in &self.fresh {
            rustix::fs::unlink(path).with_context(|| format!("failed to unlink {path:?}"))?;
        }
        Ok(())
    }
}

/// Opens for reading and closes.
pub(crate) fn open(path: &std::ffi::CStr) -> Result<(), Errno> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map(drop)
}

/// Maps one page of a file for reading, and unmaps it.
#[expect(unsafe_code, reason = "there is no safe name for mapping a file")]
fn map(file: &OwnedFd) -> Result<(), Errno> {
    // SAFETY: the kernel chooses where, nobody is told, and nothing reads it before it is gone.
    unsafe {
        let place = rustix::mm::mmap(
            std::ptr::null_mut(),
            PAGE,
            rustix::mm::ProtFlags::READ,
            rustix::mm::MapFlags::PRIVATE,
            file,
            0,
        )?;
        rustix::mm::munmap(place, PAGE)
    }
}

const PAGE: usize = 4096;

fn execute(program: &str) -> anyhow::Result<()> {
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::inherit());
    let status = command.status().with_context(|| format!("failed to start {program}"))?;
    if !status.success() {
        bail!("{program} ended with {status}");
    }
    Ok(())
}
