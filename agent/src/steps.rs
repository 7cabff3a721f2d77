// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How long each step of a command takes; on a terminal also what it is at, once that takes a second.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::output;

/// The steps so far, and the present one.
#[derive(Debug)]
pub(crate) struct Steps {
    done: Vec<(&'static str, Duration)>,
    present: Arc<Mutex<Present>>,
}

#[derive(Debug)]
struct Present {
    step: &'static str,
    since: Instant,
    ended: bool,
    shown: bool,
}

impl Steps {
    /// Starts the clock of the first step.
    pub(crate) fn begin(step: &'static str) -> Self {
        let present = Present { step, since: Instant::now(), ended: false, shown: false };
        let present = Arc::new(Mutex::new(present));
        if output::shows_progress() {
            let watched = Arc::clone(&present);
            std::thread::spawn(move || while show(&watched) {});
        }
        Self { done: Vec::new(), present }
    }

    /// Ends the present step and starts another.
    pub(crate) fn next(&mut self, step: &'static str) {
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        self.done.push((present.step, present.since.elapsed()));
        present.step = step;
        present.since = Instant::now();
    }

    /// Those that have ended.
    pub(crate) fn so_far(&self) -> Vec<(&'static str, Duration)> {
        self.done.clone()
    }

    /// Ends the last step: name and time of each.
    pub(crate) fn end(&mut self) -> &[(&'static str, Duration)] {
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        if !present.ended {
            present.ended = true;
            self.done.push((present.step, present.since.elapsed()));
            if present.shown {
                output::progress("");
            }
        }
        &self.done
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.end();
    }
}

/// The same for a program.
pub(crate) fn json(steps: &[(&'static str, Duration)]) -> Value {
    let step = |(step, time): &(&'static str, Duration)| json!({ "step": step, "ms": ms(*time) });
    steps.iter().map(step).collect()
}

/// Milliseconds with two places.
pub(crate) fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 100_000.0).round() / 100.0
}

fn show(present: &Mutex<Present>) -> bool {
    std::thread::sleep(Duration::from_secs(1));
    let mut present = present.lock().unwrap_or_else(PoisonError::into_inner);
    let time = present.since.elapsed();
    if !present.ended && time > Duration::from_secs(1) {
        present.shown = true;
        output::progress(&format!("aegisbpf: {} … {} s", present.step, time.as_secs()));
    }
    !present.ended
}
