// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `metrics`: what is counted, as OpenMetrics text.

use serde_json::json;

use crate::{
    cli,
    context::Context,
    failure::Refusal,
    files,
    metrics::{self, Sample},
    output::Answer,
    posture::Reason,
};

pub(super) fn run(context: &Context, args: &cli::Metrics) -> anyhow::Result<Answer> {
    if !rustix::process::geteuid().is_root() {
        let meaning = Reason::NotRoot.meaning();
        return Err(Refusal::new(meaning.code, "only root can read the counters")
            .hint(meaning.fix)
            .into());
    }
    let text = Sample::take(context)?.text();
    let Some(path) = &args.textfile else {
        // Its last line has its own end.
        return Ok(Answer {
            text: text.trim_end().to_owned(),
            json: json!({ "metrics": text }),
            exit: 0,
        });
    };
    metrics::write_textfile(&files::absolute(path)?, &text)?;
    let lines = text.lines().count();
    Ok(Answer {
        text: format!("{lines} lines are in {}", path.display()),
        json: json!({ "textfile": path.display().to_string(), "lines": lines }),
        exit: 0,
    })
}
