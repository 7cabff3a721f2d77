// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `detach`: takes all of AegisBPF, and nothing else, out of the kernel and the file systems that
//! live in memory.

use std::{fs, io, path::Path};

use aegis_fault::{self as fault, Point};
use aegis_kernel::{Kernel, probe};
use aegis_trust::{
    Digest,
    provenance::{Effect, Entry},
};
use anyhow::Context as _;
use serde_json::json;

use crate::{
    apply::active,
    cgroups::Own,
    cli,
    context::Context,
    emergency,
    failure::{Changed, Refusal},
    instances, late,
    lock::Lock,
    output::Answer,
    posture::Reason,
    proof,
    provenance::{Begun, Log, failure_of},
};

pub(super) fn run(context: &Context, args: &cli::Detach) -> anyhow::Result<Answer> {
    if !rustix::process::geteuid().is_root() {
        let meaning = Reason::NotRoot.meaning();
        return Err(Refusal::new(meaning.code, "only root can take programs out of the kernel")
            .hint(meaning.fix)
            .into());
    }
    if !args.foreign {
        instances::refuse_another_if_any(context)?;
    }
    let Detached { any, warning } = detach(context, "detach", Some(&args.reason))?;
    let purged = args.purge
        && remove_tree(&context.state).map_err(|error| {
            let stays = "everything is out of the kernel, and the state directory stays";
            if any { error.context(Changed(stays.to_owned())) } else { error }
        })?;
    let text = match (any, purged) {
        (false, false) => "nothing to do: there is nothing of AegisBPF here",
        (false, true) => "nothing was in the kernel; the state directory is removed",
        (true, false) => "everything is out of the kernel; the state directory stays",
        (true, true) => "everything is out of the kernel, and the state directory is removed",
    };
    let json = json!({
        "changed": any || purged,
        "runtime_state": "NOT_LOADED",
        "reason_code": "NOT_ATTACHED",
        "purged": purged,
        "warnings": warning.iter().collect::<Vec<_>>(),
    });
    let warning = warning.map_or_else(String::new, |warning| format!("\nwarning: {warning}"));
    Ok(Answer { text: format!("{text}{warning}"), json, exit: 0 })
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Detached {
    /// Whether there was anything.
    pub(crate) any: bool,
    /// What is to be said, and takes nothing back.
    pub(crate) warning: Option<String>,
}

/// Takes everything out.
pub(crate) fn detach(
    context: &Context,
    command: &str,
    reason: Option<&str>,
) -> anyhow::Result<Detached> {
    let own = probe::cgroup2_mount().map(Own::new);
    // Nothing is left that an emergency could hold for, not even after a reboot.
    let forget = || match emergency::forget(context) {
        Ok(was_there) => (was_there, None),
        Err(error) => (false, Some(format!("an emergency would go on: {error:#}"))),
    };
    let pinned = Kernel::is_pinned(&context.pins);
    if !pinned && !context.run.exists() && own.as_ref().is_none_or(|own| !own.exists()) {
        let (any, warning) = forget();
        return Ok(Detached { any, warning });
    }
    crate::files::make_directory(&context.run)?;
    let _lock = Lock::take(&context.lock(), command)?;
    let before = Pinned::look(context);
    let begun = pinned.then(|| begin(context, command, reason)).transpose()?;
    // The programs have to go even if it cannot be written down what the next ones would go on with.
    let late = if pinned { keep_late(context) } else { None };
    fault::passed(Point::DetachBegun);
    // Whoever makes a proof now would find neither its files nor its cgroups. The programs have to
    // go even if it takes too long.
    let turn = proof::take_turn(context, command);
    let out = Kernel::detach(&context.pins).context("failed to take the programs out");
    fault::passed(Point::PinsGone);
    let (mut any, warning) = match (out, begun) {
        (Ok(any), None) => (any, None),
        (Ok(any), Some(begun)) => (any, begun.done()),
        (Err(error), begun) => return Err(half_done(context, &before, error, begun)),
    };
    let rest = || -> anyhow::Result<()> {
        let _turn = turn?;
        // Instances share these cgroups; the last one takes them along.
        if let Some(own) = own.filter(|_| instances::others(context).is_empty()) {
            any |= own.remove()?;
        }
        fault::step(Point::CgroupsGone)?;
        any |= remove_tree(&context.run)?;
        Ok(())
    };
    if let Err(error) = rest() {
        let stays =
            "nothing is enforced any more, and what else is ours is not gone: do this again";
        return Err(if any { error.context(Changed(stays.to_owned())) } else { error });
    }
    let (forgotten, kept) = forget();
    let warnings = warning.into_iter().chain(kept).chain(late);
    let warning = warnings.reduce(|one, other| format!("{one}; {other}"));
    Ok(Detached { any: any || forgotten, warning })
}

/// What is in the kernel at one moment.
struct Pinned {
    /// Whether something decides; `None` if that cannot be asked.
    decides: Option<bool>,
    /// How many pins there are.
    pins: usize,
}

impl Pinned {
    fn look(context: &Context) -> Self {
        let count = |place: &Path| fs::read_dir(place).map_or(0, Iterator::count);
        let kernel = Kernel::open(&context.pins);
        Self {
            decides: kernel.ok().map(|kernel| kernel.is_some_and(|it| it.active().is_some())),
            pins: Kernel::places(&context.pins).iter().map(|place| count(place)).sum(),
        }
    }

    /// Whether something decides in what is left of it. What could be asked was switched off first.
    fn still_decides(&self, before: &Self) -> bool {
        self.decides.unwrap_or_else(|| before.decides.is_none())
    }
}

/// What files took along is kept for the next programs. Of pins that cannot be read there is nothing to be kept.
fn keep_late(context: &Context) -> Option<String> {
    let kernel = Kernel::open(&context.pins).ok().flatten()?;
    late::warning(context, &kernel)
}

/// What is said of a detach that failed: whether anything decides after it is for the kernel to say.
fn half_done(
    context: &Context,
    before: &Pinned,
    error: anyhow::Error,
    begun: Option<Begun>,
) -> anyhow::Error {
    let now = Pinned::look(context);
    let decides = now.still_decides(before);
    let switched_off = before.decides == Some(true) && !decides;
    let mut warning = None;
    if let Some(mut begun) = begun {
        warning = if decides {
            begun.undone(&error)
        } else {
            begun.entry().error = Some(failure_of(&error));
            begun.done()
        };
    }
    let what = match (decides, switched_off || now.pins != before.pins) {
        (_, false) => None,
        (true, true) => Some("not all of it is out, and what is left may enforce: do this again"),
        (false, true) => {
            Some("nothing is enforced any more, and not all of it is out: do this again")
        }
    };
    let error = match what {
        Some(what) => error.context(Changed(what.to_owned())),
        None => error,
    };
    match warning {
        Some(warning) => error.context(warning),
        None => error,
    }
}

/// A weakening is on record before it acts.
fn begin(context: &Context, command: &str, reason: Option<&str>) -> anyhow::Result<Begun> {
    // Pins that cannot be read are taken out all the same.
    let kernel = Kernel::open(&context.pins).ok().flatten();
    let generation = active(kernel.as_ref()).ok().flatten().map(|(_, generation)| generation);
    Log::new(context).begin(Entry {
        command: command.to_owned(),
        weakening: true,
        reason: reason.map(str::to_owned),
        before: generation.map(|generation| Digest::from_bytes(generation.set_digest)),
        effect: Effect::Detached,
        ..Entry::default()
    })
}

fn remove_tree(path: &Path) -> anyhow::Result<bool> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("failed to remove {}", path.display())),
    }
}
