// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What files took along is written down, and comes into force again.

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

    use aegis_tests::{Case, Rule, aegisbpf, agent::Agent, machine::Mounted, operation::*};
    use rustix::mount::{MountFlags, mount_remount};

    use crate::filesystem::{self, Place, device_of};

    use super::{LEFT, await_left, is_left};

    fn number_of(path: &Path) -> u64 {
        fs::metadata(path).unwrap().ino()
    }

    /// A host that loses its power an agent's second after files were moved: nothing of ours is left in the kernel or in
    /// memory, and filesystems come back with other numbers, elsewhere, or not yet.
    #[test]
    fn what_files_took_along_outlives_a_reboot() {
        let case = Case::new();
        // What other tests moved would wait as well: rules of that name are in other slots.
        aegisbpf(&["detach", "--reason", "from the beginning", "--purge"]).yes();
        let tops = ["/data", "/xfs", "/btrfs"].map(Place::new);
        let secrets = tops.each_ref().map(|top| top.file("secret"));
        let left = tops.each_ref().map(|top| top.path("left"));
        let neighbours = tops.each_ref().map(|top| top.file("neighbour"));
        let deleted = tops[0].file("deleted");
        let mut inside = case.inside();
        case.control(&mut inside, &secrets.each_ref().map(read));
        let rule = || secrets.iter().fold(Rule::deny("r").file(&deleted), Rule::file);
        case.enforce(rule());
        let agent = Agent::start(&[]);
        for (secret, left) in secrets.iter().zip(&left) {
            fs::rename(secret, left).unwrap();
            fs::write(secret, "content").unwrap();
            case.denied(&mut inside, "r", &read(left));
        }
        fs::rename(&deleted, tops[0].path("still there")).unwrap();
        let deleted = fs::metadata(tops[0].path("still there")).unwrap().ino();
        let numbers = left.each_ref().map(|left| fs::metadata(left).unwrap().ino());
        // In the null run nothing is moved out of anything, and the denials above have failed.
        numbers.iter().chain([&deleted]).for_each(|number| await_left(*number, true));
        case.settle();
        drop(agent);

        // The power goes.
        fs::remove_dir_all("/sys/fs/bpf/aegisbpf").unwrap();
        fs::remove_dir_all("/run/aegisbpf").unwrap();
        fs::remove_file(tops[0].path("still there")).unwrap();
        let [xfs, btrfs] = ["/xfs", "/btrfs"].map(|top| {
            let (device, number) = (device_of(top), filesystem::number_of(top));
            rustix::mount::unmount(top, rustix::mount::UnmountFlags::empty()).unwrap();
            (device, number)
        });
        // The kernel takes programs off a moment after their last pin is gone.
        while inside.perform(&read(&left[0])) != Tried::Allowed {}

        let started = aegisbpf(&["start"]).yes();
        assert_eq!(started["runtime_state"], "ENFORCE", "{started}");
        let told = "what 2 files took along is bound once their filesystem is mounted";
        assert!(started["warnings"].to_string().contains(told), "{started}");
        case.denied(&mut inside, "r", &read(&left[0]));
        case.allowed(&mut inside, &read(&neighbours[0]));
        // What was deleted meanwhile is forgotten: its number may be another file's by now.
        await_left(deleted, false);

        // Where no object is, a mount tells the hooks nothing. The number that was given back, and those below it, go
        // to others first.
        let mut taken = Vec::new();
        for number in 0..100 {
            let place = case.directory(format!("taken-{number}"));
            taken.push(Mounted::tmpfs(&place));
            if filesystem::number_of(place.to_str().unwrap()) == btrfs.1 {
                break;
            }
        }
        let place = case.directory("elsewhere");
        let elsewhere = Mounted::new("btrfs", &btrfs.0, &place, "");
        assert_ne!(
            filesystem::number_of(place.to_str().unwrap()),
            btrfs.1,
            "its device number is another one"
        );
        let moved = aegisbpf(&["prove"]);
        assert_eq!(moved.json["reason_code"], "OBJECTS_MOVED", "{}", moved.json);
        assert!(moved.json.to_string().contains("1 file that took rules along"), "{}", moved.json);
        case.enforce(rule());
        let inner = |path: &Path| place.join(path.strip_prefix("/btrfs").unwrap());
        case.denied(&mut inside, "r", &read(inner(&left[2])));
        case.allowed(&mut inside, &read(inner(&neighbours[2])));

        let mount = |device: &str, kind| {
            let flags = MountFlags::empty();
            rustix::mount::mount(device, Path::new("/").join(kind), kind, flags, None).unwrap();
        };
        mount(&btrfs.0, "btrfs");
        elsewhere.unmount();
        let mut agent = Agent::start(&[]);
        mount(&xfs.0, "xfs");
        agent.tells("bound anew");
        agent.says("ENFORCE");
        for left in &left {
            case.denied(&mut inside, "r", &read(left));
        }
        for neighbour in &neighbours {
            case.allowed(&mut inside, &read(neighbour));
        }
        agent.ends();
        case.forget();
        // They end with their rule.
        case.enforce(Rule::deny("other").file(case.path("nothing")));
        case.enforce(Rule::deny("another").file(case.path("nothing")));
        for number in numbers {
            assert!(!is_left(number), "{number}");
        }
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
