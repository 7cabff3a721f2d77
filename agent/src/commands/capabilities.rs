// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `capabilities`: what this host can do, by trying.

use serde_json::json;

use crate::{
    capabilities::{self, Capabilities},
    context::Context,
    output::Answer,
};

pub(super) fn run(context: &Context) -> Answer {
    let found = Capabilities::tried(context);
    let mut lines = Vec::new();
    let capable = found.blockers.is_empty() && found.met();
    let answer = match (capable, found.facts.root) {
        (true, _) => "this host can enforce",
        (false, true) => "this host cannot enforce",
        (false, false) => "whether this host can enforce is only seen as root",
    };
    lines.push(format!("{answer}: Linux {}, {}", found.facts.kernel, found.host.name));
    for needed in &found.requirements {
        let met = match needed.met {
            Some(true) => "yes    ",
            Some(false) => "NO     ",
            None => "unknown",
        };
        lines.push(format!("  {met} {:<16} {}", needed.requirement, needed.found));
        if needed.met == Some(false) {
            lines.push(format!("          {} fix: {}", needed.code, needed.fix));
        }
    }
    lines.extend(found.warnings.iter().map(|warning| format!("  warning: {warning}")));
    let mut report = found.json();
    // Only root's report is of the host: somebody else's would say less than is known.
    let written = if found.facts.root { found.record(context) } else { Ok(()) };
    if let Some(fields) = report.as_object_mut() {
        let path = capabilities::path(context).display().to_string();
        let recorded = found.facts.root && written.is_ok();
        fields.insert("recorded".to_owned(), json!(recorded.then_some(path)));
    }
    if let Err(error) = written {
        lines.push(format!("  warning: {error:#}"));
    }
    let exit = match (capable, found.facts.root) {
        (true, _) => 0,
        (false, true) => 1,
        (false, false) => 2,
    };
    Answer { text: lines.join("\n"), json: report, exit }
}
