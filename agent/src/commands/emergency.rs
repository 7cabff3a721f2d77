// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `emergency`: rules let through what they deny, or deny again. One store; it waits for no lock, no disk
//! and no agent.
//!
//! ```text
//!   the reason is looked at ─▶ the switch is thrown ─▶ a child writes down what the control map says
//! ```
//!
//! The child is what may hang on a disk. It is left behind after three seconds; what it did not write
//! down is in the control map, and the agent or the next throw of the switch puts it into the log.

use std::{ffi::OsStr, time::Duration};

use aegis_kernel::{Switches, Toggle};
use aegis_trust::provenance::Entry;
use anyhow::Context as _;
use serde_json::{Value, json};

use crate::{
    child, cli,
    context::Context,
    emergency::{self, COMMANDS, Holds, Settled, Switch, boot_nanoseconds},
    failure::Refusal,
    output::{Answer, one_line},
    posture::Reason,
    provenance::{Log, login_uid},
    time, transition, view,
};

pub(super) fn run(context: &Context, verb: &cli::Emergency, sound: bool) -> anyhow::Result<Answer> {
    if !rustix::process::geteuid().is_root() {
        let meaning = Reason::NotRoot.meaning();
        return Err(Refusal::new(meaning.code, "only root can see or throw the emergency switch")
            .hint(meaning.fix)
            .into());
    }
    match verb {
        cli::Emergency::Status => status(context),
        cli::Emergency::Disable(args) => disable(context, args, sound),
        cli::Emergency::Enable(args) => enable(context, &args.reason),
    }
}

fn disable(context: &Context, args: &cli::Disable, sound: bool) -> anyhow::Result<Answer> {
    let mut warnings = Vec::new();
    if !sound {
        warnings.push(
            "whether the reason is one that the configuration asks for is not known".to_owned(),
        );
    } else if let Err(refusal) = check_reason(context, &args.reason) {
        drop(settled_by_a_child(context, COMMANDS[0], Some(&args.reason)));
        return Err(refusal.into());
    }
    let switches = switches(context)?;
    let before = Switch::of(&switches).holds;
    let until = time::now().saturating_add(args.limit.as_secs());
    let toggle = Toggle { until: Some(until), guards_too: args.guards_too, ..toggle(&args.reason) };
    let begin = |switches: &Switches| {
        switches.begin_emergency(&toggle, boot_nanoseconds(args.limit));
    };
    let (switches, ()) = throw(context, switches, begin)?;
    let after = Switch::of(&switches);
    warnings.extend(write_down(context, COMMANDS[0]));
    let mut lines = vec![match &after.holds {
        Some(holds) => format!("rules deny nothing {}", holds.told()),
        None => "rules denied nothing; it is over already".to_owned(),
    }];
    lines.extend(before.iter().map(|before| format!("  before    {}", before.told())));
    lines.push("  to end it `aegisbpf emergency enable --reason …`".to_owned());
    Ok(answer(lines, true, &after, before.as_ref(), warnings))
}

fn enable(context: &Context, reason: &str) -> anyhow::Result<Answer> {
    let switches = switches(context)?;
    let end = |switches: &Switches| switches.end_emergency(&toggle(reason));
    let (switches, before) = throw(context, switches, end)?;
    let before = before.map(|found| Holds::of(&found));
    let after = Switch::of(&switches);
    let warnings = write_down(context, COMMANDS[1]);
    let lines = match &before {
        Some(before) => {
            vec!["rules deny again".to_owned(), format!("  before    {}", before.told())]
        }
        None => vec!["nothing to do: there is no emergency".to_owned()],
    };
    Ok(answer(lines, before.is_some(), &after, before.as_ref(), warnings))
}

fn status(context: &Context) -> anyhow::Result<Answer> {
    let switch = Switch::of(&switches(context)?);
    let mut lines = vec![match &switch.holds {
        Some(holds) => format!("rules deny nothing {}", holds.told()),
        None => "there is no emergency".to_owned(),
    }];
    lines.push(format!(
        "  thrown    {} times, {} of them within the last hour",
        switch.toggles,
        switch.last_hour()
    ));
    lines.extend(switch.known.iter().map(|toggle| {
        let what = match toggle.until {
            Some(until) => format!("disabled until {}", time::written(until)),
            None => "enabled".to_owned(),
        };
        let (at, uid, reason) = (time::written(toggle.time), toggle.uid, one_line(&toggle.reason));
        format!("            {at} {what} by uid {uid}: {reason}")
    }));
    let warnings = switch.warning().into_iter().collect();
    let mut answer = answer(lines, false, &switch, None, warnings);
    if let Some(fields) = answer.json.as_object_mut() {
        fields.remove("changed");
        fields.remove("before");
    }
    Ok(answer)
}

/// A reason that the configuration asks for. Only what weakens is asked for one.
fn check_reason(context: &Context, reason: &str) -> Result<(), Refusal> {
    let pattern = &context.config.emergency_reason;
    if pattern.matches(reason) {
        return Ok(());
    }
    let message = format!(
        "the reason is none that the configuration takes: it has to match `{pattern}` as a whole; \
         rules go on denying"
    );
    Err(Refusal::new("REASON_PATTERN", message)
        .hint("say why with --reason TEXT in that form; see emergency.reason_pattern in `aegisbpf config show`"))
}

fn switches(context: &Context) -> anyhow::Result<Switches> {
    Switches::open(&context.pins)?.ok_or_else(|| {
        let meaning = Reason::NotAttached.meaning();
        let message = format!("{}: nothing denies anything", meaning.reason);
        let hint = format!(
            "no pins are in {}; if they are elsewhere say so with --bpffs",
            context.pins.display()
        );
        Refusal::new(meaning.code, message).hint(hint).into()
    })
}

/// Throws the switch, and that of programs as well which are to take over from these, or just did.
fn throw<T>(
    context: &Context,
    mut switches: Switches,
    act: impl Fn(&Switches) -> T,
) -> anyhow::Result<(Switches, T)> {
    loop {
        let done = act(&switches);
        for other in switches.beside(&context.pins) {
            act(&other);
        }
        // Pins that cannot be opened again are no reason to say that it did not happen.
        if switches.are_at(&context.pins).unwrap_or(true) {
            return Ok((switches, done));
        }
        switches = self::switches(context)?;
    }
}

/// Of this process, now; one that ends an emergency.
fn toggle(reason: &str) -> Toggle {
    Toggle {
        number: 0,
        time: time::now(),
        until: None,
        uid: rustix::process::getuid().as_raw(),
        login_uid: login_uid(),
        pid: std::process::id(),
        guards_too: false,
        reason: reason.to_owned(),
    }
}

fn answer(
    mut lines: Vec<String>,
    changed: bool,
    switch: &Switch,
    before: Option<&Holds>,
    warnings: Vec<String>,
) -> Answer {
    lines.extend(warnings.iter().map(|warning| format!("  warning   {warning}")));
    let known = |toggle: &Toggle| {
        json!({
            "number": toggle.number,
            "time": time::written(toggle.time),
            "until": toggle.until.map(time::written),
            "uid": toggle.uid,
            "login_uid": toggle.login_uid,
            "pid": toggle.pid,
            "guards_too": toggle.guards_too,
            "reason": toggle.reason,
        })
    };
    let mut toggles = switch.json();
    if let Some(fields) = toggles.as_object_mut() {
        let known: Vec<Value> = switch.known.iter().map(known).collect();
        fields.insert("known".to_owned(), known.into());
    }
    let json = json!({
        "changed": changed,
        "emergency": switch.holds,
        "before": before,
        "toggles": toggles,
        "warnings": warnings,
    });
    Answer { text: lines.join("\n"), json, exit: 0 }
}

/// Has it written down; what to warn of. What cannot be logged is counted in the kernel's memory.
fn write_down(context: &Context, command: &str) -> Vec<String> {
    let settled = settled_by_a_child(context, command, None).unwrap_or_else(|error| Settled {
        unlogged: true,
        warnings: vec![format!(
            "it acted, and is not on record but in the kernel's memory: {error:#}"
        )],
        ..Settled::default()
    });
    if settled.unlogged {
        Log::new(context).count_unlogged();
    }
    settled.warnings
}

/// Waits for the child as long as it is worth it.
fn settled_by_a_child(
    context: &Context,
    command: &str,
    refused: Option<&str>,
) -> anyhow::Result<Settled> {
    let (root, bpffs) = (context.root.as_os_str(), context.bpffs.as_os_str());
    let refused = refused.map(|reason| format!("--refused={reason}"));
    let mut arguments: Vec<&OsStr> = vec!["--root".as_ref(), root, "--bpffs".as_ref(), bpffs];
    arguments.extend(["__settle", command].map(OsStr::new));
    arguments.extend(refused.as_ref().map(OsStr::new));
    // What hangs is not asked again.
    arguments.extend(context.unconfigured.then_some(OsStr::new("--unconfigured")));
    let said = child::ask(&arguments, "the state directory", PATIENCE)?;
    serde_json::from_slice(&said).context("failed to understand what was written down")
}

/// What the child does: the log, the state directory, the posture.
pub(super) fn settle(context: &Context, args: &cli::Settle) -> anyhow::Result<Answer> {
    if let Some(reason) = &args.refused {
        return Ok(refused(context, &args.command, reason));
    }
    let switches = Switches::open(&context.pins)?.context("failed to find the switches")?;
    let mut settled = emergency::settle(context, &switches);
    let noted = view::posture_only(context)
        .and_then(|view| transition::note(context, &view, &args.command));
    if let Err(error) = noted {
        settled.warnings.push(format!("the posture could not be written down: {error:#}"));
    }
    Ok(Answer { text: String::new(), json: serde_json::to_value(&settled)?, exit: 0 })
}

fn refused(context: &Context, command: &str, reason: &str) -> Answer {
    let entry = Entry {
        command: command.to_owned(),
        weakening: true,
        reason: Some(reason.to_owned()),
        ..Entry::default()
    };
    let refusal = check_reason(context, reason).err();
    let warning = refusal.and_then(|refusal| Log::new(context).refused(entry, &refusal.into()));
    let json = json!(Settled { warnings: warning.into_iter().collect(), ..Settled::default() });
    Answer { text: String::new(), json, exit: 0 }
}

/// How long whoever threw the switch waits to hear that it is written down.
const PATIENCE: Duration = Duration::from_secs(3);
