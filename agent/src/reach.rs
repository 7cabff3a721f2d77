// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whether the processes of a workload can reach an object at all: the `/etc/shadow` of a container
//! is another file than the host's, and a rule on the host's says nothing about it.
//!
//! Only what runs now is asked, and no more than a bounded number of its views of the file system.
//! Whoever serves a file system over FUSE or a network may never answer: what is there is not asked.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, File},
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::Path,
};

use aegis_kernel::probe::namespace;
use aegis_policy::{NumberedWorkload, ObjectState, Place, Places, Ruleset, escape};
use rustix::{
    fs::{Mode, OFlags, ResolveFlags, fstat, openat2},
    io::Errno,
};
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

/// What was found of all workloads.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Reach {
    pub(crate) unreachable: Vec<Unreachable>,
    /// Processes that were not asked, or not for everything: FUSE or a network serves their root, or
    /// something on the way, or it is not known what does.
    pub(crate) not_asked: usize,
}

/// A root directory in a mount namespace: what paths mean to a process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct View {
    namespace: u64,
    dev: u64,
    ino: u64,
}

/// How processes see paths.
struct Seen {
    root: File,
    /// Where file systems are mounted that may never answer.
    slow: Vec<Vec<u8>>,
    /// How many processes see it so.
    count: usize,
    /// Whether something was not asked.
    skipped: bool,
}

/// Every object of a rule that processes of its workload cannot reach.
pub(crate) fn unreachable(ruleset: &Ruleset, places: &Places, all: &[Cgroup]) -> Reach {
    let mut found = Reach::default();
    let Some(ours) = namespace("self", "mnt") else { return found };
    // What is beneath one of ours could be asked for a moment ago, and need not answer now.
    let here = fs::read("/proc/self/mountinfo").ok().and_then(|mounts| slow_mounts(&mounts));
    let Some(here) = here else { return found };
    for workload in ruleset.workloads().iter().filter(|workload| !workload.built_in) {
        let processes = cgroups::present(workload, all).processes;
        let Views { as_we, not_asked, mut others } = views(ours, &processes);
        let of = as_we + others.values().map(|seen| seen.count).sum::<usize>();
        for place in objects(ruleset, places, workload).take(OBJECTS) {
            let mut hidden = 0;
            let path = Path::new(OsStr::from_bytes(&place.canonical));
            let slow_here = here.iter().any(|slow| path.starts_with(OsStr::from_bytes(slow)));
            for seen in others.values_mut() {
                if slow_here {
                    seen.skipped = true;
                    continue;
                }
                match sees(seen, place) {
                    Some(true) => {}
                    Some(false) => hidden += seen.count,
                    None => seen.skipped = true,
                }
            }
            if hidden > 0 {
                found.unreachable.push(Unreachable {
                    object: place.object.written(),
                    policy: workload.policy.clone(),
                    workload: workload.name.clone(),
                    hidden,
                    of,
                });
            }
        }
        let partly = others.values().filter(|seen| seen.skipped).map(|seen| seen.count);
        found.not_asked += not_asked + partly.sum::<usize>();
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

/// The views of a workload's processes.
#[derive(Default)]
struct Views {
    /// How many see what we see.
    as_we: usize,
    not_asked: usize,
    others: BTreeMap<View, Seen>,
}

fn views(ours: u64, processes: &[u32]) -> Views {
    let mut views = Views::default();
    for pid in processes.iter().take(PROCESSES) {
        let process = Path::new("/proc").join(pid.to_string());
        // What is gone by now is not there to be asked.
        let Some(namespace) = namespace(&pid.to_string(), "mnt") else { continue };
        let Ok(root) = fs::read_link(process.join("root")) else { continue };
        if namespace == ours && root == Path::new("/") {
            views.as_we += 1;
            continue;
        }
        let Ok(mountinfo) = fs::read(process.join("mountinfo")) else { continue };
        let Some(slow) = slow_mounts(&mountinfo) else {
            views.not_asked += 1;
            continue;
        };
        let Some((view, root)) = view(namespace, &process) else { continue };
        if views.others.len() < VIEWS || views.others.contains_key(&view) {
            let fresh = Seen { root, slow, count: 0, skipped: false };
            views.others.entry(view).or_insert(fresh).count += 1;
        }
    }
    views
}

/// How a process sees the file system, whose root must answer; `None` if it is gone.
fn view(namespace: u64, process: &Path) -> Option<(View, File)> {
    let root = File::open(process.join("root")).ok()?;
    let metadata = root.metadata().ok()?;
    Some((View { namespace, dev: metadata.dev(), ino: metadata.ino() }, root))
}

/// Where file systems are mounted that may never answer, as a process sees it; `None` if its root is
/// one of them, or is no mount point, so that it is not known on what it is.
fn slow_mounts(mountinfo: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut root = false;
    let mut slow = Vec::new();
    for line in mountinfo.split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b' ');
        let Some(at) = fields.nth(4).map(cgroups::unescape) else { continue };
        root |= at == b"/";
        let kind = fields.skip_while(|field| *field != b"-").nth(1);
        if kind.is_none_or(is_slow) {
            slow.push(at);
        }
    }
    (root && !slow.iter().any(|at| at == b"/")).then_some(slow)
}

fn is_slow(kind: &[u8]) -> bool {
    let begins = [b"fuse".as_slice(), b"nfs"].iter().any(|name| kind.starts_with(name));
    begins || [b"9p".as_slice(), b"cifs", b"smb3", b"ceph", b"afs"].contains(&kind)
}

/// Whether a path below a root leads to the file that it leads to here; `None` if that cannot be
/// asked without waiting for who may never answer.
fn sees(seen: &Seen, place: &Place) -> Option<bool> {
    let path = Path::new(OsStr::from_bytes(&place.canonical));
    if seen.slow.iter().any(|slow| path.starts_with(OsStr::from_bytes(slow))) {
        return None;
    }
    let relative = path.strip_prefix("/").unwrap_or(path);
    let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    // IN_ROOT: the links of a container lead to its own files, not to ours.
    let mut resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    if !seen.slow.is_empty() {
        resolve |= ResolveFlags::NO_SYMLINKS; // they could lead there
    }
    let there = openat2(&seen.root, relative, flags, Mode::empty(), resolve).and_then(fstat);
    let here = rustix::fs::stat(path);
    match (there, here) {
        (Err(Errno::LOOP), _) if !seen.slow.is_empty() => None,
        (Ok(there), Ok(here)) => Some((there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)),
        _ => Some(false),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_that_may_never_answer_is_not_opened() {
        let line = |at: &str, kind: &str| format!("22 1 0:5 / {at} rw shared:1 - {kind} src rw\n");
        let slow = |lines: &[String]| slow_mounts(lines.concat().as_bytes());
        assert_eq!(slow(&[line("/", "overlay"), line("/proc", "proc")]), Some(Vec::new()));
        for kind in ["fuse", "fuse.sshfs", "fuseblk", "nfs", "nfs4", "9p", "cifs", "ceph"] {
            assert_eq!(slow(&[line("/", kind)]), None, "{kind}");
            assert_eq!(slow(&[line("/", "ext4"), line("/", kind)]), None, "{kind} over another");
            let beside = slow(&[line("/", "ext4"), line("/a\\040b", kind)]);
            assert_eq!(beside, Some(vec![b"/a b".to_vec()]), "{kind}");
        }
        assert_eq!(slow(&[line("/proc", "proc")]), None, "a root that is no mount point");
    }
}
