// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Facts about this host, by trying. No opinions: what is required, and what follows, is decided
//! elsewhere.
//!
//! No configuration file can tell whether a host enforces. One kernel lists `bpf` as an LSM and
//! refuses every program; another loads and attaches them and never calls one. So the facts
//! that count come from loading a program, attaching it, and seeing it called.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustix::fs::CWD;

use crate::{Error, Resolver};

/// What this host is and does.
#[derive(Debug)]
pub struct Facts {
    /// `uname -r`.
    pub kernel: String,
    /// Whether we are root, as far as the kernel's user ids tell.
    pub root: bool,
    /// The active LSMs in order; `None` if securityfs does not tell.
    pub lsm: Option<Vec<String>>,
    /// Whether the kernel describes its types (`/sys/kernel/btf/vmlinux`).
    pub btf: bool,
    /// Whether the directory for our pins is on a bpffs.
    pub bpffs: bool,
    /// Where the cgroup2 hierarchy is mounted.
    pub cgroup2: Option<PathBuf>,
    /// Which of our mount, pid and cgroup namespaces are not the host's, as far as can be told.
    pub foreign_namespaces: Vec<&'static str>,
    /// What became of an LSM program that was loaded, attached and asked.
    pub lsm_program: LsmProgram,
}

/// What became of an LSM program.
#[derive(Debug)]
pub enum LsmProgram {
    /// Loaded, attached and called.
    Called,
    /// The kernel refused to load or attach it.
    Refused(Error),
    /// Loaded, attached, and not called.
    NotCalled,
}

impl Facts {
    /// Tries everything. `pins` is where our pins are or would be.
    ///
    /// Loads one small program, for a moment; changes nothing else.
    pub fn gather(pins: &Path) -> Self {
        Self {
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            root: rustix::process::geteuid().is_root(),
            lsm: fs::read_to_string("/sys/kernel/security/lsm")
                .ok()
                .map(|list| list.trim().split(',').map(str::to_owned).collect()),
            btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
            bpffs: pins.parent().is_some_and(|parent| is_filesystem(parent, BPF_MAGIC)),
            cgroup2: cgroup2_mount(),
            foreign_namespaces: foreign_namespaces(),
            lsm_program: try_lsm_program(),
        }
    }
}

/// The mount point of the cgroup2 hierarchy, the one nearest to the root first.
pub fn cgroup2_mount() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (_, place, kind) = (fields.next()?, fields.next()?, fields.next()?);
            (kind == "cgroup2").then(|| PathBuf::from(place))
        })
        // One that something else is mounted over is listed as well.
        .filter(|place| is_filesystem(place, CGROUP2_MAGIC))
        .min_by_key(|place| place.components().count())
}

fn try_lsm_program() -> LsmProgram {
    let asked = Resolver::new().and_then(|resolver| resolver.ask(CWD, c"/"));
    match asked {
        Ok(_) => LsmProgram::Called,
        Err(Error::NotCalled) => LsmProgram::NotCalled,
        Err(error) => LsmProgram::Refused(error),
    }
}

fn is_filesystem(path: &Path, magic: u64) -> bool {
    rustix::fs::statfs(path).is_ok_and(|answer| answer.f_type.cast_unsigned() == magic)
}

/// The initial namespaces have fixed inode numbers (`include/linux/proc_ns.h`), except for the mount
/// namespace: that one is compared with the one of process 1.
fn foreign_namespaces() -> Vec<&'static str> {
    let number = |path: &str| rustix::fs::stat(path).ok().map(|stat| stat.st_ino);
    let mut foreign = Vec::new();
    for (name, initial) in [("pid", 0xEFFF_FFFC), ("cgroup", 0xEFFF_FFFB)] {
        if number(&format!("/proc/self/ns/{name}")).is_some_and(|ours| ours != initial) {
            foreign.push(name);
        }
    }
    let first = number("/proc/1/ns/mnt");
    if first.is_some() && first != number("/proc/self/ns/mnt") {
        foreign.push("mnt");
    }
    foreign
}

/// `CGROUP2_SUPER_MAGIC` of `<linux/magic.h>`.
const CGROUP2_MAGIC: u64 = 0x6367_7270;

/// `BPF_FS_MAGIC` of `<linux/magic.h>`.
const BPF_MAGIC: u64 = 0xcafe_4a11;
