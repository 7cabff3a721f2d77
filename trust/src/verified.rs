// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The boundary: bytes from anywhere go in, and come out as [`Verified`] or not at all.
//!
//! ```text
//! bytes ─Envelope::read─▶ Envelope ─TrustRoot::verify─▶ Verified<Bundle> ─Floors::admit─▶ apply
//!                            └─TrustRoot::{first, next}─▶ TrustRoot
//! ```
//!
//! Signatures are checked first, over the bytes as they came; only then is the payload looked at.

use std::collections::BTreeSet;

use crate::{Bundle, Digest, Envelope, KeyId, Kind, Malformed, Moment, Root, root::Role};

/// What enough of those who may sign it have signed.
///
/// There is no way to make one but [`TrustRoot::verify`]:
///
/// ```
/// use aegis_trust::{Bundle, Verified};
/// fn name(bundle: &Verified<Bundle>) -> &str { &bundle.content().name }
/// ```
///
/// Its fields are nobody else's:
///
/// ```compile_fail,E0451
/// use aegis_trust::{Bundle, Verified};
/// fn forge(content: Bundle, other: Verified<Bundle>) -> Verified<Bundle> {
///     Verified { content, ..other }
/// }
/// ```
///
/// its content cannot be changed:
///
/// ```compile_fail,E0594
/// use aegis_trust::{Bundle, Verified};
/// fn forge(mut bundle: Verified<Bundle>) { bundle.content().version = 2; }
/// ```
///
/// and neither can it be made from what nobody has checked, or from nothing:
///
/// ```compile_fail,E0277
/// use aegis_trust::{Bundle, Verified};
/// fn forge(content: Bundle) -> Verified<Bundle> { content.into() }
/// ```
///
/// ```compile_fail,E0277
/// use aegis_trust::{Bundle, Verified};
/// fn is_made_from_nothing<T: Default>() {}
/// is_made_from_nothing::<Verified<Bundle>>();
/// ```
#[derive(Clone, Debug)]
pub struct Verified<T> {
    content: T,
    payload: Digest,
    signers: BTreeSet<KeyId>,
    root_version: u32,
    root_expires: Moment,
    minimum: u32,
}

impl<T> Verified<T> {
    /// What was signed.
    pub const fn content(&self) -> &T {
        &self.content
    }

    /// SHA-256 of the bytes that were signed: `bundle_digest`.
    pub const fn payload_digest(&self) -> Digest {
        self.payload
    }

    /// Those who may sign it, and did.
    pub const fn signers(&self) -> &BTreeSet<KeyId> {
        &self.signers
    }

    /// The version of the trust root that says so.
    pub const fn root_version(&self) -> u32 {
        self.root_version
    }

    /// When that root expires.
    pub(crate) const fn root_expires(&self) -> Moment {
        self.root_expires
    }

    /// The lowest version that this root accepts.
    pub(crate) const fn minimum(&self) -> u32 {
        self.minimum
    }
}

/// The trust root that binds a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustRoot {
    root: Root,
    fingerprint: Digest,
}

impl TrustRoot {
    /// The root whose fingerprint somebody knows: the first one of a node, or the one that it has.
    ///
    /// # Errors
    /// [`RootError`]: it is another one, or not signed by enough of its own keys.
    pub fn first(envelope: &Envelope, fingerprint: Digest) -> Result<Self, RootError> {
        let found = envelope.payload_digest();
        if found != fingerprint {
            return Err(RootError::OtherFingerprint { found, wanted: fingerprint });
        }
        Self::signed_by_itself(envelope)
    }

    /// The successor of this root.
    ///
    /// # Errors
    /// [`RootError`]: it is not signed by enough keys of this root and of its own, is not the next
    /// version, or takes back a revocation.
    pub fn next(&self, envelope: &Envelope) -> Result<Self, RootError> {
        let have = self.signers(envelope, &self.root.root).len();
        let need = self.root.root.threshold;
        if have < need as usize {
            return Err(RootError::TooFewOld { version: self.root.version, have, need });
        }
        let next = Self::signed_by_itself(envelope)?;
        if Some(next.root.version) != self.root.version.checked_add(1) {
            return Err(RootError::NotNext { now: self.root.version, next: next.root.version });
        }
        match self.root.revoked.difference(&next.root.revoked).next() {
            Some(key) => Err(RootError::Revived { key: *key }),
            None => Ok(next),
        }
    }

    /// What it says.
    pub const fn root(&self) -> &Root {
        &self.root
    }

    /// SHA-256 of its payload: what the first installation asks for.
    pub const fn fingerprint(&self) -> Digest {
        self.fingerprint
    }

    /// The bundle in an envelope, if enough of those to whom its name is delegated signed it.
    ///
    /// `read` understands the text of a policy, and says its name and version. Whether the bundle
    /// may be applied here and now is asked of [`Floors::admit`](crate::Floors::admit).
    ///
    /// # Errors
    /// [`Untrusted`].
    pub fn verify(
        &self,
        envelope: &Envelope,
        read: impl FnOnce(&str) -> Result<(String, u32), String>,
    ) -> Result<Verified<Bundle>, Untrusted> {
        if envelope.kind() != Kind::Bundle {
            return Err(Untrusted::NoBundle);
        }
        let signers = envelope.signers(self.root.keys.values().map(|key| &key.public));
        if signers.is_empty() {
            let revoked = self.revoked_among(envelope);
            return Err(Untrusted::NobodyKnown { root: self.root.version, revoked });
        }
        let content = Bundle::read(envelope.payload())?;
        let name = &content.name;
        let Some((names, role)) = self.root.delegation(name) else {
            return Err(Untrusted::NotDelegated { name: name.clone(), root: self.root.version });
        };
        let signers: BTreeSet<KeyId> = signers.intersection(&role.keys).copied().collect();
        if signers.len() < role.threshold as usize {
            return Err(Untrusted::TooFew {
                name: name.clone(),
                names: names.as_str().to_owned(),
                have: signers.len(),
                need: role.threshold,
                revoked: self.revoked_among(envelope),
            });
        }
        match read(&content.text) {
            Err(reason) => return Err(Untrusted::NoPolicy { reason }),
            Ok(found) if found != (content.name.clone(), content.version) => {
                let said = (content.name, content.version);
                return Err(Untrusted::Disagrees { said, found });
            }
            Ok(_) => {}
        }
        Ok(Verified {
            minimum: self.root.minimums.get(name).copied().unwrap_or(0),
            content,
            payload: envelope.payload_digest(),
            signers,
            root_version: self.root.version,
            root_expires: self.root.expires,
        })
    }

    /// Whether these keys together could still sign a policy of this name.
    pub fn trusts(&self, name: &str, signers: &BTreeSet<KeyId>) -> bool {
        self.root.delegation(name).is_some_and(|(_, role)| {
            signers.intersection(&role.keys).count() >= role.threshold as usize
        })
    }

    fn signed_by_itself(envelope: &Envelope) -> Result<Self, RootError> {
        if envelope.kind() != Kind::Root {
            return Err(RootError::NoRoot);
        }
        // Its keys are in it. Whether it is believed does not follow from this.
        let root = Root::read(envelope.payload())?;
        let new = Self { root, fingerprint: envelope.payload_digest() };
        let have = new.signers(envelope, &new.root.root).len();
        let need = new.root.root.threshold;
        if have < need as usize {
            return Err(RootError::TooFewNew { version: new.root.version, have, need });
        }
        Ok(new)
    }

    fn signers(&self, envelope: &Envelope, role: &Role) -> BTreeSet<KeyId> {
        let keys = role.keys.iter().filter_map(|id| self.root.keys.get(id));
        envelope.signers(keys.map(|key| &key.public))
    }

    fn revoked_among(&self, envelope: &Envelope) -> Vec<KeyId> {
        let claimed = envelope.claimed_signers().filter_map(KeyId::read);
        claimed.filter(|id| self.root.revoked.contains(id)).collect()
    }
}

/// Why a bundle is not believed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Untrusted {
    /// The envelope holds something else.
    #[error("it is no bundle")]
    NoBundle,
    /// No key of the root made any of its signatures.
    #[error("no signature of it is by a key of the trust root (version {root}){}", told(.revoked))]
    NobodyKnown {
        /// The version of the root.
        root: u32,
        /// Keys that are revoked and that it says signed it.
        revoked: Vec<KeyId>,
    },
    /// It is signed, and not what a bundle looks like.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Nobody may sign policies of this name.
    #[error("the trust root (version {root}) lets nobody sign policy {name}")]
    NotDelegated {
        /// The policy.
        name: String,
        /// The version of the root.
        root: u32,
    },
    /// Not enough of those who may.
    #[error(
        "policy {name} needs signatures of {need} of the keys for {names:?}, and has \
         {have}{}", told(.revoked)
    )]
    TooFew {
        /// The policy.
        name: String,
        /// The delegation that counts for it.
        names: String,
        /// How many signed.
        have: usize,
        /// How many it takes.
        need: u32,
        /// Keys that are revoked and that it says signed it.
        revoked: Vec<KeyId>,
    },
    /// The text in it is no policy.
    #[error("the text in it is no policy: {reason}")]
    NoPolicy {
        /// The first fault.
        reason: String,
    },
    /// The statement says one thing and the text another.
    #[error(
        "it says that it is policy {} version {}, and its text is policy {} version {}",
        .said.0, .said.1, .found.0, .found.1
    )]
    Disagrees {
        /// Name and version beside the text.
        said: (String, u32),
        /// Those in the text.
        found: (String, u32),
    },
}

impl Untrusted {
    /// Stable, for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoBundle | Self::Malformed(_) | Self::NoPolicy { .. } => "BUNDLE_MALFORMED",
            Self::NobodyKnown { .. } => "SIGNER_UNKNOWN",
            Self::NotDelegated { .. } => "NOT_DELEGATED",
            Self::TooFew { .. } => "SIGNATURES_TOO_FEW",
            Self::Disagrees { .. } => "BUNDLE_DISAGREES",
        }
    }

    /// What the operator can do.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NobodyKnown { .. } | Self::TooFew { .. } => {
                "`aegisbpf trust show` lists the keys that count; `aegisbpf sign BUNDLE --key K` adds \
                 a signature"
            }
            Self::NotDelegated { .. } => {
                "delegate the name in a new root: `aegisbpf trust propose --delegate NAME=KEY`"
            }
            _ => "sign the policy again with `aegisbpf sign`",
        }
    }
}

/// Why a root does not bind this node.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootError {
    /// The envelope holds something else.
    #[error("it is no trust root")]
    NoRoot,
    /// It is another one than was asked for.
    #[error("its fingerprint is sha256:{found}, and not sha256:{wanted}")]
    OtherFingerprint {
        /// What it is.
        found: Digest,
        /// What it should be.
        wanted: Digest,
    },
    /// The root before it does not let these sign.
    #[error("it needs signatures of {need} root keys of version {version}, and has {have}")]
    TooFewOld {
        /// The version in force.
        version: u32,
        /// How many signed.
        have: usize,
        /// How many it takes.
        need: u32,
    },
    /// It does not let these sign itself.
    #[error(
        "it needs signatures of {need} of its own root keys (version {version}), and has {have}"
    )]
    TooFewNew {
        /// Its own version.
        version: u32,
        /// How many signed.
        have: usize,
        /// How many it takes.
        need: u32,
    },
    /// Roots come one after the other.
    #[error("its version is {next}, and only the one after {now} can follow")]
    NotNext {
        /// The version in force.
        now: u32,
        /// Its own.
        next: u32,
    },
    /// What is revoked stays revoked.
    #[error("key {key} is revoked, and it leaves that out")]
    Revived {
        /// The key.
        key: KeyId,
    },
    /// It is not what a root looks like.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

impl RootError {
    /// Stable, for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoRoot | Self::Malformed(_) => "ROOT_MALFORMED",
            Self::OtherFingerprint { .. } => "ROOT_FINGERPRINT",
            Self::TooFewOld { .. } | Self::TooFewNew { .. } => "ROOT_SIGNATURES_TOO_FEW",
            Self::NotNext { .. } => "ROOT_NOT_NEXT",
            Self::Revived { .. } => "ROOT_REVIVES_KEY",
        }
    }

    /// What the operator can do.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::OtherFingerprint { .. } => {
                "ask whoever made the root for its fingerprint, by another way than you got the file"
            }
            Self::TooFewOld { .. } | Self::TooFewNew { .. } => {
                "`aegisbpf trust sign ROOT --key K` adds a signature; `aegisbpf trust show ROOT` lists \
                 the keys"
            }
            Self::NotNext { .. } => "install the roots in between first, one after the other",
            _ => "make it with `aegisbpf trust propose`",
        }
    }
}

fn told(revoked: &[KeyId]) -> String {
    match revoked.first() {
        Some(key) => format!("; key {key} is revoked"),
        None => String::new(),
    }
}
