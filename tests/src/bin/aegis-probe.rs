// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Does what a test asks for, one line each, from inside of a workload's cgroup.
#![forbid(unsafe_code)]

use std::io::{BufRead as _, Write as _};

use aegis_tests::{
    history::{now, watch},
    operation::{Operation, Tried},
};
use serde_json::{Value, json};

fn main() -> std::io::Result<()> {
    let mut answers = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let answer = match line.split_once(' ') {
            Some(("try", operation)) => of(&Operation::from_line(operation).try_out()),
            Some(("all", operations)) => {
                let operations = operations.split(',').map(Operation::from_line);
                json!({ "all": operations.map(|each| of(&each.perform())).collect::<Vec<_>>() })
            }
            Some(("watch", order)) => watched(order),
            Some((_, operation)) => of(&Operation::from_line(operation).perform()),
            None => of(&Tried::CouldNotTry("no operation".to_owned())),
        };
        writeln!(answers, "{answer}")?;
        answers.flush()?;
    }
    Ok(())
}

fn of(tried: &Tried) -> Value {
    match tried {
        Tried::Allowed => json!({ "allowed": true }),
        Tried::Refused(number) => json!({ "refused": number }),
        Tried::CouldNotTry(why) => json!({ "could_not_try": why }),
    }
}

/// Milliseconds, then operations.
fn watched(order: &str) -> Value {
    let (time, operations) = order.split_once(' ').unwrap_or_default();
    let operations: Vec<_> = operations.split(',').map(Operation::from_line).collect();
    let end = now() + time.parse::<u64>().unwrap_or_default() * 1_000_000;
    json!({ "watched": watch(&operations, end) })
}
