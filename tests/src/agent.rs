// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `aegisbpf run`, started by a test.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, ChildStdout, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::program::{Answer, command};

/// The agent, running.
#[derive(Debug)]
pub struct Agent {
    child: Option<Child>,
    lines: BufReader<ChildStdout>,
}

impl Agent {
    /// Starts it, with more flags.
    pub fn start(flags: &[&str]) -> Self {
        let arguments: Vec<&str> = ["run"].iter().chain(flags).copied().collect();
        let mut child = command(&arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the agent starts");
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        Self { child: Some(child), lines }
    }

    /// Waits until it says that the node is in this state; the line.
    #[track_caller]
    pub fn says(&mut self, state: &str) -> Value {
        loop {
            let mut line = String::new();
            let read = self.lines.read_line(&mut line).expect("the agent speaks");
            assert!(read > 0, "the agent ended and never said {state}");
            let line: Value = serde_json::from_str(&line).expect("lines are JSON");
            if line["runtime_state"] == state {
                return line;
            }
        }
    }

    /// Waits until it says something with this in it; the line.
    #[track_caller]
    pub fn tells(&mut self, what: &str) -> Value {
        loop {
            let mut line = String::new();
            let read = self.lines.read_line(&mut line).expect("the agent speaks");
            assert!(read > 0, "the agent ended and never said {what}");
            if line.contains(what) {
                return serde_json::from_str(&line).expect("lines are JSON");
            }
        }
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().cast_signed()).expect("a process");
        kill_process(pid, signal).expect("it runs");
    }

    /// Ends it as an operator does, which must succeed; what it said beside its lines.
    #[track_caller]
    pub fn ends(mut self) -> String {
        self.signal(Signal::TERM);
        let child = self.child.take().expect("it runs");
        let answer = Answer::of(child.wait_with_output().expect("it ends"));
        assert_eq!(answer.status, 0, "{}", answer.stderr);
        answer.stderr
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            drop(child.kill());
            drop(child.wait());
        }
    }
}
