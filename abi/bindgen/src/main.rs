// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `aegis-abi-bindgen HEADER OUTPUT` writes the Rust form of the contract's header.
//!
//! `cargo xtask abi` runs it; the output is checked in, and the tests compare it with the header.

use std::path::PathBuf;

use anyhow::Context as _;
use bindgen::callbacks::{DeriveInfo, ParseCallbacks};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(header), Some(output)) = (arguments.next(), arguments.next()) else {
        anyhow::bail!("usage: aegis-abi-bindgen HEADER OUTPUT");
    };
    bindgen::Builder::default()
        .header(header.display().to_string())
        .raw_line("// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 OR MIT")
        .raw_line("// Made from abi/include/aegis.h by `cargo xtask abi`; do not edit.")
        .allowlist_item("(aegis|AEGIS)_.*")
        .blocklist_function(".*")
        .blocklist_type("aegis_u.*")
        .raw_line("type aegis_u8 = u8;")
        .raw_line("type aegis_u32 = u32;")
        .raw_line("type aegis_u64 = u64;")
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .derive_copy(false)
        .derive_debug(false)
        .layout_tests(true)
        .generate_comments(true)
        .disable_header_comment()
        .formatter(bindgen::Formatter::Rustfmt)
        .parse_callbacks(Box::new(Derives))
        .generate()
        .with_context(|| format!("failed to read {}", header.display()))?
        .write_to_file(&output)
        .with_context(|| format!("failed to write {}", output.display()))
}

/// Every structure of the contract is plain bytes without holes; zerocopy proves it at compile time.
#[derive(Debug)]
struct Derives;

impl ParseCallbacks for Derives {
    fn add_derives(&self, _: &DeriveInfo<'_>) -> Vec<String> {
        let plain = ["Clone", "Copy", "Debug", "PartialEq", "Eq", "Hash"];
        let bytes = ["FromBytes", "IntoBytes", "Immutable", "KnownLayout"];
        let bytes = bytes.map(|name| format!("zerocopy::{name}"));
        plain.map(str::to_owned).into_iter().chain(bytes).collect()
    }
}
