// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Compiles the empty program; the binary carries its bytes.

use std::{env, path::PathBuf};

use libbpf_cargo::SkeletonBuilder;

fn main() {
    let source = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default())
        .join("bpf/empty.bpf.c");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let compiled = SkeletonBuilder::new()
        .source(&source)
        .obj(out.join("empty.bpf.o"))
        .clang_args(["-mcpu=v2", "-Wall", "-Werror"])
        .build();
    if let Err(error) = compiled {
        // The only way for a build script to say why it fails.
        println!("cargo::error=failed to compile bench/bpf/empty.bpf.c: {error:#}");
    }
    println!("cargo::rerun-if-changed={}", source.display());
}
