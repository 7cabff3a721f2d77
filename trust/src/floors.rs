// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a node has accepted: versions that only go up, and what that says about the time.
//!
//! A floor outlives its policy. What was accepted once is never judged by a clock again, so that the
//! same bundle after a restart, with the clock at 1970 or long after it expired, is no news.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    Bundle, Digest, Malformed, Moment, TrustRoot, Verified,
    bundle::{MOMENT, NAME, is_name},
    json::{Fields, Json, read, unexpected},
};

/// The floors of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Floors {
    floors: BTreeMap<String, Floor>,
    /// What is about to be put in force: it counts unless it is known that it never was.
    pending: Option<Pending>,
    /// It is not earlier than this, whatever a clock says: signers say so, and were believed.
    not_before: Moment,
    /// The version of the root whose resets were done last.
    reset_by: u32,
}

/// The highest version of a policy that a node has accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floor {
    /// The version.
    pub version: u32,
    /// `None`: a root has lowered the floor to here, and any text will do.
    pub accepted: Option<Accepted>,
}

/// What was accepted last at a floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// SHA-256 of the text.
    pub policy: Digest,
    /// SHA-256 of what was signed.
    pub payload: Digest,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pending {
    set: Digest,
    floors: BTreeMap<String, Floor>,
    not_before: Moment,
}

/// How a bundle that may be applied stands to what was accepted before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It was accepted before; no clock was asked.
    Known,
    /// It is accepted now.
    New,
}

impl Floors {
    /// The floor of a policy.
    pub fn floor(&self, name: &str) -> Option<&Floor> {
        self.floors.get(name)
    }

    /// All floors, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Floor)> {
        self.floors.iter().map(|(name, floor)| (name.as_str(), floor))
    }

    /// The time as far as it is known: the clock's, unless that is before what was signed.
    pub fn time(&self, clock: Moment) -> Moment {
        clock.max(self.not_before)
    }

    /// Whether a bundle may be applied on this node, now.
    ///
    /// # Errors
    /// [`Inadmissible`].
    pub fn admit(
        &self,
        bundle: &Verified<Bundle>,
        clock: Moment,
    ) -> Result<Admission, Inadmissible> {
        let content = bundle.content();
        let (name, version) = (content.name.clone(), content.version);
        let floor = self.floors.get(&name);
        let lowest = floor.map_or(0, |floor| floor.version).max(bundle.minimum());
        if version < lowest {
            return Err(Inadmissible::Lower { name, version, lowest });
        }
        if lowest > 0 && version - lowest > MOST_STEP {
            return Err(Inadmissible::TooFar { name, version, lowest });
        }
        let accepted = floor.filter(|floor| floor.version == version);
        if let Some(accepted) = accepted.and_then(|floor| floor.accepted) {
            if accepted.policy != content.policy_digest() {
                return Err(Inadmissible::Reused { name, version, accepted: accepted.policy });
            }
            if accepted.payload == bundle.payload_digest() {
                return Ok(Admission::Known);
            }
        }
        let now = self.time(clock);
        let (not_before, expires) = (content.not_before, content.expires);
        if now < not_before {
            return Err(Inadmissible::NotYet { name, not_before, now });
        }
        if now >= expires {
            return Err(Inadmissible::Expired { name, expires, now });
        }
        if now >= bundle.root_expires() {
            let (root, expires) = (bundle.root_version(), bundle.root_expires());
            return Err(Inadmissible::RootExpired { root, expires, now });
        }
        Ok(Admission::New)
    }

    /// Whether a policy that nobody signed may be applied as far as versions go: no lower than what
    /// was accepted with signatures.
    ///
    /// # Errors
    /// [`Inadmissible::Lower`] or [`Inadmissible::Reused`].
    pub fn admit_unsigned(
        &self,
        name: &str,
        version: u32,
        policy: Digest,
    ) -> Result<(), Inadmissible> {
        let name = name.to_owned();
        match self.floors.get(&name) {
            Some(Floor { version: lowest, .. }) if version < *lowest => {
                Err(Inadmissible::Lower { name, version, lowest: *lowest })
            }
            Some(Floor { version: floor, accepted: Some(accepted) })
                if version == *floor && policy != accepted.policy =>
            {
                Err(Inadmissible::Reused { name, version, accepted: accepted.policy })
            }
            _ => Ok(()),
        }
    }

    /// Notes that these are about to be put in force, within the set that has this digest.
    pub fn begin<'b>(
        &mut self,
        bundles: impl IntoIterator<Item = &'b Verified<Bundle>>,
        set: Digest,
    ) {
        let mut pending = Pending { set, floors: BTreeMap::new(), not_before: Moment::default() };
        for bundle in bundles {
            let content = bundle.content();
            let (policy, payload) = (content.policy_digest(), bundle.payload_digest());
            let accepted = Some(Accepted { policy, payload });
            pending
                .floors
                .insert(content.name.clone(), Floor { version: content.version, accepted });
            pending.not_before = pending.not_before.max(content.not_before);
        }
        self.pending = (!pending.floors.is_empty()).then_some(pending);
    }

    /// Accepts what [`begin`](Self::begin) noted.
    pub fn accept(&mut self) {
        if let Some(pending) = self.pending.take() {
            self.not_before = self.not_before.max(pending.not_before);
            self.floors.extend(pending.floors);
        }
    }

    /// Forgets what [`begin`](Self::begin) noted: it was not put in force.
    pub fn cancel(&mut self) {
        self.pending = None;
    }

    /// Decides about what was noted by somebody who never came back, by the set that is in force now:
    /// it counts, unless another set shows that it was not put in force.
    pub fn settle(&mut self, active: Option<Digest>) {
        match &self.pending {
            Some(pending) if active.is_some_and(|active| active != pending.set) => self.cancel(),
            _ => self.accept(),
        }
    }

    /// Does what a root that is installed now says about floors, once.
    pub fn installed(&mut self, root: &TrustRoot) {
        let root = root.root();
        self.not_before = self.not_before.max(root.issued);
        if root.version <= self.reset_by {
            return;
        }
        self.reset_by = root.version;
        for (name, version) in &root.resets {
            if let Some(floor) = self.floors.get_mut(name).filter(|floor| floor.version > *version)
            {
                *floor = Floor { version: *version, accepted: None };
            }
        }
    }

    /// Takes what is in force as accepted, whatever its text, where nothing is known any more.
    pub fn begin_at(&mut self, name: &str, version: u32) {
        self.floors.entry(name.to_owned()).or_insert(Floor { version, accepted: None });
    }

    /// Takes the resets of a root that begins a new line of roots as not done yet.
    pub fn new_line(&mut self) {
        self.reset_by = 0;
    }

    /// As a file holds them.
    pub fn write(&self) -> Vec<u8> {
        let pending = self.pending.as_ref().map(|pending| {
            json!({
                "set": pending.set.to_string(),
                "floors": write_floors(&pending.floors),
                "notBefore": pending.not_before.to_string(),
            })
        });
        let mut file = json!({
            "schema": SCHEMA,
            "floors": write_floors(&self.floors),
            "notBefore": self.not_before.to_string(),
            "resetBy": self.reset_by,
        });
        if let (Some(members), Some(pending)) = (file.as_object_mut(), pending) {
            members.insert("pending".to_owned(), pending);
        }
        file.to_string().into_bytes()
    }

    /// What [`write`](Self::write) wrote.
    ///
    /// # Errors
    /// [`Malformed`], with the place.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut fields = read("the floors", bytes, MOST_BYTES)?;
        if fields.number("schema")? != SCHEMA {
            return Err(unexpected(&fields.place("schema"), "1: a newer aegisbpf wrote it"));
        }
        let pending = match fields.optional_object("pending")? {
            None => None,
            Some(mut fields) => {
                let pending = Pending {
                    set: fields.parsed("set", DIGEST, Digest::from_hex)?,
                    floors: read_floors(fields.object("floors")?)?,
                    not_before: fields.parsed("notBefore", MOMENT, Moment::read)?,
                };
                fields.end()?;
                Some(pending)
            }
        };
        let floors = Self {
            floors: read_floors(fields.object("floors")?)?,
            pending,
            not_before: fields.parsed("notBefore", MOMENT, Moment::read)?,
            reset_by: fields.number("resetBy")?,
        };
        fields.end()?;
        Ok(floors)
    }
}

fn write_floors(floors: &BTreeMap<String, Floor>) -> Value {
    let one = |(name, floor): (&String, &Floor)| {
        let value = match &floor.accepted {
            Some(accepted) => json!({
                "version": floor.version,
                "policy": accepted.policy.to_string(),
                "payload": accepted.payload.to_string(),
            }),
            None => json!({ "version": floor.version }),
        };
        (name.clone(), value)
    };
    Value::Object(floors.iter().map(one).collect())
}

fn read_floors(fields: Fields) -> Result<BTreeMap<String, Floor>, Malformed> {
    let place = fields.place("");
    let one = |(name, value): (String, Json)| {
        let place = format!("{place}{name}");
        if !is_name(&name) {
            return Err(unexpected(&place, NAME));
        }
        let mut fields = Fields::of(value, place)?;
        let version = fields.number("version")?;
        let digest = |fields: &mut Fields, name| fields.parsed(name, DIGEST, Digest::from_hex);
        let accepted = if fields.has("policy") {
            let (policy, payload) =
                (digest(&mut fields, "policy")?, digest(&mut fields, "payload")?);
            Some(Accepted { policy, payload })
        } else {
            None
        };
        fields.end()?;
        Ok((name, Floor { version, accepted }))
    };
    fields.rest().map(one).collect()
}

/// Why a bundle that is well signed is not applied here, or not now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Inadmissible {
    /// Versions never go down.
    #[error(
        "policy {name} was accepted in version {lowest} or must have it, and this is {version}"
    )]
    Lower {
        /// The policy.
        name: String,
        /// Of the bundle.
        version: u32,
        /// The floor, or the minimum of the root.
        lowest: u32,
    },
    /// One version is one text.
    #[error("policy {name} version {version} was accepted with another text (sha256 {accepted})")]
    Reused {
        /// The policy.
        name: String,
        /// Of both.
        version: u32,
        /// The text that was accepted.
        accepted: Digest,
    },
    /// So that nobody who signs once can use up all versions.
    #[error("policy {name} version {version} is more than {MOST_STEP} above {lowest}")]
    TooFar {
        /// The policy.
        name: String,
        /// Of the bundle.
        version: u32,
        /// The floor, or the minimum of the root.
        lowest: u32,
    },
    /// Its time has not come.
    #[error("policy {name} is valid from {not_before}, and it is {now}")]
    NotYet {
        /// The policy.
        name: String,
        /// When that is.
        not_before: Moment,
        /// The time as far as it is known.
        now: Moment,
    },
    /// Its time is over.
    #[error("policy {name} could be accepted until {expires}, and it is {now}")]
    Expired {
        /// The policy.
        name: String,
        /// When that was.
        expires: Moment,
        /// The time as far as it is known.
        now: Moment,
    },
    /// The root accepts nothing new.
    #[error("the trust root (version {root}) expired at {expires}, and it is {now}")]
    RootExpired {
        /// Its version.
        root: u32,
        /// When that was.
        expires: Moment,
        /// The time as far as it is known.
        now: Moment,
    },
}

impl Inadmissible {
    /// Stable, for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Lower { .. } => "VERSION_LOWER",
            Self::Reused { .. } => "VERSION_REUSED",
            Self::TooFar { .. } => "VERSION_TOO_FAR",
            Self::NotYet { .. } => "NOT_YET_VALID",
            Self::Expired { .. } => "EXPIRED",
            Self::RootExpired { .. } => "ROOT_EXPIRED",
        }
    }

    /// What the operator can do.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Lower { .. } => {
                "sign the older text with a higher version; or let a new root lower the floor: `trust \
                 propose --reset NAME=VERSION`"
            }
            Self::Reused { .. } => "sign the text with a higher version",
            Self::TooFar { .. } => {
                "use a version that is nearer, or raise the minimum in a new root: `trust propose \
                 --minimum NAME=VERSION`"
            }
            Self::NotYet { .. } => "wait, or set the clock of this host if it is behind",
            Self::Expired { .. } => "sign it again with a later --expires, or set the clock",
            Self::RootExpired { .. } => {
                "install a successor: `trust propose --expires D`, `trust sign`, `trust install`"
            }
        }
    }
}

/// How far above the floor a version may be.
pub const MOST_STEP: u32 = 1_000_000;

const MOST_BYTES: usize = 4 << 20;
const SCHEMA: u32 = 1;
const DIGEST: &str = "64 small hexadecimal digits";
