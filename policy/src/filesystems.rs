// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a rule is worth on which filesystem: the one table, printed in the documents.
//!
//! A filesystem is ENFORCED here only if tests on real kernels show that a rule on it holds.

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filesystem {
    /// `super_block.s_magic`.
    pub magic: u64,
    /// What mount(8) calls it.
    pub name: &'static str,
    /// Why a rule is worth less on it; `None` if it is worth the same: ENFORCED.
    pub weaker: Option<&'static str>,
}

/// The filesystem with this magic number; an unknown one is weaker.
pub fn filesystem(magic: u64) -> Filesystem {
    let known = FILESYSTEMS.iter().find(|filesystem| filesystem.magic == magic);
    known.copied().unwrap_or(Filesystem { magic, name: "unknown", weaker: Some(UNKNOWN) })
}

/// Whether all inodes with this number on such a filesystem have the same key: the roots of
/// btrfs subvolumes do, so that by inode one would stand for all.
pub(crate) fn is_ambiguous(magic: u64, ino: u64) -> bool {
    magic == BTRFS && ino == BTRFS_SUBVOLUME_ROOT
}

/// All that are known.
pub const FILESYSTEMS: &[Filesystem] = &[
    enforced(0xef53, "ext4"),
    enforced(0x5846_5342, "xfs"),
    enforced(BTRFS, "btrfs"),
    enforced(0x0102_1994, "tmpfs"),
    weaker(
        0x794c_7630,
        "overlay",
        "the layers beneath are other inodes, which are bound only by their own names",
    ),
    weaker(0x8584_58f6, "ramfs", "not tested"),
    weaker(0x6969, "nfs", "another host changes names and inodes unseen"),
    weaker(0xff53_4d42, "cifs", "another host changes names and inodes unseen"),
    weaker(0xfe53_4d42, "smb2", "another host changes names and inodes unseen"),
    weaker(0x0102_1997, "9p", "another host changes names and inodes unseen"),
    weaker(0x00c3_6400, "ceph", "another host changes names and inodes unseen"),
    weaker(0x6573_5546, "fuse", "its server decides what a name leads to"),
    weaker(0x9fa0, "proc", "its inodes come and go with processes"),
    weaker(0x6265_6572, "sysfs", "its inodes come and go with devices"),
    weaker(0x6367_7270, "cgroup2", "its inodes come and go with cgroups"),
    weaker(0x0027_e0eb, "cgroup", "its inodes come and go with cgroups"),
    weaker(0xcafe_4a11, "bpf", "not tested"),
    weaker(0x1373, "devfs", "a device can be opened through any node with its number"),
    weaker(0x1cd1, "devpts", "a device can be opened through any node with its number"),
    weaker(0x4d44, "vfat", "names that differ only in case are the same"),
    weaker(0x2011_bab0, "exfat", "names that differ only in case are the same"),
    weaker(0x5346_544e, "ntfs", "names that differ only in case are the same"),
    weaker(0x7366_746e, "ntfs3", "names that differ only in case are the same"),
    weaker(0x2fc1_2fc1, "zfs", "not tested"),
    weaker(0xf2f5_2010, "f2fs", "not tested"),
    weaker(0xca45_1a4e, "bcachefs", "not tested"),
    weaker(0x7371_7368, "squashfs", "not tested"),
    weaker(0xe0f5_e1e2, "erofs", "not tested"),
    weaker(0x9660, "iso9660", "not tested"),
];

const fn enforced(magic: u64, name: &'static str) -> Filesystem {
    Filesystem { magic, name, weaker: None }
}

const fn weaker(magic: u64, name: &'static str, why: &'static str) -> Filesystem {
    Filesystem { magic, name, weaker: Some(why) }
}

const BTRFS: u64 = 0x9123_683e;
const BTRFS_SUBVOLUME_ROOT: u64 = 256;

const UNKNOWN: &str = "nothing is known about this filesystem";
