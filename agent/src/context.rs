// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where our files are. Knows nothing of what is in them.

use std::path::PathBuf;

use crate::{cli::Cli, files};

/// The directories of this installation.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// What must outlive a reboot: `/var/lib/aegisbpf`.
    pub(crate) state: PathBuf,
    /// What must not: `/run/aegisbpf`.
    pub(crate) run: PathBuf,
    /// The bpffs: `/sys/fs/bpf`.
    pub(crate) bpffs: PathBuf,
    /// Our directory in it.
    pub(crate) pins: PathBuf,
}

impl Context {
    /// As `--root` and `--bpffs` say.
    pub(crate) fn new(cli: &Cli) -> anyhow::Result<Self> {
        let root = files::absolute(&cli.root)?;
        let bpffs = files::absolute(&cli.bpffs)?;
        Ok(Self {
            state: root.join("var/lib/aegisbpf"),
            run: root.join("run/aegisbpf"),
            pins: bpffs.join("aegisbpf"),
            bpffs,
        })
    }

    /// The directory of the files that the proof opens.
    pub(crate) fn proof(&self) -> PathBuf {
        self.run.join("proof")
    }

    /// Where the last proof is written down.
    pub(crate) fn proof_record(&self) -> PathBuf {
        self.run.join("proof.json")
    }

    /// Where it is written down what objects were bound to.
    pub(crate) fn bindings(&self) -> PathBuf {
        self.run.join("bindings.json")
    }

    /// The lock of commands that change something.
    pub(crate) fn lock(&self) -> PathBuf {
        self.run.join("lock")
    }
}
