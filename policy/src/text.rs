// SPDX-License-Identifier: Apache-2.0 OR MIT
//! TOML → [`Draft`]: everything that a text says, each with its place, and every fault of its shape.
//!
//! Whether what it says makes sense together is for `check.rs`, which makes the [`Policy`].

use std::{collections::BTreeMap, ops::Range};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{
    Accesses, Diagnostic, Policy, Severity, Source, check, limits, names,
    policy::{Object, RuleAction},
};

/// Reads a policy: the policy if the text has no error, and all that is to be said about it.
pub fn parse(source: Source<'_>) -> (Option<Policy>, Vec<Diagnostic>) {
    if source.text.len() > limits::TEXT_BYTES {
        let message =
            format!("a text of {} bytes: the limit is {}", source.text.len(), limits::TEXT_BYTES);
        return (None, vec![Diagnostic::error(0..0, message).help("divide it into policies")]);
    }
    let (root, faults) = DeTable::parse_recoverable(source.text);
    let mut reader = Reader { diagnostics: Vec::new() };
    // What stands behind a fault of syntax may have lost its table, and what is missing may be there.
    let broken =
        faults.iter().filter(|fault| fault.message() != TWICE).filter_map(toml::de::Error::span);
    let broken = broken.map(|span| span.start).min();
    let draft = reader.draft(&root, broken.is_some());
    reader.diagnostics.retain(|known| broken.is_none_or(|broken| known.span.end <= broken));
    for fault in &faults {
        let span = fault.span().unwrap_or(0..0);
        reader.say(match fault.message() {
            TWICE => Diagnostic::error(span, "this key was there before").help("leave one out"),
            message => Diagnostic::error(span, message.to_owned()).help(TOML_HELP),
        });
    }
    let mut diagnostics = reader.diagnostics;
    let policy = broken.is_none().then(|| check::check(source, draft, &mut diagnostics)).flatten();
    diagnostics.sort_by_key(|diagnostic| (diagnostic.span.start, diagnostic.severity));
    diagnostics.dedup();
    shorten(&mut diagnostics);
    (policy, diagnostics)
}

/// Says the first [`limits::DIAGNOSTICS`], and of the rest how many there are; errors go first.
fn shorten(diagnostics: &mut Vec<Diagnostic>) {
    let Some(more) = diagnostics.len().checked_sub(limits::DIAGNOSTICS).filter(|more| *more > 0)
    else {
        return;
    };
    diagnostics.sort_by_key(|diagnostic| diagnostic.severity);
    let severity =
        diagnostics.get(limits::DIAGNOSTICS).map_or(Severity::Error, |first| first.severity);
    diagnostics.truncate(limits::DIAGNOSTICS);
    diagnostics.push(Diagnostic {
        severity,
        message: format!("{more} more like these are not shown"),
        span: 0..0,
        label: String::new(),
        help: None,
    });
}

/// A value and where it stands.
pub(crate) struct Placed<T> {
    pub(crate) value: T,
    pub(crate) span: Range<usize>,
}

/// What a text says, before anybody asked whether it makes sense. What was faulty is `None`.
pub(crate) struct Draft {
    pub(crate) name: Option<String>,
    pub(crate) version: Option<u32>,
    pub(crate) workloads: Vec<DraftWorkload>,
    pub(crate) rules: Vec<DraftRule>,
}

pub(crate) struct DraftWorkload {
    pub(crate) name: Placed<String>,
    pub(crate) cgroups: Vec<Placed<names::CgroupPattern>>,
}

pub(crate) struct DraftRule {
    pub(crate) span: Range<usize>,
    pub(crate) id: Option<Placed<String>>,
    pub(crate) workloads: Vec<Placed<String>>,
    pub(crate) action: Option<RuleAction>,
    pub(crate) access: Placed<Accesses>,
    pub(crate) objects: Vec<Placed<Object>>,
    pub(crate) except: Vec<Placed<Object>>,
    pub(crate) reason: Option<String>,
}

struct Reader {
    diagnostics: Vec<Diagnostic>,
}

impl Reader {
    fn say(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    fn draft(&mut self, root: &Spanned<DeTable<'_>>, broken: bool) -> Draft {
        let top = self.table(root.get_ref(), 0..0, &TOP, broken);
        if let Some(schema) = top.value("schema") {
            self.schema(schema);
        }
        Draft {
            name: top.value("name").and_then(|value| self.name(value, "policy")),
            version: top.value("version").and_then(|value| self.version(value)),
            workloads: top.value("workloads").map_or_else(Vec::new, |value| self.workloads(value)),
            rules: top.value("rules").map_or_else(Vec::new, |value| self.rules(value)),
        }
    }

    /// Looks a table's keys over: which are unknown, planned, or missing.
    fn table<'t, 'i>(
        &mut self,
        table: &'t DeTable<'i>,
        at: Range<usize>,
        shape: &Shape,
        broken: bool,
    ) -> Keys<'t, 'i> {
        let mut keys = Keys { found: BTreeMap::new() };
        for (key, value) in table.iter() {
            let name = key.get_ref().as_ref();
            if shape.required.contains(&name) || shape.optional.contains(&name) {
                keys.found.insert(name, value);
            } else if shape.planned.contains(&name) {
                let message = format!("`{name}` is PLANNED: this release cannot do it");
                self.say(
                    Diagnostic::error(key.span(), message).help(format!("leave `{name}` out")),
                );
            } else {
                let known = shape.required.iter().chain(shape.optional).copied();
                let help = suggestion(name, known.clone()).unwrap_or_else(|| {
                    format!("{} takes {}", shape.what, known.collect::<Vec<_>>().join(", "))
                });
                let message = format!("unknown key `{name}` in {}", shape.what);
                self.say(Diagnostic::error(key.span(), message).help(help));
            }
        }
        if !broken {
            for name in shape.required.iter().filter(|name| !keys.found.contains_key(*name)) {
                let message = format!("{} has no `{name}`", shape.what);
                self.say(Diagnostic::error(at.clone(), message).help(example(name)));
            }
        }
        keys
    }

    fn schema(&mut self, value: &Spanned<DeValue<'_>>) {
        if !matches!(self.integer(value), Some(1) | None) {
            let message = "this release reads policies of schema 1";
            self.say(Diagnostic::error(value.span(), message).help("write schema = 1"));
        }
    }

    fn version(&mut self, value: &Spanned<DeValue<'_>>) -> Option<u32> {
        let number = self.integer(value)?;
        let version = u32::try_from(number).ok().filter(|version| *version > 0);
        if version.is_none() {
            let message = format!("a version is a number from 1 to {}", u32::MAX);
            self.say(Diagnostic::error(value.span(), message).help(example("version")));
        }
        version
    }

    fn workloads(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<DraftWorkload> {
        let DeValue::Table(table) = value.get_ref() else {
            self.wrong_kind(value, "a table for each workload", example("workloads"));
            return Vec::new();
        };
        let mut workloads = Vec::new();
        for (key, value) in table.iter() {
            let name = Placed { value: key.get_ref().to_string(), span: key.span() };
            self.check_name(&name.value, name.span.clone(), "workload");
            let DeValue::Table(table) = value.get_ref() else {
                self.wrong_kind(value, "a table", example("cgroups"));
                continue;
            };
            let keys = self.table(table, key.span(), &WORKLOAD, false);
            let cgroups = keys
                .value("cgroups")
                .map_or_else(Vec::new, |value| self.paths(value, "cgroups", names::parse_cgroup));
            workloads.push(DraftWorkload { name, cgroups });
        }
        // The tree of TOML is sorted by name; messages and numbers follow the text.
        workloads.sort_by_key(|workload| workload.name.span.start);
        workloads
    }

    fn rules(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<DraftRule> {
        let DeValue::Array(array) = value.get_ref() else {
            self.wrong_kind(value, "rules, each under [[rules]]", "write [[rules]]".to_owned());
            return Vec::new();
        };
        let mut rules = Vec::new();
        for entry in array.iter() {
            match entry.get_ref() {
                DeValue::Table(table) => rules.push(self.rule(table, entry.span())),
                _ => self.wrong_kind(entry, "a rule", "write [[rules]]".to_owned()),
            }
        }
        rules
    }

    fn rule(&mut self, table: &DeTable<'_>, span: Range<usize>) -> DraftRule {
        let keys = self.table(table, span.clone(), &RULE, false);
        let id = keys.value("id").and_then(|value| {
            self.name(value, "rule").map(|id| Placed { value: id, span: value.span() })
        });
        let workloads = keys.value("workloads").map_or_else(Vec::new, |value| {
            self.paths(value, "workloads", |name| Ok(name.to_owned()))
        });
        let access = match keys.value("access") {
            None => Placed { value: Accesses::all(), span: span.clone() },
            Some(value) => Placed { value: self.access(value), span: value.span() },
        };
        DraftRule {
            id,
            workloads,
            action: keys.value("action").and_then(|value| self.action(value)),
            access,
            objects: keys
                .value("objects")
                .map_or_else(Vec::new, |value| self.paths(value, "objects", names::parse_object)),
            except: keys
                .value("except")
                .map_or_else(Vec::new, |value| self.paths(value, "except", names::parse_object)),
            reason: keys.value("reason").and_then(|value| self.reason(value)),
            span,
        }
    }

    fn action(&mut self, value: &Spanned<DeValue<'_>>) -> Option<RuleAction> {
        let text = self.string(value, "action")?;
        let action = [RuleAction::Deny, RuleAction::Audit].into_iter().find(|a| a.name() == text);
        if action.is_some() {
            return action;
        }
        let diagnostic = if text == "protect" {
            Diagnostic::error(
                value.span(),
                "action `protect` is PLANNED: this release cannot do it",
            )
            .help("write \"deny\" and name the workloads that must be kept out")
        } else {
            let help = suggestion(text, ["deny", "audit"].into_iter())
                .unwrap_or_else(|| "write \"deny\" or \"audit\"".to_owned());
            Diagnostic::error(value.span(), format!("unknown action `{text}`")).help(help)
        };
        self.say(diagnostic);
        None
    }

    fn access(&mut self, value: &Spanned<DeValue<'_>>) -> Accesses {
        let mut accesses = Accesses::NONE;
        let mut unknown = false;
        for word in self.paths(value, "access", |word| Ok(word.to_owned())) {
            match aegis_abi::Access::ALL.into_iter().find(|access| access.name() == word.value) {
                Some(access) if accesses.contains(access) => self.say(Diagnostic::warning(
                    word.span,
                    format!("access `{}` is listed twice", word.value),
                )),
                Some(access) => accesses = accesses.with(access),
                None => {
                    unknown = true;
                    let known = aegis_abi::Access::ALL.into_iter().map(aegis_abi::Access::name);
                    let help = suggestion(&word.value, known)
                        .unwrap_or_else(|| "write \"read\", \"write\" or \"exec\"".to_owned());
                    let message = format!("unknown access `{}`", word.value);
                    self.say(Diagnostic::error(word.span, message).help(help));
                }
            }
        }
        // Of a list that was not understood nothing more is said.
        if unknown { Accesses::all() } else { accesses }
    }

    fn reason(&mut self, value: &Spanned<DeValue<'_>>) -> Option<String> {
        let reason = self.string(value, "reason")?;
        let fault = if reason.trim().is_empty() {
            Some("a reason must say something".to_owned())
        } else if reason.len() > limits::REASON_BYTES {
            Some(format!(
                "a reason of {} bytes: the limit is {}",
                reason.len(),
                limits::REASON_BYTES
            ))
        } else if reason.chars().any(names::is_unsafe_to_print) {
            Some("a reason is one line without control characters".to_owned())
        } else {
            None
        };
        match fault {
            None => Some(reason.to_owned()),
            Some(message) => {
                self.say(Diagnostic::error(value.span(), message).help(example("reason")));
                None
            }
        }
    }

    /// A list of strings, each read by `read`; the strings that cannot be read are left out.
    fn paths<T>(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        key: &str,
        read: impl Fn(&str) -> Result<T, names::NameFault>,
    ) -> Vec<Placed<T>> {
        let DeValue::Array(array) = value.get_ref() else {
            self.wrong_kind(value, "a list", example(key));
            return Vec::new();
        };
        if array.is_empty() {
            let message = format!("`{key}` lists nothing");
            let help = match key {
                "except" | "access" => format!("leave `{key}` out"),
                key => example(key),
            };
            self.say(Diagnostic::error(value.span(), message).help(help));
        }
        let mut list = Vec::with_capacity(array.len());
        for entry in array.iter() {
            let Some(text) = self.string(entry, key) else { continue };
            match read(text) {
                Ok(value) => list.push(Placed { value, span: entry.span() }),
                Err(fault) => {
                    let mut diagnostic = Diagnostic::error(entry.span(), fault.message);
                    diagnostic.help = fault.help;
                    self.say(diagnostic);
                }
            }
        }
        list
    }

    fn name(&mut self, value: &Spanned<DeValue<'_>>, what: &str) -> Option<String> {
        let name = self.string(value, what)?;
        self.check_name(name, value.span(), what).then(|| name.to_owned())
    }

    fn check_name(&mut self, name: &str, span: Range<usize>, what: &str) -> bool {
        let begins =
            name.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit());
        let good = begins
            && name.len() <= limits::NAME_BYTES
            && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-'));
        if !good {
            let message = format!("`{name}` cannot be the name of a {what}");
            let help = format!(
                "use 1 to {} of a-z, 0-9, `.` and `-`, beginning with a letter or a digit",
                limits::NAME_BYTES
            );
            self.say(Diagnostic::error(span, message).help(help));
        }
        good
    }

    fn integer(&mut self, value: &Spanned<DeValue<'_>>) -> Option<i128> {
        let DeValue::Integer(integer) = value.get_ref() else {
            self.wrong_kind(value, "a number", "write the number without quotes".to_owned());
            return None;
        };
        // A number too large for any integer is still a number, and out of every range.
        Some(i128::from_str_radix(integer.as_str(), integer.radix()).unwrap_or(i128::MAX))
    }

    fn string<'t>(&mut self, value: &'t Spanned<DeValue<'_>>, key: &str) -> Option<&'t str> {
        let DeValue::String(text) = value.get_ref() else {
            self.wrong_kind(value, "a string", example(key));
            return None;
        };
        Some(text.as_ref())
    }

    fn wrong_kind(&mut self, value: &Spanned<DeValue<'_>>, wanted: &str, help: String) {
        let found = match value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a number",
            DeValue::Float(_) => "a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let message = format!("expected {wanted}, found {found}");
        self.say(Diagnostic::error(value.span(), message).help(help));
    }
}

/// The keys of one table that are known, and their values.
struct Keys<'t, 'i> {
    found: BTreeMap<&'t str, &'t Spanned<DeValue<'i>>>,
}

impl<'t, 'i> Keys<'t, 'i> {
    fn value(&self, key: &str) -> Option<&'t Spanned<DeValue<'i>>> {
        self.found.get(key).copied()
    }
}

/// The keys that a table takes.
struct Shape {
    what: &'static str,
    required: &'static [&'static str],
    optional: &'static [&'static str],
    planned: &'static [&'static str],
}

const TOP: Shape = Shape {
    what: "a policy",
    required: &["schema", "name", "version", "rules"],
    optional: &["workloads"],
    planned: &[],
};

const WORKLOAD: Shape =
    Shape { what: "a workload", required: &["cgroups"], optional: &[], planned: &[] };

const RULE: Shape = Shape {
    what: "a rule",
    required: &["id", "workloads", "action", "objects", "reason"],
    optional: &["access", "except"],
    planned: &["revalidate"],
};

/// How a key is written.
fn example(key: &str) -> String {
    let line = match key {
        "schema" => "schema = 1",
        "name" | "policy" => "name = \"backup-host\"",
        "version" => "version = 1",
        "workloads" => "workloads = [\"backup\"], or [\"*\"] for everybody",
        "cgroups" => "cgroups = [\"/system.slice/restic.service\"]",
        "rules" => "a rule under [[rules]]",
        "id" | "rule" => "id = \"keys-are-not-backed-up\"",
        "action" => "action = \"deny\"",
        "access" => "access = [\"read\", \"write\", \"exec\"]",
        "objects" => "objects = [\"/etc/shadow\", \"/etc/ssl/private/\"]",
        "except" => "except = [\"/etc/ssl/private/public.pem\"]",
        _ => "reason = \"private keys live in the vault, not in backups\"",
    };
    format!("write {line}")
}

/// The word that was probably meant.
pub(crate) fn suggestion<'w>(word: &str, known: impl Iterator<Item = &'w str>) -> Option<String> {
    known
        .map(|known| (distance(word, known), known))
        .filter(|(distance, known)| *distance <= 1 + known.len() / 4)
        .min()
        .map(|(_, known)| format!("did you mean `{known}`?"))
}

/// Letters to change, insert, take out or swap with a neighbour to get from one word to the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    if one.len() > 4 * limits::NAME_BYTES {
        return usize::MAX;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    let mut last = None;
    for (number, letter) in one.chars().enumerate() {
        let mut next = vec![number + 1];
        for (at, target) in other.iter().enumerate() {
            let cell = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX - 1);
            let changed = cell(&row, at) + usize::from(letter != *target);
            let mut best = changed.min(cell(&row, at + 1) + 1).min(cell(&next, at) + 1);
            let previous =
                at.checked_sub(1).and_then(|at| other.get(at).map(|target| (at, *target)));
            if let Some((at, previous)) = previous
                && last == Some(*target)
                && letter == previous
            {
                best = best.min(cell(&before, at) + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
        last = Some(letter);
    }
    row.last().copied().unwrap_or(usize::MAX)
}

/// What the parser says of a key that a table has already.
const TWICE: &str = "duplicate key";

const TOML_HELP: &str = "a policy is written in TOML: https://toml.io/en/v1.0.0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_suggested_and_far_ones_are_not() {
        let known = || ["objects", "except", "reason"].into_iter();
        assert_eq!(suggestion("object", known()).as_deref(), Some("did you mean `objects`?"));
        assert_eq!(suggestion("ojbects", known()).as_deref(), Some("did you mean `objects`?"));
        assert_eq!(suggestion("colour", known()), None);
    }
}
