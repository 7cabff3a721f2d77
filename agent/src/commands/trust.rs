// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `trust`: making trust roots, which needs no root and no kernel, and installing one, which does.

mod edit;
mod install;
mod show;

use aegis_trust::{Kind, Root};

use super::sign::publish;
use crate::{
    cli::{SignRoot, Trust},
    context::Context,
    output::Answer,
    trust::{keys, malformed},
};

pub(super) fn run(context: &Context, verb: &Trust) -> anyhow::Result<Answer> {
    match verb {
        Trust::Init(args) => edit::init(args),
        Trust::Show(args) => show::run(context, args),
        Trust::Propose(args) => edit::propose(context, args),
        Trust::Sign(args) => sign(args),
        Trust::Install(args) => install::run(context, args),
    }
}

fn sign(args: &SignRoot) -> anyhow::Result<Answer> {
    let mut envelope = keys::envelope(Kind::Root, &args.document)?;
    let root =
        Root::claimed(&envelope).map_err(|error| malformed(args.document.display(), &error))?;
    let elsewhere = keys::sign(&mut envelope, &args.by)?;
    let out = args.out.as_ref().unwrap_or(&args.document);
    publish(&envelope, out, elsewhere.as_deref(), &format!("trust root version {}", root.version))
}
