// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How long what switches takes: from before its store to the end of the first open that is decided by what it
//! led to. A process inside the scope, by the guest's clock, which counts instructions.
//!
//! Two generations, which differ in one file and agree in another; and a reader, who opens all the time
//! while they change places, and must never see anything but the one or the other.

use std::{
    ffi::CString,
    fs,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use aegis_kernel::{Kernel, Slot, Toggle};
use anyhow::{Context as _, bail, ensure};
use rustix::{
    io::Errno,
    time::{ClockId, clock_gettime},
};
use serde_json::json;

use crate::{operation::open, states::PINS, table::say};

/// What is denied in the one generation and not in the other, the other way round, and in both.
#[derive(Debug)]
pub(crate) struct Files<'a> {
    /// Denied by what was there before alone.
    pub(crate) before: &'a str,
    /// Denied by what decides alone.
    pub(crate) now: &'a str,
    pub(crate) both: &'a str,
}

/// Measures all of it; what decided decides again when this ends.
pub(crate) fn run(cgroup: &str, files: &Files<'_>) -> anyhow::Result<()> {
    let kernel = Kernel::open(Path::new(PINS))
        .context("failed to open the pins")?
        .context("failed to find the pins")?;
    fs::write(format!("{cgroup}/cgroup.procs"), "0")
        .with_context(|| format!("failed to enter the cgroup {cgroup}"))?;
    let path = |path: &str| CString::new(path).context("failed to use a path with NUL");
    let bench = Bench {
        before: path(files.before)?,
        now: path(files.now)?,
        both: path(files.both)?,
        slot: kernel.active().context("failed to find an active generation")?,
        kernel,
    };
    bench.each("rollback", Bench::rollback)?;
    bench.each("flip", Bench::flip)?;
    bench.each("emergency", Bench::emergency)?;
    bench.each("deadline", Bench::deadline)?;
    bench.read_all_the_time()
}

struct Bench {
    kernel: Kernel,
    before: CString,
    now: CString,
    both: CString,
    /// What decides when this begins and when it ends.
    slot: Slot,
}

impl Bench {
    /// Does it again and again, and says what a half, 95 and 99 of a hundred took at most.
    fn each(
        &self,
        name: &str,
        act: impl Fn(&Self) -> anyhow::Result<Duration>,
    ) -> anyhow::Result<()> {
        let mut took = Vec::new();
        for _ in 0..TIMES {
            took.push(act(self).with_context(|| format!("failed to measure {name}"))?.as_nanos());
            self.drain()?;
        }
        ensure!(self.kernel.active() == Some(self.slot), "{name} has left something else active");
        took.sort_unstable();
        let percent = |percent: usize| took.get((took.len() * percent / 100).min(took.len() - 1));
        let most = percent(100).copied().unwrap_or(u128::MAX);
        ensure!(most < MOST.as_nanos(), "{name} took {most} ns, and may take {MOST:?}");
        say(&json!({
            "switch": name, "times": TIMES,
            "p50": percent(50), "p95": percent(95), "p99": percent(99), "most": most,
        }))
    }

    /// Back to what was before; and forward again, which is not measured.
    fn rollback(&self) -> anyhow::Result<Duration> {
        let seen = self.kernel.slots();
        let begin = Instant::now();
        let rolled = self.kernel.roll_back(seen);
        let answer = open(&self.before);
        let took = begin.elapsed();
        ensure!(
            rolled && answer == Err(Errno::PERM),
            "what was before does not decide: {answer:?}"
        );
        ensure!(self.kernel.roll_back(self.kernel.slots()), "it does not lead forward again");
        Ok(took)
    }

    /// As an apply does it.
    fn flip(&self) -> anyhow::Result<Duration> {
        ensure!(self.kernel.roll_back(self.kernel.slots()), "there is nothing to flip from");
        let begin = Instant::now();
        self.kernel.switch(Some(self.slot), None);
        let answer = open(&self.before);
        let took = begin.elapsed();
        ensure!(answer == Ok(()), "what was put in force does not decide: {answer:?}");
        Ok(took)
    }

    fn emergency(&self) -> anyhow::Result<Duration> {
        let switches = self.kernel.switches();
        let toggle = Toggle {
            number: 0,
            time: 0,
            until: Some(0),
            uid: 0,
            login_uid: None,
            pid: std::process::id(),
            guards_too: false,
            reason: "to be measured".to_owned(),
        };
        let until = since_boot() + 3_600_000_000_000;
        let begin = Instant::now();
        switches.begin_emergency(&toggle, until);
        let answer = open(&self.both);
        let took = begin.elapsed();
        ensure!(answer == Ok(()), "an emergency lets nothing through: {answer:?}");
        switches.end_emergency(&Toggle { until: None, ..toggle });
        ensure!(open(&self.both) == Err(Errno::PERM), "it does not end");
        Ok(took)
    }

    /// What decides at the deadline is what was there before, for the first open that comes after it.
    fn deadline(&self) -> anyhow::Result<Duration> {
        let other = self.kernel.previous().context("failed to find a previous generation")?;
        self.kernel.switch(Some(other), Some(since_boot() + 1_000_000));
        let until = self.kernel.slots().confirm_by.context("failed to set a deadline")?;
        let mut opens = 0;
        while open(&self.before) == Err(Errno::PERM) {
            opens += 1;
        }
        let took = since_boot().saturating_sub(until);
        ensure!(opens > 0, "the deadline was over before anything was decided");
        self.kernel.settle();
        Ok(Duration::from_nanos(took))
    }

    /// Each observation is of two files between two changes: one whole policy, the one or the other.
    fn read_all_the_time(&self) -> anyhow::Result<()> {
        let (changes, over) = (AtomicU64::new(0), AtomicBool::new(false));
        let seen = std::thread::scope(|scope| {
            let reader = scope.spawn(|| self.read(&changes, &over));
            for _ in 0..CHANGES {
                changes.fetch_add(1, Ordering::SeqCst);
                let rolled = self.kernel.roll_back(self.kernel.slots());
                changes.fetch_add(1, Ordering::SeqCst);
                let drained = self.drain();
                if !rolled || drained.is_err() || reader.is_finished() {
                    break;
                }
                std::thread::sleep(Duration::from_micros(500));
            }
            over.store(true, Ordering::SeqCst);
            match reader.join() {
                Ok(seen) => seen,
                Err(_panic) => bail!("the reader died"),
            }
        })?;
        self.drain()?;
        ensure!(self.kernel.active() == Some(self.slot), "not every change was made");
        let [before, now] = seen;
        ensure!(before > CHANGES && now > CHANGES, "too little was seen: {before}, {now}");
        say(&json!({ "reader": { "changes": CHANGES, "before": before, "now": now } }))
    }

    /// How often it was the one, and how often the other.
    fn read(&self, changes: &AtomicU64, over: &AtomicBool) -> anyhow::Result<[u64; 2]> {
        let mut seen = [0; 2];
        while !over.load(Ordering::SeqCst) {
            let begin = changes.load(Ordering::SeqCst);
            let both = open(&self.both);
            ensure!(both == Err(Errno::PERM), "what both deny was opened: {both:?}");
            let answers = (open(&self.before), open(&self.now));
            if begin % 2 == 1 || changes.load(Ordering::SeqCst) != begin {
                continue;
            }
            match answers {
                (Err(Errno::PERM), Ok(())) => seen[0] += 1,
                (Ok(()), Err(Errno::PERM)) => seen[1] += 1,
                neither => bail!("what was seen is no whole policy: {neither:?}"),
            }
        }
        Ok(seen)
    }

    fn drain(&self) -> anyhow::Result<()> {
        let events = self.kernel.events().context("failed to open the ring of events")?;
        events.take(Duration::ZERO, 0).context("failed to take events").map(drop)
    }
}

fn since_boot() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// How often each is done.
const TIMES: usize = 200;
/// How often generations change places while somebody reads; an even number.
const CHANGES: u64 = 400;
/// What each may take at the most.
const MOST: Duration = Duration::from_millis(10);
