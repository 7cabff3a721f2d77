// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `explain --live`: what the kernel does now, beside what the rules say.
//!
//! The kernel is asked by trying: a child of ours goes into the cgroup and opens the file. That is counted
//! and reported like any other attempt. In which scope the cgroup is, and which rules the label of the path stands
//! for, is read from the active generation's maps.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs, io,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use aegis_abi::{Access, Action, InodeKey};
use aegis_kernel::{Kernel, probe};
use aegis_policy::{
    Accesses, Explanation, Found, Host as _, Kind, NumberedRule, Places, Question, Ruleset, escape,
    explain, resolve,
};
use anyhow::Context as _;
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    apply::unresolved,
    bindings::{self, Remembering},
    cli,
    context::Context,
    event_log::{self, EventLog, Reader},
    failure::Refusal,
    host::ThisHost,
    late,
    output::Answer,
    view::{self, InForce},
};

/// What is asked of the kernel and of the rules.
pub(super) struct Asked<'a> {
    pub(super) cgroup: &'a [u8],
    pub(super) path: &'a [u8],
    pub(super) accesses: Accesses,
}

/// What came of it in the kernel.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Kernels {
    /// `deny`, `would_deny`, `audit`, or `allow` if no rule spoke.
    verdict: String,
    policy: Option<String>,
    rule: Option<String>,
    workloads: Vec<String>,
    /// The rules that hold on the path, whomever they are about; `None` if labels cannot be told apart.
    label: Option<BTreeSet<String>>,
}

/// How rules and an explanation are told, as without `--live`.
pub(super) type Tell = fn(&Ruleset, &Explanation, &[u8], &[u8]) -> (String, Vec<Value>);

pub(super) fn run(context: &Context, asked: &Asked<'_>, tell: Tell) -> anyhow::Result<Answer> {
    let view = view::in_force(context)?;
    let (Some(kernel), Some(active)) = (&view.kernel, &view.active) else {
        return Err(Refusal::new("NOTHING_IN_FORCE", "no policy is in force on this host").into());
    };
    let (_, ruleset) = active.known()?;
    let flags = flags(asked.accesses)?;
    let directory = directory(asked.cgroup)?;

    let path = fs::canonicalize(OsStr::from_bytes(asked.path))
        .with_context(|| format!("failed to find {}", escape(asked.path)))?;
    let path = path.as_os_str().as_bytes();
    let mut host = ThisHost::new(context.patience_to_apply())?;
    let places = places(context, &mut host, ruleset)?;
    let (key, paths) = known_as(&mut host, &places, path)?;
    drop(host);
    let question = Question { cgroup: asked.cgroup, paths: &paths, accesses: asked.accesses };
    let explanation = explain(ruleset, &places, &question);

    let record = attempt(context, kernel, &directory, flags, path)?;
    anyhow::ensure!(
        kernel.active() == Some(active.slot),
        "failed to compare: something else was put in force meanwhile; ask again"
    );
    let id = fs::metadata(&directory).context("failed to look at the cgroup")?.ino();
    let scope = kernel.scope_of(active.slot, id).context("failed to read the scope")?;
    let label = label(context, kernel, active, ruleset, (&key, &paths))?;
    let mut wanted = wanted(ruleset, &explanation);
    if label.is_none() {
        wanted.label = None;
    }
    let workloads = names(ruleset, ruleset.scope(scope));
    let given = Kernels { workloads, label, ..given(record.as_ref()) };
    let differs = given != wanted;
    let (mut text, matches) = tell(ruleset, &explanation, asked.path, asked.cgroup);
    text.push_str(&format!("\n  the kernel: {}", said(&given)));
    if differs {
        text.push_str(&format!("\n  DIFFERS from the rules: {}", said(&wanted)));
    }
    let denied = given.verdict == Action::Deny.name();
    let json = json!({
        "allowed": !denied,
        "verdict": given.verdict,
        "cgroup": escape(asked.cgroup),
        "path": escape(path),
        "kernel": given,
        "rules": wanted,
        "differs": differs,
        "why": record.as_ref().and_then(|record| record.get("why")),
        "generation": active.generation.number,
        "revision": active.generation.revision,
        "matches": matches,
    });
    Ok(Answer { text, json, exit: if differs { 2 } else { u8::from(denied) } })
}

/// One open can ask for reading, writing or both; a program is only opened to be run by running it.
fn flags(accesses: Accesses) -> Result<OFlags, Refusal> {
    let flags = match (
        accesses.contains(Access::Read),
        accesses.contains(Access::Write),
        accesses.contains(Access::Exec),
    ) {
        (true, false, false) => OFlags::RDONLY,
        (false, true, false) => OFlags::WRONLY,
        (true, true, false) => OFlags::RDWR,
        _ => {
            return Err(Refusal::new(
                "NOT_TRIED",
                "whether it may be run is only known from running it",
            )
            .hint("ask for read, write or read,write; or leave out --live"));
        }
    };
    Ok(flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW)
}

fn directory(cgroup: &[u8]) -> anyhow::Result<PathBuf> {
    let mount = probe::cgroup2_mount().context("failed to find the cgroup2 hierarchy")?;
    let below = Path::new(OsStr::from_bytes(cgroup.strip_prefix(b"/").unwrap_or(cgroup)));
    let directory = mount.join(below);
    if directory.join("cgroup.procs").exists() {
        return Ok(directory);
    }
    let message = format!("there is no cgroup {} on this host", escape(cgroup));
    Err(Refusal::new("NO_SUCH_CGROUP", message)
        .hint("without --live the same is answered for cgroups that are not there")
        .into())
}

fn places(context: &Context, host: &mut ThisHost, ruleset: &Ruleset) -> anyhow::Result<Places> {
    let mut remembering = Remembering::everything(host, bindings::last_link_scan(context))?;
    let places = resolve(ruleset, &mut remembering);
    places.map_err(|errors| unresolved(host, &errors).into())
}

/// Its inode, and every path by which rules know what stands there.
fn known_as(
    host: &mut ThisHost,
    places: &Places,
    path: &[u8],
) -> anyhow::Result<(InodeKey, Vec<Vec<u8>>)> {
    let mut paths = vec![path.to_vec()];
    let Found::There(component) = host.look(path)? else {
        anyhow::bail!("failed to look at {}: it is gone", escape(path));
    };
    if component.kind == Kind::Other {
        let message =
            format!("{} is a device, socket or pipe: to open it could do harm", escape(path));
        return Err(Refusal::new("NOT_TRIED", message).hint("leave out --live").into());
    }
    paths.extend(places.paths_of(component.key).map(<[u8]>::to_vec));
    paths.sort_unstable();
    paths.dedup();
    Ok((component.key, paths))
}

/// The rules that the labels stand for which the maps have for an inode and for its paths. `None` if it is not known
/// what labels stand for, or if one is coarse.
fn label(
    context: &Context,
    kernel: &Kernel,
    active: &InForce,
    ruleset: &Ruleset,
    (key, paths): (&InodeKey, &[Vec<u8>]),
) -> anyhow::Result<Option<BTreeSet<String>>> {
    let asked = kernel.ask(active.slot).context("failed to open the active generation")?;
    let asked = asked.context("the active generation is empty")?;
    let Some(meaning) = late::meaning(context, active.slot, &active.generation) else {
        return Ok(None);
    };
    let mut labels = BTreeSet::from([asked.of_inode(key)?]);
    for path in paths {
        labels.insert(asked.beneath_path(path)?);
    }
    labels.remove(&0);
    let mut rules = BTreeSet::new();
    for label in labels {
        let Some(set) = meaning.labels.get((label as usize).wrapping_sub(1)) else {
            return Ok(None);
        };
        let set: Vec<&NumberedRule> =
            set.iter().filter_map(|number| ruleset.rule(*number)).collect();
        // Rules of our own are on no path that is asked for: this is the label of every rule.
        if set.iter().any(|rule| rule.built_in) {
            return Ok(None);
        }
        rules.extend(set.into_iter().map(called));
    }
    Ok(Some(rules))
}

fn called(rule: &NumberedRule) -> String {
    format!("{}/{}", rule.policy, rule.rule.id)
}

/// Opens it from the cgroup: the event of that, if there is one.
fn attempt(
    context: &Context,
    kernel: &Kernel,
    cgroup: &Path,
    flags: OFlags,
    path: &[u8],
) -> anyhow::Result<Option<Value>> {
    let mut reader = Reader::new(context);
    event_log::drain_if_free(context, kernel)?;
    reader.read()?;
    let child = Command::new("/proc/self/exe")
        .arg("__open")
        .arg(cgroup.join("cgroup.procs"))
        .arg(flags.bits().to_string())
        .arg(OsStr::from_bytes(path))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("failed to start the process that tries")?;
    let pid = child.id();
    let output = child.wait_with_output().context("failed to wait for the process that tries")?;
    let told = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "failed to try: {}", told.trim());
    let number: i32 =
        serde_json::from_slice(&output.stdout).context("failed to read what came of it")?;
    // An agent takes events every second; without one they are taken here.
    let mut record = None;
    for _ in 0..TURNS {
        let log = EventLog::open(context, kernel)?;
        let taken = log.as_ref().map(EventLog::drain).transpose()?;
        let ours = |record: &Value| record.get("pid") == Some(&pid.into());
        record = reader.read()?.into_iter().find(ours);
        if record.is_some() || taken.is_some() {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    match (number, &record) {
        (0, _) => {}
        (number, Some(_)) if number == Errno::PERM.raw_os_error() => {}
        (number, _) => {
            let error = io::Error::from_raw_os_error(number);
            let message = format!("it was refused, and not by us: {error}");
            return Err(Refusal::new("DENIED_BY_OTHER", message).into());
        }
    }
    Ok(record)
}

/// The hidden verb: goes into a cgroup and opens a file; the error number, or 0.
pub(super) fn open(args: &cli::Open) -> anyhow::Result<Answer> {
    fs::write(&args.cgroup, "0")
        .with_context(|| format!("failed to join {}", args.cgroup.display()))?;
    let flags = OFlags::from_bits_retain(args.flags);
    let opened = rustix::fs::open(&args.path, flags, Mode::empty());
    let number = opened.err().map_or(0, Errno::raw_os_error);
    Ok(Answer { text: number.to_string(), json: json!({ "error": number }), exit: 0 })
}

fn given(record: Option<&Value>) -> Kernels {
    let text = |name| Some(record?.get(name)?.as_str()?.to_owned());
    // What an emergency spares is what would be denied without it.
    let spared = text("spared_by").as_deref() == Some("emergency");
    let verdict = if spared { Some(Action::Deny.name().to_owned()) } else { text("verdict") };
    Kernels {
        verdict: verdict.unwrap_or_else(|| "allow".to_owned()),
        policy: text("policy"),
        rule: text("rule"),
        workloads: Vec::new(),
        label: None,
    }
}

fn wanted(ruleset: &Ruleset, explanation: &Explanation) -> Kernels {
    let decided = explanation.decision;
    let rule = decided.and_then(|decision| ruleset.rule(decision.rule));
    // Of the exempt cgroup nothing is computed.
    let workloads: &[u32] = if explanation.exempt { &[] } else { &explanation.workloads };
    let holds = explanation.matches.iter().filter(|found| found.excepted.is_none());
    let holds = holds.filter_map(|found| ruleset.rule(found.rule));
    Kernels {
        label: Some(holds.map(called).collect()),
        verdict: decided.map_or("allow", |decision| decision.action.name()).to_owned(),
        policy: rule.map(|rule| rule.policy.clone()),
        rule: rule.map(|rule| rule.rule.id.clone()),
        workloads: names(ruleset, workloads),
    }
}

fn names(ruleset: &Ruleset, numbers: &[u32]) -> Vec<String> {
    let all = ruleset.workloads().iter().filter(|workload| numbers.contains(&workload.number));
    all.map(|workload| format!("{}/{}", workload.policy, workload.name)).collect()
}

fn said(kernels: &Kernels) -> String {
    let rule = kernels.policy.iter().zip(&kernels.rule);
    let rule: String = rule.map(|(policy, rule)| format!(" by {policy}/{rule}")).collect();
    let workloads = kernels.workloads.join(", ");
    let workloads = if workloads.is_empty() { "no workload".to_owned() } else { workloads };
    let label = kernels.label.iter().map(|rules| match rules.len() {
        0 => "; no rule holds on the path".to_owned(),
        _ => format!("; on the path: {}", rules.iter().cloned().collect::<Vec<_>>().join(", ")),
    });
    format!("{}{rule}, in {workloads}{}", kernels.verdict, label.collect::<String>())
}

/// Two seconds.
const TURNS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);
