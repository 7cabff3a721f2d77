// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `remove`: the set without one policy is put in force, as any other set.

use crate::{
    apply::{Request, Wish, apply},
    bindings, cli,
    context::Context,
    output::Answer,
};

pub(super) fn run(context: &Context, args: &cli::Remove) -> anyhow::Result<Answer> {
    let request = Request {
        command: "remove",
        wish: Wish::Remove(args.name.clone()),
        reason: Some(&args.reason),
        strict: false,
        dry_run: false,
        link_scan: bindings::last_link_scan(context),
        allow_lockout: true,
    };
    Ok(apply(context, &request)?.answer())
}
