// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where our files are. Knows nothing of what is in them.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use crate::{
    cli::{Cli, Verb},
    config::{Config, Loaded},
    files, journal,
};

/// The directories of this installation.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// What everything but the bpffs is below: `/`.
    pub(crate) root: PathBuf,
    /// What the configuration and the flags say.
    pub(crate) config: Config,
    /// Whether the configuration did not answer, and everything has its default.
    pub(crate) unconfigured: bool,
    /// What must outlive a reboot: `/var/lib/aegisbpf`.
    pub(crate) state: PathBuf,
    /// What must not: `/run/aegisbpf`.
    pub(crate) run: PathBuf,
    /// The bpffs: `/sys/fs/bpf`.
    pub(crate) bpffs: PathBuf,
    /// Our directory in it.
    pub(crate) pins: PathBuf,
    /// Whether this command has put on record what it is about to do.
    pub(crate) on_record: Arc<AtomicBool>,
    /// How long resolving may take, if the operator says so.
    pub(crate) patience: Option<Duration>,
    /// The unit of systemd that this command was started for.
    pub(crate) unit: Option<String>,
}

impl Context {
    /// As the flags and the configuration say, with every fault of the configuration.
    pub(crate) fn new(cli: &Cli) -> anyhow::Result<(Self, Loaded)> {
        let root = files::absolute(&cli.root)?;
        let path = Config::path(&root);
        let loaded = match &cli.verb {
            Verb::Emergency(_) => Config::load_in_time(&root, &path),
            Verb::Settle(settle) if settle.unconfigured => {
                Ok(Loaded::unconfigured("the configuration does not answer"))
            }
            _ => Config::load(&path),
        };
        let mut loaded = match (loaded, &cli.verb) {
            // What must never wait for somebody to mend a file goes on without one.
            (Err(error), Verb::Emergency(_) | Verb::Settle(_)) => {
                Loaded { faults: vec![format!("error: {error:#}")], ..Loaded::default() }
            }
            (loaded, _) => loaded?,
        };
        let config = &mut loaded.config;
        if let Some(bpffs) = &cli.bpffs {
            let bpffs = files::absolute(bpffs)?;
            config.flag("directories.bpffs", &bpffs.to_string_lossy())?;
        }
        let bpffs = config.bpffs.below(std::path::Path::new("/"));
        let context = Self {
            state: config.state_directory.below(&root),
            run: config.run_directory.below(&root),
            pins: bpffs.join("aegisbpf"),
            bpffs,
            config: config.clone(),
            unconfigured: loaded.unconfigured,
            root,
            on_record: Arc::default(),
            patience: cli.resolve_within,
            unit: journal::unit(),
        };
        Ok((context, loaded))
    }

    /// How long resolving may take where something is to be put in force.
    pub(crate) fn patience_to_apply(&self) -> Duration {
        self.patience.unwrap_or(Duration::from_secs(60))
    }

    /// How long it may take where the answer is better without than late.
    pub(crate) fn patience_to_look(&self) -> Duration {
        self.patience.unwrap_or(Duration::from_secs(5))
    }

    /// The directory of the files that the proof opens.
    pub(crate) fn proof(&self) -> PathBuf {
        self.run.join("proof")
    }

    /// Where the last proof is written down.
    pub(crate) fn proof_record(&self) -> PathBuf {
        self.run.join("proof.json")
    }

    /// Where it is written down what the objects in a slot were bound to.
    pub(crate) fn bindings(&self, slot: u32) -> PathBuf {
        self.run.join(format!("bindings-{slot}.json"))
    }

    /// Where it is written down what the numbers in a slot stand for.
    pub(crate) fn meaning(&self, slot: u32) -> PathBuf {
        self.run.join(format!("meaning-{slot}.json"))
    }

    /// Where it is written down what files took along from places that they have left.
    pub(crate) fn left(&self) -> PathBuf {
        self.state.join("left.json")
    }

    /// Where the last of those is that could not be read.
    pub(crate) fn left_aside(&self) -> PathBuf {
        self.state.join("left.json.unread")
    }

    /// The lock of commands that change something.
    pub(crate) fn lock(&self) -> PathBuf {
        self.run.join("lock")
    }
}
