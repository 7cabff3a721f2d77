// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask demo`: the main job, shown in a guest or on this host.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::accel::Accel;
use crate::command::{output, program, root};
use crate::guest::{Guest, Show};
use crate::{dist, kernels, setup};

/// What is shown; a script for the plain shell of a guest.
const SCRIPT: &str = "dist/demo.sh";

/// The script's exit status.
pub(crate) fn run(here: bool, series: &str) -> anyhow::Result<i32> {
    let script = root().join(SCRIPT);
    if !script.is_file() {
        bail!("failed to find {SCRIPT}");
    }
    setup::ensure()?;
    let binary = dist::build()?;
    if here { on_this_host(&script, &binary) } else { in_a_guest(&binary, series) }
}

fn on_this_host(script: &Path, binary: &Path) -> anyhow::Result<i32> {
    let is_root = output(program("id").arg("-u"))?.trim() == "0";
    if !is_root {
        bail!(
            "failed to show it here: only root may attach programs\nhint: sudo -E cargo xtask demo --here"
        );
    }
    let directory = binary.parent().unwrap_or(binary);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::iter::once(directory.to_owned()).chain(std::env::split_paths(&path));
    let path = std::env::join_paths(paths).context("failed to put target/dist on PATH")?;
    let status =
        program("sh").arg(script).env("PATH", path).status().context("failed to start sh")?;
    Ok(status.code().unwrap_or(1))
}

fn in_a_guest(binary: &Path, series: &str) -> anyhow::Result<i32> {
    let kernel = kernels::obtain_one(series)?;
    let accel = Accel::of_this_machine(&kernel)?;
    crate::talk::note(format_args!("kernel {}: {}", kernel.label(), kernel.identity()));
    let guest = Guest::new(&kernel, accel)
        .timeout(Duration::from_secs(300))
        .put(binary, "/usr/bin/aegisbpf")
        .put(root().join("dist"), "/root/dist");
    guest.run(&["sh".to_owned(), format!("/root/{SCRIPT}")], Show::Live)?.check()
}
