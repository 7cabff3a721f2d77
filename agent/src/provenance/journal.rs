// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Each head goes to the journal, which may send it to another machine: the witness that root here
//! cannot rewrite.
//!
//! One datagram in the journal's own protocol (systemd, "Native Journal Protocol"). Nobody waits for it:
//! the next head vouches for all before.

use std::{os::unix::net::UnixDatagram, path::Path};

use aegis_trust::provenance::{Entry, Head, Phase, Record};

/// Where journald listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// Tells the journal of a line of the log.
pub(super) fn tell(socket: &Path, record: &Record, head: Head) {
    let entry = &record.entry;
    let message = format!(
        "provenance entry {}: {} {}, head {}",
        head.sequence,
        entry.command,
        word(entry.phase),
        head.hash
    );
    let mut fields = fields(&message, entry);
    fields.push(("AEGISBPF_LOG_SEQUENCE", head.sequence.to_string()));
    fields.push(("AEGISBPF_LOG_HEAD", head.hash.to_string()));
    fields.push(("AEGISBPF_LOG_INSTANCE", record.instance.clone()));
    send(socket, &fields);
}

/// Tells the journal of a refusal that the log has not.
pub(super) fn tell_refusal(socket: &Path, entry: &Entry) {
    let error = entry.error.as_ref();
    let message = format!(
        "{} refused, not in the provenance log: {}",
        entry.command,
        error.map_or("", |error| error.message.as_str())
    );
    send(socket, &fields(&message, entry));
}

fn fields(message: &str, entry: &Entry) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        ("MESSAGE", message.to_owned()),
        // Notice; a weakening is a warning.
        ("PRIORITY", if entry.weakening { "4" } else { "5" }.to_owned()),
        ("SYSLOG_IDENTIFIER", "aegisbpf".to_owned()),
        ("AEGISBPF_COMMAND", entry.command.clone()),
        ("AEGISBPF_PHASE", word(entry.phase).to_owned()),
    ];
    fields.extend(entry.reason.clone().map(|reason| ("AEGISBPF_REASON", reason)));
    fields.extend(entry.error.as_ref().map(|error| ("AEGISBPF_ERROR_CODE", error.code.clone())));
    fields
}

const fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Begin => "begin",
        Phase::Done => "done",
        Phase::Undone => "undone",
        Phase::Refused => "refused",
        Phase::Note => "note",
    }
}

fn send(socket: &Path, fields: &[(&str, String)]) {
    let datagram = datagram(fields);
    let sent = UnixDatagram::unbound().and_then(|own| {
        own.set_nonblocking(true)?;
        own.send_to(&datagram, socket)
    });
    // No journal, or one that is busy: the kernel and the next head are witnesses as well.
    drop(sent);
}

/// `NAME=value`, or for a value of several lines its length before it.
fn datagram(fields: &[(&str, String)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
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
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_several_lines_cannot_forge_a_field() {
        let hostile = "x\nAEGISBPF_LOG_HEAD=00".to_owned();
        let bytes = datagram(&[("A", "1".to_owned()), ("B", hostile)]);
        let mut expected = b"A=1\nB\n".to_vec();
        expected.extend_from_slice(&22_u64.to_le_bytes());
        expected.extend_from_slice(b"x\nAEGISBPF_LOG_HEAD=00\n");
        assert_eq!(bytes, expected);
    }
}
