// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask bench`: what the product costs, in guest instructions for each operation.
//!
//! A guest whose clock counts instructions runs `aegis-cost` with the binary of `cargo xtask dist`. The numbers are the
//! same on every machine, so a row above its budget (bench/budgets.toml) is a change of ours and no noise.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::accel::Accel;
use crate::budgets::{Budgets, Row};
use crate::command::run as run_command;
use crate::dist::{self, TRIPLE, static_cargo, static_target};
use crate::guest::{Guest, Show};
use crate::kernels;
use crate::setup;
use crate::talk::{Step, answer, note};

/// On what, and what becomes of it.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Series of the guest's kernel.
    #[arg(long, default_value = "6.12")]
    kernel: String,
    /// Fail if a row is above its budget.
    #[arg(long)]
    check: bool,
    /// Write the budgets anew from what is measured; the commit says why.
    #[arg(long, conflicts_with = "check")]
    write: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Write what `aegisbpf perf import` takes to this file.
    #[arg(long, value_name = "FILE")]
    perf: Option<PathBuf>,
}

/// 0, or 1 if `--check` finds a row above its budget.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<i32> {
    setup::ensure()?;
    let budgets = Budgets::read()?;
    if arguments.check && arguments.kernel != budgets.kernel {
        bail!(
            "failed to check on kernel {}: the budgets are for {}\nhint: cargo xtask bench --check --kernel {}",
            arguments.kernel,
            budgets.kernel,
            budgets.kernel
        );
    }
    let Measured { identity, rows, switches } = measure(&arguments.kernel)?;
    let known = (arguments.kernel == budgets.kernel).then_some(&budgets);
    if arguments.json {
        answer(object(&identity, &rows, known, &switches));
    } else {
        print(&identity, &rows, known);
        print_switches(&switches);
    }
    if let Some(file) = &arguments.perf {
        let text = perf(&identity, &rows, known)?.to_string();
        std::fs::write(file, text)
            .with_context(|| format!("failed to write {}", file.display()))?;
    }
    if arguments.write {
        Budgets::write(&arguments.kernel, &rows)?;
    }
    if !arguments.check {
        return Ok(0);
    }
    let faults = budgets.faults(&rows);
    for fault in &faults {
        note(fault);
    }
    Ok(i32::from(!faults.is_empty()))
}

/// Measures and prints the table; every row above its budget, as a line each.
pub(crate) fn check() -> anyhow::Result<Vec<String>> {
    let budgets = Budgets::read()?;
    let Measured { identity, rows, switches } = measure(&budgets.kernel)?;
    print(&identity, &rows, Some(&budgets));
    print_switches(&switches);
    Ok(budgets.faults(&rows))
}

/// What came of a run.
struct Measured {
    /// Which kernel it was.
    identity: String,
    rows: Vec<Row>,
    /// What switches, as `aegis-cost` says it.
    switches: Vec<Value>,
}

fn measure(series: &str) -> anyhow::Result<Measured> {
    let product = dist::build()?;
    let cost = build()?;
    let kernel = kernels::obtain_one(series)?;
    let accel = Accel::Counted;
    let guest = Guest::new(&kernel, accel)
        .command_line(accel.command_line())
        // Where a program's memory lies decides how many page tables starting it takes.
        .command_line("norandmaps")
        .timeout(Duration::from_secs(900))
        .put(product, "/usr/bin/aegisbpf")
        .put(cost, "/usr/bin/aegis-cost");
    let step = Step::begin(format!("measuring on kernel {}", kernel.label()));
    let outcome = guest.run(&["aegis-cost".to_owned(), "table".to_owned()], Show::Nothing);
    step.end(if outcome.is_ok() { "" } else { "failed" });
    let outcome = outcome?;
    let text = String::from_utf8_lossy(&outcome.output);
    let status = outcome.check()?;
    if status != 0 {
        let said: Vec<&str> = text.lines().filter(|line| !line.starts_with('{')).collect();
        bail!("failed to measure, so there is no table: {}", said.join("\n"));
    }
    let lines = text.lines().filter(|line| line.starts_with('{'));
    let (rows, switches): (Vec<&str>, Vec<&str>) =
        lines.partition(|line| line.contains("\"place\""));
    let rows = rows.into_iter().map(Row::read).collect::<anyhow::Result<Vec<Row>>>()?;
    let switches = switches.into_iter().map(serde_json::from_str).collect::<Result<_, _>>();
    let switches = switches.context("failed to read what was measured of switches")?;
    let identity = format!("kernel {}, {}", kernel.label(), kernel.identity());
    Ok(Measured { identity, rows, switches })
}

fn build() -> anyhow::Result<PathBuf> {
    let step = Step::begin("building aegis-cost");
    let arguments = ["build", "--quiet", "--release", "--package", "aegis-bench"];
    let result = run_command(static_cargo()?.args(arguments).args(["--features", "static"]));
    step.end(if result.is_ok() { "" } else { "failed" });
    result.context("failed to build aegis-cost")?;
    Ok(static_target().join(TRIPLE).join("release/aegis-cost"))
}

fn object(identity: &str, rows: &[Row], budgets: Option<&Budgets>, switches: &[Value]) -> Value {
    let row = |row: &Row| {
        json!({
            "place": row.place, "state": row.state, "instructions": row.quarter, "minimum": row.minimum,
            "median": row.median,
            "added": row.added(rows), "budget": budgets.and_then(|budgets| budgets.of(row)),
        })
    };
    let rows: Vec<Value> = rows.iter().map(row).collect();
    json!({ "kernel": identity, "rows": rows, "switches": switches })
}

/// What the product answers when it shows a benchmark: each row that a budget holds, with what half of its batches may
/// take at most.
fn perf(identity: &str, rows: &[Row], budgets: Option<&Budgets>) -> anyhow::Result<Value> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("failed to tell the time")?;
    let operation = |row: &Row| {
        let base = row.quarter - row.added(rows)?;
        let most = budgets.and_then(|budgets| budgets.of(row)).map(|budget| base + budget as f64);
        Some(json!({
            "operation": format!("{}.{}", row.place, row.state),
            "p50": row.median, "p95": row.p95, "p99": row.p99,
            "objective": most.map_or_else(|| json!({}), |most| json!({ "p50": most })),
        }))
    };
    Ok(json!({
        "schema": 1, "measured_at": now.as_secs(), "measured_on": identity, "unit": "instructions",
        "operations": rows.iter().filter_map(operation).collect::<Vec<_>>(),
    }))
}

fn print(identity: &str, rows: &[Row], budgets: Option<&Budgets>) {
    answer(format_args!("guest instructions for each operation; {identity}"));
    let mut places: BTreeMap<(usize, &str), Vec<&Row>> = BTreeMap::new();
    for row in rows {
        // In the order in which they were measured first.
        let first = rows.iter().position(|other| other.place == row.place).unwrap_or_default();
        places.entry((first, &row.place)).or_default().push(row);
    }
    for ((_, place), rows_there) in places {
        answer("");
        answer(describe_place(place));
        for row in rows_there {
            let added = match row.added(rows) {
                Some(added) => format!("{added:+9.0}"),
                None => String::new(),
            };
            let budget = match budgets.and_then(|budgets| budgets.of(row)) {
                Some(budget) => format!("  (at most {budget:+})"),
                None => String::new(),
            };
            let what = describe_state(&row.state);
            answer(format_args!("  {what:<60} {:>9.0} {added:>9}{budget}", row.quarter));
        }
    }
}

/// What each takes until an open is decided by what it led to, in instructions; held by `aegis-cost`.
fn print_switches(switches: &[Value]) {
    answer("");
    answer(
        "from before the store to the end of the next open, which is decided by what it led to; 100,000 objects: p50, p95, p99, most",
    );
    for line in switches {
        let number = |name: &str| line.get(name).and_then(Value::as_u64).unwrap_or_default();
        match line.get("switch").and_then(Value::as_str) {
            Some(switch) => {
                let [p50, p95, p99, most] = ["p50", "p95", "p99", "most"].map(number);
                answer(format_args!("  {switch:<20} {p50:>9} {p95:>9} {p99:>9} {most:>9}"));
            }
            None => {
                let reader = line.get("reader").unwrap_or(&Value::Null);
                let number = |name: &str| reader.get(name).and_then(Value::as_u64).unwrap_or(0);
                let [changes, before, now] = ["changes", "before", "now"].map(number);
                answer(format_args!(
                    "  while they changed places {changes} times a reader saw the one {before} times, the other \
                     {now} times, and nothing else"
                ));
            }
        }
    }
}

/// `open.ruled.beside.9` for people.
fn describe_place(place: &str) -> String {
    let parts: Vec<&str> = place.split('.').collect();
    let operation = match parts.first().copied().unwrap_or_default() {
        "open" => "open+close of a file",
        "stat" => "stat of a file",
        "rename" => "rename of a file",
        "create" => "create+close of a file",
        "unlink" => "unlink of a file",
        "exec" => "fork+exec of a program of three instructions, and its end,",
        other => other,
    };
    let filesystem = match parts.get(1).copied().unwrap_or_default() {
        "plain" => "on a filesystem without rules",
        _ => "on a filesystem with rules",
    };
    let chain = match parts.get(2).copied().unwrap_or_default() {
        "beside" => ", beside an exact object",
        "denied" => ", beneath a directory object",
        _ => "",
    };
    let depth = parts.last().copied().unwrap_or_default();
    format!("{operation} {filesystem}, {depth} directories deep{chain}")
}

fn describe_state(state: &str) -> &str {
    match state {
        "nothing-loaded" => "nothing loaded",
        "empty-program" => "an empty program on file_open",
        "landlock" => "Landlock, one rule on /",
        "fanotify" => "fanotify, each open answered from user space",
        "no-policy" => "AegisBPF attached, no policy",
        "out-of-scope" => "out of scope, 10 objects",
        "out-of-scope-many" => "out of scope, 100,000 objects",
        "out-of-scope-moved" => "out of scope, 10 objects, after 1,000 files left their places",
        "in-scope-moved" => "in scope, 10 objects, after 1,000 files left their places",
        "in-scope" => "in scope, 10 objects, not denied",
        "in-scope-many" => "in scope, 100,000 objects, not denied",
        "in-scope-rules-above" => "in scope, rules also on the filesystem it is mounted on",
        "denied" => "denied, with its event",
        "taken-out" => "AegisBPF attached and taken out again",
        other => other,
    }
}
