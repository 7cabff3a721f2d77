// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What tests ask of the machine itself.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::routes;

/// Whether the running kernel is of this series or a later one. Only for what kernels have or lack by their version: a
/// test shows on each kernel what holds there.
pub fn kernel_is_at_least(major: u32, minor: u32) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release");
    let mut numbers = release.split(['.', '-', '+']).map_while(|part| part.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(major), Some(minor))
}

/// Writes everything out and forgets all names and inodes that nobody uses.
pub fn drop_caches() {
    rustix::fs::sync();
    for _ in 0..2 {
        fs::write("/proc/sys/vm/drop_caches", "3").expect("the kernel drops its caches");
    }
}

/// Makes a btrfs subvolume.
pub fn make_subvolume(path: &Path) {
    routes::subvolume(path, None).expect("a new subvolume");
}

/// Makes a snapshot of a btrfs subvolume, which may be written to.
pub fn snapshot(from: &Path, path: &Path) {
    routes::subvolume(path, Some(from)).expect("a new snapshot");
}

/// A mount that ends with the test.
#[derive(Debug)]
pub struct Mounted(PathBuf);

impl Mounted {
    /// Mounts a filesystem of this type, with these options.
    #[track_caller]
    pub fn new(kind: &str, source: impl AsRef<Path>, on: impl AsRef<Path>, options: &str) -> Self {
        let (on, flags) = (on.as_ref(), MountFlags::empty());
        let options = std::ffi::CString::new(options).expect("options without NUL");
        mount(source.as_ref(), on, kind, flags, Some(options.as_c_str())).expect("it mounts");
        Self(on.to_owned())
    }

    /// An empty tmpfs.
    #[track_caller]
    pub fn tmpfs(on: impl AsRef<Path>) -> Self {
        Self::new("tmpfs", "tmpfs", on, "")
    }

    /// A file or directory in another place as well.
    #[track_caller]
    pub fn bind(from: impl AsRef<Path>, on: impl AsRef<Path>) -> Self {
        let on = on.as_ref();
        rustix::mount::mount_bind_recursive(from.as_ref(), on).expect("it mounts");
        Self(on.to_owned())
    }

    /// Takes it away, now.
    #[track_caller]
    pub fn unmount(self) {
        drop(self);
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = unmount(&self.0, UnmountFlags::DETACH);
        if !std::thread::panicking() {
            unmounted.expect("it is mounted");
        }
    }
}

/// Runs a program of the guest, which must succeed; its first word of output.
#[track_caller]
pub fn run_tool(program: &str, arguments: &[&Path]) -> String {
    let output = Command::new(program).args(arguments).output().expect("a program of the guest");
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    text.split_whitespace().next().unwrap_or_default().to_owned()
}
