// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `apply`: puts policies in force. They stay in force when this has ended.

use crate::{
    apply::{Request, Wish, apply},
    cli,
    context::Context,
    failure::Refusal,
    output::Answer,
};

use super::sources;

pub(super) fn run(context: &Context, args: &cli::Apply) -> anyhow::Result<Answer> {
    if args.allow_unsigned && !context.config.allow_unsigned {
        let message =
            "the configuration does not allow policies that nobody signed; nothing was changed";
        return Err(Refusal::new("UNSIGNED_FORBIDDEN", message)
            .hint("set trust.allow_unsigned = true in the configuration, if that is meant")
            .into());
    }
    if !args.allow_unsigned {
        return Err(Refusal::new(
            "UNSIGNED",
            format!("{} is not signed; nothing was changed", args.policies.display()),
        )
        .hint("signed policies are planned; --allow-unsigned applies what nobody signed")
        .into());
    }
    let (verified, warnings) = sources::verify(&args.policies)?;
    let mut report = apply(
        context,
        &Request {
            command: "apply",
            wish: Wish::Put(verified, args.mode),
            reason: args.reason.as_deref(),
            strict: args.strict,
            dry_run: args.dry_run,
            link_scan: !args.no_link_scan,
        },
    )?;
    report.warnings.splice(0..0, warnings);
    Ok(report.answer())
}
