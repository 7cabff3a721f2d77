// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What must hold on every kernel. Run in guests by `cargo xtask test`; each test in a process of its own.
//!
//! Modules called `denial` hold the tests that show denials: in the null run, where nothing enforces, each of them must
//! fail. No test is left out at run time: where it cannot do its work, it fails.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test"
)]

mod access;
mod agent;
mod boot_lockdown;
mod boot_systemd;
mod boot_without_bpf_lsm;
mod bypass;
mod config;
mod deadline;
mod documents;
mod emergency;
mod emergency_command;
mod failure;
mod faults;
mod filesystem;
mod handover;
mod hooks;
mod instances;
mod layers;
mod left;
mod life;
mod links;
mod matrix;
mod model;
mod mounts;
mod moves;
mod name;
mod object;
mod posture;
mod preamble;
mod provenance;
mod race;
mod resolving;
mod rollback;
mod room;
mod scope;
mod start;
mod stopped;
mod telemetry;
mod trust;
mod workload;
