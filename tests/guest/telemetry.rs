// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the operator sees.

mod denial {
    use std::os::unix::ffi::OsStrExt as _;

    use aegis_tests::{Case, Rule, aegisbpf, operation::*, policy::unwritten};
    use serde_json::Value;

    #[test]
    fn an_event_says_who_what_by_which_rule_and_why() {
        let case = Case::new();
        let secret = case.file("a file/secret");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret)]);
        let report = case.enforce(Rule::deny("r").file(&secret));
        let times = 5;
        for _ in 0..times {
            case.denied(&mut inside, "r", &read(&secret));
        }
        let events = case.settle();
        let exe =
            std::env::var("AEGIS_PROBE").unwrap_or_else(|_| "/usr/bin/aegis-probe".to_owned());
        for event in &events {
            let path = unwritten(event["path"].as_str().unwrap());
            assert_eq!(path, secret.as_os_str().as_bytes(), "{event}");
            assert_eq!(event["reason"], "why r is", "{event}");
            assert_eq!(event["policy"], "t", "{event}");
            assert_eq!(event["workload"], "w", "{event}");
            assert_eq!(event["why"], "inode", "{event}");
            assert_eq!(event["pid"], inside.pid(), "{event}");
            assert_eq!(event["uid"], 0, "{event}");
            assert_eq!(event["exe"], exe, "{event}");
            assert_eq!(event["comm"], "aegis-probe", "{event}");
            assert_eq!(event["cgroup"], case.workload(), "{event}");
            assert_eq!(event["generation"], report["generation"], "{event}");
        }
        let numbers: Vec<u64> = events.iter().filter_map(|event| event["seq"].as_u64()).collect();
        let first = numbers[0];
        let expected: Vec<u64> = (first..first + times).collect();
        assert_eq!(numbers, expected, "nothing was dropped, so no number is missing");
        let times: Vec<&str> = events.iter().filter_map(|event| event["time"].as_str()).collect();
        assert!(times.is_sorted(), "{times:?}");

        let why = aegisbpf(&["why", "--pid", &inside.pid().to_string()]).yes();
        let denials = why["denials"].as_array().unwrap();
        assert_eq!(denials.len(), 1, "the same denial is told once: {why}");
        assert_eq!(denials[0]["rule"], "r", "{why}");
        assert!(denials[0]["except"].as_str().is_some_and(|text| text.contains("rule r")), "{why}");
        let none = aegisbpf(&["why", "--path", "/no/such/path"]);
        assert_eq!(none.status, 1, "{}", none.json);
    }

    /// More than the ring holds, and nobody who takes events out.
    #[test]
    fn a_burst_loses_events_and_counts_them_and_denies_all_the_same() {
        let (case, secret, mut inside) = Case::of_a_secret();
        case.denied(&mut inside, "r", &read(&secret));
        let first = case.settle()[0]["seq"].as_u64().unwrap();
        let before = rule();
        let burst = read_times(&secret, BURST);
        assert_eq!(inside.perform(&burst), Tried::Refused(1), "each of them");
        let after = rule();
        let more = |key: &str| after[key].as_u64().unwrap() - before[key].as_u64().unwrap();
        assert_eq!(more("deny"), BURST as u64, "a counter misses nothing");
        assert!(more("drops") > 0, "the ring was full: {after}");
        let events = case.events();
        let came = events.len() as u64 - 1;
        assert_eq!(came + more("drops"), BURST as u64, "sent and lost are all");
        // Whoever reads sees in the numbers how many are missing.
        let last = events.last().and_then(|event| event["seq"].as_u64()).unwrap();
        assert_eq!(last - first, BURST as u64, "from {first} to {last}");
        case.forget();
    }

    fn rule() -> Value {
        let list = aegisbpf(&["list"]).yes();
        let policies = list["policies"].as_array().unwrap();
        let policy = policies.iter().find(|policy| policy["name"] == "t").unwrap();
        policy["hits_by_rule"][0].clone()
    }

    const BURST: usize = 3000;
}
