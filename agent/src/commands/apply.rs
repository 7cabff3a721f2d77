// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `apply`: puts policies in force. They stay in force when this has ended.

use crate::{
    apply::{Request, Wish, apply},
    cli,
    context::Context,
    output::Answer,
};

use super::sources;

pub(super) fn run(context: &Context, args: &cli::Apply) -> anyhow::Result<Answer> {
    let (candidates, warnings) = sources::candidates(context, &args.policies, args.allow_unsigned)?;
    let mut report = apply(
        context,
        &Request {
            command: "apply",
            wish: Wish::Put(candidates, args.mode),
            reason: args.reason.as_deref(),
            strict: args.strict,
            dry_run: args.dry_run,
            link_scan: !args.no_link_scan,
        },
    )?;
    report.warnings.splice(0..0, warnings);
    Ok(report.answer())
}
