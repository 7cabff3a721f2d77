// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who may say what is enforced, and what follows from it.
//!
//! ```text
//! bytes ─Envelope::read─▶ Envelope ─TrustRoot::verify─▶ Verified<Bundle> ─Floors::admit─▶ apply
//!                            └─TrustRoot::{first, next}─▶ TrustRoot
//! ```
//!
//! Small enough to be read in one sitting, and pure: nothing here reads a file, knows a clock or draws
//! a random number. Whoever asks hands in bytes and the time. Read it in this order: `json` (what a
//! document may look like), `envelope` (what is signed), `key`, `bundle` and `root` (what is said),
//! `verified` (who is believed), `floors` (what a node has believed before).
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing)]

mod bundle;
mod digest;
mod envelope;
mod floors;
mod json;
mod key;
mod moment;
pub mod provenance;
mod root;
mod verified;

pub use bundle::{Bundle, MOST_TEXT_BYTES, Source};
pub use digest::Digest;
pub use envelope::{AttachError, Envelope, Kind, MOST_SIGNATURES};
pub use floors::{Accepted, Admission, Floor, Floors, Inadmissible, MOST_STEP};
pub use json::Malformed;
pub use key::{KeyError, KeyId, PublicKey, SecretKey};
pub use moment::Moment;
pub use root::{Key, NAMES, Names, Role, Root};
pub use verified::{RootError, TrustRoot, Untrusted, Verified};
