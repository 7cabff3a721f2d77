// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `prove`: provokes denials now, compares the kernel with the policies, and writes down what came of it.

use super::status;
use crate::{context::Context, output::Answer, starts, view};

pub(super) fn run(context: &Context) -> anyhow::Result<Answer> {
    let mut view = view::prove(context)?;
    if view.reason.meaning().health == 0 {
        view.warnings
            .extend(starts::seen_in_order(context).err().map(|error| format!("{error:#}")));
    }
    let exit = view.reason.meaning().health;
    Ok(Answer { text: status::text(&view), json: status::json(&view), exit })
}
