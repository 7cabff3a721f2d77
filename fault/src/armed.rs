// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the environment asks for, and doing it.

use std::{
    io,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use rustix::{
    io::Errno,
    process::{Signal, getpid, kill_process},
};

use crate::Point;

/// What is to go wrong, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    point: Point,
    act: Act,
    /// At which visit, from 1.
    visit: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Kill,
    Fail,
    Wait,
}

/// A step that can fail is done. It fails here instead if the environment says so.
///
/// # Errors
/// An error of input or output, if that is what was asked for.
pub fn step(point: Point) -> io::Result<()> {
    match due(point) {
        None => Ok(()),
        Some(Act::Kill) => kill(),
        Some(Act::Fail) => Err(Errno::IO.into()),
        Some(Act::Wait) => {
            wait();
            Ok(())
        }
    }
}

/// A step after which nothing can fail is done.
pub fn passed(point: Point) {
    match due(point) {
        Some(Act::Kill) => kill(),
        Some(Act::Wait) => wait(),
        Some(Act::Fail) | None => {}
    }
}

/// Reads the environment; the names of all points, if it asks for them.
///
/// # Errors
/// What is wrong with it, in words.
pub fn begin() -> Result<Option<String>, String> {
    match std::env::var(VARIABLE) {
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(error) => Err(format!("{VARIABLE} cannot be read: {error}")),
        Ok(text) if text == "list" => {
            let names: Vec<&str> = Point::ALL.iter().map(|point| point.name()).collect();
            Ok(Some(names.join("\n")))
        }
        Ok(text) => {
            let asked = Asked::read(&text).ok_or_else(|| {
                format!("{VARIABLE}={text} is not NAME:kill, NAME:fail, NAME:wait or list")
            })?;
            ASKED.get_or_init(|| asked);
            Ok(None)
        }
    }
}

/// What tells the programs of this build from those of another, beside what they are made of.
pub fn build() -> u64 {
    std::env::var(OTHER_BUILD).ok().and_then(|number| number.parse().ok()).unwrap_or(0)
}

impl Asked {
    fn read(text: &str) -> Option<Self> {
        let mut words = text.split(':');
        let name = words.next()?;
        let point = Point::ALL.iter().copied().find(|point| point.name() == name)?;
        let act = match words.next()? {
            "kill" => Act::Kill,
            "fail" => Act::Fail,
            "wait" => Act::Wait,
            _ => return None,
        };
        let visit = words.next().map_or(Some(1), |visit| visit.parse().ok())?;
        words.next().is_none().then_some(Self { point, act, visit })
    }
}

/// What is to happen at this visit of a point.
fn due(point: Point) -> Option<Act> {
    let asked = ASKED.get().filter(|asked| asked.point == point)?;
    (VISITS.fetch_add(1, Ordering::Relaxed) + 1 == asked.visit).then_some(asked.act)
}

fn kill() -> ! {
    loop {
        // Sent to ourselves it is not refused; another thread may have to take it first.
        let _sent = kill_process(getpid(), Signal::KILL);
        std::thread::yield_now();
    }
}

/// Stops, until somebody has it go on.
fn wait() {
    let _sent = kill_process(getpid(), Signal::STOP);
}

const VARIABLE: &str = "AEGIS_FAULT";

const OTHER_BUILD: &str = "AEGIS_BUILD";

static ASKED: OnceLock<Asked> = OnceLock::new();

/// How often the one point was visited that something is asked of.
static VISITS: AtomicU32 = AtomicU32::new(0);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_is_misspelt_is_nothing_and_no_other_point() {
        let asked = |act, visit| Some(Asked { point: Point::Filled, act, visit });
        assert_eq!(Asked::read("filled:kill"), asked(Act::Kill, 1));
        assert_eq!(Asked::read("filled:fail:3"), asked(Act::Fail, 3));
        assert_eq!(Asked::read("filled:wait"), asked(Act::Wait, 1));
        for wrong in ["", "filled", "filled:", "filed:kill", "filled:kill:x", "filled:kill:1:1"] {
            assert_eq!(Asked::read(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn every_point_has_a_name_of_its_own() {
        let names: BTreeSet<&str> = Point::ALL.iter().map(|point| point.name()).collect();
        assert_eq!(names.len(), Point::ALL.len());
    }

    #[test]
    fn a_step_fails_at_the_visit_that_was_asked_for_and_at_no_other() {
        ASKED.get_or_init(|| Asked { point: Point::Filled, act: Act::Fail, visit: 2 });
        assert!(step(Point::Filled).is_ok());
        assert!(step(Point::Stored).is_ok());
        assert!(step(Point::Filled).is_err());
        assert!(step(Point::Filled).is_ok());
    }
}
