// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `rollback`: to what was in force before the last change, which is one store in the kernel; or to an
//! earlier set or an earlier text of one policy, which is filled and proved as any other.

use aegis_kernel::{Generation, Kernel, Slots};
use aegis_policy::{PolicyDifference, difference};
use aegis_trust::{
    Digest,
    provenance::{Effect, Entry, InForce},
};
use anyhow::Context as _;
use serde_json::json;

use crate::{
    apply::{Request, Wish, active, apply},
    bindings, changes,
    cli::Rollback,
    confirmation,
    context::Context,
    failure::Refusal,
    history::History,
    instances, late,
    lock::Lock,
    output::Answer,
    posture::Reason,
    proof::Proof,
    provenance::{Log, in_force, proof_of, steps_of},
    report::short,
    starts,
    state::{State, StoredSet},
    steps::{self, Steps},
    trust::TrustStore,
    view,
    withdrawn::Withdrawn,
};

pub(super) fn run(context: &Context, args: &Rollback) -> anyhow::Result<Answer> {
    if !rustix::process::geteuid().is_root() {
        let meaning = Reason::NotRoot.meaning();
        return Err(Refusal::new(meaning.code, "only root can change what is in force")
            .hint(meaning.fix)
            .into());
    }
    instances::refuse_another_if_any(context)?;
    match (&args.name, args.to) {
        (Some(name), _) => one_policy(context, args, name),
        (None, Some(number)) => to_generation(context, args, number),
        (None, None) => to_previous(context, args),
    }
}

/// What decides, what decided before, and what there is between them.
struct Step {
    seen: Slots,
    from: (Generation, StoredSet),
    to: (Generation, StoredSet),
    changes: Vec<PolicyDifference>,
}

/// Takes no lock, and waits for no other command: what it saw must still hold when it acts.
fn to_previous(context: &Context, args: &Rollback) -> anyhow::Result<Answer> {
    let mut taken = Steps::begin("look");
    let kernel = Kernel::open(&context.pins)?.ok_or_else(nothing_in_force)?;
    let mut warnings: Vec<String> =
        confirmation::settle_unless_busy(context, &kernel)?.into_iter().collect();
    let step = look(context, &kernel)?;
    if !args.all {
        check_extent(context, &kernel, &step)?;
    }
    TrustStore::new(context)
        .installed(&Log::new(context))?
        .check_minimums(&step.from.1.set, &step.to.1.set)?;
    if args.dry_run {
        return Ok(answer(&step, "would be", &taken, &[], None, true));
    }
    taken.next("log");
    let (from, to) = (&step.from, &step.to);
    let mut begun = Log::new(context).begin(Entry {
        command: "rollback".to_owned(),
        weakening: step.changes.iter().any(PolicyDifference::denies_less),
        reason: Some(args.reason.clone()),
        policies: changes::names(&step.changes),
        before: Some(Digest::from_bytes(from.0.set_digest)),
        effect: Effect::InForce(in_force(&to.0, &to.1)),
        ..Entry::default()
    })?;
    taken.next("flip");
    let flipped = kernel.roll_back(step.seen);
    taken.next("wait");
    if !flipped {
        let refusal = anyhow::Error::from(
            Refusal::new("REPLACED", "something else was put in force meanwhile")
                .hint("see `aegisbpf status`, and do this again if it is still needed"),
        );
        return Err(match begun.undone(&refusal) {
            Some(warning) => refusal.context(warning),
            None => refusal,
        });
    }
    // It has happened: whatever fails from here on is said, and is no failure of it.
    let extent = match step.seen.confirm_by {
        Some(_) => Withdrawn::record(context, &kernel, kernel.slots(), &step.changes),
        None => Withdrawn::forget(context),
    };
    let noted = note(context, &kernel, &step);
    let waited = kernel.wait_for_decisions().map_err(anyhow::Error::from);
    for done in [extent, noted, waited, tidy(context, &kernel)] {
        warnings.extend(done.err().map(|error| format!("{error:#}")));
    }
    taken.next("prove");
    let view = view::prove(context);
    taken.next("record");
    let (proof, reason) = match view {
        Ok(view) => {
            warnings.extend(view.warnings);
            // Somebody may have put something else in force since.
            let is_ours = |proof: &Proof| proof.generation == to.0.number;
            (view.proof.filter(is_ours), Some(view.reason))
        }
        Err(error) => {
            warnings.push(format!("whether it denies was not tried: {error:#}"));
            (None, None)
        }
    };
    let proved = proof.as_ref().is_some_and(Proof::passed);
    if proved {
        warnings.extend(starts::settle(context).err().map(|error| format!("{error:#}")));
    }
    warnings.extend(late::warning(context, &kernel));
    if let Some(proof) = &proof {
        begun.entry().proof = proof_of(proof);
    }
    begun.entry().steps = steps_of(taken.end());
    warnings.extend(begun.done());
    let mut answer = answer(&step, "is", &taken, &warnings, reason, false);
    answer.exit = u8::from(!proved);
    Ok(answer)
}

/// Notes for the next boot what was gone back to: it was confirmed and proven when it decided before, and
/// what was in force is what nobody wants to come back.
fn note(context: &Context, kernel: &Kernel, step: &Step) -> anyhow::Result<()> {
    if let Some(_lock) = Lock::try_take(&context.lock(), "rollback")? {
        return match kernel.slots().confirm_by {
            Some(_) => Ok(()),
            None => confirmation::note(context, kernel),
        };
    }
    // Another rollback may lead forward again; to what nobody had confirmed none does.
    let from = step.seen.confirm_by.is_none().then_some(step.from.0.number);
    let ours: Vec<u64> = from.into_iter().chain([step.to.0.number]).collect();
    confirmation::note_unlocked(context, kernel, &ours)
}

/// Empties the slot of what waited for its confirmation: nothing leads to it any more. Whoever is at work now
/// does it when they are done.
fn tidy(context: &Context, kernel: &Kernel) -> anyhow::Result<()> {
    if let Some(_lock) = Lock::try_take(&context.lock(), "rollback")? {
        kernel.reclaim().context("failed to empty the slot of what was not confirmed")?;
    }
    Ok(())
}

fn look(context: &Context, kernel: &Kernel) -> anyhow::Result<Step> {
    let seen = kernel.slots();
    let state = State::new(context.state.clone());
    let side = |slot| -> anyhow::Result<Option<(Generation, StoredSet)>> {
        let Some(slot) = slot else { return Ok(None) };
        let generation = kernel.generation(slot).context("failed to read a generation")?;
        let Some(generation) = generation else { return Ok(None) };
        let set = state.load(&generation.set_digest)?;
        Ok(Some((generation, set)))
    };
    let from = side(seen.active)?.ok_or_else(nothing_in_force)?;
    let to = side(seen.previous)?.ok_or_else(|| {
        Refusal::new("NO_PREVIOUS", "nothing was in force before, or it is not kept any more").hint(
            "`aegisbpf history` names what was; `aegisbpf remove NAME --reason …` takes a policy out",
        )
    })?;
    let changes = difference(&from.1.set, &to.1.set);
    Ok(Step { seen, from, to, changes })
}

fn nothing_in_force() -> Refusal {
    Refusal::new("NOTHING_IN_FORCE", "no policy is in force on this node").hint(
        "`aegisbpf start` puts in force what was last confirmed; `aegisbpf apply BUNDLE` applies",
    )
}

/// What others have put in force since is not undone without being asked for. After every change, what was before
/// it is what a rollback leads to; but not after what nobody had confirmed was taken back.
fn check_extent(context: &Context, kernel: &Kernel, step: &Step) -> anyhow::Result<()> {
    let taken_back = match confirmation::fallen(context, kernel)? {
        // Whoever is at work has not put it on record yet.
        Some(policies) => Some(policies),
        None => Withdrawn::last(context, &step.from.0, &step.to.0)?,
    };
    let Some(mine) = taken_back else { return Ok(()) };
    let more: Vec<String> =
        changes::names(&step.changes).into_iter().filter(|name| !mine.contains(name)).collect();
    if more.is_empty() { Ok(()) } else { Err(changes_more(&more, &step.changes)) }
}

fn to_digest(step: &Step) -> Digest {
    Digest::from_bytes(step.to.0.set_digest)
}

fn changes_more(more: &[String], all: &[PolicyDifference]) -> anyhow::Error {
    let message =
        format!("this would also change what the last change did not: {}", more.join(", "));
    Refusal::new("CHANGES_MORE", message)
        .details(changes::lines(all))
        .hint("`aegisbpf rollback NAME` for one policy; --all if all of it is meant")
        .into()
}

/// A set of before takes the place of everything.
fn to_generation(context: &Context, args: &Rollback, number: u64) -> anyhow::Result<Answer> {
    let history = History::read(context)?;
    let set = history.generation(number).ok_or_else(|| {
        Refusal::new("NO_SUCH_GENERATION", format!("no generation {number} is on record"))
            .hint("`aegisbpf history` names those that are")
    })?;
    let then = kept(context, set)?;
    let kernel = Kernel::open(&context.pins)?;
    let now = match active(kernel.as_ref())? {
        Some((_, generation)) => State::new(context.state.clone()).load(&generation.set_digest)?,
        None => StoredSet::default(),
    };
    let all = difference(&now.set, &then.set);
    if all.len() > 1 && !args.all {
        return Err(changes_more(&changes::names(&all), &all));
    }
    put_back(context, args, Wish::Whole(Box::new(then)))
}

/// One policy is as it was, and the others as they are.
fn one_policy(context: &Context, args: &Rollback, name: &str) -> anyhow::Result<Answer> {
    let history = History::read(context)?;
    let kernel = Kernel::open(&context.pins)?;
    let now = match active(kernel.as_ref())? {
        Some((_, generation)) => State::new(context.state.clone()).load(&generation.set_digest)?,
        None => StoredSet::default(),
    };
    let present = now.set.policy(name);
    let present = present.map(|(policy, mode)| (Digest::from_bytes(policy.digest), mode.name()));
    let set = history.other(name, present).ok_or_else(|| {
        let message = format!("no other text or mode of policy {name} is on record");
        let hint = if present.is_some() {
            format!("`aegisbpf remove {name} --reason …` takes it out")
        } else {
            "`aegisbpf history` names what is on record".to_owned()
        };
        Refusal::new("NO_OTHER_TEXT", message).hint(hint)
    })?;
    let then = kept(context, set)?;
    put_back(context, args, Wish::Back(name.to_owned(), Box::new(then)))
}

fn put_back(context: &Context, args: &Rollback, wish: Wish) -> anyhow::Result<Answer> {
    let request = Request {
        dry_run: args.dry_run,
        link_scan: bindings::last_link_scan(context),
        ..Request::new("rollback", wish, Some(&args.reason))
    };
    Ok(apply(context, &request)?.answer())
}

/// The texts of a set that is on record.
pub(super) fn kept(context: &Context, set: &InForce) -> anyhow::Result<StoredSet> {
    let digest = set.set_digest.bytes();
    State::new(context.state.clone()).load(digest).map_err(|error| {
        if !error.is::<Refusal>() {
            return error;
        }
        let message = format!("the texts of generation {} are not kept any more", set.generation);
        Refusal::new("SET_FORGOTTEN", message)
            .hint("apply the bundles of then; `aegisbpf provenance show` names them by digest")
            .into()
    })
}

fn answer(
    step: &Step,
    verb: &str,
    taken: &Steps,
    warnings: &[String],
    reason: Option<Reason>,
    dry_run: bool,
) -> Answer {
    let (from, to) = (&step.from.0, &step.to.0);
    let meaning = reason.map(Reason::meaning);
    let state = match meaning {
        Some(meaning) => meaning.state.name(),
        None if dry_run => "nothing was changed (dry run)",
        None => "NOT PROVED",
    };
    let mut lines = vec![format!(
        "{state}: generation {to} {verb} in force again, set {}; it was generation {from}",
        short(&to.set_digest)
    )];
    lines.extend(changes::lines(&step.changes));
    let taken = taken.so_far();
    if !dry_run {
        let each = taken.iter().map(|(step, time)| format!("{step} {}", steps::ms(*time)));
        lines.push(format!("  took      in ms: {}", each.collect::<Vec<_>>().join(", ")));
    }
    lines.extend(warnings.iter().map(|warning| format!("  warning   {warning}")));
    let json = json!({
        "changed": !dry_run,
        "dry_run": dry_run,
        "runtime_state": meaning.map(|meaning| meaning.state),
        "reason_code": meaning.map(|meaning| meaning.code),
        "reason": meaning.map(|meaning| meaning.reason),
        "generation": to.number,
        "revision": to.revision,
        "from_generation": from.number,
        "set_digest": to_digest(step),
        "changes": changes::json(&step.changes),
        "steps": steps::json(&taken),
        "warnings": warnings,
    });
    Answer { text: lines.join("\n"), json, exit: 0 }
}
