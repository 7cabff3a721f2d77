// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the agent may still do once it runs: the capabilities that it needs, each with its reason, and no
//! way to more, neither for itself nor for what it starts.

use anyhow::Context as _;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

/// A capability that is kept.
pub(crate) struct Kept {
    capability: CapabilitySet,
    pub(crate) name: &'static str,
    /// What fails without it.
    pub(crate) reason: &'static str,
    /// Whether it is kept only by an agent that takes everything out when it ends.
    to_detach: bool,
}

/// All of them.
pub(crate) const KEPT: [Kept; 3] = [
    Kept {
        capability: CapabilitySet::SYS_ADMIN,
        name: "CAP_SYS_ADMIN",
        reason: "the maps of a generation are opened by their number, and each proof loads the program \
                 that asks for inodes; the kernel asks for nothing less for the former, and it counts as \
                 CAP_BPF and CAP_PERFMON for the latter",
        to_detach: false,
    },
    Kept {
        capability: CapabilitySet::DAC_READ_SEARCH,
        name: "CAP_DAC_READ_SEARCH",
        reason: "objects are looked for in directories that others keep to themselves, and files that took rules \
                 along without any name",
        to_detach: false,
    },
    Kept {
        capability: CapabilitySet::DAC_OVERRIDE,
        name: "CAP_DAC_OVERRIDE",
        reason: "with `--detach-on-exit` alone: our cgroups are removed from the root of the hierarchy, which \
                 nobody may write to",
        to_detach: true,
    },
];

/// Drops everything else, for good, from this thread and those that it starts.
///
/// # Errors
/// If the kernel refuses a part; what was dropped before stays so.
pub(crate) fn confine(detaches: bool) -> anyhow::Result<()> {
    let kept = all_kept(detaches).fold(CapabilitySet::empty(), |kept, next| kept | next.capability);
    // The bounding set first: taking from it needs a capability that goes.
    for capability in all() {
        if !kept.contains(capability) {
            remove_capability_from_bounding_set(capability)
                .context("failed to take a capability from the bounding set")?;
        }
    }
    let has = capabilities(None).context("failed to ask for the capabilities")?;
    let sets = CapabilitySets {
        effective: has.effective & kept,
        permitted: has.permitted & kept,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).context("failed to drop capabilities")?;
    set_no_new_privs(true).context("failed to give up new privileges")
}

/// Those that an agent keeps.
pub(crate) fn all_kept(detaches: bool) -> impl Iterator<Item = &'static Kept> {
    KEPT.iter().filter(move |kept| detaches || !kept.to_detach)
}

/// Every capability that this kernel knows.
fn all() -> impl Iterator<Item = CapabilitySet> {
    let known = (0..u64::BITS).map(|bit| CapabilitySet::from_bits_retain(1 << bit));
    known
        .take_while(|capability| capability_is_in_bounding_set(*capability).is_ok())
        .filter(|capability| capability_is_in_bounding_set(*capability).unwrap_or(false))
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_the_table() {
        let mut lines = vec!["| capability | why it is kept |".to_owned(), "|---|---|".to_owned()];
        lines.extend(KEPT.iter().map(|kept| format!("| `{}` | {} |", kept.name, kept.reason)));
        crate::documented::holds("operations.md", "capabilities", &lines.join("\n"));
    }
}
