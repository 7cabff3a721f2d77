// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The program under test.

use std::{
    ffi::OsStr,
    os::unix::process::CommandExt as _,
    process::{Command, Output, Stdio},
};

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

/// The same of the program that goes wrong where it is told to: `NAME:kill`, `NAME:fail`, or either with
/// `:3` behind it for the third time that it comes there.
pub fn command_with_fault<S: AsRef<OsStr>>(fault: &str, arguments: &[S]) -> Command {
    let mut command = Command::new(WITH_FAULTS);
    command.args(arguments).arg("--json").stdin(Stdio::null()).env_clear();
    command.env("AEGIS_FAULT", fault);
    command
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
