// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who may say what is enforced, on this node: files and clock for `aegis_trust`, which decides.
//!
//! ```text
//!   store      the root that binds this node, what was accepted; in the state directory
//!   candidate  a policy that may be applied: signed, or knowingly not
//!   gate       what apply asks about candidates, and tells when they are in force
//!   keys       keys and signatures in files
//!   when       what a person writes for a moment
//! ```

mod candidate;
mod gate;
pub(crate) mod keys;
mod standing;
mod store;
mod when;

use aegis_trust::{Inadmissible, Moment, RootError, Untrusted};

use crate::{failure::Refusal, time};

pub(crate) use candidate::{Candidate, SignedPolicy, UnsignedPolicy};
pub(crate) use gate::Gate;
pub(crate) use standing::{Signature, Signatures, Summary};
pub(crate) use store::{Installed, TrustStore};
pub(crate) use when::from_now;

/// The clock of this host.
pub(crate) fn clock() -> Moment {
    Moment::from_seconds(time::now())
}

/// What `aegis_trust` refuses, with what it is about.
pub(crate) trait Refused: std::error::Error + Sized {
    /// Stable, for programs.
    fn code(&self) -> &'static str;
    /// What to do.
    fn hint(&self) -> &'static str;

    /// As a refusal of a command.
    fn about(&self, what: impl std::fmt::Display) -> Refusal {
        let mut message = format!("{what}: {self}");
        let mut cause = self.source();
        while let Some(error) = cause {
            message.push_str(&format!(": {error}"));
            cause = error.source();
        }
        Refusal::new(self.code(), message).hint(self.hint())
    }
}

macro_rules! refused {
    ($($error:ty),*) => {$(
        impl Refused for $error {
            fn code(&self) -> &'static str {
                Self::code(self)
            }

            fn hint(&self) -> &'static str {
                Self::hint(self)
            }
        }
    )*};
}

refused!(Untrusted, RootError, Inadmissible);

/// Why something is not even what it should be.
pub(crate) fn malformed(what: impl std::fmt::Display, error: &aegis_trust::Malformed) -> Refusal {
    let mut message = format!("{what}: {error}");
    if let Some(cause) = std::error::Error::source(error) {
        message.push_str(&format!(": {cause}"));
    }
    Refusal::new("MALFORMED", message)
}

/// The name and version that a policy's text says.
pub(crate) fn named(text: &str) -> Result<(String, u32), String> {
    let source = aegis_policy::Source { name: "the text", text };
    let (policy, diagnostics) = aegis_policy::parse(source);
    match policy {
        Some(policy) => Ok((policy.name, policy.version)),
        None => Err(diagnostics.first().map_or_else(String::new, |first| first.message.clone())),
    }
}

const _: () = {
    // A bundle must never hold what would not be read as a policy.
    assert!(aegis_trust::MOST_TEXT_BYTES <= aegis_policy::limits::TEXT_BYTES);
};
