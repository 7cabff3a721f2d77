// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the kernel has noted of a generation since it was filled, in words.
//!
//! A mark makes decisions stricter at once; only to look again makes them precise.

use aegis_kernel::Marks;

/// Why a generation has to be bound anew; `None` if nothing is noted that its rows do not say.
pub(crate) fn told(marks: &Marks) -> Option<String> {
    let noted: Vec<&str> = noted(marks).filter(|(count, _)| *count > 0).map(|(_, it)| it).collect();
    (!noted.is_empty()).then(|| format!("the kernel has noted {}", noted.join(", ")))
}

/// What changes with each mark.
pub(crate) fn sum(marks: &Marks) -> u32 {
    noted(marks).fold(0, |sum, (count, _)| sum.wrapping_add(count))
}

fn noted(marks: &Marks) -> impl Iterator<Item = (u32, &'static str)> {
    [
        (marks.directories, "directories of policies that came to places of policies"),
        (marks.mounts, "mounts that came or went on, beneath or on the way to objects"),
        (marks.links, "symbolic links on the way to objects that were replaced"),
    ]
    .into_iter()
}
