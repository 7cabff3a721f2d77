// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `events`: the log of denials and reports; with `--follow` also what comes.

use std::time::Duration;

use aegis_kernel::Kernel;
use serde_json::{Value, json};

use crate::{
    cli,
    context::Context,
    event_log::{self, Reader, is_of_proof},
    failure::Refusal,
    instances,
    output::{Answer, Output},
    posture::Reason,
};

pub(super) fn run(context: &Context, args: &cli::Events, output: Output) -> anyhow::Result<Answer> {
    if !rustix::process::geteuid().is_root() {
        let meaning = Reason::NotRoot.meaning();
        return Err(Refusal::new(meaning.code, "only root can read events")
            .hint(meaning.fix)
            .into());
    }
    let wanted = |record: &Value| args.all || !is_of_proof(record);
    let mut reader = Reader::new(context);
    if !args.follow {
        drain(context)?;
        let mut records = reader.read()?;
        records.retain(wanted);
        let lines: Vec<String> = records.iter().map(line).collect();
        return Ok(Answer { text: lines.join("\n"), json: json!({ "events": records }), exit: 0 });
    }
    loop {
        drain(context)?;
        for record in reader.read()?.into_iter().filter(wanted) {
            if output.json {
                output.object(record)?;
            } else {
                output.line(&line(&record))?;
            }
        }
        std::thread::sleep(PAUSE);
    }
}

/// Takes what is in the ring, unless an agent does.
fn drain(context: &Context) -> anyhow::Result<()> {
    match Kernel::open(&context.pins)? {
        Some(kernel) => {
            instances::refuse_another(context, &kernel)?;
            event_log::drain_if_free(context, &kernel)
        }
        None => Ok(()),
    }
}

/// One event, for a person.
pub(crate) fn line(record: &Value) -> String {
    let text = |name: &str| match record.get(name) {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => "?".to_owned(),
        Some(other) => other.to_string(),
    };
    if record.get("error").is_some() {
        return format!("{} unreadable event: {}", text("seq"), text("error"));
    }
    if record.get("event").is_some_and(|event| event == "posture") {
        return format!(
            "{} POSTURE {} ({}), before {}: {}",
            text("time"),
            text("runtime_state"),
            text("reason_code"),
            record.pointer("/from/runtime_state").and_then(Value::as_str).unwrap_or("?"),
            text("reason")
        );
    }
    let verdict = match text("verdict").as_str() {
        "deny" => "DENIED",
        "would_deny" if text("spared_by") == "emergency" => "WOULD DENY (emergency)",
        "would_deny" => "WOULD DENY",
        _ => "REPORTED",
    };
    let cgroup = match record.get("cgroup") {
        Some(Value::String(path)) => path.clone(),
        _ => format!("a cgroup that is gone (id {})", text("cgroup_id")),
    };
    format!(
        "{} {verdict} {} {}\n    by {}/{}: {}\n    to {} (pid {}, uid {}, {}) in {}",
        text("time"),
        text("access"),
        text("path"),
        text("policy"),
        text("rule"),
        crate::output::one_line(&text("reason")),
        text("exe"),
        text("pid"),
        text("uid"),
        text("comm"),
        cgroup
    )
}

/// Between two looks into the ring.
const PAUSE: Duration = Duration::from_millis(200);
