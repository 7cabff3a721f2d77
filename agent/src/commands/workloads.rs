// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `workloads`: which cgroups each workload has now, and how many processes.

use anyhow::Context as _;
use serde_json::json;

use crate::{
    cgroups,
    context::Context,
    output::Answer,
    report::{processes, workloads},
    view,
};

pub(super) fn run(context: &Context) -> anyhow::Result<Answer> {
    let view = view::in_force(context)?;
    let found = match &view.active {
        Some(active) => {
            let mount = view.facts.cgroup2.as_ref();
            let mount = mount.context("failed to find the cgroup2 hierarchy")?;
            workloads(&active.known()?.1, &cgroups::all(mount).all)
        }
        None => Vec::new(),
    };
    let mut lines = Vec::new();
    for workload in &found {
        lines.push(format!(
            "{} ({}): {}, {}",
            workload.workload,
            workload.policy,
            workload.patterns.join(", "),
            if workload.cgroups.is_empty() {
                "no cgroup yet".to_owned()
            } else {
                processes(workload.processes)
            }
        ));
        lines.extend(workload.cgroups.iter().map(|cgroup| format!("  {cgroup}")));
    }
    if lines.is_empty() {
        lines.push("no policy in force names a workload".to_owned());
    }
    Ok(Answer { text: lines.join("\n"), json: json!({ "workloads": found }), exit: 0 })
}
