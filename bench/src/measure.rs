// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The process that measures: enters its cgroup, makes sure of what holds for it, and runs batches.
//!
//! A process of its own for each row, so that no row inherits anything from the one before. It
//! pauses after each round until its standard input says go on: meanwhile events are taken out.

use std::{
    ffi::CString,
    fs,
    io::{BufRead as _, Write as _},
};

use anyhow::{Context as _, bail};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::{
    operation::{Operation, Prepared, open},
    states,
};

/// What to measure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// What to do, and to what; nothing but the witness is looked at without.
    pub(crate) task: Option<(Operation, String)>,
    /// Directory of the cgroup to enter.
    pub(crate) cgroup: String,
    /// A file that must be denied, or must not be.
    pub(crate) witness: String,
    pub(crate) witness_is_denied: bool,
    /// Whether the process puts itself under Landlock.
    pub(crate) landlock: bool,
}

/// Batches in a round.
pub(crate) const ROUND: u32 = 5;
/// Operations before the first that counts, at the least.
const WARM_UP: u32 = 1_000;
/// Operations that count, at the least: less than this and chance has a say where much is done.
const COUNTING: u32 = 200;
/// Rounds that count, at the least.
const ROUNDS: u32 = 10;

/// How many rounds an operation takes, those that warm up included.
pub(crate) const fn rounds(operation: Operation) -> u32 {
    let counting = COUNTING.div_ceil(ROUND * operation.batch());
    warm_up_rounds(operation) + if counting > ROUNDS { counting } else { ROUNDS }
}

/// How many of them do not count.
pub(crate) const fn warm_up_rounds(operation: Operation) -> u32 {
    WARM_UP.div_ceil(ROUND * operation.batch())
}

/// Follows an order, in JSON; writes one line of nanoseconds by batch for each round.
pub(crate) fn run(order: &str) -> anyhow::Result<()> {
    let order: Order = serde_json::from_str(order).context("failed to read the order")?;
    fs::write(format!("{}/cgroup.procs", order.cgroup), "0")
        .with_context(|| format!("failed to enter the cgroup {}", order.cgroup))?;
    check_witness(&order)?;
    if order.landlock {
        states::restrict_by_landlock()?;
    }
    let Some((operation, path)) = &order.task else { return Ok(()) };
    let prepared = Prepared::new(*operation, path)?;
    let mut go_on = std::io::stdin().lock();
    let mut answer = std::io::stdout().lock();
    let mut line = String::new();
    for _ in 0..rounds(*operation) {
        line.clear();
        if go_on.read_line(&mut line)? == 0 {
            bail!("nobody waits for the measurement any more");
        }
        let mut batches = [0_u128; ROUND as usize];
        for took in &mut batches {
            *took = prepared.batch()?;
        }
        line = batches.map(|took| took.to_string()).join(" ");
        line.push('\n');
        answer.write_all(line.as_bytes())?;
        answer.flush()?;
    }
    Ok(())
}

/// A number is worth nothing if the policy is not in force where it should be, or is where it should not.
fn check_witness(order: &Order) -> anyhow::Result<()> {
    let path = CString::new(order.witness.as_str()).context("failed to use a path with NUL")?;
    match (open(&path), order.witness_is_denied) {
        (Ok(()), false) | (Err(Errno::PERM), true) => Ok(()),
        (Ok(()), true) => bail!("{} was not denied, so nothing is measured", order.witness),
        (Err(Errno::PERM), false) => bail!("{} was denied, so nothing is measured", order.witness),
        (Err(other), _) => Err(other).with_context(|| format!("failed to open {}", order.witness)),
    }
}
