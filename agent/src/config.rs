// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The configuration: one table of keys, from which the file is read, shown, and documented.
//!
//! A flag goes before the file, the file before the default. Whatever is not understood is an error
//! with its place; nothing is guessed.

mod read;
mod values;

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use aegis_policy::{Diagnostic, Source};
use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::{child, failure::Refusal};

pub(crate) use read::read;
pub(crate) use values::{AllowUnsigned, GateMode, LogFormat, Loopback, Pattern, Place, Rollout};

use values::Setting;

/// Every setting, with its present value.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// What becomes of a command to enforce where the host cannot.
    pub(crate) enforce_gate_mode: GateMode,
    /// How policies come into force.
    pub(crate) rollout: Rollout,
    /// When `--allow-unsigned` may be used.
    pub(crate) allow_unsigned: AllowUnsigned,
    /// What the reason of an emergency has to look like.
    pub(crate) emergency_reason: Pattern,
    /// Where the agent answers with its metrics, if anywhere.
    pub(crate) metrics_listen: Loopback,
    /// The file that the agent writes its metrics to, if any.
    pub(crate) metrics_textfile: Place,
    /// How the agent writes what it says.
    pub(crate) log_format: LogFormat,
    /// What must outlive a reboot.
    pub(crate) state_directory: Place,
    /// What must not.
    pub(crate) run_directory: Place,
    /// The bpffs in which our pins are.
    pub(crate) bpffs: Place,
    /// Where each value comes from, in the order of the table.
    origins: Vec<Origin>,
}

/// Where a value comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Origin {
    #[default]
    Default,
    /// The file, and the line in it.
    File(PathBuf, usize),
    /// The flag with this name.
    Flag(&'static str),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// One line of the table.
pub(crate) struct Key {
    /// As the file has it: `section.key`, or `key` alone.
    pub(crate) name: &'static str,
    /// What may stand there, for a person.
    pub(crate) takes: &'static str,
    /// The flag that goes before it.
    pub(crate) flag: Option<&'static str>,
    /// Whether a running agent takes a change with SIGHUP; else it has to be started again.
    pub(crate) reloads: bool,
    /// What it means.
    pub(crate) what: &'static str,
    set: fn(&mut Config, &str) -> Result<(), String>,
    show: fn(&Config) -> String,
    /// Whether it is written without quotes.
    bare: bool,
}

/// The table.
pub(crate) const KEYS: [Key; 10] = [
    Key {
        name: "enforce_gate_mode",
        takes: GateMode::TAKES,
        flag: Some("--enforce-gate-mode"),
        reloads: true,
        what: "what `apply` and `run` do where the host cannot enforce: refuse, or go on in \
               `AUDIT_FALLBACK` and say so everywhere. Neither takes pinned enforcement away",
        set: |config, text| put(&mut config.enforce_gate_mode, text),
        show: |config| config.enforce_gate_mode.written(),
        bare: false,
    },
    Key {
        name: "rollout",
        takes: Rollout::TAKES,
        flag: None,
        reloads: true,
        what: "how `apply` and `remove` put something in force: at once, or only until somebody confirms \
               it, so that both need `--confirm-within`",
        set: |config, text| put(&mut config.rollout, text),
        show: |config| config.rollout.written(),
        bare: false,
    },
    Key {
        name: "trust.allow_unsigned",
        takes: AllowUnsigned::TAKES,
        flag: None,
        reloads: true,
        what: "when `--allow-unsigned` may be used: until a trust root is installed, afterwards as \
               well, or not at all",
        set: |config, text| put(&mut config.allow_unsigned, text),
        show: |config| config.allow_unsigned.written(),
        bare: false,
    },
    Key {
        name: "emergency.reason_pattern",
        takes: Pattern::TAKES,
        flag: None,
        reloads: true,
        what: "what the whole reason of `emergency disable` has to match; any reason if empty",
        set: |config, text| put(&mut config.emergency_reason, text),
        show: |config| config.emergency_reason.written(),
        bare: false,
    },
    Key {
        name: "metrics.listen",
        takes: Loopback::TAKES,
        flag: None,
        reloads: false,
        what: "where the agent answers `GET /metrics`; nowhere if empty",
        set: |config, text| put(&mut config.metrics_listen, text),
        show: |config| config.metrics_listen.written(),
        bare: false,
    },
    Key {
        name: "metrics.textfile",
        takes: Place::TAKES,
        flag: None,
        reloads: true,
        what: "the file that the agent writes its metrics to after each proof, for a collector of \
               text files; none if empty",
        set: |config, text| put_or_empty(&mut config.metrics_textfile, text),
        show: |config| config.metrics_textfile.written(),
        bare: false,
    },
    Key {
        name: "log.format",
        takes: LogFormat::TAKES,
        flag: None,
        reloads: true,
        what: "how the agent writes what it says: to the journal with fields, as JSON lines, or for \
               people; `auto` is the journal if systemd started it, else text",
        set: |config, text| put(&mut config.log_format, text),
        show: |config| config.log_format.written(),
        bare: false,
    },
    Key {
        name: "directories.state",
        takes: Place::TAKES,
        flag: None,
        reloads: false,
        what: "what must outlive a reboot: policies in force, the provenance log; below `--root`",
        set: |config, text| put(&mut config.state_directory, text),
        show: |config| config.state_directory.written(),
        bare: false,
    },
    Key {
        name: "directories.run",
        takes: Place::TAKES,
        flag: None,
        reloads: false,
        what: "what must not: locks, events, the last proof; below `--root`",
        set: |config, text| put(&mut config.run_directory, text),
        show: |config| config.run_directory.written(),
        bare: false,
    },
    Key {
        name: "directories.bpffs",
        takes: Place::TAKES,
        flag: Some("--bpffs"),
        reloads: false,
        what: "the bpffs in which the directory `aegisbpf` holds our pins",
        set: |config, text| put(&mut config.bpffs, text),
        show: |config| config.bpffs.written(),
        bare: false,
    },
];

impl Default for Config {
    fn default() -> Self {
        Self {
            enforce_gate_mode: GateMode::FailClosed,
            rollout: Rollout::Direct,
            allow_unsigned: AllowUnsigned::UntilRoot,
            emergency_reason: Pattern::default(),
            metrics_listen: Loopback::default(),
            metrics_textfile: Place::default(),
            log_format: LogFormat::Auto,
            state_directory: Place::new("/var/lib/aegisbpf"),
            run_directory: Place::new("/run/aegisbpf"),
            bpffs: Place::new("/sys/fs/bpf"),
            origins: vec![Origin::Default; KEYS.len()],
        }
    }
}

/// A file as it is.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct FileRead {
    /// Its text; `None`: it is not there.
    text: Option<String>,
    mode: u32,
}

impl FileRead {
    /// Reads it.
    ///
    /// # Errors
    /// If it is there and cannot be read.
    pub(crate) fn of(path: &Path) -> anyhow::Result<Self> {
        let failed = || format!("failed to read the configuration {}", path.display());
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error).with_context(failed),
        };
        let mode = fs::metadata(path).with_context(failed)?.mode();
        Ok(Self { text: Some(String::from_utf8(bytes).with_context(failed)?), mode })
    }

    fn loaded(self, path: &Path) -> Loaded {
        let Self { text: Some(text), mode } = self else { return Loaded::default() };
        let (config, diagnostics) = read(path, &text);
        let faults = rendered(path, &text, &diagnostics);
        let mut loaded = Loaded { config, faults, unconfigured: false };
        if mode & 0o022 != 0 {
            loaded.faults.push(format!(
                "error: {} may be written by others than its owner (mode {:o})\nhint: chmod go-w {0}",
                path.display(),
                mode & 0o7777
            ));
        }
        loaded
    }
}

/// What was read, and what is wrong with it: what is wrong has its default.
#[derive(Clone, Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    /// Whether nothing was read, since whoever reads it hangs.
    pub(crate) unconfigured: bool,
    /// Every fault, as a person reads it.
    pub(crate) faults: Vec<String>,
}

impl Config {
    /// The file below a root.
    pub(crate) fn path(root: &Path) -> PathBuf {
        root.join("etc/aegisbpf/config.toml")
    }

    /// Reads the file if it is there.
    ///
    /// # Errors
    /// If it is there and cannot be read.
    pub(crate) fn load(path: &Path) -> anyhow::Result<Loaded> {
        Ok(FileRead::of(path)?.loaded(path))
    }

    /// The same for who must not wait: a child reads it, and has two seconds.
    ///
    /// # Errors
    /// If it is there and cannot be read; one that does not answer is a fault of it.
    pub(crate) fn load_in_time(root: &Path, path: &Path) -> anyhow::Result<Loaded> {
        let arguments = ["--root".as_ref(), root.as_os_str(), "__configuration".as_ref()];
        let place = path.display().to_string();
        let said = match child::ask(&arguments, &place, PATIENCE) {
            Ok(said) => said,
            Err(error) => return Ok(Loaded::unconfigured(&format!("{error:#}"))),
        };
        let failed = || format!("failed to read the configuration {place}");
        let read: Option<FileRead> = serde_json::from_slice(&said).ok();
        // Whatever was wrong, a child that has ended has not hung.
        Ok(read.map_or_else(|| FileRead::of(path), Ok).with_context(failed)?.loaded(path))
    }

    /// Takes a flag's value; the flag goes before what was read.
    pub(crate) fn flag(&mut self, name: &str, text: &str) -> anyhow::Result<()> {
        for (at, key) in KEYS.iter().enumerate().filter(|(_, key)| key.name == name) {
            (key.set)(self, text).map_err(anyhow::Error::msg)?;
            self.came(at, Origin::Flag(key.flag.unwrap_or(key.name)));
        }
        Ok(())
    }

    /// Each key with its value, as a file would have it, and where it comes from.
    pub(crate) fn shown(&self) -> impl Iterator<Item = (&'static Key, String, Origin)> {
        KEYS.iter().enumerate().map(|(at, key)| {
            (key, key.value(self), self.origins.get(at).cloned().unwrap_or_default())
        })
    }

    /// Reads the file again, below the flags that this was started with.
    ///
    /// # Errors
    /// If anything in it is faulty; then nothing is taken from it.
    pub(crate) fn again(&self, path: &Path) -> anyhow::Result<Self> {
        let mut fresh = Self::load(path)?.sound()?;
        for (at, key) in KEYS.iter().enumerate() {
            if let Some(origin @ Origin::Flag(_)) = self.origins.get(at) {
                (key.set)(&mut fresh, &(key.show)(self)).map_err(anyhow::Error::msg)?;
                fresh.came(at, origin.clone());
            }
        }
        Ok(fresh)
    }

    /// The keys whose values are others than before, and that a running agent cannot take.
    pub(crate) fn needs_restart(&self, before: &Self) -> Vec<&'static str> {
        let changed = |key: &&Key| !key.reloads && (key.show)(self) != (key.show)(before);
        KEYS.iter().filter(changed).map(|key| key.name).collect()
    }

    fn came(&mut self, at: usize, from: Origin) {
        if let Some(origin) = self.origins.get_mut(at) {
            *origin = from;
        }
    }
}

impl Loaded {
    /// Where whoever reads the file hangs, or cannot be asked.
    pub(crate) fn unconfigured(why: &str) -> Self {
        let fault = format!("error: {why}\nhint: everything has its default");
        Self { faults: vec![fault], unconfigured: true, ..Self::default() }
    }

    /// What was read, if all of it was understood.
    pub(crate) fn sound(self) -> anyhow::Result<Config> {
        if self.faults.is_empty() {
            return Ok(self.config);
        }
        let hint = "every fault is above; `aegisbpf config check` says them again";
        Err(anyhow::Error::from(
            Refusal::new("BAD_CONFIG", "the configuration has errors; nothing was changed")
                .details(self.faults)
                .hint(hint),
        ))
    }
}

impl Key {
    /// Its value, as a file would have it.
    fn value(&self, config: &Config) -> String {
        let text = (self.show)(config);
        if self.bare { text } else { format!("{text:?}") }
    }
}

/// How long is waited for a file by who must not wait.
const PATIENCE: Duration = Duration::from_secs(2);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Every diagnostic, as a person reads it.
pub(crate) fn rendered(path: &Path, text: &str, diagnostics: &[Diagnostic]) -> Vec<String> {
    let name = path.to_string_lossy();
    diagnostics
        .iter()
        .map(|diagnostic| diagnostic.render(Source { name: &name, text }, false))
        .collect()
}

fn put<S: Setting>(place: &mut S, text: &str) -> Result<(), String> {
    *place = S::parse(text)?;
    Ok(())
}

fn put_or_empty(place: &mut Place, text: &str) -> Result<(), String> {
    *place = if text.is_empty() { Place::default() } else { Place::parse(text)? };
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::files::tests::Scratch;

    /// The table of the documentation, made from the one above.
    fn documented() -> String {
        let mut lines =
            vec!["| key | takes | default | flag | SIGHUP | what it means |".to_owned()];
        lines.push("|---|---|---|---|---|---|".to_owned());
        let default = Config::default();
        for key in &KEYS {
            lines.push(format!(
                "| `{}` | {} | `{}` | {} | {} | {} |",
                key.name,
                key.takes.replace('|', "\\|"),
                key.value(&default),
                key.flag.map_or_else(String::new, |flag| format!("`{flag}`")),
                if key.reloads { "yes" } else { "no" },
                key.what
            ));
        }
        lines.join("\n")
    }

    #[test]
    fn the_documentation_has_the_table() {
        crate::documented::holds("config.md", "keys", &documented());
    }

    #[test]
    fn a_value_comes_from_flag_file_or_default_in_this_order() {
        let scratch = Scratch::new();
        let path = scratch.0.join("config.toml");
        fs::write(&path, "enforce_gate_mode = \"audit-fallback\"\n[directories]\nbpffs = \"/b\"\n")
            .unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let mut config = Config::load(&path).unwrap().sound().unwrap();
        config.flag("directories.bpffs", "/c").unwrap();
        let from = |name: &str| {
            let (_, value, origin) = config.shown().find(|(key, ..)| key.name == name).unwrap();
            (value, origin)
        };
        assert_eq!(from("directories.bpffs"), ("\"/c\"".to_owned(), Origin::Flag("--bpffs")));
        let file = Origin::File(path.clone(), 1);
        assert_eq!(from("enforce_gate_mode"), ("\"audit-fallback\"".to_owned(), file));
        assert_eq!(from("log.format"), ("\"auto\"".to_owned(), Origin::Default));
    }

    #[test]
    fn no_file_is_all_defaults_and_a_file_that_others_may_write_is_a_fault() {
        let scratch = Scratch::new();
        let path = scratch.0.join("config.toml");
        assert!(Config::load(&path).unwrap().sound().is_ok());
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o664)).unwrap();
        let error = Config::load(&path).unwrap().sound().unwrap_err();
        assert_eq!(error.downcast_ref::<Refusal>().unwrap().code, "BAD_CONFIG");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Config::load(&path).unwrap().sound().is_ok());
    }

    #[test]
    fn what_is_shown_reads_as_the_same_configuration() {
        let changed = "enforce_gate_mode = \"audit-fallback\"\n\
                       rollout = \"confirm\"\n\
                       trust.allow_unsigned = \"never\"\n\
                       emergency.reason_pattern = \"INC-[0-9]+: .+\"\n\
                       metrics.listen = \"[::1]:9464\"\nmetrics.textfile = \"/x.prom\"\n\
                       log.format = \"json\"\ndirectories.state = \"/s\"\n\
                       directories.run = \"/r\"\ndirectories.bpffs = \"/b\"\n";
        let (config, faults) = read(Path::new("x"), changed);
        assert!(faults.is_empty(), "{faults:?}");
        let default = Config::default();
        let mut text = String::new();
        for (key, value, origin) in config.shown() {
            assert_ne!(value, key.value(&default), "{} is not tried here", key.name);
            assert!(matches!(origin, Origin::File(..)), "{}", key.name);
            text.push_str(&format!("{} = {value}\n", key.name));
        }
        assert_eq!(text, changed);
        let restart =
            ["metrics.listen", "directories.state", "directories.run", "directories.bpffs"];
        assert_eq!(config.needs_restart(&default), restart);
    }
}
