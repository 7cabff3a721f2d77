// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `perf import`: takes over what a benchmark measured, to be shown with its objectives and its age.

use anyhow::Context as _;
use serde_json::json;

use crate::{cli, context::Context, failure::Refusal, output::Answer, perf::Perf};

pub(super) fn run(context: &Context, args: &cli::Perf) -> anyhow::Result<Answer> {
    let cli::PerfVerb::Import { file } = &args.what;
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("failed to read {}", file.display()))?;
    let perf = Perf::read(&text).map_err(|wrong| {
        Refusal::new("BAD_PERF", format!("{} is not taken: {wrong:#}", file.display()))
            .hint("`cargo xtask bench --perf FILE` writes one; docs/operations.md has the fields")
    })?;
    perf.record(context)?;
    let json = json!({
        "changed": true,
        "objectives_met": perf.met(),
        "age_seconds": perf.age(),
        "operations": perf.operations.len(),
    });
    Ok(Answer { text: perf.told(), json, exit: 0 })
}
