// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Compiles the two BPF objects; the library carries their bytes.

use std::{env, path::PathBuf};

use libbpf_cargo::SkeletonBuilder;

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let contract = root.join("../abi/include");
    // `cargo xtask mutate-hooks` takes something out of a copy, and sees which tests notice.
    let sources = env::var_os("AEGIS_BPF_SOURCES").map_or_else(|| root.join("bpf"), PathBuf::from);

    for name in ["aegis", "resolve"] {
        let compiled = SkeletonBuilder::new()
            .source(sources.join(format!("{name}.bpf.c")))
            .obj(out.join(format!("{name}.bpf.o")))
            .clang_args([
                "-I".as_ref(),
                contract.as_os_str(),
                // The oldest instruction set that all supported kernels take alike.
                "-mcpu=v2".as_ref(),
                "-Wall".as_ref(),
                "-Werror".as_ref(),
            ])
            .build();
        if let Err(error) = compiled {
            // The only way for a build script to say why it fails.
            println!("cargo::error=failed to compile kernel/bpf/{name}.bpf.c: {error:#}");
        }
    }
    println!("cargo::rerun-if-env-changed=AEGIS_BPF_SOURCES");
    println!("cargo::rerun-if-changed={}", sources.display());
    println!("cargo::rerun-if-changed={}", contract.display());
}
