// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask VERB`: the repository's own commands, in plain Rust, so that nothing but cargo is needed to begin.
//!
//! Each verb is a module. None of this is part of the product.

#![forbid(unsafe_code)]

mod accel;
mod apt;
mod command;
mod disk;
mod dist;
mod guest;
mod initramfs;
mod kernels;
mod setup;
mod talk;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::talk::{answer, note};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "The repository's own commands")]
struct Commands {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Install what this machine lacks (Debian, Ubuntu), or name it.
    Setup,
    /// Fetch and check the kernels that guests run.
    Kernels {
        /// Series of kernels.toml; all without.
        series: Vec<String>,
        /// Ask the mirror even if the last answer is less than a day old.
        #[arg(long)]
        refresh: bool,
    },
    /// Run a command, or a shell, in a guest.
    Vm(vm::Arguments),
    /// Build one static binary, target/dist/aegisbpf.
    Dist,
}

fn main() -> ExitCode {
    match run(&Commands::parse().verb) {
        Ok(status) => ExitCode::from(u8::try_from(status).unwrap_or(1)),
        Err(error) => {
            note(format_args!("error: {error:#}"));
            ExitCode::from(2)
        }
    }
}

/// The exit status: 0 yes, 1 no, 2 could not tell; or that of a guest's command.
fn run(verb: &Verb) -> anyhow::Result<i32> {
    match verb {
        Verb::Setup => setup::ensure().map(|()| 0),
        Verb::Kernels { series, refresh } => {
            setup::ensure()?;
            let kernels = kernels::obtain(series, *refresh)?;
            for kernel in &kernels {
                answer(format_args!("{}: {}", kernel.label(), kernel.identity()));
            }
            Ok(i32::from(kernels.is_empty()))
        }
        Verb::Vm(arguments) => vm::run(arguments),
        Verb::Dist => {
            setup::ensure()?;
            answer(dist::build()?.display());
            Ok(0)
        }
    }
}
