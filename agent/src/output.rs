// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The only place that prints. stdout is the answer, stderr is talk.
//!
//! Names of files and processes are chosen by those who are watched: no character that does
//! something to a terminal gets through, neither as text nor as JSON.

use std::io::{self, ErrorKind, IsTerminal as _, Write as _};

use serde_json::{Value, json};

use crate::failure::{Told, tell};

/// What a command answers.
#[derive(Debug)]
pub(crate) struct Answer {
    /// For a person; lines, without one at the end.
    pub(crate) text: String,
    /// The same for a program: an object.
    pub(crate) json: Value,
    /// 0 yes, 1 no, 2 could not tell.
    pub(crate) exit: u8,
}

/// How answers are printed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// As JSON.
    pub(crate) json: bool,
}

impl Output {
    /// Prints an answer; hands back its exit status.
    pub(crate) fn answer(self, answer: &Answer) -> u8 {
        let printed = if self.json {
            self.line(&with_schema(answer.json.clone()).to_string())
        } else if answer.text.is_empty() {
            Ok(())
        } else {
            self.line(&answer.text)
        };
        if printed.is_ok() { answer.exit } else { COULD_NOT_TELL }
    }

    /// Prints why a command failed; hands back its exit status.
    pub(crate) fn failure(self, error: &anyhow::Error) -> u8 {
        let Told { exit, changed, code, message, details, hint, blockers } = tell(error);
        self.talk(&format!("aegisbpf: {message}"));
        for detail in &details {
            self.talk(detail);
        }
        if let Some(hint) = &hint {
            self.talk(&format!("hint: {hint}"));
        }
        if self.json {
            let object = json!({
                "changed": changed, "error": message, "error_code": code, "details": details,
                "hint": hint, "enforce_blockers": blockers,
            });
            if self.line(&with_schema(object).to_string()).is_err() {
                return COULD_NOT_TELL;
            }
        }
        exit
    }

    /// Prints one line (or several) of the answer now. A reader that went away is no failure.
    pub(crate) fn line(self, text: &str) -> io::Result<()> {
        let safe = if self.json { json_printable(text) } else { printable(text) };
        let mut out = io::stdout().lock();
        let printed = writeln!(out, "{safe}").and_then(|()| out.flush());
        match printed {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            printed => printed,
        }
    }

    /// Prints an object as a line of its own.
    pub(crate) fn object(self, object: Value) -> io::Result<()> {
        self.line(&with_schema(object).to_string())
    }

    /// Says something beside the answer. If nobody listens, nobody hears that either.
    pub(crate) fn talk(self, text: &str) {
        drop(writeln!(io::stderr().lock(), "{}", printable(text)));
    }
}

/// Whether what takes seconds may be shown while it does.
pub(crate) fn shows_progress() -> bool {
    io::stderr().is_terminal()
}

/// Puts a line of progress in the place of the last one; an empty text clears it.
pub(crate) fn progress(text: &str) {
    let mut err = io::stderr().lock();
    drop(write!(err, "\r\x1b[K{}", printable(text)).and_then(|()| err.flush()));
}

/// `1 rule`, `2 rules`.
pub(crate) fn plural(count: usize, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

/// A text without characters that do something to a terminal, newlines and tabs aside.
pub(crate) fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if does_something(character) && !matches!(character, '\n' | '\t') {
            safe.extend(character.escape_unicode());
        } else {
            safe.push(character);
        }
    }
    safe
}

/// One line: newlines and tabs are no exception.
pub(crate) fn one_line(text: &str) -> String {
    printable(text).replace('\n', "\\n").replace('\t', "\\t")
}

/// JSON escapes ASCII controls only; the others can only stand in strings, where escapes may.
fn json_printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if does_something(character) && character != '\n' {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                safe.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            safe.push(character);
        }
    }
    safe
}

/// Controls, and what turns the direction of the text around it or hides in it.
fn does_something(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn with_schema(mut object: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.insert("schema".to_owned(), json!(SCHEMA));
    }
    object
}

/// Version of every object on stdout.
const SCHEMA: u32 = 1;

/// Neither yes nor no.
pub(crate) const COULD_NOT_TELL: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_moves_a_terminal_gets_through() {
        let hostile = "a\x1b[2Jb\r\u{9b}31m\u{202e}c\x7f";
        assert_eq!(printable(hostile), "a\\u{1b}[2Jb\\u{d}\\u{9b}31m\\u{202e}c\\u{7f}");
        assert_eq!(one_line("a\nb\tc"), "a\\nb\\tc");
    }

    #[test]
    fn json_stays_the_same_value_without_raw_controls() {
        let hostile = "a\x1b\u{9b}\u{202e}\x7f ü";
        let text = json_printable(&json!({ "name": hostile }).to_string());
        assert!(!text.chars().any(does_something), "{text}");
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["name"], hostile);
    }

    #[test]
    fn every_object_has_its_schema() {
        assert_eq!(with_schema(json!({}))["schema"], 1);
    }
}
