// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whether the processes of a workload can reach an object at all: the `/etc/shadow` of a container
//! is another file than the host's, and a rule on the host's says nothing about it.
//!
//! Only what runs now is asked, and no more than a bounded number of its views of the file system.

use std::{
    collections::BTreeMap,
    fs::File,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::Path,
};

use aegis_policy::{NumberedWorkload, ObjectState, Place, Places, Ruleset, escape};
use rustix::fs::{Mode, OFlags, ResolveFlags, fstat, openat2};
use serde::Serialize;

use crate::cgroups::{self, Cgroup};

/// An object that some processes of a workload cannot see.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Unreachable {
    pub(crate) object: String,
    pub(crate) policy: String,
    pub(crate) workload: String,
    /// Processes whose path of that name leads elsewhere, or nowhere.
    pub(crate) hidden: usize,
    /// Processes of the workload that were asked.
    pub(crate) of: usize,
}

/// A root directory in a mount namespace: what paths mean to a process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct View {
    namespace: u64,
    dev: u64,
    ino: u64,
}

/// Every object of a rule that processes of its workload cannot reach.
pub(crate) fn unreachable(ruleset: &Ruleset, places: &Places, all: &[Cgroup]) -> Vec<Unreachable> {
    let Some(ours) = view("self").map(|(view, _)| view) else { return Vec::new() };
    let mut found = Vec::new();
    for workload in ruleset.workloads().iter().filter(|workload| !workload.built_in) {
        let processes = cgroups::present(workload, all).processes;
        let views = views(&processes);
        if views.keys().all(|view| *view == ours) {
            continue;
        }
        let of = views.values().map(|(_, count)| count).sum();
        for place in objects(ruleset, places, workload).take(OBJECTS) {
            let others = views.iter().filter(|(view, _)| **view != ours);
            let hidden = others.filter(|(_, (root, _))| !sees(root, place));
            let hidden = hidden.map(|(_, (_, count))| count).sum();
            if hidden > 0 {
                found.push(Unreachable {
                    object: place.object.written(),
                    policy: workload.policy.clone(),
                    workload: workload.name.clone(),
                    hidden,
                    of,
                });
            }
        }
    }
    found
}

/// The objects of a workload's rules that are there.
fn objects<'a>(
    ruleset: &'a Ruleset,
    places: &'a Places,
    workload: &'a NumberedWorkload,
) -> impl Iterator<Item = &'a Place> {
    places.iter().filter(|place| {
        let rules = place.rules.iter().filter_map(|number| ruleset.rule(*number));
        matches!(place.state, ObjectState::Bound(_))
            && rules.into_iter().any(|rule| rule.workloads.contains(&workload.number))
    })
}

/// The distinct views of processes, each with a root and how many share it.
fn views(processes: &[u32]) -> BTreeMap<View, (File, usize)> {
    let mut views: BTreeMap<View, (File, usize)> = BTreeMap::new();
    for pid in processes.iter().take(PROCESSES) {
        let Some((view, root)) = view(&pid.to_string()) else { continue };
        if views.len() < VIEWS || views.contains_key(&view) {
            views.entry(view).or_insert((root, 0)).1 += 1;
        }
    }
    views
}

/// How a process sees the file system; `None` if it is gone.
fn view(pid: &str) -> Option<(View, File)> {
    let process = Path::new("/proc").join(pid);
    let namespace = std::fs::metadata(process.join("ns/mnt")).ok()?.ino();
    let root = File::open(process.join("root")).ok()?;
    let metadata = root.metadata().ok()?;
    Some((View { namespace, dev: metadata.dev(), ino: metadata.ino() }, root))
}

/// Whether a path below a root leads to the file that it leads to here.
fn sees(root: &File, place: &Place) -> bool {
    let path = Path::new(std::ffi::OsStr::from_bytes(&place.canonical));
    let relative = path.strip_prefix("/").unwrap_or(path);
    let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    // IN_ROOT: the links of a container lead to its own files, not to ours.
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let there = openat2(root, relative, flags, Mode::empty(), resolve).and_then(fstat);
    let here = rustix::fs::stat(path);
    matches!((there, here), (Ok(there), Ok(here))
        if (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino))
}

/// One line about an object, for a person.
pub(crate) fn line(found: &Unreachable) -> String {
    format!(
        "{} is not visible in {} of {} processes of {} ({}): their root is another file system",
        found.object,
        found.hidden,
        found.of,
        found.workload,
        escape(found.policy.as_bytes())
    )
}

/// How much is asked, at most.
const PROCESSES: usize = 512;
const VIEWS: usize = 32;
const OBJECTS: usize = 256;
