// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Disks for guests: one image for each filesystem, made once; guests write to throw-away copies.

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::Context as _;

use crate::command::{output, target, tool};

/// A filesystem that a guest finds mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Disk {
    /// On /data, in every guest; with fs-verity and directories that may ignore case.
    Ext4,
    /// On /xfs.
    Xfs,
    /// On /btrfs.
    Btrfs,
}

impl Disk {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// Below the root; also the disk's serial number, by which the guest knows it.
    pub(crate) fn mounted_at(self) -> &'static str {
        match self {
            Self::Ext4 => "data",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// The image, made if need be.
    pub(crate) fn image(self) -> anyhow::Result<PathBuf> {
        let directory = target("guests");
        fs::create_dir_all(&directory)
            .with_context(|| format!("failed to create {}", directory.display()))?;
        let image = directory.join(format!("{}.img", self.name()));
        if image.exists() {
            return Ok(image);
        }
        let new = directory.join(format!("{}.{}.new", self.name(), std::process::id()));
        let failed = || format!("failed to make {}", image.display());
        File::create(&new).and_then(|file| file.set_len(self.size())).with_context(failed)?;
        output(tool(&format!("mkfs.{}", self.name())).args(self.options()).arg(&new))
            .with_context(failed)?;
        fs::rename(&new, &image).with_context(failed)?;
        Ok(image)
    }

    /// The smallest that their tools make without argument.
    fn size(self) -> u64 {
        let mebibytes = if self == Self::Xfs { 320 } else { 256 };
        mebibytes * 1024 * 1024
    }

    /// Blocks as large as pages, which fs-verity asks for; features that the oldest kernel knows.
    fn options(self) -> &'static [&'static str] {
        match self {
            Self::Ext4 => &["-q", "-F", "-b", "4096", "-O", "verity,casefold", "-E", "encoding=utf8"],
            Self::Xfs => &["-q", "-f", "-m", "bigtime=0,inobtcount=0"],
            Self::Btrfs => &["-q", "-f", "-O", "^free-space-tree,^no-holes"],
        }
    }
}
