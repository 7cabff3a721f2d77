// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What an agent shows to others: its log, the service manager's notifications, and the metrics. Nothing
//! here decides or enforces, and nothing that fails here ends the agent.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use serde_json::{Value, json};

use crate::{
    context::Context,
    journal::{Journal, Priority},
    listener::Listener,
    metrics::{self, Sample},
    output::Output,
    posture::RuntimeState,
    proof::Proof,
    view::View,
};

/// All of it.
#[derive(Debug)]
pub(crate) struct Service {
    output: Output,
    journal: Journal,
    listener: Option<Listener>,
    /// Whether the service manager was told that this is ready.
    ready: bool,
    published: Option<Instant>,
}

impl Service {
    pub(crate) fn new(context: &Context, output: Output) -> Self {
        let unit = context.unit.as_deref();
        let journal = Journal::open(unit, context.config.log_format, output);
        Self { output, journal, listener: None, ready: false, published: None }
    }

    /// Begins to listen, if the configuration says so.
    ///
    /// # Errors
    /// If the address cannot be had: who asked for it must not wait in vain.
    pub(crate) fn listen(&mut self, context: &Context) -> anyhow::Result<()> {
        self.listener = context.config.metrics_listen.0.map(Listener::start).transpose()?;
        Ok(())
    }

    /// Takes what of a new configuration it can.
    pub(crate) fn reloaded(&mut self, context: &Context) {
        self.journal = self.journal.again(context.config.log_format, self.output);
        self.published = None;
    }

    /// Says a posture, and tells the service manager; once the node is proved, that this is ready.
    pub(crate) fn posture(&mut self, view: &View) -> anyhow::Result<()> {
        let meaning = view.reason.meaning();
        let state = meaning.state.name();
        let message = format!("{state} ({}): {}", meaning.code, meaning.reason);
        let priority = match meaning.state {
            RuntimeState::Enforce => Priority::Notice,
            RuntimeState::Degraded => Priority::Error,
            _ => Priority::Warning,
        };
        let fields = json!({
            "event": "posture",
            "runtime_state": meaning.state,
            "reason_code": meaning.code,
            "reason": meaning.reason,
            "detail": view.detail(),
            "fix": meaning.fix,
            "generation": view.active.as_ref().map(|active| active.generation.number),
            "enforce_blockers": view.blockers,
        });
        self.journal.say(priority, &message, &fields)?;
        let status = NotifyState::Status(&message);
        // Like an AUDIT_FALLBACK, an emergency is what somebody asked for.
        let asked_for = meaning.state == RuntimeState::EmergencyDisabled
            && view.proof.as_ref().is_some_and(Proof::passed);
        if (meaning.health == 0 || asked_for) && !self.ready {
            self.ready = true;
            notify(&[NotifyState::Ready, status]);
        } else {
            notify(&[status]);
        }
        Ok(())
    }

    /// Says something of the agent's own life.
    pub(crate) fn say(&self, priority: Priority, message: &str) -> anyhow::Result<()> {
        self.journal.say(priority, message, &Value::Object(serde_json::Map::new()))
    }

    /// The agent has looked, and goes on.
    pub(crate) fn lives(&self) {
        notify(&[NotifyState::Watchdog]);
    }

    /// The agent ends.
    pub(crate) fn ends(&self) {
        notify(&[NotifyState::Stopping]);
    }

    /// Makes the metrics anew where somebody wants them, if those that are there are old.
    pub(crate) fn publish(&mut self, context: &Context) -> anyhow::Result<()> {
        let textfile = context.config.metrics_textfile.path();
        let old = self.published.is_none_or(|at| at.elapsed() >= PUBLISH_EVERY);
        if !old || (self.listener.is_none() && textfile.is_none()) {
            return Ok(());
        }
        self.published = Some(Instant::now());
        let text = Sample::take(context)?.text();
        if let Some(listener) = &self.listener {
            listener.hand_out(&text);
        }
        textfile.map_or(Ok(()), |path| metrics::write_textfile(path, &text))
    }
}

/// A service manager that is not there, or does not listen, changes nothing.
fn notify(states: &[NotifyState<'_>]) {
    drop(sd_notify::notify(states));
}

/// How old published metrics may be.
const PUBLISH_EVERY: Duration = Duration::from_secs(10);
