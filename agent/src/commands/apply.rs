// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `apply`: puts policies in force. They stay in force when this has ended.

use serde_json::json;

use crate::{
    apply::{Request, Wish, apply},
    capabilities::Capabilities,
    cli, confirmation,
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
    if !args.dry_run {
        confirmation::check_rollout(context, args.confirm_within, "apply")?;
    }
    let (candidates, warnings) = sources::candidates(context, &args.policies, args.allow_unsigned)?;
    let asked = candidates.iter().map(asked).collect();
    let applied = apply(
        context,
        &Request {
            strict: args.strict,
            dry_run: args.dry_run,
            link_scan: !args.no_link_scan,
            allow_lockout: args.allow_lockout,
            forget_lost: args.forget_lost,
            confirm_within: args.confirm_within,
            takes_over: true,
            ..Request::new("apply", Wish::Put(candidates, args.mode), args.reason.as_deref())
        },
    );
    let applied = applied.map(|mut report| {
        report.warnings.splice(0..0, warnings);
        report.answer()
    });
    answer_or_fall_back(context, "apply", asked, args.dry_run, applied)
}

/// What came of putting policies in force; or, if this host cannot and the gate mode lets it go on, that it
/// does without.
pub(super) fn answer_or_fall_back(
    context: &Context,
    command: &str,
    asked: Vec<(String, u32)>,
    dry_run: bool,
    applied: anyhow::Result<Answer>,
) -> anyhow::Result<Answer> {
    let error = match applied {
        Ok(answer) => return Ok(answer),
        Err(error) => error,
    };
    let blockers = gate::inability(&error);
    match gate::decide(context.config.enforce_gate_mode, &blockers) {
        Decision::FallBack if !dry_run => fall_back(context, command, asked, &blockers),
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
    command: &str,
    asked: Vec<(String, u32)>,
    blockers: &[Blocker],
) -> anyhow::Result<Answer> {
    Fallback::new(command, asked, blockers).record(context)?;
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
