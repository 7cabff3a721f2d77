// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `keygen`: a key to sign with, in a file that only its owner reads, and the public one beside it.

use serde_json::json;

use crate::{cli, output::Answer, trust::keys};

pub(super) fn run(args: &cli::Keygen) -> anyhow::Result<Answer> {
    let key = keys::generate()?;
    let public = keys::beside(&args.out, ".pub");
    keys::create(&args.out, key.to_pem().as_bytes(), 0o600)?;
    if let Err(error) = keys::create(&public, key.public().to_pem().as_bytes(), 0o644) {
        crate::files::remove(&args.out)?;
        return Err(error);
    }
    let id = key.public().id();
    let text = format!(
        "key {id}\n  private   {}: keep it away from others, and a copy of it in a safe\n  public    \
         {}",
        args.out.display(),
        public.display()
    );
    let json = json!({
        "changed": true, "key_id": id.to_string(), "private": args.out.to_string_lossy(),
        "public": public.to_string_lossy(),
    });
    Ok(Answer { text, json, exit: 0 })
}
