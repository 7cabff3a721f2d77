// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is another between two sets of policies, and whether less is denied afterwards.
//!
//! Texts are compared, not what they lead to on a host: a rule that became narrower counts as lost
//! even if another rule denies the same. So the answer may be too careful, and is never too bold.

use std::collections::BTreeSet;

use crate::{Mode, Object, Policy, PolicySet, Rule, RuleAction, Who};

/// One policy that is not the same in both sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyDifference {
    /// Its name.
    pub name: String,
    /// Its version and mode before; `None` if it was not there.
    pub before: Option<(u32, Mode)>,
    /// Its version and mode afterwards; `None` if it is not there any more.
    pub after: Option<(u32, Mode)>,
    /// The rules that are not the same, first those from before.
    pub rules: Vec<RuleDifference>,
}

/// One rule that is not the same in both versions of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleDifference {
    /// Its id.
    pub id: String,
    /// Whether it was there before, and whether it is there afterwards.
    pub present: (bool, bool),
    /// What it says afterwards and did not say before, and the other way round.
    pub gained: RuleParts,
    /// See `gained`.
    pub lost: RuleParts,
    /// Whether it denies less than before.
    pub denies_less: bool,
}

/// Parts of a rule, as a policy writes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleParts {
    /// The action, if it is another.
    pub action: Option<&'static str>,
    /// Accesses.
    pub access: Vec<&'static str>,
    /// The cgroups of its workloads; `*` for everybody.
    pub cgroups: Vec<String>,
    /// Objects.
    pub objects: Vec<String>,
    /// Exceptions.
    pub except: Vec<String>,
}

impl PolicyDifference {
    /// Whether the policy denies less than before.
    pub fn denies_less(&self) -> bool {
        self.rules.iter().any(|rule| rule.denies_less)
    }
}

/// Every policy that is not the same, by name.
pub fn difference(before: &PolicySet, after: &PolicySet) -> Vec<PolicyDifference> {
    let names = before.iter().chain(after.iter()).map(|(policy, _)| policy.name.as_str());
    let names: BTreeSet<&str> = names.collect();
    let compare = |name: &str| {
        let (before, after) = (before.policy(name), after.policy(name));
        let same = before
            .zip(after)
            .is_some_and(|((before, was), (after, is))| before.digest == after.digest && was == is);
        (!same).then(|| of_policy(name, before, after))
    };
    names.into_iter().filter_map(compare).collect()
}

fn of_policy(
    name: &str,
    before: Option<(&Policy, Mode)>,
    after: Option<(&Policy, Mode)>,
) -> PolicyDifference {
    let rules = |side: Option<(&Policy, Mode)>| {
        side.into_iter()
            .flat_map(|(policy, mode)| {
                policy.rules.iter().map(move |rule| (rule.id.clone(), parts(policy, rule, mode)))
            })
            .collect::<Vec<_>>()
    };
    let (was, is) = (rules(before), rules(after));
    let of = |rules: &[(String, Parts)], id: &str| {
        rules.iter().find(|(other, _)| other == id).map(|(_, parts)| parts.clone())
    };
    let ids = was.iter().map(|(id, _)| id);
    let ids = ids.chain(is.iter().map(|(id, _)| id).filter(|id| of(&was, id).is_none()));
    let differences = ids.filter_map(|id| {
        let (was, new) = (of(&was, id), of(&is, id));
        if was == new {
            return None;
        }
        // Under another name it denies the same.
        let renamed = was.as_ref().is_some_and(|was| is.iter().any(|(_, parts)| parts == was));
        let denies_less = !renamed && was.as_ref().is_some_and(|was| was.denies_more_than(&new));
        let (was, new) = (was.as_ref(), new.as_ref());
        Some(RuleDifference {
            id: id.clone(),
            present: (was.is_some(), new.is_some()),
            gained: beyond(new, was),
            lost: beyond(was, new),
            denies_less,
        })
    });
    let side = |side: Option<(&Policy, Mode)>| side.map(|(policy, mode)| (policy.version, mode));
    PolicyDifference {
        name: name.to_owned(),
        before: side(before),
        after: side(after),
        rules: differences.collect(),
    }
}

/// A rule as sets of what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Parts {
    action: &'static str,
    access: BTreeSet<&'static str>,
    cgroups: BTreeSet<String>,
    objects: BTreeSet<String>,
    except: BTreeSet<String>,
}

impl Parts {
    /// Whether anything that this denies is not denied by the other.
    fn denies_more_than(&self, other: &Option<Self>) -> bool {
        let Some(other) = other else { return self.action == DENY };
        self.action == DENY
            && !(other.action == DENY
                && self.access.is_subset(&other.access)
                && self.objects.is_subset(&other.objects)
                && self.except.is_superset(&other.except)
                && (other.cgroups.contains(EVERYONE) || self.cgroups.is_subset(&other.cgroups)))
    }
}

fn parts(policy: &Policy, rule: &Rule, mode: Mode) -> Parts {
    let written = |objects: &[Object]| objects.iter().map(Object::written).collect();
    let cgroups = match &rule.who {
        Who::Everyone => BTreeSet::from([EVERYONE.to_owned()]),
        Who::Workloads(numbers) => numbers
            .iter()
            .filter_map(|number| policy.workloads.get(*number))
            .flat_map(|workload| workload.cgroups.iter().map(crate::CgroupPattern::written))
            .collect(),
    };
    Parts {
        action: match (rule.action, mode) {
            (RuleAction::Deny, Mode::Enforce) => DENY,
            (RuleAction::Deny, Mode::Audit) => "would_deny",
            (RuleAction::Audit, _) => RuleAction::Audit.name(),
        },
        access: rule.access.iter().map(aegis_abi::Access::name).collect(),
        cgroups,
        objects: written(&rule.objects),
        except: written(&rule.except),
    }
}

/// What one says and the other does not.
fn beyond(one: Option<&Parts>, other: Option<&Parts>) -> RuleParts {
    let Some(one) = one else { return RuleParts::default() };
    let Some(other) = other else {
        return RuleParts {
            action: Some(one.action),
            access: one.access.iter().copied().collect(),
            cgroups: one.cgroups.iter().cloned().collect(),
            objects: one.objects.iter().cloned().collect(),
            except: one.except.iter().cloned().collect(),
        };
    };
    let strings = |one: &BTreeSet<String>, other| one.difference(other).cloned().collect();
    RuleParts {
        action: (one.action != other.action).then_some(one.action),
        access: one.access.difference(&other.access).copied().collect(),
        cgroups: strings(&one.cgroups, &other.cgroups),
        objects: strings(&one.objects, &other.objects),
        except: strings(&one.except, &other.except),
    }
}

const DENY: &str = "deny";
const EVERYONE: &str = "*";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Source, parse};

    fn set(rules: &str) -> PolicySet {
        in_mode(rules, Mode::Enforce)
    }

    fn in_mode(rules: &str, mode: Mode) -> PolicySet {
        let text = format!(
            "schema = 1\nname = \"p\"\nversion = 1\n[workloads.w]\ncgroups = [\"/w\"]\n\
             [workloads.v]\ncgroups = [\"/v\"]\n{rules}"
        );
        let (policy, diagnostics) = parse(Source { name: "p", text: &text });
        let mut set = PolicySet::new();
        set.insert(policy.unwrap_or_else(|| panic!("{diagnostics:?}")), mode);
        set
    }

    fn rule(id: &str, more: &str, objects: &str) -> String {
        let workloads = if more.contains("workloads") { "" } else { "workloads = [\"w\"]\n" };
        let action = if more.contains("action") { "" } else { "action = \"deny\"\n" };
        format!(
            "[[rules]]\nid = \"{id}\"\nreason = \"r\"\n{workloads}{action}{more}\nobjects = [{objects}]\n"
        )
    }

    #[track_caller]
    fn denies_less(before: &PolicySet, after: &PolicySet, expected: bool) {
        let found = difference(before, after);
        let any = found.iter().any(PolicyDifference::denies_less);
        assert_eq!(any, expected, "{found:?}");
    }

    #[test]
    fn the_same_set_has_no_difference() {
        let one = set(&rule("a", "", "\"/a\""));
        assert_eq!(difference(&one, &one), []);
    }

    #[test]
    fn whatever_a_rule_says_less_denies_less_and_the_other_way_round_does_not() {
        let all = set(&rule("a", "workloads = [\"w\", \"v\"]", "\"/a\", \"/b/\""));
        for less in [
            set(&rule("a", "workloads = [\"w\"]", "\"/a\", \"/b/\"")),
            set(&rule("a", "workloads = [\"w\", \"v\"]", "\"/a\"")),
            set(&rule("a", "workloads = [\"w\", \"v\"]\naccess = [\"read\"]", "\"/a\", \"/b/\"")),
            set(&rule("a", "workloads = [\"w\", \"v\"]\nexcept = [\"/b/c\"]", "\"/a\", \"/b/\"")),
            set(&rule("a", "workloads = [\"w\", \"v\"]\naction = \"audit\"", "\"/a\", \"/b/\"")),
            in_mode(&rule("a", "workloads = [\"w\", \"v\"]", "\"/a\", \"/b/\""), Mode::Audit),
            set(&rule("other", "", "\"/x\"")),
            PolicySet::new(),
        ] {
            denies_less(&all, &less, true);
            denies_less(
                &less,
                &all,
                less.iter().any(|(p, _)| p.rules.iter().any(|r| r.id == "other")),
            );
        }
    }

    #[test]
    fn a_rule_under_another_name_and_one_for_everybody_deny_no_less() {
        let one = set(&rule("a", "", "\"/a\""));
        denies_less(&one, &set(&rule("b", "", "\"/a\"")), false);
        denies_less(&one, &set(&rule("a", "workloads = [\"*\"]", "\"/a\"")), false);
        denies_less(&set(&rule("a", "workloads = [\"*\"]", "\"/a\"")), &one, true);
    }

    #[test]
    fn what_is_reported_only_is_lost_without_denying_less() {
        let watch = set(&rule("a", "action = \"audit\"", "\"/a\""));
        denies_less(&watch, &PolicySet::new(), false);
    }

    #[test]
    fn a_difference_names_what_came_and_what_went() {
        let before = set(&rule("a", "", "\"/a\", \"/b/\""));
        let after = set(&(rule("a", "", "\"/a\", \"/c\"") + &rule("n", "", "\"/n\"")));
        let found = difference(&before, &after);
        let [policy] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(policy.before, Some((1, Mode::Enforce)));
        let [changed, new] = policy.rules.as_slice() else { panic!("{policy:?}") };
        assert_eq!(changed.lost.objects, ["/b/"]);
        assert_eq!(changed.gained.objects, ["/c"]);
        assert_eq!((new.id.as_str(), new.present), ("n", (false, true)));
    }
}
