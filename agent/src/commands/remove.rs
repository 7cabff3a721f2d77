// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `remove`: the set without one policy is put in force, as any other set.

use crate::{
    apply::{Request, Wish, apply},
    bindings, cli, confirmation,
    context::Context,
    output::Answer,
};

pub(super) fn run(context: &Context, args: &cli::Remove) -> anyhow::Result<Answer> {
    confirmation::check_rollout(context, args.confirm_within, "remove")?;
    let request = Request {
        link_scan: bindings::last_link_scan(context),
        confirm_within: args.confirm_within,
        ..Request::new("remove", Wish::Remove(args.name.clone()), Some(&args.reason))
    };
    Ok(apply(context, &request)?.answer())
}
