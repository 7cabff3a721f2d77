// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Paths → what stands there: the one step that asks a host.
//!
//! Symbolic links are followed here, by their content, and not by the host: each name is asked for
//! once, alone. So a link that is swapped between two questions leads where one of its contents led
//! and nowhere else, and every link on the way is known and reported. Where a link stood, its name
//! stays bound as well: if a directory takes its place, the names below are bound there too.

use std::{collections::VecDeque, error::Error};

use aegis_abi::InodeKey;

use crate::{
    Object, ObjectState, Places, Ruleset, escape, filesystems, limits,
    names::components,
    places::{ROOT, Seen},
};

/// Who can say what stands at a path, seen from the host's initial mount namespace.
pub trait Host {
    /// What stands at this absolute path, a symbolic link itself and not what it leads to.
    ///
    /// All names above were asked for before, and were directories. Paths come sorted, so that the
    /// parent is mostly that of the question before.
    ///
    /// # Errors
    /// If that cannot be told. That nothing stands there is [`Found::Absent`], not an error.
    fn look(&mut self, path: &[u8]) -> Result<Found, HostError>;

    /// Where filesystems are mounted; in any order, and twice does not matter.
    ///
    /// # Errors
    /// If that cannot be told.
    fn mounts(&mut self) -> Result<Vec<Vec<u8>>, HostError>;

    /// The paths of all files (devices, sockets, pipes) with several links beneath a directory, on
    /// what is mounted beneath it as well; in any order, and twice does not matter.
    ///
    /// # Errors
    /// If that cannot be told.
    fn linked(&mut self, directory: &[u8]) -> Result<Vec<Vec<u8>>, HostError>;

    /// Every filesystem that is mounted somewhere, by `super_block.s_dev`, without asking any of them;
    /// in any order, and twice does not matter.
    ///
    /// # Errors
    /// If that cannot be told.
    fn filesystems(&mut self) -> Result<Vec<u32>, HostError>;
}

/// Why a host could not answer.
#[derive(Debug, thiserror::Error)]
#[error("cannot look at it")]
pub struct HostError(#[source] pub Box<dyn Error + Send + Sync>);

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Absent,
    /// A symbolic link with this content.
    Link(Vec<u8>),
    /// Anything else.
    There(Component),
}

/// A file or directory as the kernel sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Component {
    /// Its inode.
    pub key: InodeKey,
    /// What it is.
    pub kind: Kind,
    /// A directory in which names that differ in case only are the same.
    pub case_insensitive: bool,
    /// `super_block.s_magic` of its filesystem.
    pub magic: u64,
}

impl Component {
    /// Whether other inodes have the same key, so that only its names can tell what it is.
    pub(crate) fn is_ambiguous(&self) -> bool {
        filesystems::is_ambiguous(self.magic, self.key.ino)
    }
}

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A device, socket or pipe.
    Other,
}

/// Asks the host for every object of a ruleset.
///
/// # Errors
/// Every object that cannot be what its rule takes it for, or that the host cannot look at.
pub fn resolve(ruleset: &Ruleset, host: &mut dyn Host) -> Result<Places, Vec<ObjectError>> {
    let mut resolver = Resolver { places: Places::empty(ruleset), host, ruleset };
    let mut errors = Vec::new();
    if let Err(error) = resolver.look(ROOT) {
        errors.push(ObjectError::host(b"/", error));
        return Err(errors);
    }
    // An except is where the objects are that it is taken out of.
    for is_except in [false, true] {
        for number in 0..resolver.places.objects.len() {
            if let Err(error) = resolver.place(number, is_except) {
                errors.push(error);
            }
        }
    }
    errors.extend(resolver.conflicts());
    if let Err(error) = resolver.mounts() {
        errors.push(error);
    }
    if errors.is_empty()
        && let Err(error) = resolver.linked()
    {
        errors.push(error);
    }
    match resolver.host.filesystems() {
        Ok(filesystems) => resolver.places.filesystems = filesystems,
        Err(error) => errors.push(ObjectError::host(b"/", error)),
    }
    if errors.is_empty() { Ok(resolver.places) } else { Err(errors) }
}

struct Resolver<'a> {
    places: Places,
    host: &'a mut dyn Host,
    ruleset: &'a Ruleset,
}

/// Where a path led.
struct Way {
    /// The node at which it ends.
    end: usize,
    /// Nodes of the paths that stood for it before each link was followed.
    by_name: Vec<usize>,
    links: Vec<(Vec<u8>, Vec<u8>)>,
    /// A link that was not followed is on it.
    unfollowed: bool,
}

impl Resolver<'_> {
    fn place(&mut self, number: usize, is_except: bool) -> Result<(), ObjectError> {
        let Some(place) = self.places.objects.get(number) else { return Ok(()) };
        let named = !place.rules.is_empty();
        if named == is_except {
            return Ok(());
        }
        let (object, excepted_by) = (place.object.clone(), place.excepted_by);
        let way = match excepted_by {
            None => self.follow(&object.path),
            Some(rule) => self.beneath_objects(&object.path, rule),
        };
        let way = way.map_err(|fault| self.error(number, fault))?;
        let component = self.places.component(way.end).copied();
        let mut weaker = Vec::new();
        let faults = component.and_then(|component| kind_fault(&object, &component));
        let faults = faults.or_else(|| self.case_fault(&object, named, way.end, &mut weaker));
        if let Some(fault) = faults {
            return Err(self.error(number, fault));
        }
        if component.is_some_and(|component| component.kind == Kind::Other) {
            weaker.push(ANOTHER_NODE);
        }
        weaker.extend(self.subvolume(way.end));
        weaker.extend(way.unfollowed.then_some(UNFOLLOWED));

        let mut nodes = way.by_name;
        nodes.retain(|node| *node != way.end);
        nodes.dedup();
        nodes.push(way.end);
        let bound = nodes.iter().map(|node| self.places.path(*node)).collect();
        let state = match component {
            Some(component) => ObjectState::Bound(component),
            None if way.unfollowed => ObjectState::Unfollowed,
            None => ObjectState::Pending { missing: self.first_missing(way.end) },
        };
        let canonical = self.places.path(way.end);
        let magic = self.places.nearest(way.end).map(|component| component.magic);
        if let Some(place) = self.places.objects.get_mut(number) {
            place.state = state;
            place.canonical = canonical;
            place.links = way.links;
            place.weaker = weaker;
            place.bound = bound;
            place.nodes = nodes;
            if let Some(magic) = magic {
                place.add_filesystem(magic);
            }
        }
        Ok(())
    }

    /// Follows a path name by name, links and all.
    fn follow(&mut self, path: &[u8]) -> Result<Way, ObjectFault> {
        let mut by_name = vec![self.places.insert(path)];
        let mut links = Vec::new();
        let mut rest: VecDeque<Vec<u8>> = components(path).map(<[u8]>::to_vec).collect();
        let mut at = ROOT;
        let mut after_link = false;
        while !rest.is_empty() {
            // What follows a link is a path of its own once it has no detours.
            if after_link && !rest.iter().any(|name| matches!(name.as_slice(), b"." | b"..")) {
                by_name.push(rest.iter().fold(at, |at, name| self.places.child(at, name)));
                after_link = false;
            }
            let Some(name) = rest.pop_front() else { break };
            match name.as_slice() {
                b"." => continue,
                b".." => {
                    at = self.places.nodes.get(at).map_or(ROOT, |node| node.parent);
                    continue;
                }
                _ => {}
            }
            let child = self.places.child(at, &name);
            self.look(child).map_err(ObjectFault::Host)?;
            let Some(Seen::Link(target)) = self.places.nodes.get(child).map(|node| &node.seen)
            else {
                at = child;
                continue;
            };
            let target = target.clone();
            links.push((self.places.path(child), target.clone()));
            if links.len() > limits::LINKS {
                return Err(ObjectFault::Links);
            }
            if target.starts_with(b"/") {
                at = ROOT;
            }
            for name in components(&target).collect::<Vec<_>>().into_iter().rev() {
                rest.push_front(name.to_vec());
            }
            after_link = true;
        }
        Ok(Way { end: at, by_name, links, unfollowed: false })
    }

    /// Where an except is: below the objects of its rule that cover it, wherever these are. Below them no link is
    /// followed: whoever may not read what lies there may have made it.
    fn beneath_objects(&mut self, path: &[u8], rule: u32) -> Result<Way, ObjectFault> {
        let mut by_name = vec![self.places.insert(path)];
        for top in above(path) {
            let object = Object { path: top.to_vec(), directory: true };
            let at = self.places.objects.partition_point(|place| place.object < object);
            let place = self.places.objects.get(at).filter(|place| place.object == object);
            let Some(place) = place.filter(|place| place.rules.contains(&rule)) else { continue };
            let names: Vec<&[u8]> = components(path).skip(components(top).count()).collect();
            for from in place.nodes.clone() {
                by_name.push(names.iter().fold(from, |at, name| self.places.child(at, name)));
            }
        }
        // The innermost object's own path, with all links on the way to it followed, is the last.
        let end = by_name.last().copied().unwrap_or(ROOT);
        let way: Vec<usize> = self.places.nodes_up(end).collect();
        for at in way.iter().rev() {
            self.look(*at).map_err(ObjectFault::Host)?;
        }
        let mut on_the_way = way.iter().filter_map(|at| self.places.nodes.get(*at));
        let unfollowed = on_the_way.any(|node| matches!(node.seen, Seen::Link(_)));
        Ok(Way { end, by_name, links: Vec::new(), unfollowed })
    }

    /// Asks what stands at a node, once, and only if its parent is a directory.
    fn look(&mut self, at: usize) -> Result<(), HostError> {
        let Some(node) = self.places.nodes.get(at).filter(|node| node.seen == Seen::NotAsked)
        else {
            return Ok(());
        };
        let parent = self.places.component(node.parent);
        let seen = if at == ROOT || parent.is_some_and(|parent| parent.kind == Kind::Directory) {
            match self.host.look(&self.places.path(at))? {
                Found::Absent => Seen::Absent,
                Found::Link(target) => Seen::Link(target),
                Found::There(component) => Seen::There(component),
            }
        } else {
            Seen::Absent
        };
        if let Some(node) = self.places.nodes.get_mut(at) {
            node.seen = seen;
        }
        Ok(())
    }

    /// A file of many names can be excepted, but not denied, by one of them.
    fn case_fault(
        &self,
        object: &Object,
        named: bool,
        end: usize,
        weaker: &mut Vec<&'static str>,
    ) -> Option<ObjectFault> {
        let node = self.places.nodes.get(end).filter(|_| end != ROOT)?;
        if !self.places.component(node.parent)?.case_insensitive {
            return None;
        }
        weaker.push(ONE_SPELLING);
        let path = || self.places.path(node.parent);
        (named && !object.directory).then(|| ObjectFault::CaseInsensitive(path()))
    }

    /// What a root of a btrfs subvolume, as the object or as the directory that holds it, costs.
    fn subvolume(&self, end: usize) -> Option<&'static str> {
        let by_name_alone =
            |at| self.places.component(at).is_some() && self.places.by_inode(at).is_none();
        if by_name_alone(end) {
            return Some(SUBVOLUME);
        }
        let parent = self.places.nodes.get(end)?.parent;
        by_name_alone(parent).then_some(IN_SUBVOLUME)
    }

    /// The first node on the way that is not there.
    fn first_missing(&self, end: usize) -> Vec<u8> {
        let mut missing = end;
        let mut at = end;
        while at != ROOT {
            if self.places.component(at).is_none() {
                missing = at;
            }
            at = self.places.nodes.get(at).map_or(ROOT, |node| node.parent);
        }
        self.places.path(missing)
    }

    /// What two rules take for a file and for a directory, while nothing is there to say which.
    fn conflicts(&self) -> Vec<ObjectError> {
        let mut ends = std::collections::HashMap::new();
        let mut errors = Vec::new();
        for (number, place) in self.places.objects.iter().enumerate() {
            for node in &place.nodes {
                if *ends.entry(*node).or_insert(place.object.directory) != place.object.directory {
                    errors.push(self.error(number, ObjectFault::Conflict));
                    break;
                }
            }
        }
        errors
    }

    /// Looks at the roots of filesystems mounted beneath directory objects.
    fn mounts(&mut self) -> Result<(), ObjectError> {
        let mut paths = self.host.mounts().map_err(|error| ObjectError::host(b"/", error))?;
        paths.sort_unstable();
        paths.dedup();
        let directories: std::collections::HashSet<&[u8]> = self
            .places
            .objects
            .iter()
            .filter(|place| place.object.directory)
            .flat_map(|place| place.bound.iter().map(Vec::as_slice))
            .collect();
        paths.retain(|path| above(path).any(|directory| directories.contains(directory)));
        for path in paths {
            let found = self.host.look(&path).map_err(|error| ObjectError::host(&path, error))?;
            if let Found::There(component) = found {
                self.places.mounts.push((path, component));
            }
        }
        Ok(())
    }

    /// Looks at files beneath directory objects that have other names, which may be anywhere.
    fn linked(&mut self) -> Result<(), ObjectError> {
        let is_scanned = |place: &&crate::Place| {
            place.object.directory
                && !place.rules.is_empty()
                && matches!(place.state, ObjectState::Bound(_))
        };
        let tops = self.places.objects.iter().filter(is_scanned);
        let tops: std::collections::BTreeSet<Vec<u8>> =
            tops.map(|place| place.canonical.clone()).collect();
        let inner = |top: &&Vec<u8>| !above(top).any(|path| path != *top && tops.contains(path));
        for top in tops.iter().filter(inner) {
            let fault = |fault| ObjectError { fault, ..ObjectError::nobodys(top) };
            let paths = self.host.linked(top).map_err(|error| fault(ObjectFault::Host(error)))?;
            if self.places.linked.len() + paths.len() > limits::LINKED {
                return Err(fault(ObjectFault::Linked));
            }
            for path in paths {
                let found =
                    self.host.look(&path).map_err(|error| ObjectError::host(&path, error))?;
                if let Found::There(component) = found
                    && component.kind != Kind::Directory
                {
                    self.places.linked.push((path, component));
                }
            }
        }
        self.places.linked.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        Ok(())
    }

    fn error(&self, number: usize, fault: ObjectFault) -> ObjectError {
        let place = self.places.objects.get(number);
        let rule = place.and_then(|place| place.rules.iter().chain(&place.excepted_by).min());
        let rule = rule.and_then(|rule| self.ruleset.rule(*rule));
        ObjectError {
            policy: rule.map_or_else(String::new, |rule| rule.policy.clone()),
            rule: rule.map_or_else(String::new, |rule| rule.rule.id.clone()),
            line: rule.map_or(0, |rule| rule.rule.line),
            object: place.map_or_else(String::new, |place| place.object.written()),
            fault,
        }
    }
}

fn kind_fault(object: &Object, component: &Component) -> Option<ObjectFault> {
    match (object.directory, component.kind) {
        (false, Kind::Directory) => Some(ObjectFault::IsDirectory),
        (true, Kind::File | Kind::Other) => Some(ObjectFault::IsFile),
        _ => None,
    }
}

/// The directories above a path, and the path.
fn above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    slashes.filter_map(|at| path.get(..at.max(1))).chain([path])
}

/// Why an object cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("{}{object}", whose(policy, rule, *line))]
pub struct ObjectError {
    /// The policy that names it.
    pub policy: String,
    /// The first rule that names it.
    pub rule: String,
    /// The line where that rule begins.
    pub line: usize,
    /// The object as a policy writes it.
    pub object: String,
    /// What is wrong with it.
    #[source]
    pub fault: ObjectFault,
}

impl ObjectError {
    fn host(path: &[u8], error: HostError) -> Self {
        Self { fault: ObjectFault::Host(error), ..Self::nobodys(path) }
    }

    /// About what no rule names by itself.
    fn nobodys(path: &[u8]) -> Self {
        Self {
            policy: String::new(),
            rule: String::new(),
            line: 0,
            object: escape(path),
            fault: ObjectFault::Linked,
        }
    }

    /// What an operator can do about it.
    pub fn hint(&self) -> String {
        match &self.fault {
            ObjectFault::IsDirectory => {
                format!("write {}/ for it and everything beneath", self.object)
            }
            ObjectFault::IsFile => format!("write {}", self.object.trim_end_matches('/')),
            ObjectFault::CaseInsensitive(directory) => {
                format!("name the directory: {}/", escape(directory))
            }
            ObjectFault::Conflict => "write all of them with a trailing slash, or none".to_owned(),
            ObjectFault::Links => "name what the links lead to".to_owned(),
            ObjectFault::Linked => {
                "name smaller directories, or leave such files to their names beneath with \
                 --no-link-scan"
                    .to_owned()
            }
            ObjectFault::Host(_) => {
                "see the cause; a path that is not there is no error".to_owned()
            }
        }
    }
}

/// Whose an object is; a mount point is nobody's.
fn whose(policy: &str, rule: &str, line: usize) -> String {
    match (policy, line) {
        ("", _) => String::new(),
        (_, 0) => format!("policy {policy}, rule {rule}: object "),
        _ => format!("policy {policy}, rule {rule} (line {line}): object "),
    }
}

/// What is wrong with an object.
#[derive(Debug, thiserror::Error)]
pub enum ObjectFault {
    /// Written without a slash.
    #[error("it is a directory, and written as a file")]
    IsDirectory,
    /// Written with a slash.
    #[error("it is a file, and written as a directory")]
    IsFile,
    /// One file, but with many names.
    #[error("names in {} do not tell upper from lower case, so one file there has many", escape(.0))]
    CaseInsensitive(Vec<u8>),
    /// Written with and without a slash.
    #[error("rules take it for a file and for a directory, and it is not there yet")]
    Conflict,
    /// As the kernel: ELOOP.
    #[error("more than {} symbolic links on the way", limits::LINKS)]
    Links,
    /// Each would be a row.
    #[error("beneath such directories are more than {} files with several links", limits::LINKED)]
    Linked,
    /// The host cannot tell.
    #[error(transparent)]
    Host(HostError),
}

const ANOTHER_NODE: &str = "a device, socket or pipe: what it leads to can have other nodes";

const UNFOLLOWED: &str = "a symbolic link: what it leads to is not excepted, but by its own path";

const SUBVOLUME: &str = "the root of a btrfs subvolume has no inode of its own: it is bound by its \
                         path alone, and not where it is mounted elsewhere";

const IN_SUBVOLUME: &str = "the root of a btrfs subvolume has no inode of its own: what takes this \
                            name there later is not bound where it is mounted elsewhere";

const ONE_SPELLING: &str =
    "its directory does not tell upper from lower case: replaced, it is bound in one spelling only";
