// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The reference decision: what the kernel must answer, straight from the rules.
//!
//! Labels, verdicts and rows play no part here, so that a mistake in making them shows when the two
//! are compared. [`explain`] tells how the same answer comes about.

use std::collections::BTreeSet;

use aegis_abi::{Access, Action};

use crate::{Accesses, BuiltIn, Places, Ruleset, rules::NumberedRule};

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// The cgroup's path from the root of the hierarchy.
    pub cgroup: &'a [u8],
    /// Every path by which the object is known: the one that is opened, with links followed, and
    /// those by which the same inode is bound.
    pub paths: &'a [Vec<u8>],
    /// What one open asks for.
    pub accesses: Accesses,
}

/// What comes of it, if any rule speaks. Without one the access is allowed in silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Denied, or allowed and reported.
    pub action: Action,
    /// The number of the rule that is named.
    pub rule: u32,
    /// The access that the rule is named for.
    pub access: Access,
}

/// The answer to a question.
///
/// The strongest action wins, whichever access it is for; then the rule with the smaller number;
/// then read before write before exec.
pub fn decide(ruleset: &Ruleset, places: &Places, question: &Question<'_>) -> Option<Decision> {
    if is_exempt(question.cgroup) {
        return None;
    }
    let scope = ruleset.workloads_of(question.cgroup);
    let mut numbers = BTreeSet::new();
    for path in question.paths {
        numbers.append(&mut rules_on(places, path));
    }
    let rules = numbers.into_iter().filter_map(|number| ruleset.rule(number));
    strongest(rules.filter(|rule| rule.is_about_any(&scope)), question.accesses)
}

/// How an answer comes about.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// Numbers of the workloads that hold for the cgroup.
    pub workloads: Vec<u32>,
    /// Whether the cgroup is the one that no rule is about.
    pub exempt: bool,
    /// Every rule with an object that is, or is above, one of the paths.
    pub matches: Vec<RuleMatch>,
    /// The answer.
    pub decision: Option<Decision>,
}

/// One rule, and why it speaks or does not.
#[derive(Clone, Debug)]
pub struct RuleMatch {
    /// The rule's number.
    pub rule: u32,
    /// The path that it covers.
    pub path: Vec<u8>,
    /// Its object that covers the path, as written.
    pub object: String,
    /// Its except that takes the path out again, as written.
    pub excepted: Option<String>,
    /// Whether one of its workloads holds for the cgroup.
    pub selects: bool,
    /// Which of the accesses asked for it is about.
    pub accesses: Accesses,
    /// Whether it is the one that the answer names.
    pub decides: bool,
}

/// The answer to a question, and every rule that has to do with it.
pub fn explain(ruleset: &Ruleset, places: &Places, question: &Question<'_>) -> Explanation {
    let workloads = ruleset.workloads_of(question.cgroup);
    let decision = decide(ruleset, places, question);
    let mut matches = Vec::new();
    for rule in ruleset.rules() {
        for path in question.paths {
            let covering = |place: &&crate::Place| place.covers(path);
            let mut objects = places.iter().filter(|place| place.rules.contains(&rule.number));
            let Some(object) = objects.find(covering) else { continue };
            let mut except = places.iter().filter(|place| place.excepted_by == Some(rule.number));
            let excepted = except.find(covering).map(|place| place.object.written());
            let asked = question.accesses.iter();
            let accesses: Accesses = asked.filter(|access| rule.rule.is_about(*access)).collect();
            let selects = rule.is_about_any(&workloads);
            let speaks = excepted.is_none() && selects;
            let named = decision.is_some_and(|decision| decision.rule == rule.number);
            matches.push(RuleMatch {
                rule: rule.number,
                path: path.clone(),
                object: object.object.written(),
                decides: named && speaks,
                excepted,
                selects,
                accesses,
            });
        }
    }
    Explanation { workloads, exempt: is_exempt(question.cgroup), matches, decision }
}

/// The rules that speak of what one path names, whoever asks.
fn rules_on(places: &Places, path: &[u8]) -> BTreeSet<u32> {
    let mut rules = BTreeSet::new();
    let mut excepted = BTreeSet::new();
    for place in places.iter().filter(|place| place.covers(path)) {
        rules.extend(&place.rules);
        excepted.extend(place.excepted_by);
    }
    &rules - &excepted
}

fn strongest<'r>(
    rules: impl Iterator<Item = &'r NumberedRule>,
    accesses: Accesses,
) -> Option<Decision> {
    rules
        .flat_map(|rule| {
            accesses.iter().filter(|access| rule.rule.is_about(*access)).map(|access| Decision {
                action: rule.action(),
                rule: rule.number,
                access,
            })
        })
        .min_by_key(|decision| (decision.action, decision.rule, decision.access))
}

/// Whether no rule is about this cgroup.
fn is_exempt(cgroup: &[u8]) -> bool {
    cgroup == BuiltIn::EXEMPT_CGROUP.as_bytes()
}
