// SPDX-License-Identifier: Apache-2.0 OR MIT
//! systemd for a guest: this machine's own, which needs libraries beside it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context as _, bail};

use crate::command::{output, program};

/// The first process.
pub(crate) const PROGRAM: &str = "/lib/systemd/systemd";

/// Without one, systemd would take it for a machine's first start, and enable what it finds.
pub(crate) const MACHINE_ID: &str = "00000000000000000000000000000001\n";

/// The unit of a guest's command.
pub(crate) const COMMAND: &str = include_str!("../guest/guest.service");

/// Beside the first process; some versions of systemd lack the last.
const PROGRAMS: [&str; 5] = [
    "/lib/systemd/systemd-journald",
    "/usr/bin/systemctl",
    "/usr/bin/journalctl",
    "/usr/bin/systemd-analyze",
    "/lib/systemd/systemd-executor",
];

/// What those that are tested come before or after.
const UNITS: [&str; 10] = [
    "basic.target",
    "local-fs.target",
    "multi-user.target",
    "paths.target",
    "shutdown.target",
    "slices.target",
    "sockets.target",
    "sysinit.target",
    "systemd-journald.service",
    "systemd-journald.socket",
];

/// Files of this machine that a guest has at the same place.
pub(crate) fn files() -> anyhow::Result<BTreeSet<PathBuf>> {
    let mut files = BTreeSet::new();
    for name in [PROGRAM].iter().chain(&PROGRAMS) {
        let file = PathBuf::from(name);
        if !file.exists() {
            continue;
        }
        files.extend(libraries(name)?);
        files.insert(file);
    }
    files.extend(UNITS.map(|name| PathBuf::from("/lib/systemd/system").join(name)));
    match files.iter().find(|file| !file.exists()) {
        Some(file) => {
            bail!("failed to find {}\nhint: apt-get install systemd", file.display())
        }
        None => Ok(files),
    }
}

/// What a program is linked with, and what loads it.
fn libraries(name: &str) -> anyhow::Result<Vec<PathBuf>> {
    let list = output(program("ldd").arg(name))
        .with_context(|| format!("failed to ask what {name} is linked with"))?;
    let words =
        list.lines().filter_map(|line| line.split(" => ").last()?.split_whitespace().next());
    Ok(words.filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}
