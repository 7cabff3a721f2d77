// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What enforcing needs, and whether this host has it: a pure function of facts.
//!
//! [`requirements`] is the one list. Each line has a stable code for the blocker that it is when it is
//! not met, what was found, and what to do about it on this distribution.

use aegis_kernel::probe::{CgroupMode, Facts, LsmProgram};
use serde::Serialize;

use crate::distribution::Distribution;

/// One thing that enforcing needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Requirement {
    /// What is needed, stable, for programs.
    pub(crate) requirement: &'static str,
    /// The code of the blocker, stable, for programs.
    pub(crate) code: &'static str,
    /// Whether it is there; `None` if that could not be told.
    pub(crate) met: Option<bool>,
    /// What was found.
    pub(crate) found: String,
    /// What to do on this host; empty if it is met.
    pub(crate) fix: String,
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

/// Everything that enforcing needs, in the order in which it is best mended.
pub(crate) fn requirements(facts: &Facts, host: &Distribution, bpffs: &str) -> Vec<Requirement> {
    vec![
        root(facts),
        capabilities(facts),
        namespaces(facts),
        types(facts),
        hooks(facts),
        jit(facts),
        lockdown(facts, host),
        in_lsm(facts, host),
        program(facts, host),
        Requirement {
            requirement: "bpffs",
            code: "NO_BPFFS",
            met: Some(facts.bpffs),
            found: found(facts.bpffs, &format!("there is a bpffs at {bpffs}"), || {
                format!("there is no bpffs at {bpffs}")
            }),
            fix: unless(facts.bpffs, || format!("mount -t bpf bpf {bpffs}")),
        },
        cgroup2(facts, host),
    ]
}

/// What keeps a host from enforcing, of all that enforcing needs.
pub(crate) fn blockers(requirements: &[Requirement]) -> Vec<Blocker> {
    let unmet = requirements.iter().filter(|needed| needed.met == Some(false));
    unmet
        .map(|needed| Blocker {
            code: needed.code,
            found: needed.found.clone(),
            fix: needed.fix.clone(),
        })
        .collect()
}

/// What is worth knowing and keeps nobody from enforcing.
pub(crate) fn warnings(facts: &Facts) -> Vec<String> {
    let mut warnings = Vec::new();
    if facts.cgroups == CgroupMode::Hybrid {
        warnings.push(
            "cgroups of both versions are mounted: what only has a place in the first version \
             belongs to no workload"
                .to_owned(),
        );
    }
    warnings
}

fn root(facts: &Facts) -> Requirement {
    Requirement {
        requirement: "root",
        code: "NOT_ROOT",
        met: Some(facts.root),
        found: found(facts.root, "this is root", || {
            "this is not root, so the rest could not be tried".to_owned()
        }),
        fix: unless(facts.root, || "run this as root".to_owned()),
    }
}

fn capabilities(facts: &Facts) -> Requirement {
    let has = facts.missing_capabilities.is_empty();
    let missing = facts.missing_capabilities.join(", ");
    Requirement {
        requirement: "capabilities",
        code: "NO_CAPABILITY",
        // Who is not root is told that, and nothing more.
        met: if facts.root { Some(has) } else { None },
        found: found(has, "the capabilities that loading needs are there", || {
            format!("this process lacks {missing}")
        }),
        fix: unless(has, || {
            format!(
                "start it with {missing}: CapabilityBoundingSet= of its unit, or --cap-add of its container"
            )
        }),
    }
}

fn namespaces(facts: &Facts) -> Requirement {
    let ours = facts.foreign_namespaces.is_empty();
    Requirement {
        requirement: "host-namespaces",
        code: "NOT_HOST_NAMESPACE",
        met: Some(ours),
        found: found(ours, "the user, mount, pid and cgroup namespaces are the host's", || {
            format!("this runs in a namespace of its own: {}", facts.foreign_namespaces.join(", "))
        }),
        fix: unless(ours, || {
            "run this on the host itself, or give the container the host's user, mount, pid and \
             cgroup namespaces"
                .to_owned()
        }),
    }
}

fn types(facts: &Facts) -> Requirement {
    Requirement {
        requirement: "btf",
        code: "NO_BTF",
        met: Some(facts.btf),
        found: found(facts.btf, "the kernel describes its types", || {
            "the kernel does not describe its types: no /sys/kernel/btf/vmlinux".to_owned()
        }),
        fix: unless(facts.btf, || {
            "mount sysfs at /sys, or boot a kernel with CONFIG_DEBUG_INFO_BTF=y".to_owned()
        }),
    }
}

fn hooks(facts: &Facts) -> Requirement {
    let missing = facts.missing_hooks.as_deref().unwrap_or_default().join(", ");
    let has = missing.is_empty();
    let found = if facts.missing_hooks.is_none() {
        "not looked at".to_owned()
    } else {
        found(has, "the kernel has every hook that decides", || {
            format!("the kernel has no LSM hook {missing}")
        })
    };
    Requirement {
        requirement: "hooks",
        code: "HOOK_NOT_IN_KERNEL",
        met: facts.missing_hooks.as_ref().map(|_| has),
        found,
        fix: unless(has, || "boot a kernel from 5.10 on with CONFIG_BPF_LSM=y".to_owned()),
    }
}

fn jit(facts: &Facts) -> Requirement {
    let on = facts.jit != Some(false);
    Requirement {
        requirement: "jit",
        code: "NO_JIT",
        met: facts.jit,
        found: match facts.jit {
            None => "not to be seen: /proc/sys/net/core/bpf_jit_enable".to_owned(),
            Some(_) => found(on, "BPF programs are compiled", || {
                "BPF programs are not compiled, and LSM programs have to be".to_owned()
            }),
        },
        fix: unless(on, || "sysctl net.core.bpf_jit_enable=1".to_owned()),
    }
}

fn lockdown(facts: &Facts, host: &Distribution) -> Requirement {
    let confidential = facts.lockdown.as_deref() == Some("confidentiality");
    Requirement {
        requirement: "lockdown",
        code: "LOCKDOWN",
        // A kernel without the file has no lockdown, or nobody mounted securityfs: trying tells.
        met: facts.lockdown.as_ref().map(|_| !confidential),
        found: match &facts.lockdown {
            None => "not to be seen: /sys/kernel/security/lockdown".to_owned(),
            Some(word) => format!("lockdown is at {word}"),
        },
        fix: unless(!confidential, || {
            let words = "lockdown=integrity";
            format!("programs may not read kernel memory: {}", host.boot_with(words))
        }),
    }
}

fn in_lsm(facts: &Facts, host: &Distribution) -> Requirement {
    let called = matches!(facts.lsm_program, LsmProgram::Called);
    let listed = facts.lsm.as_ref().map(|list| list.iter().any(|lsm| lsm == "bpf"));
    let met = if called { Some(true) } else { listed };
    Requirement {
        requirement: "bpf-in-lsm",
        code: "BPF_NOT_IN_LSM",
        met,
        found: match &facts.lsm {
            None => "not to be seen: /sys/kernel/security/lsm".to_owned(),
            Some(list) if met == Some(true) => format!("the active LSMs: {}", list.join(",")),
            Some(list) => format!("bpf is not among the active LSMs: {}", list.join(",")),
        },
        fix: unless(met != Some(false), || {
            host.boot_with(&with_bpf(facts.lsm.as_deref().unwrap_or_default()))
        }),
    }
}

fn program(facts: &Facts, host: &Distribution) -> Requirement {
    let line = |code, met, found: String, fix: String| Requirement {
        requirement: "lsm-program",
        code,
        met,
        found,
        fix,
    };
    const REFUSED: &str = "LSM_PROGRAM_REFUSED";
    match &facts.lsm_program {
        LsmProgram::Called => line(
            REFUSED,
            Some(true),
            "an LSM program was loaded, attached and called".to_owned(),
            String::new(),
        ),
        LsmProgram::NotTried => {
            line(REFUSED, None, "not tried".to_owned(), String::new())
        }
        LsmProgram::NotCalled => {
            let list = facts.lsm.as_deref();
            let words = list.map_or_else(|| "lsm=…,bpf".to_owned(), with_bpf);
            line(
                "LSM_PROGRAM_NOT_CALLED",
                Some(false),
                "the kernel attaches LSM programs and never calls them".to_owned(),
                host.boot_with(&words),
            )
        }
        // Without root, capabilities or types it has to fail, which says nothing about the host.
        LsmProgram::Refused(_)
            if !facts.root || !facts.btf || !facts.missing_capabilities.is_empty() =>
        {
            line(REFUSED, None, "could not be tried".to_owned(), String::new())
        }
        LsmProgram::Refused(error) if error.is_permission() => line(
            REFUSED,
            Some(false),
            match &facts.lsm {
                Some(list) if list.iter().any(|lsm| lsm == "bpf") => format!(
                    "the kernel lists bpf among its LSMs ({}) and refuses an LSM program (EPERM)",
                    list.join(",")
                ),
                _ => "the kernel refuses an LSM program (EPERM)".to_owned(),
            },
            "a sandbox, a container without CAP_BPF and CAP_SYS_ADMIN, or lockdown forbids it: run \
             on the host itself, and see /sys/kernel/security/lockdown"
                .to_owned(),
        ),
        LsmProgram::Refused(error) => line(
            REFUSED,
            Some(false),
            format!("the kernel refuses an LSM program: {}", chain(error)),
            "boot a kernel from 5.10 on with CONFIG_BPF_LSM=y and CONFIG_BPF_JIT=y".to_owned(),
        ),
    }
}

fn cgroup2(facts: &Facts, host: &Distribution) -> Requirement {
    let has = facts.cgroup2.is_some();
    Requirement {
        requirement: "cgroup2",
        code: "NO_CGROUP2",
        met: Some(has),
        found: match &facts.cgroup2 {
            Some(mount) => format!("cgroup2 at {} ({})", mount.display(), facts.cgroups.name()),
            None => "no cgroup2 hierarchy is mounted".to_owned(),
        },
        fix: unless(has, || match facts.cgroups {
            CgroupMode::Legacy => host.boot_with("systemd.unified_cgroup_hierarchy=1"),
            _ => "mount -t cgroup2 cgroup2 /sys/fs/cgroup".to_owned(),
        }),
    }
}

fn found(met: bool, good: &str, bad: impl FnOnce() -> String) -> String {
    if met { good.to_owned() } else { bad() }
}

fn unless(met: bool, fix: impl FnOnce() -> String) -> String {
    if met { String::new() } else { fix() }
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
pub(crate) mod tests {
    use std::path::PathBuf;

    use aegis_kernel::Error;

    use super::*;

    /// A host that has everything.
    pub(crate) fn facts() -> Facts {
        Facts {
            kernel: "6.12".to_owned(),
            root: true,
            missing_capabilities: Vec::new(),
            lsm: Some(vec!["capability".to_owned(), "yama".to_owned(), "bpf".to_owned()]),
            lockdown: Some("integrity".to_owned()),
            btf: true,
            missing_hooks: Some(Vec::new()),
            jit: Some(true),
            bpffs: true,
            cgroups: CgroupMode::Unified,
            cgroup2: Some(PathBuf::from("/sys/fs/cgroup")),
            foreign_namespaces: Vec::new(),
            lsm_program: LsmProgram::Called,
            resolver: None,
        }
    }

    /// Hosts that lack one thing each, with the code of the blocker.
    pub(crate) fn lacking() -> Vec<(Facts, &'static str)> {
        let refused =
            LsmProgram::Refused(Error::System { attempt: "try", source: rustix::io::Errno::PERM });
        vec![
            (Facts { root: false, ..facts() }, "NOT_ROOT"),
            (Facts { missing_capabilities: vec!["CAP_BPF"], ..facts() }, "NO_CAPABILITY"),
            (Facts { foreign_namespaces: vec!["mnt"], ..facts() }, "NOT_HOST_NAMESPACE"),
            (Facts { btf: false, ..facts() }, "NO_BTF"),
            (Facts { missing_hooks: Some(vec!["file_open"]), ..facts() }, "HOOK_NOT_IN_KERNEL"),
            (Facts { jit: Some(false), ..facts() }, "NO_JIT"),
            (Facts { lockdown: Some("confidentiality".to_owned()), ..facts() }, "LOCKDOWN"),
            (
                Facts {
                    lsm: Some(vec!["yama".to_owned()]),
                    lsm_program: LsmProgram::NotTried,
                    ..facts()
                },
                "BPF_NOT_IN_LSM",
            ),
            (Facts { lsm_program: LsmProgram::NotCalled, ..facts() }, "LSM_PROGRAM_NOT_CALLED"),
            (Facts { lsm_program: refused, ..facts() }, "LSM_PROGRAM_REFUSED"),
            (Facts { bpffs: false, ..facts() }, "NO_BPFFS"),
            (Facts { cgroup2: None, cgroups: CgroupMode::None, ..facts() }, "NO_CGROUP2"),
        ]
    }

    fn of(facts: &Facts) -> Vec<Requirement> {
        requirements(facts, &Distribution::default(), "/sys/fs/bpf")
    }

    fn codes(facts: &Facts) -> Vec<&'static str> {
        blockers(&of(facts)).iter().map(|blocker| blocker.code).collect()
    }

    #[test]
    fn a_host_that_can_has_no_blockers() {
        assert!(codes(&facts()).is_empty());
        assert!(
            of(&facts()).iter().all(|needed| needed.met == Some(true) && needed.fix.is_empty())
        );
    }

    #[test]
    fn each_missing_fact_is_its_own_blocker_with_a_fix() {
        for (facts, code) in lacking() {
            assert_eq!(codes(&facts), [code]);
            assert!(blockers(&of(&facts)).iter().all(|blocker| !blocker.fix.is_empty()), "{code}");
        }
        let codes: Vec<&str> = of(&facts()).iter().map(|needed| needed.code).collect();
        for code in codes {
            assert!(lacking().iter().any(|(_, lacking)| *lacking == code), "{code} is not tried");
        }
    }

    #[test]
    fn what_is_not_known_is_no_blocker_and_not_met_either() {
        let facts = Facts {
            lsm: None,
            lockdown: None,
            jit: None,
            missing_hooks: None,
            lsm_program: LsmProgram::NotTried,
            ..facts()
        };
        assert!(codes(&facts).is_empty());
        let unknown = of(&facts).iter().filter(|needed| needed.met.is_none()).count();
        assert_eq!(unknown, 5);
    }

    #[test]
    fn a_fix_for_the_command_line_keeps_the_lsms_of_the_host() {
        let lsm = ["lockdown", "capability", "landlock", "yama", "apparmor"];
        let lsm = Some(lsm.map(str::to_owned).to_vec());
        let facts = Facts { lsm, lsm_program: LsmProgram::NotCalled, ..facts() };
        assert_eq!(codes(&facts), ["BPF_NOT_IN_LSM", "LSM_PROGRAM_NOT_CALLED"]);
        for blocker in blockers(&of(&facts)) {
            assert!(blocker.fix.contains("lsm=lockdown,landlock,yama,apparmor,bpf"), "{blocker:?}");
        }
    }

    #[test]
    fn a_host_of_both_cgroup_versions_is_warned_and_one_of_the_first_told_how_to_boot() {
        assert!(warnings(&facts()).is_empty());
        let hybrid = Facts { cgroups: CgroupMode::Hybrid, ..facts() };
        assert_eq!((warnings(&hybrid).len(), codes(&hybrid).len()), (1, 0));
        let legacy = Facts { cgroup2: None, cgroups: CgroupMode::Legacy, ..facts() };
        assert!(blockers(&of(&legacy))[0].fix.contains("unified_cgroup_hierarchy"));
    }

    #[test]
    fn the_fix_for_a_missing_bpffs_names_its_place() {
        let facts = Facts { bpffs: false, ..facts() };
        let found = blockers(&requirements(&facts, &Distribution::default(), "/elsewhere"));
        assert_eq!(found[0].fix, "mount -t bpf bpf /elsewhere");
    }
}
