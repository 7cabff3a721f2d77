// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `aegis-cost`: what AegisBPF costs, in guest instructions for each operation.
//!
//! Runs as root in a guest whose clock counts instructions (`cargo xtask bench`), with the real
//! `aegisbpf` and real policies. On any other machine the numbers would be nanoseconds, with noise.
//!
//! ```text
//!   table     each row: bring about a state, prove it, have it measured
//!   stage     filesystems, files, cgroups, policies
//!   states    nothing, an empty program, AegisBPF, Landlock, fanotify
//!   switches  how long a flip, a rollback, an emergency and a deadline take
//!   measure   the process that runs the operation and reads the clock
//! ```

#![deny(unsafe_code)]

mod measure;
mod operation;
mod stage;
mod states;
mod switches;
mod table;

use std::{io::Write as _, process::ExitCode};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["measure", order] => measure::run(order),
        ["switches"] => switches::run(stage::INSIDE, &table::DIFFERENT),
        ["table"] => table::run(),
        _ => Err(anyhow::anyhow!("failed to understand the arguments\nhint: aegis-cost table")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(std::io::stderr(), "error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
