// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Draft → [`Policy`]: does what a text says make sense together?
//!
//! Errors here are contradictions and names that lead nowhere. Warnings are policies that do less
//! than their author may think. What only a host can tell (absent paths, lock-outs) is not asked.

use std::collections::{HashMap, HashSet};

use aegis_abi::Access;
use sha2::{Digest as _, Sha256};

use crate::{
    Diagnostic, Policy, Rule, Severity, Source, Who, Workload,
    policy::{Object, RuleAction},
    text::{Draft, DraftRule, Placed, suggestion},
};

/// The policy, if neither this nor reading found an error.
pub(crate) fn check(
    source: Source<'_>,
    draft: Draft,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Policy> {
    let mut found = Vec::new();
    check_ids(&draft, &mut found);
    check_cgroups(&draft, &mut found);
    let whos = check_workloads(&draft, &mut found);
    for rule in &draft.rules {
        check_objects(rule, &mut found);
        check_access(rule, &mut found);
    }
    diagnostics.extend(found);
    if diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error) {
        return None;
    }
    let lines = Lines::new(source.text);
    Some(Policy {
        name: draft.name?,
        version: draft.version?,
        workloads: draft
            .workloads
            .into_iter()
            .map(|workload| Workload {
                name: workload.name.value,
                cgroups: workload.cgroups.into_iter().map(|cgroup| cgroup.value).collect(),
            })
            .collect(),
        rules: draft
            .rules
            .into_iter()
            .zip(whos)
            .map(|(rule, who)| {
                Some(Rule {
                    line: lines.number(rule.span.start),
                    id: rule.id?.value,
                    who: who?,
                    action: rule.action?,
                    access: rule.access.value,
                    objects: distinct(rule.objects),
                    except: distinct(rule.except),
                    reason: rule.reason?,
                })
            })
            .collect::<Option<_>>()?,
        digest: Sha256::digest(source.text.as_bytes()).into(),
    })
}

fn check_ids(draft: &Draft, found: &mut Vec<Diagnostic>) {
    let mut ids = HashSet::new();
    for id in draft.rules.iter().filter_map(|rule| rule.id.as_ref()) {
        if !ids.insert(id.value.as_str()) {
            let message = format!("two rules are called `{}`", id.value);
            found.push(
                Diagnostic::error(id.span.clone(), message)
                    .label("the second")
                    .help("counters and events name rules by id: give each its own"),
            );
        }
    }
}

fn check_cgroups(draft: &Draft, found: &mut Vec<Diagnostic>) {
    for workload in &draft.workloads {
        let mut seen = HashSet::new();
        for cgroup in &workload.cgroups {
            if !seen.insert(&cgroup.value) {
                found.push(Diagnostic::warning(cgroup.span.clone(), "this cgroup is listed twice"));
            }
        }
    }
}

/// For each rule whom it is about, or `None` if that cannot be told.
fn check_workloads(draft: &Draft, found: &mut Vec<Diagnostic>) -> Vec<Option<Who>> {
    let known: HashMap<&str, usize> = draft
        .workloads
        .iter()
        .enumerate()
        .map(|(number, workload)| (workload.name.value.as_str(), number))
        .collect();
    let mut used = HashSet::new();
    let whos = draft.rules.iter().map(|rule| who(rule, &known, &mut used, found)).collect();
    for (number, workload) in draft.workloads.iter().enumerate() {
        if !used.contains(&number) {
            let message = format!("no rule speaks of workload `{}`", workload.name.value);
            found.push(
                Diagnostic::warning(workload.name.span.clone(), message)
                    .help("name it in a rule, or leave it out"),
            );
        }
    }
    whos
}

fn who(
    rule: &DraftRule,
    known: &HashMap<&str, usize>,
    used: &mut HashSet<usize>,
    found: &mut Vec<Diagnostic>,
) -> Option<Who> {
    let mut named = Vec::new();
    for name in &rule.workloads {
        if name.value == "*" {
            if rule.workloads.len() == 1 {
                return Some(Who::Everyone);
            }
            found.push(
                Diagnostic::error(name.span.clone(), "\"*\" stands alone: it is everybody already")
                    .help("write workloads = [\"*\"], or leave \"*\" out"),
            );
            continue;
        }
        let Some(number) = known.get(name.value.as_str()) else {
            let mut diagnostic = Diagnostic::error(
                name.span.clone(),
                format!("there is no workload `{}`", name.value),
            );
            diagnostic.help = suggestion(&name.value, known.keys().copied())
                .or_else(|| Some(format!("write [workloads.{}] with its cgroups", name.value)));
            found.push(diagnostic);
            continue;
        };
        used.insert(*number);
        if named.contains(number) {
            let message = format!("workload `{}` is listed twice", name.value);
            found.push(Diagnostic::warning(name.span.clone(), message));
        } else {
            named.push(*number);
        }
    }
    (!named.is_empty()).then_some(Who::Workloads(named))
}

fn check_objects(rule: &DraftRule, found: &mut Vec<Diagnostic>) {
    check_repetition(&rule.objects, found);
    check_repetition(&rule.except, found);
    let objects = Covering::new(&rule.objects);
    let except = Covering::new(&rule.except);
    for object in &rule.objects {
        if except.covers(&object.value) {
            found.push(
                Diagnostic::error(
                    object.span.clone(),
                    "`except` covers this object: the rule can never match it",
                )
                .help("leave it out of `objects`, or narrow `except`"),
            );
        }
    }
    for exception in &rule.except {
        if !objects.covers(&exception.value) && !rule.objects.is_empty() {
            let directories = rule.objects.iter().filter(|object| object.value.directory);
            let help = match directories.map(|object| object.value.written()).next() {
                Some(directory) => format!("name something beneath {directory}, or leave it out"),
                None => "no object here is a directory (with a trailing slash): leave `except` out"
                    .to_owned(),
            };
            found.push(
                Diagnostic::error(
                    exception.span.clone(),
                    "nothing to except: no object of this rule covers it",
                )
                .help(help),
            );
        }
    }
    for object in rule.objects.iter().filter(|object| object.value.path == b"/") {
        found.push(
            Diagnostic::warning(object.span.clone(), "this covers every file of the host")
                .help("make sure that `except` lists all that the workload needs to run"),
        );
    }
}

fn check_repetition(objects: &[Placed<Object>], found: &mut Vec<Diagnostic>) {
    let mut seen: HashMap<&[u8], bool> = HashMap::new();
    for object in objects {
        match seen.insert(&object.value.path, object.value.directory) {
            None => {}
            Some(directory) if directory == object.value.directory => found.push(
                Diagnostic::warning(object.span.clone(), "this object is listed twice")
                    .help("leave one out"),
            ),
            Some(_) => found.push(
                Diagnostic::error(
                    object.span.clone(),
                    "named both as a file and as a directory (with a trailing slash)",
                )
                .help("leave one out"),
            ),
        }
    }
}

fn check_access(rule: &DraftRule, found: &mut Vec<Diagnostic>) {
    if rule.action != Some(RuleAction::Deny) {
        return;
    }
    let (read, exec) =
        (rule.access.value.contains(Access::Read), rule.access.value.contains(Access::Exec));
    if exec && !read {
        found.push(
            Diagnostic::warning(rule.access.span.clone(), "exec is denied and read is not")
                .label("an interpreter or `ld.so FILE` can read the file and run it")
                .help("deny read as well, if the workload must not run it by any route"),
        );
    }
    if read && !exec {
        found.push(
            Diagnostic::warning(rule.access.span.clone(), "read is denied and exec is not")
                .label("whoever runs the file has its image in memory")
                .help("deny exec as well, if the workload must not see the content of programs"),
        );
    }
}

/// A list of objects that can be asked quickly what it covers.
struct Covering<'a> {
    files: HashSet<&'a [u8]>,
    directories: HashSet<&'a [u8]>,
}

impl<'a> Covering<'a> {
    fn new(objects: &'a [Placed<Object>]) -> Self {
        let of_kind = |directory| {
            objects
                .iter()
                .filter(move |object| object.value.directory == directory)
                .map(|object| object.value.path.as_slice())
                .collect()
        };
        Self { files: of_kind(false), directories: of_kind(true) }
    }

    /// Whether an object of the list is this one, or a directory above it.
    fn covers(&self, object: &Object) -> bool {
        let path = object.path.as_slice();
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let above = slashes.filter_map(|at| path.get(..at.max(1)));
        self.files.contains(path)
            || self.directories.contains(path)
            || above.into_iter().any(|directory| self.directories.contains(directory))
    }
}

/// Each object once; saying it twice was worth a warning.
fn distinct(objects: Vec<Placed<Object>>) -> Vec<Object> {
    let mut seen = HashSet::new();
    objects
        .into_iter()
        .map(|object| object.value)
        .filter(|object| seen.insert(object.clone()))
        .collect()
}

/// Where the lines of a text begin.
struct Lines(Vec<usize>);

impl Lines {
    fn new(text: &str) -> Self {
        Self(text.match_indices('\n').map(|(at, _)| at).collect())
    }

    fn number(&self, at: usize) -> usize {
        self.0.partition_point(|newline| *newline < at) + 1
    }
}
