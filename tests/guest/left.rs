// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What files took along is written down, and comes into force again. `filesystem` shows it over a reboot.

use std::{fs, thread, time::Duration};

pub(crate) const LEFT: &str = "/var/lib/aegisbpf/left.json";

/// Whether a file with this number is written down.
pub(crate) fn is_left(number: u64) -> bool {
    let Ok(text) = fs::read(LEFT) else { return false };
    let all: serde_json::Value = serde_json::from_slice(&text).unwrap();
    all["files"].as_array().unwrap().iter().any(|file| file["ino"] == number)
}

/// Waits until it is, or is not any more.
pub(crate) fn await_left(number: u64, is: bool) {
    while is_left(number) != is {
        thread::sleep(Duration::from_millis(100));
    }
}

mod denial {
    use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

    use aegis_tests::{Case, aegisbpf, agent::Agent, machine::Mounted, operation::*};
    use rustix::mount::{MountFlags, mount_remount};

    use super::{LEFT, await_left, is_left};

    fn number_of(path: &Path) -> u64 {
        fs::metadata(path).unwrap().ino()
    }

    /// No agent is there: a detach itself writes down what the next programs go on with.
    #[test]
    fn what_files_took_along_comes_back_after_a_detach() {
        let (case, secret, mut inside) = Case::of_a_secret();
        let left = case.path("left");
        fs::rename(&secret, &left).unwrap();
        case.denied(&mut inside, "r", &read(&left));
        case.settle();
        assert!(!is_left(number_of(&left)));
        aegisbpf(&["detach", "--reason", "other programs come"]).yes();
        case.allowed(&mut inside, &read(&left));
        let started = aegisbpf(&["start"]).yes();
        assert_eq!(started["runtime_state"], "ENFORCE", "{started}");
        case.denied(&mut inside, "r", &read(&left));
        let neighbour = case.file("neighbour");
        case.allowed(&mut inside, &read(&neighbour));
        case.forget();
    }

    /// What cannot be used keeps no policy from coming into force, and is said until somebody has looked at it.
    #[test]
    fn what_cannot_be_read_of_what_files_took_along_is_kept_aside_and_said() {
        let (case, secret, mut inside) = Case::of_a_secret();
        let left = case.path("left");
        fs::rename(&secret, &left).unwrap();
        fs::write(&secret, "content").unwrap();
        case.denied(&mut inside, "r", &read(&left));
        case.settle();
        aegisbpf(&["detach", "--reason", "the disk fails"]).yes();
        let half = &fs::read(LEFT).unwrap()[..40];
        fs::write(LEFT, half).unwrap();
        let started = aegisbpf(&["start"]).yes();
        assert_eq!(started["runtime_state"], "ENFORCE", "{started}");
        let warnings = started["warnings"].to_string();
        assert!(
            warnings.contains("failed to understand /var/lib/aegisbpf/left.json"),
            "{warnings}"
        );
        case.denied(&mut inside, "r", &read(&secret));
        // It is said, because it is so.
        case.allowed(&mut inside, &read(&left));
        let aside = "/var/lib/aegisbpf/left.json.unread";
        assert_eq!(fs::read(aside).unwrap(), half);
        assert!(!is_left(number_of(&left)));
        let told = || {
            let warnings = aegisbpf(&["status"]).yes()["warnings"].to_string();
            warnings.contains("left.json.unread could not be used")
        };
        assert!(told());
        fs::remove_file(aside).unwrap();
        assert!(!told());
        case.forget();
    }

    /// A state directory that cannot be written to for a while.
    #[test]
    fn what_files_took_along_is_written_down_as_soon_as_that_can_be_done() {
        let (case, secret, mut inside) = Case::of_a_secret();
        case.denied(&mut inside, "r", &read(&secret));
        let mut agent = Agent::start(&[]);
        agent.says("ENFORCE");
        let state = Path::new(LEFT).parent().unwrap();
        let frozen = Mounted::bind(state, state);
        mount_remount(state, MountFlags::BIND | MountFlags::RDONLY, "").unwrap();
        let left = case.path("left");
        fs::rename(&secret, &left).unwrap();
        case.denied(&mut inside, "r", &read(&left));
        agent.tells("what files took along could not be written down");
        let number = number_of(&left);
        assert!(!is_left(number));
        frozen.unmount();
        await_left(number, true);
        case.events_are_taken();
        agent.ends();
        case.settle();
    }
}
