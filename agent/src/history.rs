// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What was put in force on this node, one change after another, as the provenance log has it.
//!
//! The texts of the last sets are in the state directory, under the digests that are named here.

use aegis_trust::{
    Digest,
    provenance::{Effect, Entry, InForce, Phase, Sealed, Step, Time},
};

use crate::{context::Context, provenance::Log};

/// One change of what decides.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// Of its entry in the log.
    pub(crate) sequence: u64,
    pub(crate) time: Time,
    pub(crate) boot: Option<String>,
    pub(crate) command: String,
    pub(crate) uid: u32,
    pub(crate) login_uid: Option<u32>,
    pub(crate) reason: Option<String>,
    pub(crate) weakening: bool,
    /// The policies that it was about.
    pub(crate) policies: Vec<String>,
    /// The digest of the set before it.
    pub(crate) before: Option<Digest>,
    /// What decides since then; `None`: nothing of ours does.
    pub(crate) set: Option<InForce>,
    /// When the kernel was to take it back by itself.
    pub(crate) until: Option<Time>,
    /// How often the same policies had been bound anew.
    pub(crate) revision: u32,
    pub(crate) steps: Vec<Step>,
    /// Whether its end is on record: if not, its command was killed or is still at it.
    pub(crate) ended: bool,
}

/// The changes, oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct History(Vec<Change>);

impl History {
    /// Everything that the log has, as far as it can be read.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub(crate) fn read(context: &Context) -> anyhow::Result<Self> {
        let mut history = Self::default();
        Log::new(context).look()?.verify(&[], &mut |sealed| history.take(sealed))?;
        Ok(history)
    }

    fn take(&mut self, sealed: &Sealed) {
        let (record, entry) = (&sealed.record, &sealed.record.entry);
        let begun = match entry.phase {
            Phase::Begin => None,
            Phase::Done | Phase::Undone => entry.begun,
            Phase::Refused | Phase::Note => return,
        };
        self.0.retain(|change| change.ended || Some(change.sequence) != begun);
        let set = match &entry.effect {
            Effect::InForce(set) => Some(set.clone()),
            Effect::Detached => None,
            Effect::None | Effect::EmergencyDisabled | Effect::EmergencyEnabled => return,
        };
        if entry.phase == Phase::Undone {
            return;
        }
        let Entry { command, reason, weakening, policies, before, until, steps, .. } =
            entry.clone();
        self.0.push(Change {
            sequence: record.sequence,
            time: record.time,
            boot: record.boot.clone(),
            command,
            uid: record.uid,
            login_uid: record.login_uid,
            reason,
            weakening,
            policies,
            before,
            set,
            until,
            revision: entry.details.get("revision").and_then(|it| it.parse().ok()).unwrap_or(0),
            steps,
            ended: entry.phase == Phase::Done,
        });
    }

    /// All of them, oldest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Change> {
        self.0.iter()
    }

    /// The newest set that had this number.
    pub(crate) fn generation(&self, number: u64) -> Option<&InForce> {
        self.iter()
            .rev()
            .filter_map(|change| change.set.as_ref())
            .find(|set| set.generation == number)
    }

    /// The highest number that any generation had.
    pub(crate) fn last_number(&self) -> u64 {
        self.iter()
            .filter_map(|change| change.set.as_ref())
            .map(|set| set.generation)
            .max()
            .unwrap_or(0)
    }

    /// The newest set in which a policy is there, and is not what `present` says: its digest and mode.
    pub(crate) fn other(&self, name: &str, present: Option<(Digest, &str)>) -> Option<&InForce> {
        let is_other = |set: &&InForce| {
            set.policies.iter().any(|policy| {
                policy.name == name && Some((policy.policy_digest, policy.mode.as_str())) != present
            })
        };
        self.iter()
            .rev()
            .filter(|change| change.ended)
            .filter_map(|change| change.set.as_ref())
            .find(is_other)
    }
}

#[cfg(test)]
mod tests {
    use aegis_trust::provenance::{PolicyInForce, Record};

    use super::*;

    /// Entries as a log has them: command, phase, what it begins or ends, generation (0: none).
    fn history(entries: &[(&str, Phase, Option<u64>, u64)]) -> History {
        let mut history = History::default();
        let mut sequence = 0;
        for (command, phase, begun, generation) in entries {
            sequence += 1;
            let policy = PolicyInForce {
                name: "p".to_owned(),
                mode: "enforce".to_owned(),
                policy_digest: digest(*generation),
                ..PolicyInForce::default()
            };
            let set = InForce {
                generation: *generation,
                set_digest: digest(*generation),
                policies: vec![policy],
            };
            let effect = if *generation == 0 { Effect::Detached } else { Effect::InForce(set) };
            let entry = Entry {
                command: (*command).to_owned(),
                phase: *phase,
                begun: *begun,
                before: Some(digest(generation - u64::from(*generation > 0))),
                effect,
                ..Entry::default()
            };
            history.take(&Sealed { record: record(sequence, entry), hash: digest(0) });
        }
        history
    }

    fn digest(number: u64) -> Digest {
        Digest::from_bytes([u8::try_from(number).unwrap(); 32])
    }

    fn record(sequence: u64, entry: Entry) -> Record {
        Record {
            schema: Record::SCHEMA,
            sequence,
            previous: digest(0),
            instance: String::new(),
            machine: None,
            time: Time::from_us(sequence * 1_000_000),
            boot: None,
            since_boot_ms: 0,
            uid: 0,
            login_uid: None,
            pid: 1,
            program: String::new(),
            kernel_told: false,
            trust_root: false,
            entry,
        }
    }

    #[test]
    fn a_change_is_there_once_and_one_that_was_taken_back_is_not() {
        let found = history(&[
            ("apply", Phase::Begin, None, 1),
            ("apply", Phase::Done, Some(1), 1),
            ("apply", Phase::Begin, None, 2),
            ("apply", Phase::Undone, Some(3), 2),
            ("apply", Phase::Refused, None, 3),
            ("apply", Phase::Begin, None, 4),
        ]);
        let of: Vec<(u64, bool)> = found
            .iter()
            .map(|change| (change.set.as_ref().unwrap().generation, change.ended))
            .collect();
        assert_eq!(of, [(1, true), (4, false)]);
        assert_eq!(found.last_number(), 4);
    }

    #[test]
    fn the_other_text_of_a_policy_is_the_newest_that_it_is_not_now() {
        let found = history(&[
            ("apply", Phase::Done, None, 1),
            ("apply", Phase::Done, None, 2),
            ("apply", Phase::Done, None, 3),
            ("detach", Phase::Done, None, 0),
        ]);
        let other = |present| found.other("p", present).map(|set| set.generation);
        assert_eq!(other(Some((digest(3), "enforce"))), Some(2));
        assert_eq!(other(Some((digest(3), "audit"))), Some(3));
        assert_eq!(other(None), Some(3));
        assert_eq!(found.other("q", None).map(|set| set.generation), None);
    }
}
