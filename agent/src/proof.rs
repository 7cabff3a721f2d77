// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Provokes denials of our own, to see that they come, and come from us.
//!
//! The probe is this binary in a process of its own. In a neutral cgroup it opens three files, which
//! must succeed; then it joins the scratch cgroup and opens them again, which must not. Each file can
//! only be denied on one way: by its inode, by its name, or by the directory above it.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use aegis_abi::Action;
use aegis_kernel::{Generation, Kernel, Slot};
use aegis_policy::{BuiltIn, Ruleset};
use anyhow::Context as _;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::{
    cgroups::Own,
    context::Context,
    coverage::Coverage,
    event_log::{EventLog, Seen},
    files, host,
    lock::Lock,
    posture::Standing,
    time,
};

/// What came of a proof.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Proof {
    /// The generation that decided.
    pub(crate) generation: u64,
    /// The boot in which it was made; `None` stands for no other.
    pub(crate) boot: Option<String>,
    /// When: nanoseconds since that boot.
    pub(crate) at: u64,
    /// When, as the calendar has it.
    pub(crate) time: String,
    /// One for each way in which a file is found.
    pub(crate) paths: Vec<PathProof>,
    /// What a comparison of the kernel with the policies found.
    #[serde(default)]
    pub(crate) coverage: Coverage,
}

/// What came of one file.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct PathProof {
    /// `by-inode`, `by-name` or `by-directory`.
    pub(crate) path: String,
    pub(crate) result: Outcome,
    /// Why, if it is not as it should be.
    pub(crate) detail: Option<String>,
    /// Whether the event came as well; `None` if somebody else takes events.
    pub(crate) event: Option<bool>,
}

impl PathProof {
    /// Whether the denial came, and from us.
    pub(crate) fn passed(&self) -> bool {
        self.result == Outcome::DeniedByUs
    }
}

/// Whether it was us who denied.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    DeniedByUs,
    NotDenied,
    DeniedByOther,
    CouldNotRun,
}

impl Outcome {
    /// The word that records use.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::DeniedByUs => "denied_by_us",
            Self::NotDenied => "not_denied",
            Self::DeniedByOther => "denied_by_other",
            Self::CouldNotRun => "could_not_run",
        }
    }
}

impl Proof {
    fn now(generation: &Generation, paths: Vec<PathProof>) -> Self {
        let (at, time) = (time::since_boot(), time::written(time::now()));
        let (generation, boot, coverage) = (generation.number, time::boot(), Coverage::default());
        Self { generation, boot, at, time, paths, coverage }
    }

    /// What is known if nothing could be tried.
    pub(crate) fn could_not_run(generation: &Generation, why: &anyhow::Error) -> Self {
        let path = |path: &str| PathProof {
            path: path.to_owned(),
            result: Outcome::CouldNotRun,
            detail: Some(format!("{why:#}")),
            event: None,
        };
        Self::now(generation, BuiltIn::RULES.map(path).to_vec())
    }

    /// Whether every denial came from us.
    pub(crate) fn passed(&self) -> bool {
        !self.paths.is_empty() && self.paths.iter().all(|path| path.result == Outcome::DeniedByUs)
    }

    /// What a posture needs to know, with the last proof for the case that none could be made.
    pub(crate) fn standing(&self, last: Option<&Self>) -> Standing {
        let any = |outcome| self.paths.iter().any(|path| path.result == outcome);
        if any(Outcome::NotDenied) {
            return Standing::Failed;
        }
        if any(Outcome::DeniedByOther) {
            return Standing::DeniedByOther;
        }
        if self.passed() || last.is_some_and(|last| last.holds_at(self)) {
            Standing::Passed
        } else {
            Standing::Missing
        }
    }

    /// Whether this one stands for a later one that could not be made.
    fn holds_at(&self, later: &Self) -> bool {
        let age = later.at.checked_sub(self.at);
        self.passed()
            && self.generation == later.generation
            && self.boot.is_some()
            && self.boot == later.boot
            && age.is_some_and(|age| age <= HOLDS)
    }

    /// What a proof that was written down is worth now, for what is active now.
    ///
    /// A denial that did not come stays so until one does; one that came stands for five minutes.
    pub(crate) fn standing_now(&self) -> Standing {
        match self.standing(None) {
            Standing::Passed => {
                let now = Self { boot: time::boot(), at: time::since_boot(), ..self.clone() };
                if self.holds_at(&now) { Standing::Passed } else { Standing::Missing }
            }
            other => other,
        }
    }

    /// Seconds since it was made.
    pub(crate) fn age(&self) -> u64 {
        time::since_boot().saturating_sub(self.at) / 1_000_000_000
    }

    /// The first thing that is not as it should be.
    pub(crate) fn fault(&self) -> Option<String> {
        let fault = self.paths.iter().find(|path| path.result != Outcome::DeniedByUs)?;
        let what = match fault.result {
            Outcome::DeniedByUs => return None,
            Outcome::NotDenied => "was not denied",
            Outcome::DeniedByOther => "was denied by something else",
            Outcome::CouldNotRun => "could not be tried",
        };
        let detail = fault.detail.as_ref().map_or_else(String::new, |detail| format!(": {detail}"));
        Some(format!("the file {} {what}{detail}", fault.path))
    }
}

/// The files that the probe opens.
#[derive(Clone, Debug)]
pub(crate) struct ProofFiles {
    directory: PathBuf,
    elsewhere: PathBuf,
}

impl ProofFiles {
    pub(crate) fn new(context: &Context) -> Self {
        Self { directory: context.proof(), elsewhere: context.run.join("proof-elsewhere") }
    }

    /// The policy that denies them.
    pub(crate) fn built_in(&self) -> BuiltIn {
        use std::os::unix::ffi::OsStrExt as _;
        BuiltIn { proof_directory: self.directory.as_os_str().as_bytes().to_vec() }
    }

    /// Makes what is missing. What is there stays: the active generation is proved by it.
    pub(crate) fn make(&self) -> anyhow::Result<()> {
        let failed =
            || format!("failed to make the files of the proof in {}", self.directory.display());
        files::make_directory(&self.directory.join(BY_DIRECTORY)).with_context(failed)?;
        files::make_directory(&self.elsewhere).with_context(failed)?;
        let (named, link) = (self.directory.join(BY_INODE), self.elsewhere.join("link"));
        if !host::is_same_file(&named, &link) {
            files::remove(&link).with_context(failed)?;
            fs::write(&named, CONTENT)
                .and_then(|()| fs::hard_link(&named, &link))
                .with_context(failed)?;
        }
        let name = self.directory.join(BY_NAME);
        if !name.exists() {
            fs::write(&name, CONTENT).with_context(failed)?;
        }
        Ok(())
    }

    /// Makes anew, after they were resolved, the files that must not be found by their inode.
    pub(crate) fn renew(&self) -> anyhow::Result<()> {
        let failed =
            || format!("failed to renew the files of the proof in {}", self.directory.display());
        let fresh = self.directory.join(BY_DIRECTORY).join("fresh");
        let other = self.elsewhere.join("replacement");
        files::remove(&fresh)
            .and_then(|()| fs::write(&fresh, CONTENT))
            .and_then(|()| fs::write(&other, CONTENT))
            .and_then(|()| fs::rename(&other, self.directory.join(BY_NAME)))
            .with_context(failed)
    }

    /// What is opened for each rule of the built-in policy.
    fn opened(&self) -> [(&'static str, PathBuf); 3] {
        [
            (BY_INODE, self.elsewhere.join("link")),
            (BY_NAME, self.directory.join(BY_NAME)),
            (BY_DIRECTORY, self.directory.join(BY_DIRECTORY).join("fresh")),
        ]
    }
}

/// Where a proof is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bench<'a> {
    pub(crate) kernel: &'a Kernel,
    pub(crate) own: &'a Own,
    pub(crate) files: &'a ProofFiles,
    /// Where events go, if we may take them.
    pub(crate) log: Option<&'a EventLog<'a>>,
}

impl Bench<'_> {
    /// Proves that `generation`, which must decide for the scratch cgroup, denies.
    pub(crate) fn prove(&self, slot: Slot, generation: &Generation, ruleset: &Ruleset) -> Proof {
        match self.try_all(slot, generation, ruleset) {
            Ok(paths) => Proof::now(generation, paths),
            Err(error) => Proof::could_not_run(generation, &error),
        }
    }

    fn try_all(
        &self,
        slot: Slot,
        generation: &Generation,
        ruleset: &Ruleset,
    ) -> anyhow::Result<Vec<PathProof>> {
        let opened = self.files.opened();
        // There an emergency does not hold: what there will be when it is over can be shown.
        self.kernel.set_scratch(self.own.scratch_id()?);
        let before = self.denials(slot, ruleset)?;
        let (pid, answers) = self.run_probe(&opened)?;
        let after = self.denials(slot, ruleset)?;
        let seen = self.log.map(EventLog::drain).transpose()?;
        let seen = seen.map(|seen| {
            let ours = |event: &&Seen| (event.generation, event.pid) == (generation.number, pid);
            seen.iter().filter(ours).map(|event| event.rule).collect::<Vec<_>>()
        });
        let rules = opened.each_ref().map(|(path, _)| {
            let rule = ruleset.rules().iter().find(|rule| rule.built_in && rule.rule.id == *path);
            rule.map(|rule| rule.number)
        });
        let counted = credited(&rules, &newly(&before, &after));
        let evented = seen.map(|seen| credited(&rules, &tally(&seen)));
        let paths = opened.iter().zip(answers).enumerate().map(|(at, ((path, _), answer))| {
            let event = evented.as_ref().and_then(|evented| evented.get(at).copied());
            judge(path, &answer, counted.get(at).copied().unwrap_or(false), event)
        });
        Ok(paths.collect())
    }

    /// Denials so far by rule, in the scopes that the scratch cgroup can have.
    fn denials(&self, slot: Slot, ruleset: &Ruleset) -> anyhow::Result<HashMap<u32, u64>> {
        let counts = self.kernel.counts(slot).context("failed to read the counters")?;
        let mut denials = HashMap::new();
        for (key, count) in counts {
            if ruleset.scope_workloads(key.scope).any(|workload| workload.built_in) {
                let hits = count.hits.get(Action::Deny.index()).copied().unwrap_or(0);
                *denials.entry(key.rule).or_insert(0) += hits;
            }
        }
        Ok(denials)
    }

    fn run_probe(&self, opened: &[(&str, PathBuf)]) -> anyhow::Result<(u32, Vec<Answer>)> {
        // Whatever this binary is called, and even if a newer one has taken its place.
        let child = Command::new("/proc/self/exe")
            .arg("__probe")
            .arg(self.own.exempt_processes())
            .arg(self.own.scratch_processes())
            .args(opened.iter().map(|(_, path)| path))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("failed to start the probe")?;
        let pid = child.id();
        let output = child.wait_with_output().context("failed to wait for the probe")?;
        anyhow::ensure!(
            output.status.success(),
            "the probe failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        let answers: Vec<Answer> =
            serde_json::from_slice(&output.stdout).context("failed to read the probe's answer")?;
        anyhow::ensure!(answers.len() == opened.len(), "the probe answered for other files");
        Ok((pid, answers))
    }
}

/// Waits until no other command makes a proof: in a trial, the scratch cgroup is not the active
/// generation's, and counters would be mistaken.
pub(crate) fn take_turn(context: &Context, command: &str) -> anyhow::Result<Lock> {
    let turn = Lock::wait(&context.run.join("proof.lock"), command)?;
    turn.context("failed to take a turn: another command has made a proof for ten seconds")
}

/// Which of the files were denied, by the rules that are to deny them and how often rules denied.
///
/// An operator's rule on `"*"` that covers our files as well is named in the place of ours: its
/// denials stand for those that are missing, if they are as many.
fn credited(rules: &[Option<u32>], denials: &HashMap<u32, u64>) -> Vec<bool> {
    let own = |rule: &Option<u32>| rule.is_some_and(|rule| denials.contains_key(&rule));
    let missing = rules.iter().filter(|rule| !own(rule)).count() as u64;
    let others = denials.iter().filter(|(rule, _)| !rules.contains(&Some(**rule)));
    let others: u64 = others.map(|(_, count)| count).sum();
    rules.iter().map(|rule| own(rule) || others >= missing).collect()
}

/// What was counted between two looks.
fn newly(before: &HashMap<u32, u64>, after: &HashMap<u32, u64>) -> HashMap<u32, u64> {
    let rose = after
        .iter()
        .map(|(rule, count)| (*rule, count.saturating_sub(before.get(rule).copied().unwrap_or(0))));
    rose.filter(|(_, more)| *more > 0).collect()
}

fn tally(rules: &[u32]) -> HashMap<u32, u64> {
    let mut tally = HashMap::new();
    for rule in rules {
        *tally.entry(*rule).or_insert(0) += 1;
    }
    tally
}

/// What opening one file gave: error numbers, 0 for success.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Answer {
    neutral: i32,
    scratch: i32,
}

/// The probe itself: opens each file from both cgroups.
pub(crate) fn probe(
    neutral: &Path,
    scratch: &Path,
    files: &[PathBuf],
) -> anyhow::Result<Vec<Answer>> {
    let join = |procs: &Path| {
        fs::write(procs, "0").with_context(|| format!("failed to join {}", procs.display()))
    };
    join(neutral)?;
    let before: Vec<i32> = files.iter().map(|path| open(path)).collect();
    join(scratch)?;
    let after = files.iter().map(|path| open(path));
    Ok(before
        .into_iter()
        .zip(after)
        .map(|(neutral, scratch)| Answer { neutral, scratch })
        .collect())
}

fn open(path: &Path) -> i32 {
    match fs::File::open(path) {
        Ok(_) => 0,
        Err(error) => error.raw_os_error().unwrap_or(-1),
    }
}

/// A denial is ours if it came with our error number, and our counter saw it.
fn judge(path: &str, answer: &Answer, counted: bool, event: Option<bool>) -> PathProof {
    let eperm = Errno::PERM.raw_os_error();
    let told = |number: i32| io::Error::from_raw_os_error(number).to_string();
    let (result, detail) = if answer.neutral != 0 {
        let detail =
            format!("it cannot be opened from a neutral cgroup either: {}", told(answer.neutral));
        (Outcome::CouldNotRun, Some(detail))
    } else if answer.scratch == 0 {
        let detail = counted.then(|| "it was opened although a denial was counted".to_owned());
        (Outcome::NotDenied, detail)
    } else if answer.scratch == eperm && counted {
        (Outcome::DeniedByUs, None)
    } else {
        (Outcome::DeniedByOther, Some(told(answer.scratch)))
    };
    PathProof { path: path.to_owned(), result, detail, event }
}

/// The last proof that was written down of this generation, in this boot.
pub(crate) fn last_of(context: &Context, generation: u64) -> Option<Proof> {
    let same = |proof: &Proof| {
        proof.generation == generation && proof.boot.is_some() && proof.boot == time::boot()
    };
    last(context).filter(same)
}

/// The last proof that was written down.
pub(crate) fn last(context: &Context) -> Option<Proof> {
    serde_json::from_slice(&fs::read(context.proof_record()).ok()?).ok()
}

/// Writes a proof down, unless it would hide one that still holds.
pub(crate) fn record(context: &Context, proof: &Proof) -> anyhow::Result<()> {
    let could_not = proof.paths.iter().all(|path| path.result == Outcome::CouldNotRun);
    if could_not && last(context).is_some_and(|last| last.holds_at(proof)) {
        return Ok(());
    }
    let bytes = serde_json::to_vec(proof).context("failed to write a proof as JSON")?;
    files::write_whole(&context.proof_record(), &bytes)
}

const BY_INODE: &str = BuiltIn::RULES[0];
const BY_NAME: &str = BuiltIn::RULES[1];
const BY_DIRECTORY: &str = BuiltIn::RULES[2];

const CONTENT: &str = "opened by the proof that denials are real\n";

/// How long the last proof stands if none can be made: five minutes.
const HOLDS: u64 = 300_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(neutral: i32, scratch: i32, counted: bool) -> Outcome {
        judge(BY_NAME, &Answer { neutral, scratch }, counted, None).result
    }

    #[test]
    fn four_answers_are_kept_apart() {
        assert_eq!(outcome(0, 1, true), Outcome::DeniedByUs);
        assert_eq!(outcome(0, 0, false), Outcome::NotDenied);
        assert_eq!(outcome(0, 0, true), Outcome::NotDenied);
        assert_eq!(outcome(0, 1, false), Outcome::DeniedByOther, "not counted: not ours");
        assert_eq!(outcome(0, 13, true), Outcome::DeniedByOther, "another number: not ours");
        assert_eq!(outcome(2, 2, false), Outcome::CouldNotRun);
        assert_eq!(outcome(1, 1, true), Outcome::CouldNotRun, "denied everywhere proves nothing");
    }

    fn proof(result: Outcome, generation: u64, at: u64) -> Proof {
        let paths = [BY_INODE, BY_NAME, BY_DIRECTORY].map(|path| PathProof {
            path: path.to_owned(),
            result: if path == BY_NAME { result } else { Outcome::DeniedByUs },
            detail: None,
            event: None,
        });
        let (boot, time) = (Some("this".to_owned()), String::new());
        let coverage = Coverage::default();
        Proof { generation, boot, at, time, paths: paths.to_vec(), coverage }
    }

    #[test]
    fn one_file_that_is_not_denied_fails_the_proof_at_once() {
        let last = proof(Outcome::DeniedByUs, 1, 0);
        assert_eq!(proof(Outcome::NotDenied, 1, 1).standing(Some(&last)), Standing::Failed);
        assert_eq!(
            proof(Outcome::DeniedByOther, 1, 1).standing(Some(&last)),
            Standing::DeniedByOther
        );
    }

    #[test]
    fn the_last_proof_stands_for_five_minutes_and_for_its_generation() {
        let last = proof(Outcome::DeniedByUs, 1, 0);
        let now = |generation, at| proof(Outcome::CouldNotRun, generation, at);
        assert_eq!(now(1, HOLDS).standing(Some(&last)), Standing::Passed);
        assert_eq!(now(1, HOLDS + 1).standing(Some(&last)), Standing::Missing);
        assert_eq!(now(2, 1).standing(Some(&last)), Standing::Missing);
        assert_eq!(now(1, 1).standing(None), Standing::Missing);
    }

    #[test]
    fn a_proof_from_the_future_or_from_another_boot_stands_for_nothing() {
        let now = proof(Outcome::CouldNotRun, 1, 10);
        let of = |boot: Option<&str>, at| Proof {
            boot: boot.map(str::to_owned),
            ..proof(Outcome::DeniedByUs, 1, at)
        };
        assert_eq!(now.standing(Some(&of(Some("this"), 10))), Standing::Passed);
        assert_eq!(now.standing(Some(&of(Some("this"), 11))), Standing::Missing);
        assert_eq!(now.standing(Some(&of(Some("other"), 10))), Standing::Missing);
        let nowhen = Proof { boot: None, ..now };
        assert_eq!(nowhen.standing(Some(&of(None, 10))), Standing::Missing);
    }

    #[test]
    fn a_denial_by_a_rule_that_covers_our_files_as_well_is_ours() {
        let rules = [Some(7), Some(8), Some(9)];
        let denied = |counts: &[(u32, u64)]| credited(&rules, &counts.iter().copied().collect());
        assert_eq!(denied(&[(7, 1), (8, 1), (9, 1)]), [true, true, true]);
        assert_eq!(denied(&[(1, 3)]), [true, true, true]);
        assert_eq!(denied(&[(1, 2)]), [false, false, false]);
        assert_eq!(
            denied(&[(7, 2), (1, 1)]),
            [true, false, false],
            "none stands for another of ours"
        );
        assert_eq!(denied(&[]), [false, false, false]);
    }

    #[test]
    fn a_proof_without_files_proves_nothing() {
        let empty = Proof { paths: Vec::new(), ..proof(Outcome::DeniedByUs, 1, 0) };
        assert_eq!(empty.standing(None), Standing::Missing);
    }
}
