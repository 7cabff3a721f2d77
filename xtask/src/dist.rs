// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask dist`: one static binary that runs on any of the kernels with nothing beside it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;

use crate::command::{cargo, run, target};
use crate::setup::library_directory;
use crate::talk::Step;

/// The libraries below the loader, as archives to link from.
const LIBRARIES: [&str; 3] = ["libelf.a", "libz.a", "libzstd.a"];

/// Where everything static is linked for.
pub(crate) const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// Builds `target/dist/aegisbpf`.
pub(crate) fn build() -> anyhow::Result<PathBuf> {
    let step = Step::begin("building target/dist/aegisbpf");
    let result =
        run(static_cargo()?.args(["build", "--quiet", "--release", "--package", "aegisbpf"]));
    step.end(if result.is_ok() { "" } else { "failed" });
    result?;
    let built = static_target().join(TRIPLE).join("release/aegisbpf");
    let kept = target("dist/aegisbpf");
    let failed = || format!("failed to write {}", kept.display());
    fs::create_dir_all(target("dist")).with_context(failed)?;
    // Not over the old one, which somebody may be running.
    let new = target("dist/aegisbpf.new");
    fs::copy(&built, &new).with_context(failed)?;
    fs::rename(&new, &kept).with_context(failed)?;
    Ok(kept)
}

/// Cargo, for static programs, in a directory of its own: other flags would have it build everything again each time.
/// Its subcommand comes first among the arguments that the caller adds; `--target` comes from the environment.
pub(crate) fn static_cargo() -> anyhow::Result<Command> {
    let mut command = cargo();
    command
        .env("CARGO_BUILD_TARGET", TRIPLE)
        .env("CARGO_TARGET_DIR", static_target())
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env("LIBBPF_SYS_LIBRARY_PATH", libraries()?)
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    Ok(command)
}

pub(crate) fn static_target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => PathBuf::from(directory).join("static"),
        None => target("static"),
    }
}

/// A directory with links to the archives and to nothing else, so that nothing else is found there.
fn libraries() -> anyhow::Result<PathBuf> {
    let directory = target("libraries");
    fs::create_dir_all(&directory)
        .with_context(|| format!("failed to create {}", directory.display()))?;
    for name in LIBRARIES {
        let link = directory.join(name);
        if let Some(found) = library_directory(name).filter(|_| !link.exists()) {
            std::os::unix::fs::symlink(found.join(name), &link)
                .with_context(|| format!("failed to link {}", link.display()))?;
        }
    }
    Ok(directory)
}
