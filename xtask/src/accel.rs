// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What runs a guest's instructions: the hardware where it can, else an emulator.
//!
//! That /dev/kvm is there says little: on some hosts ordinary kernels hang under it. So a kernel is booted once to see,
//! and the answer is kept.

use std::fs;
use std::time::Duration;

use anyhow::Context as _;

use crate::command::{output, program, target};
use crate::guest::{Guest, Show};
use crate::kernels::Kernel;
use crate::talk::Step;

/// A way to run a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accel {
    /// The processor's own virtualization.
    Kvm,
    /// Emulation of two processors, in turn.
    Emulated,
    /// Emulation of one processor, whose clock counts instructions: the same numbers on every machine.
    Counted,
}

impl Accel {
    /// What this machine can do, tried with `kernel` if that is not known yet.
    pub(crate) fn of_this_machine(kernel: &Kernel) -> anyhow::Result<Self> {
        if fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
            return Ok(Self::Emulated);
        }
        let answer = target("guests/accel");
        let host = output(program("uname").arg("-rv"))?;
        if let Ok(kept) = fs::read_to_string(&answer)
            && let Some(word) = kept.strip_prefix(&host)
        {
            return Ok(if word == "kvm" { Self::Kvm } else { Self::Emulated });
        }
        let step = Step::begin("trying whether guests run under KVM here");
        let works = Self::probe(kernel);
        step.end(if works { "yes" } else { "no: emulating" });
        let word = if works { "kvm" } else { "emulated" };
        fs::write(&answer, format!("{host}{word}"))
            .context("failed to write target/guests/accel")?;
        Ok(if works { Self::Kvm } else { Self::Emulated })
    }

    fn probe(kernel: &Kernel) -> bool {
        let guest = Guest::new(kernel, Self::Kvm).timeout(Duration::from_secs(10));
        let outcome = guest.run(&["true".to_owned()], Show::Nothing);
        outcome.is_ok_and(|outcome| matches!(outcome.check(), Ok(0)))
    }

    /// For QEMU.
    pub(crate) fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Kvm => &["-accel", "kvm", "-cpu", "host", "-smp", "2"],
            // In turn, in one thread: with a thread for each processor, about one guest in sixty ran a breakpoint that the
            // other processor had already patched away again (kernels patch themselves whenever a program is attached),
            // and died of it with "Oops: int3". Two guests at once use two processors of this machine all the same.
            //
            // Without what makes the kernel copy and clear byte by byte, which is one step for hardware and not here.
            Self::Emulated => {
                &["-accel", "tcg,thread=single", "-cpu", "max,-erms,-fsrm,-smap", "-smp", "2"]
            }
            Self::Counted => &[
                "-accel",
                "tcg,thread=single",
                "-cpu",
                "max",
                "-smp",
                "1",
                "-icount",
                "shift=0,sleep=off",
            ],
        }
    }

    /// For the kernel's command line.
    pub(crate) fn command_line(self) -> &'static str {
        match self {
            Self::Kvm => "",
            // A kernel panics at boot if it sees no timer interrupt in ten ticks of a clock that runs on while the machine
            // does something else than emulating it.
            Self::Emulated => "no_timer_check",
            Self::Counted => "no_timer_check tsc=reliable clocksource=tsc mitigations=off",
        }
    }
}
