// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The tests for guests on every kernel, and the boots that show something of their own.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::bail;

use crate::accel::Accel;
use crate::command::root;
use crate::disk::Disk;
use crate::guest::{AT_ONCE, Guest, Outcome, Show};
use crate::kernels::{self, Kernel};
use crate::payload::{Program, Results, Test};
use crate::talk::{answer, note};
use crate::test::Counts;

/// Tests of this module run only where programs attach and are never called: on the kernel's own `lsm=`.
const WITHOUT_BPF_LSM: &str = "boot_without_bpf_lsm";
/// Tests of this module run only where the kernel is locked down.
const LOCKED_DOWN: &str = "boot_lockdown";
/// Tests of this module run only where systemd is the first process.
const SYSTEMD: &str = "boot_systemd";
/// Modules with a boot of their own.
const OWN_BOOTS: &str = "boot_without_bpf_lsm boot_lockdown boot_systemd";
/// Modules that ask how commands and what they change are dealt with, which is the same on all kernels but for what the oldest
/// lacks and the newest has: in the ordinary run they run on these two.
const OF_USER_SPACE: &str =
    "agent deadline failure faults handover left matrix posture resolving room";
/// Those of them that ask what commands make of files, of keys and of each other, and nothing of a kernel that any of them
/// lacks: the ordinary run asks the newest.
const OF_COMMANDS: &str =
    "config documents emergency_command instances provenance rollback start stopped trust";
/// Those that ask what is denied of a file, by whatever way: here each hook and each step of bookkeeping is missed. What
/// chance or time decides is not among them: that such a test fails without a hook is no fact about the hook.
const OF_WAYS: &str = "access bypass filesystem hooks layers links mounts moves object";
/// Tests of this module show denials: with nothing enforcing, each of them must fail.
const DENIAL: &str = "denial";
/// Fewer kernels than this is no test of kernels.
const FEWEST: usize = 4;
/// For everything in one guest, its boot included: some 150 tests of two to three seconds.
const BUDGET: Duration = Duration::from_secs(1200);
/// With `--full`: a race of ten minutes takes 40 of an emulated processor, and ten thousand steps of stories as many.
const BUDGET_IN_FULL: Duration = Duration::from_secs(14_400);

/// Each map that is put into another waits for a grace period, which an emulated processor is slow to come to. It is
/// waited for as it is on a host, but asked for: an apply on 5.10 takes 0.6 s and not 1.5 s. `--full` does without.
const HURRIED: &str = "rcupdate.rcu_expedited=1";

/// How many of the slowest tests are named.
const SLOWEST: usize = 5;

/// What tests of chance are told by whoever starts them: where to begin, and what to tell again.
const TOLD: [&str; 2] = ["AEGIS_SEED", "AEGIS_STORY"];

/// One boot of a kernel, and what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Boot {
    /// All tests but those with a boot of their own: for a few that somebody looks for.
    Ordinary,
    /// The same without those of user space.
    OfTheKernel,
    /// Those of user space.
    OfUserSpace,
    /// Those of commands.
    OfCommands,
    /// The kernel's own `lsm=`, without `bpf` in it.
    WithoutBpfLsm,
    /// Programs may not read the kernel's memory.
    LockedDown,
    /// systemd is the first process, and has our units.
    Systemd,
    /// Nothing enforces: a test of denial that passes here shows nothing anywhere.
    Null,
}

/// Boots beside the ordinary ones, by series.
const MORE_BOOTS: [(&str, Boot); 4] = [
    ("6.12", Boot::Null),
    ("6.12", Boot::Systemd),
    ("6.12", Boot::LockedDown),
    ("5.10", Boot::WithoutBpfLsm),
];

/// Runs `programs` on the series named, or on all, and says what ran.
pub(crate) fn run(
    binary: &Path,
    programs: &[Program],
    series: &[String],
    filter: &str,
    full: bool,
) -> anyhow::Result<Counts> {
    let kernels = kernels::obtain(series, false)?;
    if kernels.len() < FEWEST.min(if series.is_empty() { FEWEST } else { series.len() }) {
        bail!("failed to obtain enough kernels: {} of {} could be had", kernels.len(), FEWEST);
    }
    let Some(first) = kernels.last() else { bail!("failed to obtain any kernel") };
    let accel = Accel::of_this_machine(first)?;
    // Made here, once, and not by two guests at the same time.
    for kernel in &kernels {
        for disk in [Disk::Ext4, Disk::Xfs, Disk::Btrfs] {
            disk.image(kernel)?;
        }
    }
    let ends = [kernels.first(), kernels.last()].map(|end| end.map(|end| &end.series.name));
    let all_of_it = full || !series.is_empty();
    let has_user_space = |kernel: &&Kernel| all_of_it || ends.contains(&Some(&kernel.series.name));
    let has_commands = |kernel: &&Kernel| all_of_it || ends[1] == Some(&kernel.series.name);
    let mut boots: Vec<(&Kernel, Boot)> = Vec::new();
    if filter.is_empty() {
        // What takes longest begins first.
        boots.extend(kernels.iter().filter(has_user_space).map(|k| (k, Boot::OfUserSpace)));
        boots.extend(kernels.iter().filter(has_commands).map(|k| (k, Boot::OfCommands)));
        boots.extend(kernels.iter().map(|kernel| (kernel, Boot::OfTheKernel)));
    } else {
        boots.extend(kernels.iter().map(|kernel| (kernel, Boot::Ordinary)));
    }
    for (name, boot) in MORE_BOOTS {
        boots.extend(
            kernels.iter().filter(|kernel| kernel.series.name == name).map(|kernel| (kernel, boot)),
        );
    }
    let next = AtomicUsize::new(0);
    let counts = Mutex::new(Counts::default());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(&(kernel, boot)) = boots.get(next.fetch_add(1, Ordering::Relaxed)) {
                    note(format_args!("{} …", boot.title(kernel)));
                    let guest = boot.guest(kernel, accel, binary, programs, filter, full);
                    let outcome = guest.and_then(|guest| {
                        guest.run(&["exec /guest/run-tests".to_owned()], Show::Nothing)
                    });
                    // One guest's lines together, whichever ends first.
                    if let Ok(mut counts) = counts.lock() {
                        *counts += boot.report(kernel, outcome, filter);
                    }
                }
            });
        }
    });
    Ok(counts.into_inner().unwrap_or_default())
}

/// Which tests another build of the program is tried with.
pub(crate) enum Chosen<'a> {
    /// All of ways to a file, and those of these modules.
    OfWays(&'a str),
    /// All of these modules, parted by blanks.
    Modules(&'a str),
    /// These, parted by blanks.
    Named(String),
}

/// Runs tests with another build of the program.
pub(crate) fn results(
    kernel: &Kernel,
    accel: Accel,
    binary: &Path,
    programs: &[Program],
    chosen: &Chosen<'_>,
) -> anyhow::Result<Results> {
    let (only, names) = match chosen {
        Chosen::OfWays(also) => (format!("{OF_WAYS} {also}"), ""),
        Chosen::Modules(modules) => ((*modules).to_owned(), ""),
        Chosen::Named(names) => (String::new(), names.as_str()),
    };
    let guest = Boot::Ordinary.guest(kernel, accel, binary, programs, "", false)?;
    let guest = guest
        .timeout(BUDGET_IN_FULL)
        .environment("AEGIS_ONLY", &only)
        .environment("AEGIS_NAMES", names);
    let outcome = guest.run(&["exec /guest/run-tests".to_owned()], Show::Nothing)?;
    let results = Results::read(&String::from_utf8_lossy(&outcome.output));
    match results.doubt().or_else(|| outcome.check().err().map(|error| format!("{error:#}"))) {
        Some(doubt) => bail!("{doubt}"),
        None => Ok(results),
    }
}

impl Boot {
    fn title(self, kernel: &Kernel) -> String {
        match self {
            Self::Ordinary => format!("kernel {}", kernel.label()),
            Self::OfTheKernel => {
                format!("kernel {}, what is about the kernel", kernel.label())
            }
            Self::OfUserSpace => {
                format!("kernel {}, what is about user space: {OF_USER_SPACE}", kernel.label())
            }
            Self::OfCommands => {
                format!("kernel {}, what is about commands: {OF_COMMANDS}", kernel.label())
            }
            Self::WithoutBpfLsm => {
                format!("kernel {}, its own lsm=, which lacks bpf", kernel.label())
            }
            Self::LockedDown => format!("kernel {}, locked down", kernel.label()),
            Self::Systemd => format!("kernel {}, systemd and our units", kernel.label()),
            Self::Null => format!("kernel {}, null run: nothing enforces", kernel.label()),
        }
    }

    fn guest<'a>(
        self,
        kernel: &'a Kernel,
        accel: Accel,
        binary: &Path,
        programs: &[Program],
        filter: &str,
        full: bool,
    ) -> anyhow::Result<Guest<'a>> {
        let (only, except) = match self {
            Self::Ordinary => ("", OWN_BOOTS.to_owned()),
            Self::OfTheKernel => ("", format!("{OWN_BOOTS} {OF_USER_SPACE} {OF_COMMANDS}")),
            Self::OfUserSpace => (OF_USER_SPACE, OWN_BOOTS.to_owned()),
            Self::OfCommands => (OF_COMMANDS, OWN_BOOTS.to_owned()),
            Self::LockedDown => (LOCKED_DOWN, String::new()),
            Self::WithoutBpfLsm => (WITHOUT_BPF_LSM, String::new()),
            Self::Systemd => (SYSTEMD, String::new()),
            Self::Null => (DENIAL, String::new()),
        };
        let mut guest = Guest::new(kernel, accel)
            .timeout(if full { BUDGET_IN_FULL } else { BUDGET })
            .disk(Disk::Xfs)
            .disk(Disk::Btrfs)
            .put(binary, "/usr/bin/aegisbpf")
            .text("/guest/run-tests", 0o755, include_str!("../guest/run-tests"))
            .environment("AEGIS_BIN", "/usr/bin/aegisbpf")
            .environment("AEGIS_KERNEL", &kernel.label())
            .environment("AEGIS_ONLY", only)
            .environment("AEGIS_EXCEPT", &except)
            .environment("AEGIS_FILTER", filter);
        if self == Self::WithoutBpfLsm {
            guest = guest.own_lsm_default();
        }
        if self == Self::LockedDown {
            guest = guest.command_line("lockdown=confidentiality");
        }
        if self == Self::Null {
            guest = guest.environment("AEGIS_NULL", "1");
        }
        guest =
            if full { guest.environment("AEGIS_FULL", "1") } else { guest.command_line(HURRIED) };
        for name in TOLD {
            if let Ok(value) = std::env::var(name) {
                guest = guest.environment(name, &value);
            }
        }
        for program in programs {
            guest = guest.put(&program.file, program.place());
        }
        if self == Self::Systemd {
            guest = guest.systemd()?.put(binary, "/usr/local/bin/aegisbpf");
            for unit in ["aegisbpf-load.service", "aegisbpf.service"] {
                let place = format!("/etc/systemd/system/{unit}");
                guest = guest.put(root().join("dist").join(unit), place);
            }
        }
        Ok(guest)
    }

    fn report(self, kernel: &Kernel, outcome: anyhow::Result<Outcome>, filter: &str) -> Counts {
        answer(format_args!("\n{}\n  {}", self.title(kernel), kernel.identity()));
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                answer(format_args!("  FAILED: {error:#}"));
                return Counts::one_failure();
            }
        };
        let results = Results::read(&String::from_utf8_lossy(&outcome.output));
        let seconds = outcome.total.as_secs_f32();
        let mut counts = if self == Self::Null {
            report_null_run(&results.tests, seconds)
        } else {
            report_tests(&results.tests, seconds)
        };
        // A filter may well choose no test of this boot.
        let nothing_chosen =
            !filter.is_empty() && results.ended == Some(0) && results.broken.is_empty();
        let doubt = results.doubt().filter(|_| !nothing_chosen);
        let broken = outcome.check().err().map(|error| format!("{error:#}"));
        for fault in doubt.into_iter().chain(broken) {
            answer(format_args!("  FAILED: {fault}"));
            counts.failed += 1;
        }
        counts
    }
}

fn report_tests(tests: &[Test], seconds: f32) -> Counts {
    let failed: Vec<&Test> = tests.iter().filter(|test| !test.passed).collect();
    let passed = tests.len() - failed.len();
    answer(format_args!("  {passed} passed, {} failed, {seconds:.0} s", failed.len()));
    let mut slowest: Vec<&Test> = tests.iter().collect();
    slowest.sort_by(|left, right| right.seconds.total_cmp(&left.seconds));
    for test in slowest.iter().take(SLOWEST) {
        answer(format_args!("  slowest: {} ({:.1} s)", test.name, test.seconds));
    }
    for test in &failed {
        answer(format_args!("  FAILED {} ({:.1} s)", test.name, test.seconds));
        for line in test.output.lines() {
            answer(format_args!("    {line}"));
        }
    }
    Counts { passed, failed: failed.len() }
}

/// One answer for the whole run: every test of denial noticed that nothing denies, or these did not.
fn report_null_run(tests: &[Test], seconds: f32) -> Counts {
    let (noticed, survivors): (Vec<&Test>, Vec<&Test>) =
        tests.iter().partition(|test| !test.passed && test.output.contains(NOT_DENIED));
    answer(format_args!(
        "  {} of {} tests of denial noticed that nothing denies, {seconds:.0} s",
        noticed.len(),
        tests.len()
    ));
    for survivor in &survivors {
        let what = if survivor.passed { "passes" } else { "fails, for another reason," };
        answer(format_args!("  FAILED {}: it {what} with nothing enforcing", survivor.name));
        for line in survivor.output.lines() {
            answer(format_args!("    {line}"));
        }
    }
    let good = survivors.is_empty() && !tests.is_empty();
    Counts { passed: usize::from(good), failed: usize::from(!survivors.is_empty()) }
}

/// How a test says that what must be denied was not.
const NOT_DENIED: &str = "NOT DENIED";

#[cfg(test)]
mod tests {
    use super::*;

    fn test(name: &str, passed: bool) -> Test {
        let output = if passed { String::new() } else { format!("{NOT_DENIED}: open /x\n") };
        Test { name: name.to_owned(), passed, seconds: 1.0, output }
    }

    #[test]
    fn the_null_run_passes_only_if_every_denial_failed() {
        let good = report_null_run(&[test("denial::a", false), test("denial::b", false)], 1.0);
        assert_eq!((good.passed, good.failed), (1, 0));
        let bad = report_null_run(&[test("denial::a", false), test("denial::b", true)], 1.0);
        assert_eq!((bad.passed, bad.failed), (0, 1));
        let mut other = test("denial::c", false);
        other.output = "no such file\n".to_owned();
        assert_eq!(report_null_run(&[other], 1.0).failed, 1);
        let empty = report_null_run(&[], 1.0);
        assert_eq!(empty.passed, 0);
    }
}
