// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `provenance`: what was enforced, who changed it, and whether the record of it is whole.

use std::path::Path;

use aegis_trust::provenance::{
    Answer as WasEnforced, At, Effect, Held, InForce, KernelWitness, Now, Phase, Sealed,
    Verification, Verifier,
};
use anyhow::Context as _;
use serde_json::{Value, json};

use crate::{
    cli::provenance::{AtTime, Export, Provenance, Restart, Show, Verb, Verify},
    context::Context,
    failure::Refusal,
    files,
    output::{Answer, COULD_NOT_TELL, one_line, plural},
    provenance::{Log, Look, now},
    time,
};

pub(super) fn run(context: &Context, args: &Provenance) -> anyhow::Result<Answer> {
    match &args.verb {
        Verb::Show(args) => show(context, args),
        Verb::Verify(args) => verify(context, args),
        Verb::At(args) => at(context, args),
        Verb::Export(args) => export(context, args),
        Verb::Restart(args) => restart(context, args),
    }
}

fn verify(context: &Context, args: &Verify) -> anyhow::Result<Answer> {
    let source = Source::open(context, args.file.as_deref())?;
    let asked = !matches!(source.kernel(), KernelWitness::NotAsked);
    let verified = source.verify(&args.heads, &mut |_| {})?;
    let whole = verified.is_whole();
    if verified.entries == 0 && whole {
        return Err(Refusal::new("NO_LOG", "there is no provenance log on this node")
            .hint("the first command that changes what is enforced begins it")
            .into());
    }
    let mut lines = vec![if whole {
        format!(
            "the log is whole: {} in {}, instance {}",
            entries(verified.entries),
            plural(verified.segments, "segment"),
            verified.instance.as_deref().unwrap_or("unknown")
        )
    } else {
        format!("the log is NOT whole: {} can be read", entries(verified.entries))
    }];
    for fault in &verified.faults {
        lines.push(format!("  {}: {}: {}", fault.code, fault.place, one_line(&fault.message)));
    }
    if let Some(torn) = &verified.torn {
        lines.push(format!(
            "  TORN: {}: its last {} are no whole line; the next command that writes keeps them aside",
            torn.segment,
            plural(torn.bytes, "byte")
        ));
    }
    for noted in &verified.noted {
        let lost = if noted.loss { " (vouched for by no --head)" } else { "" };
        let message = one_line(&noted.message);
        lines.push(format!(
            "  entry {} {}: {}: {message}{lost}",
            noted.sequence, noted.time, noted.code
        ));
    }
    lines.push(format!("head: entry {} {}", verified.head.sequence, verified.head.hash));
    lines.push(match (asked, verified.kernel_confirms) {
        (false, _) => match source.unasked() {
            Some(why) => format!("the kernel could not be asked: {}", one_line(why)),
            None => "the kernel was not asked".to_owned(),
        },
        (true, Some(sequence)) => format!("the kernel confirms the log up to entry {sequence}"),
        (true, None) => "the kernel confirms no entry".to_owned(),
    });
    if let Some(sequence) = verified.given_confirms {
        lines.push(format!("the given head is entry {sequence}"));
    }
    let exit = match (whole, source.unasked()) {
        (false, _) => 1,
        (true, None) => 0,
        // Of this node's log the kernel is a witness, and it did not speak.
        (true, Some(_)) => COULD_NOT_TELL,
    };
    Ok(Answer { text: lines.join("\n"), json: report(&verified, asked), exit })
}

fn report(verified: &Verification, asked: bool) -> Value {
    let faults = verified
        .faults
        .iter()
        .map(|fault| json!({ "code": fault.code, "place": fault.place, "message": fault.message }));
    let noted = verified.noted.iter().map(|noted| {
        json!({
            "sequence": noted.sequence, "time": noted.time, "code": noted.code,
            "message": noted.message, "loss": noted.loss,
        })
    });
    let torn = verified
        .torn
        .as_ref()
        .map(|torn| json!({ "segment": torn.segment, "offset": torn.offset, "bytes": torn.bytes }));
    json!({
        "whole": verified.is_whole(),
        "entries": verified.entries,
        "segments": verified.segments,
        "instance": verified.instance,
        "head": { "sequence": verified.head.sequence, "hash": verified.head.hash },
        "kernel": { "asked": asked, "confirms": verified.kernel_confirms },
        "given": { "confirms": verified.given_confirms },
        "faults": faults.collect::<Vec<_>>(),
        "torn": torn,
        "on_record": noted.collect::<Vec<_>>(),
    })
}

fn show(context: &Context, args: &Show) -> anyhow::Result<Answer> {
    let source = Source::open(context, args.file.as_deref())?;
    let mut found = Vec::new();
    let wanted = |sealed: &Sealed| {
        let entry = &sealed.record.entry;
        let about = |name: &String| {
            entry.policies.contains(name)
                || matches!(&entry.effect, Effect::InForce(set)
                    if set.policies.iter().any(|policy| policy.name == *name))
        };
        args.since.is_none_or(|since| sealed.record.time >= since)
            && args.until.is_none_or(|until| sealed.record.time <= until)
            && args.policy.as_ref().is_none_or(about)
    };
    let verified = source.verify(&[], &mut |sealed| {
        if wanted(sealed) {
            found.push(sealed.clone());
        }
    })?;
    if let Some(last) = args.last {
        found.drain(..found.len().saturating_sub(last));
    }
    let mut lines: Vec<String> = found.iter().map(line).collect();
    if !verified.is_whole() {
        lines.push("the log is NOT whole: see `aegisbpf provenance verify`".to_owned());
    } else if lines.is_empty() {
        lines.push("no entries".to_owned());
    }
    let records =
        found.iter().map(|sealed| json!({ "record": sealed.record, "hash": sealed.hash }));
    let json = json!({ "whole": verified.is_whole(), "entries": records.collect::<Vec<_>>() });
    Ok(Answer { text: lines.join("\n"), json, exit: 0 })
}

/// An entry for a person: when, what, by whom, why.
fn line(sealed: &Sealed) -> String {
    let (record, entry) = (&sealed.record, &sealed.record.entry);
    let phase = match entry.phase {
        Phase::Begin => "begins",
        Phase::Done => "done",
        Phase::Undone => "undone",
        Phase::Refused => "refused",
        Phase::Note => "note",
    };
    let mut line = format!("{} {} {} {phase}", record.sequence, record.time, entry.command);
    let user = by(record.uid, record.login_uid);
    line.push_str(&format!(", {user}, pid {}", record.pid));
    if !entry.policies.is_empty() {
        line.push_str(&format!(", {}", entry.policies.join(" ")));
    }
    match &entry.effect {
        Effect::None => {}
        Effect::InForce(set) => line.push_str(&format!(", generation {}", set.generation)),
        Effect::Detached => line.push_str(", nothing in the kernel"),
        Effect::EmergencyDisabled => line.push_str(", rules do not deny"),
        Effect::EmergencyEnabled => line.push_str(", rules deny again"),
    }
    if let Some(until) = entry.until {
        line.push_str(&format!(" until {until}"));
    }
    if entry.weakening {
        line.push_str(", weakening");
    }
    if let Some(reason) = &entry.reason {
        line.push_str(&format!(", because: {reason}"));
    }
    if let Some(error) = &entry.error {
        line.push_str(&format!(", {}: {}", error.code, error.message));
    }
    one_line(&line)
}

fn by(uid: u32, login_uid: Option<u32>) -> String {
    match login_uid {
        Some(login) if login != uid => format!("uid {uid} (logged in as uid {login})"),
        _ => format!("uid {uid}"),
    }
}

fn at(context: &Context, args: &AtTime) -> anyhow::Result<Answer> {
    let source = Source::open(context, args.file.as_deref())?;
    let asked = !matches!(source.kernel(), KernelWitness::NotAsked);
    let mut at = At::new(args.time);
    let verified = source.verify(&args.heads, &mut |sealed| at.take(sealed))?;
    let clocks =
        Now { time: now(), boot: time::boot(), since_boot_ms: time::since_boot() / 1_000_000 };
    let mut answer = at.finish(&verified, &clocks);
    if source.is_export() && answer.known && args.time > verified.last_time {
        answer.doubts.push("this copy of the log ends before that time".to_owned());
    }
    let trusted = answer.doubts.is_empty() && answer.known;
    let text = format!(
        "{}: {}; {}",
        args.time,
        told(&answer),
        if trusted { witnesses(&answer.held, &verified) } else { doubts(&answer) }
    );
    let exit = match (answer.known, trusted) {
        (false, _) => COULD_NOT_TELL,
        (true, trusted) => u8::from(!trusted),
    };
    Ok(Answer { text: one_line(&text), json: at_json(&answer, &verified, asked, trusted), exit })
}

fn told(answer: &WasEnforced) -> String {
    if !answer.known {
        return "the log has no entry as old as that".to_owned();
    }
    let mut text = match (&answer.held.set, answer.empty_since) {
        (None, Some(started)) => {
            format!("nothing was enforced: the node had started at {started}")
        }
        (None, None) => "nothing was enforced".to_owned(),
        (Some(set), _) => in_force(set),
    };
    if let Some(since) = &answer.held.since {
        text.push_str(&format!(
            ", since entry {} at {} (`{}`, {})",
            since.sequence,
            since.time,
            since.command,
            by(since.uid, since.login_uid)
        ));
    }
    if answer.held.emergency {
        text.push_str(", in an emergency: rules did not deny");
    }
    if let Some(down_by) = answer.down_by {
        text.push_str(&format!(", as long as the node was up: it started again at {down_by}"));
    }
    text
}

fn in_force(set: &InForce) -> String {
    let mut text = format!("generation {}, set {}: ", set.generation, set.set_digest);
    if set.policies.is_empty() {
        return text + "no policy";
    }
    let policies = set.policies.iter().map(|policy| {
        let signed = if policy.key_ids.is_empty() {
            "unsigned".to_owned()
        } else {
            format!("signed by {}", policy.key_ids.join(" and "))
        };
        format!(
            "{} version {} ({}, sha256:{}, {signed})",
            policy.name, policy.version, policy.mode, policy.policy_digest
        )
    });
    text.push_str(&policies.collect::<Vec<_>>().join(", "));
    text
}

/// How far the answer can be trusted.
fn witnesses(held: &Held, verified: &Verification) -> String {
    let since = held.since.as_ref().map_or(0, |since| since.sequence);
    let confirms = |up_to: Option<u64>| up_to.is_some_and(|up_to| up_to > 0 && up_to >= since);
    match (confirms(verified.kernel_confirms), confirms(verified.given_confirms)) {
        (true, true) => "the log is whole, as the kernel and the given head confirm".to_owned(),
        (true, false) => "the log is whole, as the kernel confirms".to_owned(),
        (false, true) => "the log is whole, as the given head confirms".to_owned(),
        (false, false) => "the log is whole, and no witness confirms it".to_owned(),
    }
}

fn doubts(answer: &WasEnforced) -> String {
    if answer.doubts.is_empty() {
        return "nobody can tell".to_owned();
    }
    format!("NOT CERTAIN: {}", answer.doubts.join("; "))
}

fn at_json(answer: &WasEnforced, verified: &Verification, asked: bool, trusted: bool) -> Value {
    let held = &answer.held;
    let since = held.since.as_ref().map(|since| {
        json!({
            "sequence": since.sequence, "time": since.time, "command": since.command,
            "uid": since.uid, "login_uid": since.login_uid, "reason": since.reason,
        })
    });
    json!({
        "time": answer.time,
        "known": answer.known,
        "in_force": held.set,
        "since": since,
        "emergency": held.emergency,
        "node_started": answer.empty_since,
        "node_down_by": answer.down_by,
        "trusted": trusted,
        "doubts": answer.doubts,
        "log": report(verified, asked),
    })
}

fn export(context: &Context, args: &Export) -> anyhow::Result<Answer> {
    let source = Source::open(context, None)?;
    let (bytes, verified) = source.bytes()?;
    files::write_whole(&files::absolute(&args.output)?, &bytes)?;
    let text = format!(
        "{} to {}\nhead: entry {} {}",
        entries(verified.entries),
        args.output.display(),
        verified.head.sequence,
        verified.head.hash
    );
    let mut json = report(&verified, true);
    if let Some(fields) = json.as_object_mut() {
        fields.insert("file".to_owned(), json!(args.output));
    }
    Ok(Answer { text, json, exit: u8::from(!verified.is_whole()) })
}

fn restart(context: &Context, args: &Restart) -> anyhow::Result<Answer> {
    let kept = Log::new(context).restart(&args.reason)?;
    let text = format!("another log is begun; the one before is kept in {}", kept.display());
    Ok(Answer { text, json: json!({ "changed": true, "kept_in": kept }), exit: 0 })
}

fn entries(count: u64) -> String {
    if count == 1 { "1 entry".to_owned() } else { format!("{count} entries") }
}

/// This node's log with the kernel as its witness, or a copy of one.
enum Source {
    Node(Box<Look>),
    Export { name: String, bytes: Vec<u8> },
}

impl Source {
    fn open(context: &Context, file: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = file else { return Ok(Self::Node(Box::new(Log::new(context).look()?))) };
        // Anybody may hand in a copy: what it says is checked, not where it comes from.
        let bytes =
            std::fs::read(path).with_context(|| format!("failed to read {}", path.display()))?;
        Ok(Self::Export { name: path.display().to_string(), bytes })
    }

    fn kernel(&self) -> KernelWitness {
        match self {
            Self::Node(look) => look.kernel.clone(),
            Self::Export { .. } => KernelWitness::NotAsked,
        }
    }

    fn unasked(&self) -> Option<&str> {
        match self {
            Self::Node(look) => look.unasked.as_deref(),
            Self::Export { .. } => None,
        }
    }

    const fn is_export(&self) -> bool {
        matches!(self, Self::Export { .. })
    }

    fn verify(
        &self,
        given: &[aegis_trust::Digest],
        each: &mut impl FnMut(&Sealed),
    ) -> anyhow::Result<Verification> {
        match self {
            Self::Node(look) => look.verify(given, each),
            Self::Export { name, bytes } => {
                let mut verifier = Verifier::new(given, KernelWitness::NotAsked);
                verifier.segment(name, bytes, each);
                Ok(verifier.finish(now()))
            }
        }
    }

    /// Every line as it stands, those of the reserve last.
    fn bytes(&self) -> anyhow::Result<(Vec<u8>, Verification)> {
        let mut all = Vec::new();
        let mut last = 0;
        let verified = self.verify(&[], &mut |sealed| last = sealed.record.sequence)?;
        if let Self::Node(look) = self
            && let Some(snapshot) = &look.snapshot
        {
            let mut in_segments = 0;
            snapshot.each(|_, bytes| {
                all.extend_from_slice(bytes);
                in_segments += bytes.iter().filter(|byte| **byte == b'\n').count();
                Ok(())
            })?;
            let reserved = usize::try_from(last)?.saturating_sub(in_segments);
            let (lines, _) = aegis_trust::provenance::reserve_lines(&snapshot.reserve);
            for line in lines.iter().skip(lines.len().saturating_sub(reserved)) {
                all.extend_from_slice(line);
                all.push(b'\n');
            }
        }
        Ok((all, verified))
    }
}
