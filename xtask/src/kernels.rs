// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Kernels for guests: found, fetched, checked, unpacked and kept below `target/kernels/`.
//!
//! `kernels.toml` lists the series. What is kept of a kernel is its image, its configuration, the modules that guests
//! use, and a record of the packages it came from. Nothing here boots anything; see `guest`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, anyhow, bail};
use toml::{Table, Value};

use crate::apt::{Apt, Listed, compare_versions};
use crate::command::{output, program, root, run, target, tool};
use crate::talk::{Step, note};

/// A mirror is asked for something newer when the last answer is older than this.
const FRESH: Duration = Duration::from_secs(24 * 60 * 60);
/// An index may list what is gone; this many of the newest are tried.
const TRIES: usize = 4;
/// Modules that tests and people need; those that are built in or absent are no error.
const MODULES: [&str; 22] = [
    "virtio_pci",
    "virtio_blk",
    "virtio_console",
    "overlay",
    "loop",
    "xfs",
    "btrfs",
    "fuse",
    "configfs",
    "squashfs",
    "vfat",
    "nls_ascii",
    "nls_cp437",
    "veth",
    "vsock",
    "dm_mod",
    "crc32c",
    "crc32c_cryptoapi",
    "crc32c_generic",
    "xxhash_generic",
    "af_packet",
    "autofs4",
];

/// One series of `kernels.toml`.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    /// As on the command line: `6.12`, or `newest`.
    pub(crate) name: String,
    release: String,
    packages: Vec<String>,
    seen: String,
    /// Security modules to ask for, where the kernel's own default lacks `bpf`.
    pub(crate) lsm: Option<String>,
    pub(crate) notes: String,
}

/// A kernel that guests can boot.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    pub(crate) series: Series,
    /// As `uname -r` says it.
    pub(crate) release: String,
    /// `NAME VERSION`, the image's package first.
    pub(crate) packages: Vec<String>,
    /// Of the files of those packages.
    pub(crate) digests: Vec<String>,
    /// Holds `vmlinuz`, `config` and `lib/modules`.
    pub(crate) directory: PathBuf,
}

impl Kernel {
    /// `6.12` or `7.3`: what a person calls it.
    pub(crate) fn label(&self) -> String {
        self.release.split(['.', '-']).take(2).collect::<Vec<_>>().join(".")
    }

    /// One line that says exactly what ran.
    pub(crate) fn identity(&self) -> String {
        let parts = self.packages.iter().zip(&self.digests);
        parts
            .map(|(package, digest)| {
                format!("{package} sha256:{}", digest.get(..16).unwrap_or(digest))
            })
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// Whether a feature is built in or a module. The newest packages come without a configuration: yes.
    pub(crate) fn is_configured(&self, option: &str) -> bool {
        let Ok(configuration) = fs::read_to_string(self.directory.join("config")) else {
            return true;
        };
        configuration.lines().any(|line| {
            line.strip_prefix(option).is_some_and(|value| value == "=y" || value == "=m")
        })
    }

    fn load(series: &Series) -> anyhow::Result<Option<Self>> {
        let directory = directory_of(series);
        let Ok(text) = fs::read_to_string(directory.join(RECORD)) else { return Ok(None) };
        let record: Table = text
            .parse()
            .with_context(|| format!("failed to read {}", directory.join(RECORD).display()))?;
        // What was kept for fewer tests lacks a module.
        if strings(&record, "modules").map_or(true, |modules| modules != MODULES) {
            return Ok(None);
        }
        Ok(Some(Self {
            series: series.clone(),
            release: string(&record, "release")?,
            packages: strings(&record, "packages")?,
            digests: strings(&record, "sha256")?,
            directory,
        }))
    }
}

/// All series, oldest first.
pub(crate) fn all_series() -> anyhow::Result<Vec<Series>> {
    let list = list()?;
    let series =
        list.get("series").and_then(Value::as_array).context("kernels.toml lists no series")?;
    let one = |value: &Value| -> anyhow::Result<Series> {
        let table = value.as_table().context("a series of kernels.toml is no table")?;
        Ok(Series {
            name: string(table, "name")?,
            release: string(table, "release")?,
            packages: strings(table, "packages")?,
            seen: string(table, "seen")?,
            lsm: string(table, "lsm").ok(),
            notes: string(table, "notes")?,
        })
    };
    series.iter().map(one).collect()
}

/// The kernels of the series named, or of all: from the cache where that is fresh enough, else from the mirror.
/// What cannot be had is missing from the answer, and said.
pub(crate) fn obtain(names: &[String], refresh: bool) -> anyhow::Result<Vec<Kernel>> {
    let all = all_series()?;
    let wanted: Vec<&Series> = if names.is_empty() {
        all.iter().collect()
    } else {
        names.iter().map(|name| choose(&all, name)).collect::<anyhow::Result<_>>()?
    };
    let directory = target("kernels");
    fs::create_dir_all(&directory)
        .with_context(|| format!("failed to create {}", directory.display()))?;
    // Several commands may run at once: the first one fetches, the others find it done.
    let lock =
        File::create(directory.join("lock")).context("failed to create target/kernels/lock")?;
    lock.lock().context("failed to lock target/kernels/lock")?;

    let due = |series: &Series| {
        let fresh = is_fresh(&directory_of(series).join(RECORD));
        refresh || !fresh || !matches!(Kernel::load(series), Ok(Some(_)))
    };
    let mut archive = None;
    let mut kernels = Vec::new();
    for series in wanted {
        if due(series) {
            let archive = archive.get_or_insert_with(ask_the_mirror);
            let result = match archive {
                Ok(apt) => fetch(apt, series),
                Err(error) => Err(anyhow!("{error:#}")),
            };
            if let Err(error) = result {
                note(format_args!(
                    "kernel {}: failed to look for the newest: {error:#}",
                    series.name
                ));
                if let Some(kernel) = Kernel::load(series)? {
                    note(format_args!(
                        "kernel {}: taking the cached {}",
                        series.name,
                        kernel.identity()
                    ));
                }
            }
        }
        match Kernel::load(series)? {
            Some(kernel) => kernels.push(kernel),
            None => {
                note(format_args!("kernel {}: missing (last seen: {})", series.name, series.seen))
            }
        }
    }
    Ok(kernels)
}

/// One kernel, or an error.
pub(crate) fn obtain_one(name: &str) -> anyhow::Result<Kernel> {
    let kernels = obtain(&[name.to_owned()], false)?;
    kernels
        .into_iter()
        .next()
        .with_context(|| format!("failed to obtain a kernel of series {name}"))
}

/// By name, or `7.3` for the newest when that is what it is.
fn choose<'a>(all: &'a [Series], name: &str) -> anyhow::Result<&'a Series> {
    let is_label = |series: &&Series| matches!(Kernel::load(series), Ok(Some(kernel)) if kernel.label() == name);
    let found = all.iter().find(|series| series.name == name);
    found.or_else(|| all.iter().find(is_label)).with_context(|| {
        let names: Vec<&str> = all.iter().map(|series| series.name.as_str()).collect();
        format!("failed to find a kernel series `{name}`\nhint: one of {}", names.join(", "))
    })
}

fn ask_the_mirror() -> anyhow::Result<Apt> {
    let list = list()?;
    let suites = (strings(&list, "suites")?, strings(&list, "security_suites")?);
    let apt = Apt::prepare(&target("kernels/apt"), &suites.0, &suites.1)?;
    let step = Step::begin("asking the mirror for kernels");
    let result = apt.update();
    step.end(if result.is_ok() { "" } else { "failed" });
    result.map(|()| apt)
}

/// Leaves the newest obtainable kernel of the series in the cache.
fn fetch(apt: &Apt, series: &Series) -> anyhow::Result<()> {
    let mut candidates = candidates(apt, series)?;
    candidates.truncate(TRIES);
    let mut last = anyhow!("no suite lists a package of this series");
    for (release, packages) in candidates {
        let record = directory_of(series).join(RECORD);
        let names: Vec<String> = packages
            .iter()
            .map(|package| format!("{} {}", package.name, package.version))
            .collect();
        if Kernel::load(series)?.is_some_and(|kernel| kernel.packages == names) {
            return touch(&record);
        }
        let step = Step::begin(format!("fetching {} ({})", series.name, names.join(", ")));
        let result = download(apt, series, &release, &packages);
        step.end(if result.is_ok() { "" } else { "failed" });
        match result {
            Ok(()) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Releases with all their packages, newest first.
fn candidates(apt: &Apt, series: &Series) -> anyhow::Result<Vec<(String, Vec<Listed>)>> {
    let mut lists = Vec::new();
    for pattern in &series.packages {
        let prefix = pattern.split('{').next().unwrap_or_default();
        let release = |name: &str| {
            name.strip_prefix(prefix).is_some_and(|release| is_of(release, &series.release))
        };
        lists.push((prefix.to_owned(), apt.list(prefix, release)?));
    }
    let Some((prefix, first)) = lists.first() else { return Ok(Vec::new()) };
    let mut complete = Vec::new();
    for image in first {
        let release = image.name.trim_start_matches(prefix.as_str());
        let parts: Option<Vec<Listed>> = lists
            .iter()
            .map(|(prefix, list)| {
                let is_part = |part: &&Listed| {
                    part.version == image.version
                        && part.name.strip_prefix(prefix.as_str()) == Some(release)
                };
                list.iter().find(is_part).cloned()
            })
            .collect();
        complete.extend(parts.map(|parts| (release.to_owned(), parts)));
    }
    let version =
        |parts: &[Listed]| parts.first().map(|part| part.version.clone()).unwrap_or_default();
    complete.sort_by(|left, right| compare_versions(&version(&right.1), &version(&left.1)));
    complete.dedup();
    Ok(complete)
}

/// Whether a release fits a pattern with one `*`, which stands for digits and what follows them.
fn is_of(release: &str, pattern: &str) -> bool {
    let (begin, end) = pattern.split_once('*').unwrap_or((pattern, ""));
    release
        .strip_prefix(begin)
        .and_then(|rest| rest.strip_suffix(end))
        .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

fn download(apt: &Apt, series: &Series, release: &str, packages: &[Listed]) -> anyhow::Result<()> {
    let new = target("kernels").join(format!("{}.new", series.name));
    drop(fs::remove_dir_all(&new));
    let (files, tree) = (new.join("packages"), new.join("tree"));
    fs::create_dir_all(&tree).with_context(|| format!("failed to create {}", tree.display()))?;
    let mut digests = Vec::new();
    for package in packages {
        let file = apt.download(package, &files)?;
        let digest = output(program("sha256sum").arg(&file))?;
        digests.push(digest.split_whitespace().next().unwrap_or_default().to_owned());
        run(program("dpkg-deb").arg("-x").arg(&file).arg(&tree))?;
    }
    unpack(release, &tree, &new)?;
    let names: Vec<String> =
        packages.iter().map(|package| format!("{} {}", package.name, package.version)).collect();
    let mut record = Table::new();
    record.insert("release".to_owned(), Value::from(release));
    record.insert("packages".to_owned(), Value::from(names));
    record.insert("sha256".to_owned(), Value::from(digests));
    record.insert("modules".to_owned(), Value::from(MODULES.to_vec()));
    fs::write(new.join(RECORD), record.to_string())
        .context("failed to write the record of a kernel")?;
    for left in [files, tree] {
        fs::remove_dir_all(&left)
            .with_context(|| format!("failed to remove {}", left.display()))?;
    }
    let kept = directory_of(series);
    drop(fs::remove_dir_all(&kept));
    fs::rename(&new, &kept).with_context(|| format!("failed to create {}", kept.display()))
}

/// Takes what guests need out of a package's tree.
fn unpack(release: &str, tree: &Path, new: &Path) -> anyhow::Result<()> {
    let modules = [tree.join("usr"), tree.to_owned()]
        .into_iter()
        .find(|base| base.join("lib/modules").join(release).is_dir())
        .with_context(|| format!("failed to find modules of {release} in its packages"))?;
    let image = [
        tree.join(format!("boot/vmlinuz-{release}")),
        modules.join(format!("lib/modules/{release}/vmlinuz")),
    ]
    .into_iter()
    .find(|image| image.is_file())
    .with_context(|| format!("failed to find the image of {release} in its packages"))?;
    fs::copy(&image, new.join("vmlinuz")).context("failed to keep the image of a kernel")?;
    let configurations = [
        tree.join(format!("boot/config-{release}")),
        modules.join(format!("lib/modules/{release}/config")),
    ];
    if let Some(configuration) = configurations.iter().find(|file| file.is_file()) {
        fs::copy(configuration, new.join("config"))
            .context("failed to keep the configuration of a kernel")?;
    }

    output(tool("depmod").arg("-b").arg(&modules).arg(release))?;
    let kept = new.join("lib/modules").join(release);
    fs::create_dir_all(&kept).with_context(|| format!("failed to create {}", kept.display()))?;
    for built_in in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
        let from = modules.join("lib/modules").join(release).join(built_in);
        if from.is_file() {
            fs::copy(&from, kept.join(built_in))
                .with_context(|| format!("failed to keep {built_in}"))?;
        }
    }
    for name in MODULES {
        let mut ask = tool("modprobe");
        ask.arg("-d").arg(&modules).args(["-S", release, "--show-depends", name]);
        let Ok(needs) = output(&mut ask) else { continue };
        for line in needs.lines() {
            if let Some(module) = line.strip_prefix("insmod ") {
                keep_module(Path::new(module.trim()), &kept)?;
            }
        }
    }
    output(tool("depmod").arg("-b").arg(new).arg(release)).map(|_| ())
}

/// Modules are kept unpacked: busybox in the guest loads no other.
fn keep_module(module: &Path, kept: &Path) -> anyhow::Result<()> {
    let name = module.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (unpack, plain) = match name.rsplit_once('.') {
        Some((plain, "xz")) => ("xz", plain),
        Some((plain, "zst")) => ("zstd", plain),
        Some((plain, "gz")) => ("gzip", plain),
        _ => ("", name.as_str()),
    };
    let to = kept.join(plain);
    if to.exists() {
        return Ok(());
    }
    let failed = || format!("failed to unpack {}", module.display());
    if unpack.is_empty() {
        return fs::copy(module, &to).map(|_| ()).with_context(failed);
    }
    let file = File::create(&to).with_context(failed)?;
    run(tool(unpack).arg("-dqc").arg(module).stdout(file)).with_context(failed)
}

const RECORD: &str = "record.toml";

fn directory_of(series: &Series) -> PathBuf {
    target("kernels").join(&series.name)
}

fn is_fresh(file: &Path) -> bool {
    let age = fs::metadata(file).and_then(|found| found.modified()).map(|time| time.elapsed());
    matches!(age, Ok(Ok(age)) if age < FRESH)
}

fn touch(file: &Path) -> anyhow::Result<()> {
    File::options()
        .append(true)
        .open(file)
        .and_then(|file| file.set_modified(SystemTime::now()))
        .with_context(|| format!("failed to touch {}", file.display()))
}

fn list() -> anyhow::Result<Table> {
    let file = root().join("xtask/kernels.toml");
    let text =
        fs::read_to_string(&file).with_context(|| format!("failed to read {}", file.display()))?;
    text.parse().with_context(|| format!("failed to read {}", file.display()))
}

fn string(table: &Table, key: &str) -> anyhow::Result<String> {
    match table.get(key).and_then(Value::as_str) {
        Some(text) => Ok(text.to_owned()),
        None => bail!("failed to find the text `{key}`"),
    }
}

fn strings(table: &Table, key: &str) -> anyhow::Result<Vec<String>> {
    let list = table.get(key).and_then(Value::as_array);
    let list = list.with_context(|| format!("failed to find the list `{key}`"))?;
    Ok(list.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_says_what_was_seen_and_what_to_know() {
        let all = all_series().expect("kernels.toml is readable");
        assert!(all.len() >= 5);
        for series in &all {
            let package = series.seen.split(' ').next().unwrap_or_default();
            let prefix = series.packages[0].split('{').next().unwrap_or_default();
            assert!(is_of(&package[prefix.len()..], &series.release), "{package}");
            assert!(!series.notes.is_empty());
        }
    }

    #[test]
    fn a_pattern_takes_kernels_and_no_debug_symbols_or_metapackages() {
        assert!(is_of("6.1.0-56-cloud-amd64", "6.1.*-cloud-amd64"));
        assert!(is_of("7.3.4+deb13-cloud-amd64", "*-cloud-amd64"));
        for other in ["6.1.0-56-cloud-amd64-dbg", "6.12.1-cloud-amd64", "6.1-cloud-amd64"] {
            assert!(!is_of(other, "6.1.*-cloud-amd64"), "{other}");
        }
        assert!(!is_of("unsigned-7.3.4+deb13-cloud-amd64", "*-cloud-amd64"));
    }
}
