// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Bundles against software that is not ours: securesystemslib and in-toto-attestation, at pinned versions and hashes.
//!
//! They go into a directory below `target/`, and nothing of the machine's own Python is touched.

use std::fs;

use anyhow::Context as _;

use crate::command::{cargo, output, program, root, run, target};
use crate::talk::answer;

/// What is checked, and what it needs.
const SCRIPT: &str = "tests/interop/interop.py";
const PINNED: &str = "tests/interop/requirements.txt";

/// Both ways; an error says what was otherwise.
pub(crate) fn check() -> anyhow::Result<()> {
    let home = target("interop");
    let (packages, place) = (home.join("packages"), home.join("place"));
    let pinned = root().join(PINNED);
    let wanted = fs::read(&pinned).with_context(|| format!("failed to read {PINNED}"))?;
    let marker = home.join("installed");
    if fs::read(&marker).ok() != Some(wanted.clone()) {
        clear(&packages)?;
        let mut pip = program("python3");
        pip.args(["-m", "pip", "--quiet", "--disable-pip-version-check", "install"]);
        pip.args(["--require-hashes", "--no-deps", "--only-binary", ":all:", "--target"]);
        run(pip.arg(&packages).arg("--requirement").arg(&pinned))
            .context("failed to install what others check envelopes with")?;
        fs::write(&marker, &wanted).context("failed to note what is installed")?;
    }
    clear(&place)?;
    run(cargo().args(["build", "--quiet", "--package", "aegisbpf"]))?;
    let mut python = program("python3");
    python.arg("-B").arg(root().join(SCRIPT)).arg(target("debug").join("aegisbpf")).arg(&place);
    let seen = output(python.env("PYTHONPATH", &packages))?;
    answer(format_args!("interop: {} things seen, all as they should be", seen.lines().count()));
    Ok(())
}

/// Makes a directory with nothing in it.
fn clear(directory: &std::path::Path) -> anyhow::Result<()> {
    let failed = || format!("failed to make {} anew", directory.display());
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(failed)?;
    }
    fs::create_dir_all(directory).with_context(failed)
}
