// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whether policies would lock the operator out: what a host needs so that somebody can log in and undo
//! them, denied to those who would do it.
//!
//! Asked of the rules themselves, so that `except` and every name of an object count. It is a list of what is
//! usual, and no proof that all is well.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::Path,
};

use aegis_abi::{Access, Action};
use aegis_policy::{Accesses, Places, Question, Ruleset, decide, escape};
use serde::Serialize;

use crate::{failure::Refusal, output::one_line};

/// Something that is needed, and who would not get it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct LockOut {
    pub(crate) path: String,
    /// What it is for.
    pub(crate) what: &'static str,
    pub(crate) who: String,
    pub(crate) access: &'static str,
    pub(crate) policy: String,
    pub(crate) rule: String,
}

/// Everything of the list that is there and would be denied.
pub(crate) fn find(ruleset: &Ruleset, places: &Places) -> Vec<LockOut> {
    let needed = needed();
    let mut found = Vec::new();
    for (cgroup, who) in needing() {
        for (paths, what) in &needed {
            let accesses: Accesses = [Access::Read, Access::Exec].into_iter().collect();
            let question = Question { cgroup: &cgroup, paths, accesses };
            let Some(decision) = decide(ruleset, places, &question) else { continue };
            let Some(rule) = ruleset.rule(decision.rule) else { continue };
            if decision.action == Action::Deny {
                found.push(LockOut {
                    path: paths.first().map_or_else(String::new, |path| escape(path)),
                    what,
                    who: who.clone(),
                    access: decision.access.name(),
                    policy: rule.policy.clone(),
                    rule: rule.rule.id.clone(),
                });
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

impl LockOut {
    pub(crate) fn line(&self) -> String {
        let Self { path, what, who, access, policy, rule } = self;
        let rule = one_line(rule);
        format!("{access} of {path} ({what}) is denied to {who} by {policy}/{rule}")
    }
}

/// What an apply says to that, unless somebody insists.
pub(crate) fn refusal(found: &[LockOut]) -> Refusal {
    let mut details: Vec<String> =
        found.iter().take(SHOWN).map(|found| format!("  {}", found.line())).collect();
    if found.len() > SHOWN {
        details.push(format!("  and {} more", found.len() - SHOWN));
    }
    Refusal::new("LOCKOUT", "these policies could lock you out of this host; nothing was changed")
        .details(details)
        .hint("except these files, or say --allow-lockout if that is what you want")
}

/// What is there of the list: the path as it is listed and where it leads, and what it is for.
fn needed() -> Vec<(Vec<Vec<u8>>, &'static str)> {
    let own = fs::read_link("/proc/self/exe").ok();
    let own = own.map(|path| (path, "this program"));
    let listed = NEEDED.iter().map(|(path, what)| (Path::new(path).to_owned(), *what));
    let there = listed.chain(own).filter_map(|(path, what)| {
        let leads_to = fs::canonicalize(&path).ok()?;
        let mut paths =
            vec![path.into_os_string().into_vec(), leads_to.into_os_string().into_vec()];
        paths.dedup();
        Some((paths, what))
    });
    there.collect()
}

/// The cgroups of those who need it, each with who that is.
fn needing() -> BTreeMap<Vec<u8>, String> {
    // In a cgroup that no policy names, only rules on "*" speak.
    let mut needing = BTreeMap::from([(b"/".to_vec(), "every process".to_owned())]);
    let caller = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().to_string());
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes {
        let name = process.file_name();
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        else {
            continue;
        };
        let who = if pid == "1" {
            "the first process".to_owned()
        } else if caller.as_deref() == Some(pid) {
            "whoever called this".to_owned()
        } else if is_login(&process.path()) {
            format!("sshd (process {pid})")
        } else {
            continue;
        };
        if let Some(cgroup) = cgroup(&process.path()) {
            needing.entry(cgroup).or_insert(who);
        }
    }
    needing
}

fn is_login(process: &Path) -> bool {
    let name = fs::read(process.join("comm")).unwrap_or_default();
    [b"sshd\n".as_slice(), b"sshd-session\n"].contains(&name.as_slice())
}

/// The path in the cgroup2 hierarchy: the line without controllers.
fn cgroup(process: &Path) -> Option<Vec<u8>> {
    let lines = fs::read(process.join("cgroup")).ok()?;
    let line = lines.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"0::"))?;
    Some(std::ffi::OsStr::from_bytes(line).as_bytes().to_vec())
}

/// What is needed to log in and undo something, as distributions call it.
const NEEDED: &[(&str, &str)] = &[
    ("/sbin/init", "init"),
    ("/usr/lib/systemd/systemd", "init"),
    ("/bin/sh", "a shell"),
    ("/bin/bash", "a shell"),
    ("/bin/dash", "a shell"),
    ("/bin/zsh", "a shell"),
    ("/bin/busybox", "a shell"),
    ("/bin/login", "login"),
    ("/sbin/agetty", "login"),
    ("/bin/su", "login"),
    ("/usr/bin/sudo", "login"),
    ("/usr/sbin/sshd", "login"),
    ("/usr/lib/openssh/sshd-session", "login"),
    ("/etc/passwd", "login"),
    ("/etc/pam.d", "PAM"),
    ("/lib64/ld-linux-x86-64.so.2", "the dynamic linker"),
    ("/lib/ld-musl-x86_64.so.1", "the dynamic linker"),
    ("/etc/ld.so.cache", "the dynamic linker"),
    ("/lib/x86_64-linux-gnu/libc.so.6", "libc"),
    ("/lib64/libc.so.6", "libc"),
    ("/usr/lib/libc.so.6", "libc"),
    ("/lib/x86_64-linux-gnu/libpam.so.0", "PAM"),
    ("/lib64/libpam.so.0", "PAM"),
    ("/usr/lib/libpam.so.0", "PAM"),
    ("/lib/x86_64-linux-gnu/security/pam_unix.so", "PAM"),
    ("/lib64/security/pam_unix.so", "PAM"),
];

const SHOWN: usize = 20;

#[cfg(test)]
mod tests {
    use aegis_policy::{BuiltIn, Mode, PolicySet, Source, compile, parse};

    use super::*;

    fn found(rules: &str, mode: Mode) -> Vec<LockOut> {
        let text = format!(
            "schema = 1\nname = \"p\"\nversion = 1\n[workloads.w]\ncgroups = [\"/none\"]\n{rules}"
        );
        let (policy, diagnostics) = parse(Source { name: "p", text: &text });
        let mut set = PolicySet::new();
        set.insert(policy.unwrap_or_else(|| panic!("{diagnostics:#?}")), mode);
        let built_in = BuiltIn { proof_directory: b"/run/aegisbpf/proof".to_vec() };
        let ruleset = compile(&set, &built_in).unwrap();
        find(&ruleset, &Places::as_written(&ruleset))
    }

    fn rule(workload: &str, rest: &str) -> String {
        format!("[[rules]]\nid = \"r\"\nworkloads = [\"{workload}\"]\nreason = \"r\"\n{rest}")
    }

    #[test]
    fn what_everybody_needs_is_not_denied_to_everybody_by_mistake() {
        let passwd = "action = \"deny\"\nobjects = [\"/etc/\"]\n";
        let all = found(&rule("*", passwd), Mode::Enforce);
        let passwd_is = |found: &LockOut| found.path == "/etc/passwd" && found.access == "read";
        assert!(all.iter().any(passwd_is), "{all:#?}");
        assert!(refusal(&all).details.iter().any(|line| line.contains("/etc/passwd")));
        assert_eq!(found(&rule("w", passwd), Mode::Enforce), [], "a workload of none of them");
        assert_eq!(found(&rule("*", passwd), Mode::Audit), [], "what denies nothing");
        let write = format!("{passwd}access = [\"write\"]\n");
        assert_eq!(found(&rule("*", &write), Mode::Enforce), [], "nobody writes to log in");
        let except =
            format!("{passwd}except = [\"/etc/passwd\", \"/etc/pam.d/\", \"/etc/ld.so.cache\"]\n");
        assert_eq!(found(&rule("*", &except), Mode::Enforce), []);
    }
}
