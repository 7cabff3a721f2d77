// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `run`: the agent in the foreground. One thread waits for events, for signals and for the next proof.
//!
//! Enforcement does not need it: what is pinned goes on when this ends.

use std::{
    fs,
    io::Read as _,
    os::{
        fd::BorrowedFd,
        unix::{fs::MetadataExt as _, net::UnixStream},
    },
    time::{Duration, Instant},
};

use aegis_kernel::{Identity, Kernel, probe};
use anyhow::Context as _;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::{
    apply::{self, Request, Wish, apply as put_in_force},
    bindings,
    capabilities::Capabilities,
    cgroups::Own,
    cli,
    commands::detach,
    config::Config,
    confine::{all_kept, confine},
    confirmation,
    context::Context,
    emergency::{self, Settled},
    event_log::EventLog,
    failure::{Refusal, tell},
    gate::{self, Decision, Fallback},
    installed, instances,
    journal::Priority,
    late::Keeper,
    lock::Lock,
    marks,
    output::{Answer, Output, plural},
    posture::Reason,
    service::Service,
    starts, transition, view,
};

/// Runs until a signal says to end.
pub(crate) fn run(context: &Context, args: &cli::Run, output: Output) -> anyhow::Result<Answer> {
    if !rustix::process::geteuid().is_root() {
        let meaning = Reason::NotRoot.meaning();
        return Err(Refusal::new(meaning.code, "only root can run the agent")
            .hint(meaning.fix)
            .into());
    }
    let fallback = pass_gate(context)?;
    crate::files::make_directory(&context.run)?;
    let lock = Lock::try_take(&context.run.join("agent.lock"), "run")?;
    let lock = lock.ok_or_else(|| Refusal::new("RUNNING", "an agent runs already"))?;
    if let Some(fallback) = fallback {
        fallback.record(context)?;
    }
    let mut agent = Agent {
        context: context.clone(),
        service: Service::new(context, output),
        confined: false,
        signals: signals(&[SIGTERM, SIGINT])?,
        reloads: signals(&[SIGHUP])?,
        posture: None,
        changed: Vec::new(),
        pinned: Identity::new(),
        repairs: Repairs::default(),
        keeper: Keeper::default(),
        detaches: args.detach_on_exit,
    };
    while agent.watch()? == Next::Again {}
    agent.service.ends();
    drop(lock);
    if args.detach_on_exit {
        instances::refuse_another_if_any(context)?;
        let detached = detach(context, "run", Some("--detach-on-exit"))?;
        if let Some(warning) = detached.warning {
            agent.service.say(Priority::Warning, &warning)?;
        }
        agent.service.say(Priority::Notice, "everything is out of the kernel")?;
    }
    Ok(Answer {
        text: "the agent has ended".to_owned(),
        json: json!({ "event": "ended", "detached": args.detach_on_exit }),
        exit: 0,
    })
}

/// Refuses a host that cannot enforce, or says what it lacks; what is pinned stays as it is.
fn pass_gate(context: &Context) -> anyhow::Result<Option<Fallback>> {
    let found = Capabilities::tried(context);
    match gate::decide(context.config.enforce_gate_mode, &found.blockers) {
        Decision::Enforce => {
            // An agent asks for nothing that an earlier one did not.
            if Fallback::recorded(context).is_some_and(|before| before.policies.is_empty()) {
                Fallback::forget(context)?;
            }
            Ok(None)
        }
        Decision::Refuse => Err(apply::blocked(&found.blockers).into()),
        Decision::FallBack if Fallback::recorded(context).is_some() => Ok(None),
        Decision::FallBack => Ok(Some(Fallback::new("run", Vec::new(), &found.blockers))),
    }
}

struct Agent {
    context: Context,
    service: Service,
    /// Whether this can do no more than it has to.
    confined: bool,
    /// Told to end.
    signals: UnixStream,
    /// Told to read the configuration again.
    reloads: UnixStream,
    /// What was last said.
    posture: Option<Reason>,
    /// What of the pins was seen to be another than it was.
    changed: Vec<String>,
    /// What was pinned when the posture was last renewed.
    pinned: Identity,
    repairs: Repairs,
    keeper: Keeper,
    /// Whether everything is taken out when this ends.
    detaches: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Other pins are there, or none any more: look again.
    Again,
    End,
}

impl Agent {
    /// Serves what is pinned now, until that changes.
    fn watch(&mut self) -> anyhow::Result<Next> {
        let pins = self.pins();
        let kernel = match Kernel::open(&self.context.pins) {
            Ok(kernel) => kernel,
            Err(error) => {
                let told = format!("{:#}", anyhow::Error::from(error));
                self.service.say(Priority::Error, &told)?;
                None
            }
        };
        if kernel.is_some() {
            self.become_exempt()?;
        }
        loop {
            self.reload()?;
            if let Some(kernel) = &kernel {
                self.note_deadline(kernel)?;
            }
            // Before it is looked at, so that no throw is overlooked.
            let switch = kernel.as_ref().map(thrown);
            let moved = self.renew_posture()?;
            if !self.confined {
                // What follows is what it did once by now: nothing more is needed than that took.
                confine(self.detaches).context("failed to give up what the agent does not need")?;
                self.confined = true;
                for kept in all_kept(self.detaches) {
                    let told = format!("keeps {}: {}", kept.name, kept.reason);
                    self.service.say(Priority::Info, &told)?;
                }
                self.service.listen(&self.context)?;
            }
            if let Some(moved) = moved
                && self.repair(&moved)?
            {
                continue;
            }
            self.keep_late(kernel.as_ref(), false)?;
            let log = match &kernel {
                Some(kernel) => EventLog::open(&self.context, kernel)?,
                None => None,
            };
            // The log is given back before the proof, which takes events itself.
            if let Some(next) = self.take_events(kernel.as_ref(), log.as_ref(), pins, switch)? {
                return Ok(next);
            }
        }
    }

    /// Takes events until the next proof is due, or until there is something else to do.
    fn take_events(
        &mut self,
        kernel: Option<&Kernel>,
        log: Option<&EventLog<'_>>,
        pins: Option<u64>,
        switch: Option<(bool, u64)>,
    ) -> anyhow::Result<Option<Next>> {
        let active = kernel.map(Kernel::active);
        let marks = || {
            let kernel = kernel?;
            Some(marks::sum(&kernel.marks(kernel.active()?)))
        };
        let noted = marks();
        let until = self.repairs.wakes_before(Instant::now() + PROOF_EVERY);
        let mut looked = Instant::now();
        while Instant::now() < until {
            if let Err(error) = self.service.publish(&self.context) {
                self.service.say(Priority::Warning, &format!("no metrics: {error:#}"))?;
            }
            let end = self.wait(log.map(EventLog::as_fd))?;
            // A detach takes the directory of the log away with the pins.
            if self.pins() != pins {
                self.take_last_events(kernel, log)?;
                return Ok(Some(if end { Next::End } else { Next::Again }));
            }
            if let Some(Err(error)) = log.map(EventLog::drain) {
                self.service.say(Priority::Error, &format!("{error:#}"))?;
                std::thread::sleep(Duration::from_secs(1));
            }
            if end {
                self.keep_late(kernel, end)?;
                return Ok(Some(Next::End));
            }
            if kernel.map(Kernel::active) != active
                || marks() != noted
                || kernel.map(thrown) != switch
                || is_told(&self.reloads)?
            {
                return Ok(None);
            }
            // Events may come by the thousand; a look twice a second is enough.
            if looked.elapsed() < LOOK_EVERY {
                continue;
            }
            looked = Instant::now();
            self.service.lives();
            self.keep_late(kernel, end)?;
            let changed = kernel.map(|kernel| installed::changed(&self.context, kernel));
            if changed.is_some_and(|changed| changed != self.changed)
                || Kernel::installed(&self.context.pins) != self.pinned
            {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// If other programs have taken over, what these have reported comes before what those do.
    fn take_last_events(
        &self,
        kernel: Option<&Kernel>,
        log: Option<&EventLog<'_>>,
    ) -> anyhow::Result<()> {
        let (Some(old), Some(log)) = (kernel, log) else { return Ok(()) };
        let Ok(Some(new)) = Kernel::open(&self.context.pins) else { return Ok(()) };
        if let Err(error) = log.drain() {
            self.service.say(Priority::Error, &format!("{error:#}"))?;
        }
        new.go_on_from(old);
        Ok(())
    }

    /// Waits at most half a second; the answer is whether a signal says to end.
    fn wait(&self, events: Option<BorrowedFd<'_>>) -> anyhow::Result<bool> {
        let mut waiting = vec![
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&self.reloads, PollFlags::IN),
        ];
        if let Some(events) = &events {
            waiting.push(PollFd::new(events, PollFlags::IN));
        }
        let a_moment = Timespec { tv_sec: 0, tv_nsec: LOOK_EVERY.subsec_nanos().into() };
        match poll(&mut waiting, Some(&a_moment)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("failed to wait for events"),
        }
        let signalled = waiting.first().is_some_and(|signals| !signals.revents().is_empty());
        Ok(signalled)
    }

    /// Reads the configuration again, if somebody asked for it.
    fn reload(&mut self) -> anyhow::Result<()> {
        if !is_told(&self.reloads)? {
            return Ok(());
        }
        let mut told = [0; 64];
        let _read = (&self.reloads).read(&mut told).context("failed to take a signal")?;
        match self.context.config.again(&Config::path(&self.context.root)) {
            Ok(fresh) => {
                let restart = fresh.needs_restart(&self.context.config);
                if !restart.is_empty() {
                    let keys = restart.join(", ");
                    let told = format!("the agent has to be started again for {keys} to change");
                    self.service.say(Priority::Warning, &told)?;
                }
                self.context.config = fresh;
                self.service.reloaded(&self.context);
                self.service.say(Priority::Notice, "the configuration was read again")?;
            }
            Err(error) => {
                let told = tell(&error);
                let message = format!("{}; the one before stays", told.message);
                self.service.say(Priority::Error, &message)?;
                for detail in &told.details {
                    self.service.say(Priority::Error, detail)?;
                }
            }
        }
        Ok(())
    }

    /// Makes a proof, and says what changed. The answer is what objects have moved, if they have.
    fn renew_posture(&mut self) -> anyhow::Result<Option<String>> {
        // Before it is looked at: what goes meanwhile is seen at the next look.
        self.pinned = Kernel::installed(&self.context.pins);
        let view = view::prove(&self.context)?;
        self.changed.clone_from(&view.changed);
        let moved = view.moved();
        if moved.is_none() {
            self.repairs.rest(Instant::now());
        }
        if let Err(error) = transition::note(&self.context, &view, "run") {
            let told = format!("the posture could not be written down: {error:#}");
            self.service.say(Priority::Warning, &told)?;
        }
        if view.reason.meaning().health == 0
            && let Err(error) = starts::seen_in_order(&self.context)
        {
            self.service.say(Priority::Warning, &format!("{error:#}"))?;
        }
        if let Some(kernel) = &view.kernel {
            self.settle(kernel)?;
        }
        if self.posture.replace(view.reason) == Some(view.reason) {
            return Ok(moved);
        }
        self.service.posture(&view)?;
        Ok(moved)
    }

    /// The kernel may have gone back by itself.
    fn note_deadline(&self, kernel: &Kernel) -> anyhow::Result<()> {
        if kernel.fell_from().is_none() {
            return Ok(());
        }
        let told = "nobody confirmed what was put in force: the kernel went back by itself";
        self.service.say(Priority::Warning, told)?;
        let noted = confirmation::settle_unless_busy(&self.context, kernel);
        let warning = noted.unwrap_or_else(|error| Some(format!("{error:#}")));
        warning.map_or(Ok(()), |warning| self.service.say(Priority::Warning, &warning))
    }

    /// Puts into the log what threw the emergency switch and could not, and forgets an emergency that the
    /// kernel has ended.
    fn settle(&self, kernel: &Kernel) -> anyhow::Result<()> {
        let Settled { logged, warnings, .. } = emergency::settle(&self.context, kernel.switches());
        if logged > 0 {
            let told =
                format!("put {} of the emergency switch into the log", plural(logged, "throw"));
            self.service.say(Priority::Notice, &told)?;
        }
        for warning in warnings {
            let told = format!("the emergency switch was thrown: {warning}");
            self.service.say(Priority::Warning, &told)?;
        }
        Ok(())
    }

    /// Binds the policies that are in force to what is there now, unless that was just tried; whether
    /// there is something new to be looked at. A repair that fails changes nothing.
    fn repair(&mut self, moved: &str) -> anyhow::Result<bool> {
        if !self.repairs.may_begin(Instant::now()) {
            return Ok(false);
        }
        let wish = Wish::Anew(format!("bindings moved: {moved}"));
        let request = Request {
            link_scan: bindings::last_link_scan(&self.context),
            ..Request::new("repair", wish, None)
        };
        match put_in_force(&self.context, &request) {
            Ok(report) => {
                let generation = report.generation.as_ref();
                let name = generation.map(ToString::to_string).unwrap_or_default();
                let told = format!("bound anew as generation {name}: {moved}");
                self.service.say(Priority::Notice, &told)?;
                Ok(true)
            }
            Err(error) => {
                let told = tell(&error);
                let failed = format!(
                    "failed to bind the policies anew, as what they are bound to has moved: {}",
                    told.message
                );
                self.service.say(Priority::Error, &failed)?;
                for detail in &told.details {
                    self.service.say(Priority::Error, detail)?;
                }
                Ok(false)
            }
        }
    }

    /// Writes down what files took along, once something has changed.
    fn keep_late(&mut self, kernel: Option<&Kernel>, end: bool) -> anyhow::Result<()> {
        let keep = if end { Keeper::keep_now } else { Keeper::keep };
        let told = kernel.and_then(|kernel| keep(&mut self.keeper, &self.context, kernel));
        told.map_or(Ok(()), |told| self.service.say(Priority::Warning, &told))
    }

    /// Rules on `"*"` do not hold for the agent.
    fn become_exempt(&self) -> anyhow::Result<()> {
        let Some(mount) = probe::cgroup2_mount() else { return Ok(()) };
        let own = Own::new(mount);
        own.make()?;
        own.join_exempt().context("failed to join the exempt cgroup")
    }

    /// Which directory of pins is there: others come after a detach and an apply.
    fn pins(&self) -> Option<u64> {
        fs::metadata(&self.context.pins).ok().map(|pins| pins.ino())
    }
}

/// When what has moved is bound anew: at once, and then at twice the distance each time, as long as it
/// does not help.
#[derive(Debug, Default)]
struct Repairs {
    next: Option<Instant>,
    distance: Duration,
}

impl Repairs {
    fn may_begin(&mut self, now: Instant) -> bool {
        if self.next.is_some_and(|next| now < next) {
            return false;
        }
        self.distance = (self.distance * 2).clamp(REPAIR_FIRST, REPAIR_LAST);
        self.next = Some(now + self.distance);
        true
    }

    /// Nothing is to be done: if it stays so for as long as the last distance, all is as at first.
    fn rest(&mut self, now: Instant) {
        if self.next.is_none_or(|next| next <= now) {
            *self = Self::default();
        }
    }

    fn wakes_before(&self, until: Instant) -> Instant {
        self.next.map_or(until, |next| next.min(until))
    }
}

/// What is seen of the emergency switch. That the kernel ended an emergency moves no number.
fn thrown(kernel: &Kernel) -> (bool, u64) {
    let switches = kernel.switches();
    (switches.emergency().is_some(), switches.toggles().0)
}

/// Whether a signal has come.
fn is_told(signals: &UnixStream) -> anyhow::Result<bool> {
    let mut waiting = [PollFd::new(signals, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut waiting, Some(&now)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error).context("failed to look for signals"),
    }
}

/// A socket that becomes readable with any of these signals.
fn signals(of: &[i32]) -> anyhow::Result<UnixStream> {
    let failed = "failed to listen for signals";
    let (told, teller) = UnixStream::pair().context(failed)?;
    for &signal in of {
        let teller = teller.try_clone().context(failed)?;
        signal_hook::low_level::pipe::register(signal, teller).context(failed)?;
    }
    Ok(told)
}

/// How long after a repair that did not help the next is tried, at first and at most.
const REPAIR_FIRST: Duration = Duration::from_secs(5);
const REPAIR_LAST: Duration = Duration::from_secs(600);

/// How often a proof is renewed.
const PROOF_EVERY: Duration = Duration::from_secs(60);

/// How often the agent looks whether what is pinned is still that.
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repairs_that_do_not_help_come_less_and_less_often() {
        let mut repairs = Repairs::default();
        let mut now = Instant::now();
        let far = now + Duration::from_secs(100_000);
        assert_eq!(repairs.wakes_before(far), far);
        let mut distances = Vec::new();
        for _ in 0..9 {
            assert!(repairs.may_begin(now) && !repairs.may_begin(now));
            let next = repairs.wakes_before(far);
            distances.push((next - now).as_secs());
            now = next;
        }
        assert_eq!(distances, [5, 10, 20, 40, 80, 160, 320, 600, 600]);
        assert!(repairs.may_begin(now));
        repairs.rest(now);
        assert!(!repairs.may_begin(now), "one that helped is no leave for another at once");
    }
}
