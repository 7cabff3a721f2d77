// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is to be seen of this node now: facts, what is in the kernel, and a proof. What follows from
//! it is decided in `posture`.

use std::collections::HashMap;

use aegis_abi::{Count, CountKey};
use aegis_kernel::{Generation, Kernel, Owner, Slot, Switches, probe::Facts};
use aegis_policy::Ruleset;
use anyhow::Context as _;

use crate::{
    apply::active,
    bindings,
    capabilities::Capabilities,
    cgroups::Own,
    confirmation::Open,
    context::Context,
    coverage::Coverage,
    decoder::compile_set,
    emergency::{Holds, Switch},
    event_log::EventLog,
    failure::Refusal,
    gate::Fallback,
    host::NoAnswer,
    installed,
    instances::{self, Other},
    late, marks,
    perf::Perf,
    posture::{Active, Attached, Reason, Seen, Standing, enforces, posture},
    proof::{self, Bench, Proof, ProofFiles},
    requirements::Blocker,
    starts::Starts,
    state::{State, StoredSet},
    switched_off,
    took_along::TookAlong,
    trust::Summary,
};

/// Everything that is known of this node.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) facts: Facts,
    pub(crate) blockers: Vec<Blocker>,
    pub(crate) kernel: Option<Kernel>,
    /// Why what is pinned cannot be read.
    pub(crate) unreadable: Option<String>,
    /// Each hook, and why it is not attached.
    pub(crate) hooks: Vec<(&'static str, Option<String>)>,
    pub(crate) active: Option<InForce>,
    /// How much room there is for what files take along.
    pub(crate) took_along: Option<TookAlong>,
    pub(crate) proof: Option<Proof>,
    /// On whose word it is; `None` if the texts are gone.
    pub(crate) trust: Option<Summary>,
    /// Who put in force what is pinned, if that is another instance.
    pub(crate) another: Option<Owner>,
    /// What other instances have pinned on the same bpffs.
    pub(crate) others: Vec<Other>,
    /// What of the pins is not what was put there.
    pub(crate) changed: Vec<String>,
    /// That somebody went on without enforcing.
    pub(crate) fallback: Option<Fallback>,
    /// The emergency switch; `None` if nothing is pinned, or it cannot be read.
    pub(crate) switch: Option<Switch>,
    /// What a benchmark measured, if somebody imported that.
    pub(crate) perf: Option<Perf>,
    /// Starts of this host that are not known to have ended well.
    pub(crate) starts: Starts,
    /// What is worth knowing and makes the state no other.
    pub(crate) warnings: Vec<String>,
    pub(crate) reason: Reason,
}

/// The active generation, and what it was made from.
#[derive(Debug)]
pub(crate) struct InForce {
    pub(crate) slot: Slot,
    pub(crate) generation: Generation,
    /// How many policies it has, and how many of them deny. `None`: the texts are gone.
    pub(crate) policies: Option<Policies>,
    /// `None`: the texts are gone, or nobody asked for them.
    pub(crate) texts: Option<(StoredSet, Ruleset)>,
}

/// How many policies there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policies {
    pub(crate) all: usize,
    /// Those in mode enforce that have a rule which denies.
    pub(crate) enforcing: usize,
}

impl Policies {
    fn of(stored: &StoredSet) -> Self {
        let denying = stored.set.iter().filter(|(policy, mode)| enforces(policy, *mode));
        Self { all: stored.set.len(), enforcing: denying.count() }
    }
}

impl InForce {
    /// The policies and their rules, or why they are not known.
    pub(crate) fn known(&self) -> anyhow::Result<&(StoredSet, Ruleset)> {
        self.texts.as_ref().ok_or_else(|| {
            let meaning = Reason::SetMissing.meaning();
            Refusal::new(meaning.code, meaning.reason).hint(meaning.fix).into()
        })
    }
}

/// Looks at everything that only needs to be read: loads nothing, changes nothing, and believes the last
/// proof for as long as that stands.
pub(crate) fn glance(context: &Context) -> anyhow::Result<View> {
    look(context, Capabilities::seen(context), true)
}

/// The posture alone, without what its rules are in the kernel: that would have to be compiled.
pub(crate) fn posture_only(context: &Context) -> anyhow::Result<View> {
    look(context, Capabilities::seen(context), false)
}

/// Tries everything: loads a program to see what the host does, makes a proof, compares the kernel with the
/// policies, and writes down what came of it.
pub(crate) fn prove(context: &Context) -> anyhow::Result<View> {
    for _ in 0..LOOKS {
        let found = Capabilities::tried(context);
        // Old facts would be the worse for looking new; none are not.
        let recorded = if found.facts.root { found.record(context) } else { Ok(()) };
        let mut view = look(context, found, true)?;
        view.warnings.extend(recorded.err().map(|error| format!("{error:#}")));
        let made = view.kernel.as_ref().zip(view.active.as_ref()).and_then(|(kernel, active)| {
            let (_, ruleset) = active.texts.as_ref()?;
            Some(try_to_prove(context, &view.facts, kernel, active, ruleset))
        });
        match made {
            None => return Ok(view),
            Some(Attempt::Elsewhere) => {}
            Some(Attempt::Made(made)) => {
                view.decide(context, *made);
                return Ok(view);
            }
        }
    }
    anyhow::bail!("failed to look at what is in force: it was replaced {LOOKS} times meanwhile")
}

fn look(context: &Context, found: Capabilities, compiled: bool) -> anyhow::Result<View> {
    let Capabilities { facts, blockers, mut warnings, .. } = found;
    warnings.extend(late::unread(context));
    let (kernel, unreadable) = match open(context, facts.root) {
        Ok(kernel) => (kernel, None),
        Err(error) => (None, Some(format!("{error:#}"))),
    };
    let hooks = kernel.as_ref().map(Kernel::hooks).unwrap_or_default();
    let told = |error: aegis_kernel::Error| format!("{:#}", anyhow::Error::from(error));
    let hooks =
        hooks.into_iter().map(|(hook, attached)| (hook, attached.err().map(told))).collect();
    let changed =
        kernel.as_ref().map_or_else(Vec::new, |kernel| installed::changed(context, kernel));
    let active = match active(kernel.as_ref())? {
        Some((slot, generation)) => {
            let stored = stored(context, &generation)?;
            let policies = stored.as_ref().map(Policies::of);
            let built_in = ProofFiles::new(context).built_in();
            let texts = match stored.filter(|_| compiled) {
                Some(stored) => {
                    let ruleset = compile_set(&stored, &built_in)?;
                    Some((stored, ruleset))
                }
                None => None,
            };
            Some(InForce { slot, generation, policies, texts })
        }
        None => None,
    };
    let proof =
        active.as_ref().and_then(|active| proof::last_of(context, active.generation.number));
    let switch = match &kernel {
        Some(kernel) => Some(Switch::of(kernel.switches())),
        // Of pins that cannot all be read it may be one that can.
        None if unreadable.is_some() => {
            Switches::open(&context.pins).ok().flatten().as_ref().map(Switch::of)
        }
        None => None,
    };
    let took_along = kernel.as_ref().zip(active.as_ref());
    let took_along = took_along.map(|(kernel, active)| TookAlong::of(kernel, active.slot));
    let another = kernel.as_ref().and_then(|kernel| instances::another(context, kernel));
    let others = if facts.root { instances::others(context) } else { Vec::new() };
    let mut view = View {
        facts,
        blockers,
        another,
        others,
        kernel,
        unreadable,
        hooks,
        changed,
        fallback: Fallback::recorded(context),
        switch,
        perf: Perf::recorded(context),
        starts: Starts::recorded(context),
        active,
        took_along,
        proof,
        trust: None,
        warnings,
        reason: Reason::NotAttached,
    };
    view.look_at_trust(context);
    view.warn(context);
    view.reason = posture(&view.seen());
    Ok(view)
}

/// The counts of the active generation, those of the proof left out.
pub(crate) fn counts(view: &View) -> anyhow::Result<HashMap<CountKey, Count>> {
    let Some((kernel, active)) = view.kernel.as_ref().zip(view.active.as_ref()) else {
        return Ok(HashMap::new());
    };
    let mut counts = kernel.counts(active.slot).context("failed to read the counters")?;
    if let Some((_, ruleset)) = &active.texts {
        let by_proof = |scope| {
            scope != ruleset.unknown_scope()
                && ruleset.scope_workloads(scope).any(|workload| workload.built_in)
        };
        let of_proof = |rule| ruleset.rule(rule).is_some_and(|rule| rule.built_in);
        counts.retain(|key, _| !of_proof(key.rule) && !by_proof(key.scope));
    }
    Ok(counts)
}

/// What is in force, for commands that have no answer without it.
pub(crate) fn in_force(context: &Context) -> anyhow::Result<View> {
    let view = glance(context)?;
    if let Some(error) = &view.unreadable {
        anyhow::bail!("failed to look into the kernel: {error}");
    }
    if !view.facts.root {
        let meaning = Reason::NotRoot.meaning();
        return Err(Refusal::new(meaning.code, meaning.reason).hint(meaning.fix).into());
    }
    if let Some(kernel) = &view.kernel {
        instances::refuse_another(context, kernel)?;
    }
    Ok(view)
}

impl View {
    /// Looks on whose word what is in force is. That it cannot be told changes nothing of what is.
    fn look_at_trust(&mut self, context: &Context) {
        let nothing = StoredSet::default();
        let stored = match &self.active {
            Some(InForce { texts, .. }) => texts.as_ref().map(|(stored, _)| stored),
            None => Some(&nothing),
        };
        let Some(stored) = stored.filter(|_| self.facts.root) else { return };
        match Summary::of(context, &stored.set, &stored.signatures) {
            Ok(summary) => {
                self.warnings.extend(summary.warnings());
                self.trust = Some(summary);
            }
            Err(error) => self.warnings.push(format!("failed to look at trust: {error:#}")),
        }
    }

    /// What of the view makes the reason, in words.
    pub(crate) fn detail(&self) -> Option<String> {
        if let (Reason::EmergencyDisabled, Some(holds)) = (self.reason, self.emergency()) {
            return Some(holds.told());
        }
        let hooks = self.hooks.iter().filter_map(|(hook, error)| {
            error.as_ref().map(|error| format!("hook {hook}: {error}"))
        });
        let coverage = self.proof.iter().map(|proof| &proof.coverage);
        let uncovered =
            coverage.flat_map(|found| found.unbound.iter().cloned()).chain(self.moved());
        let blockers = self.blockers.iter().map(|blocker| blocker.found.clone());
        let whose = matches!(self.reason, Reason::OtherInstance | Reason::SetMissing);
        let owner = self.kernel.iter().filter(|_| whose).filter_map(Kernel::owner);
        let owner = owner.map(|owner| format!("it is of {}", instances::told(&owner)));
        let fault = self.proof.as_ref().and_then(Proof::fault);
        let found =
            self.unreadable.iter().cloned().chain(hooks).chain(self.changed.iter().cloned());
        let lost = self.took_along.as_ref().filter(|_| self.reason == Reason::RowsLost);
        let lost = lost.and_then(TookAlong::told);
        found.chain(owner).chain(fault).chain(lost).chain(uncovered).chain(blockers).next()
    }

    /// What objects have moved since they were bound: as the last proof saw, or as the hooks have
    /// marked by now.
    pub(crate) fn moved(&self) -> Option<String> {
        let seen = self.proof.as_ref().and_then(|proof| proof.coverage.moved.clone());
        seen.or_else(|| {
            let (kernel, active) = self.kernel.as_ref().zip(self.active.as_ref())?;
            marks::told(&kernel.marks(active.slot))
        })
    }

    /// What waits to be confirmed.
    pub(crate) fn unconfirmed(&self) -> Option<Open> {
        self.kernel.as_ref().and_then(Open::of)
    }

    /// The emergency that holds.
    pub(crate) fn emergency(&self) -> Option<&Holds> {
        self.switch.as_ref()?.holds.as_ref()
    }

    /// Whether the kernel denies now, as far as is known.
    pub(crate) fn denies(&self) -> bool {
        self.reason.meaning().denies
    }

    fn warn(&mut self, context: &Context) {
        let mut warnings = Vec::new();
        warnings.extend(self.switch.iter().filter_map(Switch::warning));
        warnings.extend(self.took_along.iter().filter_map(TookAlong::told));
        warnings.extend(self.proof.iter().flat_map(|proof| proof.coverage.warnings.clone()));
        if switched_off::holds() {
            warnings.push(
                "the kernel command line says aegisbpf=off: nothing is put in force in this boot"
                    .to_owned(),
            );
        }
        if self.kernel.as_ref().is_some_and(|kernel| !kernel.has_own_programs()) {
            warnings.push(
                "the programs in the kernel are of another build than this binary; the next `aegisbpf \
                 apply` or `aegisbpf start` replaces them, without a gap"
                    .to_owned(),
            );
        }
        if self.kernel.is_some() && Kernel::is_handing_over(&context.pins) {
            warnings.push(
                "programs of another build are about to take over, or a command that had them do so was \
                 cut off: the next `aegisbpf apply` or `aegisbpf start` ends it"
                    .to_owned(),
            );
        }
        warnings.extend(self.others.iter().map(Other::told));
        warnings.extend(self.starts.only_report().then(|| self.starts.told()));
        if let Some(fallback) = self.fallback.as_ref().filter(|_| self.kernel.is_some()) {
            warnings.push(format!(
                "something newer was to be put in force and was not, {}",
                fallback.told()
            ));
        }
        for warning in warnings {
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
    }

    /// Takes a fresh proof into account, and writes down what was found.
    fn decide(&mut self, context: &Context, made: Proof) {
        let last = self.proof.replace(made);
        let outdated = last.iter().flat_map(|last| &last.coverage.warnings);
        let outdated: Vec<&String> = outdated.collect();
        self.warnings.retain(|warning| !outdated.contains(&warning));
        self.reason = posture(&self.seen_with(last.as_ref()));
        // A record that cannot be written only shortens how long this proof stands.
        if let Some(made) = &self.proof {
            drop(proof::record(context, made));
        }
        if let Some(kernel) = &self.kernel {
            drop(installed::record(context, kernel));
        }
        self.warn(context);
    }

    fn seen(&self) -> Seen {
        let standing = self.proof.as_ref().map_or(Standing::Missing, Proof::standing_now);
        self.seen_as(standing)
    }

    /// With a proof made now, and the last one for the case that none could be made.
    fn seen_with(&self, last: Option<&Proof>) -> Seen {
        self.seen_as(self.proof.as_ref().map_or(Standing::Missing, |made| made.standing(last)))
    }

    fn seen_as(&self, proof: Standing) -> Seen {
        let coverage = self.proof.as_ref().map(|proof| &proof.coverage);
        let active = match &self.active {
            None => Active::Nothing,
            Some(_) if self.another.is_some() => Active::OfAnother,
            Some(InForce { policies: None, .. }) => Active::Unknown,
            Some(InForce { policies: Some(policies), .. }) => Active::Set {
                policies: policies.all,
                enforcing: policies.enforcing,
                lost: self.took_along.as_ref().is_some_and(|found| found.lost > 0),
                moved: self.moved().is_some(),
                unbound: coverage.is_some_and(|found| !found.unbound.is_empty()),
                proof,
            },
        };
        let hooks = self.hooks.iter().all(|(_, error)| error.is_none());
        let intact = self.changed.is_empty();
        let attached = match (&self.kernel, &self.unreadable) {
            (_, Some(_)) => Attached::Unreadable,
            (None, None) => Attached::Nothing,
            (Some(_), None) => {
                let emergency = self.emergency().is_some();
                Attached::Programs { hooks, intact, emergency, active }
            }
        };
        Seen {
            root: self.facts.root,
            blocked: !self.blockers.is_empty(),
            fallback: self.fallback.is_some(),
            attached,
        }
    }
}

fn open(context: &Context, root: bool) -> anyhow::Result<Option<Kernel>> {
    // Only root can see whether there is anything, so there is nothing to say about it.
    if root { Ok(Kernel::open(&context.pins)?) } else { Ok(None) }
}

/// The texts of a generation; `None` if they are gone.
fn stored(context: &Context, generation: &Generation) -> anyhow::Result<Option<StoredSet>> {
    match State::new(context.state.clone()).load(&generation.set_digest) {
        Ok(stored) => Ok(Some(stored)),
        Err(error) if error.is::<Refusal>() => Ok(None),
        Err(error) => Err(error),
    }
}

/// What came of trying to prove what was seen.
enum Attempt {
    Made(Box<Proof>),
    /// Something else decides by now: what was seen is no more, and its proof would say nothing.
    Elsewhere,
}

/// Makes a proof of what is active; that it could not be made is an outcome of its own.
fn try_to_prove(
    context: &Context,
    facts: &Facts,
    kernel: &Kernel,
    active: &InForce,
    ruleset: &Ruleset,
) -> Attempt {
    let decides = || {
        kernel.active() == Some(active.slot)
            && kernel
                .generation(active.slot)
                .is_ok_and(|now| now.is_some_and(|now| now == active.generation))
    };
    let files = ProofFiles::new(context);
    let attempt = || {
        let mount = facts.cgroup2.clone().context("failed to find the cgroup2 hierarchy")?;
        crate::files::make_directory(&context.run)?;
        let _turn = proof::take_turn(context, "proof")?;
        // Whoever had the turn may have put something else in force.
        if !decides() {
            return Ok(Attempt::Elsewhere);
        }
        // With the turn, nobody else is in a trial: one that is left is of a command that was killed.
        kernel.end_trial();
        let log = EventLog::open(context, kernel)?;
        let own = Own::new(mount);
        let bench = Bench { kernel, own: &own, files: &files, log: log.as_ref() };
        let mut made = bench.prove(active.slot, &active.generation, ruleset);
        made.coverage = compare(context, kernel, active, ruleset, own.mount());
        anyhow::Ok(Attempt::Made(Box::new(made)))
    };
    match attempt() {
        Ok(made) => made,
        // A detach takes away what the proof needs.
        Err(_) if !decides() => Attempt::Elsewhere,
        Err(error) => Attempt::Made(Box::new(Proof::could_not_run(&active.generation, &error))),
    }
}

/// Compares the kernel with the policies; that it could not be done is a warning, and told.
fn compare(
    context: &Context,
    kernel: &Kernel,
    InForce { slot, generation, .. }: &InForce,
    ruleset: &Ruleset,
    mount: &std::path::Path,
) -> Coverage {
    let compared =
        bindings::compare(context, kernel, (*slot, generation), ruleset).and_then(|mut found| {
            found.compare_cgroups(kernel, *slot, ruleset, mount)?;
            Ok(found)
        });
    compared.unwrap_or_else(|error| Coverage {
        warnings: vec![format!(
            "whether objects have moved is not known: {error:#}{}",
            error
                .downcast_ref::<NoAnswer>()
                .map_or_else(String::new, |hung| format!(": {}", hung.fix()))
        )],
        ..Coverage::default()
    })
}

/// How often it is looked anew while others put policies in force.
const LOOKS: u32 = 10;
