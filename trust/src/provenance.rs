// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The provenance log: what it says, how its lines are chained, and what can be told from it.
//!
//! ```text
//!   Entry ─▶ Record ─seal─▶ line ─▶ segment        Verifier: is it whole? what do witnesses say?
//!                            ▲ hash of the line before    At: what was enforced at that time?
//! ```
//!
//! A line is `{"record":{…},"hash":"…"}`: the hash is of the record's bytes as they stand there, and the
//! record names the hash of the line before. So no byte of a log can change, and no line can go, come or
//! move, without all lines after it being made anew; and that is what witnesses are for, who know a
//! later hash: the kernel's control map, the journal, an auditor's note.
//!
//! Nothing here opens a file or knows what time it is.

mod answer;
mod line;
#[cfg(test)]
mod tests;
mod time;
mod verify;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Digest;

pub use answer::{Answer, At, Held, Now, Pending, Since};
pub use line::{BadLine, LINE_MAX, Sealed, read_line, seal};
pub use time::Time;
pub use verify::{
    Fault, KernelHead, KernelWitness, Noted, Torn, Verification, Verifier, reserve_lines,
    segment_name,
};

/// One line's content: an entry, and where and by whom it was made.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Record {
    /// Meaning of the fields; new fields do not raise it.
    pub schema: u32,
    /// From 1, without gaps.
    pub sequence: u64,
    /// The hash of the line before; 64 zeros in the first.
    pub previous: Digest,
    /// Of this log: random at its first use, and anew when it was lost or is another machine's.
    pub instance: String,
    /// What this machine is known by, hashed; absent if it has no name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Digest>,
    /// When, as the clock had it.
    pub time: Time,
    /// Which boot; absent if the kernel does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
    /// Milliseconds since that boot, suspended time included.
    pub since_boot_ms: u64,
    /// The user who ran the command.
    pub uid: u32,
    /// The user who logged in for it; absent if nobody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_uid: Option<u32>,
    /// The process.
    pub pid: u32,
    /// Version of the program.
    pub program: String,
    /// Whether the kernel was told of this line.
    pub kernel_told: bool,
    /// Whether a trust root was installed on this node when it was written, or ever before as far as is
    /// known. Each line repeats it, so that any one that is left is enough.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub trust_root: bool,
    /// What happened.
    pub entry: Entry,
}

/// One thing that changes what is enforced, or was refused, or concerns the log itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Entry {
    /// The verb: `apply`, `remove`, `detach`, …; `log` for what concerns the log itself.
    pub command: String,
    /// Where in its life it is.
    pub phase: Phase,
    /// The sequence of the entry that began it, in those that end it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub begun: Option<u64>,
    /// Whether less is denied afterwards.
    pub weakening: bool,
    /// Why, in the operator's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Names of the policies that it is about.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
    /// The digest of the set that was in force before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Digest>,
    /// What holds afterwards.
    #[serde(skip_serializing_if = "Effect::is_none")]
    pub effect: Effect,
    /// When the kernel takes the effect back by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// Each path of the proof with its result, if there was one.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub proof: BTreeMap<String, String>,
    /// How long each step took, in the order in which they came.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// Why it did not happen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// What only this command has to say.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
}

/// Where in its life a change is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// On record, and not acted yet.
    Begin,
    /// It happened.
    Done,
    /// It was begun, failed, and was taken back.
    Undone,
    /// It was asked for, and nothing was done.
    Refused,
    /// Nothing that is enforced changes.
    #[default]
    Note,
}

/// What holds after an entry; in `begin`, what is meant to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// What held before.
    #[default]
    None,
    /// This generation decides.
    InForce(InForce),
    /// Nothing of ours is in the kernel.
    Detached,
    /// Denials of rules are only reported.
    EmergencyDisabled,
    /// Rules deny again.
    EmergencyEnabled,
}

impl Effect {
    /// Whether what held before still holds.
    pub const fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }
}

/// A generation and the policies that it was made from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct InForce {
    /// Its number on this node; 0 if it has none yet.
    pub generation: u64,
    /// The digest of the set.
    pub set_digest: Digest,
    /// The set.
    pub policies: Vec<PolicyInForce>,
}

/// A policy of a set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct PolicyInForce {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u32,
    /// `enforce` or `audit`.
    pub mode: String,
    /// The digest of its text.
    pub policy_digest: Digest,
    /// The digest of the bundle that it came in; absent: nobody signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle_digest: Option<Digest>,
    /// The keys that signed it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key_ids: Vec<String>,
    /// Where the text comes from, as its signers say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// One step of a command.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Step {
    /// Its name.
    pub step: String,
    /// How long it took, in microseconds.
    pub us: u64,
}

/// Why something did not happen.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Failure {
    /// Stable, for programs.
    pub code: String,
    /// For a person.
    pub message: String,
}

/// The newest line of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its sequence.
    pub sequence: u64,
    /// Its hash.
    pub hash: Digest,
}

impl Head {
    /// Of a log without a line.
    pub const NONE: Self = Self { sequence: 0, hash: Digest::from_bytes([0; 32]) };
}

impl Record {
    /// The version of the fields' meaning.
    pub const SCHEMA: u32 = 1;

    /// The code of an entry of the log about itself.
    pub fn log_code(&self) -> Option<&str> {
        let error = self.entry.error.as_ref().filter(|_| self.entry.command == LOG)?;
        Some(&error.code)
    }
}

/// The command of entries about the log itself.
pub const LOG: &str = "log";

/// Codes of entries about the log itself.
pub mod code {
    /// The first entry of a log.
    pub const BEGUN: &str = "LOG_BEGUN";
    /// A line that was not finished was kept aside.
    pub const TORN: &str = "LOG_TORN";
    /// A witness knows entries that are not there.
    pub const LOST: &str = "LOG_LOST";
    /// The state is another machine's.
    pub const MOVED: &str = "LOG_MOVED";
    /// A log that could not be read on was kept aside, by an operator.
    pub const RESTARTED: &str = "LOG_RESTARTED";
    /// Something happened that could not be logged when it did.
    pub const UNLOGGED: &str = "LOG_UNLOGGED";

    /// Whether something is missing where an entry with this code stands.
    pub fn is_loss(code: &str) -> bool {
        matches!(code, LOST | RESTARTED | UNLOGGED)
    }
}
