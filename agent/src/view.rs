// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is to be seen of this node now: facts, what is in the kernel, and a proof. What follows from
//! it is decided in `posture`.

use std::collections::HashMap;

use aegis_abi::{Count, CountKey};
use aegis_kernel::{Generation, Kernel, Slot, probe::Facts};
use aegis_policy::Ruleset;
use anyhow::Context as _;

use crate::{
    apply::active,
    bindings,
    cgroups::Own,
    context::Context,
    decoder::compile_set,
    event_log::EventLog,
    failure::Refusal,
    posture::{Active, Attached, Blocker, Reason, Seen, Standing, blockers, enforces, posture},
    proof::{self, Bench, Proof, ProofFiles},
    state::{State, StoredSet},
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
    pub(crate) proof: Option<Proof>,
    /// What leads elsewhere than when objects were bound.
    pub(crate) moved: Option<String>,
    /// On whose word it is; `None` if the texts are gone.
    pub(crate) trust: Option<Summary>,
    /// What is worth knowing and makes the state no other.
    pub(crate) warnings: Vec<String>,
    pub(crate) reason: Reason,
}

/// The active generation, and what it was made from.
#[derive(Debug)]
pub(crate) struct InForce {
    pub(crate) slot: Slot,
    pub(crate) generation: Generation,
    /// `None`: the texts are gone.
    pub(crate) texts: Option<(StoredSet, Ruleset)>,
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

/// Looks at everything; makes a proof if something is in force and we can.
pub(crate) fn look(context: &Context) -> anyhow::Result<View> {
    let mut looks = 0;
    loop {
        let mut view = look_without_proof(context)?;
        looks += 1;
        let made = view.kernel.as_ref().zip(view.active.as_ref()).and_then(|(kernel, active)| {
            let (_, ruleset) = active.texts.as_ref()?;
            Some(prove(context, &view.facts, kernel, active, ruleset))
        });
        match made {
            None => return Ok(view),
            Some(Attempt::Elsewhere) if looks < LOOKS => {}
            Some(Attempt::Elsewhere) => anyhow::bail!(
                "failed to look at what is in force: it was replaced {LOOKS} times meanwhile"
            ),
            Some(Attempt::Made(made)) => {
                view.compare(context);
                view.decide(context, made);
                return Ok(view);
            }
        }
    }
}

/// Looks at everything that only needs to be read.
pub(crate) fn look_without_proof(context: &Context) -> anyhow::Result<View> {
    let facts = Facts::gather(&context.pins);
    let blockers = blockers(&facts, &context.bpffs.display().to_string());
    let (kernel, unreadable) = match open(context, facts.root) {
        Ok(kernel) => (kernel, None),
        Err(error) => (None, Some(format!("{error:#}"))),
    };
    let hooks = kernel.as_ref().map(Kernel::hooks).unwrap_or_default();
    let told = |error: aegis_kernel::Error| format!("{:#}", anyhow::Error::from(error));
    let hooks =
        hooks.into_iter().map(|(hook, attached)| (hook, attached.err().map(told))).collect();
    let active = match active(kernel.as_ref())? {
        Some((slot, generation)) => {
            let texts = texts(context, &generation)?;
            Some(InForce { slot, generation, texts })
        }
        None => None,
    };
    let mut view = View {
        facts,
        blockers,
        kernel,
        unreadable,
        hooks,
        active,
        proof: None,
        moved: None,
        trust: None,
        warnings: Vec::new(),
        reason: Reason::NotAttached,
    };
    view.reason = posture(&view.seen(Standing::Missing));
    view.look_at_trust(context);
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
    let view = look_without_proof(context)?;
    if let Some(error) = &view.unreadable {
        anyhow::bail!("failed to look into the kernel: {error}");
    }
    if !view.facts.root {
        let meaning = Reason::NotRoot.meaning();
        return Err(Refusal::new(meaning.code, meaning.reason).hint(meaning.fix).into());
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

    /// Looks whether objects are where they were bound.
    fn compare(&mut self, context: &Context) {
        let Some(InForce { generation, texts: Some((_, ruleset)), .. }) = &self.active else {
            return;
        };
        let compared = bindings::compare(context, generation, ruleset);
        self.warnings.extend(compared.warnings);
        self.moved = compared.moved;
    }

    /// Takes a fresh proof into account, and writes it down.
    fn decide(&mut self, context: &Context, made: Proof) {
        let last = proof::last(context);
        let standing = made.standing(last.as_ref());
        self.reason = posture(&self.seen(standing));
        // A record that cannot be written only shortens how long this proof stands.
        drop(proof::record(context, &made));
        self.proof = Some(made);
    }

    fn seen(&self, proof: Standing) -> Seen {
        let active = match &self.active {
            None => Active::Nothing,
            Some(InForce { texts: None, .. }) => Active::Unknown,
            Some(InForce { texts: Some((stored, _)), .. }) => Active::Set {
                policies: stored.set.len(),
                enforcing: stored
                    .set
                    .iter()
                    .filter(|(policy, mode)| enforces(policy, *mode))
                    .count(),
                moved: self.moved.is_some(),
                proof,
            },
        };
        let hooks = self.hooks.iter().all(|(_, error)| error.is_none());
        let attached = match (&self.kernel, &self.unreadable) {
            (_, Some(_)) => Attached::Unreadable,
            (None, None) => Attached::Nothing,
            (Some(_), None) => Attached::Programs { hooks, active },
        };
        Seen { root: self.facts.root, blocked: !self.blockers.is_empty(), attached }
    }
}

fn open(context: &Context, root: bool) -> anyhow::Result<Option<Kernel>> {
    // Only root can see whether there is anything, so there is nothing to say about it.
    if root { Ok(Kernel::open(&context.pins)?) } else { Ok(None) }
}

fn texts(
    context: &Context,
    generation: &Generation,
) -> anyhow::Result<Option<(StoredSet, Ruleset)>> {
    let stored = match State::new(context.state.clone()).load(&generation.set_digest) {
        Ok(stored) => stored,
        Err(error) if error.is::<Refusal>() => return Ok(None),
        Err(error) => return Err(error),
    };
    let ruleset = compile_set(&stored, &ProofFiles::new(context).built_in())?;
    Ok(Some((stored, ruleset)))
}

/// What came of trying to prove what was seen.
enum Attempt {
    Made(Proof),
    /// Something else decides by now: what was seen is no more, and its proof would say nothing.
    Elsewhere,
}

/// Makes a proof of what is active; that it could not be made is an outcome of its own.
fn prove(
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
                .is_ok_and(|now| now.is_some_and(|now| now.number == active.generation.number))
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
        anyhow::Ok(Attempt::Made(bench.prove(active.slot, &active.generation, ruleset)))
    };
    match attempt() {
        Ok(made) => made,
        // A detach takes away what the proof needs.
        Err(_) if !decides() => Attempt::Elsewhere,
        Err(error) => Attempt::Made(Proof::could_not_run(&active.generation, &error)),
    }
}

/// How often it is looked anew while others put policies in force.
const LOOKS: u32 = 10;
