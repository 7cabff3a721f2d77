// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A set of policies, compiled: rules with numbers, workloads with numbers, scopes.
//!
//! The numbers are those that verdicts, counters and events use. They depend on the set alone.

use aegis_abi::Action;

use crate::{
    Accesses, CgroupPattern, Mode, NamePattern, Object, Policy, PolicySet, Rule, RuleAction, Who,
    Workload,
    cgroups::{CgroupTree, TooLarge},
    limits,
};

/// Numbers the rules and workloads of a set, the built-in ones last, and makes its scopes.
///
/// # Errors
/// Every limit that the set is beyond.
pub fn compile(set: &PolicySet, built_in: &BuiltIn) -> Result<Ruleset, Vec<CompileError>> {
    let own = built_in.policy();
    let mut ruleset = Ruleset::empty(set);
    for (policy, mode) in set.iter() {
        ruleset.add(policy, mode, false);
    }
    ruleset.add(&own, Mode::Enforce, true);
    let mut errors = ruleset.check_limits(set);
    if errors.is_empty()
        && let Err(error) = ruleset.make_scopes()
    {
        errors.push(error);
    }
    if errors.is_empty() { Ok(ruleset) } else { Err(errors) }
}

/// The policy that every set has beside the operator's: it proves that denials are real.
#[derive(Clone, Debug)]
pub struct BuiltIn {
    /// The directory in which the files of the proof are, absolute and normalised.
    pub proof_directory: Vec<u8>,
}

impl BuiltIn {
    /// Its name, which no operator's policy can have.
    pub const POLICY: &str = "aegis:proof";
    /// The cgroup of the process that is to be denied.
    pub const SCRATCH_CGROUP: &str = "/aegisbpf/scratch";
    /// The one cgroup that rules on `"*"` leave alone.
    pub const EXEMPT_CGROUP: &str = "/aegisbpf/exempt";
    /// Its rules, each named like the one file or directory that it denies.
    pub const RULES: [&str; 3] = ["by-inode", "by-name", "by-directory"];

    fn policy(&self) -> Policy {
        let cgroup = Self::SCRATCH_CGROUP.split('/').filter(|name| !name.is_empty());
        let cgroup = CgroupPattern {
            components: cgroup.map(|name| NamePattern::Exact(name.into())).collect(),
        };
        let rule = |id: &str| Rule {
            id: id.to_owned(),
            who: Who::Workloads(vec![0]),
            action: RuleAction::Deny,
            access: Accesses::all(),
            objects: vec![Object {
                path: [self.proof_directory.as_slice(), b"/", id.as_bytes()].concat(),
                directory: id == "by-directory",
            }],
            except: Vec::new(),
            reason: "proof that denials are real".to_owned(),
            line: 0,
        };
        Policy {
            name: Self::POLICY.to_owned(),
            version: 1,
            workloads: vec![Workload { name: "scratch".to_owned(), cgroups: vec![cgroup] }],
            rules: Self::RULES.into_iter().map(rule).collect(),
            digest: [0; 32],
        }
    }
}

/// A compiled set.
#[derive(Clone, Debug)]
pub struct Ruleset {
    rules: Vec<NumberedRule>,
    workloads: Vec<NumberedWorkload>,
    pub(crate) cgroups: CgroupTree,
    unknown_scope: u32,
    policies: u32,
    digest: [u8; 32],
}

/// A rule with its number in the set, and whose it is.
#[derive(Clone, Debug)]
pub struct NumberedRule {
    /// From 1, by policy name and order in the text; the smaller is named first.
    pub number: u32,
    /// The name of its policy.
    pub policy: String,
    /// The version of its policy.
    pub version: u32,
    /// How its policy is applied.
    pub mode: Mode,
    /// Whether no operator wrote it.
    pub built_in: bool,
    /// The rule itself.
    pub rule: Rule,
    /// Numbers of the workloads that it is about; 0 alone for `"*"`.
    pub workloads: Vec<u32>,
}

impl NumberedRule {
    /// What comes of an access that the rule speaks about.
    pub const fn action(&self) -> Action {
        match (self.rule.action, self.mode) {
            (RuleAction::Deny, Mode::Enforce) => Action::Deny,
            (RuleAction::Deny, Mode::Audit) => Action::WouldDeny,
            (RuleAction::Audit, _) => Action::Audit,
        }
    }

    /// Whether the rule is about one of these workloads (a scope's, sorted).
    pub fn is_about_any(&self, scope: &[u32]) -> bool {
        self.workloads.iter().any(|workload| scope.binary_search(workload).is_ok())
    }
}

/// A workload with its number in the set, and whose it is.
#[derive(Clone, Debug)]
pub struct NumberedWorkload {
    /// 0 for `"*"`, else from 1 by policy name and order in the text.
    pub number: u32,
    /// The name of its policy; empty for `"*"`.
    pub policy: String,
    /// Its name; `*` for `"*"`.
    pub name: String,
    /// The cgroups that it selects; none for `"*"`, which selects all.
    pub cgroups: Vec<CgroupPattern>,
    /// Whether no operator wrote it.
    pub built_in: bool,
}

impl Ruleset {
    /// All rules; number `n` is at `n - 1`.
    pub fn rules(&self) -> &[NumberedRule] {
        &self.rules
    }

    /// The rule that a verdict or an event names.
    pub fn rule(&self, number: u32) -> Option<&NumberedRule> {
        self.rules.get(usize::try_from(number).ok()?.checked_sub(1)?)
    }

    /// All workloads by number, `"*"` first.
    pub fn workloads(&self) -> &[NumberedWorkload] {
        &self.workloads
    }

    /// Scopes are `0 .. scopes()`; 0 is the empty one.
    pub fn scopes(&self) -> u32 {
        u32::try_from(self.cgroups.scopes.len()).unwrap_or(u32::MAX)
    }

    /// The numbers of a scope's workloads, sorted; empty for a number that is no scope.
    pub fn scope(&self, number: u32) -> &[u32] {
        self.cgroups.scopes.get(number as usize).map_or(&[], Vec::as_slice)
    }

    /// The workloads of a scope, for a person: `*` aside, as their policies name them.
    pub fn scope_workloads(&self, number: u32) -> impl Iterator<Item = &NumberedWorkload> {
        self.scope(number).iter().filter_map(|workload| self.workloads.get(*workload as usize))
    }

    /// The workloads that hold for a cgroup, sorted: those that select it or one above it, and `"*"`
    /// if any rule uses it. Straight from the patterns, not from the tree.
    pub fn workloads_of(&self, cgroup: &[u8]) -> Vec<u32> {
        self.workloads
            .iter()
            .filter(|workload| match workload.number {
                EVERYONE => self.uses_everyone(),
                _ => workload.cgroups.iter().any(|pattern| pattern.selects(cgroup)),
            })
            .map(|workload| workload.number)
            .collect()
    }

    /// Whether any rule is about `"*"`.
    pub fn uses_everyone(&self) -> bool {
        self.rules.iter().any(|rule| rule.rule.who == Who::Everyone)
    }

    /// The scope of a cgroup that cannot be told: every workload at once.
    pub const fn unknown_scope(&self) -> u32 {
        self.unknown_scope
    }

    /// How many policies of operators there are.
    pub const fn policies(&self) -> u32 {
        self.policies
    }

    /// `set_digest`.
    pub const fn digest(&self) -> [u8; 32] {
        self.digest
    }

    fn empty(set: &PolicySet) -> Self {
        Self {
            rules: Vec::new(),
            workloads: vec![NumberedWorkload {
                number: EVERYONE,
                policy: String::new(),
                name: "*".to_owned(),
                cgroups: Vec::new(),
                built_in: false,
            }],
            cgroups: CgroupTree::empty(),
            unknown_scope: 0,
            policies: u32::try_from(set.len()).unwrap_or(u32::MAX),
            digest: set.digest(),
        }
    }

    fn add(&mut self, policy: &Policy, mode: Mode, built_in: bool) {
        let first = self.workloads.len();
        for (workload, number) in policy.workloads.iter().zip(first..) {
            self.workloads.push(NumberedWorkload {
                number: u32::try_from(number).unwrap_or(u32::MAX),
                policy: policy.name.clone(),
                name: workload.name.clone(),
                cgroups: workload.cgroups.clone(),
                built_in,
            });
        }
        for rule in &policy.rules {
            let mut workloads: Vec<u32> = match &rule.who {
                Who::Everyone => vec![EVERYONE],
                Who::Workloads(own) => own
                    .iter()
                    .map(|number| u32::try_from(first + number).unwrap_or(u32::MAX))
                    .collect(),
            };
            workloads.sort_unstable();
            self.rules.push(NumberedRule {
                number: u32::try_from(self.rules.len() + 1).unwrap_or(u32::MAX),
                policy: policy.name.clone(),
                version: policy.version,
                mode,
                built_in,
                rule: rule.clone(),
                workloads,
            });
        }
    }

    fn check_limits(&self, set: &PolicySet) -> Vec<CompileError> {
        let objects =
            self.rules.iter().map(|rule| rule.rule.objects.len() + rule.rule.except.len());
        [
            ("policies", set.len(), limits::POLICIES),
            ("workloads", self.workloads.len(), limits::WORKLOADS),
            ("rules", self.rules.len(), limits::RULES),
            ("objects", objects.sum(), limits::OBJECTS),
        ]
        .into_iter()
        .filter(|(_, count, limit)| count > limit)
        .map(|(what, count, limit)| CompileError::TooMany { what, count, limit })
        .collect()
    }

    fn make_scopes(&mut self) -> Result<(), CompileError> {
        let everywhere: &[u32] = if self.uses_everyone() { &[EVERYONE] } else { &[] };
        let named = self.workloads.iter().filter(|workload| workload.number != EVERYONE);
        let named = named.map(|workload| (workload.number, workload.cgroups.as_slice()));
        self.cgroups = CgroupTree::new(named.clone(), everywhere)?;
        let all = everywhere.iter().copied().chain(named.map(|(number, _)| number)).collect();
        self.unknown_scope = self.cgroups.intern(all)?;
        Ok(())
    }
}

/// Why a set cannot be compiled, although each of its policies is good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// More than a set may hold.
    #[error("the set of policies has {count} {what}: the limit is {limit}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// Workloads overlap in too many ways.
    #[error("workloads overlap in more than {} ways", limits::SCOPES)]
    Scopes,
    /// Cgroup patterns multiply.
    #[error("the cgroups of all workloads make more than {} rows", limits::CGROUP_ROWS)]
    CgroupRows,
}

impl CompileError {
    /// What an operator can do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::TooMany { .. } => {
                "take out what another policy covers already, or name directories"
            }
            Self::Scopes => "let fewer workloads select the same cgroups",
            Self::CgroupRows => {
                "patterns with a text before and one after the star multiply when they meet in one \
                 directory: use fewer of them"
            }
        }
    }
}

impl From<TooLarge> for CompileError {
    fn from(too_large: TooLarge) -> Self {
        match too_large {
            TooLarge::Scopes => Self::Scopes,
            TooLarge::Rows => Self::CgroupRows,
        }
    }
}

/// The number of `"*"` among the workloads.
pub(crate) const EVERYONE: u32 = 0;
