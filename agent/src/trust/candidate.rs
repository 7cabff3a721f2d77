// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A policy that apply takes. There is no way to make one but these: by what was verified, or by the
//! permission to do without.

use aegis_policy::{Policy, Source, parse};
use aegis_trust::{Bundle, Envelope, TrustRoot, Verified};

use super::{Refused as _, named, store::Unsigned};
use crate::failure::Refusal;

/// A policy that may be applied, and on whose word.
#[derive(Clone, Debug)]
pub(crate) enum Candidate {
    /// On that of those who signed it and may.
    Signed(Box<SignedPolicy>),
    /// On nobody's.
    Unsigned(UnsignedPolicy),
}

impl Candidate {
    pub(crate) fn policy(&self) -> &Policy {
        match self {
            Self::Signed(signed) => &signed.policy,
            Self::Unsigned(unsigned) => &unsigned.policy,
        }
    }

    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Signed(signed) => &signed.bundle.content().text,
            Self::Unsigned(unsigned) => &unsigned.text,
        }
    }

    /// What was verified, if it was.
    pub(crate) fn signed(&self) -> Option<&SignedPolicy> {
        match self {
            Self::Signed(signed) => Some(signed),
            Self::Unsigned(_) => None,
        }
    }
}

/// A policy out of a bundle that enough of those who may sign it have signed.
#[derive(Clone, Debug)]
pub(crate) struct SignedPolicy {
    policy: Policy,
    bundle: Verified<Bundle>,
    file: Vec<u8>,
}

impl SignedPolicy {
    /// The policy in an envelope; `what` is where it comes from.
    pub(crate) fn verify(
        root: &TrustRoot,
        envelope: &Envelope,
        what: &str,
    ) -> anyhow::Result<Self> {
        let bundle = root.verify(envelope, named).map_err(|error| error.about(what))?;
        let text = &bundle.content().text;
        let (policy, _) = parse(Source { name: what, text });
        let policy = policy.ok_or_else(|| {
            Refusal::new("BUNDLE_MALFORMED", format!("{what}: the text in it is no policy"))
        })?;
        Ok(Self { policy, bundle, file: envelope.write() })
    }

    pub(crate) const fn bundle(&self) -> &Verified<Bundle> {
        &self.bundle
    }

    /// The envelope, as it is kept.
    pub(super) fn file(&self) -> &[u8] {
        &self.file
    }
}

/// A policy that nobody signed, and that may be applied all the same.
#[derive(Clone, Debug)]
pub(crate) struct UnsignedPolicy {
    policy: Policy,
    text: String,
}

impl UnsignedPolicy {
    /// Only who has the permission makes one.
    pub(crate) fn nobody_signed(_: &Unsigned, policy: Policy, text: String) -> Self {
        Self { policy, text }
    }
}
