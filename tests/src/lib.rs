// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What tests on a real kernel stand on.
//!
//! ```text
//!   Case        a directory, a cgroup and a policy of its own; judges what came of operations
//!   Process     the probe: does operations inside of a cgroup
//!   Operation   one way to touch a file
//!   aegisbpf    the program under test, and its answer
//! ```
//!
//! An answer is one of four: allowed; denied by us (EPERM, and an event of the expected rule); denied by somebody else;
//! could not be tried. Every denial is held against the same operation by a process outside.
//!
//! Nothing here but `amnesia` knows how AegisBPF works: tests use what operators use.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what cannot do its work fails the test that asked for it"
)]

pub mod agent;
pub mod amnesia;
mod automount;
pub mod case;
mod change;
pub mod config;
pub mod documents;
pub mod history;
pub mod machine;
pub mod model;
mod mounting;
pub mod operation;
pub mod policy;
pub mod process;
pub mod program;
mod routes;
pub mod runbook;
mod silent;

pub use automount::Automount;
pub use case::Case;
pub use policy::{Policy, Rule};
pub use process::Process;
pub use program::{Answer, aegisbpf};
pub use silent::Silent;
