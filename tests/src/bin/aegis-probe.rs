// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Does what a test asks for, one line each, from inside of a workload's cgroup.
#![forbid(unsafe_code)]

use std::io::{BufRead as _, Write as _};

use aegis_tests::operation::{Operation, Tried};

fn main() -> std::io::Result<()> {
    let mut answers = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let tried = match line.split_once(' ') {
            Some(("try", operation)) => Operation::from_line(operation).try_out(),
            Some((_, operation)) => Operation::from_line(operation).perform(),
            None => Tried::CouldNotTry("no operation".to_owned()),
        };
        let answer = match tried {
            Tried::Allowed => serde_json::json!({ "allowed": true }),
            Tried::Refused(number) => serde_json::json!({ "refused": number }),
            Tried::CouldNotTry(why) => serde_json::json!({ "could_not_try": why }),
        };
        writeln!(answers, "{answer}")?;
        answers.flush()?;
    }
    Ok(())
}
