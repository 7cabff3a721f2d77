// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What nodes answer on every kernel, read by tools that we did not write: a parser of OpenMetrics, and a validator of
//! JSON Schemas.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, ensure};

use crate::accel::Accel;
use crate::command::{program, root};
use crate::dist;
use crate::guest::{Guest, Show};
use crate::kernels::{self, Kernel};
use crate::python::interpreter;
use crate::talk::Step;

/// Every way in which others read something else than was meant, by kernel.
pub(crate) fn check(series: &[String]) -> anyhow::Result<Vec<String>> {
    let python = interpreter()?;
    let binary = dist::build()?;
    let mut faults = Vec::new();
    for kernel in kernels::obtain(series, false)? {
        let step = Step::begin(format!("answers of kernel {}", kernel.label()));
        let found = read(&python, &answers(&kernel, &binary)?);
        step.end(if found.is_ok() { "" } else { "failed" });
        let of_kernel = |fault: String| format!("kernel {}: {fault}", kernel.label());
        match found {
            Ok(found) => faults.extend(missing(&found).into_iter().map(of_kernel)),
            Err(error) => faults.push(of_kernel(format!("{error:#}"))),
        }
    }
    Ok(faults)
}

/// What one node answers: fresh, enforcing, in an emergency, after denials, and to somebody who is not root.
fn answers(kernel: &Kernel, binary: &Path) -> anyhow::Result<String> {
    let guest = Guest::new(kernel, Accel::of_this_machine(kernel)?)
        .put(binary, "/usr/bin/aegisbpf")
        .text("/root/policy.toml", 0o644, POLICY)
        .text("/root/perf.json", 0o644, PERF);
    let outcome = guest.run(&[SCRIPT.to_owned()], Show::Nothing)?;
    let status = outcome.check()?;
    let text = String::from_utf8_lossy(&outcome.output).into_owned();
    ensure!(status == 0, "failed to have answers in a guest: {text}");
    Ok(text)
}

fn read(python: &Path, answers: &str) -> anyhow::Result<String> {
    let mut reader = program(python)
        .arg(root().join("xtask/python/read.py"))
        .arg(root().join("docs/schema"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("failed to start the reader")?;
    if let Some(mut stdin) = reader.stdin.take() {
        stdin.write_all(answers.as_bytes()).context("failed to hand answers to the reader")?;
    }
    let found = reader.wait_with_output().context("failed to wait for the reader")?;
    let said = String::from_utf8_lossy(&found.stderr);
    ensure!(found.status.success(), "it cannot be read: {said}\n{answers}");
    Ok(String::from_utf8_lossy(&found.stdout).into_owned())
}

fn missing(found: &str) -> Vec<String> {
    let lacks = |line: &&&str| !found.lines().any(|read| read.starts_with(**line));
    EXPECTED.iter().filter(lacks).map(|line| format!("nobody read `{line}`: {found}")).collect()
}

/// What is read, as lines begin: three denials were provoked.
const EXPECTED: [&str; 16] = [
    "answer capabilities True",
    "answer capabilities False",
    "answer status NOT_LOADED",
    "answer status ENFORCE",
    "answer status DEGRADED",
    "answer status EMERGENCY_DISABLED",
    "answer emergency",
    "aegisbpf_build info 1",
    "state ENFORCE",
    "denied 3",
    "aegisbpf_posture_transitions counter 2",
    "aegisbpf_emergency gauge 1",
    "aegisbpf_emergency_toggles counter 1",
    "aegisbpf_proof_age_seconds gauge 1",
    "aegisbpf_perf_latency gauge 3",
    "aegisbpf_enforce_blocker info 0",
];

/// A label with everything that has to be escaped.
const PERF: &str = r#"{"schema":1,"measured_at":1,"measured_on":"x","unit":"ns","operations":[{"operation":"a\"b\\c\nd","p50":1,"p95":2,"p99":3,"objective":{"p99":2.5}}]}"#;

const POLICY: &str = r#"schema = 1
name = "m"
version = 1
[workloads.w]
cgroups = ["/w"]
[[rules]]
id = "r"
workloads = ["w"]
action = "deny"
objects = ["/data/secret"]
reason = "to be counted"
"#;

const SCRIPT: &str = "
quietly() { \"$@\" >/tmp/out 2>&1 || { cat /tmp/out; exit 1; }; }
answer() { echo \"answer $1 $(aegisbpf $2 --json 2>/dev/null)\"; }
echo secret >/data/secret
mkdir /sys/fs/cgroup/w
for verb in status health prove; do answer status $verb; done
answer capabilities capabilities
quietly aegisbpf apply policy.toml --allow-unsigned
quietly aegisbpf perf import perf.json
for verb in status health prove; do answer status $verb; done
echo \"answer capabilities $(cat /var/lib/aegisbpf/capabilities.json)\"
echo \"answer capabilities $(su nobody -c 'aegisbpf capabilities --json 2>/dev/null')\"
echo \"answer status $(su nobody -c 'aegisbpf status --json 2>/dev/null')\"
answer emergency 'emergency status'
answer emergency 'emergency disable --reason drill --for 10m'
for verb in status health prove; do answer status $verb; done
answer emergency 'emergency enable --reason over'
for each in 1 2 3; do
	sh -c 'echo 0 >/sys/fs/cgroup/w/cgroup.procs; cat /data/secret' >/tmp/out 2>&1 && exit 1
done
echo metrics
exec aegisbpf metrics";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_read_is_a_fault() {
        assert_eq!(missing("").len(), EXPECTED.len());
        assert!(missing(&EXPECTED.join(" 1\n")).is_empty());
    }
}
