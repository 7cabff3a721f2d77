// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the kernel does by itself, and what there is in between: nothing.

mod denial {
    use std::{
        path::Path,
        sync::atomic::{AtomicBool, AtomicUsize, Ordering},
        time::Duration,
    };

    use aegis_tests::{Policy, Rule, aegisbpf, agent::Agent, operation::*};
    use serde_json::{Value, json};

    use crate::rollback::denial::Two;

    /// Nobody of user space is needed for it: what was there before decides from the deadline on.
    #[test]
    fn what_nobody_confirms_is_taken_back_by_the_kernel() {
        let (two, mut inside) = Two::new();
        let (case, old, new) = (&two.case, &two.old, &two.new);
        let first = two.deny(old, &[]);
        case.denied(&mut inside, "r", &read(old));
        // Somebody else's, in between: going back from what the kernel went back to would take it along.
        let other = Policy::new("u").workload("w", &[&case.workload()]);
        let other = case.apply(&other.rule(Rule::deny("u").file(case.file("other"))));
        let second = two.deny(new, &["--confirm-within", "6s"]);
        assert!(second["unconfirmed"]["seconds_left"].as_u64() <= Some(6), "{second}");
        case.denied(&mut inside, "r", &read(new));
        case.allowed(&mut inside, &read(old));
        let third = case.try_apply(&two.policy(old));
        third.refused("CONFIRM_OPEN", &["waits for `aegisbpf confirm`", "rollback"]);
        // It was allowed, and is denied by nothing but the time.
        while inside.perform(&read(old)) == Tried::Allowed {
            std::thread::sleep(Duration::from_millis(100));
        }
        case.expects_denial("r", "read");
        case.denied(&mut inside, "r", &read(old));
        case.allowed(&mut inside, &read(new));
        case.settle();
        aegisbpf(&["confirm"]).refused("NOTHING_TO_CONFIRM", &["the deadline may have passed"]);
        let status = aegisbpf(&["prove"]).yes();
        assert_eq!(status["generation"], other["generation"], "{status}");
        assert_eq!(status["runtime_state"], "ENFORCE", "{status}");
        assert_eq!(status["unconfirmed"], Value::Null, "{status}");
        let history = aegisbpf(&["history", "--last", "1"]).yes();
        assert_eq!(history["changes"][0]["command"], "deadline", "{history}");
        assert_eq!(history["changes"][0]["policies"], json!(["t"]), "{history}");
        let back = aegisbpf(&["rollback", "--reason", "a test"]);
        back.refused("CHANGES_MORE", &["also change what the last change did not: u", "--all"]);
        let back = aegisbpf(&["rollback", "--all", "--reason", "a test"]).yes();
        assert_eq!(back["generation"], first["generation"], "{back}");
        case.was_removed("u");
    }

    /// Forward, back, back by itself, with an agent that comes and goes: there is no moment in between.
    #[test]
    fn no_try_succeeds_while_policies_change_and_change_back() {
        let (two, mut inside) = Two::new();
        let case = &two.case;
        let always = case.file("always");
        let policy = |other: &Path| case.policy().rule(Rule::deny("r").file(&always).file(other));
        case.apply(&policy(&two.old));
        case.denied(&mut inside, "r", &read(&always));
        let enough = if std::env::var_os("AEGIS_FULL").is_some() { 100_000 } else { 100 };
        let (over, tries) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            let attacker = scope.spawn(|| {
                // Each is an event, which somebody has to write down.
                while !over.load(Ordering::Relaxed) {
                    let tried = inside.perform(&read(&always));
                    let before = tries.fetch_add(1, Ordering::Relaxed);
                    assert_eq!(tried, Tried::Refused(1), "NOT DENIED: try {before}");
                    std::thread::sleep(Duration::from_millis(4));
                }
            });
            // Whatever fails here, the attacker ends; and if he does, so does this.
            let ends = Ends(&over);
            while !attacker.is_finished() && tries.load(Ordering::Relaxed) < enough {
                case.apply(&policy(&two.new));
                for _ in 0..2 {
                    aegisbpf(&["rollback", "--reason", "a test"]).yes();
                }
                case.apply_with(&policy(&two.old), &["--confirm-within", "2s"]);
                let mut agent = Agent::start(&[]);
                agent.tells("the kernel went back by itself");
                agent.ends();
                aegisbpf(&["rollback", "t", "--reason", "a test"]).yes();
            }
            drop(ends);
            attacker.join().unwrap();
        });
        eprintln!("{tries:?} tries");
        case.forget();
    }

    struct Ends<'a>(&'a AtomicBool);

    impl Drop for Ends<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}
