// SPDX-License-Identifier: Apache-2.0 OR MIT
//! On whose word what is in force is in force, as status and health say it.

use std::collections::{BTreeMap, BTreeSet};

use aegis_policy::{Policy, PolicySet};
use aegis_trust::{KeyId, Moment};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    SignedPolicy, clock,
    store::{Installed, TrustStore},
};
use crate::{config::AllowUnsigned, context::Context, provenance::Log};

/// Who signed a policy, and what they said; kept when it was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Signature {
    schema: u32,
    name: String,
    policy_digest: String,
    /// SHA-256 of what was signed.
    pub(crate) bundle_digest: String,
    /// Ids of the keys.
    pub(crate) signers: BTreeSet<String>,
    /// The version of the root that let them.
    pub(crate) root_version: u32,
    /// When it was accepted on this node.
    pub(crate) accepted: String,
    pub(crate) source: Option<String>,
    pub(crate) commit: Option<String>,
    pub(crate) author: Option<String>,
}

/// By the name of the policy.
pub(crate) type Signatures = BTreeMap<String, Signature>;

impl Signature {
    pub(crate) fn of(signed: &SignedPolicy, now: Moment) -> Self {
        let bundle = signed.bundle();
        let content = bundle.content();
        let source = content.source.as_ref();
        Self {
            schema: 1,
            name: content.name.clone(),
            policy_digest: content.policy_digest().to_string(),
            bundle_digest: bundle.payload_digest().to_string(),
            signers: bundle.signers().iter().map(KeyId::to_string).collect(),
            root_version: bundle.root_version(),
            accepted: now.to_string(),
            source: source.map(|source| source.repository.clone()),
            commit: source.and_then(|source| source.commit.clone()),
            author: content.author.clone(),
        }
    }

    pub(super) fn is_of(&self, policy: &Policy, digest: &str) -> bool {
        self.name == policy.name && self.policy_digest == digest
    }

    /// Where the text is from, as those who signed say.
    pub(crate) fn origin(&self) -> Option<String> {
        let source = self.source.as_ref()?;
        let commit = self.commit.as_ref();
        Some(commit.map_or_else(|| source.clone(), |commit| format!("{source} at {commit}")))
    }

    fn keys(&self) -> BTreeSet<KeyId> {
        self.signers.iter().filter_map(|id| KeyId::read(id)).collect()
    }
}

/// What there is to say about trust on this node.
#[derive(Clone, Debug)]
pub(crate) struct Summary {
    installed: Installed,
    allowed: AllowUnsigned,
    expired: bool,
    /// Policies in force that nobody signed.
    unsigned: Vec<String>,
    /// Policies in force whose signers could not sign them any more.
    revoked: Vec<String>,
}

impl Summary {
    pub(crate) fn of(
        context: &Context,
        set: &PolicySet,
        signatures: &Signatures,
    ) -> anyhow::Result<Self> {
        let store = TrustStore::new(context);
        let installed = store.installed(&Log::new(context))?;
        let root = installed.root().ok();
        let signed = |name: &str| signatures.get(name);
        let names = || set.iter().map(|(policy, _)| policy.name.as_str());
        let unsigned = names().filter(|name| signed(name).is_none()).map(str::to_owned);
        let revoked = names().filter(|name| {
            let keys = signed(name).map(Signature::keys);
            keys.zip(root).is_some_and(|(keys, root)| !root.trusts(name, &keys))
        });
        let expired = match root {
            Some(root) => store.floors()?.time(clock()) >= root.root().expires,
            None => false,
        };
        Ok(Self {
            unsigned: unsigned.collect(),
            revoked: revoked.map(str::to_owned).collect(),
            expired,
            allowed: context.config.allow_unsigned,
            installed,
        })
    }

    /// A line each.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Installed::Lost { why, .. } = &self.installed {
            warnings.push(format!("the trust root is lost, and no policy is accepted: {why}"));
        }
        if self.expired {
            warnings.push("the trust root has expired: no new policy is accepted".to_owned());
        }
        warnings.extend(self.unsigned.iter().map(|name| format!("{name} is not signed")));
        warnings.extend(self.revoked.iter().map(|name| {
            format!("revoked_active: {name} is in force, and its signers may sign it no more")
        }));
        warnings
    }

    /// For a program.
    pub(crate) fn json(&self) -> Value {
        let (root, lost) = match &self.installed {
            Installed::None => (Value::Null, None),
            Installed::Root(root) => {
                let expires = root.root().expires.to_string();
                let root = json!({
                    "version": root.root().version,
                    "fingerprint": root.fingerprint().to_string(),
                    "expires": expires,
                    "expired": self.expired,
                });
                (root, None)
            }
            Installed::Lost { why, .. } => (Value::Null, Some(why)),
        };
        json!({
            "signatures_required": self.required(),
            "root": root,
            "root_lost": lost,
            "unsigned_active": self.unsigned,
            "revoked_active": self.revoked,
        })
    }

    /// In a line, for a person.
    pub(crate) fn line(&self) -> String {
        let root = match &self.installed {
            Installed::None => "no trust root".to_owned(),
            Installed::Root(root) => {
                let root = root.root();
                let end = if self.expired { "expired at" } else { "valid until" };
                format!("trust root version {}, {end} {}", root.version, root.expires)
            }
            Installed::Lost { .. } => "the trust root is LOST".to_owned(),
        };
        let required = if self.required() { "are required" } else { "are not required" };
        format!("{root}; signatures {required}")
    }

    fn required(&self) -> bool {
        TrustStore::unsigned(&self.installed, self.allowed).is_err()
    }
}
