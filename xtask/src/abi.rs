// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask abi`: the Rust form of the contract's header, written or compared.

use std::fs;

use anyhow::Context as _;

use crate::command::{cargo, output, root, target};
use crate::talk::note;

const HEADER: &str = "abi/include/aegis.h";
const GENERATED: &str = "abi/src/generated.rs";

/// Writes the file, or with `check` says whether it is what the header makes.
pub(crate) fn run(check: bool) -> anyhow::Result<bool> {
    let kept = root().join(GENERATED);
    if !check {
        return generate(&kept).map(|()| true);
    }
    fs::create_dir_all(target("abi")).context("failed to create target/abi")?;
    let made = target("abi/generated.rs");
    generate(&made)?;
    let read =
        |file| fs::read_to_string(file).with_context(|| format!("failed to read {GENERATED}"));
    let same = read(&kept)? == read(&made)?;
    if !same {
        note(format_args!("{GENERATED} is not what {HEADER} makes\nhint: cargo xtask abi"));
    }
    Ok(same)
}

fn generate(to: &std::path::Path) -> anyhow::Result<()> {
    let mut bindgen = cargo();
    bindgen
        .args(["run", "--quiet", "--package", "aegis-abi-bindgen", "--"])
        .arg(root().join(HEADER))
        .arg(to);
    output(&mut bindgen)?;
    let mut format = cargo();
    format.args(["fmt", "--", "--quiet"]).arg(to);
    output(&mut format).map(|_| ())
}
