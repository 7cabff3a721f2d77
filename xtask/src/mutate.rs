// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask mutate-hooks`: the programs with one thing taken out must fail exactly the tests that say so.
//!
//! A hook is taken out by letting it do nothing; a step of bookkeeping by what `tests/mutants.toml` replaces. The
//! sources of a mutant are a copy below `target/`; the product's own are never touched.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use toml::{Table, Value};

use crate::accel::Accel;
use crate::command::{root, run as run_command, target};
use crate::dist::{TRIPLE, static_cargo, static_target};
use crate::guest::AT_ONCE;
use crate::guests::{self, Chosen};
use crate::kernels::{self, Kernel};
use crate::payload::{self, Program, Test};
use crate::talk::{Step, answer};

/// What to take out.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Only this hook or step; all without.
    #[arg(long)]
    hook: Vec<String>,
    /// Run every test of a way to a file, and not only those that must fail (or, to write them down, of its modules).
    #[arg(long)]
    whole: bool,
    /// Write down which tests fail, in tests/mutants.toml.
    #[arg(long)]
    write: bool,
    /// Series of the guest's kernel.
    #[arg(long, default_value = KERNEL)]
    kernel: String,
}

/// One thing that is taken out.
#[derive(Clone, Debug, Default)]
struct Mutant {
    /// Of a step: the file below kernel/bpf, what is replaced there, and by what. Of a hook: nothing.
    file: String,
    find: String,
    replace: String,
    /// Modules of tests that are asked whether they miss it, parted by blanks.
    modules: String,
    /// Tests that must fail.
    tests: BTreeSet<String>,
}

type Mutants = BTreeMap<String, Mutant>;

const FILE: &str = "tests/mutants.toml";
const SOURCES: &str = "kernel/bpf";
/// The series that the lists are made on.
const KERNEL: &str = "6.12";
/// Must pass whatever is taken out but `file_open`: else the guest is broken, or what is left of the programs is refused.
const CONTROLS: [&str; 2] = [
    "guest::preamble::this_machine_can_do_the_job",
    "guest::layers::apply_says_what_a_rule_on_a_merged_path_is_worth",
];
/// Without it nothing comes into force, since no proof succeeds.
const THE_HOOK: &str = "file_open";

/// 0 if all is as it must be.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<i32> {
    let faults = faults(arguments)?;
    for fault in &faults {
        answer(fault);
    }
    Ok(i32::from(!faults.is_empty()))
}

/// What is not as it must be when each hook and step is taken out in turn, and the tests run that name it.
pub(crate) fn check() -> anyhow::Result<Vec<String>> {
    faults(&Arguments { hook: Vec::new(), whole: false, write: false, kernel: KERNEL.to_owned() })
}

fn faults(arguments: &Arguments) -> anyhow::Result<Vec<String>> {
    let mut mutants = read()?;
    for hook in hooks()? {
        mutants.entry(hook).or_default();
    }
    let chosen: Vec<String> = match arguments.hook.as_slice() {
        [] => mutants.keys().cloned().collect(),
        some => some.to_vec(),
    };
    let kernels = kernels::obtain(std::slice::from_ref(&arguments.kernel), false)?;
    let Some(kernel) = kernels.first() else {
        bail!("failed to obtain a kernel {}", arguments.kernel)
    };
    let guests = Guests {
        kernel,
        accel: Accel::of_this_machine(kernel)?,
        programs: payload::build()?,
        building: Mutex::new(()),
        asked: match arguments {
            Arguments { whole: true, .. } => Asked::Whole,
            Arguments { write: true, .. } => Asked::Modules,
            _ => Asked::Named,
        },
    };
    let chosen = Mutex::new(chosen.into_iter());
    let faults = Mutex::new(Vec::new());
    let mutants = Mutex::new(mutants);
    let work = || -> anyhow::Result<()> {
        loop {
            let Some(name) = locked(&chosen)?.next() else { return Ok(()) };
            let mutant = locked(&mutants)?.get(&name).cloned().unwrap_or_default();
            let tests = guests.tried(&name, &mutant)?;
            if let Some(first) = tests.first()
                && name != THE_HOOK
                && tests.iter().all(|test| !test.passed)
            {
                let output = &first.output;
                let fault =
                    format!("without {name}: nothing works, as {} shows: {output}", first.name);
                locked(&faults)?.push(fault);
            } else if arguments.write {
                let failed = tests.iter().filter(|test| !test.passed);
                let tests = failed.map(|test| test.name.clone()).collect();
                let mut mutants = locked(&mutants)?;
                mutants.insert(name, Mutant { tests, ..mutant });
                write(&mutants)?;
            } else {
                locked(&faults)?.extend(judge(&name, &mutant, &tests));
            }
        }
    };
    std::thread::scope(|scope| {
        let workers = [(); AT_ONCE].map(|()| scope.spawn(work));
        workers.into_iter().try_for_each(|worker| {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })?;
    let mut faults = faults.into_inner().unwrap_or_default();
    faults.sort();
    Ok(faults)
}

fn locked<T>(mutex: &Mutex<T>) -> anyhow::Result<std::sync::MutexGuard<'_, T>> {
    mutex.lock().ok().context("failed to go on: another mutant came to no end")
}

/// Each of them must fail without it, and no other one.
fn judge(name: &str, mutant: &Mutant, tests: &[Test]) -> Vec<String> {
    let mut faults = Vec::new();
    if mutant.tests.is_empty() {
        faults.push(format!("without {name}: no test is named that would miss it"));
    }
    for named in &mutant.tests {
        match tests.iter().find(|test| test.name == *named) {
            None => faults.push(format!("without {name}: {named} did not run")),
            Some(test) if test.passed => faults.push(format!("without {name}: {named} passes")),
            Some(_) => {}
        }
    }
    for test in tests.iter().filter(|test| !test.passed && !mutant.tests.contains(&test.name)) {
        faults.push(format!("without {name}: {} fails, and is not named for it", test.name));
    }
    faults
}

/// Where mutants are tried.
struct Guests<'a> {
    kernel: &'a Kernel,
    accel: Accel,
    programs: Vec<Program>,
    /// One build at a time: what comes of it has one place.
    building: Mutex<()>,
    asked: Asked,
}

/// Which tests are run without a hook or a step.
#[derive(Clone, Copy)]
enum Asked {
    /// Those that must fail, and some that must pass.
    Named,
    /// Those of the modules that it names.
    Modules,
    /// And those of all ways to a file.
    Whole,
}

impl Guests<'_> {
    /// Builds the mutant and runs tests.
    fn tried(&self, name: &str, mutant: &Mutant) -> anyhow::Result<Vec<Test>> {
        let binary = {
            let _one = locked(&self.building)?;
            let step = Step::begin(format!("building without {name}"));
            let binary = build(name, mutant);
            step.end(if binary.is_ok() { "" } else { "failed" });
            binary?
        };
        let names: Vec<&str> = mutant.tests.iter().map(String::as_str).chain(CONTROLS).collect();
        let chosen = match self.asked {
            Asked::Named => Chosen::Named(names.join(" ")),
            Asked::Modules => Chosen::Modules(&mutant.modules),
            Asked::Whole => Chosen::OfWays(&mutant.modules),
        };
        let results = guests::results(self.kernel, self.accel, &binary, &self.programs, &chosen)?;
        let failed = results.tests.iter().filter(|test| !test.passed).count();
        answer(format_args!("without {name}: {failed} of {} tests fail", results.tests.len()));
        Ok(results.tests)
    }
}

fn build(name: &str, mutant: &Mutant) -> anyhow::Result<PathBuf> {
    let copy = target("mutants").join(name);
    fs::create_dir_all(&copy).with_context(|| format!("failed to make {}", copy.display()))?;
    for (file, text) in mutated(name, mutant)? {
        let file = copy.join(file);
        fs::write(&file, text).with_context(|| format!("failed to write {}", file.display()))?;
    }
    let mut cargo = static_cargo()?;
    // What is taken out of the programs does not ask for what takes a linker a minute.
    cargo.args(["build", "--quiet", "--profile", "mutants", "--package", "aegisbpf"]);
    run_command(cargo.args(["--features", "static"]).env("AEGIS_BPF_SOURCES", &copy))?;
    let built = static_target().join(TRIPLE).join("mutants/aegisbpf");
    let kept = copy.join("aegisbpf");
    fs::copy(&built, &kept).with_context(|| format!("failed to write {}", kept.display()))?;
    Ok(kept)
}

/// The sources without it.
fn mutated(name: &str, mutant: &Mutant) -> anyhow::Result<BTreeMap<String, String>> {
    let mut files = sources(&root().join(SOURCES))?;
    let (file, find, replace) = if mutant.file.is_empty() {
        let (file, signature) = signature(&files, name)?;
        (file, signature.clone(), format!("{signature}\n\tif (unknown_zero == 0)\n\t\treturn 0;"))
    } else {
        (mutant.file.clone(), mutant.find.clone(), mutant.replace.clone())
    };
    let text = files.get_mut(&file).with_context(|| format!("{SOURCES}/{file} is not there"))?;
    let count = text.matches(&find).count();
    ensure!(count == 1, "{SOURCES}/{file} has {count} times what {name} would replace");
    *text = text.replace(&find, &replace);
    Ok(files)
}

/// Where the program of a hook begins, up to its brace.
fn signature(files: &BTreeMap<String, String>, hook: &str) -> anyhow::Result<(String, String)> {
    for (file, text) in files {
        for begin in [format!("SEC(\"lsm/{hook}\")"), format!("SEC(\"?lsm/{hook}\")")] {
            let Some(rest) = text.find(&begin).and_then(|at| text.get(at..)) else { continue };
            let end = rest.find('{').with_context(|| format!("{file}: {hook} has no body"))?;
            return Ok((file.clone(), rest.get(..=end).unwrap_or_default().to_owned()));
        }
    }
    bail!("no program in {SOURCES} is called by {hook}")
}

/// The hooks that programs are attached to, but that of the resolver, which decides nothing.
fn hooks() -> anyhow::Result<BTreeSet<String>> {
    let mut hooks = BTreeSet::new();
    for (file, text) in sources(&root().join(SOURCES))? {
        if file.starts_with("resolve") {
            continue;
        }
        for begin in ["SEC(\"lsm/", "SEC(\"?lsm/"] {
            let parts = text.split(begin).skip(1);
            hooks.extend(parts.filter_map(|part| Some(part.split_once('"')?.0.to_owned())));
        }
    }
    Ok(hooks)
}

fn sources(directory: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let failed = || format!("failed to read {}", directory.display());
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory).with_context(failed)? {
        let path = entry.with_context(failed)?.path();
        let Some(name) = path.file_name() else { continue };
        let text = fs::read_to_string(&path).with_context(failed)?;
        files.insert(name.to_string_lossy().into_owned(), text);
    }
    Ok(files)
}

fn read() -> anyhow::Result<Mutants> {
    let text =
        fs::read_to_string(root().join(FILE)).with_context(|| format!("failed to read {FILE}"))?;
    let table: Table = text.parse().with_context(|| format!("failed to understand {FILE}"))?;
    let mut mutants = Mutants::new();
    for (name, row) in table {
        let text = |key| row.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let tests = row.get("tests").and_then(Value::as_array).into_iter().flatten();
        let tests = tests.filter_map(Value::as_str).map(str::to_owned).collect();
        let (file, find, replace) = (text("file"), text("find"), text("replace"));
        mutants.insert(name, Mutant { file, find, replace, modules: text("modules"), tests });
    }
    Ok(mutants)
}

fn write(mutants: &Mutants) -> anyhow::Result<()> {
    let mut table = Table::new();
    for (name, mutant) in mutants {
        let mut row = Table::new();
        if !mutant.file.is_empty() {
            for (key, text) in
                [("file", &mutant.file), ("find", &mutant.find), ("replace", &mutant.replace)]
            {
                row.insert(key.to_owned(), Value::String(text.clone()));
            }
        }
        row.insert("modules".to_owned(), Value::String(mutant.modules.clone()));
        let tests = mutant.tests.iter().cloned().map(Value::String).collect();
        row.insert("tests".to_owned(), Value::Array(tests));
        table.insert(name.clone(), Value::Table(row));
    }
    let body = toml::to_string_pretty(&table).context("failed to write a table")?;
    fs::write(root().join(FILE), format!("{HEAD}{body}"))
        .with_context(|| format!("failed to write {FILE}"))
}

const HEAD: &str = "\
# SPDX-License-Identifier: Apache-2.0 OR MIT
# What can be taken out of kernel/bpf, a hook by its name or a step by what is replaced, and the tests that must fail
# without it, and no others of its modules. `cargo xtask mutate-hooks --write` makes the lists anew; the commit says why.

";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_without_effect_still_has_its_head() {
        let text = "SEC(\"lsm/inode_link\")\nint BPF_PROG(aegis_inode_link, int ret)\n{\n\treturn 1;\n}\n\
                    SEC(\"?lsm/inode_set_acl\")\nint BPF_PROG(x)\n{\n}\n";
        let files = BTreeMap::from([("entry.h".to_owned(), text.to_owned())]);
        let (file, signature) = signature(&files, "inode_link").unwrap();
        assert_eq!(file, "entry.h");
        assert!(signature.ends_with("int ret)\n{"), "{signature}");
        assert!(super::signature(&files, "inode_set_acl").is_ok());
        assert!(super::signature(&files, "inode").is_err());
    }

    #[test]
    fn exactly_the_tests_that_name_it_must_fail() {
        let test = |name: &str, passed| Test {
            name: name.to_owned(),
            passed,
            seconds: 1.0,
            output: String::new(),
        };
        let tests = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        let mutant = Mutant { tests, ..Mutant::default() };
        let good = [test("a", false), test("b", false), test("c", true)];
        assert!(judge("x", &mutant, &good).is_empty());
        let bad = [test("a", true), test("c", false)];
        assert_eq!(judge("x", &mutant, &bad).len(), 3);
        assert_eq!(judge("x", &Mutant::default(), &good[2..]).len(), 1, "nobody would miss it");
    }

    #[test]
    fn every_hook_and_step_can_be_taken_out() {
        let mut mutants = read().unwrap();
        let hooks = hooks().unwrap();
        assert!(hooks.contains("file_open"), "{hooks:?}");
        for hook in hooks {
            mutants.entry(hook).or_default();
        }
        let whole = sources(&root().join(SOURCES)).unwrap();
        for (name, mutant) in &mutants {
            let without = mutated(name, mutant).unwrap();
            assert_ne!(without, whole, "{name}");
            let asks = !mutant.modules.is_empty() && !mutant.tests.is_empty();
            assert!(asks, "{FILE} does not say which tests of which modules miss {name}");
        }
    }
}
