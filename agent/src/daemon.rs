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

use aegis_kernel::{Kernel, probe};
use anyhow::Context as _;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::{
    cgroups::Own,
    cli,
    commands::detach,
    config::Config,
    context::Context,
    event_log::EventLog,
    failure::{Refusal, tell},
    lock::Lock,
    output::{Answer, Output},
    posture::Reason,
    time, view,
};

/// Runs until a signal says to end.
pub(crate) fn run(context: &Context, args: &cli::Run, output: Output) -> anyhow::Result<Answer> {
    if !rustix::process::geteuid().is_root() {
        let meaning = Reason::NotRoot.meaning();
        return Err(Refusal::new(meaning.code, "only root can run the agent")
            .hint(meaning.fix)
            .into());
    }
    crate::files::make_directory(&context.run)?;
    let lock = Lock::try_take(&context.run.join("agent.lock"), "run")?;
    let lock = lock.ok_or_else(|| Refusal::new("RUNNING", "an agent runs already"))?;
    let mut agent = Agent {
        context: context.clone(),
        output,
        signals: signals(&[SIGTERM, SIGINT])?,
        reloads: signals(&[SIGHUP])?,
        posture: None,
    };
    while agent.watch()? == Next::Again {}
    drop(lock);
    if args.detach_on_exit {
        let detached = detach(context, "run", Some("--detach-on-exit"))?;
        if let Some(warning) = detached.warning {
            output.talk(&format!("aegisbpf: {warning}"));
        }
        agent.say("everything is out of the kernel")?;
    }
    Ok(Answer {
        text: "the agent has ended".to_owned(),
        json: json!({ "event": "ended", "detached": args.detach_on_exit }),
        exit: 0,
    })
}

struct Agent {
    context: Context,
    output: Output,
    /// Told to end.
    signals: UnixStream,
    /// Told to read the configuration again.
    reloads: UnixStream,
    /// What was last said.
    posture: Option<Reason>,
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
                self.output.talk(&format!("aegisbpf: {:#}", anyhow::Error::from(error)));
                None
            }
        };
        if kernel.is_some() {
            self.become_exempt()?;
        }
        loop {
            self.reload()?;
            self.renew_posture()?;
            let log = match &kernel {
                Some(kernel) => EventLog::open(&self.context, kernel)?,
                None => None,
            };
            // The log is given back before the proof, which takes events itself.
            if let Some(next) = self.take_events(kernel.as_ref(), log.as_ref(), pins)? {
                return Ok(next);
            }
        }
    }

    /// Takes events until the next proof is due, or until there is something else to do.
    fn take_events(
        &self,
        kernel: Option<&Kernel>,
        log: Option<&EventLog<'_>>,
        pins: Option<u64>,
    ) -> anyhow::Result<Option<Next>> {
        let active = kernel.map(Kernel::active);
        let until = Instant::now() + PROOF_EVERY;
        while Instant::now() < until {
            let end = self.wait(log.map(EventLog::as_fd))?;
            // A detach takes the directory of the log away with the pins.
            if self.pins() != pins {
                return Ok(Some(if end { Next::End } else { Next::Again }));
            }
            if let Some(Err(error)) = log.map(EventLog::drain) {
                self.output.talk(&format!("aegisbpf: {error:#}"));
                std::thread::sleep(Duration::from_secs(1));
            }
            if end {
                return Ok(Some(Next::End));
            }
            if kernel.map(Kernel::active) != active || is_told(&self.reloads)? {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// Waits at most a second; the answer is whether a signal says to end.
    fn wait(&self, events: Option<BorrowedFd<'_>>) -> anyhow::Result<bool> {
        let mut waiting = vec![
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&self.reloads, PollFlags::IN),
        ];
        if let Some(events) = &events {
            waiting.push(PollFd::new(events, PollFlags::IN));
        }
        let second = Timespec { tv_sec: 1, tv_nsec: 0 };
        match poll(&mut waiting, Some(&second)) {
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
                    self.output.talk(&format!(
                        "aegisbpf: the agent has to be started again for {keys} to change"
                    ));
                }
                self.context.config = fresh;
                self.output.talk("aegisbpf: the configuration was read again");
            }
            Err(error) => {
                let told = tell(&error);
                self.output.talk(&format!("aegisbpf: {}; the one before stays", told.message));
                for detail in &told.details {
                    self.output.talk(detail);
                }
            }
        }
        Ok(())
    }

    /// Makes a proof, and says what changed.
    fn renew_posture(&mut self) -> anyhow::Result<()> {
        let view = view::look(&self.context)?;
        if self.posture.replace(view.reason) == Some(view.reason) {
            return Ok(());
        }
        let meaning = view.reason.meaning();
        if self.output.json {
            self.output.object(json!({
                "event": "posture",
                "time": time::written(time::now()),
                "runtime_state": meaning.state,
                "reason_code": meaning.code,
                "reason": meaning.reason,
                "fix": meaning.fix,
                "generation": view.active.map(|active| active.generation.number),
                "enforce_blockers": view.blockers,
            }))?;
        } else {
            self.say(&format!("{} ({}): {}", meaning.state.name(), meaning.code, meaning.reason))?;
        }
        Ok(())
    }

    fn say(&self, text: &str) -> anyhow::Result<()> {
        if !self.output.json {
            self.output.line(&format!("{} {text}", time::written(time::now())))?;
        }
        Ok(())
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

/// How often a proof is renewed.
const PROOF_EVERY: Duration = Duration::from_secs(60);
