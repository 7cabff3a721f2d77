// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 OR MIT
// Made from abi/include/aegis.h by `cargo xtask abi`; do not edit.
type aegis_u8 = u8;
type aegis_u32 = u32;
type aegis_u64 = u64;

pub const AEGIS_ABI_VERSION: u32 = 4;
pub const AEGIS_LABEL_FREE: u32 = 1;
pub const AEGIS_RULE_UNKNOWN: u32 = 4294967295;
pub const AEGIS_UNSEEN: u32 = 4294967295;
pub const AEGIS_SLOTS: aegis_limit = 5;
pub const AEGIS_WALK_MAX: aegis_limit = 128;
pub const AEGIS_MOUNTS_MAX: aegis_limit = 24;
pub const AEGIS_CGROUP_DEPTH_MAX: aegis_limit = 16;
pub const AEGIS_NAME_MAX: aegis_limit = 255;
pub const AEGIS_SCOPES_MAX: aegis_limit = 4096;
pub const AEGIS_LABELS_MAX: aegis_limit = 8192;
pub const AEGIS_BYSTANDERS: aegis_limit = 1024;
pub const AEGIS_CGROUP_CACHE: aegis_limit = 16384;
pub const AEGIS_LATE_ROWS: aegis_limit = 16384;
pub const AEGIS_EVENT_PATH: aegis_limit = 1024;
pub const AEGIS_EVENT_EXE: aegis_limit = 256;
pub const AEGIS_EVENT_RING: aegis_limit = 2097152;
pub const AEGIS_TOGGLES: aegis_limit = 8;
pub const AEGIS_REASON_MAX: aegis_limit = 256;
pub type aegis_limit = ::std::os::raw::c_uint;
pub const AEGIS_READ: aegis_access = 0;
pub const AEGIS_WRITE: aegis_access = 1;
pub const AEGIS_EXEC: aegis_access = 2;
pub const AEGIS_ACCESSES: aegis_access = 3;
pub type aegis_access = ::std::os::raw::c_uint;
pub const AEGIS_DENY: aegis_action = 0;
pub const AEGIS_WOULD_DENY: aegis_action = 1;
pub const AEGIS_AUDIT: aegis_action = 2;
pub const AEGIS_ACTIONS: aegis_action = 3;
pub type aegis_action = ::std::os::raw::c_uint;
#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    zerocopy :: FromBytes,
    zerocopy :: IntoBytes,
    zerocopy :: Immutable,
    zerocopy :: KnownLayout,
)]
pub struct aegis_inode_key {
    pub ino: aegis_u64,
    pub dev: aegis_u32,
    pub generation: aegis_u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of aegis_inode_key"][::std::mem::size_of::<aegis_inode_key>() - 16usize];
    ["Alignment of aegis_inode_key"][::std::mem::align_of::<aegis_inode_key>() - 8usize];
    ["Offset of field: aegis_inode_key::ino"]
        [::std::mem::offset_of!(aegis_inode_key, ino) - 0usize];
    ["Offset of field: aegis_inode_key::dev"]
        [::std::mem::offset_of!(aegis_inode_key, dev) - 8usize];
    ["Offset of field: aegis_inode_key::generation"]
        [::std::mem::offset_of!(aegis_inode_key, generation) - 12usize];
};
pub const AEGIS_ROW_DIRECTORY: aegis_row_flag = 1;
pub const AEGIS_ROW_EXCEPT: aegis_row_flag = 2;
pub const AEGIS_ROW_LINK: aegis_row_flag = 4;
pub const AEGIS_ROW_FREES: aegis_row_flag = 8;
pub type aegis_row_flag = ::std::os::raw::c_uint;
#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    zerocopy :: FromBytes,
    zerocopy :: IntoBytes,
    zerocopy :: Immutable,
    zerocopy :: KnownLayout,
)]
pub struct aegis_object_row {
    pub label: aegis_u32,
    pub node: aegis_u32,
    pub flags: aegis_u32,
    pub beneath: aegis_u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of aegis_object_row"][::std::mem::size_of::<aegis_object_row>() - 16usize];
    ["Alignment of aegis_object_row"][::std::mem::align_of::<aegis_object_row>() - 4usize];
    ["Offset of field: aegis_object_row::label"]
        [::std::mem::offset_of!(aegis_object_row, label) - 0usize];
    ["Offset of field: aegis_object_row::node"]
        [::std::mem::offset_of!(aegis_object_row, node) - 4usize];
    ["Offset of field: aegis_object_row::flags"]
        [::std::mem::offset_of!(aegis_object_row, flags) - 8usize];
    ["Offset of field: aegis_object_row::beneath"]
        [::std::mem::offset_of!(aegis_object_row, beneath) - 12usize];
};
#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    zerocopy :: FromBytes,
    zerocopy :: IntoBytes,
    zerocopy :: Immutable,
    zerocopy :: KnownLayout,
)]
pub struct aegis_late_row {
    pub labels: aegis_u64,
    pub beneath: aegis_u64,
    pub node: aegis_u32,
    pub uid: aegis_u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of aegis_late_row"][::std::mem::size_of::<aegis_late_row>() - 24usize];
    ["Alignment of aegis_late_row"][::std::mem::align_of::<aegis_late_row>() - 8usize];
    ["Offset of field: aegis_late_row::labels"]
        [::std::mem::offset_of!(aegis_late_row, labels) - 0usize];
    ["Offset of field: aegis_late_row::beneath"]
        [::std::mem::offset_of!(aegis_late_row, beneath) - 8usize];
    ["Offset of field: aegis_late_row::node"]
        [::std::mem::offset_of!(aegis_late_row, node) - 16usize];
    ["Offset of field: aegis_late_row::uid"][::std::mem::offset_of!(aegis_late_row, uid) - 20usize];
};
#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    zerocopy :: FromBytes,
    zerocopy :: IntoBytes,
    zerocopy :: Immutable,
    zerocopy :: KnownLayout,
)]
pub struct aegis_marks {
    pub epoch: aegis_u32,
    pub late: aegis_u32,
    pub lost: aegis_u32,
    pub directories: aegis_u32,
    pub mounts: aegis_u32,
    pub links: aegis_u32,
    pub strays: aegis_u32,
    pub reserved: aegis_u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of aegis_marks"][::std::mem::size_of::<aegis_marks>() - 32usize];
    ["Alignment of aegis_marks"][::std::mem::align_of::<aegis_marks>() - 4usize];
    ["Offset of field: aegis_marks::epoch"][::std::mem::offset_of!(aegis_marks, epoch) - 0usize];
    ["Offset of field: aegis_marks::late"][::std::mem::offset_of!(aegis_marks, late) - 4usize];
    ["Offset of field: aegis_marks::lost"][::std::mem::offset_of!(aegis_marks, lost) - 8usize];
    ["Offset of field: aegis_marks::directories"]
        [::std::mem::offset_of!(aegis_marks, directories) - 12usize];
    ["Offset of field: aegis_marks::mounts"][::std::mem::offset_of!(aegis_marks, mounts) - 16usize];
    ["Offset of field: aegis_marks::links"][::std::mem::offset_of!(aegis_marks, links) - 20usize];
    ["Offset of field: aegis_marks::strays"][::std::mem::offset_of!(aegis_marks, strays) - 24usize];
    ["Offset of field: aegis_marks::reserved"]
        [::std::mem::offset_of!(aegis_marks, reserved) - 28usize];
};
pub const AEGIS_NAME: aegis_name_kind = 0;
pub const AEGIS_PREFIX: aegis_name_kind = 1;
pub const AEGIS_SUFFIX: aegis_name_kind = 2;
pub const AEGIS_CLASS: aegis_name_kind = 3;
pub type aegis_name_kind = ::std::os::raw::c_uint;
#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    zerocopy :: FromBytes,
    zerocopy :: IntoBytes,
    zerocopy :: Immutable,
    zerocopy :: KnownLayout,
)]
pub struct aegis_name_key {
    pub node: aegis_u32,
    pub kind: aegis_u32,
    pub hash: aegis_u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of aegis_name_key"][::std::mem::size_of::<aegis_name_key>() - 16usize];
    ["Alignment of aegis_name_key"][::std::mem::align_of::<aegis_name_key>() - 8usize];
    ["Offset of field: aegis_name_key::node"]
        [::std::mem::offset_of!(aegis_name_key, node) - 0usize];
    ["Offset of field: aegis_name_key::kind"]
        [::std::mem::offset_of!(aegis_name_key, kind) - 4usize];
    ["Offset of field: aegis_name_key::hash"]
        [::std::mem::offset_of!(aegis_name_key, hash) - 8usize];
};
#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    zerocopy :: FromBytes,
    zerocopy :: IntoBytes,
    zerocopy :: Immutable,
    zerocopy :: KnownLayout,
)]
pub struct aegis_cgroup_row {
    pub scope: aegis_u32,
    pub node: aegis_u32,
    pub flags: aegis_u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of aegis_cgroup_row"][::std::mem::size_of::<aegis_cgroup_row>() - 12usize];
    ["Alignment of aegis_cgroup_row"][::std::mem::align_of::<aegis_cgroup_row>() - 4usize];
    ["Offset of field: aegis_cgroup_row::scope"]
        [::std::mem::offset_of!(aegis_cgroup_row, scope) - 0usize];
    ["Offset of field: aegis_cgroup_row::node"]
        [::std::mem::offset_of!(aegis_cgroup_row, node) - 4usize];
    ["Offset of field: aegis_cgroup_row::flags"]
        [::std::mem::offset_of!(aegis_cgroup_row, flags) - 8usize];
};
pub const AEGIS_CGROUP_PATTERNS: aegis_cgroup_flag = 1;
pub type aegis_cgroup_flag = ::std::os::raw::c_uint;
#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    zerocopy :: FromBytes,
    zerocopy :: IntoBytes,
    zerocopy :: Immutable,
    zerocopy :: KnownLayout,
)]
pub struct aegis_filesystem_row {
    pub label: aegis_u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of aegis_filesystem_row"][::std::mem::size_of::<aegis_filesystem_row>() - 4usize];
    ["Alignment of aegis_filesystem_row"][::std::mem::align_of::<aegis_filesystem_row>() - 4usize];
    ["Offset of field: aegis_filesystem_row::label"]
        [::std::mem::offset_of!(aegis_filesystem_row, label) - 0usize];
};
#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    zerocopy :: FromBytes,
    zerocopy :: IntoBytes,
    zerocopy :: Immutable,
    zerocopy :: KnownLayout,
)]
pub struct aegis_verdict {
    pub rule: [[aegis_u32; 3usize]; 3usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of aegis_verdict"][::std::mem::size_of::<aegis_verdict>() - 36usize];
    ["Alignment of aegis_verdict"][::std::mem::align_of::<aegis_verdict>() - 4usize];
    ["Offset of field: aegis_verdict::rule"][::std::mem::offset_of!(aegis_verdict, rule) - 0usize];
};
#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    zerocopy :: FromBytes,
    zerocopy :: IntoBytes,
    zerocopy :: Immutable,
    zerocopy :: KnownLayout,
)]
pub struct aegis_count_key {
    pub rule: aegis_u32,
    pub scope: aegis_u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of aegis_count_key"][::std::mem::size_of::<aegis_count_key>() - 8usize];
    ["Alignment of aegis_count_key"][::std::mem::align_of::<aegis_count_key>() - 4usize];
    ["Offset of field: aegis_count_key::rule"]
        [::std::mem::offset_of!(aegis_count_key, rule) - 0usize];
    ["Offset of field: aegis_count_key::scope"]
        [::std::mem::offset_of!(aegis_count_key, scope) - 4usize];
};
#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    zerocopy :: FromBytes,
    zerocopy :: IntoBytes,
    zerocopy :: Immutable,
    zerocopy :: KnownLayout,
)]
pub struct aegis_count {
    pub hits: [aegis_u64; 3usize],
    pub drops: aegis_u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of aegis_count"][::std::mem::size_of::<aegis_count>() - 32usize];
    ["Alignment of aegis_count"][::std::mem::align_of::<aegis_count>() - 8usize];
    ["Offset of field: aegis_count::hits"][::std::mem::offset_of!(aegis_count, hits) - 0usize];
    ["Offset of field: aegis_count::drops"][::std::mem::offset_of!(aegis_count, drops) - 24usize];
};
#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    zerocopy :: FromBytes,
    zerocopy :: IntoBytes,
    zerocopy :: Immutable,
    zerocopy :: KnownLayout,
)]
pub struct aegis_generation {
    pub number: aegis_u64,
    pub seed: aegis_u64,
    pub exempt_cgroup: aegis_u64,
    pub filled_at: aegis_u64,
    pub labels: aegis_u32,
    pub scopes: aegis_u32,
    pub root_scope: aegis_u32,
    pub root_flags: aegis_u32,
    pub unknown_scope: aegis_u32,
    pub unknown_label: aegis_u32,
    pub policies: aegis_u32,
    pub accesses: aegis_u32,
    pub revision: aegis_u32,
    pub reserved: aegis_u32,
    pub set_digest: [aegis_u8; 32usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of aegis_generation"][::std::mem::size_of::<aegis_generation>() - 104usize];
    ["Alignment of aegis_generation"][::std::mem::align_of::<aegis_generation>() - 8usize];
    ["Offset of field: aegis_generation::number"]
        [::std::mem::offset_of!(aegis_generation, number) - 0usize];
    ["Offset of field: aegis_generation::seed"]
        [::std::mem::offset_of!(aegis_generation, seed) - 8usize];
    ["Offset of field: aegis_generation::exempt_cgroup"]
        [::std::mem::offset_of!(aegis_generation, exempt_cgroup) - 16usize];
    ["Offset of field: aegis_generation::filled_at"]
        [::std::mem::offset_of!(aegis_generation, filled_at) - 24usize];
    ["Offset of field: aegis_generation::labels"]
        [::std::mem::offset_of!(aegis_generation, labels) - 32usize];
    ["Offset of field: aegis_generation::scopes"]
        [::std::mem::offset_of!(aegis_generation, scopes) - 36usize];
    ["Offset of field: aegis_generation::root_scope"]
        [::std::mem::offset_of!(aegis_generation, root_scope) - 40usize];
    ["Offset of field: aegis_generation::root_flags"]
        [::std::mem::offset_of!(aegis_generation, root_flags) - 44usize];
    ["Offset of field: aegis_generation::unknown_scope"]
        [::std::mem::offset_of!(aegis_generation, unknown_scope) - 48usize];
    ["Offset of field: aegis_generation::unknown_label"]
        [::std::mem::offset_of!(aegis_generation, unknown_label) - 52usize];
    ["Offset of field: aegis_generation::policies"]
        [::std::mem::offset_of!(aegis_generation, policies) - 56usize];
    ["Offset of field: aegis_generation::accesses"]
        [::std::mem::offset_of!(aegis_generation, accesses) - 60usize];
    ["Offset of field: aegis_generation::revision"]
        [::std::mem::offset_of!(aegis_generation, revision) - 64usize];
    ["Offset of field: aegis_generation::reserved"]
        [::std::mem::offset_of!(aegis_generation, reserved) - 68usize];
    ["Offset of field: aegis_generation::set_digest"]
        [::std::mem::offset_of!(aegis_generation, set_digest) - 72usize];
};
pub const AEGIS_SLOT_MASK: aegis_slots_word = 7;
pub const AEGIS_PREVIOUS_AT: aegis_slots_word = 3;
pub const AEGIS_KEPT_AT: aegis_slots_word = 6;
pub const AEGIS_DEADLINE_AT: aegis_slots_word = 9;
pub const AEGIS_TICK_SHIFT: aegis_slots_word = 10;
pub type aegis_slots_word = ::std::os::raw::c_uint;
pub const AEGIS_TOGGLE_MASK: aegis_emergency_word = 7;
pub const AEGIS_GUARDS_TOO: aegis_emergency_word = 8;
pub const AEGIS_UNTIL_AT: aegis_emergency_word = 8;
pub type aegis_emergency_word = ::std::os::raw::c_uint;
#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    zerocopy :: FromBytes,
    zerocopy :: IntoBytes,
    zerocopy :: Immutable,
    zerocopy :: KnownLayout,
)]
pub struct aegis_toggle {
    pub number: aegis_u64,
    pub time: aegis_u64,
    pub until: aegis_u64,
    pub uid: aegis_u32,
    pub login_uid: aegis_u32,
    pub pid: aegis_u32,
    pub guards_too: aegis_u32,
    pub reason: [aegis_u8; 256usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of aegis_toggle"][::std::mem::size_of::<aegis_toggle>() - 296usize];
    ["Alignment of aegis_toggle"][::std::mem::align_of::<aegis_toggle>() - 8usize];
    ["Offset of field: aegis_toggle::number"]
        [::std::mem::offset_of!(aegis_toggle, number) - 0usize];
    ["Offset of field: aegis_toggle::time"][::std::mem::offset_of!(aegis_toggle, time) - 8usize];
    ["Offset of field: aegis_toggle::until"][::std::mem::offset_of!(aegis_toggle, until) - 16usize];
    ["Offset of field: aegis_toggle::uid"][::std::mem::offset_of!(aegis_toggle, uid) - 24usize];
    ["Offset of field: aegis_toggle::login_uid"]
        [::std::mem::offset_of!(aegis_toggle, login_uid) - 28usize];
    ["Offset of field: aegis_toggle::pid"][::std::mem::offset_of!(aegis_toggle, pid) - 32usize];
    ["Offset of field: aegis_toggle::guards_too"]
        [::std::mem::offset_of!(aegis_toggle, guards_too) - 36usize];
    ["Offset of field: aegis_toggle::reason"]
        [::std::mem::offset_of!(aegis_toggle, reason) - 40usize];
};
#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    zerocopy :: FromBytes,
    zerocopy :: IntoBytes,
    zerocopy :: Immutable,
    zerocopy :: KnownLayout,
)]
pub struct aegis_log_head {
    pub sequence: aegis_u64,
    pub written: aegis_u64,
    pub hash: [aegis_u8; 32usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of aegis_log_head"][::std::mem::size_of::<aegis_log_head>() - 48usize];
    ["Alignment of aegis_log_head"][::std::mem::align_of::<aegis_log_head>() - 8usize];
    ["Offset of field: aegis_log_head::sequence"]
        [::std::mem::offset_of!(aegis_log_head, sequence) - 0usize];
    ["Offset of field: aegis_log_head::written"]
        [::std::mem::offset_of!(aegis_log_head, written) - 8usize];
    ["Offset of field: aegis_log_head::hash"]
        [::std::mem::offset_of!(aegis_log_head, hash) - 16usize];
};
#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    zerocopy :: FromBytes,
    zerocopy :: IntoBytes,
    zerocopy :: Immutable,
    zerocopy :: KnownLayout,
)]
pub struct aegis_owner {
    pub instance: [aegis_u8; 32usize],
    pub state: [aegis_u8; 256usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of aegis_owner"][::std::mem::size_of::<aegis_owner>() - 288usize];
    ["Alignment of aegis_owner"][::std::mem::align_of::<aegis_owner>() - 1usize];
    ["Offset of field: aegis_owner::instance"]
        [::std::mem::offset_of!(aegis_owner, instance) - 0usize];
    ["Offset of field: aegis_owner::state"][::std::mem::offset_of!(aegis_owner, state) - 32usize];
};
#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    zerocopy :: FromBytes,
    zerocopy :: IntoBytes,
    zerocopy :: Immutable,
    zerocopy :: KnownLayout,
)]
pub struct aegis_control {
    pub abi_version: aegis_u32,
    pub size: aegis_u32,
    pub slots: aegis_u64,
    pub emergency: aegis_u64,
    pub trial_slot: aegis_u32,
    pub trust_root: aegis_u32,
    pub scratch_cgroup: aegis_u64,
    pub last_number: aegis_u64,
    pub event_sequence: aegis_u64,
    pub programs: aegis_u64,
    pub toggles: aegis_u64,
    pub toggle: [aegis_toggle; 8usize],
    pub log_heads: [aegis_log_head; 2usize],
    pub log_unlogged: aegis_u64,
    pub owner: aegis_owner,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of aegis_control"][::std::mem::size_of::<aegis_control>() - 2832usize];
    ["Alignment of aegis_control"][::std::mem::align_of::<aegis_control>() - 8usize];
    ["Offset of field: aegis_control::abi_version"]
        [::std::mem::offset_of!(aegis_control, abi_version) - 0usize];
    ["Offset of field: aegis_control::size"][::std::mem::offset_of!(aegis_control, size) - 4usize];
    ["Offset of field: aegis_control::slots"]
        [::std::mem::offset_of!(aegis_control, slots) - 8usize];
    ["Offset of field: aegis_control::emergency"]
        [::std::mem::offset_of!(aegis_control, emergency) - 16usize];
    ["Offset of field: aegis_control::trial_slot"]
        [::std::mem::offset_of!(aegis_control, trial_slot) - 24usize];
    ["Offset of field: aegis_control::trust_root"]
        [::std::mem::offset_of!(aegis_control, trust_root) - 28usize];
    ["Offset of field: aegis_control::scratch_cgroup"]
        [::std::mem::offset_of!(aegis_control, scratch_cgroup) - 32usize];
    ["Offset of field: aegis_control::last_number"]
        [::std::mem::offset_of!(aegis_control, last_number) - 40usize];
    ["Offset of field: aegis_control::event_sequence"]
        [::std::mem::offset_of!(aegis_control, event_sequence) - 48usize];
    ["Offset of field: aegis_control::programs"]
        [::std::mem::offset_of!(aegis_control, programs) - 56usize];
    ["Offset of field: aegis_control::toggles"]
        [::std::mem::offset_of!(aegis_control, toggles) - 64usize];
    ["Offset of field: aegis_control::toggle"]
        [::std::mem::offset_of!(aegis_control, toggle) - 72usize];
    ["Offset of field: aegis_control::log_heads"]
        [::std::mem::offset_of!(aegis_control, log_heads) - 2440usize];
    ["Offset of field: aegis_control::log_unlogged"]
        [::std::mem::offset_of!(aegis_control, log_unlogged) - 2536usize];
    ["Offset of field: aegis_control::owner"]
        [::std::mem::offset_of!(aegis_control, owner) - 2544usize];
};
#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    zerocopy :: FromBytes,
    zerocopy :: IntoBytes,
    zerocopy :: Immutable,
    zerocopy :: KnownLayout,
)]
pub struct aegis_arguments {
    pub setattr_dentry: aegis_u32,
    pub setxattr_dentry: aegis_u32,
    pub removexattr_dentry: aegis_u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of aegis_arguments"][::std::mem::size_of::<aegis_arguments>() - 12usize];
    ["Alignment of aegis_arguments"][::std::mem::align_of::<aegis_arguments>() - 4usize];
    ["Offset of field: aegis_arguments::setattr_dentry"]
        [::std::mem::offset_of!(aegis_arguments, setattr_dentry) - 0usize];
    ["Offset of field: aegis_arguments::setxattr_dentry"]
        [::std::mem::offset_of!(aegis_arguments, setxattr_dentry) - 4usize];
    ["Offset of field: aegis_arguments::removexattr_dentry"]
        [::std::mem::offset_of!(aegis_arguments, removexattr_dentry) - 8usize];
};
#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    zerocopy :: FromBytes,
    zerocopy :: IntoBytes,
    zerocopy :: Immutable,
    zerocopy :: KnownLayout,
)]
pub struct aegis_resolved {
    pub key: aegis_inode_key,
    pub magic: aegis_u64,
    pub calls: aegis_u32,
    pub mode: aegis_u32,
    pub links: aegis_u32,
    pub i_flags: aegis_u32,
    pub uuid: [aegis_u8; 16usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of aegis_resolved"][::std::mem::size_of::<aegis_resolved>() - 56usize];
    ["Alignment of aegis_resolved"][::std::mem::align_of::<aegis_resolved>() - 8usize];
    ["Offset of field: aegis_resolved::key"][::std::mem::offset_of!(aegis_resolved, key) - 0usize];
    ["Offset of field: aegis_resolved::magic"]
        [::std::mem::offset_of!(aegis_resolved, magic) - 16usize];
    ["Offset of field: aegis_resolved::calls"]
        [::std::mem::offset_of!(aegis_resolved, calls) - 24usize];
    ["Offset of field: aegis_resolved::mode"]
        [::std::mem::offset_of!(aegis_resolved, mode) - 28usize];
    ["Offset of field: aegis_resolved::links"]
        [::std::mem::offset_of!(aegis_resolved, links) - 32usize];
    ["Offset of field: aegis_resolved::i_flags"]
        [::std::mem::offset_of!(aegis_resolved, i_flags) - 36usize];
    ["Offset of field: aegis_resolved::uuid"]
        [::std::mem::offset_of!(aegis_resolved, uuid) - 40usize];
};
#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    zerocopy :: FromBytes,
    zerocopy :: IntoBytes,
    zerocopy :: Immutable,
    zerocopy :: KnownLayout,
)]
pub struct aegis_asking {
    pub answer: aegis_resolved,
    pub thread: aegis_u32,
    pub reserved: aegis_u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of aegis_asking"][::std::mem::size_of::<aegis_asking>() - 64usize];
    ["Alignment of aegis_asking"][::std::mem::align_of::<aegis_asking>() - 8usize];
    ["Offset of field: aegis_asking::answer"]
        [::std::mem::offset_of!(aegis_asking, answer) - 0usize];
    ["Offset of field: aegis_asking::thread"]
        [::std::mem::offset_of!(aegis_asking, thread) - 56usize];
    ["Offset of field: aegis_asking::reserved"]
        [::std::mem::offset_of!(aegis_asking, reserved) - 60usize];
};
pub const AEGIS_WHY_INODE: aegis_why = 1;
pub const AEGIS_WHY_NAME: aegis_why = 2;
pub const AEGIS_WHY_DIRECTORY: aegis_why = 3;
pub const AEGIS_WHY_MOUNT: aegis_why = 4;
pub const AEGIS_WHY_INCOMPLETE: aegis_why = 5;
pub const AEGIS_WHY_EXCEPT: aegis_why = 6;
pub const AEGIS_WHY_LATE: aegis_why = 7;
pub const AEGIS_WHY_REFER: aegis_why = 8;
pub const AEGIS_WHY_WAY: aegis_why = 9;
pub type aegis_why = ::std::os::raw::c_uint;
pub const AEGIS_SPARED_BY_NOTHING: aegis_spared = 0;
pub const AEGIS_SPARED_BY_EMERGENCY: aegis_spared = 1;
pub type aegis_spared = ::std::os::raw::c_uint;
#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    zerocopy :: FromBytes,
    zerocopy :: IntoBytes,
    zerocopy :: Immutable,
    zerocopy :: KnownLayout,
)]
pub struct aegis_event {
    pub time: aegis_u64,
    pub generation: aegis_u64,
    pub cgroup: aegis_u64,
    pub inode: aegis_inode_key,
    pub rule: aegis_u32,
    pub scope: aegis_u32,
    pub action: aegis_u32,
    pub access: aegis_u32,
    pub why: aegis_u32,
    pub pid: aegis_u32,
    pub tid: aegis_u32,
    pub uid: aegis_u32,
    pub comm: [aegis_u8; 16usize],
    pub path_size: aegis_u32,
    pub exe_size: aegis_u32,
    pub truncated: aegis_u32,
    pub spared: aegis_u32,
    pub path: [aegis_u8; 1280usize],
    pub exe: [aegis_u8; 512usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of aegis_event"][::std::mem::size_of::<aegis_event>() - 1896usize];
    ["Alignment of aegis_event"][::std::mem::align_of::<aegis_event>() - 8usize];
    ["Offset of field: aegis_event::time"][::std::mem::offset_of!(aegis_event, time) - 0usize];
    ["Offset of field: aegis_event::generation"]
        [::std::mem::offset_of!(aegis_event, generation) - 8usize];
    ["Offset of field: aegis_event::cgroup"][::std::mem::offset_of!(aegis_event, cgroup) - 16usize];
    ["Offset of field: aegis_event::inode"][::std::mem::offset_of!(aegis_event, inode) - 24usize];
    ["Offset of field: aegis_event::rule"][::std::mem::offset_of!(aegis_event, rule) - 40usize];
    ["Offset of field: aegis_event::scope"][::std::mem::offset_of!(aegis_event, scope) - 44usize];
    ["Offset of field: aegis_event::action"][::std::mem::offset_of!(aegis_event, action) - 48usize];
    ["Offset of field: aegis_event::access"][::std::mem::offset_of!(aegis_event, access) - 52usize];
    ["Offset of field: aegis_event::why"][::std::mem::offset_of!(aegis_event, why) - 56usize];
    ["Offset of field: aegis_event::pid"][::std::mem::offset_of!(aegis_event, pid) - 60usize];
    ["Offset of field: aegis_event::tid"][::std::mem::offset_of!(aegis_event, tid) - 64usize];
    ["Offset of field: aegis_event::uid"][::std::mem::offset_of!(aegis_event, uid) - 68usize];
    ["Offset of field: aegis_event::comm"][::std::mem::offset_of!(aegis_event, comm) - 72usize];
    ["Offset of field: aegis_event::path_size"]
        [::std::mem::offset_of!(aegis_event, path_size) - 88usize];
    ["Offset of field: aegis_event::exe_size"]
        [::std::mem::offset_of!(aegis_event, exe_size) - 92usize];
    ["Offset of field: aegis_event::truncated"]
        [::std::mem::offset_of!(aegis_event, truncated) - 96usize];
    ["Offset of field: aegis_event::spared"]
        [::std::mem::offset_of!(aegis_event, spared) - 100usize];
    ["Offset of field: aegis_event::path"][::std::mem::offset_of!(aegis_event, path) - 104usize];
    ["Offset of field: aegis_event::exe"][::std::mem::offset_of!(aegis_event, exe) - 1384usize];
};
