// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Back to what was: by one store, by the kernel itself, by the text of one policy.

use aegis_tests::{Case, Rule, aegisbpf, config::Written};
use serde_json::json;

#[test]
fn a_configuration_can_want_everything_confirmed() {
    let case = Case::new();
    let policy = case.policy().rule(Rule::deny("r").file(case.file("secret")));
    let _written = Written::new("rollout = \"confirm\"\n");
    case.try_apply(&policy).refused("CONFIRM_NEEDED", &["rollout", "--confirm-within"]);
    let gone = aegisbpf(&["remove", "t", "--reason", "a test"]);
    gone.refused("CONFIRM_NEEDED", &["aegisbpf remove"]);
}

#[test]
fn what_cannot_be_gone_back_to_is_refused() {
    let case = Case::new();
    aegisbpf(&["detach", "--reason", "nothing is loaded", "--purge"]).yes();
    let back = ["rollback", "--reason", "a test"];
    aegisbpf(&back).refused("NOTHING_IN_FORCE", &["no policy is in force"]);
    aegisbpf(&["confirm"]).refused("NOTHING_TO_CONFIRM", &["nothing waits"]);
    let policy = case.policy().rule(Rule::deny("r").file(case.file("secret")));
    let first = case.apply(&policy);
    aegisbpf(&back).refused("NO_PREVIOUS", &["nothing was in force before", "remove NAME"]);
    let other = aegisbpf(&["rollback", "t", "--reason", "a test"]);
    other.refused("NO_OTHER_TEXT", &["policy t", "aegisbpf remove t"]);
    let unknown = aegisbpf(&["rollback", "--to", "99999", "--reason", "a test"]);
    unknown.refused("NO_SUCH_GENERATION", &["aegisbpf history"]);
    aegisbpf(&["diff", "active", "x"]).refused("NO_SUCH_GENERATION", &["x is no generation"]);
    aegisbpf(&["confirm"]).refused("NOTHING_TO_CONFIRM", &[]);
    // None of it has changed anything but the log of what was refused.
    let status = aegisbpf(&["status"]).yes();
    assert_eq!(status["generation"], first["generation"], "{status}");
    let log = aegisbpf(&["provenance", "show", "--last", "2"]).yes();
    let refused = &log["entries"][1]["record"]["entry"];
    assert_eq!((&refused["command"], &refused["phase"]), (&json!("confirm"), &json!("refused")));
}

pub(crate) mod denial {
    use std::{
        path::{Path, PathBuf},
        time::Duration,
    };

    use aegis_tests::{Case, Policy, Process, Rule, aegisbpf, operation::*};
    use serde_json::Value;

    #[test]
    fn going_back_is_one_store_that_leads_forward_again() {
        let (two, mut inside) = Two::new();
        let (case, old, new) = (&two.case, &two.old, &two.new);
        let first = two.deny(old, &[]);
        case.denied(&mut inside, "r", &read(old));
        let second = two.deny(new, &[]);
        case.denied(&mut inside, "r", &read(new));
        let rehearsed = aegisbpf(&["rollback", "--reason", "a test", "--dry-run"]).yes();
        assert_eq!(rehearsed["changed"], false, "{rehearsed}");
        case.denied(&mut inside, "r", &read(new));
        // What is written behind is all that is needed of the log, however much there is before.
        let unreadable =
            Path::new("/var/lib/aegisbpf/provenance/segment-00000000000000000000.jsonl");
        std::fs::create_dir(unreadable).unwrap();
        for (to, from, denied, open) in [(&first, &second, old, new), (&second, &first, new, old)] {
            let back = aegisbpf(&["rollback", "--reason", "denied by mistake"]).yes();
            assert_eq!(back["generation"], to["generation"], "{back}");
            assert_eq!(back["from_generation"], from["generation"], "{back}");
            assert_eq!(back["runtime_state"], "ENFORCE", "{back}");
            assert_eq!(back["changes"][0]["policy"], "t", "{back}");
            assert_eq!(back["changes"][0]["denies_less"], true, "{back}");
            case.denied(&mut inside, "r", &read(denied));
            case.allowed(&mut inside, &read(open));
        }
        assert_ne!(aegisbpf(&["history"]).status, 0, "it can be read");
        std::fs::remove_dir(unreadable).unwrap();
        case.settle();
        let history = aegisbpf(&["history", "--last", "2"]).yes();
        let newest = &history["changes"][1];
        assert_eq!(newest["command"], "rollback", "{history}");
        assert_eq!(newest["reason"], "denied by mistake", "{history}");
        assert_eq!(newest["weakening"], true, "{history}");
        assert_eq!(newest["role"], "active", "{history}");
        assert_eq!(history["changes"][0]["role"], "previous", "{history}");
        let log = aegisbpf(&["provenance", "verify"]).yes();
        assert_eq!(log["whole"], true, "{log}");
    }

    #[test]
    fn what_is_confirmed_stays() {
        let (two, mut inside) = Two::new();
        let (case, new) = (&two.case, &two.new);
        let applied = two.deny(new, &["--confirm-within", "5s"]);
        case.denied(&mut inside, "r", &read(new));
        let confirmed = aegisbpf(&["confirm"]).yes();
        assert_eq!(confirmed["generation"], applied["generation"], "{confirmed}");
        std::thread::sleep(Duration::from_secs(5));
        case.denied(&mut inside, "r", &read(new));
        case.settle();
        let status = aegisbpf(&["status"]).yes();
        assert_eq!(status["generation"], applied["generation"], "{status}");
        assert_eq!(status["unconfirmed"], Value::Null, "{status}");
        let kept = std::fs::read_to_string("/var/lib/aegisbpf/confirmed.json").unwrap();
        let kept: Value = serde_json::from_str(&kept).unwrap();
        assert_eq!(kept["generation"], applied["generation"], "{kept}");
    }

    /// What one team takes back is not what another has put in force since.
    #[test]
    fn one_policy_goes_back_and_the_others_stay() {
        let (two, mut inside) = Two::new();
        let (case, old, new) = (&two.case, &two.old, &two.new);
        let first = two.deny(old, &[]);
        case.denied(&mut inside, "r", &read(old));
        two.deny(new, &[]);
        let theirs = case.file("theirs");
        let other = Policy::new("u").workload("w", &[&case.workload()]);
        case.apply(&other.rule(Rule::deny("u").file(&theirs)));
        let back = aegisbpf(&["rollback", "t", "--reason", "denied by mistake"]).yes();
        assert_eq!(back["policies"].as_array().map(Vec::len), Some(2), "{back}");
        case.denied(&mut inside, "r", &read(old));
        case.denied(&mut inside, "u", &read(&theirs));
        case.allowed(&mut inside, &read(new));
        let differ = aegisbpf(&["diff", "previous", "active"]).yes();
        assert_eq!(differ["changes"][0]["policy"], "t", "{differ}");
        assert_eq!(differ["changes"].as_array().map(Vec::len), Some(1), "{differ}");
        // A whole set of before.
        let number = first["generation"].to_string();
        let to = ["rollback", "--to", &number, "--reason", "a test"];
        let whole = aegisbpf(&to).yes();
        assert_eq!(whole["set_digest"], first["set_digest"], "{whole}");
        case.was_removed("u");
        case.denied(&mut inside, "r", &read(old));
        case.allowed(&mut inside, &read(&theirs));
        case.settle();
    }

    /// A case with two files, one of which is denied.
    pub(crate) struct Two {
        pub(crate) case: Case,
        pub(crate) old: PathBuf,
        pub(crate) new: PathBuf,
    }

    impl Two {
        pub(crate) fn new() -> (Self, Process) {
            let case = Case::new();
            let (old, new) = (case.file("old"), case.file("new"));
            let mut inside = case.inside();
            case.control(&mut inside, &[read(&old), read(&new)]);
            (Self { case, old, new }, inside)
        }

        pub(crate) fn policy(&self, denied: &Path) -> Policy {
            self.case.policy().rule(Rule::deny("r").file(denied))
        }

        #[track_caller]
        pub(crate) fn deny(&self, denied: &Path, flags: &[&str]) -> Value {
            self.case.apply_with(&self.policy(denied), flags)
        }
    }
}
