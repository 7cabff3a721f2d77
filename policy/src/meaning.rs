// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the numbers of one generation stand for, so that rows which the kernel has added to it can be
//! carried over into another, where the same rules and paths have other numbers.

use std::collections::{BTreeMap, BTreeSet};

use aegis_abi::{LateRow, late_labels, pack_late_labels};

use crate::{Places, Ruleset, same::Same};

/// What labels and nodes of one generation stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meaning {
    /// The rules of each label, by number; what stands first is label 1.
    pub labels: Vec<Vec<u32>>,
    /// A path of each node below which names are bound.
    pub nodes: BTreeMap<u32, Vec<u8>>,
}

/// What a thing took along from places that it has left, as a ruleset numbers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenAlong {
    /// Rules that hold for itself, sorted.
    pub rules: Vec<u32>,
    /// Rules that hold for what lies beneath it, sorted.
    pub beneath: Vec<u32>,
    /// Where names go on being bound below it.
    pub node: Option<Vec<u8>>,
    /// Whose process had it do so, if that is known.
    pub uid: Option<u32>,
}

impl Meaning {
    pub(crate) fn new<'a>(
        places: &Places,
        same: &Same,
        labels: impl Iterator<Item = &'a [u32]>,
    ) -> Self {
        let leads_on = (0..places.nodes.len()).filter(|node| same.leads_on(*node));
        let mut nodes = BTreeMap::new();
        for node in leads_on {
            nodes.entry(same.number(node)).or_insert_with(|| places.path(node));
        }
        Self { labels: labels.map(<[u32]>::to_vec).collect(), nodes }
    }

    /// What a row of `before`, whose numbers this explains, says in the numbers of `after`; `None`
    /// if no rule of it is left. What cannot be explained is taken for every rule.
    pub fn read(&self, row: &LateRow, before: &Ruleset, after: &Ruleset) -> Option<TakenAlong> {
        let every = || after.rules().iter().map(|rule| rule.number).collect::<Vec<_>>();
        let read = |packed: u64| -> Vec<u32> {
            let sets = late_labels(packed).map(|label| {
                match self.labels.get((label as usize).wrapping_sub(1)) {
                    Some(rules) => translated(rules, before, after),
                    None => every(),
                }
            });
            sets.flatten().collect::<BTreeSet<u32>>().into_iter().collect()
        };
        let taken = TakenAlong {
            rules: read(row.labels),
            beneath: read(row.beneath),
            node: self.nodes.get(&row.node).cloned(),
            uid: (row.uid != NOBODY_KNOWS).then_some(row.uid),
        };
        (!taken.is_nothing()).then_some(taken)
    }

    /// A row of the generation that this explains; `every` is the label that stands for all rules,
    /// and for those sets that have none.
    pub fn write(&self, taken: &TakenAlong, every: u32) -> LateRow {
        let label = |rules: &Vec<u32>| {
            if rules.is_empty() {
                return 0;
            }
            let at = self.labels.iter().position(|label| label == rules);
            let label = at.and_then(|at| u32::try_from(at + 1).ok()).unwrap_or(every);
            pack_late_labels([label]).unwrap_or_default()
        };
        let node = taken.node.as_ref().and_then(|path| {
            self.nodes.iter().find(|(_, known)| *known == path).map(|(node, _)| *node)
        });
        LateRow {
            labels: label(&taken.rules),
            beneath: label(&taken.beneath),
            node: node.unwrap_or(0),
            uid: taken.uid.unwrap_or(NOBODY_KNOWS),
        }
    }
}

impl TakenAlong {
    /// Whether no row needs to say that.
    pub fn is_nothing(&self) -> bool {
        self.rules.is_empty() && self.beneath.is_empty() && self.node.is_none()
    }
}

/// The same rules by policy and id, as far as they are there.
fn translated(rules: &[u32], before: &Ruleset, after: &Ruleset) -> Vec<u32> {
    let names = rules.iter().filter_map(|number| before.rule(*number));
    let mut numbers: Vec<u32> = names
        .filter_map(|known| {
            let same = after
                .rules()
                .iter()
                .find(|rule| (&rule.policy, &rule.rule.id) == (&known.policy, &known.rule.id));
            same.map(|rule| rule.number)
        })
        .collect();
    numbers.sort_unstable();
    numbers
}

/// The uid of a row that was not made by a move that hooks have seen.
const NOBODY_KNOWS: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BuiltIn, Mode, PolicySet, Source, compile, parse};

    fn ruleset(ids: &[&str]) -> Ruleset {
        let mut text =
            "schema = 1\nname = \"p\"\nversion = 1\n[workloads.w]\ncgroups = [\"/w\"]\n".to_owned();
        for id in ids {
            text.push_str(&format!(
                "[[rules]]\nid = \"{id}\"\nworkloads = [\"w\"]\naction = \"deny\"\n\
                 objects = [\"/{id}\"]\nreason = \"r\"\n"
            ));
        }
        let (policy, diagnostics) = parse(Source { name: "p", text: &text });
        let mut set = PolicySet::new();
        set.insert(policy.unwrap_or_else(|| panic!("{diagnostics:#?}")), Mode::Enforce);
        compile(&set, &BuiltIn { proof_directory: b"/run/aegisbpf/proof".to_vec() }).unwrap()
    }

    fn number(ruleset: &Ruleset, id: &str) -> u32 {
        ruleset.rules().iter().find(|rule| rule.rule.id == id).unwrap().number
    }

    fn row(labels: &[u64], beneath: &[u64], node: u32) -> LateRow {
        let pack =
            |labels: &[u64]| labels.iter().rev().fold(0, |all, label| all << 16 | label | 7 << 13);
        LateRow { labels: pack(labels), beneath: pack(beneath), node, uid: 1000 }
    }

    fn meaning(labels: &[&[u32]], nodes: &[(u32, &[u8])]) -> Meaning {
        Meaning {
            labels: labels.iter().map(|rules| rules.to_vec()).collect(),
            nodes: nodes.iter().map(|(node, path)| (*node, path.to_vec())).collect(),
        }
    }

    #[test]
    fn a_row_says_the_same_in_other_numbers() {
        let (before, after) = (ruleset(&["b", "a", "gone"]), ruleset(&["new", "a", "b"]));
        let (a, b, gone) = (number(&before, "a"), number(&before, "b"), number(&before, "gone"));
        let old = meaning(&[&[gone], &[a], &[b, gone]], &[(9, b"/d")]);
        let taken = old.read(&row(&[2, 3, 1], &[3], 9), &before, &after).unwrap();
        let (a, b) = (number(&after, "a"), number(&after, "b"));
        let mut both = vec![a, b];
        both.sort_unstable();
        assert_eq!((&taken.rules, &taken.beneath), (&both, &vec![b]));
        let new = meaning(&[&[b], &[7, 8], &both], &[(4, b"/d")]);
        assert_eq!(new.write(&taken, 99), row(&[3], &[1], 4));
        assert_eq!(old.read(&row(&[1], &[1], 0), &before, &after), None, "its rule is gone");
    }

    #[test]
    fn what_cannot_be_explained_is_every_rule() {
        let rules = ruleset(&["a", "b"]);
        let every: Vec<u32> = rules.rules().iter().map(|rule| rule.number).collect();
        let taken = Meaning::default().read(&row(&[5], &[], 3), &rules, &rules).unwrap();
        assert_eq!((&taken.rules, &taken.beneath), (&every, &vec![]));
        assert_eq!(Meaning::default().write(&taken, 99), row(&[99], &[], 0));
        assert_eq!(meaning(&[&every], &[]).write(&taken, 99), row(&[1], &[], 0));
    }
}
