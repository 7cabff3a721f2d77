// SPDX-License-Identifier: Apache-2.0 OR MIT
//! From policies to what the kernel does: compile → attach → resolve → fill → look again → prove → flip
//! → prove → record, or back to exactly what was there before.
//!
//! Nothing decides by the new generation until the flip, which is one store; and there is no flip
//! before the new generation has denied, for our own scratch cgroup, what it must deny.

mod again;
mod find;
mod handover;
mod record;
mod wanted;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use aegis_fault::{self as fault, Point};
use aegis_kernel::{Generation, Kernel, Resolver, Slot, Slots};
use aegis_policy::{LowerError, Lowered, Mode, Places, Ruleset, lower_with};
use anyhow::Context as _;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::{
    bindings::{self, Bindings},
    capabilities::Capabilities,
    cgroups::{Cgroups, Own},
    confirmation,
    context::Context,
    decoder::compile_set,
    emergency,
    event_log::EventLog,
    failure::{Changed, Refusal},
    files,
    gate::Fallback,
    history::History,
    host::ThisHost,
    installed, instances, late,
    lock::Lock,
    lockout,
    posture::{Reason, enforces},
    proof::{self, Bench, Proof, ProofFiles},
    provenance::Begun,
    repair,
    report::{Bound, Report, workloads},
    requirements::Blocker,
    starts,
    state::{SETS_KEPT, State, StoredSet},
    steps::Steps,
    switched_off, time,
    trust::{Candidate, Gate},
};

use again::Again;
use find::{Filled, Found};

pub(crate) use find::unresolved;

/// What is to become of the set that is in force.
#[derive(Clone, Debug)]
pub(crate) enum Wish {
    /// These join it, each in the place of one of its name.
    Put(Vec<Candidate>, Mode),
    /// This one leaves it.
    Remove(String),
    /// This one is as in a set that this node has accepted before.
    Back(String, Box<StoredSet>),
    /// This set, which this node has accepted before, takes its place.
    Whole(Box<StoredSet>),
    /// It is bound anew, for this reason.
    Anew(String),
    /// It stays.
    Same,
}

/// How it is to be done.
#[derive(Clone, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) command: &'static str,
    pub(crate) wish: Wish,
    pub(crate) reason: Option<&'a str>,
    pub(crate) strict: bool,
    pub(crate) dry_run: bool,
    /// Whether files with several links beneath directories get rows of their own.
    pub(crate) link_scan: bool,
    /// Whether it may deny what is needed to log in and undo it.
    pub(crate) allow_lockout: bool,
    /// Whether it is forgotten that files have left denied places with no room to note it.
    pub(crate) forget_lost: bool,
    /// How long the kernel waits for a confirmation before it goes back by itself.
    pub(crate) confirm_within: Option<Duration>,
    /// Whether the next boot begins with what comes of this, once it is confirmed.
    pub(crate) confirms: bool,
    /// Whether programs of another build are replaced before it.
    pub(crate) takes_over: bool,
}

impl<'a> Request<'a> {
    /// Of what was accepted before: it locks nobody out who was not.
    pub(crate) const fn new(command: &'static str, wish: Wish, reason: Option<&'a str>) -> Self {
        Self {
            command,
            wish,
            reason,
            strict: false,
            dry_run: false,
            link_scan: true,
            allow_lockout: true,
            forget_lost: false,
            confirm_within: None,
            confirms: true,
            takes_over: false,
        }
    }
}

/// Puts a changed set of policies in force.
pub(crate) fn apply(context: &Context, request: &Request<'_>) -> anyhow::Result<Report> {
    let mut steps = Steps::begin("look");
    switched_off::refuse()?;
    let mut found = Capabilities::tried(context);
    let mount = able(&found)?;
    let mut undo = Undo::new(context);
    undo.note(&context.run);
    files::make_directory(&context.run)?;
    let lock = match Lock::take(&context.lock(), request.command) {
        Ok(lock) => lock,
        // Somebody else is at work, and what is there now is theirs.
        Err(error) if error.is::<Refusal>() => return Err(error),
        Err(error) => {
            undo.all()?;
            return Err(error);
        }
    };
    undo.forget_if_shared(&context.run);
    undo.note(&context.state);
    undo.note(&context.proof());
    undo.note(&context.run.join("proof-elsewhere"));
    let mut attempt = Attempt {
        context,
        request,
        state: State::new(context.state.clone()),
        own: Own::new(mount),
        files: ProofFiles::new(context),
        before: None,
        begun: RefCell::default(),
        resolver: Cell::new(found.facts.resolver.take()),
        refilled: None,
        anew: None,
        settled: None,
        restored: None,
        repaired: Vec::new(),
        handed_over: false,
        _lock: lock,
    };
    let done = attempt.run(&mut steps, &mut undo);
    match done {
        Ok(mut report) if !report.dry_run => {
            report.changed |= attempt.handed_over;
            report.warnings.append(&mut attempt.repaired);
            report.warnings.extend(found.record(context).err().map(|error| format!("{error:#}")));
            Ok(report)
        }
        Ok(report) => undo.all().map(|()| report),
        Err(mut error) => {
            let undone = undo.all();
            if let Some(unlogged) = attempt.log_undone(&error, &mut steps) {
                error = error.context(unlogged);
            }
            if attempt.handed_over {
                let what = "programs of this binary decide now in the place of another's, by what was \
                            in force, and then this";
                error = error.context(Changed(what.to_owned()));
            }
            match undone {
                Ok(()) => Err(error),
                Err(also) => Err(error.context(Changed(format!("{also:#}, after this")))),
            }
        }
    }
}

/// Refuses a host that cannot enforce; hands back where its cgroups are.
fn able(found: &Capabilities) -> anyhow::Result<PathBuf> {
    match (found.blockers.first(), &found.facts.cgroup2) {
        (None, Some(mount)) => Ok(mount.clone()),
        (Some(_), _) => Err(blocked(&found.blockers).into()),
        (None, None) => anyhow::bail!("failed to find the cgroup2 hierarchy"),
    }
}

/// What a host that cannot enforce is told.
pub(crate) fn blocked(all: &[Blocker]) -> Refusal {
    let (code, fix) = all.first().map_or(("BLOCKED", ""), |first| (first.code, first.fix.as_str()));
    let line = |blocker: &Blocker| {
        format!("  {}: {}\n    fix: {}", blocker.code, blocker.found, blocker.fix)
    };
    Refusal::new(code, "this host cannot enforce policies; nothing was changed")
        .details(all.iter().map(line).collect())
        .blockers(all)
        .hint(fix)
}

struct Attempt<'a> {
    context: &'a Context,
    request: &'a Request<'a>,
    state: State,
    own: Own,
    files: ProofFiles,
    /// The digest that was active.
    before: Option<[u8; 32]>,
    /// What is on record, and has no end there.
    begun: RefCell<Option<Begun>>,
    /// What was attached to see whether this host can enforce.
    resolver: Cell<Option<Resolver>>,
    /// Why the same set is put in force again, and in the place of which slot.
    refilled: Option<String>,
    anew: Option<Slot>,
    /// What to say of the end of an earlier confirmation.
    settled: Option<String>,
    /// What became of an emergency from before a reboot.
    restored: Option<String>,
    /// What was cleared away that a killed command had left.
    repaired: Vec<String>,
    /// Whether programs of another build were replaced.
    handed_over: bool,
    _lock: Lock,
}

impl Attempt<'_> {
    fn run(&mut self, steps: &mut Steps, undo: &mut Undo) -> anyhow::Result<Report> {
        fault::step(Point::Locked)?;
        // Before anything is cleared away: a hand-over of another instance is that one's to end.
        instances::refuse_another_if_any(self.context)?;
        if !self.request.dry_run {
            self.repaired = crate::handover::after_a_kill(self.context)?;
        }
        let kernel = Kernel::open(&self.context.pins).context("failed to open what is pinned")?;
        if !self.request.dry_run {
            self.repaired.extend(repair::after_a_kill(self.context, kernel.as_ref()));
        }
        check_hooks(kernel.as_ref())?;
        if let Some(kernel) = &kernel {
            self.settled = confirmation::settle(self.context, kernel)?;
            self.check_confirmation(kernel)?;
        }
        let mut active = active(kernel.as_ref())?;
        let now = match &active {
            Some((_, generation)) => self
                .state
                .load(&generation.set_digest)
                .map_err(|error| instances::with_owner(kernel.as_ref(), error))?,
            None => StoredSet::default(),
        };
        let digest = active.as_ref().map(|(_, generation)| generation.set_digest);
        let mut gate = Gate::open(self.context, digest)?;
        let wanted = self.wanted(&now, &gate)?;
        let is_same = wanted.set.digest() == now.set.digest();
        self.before = active.as_ref().map(|(_, generation)| generation.set_digest);
        if matches!(self.request.wish, Wish::Anew(_) | Wish::Same) && active.is_none() {
            return Err(replaced_meanwhile().into());
        }

        steps.next("compile");
        let ruleset = Rc::new(compile_set(&wanted, &self.files.built_in())?);
        fault::step(Point::Compiled)?;

        steps.next("attach");
        let mut kernel = match kernel {
            Some(kernel) => kernel,
            None if self.request.dry_run => return self.rehearse(wanted, &ruleset, steps),
            None => {
                undo.detach = true;
                installed::forget(self.context)?;
                let kernel =
                    Kernel::install(&self.context.pins).context("failed to attach the programs")?;
                kernel.number_from(self.last_number());
                self.restored = emergency::restore(self.context, &kernel);
                kernel
            }
        };
        fault::step(Point::Installed)?;
        if !self.request.dry_run {
            undo.home = self.own.home();
            undo.cgroups = self.own.make()?;
            fault::step(Point::CgroupsMade)?;
            // What is put in force may be about everybody, and this has to go on.
            self.own.join_exempt().context("failed to join the exempt cgroup")?;
        }
        self.files.make()?;
        if self.takes_over(&kernel) {
            kernel = self.hand_over(kernel, &now, steps)?;
            active = self::active(Some(&kernel))?;
        }
        if let Some((slot, generation)) = active.as_ref().filter(|_| is_same) {
            self.anew = Some(*slot);
            let again = match &self.request.wish {
                Wish::Anew(why) => Again::Fill(why.clone()),
                _ if self.request.forget_lost && kernel.marks(*slot).lost > 0 => {
                    Again::Fill("that files were lost is to be forgotten".to_owned())
                }
                _ => self.again(&kernel, (*slot, generation), &wanted, &ruleset, steps)?,
            };
            match again {
                Again::Holds(report) => {
                    if !self.request.dry_run {
                        gate.begin(self.candidates(), wanted.set.digest())?;
                        gate.accept()?;
                    }
                    return Ok(*report);
                }
                Again::Fill(why) => self.refilled = Some(why),
            }
        }
        if self.request.dry_run {
            return self.rehearse(wanted, &ruleset, steps);
        }
        let done = self.put_in_force(&kernel, wanted, &ruleset, &mut gate, steps, undo);
        if done.is_err() {
            let undone = undo.in_kernel(&kernel);
            // If this cannot be written, whoever comes next sees that another set is in force.
            drop(gate.cancel());
            if let Err(also) = undone {
                return done.context(Changed(format!("{also:#}, after this")));
            }
        }
        done
    }

    /// What is asked to join the set.
    fn candidates(&self) -> &[Candidate] {
        match &self.request.wish {
            Wish::Put(candidates, _) => candidates,
            _ => &[],
        }
    }

    /// What a dry run does in the place of all that changes anything.
    fn rehearse(
        &self,
        wanted: StoredSet,
        ruleset: &Ruleset,
        steps: &mut Steps,
    ) -> anyhow::Result<Report> {
        self.files.make()?;
        steps.next("resolve");
        let found = self.find(&mut self.host()?, ruleset)?;
        let around = self.look_around(ruleset, &found.places, steps)?;
        self.check_lockout(ruleset, &found.places)?;
        steps.next("lower");
        lower_with_seed(ruleset, &found.places, &BTreeSet::new())?;
        Ok(Report {
            changed: false,
            dry_run: true,
            generation: None,
            workloads: workloads(ruleset, &around.cgroups.all),
            set: wanted,
            objects: around.objects,
            reason: None,
            proof: None,
            steps: steps.end().to_vec(),
            refilled: self.refilled.clone(),
            unconfirmed: None,
            warnings: self.warnings(&around.cgroups),
        })
    }

    fn put_in_force(
        &self,
        kernel: &Kernel,
        wanted: StoredSet,
        ruleset: &Rc<Ruleset>,
        gate: &mut Gate,
        steps: &mut Steps,
        undo: &mut Undo,
    ) -> anyhow::Result<Report> {
        let exempt = self.own.exempt_id()?;
        let Filled { slot, generation, found: Found { places, names } } =
            self.fill(kernel, kernel, ruleset, exempt, steps, undo)?;
        self.check_lockout(ruleset, &places)?;
        let find::Around { objects, cgroups } = self.look_around(ruleset, &places, steps)?;
        drop(places);

        steps.next("store");
        undo.note(&self.state.set_path(&wanted.set.digest()));
        self.state.store(&wanted)?;
        fault::step(Point::Stored)?;

        steps.next("prove");
        let turn = proof::take_turn(self.context, self.request.command)?;
        self.files.renew()?;
        let log = EventLog::open(self.context, kernel)?;
        if let Some(log) = &log {
            log.know(generation.number, &wanted, ruleset);
        }
        let bench = Bench { kernel, own: &self.own, files: &self.files, log: log.as_ref() };
        kernel.try_out(slot, self.own.scratch_id()?);
        fault::step(Point::TrialBegun)?;
        let tried = bench.prove(slot, &generation, ruleset);
        kernel.end_trial();
        demand(&tried, "before it was put in force")?;
        fault::step(Point::TrialEnded)?;

        steps.next("log");
        if !matches!(self.request.wish, Wish::Anew(_)) {
            gate.begin(self.candidates(), wanted.set.digest())?;
        }
        fault::step(Point::FloorsNoted)?;
        undo.keep = Some(self.begin(kernel, &wanted, &generation)?);
        if let Some(begun) = self.begun.borrow().as_ref() {
            kernel.belong_to(&begun.owner());
        }
        fault::step(Point::LogBegun)?;

        steps.next("flip");
        undo.flipped_from = Some(match self.anew {
            // What decided before these policies stays previous, and a deadline stays.
            Some(of) => kernel.replace(of, slot).ok_or_else(replaced_meanwhile)?,
            None => {
                let confirm_by = self.request.confirm_within.map(confirmation::deadline);
                kernel.switch(Some(slot), confirm_by)
            }
        });
        fault::step(Point::Flipped)?;
        kernel
            .wait_for_decisions()
            .context("failed to wait for decisions by the old generation")?;

        steps.next("prove again");
        let mut proof = bench.prove(slot, &generation, ruleset);
        demand(&proof, "after it was put in force")?;
        fault::step(Point::ProvedAgain)?;
        // The rows were read back when they were filled, and frozen.
        proof.coverage.objects = objects.found.bound + objects.found.pending.len();
        proof.coverage.warnings = objects.found.warnings();
        proof.coverage.warnings.extend(self.warnings(&cgroups));

        steps.next("tidy");
        let mut warnings = self.warnings(&cgroups);
        warnings.extend(self.settled.iter().chain(&self.restored).cloned());
        let mut warn = |done: anyhow::Result<()>| {
            warnings.extend(done.err().map(|error| format!("{error:#}")));
        };
        let unconfirmed = confirmation::Open::of(kernel);
        // By what was asked for, and not by what is open: the deadline may have passed just now. Whoever confirms,
        // or comes after it, finds what was noted before the flip.
        let for_good =
            self.request.confirm_within.is_none() && !matches!(self.request.wish, Wish::Anew(_));
        if for_good {
            warn(gate.accept());
        }
        if for_good && self.request.confirms {
            warn(confirmation::note(self.context, kernel));
            warn(starts::settle(self.context));
        }
        fault::passed(Point::Accepted);
        warn(proof::record(self.context, &proof));
        let bindings = Bindings::new(&generation, Some(exempt), self.request.link_scan, names);
        warn(bindings::record(self.context, slot, &bindings));
        warn(installed::renew(self.context, kernel));
        warn(Fallback::forget(self.context));
        fault::passed(Point::Recorded);
        drop(turn);
        warn(self.tidy(kernel));
        fault::passed(Point::Tidied);
        warnings.extend(late::warning(self.context, kernel));
        steps.end();
        warnings.extend(self.log_done(&proof, steps));
        if self.restored.is_some() {
            warnings.extend(emergency::settle(self.context, kernel.switches()).warnings);
        }
        fault::passed(Point::LogDone);
        Ok(Report {
            changed: true,
            dry_run: false,
            workloads: workloads(ruleset, &cgroups.all),
            reason: Some(reason(&wanted, kernel)),
            generation: Some(generation),
            set: wanted,
            objects,
            proof: Some(proof),
            steps: steps.end().to_vec(),
            refilled: self.refilled.clone(),
            unconfirmed,
            warnings,
        })
    }

    /// Nothing new is put in force while something waits to be confirmed; it may be bound anew.
    fn check_confirmation(&self, kernel: &Kernel) -> Result<(), Refusal> {
        if self.request.dry_run || matches!(self.request.wish, Wish::Anew(_)) {
            return Ok(());
        }
        confirmation::Open::of(kernel).map_or(Ok(()), |open| Err(open.refusal()))
    }

    /// The number of the last generation before there were pins, as far as it is known: whoever asks for a
    /// generation by its number means one.
    fn last_number(&self) -> u64 {
        History::read(self.context).map_or(0, |history| history.last_number())
    }

    /// What is in force already, or takes something away, locks nobody out who was not.
    fn check_lockout(&self, ruleset: &Ruleset, places: &Places) -> anyhow::Result<()> {
        if self.request.allow_lockout || !matches!(self.request.wish, Wish::Put(..)) {
            return Ok(());
        }
        let found = lockout::find(ruleset, places);
        if found.is_empty() { Ok(()) } else { Err(lockout::refusal(&found).into()) }
    }

    /// What is worth knowing of how it was done.
    fn warnings(&self, cgroups: &Cgroups) -> Vec<String> {
        let scan = (!self.request.link_scan).then(|| bindings::NO_LINK_SCAN.to_owned());
        cgroups.warning().into_iter().chain(scan).collect()
    }

    /// Frees what nothing leads back to, and forgets the texts that nobody goes back to any more.
    fn tidy(&self, kernel: &Kernel) -> anyhow::Result<()> {
        kernel.reclaim().context("failed to empty an old slot")?;
        let mut digests = Vec::new();
        for slot in Slot::all() {
            digests.extend(kernel.generation(slot)?.map(|generation| generation.set_digest));
        }
        self.state.keep_only(&digests, SETS_KEPT)
    }
}

/// What has to be taken back if this fails.
struct Undo {
    pins: PathBuf,
    /// What was not there.
    paths: Vec<PathBuf>,
    cgroups: Vec<PathBuf>,
    /// Where this process joins the cgroup that it came from.
    home: Option<PathBuf>,
    filled: Option<Slot>,
    flipped_from: Option<Slots>,
    detach: bool,
    /// What stays, once it says that this was begun.
    keep: Option<PathBuf>,
}

impl Undo {
    fn new(context: &Context) -> Self {
        Self {
            pins: context.pins.clone(),
            paths: Vec::new(),
            cgroups: Vec::new(),
            home: None,
            filled: None,
            flipped_from: None,
            detach: false,
            keep: None,
        }
    }

    /// Remembers that a path is not there, and what above it is not.
    fn note(&mut self, path: &Path) {
        let missing = path.ancestors().take_while(|above| !above.exists()).last();
        self.paths.extend(missing.map(Path::to_owned));
    }

    /// Forgets the run-time directory if another command used it before we had the lock.
    fn forget_if_shared(&mut self, run: &Path) {
        let others = std::fs::read_dir(run).map_or(0, |entries| entries.count());
        if others > 1 {
            self.paths.clear();
        }
    }

    fn in_kernel(&mut self, kernel: &Kernel) -> anyhow::Result<()> {
        kernel.end_trial();
        if let Some(slot) = self.filled.take() {
            if let Some(before) = self.flipped_from.take() {
                kernel.switch_back(slot, before);
                kernel.wait_for_decisions()?;
            }
            kernel.empty(slot)?;
        }
        Ok(())
    }

    fn all(&mut self) -> anyhow::Result<()> {
        if self.detach {
            Kernel::detach(&self.pins).context("failed to take the programs out again")?;
        }
        let home = self.home.take();
        if let Some(home) = &home {
            std::fs::write(home, "0")
                .with_context(|| format!("failed to go back to {}", home.display()))?;
        }
        for cgroup in self.cgroups.drain(..).rev() {
            // A child that looks at paths may be held there by a filesystem that does not answer.
            if let Some(home) = &home {
                for process in std::fs::read_to_string(cgroup.join("cgroup.procs"))?.lines() {
                    drop(std::fs::write(home, process));
                }
            }
            std::fs::remove_dir(&cgroup)
                .with_context(|| format!("failed to remove the cgroup {}", cgroup.display()))?;
        }
        for path in self.paths.drain(..) {
            record::remove_but(&path, self.keep.as_deref())
                .with_context(|| format!("failed to remove {}", path.display()))?;
        }
        Ok(())
    }
}

/// The slot that decides, and what is in it.
pub(crate) fn active(kernel: Option<&Kernel>) -> anyhow::Result<Option<(Slot, Generation)>> {
    let Some((kernel, slot)) = kernel.and_then(|kernel| Some((kernel, kernel.active()?))) else {
        return Ok(None);
    };
    let generation = kernel.generation(slot).context("failed to read the active generation")?;
    Ok(generation.map(|generation| (slot, generation)))
}

fn check_hooks(kernel: Option<&Kernel>) -> anyhow::Result<()> {
    let hooks = kernel.map(Kernel::hooks).unwrap_or_default();
    let gone: Vec<&str> =
        hooks.iter().filter(|(_, attached)| attached.is_err()).map(|(hook, _)| *hook).collect();
    if gone.is_empty() {
        return Ok(());
    }
    let message = format!("our program is not attached any more to {}", gone.join(", "));
    Err(Refusal::new("HOOK_MISSING", message).hint(Reason::HookMissing.meaning().fix).into())
}

fn strict(objects: &Bound) -> Result<(), Refusal> {
    let pending = objects.pending.iter().map(|pending| {
        format!("  {} is pending: {} is not there", pending.object, pending.missing)
    });
    let weaker = objects
        .weaker
        .iter()
        .map(|weaker| format!("  {} is weaker: {}", weaker.object, weaker.reasons.join("; ")));
    let details: Vec<String> = pending.chain(weaker).collect();
    if details.is_empty() {
        return Ok(());
    }
    Err(Refusal::new("STRICT", "--strict takes no objects that are pending or weaker")
        .details(details)
        .hint("make them, name others, or leave out --strict"))
}

/// Each attempt takes another seed, so that names which collide by chance do not collide again.
fn lower_with_seed(
    ruleset: &Ruleset,
    places: &Places,
    taken_along: &BTreeSet<(u32, Vec<u32>)>,
) -> anyhow::Result<Lowered> {
    let mut attempts = 0;
    loop {
        let mut seed = [0; 8];
        getrandom(&mut seed, GetRandomFlags::empty()).context("failed to draw a random number")?;
        attempts += 1;
        match lower_with(ruleset, places, u64::from_ne_bytes(seed), taken_along) {
            Ok(lowered) => return Ok(lowered),
            Err(LowerError::Collision) if attempts < 4 => {}
            Err(error) => {
                return Err(Refusal::new("TOO_LARGE", error.to_string()).hint(error.hint()).into());
            }
        }
    }
}

fn replaced_meanwhile() -> Refusal {
    let message = "something else decides by now than what was to be bound anew";
    Refusal::new("REPLACED", message).hint("see `aegisbpf status`, and apply again if it is needed")
}

fn demand(proof: &Proof, when: &str) -> anyhow::Result<()> {
    if proof.passed() {
        return Ok(());
    }
    let fault = proof.fault().unwrap_or_else(|| "nothing could be tried".to_owned());
    let message = format!("the new generation was tried {when}, and {fault}");
    Err(Refusal::new("PROOF_FAILED", message)
        .hint("what was in force before is in force; see `aegisbpf status`")
        .into())
}

/// The posture of a set that was just proved.
fn reason(set: &StoredSet, kernel: &Kernel) -> Reason {
    let emergency = kernel.switches().emergency().is_some();
    let lost = kernel.active().is_some_and(|slot| kernel.marks(slot).lost > 0);
    match (set.set.is_empty(), set.set.iter().any(|(policy, mode)| enforces(policy, mode))) {
        (true, _) => Reason::NoPolicy,
        (false, _) if emergency => Reason::EmergencyDisabled,
        (false, _) if lost => Reason::RowsLost,
        (false, true) => Reason::Proven,
        (false, false) => Reason::AllAudit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Pending, Weaker};

    #[test]
    fn strict_takes_neither_pending_nor_weaker_objects() {
        let pending = Pending { object: "/a".to_owned(), missing: "/a".to_owned() };
        let weaker = Weaker { object: "/b".to_owned(), reasons: vec!["not tested"] };
        assert!(strict(&Bound::default()).is_ok());
        assert!(strict(&Bound { pending: vec![pending], ..Bound::default() }).is_err());
        assert!(strict(&Bound { weaker: vec![weaker], ..Bound::default() }).is_err());
    }

    #[test]
    fn a_proof_that_could_not_run_puts_nothing_in_force() {
        let (boot, time, paths) = (None, String::new(), Vec::new());
        let coverage = crate::coverage::Coverage::default();
        let proof = Proof { generation: 1, boot, at: 0, time, paths, coverage };
        assert!(demand(&proof, "now").is_err());
    }
}
