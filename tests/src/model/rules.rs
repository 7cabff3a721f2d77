// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What rules say of a path, as docs/policy.md has it: no inode, no name, nothing that moves.

use std::fmt;

/// A set of accesses.
pub type Accesses = u8;

/// Opening for reading, or listing.
pub const READ: Accesses = 1;
/// Opening for writing, and changing what a directory holds.
pub const WRITE: Accesses = 2;
/// Running.
pub const EXEC: Accesses = 4;

/// Each access, its letter and its word in a policy.
pub const ACCESSES: [(Accesses, char, &str); 3] =
    [(READ, 'r', "read"), (WRITE, 'w', "write"), (EXEC, 'x', "exec")];

/// A set of rules, one bit each.
pub type RuleSet = u32;

/// Who acts: 0 is outside of every workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Actor(pub usize);

/// Everybody. The second scope lies within the first one.
pub const ACTORS: [Actor; 4] = [Actor(0), Actor(1), Actor(2), Actor(3)];

/// How many workloads rules speak of.
pub const WORKLOADS: usize = 3;

impl Actor {
    /// Outside of every workload.
    pub const OUTSIDE: Self = Self(0);

    /// The workloads that select its cgroup.
    pub fn workloads(self) -> &'static [usize] {
        match self.0 {
            1 => &[0],
            2 => &[0, 1],
            3 => &[2],
            _ => &[],
        }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("outside"),
            number => write!(f, "scope-{number}"),
        }
    }
}

/// A path in a rule; with a slash at its end it is the directory and everything beneath it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Below the top of the story's tree, without that slash.
    pub path: String,
    /// Whether all beneath is meant.
    pub beneath: bool,
}

impl Bound {
    /// From its text.
    pub fn new(text: &str) -> Self {
        let path = text.trim_end_matches('/');
        Self { path: path.to_owned(), beneath: path.len() != text.len() }
    }

    /// Whether it is this place, or covers it.
    pub fn covers(&self, place: &str) -> bool {
        self.path == place || self.beneath && is_below(place, &self.path)
    }

    /// Whether it is at a place or somewhere below it.
    pub fn is_at_or_below(&self, place: &str) -> bool {
        self.path == place || is_below(&self.path, place)
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.path, if self.beneath { "/" } else { "" })
    }
}

/// One rule that denies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The one workload it speaks of.
    pub workload: usize,
    /// What it denies.
    pub access: Accesses,
    /// On what.
    pub objects: Vec<Bound>,
    /// But not on what.
    pub excepts: Vec<Bound>,
}

impl Rule {
    /// Whether it speaks to somebody.
    pub fn concerns(&self, actor: Actor) -> bool {
        actor.workloads().contains(&self.workload)
    }

    /// Whether one of its objects covers a place, whatever is excepted.
    pub fn reaches(&self, place: &str) -> bool {
        self.objects.iter().any(|object| object.covers(place))
    }

    /// Whether one of its objects covers a place with everything beneath it.
    pub fn reaches_all_of(&self, place: &str) -> bool {
        self.objects.iter().any(|object| object.beneath && object.covers(place))
    }

    /// Whether it excepts a place that it reaches.
    pub fn excepts(&self, place: &str) -> bool {
        self.reaches(place) && self.excepts.iter().any(|except| except.covers(place))
    }

    /// Whether it holds at a place.
    pub fn covers(&self, place: &str) -> bool {
        self.reaches(place) && !self.excepts(place)
    }

    /// Whether any path in it is at a place or below it: the place then is on the way.
    pub fn names_at_or_below(&self, place: &str) -> bool {
        self.objects.iter().chain(&self.excepts).any(|bound| bound.is_at_or_below(place))
    }
}

/// What a set of rules denies to somebody.
pub fn denied(rules: &[Rule], actor: Actor, set: RuleSet) -> Accesses {
    let chosen = rules.iter().enumerate().filter(|(number, _)| set & 1 << number != 0);
    let speaking = chosen.filter(|(_, rule)| rule.concerns(actor));
    speaking.fold(0, |accesses, (_, rule)| accesses | rule.access)
}

/// The rules chosen, as a set.
pub fn rule_set(rules: &[Rule], chosen: impl Fn(&Rule) -> bool) -> RuleSet {
    let numbered = rules.iter().enumerate().filter(|(_, rule)| chosen(rule));
    numbered.fold(0, |set, (number, _)| set | 1 << number)
}

/// `a/b` is below `a`, and everything but itself is below the top.
pub fn is_below(path: &str, above: &str) -> bool {
    if above.is_empty() {
        return !path.is_empty();
    }
    path.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'))
}

/// Letters of accesses.
pub fn letters(accesses: Accesses) -> String {
    let of = ACCESSES.iter().filter(|(access, ..)| accesses & access != 0);
    of.map(|(_, letter, _)| letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_holds_beneath_its_objects_and_not_at_its_excepts() {
        let rule = Rule {
            workload: 0,
            access: READ | WRITE,
            objects: vec![Bound::new("a/"), Bound::new("c/b")],
            excepts: vec![Bound::new("a/b/"), Bound::new("a/c")],
        };
        let covered = ["a", "a/a", "a/a/b", "a/c/a", "c/b"];
        let free = ["", "ab", "a/b", "a/b/c", "a/c", "c", "c/b/a"];
        assert!(covered.iter().all(|place| rule.covers(place)));
        assert!(!free.iter().any(|place| rule.covers(place)));
        assert!(rule.names_at_or_below("c") && rule.names_at_or_below("a/c"));
        assert!(!rule.names_at_or_below("a/c/a") && !rule.names_at_or_below("b"));
        let rules = [rule];
        assert_eq!(denied(&rules, Actor(2), 1), READ | WRITE);
        assert_eq!(denied(&rules, Actor(2), 2), 0);
        assert_eq!(denied(&rules, Actor(3), 1), 0);
    }
}
