// SPDX-License-Identifier: Apache-2.0 OR MIT
//! From the set that is in force to the one that is wished for, and what of that nobody may have.

use aegis_policy::Policy;

use super::{Attempt, Gate, Mode, Refusal, StoredSet, Wish};

impl Attempt<'_> {
    /// The set that is wished for.
    pub(super) fn wanted(&self, now: &StoredSet, gate: &Gate) -> anyhow::Result<StoredSet> {
        let mut wanted = now.clone();
        match &self.request.wish {
            Wish::Anew(_) | Wish::Same => {}
            Wish::Remove(name) => {
                if now.set.policy(name).is_none() {
                    return Err(no_such_policy(name, now).into());
                }
                wanted.remove(name);
            }
            Wish::Back(name, before) => {
                wanted.take(name, before);
                gate.check_minimums(&now.set, &wanted.set)?;
            }
            Wish::Whole(set) => {
                wanted = (**set).clone();
                // What a start finds stays in force, as it would have without one.
                if self.request.confirms {
                    gate.check_minimums(&now.set, &wanted.set)?;
                }
            }
            Wish::Put(candidates, mode) => {
                for candidate in candidates {
                    let policy = candidate.policy();
                    gate.admit(candidate)?;
                    if let Some((present, present_mode)) = now.set.policy(&policy.name) {
                        if !gate.is_lowered(&policy.name) {
                            check_version(present, policy)?;
                        }
                        self.check_mode(&policy.name, present_mode, *mode)?;
                    }
                    wanted.insert(policy.clone(), *mode, candidate.text().to_owned());
                    wanted.sign(candidate);
                }
            }
        }
        Ok(wanted)
    }

    /// To report what was denied is a weakening, which needs a reason.
    fn check_mode(&self, name: &str, from: Mode, to: Mode) -> anyhow::Result<()> {
        if (from, to) == (Mode::Enforce, Mode::Audit) && self.request.reason.is_none() {
            let message = format!("policy {name} is enforced, and mode audit would deny nothing");
            return Err(Refusal::new("REASON_NEEDED", message)
                .hint("say why with --reason TEXT, or leave out --mode audit")
                .into());
        }
        Ok(())
    }
}

fn check_version(present: &Policy, policy: &Policy) -> anyhow::Result<()> {
    let name = &policy.name;
    if policy.version < present.version {
        let message = format!(
            "policy {name} is in force with version {}, and versions never go down: this is {}",
            present.version, policy.version
        );
        let next = present.version.saturating_add(1);
        return Err(Refusal::new("VERSION_LOWER", message)
            .hint(format!("write version = {next} if the older text is what you want"))
            .into());
    }
    if policy.version == present.version && policy.digest != present.digest {
        let message =
            format!("policy {name} is in force with version {} and another text", present.version);
        return Err(Refusal::new("VERSION_REUSED", message)
            .hint(format!("write version = {}", present.version.saturating_add(1)))
            .into());
    }
    Ok(())
}

fn no_such_policy(name: &str, now: &StoredSet) -> Refusal {
    let names: Vec<&str> = now.set.iter().map(|(policy, _)| policy.name.as_str()).collect();
    let hint = if names.is_empty() {
        "no policy is in force".to_owned()
    } else {
        format!("in force: {}", names.join(", "))
    };
    Refusal::new("NO_SUCH_POLICY", format!("no policy {name} is in force")).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(version: u32, digest: u8) -> Policy {
        Policy {
            name: "p".to_owned(),
            version,
            workloads: Vec::new(),
            rules: Vec::new(),
            digest: [digest; 32],
        }
    }

    fn refused(present: &Policy, policy: &Policy) -> Option<&'static str> {
        let error = check_version(present, policy).err()?;
        Some(error.downcast_ref::<Refusal>().expect("a refusal").code)
    }

    #[test]
    fn versions_only_go_up() {
        assert_eq!(refused(&policy(2, 0), &policy(3, 1)), None);
        assert_eq!(refused(&policy(2, 0), &policy(2, 0)), None);
        assert_eq!(refused(&policy(2, 0), &policy(2, 1)), Some("VERSION_REUSED"));
        assert_eq!(refused(&policy(2, 0), &policy(1, 0)), Some("VERSION_LOWER"));
    }
}
