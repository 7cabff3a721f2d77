// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Programs of others, in Python, that read what we write: in an environment of their own below `target/`, each
//! package with the digest of the one file that is taken.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;

use crate::command::{output, program, root, target, tool};

/// The interpreter of the environment, which is made if it is not there or is another's.
pub(crate) fn interpreter() -> anyhow::Result<PathBuf> {
    let requirements = root().join("xtask/python/requirements.txt");
    let wanted = fs::read(&requirements).context("failed to read xtask/python/requirements.txt")?;
    let environment = target("python");
    let made_of = environment.join("made-of");
    let python = environment.join("bin/python");
    if fs::read(&made_of).is_ok_and(|there| there == wanted) {
        return Ok(python);
    }
    output(tool("python3").args(["-m", "venv", "--clear"]).arg(&environment))
        .context("failed to make an environment for Python\nhint: cargo xtask setup")?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"];
    output(program(&python).args(pip).arg("--require-hashes").arg("-r").arg(&requirements))
        .context("failed to install what reads our output")?;
    fs::write(&made_of, wanted).context("failed to write below target/python")?;
    Ok(python)
}
