// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What xtask says, and to whom: answers on stdout, progress on stderr.
//!
//! The only place that prints. A closed stream is not an error: nobody is listening any more.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Instant;

/// One line of the answer.
pub(crate) fn answer(line: impl Display) {
    drop(writeln!(io::stdout().lock(), "{line}"));
}

/// One line of talk.
pub(crate) fn note(line: impl Display) {
    drop(writeln!(io::stderr().lock(), "{line}"));
}

/// Bytes of a guest's output as they come, or a part of one kept for later.
pub(crate) fn pass_on(bytes: &[u8]) {
    let mut stdout = io::stdout().lock();
    drop(stdout.write_all(bytes).and_then(|()| stdout.flush()));
}

/// Something that takes seconds: says what begins on a terminal, and what it took everywhere.
#[derive(Debug)]
pub(crate) struct Step {
    what: String,
    since: Instant,
    in_place: bool,
}

impl Step {
    /// Begins `what`.
    pub(crate) fn begin(what: impl Into<String>) -> Self {
        let what = what.into();
        let mut stderr = io::stderr();
        let in_place = stderr.is_terminal();
        if in_place {
            drop(write!(stderr, "{what} …").and_then(|()| stderr.flush()));
        }
        Self { what, since: Instant::now(), in_place }
    }

    /// Ends it with a word on the result, which may be empty.
    pub(crate) fn end(self, result: impl Display) {
        let seconds = self.since.elapsed().as_secs_f32();
        let erase = if self.in_place { "\r\x1b[K" } else { "" };
        note(format_args!("{erase}{} … {seconds:.1} s {result}", self.what));
    }
}
