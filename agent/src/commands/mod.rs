// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One verb, one file; and what several of them share: reading policies.

mod apply;
mod capabilities;
mod check;
mod config;
mod confirm;
mod detach;
mod emergency;
mod events;
mod explain;
mod health;
mod history;
mod keygen;
mod list;
mod live;
mod metrics;
mod perf;
mod prove;
mod provenance;
mod provoke;
mod remove;
mod rollback;
mod sign;
mod sources;
mod start;
mod status;
mod trust;
mod verify;
mod why;
mod workloads;

use aegis_kernel::probe;
use aegis_trust::provenance::Entry;
use anyhow::Context as _;

use crate::{
    cgroups::Own,
    cli::{self, Cli, Trust, Verb},
    context::Context,
    daemon, files, looker,
    output::{Answer, Output},
    provenance::Log,
    transition, view,
};

pub(crate) use detach::detach;

/// Does what the command line says.
pub(crate) fn run(cli: &Cli, output: &Output) -> anyhow::Result<Answer> {
    if matches!(cli.verb, Verb::Look) {
        return looker::serve();
    }
    if matches!(cli.verb, Verb::Configuration) {
        return config::read(&files::absolute(&cli.root)?);
    }
    let (mut context, loaded) = Context::new(cli)?;
    let sound = loaded.faults.is_empty();
    if let Verb::Apply(cli::Apply { enforce_gate_mode: Some(mode), .. })
    | Verb::Run(cli::Run { enforce_gate_mode: Some(mode), .. }) = &cli.verb
    {
        context.config.flag("enforce_gate_mode", mode).context("--enforce-gate-mode")?;
    }
    if goes_on_with_faults(&cli.verb) {
        for fault in &loaded.faults {
            output.talk(&format!("aegisbpf: the configuration has an error\n{fault}"));
        }
    } else if !matches!(cli.verb, Verb::Config(_)) {
        drop(loaded.sound()?);
    }
    if !stays_where_it_is(&cli.verb) {
        step_aside();
    }
    let done = act(cli, output, &context, sound);
    if let (Err(error), Some(entry)) = (&done, asked(&cli.verb))
        && let Some(warning) = Log::new(&context).refused(entry, error)
    {
        output.talk(&format!("aegisbpf: {warning}"));
    }
    if let Some(command) = may_change(&cli.verb) {
        // Whatever came of it: a command that failed half-way is what somebody has to hear of.
        let noted = view::posture_only(&context)
            .and_then(|view| transition::note(&context, &view, command));
        if let Err(error) = noted {
            output.talk(&format!("aegisbpf: the posture could not be written down: {error:#}"));
        }
    }
    done
}

/// What a verb that changes what is enforced asks for, as the log has it if it is refused.
fn asked(verb: &Verb) -> Option<Entry> {
    let entry = |command: &str, reason: Option<&String>| Entry {
        command: command.to_owned(),
        reason: reason.cloned(),
        ..Entry::default()
    };
    match verb {
        Verb::Apply(args) if !args.dry_run => Some(Entry {
            details: [("file".to_owned(), args.policies.display().to_string())].into(),
            ..entry("apply", args.reason.as_ref())
        }),
        Verb::Trust(Trust::Install(args)) => Some(Entry {
            weakening: args.replace,
            details: [("file".to_owned(), args.document.display().to_string())].into(),
            ..entry("trust install", args.reason.as_ref())
        }),
        Verb::Remove(args) => Some(Entry {
            policies: vec![args.name.clone()],
            weakening: true,
            ..entry("remove", Some(&args.reason))
        }),
        Verb::Rollback(args) if !args.dry_run => Some(Entry {
            policies: args.name.iter().cloned().collect(),
            ..entry("rollback", Some(&args.reason))
        }),
        Verb::Confirm => Some(entry("confirm", None)),
        Verb::Start => Some(entry("start", None)),
        Verb::Detach(args) => {
            Some(Entry { weakening: true, ..entry("detach", Some(&args.reason)) })
        }
        _ => None,
    }
}

/// `sound`: whether all of the configuration was understood.
fn act(cli: &Cli, output: &Output, context: &Context, sound: bool) -> anyhow::Result<Answer> {
    match &cli.verb {
        Verb::Check(args) => check::run(context, args),
        Verb::Explain(args) => explain::run(context, args),
        Verb::Keygen(args) => keygen::run(args),
        Verb::Sign(args) => sign::run(args),
        Verb::Verify(args) => verify::run(context, args),
        Verb::Trust(verb) => trust::run(context, verb),
        Verb::Apply(args) => apply::run(context, args),
        Verb::Remove(args) => remove::run(context, args),
        Verb::Rollback(args) => rollback::run(context, args),
        Verb::Confirm => confirm::run(context),
        Verb::History(args) => history::run(context, args),
        Verb::Diff(args) => history::diff(context, args),
        Verb::Start => start::run(context),
        Verb::List => list::run(context),
        Verb::Status => status::run(context),
        Verb::Workloads => workloads::run(context),
        Verb::Emergency(verb) => emergency::run(context, verb, sound),
        Verb::Detach(args) => detach::run(context, args),
        Verb::Prove => prove::run(context),
        Verb::Health(args) => health::run(context, args),
        Verb::Events(args) => events::run(context, args, *output),
        Verb::Why(args) => why::run(context, args),
        Verb::Metrics(args) => metrics::run(context, args),
        Verb::Perf(args) => perf::run(context, args),
        Verb::Capabilities => Ok(capabilities::run(context)),
        Verb::Config(args) => config::run(context, args),
        Verb::Provenance(args) => provenance::run(context, args),
        Verb::Run(args) => daemon::run(context, args, *output),
        Verb::Probe(args) => provoke::run(args),
        // Served above: they ask for nothing of ours.
        Verb::Look => looker::serve(),
        Verb::Configuration => config::read(&context.root),
        Verb::Open(args) => live::open(args),
        Verb::Settle(args) => emergency::settle(context, args),
    }
}

/// What asks no kernel needs no place in it either.
const fn stays_where_it_is(verb: &Verb) -> bool {
    if let Verb::Explain(args) = verb {
        return !args.live;
    }
    matches!(
        verb,
        Verb::Check(_)
            | Verb::Config(_)
            | Verb::Keygen(_)
            | Verb::Sign(_)
            | Verb::Verify(_)
            | Verb::Probe(_)
            | Verb::Open(_)
    )
}

/// The name of a verb after which the posture may be another.
const fn may_change(verb: &Verb) -> Option<&'static str> {
    match verb {
        Verb::Apply(_) => Some("apply"),
        Verb::Remove(_) => Some("remove"),
        Verb::Rollback(_) => Some("rollback"),
        Verb::Confirm => Some("confirm"),
        Verb::Start => Some("start"),
        Verb::Detach(_) => Some("detach"),
        Verb::Prove => Some("prove"),
        _ => None,
    }
}

/// What looks, or takes something back, must not wait for somebody to mend a file.
const fn goes_on_with_faults(verb: &Verb) -> bool {
    matches!(
        verb,
        Verb::Check(_)
            | Verb::Explain(_)
            | Verb::Keygen(_)
            | Verb::Sign(_)
            | Verb::Verify(_)
            | Verb::Rollback(_)
            | Verb::Confirm
            | Verb::History(_)
            | Verb::Diff(_)
            | Verb::List
            | Verb::Status
            | Verb::Prove
            | Verb::Metrics(_)
            | Verb::Capabilities
            | Verb::Health(_)
            | Verb::Workloads
            | Verb::Events(_)
            | Verb::Why(_)
            | Verb::Detach(_)
            | Verb::Emergency(_)
            | Verb::Settle(_)
            | Verb::Provenance(_)
    )
}

/// Rules on `"*"` must not keep an operator from looking, or from taking them away. That there is no
/// exempt cgroup yet, or that it cannot be joined, is for the verb to find out.
fn step_aside() {
    if let Some(mount) = probe::cgroup2_mount() {
        drop(Own::new(mount).join_exempt());
    }
}
