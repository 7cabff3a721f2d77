// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The agent: what it may do, what it tells the service manager and the journal, and what can be measured.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::net::UnixDatagram,
    process::Stdio,
};

use aegis_tests::{
    Case, Rule, aegisbpf,
    agent::Agent,
    config::Written,
    program::{Answer, command},
};
use rustix::process::Signal;
use serde_json::Value;

/// It still proves, and finds objects in directories that others keep to themselves.
#[test]
fn an_agent_has_the_capabilities_that_it_needs_and_no_other() {
    let case = Case::new();
    let secret = case.file("private/secret");
    let private = secret.parent().unwrap();
    std::os::unix::fs::chown(private, Some(65534), Some(65534)).unwrap();
    fs::set_permissions(private, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    case.enforce(Rule::deny("r").file(&secret));
    let mut agent = Agent::start(&[]);
    agent.says("ENFORCE");
    let kept = (1_u64 << 21) | (1 << 2); // CAP_SYS_ADMIN, CAP_DAC_READ_SEARCH
    let status = |of: &str, field: &str| {
        let text = fs::read_to_string(format!("/proc/{}/{of}", agent.pid())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.unwrap().trim().to_owned()
    };
    // It says its posture first, and drops the rest then.
    while status("status", "NoNewPrivs") != "1" {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let masks = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]
        .map(|mask| u64::from_str_radix(&status("status", mask), 16).unwrap());
    assert_eq!(masks, [0, kept, kept, kept, 0]);
    assert_eq!(status("status", "NoNewPrivs"), "1");
    // What it does from now on it does with these: a proof, because it is told to look again.
    let before = proved_at();
    agent.signal(Signal::HUP);
    while proved_at() == before {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let health = aegisbpf(&["health", "--require-enforce"]).yes();
    assert_eq!(health["unbound"], serde_json::json!([]), "{health}");
    assert!(!health["warnings"].to_string().contains("Permission"), "{health}");
    agent.ends();
}

/// Ready is what others wait for: it comes once the node is proved, and not before.
#[test]
fn a_service_manager_hears_ready_only_of_a_node_that_is_proved() {
    let case = Case::new();
    aegisbpf(&["detach", "--reason", "nothing is loaded", "--purge"]).yes();
    let socket = UnixDatagram::bind("/tmp/notify").unwrap();
    let mut child = command(&["run"])
        .env("NOTIFY_SOCKET", "/tmp/notify")
        .env("WATCHDOG_USEC", "5000000")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let heard = hear(&socket, "WATCHDOG=1");
    assert!(heard.contains("STATUS=NOT_LOADED"), "{heard}");
    assert!(!heard.contains("READY=1"), "ready, and nothing is enforced: {heard}");
    case.enforce(Rule::deny("r").file(case.file("secret")));
    let heard = hear(&socket, "READY=1");
    assert!(heard.contains("STATUS=ENFORCE"), "{heard}");
    child.kill().unwrap();
    child.wait().unwrap();
    fs::remove_file("/tmp/notify").unwrap();
}

#[test]
fn the_journal_gets_fields() {
    let case = Case::new();
    case.enforce(Rule::deny("r").file(case.file("secret")));
    fs::create_dir_all("/run/systemd/journal").unwrap();
    let socket = UnixDatagram::bind("/run/systemd/journal/socket").unwrap();
    let _written = Written::new("[log]\nformat = \"journald\"\n");
    let mut command = std::process::Command::new(std::env::var_os("AEGIS_BIN").unwrap());
    let mut child = command.arg("run").stdout(Stdio::null()).spawn().unwrap();
    let heard = hear(&socket, "AEGISBPF_RUNTIME_STATE=ENFORCE\n");
    for field in [
        "PRIORITY=5\n",
        "SYSLOG_IDENTIFIER=aegisbpf\n",
        "AEGISBPF_REASON_CODE=PROVEN\n",
        "MESSAGE_ID=",
    ] {
        assert!(heard.contains(field), "{field:?} is not in {heard}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    fs::remove_file("/run/systemd/journal/socket").unwrap();
}

/// A faulty configuration leaves the one before; a sound one is taken.
#[test]
fn a_signal_makes_the_agent_read_its_configuration_again() {
    let case = Case::new();
    case.enforce(Rule::deny("r").file(case.file("secret")));
    let mut agent = Agent::start(&[]);
    agent.says("ENFORCE");
    let written = Written::new("[metrics]\ntextfile = 7\n");
    agent.signal(Signal::HUP);
    let said = agent.tells("the one before stays");
    assert!(said["message"].as_str().is_some_and(|text| text.contains("errors")), "{said}");
    drop(written);
    let _written = Written::new("[metrics]\ntextfile = \"/tmp/agent.prom\"\n");
    agent.signal(Signal::HUP);
    agent.tells("was read again");
    while !std::path::Path::new("/tmp/agent.prom").exists() {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let text = fs::read_to_string("/tmp/agent.prom").unwrap();
    assert!(text.ends_with("# EOF\n"), "{text}");
    agent.ends();
}

#[test]
fn a_listener_hands_out_the_metrics() {
    let case = Case::new();
    case.enforce(Rule::deny("r").file(case.file("secret")));
    let _written = Written::new("[metrics]\nlisten = \"127.0.0.1:9464\"\n");
    let mut agent = Agent::start(&[]);
    agent.says("ENFORCE");
    let mut answer = String::new();
    while !answer.contains("aegisbpf_generation") {
        answer.clear();
        let Ok(mut connection) = TcpStream::connect("127.0.0.1:9464") else { continue };
        connection.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        connection.read_to_string(&mut answer).unwrap();
    }
    assert!(
        answer.contains("aegisbpf_runtime_state{aegisbpf_runtime_state=\"ENFORCE\"} 1\n"),
        "{answer}"
    );
    agent.ends();
}

#[test]
fn a_benchmark_is_shown_with_its_objective_and_its_age() {
    let case = Case::new();
    case.enforce(Rule::deny("r").file(case.file("secret")));
    let file = "/tmp/perf.json";
    let text = "{\"schema\":1,\"measured_at\":1,\"measured_on\":\"a test\",\"unit\":\"instructions\",\"operations\":\
                [{\"operation\":\"open\",\"p50\":10,\"p95\":20,\"p99\":30,\"objective\":{\"p99\":25}}]}";
    fs::write(file, text.replace("p99\":30", "p99\":19")).unwrap();
    aegisbpf(&["perf", "import", file]).refused("BAD_PERF", &["p95 > p99", "hint: "]);
    fs::write(file, text).unwrap();
    let imported = aegisbpf(&["perf", "import", file]).yes();
    assert_eq!(imported["objectives_met"], false, "{imported}");
    let health = aegisbpf(&["health"]).yes();
    assert_eq!(health["perf"]["objectives_met"], false, "{health}");
    assert!(health["perf"]["age_seconds"].as_u64() > Some(1_000_000), "{health}");
    let metrics = aegisbpf(&["metrics"]).yes();
    let metrics = metrics["metrics"].as_str().unwrap();
    for line in [
        "aegisbpf_perf_latency{operation=\"open\",quantile=\"p99\",unit=\"instructions\"} 30\n",
        "aegisbpf_perf_objective{operation=\"open\",quantile=\"p99\",unit=\"instructions\"} 25\n",
        "aegisbpf_perf_objective_met{operation=\"open\"} 0\n",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    fs::remove_file("/var/lib/aegisbpf/perf.json").unwrap();
}

/// When the last proof was made.
fn proved_at() -> Value {
    let text = fs::read_to_string("/run/aegisbpf/proof.json").unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["at"].clone()
}

/// Everything that comes until this does.
fn hear(socket: &UnixDatagram, until: &str) -> String {
    let mut heard = String::new();
    while !heard.contains(until) {
        let mut bytes = [0; 65536];
        let size = socket.recv(&mut bytes).unwrap();
        heard.push_str(&String::from_utf8_lossy(&bytes[..size]));
        heard.push('\n');
    }
    heard
}

mod denial {
    use super::*;
    use aegis_tests::operation::*;

    /// Metrics of maps that nobody counts in are always 0.
    #[test]
    fn metrics_count_what_is_denied() {
        let case = Case::new();
        let secret = case.file("secret");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret)]);
        case.enforce(Rule::deny("r").file(&secret));
        let denials = || {
            let answer = aegisbpf(&["metrics"]).yes();
            let text = answer["metrics"].as_str().unwrap().to_owned();
            let line = text.lines().find_map(|line| {
                line.strip_prefix("aegisbpf_denials_total{policy=\"t\",rule=\"r\",workload=\"w\"} ")
            });
            line.map_or(0, |number| number.parse::<u64>().unwrap())
        };
        let before = denials();
        for _ in 0..3 {
            case.denied(&mut inside, "r", &read(&secret));
        }
        assert_eq!(denials() - before, 3);
        let path = "/tmp/aegis.prom";
        aegisbpf(&["metrics", "--textfile", path]).yes();
        let text = fs::read_to_string(path).unwrap();
        assert!(text.ends_with("# EOF\n") && text.contains("aegisbpf_denials_total{"), "{text}");
        case.settle();
    }
}

/// What a runbook says to type works.
#[test]
fn every_command_of_a_runbook_works() {
    let case = Case::new();
    let secret = case.file("secret");
    case.enforce(Rule::deny("r").file(case.file("other")));
    case.enforce(Rule::deny("r").file(&secret));
    // What somebody complains of.
    let denied = case.inside().perform(&aegis_tests::operation::read(&secret));
    assert_eq!(denied, aegis_tests::operation::Tried::Refused(1));
    let book = aegis_tests::documents::DOCUMENTS.iter().find(|(name, _)| *name == "operations.md");
    let (_, text) = book.unwrap();
    let (_, runbooks) = text.split_once("## Runbooks").unwrap();
    let mut ran = 0;
    let mut in_block = false;
    for line in runbooks.lines() {
        if line.starts_with("```") {
            in_block = !in_block;
        } else if in_block && !line.is_empty() {
            let line = line.split(" # ").next().unwrap().trim();
            // The agent does not end by itself.
            if line == "aegisbpf run" {
                let mut agent = Agent::start(&[]);
                agent.says("ENFORCE");
                agent.ends();
            } else {
                let output = std::process::Command::new("/bin/busybox")
                    .args(["sh", "-c", line])
                    .output()
                    .unwrap();
                let answer = Answer::of(output);
                assert_eq!(answer.status, 0, "{line}: {} {}", answer.json, answer.stderr);
            }
            ran += 1;
        }
    }
    assert!(ran >= 17, "{ran} commands");
}
