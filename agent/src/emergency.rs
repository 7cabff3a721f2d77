// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The emergency switch, as this node knows it: what holds, what was written down of it, and what goes on
//! in programs that are attached afresh.
//!
//! The kernel alone says whether there is an emergency, and ends it. Everything here comes after the
//! store: [`settle`] makes log and state directory say what the control map says, however often and
//! by whomever it is called. It is never called by what throws the switch; a child does
//! (`commands/emergency.rs`), which may hang on a disk.

use std::{
    fs,
    io::ErrorKind,
    path::PathBuf,
    time::{Duration, Instant},
};

use aegis_kernel::{Emergency, Kernel, Switches, Toggle};
use aegis_trust::provenance::{Effect, Entry, Time};
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{context::Context, files, lock::Lock, output::one_line, provenance::Log, time};

/// The switch at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Switch {
    /// The emergency that holds.
    pub(crate) holds: Option<Holds>,
    /// How often it was thrown since our pins came.
    pub(crate) toggles: u64,
    /// The last times, oldest first; at most eight.
    pub(crate) known: Vec<Toggle>,
}

/// An emergency that holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Holds {
    /// When it began, RFC 3339; this and what follows it is `None` if the control map forgot.
    pub(crate) since: Option<String>,
    /// When the kernel ends it, RFC 3339.
    pub(crate) until: String,
    pub(crate) remaining_seconds: u64,
    pub(crate) guards_too: bool,
    pub(crate) reason: Option<String>,
    pub(crate) uid: Option<u32>,
    pub(crate) login_uid: Option<u32>,
    pub(crate) pid: Option<u32>,
}

impl Switch {
    /// What the control map says now.
    pub(crate) fn of(switches: &Switches) -> Self {
        let (toggles, known) = switches.toggles();
        Self { holds: switches.emergency().map(|found| Holds::of(&found)), toggles, known }
    }

    /// How many of those that are known were within the last hour.
    pub(crate) fn last_hour(&self) -> usize {
        recent(&self.known, time::now())
    }

    /// That it was thrown often.
    pub(crate) fn warning(&self) -> Option<String> {
        let often = self.last_hour();
        let last = self.known.last().filter(|_| often >= OFTEN)?;
        Some(format!(
            "the emergency switch was thrown {often} times within an hour, last by uid {}: {}; see \
             `aegisbpf emergency status`",
            last.uid,
            one_line(&last.reason)
        ))
    }

    /// For a program.
    pub(crate) fn json(&self) -> Value {
        json!({ "count": self.toggles, "last_hour": self.last_hour() })
    }
}

impl Holds {
    pub(crate) fn of(emergency: &Emergency) -> Self {
        let left = emergency.until.saturating_sub(time::since_boot());
        let seconds = left.div_ceil(SECOND);
        let toggle = emergency.toggle.as_ref();
        Self {
            since: toggle.map(|toggle| time::written(toggle.time)),
            until: time::written(ends_at(emergency)),
            remaining_seconds: seconds,
            guards_too: emergency.guards_too,
            reason: toggle.map(|toggle| toggle.reason.clone()),
            uid: toggle.map(|toggle| toggle.uid),
            login_uid: toggle.and_then(|toggle| toggle.login_uid),
            pid: toggle.map(|toggle| toggle.pid),
        }
    }

    /// One line for a person: until when, by whom and why.
    pub(crate) fn told(&self) -> String {
        let who =
            self.uid.map_or_else(|| "nobody knows whom".to_owned(), |uid| format!("uid {uid}"));
        let login = self.login_uid.map_or_else(String::new, |uid| format!(" (login uid {uid})"));
        let guards = if self.guards_too { ", guards too" } else { "" };
        format!(
            "until {} ({} s left){guards}, by {who}{login}: {}",
            self.until,
            self.remaining_seconds,
            one_line(self.reason.as_deref().unwrap_or("the reason is not known any more"))
        )
    }
}

/// Seconds since 1970. What was promised stays the answer as long as the clock was not set.
fn ends_at(emergency: &Emergency) -> u64 {
    let left = emergency.until.saturating_sub(time::since_boot());
    let by_boot = time::now().saturating_add(left.div_ceil(SECOND));
    let promised = emergency.toggle.as_ref().and_then(|toggle| toggle.until);
    promised.filter(|promised| promised.abs_diff(by_boot) <= 2).unwrap_or(by_boot)
}

fn recent(known: &[Toggle], now: u64) -> usize {
    known.iter().filter(|toggle| (now.saturating_sub(HOUR)..=now).contains(&toggle.time)).count()
}

/// The emergency as it outlives a reboot.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
struct Kept {
    schema: u32,
    /// Seconds since 1970.
    since: u64,
    /// Seconds since 1970: the kernel's clock begins anew.
    until: u64,
    reason: String,
    uid: u32,
    login_uid: Option<u32>,
    pid: u32,
    guards_too: bool,
}

impl Kept {
    fn of(emergency: &Emergency) -> Self {
        let until = ends_at(emergency);
        let toggle = emergency.toggle.as_ref();
        Self {
            schema: 1,
            since: toggle.map_or_else(time::now, |toggle| toggle.time),
            until,
            reason: toggle.map_or_else(String::new, |toggle| toggle.reason.clone()),
            uid: toggle.map_or(0, |toggle| toggle.uid),
            login_uid: toggle.and_then(|toggle| toggle.login_uid),
            pid: toggle.map_or(0, |toggle| toggle.pid),
            guards_too: emergency.guards_too,
        }
    }

    /// How long it has to go on. A clock that went back makes it no longer than it was meant to be.
    fn left(&self, now: u64) -> Option<Duration> {
        let whole = self.until.saturating_sub(self.since);
        let left = self.until.saturating_sub(now).min(whole).min(LONGEST.as_secs());
        (left > 0).then(|| Duration::from_secs(left))
    }
}

/// In programs that were attached afresh and decide nothing yet, an emergency goes on that has not ended
/// by the calendar. The answer is what to say of it.
pub(crate) fn restore(context: &Context, kernel: &Kernel) -> Option<String> {
    let kept = match kept(context) {
        Ok(kept) => kept?,
        Err(error) => {
            return Some(format!(
                "whether an emergency was to go on is not known, so none does: {error:#}"
            ));
        }
    };
    let left = kept.left(time::now())?;
    let toggle = Toggle {
        number: 0,
        time: kept.since,
        until: Some(kept.until),
        uid: kept.uid,
        login_uid: kept.login_uid,
        pid: kept.pid,
        guards_too: kept.guards_too,
        reason: kept.reason,
    };
    kernel.switches().begin_emergency(&toggle, boot_nanoseconds(left));
    let holds = kernel.switches().emergency().map(|found| Holds::of(&found))?;
    Some(format!("an emergency goes on: rules deny nothing {}", holds.told()))
}

/// The moment so long from now, on the kernel's clock.
pub(crate) fn boot_nanoseconds(from_now: Duration) -> u64 {
    let from_now = u64::try_from(from_now.as_nanos()).unwrap_or(u64::MAX);
    time::since_boot().saturating_add(from_now)
}

fn kept(context: &Context) -> anyhow::Result<Option<Kept>> {
    let path = path(context);
    match files::read_trusted(&path, KEPT_MAX) {
        Err(error) if files::is_missing(&error) => Ok(None),
        Err(error) => Err(error),
        Ok(bytes) => {
            let torn = || format!("{} is torn", path.display());
            serde_json::from_slice(&bytes).with_context(torn)
        }
    }
}

/// Forgets an emergency that was to outlive a reboot; whether there was one.
pub(crate) fn forget(context: &Context) -> anyhow::Result<bool> {
    let path = path(context);
    // On a disk that is read-only, what is not there cannot be removed either.
    if path.symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        return Ok(false);
    }
    files::remove(&path).with_context(|| format!("failed to remove {}", path.display()))?;
    Ok(true)
}

/// What came of writing down.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Settled {
    /// How many throws of the switch went into the log.
    pub(crate) logged: usize,
    /// Whether one could not be logged.
    pub(crate) unlogged: bool,
    pub(crate) warnings: Vec<String>,
}

/// Makes the log and the state directory say what the control map says. Each throw of the switch goes
/// into the log once, by whoever comes first.
pub(crate) fn settle(context: &Context, switches: &Switches) -> Settled {
    let mut settled = Settled::default();
    let turn = take_turn(context);
    let mut before = Logged::recorded(context, switches);
    let (_, known) = switches.toggles();
    for toggle in known {
        if toggle.number <= before.last {
            continue;
        }
        if let Err(error) = Log::new(context).acted(entry(&toggle)) {
            settled.unlogged = true;
            settled.warnings.push(format!("it is not in the provenance log: {error:#}"));
            break;
        }
        settled.logged += 1;
        before.last = toggle.number;
        if let Err(error) = before.record(context) {
            settled.warnings.push(format!("it may be in the provenance log twice: {error:#}"));
        }
    }
    if let Err(error) = keep(context, switches) {
        settled.warnings.push(format!("over a reboot it would not be as it is now: {error:#}"));
    }
    drop(turn);
    settled
}

/// What is in the log is there as well once other programs have taken over.
pub(crate) fn hand_on(context: &Context, from: &Switches, to: &Switches) -> anyhow::Result<()> {
    let _turn = take_turn(context);
    let mut logged = Logged::recorded(context, from);
    logged.maps = vec![from.number(), to.number()];
    logged.record(context)
}

/// Two that write at once would both log. Whoever hangs while writing keeps nobody from it for long.
fn take_turn(context: &Context) -> Option<Lock> {
    files::make_directory(&context.run).ok()?;
    let path = context.run.join("emergency.lock");
    let patience = Instant::now() + TURN;
    while Instant::now() < patience {
        match Lock::try_take(&path, "emergency") {
            Ok(None) => std::thread::sleep(Duration::from_millis(20)),
            taken => return taken.ok().flatten(),
        }
    }
    None
}

fn keep(context: &Context, switches: &Switches) -> anyhow::Result<()> {
    let Some(emergency) = switches.emergency() else {
        return forget(context).map(drop);
    };
    let now = Kept::of(&emergency);
    if kept(context).is_ok_and(|before| before.as_ref() == Some(&now)) {
        return Ok(());
    }
    files::make_directory(&context.state)?;
    let bytes = serde_json::to_vec(&now).context("failed to write an emergency as JSON")?;
    files::write_whole(&path(context), &bytes)
}

/// A throw of the switch as the log has it.
fn entry(toggle: &Toggle) -> Entry {
    let login = toggle.login_uid.map(|uid| ("thrown_by_login_uid", uid.to_string()));
    let details = [
        ("thrown_at", time::written(toggle.time)),
        ("thrown_by_uid", toggle.uid.to_string()),
        ("thrown_by_pid", toggle.pid.to_string()),
        ("guards_too", toggle.guards_too.to_string()),
        ("toggle", toggle.number.to_string()),
    ];
    let details = details.into_iter().chain(login);
    let begins = toggle.until.is_some();
    Entry {
        command: COMMANDS[usize::from(!begins)].to_owned(),
        weakening: begins,
        reason: Some(toggle.reason.clone()),
        effect: if begins { Effect::EmergencyDisabled } else { Effect::EmergencyEnabled },
        until: toggle.until.map(|until| Time::from_us(until.saturating_mul(1_000_000))),
        details: details.map(|(key, value)| (key.to_owned(), value)).collect(),
        ..Entry::default()
    }
}

/// The number of the last throw that is in the log.
#[derive(Debug, Deserialize, Serialize)]
struct Logged {
    boot: Option<String>,
    /// The control maps that count it: two while the programs of one take over from those of the other.
    maps: Vec<u32>,
    last: u64,
}

impl Logged {
    fn recorded(context: &Context, switches: &Switches) -> Self {
        let read = || -> Option<Self> {
            serde_json::from_slice(&fs::read(Self::path(context)).ok()?).ok()
        };
        let (boot, map) = (time::boot(), switches.number());
        read()
            .filter(|logged| logged.boot == boot && logged.maps.contains(&map))
            .unwrap_or_else(|| Self { boot, maps: vec![map], last: 0 })
    }

    fn record(&self, context: &Context) -> anyhow::Result<()> {
        let bytes = serde_json::to_vec(self).context("failed to write a number as JSON")?;
        files::write_whole(&Self::path(context), &bytes)
    }

    fn path(context: &Context) -> PathBuf {
        context.run.join("toggles.json")
    }
}

fn path(context: &Context) -> PathBuf {
    context.state.join("emergency.json")
}

/// As the log has them: what begins an emergency, and what ends it.
pub(crate) const COMMANDS: [&str; 2] = ["emergency disable", "emergency enable"];

/// How long an emergency may be.
pub(crate) const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// How often within an hour is often.
const OFTEN: usize = 3;

/// How long is waited for somebody else who writes the same down.
const TURN: Duration = Duration::from_millis(500);

const HOUR: u64 = 3600;
const SECOND: u64 = 1_000_000_000;

/// Bytes of the largest file of an emergency: a reason has at most 255, and JSON makes six of one.
const KEPT_MAX: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(since: u64, until: u64) -> Kept {
        Kept {
            schema: 1,
            since,
            until,
            reason: "a test".to_owned(),
            uid: 0,
            login_uid: None,
            pid: 1,
            guards_too: false,
        }
    }

    fn toggle(time: u64, until: Option<u64>) -> Toggle {
        Toggle {
            number: 1,
            time,
            until,
            uid: 1000,
            login_uid: Some(1001),
            pid: 7,
            guards_too: false,
            reason: "a test".to_owned(),
        }
    }

    #[test]
    fn what_goes_on_after_a_reboot_is_what_was_left_and_never_more() {
        let seconds = |of: &Kept, now| of.left(now).map(|left| left.as_secs());
        let hour = kept(1000, 4600);
        assert_eq!(seconds(&hour, 1600), Some(3000));
        assert_eq!(seconds(&hour, 4600), None, "it has ended");
        assert_eq!(seconds(&hour, 9999), None, "long ago");
        assert_eq!(seconds(&hour, 0), Some(3600), "a clock that went back");
        let forever = kept(0, u64::MAX);
        assert_eq!(seconds(&forever, 5), Some(LONGEST.as_secs()), "nobody may ask for this");
    }

    #[test]
    fn often_is_three_times_within_an_hour() {
        let at = |times: &[u64]| -> Switch {
            let known = times.iter().map(|time| toggle(*time, None)).collect();
            Switch { holds: None, toggles: 9, known }
        };
        let now = time::now();
        assert_eq!(at(&[now - 7200, now - 10, now]).warning(), None);
        let often = at(&[now - 3500, now - 10, now]).warning();
        assert!(
            often.is_some_and(|often| often.contains("3 times within an hour, last by uid 1000"))
        );
    }

    #[test]
    fn the_log_says_who_threw_the_switch_and_what_follows() {
        let begins = entry(&toggle(10, Some(20)));
        assert_eq!((begins.command.as_str(), begins.weakening), ("emergency disable", true));
        assert_eq!(begins.effect, Effect::EmergencyDisabled);
        assert_eq!(begins.until, Some(Time::from_us(20_000_000)));
        assert_eq!(begins.details.get("thrown_by_login_uid").map(String::as_str), Some("1001"));
        let ends = entry(&toggle(15, None));
        assert_eq!((ends.command.as_str(), ends.weakening), ("emergency enable", false));
        assert_eq!((ends.effect, ends.until), (Effect::EmergencyEnabled, None));
    }
}
