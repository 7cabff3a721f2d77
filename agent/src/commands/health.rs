// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `health`: `status` as a yes or no. Loads nothing and changes nothing: it believes a proof that is at
//! most five minutes old, and looks whether what was proved is still there.

use super::status;
use crate::{cli, context::Context, output::Answer, posture::RuntimeState, view};

pub(super) fn run(context: &Context, args: &cli::Health) -> anyhow::Result<Answer> {
    let view = view::glance(context)?;
    let meaning = view.reason.meaning();
    let enforces = meaning.state == RuntimeState::Enforce;
    let exit = match (args.require_enforce, enforces) {
        (true, true) => 0,
        (true, false) => meaning.health.max(1),
        (false, _) => meaning.health,
    };
    let mut json = status::json(&view);
    if let Some(fields) = json.as_object_mut() {
        fields.insert("healthy".to_owned(), (exit == 0).into());
    }
    Ok(Answer { text: status::text(&view), json, exit })
}
