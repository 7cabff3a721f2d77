// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `health`: `status` as a yes or no.

use super::status;
use crate::{cli, context::Context, output::Answer, posture::RuntimeState, view};

pub(super) fn run(context: &Context, args: &cli::Health) -> anyhow::Result<Answer> {
    let view = view::look(context)?;
    let meaning = view.reason.meaning();
    // An older proof may stand for the state; who asks for enforcement gets one made now.
    let enforces = meaning.state == RuntimeState::Enforce
        && view.proof.as_ref().is_some_and(crate::proof::Proof::passed);
    let exit = match (args.require_enforce, enforces) {
        (true, true) => 0,
        (true, false) => meaning.health.max(1),
        (false, _) => meaning.health,
    };
    let mut json = status::json(&view)?;
    if let Some(fields) = json.as_object_mut() {
        fields.insert("healthy".to_owned(), (exit == 0).into());
    }
    Ok(Answer { text: status::text(&view)?, json, exit })
}
