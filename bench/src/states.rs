// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is in force while something is measured, and how we know that it is.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use aegis_kernel::Kernel;
use anyhow::{Context as _, bail, ensure};
use landlock::{ABI, Access as _, AccessFs, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _};
use libbpf_rs::{Link, ObjectBuilder, query::ProgInfoIter};
use nix::sys::fanotify::{
    EventFFlags, Fanotify, FanotifyResponse, InitFlags, MarkFlags, MaskFlags, Response,
};
use serde_json::Value;

use crate::{operation::open, stage::WITNESS};

/// An attached program that does nothing.
#[derive(Debug)]
pub(crate) struct EmptyProgram {
    _link: Link,
}

impl EmptyProgram {
    pub(crate) fn attach() -> anyhow::Result<Self> {
        let object = ObjectBuilder::default()
            .open_memory(EMPTY)
            .context("failed to open the empty program")?
            .load()
            .context("failed to load the empty program")?;
        let program =
            object.progs_mut().next().context("failed to find the empty program in its object")?;
        let link = program.attach_lsm().context("failed to attach the empty program")?;
        must_be_called("aegis_cost_empt")?;
        Ok(Self { _link: link })
    }
}

/// AegisBPF itself, by its own commands.
#[derive(Debug)]
pub(crate) struct Product {
    kernel: Kernel,
}

/// What the counters of the active generation say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) hits: u64,
    pub(crate) drops: u64,
}

impl Product {
    /// Applies a policy with this many objects, and makes sure that each is bound.
    pub(crate) fn apply(policy: &str, objects: u32) -> anyhow::Result<Self> {
        let report = aegisbpf(&["apply", policy, "--allow-unsigned"])?;
        let bound = report.pointer("/objects/bound").and_then(Value::as_u64);
        ensure!(
            bound == Some(u64::from(objects)),
            "failed to bind {objects} objects of {policy}: {bound:?} are bound"
        );
        Self::of_this_kernel()
    }

    /// Takes the policy out again: the programs stay attached.
    pub(crate) fn without_policy(self) -> anyhow::Result<Self> {
        aegisbpf(&["remove", "cost", "--reason", "to be measured"])?;
        Self::of_this_kernel()
    }

    fn of_this_kernel() -> anyhow::Result<Self> {
        let kernel = Kernel::open(Path::new(PINS))
            .context("failed to open the pins")?
            .context("failed to find the pins")?;
        for (hook, attached) in kernel.hooks() {
            attached.with_context(|| format!("failed to find our program on {hook}"))?;
        }
        must_be_called("aegis_file_open")?;
        Ok(Self { kernel })
    }

    /// Takes all events out of the ring; how many there were.
    pub(crate) fn drain(&self) -> anyhow::Result<u64> {
        let events = self.kernel.events().context("failed to open the ring of events")?;
        let taken = events.take(Duration::ZERO, 0).context("failed to take events")?;
        Ok(taken.len() as u64)
    }

    pub(crate) fn counted(&self) -> anyhow::Result<Counted> {
        let slot = self.kernel.active().context("failed to find an active generation")?;
        let mut counted = Counted::default();
        for count in self.kernel.counts(slot).context("failed to read the counters")?.values() {
            counted.hits += count.hits.iter().sum::<u64>();
            counted.drops += count.drops;
        }
        Ok(counted)
    }

    pub(crate) fn detach(self) -> anyhow::Result<()> {
        drop(self.kernel);
        aegisbpf(&["detach", "--reason", "measured"])?;
        ensure!(!Path::new(PINS).exists(), "failed to take everything out: {PINS} is still there");
        // The kernel takes a program off its hook some time after its last pin is gone.
        std::thread::sleep(Duration::from_secs(10));
        Ok(())
    }
}

fn aegisbpf(arguments: &[&str]) -> anyhow::Result<Value> {
    let mut command = Command::new("aegisbpf");
    command.arg("--json").args(arguments);
    let output = command.output().context("failed to start aegisbpf")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("aegisbpf {} ended with {}: {text}{said}", arguments.join(" "), output.status);
    }
    serde_json::from_str(&text)
        .with_context(|| format!("failed to read what aegisbpf {} answers", arguments.join(" ")))
}

/// That a program is attached says nothing: some kernels attach and never call. The kernel counts the
/// calls while it is asked to, which is not while anything is measured.
fn must_be_called(program: &str) -> anyhow::Result<()> {
    let switch = |state: &str| {
        fs::write(STATISTICS, state).with_context(|| format!("failed to write to {STATISTICS}"))
    };
    switch("1")?;
    let before = calls(program);
    let opened = (0..OPENS).try_for_each(|_| open(c"/proc/self/status"));
    let after = calls(program);
    switch("0")?;
    opened.context("failed to open a file to see whether programs are called")?;
    match (before, after) {
        (Some(before), Some(after)) if after >= before + OPENS => Ok(()),
        (Some(_), Some(_)) => bail!("program {program} is attached and is not called"),
        _ => bail!("failed to find program {program} in the kernel"),
    }
}

fn calls(program: &str) -> Option<u64> {
    ProgInfoIter::default().find(|info| info.name == *program).map(|info| info.run_cnt)
}

/// Landlock with one rule, on the root directory: everything that is handled is allowed below it but
/// one access, which shows that the rule is in force.
pub(crate) fn restrict_by_landlock() -> anyhow::Result<()> {
    let all = AccessFs::from_all(ABI::V1);
    let root = landlock::PathFd::new("/").context("failed to open the root directory")?;
    Ruleset::default()
        .handle_access(all)
        .and_then(|ruleset| ruleset.create())
        .and_then(|ruleset| {
            ruleset.add_rule(landlock::PathBeneath::new(root, all & !AccessFs::MakeDir))
        })
        .and_then(landlock::RulesetCreated::restrict_self)
        .context("failed to restrict this process by Landlock")?;
    match fs::create_dir("/landlock") {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(error).context("failed to see whether Landlock restricts"),
        Ok(()) => bail!("failed to restrict this process: Landlock restricts nothing"),
    }
}

/// Whether this kernel has Landlock.
pub(crate) fn has_landlock() -> bool {
    fs::read_to_string("/sys/kernel/security/lsm")
        .is_ok_and(|list| list.trim().split(',').any(|name| name == "landlock"))
}

/// A thread that answers fanotify's question about each open on one mount: yes.
#[derive(Debug)]
pub(crate) struct Answering {
    answered: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<()>>,
}

impl Answering {
    pub(crate) fn begin(mount: &str) -> anyhow::Result<Self> {
        let group = Fanotify::init(
            InitFlags::FAN_CLASS_CONTENT | InitFlags::FAN_CLOEXEC,
            EventFFlags::O_RDONLY | EventFFlags::O_CLOEXEC,
        )
        .context("failed to begin with fanotify")?;
        let flags = MarkFlags::FAN_MARK_ADD | MarkFlags::FAN_MARK_MOUNT;
        group
            .mark(flags, MaskFlags::FAN_OPEN_PERM, nix::fcntl::AT_FDCWD, Some(mount))
            .with_context(|| format!("failed to mark {mount}"))?;
        let (answered, ends) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counter, end) = (Arc::clone(&answered), Arc::clone(&ends));
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                for event in group.read_events().context("failed to read questions")? {
                    let Some(file) = event.fd() else { continue };
                    group
                        .write_response(FanotifyResponse::new(file, Response::FAN_ALLOW))
                        .context("failed to answer a question")?;
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            }
            Ok(())
        });
        Ok(Self { answered, ends, thread })
    }

    /// Ends it; how many questions were answered.
    pub(crate) fn end(self) -> anyhow::Result<u64> {
        self.ends.store(true, Ordering::Relaxed);
        // One more question, for the thread to see that it is the last.
        drop(fs::File::open(WITNESS).context("failed to open a file on a marked mount")?);
        match self.thread.join() {
            Ok(ended) => ended.map(|()| self.answered.load(Ordering::Relaxed)),
            Err(_panic) => bail!("the thread that answers died"),
        }
    }
}

/// What the kernel calls a program gets 15 bytes of its name.
const EMPTY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/empty.bpf.o"));
pub(crate) const PINS: &str = "/sys/fs/bpf/aegisbpf";
const STATISTICS: &str = "/proc/sys/kernel/bpf_stats_enabled";
const OPENS: u64 = 10;
