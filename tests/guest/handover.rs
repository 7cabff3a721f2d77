// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What another version of the program has made.

mod denial {
    use aegis_tests::{Case, Rule, aegisbpf, amnesia::AnotherVersion, operation::*};

    use crate::life::pins;

    /// Neither by what puts something in force, nor by what takes something back.
    #[test]
    fn what_another_version_has_made_is_refused_and_goes_on() {
        let (case, secret, mut inside) = Case::of_a_secret();
        let file = case.write_policy(&case.policy().rule(Rule::deny("r").file(&secret)));
        case.denied(&mut inside, "r", &read(&secret));
        let names = pins();
        let passes = AnotherVersion::new();
        let reason = ["--reason", "a test"];
        for command in [
            &["apply", &file, "--allow-unsigned"][..],
            &["start"],
            &[&["rollback"][..], &reason].concat(),
            &[&["emergency", "disable", "--for", "1h"][..], &reason].concat(),
        ] {
            aegisbpf(command).refused("OTHER_VERSION", &["use the aegisbpf that put it there"]);
            assert_eq!(pins(), names, "{command:?}");
        }
        let status = aegisbpf(&["status"]).json;
        assert_ne!(status["runtime_state"], "ENFORCE", "{status}");
        case.denied(&mut inside, "r", &read(&secret));
        drop(passes);
        case.settle();
    }
}
