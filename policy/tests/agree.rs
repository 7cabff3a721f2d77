// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Rows, walked as the kernel walks them, give the answers that the rules alone give.
//!
//! Sets of policies, hosts, changes to hosts and questions are generated; `decide` never sees a
//! label, and the model never sees a rule.
#![allow(clippy::expect_used, reason = "tests may")]

use aegis_abi::Access;
use aegis_policy::{
    Accesses, BuiltIn, CgroupPattern, Mode, NamePattern, Object, Places, Policy, PolicySet,
    Question, Rule, RuleAction, Ruleset, Who, Workload, compile, decide, lower,
    model::{World, answer, scope_of},
    resolve,
};
use proptest::{collection::vec, prelude::*};

#[derive(Clone, Debug)]
enum Act {
    Directory(Vec<u8>),
    File(Vec<u8>),
    Link(Vec<u8>, Vec<u8>),
    HardLink(Vec<u8>, Vec<u8>),
    Remove(Vec<u8>),
    Rename(Vec<u8>, Vec<u8>),
    Bind(Vec<u8>, Vec<u8>),
    Mount(Vec<u8>),
    Unmount(Vec<u8>),
}

fn act(world: &mut World, act: &Act) {
    match act {
        Act::Directory(path) => world.make_directory(path),
        Act::File(path) => world.make_file(path),
        Act::Link(path, content) => world.make_link(path, content),
        Act::HardLink(file, path) => world.hard_link(file, path),
        Act::Remove(path) => world.remove(path),
        Act::Rename(from, to) => world.rename(from, to),
        Act::Bind(from, to) => world.bind(from, to),
        Act::Mount(path) => world.mount(path),
        Act::Unmount(path) => world.unmount(path),
    };
}

/// Makes changes after the rows were written. Names are followed through one mount that is not
/// known, not through two in one another.
fn change_all(world: &mut World, changes: &[Act]) {
    let mut late: Vec<&[u8]> = Vec::new();
    for change in changes {
        match change {
            // What a directory hands down, and what is bound below it, moves with it: rows alone
            // cannot tell where it came from. Its move is for hooks to see, and to mark.
            Act::Rename(from, _) if is_directory(world, from) => {}
            Act::Mount(path) => {
                let nested = |other: &&[u8]| path.starts_with(other) || other.starts_with(path);
                if !late.iter().any(nested) && world.mount(path) {
                    late.push(path);
                }
            }
            Act::Unmount(path) => {
                if world.unmount(path) {
                    late.retain(|other| other != path);
                }
            }
            other => act(world, other),
        }
    }
}

fn name() -> impl Strategy<Value = &'static [u8]> {
    prop_oneof![Just(&b"a"[..]), Just(&b"b"[..]), Just(&b"ab\n\xff"[..])]
}

fn path() -> impl Strategy<Value = Vec<u8>> {
    vec(name(), 1..4)
        .prop_map(|names| names.iter().flat_map(|name| [b"/".as_slice(), name].concat()).collect())
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        path(),
        path().prop_map(|path| path[1..].to_vec()),
        path().prop_map(|path| [b"..".as_slice(), path.as_slice()].concat()),
    ]
}

fn plain_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => path().prop_map(Act::Directory),
        4 => path().prop_map(Act::File),
        1 => (path(), content()).prop_map(|(path, content)| Act::Link(path, content)),
        1 => path().prop_map(Act::Mount),
    ]
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => plain_act(),
        1 => (path(), path()).prop_map(|(file, path)| Act::HardLink(file, path)),
        1 => (path(), path()).prop_map(|(from, to)| Act::Bind(from, to)),
        1 => path().prop_map(Act::Remove),
        2 => (path(), path()).prop_map(|(from, to)| Act::Rename(from, to)),
    ]
}

/// All but what gives one thing two paths.
fn change() -> impl Strategy<Value = Act> {
    let act = any_act().prop_filter("no bind mount", |act| !matches!(act, Act::Bind(..)));
    prop_oneof![
        6 => act,
        2 => path().prop_map(Act::Mount),
        2 => path().prop_map(Act::Unmount),
    ]
}

fn component() -> impl Strategy<Value = NamePattern> {
    let part = || prop_oneof![Just(&b""[..]), Just(&b"a"[..]), Just(&b"ab"[..]), Just(&b"b"[..])];
    let exact = prop_oneof![Just(&b"a"[..]), Just(&b"ab"[..]), Just(&b"aab"[..]), Just(&b"b"[..])];
    prop_oneof![
        exact.prop_map(|name| NamePattern::Exact(name.to_vec())),
        (part(), part()).prop_map(|(prefix, suffix)| NamePattern::Star {
            prefix: prefix.to_vec(),
            suffix: suffix.to_vec(),
        }),
    ]
}

fn workload() -> impl Strategy<Value = Vec<CgroupPattern>> {
    vec(vec(component(), 1..4).prop_map(|components| CgroupPattern { components }), 1..3)
}

fn cgroup() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        Just("a"),
        Just("b"),
        Just("ab"),
        Just("aab"),
        Just("abb"),
        Just("aba"),
        Just("c")
    ];
    vec(name, 0..4)
        .prop_map(|names| names.iter().flat_map(|name| format!("/{name}").into_bytes()).collect())
}

fn accesses() -> impl Strategy<Value = Accesses> {
    prop::sample::subsequence(Access::ALL.to_vec(), 1..=3).prop_map(Accesses::from_iter)
}

#[derive(Clone, Debug)]
struct RuleDraft {
    everyone: bool,
    workloads: Vec<usize>,
    audit: bool,
    access: Accesses,
    objects: Vec<Vec<u8>>,
    except: Vec<Vec<u8>>,
}

fn rule() -> impl Strategy<Value = RuleDraft> {
    let workloads = prop::sample::subsequence(vec![0, 1], 1..=2);
    (
        prop::bool::weighted(0.1),
        workloads,
        prop::bool::weighted(0.2),
        accesses(),
        vec(path(), 1..4),
        vec(path(), 0..3),
    )
        .prop_map(|(everyone, workloads, audit, access, objects, except)| RuleDraft {
            everyone,
            workloads,
            audit,
            access,
            objects,
            except,
        })
}

type PolicyDraft = ((Vec<CgroupPattern>, Vec<CgroupPattern>), Vec<RuleDraft>, bool);

fn policy() -> impl Strategy<Value = PolicyDraft> {
    ((workload(), workload()), vec(rule(), 1..5), prop::bool::weighted(0.2))
}

/// A set of policies whose objects are files or directories as the world has them, so that few
/// cases are refused.
fn set_of(world: &World, drafts: &[PolicyDraft]) -> PolicySet {
    let files: Vec<Vec<u8>> = world.files().into_iter().map(|(path, _)| path).collect();
    let object = |path: &Vec<u8>| {
        let is_file = files.contains(path) || path.len() % 4 == 2 && !is_directory(world, path);
        Object { path: path.clone(), directory: !is_file }
    };
    let mut set = PolicySet::new();
    for (number, ((one, other), rules, audit)) in drafts.iter().enumerate() {
        let policy = Policy {
            name: format!("policy-{number}"),
            version: 1,
            workloads: vec![
                Workload { name: "one".to_owned(), cgroups: one.clone() },
                Workload { name: "other".to_owned(), cgroups: other.clone() },
            ],
            rules: rules
                .iter()
                .enumerate()
                .map(|(number, rule)| Rule {
                    id: format!("rule-{number}"),
                    who: if rule.everyone {
                        Who::Everyone
                    } else {
                        Who::Workloads(rule.workloads.clone())
                    },
                    action: if rule.audit { RuleAction::Audit } else { RuleAction::Deny },
                    access: rule.access,
                    objects: rule.objects.iter().map(object).collect(),
                    except: rule.except.iter().map(object).collect(),
                    reason: "generated".to_owned(),
                    line: 1,
                })
                .collect(),
            digest: [7; 32],
        };
        set.insert(policy, if *audit { Mode::Audit } else { Mode::Enforce });
    }
    set
}

fn is_directory(world: &World, path: &[u8]) -> bool {
    world.clone().bind(b"/", path)
}

fn built_in() -> BuiltIn {
    BuiltIn { proof_directory: b"/run/aegisbpf/proof".to_vec() }
}

fn ruleset(world: &World, drafts: &[PolicyDraft]) -> Ruleset {
    compile(&set_of(world, drafts), &built_in()).expect("small sets are within all limits")
}

/// Asks both about every file. `exact`: they must agree; else the rows must be at least as strict as
/// the rules are about the path, and about each object that the file was before.
fn compare(
    world: &World,
    ruleset: &Ruleset,
    places: &Places,
    before: &World,
    cgroups: &[Vec<u8>],
    accesses: Accesses,
    exact: bool,
) -> Result<(), TestCaseError> {
    let rows = lower(ruleset, places, 0x5eed).expect("small sets become rows");
    let known = before.files();
    for (path, key) in world.files() {
        // By its inode it is bound as an object, or for its several links beneath a directory.
        let is_object = |other: &[u8]| {
            places.iter().any(|place| !place.object.directory && place.canonical == other)
                || places.linked().any(|linked| linked == other)
        };
        let same = known.iter().filter(|(other, inode)| *inode == key && is_object(other));
        let objects: Vec<Vec<u8>> = same.map(|(other, _)| other.clone()).collect();
        for cgroup in cgroups {
            let given = answer(&rows, world, cgroup, &path, accesses);
            let wanted =
                |paths: &[Vec<u8>]| decide(ruleset, places, &Question { cgroup, paths, accesses });
            let paths: Vec<Vec<u8>> = [path.clone()].into_iter().chain(objects.clone()).collect();
            if exact {
                prop_assert_eq!(given, wanted(&paths), "{:?} in {:?}", path, cgroup);
                continue;
            }
            for known_as in &paths {
                let Some(wanted) = wanted(std::slice::from_ref(known_as)) else { continue };
                let strict = given.is_some_and(|given| {
                    (given.action, given.rule) <= (wanted.action, wanted.rule)
                });
                prop_assert!(
                    strict,
                    "{given:?}, not {wanted:?}: {path:?}, {known_as:?}, {cgroup:?}"
                );
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, max_global_rejects: 100_000, ..ProptestConfig::default() })]

    #[test]
    fn the_tree_of_cgroups_gives_the_workloads_that_the_patterns_select(
        drafts in vec(policy(), 1..4), cgroups in vec(cgroup(), 1..20),
    ) {
        let ruleset = ruleset(&World::new(), &drafts);
        let rows = lower(&ruleset, &Places::as_written(&ruleset), 1);
        // Without a host a path can be taken for a file by one rule, for a directory by another.
        let rows = rows.expect("small sets become rows");
        for cgroup in cgroups {
            let scope = scope_of(&rows, &cgroup);
            prop_assert_eq!(ruleset.scope(scope), ruleset.workloads_of(&cgroup), "{:?}", cgroup);
        }
    }

    #[test]
    fn what_did_not_change_is_decided_exactly_as_the_rules_say(
        acts in vec(plain_act(), 0..16), links in vec((path(), path()), 0..3),
        drafts in vec(policy(), 1..3), cgroups in vec(cgroup(), 1..4), accesses in accesses(),
    ) {
        let mut world = World::new();
        acts.iter().for_each(|one| act(&mut world, one));
        links.iter().for_each(|(file, path)| act(&mut world, &Act::HardLink(file.clone(), path.clone())));
        let ruleset = ruleset(&world, &drafts);
        let Ok(places) = resolve(&ruleset, &mut world.clone()) else {
            return Err(TestCaseError::reject("objects are not what rules take them for"));
        };
        compare(&world, &ruleset, &places, &world, &cgroups, accesses, true)?;
    }

    #[test]
    fn a_thing_with_two_paths_is_denied_by_either(
        acts in vec(any_act(), 4..24),
        drafts in vec(policy(), 1..3), cgroups in vec(cgroup(), 1..4), accesses in accesses(),
    ) {
        let mut world = World::new();
        acts.iter().for_each(|one| act(&mut world, one));
        let ruleset = ruleset(&world, &drafts);
        let Ok(places) = resolve(&ruleset, &mut world.clone()) else {
            return Err(TestCaseError::reject("objects are not what rules take them for"));
        };
        compare(&world, &ruleset, &places, &world, &cgroups, accesses, false)?;
    }

    #[test]
    fn whatever_changes_later_is_denied_by_what_it_was_and_by_its_name(
        acts in vec(any_act(), 0..16), changes in vec(change(), 1..16),
        drafts in vec(policy(), 1..3), cgroups in vec(cgroup(), 1..4), accesses in accesses(),
    ) {
        let mut world = World::new();
        acts.iter().for_each(|one| act(&mut world, one));
        let ruleset = ruleset(&world, &drafts);
        let Ok(places) = resolve(&ruleset, &mut world.clone()) else {
            return Err(TestCaseError::reject("objects are not what rules take them for"));
        };
        let before = world.clone();
        change_all(&mut world, &changes);
        compare(&world, &ruleset, &places, &before, &cgroups, accesses, false)?;
    }
}
