// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask vm`: one command, or a shell, in one guest. For development.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use crate::accel::Accel;
use crate::command::target;
use crate::disk::Disk;
use crate::guest::{Guest, Show};
use crate::talk::note;
use crate::{dist, kernels, setup};

/// What to run, and in what.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Series of the kernel, as kernels.toml names it.
    #[arg(long, default_value = "6.12")]
    kernel: String,
    /// Security modules (`lsm=`); `default` is the kernel's own choice.
    #[arg(long)]
    lsm: Option<String>,
    /// More words for the kernel's command line.
    #[arg(long, default_value = "")]
    cmdline: String,
    /// One more disk; ext4 is always there, on /data.
    #[arg(long)]
    disk: Vec<Disk>,
    /// A file or directory of this machine, and where it goes (its own name in /root).
    #[arg(long, value_name = "HOST[:GUEST]")]
    put: Vec<String>,
    /// A variable for the command.
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Seconds until the guest is stopped, its boot included.
    #[arg(long, default_value_t = 600)]
    timeout: u64,
    /// Memory in MiB.
    #[arg(long, default_value_t = 2048)]
    memory: u32,
    /// Count instructions: one processor, whose clock ticks once for each.
    #[arg(long)]
    icount: bool,
    /// Build target/dist/aegisbpf first; without, it is put there as it is, if it is.
    #[arg(long)]
    build: bool,
    /// Show what the kernel's console said, afterwards, on stderr.
    #[arg(long)]
    console: bool,
    /// Say how long booting and running took.
    #[arg(long)]
    times: bool,
    /// The command's words; one word is a line for the shell, none is a shell.
    #[arg(last = true)]
    command: Vec<String>,
}

/// The command's exit status.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<i32> {
    setup::ensure()?;
    if arguments.build {
        dist::build()?;
    }
    let kernel = kernels::obtain_one(&arguments.kernel)?;
    let accel = if arguments.icount { Accel::Counted } else { Accel::of_this_machine(&kernel)? };
    let mut guest = Guest::new(&kernel, accel)
        .command_line(&arguments.cmdline)
        .memory(arguments.memory)
        .timeout(Duration::from_secs(arguments.timeout));
    match arguments.lsm.as_deref() {
        Some("default") => guest = guest.own_lsm_default(),
        Some(list) => guest = guest.own_lsm_default().command_line(&format!("lsm={list}")),
        None => {}
    }
    for disk in &arguments.disk {
        guest = guest.disk(*disk);
    }
    let binary = target("dist/aegisbpf");
    if binary.is_file() {
        guest = guest.put(binary, "/usr/bin/aegisbpf");
    }
    for put in &arguments.put {
        let (from, to) = match put.split_once(':') {
            Some((from, to)) => (PathBuf::from(from), to.to_owned()),
            None => {
                let from = PathBuf::from(put);
                let name =
                    from.file_name().with_context(|| format!("failed to find a name in {put}"))?;
                let to = format!("/root/{}", name.to_string_lossy());
                (from, to)
            }
        };
        guest = guest.put(from, to);
    }
    for variable in &arguments.env {
        let (name, value) = variable
            .split_once('=')
            .with_context(|| format!("failed to find a value in {variable}"))?;
        guest = guest.environment(name, value);
    }
    note(format_args!("kernel {}: {}", kernel.label(), kernel.identity()));
    let show = if arguments.command.is_empty() { Show::Terminal } else { Show::Live };
    let outcome = guest.run(&arguments.command, show)?;
    if arguments.times {
        let boot = outcome.boot.unwrap_or_default().as_secs_f32();
        note(format_args!(
            "booted in {boot:.1} s, ended after {:.1} s",
            outcome.total.as_secs_f32()
        ));
    }
    if arguments.console {
        note(&outcome.console);
    }
    outcome.check()
}
