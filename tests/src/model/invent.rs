// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Stories by chance. Few names and few rules, so that they meet.

use super::{
    random::Random,
    rules::{ACTORS, Accesses, Actor, Bound, Rule, WORKLOADS, is_below},
    step::{Act, Entry, Step, Story},
    tell::{Counts, Fault, Machine, Telling},
    world::{Keeps, World, below},
};

/// Makes a story of so many steps while it is told; as far as it came, and how it ended.
pub fn invent(
    machine: &mut dyn Machine,
    random: &mut Random,
    steps: usize,
    keeps: Keeps,
) -> (Story, Result<Counts, Fault>) {
    let entries = entries(random);
    let rules = rules(random, &entries);
    let mut story = Story { entries, rules, steps: Vec::new() };
    let begun = Telling::begin(machine, &story, keeps, Counts::default());
    let told = begun.and_then(|mut telling| {
        for _ in 0..steps {
            let Some(step) = step(random, &telling.world, keeps) else { continue };
            story.steps.push(step.clone());
            telling.step(machine, &step)?;
        }
        Ok(telling.counts)
    });
    let told = machine.end().map_err(Fault::Broken).and(told);
    (story, told)
}

/// What things are called. So few that a name is soon used again.
const NAMES: [&str; 3] = ["a", "b", "c"];
/// What rules take for a file as long as it is not there.
const FILE: char = 'c';
/// Directories are no deeper.
const DEPTH: usize = 3;
/// No more directories are mounted at once.
const MOUNTS: usize = 3;

fn entries(random: &mut Random) -> Vec<Entry> {
    let mut entries = vec![Entry::Directory(NAMES[0].to_owned())];
    for _ in 0..8 + random.below(8) {
        let path = path(random);
        let entry = match random.below(9) {
            0..4 => Entry::Directory(path),
            4..7 => Entry::File(path),
            7 => Entry::Symlink(self::path(random), path),
            _ => match random.pick(&entries) {
                Entry::File(file) => Entry::Link(file.clone(), path),
                _ => continue,
            },
        };
        entries.push(entry);
        if World::of(&entries).is_err() {
            entries.pop();
        }
    }
    entries
}

fn path(random: &mut Random) -> String {
    let levels = 1 + random.below(DEPTH);
    let names: Vec<&str> = (0..levels).map(|_| *random.pick(&NAMES)).collect();
    names.join("/")
}

fn rules(random: &mut Random, entries: &[Entry]) -> Vec<Rule> {
    let Ok(world) = World::of(entries) else { return Vec::new() };
    (0..2 + random.below(4)).map(|_| rule(random, &world)).collect()
}

fn rule(random: &mut Random, world: &World) -> Rule {
    let mut rule = Rule {
        workload: random.below(WORKLOADS),
        access: accesses(random),
        objects: Vec::new(),
        excepts: Vec::new(),
    };
    while rule.objects.is_empty() || random.one_in(3) {
        let path = path(random);
        let object = bound(world, path);
        let is_new = |other: &Bound| !other.covers(&object.path) && !object.covers(&other.path);
        let is_way = |other: &Bound| {
            is_below(&other.path, &object.path) || is_below(&object.path, &other.path)
        };
        if possible(world, &object)
            && rule.objects.iter().all(|other| is_new(other) && !is_way(other))
        {
            rule.objects.push(object);
        }
    }
    for object in rule.objects.clone().iter().filter(|object| object.beneath) {
        if random.one_in(2) {
            let path = below(&object.path, NAMES[random.below(NAMES.len())]);
            let except = bound(world, path);
            // What a link leads to is excepted by its own path.
            let is_real = world.real(&except.path).as_ref() == Some(&except.path);
            if is_real && possible(world, &except) {
                rule.excepts.push(except);
            }
        }
    }
    rule
}

fn accesses(random: &mut Random) -> Accesses {
    match random.below(5) {
        0 => 7,
        _ => 1 + u8::try_from(random.below(7)).unwrap_or_default(),
    }
}

/// As a policy must write it: with a slash if it is a directory, without if it is a file. What is not there yet must be
/// the same to all rules.
fn bound(world: &World, path: String) -> Bound {
    let real = world.real(&path).unwrap_or_else(|| path.clone());
    let node = world.spot(&real).and_then(|spot| spot.node);
    let beneath = node.map_or_else(|| !real.ends_with(FILE), |node| world.is_directory(node));
    Bound { path, beneath }
}

/// Nothing can be below a file, nor below what rules take for one; and a path must have an end.
fn possible(world: &World, bound: &Bound) -> bool {
    let Some(real) = world.real(&bound.path) else { return false };
    let bound = &Bound { path: real, ..bound.clone() };
    let mut above = bound.path.match_indices('/').map(|(at, _)| &bound.path[..at]);
    above.all(|path| match world.spot(path).and_then(|spot| spot.node) {
        Some(node) => world.is_directory(node),
        None => !path.ends_with(FILE),
    })
}

/// A step that can be made.
fn step(random: &mut Random, world: &World, keeps: Keeps) -> Option<Step> {
    let listing = world.listing();
    (0..50).find_map(|_| {
        let actor = *random.pick(&ACTORS);
        let actor = if !keeps.insiders || random.one_in(2) { Actor::OUTSIDE } else { actor };
        let act = act(random, &listing)?;
        let is_deep = act.words().1.iter().any(|path| path.matches('/').count() > DEPTH);
        let is_directory = |path: &str| {
            world
                .entry(path)
                .and_then(|spot| spot.node)
                .is_some_and(|node| world.is_directory(node))
        };
        let moves = matches!(act, Act::Rename(..) | Act::Whiteout(..) | Act::Exchange(..));
        if moves && !keeps.directories && act.words().1.iter().any(|path| is_directory(path)) {
            return None;
        }
        let too_many = matches!(act, Act::Bind(..) | Act::Tmpfs(_)) && world.mounts.len() >= MOUNTS;
        (!is_deep && !too_many && world.can(&act)).then_some(Step { actor, act })
    })
}

fn act(random: &mut Random, listing: &[String]) -> Option<Act> {
    if listing.is_empty() {
        return Some(Act::Mkdir((*random.pick(&NAMES)).to_owned()));
    }
    let any = |random: &mut Random| random.pick(listing).clone();
    // A name that is free or taken, in a directory that is there.
    let name = |random: &mut Random| {
        let name = *random.pick(&NAMES);
        if random.one_in(4) { name.to_owned() } else { below(&any(random), name) }
    };
    Some(match random.below(21) {
        0..3 => Act::Create(name(random)),
        3..5 => Act::Mkdir(name(random)),
        5 => Act::Unlink(any(random)),
        6 => Act::Rmdir(any(random)),
        7..11 => Act::Rename(any(random), name(random)),
        11 => Act::Rename(any(random), any(random)),
        12 => Act::Exchange(any(random), any(random)),
        13 => Act::Link(any(random), name(random)),
        14 => Act::Bind(any(random), any(random)),
        15 => Act::Whiteout(any(random), name(random)),
        16..19 => Act::Symlink(any(random), name(random)),
        19 => Act::Tmpfs(any(random)),
        _ => Act::Umount(any(random)),
    })
}
