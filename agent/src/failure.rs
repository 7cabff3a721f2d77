// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a command that did not do its work says: a refusal (exit 1) or an error (exit 2), and what the
//! operator can do about it.

use std::io;

use aegis_kernel::Error as KernelError;
use rustix::io::Errno;

use crate::requirements::Blocker;

/// A clear no: nothing is broken, and nothing was changed but what [`Changed`] says.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// Stable, for programs.
    pub(crate) code: &'static str,
    message: String,
    /// More lines, each a thing of its own.
    pub(crate) details: Vec<String>,
    /// What to do.
    pub(crate) hint: Option<String>,
    /// What of the host it is about, if it is about that.
    pub(crate) blockers: Vec<Blocker>,
}

impl Refusal {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: Vec::new(),
            hint: None,
            blockers: Vec::new(),
        }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn details(mut self, details: Vec<String>) -> Self {
        self.details = details;
        self
    }

    pub(crate) fn blockers(mut self, blockers: &[Blocker]) -> Self {
        self.blockers = blockers.to_vec();
        self
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}

/// What a command that failed has done all the same, in words: the context of its error.
#[derive(Debug)]
pub(crate) struct Changed(pub(crate) String);

impl std::fmt::Display for Changed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is printed of a failed command.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) exit: u8,
    /// Whether something is not as it was before.
    pub(crate) changed: bool,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) details: Vec<String>,
    pub(crate) hint: Option<String>,
    pub(crate) blockers: Vec<Blocker>,
}

/// The whole of an error, as one chain.
pub(crate) fn tell(error: &anyhow::Error) -> Told {
    let mut causes: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        // A wrapper that already says what its cause says would say it twice.
        if !causes.last().is_some_and(|last| last.ends_with(&text)) {
            causes.push(text);
        }
    }
    let message = causes.join(": ");
    let changed = error.is::<Changed>();
    match error.chain().find_map(|cause| cause.downcast_ref::<Refusal>()) {
        Some(refusal) => Told {
            exit: 1,
            changed,
            code: refusal.code,
            message,
            details: refusal.details.clone(),
            hint: refusal.hint.clone(),
            blockers: refusal.blockers.clone(),
        },
        None => {
            let hint = error.chain().find_map(hint);
            let other = |cause: &(dyn std::error::Error + 'static)| {
                matches!(cause.downcast_ref::<KernelError>(), Some(KernelError::OtherAbi { .. }))
            };
            // What another version has made is not broken, and not touched.
            let is_other = error.chain().any(other);
            Told {
                exit: if is_other { 1 } else { 2 },
                changed,
                code: if is_other { "OTHER_VERSION" } else { "ERROR" },
                message,
                details: Vec::new(),
                hint,
                blockers: Vec::new(),
            }
        }
    }
}

/// What an operator can do about one cause.
fn hint(cause: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(error) = cause.downcast_ref::<KernelError>() {
        return of_kernel(error).map(str::to_owned);
    }
    let errno = cause
        .downcast_ref::<Errno>()
        .copied()
        .or_else(|| cause.downcast_ref::<io::Error>().and_then(Errno::from_io_error))?;
    let hint = match errno {
        Errno::NOSPC | Errno::DQUOT => "free some space there, then do this again",
        Errno::ROFS => "the file system is mounted read-only: mount it writable, or give --root",
        Errno::ACCESS | Errno::PERM if !rustix::process::geteuid().is_root() => "run this as root",
        _ => return None,
    };
    Some(hint.to_owned())
}

const fn of_kernel(error: &KernelError) -> Option<&'static str> {
    match error {
        KernelError::NoRoom { .. } => Some(
            "free memory (on kernels before 5.11 also raise `ulimit -l`), or name directories \
             rather than many files",
        ),
        KernelError::OtherAbi { .. } => Some(
            "use the aegisbpf that put it there, or take everything out with `aegisbpf detach \
             --reason …` and apply again",
        ),
        KernelError::OpenPin { .. } | KernelError::OtherMap { .. } => Some(
            "take everything out with `aegisbpf detach --reason …` and apply the policies again",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_refusal_is_a_no_and_anything_else_could_not_tell() {
        let refusal = Refusal::new("LOCKED", "no").hint("wait");
        let told = tell(&anyhow::Error::from(refusal).context("failed to apply"));
        assert_eq!((told.exit, told.code), (1, "LOCKED"));
        assert_eq!(told.message, "failed to apply: no");
        assert_eq!(told.hint.as_deref(), Some("wait"));
        assert_eq!(tell(&anyhow::anyhow!("broken")).exit, 2);
    }

    #[test]
    fn what_was_changed_all_the_same_is_told_however_much_is_said_around_it() {
        let refusal = || anyhow::Error::from(Refusal::new("STRICT", "no"));
        assert!(!tell(&refusal().context("failed to apply")).changed);
        let changed = refusal().context(Changed("half of it stays".to_owned()));
        let told = tell(&changed.context("after this"));
        assert_eq!((told.exit, told.code, told.changed), (1, "STRICT", true));
        assert_eq!(told.message, "after this: half of it stays: no");
    }

    #[test]
    fn what_another_version_has_made_is_refused_with_a_code_of_its_own() {
        let other = KernelError::OtherAbi { found: 9, size: 4096, known: 2 };
        let told = tell(&anyhow::Error::from(other).context("failed to open what is pinned"));
        assert_eq!((told.exit, told.code), (1, "OTHER_VERSION"));
        assert!(told.hint.is_some_and(|hint| hint.contains("use the aegisbpf that put it there")));
    }

    #[test]
    fn a_full_disk_has_a_hint_wherever_it_stands_in_the_chain() {
        let full = io::Error::from_raw_os_error(Errno::NOSPC.raw_os_error());
        let error = Err::<(), _>(full).context("failed to write x").unwrap_err();
        assert!(tell(&error).hint.is_some_and(|hint| hint.contains("space")));
    }
}
