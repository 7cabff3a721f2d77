// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Stories by chance, told to this kernel: whatever is made, moved, linked, exchanged, mounted and removed by processes in
//! scopes and outside of them, what must be denied is, and nothing else.
//!
//! `AEGIS_SEED` begins with another seed; `AEGIS_STORY` tells one story, lines parted by semicolons, as a failure prints it.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use aegis_tests::{
    Case, Policy, Process, Rule,
    model::{
        invent::invent,
        random::Random,
        rules::{ACCESSES, Accesses, Actor, Bound},
        step::{Act, Entry, Step, Story},
        tell::{Answer, Counts, Fault, Machine, shrink, tell},
        world::Keeps,
    },
    operation::{
        Operation, Tried, bind, exchange, link, list, make, mkdir, mount_tmpfs, read, rename,
        rmdir, run_nothing, symlink, unlink, unmount_from, whiteout, write,
    },
};
use rustix::mount::{UnmountFlags, unmount};

/// This kernel, with AegisBPF in it.
struct Kernel {
    case: Case,
    /// By the actor's number.
    processes: Vec<Process>,
    told: usize,
    top: PathBuf,
}

impl Kernel {
    fn new() -> Self {
        let case = Case::new();
        let nested = format!("{}/nested", case.workload());
        let other = format!("{}-other", case.workload());
        let mut processes = vec![Process::outside(), case.inside()];
        for name in [nested, other] {
            processes.push(Process::inside(&case.make_cgroup(&name)));
        }
        let top = case.path("0");
        Self { case, processes, told: 0, top }
    }

    fn policy(&self, story: &Story) -> Policy {
        let own = self.case.workload();
        let cgroups = [own.clone(), format!("{own}/nested"), format!("{own}-other")];
        let mut policy = Policy::new("t");
        for (number, cgroup) in cgroups.iter().enumerate() {
            // A workload that no rule speaks of is a fault of the text.
            if story.rules.iter().any(|rule| rule.workload == number) {
                policy = policy.workload(&format!("w{number}"), &[cgroup]);
            }
        }
        for (number, rule) in story.rules.iter().enumerate() {
            let access = ACCESSES.iter().filter(|(access, ..)| rule.access & access != 0);
            let access: Vec<&str> = access.map(|(_, _, word)| *word).collect();
            let path = |bound: &Bound| self.top.join(&bound.path);
            let mut written = Rule::deny(&format!("r{number}"))
                .of(&format!("w{}", rule.workload))
                .access(&access);
            for object in &rule.objects {
                let path = path(object);
                written = if object.beneath { written.beneath(path) } else { written.file(path) };
            }
            for except in &rule.excepts {
                let path = path(except);
                written = if except.beneath {
                    written.except_beneath(path)
                } else {
                    written.except_file(path)
                };
            }
            policy = policy.rule(written);
        }
        policy
    }

    fn operation(&self, act: &Act) -> Operation {
        let at = |path: &String| self.top.join(path);
        match act {
            // Without opening it: hooks on names do not know by which mount one comes, and the open does.
            Act::Create(path) => make(at(path)),
            Act::Mkdir(path) => mkdir(at(path)),
            Act::Unlink(path) => unlink(at(path)),
            Act::Rmdir(path) => rmdir(at(path)),
            Act::Rename(from, to) => rename(at(from), at(to)),
            Act::Exchange(one, other) => exchange(at(one), at(other)),
            Act::Link(from, to) => link(at(from), at(to)),
            Act::Whiteout(from, to) => whiteout(at(from), at(to)),
            Act::Symlink(target, path) => symlink(at(target), at(path)),
            Act::Tmpfs(path) => mount_tmpfs(at(path)),
            Act::Bind(from, to) => bind(at(from), at(to)),
            Act::Umount(path) => unmount_from(at(path)),
        }
    }
}

impl Machine for Kernel {
    fn begin(&mut self, story: &Story) -> Result<(), String> {
        self.told += 1;
        // As long as every other one, so that a story has the same rows whenever it is told.
        self.top = self.case.directory(format!("{:04}", self.told));
        for entry in &story.entries {
            let made = match entry {
                Entry::Directory(path) => fs::create_dir(self.top.join(path)),
                Entry::Link(from, to) => fs::hard_link(self.top.join(from), self.top.join(to)),
                Entry::Symlink(target, path) => {
                    std::os::unix::fs::symlink(self.top.join(target), self.top.join(path))
                }
                Entry::File(path) => {
                    let path = self.top.join(path);
                    let everybody = fs::Permissions::from_mode(0o755);
                    fs::write(&path, "content").and_then(|()| fs::set_permissions(&path, everybody))
                }
            };
            made.map_err(|error| format!("{entry}: {error}"))?;
        }
        if !story.rules.is_empty() {
            let answer = self.case.try_apply(&self.policy(story));
            if answer.status != 0 {
                return Err(format!("{}{}", answer.json, answer.stderr));
            }
        }
        Ok(())
    }

    fn change(&mut self, step: &Step) -> Result<Answer, String> {
        let operation = self.operation(&step.act);
        answer(&self.processes[step.actor.0].perform(&operation), &step.to_string())
    }

    fn open(&mut self, actor: Actor, opens: &[(Accesses, String)]) -> Result<Vec<Answer>, String> {
        let operations: Vec<Operation> = opens
            .iter()
            .map(|(access, path)| {
                let path = self.top.join(path);
                match ACCESSES.iter().find(|(own, ..)| own == access).map(|(_, _, word)| *word) {
                    Some("write") => write(path),
                    Some("exec") => run_nothing(path),
                    _ if path.is_dir() => list(path),
                    _ => read(path),
                }
            })
            .collect();
        let tried = self.processes[actor.0].perform_all(&operations);
        operations
            .iter()
            .zip(&tried)
            .map(|(operation, tried)| answer(tried, &format!("{actor}: {operation}")))
            .collect()
    }

    fn end(&mut self) -> Result<(), String> {
        for mount in mounts_below(&self.top).iter().rev() {
            unmount(mount, UnmountFlags::DETACH)
                .map_err(|error| format!("{}: {error}", mount.display()))?;
        }
        fs::remove_dir_all(&self.top).map_err(|error| format!("{}: {error}", self.top.display()))
    }
}

fn answer(tried: &Tried, what: &str) -> Result<Answer, String> {
    match tried {
        Tried::Allowed => Ok(Answer::Done),
        Tried::Refused(EPERM) => Ok(Answer::Refused),
        other => Err(format!("{what}: {other}")),
    }
}

fn mounts_below(top: &Path) -> Vec<PathBuf> {
    let all = fs::read_to_string("/proc/self/mountinfo").expect("the list of mounts");
    let places = all.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    places.filter(|place| place.starts_with(top)).collect()
}

const EPERM: i32 = 1;

/// Steps of a story.
const STEPS: usize = 30;
/// Changes that are made or refused: in the ordinary run, and with AEGIS_FULL.
const CHANGES: usize = 60;
const CHANGES_IN_FULL: usize = 10_000;
/// Faults that are looked for before it ends, with AEGIS_FULL.
const FAULTS_IN_FULL: usize = 6;
/// How often a failing story is told to make it shorter.
const TRIES: usize = 80;
/// What the programs promise to remember.
const KEEPS: Keeps = Keeps::ALL;

/// Makes the story as short as it gets, and says what there is to say.
fn fault(kernel: &mut Kernel, seed: u64, story: Story, fault: Fault) -> String {
    let first = fault.to_string();
    let (story, fault) = shrink(kernel, story, fault, KEEPS, TRIES);
    let again = tell(kernel, &story, KEEPS);
    let last = kernel.case.events().pop().unwrap_or_default();
    format!(
        "seed {seed}: {first}\nas short as it was found:\n{story}{fault}\nonce more: {again:?}\nlast event: {last}\n"
    )
}

/// What once led around a rule, each as short as it was found.
const FOUND: [&str; 3] = [
    // What a directory took along holds for what is mounted on it, though its new place excepts a name there,
    "dir c; rule 1 w c/; rule 2 x a/ except a/c; scope-1 mkdir b; outside whiteout c a; outside bind b a; \
     scope-2 create b/c",
    // and the names that it took along are those of what is mounted on it.
    "dir a; file c; rule 1 rw a/a/a/ except a/a/a/c; scope-3 mkdir a/a; outside rename a/a a/c; \
     outside create a/a; scope-1 exchange a/c c; outside bind a c",
    "dir a; dir c; dir a/c; rule 1 x c/b/ a/a/a/ except c/b/c a/a/a/b/; outside mkdir c/a; outside mkdir a/a; \
     outside exchange a/c a/a; outside bind c a/c; outside create a/c/a/c",
];

mod denial {
    use super::*;

    #[test]
    fn no_story_that_once_got_around_a_rule_does_again() {
        let mut kernel = Kernel::new();
        let mut faults = Vec::new();
        for text in FOUND {
            let story: Story = text.parse().expect("a story");
            if let Err(fault) = tell(&mut kernel, &story, KEEPS) {
                faults.push(format!("{text}\n{fault}"));
            }
        }
        assert!(faults.is_empty(), "{}", faults.join("\n"));
        kernel.case.forget();
    }

    #[test]
    fn no_story_gets_around_a_rule_and_none_hinders_anybody_else() {
        let mut kernel = Kernel::new();
        if let Ok(text) = std::env::var("AEGIS_STORY") {
            let story: Story = text.parse().expect("AEGIS_STORY is a story");
            match tell(&mut kernel, &story, KEEPS) {
                Ok(counts) => eprintln!("{counts:?}"),
                Err(fault) => panic!("{story}{fault}"),
            }
            return;
        }
        let seed =
            std::env::var("AEGIS_SEED").ok().map_or(1, |seed| seed.parse().expect("a number"));
        let full = std::env::var_os("AEGIS_FULL").is_some();
        let (enough, most) = if full { (CHANGES_IN_FULL, FAULTS_IN_FULL) } else { (CHANGES, 1) };
        eprintln!("from seed {seed}");
        let (mut sum, mut faults) = (Counts::default(), Vec::new());
        for seed in seed.. {
            let (story, told) = invent(&mut kernel, &mut Random::new(seed), STEPS, KEEPS);
            match told {
                Ok(counts) => sum.add(counts),
                Err(found) => faults.push(fault(&mut kernel, seed, story, found)),
            }
            if faults.len() == most || sum.changes + sum.refusals >= enough {
                break;
            }
        }
        assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
        eprintln!("{sum:?}");
        assert!(sum.denials > sum.changes && sum.denials < sum.opens / 2, "{sum:?}");
        kernel.case.forget();
    }
}
