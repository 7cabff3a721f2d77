// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `history`: what was put in force, when, by whom and why; and `diff`: what is not the same in two of
//! them.

use aegis_kernel::Kernel;
use aegis_policy::difference;
use aegis_trust::provenance::InForce;
use serde_json::{Value, json};

use super::rollback::kept;
use crate::{
    changes,
    cli::{Diff, ShowHistory},
    context::Context,
    failure::Refusal,
    history::{Change, History},
    output::{Answer, one_line, plural},
    state::{State, StoredSet},
};

pub(super) fn run(context: &Context, args: &ShowHistory) -> anyhow::Result<Answer> {
    let history = History::read(context)?;
    let now = Numbers::of(context)?;
    let all: Vec<&Change> = history.iter().collect();
    let newest = all.get(all.len().saturating_sub(args.last)..).unwrap_or_default();
    let mut lines: Vec<String> = newest.iter().map(|change| line(change, &now)).collect();
    if lines.is_empty() {
        lines.push("nothing was ever put in force on this node".to_owned());
    }
    let changes = newest.iter().map(|change| change_json(change, &now));
    let json = json!({ "changes": changes.collect::<Vec<_>>(), "all": all.len() });
    Ok(Answer { text: lines.join("\n"), json, exit: 0 })
}

/// The numbers of what decides and decided, in this boot.
struct Numbers {
    active: Option<u64>,
    previous: Option<u64>,
    boot: Option<String>,
}

impl Numbers {
    fn of(context: &Context) -> anyhow::Result<Self> {
        let kernel =
            if rustix::process::geteuid().is_root() { Kernel::open(&context.pins)? } else { None };
        let number = |slot| -> anyhow::Result<Option<u64>> {
            let Some((kernel, slot)) = kernel.as_ref().zip(slot) else { return Ok(None) };
            Ok(kernel.generation(slot)?.map(|generation| generation.number))
        };
        let slots = kernel.as_ref().map(Kernel::slots).unwrap_or_default();
        Ok(Self {
            active: number(slots.active)?,
            previous: number(slots.previous)?,
            boot: crate::time::boot(),
        })
    }

    /// Whether a change's generation is there now, and as what.
    fn role(&self, change: &Change) -> Option<&'static str> {
        let number = change.set.as_ref()?.generation;
        if change.boot != self.boot {
            return None;
        }
        match number {
            number if self.active == Some(number) => Some("active"),
            number if self.previous == Some(number) => Some("previous"),
            _ => None,
        }
    }
}

fn line(change: &Change, now: &Numbers) -> String {
    let what = match &change.set {
        Some(set) => {
            let digest = set.set_digest.to_string();
            let revision = revision(change);
            format!(
                "generation {}{revision}, {}, set {}",
                set.generation,
                plural(set.policies.len(), "policy"),
                digest.get(..12).unwrap_or(&digest)
            )
        }
        None => "nothing in the kernel".to_owned(),
    };
    let mut line = format!("{} {}: {what}", change.time, change.command);
    if let Some(role) = now.role(change) {
        line.push_str(&format!(" [{role}]"));
    }
    line.push_str(&format!(", by uid {}", change.uid));
    if let Some(login) = change.login_uid.filter(|login| *login != change.uid) {
        line.push_str(&format!(" (logged in as uid {login})"));
    }
    if !change.policies.is_empty() {
        line.push_str(&format!(", about {}", change.policies.join(" ")));
    }
    if change.weakening {
        line.push_str(", weakening");
    }
    if let Some(until) = change.until {
        line.push_str(&format!(", to be confirmed by {until}"));
    }
    if let Some(reason) = &change.reason {
        line.push_str(&format!(", because: {reason}"));
    }
    if change.ended {
        line.push_str(&format!(", took {} ms", took(change) / 1000));
    } else {
        line.push_str(", its end is NOT on record");
    }
    one_line(&line)
}

fn revision(change: &Change) -> String {
    if change.revision == 0 { String::new() } else { format!(".{}", change.revision) }
}

/// In microseconds.
fn took(change: &Change) -> u64 {
    change.steps.iter().map(|step| step.us).sum()
}

fn change_json(change: &Change, now: &Numbers) -> Value {
    json!({
        "sequence": change.sequence,
        "time": change.time,
        "command": change.command,
        "uid": change.uid,
        "login_uid": change.login_uid,
        "reason": change.reason,
        "weakening": change.weakening,
        "policies": change.policies,
        "set_before": change.before,
        "in_force": change.set,
        "revision": change.revision,
        "confirm_by": change.until,
        "role": now.role(change),
        "took_us": took(change),
        "steps": change.steps,
        "ended": change.ended,
    })
}

pub(super) fn diff(context: &Context, args: &Diff) -> anyhow::Result<Answer> {
    let history = History::read(context)?;
    let now = Numbers::of(context)?;
    let side = |named: &str| -> anyhow::Result<(String, StoredSet)> {
        let number = match named {
            "active" => now.active,
            "previous" => now.previous,
            _ => Some(named.parse().map_err(|_error| bad_name(named))?),
        };
        let Some(number) = number else {
            return Err(none_there(named).into());
        };
        Ok((format!("generation {number}"), stored(context, &history, number)?))
    };
    let ((before, was), (after, is)) = (side(&args.before)?, side(&args.after)?);
    let found = difference(&was.set, &is.set);
    let mut lines = vec![if found.is_empty() {
        format!("{before} and {after} have the same policies")
    } else {
        format!("from {before} to {after}:")
    }];
    lines.extend(changes::lines(&found));
    let json = json!({
        "same": found.is_empty(),
        "denies_less": found.iter().any(aegis_policy::PolicyDifference::denies_less),
        "changes": changes::json(&found),
    });
    Ok(Answer { text: lines.join("\n"), json, exit: 0 })
}

/// What is in the kernel is known without a log.
fn stored(context: &Context, history: &History, number: u64) -> anyhow::Result<StoredSet> {
    if let Some(set) = history.generation(number) {
        return kept(context, set);
    }
    if let Some(kernel) = Kernel::open(&context.pins)? {
        for slot in aegis_kernel::Slot::all() {
            let generation = kernel.generation(slot)?.filter(|found| found.number == number);
            if let Some(generation) = generation {
                return State::new(context.state.clone()).load(&generation.set_digest);
            }
        }
    }
    let set = InForce { generation: number, ..InForce::default() };
    kept(context, &set)
}

fn bad_name(named: &str) -> Refusal {
    Refusal::new("NO_SUCH_GENERATION", format!("{named} is no generation"))
        .hint("it is a number of `aegisbpf history`, `active` or `previous`")
}

fn none_there(named: &str) -> Refusal {
    Refusal::new("NO_SUCH_GENERATION", format!("there is no {named} generation in the kernel"))
        .hint("`aegisbpf history` names what was in force")
}
