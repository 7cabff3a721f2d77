// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A trust root as it is written: keys, and who of them may sign what. Plain data; a root that binds
//! anybody is a [`TrustRoot`](crate::TrustRoot).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::{
    Envelope, KeyId, Kind, Malformed, Moment, PublicKey,
    bundle::{MOMENT, MOST_WORDS_BYTES, NAME, is_name, is_name_byte, words},
    json::{Fields, Json, read, unexpected},
};

/// What a trust root says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// From 1, one more with each root.
    pub version: u32,
    /// When it was proposed.
    pub issued: Moment,
    /// From this moment on it accepts nothing but its successor.
    pub expires: Moment,
    /// Every key that may sign anything.
    pub keys: BTreeMap<KeyId, Key>,
    /// Who signs the next root.
    pub root: Role,
    /// Who signs policies, by their names. Of several that take a name the most specific counts alone.
    pub delegations: BTreeMap<Names, Role>,
    /// The lowest version of policies that is accepted, whatever a node has seen.
    pub minimums: BTreeMap<String, u32>,
    /// The floors of these policies are lowered to a version, once, when this root is installed.
    pub resets: BTreeMap<String, u32>,
    /// Keys that may never come back.
    pub revoked: BTreeSet<KeyId>,
}

/// A key of a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The key.
    pub public: PublicKey,
    /// Whose it is, in words.
    pub owner: Option<String>,
}

/// Keys, and how many of them must have signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// So many different keys.
    pub threshold: u32,
    /// Of these.
    pub keys: BTreeSet<KeyId>,
}

/// One name of a policy, or with a `*` at its end all that begin so.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Names(String);

impl Names {
    /// A name, or the beginning of one and `*`.
    pub fn read(text: &str) -> Option<Self> {
        let known = match text.strip_suffix('*') {
            Some("") => true,
            Some(prefix) => prefix.len() <= 63 && prefix.bytes().all(is_name_byte),
            None => is_name(text),
        };
        known.then(|| Self(text.to_owned()))
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a policy's name is one of these.
    fn takes(&self, name: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == self.0,
        }
    }

    /// A name is more specific than any beginning of it, and a longer beginning than a shorter one.
    fn rank(&self) -> (bool, usize) {
        (!self.0.ends_with('*'), self.0.len())
    }
}

impl Root {
    /// Reads what is in an envelope. Nothing follows from it before its signatures were checked.
    ///
    /// # Errors
    /// [`Malformed`], with the place; a root that nobody could follow is malformed as well.
    pub fn claimed(envelope: &Envelope) -> Result<Self, Malformed> {
        Self::read(envelope.payload())
    }

    /// The envelope that is to be signed.
    ///
    /// # Errors
    /// [`Malformed`] if nobody would accept it, whoever signed.
    pub fn envelope(&self) -> Result<Envelope, Malformed> {
        let payload = self.json().to_string().into_bytes();
        Self::read(&payload)?;
        Ok(Envelope::new(Kind::Root, payload))
    }

    /// Who may sign a policy of this name.
    pub fn delegation(&self, name: &str) -> Option<(&Names, &Role)> {
        let taking = self.delegations.iter().filter(|(names, _)| names.takes(name));
        taking.max_by_key(|(names, _)| names.rank())
    }

    pub(crate) fn read(payload: &[u8]) -> Result<Self, Malformed> {
        let mut fields = read("the trust root", payload, Kind::Root.most_bytes())?;
        if fields.number("schema")? != SCHEMA {
            return Err(unexpected(&fields.place("schema"), "1: a newer aegisbpf wrote it"));
        }
        let root = Self {
            version: positive(&mut fields, "version")?,
            issued: fields.parsed("issued", MOMENT, Moment::read)?,
            expires: fields.parsed("expires", MOMENT, Moment::read)?,
            keys: keys(&mut fields)?,
            root: Role::read(fields.object("root")?)?,
            delegations: delegations(&mut fields)?,
            minimums: versions(fields.object("minimums")?)?,
            resets: versions(fields.object("resets")?)?,
            revoked: ids(&mut fields, "revoked", MOST_REVOKED)?,
        };
        fields.end()?;
        root.check()?;
        Ok(root)
    }

    /// What each field by itself does not show.
    fn check(&self) -> Result<(), Malformed> {
        let refuse = |place: String, expected: &str| {
            Err(unexpected(&format!("the trust root: {place}"), expected))
        };
        if self.expires <= self.issued {
            return refuse("expires".to_owned(), "after issued");
        }
        if let Some(id) = self.revoked.iter().find(|id| self.keys.contains_key(id)) {
            return refuse(format!("keys: {id}"), "a key that is not revoked");
        }
        let roles = self.delegations.iter().map(|(names, role)| (names.as_str(), role));
        for (place, role) in [("root", &self.root)].into_iter().chain(roles) {
            if let Some(id) = role.keys.iter().find(|id| !self.keys.contains_key(id)) {
                return refuse(format!("{place}: keys: {id}"), "one of the keys above");
            }
            // Else nobody could ever sign.
            if role.threshold as usize > role.keys.len() {
                let keys = role.keys.len();
                return refuse(format!("{place}: threshold"), &format!("at most {keys}, its keys"));
            }
        }
        for (name, version) in &self.resets {
            if self.minimums.get(name).is_some_and(|minimum| version < minimum) {
                return refuse(format!("resets: {name}"), "no lower than its minimum");
            }
        }
        Ok(())
    }

    fn json(&self) -> Value {
        let ids = |ids: &BTreeSet<KeyId>| ids.iter().map(KeyId::to_string).collect::<Vec<_>>();
        let role = |role: &Role| json!({ "threshold": role.threshold, "keys": ids(&role.keys) });
        let key = |(id, key): (&KeyId, &Key)| match &key.owner {
            Some(owner) => {
                json!({ "id": id.to_string(), "public": key.public.hex(), "owner": owner })
            }
            None => json!({ "id": id.to_string(), "public": key.public.hex() }),
        };
        let delegation = |(names, keys): (&Names, &Role)| {
            let mut members = role(keys);
            if let Some(members) = members.as_object_mut() {
                members.insert("names".to_owned(), names.as_str().into());
            }
            members
        };
        json!({
            "schema": SCHEMA,
            "version": self.version,
            "issued": self.issued.to_string(),
            "expires": self.expires.to_string(),
            "keys": self.keys.iter().map(key).collect::<Vec<_>>(),
            "root": role(&self.root),
            "delegations": self.delegations.iter().map(delegation).collect::<Vec<_>>(),
            "minimums": self.minimums,
            "resets": self.resets,
            "revoked": ids(&self.revoked),
        })
    }
}

impl Role {
    fn read(mut fields: Fields) -> Result<Self, Malformed> {
        let role = Self {
            threshold: positive(&mut fields, "threshold")?,
            keys: ids(&mut fields, "keys", MOST_KEYS)?,
        };
        fields.end()?;
        Ok(role)
    }
}

fn positive(fields: &mut Fields, name: &str) -> Result<u32, Malformed> {
    match fields.number(name)? {
        0 => Err(unexpected(&fields.place(name), "at least 1")),
        number => Ok(number),
    }
}

fn keys(fields: &mut Fields) -> Result<BTreeMap<KeyId, Key>, Malformed> {
    let mut keys = BTreeMap::new();
    for (place, item) in fields.list("keys", MOST_KEYS)? {
        let mut item = Fields::of(item, place.clone())?;
        let id = item.parsed("id", ID, KeyId::read)?;
        let expected = "the 64 small hexadecimal digits of an Ed25519 key that is not weak";
        let public = item.parsed("public", expected, PublicKey::from_hex)?;
        let owner = words(&mut item, "owner", MOST_WORDS_BYTES)?;
        if public.id() != id {
            return Err(unexpected(&item.place("id"), &format!("{} for this key", public.id())));
        }
        item.end()?;
        if keys.insert(id, Key { public, owner }).is_some() {
            return Err(unexpected(&place, "a key that does not stand above as well"));
        }
    }
    Ok(keys)
}

fn delegations(fields: &mut Fields) -> Result<BTreeMap<Names, Role>, Malformed> {
    let mut delegations = BTreeMap::new();
    for (place, item) in fields.list("delegations", MOST_NAMES)? {
        let mut item = Fields::of(item, place.clone())?;
        let names = item.parsed("names", NAMES, Names::read)?;
        if delegations.insert(names, Role::read(item)?).is_some() {
            return Err(unexpected(&place, "for names that do not stand above as well"));
        }
    }
    Ok(delegations)
}

fn versions(fields: Fields) -> Result<BTreeMap<String, u32>, Malformed> {
    let mut versions = BTreeMap::new();
    let place = fields.place("");
    for (name, version) in fields.rest() {
        let place = format!("{place}{name}");
        if !is_name(&name) || versions.len() == MOST_NAMES {
            return Err(unexpected(&place, &format!("{NAME}, one of at most {MOST_NAMES}")));
        }
        let version = match version {
            Json::Number(version) => u32::try_from(version).ok().filter(|version| *version > 0),
            _ => None,
        };
        let version = version.ok_or_else(|| unexpected(&place, "a version of at least 1"))?;
        versions.insert(name, version);
    }
    Ok(versions)
}

fn ids(fields: &mut Fields, name: &str, most: usize) -> Result<BTreeSet<KeyId>, Malformed> {
    let mut ids = BTreeSet::new();
    for (place, item) in fields.list(name, most)? {
        let id = KeyId::read(&item.text(&place)?).ok_or_else(|| unexpected(&place, ID))?;
        if !ids.insert(id) {
            return Err(unexpected(&place, "a key that does not stand before as well"));
        }
    }
    Ok(ids)
}

/// What a name in a delegation can be, for messages.
pub const NAMES: &str = "the name of a policy, or the beginning of one and '*'";

/// Keys in a root.
const MOST_KEYS: usize = 32;
/// Delegations, minimums, or resets in a root.
const MOST_NAMES: usize = 1000;
const MOST_REVOKED: usize = 1000;
const SCHEMA: u32 = 1;
const ID: &str = "a key id of 64 small hexadecimal digits";
