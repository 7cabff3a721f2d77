// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What was enforced at a time, and whether the answer can be trusted.

use super::{Effect, InForce, Phase, Sealed, Time, Verification, code};
use crate::Digest;

/// What holds after the entries so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// The set that decides; none: nothing of ours does.
    pub set: Option<InForce>,
    /// The entry that says so.
    pub since: Option<Since>,
    /// Whether denials of rules are only reported.
    pub emergency: bool,
    /// Changes that were begun, whose end is not on record and follows from nothing else.
    pub pending: Vec<Pending>,
    /// When the emergency ends by itself.
    emergency_until: Option<Time>,
    /// When the set is taken back by itself, and to what.
    unconfirmed: Option<(Time, Option<InForce>)>,
    /// The boot of the last entry.
    boot: Option<String>,
}

/// Who brought about what holds, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Since {
    /// The entry.
    pub sequence: u64,
    /// Its time.
    pub time: Time,
    /// Its command.
    pub command: String,
    /// The user who ran it.
    pub uid: u32,
    /// The user who logged in for it.
    pub login_uid: Option<u32>,
    /// Why.
    pub reason: Option<String>,
}

/// A change without an end on record: its command was killed, or is still at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The entry that began it.
    pub since: Since,
    /// What it is meant to bring about.
    pub effect: Effect,
    /// When the kernel would take that back by itself.
    until: Option<Time>,
}

impl Pending {
    /// The digest of the set that is in force if it happened; `None` if it changes no set.
    fn set_digest(&self) -> Option<Option<Digest>> {
        match &self.effect {
            Effect::InForce(set) => Some(Some(set.set_digest)),
            Effect::Detached => Some(None),
            _ => None,
        }
    }
}

impl Held {
    /// Takes the next entry into account.
    pub fn take(&mut self, sealed: &Sealed) {
        let record = &sealed.record;
        let entry = &record.entry;
        self.lapse(record.time);
        if record.boot.is_some() && self.boot.is_some() && record.boot != self.boot {
            self.restarted();
        }
        self.boot = record.boot.clone().or_else(|| self.boot.take());
        let since = Since {
            sequence: record.sequence,
            time: record.time,
            command: entry.command.clone(),
            uid: record.uid,
            login_uid: record.login_uid,
            reason: entry.reason.clone(),
        };
        match entry.phase {
            Phase::Begin => {
                self.look_back(entry.before);
                let (effect, until) = (entry.effect.clone(), entry.until);
                self.pending.push(Pending { since, effect, until });
            }
            Phase::Undone => {
                self.pending.retain(|pending| Some(pending.since.sequence) != entry.begun);
            }
            Phase::Done => {
                let settles = matches!(entry.effect, Effect::InForce(_) | Effect::Detached);
                self.pending
                    .retain(|pending| !settles && Some(pending.since.sequence) != entry.begun);
                self.settle(&entry.effect, entry.until, since);
            }
            Phase::Refused | Phase::Note => {}
        }
    }

    /// What the kernel takes back by itself is taken back once its time has come.
    pub fn lapse(&mut self, now: Time) {
        if self.emergency_until.is_some_and(|until| until <= now) {
            self.emergency = false;
            self.emergency_until = None;
        }
        if let Some((_, back)) = self.unconfirmed.take_if(|(until, _)| *until <= now) {
            self.set = back;
        }
    }

    /// A change says what was in force before it: so it is known whether one that has no end happened.
    fn look_back(&mut self, before: Option<Digest>) {
        let did_not = self.set.as_ref().map(|set| set.set_digest) == before;
        let mut happened =
            self.pending.iter().filter(|pending| pending.set_digest() == Some(before));
        match (did_not, happened.next().cloned(), happened.next()) {
            (true, None, _) => self.pending.clear(),
            (false, Some(one), None) => {
                self.pending.clear();
                self.settle(&one.effect, one.until, one.since);
            }
            // The same set on both sides, or what somebody else did: nothing follows from that.
            _ => {}
        }
    }

    fn settle(&mut self, effect: &Effect, until: Option<Time>, since: Since) {
        match effect {
            Effect::None => {}
            Effect::InForce(set) => {
                self.unconfirmed = until.map(|until| (until, self.set.clone()));
                self.set = Some(set.clone());
                self.since = Some(since);
            }
            Effect::Detached => {
                self.set = None;
                self.unconfirmed = None;
                self.emergency = false;
                self.since = Some(since);
            }
            Effect::EmergencyDisabled => {
                self.emergency = true;
                self.emergency_until = until;
            }
            Effect::EmergencyEnabled => {
                self.emergency = false;
                self.emergency_until = None;
            }
        }
    }

    /// The memory of the kernel is empty after a start. An emergency outlives it.
    fn restarted(&mut self) {
        self.set = None;
        self.pending.clear();
        self.unconfirmed = None;
    }

    /// Number and digest of each generation that may be active now, if the log is right.
    pub(super) fn may_be_active(&self, boot: Option<&str>) -> Vec<Option<(u64, Digest)>> {
        if boot.is_some() && self.boot.is_some() && self.boot.as_deref() != boot {
            return vec![None];
        }
        let number = |set: &InForce| (set.generation, set.set_digest);
        let mut sets = vec![self.set.as_ref().map(number)];
        sets.extend(self.pending.iter().filter_map(|pending| match &pending.effect {
            Effect::InForce(set) => Some(Some(number(set))),
            Effect::Detached => Some(None),
            _ => None,
        }));
        sets
    }
}

/// Reads a log for what was enforced at one time.
#[derive(Debug)]
pub struct At {
    time: Time,
    held: Held,
    /// The last entry that is not later.
    last: Option<Stamp>,
    /// The first one that is.
    next: Option<Stamp>,
    doubts: Vec<String>,
}

/// When an entry was made, by all clocks.
#[derive(Clone, Debug)]
struct Stamp {
    sequence: u64,
    time: Time,
    boot: Option<String>,
    since_boot_ms: u64,
}

/// The clocks of the machine that is asked.
#[derive(Clone, Debug)]
pub struct Now {
    /// The calendar.
    pub time: Time,
    /// The present boot.
    pub boot: Option<String>,
    /// Milliseconds since then.
    pub since_boot_ms: u64,
}

/// What was enforced.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The time that was asked for.
    pub time: Time,
    /// What held then.
    pub held: Held,
    /// Whether the log has an entry that is not later.
    pub known: bool,
    /// The node was started at this moment, before the time that was asked for, and nothing was put in force until then.
    pub empty_since: Option<Time>,
    /// The node ended at a moment that is not known, not later than this one.
    pub down_by: Option<Time>,
    /// Why the answer may be wrong; none: it can be trusted as far as the log.
    pub doubts: Vec<String>,
}

impl At {
    /// Asks for this time.
    pub fn new(time: Time) -> Self {
        Self { time, held: Held::default(), last: None, next: None, doubts: Vec::new() }
    }

    /// Takes the next line of the log.
    pub fn take(&mut self, sealed: &Sealed) {
        let record = &sealed.record;
        let stamp = Stamp {
            sequence: record.sequence,
            time: record.time,
            boot: record.boot.clone(),
            since_boot_ms: record.since_boot_ms,
        };
        let loss = record.log_code().is_some_and(code::is_loss);
        if let Some(next) = &self.next {
            if stamp.time <= self.time {
                self.doubts.push(format!(
                    "the clock was set back after entry {}: entry {} is of an earlier time",
                    next.sequence, stamp.sequence
                ));
            }
            return;
        }
        if stamp.time > self.time {
            if loss {
                self.doubts.push(format!("entries before entry {} are lost", stamp.sequence));
            }
            self.next = Some(stamp);
            return;
        }
        self.held.take(sealed);
        self.last = Some(stamp);
    }

    /// The answer; the log was verified meanwhile.
    pub fn finish(mut self, verification: &Verification, now: &Now) -> Answer {
        let present = Stamp {
            sequence: 0,
            time: now.time,
            boot: now.boot.clone(),
            since_boot_ms: now.since_boot_ms,
        };
        let open = self.next.is_none();
        let next = self.next.take().unwrap_or(present);
        let (mut empty_since, mut down_by) = (None, None);
        if let Some(last) = &self.last {
            let same_boot = last.boot.is_none() || next.boot.is_none() || last.boot == next.boot;
            if same_boot {
                self.doubts.extend(clock_was_set(last, &next));
            } else {
                let started = next.time.before_ms(next.since_boot_ms);
                if started <= self.time {
                    self.held.restarted();
                    empty_since = Some(started);
                } else {
                    down_by = Some(started);
                }
            }
        }
        self.held.lapse(self.time);
        for Pending { since, .. } in &self.held.pending {
            self.doubts.push(format!(
                "entry {} begins `{}`, and its end is not on record before that time",
                since.sequence, since.command
            ));
        }
        if open && self.time > now.time {
            self.doubts.push("this time is yet to come".to_owned());
        }
        if !verification.faults.is_empty() || verification.torn.is_some() {
            self.doubts.push("the log is not whole: see `aegisbpf provenance verify`".to_owned());
        }
        Answer {
            time: self.time,
            known: self.last.is_some(),
            held: self.held,
            empty_since,
            down_by,
            doubts: self.doubts,
        }
    }
}

/// Within one boot both clocks go equally fast, unless somebody sets one.
fn clock_was_set(last: &Stamp, next: &Stamp) -> Option<String> {
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let by_calendar = signed(next.time.us() / 1000).saturating_sub(signed(last.time.us() / 1000));
    let passed = signed(next.since_boot_ms).saturating_sub(signed(last.since_boot_ms));
    let set = by_calendar.saturating_sub(passed);
    (set.saturating_abs() > CLOCK_MAY_DIFFER_MS).then(|| {
        let seconds = set / 1000;
        format!("the clock was set by {seconds} s after entry {}", last.sequence)
    })
}

/// What NTP corrects without a step, over some weeks.
const CLOCK_MAY_DIFFER_MS: i64 = 10_000;
