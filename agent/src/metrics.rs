// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Metrics as OpenMetrics text: one table, from which the text and the documents are made.
//!
//! What is counted is read from the maps that the programs count in, at the moment of asking. Nothing is
//! loaded and nothing changed.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use aegis_abi::Action;
use aegis_policy::Mode;

use crate::{
    context::Context,
    files,
    perf::Perf,
    posture::RuntimeState,
    proof::Proof,
    took_along::TookAlong,
    transition::Last,
    view::{self, View},
};

/// One metric.
pub(crate) struct Metric {
    /// Without the suffix of its kind; with the unit at its end, if it has one.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) unit: &'static str,
    /// The names of its labels, in the order of the values.
    pub(crate) labels: &'static [&'static str],
    pub(crate) help: &'static str,
    read: fn(&Sample) -> Vec<Point>,
}

/// The kind of a metric, as OpenMetrics has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Gauge,
    Counter,
    Info,
    StateSet,
}

/// Values of the labels, and the value.
type Point = (Vec<String>, f64);

/// What was seen.
#[derive(Debug)]
pub(crate) struct Sample {
    view: View,
    last: Last,
    perf: Option<Perf>,
    /// By policy, rule and workload: denied, would deny, reported, dropped.
    hits: BTreeMap<[String; 3], [u64; 4]>,
}

/// The table.
pub(crate) const METRICS: [Metric; 26] = [
    Metric {
        name: "aegisbpf_build",
        kind: Kind::Info,
        unit: "",
        labels: &["version"],
        help: "The program that answers",
        read: |_| vec![one(&[env!("CARGO_PKG_VERSION")])],
    },
    Metric {
        name: "aegisbpf_runtime_state",
        kind: Kind::StateSet,
        unit: "",
        labels: &["aegisbpf_runtime_state"],
        help: "What this node does; anything but ENFORCE does not meet the guarantees",
        read: |sample| {
            let now = sample.view.reason.meaning().state;
            let point =
                |state: &RuntimeState| (vec![state.name().to_owned()], truth(*state == now));
            RuntimeState::ALL.iter().map(point).collect()
        },
    },
    Metric {
        name: "aegisbpf_reason",
        kind: Kind::Info,
        unit: "",
        labels: &["reason_code"],
        help: "Why it is in this state",
        read: |sample| vec![one(&[sample.view.reason.meaning().code])],
    },
    Metric {
        name: "aegisbpf_denies",
        kind: Kind::Gauge,
        unit: "",
        labels: &[],
        help: "Whether the kernel denies what policies deny, as far as is known",
        read: |sample| plain(truth(sample.view.denies())),
    },
    Metric {
        name: "aegisbpf_posture_transitions",
        kind: Kind::Counter,
        unit: "",
        labels: &["runtime_state", "reason_code"],
        help: "How often this state was come to, with this reason",
        read: |sample| {
            let times = sample.last.times.iter();
            times
                .map(|(to, times)| {
                    let (state, reason) = to.split_once(' ').unwrap_or((to, ""));
                    (vec![state.to_owned(), reason.to_owned()], number(*times))
                })
                .collect()
        },
    },
    Metric {
        name: "aegisbpf_enforce_blocker",
        kind: Kind::Info,
        unit: "",
        labels: &["code"],
        help: "What keeps this host from enforcing; of what can be seen without trying",
        read: |sample| sample.view.blockers.iter().map(|blocker| one(&[blocker.code])).collect(),
    },
    Metric {
        name: "aegisbpf_gate_fallback",
        kind: Kind::Gauge,
        unit: "",
        labels: &[],
        help: "Whether a command went on without enforcing (gate mode audit-fallback)",
        read: |sample| plain(truth(sample.view.fallback.is_some())),
    },
    Metric {
        name: "aegisbpf_emergency",
        kind: Kind::Gauge,
        unit: "",
        labels: &[],
        help: "Whether the emergency switch lets through what rules deny",
        read: |sample| plain(truth(sample.view.emergency().is_some())),
    },
    Metric {
        name: "aegisbpf_emergency_remaining_seconds",
        kind: Kind::Gauge,
        unit: "seconds",
        labels: &[],
        help: "How long until the kernel ends the emergency; none: there is none",
        read: |sample| {
            let holds = sample.view.emergency();
            holds.map_or_else(Vec::new, |holds| plain(number(holds.remaining_seconds)))
        },
    },
    Metric {
        name: "aegisbpf_emergency_toggles",
        kind: Kind::Counter,
        unit: "",
        labels: &[],
        help: "How often the emergency switch was thrown, since the programs were attached",
        read: |sample| {
            let switch = sample.view.switch.as_ref();
            switch.map_or_else(Vec::new, |switch| plain(number(switch.toggles)))
        },
    },
    Metric {
        name: "aegisbpf_generation",
        kind: Kind::Gauge,
        unit: "",
        labels: &[],
        help: "The number of the generation that decides",
        read: |sample| {
            let active = sample.view.active.as_ref();
            active.map_or_else(Vec::new, |active| plain(number(active.generation.number)))
        },
    },
    Metric {
        name: "aegisbpf_policy",
        kind: Kind::Info,
        unit: "",
        labels: &["policy", "version", "mode"],
        help: "The policies in force",
        read: |sample| {
            let texts = sample.view.active.iter().filter_map(|active| active.texts.as_ref());
            let policies = texts.flat_map(|(stored, _)| stored.set.iter());
            policies
                .map(|(policy, mode)| {
                    one(&[&policy.name, &policy.version.to_string(), Mode::name(mode)])
                })
                .collect()
        },
    },
    Metric {
        name: "aegisbpf_denials",
        kind: Kind::Counter,
        unit: "",
        labels: &["policy", "rule", "workload"],
        help: "Accesses that a rule denied, since its generation decides",
        read: |sample| sample.hits(0),
    },
    Metric {
        name: "aegisbpf_would_denials",
        kind: Kind::Counter,
        unit: "",
        labels: &["policy", "rule", "workload"],
        help: "Accesses that a rule would have denied and that were allowed",
        read: |sample| sample.hits(1),
    },
    Metric {
        name: "aegisbpf_reports",
        kind: Kind::Counter,
        unit: "",
        labels: &["policy", "rule", "workload"],
        help: "Accesses that a rule of action audit reported",
        read: |sample| sample.hits(2),
    },
    Metric {
        name: "aegisbpf_events_dropped",
        kind: Kind::Counter,
        unit: "",
        labels: &["policy", "rule", "workload"],
        help: "Events that found the ring full; their accesses were decided and counted all the same",
        read: |sample| sample.hits(3),
    },
    Metric {
        name: "aegisbpf_proof_age_seconds",
        kind: Kind::Gauge,
        unit: "seconds",
        labels: &[],
        help: "How old the last proof of what decides is; none: there is none",
        read: |sample| {
            let age = sample.view.proof.as_ref().map(Proof::age);
            age.map_or_else(Vec::new, |age| plain(number(age)))
        },
    },
    Metric {
        name: "aegisbpf_proof_passed",
        kind: Kind::Gauge,
        unit: "",
        labels: &["path"],
        help: "Whether the last proof saw its denial on each way in which a file is found",
        read: |sample| {
            let paths = sample.view.proof.iter().flat_map(|proof| &proof.paths);
            paths.map(|path| (vec![path.path.clone()], truth(path.passed()))).collect()
        },
    },
    Metric {
        name: "aegisbpf_unbound",
        kind: Kind::Gauge,
        unit: "",
        labels: &[],
        help: "Objects and cgroups that do not have the label or scope that they should (the first 20)",
        read: |sample| {
            let found = sample.view.proof.as_ref();
            found.map_or_else(Vec::new, |proof| plain(count(proof.coverage.unbound.len())))
        },
    },
    Metric {
        name: "aegisbpf_pins_changed",
        kind: Kind::Gauge,
        unit: "",
        labels: &[],
        help: "Links, programs and maps that are not those that were put there",
        read: |sample| plain(count(sample.view.changed.len())),
    },
    Metric {
        name: "aegisbpf_took_along_rows",
        kind: Kind::Gauge,
        unit: "",
        labels: &[],
        help: "Rows for files that left denied places and stay denied; there is room for 16384",
        read: |sample| sample.took_along(|found| found.rows),
    },
    Metric {
        name: "aegisbpf_took_along_lost",
        kind: Kind::Gauge,
        unit: "",
        labels: &[],
        help: "Files that left denied places when there was no room: they may not be denied",
        read: |sample| sample.took_along(|found| found.lost),
    },
    Metric {
        name: "aegisbpf_perf_latency",
        kind: Kind::Gauge,
        unit: "",
        labels: &["operation", "quantile", "unit"],
        help: "What an imported benchmark measured",
        read: |sample| {
            let operations = sample.perf.iter().flat_map(Perf::operations);
            let points = |operation: &crate::perf::Operation, unit: &str| {
                let of = |(quantile, value): (&str, f64)| {
                    (vec![operation.operation.clone(), quantile.to_owned(), unit.to_owned()], value)
                };
                operation.measured().map(of).to_vec()
            };
            operations.flat_map(|(operation, unit)| points(operation, unit)).collect()
        },
    },
    Metric {
        name: "aegisbpf_perf_objective",
        kind: Kind::Gauge,
        unit: "",
        labels: &["operation", "quantile", "unit"],
        help: "What that benchmark may be at most",
        read: |sample| {
            let operations = sample.perf.iter().flat_map(Perf::operations);
            let points = |operation: &crate::perf::Operation, unit: &str| {
                let of = |(quantile, value): (&str, f64)| {
                    (vec![operation.operation.clone(), quantile.to_owned(), unit.to_owned()], value)
                };
                operation.objectives().map(of).collect::<Vec<_>>()
            };
            operations.flat_map(|(operation, unit)| points(operation, unit)).collect()
        },
    },
    Metric {
        name: "aegisbpf_perf_objective_met",
        kind: Kind::Gauge,
        unit: "",
        labels: &["operation"],
        help: "Whether it is",
        read: |sample| {
            let operations = sample.perf.iter().flat_map(Perf::operations);
            operations
                .map(|(operation, _)| (vec![operation.operation.clone()], truth(operation.met())))
                .collect()
        },
    },
    Metric {
        name: "aegisbpf_perf_age_seconds",
        kind: Kind::Gauge,
        unit: "seconds",
        labels: &[],
        help: "How long ago that benchmark was run",
        read: |sample| sample.perf.as_ref().map_or_else(Vec::new, |perf| plain(number(perf.age()))),
    },
];

impl Sample {
    /// Looks at everything.
    pub(crate) fn take(context: &Context) -> anyhow::Result<Self> {
        let view = view::glance(context)?;
        let (last, perf) = (Last::recorded(context), view.perf.clone());
        let mut hits: BTreeMap<[String; 3], [u64; 4]> = BTreeMap::new();
        let ruleset = view.active.iter().filter_map(|active| active.texts.as_ref()).next();
        for (key, count) in view::counts(&view)? {
            let Some((_, ruleset)) = ruleset else { continue };
            let rule = ruleset.rule(key.rule);
            let workload = rule.map_or_else(String::new, |rule| {
                let holds = ruleset.scope_workloads(key.scope);
                let named = holds.filter(|workload| rule.workloads.contains(&workload.number));
                named.map(|workload| workload.name.as_str()).collect::<Vec<_>>().join(",")
            });
            let (policy, id) = rule.map_or(("", "unknown"), |rule| (&rule.policy, &rule.rule.id));
            let sums = hits.entry([policy.to_owned(), id.to_owned(), workload]).or_insert([0; 4]);
            for (place, action) in sums.iter_mut().zip(Action::ALL) {
                *place += count.hits.get(action.index()).copied().unwrap_or(0);
            }
            sums[3] += count.drops;
        }
        Ok(Self { view, last, perf, hits })
    }

    fn took_along(&self, of: fn(&TookAlong) -> u32) -> Vec<Point> {
        self.view.took_along.as_ref().map_or_else(Vec::new, |found| plain(f64::from(of(found))))
    }

    fn hits(&self, at: usize) -> Vec<Point> {
        let value = |sums: &[u64; 4]| number(sums.get(at).copied().unwrap_or(0));
        self.hits.iter().map(|(labels, sums)| (labels.to_vec(), value(sums))).collect()
    }

    /// All metrics, as OpenMetrics has them.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for metric in &METRICS {
            metric.write(&(metric.read)(self), &mut text);
        }
        text.push_str("# EOF\n");
        text
    }
}

impl Metric {
    /// What follows the name in a line of values.
    pub(crate) const fn suffix(&self) -> &'static str {
        match self.kind {
            Kind::Gauge | Kind::StateSet => "",
            Kind::Counter => "_total",
            Kind::Info => "_info",
        }
    }

    fn write(&self, points: &[Point], text: &mut String) {
        let kind = self.kind.name();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# TYPE {} {kind}", self.name);
        if !self.unit.is_empty() {
            let _ = writeln!(text, "# UNIT {} {}", self.name, self.unit);
        }
        let _ = writeln!(text, "# HELP {} {}", self.name, escaped(self.help));
        for (values, value) in points {
            let labels: Vec<String> = self
                .labels
                .iter()
                .zip(values)
                .map(|(label, value)| format!("{label}=\"{}\"", escaped(value)))
                .collect();
            let labels =
                if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let _ = writeln!(text, "{}{}{labels} {value}", self.name, self.suffix());
        }
    }
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Info => "info",
            Self::StateSet => "stateset",
        }
    }
}

impl std::fmt::Debug for Metric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metric").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Writes the metrics to a file that a collector, which need not be root, finds whole.
pub(crate) fn write_textfile(path: &Path, text: &str) -> anyhow::Result<()> {
    files::write_whole_for_all(path, text.as_bytes())
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn one(labels: &[&str]) -> Point {
    (labels.iter().map(|label| (*label).to_owned()).collect(), 1.0)
}

fn plain(value: f64) -> Vec<Point> {
    vec![(Vec::new(), value)]
}

const fn truth(yes: bool) -> f64 {
    if yes { 1.0 } else { 0.0 }
}

/// Exact up to 2^53, as every number of OpenMetrics.
#[allow(clippy::cast_precision_loss, reason = "metrics are floating point")]
const fn number(count: u64) -> f64 {
    count as f64
}

fn count(of: usize) -> f64 {
    number(of as u64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_documentation_has_the_table() {
        let mut lines =
            vec!["| metric | kind | labels | meaning |".to_owned(), "|---|---|---|---|".to_owned()];
        for metric in &METRICS {
            let labels: Vec<String> =
                metric.labels.iter().map(|label| format!("`{label}`")).collect();
            lines.push(format!(
                "| `{}{}` | {} | {} | {} |",
                metric.name,
                metric.suffix(),
                metric.kind.name(),
                labels.join(", "),
                metric.help
            ));
        }
        crate::documented::holds("operations.md", "metrics", &lines.join("\n"));
    }

    #[test]
    fn names_are_as_openmetrics_wants_them() {
        let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len());
        for metric in &METRICS {
            assert!(metric.unit.is_empty() || metric.name.ends_with(&format!("_{}", metric.unit)));
            assert!(!metric.name.ends_with("_total") && !metric.name.ends_with("_info"));
        }
    }

    #[test]
    fn a_hostile_label_stays_one_value() {
        let mut text = String::new();
        let metric = &METRICS[0];
        metric.write(&[one(&["a\"b\\c\nd"])], &mut text);
        assert!(text.ends_with("aegisbpf_build_info{version=\"a\\\"b\\\\c\\nd\"} 1\n"), "{text}");
    }
}
