// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The cgroups of this host: those of workloads, and the two of our own.

use std::{
    collections::BTreeMap,
    ffi::CString,
    fs::{self, File},
    io::{self, Read as _},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use aegis_policy::{BuiltIn, NumberedWorkload, escape};
use anyhow::Context as _;
use rustix::{
    fs::{CWD, Dir, FileType, Mode, OFlags, openat},
    io::Errno,
    path::Arg,
};

use crate::output::plural;

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

/// Every cgroup that could be listed.
#[derive(Debug, Default)]
pub(crate) struct Cgroups {
    /// Parents first.
    pub(crate) all: Vec<Cgroup>,
    /// How many could not be listed, with what is below them.
    skipped: usize,
    /// The first of these, and why.
    first: Option<(Vec<u8>, Errno)>,
}

/// Every cgroup below a mount of the hierarchy.
///
/// Whoever has a cgroup delegated makes trees that are deeper than a path can be long: so names are
/// opened one by one, and what cannot be listed is left out.
pub(crate) fn all(mount: &Path) -> Cgroups {
    let mut found = Cgroups::default();
    match open_directory(CWD, mount) {
        Ok(open) => walk(open, &mut found),
        Err(error) => found.skip(b"/".to_vec(), error),
    }
    found
}

impl Cgroups {
    /// What was left out, in a line.
    pub(crate) fn warning(&self) -> Option<String> {
        let (path, error) = self.first.as_ref()?;
        Some(format!(
            "{} could not be listed, and what is below is not counted; the first is {}: {error}",
            plural(self.skipped, "cgroup"),
            escape(path)
        ))
    }

    fn skip(&mut self, path: Vec<u8>, error: Errno) {
        // Gone since it was listed.
        if !matches!(error, Errno::NOENT | Errno::NODEV) {
            self.skipped += 1;
            self.first.get_or_insert((path, error));
        }
    }
}

/// One directory on the present way.
struct Level {
    open: OwnedFd,
    path: Vec<u8>,
    /// Cgroups in it that are still to be listed.
    below: Vec<CString>,
}

fn walk(root: OwnedFd, found: &mut Cgroups) {
    let mut way = Vec::new();
    enter(root, b"/".to_vec(), &mut way, found);
    while let Some(level) = way.last_mut() {
        let Some(name) = level.below.pop() else {
            way.pop();
            continue;
        };
        let separator: &[u8] = if level.path == b"/" { b"" } else { b"/" };
        let path = [level.path.as_slice(), separator, name.to_bytes()].concat();
        match open_directory(&level.open, &name) {
            Ok(_) if way.len() >= DEPTH => found.skip(path, Errno::NAMETOOLONG),
            Ok(open) => enter(open, path, &mut way, found),
            Err(error) => found.skip(path, error),
        }
    }
}

fn enter(open: OwnedFd, path: Vec<u8>, way: &mut Vec<Level>, found: &mut Cgroups) {
    match look(&open, &path) {
        Ok((cgroup, below)) => {
            found.all.push(cgroup);
            way.push(Level { open, path, below });
        }
        Err(error) => found.skip(path, error),
    }
}

/// The path of each cgroup by its number.
pub(crate) fn paths_by_id(mount: &Path) -> BTreeMap<u64, Vec<u8>> {
    all(mount).all.into_iter().map(|cgroup| (cgroup.id, cgroup.path)).collect()
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
        let mut ours = all(&self.top()).all;
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
        for process in processes(&open_directory(CWD, path)?)? {
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

/// One cgroup, and the names of those in it.
fn look(open: &OwnedFd, path: &[u8]) -> Result<(Cgroup, Vec<CString>), Errno> {
    let id = rustix::fs::fstat(open)?.st_ino;
    let mut below = Vec::new();
    for entry in Dir::read_from(open)? {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type() == FileType::Directory && !matches!(name.to_bytes(), b"." | b"..") {
            below.push(name.to_owned());
        }
    }
    let processes = processes(open)?;
    Ok((Cgroup { path: path.to_vec(), id, processes }, below))
}

fn processes(cgroup: &OwnedFd) -> Result<Vec<u32>, Errno> {
    let failed = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let mut file = File::from(openat(cgroup, PROCESSES, flags, Mode::empty())?);
    let mut text = String::new();
    match file.read_to_string(&mut text).map_err(failed) {
        Ok(_) => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
        // A threaded cgroup, whose processes its domain lists; or one that was just removed.
        Err(Errno::OPNOTSUPP | Errno::NODEV) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn open_directory(parent: impl AsFd, name: impl Arg) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty())
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

/// How deep cgroups are listed: each level is an open file, of which a process has 1024.
const DEPTH: usize = 200;

#[cfg(test)]
mod tests {
    use aegis_policy::{CgroupPattern, NamePattern};

    use super::*;
    use crate::files::tests::Scratch;

    /// A directory with a list of processes, as a cgroup has one.
    fn make(parent: &OwnedFd, name: &str) -> OwnedFd {
        rustix::fs::mkdirat(parent, name, Mode::RWXU).unwrap();
        let open = open_directory(parent, name).unwrap();
        let flags = OFlags::CREATE | OFlags::WRONLY;
        let list = openat(&open, PROCESSES, flags, Mode::RUSR).unwrap();
        rustix::io::write(&list, b"7\n").unwrap();
        open
    }

    #[test]
    fn a_tree_deeper_than_a_path_is_long_is_listed_as_far_as_that_goes() {
        let scratch = Scratch::new();
        let root = make(&open_directory(CWD, &scratch.0).unwrap(), "mount");
        make(&root, "beside");
        let name = "n".repeat(200);
        let mut deepest = make(&root, "deep");
        for _ in 0..DEPTH {
            deepest = make(&deepest, &name);
        }
        let found = all(&scratch.0.join("mount"));
        assert!(found.all.iter().any(|cgroup| cgroup.path == b"/beside"), "{:?}", found.first);
        assert!(found.all.iter().any(|cgroup| cgroup.path.len() > 4096));
        assert!(found.all.iter().all(|cgroup| cgroup.processes == [7]));
        assert_eq!(found.all.len(), DEPTH + 1);
        let warning = found.warning().unwrap();
        assert!(warning.starts_with("1 cgroup could not be listed"), "{warning}");
    }

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
