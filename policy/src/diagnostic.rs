// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is to be said about a text, and how it looks: file:line:col, the line, a caret, a hint.
//!
//! Nothing of the text reaches a terminal as it is: control characters are replaced.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::names::is_unsafe_to_print;

/// A policy text, and the name under which messages speak of it.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The file's name.
    pub name: &'a str,
    /// What is in it.
    pub text: &'a str,
}

/// One thing to say about a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether the text can be used all the same.
    pub severity: Severity,
    /// What is wrong, in one line.
    pub message: String,
    /// The bytes of the text that it is about.
    pub span: Range<usize>,
    /// A word or two beside the caret.
    pub label: String,
    /// What to write instead.
    pub help: Option<String>,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The text is not a policy.
    Error,
    /// The text is a policy that may not do what its author thinks.
    Warning,
}

impl Diagnostic {
    pub(crate) fn error(span: Range<usize>, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, span, message.into())
    }

    pub(crate) fn warning(span: Range<usize>, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, span, message.into())
    }

    const fn new(severity: Severity, span: Range<usize>, message: String) -> Self {
        Self { severity, message, span, label: String::new(), help: None }
    }

    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Line and column of the first byte, counted from 1; columns are characters.
    pub fn position(&self, text: &str) -> (usize, usize) {
        let before = text.get(..floor_boundary(text, self.span.start)).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before.get(line_start..).unwrap_or("").chars().count() + 1;
        (before.matches('\n').count() + 1, column)
    }

    /// The message as a person reads it, without a newline at its end.
    pub fn render(&self, source: Source<'_>, color: bool) -> String {
        let window = Window::around(source.text, &self.span);
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let name = printable(source.name);
        let (message, label) = (printable(&self.message), printable(&self.label));
        let mut annotation = AnnotationKind::Primary.span(window.span.clone());
        if !label.is_empty() {
            annotation = annotation.label(label.as_str());
        }
        let snippet = Snippet::source(window.text.as_str())
            .line_start(window.first_line)
            .path(name.as_str())
            .annotation(annotation);
        let mut report = vec![level.primary_title(message.as_str()).element(snippet)];
        let help = self.help.as_deref().map(printable);
        if let Some(help) = &help {
            let hint = Level::HELP.with_name(Some("hint"));
            report.push(Group::with_title(hint.secondary_title(help.as_str())));
        }
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&report).clone()
    }
}

/// The lines that a message shows, so that rendering does not read all of a large text.
struct Window {
    text: String,
    span: Range<usize>,
    first_line: usize,
}

impl Window {
    fn around(text: &str, span: &Range<usize>) -> Self {
        let start = floor_boundary(text, span.start);
        let end = floor_boundary(text, span.end.clamp(start, text.len()));
        let line_start =
            text.get(..start).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1);
        // Of a span of many lines only the first is shown.
        let line = text.get(line_start..).and_then(|rest| rest.split('\n').next()).unwrap_or("");
        let end = end.min(line_start + line.len()).max(start);
        let first_line =
            text.get(..line_start).map_or(1, |before| before.matches('\n').count() + 1);
        Self { text: same_length(line), span: start - line_start..end - line_start, first_line }
    }
}

/// The largest place where the text can be cut that is not behind `at`.
fn floor_boundary(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// The text without characters that do something to a terminal, each byte where it was.
fn same_length(text: &str) -> String {
    text.chars()
        .map(|character| {
            match (character != '\t' && is_unsafe_to_print(character), character.len_utf8()) {
                (false, _) => character,
                (true, 1) => '?',
                (true, 2) => '¿',
                (true, _) => '\u{fffd}',
            }
        })
        .collect()
}

/// A message without characters that do something to a terminal.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_unsafe_to_print(character) {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    shown
}
