// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `aegisbpf`: the command line, and the agent that runs in the foreground.
//!
//! ```text
//!   commands/   one verb, one file
//!   apply       verify → compile → attach → resolve → fill → prove → flip → prove → record
//!   bindings    what stood on the ways to objects, and whether it still does
//!   posture     facts and proof → what this node really does; pure
//! ```
//!
//! What is enforced is in pinned maps, what it was made from in one directory; so every command
//! works alone, whether an agent runs or not.
#![forbid(unsafe_code)]

mod apply;
mod bindings;
mod capabilities;
mod cgroups;
mod changes;
mod child;
mod cli;
mod commands;
mod config;
mod confine;
mod confirmation;
mod context;
mod coverage;
mod daemon;
mod decoder;
mod distribution;
#[cfg(test)]
mod documented;
mod emergency;
mod event_log;
mod failure;
mod files;
mod gate;
mod handover;
mod history;
mod host;
mod installed;
mod instances;
mod journal;
mod late;
mod listener;
mod lock;
mod lockout;
mod looker;
mod marks;
mod metrics;
mod output;
mod perf;
mod posture;
mod proof;
mod provenance;
mod reach;
mod repair;
mod report;
mod requirements;
mod scan;
mod service;
mod starts;
mod state;
mod steps;
mod switched_off;
mod time;
mod took_along;
mod transition;
mod trust;
mod view;
mod withdrawn;

use std::process::ExitCode;

use clap::Parser as _;

use crate::{
    cli::Cli,
    output::{Answer, Output},
};

fn main() -> ExitCode {
    match aegis_fault::begin() {
        Ok(None) => {}
        Ok(Some(text)) => {
            let names = Answer { text, json: serde_json::Value::Null, exit: 0 };
            return Output { json: false }.answer(&names).into();
        }
        Err(what) => return Output { json: false }.failure(&anyhow::Error::msg(what)).into(),
    }
    let cli = Cli::parse();
    let output = Output { json: cli.json };
    let code = match commands::run(&cli, &output) {
        Ok(answer) => output.answer(&answer),
        Err(error) => output.failure(&error),
    };
    ExitCode::from(code)
}
