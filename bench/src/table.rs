// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every row of the table: its state is brought about and proven, then it is measured.
//!
//! One line of JSON for each row, on stdout; whoever reads them compares and prints. Any doubt
//! about any row ends the run: half a table is none.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use serde_json::json;

use crate::{
    measure::{self, Order},
    operation::Operation,
    stage::{self, ABOVE, BARE, Chain, INSIDE, OUTSIDE, RULED, WITNESS},
    states::{self, Answering, EmptyProgram, Product},
    switches::Files,
};

/// Where, and what: what is compared over states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    operation: Operation,
    filesystem: &'static str,
    chain: Chain,
    depth: u32,
}

impl Place {
    const fn open(filesystem: &'static str, depth: u32) -> Self {
        Self { operation: Operation::Open, filesystem, chain: Chain::Free, depth }
    }

    /// On a filesystem without rules.
    const fn bare(operation: Operation) -> Self {
        Self { operation, filesystem: BARE, chain: Chain::Free, depth: 7 }
    }

    /// As deep as most files are, on the filesystem with rules.
    const fn at_nine(operation: Operation) -> Self {
        Self { operation, filesystem: RULED, chain: Chain::Free, depth: 9 }
    }

    fn path(self) -> String {
        let file = match self.operation {
            Operation::Exec => "exec",
            Operation::DeniedOpen if self.chain == Chain::Beside => "secret",
            _ => "file",
        };
        stage::path(self.filesystem, self.chain, self.depth, file)
    }

    /// The same place in every state: a denied open is compared with one that is not.
    fn name(self) -> String {
        let operation = match self.operation {
            Operation::Open | Operation::DeniedOpen => "open",
            Operation::Stat => "stat",
            Operation::Rename => "rename",
            Operation::Create => "create",
            Operation::Unlink => "unlink",
            Operation::Link => "link",
            Operation::Chmod => "chmod",
            Operation::Map => "map",
            Operation::Mount => "mount",
            Operation::Exec => "exec",
        };
        let chain = match self.chain {
            Chain::Free => "",
            Chain::Beside => ".beside",
            Chain::Denied => ".denied",
        };
        format!("{operation}.{}{chain}.{}", self.filesystem.trim_start_matches('/'), self.depth)
    }
}

/// What is measured beside open.
const OTHERS: [Operation; 9] = [
    Operation::Stat,
    Operation::Rename,
    Operation::Create,
    Operation::Unlink,
    Operation::Link,
    Operation::Chmod,
    Operation::Map,
    Operation::Mount,
    Operation::Exec,
];
const FEW: u32 = 10;
const MANY: u32 = 100_000;
/// How many files have left a denied directory, in the rows that say so.
const LATE: u32 = 1_000;

/// In what the generation with many objects differs from the one before it.
pub(crate) const DIFFERENT: Files<'_> =
    Files { before: ABOVE, now: "/ruled/00/500", both: WITNESS };

pub(crate) fn run() -> anyhow::Result<()> {
    wait_for_the_clock()?;
    stage::build()?;
    nothing_loaded()?;
    others()?;
    product()
}

fn nothing_loaded() -> anyhow::Result<()> {
    let outside = Asker { cgroup: OUTSIDE, witness_is_denied: false, landlock: false };
    for depth in [2, 7, 8, 32] {
        outside.measure("nothing-loaded", Place::open(BARE, depth))?;
    }
    for depth in [2, 8, 9, 32] {
        outside.measure("nothing-loaded", Place::open(RULED, depth))?;
    }
    for chain in [Chain::Beside, Chain::Denied] {
        let place = Place { chain, ..Place::at_nine(Operation::Open) };
        outside.measure("nothing-loaded", place)?;
    }
    for place in others_at() {
        outside.measure("nothing-loaded", place)?;
    }
    Ok(())
}

fn others_at() -> impl Iterator<Item = Place> {
    OTHERS.map(Place::at_nine).into_iter().chain(OTHERS.map(Place::bare))
}

/// What we compare with.
fn others() -> anyhow::Result<()> {
    let outside = Asker { cgroup: OUTSIDE, witness_is_denied: false, landlock: false };
    let place = Place::at_nine(Operation::Open);
    let empty = EmptyProgram::attach()?;
    outside.measure("empty-program", place)?;
    drop(empty);
    if states::has_landlock() {
        Asker { landlock: true, ..outside }.measure("landlock", place)?;
    }
    let answering = Answering::begin(RULED)?;
    outside.measure("fanotify", place)?;
    let answered = answering.end()?;
    let asked = operations(place.operation);
    ensure!(answered >= asked, "fanotify asked {answered} times about {asked} opens");
    Ok(())
}

fn product() -> anyhow::Result<()> {
    let outside = Asker { cgroup: OUTSIDE, witness_is_denied: false, landlock: false };
    let inside = Asker { cgroup: INSIDE, witness_is_denied: true, landlock: false };
    let open = Place::at_nine(Operation::Open);

    let product = Product::apply(&stage::policy(1, FEW, &[])?, FEW)?.without_policy()?;
    outside.measure_with(&product, "no-policy", open)?;

    let product = Product::apply(&stage::policy(2, FEW, &[])?, FEW)?;
    for place in [Place::open(BARE, 7), open].into_iter().chain(others_at()) {
        inside.check_witness()?;
        outside.measure_with(&product, "out-of-scope", place)?;
    }
    scope(inside, &product, "in-scope")?;
    for place in others_at() {
        inside.measure_with(&product, "in-scope", place)?;
    }
    let denied = Place { chain: Chain::Denied, ..Place::at_nine(Operation::DeniedOpen) };
    inside.measure_with(&product, "denied", denied)?;

    let product = Product::apply(&stage::policy(3, FEW, &[stage::beside()])?, FEW)?;
    let secret = Place { chain: Chain::Beside, ..denied };
    inside.measure_with(&product, "denied", secret)?;
    let free = Place { operation: Operation::Open, ..secret };
    inside.measure_with(&product, "in-scope", free)?;

    let product = Product::apply(&stage::policy(4, FEW, &[ABOVE.to_owned()])?, FEW)?;
    inside.measure_with(&product, "in-scope-rules-above", Place::open(BARE, 7))?;
    inside.measure_with(&product, "in-scope-rules-above", open)?;

    let product = Product::apply(&stage::policy(5, MANY, &[])?, MANY)?;
    inside.check_witness()?;
    outside.measure_with(&product, "out-of-scope-many", open)?;
    scope(inside, &product, "in-scope-many")?;
    let status = Command::new("/proc/self/exe").arg("switches").status();
    ensure!(status.is_ok_and(|status| status.success()), "failed to measure what switches");

    let product = Product::apply(&stage::policy(6, FEW, &[])?, FEW)?;
    stage::leave(LATE)?;
    for place in [Place::open(BARE, 7), open].into_iter().chain(OTHERS.map(Place::at_nine)) {
        inside.check_witness()?;
        outside.measure_with(&product, "out-of-scope-moved", place)?;
        inside.measure_with(&product, "in-scope-moved", place)?;
    }
    product.detach()?;
    outside.measure("taken-out", open)
}

fn scope(inside: Asker, product: &Product, state: &str) -> anyhow::Result<()> {
    for depth in [2, 7, 8, 32] {
        inside.measure_with(product, state, Place::open(BARE, depth))?;
    }
    for depth in [2, 8, 9, 32] {
        inside.measure_with(product, state, Place::open(RULED, depth))?;
    }
    Ok(())
}

/// Whoever measures, and what holds for it.
#[derive(Clone, Copy, Debug)]
struct Asker {
    cgroup: &'static str,
    witness_is_denied: bool,
    landlock: bool,
}

impl Asker {
    fn measure(self, state: &str, place: Place) -> anyhow::Result<()> {
        self.run(state, place, || Ok(()))
    }

    /// That the witness is denied to a process in this cgroup, or is not.
    fn check_witness(self) -> anyhow::Result<()> {
        let order = self.order(None);
        let status = Command::new("/proc/self/exe")
            .args(["measure", &serde_json::to_string(&order)?])
            .status()
            .context("failed to start a process that asks")?;
        ensure!(status.success(), "the policy is not in force where it should be");
        Ok(())
    }

    fn order(self, place: Option<Place>) -> Order {
        Order {
            task: place.map(|place| (place.operation, place.path())),
            cgroup: self.cgroup.to_owned(),
            witness: WITNESS.to_owned(),
            witness_is_denied: self.witness_is_denied,
            landlock: self.landlock,
        }
    }

    /// The same while AegisBPF is attached: not one event may be lost, nor come from nowhere.
    fn measure_with(self, product: &Product, state: &str, place: Place) -> anyhow::Result<()> {
        product.drain()?;
        let before = product.counted()?;
        let mut events = 0;
        self.run(state, place, || {
            events += product.drain()?;
            Ok(())
        })?;
        events += product.drain()?;
        let after = product.counted()?;
        let denied = place.operation == Operation::DeniedOpen;
        let expected = u64::from(self.witness_is_denied)
            + if denied { operations(place.operation) } else { 0 };
        let hits = after.hits - before.hits;
        ensure!(
            hits == expected && events == expected && after.drops == before.drops,
            "{state}, {}: {expected} denials expected, {hits} counted, {events} reported, {} dropped",
            place.name(),
            after.drops - before.drops
        );
        Ok(())
    }

    fn run(
        self,
        state: &str,
        place: Place,
        mut between: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let order = self.order(Some(place));
        let failed = || format!("failed to measure {state}, {}", place.name());
        let mut child = Command::new("/proc/self/exe")
            .arg("measure")
            .arg(serde_json::to_string(&order)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(failed)?;
        let (Some(mut go_on), Some(answer)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("failed to talk to the process that measures");
        };
        let mut answer = BufReader::new(answer);
        let mut batches = Vec::new();
        for round in 0..measure::rounds(place.operation) {
            between()?;
            go_on.write_all(b"\n").with_context(failed)?;
            let mut line = String::new();
            answer.read_line(&mut line).with_context(failed)?;
            if round < measure::warm_up_rounds(place.operation) {
                continue;
            }
            for took in line.split_whitespace() {
                let took: u32 = took.parse().with_context(failed)?;
                batches.push(f64::from(took) / f64::from(place.operation.batch()));
            }
        }
        let status = child.wait().with_context(failed)?;
        ensure!(status.success(), "{}: it ended with {status}", failed());
        batches.sort_by(f64::total_cmp);
        let part = |part: usize| batches.get(batches.len() / part);
        let percent =
            |percent: usize| batches.get((batches.len() * percent / 100).min(batches.len() - 1));
        let (Some(minimum), Some(quarter), Some(median)) = (batches.first(), part(4), part(2))
        else {
            bail!("{}: it answered nothing", failed());
        };
        say(&json!({
            "place": place.name(),
            "state": state,
            "minimum": minimum,
            "quarter": quarter,
            "median": median,
            "p95": percent(95),
            "p99": percent(99),
        }))
    }
}

pub(crate) fn say(line: &serde_json::Value) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()?;
    Ok(())
}

/// How many operations one row takes, those that warm up included.
fn operations(operation: Operation) -> u64 {
    u64::from(measure::rounds(operation)) * u64::from(measure::ROUND * operation.batch())
}

/// Some kernels take a second before they trust the clock that counts instructions.
fn wait_for_the_clock() -> anyhow::Result<()> {
    const SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    for _ in 0..50 {
        let source = fs::read_to_string(SOURCE).context("failed to read the clock source")?;
        if source.trim() == "tsc" {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    bail!("failed to find a clock that counts instructions: the clock source is not tsc")
}
