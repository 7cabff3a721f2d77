// SPDX-License-Identifier: Apache-2.0 OR MIT
//! There is room for so many files that left denied places, and no more. What there was no room for is said until
//! somebody has dealt with it.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use rustix::{process::Uid, thread::set_thread_res_uid};

/// As many rows as there is room for (`took_along.room`).
const ROOM: u32 = 16384;
/// Whoever uses it all.
const CROWD: u32 = 1000;

/// Has somebody without rights move new files from one directory to another until there is no room.
fn crowd(from: &Path, to: &Path) {
    for directory in [from, to] {
        fs::set_permissions(directory, Permissions::from_mode(0o777)).unwrap();
    }
    let work = || {
        // Of this thread alone.
        let crowd = Uid::from_raw(CROWD);
        set_thread_res_uid(crowd, crowd, crowd).unwrap();
        for number in 0..ROOM {
            let name = format!("{number}");
            fs::File::create(from.join(&name)).unwrap();
            fs::rename(from.join(&name), to.join(&name)).unwrap();
        }
    };
    std::thread::scope(|scope| scope.spawn(work).join().unwrap());
}

mod denial {
    use std::fs;

    use aegis_tests::{Case, Rule, aegisbpf, operation::*};
    use serde_json::{Value, json};

    use super::{CROWD, ROOM, crowd};

    fn status() -> Value {
        aegisbpf(&["status"]).json
    }

    #[test]
    fn what_there_was_no_room_for_is_said_until_somebody_has_dealt_with_it() {
        // Rows of other tests would be in the way.
        aegisbpf(&["detach", "--reason", "begin anew", "--purge"]).yes();
        let case = Case::new();
        let (vault, out) = (case.directory("vault"), case.directory("out"));
        let mut inside = case.inside();
        let (early, late) = (case.file("vault/early"), case.file("vault/late"));
        case.control(&mut inside, &[read(&early), read(&late)]);
        let policy = case.policy().rule(Rule::deny("r").beneath(&vault));
        case.apply(&policy);
        let gone = out.join("gone");
        fs::rename(&early, &gone).unwrap();
        crowd(&vault, &out);
        let crowded = status();
        assert_eq!(crowded["reason_code"], "ROWS_LOST", "NOT DENIED: {crowded}");
        let took_along = &crowded["took_along"];
        assert_eq!((&took_along["rows"], &took_along["lost"]), (&json!(ROOM), &json!(1)));
        assert_eq!(took_along["users"][0], json!({ "uid": CROWD, "rows": ROOM - 1 }));
        assert_eq!(took_along["users"][1], json!({ "uid": 0, "rows": 1 }));
        // Nothing was evicted for another, and what follows them has no room.
        let away = out.join("away");
        fs::rename(&late, &away).unwrap();
        case.denied(&mut inside, "r", &read(&gone));
        case.allowed(&mut inside, &read(&away));
        case.allowed(&mut inside, &read(out.join(format!("{}", ROOM - 1))));
        case.denied(&mut inside, "r", &read(out.join("0")));

        // To bind the same policies anew, or others, finds none of the two.
        let other = case.policy().rule(Rule::deny("r").beneath(&vault).file(case.path("more")));
        let report = case.apply(&other);
        assert_eq!(report["reason_code"], "ROWS_LOST", "{report}");
        let anew = status();
        assert_eq!(
            (&anew["reason_code"], &anew["took_along"]["lost"]),
            (&json!("ROWS_LOST"), &json!(2))
        );
        case.denied(&mut inside, "r", &read(&gone));
        case.settle();
        // Nor does a detach, or a reboot.
        aegisbpf(&["detach", "--reason", "other programs come"]).yes();
        let started = aegisbpf(&["start"]).yes();
        assert_eq!(started["reason_code"], "ROWS_LOST", "{started}");
        let again = status();
        let lost = &again["took_along"]["lost"];
        assert_eq!((&again["reason_code"], lost), (&json!("ROWS_LOST"), &json!(2)));
        case.denied(&mut inside, "r", &read(&gone));
        let health = aegisbpf(&["health", "--require-enforce"]);
        assert_eq!(health.status, 1, "{}", health.json);

        // Somebody looks for what has left, and says so.
        fs::rename(&away, &late).unwrap();
        fs::remove_file(out.join(format!("{}", ROOM - 1))).unwrap();
        let text = case.write_policy(&other);
        let flags = ["apply", "--allow-unsigned", text.as_str(), "--forget-lost"];
        assert_eq!(aegisbpf(&flags).status, 2, "without a reason");
        let report = aegisbpf(&[&flags[..], &["--reason", "both were found"]].concat()).yes();
        assert_eq!(report["changed"], true, "{report}");
        let after = status();
        assert_eq!(
            (&after["reason_code"], &after["took_along"]["lost"]),
            (&json!("PROVEN"), &json!(0))
        );
        let log = aegisbpf(&["provenance", "show"]).yes();
        let records = log["entries"].as_array().unwrap().iter().rev();
        let mut entries = records.map(|shown| &shown["record"]["entry"]);
        let begun = entries.find(|entry| entry["command"] == "apply" && entry["phase"] == "begin");
        let (weakening, reason) = (&begun.unwrap()["weakening"], &begun.unwrap()["reason"]);
        assert_eq!((weakening, reason), (&json!(true), &json!("both were found")));
        case.denied(&mut inside, "r", &read(&gone));
        case.denied(&mut inside, "r", &read(&late));
        case.forget();
        aegisbpf(&["detach", "--reason", "so many rows are of no use to others", "--purge"]).yes();
    }
}
