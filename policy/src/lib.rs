// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Text → rules → rows.
//!
//! ```text
//! text ─parse─▶ Policy ─PolicySet─▶ compile ─▶ Ruleset ─resolve(Host)─▶ Places ─lower─▶ Rows
//!                                                 │                        │
//!                                                 └──────── decide ────────┘
//! ```
//!
//! [`parse`] finds every fault of a text in one go. [`compile`] numbers the rules of a set and
//! finds out which workloads a cgroup belongs to. [`resolve()`] asks a [`Host`] what stands at each
//! path; it is the only step that asks anybody anything. [`lower()`] folds the rules into labels and
//! writes the rows that a generation is filled with.
//!
//! [`decide()`] answers the same question as the kernel, straight from the rules: never from labels
//! or rows. Tests hold the two against each other.
//!
//! Nothing here reads a file, knows a clock or talks to a kernel.
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing)]

mod access;
mod cgroups;
mod check;
mod decide;
mod diagnostic;
mod difference;
pub mod filesystems;
mod folding;
pub mod limits;
mod lower;
mod meaning;
#[cfg(feature = "model")]
pub mod model;
mod names;
mod places;
mod policy;
mod resolve;
mod rules;
mod same;
mod set;
mod text;

pub use access::Accesses;
pub use decide::{Decision, Explanation, Question, RuleMatch, decide, explain};
pub use diagnostic::{Diagnostic, Severity, Source};
pub use difference::{PolicyDifference, RuleDifference, RuleParts, difference};
pub use lower::{LowerError, Lowered, lower, lower_with};
pub use meaning::{Meaning, TakenAlong};
pub use names::{CgroupPattern, NamePattern, escape};
pub use places::{ObjectState, Place, Places};
pub use policy::{Object, Policy, Rule, RuleAction, Who, Workload};
pub use resolve::{Component, Found, Host, HostError, Kind, ObjectError, ObjectFault, resolve};
pub use rules::{BuiltIn, CompileError, NumberedRule, NumberedWorkload, Ruleset, compile};
pub use set::{Mode, PolicySet};
pub use text::parse;
