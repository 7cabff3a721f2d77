// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a host shows, and what is bound because of it: links, mounts, kinds, sizes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may")]

use std::{collections::BTreeSet, time::Instant};

use aegis_abi::{Access, Action, Rows};
use aegis_policy::{
    Accesses, BuiltIn, CompileError, LowerError, Lowered, Mode, ObjectState, Places, PolicySet,
    Question, Ruleset, Source, compile, decide, explain, lower, lower_with,
    model::{World, answer},
    parse, resolve,
};

const CGROUP: &[u8] = b"/app";

fn text(objects: &[&str], except: &[&str]) -> String {
    let except = if except.is_empty() { String::new() } else { format!("except = {except:?}\n") };
    format!(
        "schema = 1\nname = \"test\"\nversion = 1\n[workloads.app]\ncgroups = [\"/app\"]\n\
         [[rules]]\nid = \"rule\"\nworkloads = [\"app\"]\naction = \"deny\"\n\
         objects = {objects:?}\n{except}reason = \"test\"\n"
    )
}

fn set(texts: &[String]) -> PolicySet {
    let mut set = PolicySet::new();
    for (number, text) in texts.iter().enumerate() {
        let (policy, diagnostics) = parse(Source { name: "test", text });
        let mut policy = policy.unwrap_or_else(|| panic!("{diagnostics:#?}"));
        policy.name = format!("test-{number}");
        set.insert(policy, Mode::Enforce);
    }
    set
}

fn built_in() -> BuiltIn {
    BuiltIn { proof_directory: b"/run/aegisbpf/proof".to_vec() }
}

fn rules(objects: &[&str], except: &[&str]) -> Ruleset {
    compile(&set(&[text(objects, except)]), &built_in()).unwrap()
}

fn bind(ruleset: &Ruleset, world: &World) -> (Places, Rows) {
    let places = resolve(ruleset, &mut world.clone()).unwrap();
    let rows = lower(ruleset, &places, 42).unwrap();
    (places, rows)
}

fn denied(rows: &Rows, world: &World, path: &str) -> bool {
    let decision = answer(rows, world, CGROUP, path.as_bytes(), Access::Read.into());
    decision.is_some_and(|decision| decision.action == Action::Deny)
}

fn world(paths: &[&str]) -> World {
    let mut world = World::new();
    for path in paths {
        match path.strip_suffix('/') {
            Some(directory) => assert!(world.make_directory(directory.as_bytes())),
            None => assert!(world.make_file(path.as_bytes())),
        }
    }
    world
}

#[test]
fn links_are_followed_and_their_names_stay_bound() {
    let mut world = world(&["/data/real/", "/data/real/key", "/srv/"]);
    assert!(world.make_link(b"/srv/one", b"../data/./two"));
    assert!(world.make_link(b"/data/two", b"/data/real"));
    let ruleset = rules(&["/srv/one/key"], &[]);
    let (places, rows) = bind(&ruleset, &world);
    let place = places.iter().find(|place| place.object.path == b"/srv/one/key").unwrap();
    assert_eq!(place.canonical, b"/data/real/key");
    assert!(matches!(place.state, ObjectState::Bound(_)));
    assert_eq!(place.links.len(), 2);
    assert!(denied(&rows, &world, "/data/real/key"));

    // A directory takes the place of the first link.
    assert!(world.remove(b"/srv/one") && world.make_directory(b"/srv/one"));
    assert!(world.make_file(b"/srv/one/key"));
    assert!(denied(&rows, &world, "/srv/one/key"));
    assert!(world.make_file(b"/srv/one/other") && !denied(&rows, &world, "/srv/one/other"));

    // And of the second, which the policy does not name.
    assert!(world.remove(b"/data/two") && world.make_directory(b"/data/two"));
    assert!(world.make_file(b"/data/two/key") && denied(&rows, &world, "/data/two/key"));
}

#[test]
fn as_many_links_are_followed_as_the_kernel_follows() {
    let mut world = world(&["/0"]);
    for link in 1..=41 {
        let (name, content) = (format!("/{link}"), (link - 1).to_string());
        assert!(world.make_link(name.as_bytes(), content.as_bytes()));
    }
    assert!(resolve(&rules(&["/40"], &[]), &mut world).is_ok());
    assert!(resolve(&rules(&["/41"], &[]), &mut world).is_err());
}

#[test]
fn links_that_never_end_are_refused() {
    let mut world = world(&["/a/"]);
    assert!(world.make_link(b"/a/x", b"y") && world.make_link(b"/a/y", b"x"));
    let errors = resolve(&rules(&["/a/x"], &[]), &mut world).unwrap_err();
    let [error] = errors.as_slice() else { panic!("{errors:?}") };
    assert_eq!(error.fault.to_string(), "more than 40 symbolic links on the way");
}

#[test]
fn what_does_not_exist_is_pending_and_denied_when_it_appears() {
    let mut world = world(&["/srv/"]);
    let ruleset = rules(&["/srv/app/secrets/key", "/opt/tool/"], &[]);
    let (places, rows) = bind(&ruleset, &world);
    let missing = |path: &[u8]| {
        let place = places.iter().find(|place| place.object.path == path).unwrap();
        match &place.state {
            ObjectState::Pending { missing } => missing.clone(),
            ObjectState::Bound(_) | ObjectState::Unfollowed => Vec::new(),
        }
    };
    assert_eq!(missing(b"/srv/app/secrets/key"), b"/srv/app");
    assert_eq!(missing(b"/opt/tool"), b"/opt");
    assert!(world.make_directory(b"/srv/app/secrets") && world.make_file(b"/srv/app/secrets/key"));
    assert!(world.make_directory(b"/opt/tool/bin") && world.make_file(b"/opt/tool/bin/run"));
    assert!(denied(&rows, &world, "/srv/app/secrets/key"));
    assert!(denied(&rows, &world, "/opt/tool/bin/run"));
}

#[test]
fn files_and_directories_must_be_written_as_what_they_are() {
    let mut world = world(&["/srv/", "/etc/", "/etc/shadow"]);
    let errors = resolve(&rules(&["/srv", "/etc/shadow/"], &[]), &mut world).unwrap_err();
    let told: Vec<String> =
        errors.iter().map(|error| format!("{error}: {}; {}", error.fault, error.hint())).collect();
    assert_eq!(
        told,
        [
            "policy test-0, rule rule (line 6): object /etc/shadow/: it is a file, and written as \
             a directory; write /etc/shadow",
            "policy test-0, rule rule (line 6): object /srv: it is a directory, and written as a \
             file; write /srv/ for it and everything beneath",
        ]
    );
}

#[test]
fn the_root_of_a_filesystem_beneath_a_directory_is_bound() {
    let mut world = world(&["/srv/data/"]);
    assert!(world.mount(b"/srv/data") && world.make_file(b"/srv/data/file"));
    let (places, rows) = bind(&rules(&["/srv/"], &[]), &world);
    assert_eq!(places.mounts().collect::<Vec<_>>(), [b"/srv/data"]);
    let devices: Vec<u32> = rows.filesystems.iter().map(|(dev, _)| *dev).collect();
    assert_eq!(devices.len(), 2, "the filesystem of the directory and the one beneath");
    let mounted = rows.objects.iter().find(|(key, _)| key.dev == devices[1]).unwrap();
    assert!(mounted.1.label != 0 && mounted.1.flags != 0);
    assert!(denied(&rows, &world, "/srv/data/file"));
}

/// A file that took rules along may be on a filesystem that is mounted where no object is.
#[test]
fn a_filesystem_has_the_rules_that_files_on_it_took_along() {
    let rules = rules(&["/srv/"], &[]);
    let places = resolve(&rules, &mut world(&["/srv/"])).unwrap();
    let taken = BTreeSet::from([(77, vec![1]), (78, vec![1]), (78, vec![2])]);
    let Lowered { rows, meaning } = lower_with(&rules, &places, 42, &taken).unwrap();
    let of = |device| {
        let row = rows.filesystems.iter().find(|(dev, _)| *dev == device);
        row.map(|(_, row)| meaning.labels[row.label as usize - 1].as_slice())
    };
    assert_eq!((of(77), of(78), of(79)), (Some(&[1][..]), Some(&[1, 2][..]), None));
}

#[test]
fn a_filesystem_that_is_mounted_anew_has_the_names_of_the_one_before() {
    for object in ["/data/m/secret", "/data/m/"] {
        let mut world = world(&["/data/", "/other/"]);
        assert!(world.mount(b"/data") && world.make_directory(b"/data/m"));
        assert!(world.mount(b"/data/m") && world.make_file(b"/data/m/secret"));
        let (_, rows) = bind(&rules(&[object], &[]), &world);
        assert!(denied(&rows, &world, "/data/m/secret"));

        // What lies on the mount point while nothing is mounted there.
        assert!(world.unmount(b"/data/m") && world.make_file(b"/data/m/secret"));
        assert!(denied(&rows, &world, "/data/m/secret"), "{object}");
        assert!(world.mount(b"/data/m") && world.make_file(b"/data/m/secret"));
        assert!(denied(&rows, &world, "/data/m/secret"), "{object}");
        assert!(world.make_file(b"/other/file") && !denied(&rows, &world, "/other/file"));

        // The same one level up.
        assert!(world.unmount(b"/data/m") && world.unmount(b"/data"));
        assert!(world.make_directory(b"/data/m") && world.make_file(b"/data/m/secret"));
        assert!(denied(&rows, &world, "/data/m/secret"), "{object}");
    }
}

#[test]
fn a_filesystem_that_is_mounted_for_the_first_time_has_the_names_of_its_place() {
    let mut world = world(&["/data/"]);
    let (_, rows) = bind(&rules(&["/data/pending/a/secret"], &[]), &world);
    assert!(world.make_directory(b"/data/pending") && world.mount(b"/data/pending"));
    assert!(world.make_directory(b"/data/pending/a") && world.make_file(b"/data/pending/a/secret"));
    assert!(denied(&rows, &world, "/data/pending/a/secret"));
    assert!(world.make_file(b"/data/pending/a/other"));
    assert!(!denied(&rows, &world, "/data/pending/a/other"));
}

#[test]
fn one_btrfs_subvolume_does_not_stand_for_another() {
    let mut world = world(&["/btrfs/", "/elsewhere/"]);
    assert!(world.mount_btrfs(b"/btrfs"));
    for path in ["/btrfs/one", "/btrfs/two", "/btrfs/three"] {
        assert!(world.make_subvolume(path.as_bytes()));
        assert!(world.make_file(format!("{path}/file").as_bytes()));
        assert!(world.make_file(format!("{path}/key").as_bytes()));
    }
    let ruleset = rules(&["/btrfs/one/", "/btrfs/two/key"], &[]);
    let (places, rows) = bind(&ruleset, &world);
    assert!(denied(&rows, &world, "/btrfs/one/file") && denied(&rows, &world, "/btrfs/two/key"));
    for path in ["/btrfs/two/file", "/btrfs/three/file", "/btrfs/three/key"] {
        assert!(!denied(&rows, &world, path), "{path}");
    }
    assert!(world.make_file(b"/btrfs/two/key") && denied(&rows, &world, "/btrfs/two/key"));
    for place in places.iter().filter(|place| place.object.path.starts_with(b"/btrfs")) {
        let [why] = place.weaker.as_slice() else { panic!("{place:?}") };
        assert!(why.contains("btrfs subvolume"), "{why}");
    }

    // As it says: elsewhere the subvolume is not found by its path.
    assert!(world.bind(b"/btrfs/one", b"/elsewhere"));
    assert!(!denied(&rows, &world, "/elsewhere/file"));
}

#[test]
fn one_directory_at_two_paths_has_the_names_of_both() {
    let mut world = world(&["/a/", "/b/"]);
    assert!(world.bind(b"/a", b"/b"));
    let (_, rows) = bind(&rules(&["/a/x", "/b/y"], &[]), &world);
    assert!(world.make_file(b"/a/x") && world.make_file(b"/a/y") && world.make_file(b"/a/z"));
    for path in ["/a/x", "/a/y", "/b/x", "/b/y"] {
        assert!(denied(&rows, &world, path), "{path}");
    }
    assert!(!denied(&rows, &world, "/a/z"));

    // Where no name leads to it any more, the directory itself still knows both.
    assert!(world.rename(b"/a", b"/c"));
    assert!(denied(&rows, &world, "/c/x") && denied(&rows, &world, "/c/y"));
}

#[test]
fn a_label_does_not_hide_what_holds_by_another_path() {
    let mut world = world(&["/a/", "/a/file", "/b/"]);
    assert!(world.bind(b"/a", b"/b"));
    let one = text(&["/a/"], &["/a/file/on/the/way"]);
    let other = text(&["/b/file"], &[]).replace("\"deny\"", "\"audit\"");
    let ruleset = compile(&set(&[one, other]), &built_in()).unwrap();
    let (_, rows) = bind(&ruleset, &world);
    assert!(denied(&rows, &world, "/a/file") && denied(&rows, &world, "/b/file"));
}

#[test]
fn an_exception_is_allowed_by_its_name_and_not_by_another() {
    let mut world = world(&["/srv/", "/srv/secret", "/srv/public"]);
    let ruleset = rules(&["/srv/"], &["/srv/public"]);
    let (_, rows) = bind(&ruleset, &world);
    assert!(denied(&rows, &world, "/srv/secret") && !denied(&rows, &world, "/srv/public"));
    assert!(world.rename(b"/srv/public", b"/srv/other"));
    assert!(denied(&rows, &world, "/srv/other"));
}

#[test]
fn an_exception_follows_links_to_its_object_and_none_beneath() {
    let mut world = world(&["/real/", "/real/secret", "/real/public"]);
    assert!(world.make_link(b"/srv", b"real"));
    let ruleset = rules(&["/srv/"], &["/srv/public", "/srv/link", "/srv/to/file"]);
    let (places, rows) = bind(&ruleset, &world);
    assert!(denied(&rows, &world, "/real/secret") && !denied(&rows, &world, "/real/public"));
    assert!(places.iter().all(|place| place.weaker.is_empty()));
    assert!(world.make_link(b"/real/link", b"secret") && world.make_link(b"/real/to", b"/real/in"));
    assert!(world.make_directory(b"/real/in") && world.make_file(b"/real/in/file"));
    let (places, rows) = bind(&ruleset, &world);
    for path in ["/real/secret", "/real/in/file"] {
        assert!(denied(&rows, &world, path), "{path}");
    }
    assert!(!denied(&rows, &world, "/real/public"));
    let unfollowed = places.iter().filter(|place| place.state == ObjectState::Unfollowed);
    assert_eq!(unfollowed.filter(|place| place.weaker.len() == 1).count(), 2);
}

#[test]
fn an_exception_takes_nothing_out_of_what_another_rule_follows_a_link_to() {
    let mut world = world(&["/data/", "/data/secret/", "/data/secret/x"]);
    assert!(world.make_link(b"/data/pub", b"secret"));
    let except = ["/data/pub/x"];
    let ruleset =
        compile(&set(&[text(&["/data/"], &except), text(&["/data/pub/"], &except)]), &built_in());
    let (_, rows) = bind(&ruleset.unwrap(), &world);
    assert!(denied(&rows, &world, "/data/secret/x"));
    // Alone, each is taken out of its own.
    let (_, rows) = bind(&rules(&["/data/pub/"], &except), &world);
    assert!(!denied(&rows, &world, "/data/secret/x"));
}

#[test]
fn an_explanation_names_what_excepts_and_what_decides() {
    let ruleset = rules(&["/srv/"], &["/srv/public/"]);
    let places = Places::as_written(&ruleset);
    let ask = |cgroup: &[u8], path: &[u8]| {
        let paths = [path.to_vec()];
        explain(&ruleset, &places, &Question { cgroup, paths: &paths, accesses: Accesses::all() })
    };
    let inside = ask(b"/app/child", b"/srv/x");
    assert!(inside.matches[0].decides && inside.matches[0].object == "/srv/");
    assert_eq!(inside.decision.unwrap().access, Access::Read);
    let excepted = ask(b"/app", b"/srv/public/x");
    assert_eq!(excepted.matches[0].excepted.as_deref(), Some("/srv/public/"));
    assert!(excepted.decision.is_none());
    let outside = ask(b"/other", b"/srv/x");
    assert!(!outside.matches[0].selects && outside.decision.is_none());
}

#[test]
fn nothing_depends_on_the_order_of_policies_or_on_anything_but_the_seed() {
    let texts = [text(&["/a/", "/b"], &["/a/x"]), text(&["/b", "/c/"], &[])];
    let world = world(&["/a/", "/a/x", "/b"]);
    let one = set(&texts);
    let mut other = PolicySet::new();
    for (policy, mode) in one.iter().collect::<Vec<_>>().into_iter().rev() {
        other.insert(policy.clone(), mode);
    }
    let rows = |set: &PolicySet, seed| {
        let ruleset = compile(set, &built_in()).unwrap();
        let places = resolve(&ruleset, &mut world.clone()).unwrap();
        lower(&ruleset, &places, seed).unwrap()
    };
    assert_eq!(rows(&one, 1), rows(&other, 1));
    assert_ne!(rows(&one, 1).names, rows(&one, 2).names);
}

#[test]
fn a_hundred_thousand_objects_become_rows_in_seconds() {
    let mut world = World::new();
    let mut objects = Vec::new();
    for directory in 0..100 {
        let path = format!("/data/{directory}");
        assert!(world.make_directory(path.as_bytes()));
        for file in 0..1000 {
            objects.push(format!("{path}/{file}"));
            if file % 2 == 0 {
                assert!(world.make_file(objects.last().unwrap().as_bytes()));
            }
        }
    }
    let objects: Vec<&str> = objects.iter().map(String::as_str).collect();
    let started = Instant::now();
    let ruleset = rules(&objects, &[]);
    let places = resolve(&ruleset, &mut world).unwrap();
    let rows = lower(&ruleset, &places, 9).unwrap();
    assert!(started.elapsed().as_secs() < 60, "even without optimisation: {:?}", started.elapsed());
    assert!(rows.names.len() > 100_000 && rows.objects.len() > 50_000 && rows.labels < 10);
    assert!(world.asked() < 100_200, "{} questions", world.asked());
    assert!(denied(&rows, &world, "/data/7/8"));
}

#[test]
fn a_thousand_workloads_and_four_thousand_labels_fit_into_one_set() {
    let mut text = "schema = 1\nname = \"large\"\nversion = 1\n".to_owned();
    for workload in 0..1000 {
        text += &format!("[workloads.w{workload}]\ncgroups = [\"/w{workload}\"]\n");
    }
    for rule in 0..4096 {
        text += &format!(
            "[[rules]]\nid = \"r{rule}\"\nworkloads = [\"w{}\"]\naction = \"deny\"\n\
             objects = [\"/o{rule}\"]\nreason = \"one label each\"\n",
            rule % 1000
        );
    }
    let ruleset = compile(&set(&[text]), &built_in()).unwrap();
    let rows = lower(&ruleset, &Places::as_written(&ruleset), 3).unwrap();
    assert!(rows.labels > 4096 && rows.scopes > 1000);
    let question = [b"/o4095".to_vec()];
    let asked = Question { cgroup: b"/w95/x", paths: &question, accesses: Access::Read.into() };
    let decision = decide(&ruleset, &Places::as_written(&ruleset), &asked).unwrap();
    assert_eq!(ruleset.rule(decision.rule).unwrap().rule.id, "r4095");
}

#[test]
fn what_is_beyond_a_limit_is_refused_by_name_and_number() {
    let many: Vec<String> = (0..1001).map(|_| text(&["/x"], &[])).collect();
    let errors = compile(&set(&many), &built_in()).unwrap_err();
    assert_eq!(errors, [CompileError::TooMany { what: "policies", count: 1001, limit: 1000 }]);

    // Prefixes and suffixes that all meet in one directory.
    let cgroups = |kind: &dyn Fn(u32) -> String| {
        (0..300).map(|number| format!("{:?}", kind(number))).collect::<Vec<_>>().join(", ")
    };
    let (before, after) = (cgroups(&|n| format!("/p{n:03}*")), cgroups(&|n| format!("/*s{n:03}")));
    let wide = text(&["/x"], &[]).replace("\"/app\"", &format!("{before}, {after}"));
    assert_eq!(compile(&set(&[wide]), &built_in()).unwrap_err(), [CompileError::CgroupRows]);

    // A label for each of too many directories, one in the other's rules.
    let mut nested = text(&["/x"], &[]);
    for rule in 0..8200 {
        nested += &format!(
            "[[rules]]\nid = \"r{rule}\"\nworkloads = [\"app\"]\naction = \"deny\"\n\
             objects = [\"/o{rule}\"]\nreason = \"one label each\"\n"
        );
    }
    let ruleset = compile(&set(&[nested]), &built_in()).unwrap();
    let refused = lower(&ruleset, &Places::as_written(&ruleset), 3).unwrap_err();
    assert_eq!(refused, LowerError::Labels);
    assert_eq!(refused.to_string(), "rules hold on objects in more than 8191 combinations");
}
