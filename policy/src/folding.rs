// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Rules that hold at each place → labels.
//!
//! A label is a set of rules. That of a place holds its own rules and those of every directory
//! above, less those that except it: so the nearest label on the way up decides alone.

use std::{
    collections::{BTreeSet, HashMap},
    rc::Rc,
};

use aegis_abi::generated::AEGIS_LABEL_FREE;

use crate::{Places, limits};

/// A set of rules, by number, sorted.
pub(crate) type RuleNumbers = Vec<u32>;

/// What holds at the nodes of [`Places`].
pub(crate) struct Folding {
    /// By node.
    nodes: Vec<Held>,
}

/// What holds at one node.
#[derive(Clone)]
pub(crate) struct Held {
    /// Rules on what stands here, if an object or except ends here.
    pub(crate) own: Option<RuleNumbers>,
    /// Whether that object is a directory with everything beneath.
    pub(crate) directory: bool,
    /// Whether an `except` ends here.
    pub(crate) excepted: bool,
    /// What is handed down to everything beneath.
    beneath: Rc<Beneath>,
}

#[derive(Clone, Default)]
struct Beneath {
    rules: BTreeSet<u32>,
    excepted: BTreeSet<u32>,
}

/// What ends at one node.
#[derive(Default)]
struct Ending {
    directory: bool,
    rules: Vec<u32>,
    excepted: Vec<u32>,
}

impl Folding {
    pub(crate) fn new(places: &Places) -> Self {
        let mut endings: HashMap<usize, Ending> = HashMap::new();
        for place in &places.objects {
            for node in &place.nodes {
                let ending = endings.entry(*node).or_default();
                ending.directory |= place.object.directory;
                ending.rules.extend(&place.rules);
                ending.excepted.extend(place.excepted_by);
            }
        }
        let mut folding = Self { nodes: Vec::with_capacity(places.nodes.len()) };
        for (number, node) in places.nodes.iter().enumerate() {
            // Parents come first; the root is its own, and has nothing above it.
            let above = folding.nodes.get(node.parent).map(|held| Rc::clone(&held.beneath));
            folding.nodes.push(hold(above.unwrap_or_default(), endings.get(&number)));
        }
        folding
    }

    pub(crate) fn node(&self, node: usize) -> Option<&Held> {
        self.nodes.get(node)
    }

    /// The rules that hold for whatever is beneath a path, by the nodes on its way.
    pub(crate) fn beneath(&self, places: &Places, path: &[u8]) -> RuleNumbers {
        let mut at = crate::places::ROOT;
        for name in crate::names::components(path) {
            let Some(child) = places.nodes.get(at).and_then(|node| node.children.get(name)) else {
                break;
            };
            at = *child;
        }
        self.nodes.get(at).map_or_else(Vec::new, |held| held.beneath.held())
    }
}

impl Held {
    /// The rules that hold for everything beneath.
    pub(crate) fn handed_down(&self) -> RuleNumbers {
        self.beneath.held()
    }
}

fn hold(above: Rc<Beneath>, ending: Option<&Ending>) -> Held {
    let Some(ending) = ending else {
        return Held { own: None, directory: false, excepted: false, beneath: above };
    };
    let mut here = Beneath::clone(&above);
    here.rules.extend(&ending.rules);
    here.excepted.extend(&ending.excepted);
    let own = Some(here.held());
    let beneath = if ending.directory { Rc::new(here) } else { above };
    Held { own, directory: ending.directory, excepted: !ending.excepted.is_empty(), beneath }
}

impl Beneath {
    fn held(&self) -> RuleNumbers {
        self.rules.difference(&self.excepted).copied().collect()
    }
}

/// Labels by the rules that they stand for. Label 0 is "none of its own", and never handed out:
/// the label of no rules at all is [`AEGIS_LABEL_FREE`], and means that nothing above decides.
pub(crate) struct Labels {
    numbers: HashMap<Rc<RuleNumbers>, u32>,
    sets: Vec<Rc<RuleNumbers>>,
}

impl Labels {
    pub(crate) fn new() -> Self {
        let free = Rc::new(RuleNumbers::new());
        Self { numbers: HashMap::from([(Rc::clone(&free), AEGIS_LABEL_FREE)]), sets: vec![free] }
    }

    /// The label of a set of rules.
    pub(crate) fn number(&mut self, rules: RuleNumbers) -> Result<u32, TooManyLabels> {
        if let Some(number) = self.numbers.get(&rules) {
            return Ok(*number);
        }
        if self.sets.len() >= limits::LABELS {
            return Err(TooManyLabels);
        }
        let rules = Rc::new(rules);
        self.sets.push(Rc::clone(&rules));
        let number = u32::try_from(self.sets.len()).map_err(|_large| TooManyLabels)?;
        self.numbers.insert(rules, number);
        Ok(number)
    }

    /// The label of a set of rules, if it has one.
    pub(crate) fn known(&self, rules: &RuleNumbers) -> Option<u32> {
        self.numbers.get(rules).copied()
    }

    /// All labels: what stands first is label 1.
    pub(crate) fn sets(&self) -> impl Iterator<Item = &[u32]> {
        self.sets.iter().map(|rules| rules.as_slice())
    }

    /// Labels, with label 0.
    pub(crate) fn count(&self) -> usize {
        self.sets.len() + 1
    }
}

pub(crate) struct TooManyLabels;
