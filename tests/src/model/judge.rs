// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What must be denied, and what may be.
//!
//! Between the two is a band where the programs may be stricter than rules say, and never weaker. It is as narrow as
//! this list, and nothing is in it for anybody outside of every workload:
//!
//! - once a directory that rules name, or that is on the way to what they name, has moved, all that is above a thing
//!   counts, whatever rules except; also if it was to move in an exchange that was refused;
//! - what is seen through a mount is also judged by where the mount lies, whatever rules except there, and as if it were
//!   the directory that is covered; it must be by names only below the innermost mount, and only if that lies where the
//!   tree still is the one that was known;
//! - of a directory that has stood for two that rules name, one is remembered with its names, and the other with all rules
//!   that name something below it;
//! - what is on a filesystem that was mounted after the rules began to hold is denied whatever any rule denies, and must be
//!   by the names below the mount alone;
//! - a symbolic link is not followed where a rule names something at its place or below it; and where it leads must be
//!   denied as by any other path;
//! - a thing with more than three labels may be denied whatever any rule denies;
//! - a process in a scope may be kept from moving what it is denied only for what that thing was before, since the denial
//!   goes along; to where any rule excepts something, or something below it; with a directory, once a directory that rules
//!   name has moved; from replacing an empty directory on the way; and by what is denied where a mount lies.

use std::collections::BTreeSet;

use super::{
    rules::{Accesses, Actor, Rule, RuleSet, WRITE, denied, is_below, rule_set},
    step::Act,
    world::{Places, Spot, World, below, surely},
};

/// What is denied for sure, and what at the most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Allowed, it is a hole.
    pub must: Accesses,
    /// Refused although not in here, it is a hindrance.
    pub may: Accesses,
}

/// Whether a change by somebody is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// Done, it is a hole.
    pub must: bool,
    /// Refused although this is not set, it is a hindrance.
    pub may: bool,
}

/// Rules that hold for sure, and rules that hold at the most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    must: RuleSet,
    may: RuleSet,
    /// Rules for which a link may not be followed, whatever is asked for and whatever they deny.
    stops: RuleSet,
}

impl Held {
    /// What that denies to somebody.
    pub fn bounds(self, rules: &[Rule], actor: Actor) -> Bounds {
        let must = denied(rules, actor, self.must);
        let stopped = denied(rules, actor, self.stops) != 0;
        let may = if stopped { Accesses::MAX } else { denied(rules, actor, self.may) };
        Bounds { must, may: must | may }
    }
}

/// Which rules hold for an open of a path; none if it leads nowhere.
pub fn opening(world: &World, rules: &[Rule], path: &str) -> Held {
    let Some(followed) = world.followed(path) else { return Held::default() };
    let mut held = at_its_end(world, rules, followed.real());
    for link in &followed.links {
        held.stops |= world.entry(link).map_or(0, |spot| stops(world, rules, link, &spot));
    }
    held
}

/// Which rules hold for what a path without links leads to.
fn at_its_end(world: &World, rules: &[Rule], path: &str) -> Held {
    let Some(spot) = world.spot(path) else { return Held::default() };
    let Some(node) = spot.node else { return Held::default() };
    let crossings = world.crossings(path);
    // What a mount shows is at its own place, and not at the mount's.
    let (mut places, mut possible) = if world.is_directory(node) {
        (world.places_of_directory(node), world.possible_of_directory(node))
    } else {
        of_name(world, &spot)
    };
    places.extend(world.thing(node).was.clone());
    possible.extend(world.thing(node).may_have_been.iter().cloned());

    let (must, may) = (surely(rules, &places), possibly(world, rules, &possible));
    let mut held = Held { must, may, stops: 0 };
    for (level, (covered, rest)) in crossings.iter().rev().enumerate() {
        let known = &world.thing(*covered).was;
        let above = world.thing(*covered).above.as_ref();
        for (place, lifted) in world.places_of_directory(*covered) {
            let by_name = above.is_some_and(|(directory, name)| {
                world.thing(*directory).was.keys().any(|above| below(above, name) == place)
            });
            let names_hold = level == 0 && (known.contains_key(&place) || by_name);
            let seen = join(&place, rest);
            let holds =
                |rule: &Rule| rule.covers(&seen) && (names_hold || rule.reaches_all_of(&place));
            held.must |= rule_set(rules, holds) & !lifted;
        }
        for place in world.possible_of_directory(*covered) {
            let seen = join(&place, rest);
            held.may |= rule_set(rules, |rule| rule.reaches(&seen) || rule.reaches(&place));
        }
        held.may |= world.of_two_ways(rules, *covered);
    }
    let directory = if world.is_directory(node) { node } else { spot.parent };
    held.may |= world.of_two_ways(rules, directory) | world.thing(node).also;
    if world.is_foreign(directory) || has_many_labels(world, rules, &spot, &possible, &crossings) {
        held.may = RuleSet::MAX;
    }
    held
}

/// The rules for which a symbolic link may not be followed.
fn stops(world: &World, rules: &[Rule], path: &str, link: &Spot) -> RuleSet {
    if world.is_foreign(link.parent) || !world.crossings(path).is_empty() {
        return RuleSet::MAX;
    }
    let (_, mut possible) = of_name(world, link);
    possible.extend(link.node.iter().flat_map(|node| world.thing(*node).may_have_been.clone()));
    let named = rule_set(rules, |rule| {
        possible.iter().any(|place| rule.reaches(place) || rule.names_at_or_below(place))
    });
    named | world.of_two_ways(rules, link.parent)
}

/// Whether somebody is kept from a change that [can](World::can) be made.
pub fn refusal(world: &World, rules: &[Rule], actor: Actor, act: &Act) -> Refusal {
    let mut noted = world.clone();
    noted.half_noted(act, rules);
    let (world, view) = (&noted, View { world: &noted, rules, actor });
    let entry = |path: &str| world.entry(path);
    let verdict = match act {
        Act::Create(path) | Act::Mkdir(path) => {
            entry(path).map(|spot| view.writing_name(path, &spot))
        }
        Act::Symlink(_, path) => {
            entry(path).map(|spot| view.writing_name(path, &spot).or(view.named_way(&spot)))
        }
        Act::Unlink(path) | Act::Rmdir(path) => {
            entry(path).map(|spot| view.writing(path, &spot).or(view.on_the_way(&spot)))
        }
        Act::Rename(from, to) | Act::Whiteout(from, to) => {
            entry(from).zip(entry(to)).map(|(old, new)| {
                let onto =
                    if new.node.is_some() { view.writing(to, &new) } else { Refusal::default() };
                let victim = Refusal { must: false, ..view.on_the_way(&new) };
                view.moving((from, &old), (to, &new)).or(onto).or(victim)
            })
        }
        Act::Exchange(one, other) => entry(one).zip(entry(other)).map(|(old, new)| {
            view.moving((one, &old), (other, &new)).or(view.moving((other, &new), (one, &old)))
        }),
        Act::Link(from, to) => entry(from).zip(entry(to)).map(|(old, new)| {
            let names = view.writing(from, &old).or(view.writing_name(to, &new));
            names.or(view.refer((from, &old), (to, &new))).or(view.coming(&old, &new))
        }),
        Act::Bind(..) | Act::Tmpfs(_) | Act::Umount(_) => return Refusal::default(),
    };
    let mut verdict = verdict.unwrap_or_default();
    // Where a new link leads is nobody's business.
    let paths = if let Act::Symlink(_, path) = act { vec![path.as_str()] } else { act.words().1 };
    for spot in paths.into_iter().filter_map(entry) {
        // Hooks on names do not know where a filesystem is mounted, nor what it is about.
        if world.is_foreign(spot.parent) {
            verdict = Refusal { must: false, may: rules.iter().any(|rule| rule.concerns(actor)) };
        }
        // What a rule says of a link it says of where that led.
        verdict.must &= spot.node.is_none_or(|node| world.thing(node).link.is_none());
    }
    verdict
}

/// What somebody sees of a world.
struct View<'a> {
    world: &'a World,
    rules: &'a [Rule],
    actor: Actor,
}

impl View<'_> {
    /// What is denied at a name, whatever has it. Hooks on names do not know by which mount one comes.
    fn name(&self, path: &str, spot: &Spot) -> Bounds {
        let (places, mut possible) = of_name(self.world, spot);
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        let crossings = self.world.crossings(parent);
        for (covered, rest) in &crossings {
            let way = join(rest, &spot.name);
            let above = self.world.possible_of_directory(*covered);
            possible.extend(above.iter().map(|place| join(place, &way)));
        }
        let may = possibly(self.world, self.rules, &possible)
            | self.world.of_two_ways(self.rules, spot.parent);
        let must = surely(self.rules, &places);
        let held = Held { must, may, stops: 0 };
        self.bounds(held, &Spot { node: None, ..spot.clone() }, &possible, &crossings)
    }

    /// What is denied of the thing that has a name, for its name and for what it was.
    fn thing(&self, path: &str, spot: &Spot) -> Bounds {
        let named = self.name(path, spot);
        let Some(node) = spot.node else { return named };
        let thing = self.world.thing(node);
        let may = possibly(self.world, self.rules, &thing.may_have_been) | thing.also;
        let been = Held { must: surely(self.rules, &thing.was), may, stops: 0 };
        let mut possible = self.world.possible_by_name(spot.parent, &spot.name);
        possible.extend(thing.may_have_been.iter().cloned());
        let been = self.bounds(been, spot, &possible, &self.world.crossings(path));
        Bounds { must: named.must | been.must, may: named.may | been.may }
    }

    /// What that denies to the actor, if walks can tell all labels apart.
    fn bounds(
        &self,
        mut held: Held,
        spot: &Spot,
        possible: &BTreeSet<String>,
        crossings: &[(usize, String)],
    ) -> Bounds {
        if has_many_labels(self.world, self.rules, spot, possible, crossings) {
            held.may = RuleSet::MAX;
        }
        held.bounds(self.rules, self.actor)
    }

    fn writing_name(&self, path: &str, spot: &Spot) -> Refusal {
        Refusal::of(self.name(path, spot), WRITE)
    }

    fn writing(&self, path: &str, spot: &Spot) -> Refusal {
        Refusal::of(self.thing(path, spot), WRITE)
    }

    fn moving(&self, old: (&str, &Spot), new: (&str, &Spot)) -> Refusal {
        let written = self.writing(old.0, old.1).or(self.writing_name(new.0, new.1));
        let refer = self.refer(old, new).or(self.coming(old.1, new.1));
        written.or(refer).or(self.on_the_way(old.1))
    }

    /// No link comes to a name on the way to an object, or to its own.
    fn coming(&self, old: &Spot, new: &Spot) -> Refusal {
        let is_link = old.node.is_some_and(|node| self.world.thing(node).link.is_some());
        if is_link { self.named_way(new) } else { Refusal::default() }
    }

    /// Nothing gets to where less is denied, be it somewhere below.
    fn refer(&self, old: (&str, &Spot), new: (&str, &Spot)) -> Refusal {
        let (place, thing) = (self.name(old.0, old.1), self.thing(old.0, old.1));
        let there = self.name(new.0, new.1);
        let mut refusal =
            Refusal { must: place.must & !there.may != 0, may: thing.may & !there.must != 0 };
        let is_directory = old.1.node.is_some_and(|node| self.world.is_directory(node));
        if !is_directory && !self.world.unites {
            return refusal;
        }
        let (places, possible) = of_name(self.world, new.1);
        let frees = |rule: &Rule, place: &String| {
            rule.excepts.iter().any(|except| is_below(&except.path, place))
        };
        // Of several names one is looked at.
        refusal.must |= place.must != 0
            && possible.len() == 1
            && !self.world.unites
            && places.keys().any(|place| self.rules.iter().any(|rule| frees(rule, place)));
        let freed = |rule: &Rule, place: &String| frees(rule, place) || rule.excepts(place);
        let may_free = is_directory && self.world.unites
            || possible.iter().any(|place| self.rules.iter().any(|rule| freed(rule, place)));
        refusal.may |= thing.may != 0 && may_free;
        refusal
    }

    /// A name at or below which something is denied.
    fn named_way(&self, spot: &Spot) -> Refusal {
        let (places, possible) = of_name(self.world, spot);
        // Of several names one is looked at.
        let places = if possible.len() == 1 { places } else { Places::default() };
        self.way(&places, &possible)
    }

    /// A directory with something denied below it.
    fn on_the_way(&self, spot: &Spot) -> Refusal {
        let is_way =
            |node: &usize| self.world.is_directory(*node) || self.world.thing(*node).link.is_some();
        let Some(node) = spot.node.filter(is_way) else {
            return Refusal::default();
        };
        let (places, mut possible) = of_name(self.world, spot);
        if self.world.is_directory(node) {
            possible = self.world.possible_of_directory(node);
        } else {
            possible.extend(self.world.thing(node).may_have_been.iter().cloned());
        }
        self.way(&places, &possible)
    }

    fn way(&self, places: &Places, possible: &BTreeSet<String>) -> Refusal {
        let concerned = || self.rules.iter().filter(|rule| rule.concerns(self.actor));
        let object_below = |rule: &Rule, place: &String| {
            rule.objects.iter().any(|object| is_below(&object.path, place))
        };
        let must = concerned().any(|rule| places.keys().any(|place| object_below(rule, place)));
        let may =
            concerned().any(|rule| possible.iter().any(|place| rule.names_at_or_below(place)));
        Refusal { must, may: must || may }
    }
}

impl Refusal {
    fn of(bounds: Bounds, access: Accesses) -> Self {
        Self { must: bounds.must & access != 0, may: bounds.may & access != 0 }
    }

    fn or(self, other: Self) -> Self {
        Self { must: self.must || other.must, may: self.may || other.may }
    }
}

fn of_name(world: &World, spot: &Spot) -> (Places, BTreeSet<String>) {
    (world.places_by_name(spot.parent, &spot.name), world.possible_by_name(spot.parent, &spot.name))
}

fn possibly(world: &World, rules: &[Rule], possible: &BTreeSet<String>) -> RuleSet {
    rule_set(rules, |rule| {
        possible.iter().any(|place| rule.covers(place) || world.unites && rule.reaches(place))
    })
}

/// More labels than a walk can tell apart: only of what has moved, else the nearest one decides alone.
fn has_many_labels(
    world: &World,
    rules: &[Rule],
    spot: &Spot,
    possible: &BTreeSet<String>,
    crossings: &[(usize, String)],
) -> bool {
    if possible.len() < 2 && crossings.is_empty() {
        return false;
    }
    let mut places = possible.clone();
    let mut directories: Vec<usize> = crossings.iter().map(|(covered, _)| *covered).collect();
    directories.extend(spot.node.filter(|node| world.is_directory(*node)));
    directories.push(spot.parent);
    for mut directory in directories {
        loop {
            places.extend(world.possible_of_directory(directory));
            match &world.thing(directory).above {
                Some((above, _)) => directory = *above,
                None => break,
            }
        }
    }
    // Of itself, of what lies beneath it, without what it excepts, and of all that is named below it.
    let sets = places.iter().flat_map(|place| {
        [
            rule_set(rules, |rule| rule.covers(place)),
            rule_set(rules, |rule| rule.covers(place) && rule.reaches_all_of(place)),
            rule_set(rules, |rule| world.unites && rule.reaches_all_of(place)),
            rule_set(rules, |rule| world.unites && rule.names_at_or_below(place)),
        ]
    });
    // What had several names when the rules began to hold has one label for all of them.
    let names = spot.node.iter().flat_map(|node| world.thing(*node).was.keys());
    let names: Vec<&String> = names.collect();
    let of_all = rule_set(rules, |rule| names.iter().any(|place| rule.covers(place)));
    let labels: BTreeSet<RuleSet> = sets.chain([of_all]).collect();
    // Where all is excepted there is a label without a rule.
    let excepted = places.iter().any(|place| rules.iter().any(|rule| rule.excepts(place)));
    labels.into_iter().filter(|label| *label != 0 || excepted).count() > LABELS_OF_A_WALK
}

const LABELS_OF_A_WALK: usize = 3;

fn join(place: &str, rest: &str) -> String {
    if rest.is_empty() { place.to_owned() } else { below(place, rest) }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            rules::{EXEC, READ},
            step::Story,
            world::Keeps,
        },
        *,
    };

    /// The world after a story, and its rules.
    fn after(text: &str) -> (World, Vec<Rule>) {
        let story: Story = text.parse().expect("a story");
        let keeps = Keeps::ALL;
        let mut world = World::of(&story.entries).expect("entries");
        let rules = world.led_on(&story.rules);
        world.begin(&rules, keeps);
        for step in &story.steps {
            assert!(world.can(&step.act), "{step}");
            world.change(&step.act, &rules, keeps);
        }
        (world, rules)
    }

    /// Of opens by the first scope: (what must be denied, what may be).
    fn bounds(text: &str, path: &str) -> (Accesses, Accesses) {
        let (world, rules) = after(text);
        let held = opening(&world, &rules, path);
        assert_eq!(held.bounds(&rules, Actor::OUTSIDE), Bounds::default());
        let bounds = held.bounds(&rules, Actor(1));
        (bounds.must, bounds.may)
    }

    #[test]
    fn what_left_a_place_stays_denied_and_what_came_is() {
        let moved =
            "dir a; file a/b; file c; rule 0 r a/; outside rename a/b b; outside rename c a/c";
        assert_eq!(bounds(moved, "b"), (READ, READ));
        assert_eq!(bounds(moved, "a/c"), (READ, READ));
        let back = format!("{moved}; outside rename a/c c; outside create a/b");
        assert_eq!(bounds(&back, "c"), (READ, READ));
        assert_eq!(bounds(&back, "a/b"), (READ, READ));
        let free = "dir a; file a/b; rule 0 r a/b; outside create a/c; outside rename a/c c";
        assert_eq!(bounds(free, "c"), (0, 0));
    }

    #[test]
    fn names_go_on_below_a_directory_that_moved() {
        let text = "dir a; dir a/b; rule 0 w a/b/c; outside rename a c; outside create c/b/c; outside create c/b/a";
        assert_eq!(bounds(text, "c/b/c"), (WRITE, WRITE));
        assert_eq!(bounds(text, "c/b/a"), (0, 0));
    }

    #[test]
    fn a_place_that_is_excepted_lifts_its_rule_and_no_other() {
        let rules = "rule 0 r a/ except a/b/; rule 0 x a/c";
        let text = format!("dir a; dir a/b; file a/c; {rules}; outside rename a/c a/b/c");
        assert_eq!(bounds(&text, "a/b/c"), (EXEC, READ | EXEC));
        let out = format!("{text}; outside rename a/b/c c");
        assert_eq!(bounds(&out, "c"), (EXEC, READ | EXEC));
        let again = format!("{out}; outside rename c a/a; outside rename a/a c");
        assert_eq!(bounds(&again, "c"), (READ | EXEC, READ | EXEC));
    }

    #[test]
    fn what_is_mounted_over_the_way_has_the_names_of_the_way() {
        let text = "dir a; dir b; file b/c; file b/a; rule 0 r a/c; outside bind b a";
        assert_eq!(bounds(text, "a/c"), (READ, READ));
        assert_eq!(bounds(text, "a/a"), (0, 0));
        assert_eq!(bounds(text, "b/c"), (0, 0));
        assert_eq!(
            bounds(&format!("{text}; outside umount a; outside create a/c"), "a/c"),
            (READ, READ)
        );
        let elsewhere = "dir a; file a/c; dir b; rule 0 r a/; outside bind a b";
        assert_eq!(bounds(elsewhere, "b/c"), (READ, READ));
    }

    #[test]
    fn another_name_is_the_same_file() {
        let text =
            "dir a; file a/b; hard a/b b; rule 0 r a/; outside create a/c; outside link a/c c";
        assert_eq!(bounds(text, "b"), (READ, READ));
        assert_eq!(bounds(text, "c"), (READ, READ));
    }

    #[test]
    fn what_moves_within_a_denied_directory_is_as_free_by_its_other_name_as_before() {
        let text =
            "dir a; dir a/a; file c; rule 0 r a/; outside link c a/c; outside rename a/c a/a/c";
        assert_eq!(bounds(text, "c"), (0, READ));
        assert_eq!(bounds(text, "a/a/c"), (READ, READ));
        assert_eq!(bounds(&format!("{text}; outside unlink a/a/c"), "c"), (READ, READ));
    }

    #[test]
    fn a_link_in_the_middle_of_a_path_is_followed_or_not_like_one_at_its_end() {
        let text = "dir a; dir b; file b/a; rule 0 x a/c; rule 0 r b/; outside rename a c; \
                    outside symlink b a; outside symlink a/a b/c";
        assert_eq!(bounds(text, "b/c"), (READ, Accesses::MAX));
    }

    #[test]
    fn each_path_that_a_rule_leads_through_is_bound() {
        let text = "dir a; dir b; soft a/b b/c; soft b c; rule 0 x c/c/a; outside unlink b/c; \
                    outside mkdir b/c; outside create b/c/a; outside mkdir a/b; outside create a/b/a";
        assert_eq!(bounds(text, "b/c/a"), (EXEC, EXEC));
        assert_eq!(bounds(text, "a/b/a"), (EXEC, EXEC));
    }

    #[test]
    fn a_link_leads_to_what_is_denied_by_every_other_path() {
        let text =
            "dir a; file a/b; file a/c; rule 0 r a/b; outside symlink a/b c; outside symlink a/c b";
        assert_eq!(bounds(text, "c"), (READ, READ));
        assert_eq!(bounds(text, "b"), (0, 0));
        let through = "dir a; file a/b; soft a b; rule 0 x b/b; outside rename a/b c";
        assert_eq!(bounds(through, "c"), (EXEC, EXEC));
        let changed = "dir a; file a/b; soft a b; file c; rule 0 x b/b; outside unlink b; outside symlink c b";
        assert_eq!(bounds(changed, "b"), (0, Accesses::MAX));
    }

    #[test]
    fn on_a_filesystem_that_came_later_names_below_the_mount_are_sure() {
        let text = "dir a; rule 0 r a/c; outside tmpfs a; outside create a/c; outside create a/b";
        assert_eq!(bounds(text, "a/c"), (READ, READ));
        assert_eq!(bounds(text, "a/b"), (0, READ));
        assert_eq!(refused(&format!("{text}; scope-3 unlink a/c")), (false, false));
        assert_eq!(refused(&format!("{text}; scope-1 unlink a/c")), (false, true));
    }

    #[test]
    fn what_leaves_a_whiteout_behind_has_left() {
        let text = "file b; rule 0 r b; outside whiteout b c";
        assert_eq!(bounds(text, "c"), (READ, READ));
    }

    fn refused(text: &str) -> (bool, bool) {
        let (before, last) = text.rsplit_once(';').expect("a step");
        let (world, rules) = after(before);
        let story: Story = last.parse().expect("a step");
        let step = &story.steps[0];
        assert!(world.can(&step.act), "{step}");
        assert_eq!(refusal(&world, &rules, Actor::OUTSIDE, &step.act), Refusal::default());
        let refusal = refusal(&world, &rules, step.actor, &step.act);
        (refusal.must, refusal.may)
    }

    #[test]
    fn in_a_scope_nothing_gets_to_where_less_is_denied() {
        let start =
            "dir a; file a/b; file b; dir c; dir c/a; rule 0 r a/; rule 0 rx c/a/; rule 2 r b";
        let refused = |step: &str| refused(&format!("{start}; {step}"));
        let [no, yes] = [(false, false), (true, true)];
        assert_eq!(refused("scope-1 rename a/b c/b"), yes);
        assert_eq!(refused("scope-1 link a/b c/b"), yes);
        assert_eq!(refused("scope-1 rename a/b c/a/b"), no);
        assert_eq!(refused("scope-1 exchange a/b b"), yes);
        assert_eq!(refused("scope-1 rename b a/c"), no);
        assert_eq!(refused("scope-3 rename a/b c/b"), no);
        assert_eq!(refused("scope-3 rename b c/b"), yes);
    }

    #[test]
    fn in_a_scope_no_directory_gets_to_where_something_in_it_would_be_free() {
        let start = "dir a; dir a/b; dir a/b/c; file a/b/c/a; dir c; rule 0 r a/ except a/a/c/";
        let refused = |step: &str| refused(&format!("{start}; {step}"));
        assert_eq!(refused("scope-1 rename a/b a/a"), (true, true));
        assert_eq!(refused("scope-1 rename a/b a/c"), (false, false));
        assert_eq!(refused("scope-3 rename a/b a/a"), (false, false));
        assert_eq!(refused("scope-1 rename c a/a"), (false, false));
        assert_eq!(refused("scope-1 rename a/b/c/a a/a"), (false, false));
    }

    #[test]
    fn an_exchange_of_a_named_directory_may_keep_what_is_excepted_where_it_is() {
        let start = "dir a; dir c; file c/c; rule 2 x c/ except c/c; rule 0 rwx a/c";
        assert_eq!(refused(&format!("{start}; scope-3 exchange c/c a")), (false, true));
        assert_eq!(refused(&format!("{start}; scope-3 rename c/c b")), (false, false));
    }

    #[test]
    fn what_has_more_labels_than_a_walk_tells_apart_may_be_kept_where_it_is() {
        let start = "dir a; file b; dir c; hard b a/b; \
                     rule 0 rx a/a/a/; rule 2 r a/; rule 1 w a/b; rule 1 rwx b; \
                     outside mkdir c/a; outside rename b a/c; outside create c/a/a";
        let many = format!("{start}; outside exchange c/a/a a/c");
        assert_eq!(refused(&format!("{many}; scope-1 exchange a/c a/b")), (false, true));
    }

    #[test]
    fn write_denied_keeps_a_directory_as_it_is() {
        let start = "dir a; file a/b; dir a/c; file b; dir c; rule 1 w a/";
        let refused = |step: &str| refused(&format!("{start}; {step}"));
        let [no, yes] = [(false, false), (true, true)];
        for act in
            ["create a/a", "mkdir a/a", "unlink a/b", "rmdir a/c", "rename b a/b", "link b a/a"]
        {
            assert_eq!(refused(&format!("scope-2 {act}")), yes, "{act}");
            assert_eq!(refused(&format!("scope-1 {act}")), no, "{act}");
        }
    }

    #[test]
    fn the_way_to_an_object_stays() {
        let start = "dir a; dir a/b; dir c; rule 0 r a/b/c; rule 2 r c/c";
        let refused = |step: &str| refused(&format!("{start}; {step}"));
        let [no, yes] = [(false, false), (true, true)];
        assert_eq!(refused("scope-1 rename a b"), yes);
        assert_eq!(refused("scope-1 rmdir a/b"), yes);
        assert_eq!(refused("scope-1 exchange c a/b"), yes);
        assert_eq!(refused("scope-1 rename c b"), no);
        assert_eq!(refused("scope-3 rename a/b b"), no);
    }
}
