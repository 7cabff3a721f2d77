// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What documents tell developers to type exists. Needs no kernel.

use std::process::Command;

#[test]
fn every_development_command_and_flag_in_the_documents_exists() {
    let cargo = std::env::var_os("CARGO").expect("cargo runs its tests");
    let help = |verbs: &[&str]| {
        let mut command = Command::new(&cargo);
        command.args(["xtask"]).args(verbs).arg("--help");
        let output = command.output().expect("cargo starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let faults = aegis_tests::documents::faults("cargo xtask", help);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
