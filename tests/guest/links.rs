// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Symbolic links on the way to an object, and hard links of one.

use aegis_tests::{Case, Rule};

/// A link that leads to itself leads nowhere, whatever is made there.
#[test]
fn links_in_a_circle_are_refused_with_the_object_that_they_are_on_the_way_to() {
    let case = Case::new();
    let link = |target: &str, name: &str| {
        std::os::unix::fs::symlink(target, case.path(name)).unwrap();
    };
    link("two", "one");
    link("one", "two");
    let object = case.path("one/file");
    let answer = case.try_apply(&case.policy().rule(Rule::deny("r").file(&object)));
    answer.refused("OBJECTS", &[object.to_str().unwrap(), "symbolic links", "hint: "]);
}

mod denial {
    use std::fs;

    use aegis_tests::{Case, Rule, operation::*, policy::newer_version};

    fn link(case: &Case, target: &str, name: &str) {
        let path = case.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, path).unwrap();
    }

    /// Whoever may not read what lies in a directory may still make links there, and an `except` would lead through them.
    #[test]
    fn a_link_that_was_made_inside_frees_nothing_when_policies_are_bound_afresh() {
        let case = Case::new();
        let (secret, public) = (case.file("d/secret"), case.file("d/public"));
        let hidden = case.path("d/made/free/hidden");
        fs::create_dir_all(hidden.parent().unwrap()).unwrap();
        case.file("d/hidden");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret), rename(case.path("d/hidden"), &hidden)]);
        let rule = Rule::deny("r").beneath(case.path("d")).access(&["read"]);
        let rule = rule.except_file(&public).except_beneath(case.path("d/pub/free"));
        let policy = case.policy().rule(rule);
        case.apply(&policy);
        case.allowed(&mut inside, &read(&public));
        case.allowed(&mut inside, &rename(case.path("d/hidden"), &hidden));
        case.allowed(&mut inside, &unlink(&public));
        case.allowed(&mut inside, &symlink("secret", &public));
        case.allowed(&mut inside, &symlink("made", case.path("d/pub")));
        let report = case.apply(&policy.version(newer_version()));
        let weaker = report["objects"]["weaker"].as_array().unwrap();
        assert_eq!(weaker.len(), 2, "{report}");
        assert!(weaker.iter().all(|one| one.to_string().contains("not excepted")), "{report}");
        for path in [&secret, &hidden] {
            case.denied(&mut inside, "r", &read(path));
        }
        case.settle();
    }

    /// What somebody else is to put at the name of an object would be where the link leads.
    #[test]
    fn no_link_comes_to_the_way_from_inside() {
        let case = Case::new();
        let [way, exact, other] = ["d/a", "d/exact", "d/other"].map(|name| case.path(name));
        case.directory("d/mine");
        let mut inside = case.inside();
        case.control(&mut inside, &[symlink("mine", &way), symlink("mine", &exact)]);
        let rule = Rule::deny("r").file(way.join("b/secret")).file(&exact);
        case.enforce(rule.access(&["read"]));
        case.allowed(&mut inside, &symlink("mine", &other));
        for at in [&way, &exact] {
            let hard = aegis_tests::operation::link(&other, at);
            for change in [symlink("mine", at), rename(&other, at), hard] {
                case.denied_to_all(&mut inside, "r", &change.denied_for("read"));
            }
        }
        case.allowed(&mut inside, &mkdir(&way));
        case.denied_to_all(&mut inside, "r", &symlink("../mine", way.join("b")).denied_for("read"));
        case.allowed(&mut inside, &rename(&other, case.path("d/another")));
        case.denied(&mut inside, "r", &read(case.file("d/a/b/secret")));
        case.settle();
    }

    /// Nobody has told that the directory which took the place of another has a link where that had none.
    #[test]
    fn a_link_that_comes_within_a_directory_is_not_followed_from_inside() {
        let case = Case::new();
        let secret = case.file("app/current/secret");
        case.file("release/secret");
        case.directory("new");
        link(&case, "../release", "new/current");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret), read(case.path("new/current/secret"))]);
        case.enforce(Rule::deny("r").file(&secret).access(&["read"]));
        fs::rename(case.path("app"), case.path("old")).unwrap();
        fs::rename(case.path("new"), case.path("app")).unwrap();
        case.denied_to_all(&mut inside, "r", &read(&secret));
        case.allowed(&mut inside, &read(case.path("release/secret")));
        case.settle();
    }

    /// Somebody else writes by the one name what is read by the other.
    #[test]
    fn what_somebody_inside_links_into_a_denied_directory_is_denied_by_its_other_name() {
        let case = Case::new();
        case.directory("vault");
        let [mine, other] = ["mine", "other"].map(|name| case.file(name));
        let [log, exact] = ["vault/log", "exact"].map(|name| case.path(name));
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&mine), read(&other)]);
        let rule = Rule::deny("r").beneath(case.path("vault")).file(&exact);
        case.enforce(rule.access(&["read"]));
        let hard = aegis_tests::operation::link;
        case.allowed(&mut inside, &hard(&mine, &log));
        case.denied(&mut inside, "r", &read(&mine));
        case.allowed(&mut inside, &hard(&other, &case.path("more")));
        case.allowed(&mut inside, &read(&other));
        case.allowed(&mut inside, &rename(case.path("more"), &exact));
        for path in [&log, &exact, &other] {
            case.denied(&mut inside, "r", &read(path));
        }
        case.settle();
    }

    /// Links on the way to the object are followed for it, and so for what is taken out of it.
    #[test]
    fn an_exception_is_where_its_object_is() {
        let case = Case::new();
        let (secret, public) = (case.file("real/d/secret"), case.file("real/d/public"));
        link(&case, "real", "way");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret), read(&public)]);
        let rule = Rule::deny("r").beneath(case.path("way/d"));
        let report = case.enforce(rule.except_file(case.path("way/d/public")));
        assert_eq!(report["objects"]["weaker"].as_array().map(Vec::len), Some(0), "{report}");
        case.denied(&mut inside, "r", &read(&secret));
        case.allowed(&mut inside, &read(&public));
        case.allowed(&mut inside, &read(case.path("way/d/public")));
        case.settle();
    }

    /// `/bin` is a link to `usr/bin` on most hosts, and everything goes through it.
    #[test]
    fn a_rule_on_one_program_leaves_others_behind_the_same_link_alone() {
        let case = Case::new();
        fs::create_dir_all(case.path("usr/bin")).unwrap();
        link(&case, "usr/bin", "bin");
        for name in ["nc", "sh"] {
            fs::copy("/bin/busybox", case.path(format!("usr/bin/{name}"))).unwrap();
        }
        let [nc, sh] = ["bin/nc", "bin/sh"].map(|name| case.path(name));
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&nc), read(&sh)]);
        case.enforce(Rule::deny("r").file(&nc));
        case.denied(&mut inside, "r", &run(&nc));
        case.denied(&mut inside, "r", &read(case.path("usr/bin/nc")));
        case.allowed(&mut inside, &read(&sh));
        case.allowed(&mut inside, &read(case.path("usr/bin/sh")));
        case.settle();
    }

    /// `/var/run` is a link to `/run`: what appears in the one appears in the other.
    #[test]
    fn what_appears_behind_a_link_on_the_way_is_denied_by_both_paths() {
        let case = Case::new();
        fs::create_dir(case.path("run")).unwrap();
        link(&case, "../run", "var/run");
        let [by_link, plain] = ["var/run/app/key", "run/app/key"].map(|name| case.path(name));
        let neighbour = case.file("run/app/neighbour");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(case.path("var/run/app/neighbour"))]);
        let rule = Rule::deny("r").file(&by_link).beneath(case.path("var/run/vault"));
        case.enforce(rule);
        for _ in 0..2 {
            case.file("run/app/key");
            case.denied(&mut inside, "r", &read(&by_link));
            case.denied(&mut inside, "r", &read(&plain));
            fs::remove_file(&plain).unwrap();
        }
        case.file("run/vault/deep/secret");
        case.denied(&mut inside, "r", &read(case.path("var/run/vault/deep/secret")));
        case.denied(&mut inside, "r", &read(case.path("run/vault/deep/secret")));
        case.allowed(&mut inside, &read(&neighbour));
        case.settle();
    }

    /// As `/etc/alternatives` has them: a name, a link in between, and the program itself.
    #[test]
    fn a_chain_of_links_is_bound_at_each_of_its_names() {
        let case = Case::new();
        let program = case.program("lib");
        link(&case, "../alternatives/editor", "bin/editor");
        link(&case, "../lib/true", "alternatives/editor");
        let other = case.program("other");
        let names = ["bin/editor", "alternatives/editor", "lib/true"].map(|name| case.path(name));
        let mut inside = case.inside();
        case.control(&mut inside, &[run(&names[0]), run(&other)]);
        case.enforce(Rule::deny("r").file(&names[0]).access(&["exec"]));
        for name in &names {
            case.denied(&mut inside, "r", &run(name));
        }
        // A program in place of the first link, of the second, and of the program.
        for name in &names {
            fs::remove_file(name).unwrap();
            fs::copy("/bin/busybox", name).unwrap();
            case.denied(&mut inside, "r", &run(name));
        }
        assert_eq!(names[2], program);
        case.allowed(&mut inside, &run(&other));
        case.settle();
    }

    #[test]
    fn a_directory_in_place_of_a_link_on_the_way_is_bound_as_the_link_was() {
        let case = Case::new();
        let real = case.file("releases/1/key");
        link(&case, "releases/1", "current");
        let key = case.path("current/key");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&key)]);
        case.enforce(Rule::deny("r").file(&key));
        case.denied(&mut inside, "r", &read(&key));
        fs::remove_file(case.path("current")).unwrap();
        case.file("current/key");
        case.denied(&mut inside, "r", &read(&key));
        case.denied(&mut inside, "r", &read(&real));
        let neighbour = case.file("current/neighbour");
        case.allowed(&mut inside, &read(&neighbour));
        case.settle();
    }

    #[test]
    fn a_link_that_leads_nowhere_yet_is_bound_where_it_leads() {
        let case = Case::new();
        link(&case, "later/key", "key");
        link(&case, "../later", "links/way");
        let key = case.path("key");
        let mut inside = case.inside();
        let report = case.enforce(Rule::deny("r").file(&key).beneath(case.path("links/way/vault")));
        let pending = report["objects"]["pending"].as_array().map(Vec::len);
        assert_eq!(pending, Some(2), "{report}");
        case.file("later/key");
        let secret = case.file("later/vault/deep/secret");
        case.denied(&mut inside, "r", &read(&key));
        case.denied(&mut inside, "r", &read(case.path("later/key")));
        case.denied(&mut inside, "r", &read(&secret));
        case.denied(&mut inside, "r", &read(case.path("links/way/vault/deep/secret")));
        case.settle();
    }

    /// Made by anybody, before or after: what counts is what a link leads to.
    #[test]
    fn links_that_no_policy_names_lead_to_what_is_denied() {
        let case = Case::new();
        let secret = case.file("vault/secret");
        link(&case, "../vault", "a/way");
        link(&case, "a/way/secret", "before");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(case.path("before"))]);
        case.enforce(Rule::deny("r").beneath(case.path("vault")));
        link(&case, "../vault/secret", "b/after");
        case.allowed(&mut inside, &symlink(&secret, case.path("own")));
        for name in ["before", "a/way/secret", "b/after", "own"] {
            case.denied(&mut inside, "r", &read(case.path(name)));
        }
        case.settle();
    }

    #[test]
    fn several_hard_links_of_a_file_are_one_object_whenever_they_are_made() {
        let case = Case::new();
        let secret = case.file("secret");
        let names = ["a/1", "b/2", "c/3", "c/4"].map(|name| case.path(name));
        for name in &names {
            fs::create_dir_all(name.parent().unwrap()).unwrap();
        }
        fs::hard_link(&secret, &names[0]).unwrap();
        fs::hard_link(&secret, &names[1]).unwrap();
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&names[0]), read(&names[1])]);
        case.enforce(Rule::deny("r").file(&secret));
        fs::hard_link(&names[1], &names[2]).unwrap();
        fs::remove_file(&names[0]).unwrap();
        fs::hard_link(&secret, &names[0]).unwrap();
        fs::rename(&names[1], &names[3]).unwrap();
        for name in [&secret, &names[0], &names[2], &names[3]] {
            case.denied(&mut inside, "r", &read(name));
        }
        fs::remove_file(&secret).unwrap();
        for name in [&names[0], &names[2], &names[3]] {
            case.denied(&mut inside, "r", &read(name));
        }
        case.settle();
    }

    /// As Kubernetes rotates a secret, with a rule on the exact file that the links lead to.
    #[test]
    fn a_link_on_the_way_that_is_switched_by_an_outsider_opens_nothing() {
        let case = Case::new();
        case.file("volume/..1/key");
        link(&case, "..1", "volume/..data");
        link(&case, "..data/key", "volume/key");
        let key = case.path("volume/key");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&key)]);
        case.enforce(Rule::deny("r").file(&key));
        case.denied(&mut inside, "r", &read(&key));
        case.file("volume/..2/key");
        link(&case, "..2", "volume/..new");
        fs::rename(case.path("volume/..new"), case.path("volume/..data")).unwrap();
        let tried = inside.perform(&read(&key));
        assert_ne!(tried, Tried::Allowed, "NOT DENIED: {}", read(&key));
        case.forget();
        // Applied again, the new target is the object, and the old one is not.
        case.enforce(Rule::deny("again").file(&key));
        case.denied(&mut inside, "again", &read(&key));
        case.forget();
    }

    /// What is bound by inode is what the link led to, and where it leads now nothing is bound yet.
    #[test]
    fn a_link_to_a_directory_that_is_switched_by_an_outsider_is_not_followed_from_inside() {
        let case = Case::new();
        let (first, second) = (case.file("v1/key"), case.file("v2/key"));
        case.file("v2/other");
        link(&case, "v1", "current");
        let key = case.path("current/key");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&key), read(&second)]);
        case.enforce(Rule::deny("r").file(&key).access(&["read"]));
        case.denied(&mut inside, "r", &read(&key));
        link(&case, "v2", "new");
        fs::rename(case.path("new"), case.path("current")).unwrap();
        for name in ["current/key", "current/other"] {
            let tried = inside.perform(&read(case.path(name)));
            assert_ne!(tried, Tried::Allowed, "NOT DENIED: {name}");
        }
        let last = case.events().pop().unwrap();
        assert_eq!((&last["rule"], &last["why"]), (&"r".into(), &"on-the-way".into()), "{last}");
        let tried = inside.perform(&read(&first));
        assert_ne!(tried, Tried::Allowed, "NOT DENIED: {}", read(&first));
        case.forget();
    }

    /// A hard link from before the policy, out of a directory that is denied as a whole.
    #[test]
    fn other_names_of_what_is_beneath_a_denied_directory_are_found_at_apply() {
        let case = Case::new();
        let secret = case.file("vault/deep/secret");
        let (out, second) = (case.path("out"), case.path("elsewhere/second"));
        case.directory("elsewhere");
        fs::hard_link(&secret, &out).unwrap();
        fs::hard_link(&secret, &second).unwrap();
        let free = case.file("free");
        fs::hard_link(&free, case.path("elsewhere/free")).unwrap();
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&out), read(&second)]);
        case.enforce(Rule::deny("r").beneath(case.path("vault")));
        for path in [&secret, &out, &second] {
            case.denied(&mut inside, "r", &read(path));
        }
        case.allowed(&mut inside, &read(case.path("elsewhere/free")));
        case.settle();
    }

    /// Links that somebody makes all the time while the policy is applied.
    #[test]
    fn other_names_that_are_made_during_apply_are_denied_afterwards() {
        use std::sync::atomic::{AtomicBool, Ordering};

        let case = Case::new();
        let secret = case.file("vault/secret");
        let out = case.directory("out");
        let mut inside = case.inside();
        case.control(&mut inside, &[read(&secret)]);
        let done = AtomicBool::new(false);
        let made = std::thread::scope(|scope| {
            let links = scope.spawn(|| {
                let mut made = Vec::new();
                while !done.load(Ordering::Relaxed) {
                    let name = out.join(made.len().to_string());
                    fs::hard_link(&secret, &name).unwrap();
                    made.push(name);
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
                made
            });
            case.enforce(Rule::deny("r").beneath(case.path("vault")));
            done.store(true, Ordering::Relaxed);
            links.join().unwrap()
        });
        for name in made.iter().take(3).chain(made.iter().rev().take(3)) {
            case.denied(&mut inside, "r", &read(name));
        }
        case.settle();
    }
}
