// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Several instances on one host: whose work is pinned here, and what else is pinned on the same bpffs.
//!
//! An instance is a state directory with its provenance log. What one has put in force another neither changes
//! nor takes the events of; only an emergency is for whoever needs one.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use aegis_kernel::{Kernel, Owner};
use serde::Serialize;

use crate::{context::Context, failure::Refusal, provenance::Log};

/// What another instance has pinned on the same bpffs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Other {
    /// Where.
    pins: PathBuf,
    /// The state directory, as it is called where that instance is; `None`: not known.
    state_directory: Option<PathBuf>,
    instance: Option<String>,
    /// Whether it decides about opens as well; `None`: it is of a version that this binary cannot read.
    decides: Option<bool>,
}

impl Other {
    fn at(pins: PathBuf) -> Self {
        let kernel = Kernel::open(&pins).ok().flatten();
        let owner = kernel.as_ref().and_then(Kernel::owner);
        Self {
            pins,
            state_directory: owner.as_ref().map(|owner| owner.state().to_owned()),
            instance: owner.map(|owner| owner.instance().to_owned()),
            decides: kernel.map(|kernel| kernel.active().is_some()),
        }
    }

    /// As a warning.
    pub(crate) fn told(&self) -> String {
        let whose = match (&self.instance, &self.state_directory) {
            (Some(instance), Some(state)) => named(instance, state),
            _ => "an instance that has left no name".to_owned(),
        };
        let decides = match self.decides {
            Some(true) => "what it denies is denied as well",
            Some(false) => "nothing is in force there",
            None => "it is of another version",
        };
        format!("another instance is pinned at {}: {whose}; {decides}", self.pins.display())
    }
}

/// Who put in force what is pinned here, if that is another instance.
pub(crate) fn another(context: &Context, kernel: &Kernel) -> Option<Owner> {
    kernel.owner().filter(|owner| !Log::new(context).is_of(owner))
}

/// Refuses to change what another instance has put in force.
pub(crate) fn refuse_another(context: &Context, kernel: &Kernel) -> Result<(), Refusal> {
    let Some(owner) = another(context, kernel) else { return Ok(()) };
    let message = format!(
        "what is pinned at {} is of {}, and this one has {}",
        context.pins.display(),
        told(&owner),
        context.state.display()
    );
    Err(Refusal::new("OTHER_INSTANCE", message).hint(
        "use the configuration (or --root) of that instance; keep two apart with `directories.bpffs`; if it is \
         gone for good, take out what it left with `aegisbpf detach --foreign --reason …`",
    ))
}

/// The same of what is pinned here, if anything is. What cannot be opened tells nobody whose it is.
pub(crate) fn refuse_another_if_any(context: &Context) -> Result<(), Refusal> {
    let kernel = Kernel::open(&context.pins).ok().flatten();
    kernel.map_or(Ok(()), |kernel| refuse_another(context, &kernel))
}

/// Says of an error about policies that are not here who put them in force, if that is known.
pub(crate) fn with_owner(kernel: Option<&Kernel>, error: anyhow::Error) -> anyhow::Error {
    match kernel.and_then(Kernel::owner) {
        Some(owner) => error.context(format!("what is in force is of {}", told(&owner))),
        None => error,
    }
}

/// An instance in words.
pub(crate) fn told(owner: &Owner) -> String {
    named(owner.instance(), owner.state())
}

fn named(instance: &str, state: &Path) -> String {
    format!("the instance {instance} with the state directory {}", state.display())
}

/// Everything of AegisBPF that is pinned elsewhere on the bpffs of our pins, as deep as [`DEPTH`] and as
/// far as [`DIRECTORIES`] directories. What cannot be read is not seen.
pub(crate) fn others(context: &Context) -> Vec<Other> {
    let Some(top) = top(&context.bpffs) else { return Vec::new() };
    let mut found = Vec::new();
    let mut wait = vec![(top, 0)];
    let mut looked = 0;
    while let Some((directory, depth)) = wait.pop() {
        looked += 1;
        if looked > DIRECTORIES {
            break;
        }
        for path in directories(&directory) {
            if path == context.pins {
                continue;
            }
            if path.file_name().is_some_and(|name| name == "aegisbpf")
                && path.join("control").exists()
            {
                found.push(Other::at(path));
            } else if depth < DEPTH {
                wait.push((path, depth + 1));
            }
        }
    }
    found.sort_by(|one, other| one.pins.cmp(&other.pins));
    found
}

/// The topmost directory of the filesystem that a path is on.
fn top(path: &Path) -> Option<PathBuf> {
    let device = |path: &Path| fs::symlink_metadata(path).map(|about| about.dev()).ok();
    let mut top = fs::canonicalize(path).ok()?;
    let here = device(&top)?;
    while let Some(above) = top.parent().filter(|above| device(above) == Some(here)) {
        top = above.to_owned();
    }
    Some(top)
}

fn directories(path: &Path) -> Vec<PathBuf> {
    let is_directory = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    let entries = fs::read_dir(path).map(|all| all.collect::<Result<Vec<_>, io::Error>>());
    let entries = entries.and_then(|all| all).unwrap_or_default();
    entries.into_iter().filter(is_directory).map(|entry| entry.path()).collect()
}

const DEPTH: usize = 4;
const DIRECTORIES: usize = 1024;
