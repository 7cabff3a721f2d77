// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A small filesystem in memory: directories, files with several names, symbolic links, mounts; and what each thing
//! has been.
//!
//! A *place* is a path in the tree of names that policies speak of. A thing is at the places that its directory
//! leads to, and it *was* at those that it left (or, if a rule names it, where it was when the rules began to hold).
//! What was there stays denied as if it were there, so what is below it is at the places below those as well.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    rules::{Bound, Rule, RuleSet, rule_set},
    step::{Act, Entry},
};

/// Number of a thing.
pub type Node = usize;

/// The top of the tree.
pub const TOP: Node = 0;

/// What a thing is, and was.
#[derive(Clone, Debug, Default)]
pub struct Thing {
    /// The entries of a directory; none: a file.
    pub entries: Option<BTreeMap<String, Node>>,
    /// A directory's own name, and what it is in.
    pub above: Option<(Node, String)>,
    /// How many names a file has.
    pub names: usize,
    /// Places that it must stay denied for, and the rules that were lifted there since.
    pub was: Places,
    /// Places that it may stay denied for.
    pub may_have_been: BTreeSet<String>,
    /// Rules that may hold for it, whatever its places say.
    pub also: RuleSet,
    /// Where a symbolic link leads.
    pub link: Option<String>,
    /// Whether it is the root of a filesystem that came after the rules.
    pub foreign: bool,
    /// Whether it is what a renaming left behind, which nobody can open.
    pub whiteout: bool,
}

/// Places, each with the rules that do not hold there any more.
pub type Places = BTreeMap<String, RuleSet>;

/// A directory that is to be seen in the place of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its number; 0 is the tree itself.
    pub number: usize,
    /// The mount that it lies on, and the directory there.
    pub on: (usize, Node),
    /// What is seen.
    pub shows: Node,
}

/// Where a path leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    /// The mount by which one comes there.
    pub mount: usize,
    /// The directory that holds it. (The top holds itself.)
    pub parent: Node,
    /// Its name there.
    pub name: String,
    /// What has that name, if anything.
    pub node: Option<Node>,
}

/// How a path goes on where symbolic links lead it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    /// The paths of the links.
    pub links: Vec<String>,
    /// The path, and what it becomes with each link.
    pub ways: Vec<String>,
}

impl Followed {
    /// Without links.
    pub fn real(&self) -> &str {
        self.ways.last().map_or("", String::as_str)
    }
}

/// The whole.
#[derive(Clone, Debug)]
pub struct World {
    things: Vec<Thing>,
    /// In the order in which they came.
    pub mounts: Vec<Mount>,
    next_mount: usize,
    /// Whether a directory that a rule names, or that is on the way, has moved: then everything above counts.
    pub unites: bool,
}

impl Default for World {
    fn default() -> Self {
        let top = Thing { entries: Some(BTreeMap::new()), ..Thing::default() };
        Self { things: vec![top], mounts: Vec::new(), next_mount: 1, unites: false }
    }
}

impl World {
    /// As it is before any rule holds.
    ///
    /// # Errors
    /// The first entry that cannot be made.
    pub fn of(entries: &[Entry]) -> Result<Self, String> {
        let mut world = Self::default();
        for entry in entries {
            let act = entry.act();
            if !world.can(&act) {
                return Err(format!("{entry} cannot be made"));
            }
            world.change(&act, &[], Keeps::default());
        }
        Ok(world)
    }

    /// The rules begin to hold: what they name, and what is on the way, is known from now on.
    pub fn begin(&mut self, rules: &[Rule], keeps: Keeps) {
        let all = self.all();
        for (place, node) in all {
            let exact = rules.iter().any(|rule| rule.names_at_or_below(&place));
            let linked = keeps.links
                && self.things[node].names > 1
                && rules.iter().any(|rule| rule.reaches(&place));
            let thing = &mut self.things[node];
            if exact || linked {
                thing.was.insert(place.clone(), 0);
            }
            thing.may_have_been.insert(place);
        }
    }

    /// A thing.
    pub fn thing(&self, node: Node) -> &Thing {
        &self.things[node]
    }

    /// Whether it is a directory.
    pub fn is_directory(&self, node: Node) -> bool {
        self.things[node].entries.is_some()
    }

    /// Follows a path, without going over to what is mounted at its end.
    pub fn entry(&self, path: &str) -> Option<Spot> {
        let (parent_path, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = self.spot(parent_path)?;
        let directory = parent.node?;
        let node = self.things[directory].entries.as_ref()?.get(name).copied();
        Some(Spot { mount: parent.mount, parent: directory, name: name.to_owned(), node })
    }

    /// Follows a path to its end; the spot's node is there.
    pub fn spot(&self, path: &str) -> Option<Spot> {
        if path.is_empty() {
            return Some(Spot { mount: 0, parent: TOP, name: String::new(), node: Some(TOP) });
        }
        let mut spot = self.entry(path)?;
        let mut node = spot.node?;
        while let Some(mount) = self.mounts.iter().rfind(|mount| mount.on == (spot.mount, node)) {
            (spot.mount, node) = (mount.number, mount.shows);
        }
        spot.node = Some(node);
        Some(spot)
    }

    /// A path with every symbolic link on it followed, as far as it leads; `None` if that has no end.
    pub fn real(&self, path: &str) -> Option<String> {
        self.followed(path).map(|followed| followed.real().to_owned())
    }

    /// The symbolic links on a path, in their order; `None` if that has no end.
    pub fn followed(&self, path: &str) -> Option<Followed> {
        let mut left: Vec<String> = path.rsplit('/').map(str::to_owned).collect();
        let mut real = String::new();
        let mut followed = Followed { links: Vec::new(), ways: vec![path.to_owned()] };
        while let Some(name) = left.pop() {
            let next = below(&real, &name);
            let link = self.entry(&next).and_then(|spot| self.things[spot.node?].link.clone());
            match link {
                None => real = next,
                Some(target) => {
                    if followed.links.len() == LINKS {
                        return None;
                    }
                    followed.links.push(next);
                    real.clear();
                    left.extend(target.rsplit('/').map(str::to_owned));
                    let way: Vec<&str> = left.iter().rev().map(String::as_str).collect();
                    followed.ways.push(way.join("/"));
                }
            }
        }
        Some(followed)
    }

    /// Rules as they hold: on what their paths lead to as well.
    pub fn led_on(&self, rules: &[Rule]) -> Vec<Rule> {
        let led_on = |rule: &Rule| {
            let mut rule = rule.clone();
            for object in rule.objects.clone() {
                let ways = self.followed(&object.path).map(|followed| followed.ways);
                let more = ways.into_iter().flat_map(|ways| ways.into_iter().skip(1));
                rule.objects.extend(more.map(|path| Bound { path, ..object }));
            }
            rule
        };
        rules.iter().map(led_on).collect()
    }

    /// Whether something is on a filesystem that came after the rules.
    pub fn is_foreign(&self, node: Node) -> bool {
        let mut next = Some(node);
        while let Some(node) = next {
            if self.things[node].foreign {
                return true;
            }
            next = self.things[node].above.as_ref().map(|(above, _)| *above);
        }
        false
    }

    /// The mount with a number other than 0.
    pub fn mount(&self, number: usize) -> Option<&Mount> {
        self.mounts.iter().find(|mount| mount.number == number)
    }

    /// Whether something is mounted there, or it is what a mount shows.
    pub fn is_busy(&self, node: Node) -> bool {
        node == TOP || self.mounts.iter().any(|mount| mount.on.1 == node || mount.shows == node)
    }

    /// Each path that leads to something, but the top; those through mounts too.
    pub fn listing(&self) -> Vec<String> {
        let mut paths = Vec::new();
        let mut next = vec![String::new()];
        while let Some(path) = next.pop() {
            let Some(node) = self.spot(&path).and_then(|spot| spot.node) else { continue };
            if !path.is_empty() {
                paths.push(path.clone());
            }
            let names = self.things[node].entries.iter().flatten();
            next.extend(names.map(|(name, _)| below(&path, name)));
        }
        paths.sort();
        paths
    }

    /// Every thing by its own names, without mounts.
    fn all(&self) -> Vec<(String, Node)> {
        let mut found = Vec::new();
        let mut next = vec![(String::new(), TOP)];
        while let Some((place, node)) = next.pop() {
            let entries = self.things[node].entries.iter().flatten();
            next.extend(entries.map(|(name, node)| (below(&place, name), *node)));
            found.push((place, node));
        }
        found
    }

    /// Places of a directory that hold for all below it.
    pub fn places_of_directory(&self, node: Node) -> Places {
        let mut places = self.things[node].was.clone();
        match &self.things[node].above {
            None if self.things[node].foreign => {}
            None => places.extend([(String::new(), 0)]),
            Some((above, name)) => add(&mut places, self.places_by_name(*above, name)),
        }
        places
    }

    /// Places of whatever has a name in a directory.
    pub fn places_by_name(&self, directory: Node, name: &str) -> Places {
        let above = self.places_of_directory(directory);
        above.into_iter().map(|(place, lifted)| (below(&place, name), lifted)).collect()
    }

    /// The same with everything that may count.
    pub fn possible_by_name(&self, directory: Node, name: &str) -> BTreeSet<String> {
        let above = self.possible_of_directory(directory);
        above.iter().map(|place| below(place, name)).collect()
    }

    /// Places of a directory that may hold for all below it.
    pub fn possible_of_directory(&self, node: Node) -> BTreeSet<String> {
        let mut places = self.things[node].may_have_been.clone();
        match &self.things[node].above {
            None if self.things[node].foreign => {}
            None => places.extend([String::new()]),
            Some((above, name)) => places.extend(self.possible_by_name(*above, name)),
        }
        places
    }

    /// Rules that may hold for all in a directory since it, or one above it, has stood for two that rules name: only one
    /// of them is remembered with its names, and the other as a whole.
    pub fn of_two_ways(&self, rules: &[Rule], directory: Node) -> RuleSet {
        let mut set = 0;
        let mut next = Some(directory);
        while let Some(node) = next {
            let thing = &self.things[node];
            let mut places = self.possible_of_directory(node);
            places.retain(|place| rules.iter().any(|rule| rule.names_at_or_below(place)));
            if places.len() > 1 {
                let names = |rule: &Rule| places.iter().any(|place| rule.names_at_or_below(place));
                set |= rule_set(rules, names);
            }
            set |= thing.also;
            next = thing.above.as_ref().map(|(above, _)| *above);
        }
        set
    }

    /// Where a path goes over to what is mounted, outermost first: the directory that is covered, and the way on.
    pub fn crossings(&self, path: &str) -> Vec<(Node, String)> {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        let covered = ends.filter_map(|end| {
            let (before, rest) = path.split_at(end);
            self.mounted_at(before)?;
            Some((self.entry(before)?.node?, rest.trim_start_matches('/').to_owned()))
        });
        covered.collect()
    }

    /// Whether the kernel can do it at all, whoever asks.
    pub fn can(&self, act: &Act) -> bool {
        let free = |path: &str| self.entry(path).filter(|spot| spot.node.is_none());
        let there = |path: &str| {
            let spot = self.entry(path)?;
            let node = spot.node.filter(|node| !self.is_busy(*node))?;
            Some((spot, node))
        };
        match act {
            Act::Create(path) | Act::Mkdir(path) | Act::Symlink(_, path) => free(path).is_some(),
            Act::Unlink(path) => there(path).is_some_and(|(_, node)| !self.is_directory(node)),
            Act::Rmdir(path) => there(path).is_some_and(|(_, node)| self.is_empty(node)),
            Act::Rename(from, to) | Act::Whiteout(from, to) => {
                let (Some((from, node)), Some(to)) = (there(from), self.entry(to)) else {
                    return false;
                };
                let fits = match to.node {
                    None => true,
                    Some(victim) if victim == node || self.is_busy(victim) => false,
                    Some(victim) if self.is_directory(node) => self.is_empty(victim),
                    Some(victim) => !self.is_directory(victim),
                };
                fits && from.mount == to.mount && !self.is_within(to.parent, node)
            }
            Act::Exchange(one, other) => {
                let (Some((one, a)), Some((other, b))) = (there(one), there(other)) else {
                    return false;
                };
                let apart = !self.is_within(other.parent, a) && !self.is_within(one.parent, b);
                a != b && one.mount == other.mount && apart
            }
            Act::Link(from, to) => {
                let (Some((from, node)), Some(to)) = (there(from), free(to)) else { return false };
                !self.is_directory(node) && from.mount == to.mount
            }
            Act::Bind(..) | Act::Tmpfs(_) => {
                let (from, to) = match act {
                    Act::Bind(from, to) => (self.spot(from), self.spot(to)),
                    _ => (self.spot(""), act.words().1.first().and_then(|path| self.spot(path))),
                };
                let (Some(from), Some(to)) = (from, to) else { return false };
                let on = (to.mount, to.node.unwrap_or(TOP));
                // Nothing on a root, so that no mount hides another one.
                let on_root =
                    on.1 == TOP || self.mount(on.0).is_some_and(|mount| mount.shows == on.1);
                let both = [from.node, to.node].into_iter().flatten();
                !on_root
                    && both.clone().count() == 2
                    && both.into_iter().all(|n| self.is_directory(n))
            }
            Act::Umount(path) => self
                .mounted_at(path)
                .is_some_and(|number| !self.mounts.iter().any(|mount| mount.on.0 == number)),
        }
    }

    /// The mount whose root a path leads to.
    pub fn mounted_at(&self, path: &str) -> Option<usize> {
        let (before, after) = (self.entry(path)?, self.spot(path)?);
        (before.mount != after.mount).then_some(after.mount)
    }

    fn is_empty(&self, node: Node) -> bool {
        self.things[node].entries.as_ref().is_some_and(BTreeMap::is_empty)
    }

    /// Whether a directory is `top` or below it.
    fn is_within(&self, mut directory: Node, top: Node) -> bool {
        loop {
            if directory == top {
                return true;
            }
            match &self.things[directory].above {
                Some((above, _)) => directory = *above,
                None => return false,
            }
        }
    }

    /// It was done: what is where now, and what is remembered.
    ///
    /// # Panics
    /// If it [cannot](Self::can) be done.
    pub fn change(&mut self, act: &Act, rules: &[Rule], keeps: Keeps) {
        let found = |world: &Self, path: &str| world.entry(path).expect("it can be done");
        match act {
            Act::Create(path) | Act::Mkdir(path) | Act::Symlink(_, path) => {
                let spot = found(self, path);
                let entries = matches!(act, Act::Mkdir(_)).then(BTreeMap::new);
                let link = match act {
                    Act::Symlink(target, _) => Some(target.clone()),
                    _ => None,
                };
                self.things.push(Thing { entries, link, ..Thing::default() });
                self.put(self.things.len() - 1, &spot, rules);
            }
            Act::Unlink(path) | Act::Rmdir(path) => {
                let spot = found(self, path);
                self.take(&spot, None, rules, keeps);
            }
            Act::Rename(from, to) | Act::Whiteout(from, to) => {
                let (from, to) = (found(self, from), found(self, to));
                if to.node.is_some() {
                    self.take(&to, None, rules, keeps);
                }
                let node = self.take(&from, Some(&to), rules, keeps);
                self.put(node, &to, rules);
                if matches!(act, Act::Whiteout(..)) {
                    self.things.push(Thing { whiteout: true, ..Thing::default() });
                    self.put(self.things.len() - 1, &from, rules);
                }
            }
            Act::Exchange(one, other) => {
                let (one, other) = (found(self, one), found(self, other));
                let a = self.take(&one, Some(&other), rules, keeps);
                let b = self.take(&other, Some(&one), rules, keeps);
                self.put(a, &other, rules);
                self.put(b, &one, rules);
            }
            Act::Link(from, to) => {
                let (from, to) = (found(self, from), found(self, to));
                let node = from.node.expect("it can be done");
                self.remember(&from, Some(&to), node, rules, keeps.links);
                self.put(node, &to, rules);
            }
            Act::Bind(from, to) => {
                let node = |path| self.spot(path).and_then(|spot| spot.node).unwrap_or(TOP);
                let mount = self.spot(to).expect("it can be done").mount;
                let (on, shows) = ((mount, node(to)), node(from));
                self.mounts.push(Mount { number: self.next_mount, on, shows });
                self.next_mount += 1;
            }
            Act::Tmpfs(path) => {
                let to = self.spot(path).expect("it can be done");
                let entries = Some(BTreeMap::new());
                self.things.push(Thing { entries, foreign: true, ..Thing::default() });
                let on = (to.mount, to.node.unwrap_or(TOP));
                self.mounts.push(Mount {
                    number: self.next_mount,
                    on,
                    shows: self.things.len() - 1,
                });
                self.next_mount += 1;
            }
            Act::Umount(path) => {
                let number = self.mounted_at(path);
                self.mounts.retain(|mount| Some(mount.number) != number);
            }
        }
    }

    /// The halves of an exchange are asked for one after the other: what is noted of the first stays noted if the second
    /// is refused.
    pub fn half_noted(&mut self, act: &Act, rules: &[Rule]) {
        let Act::Exchange(one, other) = act else { return };
        for (path, to) in [(one, other), (other, one)] {
            let Some(spot) = self.entry(path) else { continue };
            // Of what has another name, also what its new place would have said.
            if let Some((to, node)) = self.entry(to).zip(spot.node)
                && self.things[node].names > 1
            {
                let possible = self.possible_by_name(to.parent, &to.name);
                self.things[node].may_have_been.extend(possible);
            }
            if let Some(node) = spot.node {
                self.note_directory(&spot, node, rules);
            }
        }
    }

    /// A directory leaves a name, whether rules speak of it or of what is below.
    fn note_directory(&mut self, spot: &Spot, node: Node, rules: &[Rule]) {
        if self.is_directory(node) {
            let places = self.possible_by_name(spot.parent, &spot.name);
            let places = places.iter().chain(&self.things[node].may_have_been);
            let named = |place: &String| rules.iter().any(|rule| rule.names_at_or_below(place));
            self.unites |= places.into_iter().any(named);
        }
    }

    /// Takes a name away; what had it keeps what it was.
    fn take(&mut self, spot: &Spot, to: Option<&Spot>, rules: &[Rule], keeps: Keeps) -> Node {
        let node = spot.node.expect("something has the name");
        self.note_directory(spot, node, rules);
        self.remember(spot, to, node, rules, keeps.moves);
        if let Some(entries) = &mut self.things[spot.parent].entries {
            entries.remove(&spot.name);
        }
        self.things[node].names -= 1;
        self.things[node].above = None;
        node
    }

    /// It leaves a place, or gets one more: what held there goes on. Of a file, what the new place says as well need not
    /// hold by its other names.
    fn remember(
        &mut self,
        spot: &Spot,
        to: Option<&Spot>,
        node: Node,
        rules: &[Rule],
        promised: bool,
    ) {
        let there = to.map(|to| surely(rules, &self.places_by_name(to.parent, &to.name)));
        let there = there.unwrap_or_default();
        let mut also = self.of_two_ways(rules, spot.parent);
        if self.is_directory(node) {
            also |= self.of_two_ways(rules, node);
        }
        let (places, possible) = (
            self.places_by_name(spot.parent, &spot.name),
            self.possible_by_name(spot.parent, &spot.name),
        );
        let thing = &mut self.things[node];
        thing.also |= also;
        if promised {
            // Once more denied there, it is denied by every rule again.
            for (place, lifted) in places {
                let lifted = if thing.entries.is_none() { lifted | there } else { lifted };
                let before = thing.was.entry(place).or_insert(lifted);
                *before &= lifted;
            }
        }
        thing.may_have_been.extend(possible);
    }

    /// Gives a thing a name. Where rules except the place, they are lifted from it.
    fn put(&mut self, node: Node, spot: &Spot, rules: &[Rule]) {
        let places = self.places_by_name(spot.parent, &spot.name);
        let lifted = rule_set(rules, |rule| {
            places.keys().any(|place| rule.excepts(place))
                && !places.keys().any(|place| rule.covers(place))
        });
        let is_directory = self.is_directory(node);
        let possible = self.possible_by_name(spot.parent, &spot.name);
        let thing = &mut self.things[node];
        // From inside, what is denied here is denied by its other names.
        if thing.names > 0 {
            thing.may_have_been.extend(possible);
        }
        thing.names += 1;
        for before in thing.was.values_mut() {
            *before |= lifted;
        }
        if is_directory {
            thing.above = Some((spot.parent, spot.name.clone()));
        }
        if let Some(entries) = &mut self.things[spot.parent].entries {
            entries.insert(spot.name.clone(), node);
        }
    }
}

/// What the programs that are tested promise, of things that move.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keeps {
    /// Whatever leaves a place stays denied for it.
    pub moves: bool,
    /// Whatever gets one more name, or had several when the rules began to hold, stays denied for all.
    pub links: bool,
    /// A directory that rules name may move.
    pub directories: bool,
    /// Somebody in a scope may try changes.
    pub insiders: bool,
}

impl Keeps {
    /// All of it.
    pub const ALL: Self = Self { moves: true, links: true, directories: true, insiders: true };
}

/// How many links are followed on one path.
const LINKS: usize = 8;

/// A place in a directory.
pub fn below(place: &str, name: &str) -> String {
    if place.is_empty() { name.to_owned() } else { format!("{place}/{name}") }
}

/// Which rules hold at places, but those that are lifted there.
pub fn surely(rules: &[Rule], places: &Places) -> RuleSet {
    let at =
        |(place, lifted): (&String, &RuleSet)| rule_set(rules, |rule| rule.covers(place)) & !lifted;
    places.iter().map(at).fold(0, |all, more| all | more)
}

/// Adds places; where a place is in both, only what both have lifted is lifted.
fn add(places: &mut Places, more: Places) {
    for (place, lifted) in more {
        let before = places.entry(place).or_insert(lifted);
        *before &= lifted;
    }
}
