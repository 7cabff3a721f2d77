// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask VERB`: the repository's own commands, in plain Rust, so that nothing but cargo is needed to begin.
//!
//! Each verb is a module. None of this is part of the product.

#![forbid(unsafe_code)]

mod abi;
mod accel;
mod apt;
mod bench;
mod budgets;
mod command;
mod demo;
mod deps;
mod disk;
mod dist;
mod foreign;
mod fuzz;
mod guest;
mod guests;
mod initramfs;
mod interop;
mod kernels;
mod mutants;
mod mutate;
mod payload;
mod python;
mod rules;
mod setup;
mod systemd;
mod talk;
mod test;
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
    /// Show the main job in a guest.
    Demo {
        /// On this host instead, if it can enforce; as root.
        #[arg(long)]
        here: bool,
        /// Series of the guest's kernel.
        #[arg(long, default_value = "6.12")]
        kernel: String,
    },
    /// Check and test everything, guests included.
    Test(test::Arguments),
    /// Count what the product costs, in guest instructions.
    Bench(bench::Arguments),
    /// Take a hook or a step out of the programs, and see exactly the tests fail that are for it.
    MutateHooks(mutate::Arguments),
    /// Change the crate `trust` in every way that cargo-mutants knows, and see its tests notice each.
    Mutants(mutants::Arguments),
    /// Run each fuzz target for a while.
    Fuzz(fuzz::Arguments),
    /// Check bundles against software that is not ours: they check ours, we check theirs.
    Interop,
    /// Check the house rules: sizes, licences, promises with tests.
    Rules,
    /// Check which crate names which, and how many there are.
    Deps,
    /// Write abi/src/generated.rs from abi/include/aegis.h.
    Abi {
        /// Compare instead.
        #[arg(long)]
        check: bool,
    },
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
                for line in kernel.series.notes.trim().lines() {
                    answer(format_args!("    {line}"));
                }
            }
            Ok(i32::from(kernels.is_empty()))
        }
        Verb::Vm(arguments) => vm::run(arguments),
        Verb::Dist => {
            setup::ensure()?;
            answer(dist::build()?.display());
            Ok(0)
        }
        Verb::Demo { here, kernel } => demo::run(*here, kernel),
        Verb::Test(arguments) => test::run(arguments),
        Verb::Bench(arguments) => bench::run(arguments),
        Verb::MutateHooks(arguments) => mutate::run(arguments),
        Verb::Mutants(arguments) => mutants::run(arguments),
        Verb::Fuzz(arguments) => Ok(faults(&fuzz::fuzz(arguments)?)),
        Verb::Interop => {
            setup::ensure()?;
            interop::check().map(|()| 0)
        }
        Verb::Rules => Ok(faults(&rules::check()?)),
        Verb::Deps => Ok(faults(&deps::check()?)),
        Verb::Abi { check } => {
            setup::ensure()?;
            abi::run(*check).map(|same| i32::from(!same))
        }
    }
}

fn faults(faults: &[String]) -> i32 {
    for fault in faults {
        answer(fault);
    }
    i32::from(!faults.is_empty())
}
