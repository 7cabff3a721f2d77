// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who may say what is enforced, and what follows from it.
//!
//! Small enough to be read in one sitting, and pure: nothing here reads a file, knows a clock or draws
//! a random number. Whoever asks hands in bytes and the time.
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing)]

mod digest;

pub use digest::Digest;
