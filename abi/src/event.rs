// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Bytes of the ring → [`Event`]. Total: any bytes give an event or an error, never a panic.

use zerocopy::FromBytes as _;

use crate::{Access, Action, InodeKey, generated};

/// One denial, or one allowed access that a rule reports, as the kernel wrote it.
///
/// Numbers are not yet names: which rule, scope and policy they mean is known to whoever filled
/// the generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Nanoseconds since boot, suspended time included.
    pub time: u64,
    /// The generation that decided.
    pub generation: u64,
    /// Id of the cgroup that asked.
    pub cgroup: u64,
    /// The inode that was to be opened.
    pub inode: InodeKey,
    /// The rule that the answer names, as the generation numbers it.
    pub rule: u32,
    /// The scope that asked, as the generation numbers it.
    pub scope: u32,
    /// What came of it.
    pub action: Action,
    /// The access that the rule speaks about.
    pub access: Access,
    /// What led to the rule: `enum aegis_why`.
    pub why: u32,
    /// Whether only an emergency kept it from being denied.
    pub by_emergency: bool,
    /// Process, as the initial pid namespace numbers it.
    pub pid: u32,
    /// Thread of that process.
    pub tid: u32,
    /// Real user id, as the initial user namespace numbers it.
    pub uid: u32,
    /// The thread's name, at most 15 bytes.
    pub comm: Vec<u8>,
    /// Path of the object, from the root of its mount tree.
    pub path: Vec<u8>,
    /// Whether outer components of `path` are missing.
    pub path_truncated: bool,
    /// Path of the program that the process runs; empty for a kernel thread.
    pub exe: Vec<u8>,
    /// Whether outer components of `exe` are missing.
    pub exe_truncated: bool,
}

/// Bytes that no program of ours wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadEvent {
    /// Not the size of an event: how many bytes there were.
    Size(usize),
    /// A number outside of its enumeration: the field, and the number.
    Number(&'static str, u32),
}

impl std::fmt::Display for BadEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Size(size) => write!(f, "an event has another size than {size} bytes"),
            Self::Number(field, number) => write!(f, "{number} is no {field} of an event"),
        }
    }
}

impl std::error::Error for BadEvent {}

impl Event {
    /// Reads one record of the ring.
    ///
    /// # Errors
    /// [`BadEvent`] if the bytes are not an event of this ABI version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadEvent> {
        let raw = generated::aegis_event::read_from_bytes(bytes)
            .map_err(|_size| BadEvent::Size(bytes.len()))?;
        Ok(Self {
            time: raw.time,
            generation: raw.generation,
            cgroup: raw.cgroup,
            inode: raw.inode,
            rule: raw.rule,
            scope: raw.scope,
            action: Action::from_number(raw.action)
                .ok_or(BadEvent::Number("action", raw.action))?,
            access: Access::from_number(raw.access)
                .ok_or(BadEvent::Number("access", raw.access))?,
            why: raw.why,
            by_emergency: raw.spared == generated::AEGIS_SPARED_BY_EMERGENCY,
            pid: raw.pid,
            tid: raw.tid,
            uid: raw.uid,
            comm: until_nul(&raw.comm).to_vec(),
            path: path_of(&raw.path, raw.path_size),
            path_truncated: raw.truncated & 1 != 0,
            exe: path_of(&raw.exe, raw.exe_size),
            exe_truncated: raw.truncated & 2 != 0,
        })
    }
}

/// `file\0dir\0top\0` → `/top/dir/file`. A name cannot hold a NUL or a slash, so nothing is lost.
fn path_of(components: &[u8], size: u32) -> Vec<u8> {
    let used = components.get(..size as usize).unwrap_or(components);
    let mut path = Vec::with_capacity(used.len());
    for component in used.split(|byte| *byte == 0).rev().filter(|part| !part.is_empty()) {
        path.push(b'/');
        path.extend_from_slice(component);
    }
    path
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or(&[])
}

#[cfg(test)]
mod tests {
    use zerocopy::{FromZeros as _, IntoBytes as _};

    use super::*;

    fn raw() -> generated::aegis_event {
        generated::aegis_event::new_zeroed()
    }

    #[test]
    fn components_come_innermost_first_and_make_a_path() {
        let mut event = raw();
        let written = b"key.pem\0private\0ssl\0etc\0";
        event.path[..written.len()].copy_from_slice(written);
        event.path_size = u32::try_from(written.len()).unwrap();
        let event = Event::from_bytes(event.as_bytes()).unwrap();
        assert_eq!(event.path, b"/etc/ssl/private/key.pem");
        assert_eq!(event.exe, b"");
    }

    #[test]
    fn names_keep_their_newlines_and_bytes() {
        let mut event = raw();
        let written = b"a\nb\xff\0";
        event.path[..written.len()].copy_from_slice(written);
        event.path_size = u32::try_from(written.len()).unwrap();
        assert_eq!(Event::from_bytes(event.as_bytes()).unwrap().path, b"/a\nb\xff");
    }

    #[test]
    fn a_size_beyond_the_buffer_is_cut_and_not_believed() {
        let mut event = raw();
        event.path_size = u32::MAX;
        assert_eq!(Event::from_bytes(event.as_bytes()).unwrap().path, b"");
    }

    #[test]
    fn other_sizes_and_numbers_are_refused() {
        assert_eq!(Event::from_bytes(&[0; 3]), Err(BadEvent::Size(3)));
        let mut event = raw();
        event.action = 9;
        assert_eq!(Event::from_bytes(event.as_bytes()), Err(BadEvent::Number("action", 9)));
    }
}
