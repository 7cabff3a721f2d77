// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `prove`: provokes denials now, compares the kernel with the policies, and writes down what came of it.

use super::status;
use crate::{context::Context, output::Answer, view};

pub(super) fn run(context: &Context) -> anyhow::Result<Answer> {
    let view = view::prove(context)?;
    let exit = view.reason.meaning().health;
    Ok(Answer { text: status::text(&view), json: status::json(&view), exit })
}
