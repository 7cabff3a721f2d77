// SPDX-License-Identifier: Apache-2.0 OR MIT
//! TOML → [`Config`], with a place for every fault.

use std::{ops::Range, path::Path};

use aegis_policy::{Diagnostic, Severity};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{Config, KEYS, Origin};

/// Reads a text: what of it was understood, and every fault.
pub(crate) fn read(path: &Path, text: &str) -> (Config, Vec<Diagnostic>) {
    let (root, faults) = DeTable::parse_recoverable(text);
    let mut reader = Reader { path, text, config: Config::default(), faults: Vec::new() };
    for fault in &faults {
        let span = fault.span().unwrap_or(0..0);
        reader.say(span, fault.message().to_owned(), TOML_HELP.to_owned());
    }
    reader.table("", root.get_ref());
    let Reader { config, mut faults, .. } = reader;
    faults.sort_by_key(|fault| fault.span.start);
    (config, faults)
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    config: Config,
    faults: Vec<Diagnostic>,
}

impl Reader<'_> {
    fn say(&mut self, span: Range<usize>, message: String, help: String) {
        self.faults.push(Diagnostic {
            severity: Severity::Error,
            message,
            span,
            label: String::new(),
            help: Some(help),
        });
    }

    fn table(&mut self, section: &str, table: &DeTable<'_>) {
        for (key, value) in table.iter() {
            let name = match section {
                "" => key.get_ref().to_string(),
                section => format!("{section}.{}", key.get_ref()),
            };
            let inner = format!("{name}.");
            match value.get_ref() {
                DeValue::Table(table) if KEYS.iter().any(|key| key.name.starts_with(&inner)) => {
                    self.table(&name, table);
                }
                _ => self.value(&name, key.span(), value),
            }
        }
    }

    fn value(&mut self, name: &str, at: Range<usize>, value: &Spanned<DeValue<'_>>) {
        let Some((index, key)) = KEYS.iter().enumerate().find(|(_, key)| key.name == name) else {
            return self.say(at, format!("unknown key `{name}`"), suggestion(name));
        };
        let text = match value.get_ref() {
            DeValue::String(text) if !key.bare => Some(text.to_string()),
            DeValue::Boolean(value) if key.bare => Some(value.to_string()),
            _ => None,
        };
        let Some(text) = text else {
            let message = format!("`{name}` takes {}", key.takes);
            return self.say(value.span(), message, example(key));
        };
        match (key.set)(&mut self.config, &text) {
            Ok(()) => {
                let before = self.text.get(..value.span().start).unwrap_or_default();
                let line = before.matches('\n').count() + 1;
                self.config.came(index, Origin::File(self.path.to_owned(), line));
            }
            Err(wrong) => {
                self.say(value.span(), format!("`{name}` cannot be this: {wrong}"), example(key));
            }
        }
    }
}

fn example(key: &super::Key) -> String {
    format!("the default is {} = {}", key.name, key.value(&Config::default()))
}

/// The known key that looks most like it, or all of them.
fn suggestion(name: &str) -> String {
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().replace(['-', '_'], "");
    let near =
        KEYS.iter().find(|key| distance(key.name, name) <= 2 || last(key.name) == last(name));
    match near {
        Some(key) => format!("there is `{}`", key.name),
        None => {
            let all: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
            format!("the keys are {}", all.join(", "))
        }
    }
}

/// How many letters have to be changed, added or left out.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.chars().enumerate() {
        let mut next = vec![at + 1];
        for (place, theirs) in other.iter().enumerate() {
            let of =
                |row: &[usize], place: usize| row.get(place).copied().unwrap_or(usize::MAX / 2);
            let swapped = of(&row, place) + usize::from(letter != *theirs);
            next.push(swapped.min(of(&row, place + 1) + 1).min(of(&next, place) + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(usize::MAX)
}

const TOML_HELP: &str = "see the rules of TOML at https://toml.io";

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        let (_, faults) = read(Path::new("c.toml"), text);
        super::super::rendered(Path::new("c.toml"), text, &faults)
    }

    #[test]
    fn every_fault_has_its_place_and_a_hint() {
        let text = "enforce_gate_mode = \"open\"\nnonsense = 1\n[trust]\nallow-unsigned = true\n\
                    allow_unsigned = \"yes\"\n\
                    [metrics]\nlisten = \"0.0.0.0:1\"\n";
        let faults = faults(text);
        for (fault, place) in faults.iter().zip(["1:21", "2:1", "4:1", "5:18", "7:10"]) {
            assert!(fault.contains(&format!("c.toml:{place}")), "{place}: {fault}");
            assert!(fault.contains("hint: "), "{fault}");
        }
        assert_eq!(faults.len(), 5, "{faults:#?}");
        assert!(faults[2].contains("there is `trust.allow_unsigned`"), "{}", faults[2]);
    }

    #[test]
    fn a_bad_pattern_is_said_with_its_place() {
        let faults = faults("[emergency]\nreason_pattern = \"INC-(\"\n");
        assert_eq!(faults.len(), 1, "{faults:#?}");
        let fault = &faults[0];
        assert!(fault.contains("c.toml:2:18") && fault.contains("open group"), "{fault}");
    }

    #[test]
    fn what_is_faulty_keeps_its_default_and_what_is_not_counts() {
        let (config, faults) =
            read(Path::new("c"), "log.format = \"json\"\nenforce_gate_mode = \"?\"\n");
        assert_eq!(faults.len(), 1);
        assert_eq!(config.log_format, super::super::LogFormat::Json);
        assert_eq!(config.enforce_gate_mode, super::super::GateMode::FailClosed);
    }

    #[test]
    fn a_table_for_a_key_and_a_key_for_a_table_are_faults() {
        assert_eq!(faults("[enforce_gate_mode]\nx = 1\n").len(), 1);
        assert_eq!(faults("trust = 1\n").len(), 1);
        assert_eq!(faults("log.format = \"json\"\nlog.format = \"json\"\n").len(), 1);
        assert_eq!(faults("x = [\n").len(), 2, "a broken text, and the key that it has");
    }
}
