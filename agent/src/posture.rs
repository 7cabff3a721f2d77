// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What this node really does: a pure function of what was seen.
//!
//! [`Reason::meaning`] is the one table of reason codes. Nothing here looks at anything.

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
    /// Enforcement was asked for, this host cannot, and the gate mode lets it go on without.
    AuditFallback,
    /// Somebody threw the emergency switch: what policies deny is let through, and reported.
    EmergencyDisabled,
    /// Something is attached, and it is not sure that it does what policies say.
    Degraded,
    /// Nothing decides.
    NotLoaded,
}

impl RuntimeState {
    /// All of them.
    pub(crate) const ALL: [Self; 6] = [
        Self::Enforce,
        Self::Audit,
        Self::AuditFallback,
        Self::EmergencyDisabled,
        Self::Degraded,
        Self::NotLoaded,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Enforce => "ENFORCE",
            Self::Audit => "AUDIT",
            Self::AuditFallback => "AUDIT_FALLBACK",
            Self::EmergencyDisabled => "EMERGENCY_DISABLED",
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
    GateFallback,
    EmergencyDisabled,
    NotRoot,
    HostBlocks,
    RequirementLost,
    PinsUnreadable,
    HookMissing,
    PinsChanged,
    OtherInstance,
    SetMissing,
    ProofFailed,
    DeniedByOther,
    ProofMissing,
    RowsLost,
    ObjectsMoved,
    Unbound,
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
        use RuntimeState::{Audit, AuditFallback, Degraded, Enforce, NotLoaded};
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
            Self::GateFallback => line(
                "GATE_FALLBACK",
                AuditFallback,
                false,
                0,
                "enforcement was asked for, this host cannot, and the gate mode is audit-fallback: \
                 NOTHING is denied",
                "mend what `aegisbpf capabilities` says, then apply again",
            ),
            Self::EmergencyDisabled => line(
                "EMERGENCY_DISABLED",
                RuntimeState::EmergencyDisabled,
                false,
                1,
                "somebody threw the emergency switch: what rules deny is let through and reported, \
                 until the kernel ends it by itself",
                "to deny again now: `aegisbpf emergency enable --reason …`",
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
            Self::RequirementLost => line(
                "REQUIREMENT_LOST",
                Degraded,
                true,
                1,
                "what is in force denies, as the last proof showed; but this host lacks something that \
                 putting policies in force needs",
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
            Self::PinsChanged => line(
                "PINS_CHANGED",
                Degraded,
                false,
                1,
                "a link, a program or a map is not the one that was put there",
                "find who did it; then `aegisbpf detach --reason …`, and apply again",
            ),
            Self::OtherInstance => line(
                "OTHER_INSTANCE",
                Degraded,
                true,
                1,
                "another instance of AegisBPF has put in force what is pinned here",
                "ask that instance, by its configuration or --root; keep two apart with `directories.bpffs`",
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
                "there is no proof of what is in force that is less than five minutes old",
                "keep the agent running, or make one with `aegisbpf prove`; see why the last could not run, \
                 below `proof`",
            ),
            Self::RowsLost => line(
                "ROWS_LOST",
                Degraded,
                true,
                1,
                "files have left denied places when there was no room to note it: where they are now, they may \
                 not be denied",
                "stop whoever moves so many, see the warnings; move back or delete what has left, then \
                 `aegisbpf apply` the same policies with --forget-lost --reason",
            ),
            Self::ObjectsMoved => line(
                "OBJECTS_MOVED",
                Degraded,
                true,
                1,
                "a link, a mount or a directory on the way to an object has moved since it was bound",
                "the agent (`aegisbpf run`) binds the same policies to what is there now; without one \
                 `aegisbpf apply` them again",
            ),
            Self::Unbound => line(
                "UNBOUND",
                Degraded,
                true,
                1,
                "the kernel does not have everything that the policies name under the label or in the \
                 scope that it should",
                "see `unbound`; `aegisbpf apply` again binds what is there now",
            ),
        }
    }

    /// All of them, for the tests and the documents.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 21] = [
        Self::Proven,
        Self::AllAudit,
        Self::NotAttached,
        Self::NoGeneration,
        Self::NoPolicy,
        Self::GateFallback,
        Self::EmergencyDisabled,
        Self::NotRoot,
        Self::HostBlocks,
        Self::RequirementLost,
        Self::PinsUnreadable,
        Self::HookMissing,
        Self::PinsChanged,
        Self::OtherInstance,
        Self::SetMissing,
        Self::ProofFailed,
        Self::DeniedByOther,
        Self::ProofMissing,
        Self::RowsLost,
        Self::ObjectsMoved,
        Self::Unbound,
    ];
}

/// What was seen of this node, boiled down to what decides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) root: bool,
    /// Whether the host cannot enforce.
    pub(crate) blocked: bool,
    /// Whether enforcement was asked for and the gate let it go on without.
    pub(crate) fallback: bool,
    pub(crate) attached: Attached,
}

/// What is in the kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Attached {
    Nothing,
    Unreadable,
    Programs {
        hooks: bool,
        /// Whether links and maps are those that were pinned.
        intact: bool,
        /// Whether what is denied is let through.
        emergency: bool,
        active: Active,
    },
}

/// What decides.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Active {
    Nothing,
    /// A set that another instance has put in force.
    OfAnother,
    /// A set whose texts are not there.
    Unknown,
    Set {
        policies: usize,
        /// Those in mode enforce that have a rule which denies.
        enforcing: usize,
        /// Whether things have left their places when there was no room to note it.
        lost: bool,
        /// Whether objects are elsewhere than they were bound.
        moved: bool,
        /// Whether the kernel lacks a label or a scope that it should have.
        unbound: bool,
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
    let (hooks, intact, emergency, active) = match seen.attached {
        Attached::Nothing if seen.fallback => return Reason::GateFallback,
        Attached::Nothing => return Reason::NotAttached,
        Attached::Unreadable => return Reason::PinsUnreadable,
        Attached::Programs { hooks, intact, emergency, active } => {
            (hooks, intact, emergency, active)
        }
    };
    if !hooks {
        return Reason::HookMissing;
    }
    if !intact {
        return Reason::PinsChanged;
    }
    if seen.blocked {
        let proven = matches!(
            active,
            Active::Set { proof: Standing::Passed, enforcing, .. } if enforcing > 0
        );
        return match (proven, emergency) {
            (false, _) => Reason::HostBlocks,
            (true, true) => Reason::EmergencyDisabled,
            (true, false) => Reason::RequirementLost,
        };
    }
    match active {
        Active::Nothing => Reason::NoGeneration,
        Active::Set { policies: 0, .. } => Reason::NoPolicy,
        Active::Set { proof: Standing::Failed, .. } => Reason::ProofFailed,
        Active::Set { proof: Standing::DeniedByOther, .. } => Reason::DeniedByOther,
        // Whatever else follows would say that something is denied.
        _ if emergency => Reason::EmergencyDisabled,
        Active::OfAnother => Reason::OtherInstance,
        Active::Unknown => Reason::SetMissing,
        Active::Set { proof: Standing::Missing, .. } => Reason::ProofMissing,
        Active::Set { lost: true, .. } => Reason::RowsLost,
        Active::Set { moved: true, .. } => Reason::ObjectsMoved,
        Active::Set { unbound: true, .. } => Reason::Unbound,
        Active::Set { enforcing: 0, .. } => Reason::AllAudit,
        Active::Set { .. } => Reason::Proven,
    }
}

/// Whether a policy denies anything.
pub(crate) fn enforces(policy: &Policy, mode: Mode) -> bool {
    mode == Mode::Enforce && policy.rules.iter().any(|rule| rule.action == RuleAction::Deny)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use aegis_policy::Source;

    use super::*;

    const GOOD: Active = set(2, 1, false);

    const fn set(policies: usize, enforcing: usize, moved: bool) -> Active {
        Active::Set {
            policies,
            enforcing,
            lost: false,
            moved,
            unbound: false,
            proof: Standing::Passed,
        }
    }

    fn programs(active: Active) -> Seen {
        let attached = Attached::Programs { hooks: true, intact: true, emergency: false, active };
        Seen { root: true, blocked: false, fallback: false, attached }
    }

    fn spared(seen: Seen) -> Seen {
        let Attached::Programs { hooks, intact, active, .. } = seen.attached else { return seen };
        Seen { attached: Attached::Programs { hooks, intact, emergency: true, active }, ..seen }
    }

    fn proof(proof: Standing) -> Seen {
        programs(Active::Set {
            policies: 1,
            enforcing: 1,
            lost: false,
            moved: false,
            unbound: false,
            proof,
        })
    }

    /// One sight for each reason.
    fn sights() -> Vec<(Seen, Reason)> {
        let nothing =
            Seen { root: true, blocked: true, fallback: false, attached: Attached::Nothing };
        let unbound = Active::Set {
            policies: 1,
            enforcing: 1,
            lost: false,
            moved: false,
            unbound: true,
            proof: Standing::Passed,
        };
        let lost = Active::Set {
            policies: 1,
            enforcing: 1,
            lost: true,
            moved: true,
            unbound: true,
            proof: Standing::Passed,
        };
        vec![
            (programs(lost), Reason::RowsLost),
            (programs(GOOD), Reason::Proven),
            (programs(set(1, 0, false)), Reason::AllAudit),
            (programs(set(1, 0, true)), Reason::ObjectsMoved),
            (programs(set(1, 1, true)), Reason::ObjectsMoved),
            (nothing, Reason::NotAttached),
            (programs(Active::Nothing), Reason::NoGeneration),
            (programs(set(0, 0, false)), Reason::NoPolicy),
            (Seen { root: false, ..programs(GOOD) }, Reason::NotRoot),
            (Seen { fallback: true, ..nothing }, Reason::GateFallback),
            (Seen { fallback: true, ..programs(GOOD) }, Reason::Proven),
            (Seen { blocked: true, ..programs(GOOD) }, Reason::RequirementLost),
            (Seen { blocked: true, ..proof(Standing::Missing) }, Reason::HostBlocks),
            (Seen { blocked: true, ..proof(Standing::Failed) }, Reason::HostBlocks),
            (programs(unbound), Reason::Unbound),
            (spared(programs(unbound)), Reason::EmergencyDisabled),
            (spared(programs(GOOD)), Reason::EmergencyDisabled),
            (spared(programs(set(1, 0, true))), Reason::EmergencyDisabled),
            (spared(programs(Active::Unknown)), Reason::EmergencyDisabled),
            (spared(proof(Standing::Missing)), Reason::EmergencyDisabled),
            (spared(proof(Standing::Failed)), Reason::ProofFailed),
            (spared(Seen { blocked: true, ..programs(GOOD) }), Reason::EmergencyDisabled),
            (spared(Seen { blocked: true, ..proof(Standing::Missing) }), Reason::HostBlocks),
            (spared(programs(set(0, 0, false))), Reason::NoPolicy),
            (
                Seen {
                    attached: Attached::Programs {
                        hooks: true,
                        intact: false,
                        emergency: true,
                        active: GOOD,
                    },
                    ..programs(GOOD)
                },
                Reason::PinsChanged,
            ),
            (Seen { attached: Attached::Unreadable, ..programs(GOOD) }, Reason::PinsUnreadable),
            (
                Seen {
                    attached: Attached::Programs {
                        hooks: false,
                        intact: false,
                        emergency: true,
                        active: GOOD,
                    },
                    ..programs(GOOD)
                },
                Reason::HookMissing,
            ),
            (programs(Active::OfAnother), Reason::OtherInstance),
            (spared(programs(Active::OfAnother)), Reason::EmergencyDisabled),
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
    fn in_an_emergency_nothing_is_said_to_deny() {
        for (seen, _) in sights().into_iter().filter(|(seen, _)| seen.root) {
            let reason = posture(&spared(seen));
            assert!(!reason.meaning().denies, "{seen:?}: {reason:?}");
        }
    }

    #[test]
    fn the_documentation_has_the_table() {
        let mut lines = vec![
            "| reason code | state | kernel denies | `health` | what it means | what to do |"
                .to_owned(),
            "|---|---|---|---|---|---|".to_owned(),
        ];
        for reason in Reason::ALL {
            let Meaning { code, state, denies, health, reason, fix } = reason.meaning();
            let denies = if denies { "yes" } else { "no" };
            let state = state.name();
            lines
                .push(format!("| `{code}` | `{state}` | {denies} | {health} | {reason} | {fix} |"));
        }
        crate::documented::holds("operations.md", "reasons", &lines.join("\n"));
    }

    #[test]
    fn the_table_has_one_line_a_code_and_a_fix_for_each_fault() {
        let codes: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.meaning().code).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            let meaning = reason.meaning();
            assert!(meaning.health == 0 || !meaning.fix.is_empty(), "{}", meaning.code);
            let healthy = matches!(
                meaning.state,
                RuntimeState::Enforce | RuntimeState::Audit | RuntimeState::AuditFallback
            );
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
}
