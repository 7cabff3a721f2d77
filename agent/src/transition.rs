// SPDX-License-Identifier: Apache-2.0 OR MIT
//! From one posture to another: written down once, by whoever sees it first, and never taken back.
//!
//! `posture.json` is the last posture that was seen, with how often each was come to; `transitions.jsonl`
//! is the log. Both are in the state directory. The log of events has the same line.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{context::Context, event_log, files, lock::Lock, posture::Reason, time, view::View};

/// The last posture that somebody saw.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Last {
    pub(crate) runtime_state: String,
    pub(crate) reason_code: String,
    /// When it was come to, RFC 3339.
    pub(crate) since: String,
    /// How often each state was come to, with its reason: `STATE REASON`.
    pub(crate) times: BTreeMap<String, u64>,
}

impl Default for Last {
    /// Where nothing was ever written down, nothing was ever loaded.
    fn default() -> Self {
        let meaning = Reason::NotAttached.meaning();
        Self {
            runtime_state: meaning.state.name().to_owned(),
            reason_code: meaning.code.to_owned(),
            since: String::new(),
            times: BTreeMap::new(),
        }
    }
}

impl Last {
    /// What is written down.
    pub(crate) fn recorded(context: &Context) -> Self {
        let bytes = fs::read(context.state.join("posture.json")).ok();
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// The posture after this one, if it is another.
    fn followed_by(&self, state: &str, reason: &str, now: String) -> Option<Self> {
        if (self.runtime_state.as_str(), self.reason_code.as_str()) == (state, reason) {
            return None;
        }
        let mut times = self.times.clone();
        *times.entry(format!("{state} {reason}")).or_insert(0) += 1;
        Some(Self {
            runtime_state: state.to_owned(),
            reason_code: reason.to_owned(),
            since: now,
            times,
        })
    }
}

/// Writes a posture down if it is another than the last; the line of the log if it is.
///
/// # Errors
/// If the state directory cannot be written. The log of events has the line all the same.
pub(crate) fn note(context: &Context, view: &View, command: &str) -> anyhow::Result<Option<Value>> {
    // Whoever cannot see the kernel has seen no posture.
    if !view.facts.root {
        return Ok(None);
    }
    let meaning = view.reason.meaning();
    let last = Last::recorded(context);
    let now = time::written(time::now());
    if last.followed_by(meaning.state.name(), meaning.code, now.clone()).is_none() {
        return Ok(None);
    }
    // Two that see the same at once write it once. A directory that was just taken away needs none.
    let _turn = if context.run.is_dir() { take_turn(context) } else { None };
    let last = Last::recorded(context);
    let Some(next) = last.followed_by(meaning.state.name(), meaning.code, now.clone()) else {
        return Ok(None);
    };
    let line = json!({
        "event": "posture",
        "time": now,
        "from": { "runtime_state": last.runtime_state, "reason_code": last.reason_code },
        "runtime_state": meaning.state,
        "reason_code": meaning.code,
        "reason": meaning.reason,
        "detail": view.detail(),
        "fix": meaning.fix,
        "generation": view.active.as_ref().map(|active| active.generation.number),
        "enforce_blockers": view.blockers.iter().map(|blocker| blocker.code).collect::<Vec<_>>(),
        "command": command,
        "pid": std::process::id(),
        "uid": rustix::process::getuid().as_raw(),
    });
    // A missing event log is no reason to lose the line in the state directory.
    let evented = event(context, &line);
    files::make_directory(&context.state)?;
    append(&context.state.join("transitions.jsonl"), &line)?;
    let bytes = serde_json::to_vec(&next).context("failed to write a posture as JSON")?;
    files::write_whole(&context.state.join("posture.json"), &bytes)?;
    evented?;
    Ok(Some(line))
}

fn take_turn(context: &Context) -> Option<Lock> {
    Lock::try_take(&context.run.join("posture.lock"), "posture").ok().flatten()
}

/// Adds the line to the log of events, where others follow it.
fn event(context: &Context, line: &Value) -> anyhow::Result<()> {
    if !context.run.is_dir() {
        return Ok(());
    }
    append(&event_log::path(context), line)
}

/// Adds a line, on disk when this returns. A log that is full becomes the older one.
fn append(path: &Path, line: &Value) -> anyhow::Result<()> {
    let failed = || format!("failed to write to {}", path.display());
    if fs::metadata(path).is_ok_and(|log| log.len() > ROTATE) {
        fs::rename(path, path.with_extension("jsonl.1")).with_context(failed)?;
    }
    let mut file =
        OpenOptions::new().append(true).create(true).mode(0o600).open(path).with_context(failed)?;
    file.write_all(format!("{line}\n").as_bytes())
        .and_then(|()| file.sync_data())
        .with_context(failed)
}

/// Bytes after which a log becomes the older one: that of events has its own measure, and comes first.
const ROTATE: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_posture_that_stays_is_no_transition_and_each_other_is_counted() {
        let first = Last::default();
        let now = || "now".to_owned();
        assert_eq!(first.followed_by("NOT_LOADED", "NOT_ATTACHED", now()), None);
        let second = first.followed_by("ENFORCE", "PROVEN", now()).unwrap();
        assert_eq!(second.followed_by("ENFORCE", "PROVEN", now()), None);
        let third = second.followed_by("DEGRADED", "PROOF_FAILED", now()).unwrap();
        let fourth = third.followed_by("ENFORCE", "PROVEN", now()).unwrap();
        assert_eq!(fourth.times.get("ENFORCE PROVEN"), Some(&2));
        assert_eq!(fourth.times.get("DEGRADED PROOF_FAILED"), Some(&1));
        let other = third.followed_by("DEGRADED", "PINS_CHANGED", now());
        assert!(other.is_some(), "another reason for the same state is one");
    }
}
