// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who may say what is enforced: signatures, the trust root, versions.

use std::{fs, path::Path};

use aegis_tests::{Case, Policy, Rule, aegisbpf, operation::read, program::Answer, runbook::Desk};

const BOOK: &str = "trust.md";
const FIVE: &str = "From no keys to an enforced signed policy";

/// A node whose policies one key signs, `admin.key` on the desk.
pub(crate) fn with_a_root() -> Desk {
    let desk = Desk::new();
    aegisbpf(&["keygen", "-o", &desk.file("admin.key")]).yes();
    init(&desk, &["admin.key"], "root.json");
    install(&desk, "root.json").yes();
    desk
}

fn init(desk: &Desk, keys: &[&str], out: &str) {
    let (keys, out) = (keys.iter().map(|key| desk.file(key)), desk.file(out));
    let mut arguments = vec!["trust".to_owned(), "init".to_owned()];
    arguments.extend(keys.flat_map(|key| ["--key".to_owned(), key]));
    arguments.extend(["--expires", "365d", "-o", &out].map(str::to_owned));
    aegisbpf(&arguments).yes();
}

fn install(desk: &Desk, root: &str) -> Answer {
    let root = desk.file(root);
    let shown = aegisbpf(&["trust", "show", &root]).yes();
    let fingerprint = shown["fingerprint"].as_str().unwrap().to_owned();
    aegisbpf(&["trust", "install", &root, "--fingerprint", &fingerprint])
}

/// A bundle of a policy, signed with `admin.key`.
pub(crate) fn bundle(desk: &Desk, policy: &Policy, name: &str) -> String {
    let (text, out) = (desk.file("a-policy.toml"), desk.file(name));
    fs::write(&text, policy.text()).unwrap();
    let key = desk.file("admin.key");
    aegisbpf(&["sign", &text, "--key", &key, "--expires", "90d", "-o", &out]).yes();
    out
}

/// What a root does not want any more does not come back by another way than `apply`.
#[test]
fn what_comes_back_keeps_its_signature_and_is_no_older_than_the_root_wants() {
    let case = Case::new();
    let desk = with_a_root();
    let policy = case.policy().rule(Rule::deny("r").file(case.file("secret")));
    let first = aegis_tests::policy::newer_version();
    for version in [first, first + 1] {
        let signed = bundle(&desk, &policy.clone().version(version), "t.bundle");
        aegisbpf(&["apply", &signed]).yes();
    }
    let back = ["rollback", "t", "--reason", "a test"];
    let old = aegisbpf(&back).yes();
    assert_eq!(old["policies"][0]["version"], first, "{old}");
    assert_eq!(old["policies"][0]["signed"], true, "{old}");
    let (next, key) = (desk.file("next.json"), desk.file("admin.key"));
    let minimum = format!("t={}", first + 1);
    aegisbpf(&["trust", "propose", "--minimum", &minimum, "--expires", "9d", "-o", &next]).yes();
    aegisbpf(&["trust", "sign", &next, "--key", &key]).yes();
    aegisbpf(&["trust", "install", &next]).yes();
    // What is in force stays, and leads forward; never back again.
    let new = aegisbpf(&back).yes();
    assert_eq!(new["policies"][0]["version"], first + 1, "{new}");
    for arguments in [&back[..], &["rollback", "--reason", "a test"]] {
        aegisbpf(arguments).refused("VERSION_LOWER", &["the trust root wants", "newer bundle"]);
    }
}

mod denial {
    use super::*;

    #[test]
    fn five_commands_lead_from_no_keys_to_an_enforced_signed_policy() {
        let case = Case::new();
        let secret = case.file("secret");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret)]);
        let desk = Desk::new();
        let policy = case.policy().rule(Rule::deny("r").file(&secret));
        fs::write(desk.path("policy.toml"), policy.text()).unwrap();
        desk.follow(BOOK, FIVE);
        case.denied(&mut inside, "r", &read(&secret));
        let event = case.settle().pop().unwrap();
        assert_eq!(event["signed"], true, "{event}");
        let status = aegisbpf(&["status"]).yes();
        assert_eq!(status["runtime_state"], "ENFORCE", "{status}");
        assert_eq!(status["trust"]["signatures_required"], true, "{status}");
        assert_eq!(status["policies"][0]["signed"], true, "{status}");
        let head = aegisbpf(&["trust", "show"]).yes();
        let signer = &head["delegations"][0]["keys"][0];
        assert_eq!(status["policies"][0]["signature"]["signers"][0], *signer, "{status}");
    }

    #[test]
    fn keys_rotate_and_are_replaced_while_what_they_signed_stays_in_force() {
        let case = Case::new();
        let secret = case.file("secret");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret)]);
        let desk = Desk::new();
        let policy = case.policy().rule(Rule::deny("r").file(&secret));
        fs::write(desk.path("policy.toml"), policy.text()).unwrap();
        desk.follow(BOOK, FIVE);
        case.denied(&mut inside, "r", &read(&secret));
        desk.follow(BOOK, "A key takes the place of another");
        case.denied(&mut inside, "r", &read(&secret));
        let status = aegisbpf(&["health", "--require-enforce"]).yes();
        assert_eq!(status["trust"]["revoked_active"], serde_json::json!([]), "{status}");
        assert_eq!(status["trust"]["root"]["version"], 2, "{status}");

        // Whoever had the key that was taken away signs nothing any more.
        let newer = policy.version(u32::MAX / 2);
        let stolen = bundle(&desk, &newer, "stolen.bundle");
        aegisbpf(&["apply", &stolen]).refused("SIGNER_UNKNOWN", &["is revoked", "hint: "]);
        desk.follow(BOOK, "Every root key is lost");
        case.denied(&mut inside, "r", &read(&secret));
        let status = aegisbpf(&["status"]).yes();
        assert_eq!(status["trust"]["revoked_active"], serde_json::json!([]), "{status}");
        case.settle();
    }

    #[test]
    fn of_three_keys_one_may_be_lost() {
        let case = Case::new();
        let secret = case.file("secret");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret)]);
        let desk = Desk::new();
        let policy = case.policy().rule(Rule::deny("r").file(&secret));
        fs::write(desk.path("policy.toml"), policy.text()).unwrap();
        desk.follow(BOOK, "Two of three people");
        case.denied(&mut inside, "r", &read(&secret));
        desk.follow(BOOK, "One key of several is lost");
        case.denied(&mut inside, "r", &read(&secret));
        let status = aegisbpf(&["status"]).yes();
        assert_eq!(status["trust"]["root"]["version"], 2, "{status}");
        assert_eq!(status["policies"][0]["signature"]["signers"].as_array().map(Vec::len), Some(2));
        case.settle();
    }

    /// A key that is gone from the root takes nothing out of force; it shows.
    #[test]
    fn what_a_revoked_key_signed_stays_in_force_and_shows() {
        let case = Case::new();
        let secret = case.file("secret");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret)]);
        let desk = with_a_root();
        let policy = case.policy().rule(Rule::deny("r").file(&secret));
        let signed = bundle(&desk, &policy, "t.bundle");
        let mut arguments = vec!["apply", signed.as_str()];
        arguments.extend(std::env::var_os("AEGIS_NULL").map(|_| "--dry-run"));
        aegisbpf(&arguments).yes();
        let other = desk.file("other.key");
        aegisbpf(&["keygen", "-o", &other]).yes();
        let (pub_key, old, next) =
            (format!("{other}.pub"), desk.file("admin.key.pub"), desk.file("next.json"));
        let everything = format!("*={pub_key}");
        let propose = ["trust", "propose", "--revoke", &old, "--add-root-key", &pub_key];
        let rest = ["--delegate", &everything, "--expires", "9d", "-o", &next];
        aegisbpf(&[&propose[..], &rest[..]].concat()).yes();
        let by = ["--key", &desk.file("admin.key"), "--key", &other];
        aegisbpf(&[&["trust", "sign", &next][..], &by[..]].concat()).yes();
        let installed = aegisbpf(&["trust", "install", &next]).yes();
        case.denied(&mut inside, "r", &read(&secret));
        assert_eq!(installed["trust"]["revoked_active"][0], "t", "{installed}");
        let health = aegisbpf(&["health"]).yes();
        assert_eq!(health["trust"]["revoked_active"][0], "t", "{health}");
        aegisbpf(&["apply", &signed]).refused("SIGNER_UNKNOWN", &["is revoked"]);
        case.settle();
    }
}

/// A peer skipped the check for paths of a canary, and for a variable of the environment.
#[test]
fn what_nobody_signed_is_refused_once_a_root_is_installed_whatever_becomes_of_it() {
    let case = Case::new();
    let desk = with_a_root();
    let policy = case.policy().rule(Rule::deny("r").file(case.file("secret")));
    let file = case.write_policy(&policy);
    let refused = || {
        aegisbpf(&["apply", &file]).refused("UNSIGNED", &["is not signed", "hint: "]);
        let answer = aegisbpf(&["apply", &file, "--allow-unsigned"]);
        answer.refused("UNSIGNED_FORBIDDEN", &["nothing was changed", "hint: "]);
    };
    refused();
    for path in
        ["/tmp/canary.toml", "/etc/aegisbpf/canary/policy.toml", "/etc/aegisbpf/policy.toml"]
    {
        fs::create_dir_all(Path::new(path).parent().unwrap()).unwrap();
        fs::copy(&file, path).unwrap();
        let mut command = aegis_tests::program::command(&["apply", path, "--allow-unsigned"]);
        for name in ["AEGIS_SKIP_VERIFY", "AEGISBPF_ALLOW_UNSIGNED", "AEGIS_CANARY", "BREAK_GLASS"]
        {
            command.env(name, "1");
        }
        let answer = Answer::of(command.output().unwrap());
        answer.refused("UNSIGNED_FORBIDDEN", &["hint: "]);
        fs::remove_file(path).unwrap();
    }
    // The root is gone: that there was one is not forgotten.
    let signed = bundle(&desk, &policy, "t.bundle");
    fs::remove_dir_all("/var/lib/aegisbpf/trust").unwrap();
    refused();
    aegisbpf(&["apply", &signed]).refused("ROOT_LOST", &["is gone", "hint: put the file back"]);
    let status = aegisbpf(&["status"]).yes();
    assert_eq!(status["trust"]["signatures_required"], true, "{status}");
    assert!(status["trust"]["root_lost"].is_string(), "{status}");
    install(&desk, "root.json").yes();
    fs::remove_file("/var/lib/aegisbpf/trust-root").unwrap();
    refused();
    install(&desk, "root.json").refused("ROOT_LOST", &["--replace"]);
}

/// Whoever deletes files wins nothing as long as anything is left that knows of the root.
#[test]
fn a_root_is_forgotten_only_with_its_files_the_log_and_what_is_pinned_at_once() {
    let case = Case::new();
    let desk = with_a_root();
    let policy = case.policy().rule(Rule::deny("r").file(case.file("secret")));
    let signed = bundle(&desk, &policy, "t.bundle");
    aegisbpf(&["apply", &signed]).yes();
    let file = case.write_policy(&policy);
    let unsigned = ["apply", file.as_str(), "--allow-unsigned", "--dry-run"];
    let lose = |names: &[&str]| {
        for name in names {
            let path = Path::new("/var/lib/aegisbpf").join(name);
            fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path)).unwrap();
        }
    };
    let lost = |who: &str| {
        aegisbpf(&unsigned).refused("UNSIGNED_FORBIDDEN", &["a trust root was installed"]);
        aegisbpf(&["apply", &signed]).refused("ROOT_LOST", &[who, "hint: ", "--replace"]);
        let status = aegisbpf(&["status"]).json;
        assert_eq!(status["trust"]["signatures_required"], true, "{status}");
        assert!(status["trust"]["root_lost"].as_str().unwrap().contains(who), "{status}");
    };
    lose(&["trust", "trust-root", "provenance"]);
    lost("the kernel knows of one");
    // What is on record from then on knows it as well, and outlives the kernel's memory.
    aegisbpf(&["detach", "--reason", "a test"]).yes();
    lost("the provenance log knows of one");
    install(&desk, "root.json").refused("ROOT_LOST", &["--replace"]);
    let root = desk.file("root.json");
    let shown = aegisbpf(&["trust", "show", &root]).yes();
    let fingerprint = shown["fingerprint"].as_str().unwrap();
    let again = ["trust", "install", &root, "--replace", "--fingerprint", fingerprint];
    aegisbpf(&[&again[..], &["--reason", "its files are lost"]].concat()).yes();
    aegisbpf(&["apply", &signed, "--dry-run"]).yes();
    // All of it at once leaves a node like any that is new.
    lose(&["trust", "trust-root", "provenance"]);
    aegisbpf(&unsigned).yes();
}

#[test]
fn a_signed_version_never_goes_down_whatever_was_removed_meanwhile() {
    let case = Case::new();
    let desk = with_a_root();
    let policy = |version| {
        Policy::new("floor")
            .workload("w", &[&case.workload()])
            .version(version)
            .rule(Rule::deny("r").file(case.path("secret")))
    };
    case.file("secret");
    let (two, three) =
        (bundle(&desk, &policy(2), "2.bundle"), bundle(&desk, &policy(3), "3.bundle"));
    aegisbpf(&["apply", &three]).yes();
    assert_eq!(aegisbpf(&["apply", &three]).yes()["changed"], false);
    aegisbpf(&["apply", &two]).refused("VERSION_LOWER", &["hint: "]);
    aegisbpf(&["remove", "floor", "--reason", "a test"]).yes();
    aegisbpf(&["apply", &two]).refused("VERSION_LOWER", &["hint: "]);
    aegisbpf(&["detach", "--reason", "a test"]).yes();
    aegisbpf(&["apply", &two]).refused("VERSION_LOWER", &["hint: "]);
    let other = policy(3).rule(Rule::deny("more").file(case.path("secret")));
    let other = bundle(&desk, &other, "other.bundle");
    aegisbpf(&["apply", &other]).refused("VERSION_REUSED", &["another text", "hint: "]);
    let far = bundle(&desk, &policy(1_000_004), "far.bundle");
    aegisbpf(&["apply", &far]).refused("VERSION_TOO_FAR", &["hint: "]);
    // After a restart of everything the same bundle is still the right one, and news are not needed.
    assert_eq!(aegisbpf(&["apply", &three]).yes()["changed"], true);
    aegisbpf(&["remove", "floor", "--reason", "a test"]).yes();
}
