// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the crate promises, from outside: only what it hands out can be used here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod ed25519;
mod flips;
mod forgery;
mod lifecycle;
mod versions;
mod world;
