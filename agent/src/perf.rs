// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a benchmark measured somewhere, and what it may be at most. Imported and shown; nothing depends
//! on it.

use std::fs;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use crate::{context::Context, files, time};

/// A benchmark's answer. Unknown fields are errors.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Perf {
    /// 1.
    pub(crate) schema: u32,
    /// When it was measured: seconds since 1970.
    pub(crate) measured_at: u64,
    /// On what: kernel, machine, method.
    pub(crate) measured_on: String,
    /// Of all values: `instructions`, `nanoseconds`.
    pub(crate) unit: String,
    pub(crate) operations: Vec<Operation>,
}

/// What one operation took.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Operation {
    pub(crate) operation: String,
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) objective: Objective,
}

/// What it may take at most; what is not said is not bound.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Objective {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) p50: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) p95: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) p99: Option<f64>,
}

impl Perf {
    /// Reads a file, which must make sense.
    ///
    /// # Errors
    /// What of it does not, and where.
    pub(crate) fn read(text: &str) -> anyhow::Result<Self> {
        let perf: Self = serde_json::from_str(text).context("it is no benchmark's answer")?;
        ensure!(perf.schema == 1, "this release reads schema 1, not {}", perf.schema);
        ensure!(!perf.operations.is_empty(), "it has no operations");
        ensure!(!perf.unit.is_empty(), "it has no unit");
        ensure!(perf.measured_at <= time::now(), "it was measured in the future");
        for (at, operation) in perf.operations.iter().enumerate() {
            let Operation { operation: name, p50, p95, p99, .. } = operation;
            ensure!(!name.is_empty(), "operation {at} has no name");
            let twice = perf.operations.iter().take(at).any(|other| other.operation == *name);
            ensure!(!twice, "the operation {name} is there twice");
            let objectives: Vec<f64> = operation.objectives().map(|(_, value)| value).collect();
            let sensible = |value: &f64| value.is_finite() && *value >= 0.0;
            ensure!(
                [p50, p95, p99].into_iter().chain(&objectives).all(sensible),
                "the operation {name} has a value below 0"
            );
            ensure!(p50 <= p95 && p95 <= p99, "the operation {name} has p50 > p95 or p95 > p99");
        }
        Ok(perf)
    }

    /// What was imported last.
    pub(crate) fn recorded(context: &Context) -> Option<Self> {
        Self::read(&fs::read_to_string(path(context)).ok()?).ok()
    }

    /// Writes it down, in the place of what was imported before.
    pub(crate) fn record(&self, context: &Context) -> anyhow::Result<()> {
        files::make_directory(&context.state)?;
        let bytes = serde_json::to_vec(self).context("failed to write a benchmark as JSON")?;
        files::write_whole(&path(context), &bytes)
    }

    /// Each operation, and the unit of its values.
    pub(crate) fn operations(&self) -> impl Iterator<Item = (&Operation, &str)> {
        self.operations.iter().map(|operation| (operation, self.unit.as_str()))
    }

    /// Whether every operation is within its objective.
    pub(crate) fn met(&self) -> bool {
        self.operations.iter().all(Operation::met)
    }

    /// Seconds since it was measured.
    pub(crate) fn age(&self) -> u64 {
        time::now().saturating_sub(self.measured_at)
    }

    /// One line for a person.
    pub(crate) fn told(&self) -> String {
        let missed: Vec<&str> = self
            .operations
            .iter()
            .filter(|operation| !operation.met())
            .map(|operation| operation.operation.as_str())
            .collect();
        let age = self.age() / 86_400;
        let on = &self.measured_on;
        if missed.is_empty() {
            format!("all objectives met, measured {age} days ago on {on}")
        } else {
            format!("NOT met by {}, measured {age} days ago on {on}", missed.join(", "))
        }
    }
}

impl Operation {
    pub(crate) const fn measured(&self) -> [(&'static str, f64); 3] {
        [("p50", self.p50), ("p95", self.p95), ("p99", self.p99)]
    }

    pub(crate) fn objectives(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let Objective { p50, p95, p99 } = self.objective;
        let all = [("p50", p50), ("p95", p95), ("p99", p99)];
        all.into_iter().filter_map(|(quantile, most)| Some((quantile, most?)))
    }

    /// Whether it is within its objective.
    pub(crate) fn met(&self) -> bool {
        let within = |(quantile, most): (&str, f64)| {
            self.measured().iter().any(|(of, value)| *of == quantile && *value <= most)
        };
        self.objectives().all(within)
    }
}

fn path(context: &Context) -> std::path::PathBuf {
    context.state.join("perf.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(p99: f64, objective: &str) -> String {
        format!(
            "{{\"schema\":1,\"measured_at\":1,\"measured_on\":\"x\",\"unit\":\"instructions\",\
             \"operations\":[{{\"operation\":\"open\",\"p50\":10,\"p95\":20,\"p99\":{p99},\
             \"objective\":{objective}}}]}}"
        )
    }

    #[test]
    fn an_objective_binds_the_quantiles_that_it_names() {
        let met = |p99, objective| Perf::read(&text(p99, objective)).unwrap().met();
        assert!(met(30.0, "{\"p99\":30}"));
        assert!(!met(31.0, "{\"p99\":30}"));
        assert!(met(31.0, "{\"p50\":10,\"p95\":20}"));
        assert!(!met(31.0, "{\"p50\":9}"));
        assert!(met(31.0, "{}"), "nothing is promised");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(Perf::read(&text(30.0, "{}")).is_ok());
        for bad in [
            text(19.0, "{}"),
            text(-1.0, "{}"),
            text(30.0, "{\"p98\":1}"),
            text(30.0, "{\"p99\":-1}"),
            text(30.0, "{}").replace("\"schema\":1", "\"schema\":2"),
            text(30.0, "{}").replace("\"unit\"", "\"units\""),
            text(30.0, "{}").replace("\"measured_at\":1", "\"measured_at\":99999999999"),
            "{}".to_owned(),
        ] {
            assert!(Perf::read(&bad).is_err(), "{bad}");
        }
    }
}
