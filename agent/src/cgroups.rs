// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The cgroups of this host: those of workloads, and the two of our own.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use aegis_policy::{BuiltIn, NumberedWorkload};
use anyhow::Context as _;

/// One cgroup.
#[derive(Clone, Debug)]
pub(crate) struct Cgroup {
    /// From the root of the hierarchy, `/` first.
    pub(crate) path: Vec<u8>,
    /// The kernel's number.
    pub(crate) id: u64,
    /// Processes in it, those below left out.
    pub(crate) processes: Vec<u32>,
}

/// What is there now of one workload.
#[derive(Clone, Debug)]
pub(crate) struct Present {
    /// Cgroups that it selects, none of them below another.
    pub(crate) cgroups: Vec<Vec<u8>>,
    /// Processes in these and below.
    pub(crate) processes: Vec<u32>,
}

/// Every cgroup below a mount of the hierarchy, parents first.
pub(crate) fn all(mount: &Path) -> anyhow::Result<Vec<Cgroup>> {
    let mut found = Vec::new();
    let mut waiting = vec![mount.to_owned()];
    while let Some(directory) = waiting.pop() {
        match look(mount, &directory) {
            Ok((cgroup, mut below)) => {
                found.push(cgroup);
                waiting.append(&mut below);
            }
            // Gone since its parent was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound && directory != mount => {}
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("failed to list the cgroup {}", directory.display()));
            }
        }
    }
    Ok(found)
}

/// The path of each cgroup by its number.
pub(crate) fn paths_by_id(mount: &Path) -> BTreeMap<u64, Vec<u8>> {
    let all = all(mount).unwrap_or_default();
    all.into_iter().map(|cgroup| (cgroup.id, cgroup.path)).collect()
}

/// What of a workload is there.
pub(crate) fn present(workload: &NumberedWorkload, all: &[Cgroup]) -> Present {
    let selects = |path: &[u8]| workload.cgroups.iter().any(|pattern| pattern.selects(path));
    let selected: Vec<&Cgroup> = all.iter().filter(|cgroup| selects(&cgroup.path)).collect();
    let top = selected.iter().filter(|cgroup| !selects(parent(&cgroup.path)));
    Present {
        cgroups: top.map(|cgroup| cgroup.path.clone()).collect(),
        processes: selected.iter().flat_map(|cgroup| cgroup.processes.iter().copied()).collect(),
    }
}

/// The two cgroups of our own.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    mount: PathBuf,
}

impl Own {
    pub(crate) const fn new(mount: PathBuf) -> Self {
        Self { mount }
    }

    /// Whether any of ours is there.
    pub(crate) fn exists(&self) -> bool {
        self.top().exists()
    }

    /// Where the hierarchy is mounted.
    pub(crate) fn mount(&self) -> &Path {
        &self.mount
    }

    /// Makes those that are missing; the answer is what was made, outermost first.
    pub(crate) fn make(&self) -> anyhow::Result<Vec<PathBuf>> {
        let mut made = Vec::new();
        for path in [self.top(), self.exempt(), self.scratch()] {
            match fs::create_dir(&path) {
                Ok(()) => made.push(path),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("failed to make the cgroup {}", path.display()));
                }
            }
        }
        Ok(made)
    }

    /// Takes ours away; what still runs there goes to the root cgroup. The answer is whether there
    /// was any.
    pub(crate) fn remove(&self) -> anyhow::Result<bool> {
        if !self.exists() {
            return Ok(false);
        }
        // Innermost first: parents come before children in the list.
        let mut ours = all(&self.top())?;
        while let Some(cgroup) = ours.pop() {
            let relative = cgroup.path.strip_prefix(b"/").unwrap_or(&cgroup.path);
            let path = self.top().join(std::ffi::OsStr::from_bytes(relative));
            remove_one(&path, &self.mount.join(PROCESSES))
                .with_context(|| format!("failed to remove the cgroup {}", path.display()))?;
        }
        Ok(true)
    }

    /// Where this process would join the cgroup that it is in.
    pub(crate) fn home(&self) -> Option<PathBuf> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
        Some(self.mount.join(path).join(PROCESSES))
    }

    /// Moves this process into the exempt cgroup, if it is there.
    pub(crate) fn join_exempt(&self) -> io::Result<()> {
        fs::write(self.exempt_processes(), "0")
    }

    /// Where a process joins the exempt cgroup.
    pub(crate) fn exempt_processes(&self) -> PathBuf {
        self.exempt().join(PROCESSES)
    }

    /// Where a process joins the scratch cgroup.
    pub(crate) fn scratch_processes(&self) -> PathBuf {
        self.scratch().join(PROCESSES)
    }

    /// The number of the exempt cgroup.
    pub(crate) fn exempt_id(&self) -> anyhow::Result<u64> {
        id(&self.exempt())
    }

    /// The number of the scratch cgroup.
    pub(crate) fn scratch_id(&self) -> anyhow::Result<u64> {
        id(&self.scratch())
    }

    fn exempt(&self) -> PathBuf {
        self.at(BuiltIn::EXEMPT_CGROUP)
    }

    fn scratch(&self) -> PathBuf {
        self.at(BuiltIn::SCRATCH_CGROUP)
    }

    fn top(&self) -> PathBuf {
        self.exempt().parent().unwrap_or(&self.mount).to_owned()
    }

    fn at(&self, path: &str) -> PathBuf {
        self.mount.join(path.trim_start_matches('/'))
    }
}

/// Removes one cgroup. A process that was just moved away, or ended, may keep it for a moment.
fn remove_one(path: &Path, root_processes: &Path) -> io::Result<()> {
    let mut attempts = 0;
    loop {
        for process in processes(&path.join(PROCESSES))? {
            match fs::write(root_processes, process.to_string()) {
                // ESRCH: it ended by itself.
                Err(error) if error.raw_os_error() != Some(3) => return Err(error),
                _ => {}
            }
        }
        match fs::remove_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && attempts < 100 => {
                attempts += 1;
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            removed => return removed,
        }
    }
}

fn id(path: &Path) -> anyhow::Result<u64> {
    let metadata = fs::metadata(path)
        .with_context(|| format!("failed to look at the cgroup {}", path.display()))?;
    Ok(metadata.ino())
}

fn look(mount: &Path, directory: &Path) -> io::Result<(Cgroup, Vec<PathBuf>)> {
    let id = fs::metadata(directory)?.ino();
    let mut below = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            below.push(entry.path());
        }
    }
    let relative = directory.strip_prefix(mount).unwrap_or(directory);
    let path = [b"/", relative.as_os_str().as_bytes()].concat();
    let processes = processes(&directory.join(PROCESSES))?;
    Ok((Cgroup { path, id, processes }, below))
}

fn processes(path: &Path) -> io::Result<Vec<u32>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
        // EOPNOTSUPP: a threaded cgroup, whose processes its domain lists. ENODEV: just removed.
        Err(error) if matches!(error.raw_os_error(), Some(95 | 19)) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn parent(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    path.get(..end).unwrap_or_default()
}

/// A path of /proc/*/mounts: `\ooo` stands for a byte.
pub(crate) fn unescape(field: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, after)) = rest.split_first() {
        let octal = after
            .get(..3)
            .filter(|_| *byte == b'\\')
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        path.push(octal.unwrap_or(*byte));
        rest = if octal.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    path
}

const PROCESSES: &str = "cgroup.procs";

#[cfg(test)]
mod tests {
    use aegis_policy::{CgroupPattern, NamePattern};

    use super::*;

    #[test]
    fn a_workload_is_counted_once_where_cgroups_are_nested() {
        let names = [b"w".to_vec()].map(NamePattern::Exact).to_vec();
        let workload = NumberedWorkload {
            number: 1,
            policy: "p".to_owned(),
            name: "w".to_owned(),
            cgroups: vec![CgroupPattern { components: names }],
            built_in: false,
        };
        let cgroup = |path: &[u8], processes: &[u32]| Cgroup {
            path: path.to_vec(),
            id: 0,
            processes: processes.to_vec(),
        };
        let all = [cgroup(b"/", &[1]), cgroup(b"/w", &[2]), cgroup(b"/w/x", &[3, 4])];
        let present = present(&workload, &all);
        assert_eq!(present.cgroups, [b"/w".to_vec()]);
        assert_eq!(present.processes, [2, 3, 4]);
    }
}
