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

use libbpf_rs::btf::{Btf, types::Func};
use rustix::{
    fs::CWD,
    thread::{CapabilitySet, capabilities},
};

use crate::{
    Error, Resolver,
    hooks::{HOOKS, LATER},
    install::{has_program, link_pin},
};

/// What this host is and does. What cannot be looked at is `None`: unknown is not "no".
#[derive(Debug)]
pub struct Facts {
    /// `uname -r`.
    pub kernel: String,
    /// Whether we are root, as far as the kernel's user ids tell.
    pub root: bool,
    /// The capabilities that loading needs and that this process lacks.
    pub missing_capabilities: Vec<&'static str>,
    /// The active LSMs in order.
    pub lsm: Option<Vec<String>>,
    /// What the lockdown LSM forbids: `none`, `integrity` or `confidentiality`.
    pub lockdown: Option<String>,
    /// Whether the kernel describes its types (`/sys/kernel/btf/vmlinux`).
    pub btf: bool,
    /// The hooks of ours that this kernel does not have, by its own types.
    pub missing_hooks: Option<Vec<&'static str>>,
    /// Whether BPF programs are compiled: LSM programs cannot be attached otherwise.
    pub jit: Option<bool>,
    /// Whether the directory for our pins is on a bpffs.
    pub bpffs: bool,
    /// How cgroups are mounted.
    pub cgroups: CgroupMode,
    /// Where the cgroup2 hierarchy is mounted.
    pub cgroup2: Option<PathBuf>,
    /// Which of our user, mount, pid and cgroup namespaces are not the host's, as far as can be told.
    pub foreign_namespaces: Vec<&'static str>,
    /// What became of an LSM program that was loaded, attached and asked.
    pub lsm_program: LsmProgram,
    /// That program, if it was called: still attached, for who goes on to resolve paths.
    pub resolver: Option<Resolver>,
}

/// How cgroups are mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupMode {
    /// Only the second version.
    Unified,
    /// The second beside the first: what only has a place in the first belongs to no workload.
    Hybrid,
    /// Only the first version.
    Legacy,
    /// None.
    None,
}

impl CgroupMode {
    /// In one word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unified => "unified",
            Self::Hybrid => "hybrid",
            Self::Legacy => "legacy",
            Self::None => "none",
        }
    }
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
    /// Nobody tried: [`Facts::glance`] loads nothing.
    NotTried,
}

impl Facts {
    /// Tries everything. `pins` is where our pins are or would be.
    ///
    /// Loads one small program, which goes with [`Facts::resolver`]; changes nothing else.
    pub fn gather(pins: &Path) -> Self {
        let (lsm_program, resolver) = try_lsm_program();
        // A hook that a program of ours is on is there. Reading the kernel's types takes its time.
        let missing_hooks = if on_all_hooks(pins) { Some(Vec::new()) } else { missing_hooks() };
        Self { lsm_program, resolver, missing_hooks, ..Self::glance(pins) }
    }

    /// Looks at what can be read. Loads nothing and changes nothing.
    pub fn glance(pins: &Path) -> Self {
        let cgroup2 = cgroup2_mount();
        Self {
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            root: rustix::process::geteuid().is_root(),
            missing_capabilities: missing_capabilities(),
            lsm: fs::read_to_string("/sys/kernel/security/lsm")
                .ok()
                .map(|list| list.trim().split(',').map(str::to_owned).collect()),
            lockdown: lockdown(),
            btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
            missing_hooks: None,
            jit: fs::read_to_string("/proc/sys/net/core/bpf_jit_enable")
                .ok()
                .map(|answer| answer.trim() != "0"),
            bpffs: pins.parent().is_some_and(|parent| is_filesystem(parent, BPF_MAGIC)),
            cgroups: cgroup_mode(cgroup2.is_some()),
            cgroup2,
            foreign_namespaces: foreign_namespaces(),
            lsm_program: LsmProgram::NotTried,
            resolver: None,
        }
    }
}

/// Loading an LSM program takes CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN, which counts as both.
fn missing_capabilities() -> Vec<&'static str> {
    let Ok(sets) = capabilities(None) else { return Vec::new() };
    let has = |capability| sets.effective.contains(capability);
    let needed = [(CapabilitySet::BPF, "CAP_BPF"), (CapabilitySet::PERFMON, "CAP_PERFMON")];
    let lacks =
        |(capability, _): &(CapabilitySet, _)| !has(*capability) && !has(CapabilitySet::SYS_ADMIN);
    needed.iter().filter(|needed| lacks(needed)).map(|(_, name)| *name).collect()
}

/// The word in brackets of `none [integrity] confidentiality`.
fn lockdown() -> Option<String> {
    let text = fs::read_to_string("/sys/kernel/security/lockdown").ok()?;
    let (_, rest) = text.split_once('[')?;
    let (word, _) = rest.split_once(']')?;
    Some(word.to_owned())
}

/// The kernel has a function for each of its LSM hooks, to which programs are attached.
fn missing_hooks() -> Option<Vec<&'static str>> {
    libbpf_rs::set_print(None);
    let types = Btf::from_vmlinux().ok()?;
    let has = |hook: &&str| types.type_by_name::<Func<'_>>(&format!("bpf_lsm_{hook}")).is_some();
    Some(HOOKS.iter().copied().filter(|hook| !has(hook) && !LATER.contains(hook)).collect())
}

/// Whether our pins have a program of ours for each hook that no kernel lacks.
fn on_all_hooks(pins: &Path) -> bool {
    let pinned = |hook: &&str| link_pin(pins, hook).exists() || has_program(pins, hook);
    HOOKS.iter().filter(|hook| !LATER.contains(hook)).all(pinned)
}

fn cgroup_mode(second: bool) -> CgroupMode {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let first = mounts.lines().any(|line| line.split(' ').nth(2) == Some("cgroup"));
    match (second, first) {
        (true, false) => CgroupMode::Unified,
        (true, true) => CgroupMode::Hybrid,
        (false, true) => CgroupMode::Legacy,
        (false, false) => CgroupMode::None,
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

fn try_lsm_program() -> (LsmProgram, Option<Resolver>) {
    let asked = Resolver::new().and_then(|resolver| resolver.ask(CWD, c"/").map(|_| resolver));
    match asked {
        Ok(resolver) => (LsmProgram::Called, Some(resolver)),
        Err(Error::NotCalled) => (LsmProgram::NotCalled, None),
        Err(error) => (LsmProgram::Refused(error), None),
    }
}

fn is_filesystem(path: &Path, magic: u64) -> bool {
    rustix::fs::statfs(path).is_ok_and(|answer| answer.f_type.cast_unsigned() == magic)
}

/// The initial namespaces have fixed inode numbers (`include/linux/proc_ns.h`), except for the mount
/// namespace: that one is compared with the one of process 1, as far as we may look at it.
fn foreign_namespaces() -> Vec<&'static str> {
    let ours = |name: &str| namespace("self", name);
    let mut foreign = Vec::new();
    let initial = [("user", 0xEFFF_FFFD), ("pid", 0xEFFF_FFFC), ("cgroup", 0xEFFF_FFFB)];
    for (name, initial) in initial {
        if ours(name).is_some_and(|ours| ours != initial) {
            foreign.push(name);
        }
    }
    let first = namespace("1", "mnt");
    if first.is_some() && first != ours("mnt") {
        foreign.push("mnt");
    }
    foreign
}

/// The number of a process's namespace; `None` if it is gone or may not be looked at.
///
/// Where we may not look, 5.10 answers with the link itself, which is in procfs, and later kernels with EACCES.
pub fn namespace(process: &str, name: &str) -> Option<u64> {
    let path = Path::new("/proc").join(process).join("ns").join(name);
    let filesystem = rustix::fs::statfs(&path).ok()?;
    let stat = rustix::fs::stat(&path).ok()?;
    (filesystem.f_type.cast_unsigned() == NSFS_MAGIC).then_some(stat.st_ino)
}

/// `NSFS_MAGIC` of `<linux/magic.h>`.
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// `CGROUP2_SUPER_MAGIC` of `<linux/magic.h>`.
const CGROUP2_MAGIC: u64 = 0x6367_7270;

/// `BPF_FS_MAGIC` of `<linux/magic.h>`.
const BPF_MAGIC: u64 = 0xcafe_4a11;
