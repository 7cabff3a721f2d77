// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What this node really does: a pure function of what was seen.
//!
//! [`Reason::meaning`] is the one table of reason codes, [`blockers`] the one list of what keeps a host
//! from enforcing. Nothing here looks at anything.

use aegis_kernel::probe::{Facts, LsmProgram};
use aegis_policy::{Mode, Policy, RuleAction};
use serde::Serialize;

/// What a node does, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum RuntimeState {
    /// Every policy in mode enforce is enforced, as a proof showed.
    Enforce,
    /// All policies only report, and they do.
    Audit,
    /// Something is attached, and it is not sure that it does what policies say.
    Degraded,
    /// Nothing decides.
    NotLoaded,
}

impl RuntimeState {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Enforce => "ENFORCE",
            Self::Audit => "AUDIT",
            Self::Degraded => "DEGRADED",
            Self::NotLoaded => "NOT_LOADED",
        }
    }
}

/// Why a node is in its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Proven,
    AllAudit,
    NotAttached,
    NoGeneration,
    NoPolicy,
    NotRoot,
    HostBlocks,
    PinsUnreadable,
    HookMissing,
    SetMissing,
    ProofFailed,
    DeniedByOther,
    ProofMissing,
    ObjectsMoved,
}

/// What follows from a reason: one line of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meaning {
    /// Stable, for programs.
    pub(crate) code: &'static str,
    pub(crate) state: RuntimeState,
    /// Whether the kernel denies now, as far as is known.
    pub(crate) denies: bool,
    /// What `health` exits with.
    pub(crate) health: u8,
    /// For a person.
    pub(crate) reason: &'static str,
    /// What to do; empty if nothing is to be done.
    pub(crate) fix: &'static str,
}

impl Reason {
    /// The table.
    pub(crate) fn meaning(self) -> Meaning {
        use RuntimeState::{Audit, Degraded, Enforce, NotLoaded};
        let line = |code, state, denies, health, reason, fix| Meaning {
            code,
            state,
            denies,
            health,
            reason,
            fix,
        };
        match self {
            Self::Proven => line(
                "PROVEN",
                Enforce,
                true,
                0,
                "what policies deny is denied: denials by inode, by name and by directory were \
                 provoked and came",
                "",
            ),
            Self::AllAudit => line(
                "ALL_AUDIT",
                Audit,
                false,
                0,
                "no policy in mode enforce has a deny rule: they report and deny nothing",
                "to deny, apply policies that have deny rules with `--mode enforce`",
            ),
            Self::NotAttached => line(
                "NOT_ATTACHED",
                NotLoaded,
                false,
                1,
                "no program of AegisBPF is in this kernel",
                "apply a policy: `aegisbpf apply BUNDLE`",
            ),
            Self::NoGeneration => line(
                "NO_GENERATION",
                NotLoaded,
                false,
                1,
                "the programs are attached and no set of policies was ever switched on",
                "apply a policy: `aegisbpf apply BUNDLE`",
            ),
            Self::NoPolicy => line(
                "NO_POLICY",
                NotLoaded,
                false,
                1,
                "the programs are attached and there is no policy",
                "apply a policy, or take the programs out: `aegisbpf detach --reason …`",
            ),
            Self::NotRoot => line(
                "NOT_ROOT",
                Degraded,
                false,
                2,
                "only root can see what is in the kernel",
                "run this as root",
            ),
            Self::HostBlocks => line(
                "HOST_BLOCKS",
                Degraded,
                false,
                1,
                "something is attached, and this host keeps it from enforcing",
                "see the blockers",
            ),
            Self::PinsUnreadable => line(
                "PINS_UNREADABLE",
                Degraded,
                false,
                2,
                "there are pins that this binary cannot read",
                "use the aegisbpf that made them, or `aegisbpf detach --reason …` and apply again",
            ),
            Self::HookMissing => line(
                "HOOK_MISSING",
                Degraded,
                false,
                1,
                "a hook that decides is not attached any more",
                "`aegisbpf detach --reason …`, then apply again",
            ),
            Self::SetMissing => line(
                "SET_MISSING",
                Degraded,
                true,
                1,
                "the kernel enforces a set of policies whose texts are gone from the state directory",
                "put the state directory back, or `aegisbpf detach --reason …` and apply again",
            ),
            Self::ProofFailed => line(
                "PROOF_FAILED",
                Degraded,
                false,
                1,
                "a denial was provoked and did not come",
                "apply the policies again; if it stays so, report it with the output of `status`",
            ),
            Self::DeniedByOther => line(
                "DENIED_BY_OTHER",
                Degraded,
                false,
                1,
                "a denial was provoked, and something else on this host denied first",
                "find what denies root its own files in the run-time directory: another LSM, a mount",
            ),
            Self::ProofMissing => line(
                "PROOF_MISSING",
                Degraded,
                true,
                2,
                "no proof could be made now, and the last is older than five minutes",
                "see why it could not run, below `proof`",
            ),
            Self::ObjectsMoved => line(
                "OBJECTS_MOVED",
                Degraded,
                true,
                1,
                "a link or a mount on the way to an object leads elsewhere than when it was bound",
                "`aegisbpf apply` again: the same policies are then bound to what is there now",
            ),
        }
    }

    /// All of them, for the tests and the documents.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 14] = [
        Self::Proven,
        Self::AllAudit,
        Self::NotAttached,
        Self::NoGeneration,
        Self::NoPolicy,
        Self::NotRoot,
        Self::HostBlocks,
        Self::PinsUnreadable,
        Self::HookMissing,
        Self::SetMissing,
        Self::ProofFailed,
        Self::DeniedByOther,
        Self::ProofMissing,
        Self::ObjectsMoved,
    ];
}

/// What was seen of this node, boiled down to what decides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) root: bool,
    /// Whether the host cannot enforce.
    pub(crate) blocked: bool,
    pub(crate) attached: Attached,
}

/// What is in the kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Attached {
    Nothing,
    Unreadable,
    Programs { hooks: bool, active: Active },
}

/// What decides.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Active {
    Nothing,
    /// A set whose texts are not there.
    Unknown,
    Set {
        policies: usize,
        /// Those in mode enforce that have a rule which denies.
        enforcing: usize,
        /// Whether objects are elsewhere than they were bound.
        moved: bool,
        proof: Standing,
    },
}

/// What is known of the active generation's proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Made now, or at most five minutes ago if none could be made now.
    Passed,
    Failed,
    DeniedByOther,
    Missing,
}

/// The posture.
pub(crate) const fn posture(seen: &Seen) -> Reason {
    if !seen.root {
        return Reason::NotRoot;
    }
    let (hooks, active) = match seen.attached {
        Attached::Nothing => return Reason::NotAttached,
        Attached::Unreadable => return Reason::PinsUnreadable,
        Attached::Programs { hooks, active } => (hooks, active),
    };
    if seen.blocked {
        return Reason::HostBlocks;
    }
    if !hooks {
        return Reason::HookMissing;
    }
    match active {
        Active::Nothing => Reason::NoGeneration,
        Active::Unknown => Reason::SetMissing,
        Active::Set { policies: 0, .. } => Reason::NoPolicy,
        Active::Set { proof: Standing::Failed, .. } => Reason::ProofFailed,
        Active::Set { proof: Standing::DeniedByOther, .. } => Reason::DeniedByOther,
        Active::Set { proof: Standing::Missing, .. } => Reason::ProofMissing,
        Active::Set { moved: true, .. } => Reason::ObjectsMoved,
        Active::Set { enforcing: 0, .. } => Reason::AllAudit,
        Active::Set { .. } => Reason::Proven,
    }
}

/// Whether a policy denies anything.
pub(crate) fn enforces(policy: &Policy, mode: Mode) -> bool {
    mode == Mode::Enforce && policy.rules.iter().any(|rule| rule.action == RuleAction::Deny)
}

/// One thing that keeps a host from enforcing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Blocker {
    /// Stable, for programs.
    pub(crate) code: &'static str,
    /// What was found.
    pub(crate) found: String,
    /// What to do on this host.
    pub(crate) fix: String,
}

/// Everything that keeps this host from enforcing; nothing if it can.
pub(crate) fn blockers(facts: &Facts, bpffs: &str) -> Vec<Blocker> {
    let mut blockers = Vec::new();
    let mut add = |code, found: &str, fix: String| {
        blockers.push(Blocker { code, found: found.to_owned(), fix });
    };
    if !facts.root {
        add(
            "NOT_ROOT",
            "this is not root, so the rest could not be tried",
            "run this as root".to_owned(),
        );
    }
    if !facts.foreign_namespaces.is_empty() {
        add(
            "NOT_HOST_NAMESPACE",
            &format!(
                "this runs in a namespace of its own: {}",
                facts.foreign_namespaces.join(", ")
            ),
            "run this on the host itself, or give the container the host's mount, pid and cgroup \
             namespaces"
                .to_owned(),
        );
    }
    if !facts.btf {
        add(
            "NO_BTF",
            "the kernel does not describe its types: no /sys/kernel/btf/vmlinux",
            "mount sysfs at /sys, or boot a kernel with CONFIG_DEBUG_INFO_BTF=y".to_owned(),
        );
    }
    let missing_lsm = facts.lsm.as_ref().filter(|list| !list.iter().any(|lsm| lsm == "bpf"));
    if let Some(list) = missing_lsm {
        add(
            "BPF_NOT_IN_LSM",
            &format!("bpf is not among the active LSMs: {}", list.join(",")),
            format!("add `{}` to the kernel's command line and boot again", with_bpf(list)),
        );
    }
    match &facts.lsm_program {
        LsmProgram::Called => {}
        LsmProgram::NotCalled => {
            let fix = facts.lsm.as_ref().map_or_else(
                || "add bpf to `lsm=` on the kernel's command line and boot again".to_owned(),
                |list| format!("boot with `{}` on the kernel's command line", with_bpf(list)),
            );
            add(
                "LSM_PROGRAM_NOT_CALLED",
                "the kernel attaches LSM programs and never calls them",
                fix,
            );
        }
        // Without root, or types, it has to fail, which says nothing about the host.
        LsmProgram::Refused(_) if !facts.root || !facts.btf => {}
        LsmProgram::Refused(error) if error.is_permission() => {
            let found = match &facts.lsm {
                Some(list) if missing_lsm.is_none() => format!(
                    "the kernel lists bpf among its LSMs ({}) and refuses an LSM program (EPERM)",
                    list.join(",")
                ),
                _ => "the kernel refuses an LSM program (EPERM)".to_owned(),
            };
            add(
                "LSM_PROGRAM_REFUSED",
                &found,
                "a sandbox, a container without CAP_BPF and CAP_SYS_ADMIN, or lockdown forbids it: \
                 run on the host itself, and see /sys/kernel/security/lockdown"
                    .to_owned(),
            );
        }
        LsmProgram::Refused(error) => add(
            "LSM_PROGRAM_REFUSED",
            &format!("the kernel refuses an LSM program: {}", chain(error)),
            "boot a kernel from 5.10 on with CONFIG_BPF_LSM=y and CONFIG_BPF_JIT=y".to_owned(),
        ),
    }
    if !facts.bpffs {
        add(
            "NO_BPFFS",
            &format!("there is no bpffs at {bpffs}"),
            format!("mount -t bpf bpf {bpffs}"),
        );
    }
    if facts.cgroup2.is_none() {
        add(
            "NO_CGROUP2",
            "no cgroup2 hierarchy is mounted",
            "mount -t cgroup2 cgroup2 /sys/fs/cgroup".to_owned(),
        );
    }
    blockers
}

/// The kernel parameter that adds bpf to what is active; `capability` is always there, unnamed.
fn with_bpf(list: &[String]) -> String {
    let named =
        list.iter().map(String::as_str).filter(|lsm| !matches!(*lsm, "capability" | "bpf" | ""));
    let named: Vec<&str> = named.chain(["bpf"]).collect();
    format!("lsm={}", named.join(","))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::PathBuf};

    use aegis_kernel::Error;
    use aegis_policy::Source;

    use super::*;

    const GOOD: Active = set(2, 1, false);

    const fn set(policies: usize, enforcing: usize, moved: bool) -> Active {
        Active::Set { policies, enforcing, moved, proof: Standing::Passed }
    }

    fn programs(active: Active) -> Seen {
        Seen { root: true, blocked: false, attached: Attached::Programs { hooks: true, active } }
    }

    fn proof(proof: Standing) -> Seen {
        programs(Active::Set { policies: 1, enforcing: 1, moved: false, proof })
    }

    /// One sight for each reason.
    fn sights() -> Vec<(Seen, Reason)> {
        let nothing = Seen { root: true, blocked: true, attached: Attached::Nothing };
        vec![
            (programs(GOOD), Reason::Proven),
            (programs(set(1, 0, false)), Reason::AllAudit),
            (programs(set(1, 0, true)), Reason::ObjectsMoved),
            (programs(set(1, 1, true)), Reason::ObjectsMoved),
            (nothing, Reason::NotAttached),
            (programs(Active::Nothing), Reason::NoGeneration),
            (programs(set(0, 0, false)), Reason::NoPolicy),
            (Seen { root: false, ..programs(GOOD) }, Reason::NotRoot),
            (Seen { blocked: true, ..programs(GOOD) }, Reason::HostBlocks),
            (Seen { attached: Attached::Unreadable, ..programs(GOOD) }, Reason::PinsUnreadable),
            (
                Seen {
                    attached: Attached::Programs { hooks: false, active: GOOD },
                    ..programs(GOOD)
                },
                Reason::HookMissing,
            ),
            (programs(Active::Unknown), Reason::SetMissing),
            (proof(Standing::Failed), Reason::ProofFailed),
            (proof(Standing::DeniedByOther), Reason::DeniedByOther),
            (proof(Standing::Missing), Reason::ProofMissing),
        ]
    }

    #[test]
    fn every_reason_follows_from_its_sight() {
        let sights = sights();
        for (seen, reason) in &sights {
            assert_eq!(posture(seen), *reason, "{seen:?}");
        }
        for reason in Reason::ALL {
            assert!(sights.iter().any(|(_, seen)| *seen == reason), "{reason:?} is not reached");
        }
    }

    #[test]
    fn enforce_takes_everything_that_it_needs() {
        for (seen, reason) in sights() {
            let enforces = reason.meaning().state == RuntimeState::Enforce;
            assert_eq!(enforces, reason == Reason::Proven, "{seen:?}");
        }
    }

    #[test]
    fn the_table_has_one_line_a_code_and_a_fix_for_each_fault() {
        let codes: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.meaning().code).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            let meaning = reason.meaning();
            assert!(meaning.health == 0 || !meaning.fix.is_empty(), "{}", meaning.code);
            let healthy = matches!(meaning.state, RuntimeState::Enforce | RuntimeState::Audit);
            assert_eq!(meaning.health == 0, healthy, "{}", meaning.code);
        }
    }

    #[test]
    fn only_a_deny_rule_in_mode_enforce_enforces() {
        let policy = |action: &str| {
            let text = format!(
                "schema = 1\nname = \"p\"\nversion = 1\n[workloads.w]\ncgroups = [\"/w\"]\n\
                 [[rules]]\nid = \"r\"\nworkloads = [\"w\"]\naction = \"{action}\"\n\
                 objects = [\"/x\"]\nreason = \"a test\"\n"
            );
            aegis_policy::parse(Source { name: "p", text: &text }).0.unwrap()
        };
        assert!(enforces(&policy("deny"), Mode::Enforce));
        assert!(!enforces(&policy("deny"), Mode::Audit));
        assert!(!enforces(&policy("audit"), Mode::Enforce));
    }

    fn facts() -> Facts {
        Facts {
            kernel: "6.12".to_owned(),
            root: true,
            lsm: Some(vec!["capability".to_owned(), "yama".to_owned(), "bpf".to_owned()]),
            btf: true,
            bpffs: true,
            cgroup2: Some(PathBuf::from("/sys/fs/cgroup")),
            foreign_namespaces: Vec::new(),
            lsm_program: LsmProgram::Called,
        }
    }

    fn codes(facts: &Facts) -> Vec<&'static str> {
        blockers(facts, "/sys/fs/bpf").iter().map(|blocker| blocker.code).collect()
    }

    #[test]
    fn a_host_that_can_has_no_blockers() {
        assert!(codes(&facts()).is_empty());
    }

    #[test]
    fn each_missing_fact_is_its_own_blocker() {
        assert_eq!(codes(&Facts { btf: false, ..facts() }), ["NO_BTF"]);
        assert_eq!(codes(&Facts { bpffs: false, ..facts() }), ["NO_BPFFS"]);
        assert_eq!(codes(&Facts { cgroup2: None, ..facts() }), ["NO_CGROUP2"]);
        assert_eq!(codes(&Facts { root: false, ..facts() }), ["NOT_ROOT"]);
        assert_eq!(
            codes(&Facts { foreign_namespaces: vec!["mnt"], ..facts() }),
            ["NOT_HOST_NAMESPACE"]
        );
        let not_called = Facts { lsm_program: LsmProgram::NotCalled, ..facts() };
        assert_eq!(codes(&not_called), ["LSM_PROGRAM_NOT_CALLED"]);
        let refused =
            LsmProgram::Refused(Error::System { attempt: "try", source: rustix::io::Errno::PERM });
        assert_eq!(codes(&Facts { lsm_program: refused, ..facts() }), ["LSM_PROGRAM_REFUSED"]);
    }

    #[test]
    fn a_fix_for_the_command_line_keeps_the_lsms_of_the_host() {
        let lsm = ["lockdown", "capability", "landlock", "yama", "apparmor"];
        let lsm = Some(lsm.map(str::to_owned).to_vec());
        let facts = Facts { lsm, lsm_program: LsmProgram::NotCalled, ..facts() };
        assert_eq!(codes(&facts), ["BPF_NOT_IN_LSM", "LSM_PROGRAM_NOT_CALLED"]);
        for blocker in blockers(&facts, "/sys/fs/bpf") {
            assert!(blocker.fix.contains("lsm=lockdown,landlock,yama,apparmor,bpf"), "{blocker:?}");
        }
    }

    #[test]
    fn the_fix_for_a_missing_bpffs_names_its_place() {
        let found = blockers(&Facts { bpffs: false, ..facts() }, "/elsewhere");
        assert_eq!(found[0].fix, "mount -t bpf bpf /elsewhere");
    }
}
