// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How the agent speaks: fields for the journal, JSON lines, or text for people. What it says is its own
//! life and the posture; denials are events, and in their own log.

use std::{os::unix::net::UnixDatagram, path::Path};

use serde_json::{Value, json};

use crate::{
    config::LogFormat,
    output::{Output, one_line},
    time,
};

/// Where lines go.
#[derive(Debug)]
pub(crate) struct Journal {
    output: Output,
    to: To,
    /// The unit of systemd that this process was started for.
    unit: Option<String>,
}

#[derive(Debug)]
enum To {
    Stdout,
    Journald(UnixDatagram),
}

/// How much somebody has to care: as syslog has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Priority {
    Error,
    Warning,
    Notice,
    Info,
}

impl Journal {
    /// As the configuration says, for a [`unit()`]; `--json` goes before it. What cannot be reached is said on stderr, and
    /// then lines go to stdout.
    pub(crate) fn open(unit: Option<&str>, format: LogFormat, output: Output) -> Self {
        Self::open_for(unit.map(str::to_owned), format, output)
    }

    /// The same once more.
    pub(crate) fn again(&self, format: LogFormat, output: Output) -> Self {
        Self::open_for(self.unit.clone(), format, output)
    }

    fn open_for(unit: Option<String>, format: LogFormat, output: Output) -> Self {
        let of_systemd = std::env::var_os("JOURNAL_STREAM").is_some();
        let journald = match format {
            _ if output.json => false,
            LogFormat::Journald => true,
            LogFormat::Auto => of_systemd,
            LogFormat::Text | LogFormat::Json => false,
        };
        let output = Output { json: output.json || format == LogFormat::Json };
        let to = match journald.then(|| connect(Path::new(SOCKET))) {
            Some(Ok(socket)) => To::Journald(socket),
            Some(Err(error)) => {
                output.talk(&format!("aegisbpf: failed to reach the journal at {SOCKET}: {error}"));
                To::Stdout
            }
            None => To::Stdout,
        };
        Self { output, to, unit }
    }

    /// Says one thing; `fields` are what a program wants of it.
    pub(crate) fn say(
        &self,
        priority: Priority,
        message: &str,
        fields: &Value,
    ) -> anyhow::Result<()> {
        match &self.to {
            To::Journald(socket) => {
                // A journal that restarts loses lines, and is no reason to end.
                let unit = self.unit.as_deref();
                drop(socket.send(&datagram(unit, priority, message, fields)));
                Ok(())
            }
            To::Stdout if self.output.json => {
                let mut object = fields.clone();
                if let Some(object) = object.as_object_mut() {
                    object.entry("event").or_insert_with(|| json!("log"));
                    object.entry("time").or_insert_with(|| json!(time::written(time::now())));
                    object.insert("priority".to_owned(), json!(priority.number()));
                    object.insert("message".to_owned(), json!(message));
                }
                Ok(self.output.object(object)?)
            }
            To::Stdout => {
                let line = format!("{} {}", time::written(time::now()), one_line(message));
                Ok(self.output.line(&line)?)
            }
        }
    }
}

impl Priority {
    const fn number(self) -> u8 {
        match self {
            Self::Error => 3,
            Self::Warning => 4,
            Self::Notice => 5,
            Self::Info => 6,
        }
    }
}

fn connect(path: &Path) -> std::io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The unit of systemd that this process is in, by its cgroup of whichever version. The journal tells it in the same way,
/// but for each line, and only until we are in a cgroup of our own.
pub(crate) fn unit() -> Option<String> {
    let cgroups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    unit_in(&cgroups).map(str::to_owned)
}

fn unit_in(cgroups: &str) -> Option<&str> {
    let mut names = cgroups.lines().flat_map(|line| line.rsplit('/'));
    names.find(|name| name.ends_with(".service"))
}

/// The journal's own protocol: `NAME=value` lines; a value with a line break goes with its length.
fn datagram(unit: Option<&str>, priority: Priority, message: &str, fields: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    field(&mut bytes, "MESSAGE", message);
    field(&mut bytes, "PRIORITY", &priority.number().to_string());
    field(&mut bytes, "SYSLOG_IDENTIFIER", "aegisbpf");
    if let Some(unit) = unit {
        // What `journalctl --unit` looks for beside what the journal itself knows; it believes root.
        field(&mut bytes, "OBJECT_SYSTEMD_UNIT", unit);
    }
    if fields.get("event").is_some_and(|event| event == "posture") {
        field(&mut bytes, "MESSAGE_ID", POSTURE);
    }
    for (name, value) in fields.as_object().into_iter().flatten() {
        let text = match value {
            Value::Null => continue,
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        field(&mut bytes, &format!("AEGISBPF_{}", name.to_ascii_uppercase()), &text);
    }
    bytes
}

fn field(bytes: &mut Vec<u8>, name: &str, value: &str) {
    bytes.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        bytes.push(b'\n');
        bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        bytes.push(b'=');
    }
    bytes.extend_from_slice(value.as_bytes());
    bytes.push(b'\n');
}

const SOCKET: &str = "/run/systemd/journal/socket";

/// Of a transition of posture, for `journalctl MESSAGE_ID=…`.
const POSTURE: &str = "7d0c5a9b3e1f4d6c8a2b90f1e3d4c5b6";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_with_a_line_break_is_one_value() {
        let fields = json!({ "event": "posture", "reason_code": "PROVEN", "fix": null });
        let bytes = datagram(None, Priority::Notice, "one\nPRIORITY=0", &fields);
        let length = 14_u64.to_le_bytes();
        let mut expected = b"MESSAGE\n".to_vec();
        expected.extend_from_slice(&length);
        expected.extend_from_slice(b"one\nPRIORITY=0\nPRIORITY=5\nSYSLOG_IDENTIFIER=aegisbpf\n");
        expected.extend_from_slice(format!("MESSAGE_ID={POSTURE}\n").as_bytes());
        expected.extend_from_slice(b"AEGISBPF_EVENT=posture\nAEGISBPF_REASON_CODE=PROVEN\n");
        assert_eq!(bytes, expected);
    }

    #[test]
    fn a_unit_is_known_by_any_cgroup() {
        for (cgroups, unit) in [
            ("0::/system.slice/aegisbpf.service\n", Some("aegisbpf.service")),
            ("1:name=systemd:/system.slice/a.service/b\n0::/\n", Some("a.service")),
            ("0::/user.slice/user-0.slice/session-1.scope\n", None),
        ] {
            assert_eq!(unit_in(cgroups), unit, "{cgroups}");
        }
        let bytes = datagram(Some("a.service"), Priority::Info, "m", &Value::Null);
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.contains("\nOBJECT_SYSTEMD_UNIT=a.service\n"), "{text}");
    }
}
