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

/// What changes with whatever is a reason to look again: each of these, and the first that was lost, which nothing mends.
pub(crate) fn sum(marks: &Marks) -> u32 {
    noted(marks).fold(u32::from(marks.lost > 0), |sum, (count, _)| sum.wrapping_add(count))
}

fn noted(marks: &Marks) -> impl Iterator<Item = (u32, &'static str)> {
    [
        (marks.directories, "directories of policies that came to places of policies"),
        (marks.mounts, "mounts that came or went on, beneath or on the way to objects"),
        (marks.links, "symbolic links on the way to objects that were replaced"),
    ]
    .into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Binding anew finds nothing of what was lost: a repair would be tried again for ever.
    #[test]
    fn what_was_lost_is_noticed_and_is_nothing_to_repair() {
        let none = Marks {
            epoch: 0,
            late: 0,
            lost: 0,
            directories: 0,
            mounts: 0,
            links: 0,
            strays: 0,
            reserved: 0,
        };
        let lost = Marks { lost: 1, ..none };
        assert_ne!(sum(&lost), sum(&none));
        assert_eq!(told(&lost), None);
        let links = Marks { links: 1, ..none };
        assert_ne!(sum(&links), sum(&none));
        assert!(told(&links).is_some());
    }
}
