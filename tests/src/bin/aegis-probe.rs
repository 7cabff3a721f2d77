// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Does what a test asks for, one line each, from inside of a workload's cgroup.
#![forbid(unsafe_code)]

use std::io::{BufRead as _, Write as _};

use aegis_tests::operation::{Operation, Tried};

fn main() -> std::io::Result<()> {
    let mut answers = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let answer = match Operation::from_line(&line?).perform() {
            Tried::Allowed => serde_json::json!({ "allowed": true }),
            Tried::Refused(number) => serde_json::json!({ "refused": number }),
            Tried::CouldNotTry(why) => serde_json::json!({ "could_not_try": why }),
        };
        writeln!(answers, "{answer}")?;
        answers.flush()?;
    }
    Ok(())
}
