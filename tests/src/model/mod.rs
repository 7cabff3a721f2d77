// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What must be true of any story, and stories made by chance to see whether it is.
//!
//! ```text
//!   rules     what rules say of a path
//!   world     a small filesystem that remembers where things were
//!   judge     what must be denied in it, and what may be
//!   step      a story as text
//!   tell      tells a story to a machine, and holds the machine against the judge; makes a failing one shorter
//!   invent    makes stories
//! ```

pub mod invent;
pub mod judge;
pub mod random;
pub mod rules;
pub mod step;
pub mod tell;
pub mod world;
