// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel's walk over rows, written again in Rust over a simulated host. For tests only.
//!
//! [`World`] is a tree of directories and files with hard links, symbolic links, bind mounts and
//! other filesystems; it answers as a [`Host`]. [`scope_of`] and [`answer`] do with [`Rows`] what
//! the programs do with maps. So labels, rows and the tree of cgroups can be compared with
//! [`decide`](crate::decide), which knows none of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aegis_abi::{
    Access, Action, CgroupRow, InodeKey, NameKey, ObjectRow, Rows, Verdict, generated,
    hash_cgroup_name, hash_name,
};

use crate::{
    Accesses, BuiltIn, Component, Decision, Found, Host, HostError, Kind, names::components,
    policy::covers,
};

/// A simulated host.
#[derive(Clone, Debug)]
pub struct World {
    inodes: Vec<Inode>,
    /// Mount point → what is mounted there.
    mounts: BTreeMap<Point, Mount>,
    /// How many mounts there ever were; the first is that of the root directory.
    mounted: usize,
    asked: usize,
}

/// A directory as one mount shows it: its number, and the directory's inode.
type Point = (usize, usize);

#[derive(Clone, Debug)]
struct Mount {
    number: usize,
    path: Vec<u8>,
    /// The directory that is seen there.
    root: usize,
}

#[derive(Clone, Debug)]
struct Inode {
    dev: u32,
    magic: u64,
    /// Whether it has the number that all such have.
    is_subvolume: bool,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    /// Its directory above in its own filesystem, and what it holds.
    Directory {
        above: usize,
        entries: BTreeMap<Vec<u8>, usize>,
    },
    File,
    Link(Vec<u8>),
}

/// One step of a way: a name, and the inode that stands there.
type Step = (Vec<u8>, usize);

/// One mount's part of a way.
struct Part<'p> {
    mount: usize,
    /// From the filesystem's root, which has no name, to the object or a mount point.
    steps: Vec<Step>,
    /// The names that follow beyond that mount point, up to the next one.
    beyond: Vec<&'p [u8]>,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// A host with an empty root directory, on ext4.
    pub fn new() -> Self {
        let root =
            Inode { dev: 1, magic: EXT4, is_subvolume: false, body: Body::empty_directory(ROOT) };
        Self { inodes: vec![root], mounts: BTreeMap::new(), mounted: 1, asked: 0 }
    }

    /// Makes a directory, and those above it; `false` if something else is in the way.
    pub fn make_directory(&mut self, path: &[u8]) -> bool {
        let mut at = Vec::new();
        for name in components(path) {
            let Some(parent) = self.inode_at(&at) else { return false };
            at.push(b'/');
            at.extend_from_slice(name);
            if self.inode_at(&at).is_none() {
                let inode = self.fresh(parent, Body::empty_directory(parent));
                self.enter(parent, name, inode);
            }
        }
        self.inode_at(path).is_some_and(|inode| self.is_directory(inode))
    }

    /// Makes a file, in the place of what was there; `false` if there is no directory for it.
    pub fn make_file(&mut self, path: &[u8]) -> bool {
        self.make(path, Body::File)
    }

    /// Makes a symbolic link, in the place of what was there.
    pub fn make_link(&mut self, path: &[u8], content: &[u8]) -> bool {
        self.make(path, Body::Link(content.to_vec()))
    }

    /// Gives a file one more name.
    pub fn hard_link(&mut self, file: &[u8], path: &[u8]) -> bool {
        match (self.inode_at(file), self.parent(path)) {
            (Some(inode), Some((parent, name))) if !self.is_directory(inode) => {
                self.enter(parent, name, inode);
                true
            }
            _ => false,
        }
    }

    /// Takes a name away, with all beneath it.
    pub fn remove(&mut self, path: &[u8]) -> bool {
        match self.parent(path) {
            Some((parent, name)) => {
                self.entries_mut(parent).is_some_and(|entries| entries.remove(name).is_some())
            }
            None => false,
        }
    }

    /// Moves a name, onto another if that is there.
    pub fn rename(&mut self, from: &[u8], to: &[u8]) -> bool {
        let (Some(inode), Some((parent, name))) = (self.inode_at(from), self.parent(to)) else {
            return false;
        };
        let name = name.to_vec();
        // A directory cannot be put into itself, by whatever path.
        if self.way_to_directory(parent).iter().any(|(_, above)| *above == inode) {
            return false;
        }
        if !self.remove(from) {
            return false;
        }
        self.enter(parent, &name, inode);
        if let Some(Inode { body: Body::Directory { above, .. }, .. }) = self.inodes.get_mut(inode)
        {
            *above = parent;
        }
        true
    }

    /// Shows one directory at another.
    pub fn bind(&mut self, from: &[u8], to: &[u8]) -> bool {
        match self.inode_at(from) {
            Some(from) if self.is_directory(from) => self.attach(from, to),
            _ => false,
        }
    }

    /// Mounts an empty filesystem on a directory.
    pub fn mount(&mut self, to: &[u8]) -> bool {
        let root = self.inodes.len();
        let dev = u32::try_from(root + 2).unwrap_or(u32::MAX);
        self.inodes.push(Inode {
            dev,
            magic: TMPFS,
            is_subvolume: false,
            body: Body::empty_directory(root),
        });
        self.attach(root, to)
    }

    /// Takes away what was mounted last on a directory; `false` if something is mounted beneath.
    pub fn unmount(&mut self, path: &[u8]) -> bool {
        let Some((number, _)) = self.point(path) else { return false };
        let busy = self.mounts.keys().any(|(on, _)| *on == number);
        let is_this = |mount: &Mount| mount.number == number && mount.path == path;
        let point = self.mounts.iter().find(|(_, mount)| is_this(mount)).map(|(point, _)| *point);
        !busy && point.is_some_and(|point| self.mounts.remove(&point).is_some())
    }

    /// Mounts a btrfs on a directory: its root is a subvolume.
    pub fn mount_btrfs(&mut self, to: &[u8]) -> bool {
        let mounted = self.mount(to);
        if let Some(root) = self.inodes.last_mut().filter(|_| mounted) {
            root.magic = BTRFS;
            root.is_subvolume = true;
        }
        mounted
    }

    /// Makes a directory that is a subvolume of the btrfs above it.
    pub fn make_subvolume(&mut self, path: &[u8]) -> bool {
        let fresh = self.inode_at(path).is_none() && self.make_directory(path);
        if let Some(root) = self.inodes.last_mut().filter(|inode| fresh && inode.magic == BTRFS) {
            root.is_subvolume = true;
        }
        fresh
    }

    /// Every path of every file, with what it leads to; links are not followed.
    pub fn files(&self) -> Vec<(Vec<u8>, InodeKey)> {
        let mut files = Vec::new();
        self.collect(&mut Vec::new(), (0, ROOT), &mut files);
        files
    }

    /// How often the host was asked.
    pub const fn asked(&self) -> usize {
        self.asked
    }

    fn attach(&mut self, root: usize, to: &[u8]) -> bool {
        let Some(on) = self.point(to).filter(|(_, inode)| self.is_directory(*inode)) else {
            return false;
        };
        if to == b"/" {
            return false;
        }
        self.mounts.insert(on, Mount { number: self.mounted, path: to.to_vec(), root });
        self.mounted += 1;
        true
    }

    fn collect(&self, path: &mut Vec<u8>, at: Point, files: &mut Vec<(Vec<u8>, InodeKey)>) {
        // A bind mount of a directory above itself shows itself without an end.
        if components(path).count() > DEEPEST {
            return;
        }
        let (mount, inode) = at;
        match self.inodes.get(inode).map(|inode| &inode.body) {
            Some(Body::File) => files.push((path.clone(), self.key(inode))),
            Some(Body::Directory { entries, .. }) => {
                for (name, entry) in entries {
                    let length = path.len();
                    path.push(b'/');
                    path.extend_from_slice(name);
                    let mut there = (mount, *entry);
                    while let Some(mount) = self.mounts.get(&there) {
                        there = (mount.number, mount.root);
                    }
                    self.collect(path, there, files);
                    path.truncate(length);
                }
            }
            Some(Body::Link(_)) | None => {}
        }
    }

    fn make(&mut self, path: &[u8], body: Body) -> bool {
        let Some((parent, name)) = self.parent(path) else { return false };
        let name = name.to_vec();
        let inode = self.fresh(parent, body);
        self.enter(parent, &name, inode);
        true
    }

    fn fresh(&mut self, beside: usize, body: Body) -> usize {
        let (dev, magic) =
            self.inodes.get(beside).map_or((1, EXT4), |inode| (inode.dev, inode.magic));
        self.inodes.push(Inode { dev, magic, is_subvolume: false, body });
        self.inodes.len() - 1
    }

    fn enter(&mut self, directory: usize, name: &[u8], inode: usize) {
        if let Some(entries) = self.entries_mut(directory) {
            entries.insert(name.to_vec(), inode);
        }
    }

    fn entries_mut(&mut self, directory: usize) -> Option<&mut BTreeMap<Vec<u8>, usize>> {
        match &mut self.inodes.get_mut(directory)?.body {
            Body::Directory { entries, .. } => Some(entries),
            Body::File | Body::Link(_) => None,
        }
    }

    fn is_directory(&self, inode: usize) -> bool {
        matches!(self.inodes.get(inode), Some(Inode { body: Body::Directory { .. }, .. }))
    }

    /// The directory that a path is in, and its last name; mount points cannot be replaced.
    fn parent<'p>(&self, path: &'p [u8]) -> Option<(usize, &'p [u8])> {
        if self.mounts.values().any(|mount| mount.path.starts_with(path)) {
            return None;
        }
        let at = path.iter().rposition(|byte| *byte == b'/')?;
        let parent = self.inode_at(path.get(..at)?).filter(|inode| self.is_directory(*inode))?;
        Some((parent, path.get(at + 1..).filter(|name| !name.is_empty())?))
    }

    /// What stands at a path, links not followed, mounts crossed.
    fn inode_at(&self, path: &[u8]) -> Option<usize> {
        self.point(path).map(|(_, inode)| inode)
    }

    fn point(&self, path: &[u8]) -> Option<Point> {
        let way = self.way(path)?;
        let part = way.last()?;
        part.steps.last().map(|(_, inode)| (part.mount, *inode))
    }

    /// The way to a path: a part for each mount on it, the outermost first.
    fn way<'p>(&self, path: &'p [u8]) -> Option<Vec<Part<'p>>> {
        let mut way = vec![Part { mount: 0, steps: vec![(Vec::new(), ROOT)], beyond: Vec::new() }];
        for name in components(path) {
            let part = way.last_mut()?;
            let (_, inode) = part.steps.last()?;
            let Body::Directory { entries, .. } = &self.inodes.get(*inode)?.body else {
                return None;
            };
            let inode = *entries.get(name)?;
            part.steps.push((name.to_vec(), inode));
            let mut point = (part.mount, inode);
            if let Some(outer) = way.iter_mut().rev().nth(1) {
                outer.beyond.push(name);
            }
            while let Some(mount) = self.mounts.get(&point) {
                let steps = self.way_to_directory(mount.root);
                way.push(Part { mount: mount.number, steps, beyond: Vec::new() });
                point = (mount.number, mount.root);
            }
        }
        Some(way)
    }

    /// The steps from the root of a directory's filesystem to it.
    fn way_to_directory(&self, directory: usize) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut at = directory;
        while let Some(Inode { body: Body::Directory { above, .. }, .. }) = self.inodes.get(at) {
            if *above == at {
                break;
            }
            let name = self.name_in(*above, at).unwrap_or_default();
            steps.push((name, at));
            at = *above;
        }
        steps.push((Vec::new(), at));
        steps.reverse();
        steps
    }

    fn name_in(&self, directory: usize, inode: usize) -> Option<Vec<u8>> {
        let Body::Directory { entries, .. } = &self.inodes.get(directory)?.body else {
            return None;
        };
        entries.iter().find(|(_, entry)| **entry == inode).map(|(name, _)| name.clone())
    }

    fn key(&self, inode: usize) -> InodeKey {
        let Some(Inode { dev, is_subvolume, .. }) = self.inodes.get(inode) else {
            return InodeKey { ino: 0, dev: 0, generation: 0 };
        };
        let ino = if *is_subvolume { SUBVOLUME } else { FIRST_INO + inode as u64 };
        InodeKey { ino, dev: *dev, generation: 7 }
    }
}

impl Body {
    const fn empty_directory(above: usize) -> Self {
        Self::Directory { above, entries: BTreeMap::new() }
    }
}

impl Host for World {
    fn look(&mut self, path: &[u8]) -> Result<Found, HostError> {
        self.asked += 1;
        let Some(number) = self.inode_at(path) else { return Ok(Found::Absent) };
        let Some(inode) = self.inodes.get(number) else { return Ok(Found::Absent) };
        let kind = match &inode.body {
            Body::Link(content) => return Ok(Found::Link(content.clone())),
            Body::Directory { .. } => Kind::Directory,
            Body::File => Kind::File,
        };
        let magic = inode.magic;
        let key = self.key(number);
        Ok(Found::There(Component { key, kind, case_insensitive: false, magic }))
    }

    fn filesystems(&mut self) -> Result<Vec<u32>, HostError> {
        Ok(self.inodes.iter().map(|inode| inode.dev).collect())
    }

    fn mounts(&mut self) -> Result<Vec<Vec<u8>>, HostError> {
        Ok(self.mounts.values().map(|mount| mount.path.clone()).collect())
    }

    fn linked(&mut self, directory: &[u8]) -> Result<Vec<Vec<u8>>, HostError> {
        let bodies = self.inodes.iter().map(|inode| &inode.body);
        let entries = bodies.filter_map(|body| match body {
            Body::Directory { entries, .. } => Some(entries.values()),
            Body::File | Body::Link(_) => None,
        });
        let mut links: HashMap<InodeKey, usize> = HashMap::new();
        for inode in entries.flatten() {
            *links.entry(self.key(*inode)).or_default() += 1;
        }
        let beneath = |path: &[u8]| covers(directory, true, path);
        let files = self.files().into_iter();
        let several = files.filter(|(path, key)| beneath(path) && links.get(key) > Some(&1));
        Ok(several.map(|(path, _)| path).collect())
    }
}

/// The scope of a cgroup, as the programs find it.
pub fn scope_of(rows: &Rows, cgroup: &[u8]) -> u32 {
    let table: HashMap<(u32, u32, u64), CgroupRow> =
        rows.cgroups.iter().map(|(key, row)| ((key.node, key.kind, key.hash), *row)).collect();
    let row = |node, kind, hash| table.get(&(node, kind, hash)).copied();
    let mut here = CgroupRow { scope: rows.root_scope, node: 1, flags: rows.root_flags };
    for name in components(cgroup) {
        let whole = row(here.node, generated::AEGIS_NAME, hash_cgroup_name(rows.seed, name));
        let by_class = || {
            if here.flags & generated::AEGIS_CGROUP_PATTERNS == 0 {
                return None;
            }
            let longest = |kind, reversed: bool| {
                let mut hash = rows.seed;
                let mut class = row(here.node, kind, hash);
                let mut letters = name.to_vec();
                if reversed {
                    letters.reverse();
                }
                for letter in letters {
                    hash = hash_cgroup_name(hash, &[letter]);
                    class = row(here.node, kind, hash).or(class);
                }
                class.map_or(0, |class| u64::from(class.node))
            };
            let prefix = longest(generated::AEGIS_PREFIX, false);
            let suffix = longest(generated::AEGIS_SUFFIX, true);
            row(here.node, generated::AEGIS_CLASS, prefix << 32 | suffix)
        };
        here =
            whole.or_else(by_class).unwrap_or(CgroupRow { scope: here.scope, node: 0, flags: 0 });
    }
    here.scope
}

/// What comes of an open, as the programs decide it; `None` if no rule speaks.
pub fn answer(
    rows: &Rows,
    world: &World,
    cgroup: &[u8],
    path: &[u8],
    accesses: Accesses,
) -> Option<Decision> {
    let scope = scope_of(rows, cgroup);
    if scope == 0 || cgroup == BuiltIn::EXEMPT_CGROUP.as_bytes() {
        return None;
    }
    labels_of(rows, world, path)
        .into_iter()
        .filter_map(|label| verdict(rows, scope, label))
        .filter_map(|verdict| strongest(verdict, accesses))
        .min_by_key(|decision| (decision.action, decision.rule, decision.access))
}

/// The labels that a walk from a path finds, in no order; none if nothing stands there.
pub fn labels_of(rows: &Rows, world: &World, path: &[u8]) -> BTreeSet<u32> {
    let walk = Walk {
        rows,
        world,
        objects: rows.objects.iter().map(|(key, row)| (*key, *row)).collect(),
        names: rows.names.iter().map(|(key, row)| (*key, *row)).collect(),
    };
    world.way(path).map_or_else(BTreeSet::new, |way| walk.labels(&way).into_iter().collect())
}

/// One scope's answer for one label.
pub fn verdict(rows: &Rows, scope: u32, label: u32) -> Option<&Verdict> {
    rows.verdicts.get(scope as usize * rows.labels as usize + label as usize)
}

fn strongest(verdict: &Verdict, accesses: Accesses) -> Option<Decision> {
    let decision = |action: Action, access: Access| {
        let rule = *verdict.rule.get(action.index())?.get(access.index())?;
        (rule != 0).then_some(Decision { action, rule, access })
    };
    Action::ALL
        .into_iter()
        .flat_map(|action| accesses.iter().filter_map(move |access| decision(action, access)))
        .min_by_key(|decision| (decision.action, decision.rule, decision.access))
}

/// The maps of paths.
struct Walk<'a> {
    rows: &'a Rows,
    world: &'a World,
    objects: HashMap<InodeKey, ObjectRow>,
    names: HashMap<NameKey, ObjectRow>,
}

/// What rows say about one step of a way.
struct Bound {
    rows: Vec<ObjectRow>,
    /// Whether a name led to a label, and not the inode alone.
    by_name: bool,
}

impl Walk<'_> {
    /// The labels that count: the nearest in the innermost filesystem, and the nearest of each
    /// filesystem that it is mounted on.
    fn labels(&self, way: &[Part<'_>]) -> Vec<u32> {
        let mut labels = Vec::new();
        for part in way {
            let dev = part.steps.last().map_or(0, |(_, inode)| self.world.key(*inode).dev);
            if self.rows.filesystems.iter().any(|(known, _)| *known == dev) {
                nearest(&self.bind(part), &mut labels);
            }
        }
        labels
    }

    /// For each step the rows that speak of it.
    fn bind(&self, part: &Part<'_>) -> Vec<Bound> {
        let mut bound: Vec<Bound> = Vec::new();
        for (name, inode) in &part.steps {
            let mut rows = self.named(bound.last(), name);
            // The root of a filesystem has no name that could be bound.
            let by_name = bound.is_empty() || rows.iter().any(|row| row.label != 0);
            rows.extend(self.objects.get(&self.world.key(*inode)));
            bound.push(Bound { rows, by_name });
        }
        for name in &part.beyond {
            let rows = self.named(bound.last(), name);
            bound.push(Bound { rows, by_name: true });
        }
        bound
    }

    /// The rows of a name below what was bound before it.
    fn named(&self, parent: Option<&Bound>, name: &[u8]) -> Vec<ObjectRow> {
        let hash = hash_name(self.rows.seed, name);
        let nodes: BTreeSet<u32> =
            parent.into_iter().flat_map(|parent| &parent.rows).map(|row| row.node).collect();
        let row = |node| self.names.get(&NameKey { node, kind: generated::AEGIS_NAME, hash });
        nodes.into_iter().filter(|node| *node != 0).filter_map(row).copied().collect()
    }
}

/// Adds the labels of one part that count.
fn nearest(bound: &[Bound], labels: &mut Vec<u32>) {
    for (above, step) in bound.iter().rev().enumerate() {
        // Where only a part of the way is seen, its end stands for the object.
        let counts = |row: &&ObjectRow| {
            row.label != 0 && (above == 0 || row.flags & generated::AEGIS_ROW_DIRECTORY != 0)
        };
        let before = labels.len();
        labels.extend(step.rows.iter().filter(counts).map(|row| row.label));
        // What is known by its inode alone was moved or linked: what lies above holds as well.
        if labels.len() > before && step.by_name {
            return;
        }
    }
}

const ROOT: usize = 0;
const DEEPEST: usize = 6;
const EXT4: u64 = 0xef53;
const BTRFS: u64 = 0x9123_683e;
const SUBVOLUME: u64 = 256;
const FIRST_INO: u64 = 257;
const TMPFS: u64 = 0x0102_1994;
