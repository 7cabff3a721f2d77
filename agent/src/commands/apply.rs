// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `apply`: puts policies in force. They stay in force when this has ended.

use serde_json::json;

use crate::{
    apply::{Request, Wish, apply},
    capabilities::Capabilities,
    cli,
    context::Context,
    gate::{self, Decision, Fallback},
    output::Answer,
    requirements::Blocker,
    trust::Candidate,
    view,
};

use super::{sources, status};

pub(super) fn run(context: &Context, args: &cli::Apply) -> anyhow::Result<Answer> {
    if !rustix::process::geteuid().is_root() {
        let found = Capabilities::tried(context);
        return Err(crate::apply::blocked(&found.blockers).into());
    }
    let (candidates, warnings) = sources::candidates(context, &args.policies, args.allow_unsigned)?;
    let asked = candidates.iter().map(asked).collect();
    let applied = apply(
        context,
        &Request {
            command: "apply",
            wish: Wish::Put(candidates, args.mode),
            reason: args.reason.as_deref(),
            strict: args.strict,
            dry_run: args.dry_run,
            link_scan: !args.no_link_scan,
            allow_lockout: args.allow_lockout,
        },
    );
    let error = match applied {
        Ok(mut report) => {
            report.warnings.splice(0..0, warnings);
            return Ok(report.answer());
        }
        Err(error) => error,
    };
    let blockers = gate::inability(&error);
    match gate::decide(context.config.enforce_gate_mode, &blockers) {
        Decision::FallBack if !args.dry_run => fall_back(context, asked, &blockers),
        Decision::Refuse => Err(gate::refused(error, &blockers)),
        Decision::Enforce | Decision::FallBack => Err(error),
    }
}

fn asked(candidate: &Candidate) -> (String, u32) {
    (candidate.policy().name.clone(), candidate.policy().version)
}

/// Everything is as it was before, and says that it is not what was asked for.
fn fall_back(
    context: &Context,
    asked: Vec<(String, u32)>,
    blockers: &[Blocker],
) -> anyhow::Result<Answer> {
    Fallback::new("apply", asked, blockers).record(context)?;
    let view = view::glance(context)?;
    let meaning = view.reason.meaning();
    let mut json = status::json(&view);
    if let Some(fields) = json.as_object_mut() {
        fields.insert("changed".to_owned(), json!(false));
        fields.insert("enforce_blockers".to_owned(), json!(blockers));
    }
    let text = format!(
        "{}: this host cannot enforce what was asked for, and nothing was changed\n{}",
        meaning.state.name(),
        status::text(&view)
    );
    Ok(Answer { text, json, exit: 0 })
}
