// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A process that does what a test says, one operation after the other.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::operation::{Operation, Tried, join};

/// The probe, running.
#[derive(Debug)]
pub struct Process {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Process {
    /// In the cgroup of the test, so outside of every workload.
    pub fn outside() -> Self {
        let program =
            std::env::var_os("AEGIS_PROBE").unwrap_or_else(|| "/usr/bin/aegis-probe".into());
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the probe starts");
        let orders = child.stdin.take().expect("piped");
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, orders, answers }
    }

    /// In this cgroup, which it joins by itself.
    pub fn inside(cgroup: &Path) -> Self {
        let mut process = Self::outside();
        process.joins(cgroup);
        process
    }

    /// Goes into another cgroup.
    pub fn joins(&mut self, cgroup: &Path) {
        assert_eq!(self.perform(&join(cgroup)), Tried::Allowed, "joining {}", cgroup.display());
    }

    /// Does it, and says what came of it.
    pub fn perform(&mut self, operation: &Operation) -> Tried {
        self.order("do", operation)
    }

    /// Does it, takes back what it changed, and says what came of it.
    pub fn try_out(&mut self, operation: &Operation) -> Tried {
        self.order("try", operation)
    }

    /// Does them all, one after the other, for the price of one question.
    pub fn perform_all(&mut self, operations: &[Operation]) -> Vec<Tried> {
        let lines: Vec<String> = operations.iter().map(Operation::line).collect();
        let answer = self.ask(&format!("all {}", lines.join(",")));
        let all = answer["all"].as_array().expect("an answer to each");
        all.iter().map(Self::tried).collect()
    }

    /// Starts doing these, in turn and again, for so long; [`watched`](Self::watched) has what came of it.
    pub fn watch(&mut self, operations: &[Operation], time: Duration) {
        let lines = operations.iter().map(Operation::line).collect::<Vec<_>>().join(",");
        writeln!(self.orders, "watch {} {lines}", time.as_millis()).expect("the probe listens");
    }

    /// What [`watch`](Self::watch) asked for: the number of the operation, begin, end, and the error number or 0.
    pub fn watched(&mut self) -> Vec<[u64; 4]> {
        let answer = self.answer();
        serde_json::from_value(answer["watched"].clone()).expect("four numbers each")
    }

    fn order(&mut self, how: &str, operation: &Operation) -> Tried {
        Self::tried(&self.ask(&format!("{how} {}", operation.line())))
    }

    fn ask(&mut self, order: &str) -> Value {
        writeln!(self.orders, "{order}").expect("the probe listens");
        self.answer()
    }

    fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the probe answers");
        serde_json::from_str(&line).expect("the probe answers in JSON")
    }

    fn tried(answer: &Value) -> Tried {
        if let Some(number) = answer["refused"].as_i64() {
            Tried::Refused(number.try_into().expect("an error number"))
        } else if let Some(why) = answer["could_not_try"].as_str() {
            Tried::CouldNotTry(why.to_owned())
        } else {
            assert_eq!(answer["allowed"], true, "{answer}");
            Tried::Allowed
        }
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it, and waits until it is gone from its cgroup.
    pub fn ends(self) {
        drop(self);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
