// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Disks for guests: one image for each filesystem, made once; guests write to throw-away copies.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;

use crate::command::{output, target, tool};
use crate::kernels::Kernel;

/// A filesystem that a guest finds mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Disk {
    /// On /data, in every guest; with fs-verity, and directories that may ignore case where the kernel can.
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

    /// The image for a kernel, made if need be.
    pub(crate) fn image(self, kernel: &Kernel) -> anyhow::Result<PathBuf> {
        // Several guests may ask for the same one at once.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let plain = self == Self::Ext4 && !kernel.is_configured("CONFIG_UNICODE");
        let directory = target("guests");
        fs::create_dir_all(&directory)
            .with_context(|| format!("failed to create {}", directory.display()))?;
        let image =
            directory.join(format!("{}{}.img", self.name(), if plain { "-plain" } else { "" }));
        if image.exists() {
            return Ok(image);
        }
        let new = directory.join(format!("{}.{}.new", self.name(), std::process::id()));
        let failed = || format!("failed to make {}", image.display());
        File::create(&new).and_then(|file| file.set_len(self.size())).with_context(failed)?;
        let mut made = Ok(String::new());
        for options in self.options(plain) {
            let mut mkfs = tool(&format!("mkfs.{}", self.name()));
            made = output(mkfs.args(options.split(' ')).arg(&new));
            if made.is_ok() {
                break;
            }
        }
        made.with_context(failed)?;
        fs::rename(&new, &image).with_context(failed)?;
        Ok(image)
    }

    /// The smallest that their tools make without argument.
    fn size(self) -> u64 {
        let mebibytes = if self == Self::Xfs { 320 } else { 256 };
        mebibytes * 1024 * 1024
    }

    /// Blocks as large as pages, which fs-verity asks for; no feature that the oldest kernel lacks. A tool that does
    /// not know a feature by name does not use it either: the first line that it accepts is taken.
    fn options(self, plain: bool) -> &'static [&'static str] {
        match self {
            // A kernel without tables of letters mounts no filesystem that might ignore case.
            Self::Ext4 if plain => &["-q -F -b 4096 -O verity"],
            Self::Ext4 => &["-q -F -b 4096 -O verity,casefold -E encoding=utf8"],
            Self::Xfs => &[
                "-q -f -m bigtime=0,inobtcount=0 -i nrext64=0,exchange=0 -n parent=0",
                "-q -f -m bigtime=0,inobtcount=0 -i nrext64=0",
                "-q -f -m bigtime=0,inobtcount=0",
            ],
            Self::Btrfs => &["-q -f"],
        }
    }
}
