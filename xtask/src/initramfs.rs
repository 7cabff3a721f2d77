// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The initial ramdisk of a guest: an archive in cpio's `newc` form, which the kernel unpacks.
//!
//! Written here rather than by cpio, so that owners and modes are the same whoever runs it. Not compressed: unpacking
//! under emulation costs more than reading.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path};

use anyhow::{Context as _, bail};

/// An archive that grows in memory.
#[derive(Debug, Default)]
pub(crate) struct Initramfs {
    bytes: Vec<u8>,
    directories: BTreeSet<String>,
    entries: u32,
}

impl Initramfs {
    /// A directory, with those above it.
    pub(crate) fn directory(&mut self, path: &str) -> anyhow::Result<()> {
        let mut above = String::new();
        for part in Path::new(path).components() {
            match part {
                Component::RootDir => continue,
                Component::Normal(name) => {
                    if !above.is_empty() {
                        above.push('/');
                    }
                    above.push_str(&name.to_string_lossy());
                }
                _ => bail!("failed to put {path} into a guest: the path is not plain"),
            }
            if self.directories.insert(above.clone()) {
                self.entry(&above, 0o040_755, &[])?;
            }
        }
        Ok(())
    }

    /// A file with its bytes and mode.
    pub(crate) fn file(&mut self, path: &str, mode: u32, bytes: &[u8]) -> anyhow::Result<()> {
        if let Some(parent) = Path::new(path).parent() {
            self.directory(&parent.to_string_lossy())?;
        }
        self.entry(path.trim_start_matches('/'), 0o100_000 | mode, bytes)
    }

    /// A symbolic link.
    pub(crate) fn link(&mut self, path: &str, to: &str) -> anyhow::Result<()> {
        if let Some(parent) = Path::new(path).parent() {
            self.directory(&parent.to_string_lossy())?;
        }
        self.entry(path.trim_start_matches('/'), 0o120_777, to.as_bytes())
    }

    /// A file or a whole directory of this machine, at `path` in the guest.
    pub(crate) fn copy(&mut self, from: &Path, path: &str) -> anyhow::Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let failed = || format!("failed to put {} into a guest", from.display());
        let found = fs::metadata(from).with_context(failed)?;
        if !found.is_dir() {
            let bytes = fs::read(from).with_context(failed)?;
            return self.file(path, found.permissions().mode() & 0o777, &bytes);
        }
        self.directory(path)?;
        let mut names = Vec::new();
        for entry in fs::read_dir(from).with_context(failed)? {
            names.push(entry.with_context(failed)?.file_name());
        }
        names.sort();
        for name in names {
            self.copy(&from.join(&name), &format!("{path}/{}", name.to_string_lossy()))?;
        }
        Ok(())
    }

    /// The whole archive.
    pub(crate) fn finish(mut self) -> anyhow::Result<Vec<u8>> {
        self.entry("TRAILER!!!", 0, &[])?;
        Ok(self.bytes)
    }

    fn entry(&mut self, name: &str, mode: u32, bytes: &[u8]) -> anyhow::Result<()> {
        self.entries += 1;
        let size = u32::try_from(bytes.len())
            .with_context(|| format!("failed to put {name} into a guest: 4 GiB or more"))?;
        let links = if mode >> 12 == 0o04 { 2 } else { 1 };
        let name_size =
            u32::try_from(name.len() + 1).context("failed to put a long name into a guest")?;
        // inode, mode, uid, gid, links, time, size, device (2), device it is (2), size of the name, check sum
        let fields = [self.entries, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(bytes);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_come_once_and_before_their_files() {
        let mut archive = Initramfs::default();
        archive.file("/a/b/one", 0o644, b"1").expect("fits");
        archive.file("/a/b/two", 0o755, b"22").expect("fits");
        let bytes = archive.finish().expect("fits");
        let text = String::from_utf8_lossy(&bytes);
        let headers = text.matches("070701").count();
        assert_eq!(headers, ["a", "a/b", "a/b/one", "a/b/two", "TRAILER!!!"].len());
        assert_eq!(bytes.len() % 4, 0);
    }

    #[test]
    fn a_path_that_climbs_is_refused() {
        assert!(Initramfs::default().file("/a/../b", 0o644, b"").is_err());
    }
}
