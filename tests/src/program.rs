// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The program under test.

use std::{
    ffi::OsStr,
    os::unix::process::CommandExt as _,
    process::{Child, Command, Output, Stdio},
};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use serde_json::Value;

/// What it answered.
#[derive(Debug)]
pub struct Answer {
    /// Its exit status.
    pub status: i32,
    /// Its object on stdout.
    pub json: Value,
    /// What it said beside it.
    pub stderr: String,
}

/// A command with `--json`, not started yet.
pub fn command<S: AsRef<OsStr>>(arguments: &[S]) -> Command {
    let program = std::env::var_os("AEGIS_BIN").expect("AEGIS_BIN names the program under test");
    let mut command = Command::new(program);
    command.args(arguments).arg("--json").stdin(Stdio::null()).env_clear();
    command
}

/// The same of the program that goes wrong where it is told to: `NAME:kill`, `NAME:fail`, `NAME:wait`, or each with
/// `:3` behind it for the third time that it comes there.
pub fn command_with_fault<S: AsRef<OsStr>>(fault: &str, arguments: &[S]) -> Command {
    let mut command = Command::new(WITH_FAULTS);
    command.args(arguments).arg("--json").stdin(Stdio::null()).env_clear();
    command.env("AEGIS_FAULT", fault);
    command
}

/// A command that has stopped at a point, and goes on when it is told to.
#[derive(Debug)]
pub struct Stopped(Option<Child>);

impl Stopped {
    /// Starts it, and waits until it has stopped there, at the first visit.
    #[track_caller]
    pub fn at<S: AsRef<OsStr>>(point: &str, arguments: &[S]) -> Self {
        Self::at_visit(point, 1, arguments)
    }

    /// The same at another visit.
    #[track_caller]
    pub fn at_visit<S: AsRef<OsStr>>(point: &str, visit: u32, arguments: &[S]) -> Self {
        Self::of(command_with_fault(&format!("{point}:wait:{visit}"), arguments), point)
    }

    /// The same of a command that is made to stop there.
    #[track_caller]
    pub fn of(mut command: Command, point: &str) -> Self {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let child = child.expect("the program under test starts");
        let waited = waitpid(Some(Pid::from_child(&child)), WaitOptions::UNTRACED);
        let (_, status) = waited.expect("it runs").expect("this waits");
        assert!(status.stopped(), "it ended without having stopped at {point}: {status:?}");
        Self(Some(child))
    }

    /// Has it go on, and waits for its end.
    pub fn goes_on(mut self) -> Answer {
        let child = self.0.take().expect("it has stopped");
        kill_process(Pid::from_child(&child), Signal::CONT).expect("it has stopped");
        Answer::of(child.wait_with_output().expect("it ends"))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Runs it and waits.
pub fn aegisbpf<S: AsRef<OsStr>>(arguments: &[S]) -> Answer {
    Answer::of(command(arguments).output().expect("the program under test starts"))
}

/// Runs it as somebody who is not root.
pub fn aegisbpf_as_nobody(arguments: &[&str]) -> Answer {
    let output = command(arguments).uid(65534).gid(65534).output();
    Answer::of(output.expect("the program under test starts"))
}

/// Runs it without `--json`: its exit status, stdout and stderr.
pub fn aegisbpf_for_people(arguments: &[&str]) -> (i32, String, String) {
    let program = std::env::var_os("AEGIS_BIN").expect("AEGIS_BIN names the program under test");
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.expect("the program under test starts");
    (status(&output), text(&output.stdout), text(&output.stderr))
}

impl Answer {
    /// Of a command that has ended.
    pub fn of(output: Output) -> Self {
        let stdout = text(&output.stdout);
        let json = serde_json::from_str(&stdout).unwrap_or(Value::String(stdout));
        Self { status: status(&output), json, stderr: text(&output.stderr) }
    }

    /// It said yes.
    #[track_caller]
    pub fn yes(self) -> Value {
        assert_eq!(self.status, 0, "{}\n{}", self.json, self.stderr);
        self.json
    }

    /// It refused, with this code, and said on stderr what it is about; nothing was changed.
    #[track_caller]
    pub fn refused(&self, code: &str, said: &[&str]) {
        assert_eq!(self.status, 1, "{}\n{}", self.json, self.stderr);
        assert_eq!(self.json["error_code"], code, "{}\n{}", self.json, self.stderr);
        assert_eq!(self.json["changed"], false, "{}", self.json);
        self.said(said);
    }

    /// It failed without an answer, and said on stderr what it is about; nothing was changed.
    #[track_caller]
    pub fn failed(&self, said: &[&str]) {
        assert_eq!(self.status, 2, "{}\n{}", self.json, self.stderr);
        assert_eq!(self.json["changed"], false, "{}", self.json);
        self.said(said);
    }

    /// It failed, and says that not everything is as it was before.
    #[track_caller]
    pub fn failed_half_way(&self, said: &[&str]) {
        assert_ne!(self.status, 0, "{}\n{}", self.json, self.stderr);
        assert_eq!(self.json["changed"], true, "{}\n{}", self.json, self.stderr);
        self.said(said);
    }

    #[track_caller]
    fn said(&self, said: &[&str]) {
        for each in said {
            assert!(self.stderr.contains(each), "{each:?} is not in:\n{}", self.stderr);
        }
    }
}

/// The program under test, with the points at which it can be told to go wrong.
pub const WITH_FAULTS: &str = "/usr/bin/aegisbpf-faults";

fn status(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
