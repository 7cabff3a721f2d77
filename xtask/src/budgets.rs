// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Rows of costs, and what they may be: bench/budgets.toml.

use std::fs;

use anyhow::{Context as _, bail};
use serde_json::Value;
use toml::Table;

use crate::command::root;

const FILE: &str = "bench/budgets.toml";
const HEAD: &str = "\
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Guest instructions that each state adds to an operation, against the same with nothing loaded: as measured, and the
# most that `cargo xtask bench --check` lets pass. `cargo xtask bench --write` makes this file; docs/performance.md says
# what the rows are.
";
/// Where nothing of ours is loaded: what all others are compared with.
const BASE: &str = "nothing-loaded";
/// A budget that is further above what was measured guards nothing.
const SLACK: f64 = 1.15;
/// What a budget is given when it is written.
const GIVEN: f64 = 1.05;
/// For rows that nearly add nothing: this part of the operation itself.
const LEAST: f64 = 0.005;
/// And no less than this: where memory lies decides which names share a chain in the kernel's table of them, and that
/// differs from build to build of a guest. A path of nine directories was seen to take 42 instructions more, and removing
/// its file 67. An empty program takes 183, so a hook that should not be there does not fit in it.
const LEAST_OF_CHAINS: f64 = 100.0;
/// The same for mapping: what the kernel does with its own tree of maps differed by 2 % between builds of a guest.
const LEAST_OF_MAPS: f64 = 0.03;
/// And for mounting, whose tables of mounts it hashes by address: by 1.8 % in one guest, between two states of which the
/// dearer does less.
const LEAST_OF_MOUNTS: f64 = 0.03;
/// By how much a row may differ between few objects and many.
const FLAT: f64 = 0.01;
/// States of few and of many objects.
const GROWN: [(&str, &str); 2] =
    [("in-scope", "in-scope-many"), ("out-of-scope", "out-of-scope-many")];
/// States without anything of ours in them.
const OTHERS: [&str; 4] = [BASE, "empty-program", "landlock", "fanotify"];
/// Measured and not held: what fork+exec takes differs from build to build of a guest by more than the one open in it.
const LOOSE: &str = "exec.";

/// One row as it was measured.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    /// Operation, filesystem, depth.
    pub(crate) place: String,
    /// What is in force.
    pub(crate) state: String,
    /// Instructions: a quarter of the batches took fewer. This one is compared and printed, since ticks of the kernel's
    /// timer fall into dearer batches, and the cheapest may be a stroke of luck where much is done.
    pub(crate) quarter: f64,
    /// Of the cheapest batch.
    pub(crate) minimum: f64,
    /// Of the batch in the middle.
    pub(crate) median: f64,
    /// Of those batches that 95 and 99 of a hundred took no longer than.
    pub(crate) p95: f64,
    pub(crate) p99: f64,
}

impl Row {
    /// By how much the operation itself may differ, if this state adds `added` to it.
    fn noise(&self, added: f64) -> f64 {
        let least = match self.place.split('.').next() {
            Some("map") => LEAST_OF_MAPS,
            Some("mount") => LEAST_OF_MOUNTS,
            _ => LEAST,
        };
        ((self.quarter - added) * least).max(LEAST_OF_CHAINS)
    }

    /// Reads a line of `aegis-cost`.
    pub(crate) fn read(line: &str) -> anyhow::Result<Self> {
        let value: Value = serde_json::from_str(line)
            .with_context(|| format!("failed to read a row of the table: {line}"))?;
        let missing = |name: &str| format!("failed to find {name} in a row of the table: {line}");
        let text = |name: &str| {
            value
                .get(name)
                .and_then(Value::as_str)
                .map(str::to_owned)
                .with_context(|| missing(name))
        };
        let number =
            |name: &str| value.get(name).and_then(Value::as_f64).with_context(|| missing(name));
        Ok(Self {
            place: text("place")?,
            state: text("state")?,
            quarter: number("quarter")?,
            minimum: number("minimum")?,
            median: number("median")?,
            p95: number("p95")?,
            p99: number("p99")?,
        })
    }

    /// Whether a budget holds it.
    fn is_held(&self) -> bool {
        !OTHERS.contains(&self.state.as_str()) && !self.place.starts_with(LOOSE)
    }

    /// What the state adds to the same operation with nothing loaded.
    pub(crate) fn added(&self, rows: &[Self]) -> Option<f64> {
        let base = rows.iter().find(|row| row.place == self.place && row.state == BASE)?;
        (self.state != BASE).then_some(self.quarter - base.quarter)
    }
}

/// What rows may add.
#[derive(Debug)]
pub(crate) struct Budgets {
    /// The series that they were measured on.
    pub(crate) kernel: String,
    rows: Table,
}

impl Budgets {
    pub(crate) fn read() -> anyhow::Result<Self> {
        let text = fs::read_to_string(root().join(FILE))
            .with_context(|| format!("failed to read {FILE}"))?;
        Self::from_text(&text).with_context(|| format!("failed to understand {FILE}"))
    }

    /// Makes the file anew: what each row adds, and a little more.
    pub(crate) fn write(kernel: &str, rows: &[Row]) -> anyhow::Result<()> {
        let mut text = format!("{HEAD}kernel = \"{kernel}\"\n");
        let ours: Vec<&Row> = rows.iter().filter(|row| row.is_held()).collect();
        let mut states: Vec<&str> = Vec::new();
        for row in &ours {
            if !states.contains(&row.state.as_str()) {
                states.push(&row.state);
            }
        }
        for state in states {
            text.push_str(&format!("\n[{state}]\n"));
            for row in ours.iter().filter(|row| row.state == state) {
                let added = row.added(rows).unwrap_or_default();
                let budget = (added * GIVEN).max(added + row.noise(added));
                text.push_str(&format!(
                    "\"{}\" = {{ measured = {added:.0}, budget = {budget:.0} }}\n",
                    row.place
                ));
            }
        }
        fs::write(root().join(FILE), text).with_context(|| format!("failed to write {FILE}"))
    }

    fn from_text(text: &str) -> anyhow::Result<Self> {
        let mut rows: Table = text.parse().context("failed to read it as TOML")?;
        match rows.remove("kernel") {
            Some(toml::Value::String(kernel)) => Ok(Self { kernel, rows }),
            _ => bail!("failed to find `kernel`"),
        }
    }

    /// What a row may add at most.
    pub(crate) fn of(&self, row: &Row) -> Option<i64> {
        self.entry(row, "budget")
    }

    fn entry(&self, row: &Row, name: &str) -> Option<i64> {
        self.rows.get(&row.state)?.get(&row.place)?.get(name)?.as_integer()
    }

    /// Every row above its budget, every budget that guards nothing, and what grows with the number of objects.
    pub(crate) fn faults(&self, rows: &[Row]) -> Vec<String> {
        let mut faults = self.rows_above(rows);
        faults.extend(self.unmeasured(rows));
        for row in rows {
            let few = GROWN.iter().find(|(_, many)| *many == row.state).map(|(few, _)| few);
            let few = few.and_then(|few| {
                rows.iter().find(|other| other.place == row.place && other.state == *few)
            });
            if let Some(few) = few.filter(|few| row.quarter > few.quarter * (1.0 + FLAT)) {
                faults.push(format!(
                    "{}, {}: {:.0} instructions, {:.0} with few objects: it grows with their number",
                    row.state, row.place, row.quarter, few.quarter
                ));
            }
        }
        faults
    }

    fn rows_above(&self, rows: &[Row]) -> Vec<String> {
        let mut faults = Vec::new();
        for row in rows.iter().filter(|row| row.is_held()) {
            let name = format!("{}, {}", row.state, row.place);
            let Some(added) = row.added(rows) else {
                faults.push(format!("{name}: nothing to compare it with was measured"));
                continue;
            };
            let (Some(budget), Some(measured)) = (self.of(row), self.entry(row, "measured")) else {
                faults.push(format!(
                    "{name}: adds {added:.0} instructions and has no budget in {FILE}"
                ));
                continue;
            };
            // Whole instructions, far below what a float holds exactly.
            let (budget, measured) = (budget as f64, measured as f64);
            if added > budget {
                faults.push(format!(
                    "{name}: adds {added:.0} instructions, its budget is {budget:.0}"
                ));
            }
            // What the operation itself takes was another number when the budget was written.
            let most = (measured * SLACK).max(measured + row.noise(added) * SLACK);
            if budget > most.ceil() {
                faults.push(format!(
                    "{name}: a budget of {budget:.0} for {measured:.0} measured guards little: {:.0} is the most",
                    most.ceil()
                ));
            }
        }
        faults
    }

    fn unmeasured(&self, rows: &[Row]) -> Vec<String> {
        let mut faults = Vec::new();
        for (state, places) in &self.rows {
            for place in places.as_table().into_iter().flat_map(Table::keys) {
                if !rows.iter().any(|row| row.state == *state && row.place == *place) {
                    faults.push(format!("{state}, {place}: it has a budget and was not measured"));
                }
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(place: &str, state: &str, took: f64) -> Row {
        let (place, state) = (place.to_owned(), state.to_owned());
        Row { place, state, quarter: took, minimum: took, median: took, p95: took, p99: took }
    }

    fn budgets(text: &str) -> Budgets {
        Budgets::from_text(&format!("kernel = \"6.12\"\n{text}")).unwrap()
    }

    #[test]
    fn a_row_above_its_budget_is_named() {
        let budgets =
            budgets("[in-scope]\n\"open.plain.7\" = { measured = 1000, budget = 1100 }\n");
        let base = row("open.plain.7", BASE, 7000.0);
        assert!(
            budgets.faults(&[base.clone(), row("open.plain.7", "in-scope", 8100.0)]).is_empty()
        );
        let faults = budgets.faults(&[base, row("open.plain.7", "in-scope", 8101.0)]);
        assert_eq!(faults, ["in-scope, open.plain.7: adds 1101 instructions, its budget is 1100"]);
    }

    #[test]
    fn a_program_that_is_run_is_measured_and_not_held() {
        let rows = [row("exec.ruled.9", BASE, 280_000.0), row("exec.ruled.9", "x", 290_000.0)];
        assert!(budgets("").faults(&rows).is_empty());
    }

    #[test]
    fn neither_a_row_nor_a_budget_can_be_left_out() {
        let budgets =
            budgets("[in-scope]\n\"open.plain.7\" = { measured = 1000, budget = 1100 }\n");
        let base = row("open.plain.9", BASE, 7000.0);
        let faults = budgets.faults(&[base, row("open.plain.9", "in-scope", 8100.0)]);
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[0].contains("no budget") && faults[1].contains("was not measured"));
    }

    #[test]
    fn a_budget_far_above_what_was_measured_is_a_fault() {
        let budgets =
            budgets("[in-scope]\n\"open.plain.7\" = { measured = 1000, budget = 1200 }\n");
        let rows = [row("open.plain.7", BASE, 7000.0), row("open.plain.7", "in-scope", 8000.0)];
        assert!(budgets.faults(&rows)[0].contains("1150 is the most"));
    }

    #[test]
    fn a_row_that_adds_nothing_may_differ_as_the_operation_does() {
        let budgets = budgets("[x]\n\"map.plain.7\" = { measured = 30, budget = 330 }\n");
        let base = row("map.plain.7", BASE, 10_000.0);
        assert!(budgets.faults(&[base.clone(), row("map.plain.7", "x", 10_330.0)]).is_empty());
        assert_eq!(budgets.faults(&[base, row("map.plain.7", "x", 10_331.0)]).len(), 1);
    }

    #[test]
    fn an_operation_that_is_cheaper_than_when_the_budget_was_written_is_no_fault() {
        let budgets = budgets("[x]\n\"map.plain.7\" = { measured = 149, budget = 454 }\n");
        let rows = [row("map.plain.7", BASE, 10_093.0), row("map.plain.7", "x", 10_435.0)];
        assert_eq!(budgets.faults(&rows), [""; 0]);
        let rows = [row("map.plain.7", BASE, 8_000.0), row("map.plain.7", "x", 8_149.0)];
        assert!(budgets.faults(&rows)[0].contains("425 is the most"));
    }

    #[test]
    fn a_row_that_grows_with_the_number_of_objects_is_a_fault() {
        let budgets = budgets(
            "[in-scope]\n\"open.plain.7\" = { measured = 1000, budget = 1150 }\n\
             [in-scope-many]\n\"open.plain.7\" = { measured = 1050, budget = 1150 }\n",
        );
        let base = row("open.plain.7", BASE, 7000.0);
        let few = row("open.plain.7", "in-scope", 8000.0);
        let flat = row("open.plain.7", "in-scope-many", 8079.0);
        assert!(budgets.faults(&[base.clone(), few.clone(), flat]).is_empty());
        let grown = row("open.plain.7", "in-scope-many", 8081.0);
        assert!(budgets.faults(&[base, few, grown])[0].contains("grows with their number"));
    }

    #[test]
    fn the_budgets_in_the_repository_can_be_read() {
        assert!(!Budgets::read().unwrap().rows.is_empty());
    }
}
