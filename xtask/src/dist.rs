// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask dist`: one static binary that runs on any of the kernels with nothing beside it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;

use crate::command::{cargo, program, run, target};
use crate::setup::library_directory;
use crate::talk::Step;

/// Where everything static is linked for.
pub(crate) const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// Builds `target/dist/aegisbpf`.
pub(crate) fn build() -> anyhow::Result<PathBuf> {
    build_with("static", "dist/aegisbpf")
}

/// Builds `target/dist/aegisbpf-faults`, which tests cut off wherever they like.
pub(crate) fn build_with_faults() -> anyhow::Result<PathBuf> {
    build_with("static,faults", "dist/aegisbpf-faults")
}

fn build_with(features: &str, kept: &str) -> anyhow::Result<PathBuf> {
    // What cargo has made lies at the same place whatever its features are.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let step = Step::begin(format!("building target/{kept}"));
    let mut cargo = static_cargo()?;
    cargo.args(["build", "--quiet", "--release", "--package", "aegisbpf", "--features", features]);
    let result = run(&mut cargo);
    step.end(if result.is_ok() { "" } else { "failed" });
    result?;
    let built = static_target().join(TRIPLE).join("release/aegisbpf");
    let new = target(&format!("{kept}.new"));
    let kept = target(kept);
    let failed = || format!("failed to write {}", kept.display());
    fs::create_dir_all(target("dist")).with_context(failed)?;
    // Not over the old one, which somebody may be running.
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

/// A directory with the archives and nothing else, so that nothing else is found there. `.cargo/config.toml` names it to
/// every build, since another value would have cargo build the loader again.
pub(crate) fn libraries() -> anyhow::Result<PathBuf> {
    let directory = target("libraries");
    fs::create_dir_all(&directory)
        .with_context(|| format!("failed to create {}", directory.display()))?;
    for name in ["libelf.a", "libz.a"] {
        let kept = directory.join(name);
        let Some(found) = library_directory(name).filter(|_| !kept.exists()) else { continue };
        let failed = || format!("failed to keep {}", kept.display());
        match library_directory("libzstd.a").filter(|_| name == "libelf.a") {
            Some(zstd) => merge(&[found.join(name), zstd.join("libzstd.a")], &kept)?,
            None => std::os::unix::fs::symlink(found.join(name), &kept).with_context(failed)?,
        }
    }
    Ok(directory)
}

/// Newer libelf unpacks sections with zstd, which the loader's build does not link: one archive for both.
fn merge(archives: &[PathBuf], to: &Path) -> anyhow::Result<()> {
    let directory = to.with_extension("parts");
    fs::create_dir_all(&directory)
        .with_context(|| format!("failed to create {}", directory.display()))?;
    let (new, script) = (directory.join("merged.a"), directory.join("script"));
    let mut lines = format!("CREATE {}\n", new.display());
    for archive in archives {
        lines.push_str(&format!("ADDLIB {}\n", archive.display()));
    }
    lines.push_str("SAVE\nEND\n");
    let failed = || format!("failed to write {}", to.display());
    fs::write(&script, lines).with_context(failed)?;
    run(program("ar").arg("-M").stdin(fs::File::open(&script).with_context(failed)?))?;
    fs::rename(&new, to).with_context(failed)?;
    fs::remove_dir_all(&directory).with_context(failed)
}
