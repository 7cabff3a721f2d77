// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The emergency switch, as the programs in the kernel know it.

mod denial {
    use std::process::Stdio;

    use aegis_tests::{Case, Rule, aegisbpf, operation::*, program::command};

    #[test]
    fn in_an_emergency_what_is_denied_is_let_through_and_reported_until_it_is_ended() {
        let case = Case::new();
        let secret = case.file("vault/secret");
        let mut inside = case.inside();
        let tried = [read(&secret), write(&secret), list(case.path("vault"))];
        case.control(&mut inside, &tried);
        case.enforce(Rule::deny("r").beneath(case.path("vault")));
        for operation in &tried {
            case.denied(&mut inside, "r", operation);
        }
        let disable = ["emergency", "disable", "--reason", "a drill", "--for", "10m"];
        let disabled = aegisbpf(&disable).yes();
        assert_eq!(disabled["changed"], true, "{disabled}");
        let left = disabled["emergency"]["remaining_seconds"].as_u64().unwrap();
        assert!((500..=600).contains(&left), "{disabled}");
        for operation in &tried {
            case.reported(&mut inside, "would_deny", "r", operation);
        }
        // A proof is made where no emergency holds, so it still shows what there will be.
        let proved = aegisbpf(&["prove"]);
        assert_eq!(proved.status, 1, "{}", proved.json);
        assert_eq!(proved.json["runtime_state"], "EMERGENCY_DISABLED", "{}", proved.json);
        assert_eq!(proved.json["proof"]["paths"][0]["result"], "denied_by_us", "{}", proved.json);
        let health = aegisbpf(&["health"]);
        assert_eq!((health.status, &health.json["denies"]), (1, &false.into()), "{}", health.json);
        assert_eq!(health.json["emergency"]["reason"], "a drill", "{}", health.json);

        let enable = ["emergency", "enable", "--reason", "the drill is over"];
        let enabled = aegisbpf(&enable).yes();
        assert_eq!((&enabled["changed"], &enabled["emergency"]), (&true.into(), &().into()));
        assert_eq!(enabled["before"]["reason"], "a drill", "{enabled}");
        for operation in &tried {
            case.denied(&mut inside, "r", operation);
        }
        let again = aegisbpf(&enable).yes();
        assert_eq!((&again["changed"], &again["before"]), (&false.into(), &().into()), "{again}");
        aegisbpf(&["health", "--require-enforce"]).yes();
        let events = case.settle();
        let spared = events.iter().filter(|event| event["spared_by"] == "emergency").count();
        assert_eq!(spared, tried.len(), "{events:?}");
    }

    /// Nobody is there who would end it: the command is gone, and no agent runs.
    #[test]
    fn the_kernel_ends_an_emergency_by_itself() {
        let (case, secret, mut inside) = Case::of_a_secret();
        case.denied(&mut inside, "r", &read(&secret));
        let mut disable = command(&["emergency", "disable", "--reason", "a drill", "--for", "1s"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while inside.perform(&read(&secret)) != Tried::Allowed {}
        disable.kill().unwrap();
        disable.wait().unwrap();
        while inside.perform(&read(&secret)) == Tried::Allowed {}
        assert_eq!(inside.perform(&read(&secret)), Tried::Refused(1));
        let status = aegisbpf(&["emergency", "status"]).yes();
        assert_eq!(status["emergency"], serde_json::Value::Null, "{status}");
        case.forget();
    }
}
