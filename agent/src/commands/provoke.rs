// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The hidden verb that a proof starts: this process goes into the scratch cgroup, and is denied.

use serde_json::json;

use crate::{cli, output::Answer, proof};

pub(super) fn run(args: &cli::Probe) -> anyhow::Result<Answer> {
    let answers = proof::probe(&args.neutral, &args.scratch, &args.files)?;
    // An array, for the parent alone; it is no answer to anybody else.
    Ok(Answer { text: json!(answers).to_string(), json: json!({ "answers": answers }), exit: 0 })
}
