// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One verb, one file; and what several of them share: reading policies.

mod apply;
mod check;
mod detach;
mod events;
mod explain;
mod health;
mod list;
mod probe;
mod remove;
mod sources;
mod status;
mod why;
mod workloads;

use crate::{
    cli::{Cli, Verb},
    context::Context,
    daemon,
    output::{Answer, Output},
};

pub(crate) use detach::detach;

/// Does what the command line says.
pub(crate) fn run(cli: &Cli, output: &Output) -> anyhow::Result<Answer> {
    let context = Context::new(cli)?;
    match &cli.verb {
        Verb::Check(args) => check::run(args),
        Verb::Explain(args) => explain::run(args),
        Verb::Apply(args) => apply::run(&context, args),
        Verb::Remove(args) => remove::run(&context, args),
        Verb::List => list::run(&context),
        Verb::Status => status::run(&context),
        Verb::Workloads => workloads::run(&context),
        Verb::Detach(args) => detach::run(&context, args),
        Verb::Health(args) => health::run(&context, args),
        Verb::Events(args) => events::run(&context, args, *output),
        Verb::Why(args) => why::run(&context, args),
        Verb::Run(args) => daemon::run(&context, args, *output),
        Verb::Probe(args) => probe::run(args),
    }
}
