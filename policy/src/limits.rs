// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How much a policy and a set may hold: the one table, printed in `docs/policy.md`.
//!
//! What is beyond a limit is refused with the limit's name and number, never cut off.

use aegis_abi::generated;

/// Bytes of one policy text.
pub const TEXT_BYTES: usize = 64 << 20;
/// Bytes of the name of a policy, a workload or a rule.
pub const NAME_BYTES: usize = 63;
/// Bytes of a reason.
pub const REASON_BYTES: usize = 512;
/// Bytes of a path (`PATH_MAX`, its NUL left out).
pub const PATH_BYTES: usize = 4095;
/// Bytes of one name in a path (`NAME_MAX`).
pub const COMPONENT_BYTES: usize = generated::AEGIS_NAME_MAX as usize;
/// Names in the path of a cgroup.
pub const CGROUP_DEPTH: usize = generated::AEGIS_CGROUP_DEPTH_MAX as usize;
/// Directories above an object: what the kernel's walk can climb.
pub const PATH_DEPTH: usize = generated::AEGIS_WALK_MAX as usize;

/// Policies in a set.
pub const POLICIES: usize = 1_000;
/// Workloads in a set.
pub const WORKLOADS: usize = 4_000;
/// Rules in a set.
pub const RULES: usize = 10_000;
/// Objects and excepts in a set.
pub const OBJECTS: usize = 1_000_000;
/// Labels in a generation: distinct sets of rules that hold on some object.
pub const LABELS: usize = generated::AEGIS_LABELS_MAX as usize - 1;
/// Scopes in a generation: distinct sets of workloads that hold for some cgroup.
pub const SCOPES: usize = generated::AEGIS_SCOPES_MAX as usize - 1;
/// Rows of the tree of cgroup names.
pub const CGROUP_ROWS: usize = 65_536;
/// Answers in a generation: (scopes + 1) × (labels + 1).
pub const VERDICTS: usize = 8 << 20;
/// Symbolic links on the way to one object, as in the kernel.
pub const LINKS: usize = 40;
/// Files with several links beneath directory objects: each has a row, since its other names may be
/// elsewhere.
pub const LINKED: usize = 65_536;
/// Faults that one text is told about before the rest is only counted.
pub const DIAGNOSTICS: usize = 100;
