// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What can go wrong between us and the kernel.

use std::path::{Path, PathBuf};

/// Why something with the kernel did not work.
///
/// Each variant says what was attempted; the cause is its source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A pin is there and cannot be opened: removed half-way, or not ours.
    #[error("failed to open the pin {}", path.display())]
    OpenPin {
        /// The pin.
        path: PathBuf,
        /// What libbpf says.
        source: libbpf_rs::Error,
    },
    /// A file or directory of the bpffs.
    #[error("failed to {attempt} {}", path.display())]
    File {
        /// What was attempted.
        attempt: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the kernel says.
        source: rustix::io::Errno,
    },
    /// The control map is of another version: nothing of it is touched.
    #[error(
        "the pinned control map has ABI version {found} and {size} bytes, this binary knows \
         version {known}"
    )]
    OtherAbi {
        /// Version in the map.
        found: u32,
        /// Size in the map.
        size: u32,
        /// Version of this binary.
        known: u32,
    },
    /// A map is not as this binary made it.
    #[error("the map {map} is not as this binary makes it: {what}")]
    OtherMap {
        /// Its name.
        map: String,
        /// What is different.
        what: &'static str,
    },
    /// A hook gives other arguments than any known kernel's.
    #[error("the hook {hook} of this kernel gives no dentry")]
    OtherHook {
        /// The hook.
        hook: &'static str,
    },
    /// The kernel's own description of its types.
    #[error("failed to read the types of this kernel (/sys/kernel/btf/vmlinux)")]
    NoTypes {
        /// What libbpf says.
        source: libbpf_rs::Error,
    },
    /// An operation on a map.
    #[error("failed to {attempt} the map {map}")]
    Map {
        /// What was attempted.
        attempt: &'static str,
        /// Its name.
        map: String,
        /// What libbpf says.
        source: libbpf_rs::Error,
    },
    /// The kernel has less room than a generation needs.
    #[error("the kernel has no room for {rows} rows of {map}")]
    NoRoom {
        /// The map.
        map: &'static str,
        /// How many rows it should hold.
        rows: usize,
        /// What libbpf says.
        source: libbpf_rs::Error,
    },
    /// A system call on one of our descriptors.
    #[error("failed to {attempt}")]
    System {
        /// What was attempted.
        attempt: &'static str,
        /// What the kernel says.
        source: rustix::io::Errno,
    },
    /// What was read back from the kernel is not what was written.
    #[error("the map {map} does not hold what was written to it")]
    NotAsWritten {
        /// Its name.
        map: &'static str,
    },
    /// The kernel refuses to load a program.
    #[error("the kernel refuses the programs of {object}{}", verifier(log))]
    Refused {
        /// The BPF object.
        object: &'static str,
        /// The last lines that libbpf or the verifier wrote.
        log: String,
        /// What libbpf says.
        source: libbpf_rs::Error,
    },
    /// The programs are loaded and one cannot be attached.
    #[error("failed to attach to the hook {hook}")]
    Attach {
        /// The LSM hook.
        hook: &'static str,
        /// What libbpf says.
        source: libbpf_rs::Error,
    },
    /// Attached without any error, and never called: `bpf` is not among the active LSMs.
    #[error("the kernel attaches LSM programs and does not call them")]
    NotCalled,
}

impl Error {
    pub(crate) fn file(attempt: &'static str, path: &Path, source: rustix::io::Errno) -> Self {
        Self::File { attempt, path: path.to_owned(), source }
    }

    pub(crate) fn map(attempt: &'static str, map: &str, source: libbpf_rs::Error) -> Self {
        Self::Map { attempt, map: map.to_owned(), source }
    }

    /// A step that was told to fail.
    pub(crate) fn fault(error: std::io::Error) -> Self {
        let source = rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO);
        Self::System { attempt: "go on", source }
    }

    /// Whether the kernel said that we may not, rather than that it cannot.
    pub fn is_permission(&self) -> bool {
        match self {
            Self::OpenPin { source, .. }
            | Self::Map { source, .. }
            | Self::NoRoom { source, .. }
            | Self::Refused { source, .. }
            | Self::NoTypes { source, .. }
            | Self::Attach { source, .. } => {
                source.kind() == libbpf_rs::ErrorKind::PermissionDenied
            }
            Self::File { source, .. } | Self::System { source, .. } => {
                matches!(*source, rustix::io::Errno::PERM | rustix::io::Errno::ACCESS)
            }
            Self::OtherAbi { .. }
            | Self::OtherMap { .. }
            | Self::OtherHook { .. }
            | Self::NotAsWritten { .. }
            | Self::NotCalled => false,
        }
    }
}

fn verifier(log: &str) -> String {
    if log.is_empty() { String::new() } else { format!(":\n{log}") }
}
