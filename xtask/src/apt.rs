// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Packages of Debian suites that this machine does not use, from the mirror that it does use.
//!
//! A private state (sources, lists, an empty status file) below `target/`, so that nothing of the machine's own apt is
//! read but its sources and settings, and nothing at all is written. Apt checks signatures and digests.

use std::cmp::Ordering;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::command::{output, program};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Sets the mirror where the machine's own sources name none, as on Ubuntu.
const MIRROR_VARIABLE: &str = "AEGIS_DEBIAN_MIRROR";

/// The private state.
#[derive(Debug)]
pub(crate) struct Apt {
    configuration: PathBuf,
}

/// A package that an index lists; whether it can be had is another question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) version: String,
}

impl Apt {
    /// Prepares the state in `directory`; asks nobody yet.
    pub(crate) fn prepare(
        directory: &Path,
        suites: &[String],
        security_suites: &[String],
    ) -> anyhow::Result<Self> {
        if !Path::new(KEYRING).exists() {
            bail!(
                "failed to find Debian's keyring at {KEYRING}\nhint: apt-get install debian-archive-keyring"
            );
        }
        for part in ["lists/partial", "cache/archives/partial"] {
            std::fs::create_dir_all(directory.join(part))
                .with_context(|| format!("failed to create {}", directory.join(part).display()))?;
        }
        let mirrors = Mirrors::of_this_machine()?;
        let mut sources = String::new();
        // A frozen suite is not signed again: its Release file expires, its signature does not.
        let options = format!("[arch=amd64 signed-by={KEYRING} check-valid-until=no]");
        for suite in suites {
            writeln!(sources, "deb {options} {} {suite} main", mirrors.archive)?;
        }
        for suite in security_suites {
            writeln!(sources, "deb {options} {} {suite} main", mirrors.security)?;
        }
        let file = |name: &str| directory.join(name);
        let configuration = format!(
            "Dir::Etc::sourcelist \"{}\";\nDir::Etc::sourceparts \"-\";\nDir::State::lists \"{}\";\n\
             Dir::State::status \"{}\";\nDir::Cache \"{}\";\nAPT::Cache-Start \"200000000\";\n\
             APT::Architecture \"amd64\";\nAcquire::Languages \"none\";\nAPT::Sandbox::User \"\";\n\
             Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\nAcquire::Retries \"2\";\n",
            file("sources.list").display(),
            file("lists").display(),
            file("status").display(),
            file("cache").display(),
        );
        for (name, text) in
            [("sources.list", sources.as_str()), ("status", ""), ("apt.conf", &configuration)]
        {
            std::fs::write(file(name), text)
                .with_context(|| format!("failed to write {}", file(name).display()))?;
        }
        Ok(Self { configuration: file("apt.conf") })
    }

    /// Asks the mirror what there is. A suite that is gone does not hide the others.
    pub(crate) fn update(&self) -> anyhow::Result<()> {
        let result = output(self.command("apt-get").arg("update"));
        let lists = output(self.command("apt-cache").args(["pkgnames", "linux-image-"]));
        match (result, lists) {
            (_, Ok(names)) if !names.is_empty() => Ok(()),
            (Err(error), _) => Err(error),
            _ => bail!("failed to find any kernel in the indexes of the mirror"),
        }
    }

    /// All versions of all packages whose names begin with `prefix` and fulfil `wanted`.
    pub(crate) fn list(
        &self,
        prefix: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> anyhow::Result<Vec<Listed>> {
        let names = output(self.command("apt-cache").args(["pkgnames", prefix]))?;
        let names: Vec<&str> = names.lines().filter(|name| wanted(name)).collect();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let table = output(self.command("apt-cache").arg("madison").args(names))?;
        let mut listed: Vec<Listed> = table.lines().filter_map(row).collect();
        listed.dedup();
        Ok(listed)
    }

    /// Downloads one package into `directory`; apt checks it against the signed index.
    pub(crate) fn download(&self, package: &Listed, directory: &Path) -> anyhow::Result<PathBuf> {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("failed to create {}", directory.display()))?;
        let wanted = format!("{}={}", package.name, package.version);
        output(self.command("apt-get").args(["download", &wanted]).current_dir(directory))
            .with_context(|| format!("failed to download {wanted}"))?;
        let begin = format!("{}_", package.name);
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(&begin) {
                return Ok(entry.path());
            }
        }
        bail!("apt-get download {wanted} left no file in {}", directory.display())
    }

    fn command(&self, name: &str) -> Command {
        let mut command = program(name);
        command.env("APT_CONFIG", &self.configuration).env("LC_ALL", "C");
        command
    }
}

/// One row of `apt-cache madison`: `name | version | where`.
fn row(line: &str) -> Option<Listed> {
    let mut columns = line.split('|').map(str::trim);
    let listed = Listed { name: columns.next()?.to_owned(), version: columns.next()?.to_owned() };
    columns.next()?.ends_with(" Packages").then_some(listed)
}

/// Where this machine gets Debian from.
#[derive(Debug, PartialEq, Eq)]
struct Mirrors {
    archive: String,
    security: String,
}

impl Mirrors {
    fn of_this_machine() -> anyhow::Result<Self> {
        if let Ok(mirror) = std::env::var(MIRROR_VARIABLE) {
            return Ok(Self::beside(mirror.trim_end_matches('/').to_owned()));
        }
        let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
        if let Ok(entries) = std::fs::read_dir("/etc/apt/sources.list.d") {
            files.extend(entries.flatten().map(|entry| entry.path()));
        }
        files.sort();
        let mut sources = Vec::new();
        for file in files {
            let parse = match file.extension().and_then(|extension| extension.to_str()) {
                Some("list") => one_line_sources,
                Some("sources") => deb822_sources,
                _ => continue,
            };
            if let Ok(text) = std::fs::read_to_string(&file) {
                sources.extend(parse(&text));
            }
        }
        Self::among(&sources).with_context(|| {
            format!(
                "failed to find a Debian mirror in /etc/apt\n\
                 hint: {MIRROR_VARIABLE}=URL names one, for example that of a Debian machine nearby"
            )
        })
    }

    /// The security archive is looked for by its suite, the archive by being no such and having the section `main`.
    fn among(sources: &[Source]) -> Option<Self> {
        let of = |security: bool| {
            sources
                .iter()
                .filter(|source| source.components.iter().any(|component| component == "main"))
                .filter(|source| {
                    source.suites.iter().any(|suite| {
                        let (base, rest) = suite.split_once(['-', '/']).unwrap_or((suite, ""));
                        SUITES.contains(&base)
                            && if security { rest == "security" } else { rest != "security" }
                    })
                })
                .flat_map(|source| &source.uris)
                .find(|uri| uri.contains("debian") && !uri.starts_with("cdrom:"))
                .map(|uri| uri.trim_end_matches('/').to_owned())
        };
        let archive = of(false)?;
        Some(match of(true) {
            Some(security) => Self { archive, security },
            None => Self::beside(archive),
        })
    }

    fn beside(archive: String) -> Self {
        let security = format!("{archive}-security");
        Self { archive, security }
    }
}

/// Names under which a Debian machine may know its suite.
const SUITES: [&str; 9] = [
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
    "sid",
];

/// One source of packages, in either notation.
#[derive(Debug, Default, PartialEq, Eq)]
struct Source {
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
}

/// `deb [options] URI SUITE COMPONENT…`
fn one_line_sources(text: &str) -> Vec<Source> {
    let source = |line: &str| {
        let line = line.split('#').next().unwrap_or_default().trim();
        let mut rest = line.strip_prefix("deb ")?.trim_start();
        if rest.starts_with('[') {
            rest = rest.split_once(']')?.1;
        }
        let mut words = rest.split_whitespace().map(str::to_owned);
        Some(Source {
            uris: vec![words.next()?],
            suites: vec![words.next()?],
            components: words.collect(),
        })
    };
    text.lines().filter_map(source).collect()
}

/// Paragraphs of `Field: values`, whose values may go on in the next, indented line.
fn deb822_sources(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')).chain([""]) {
        if line.trim().is_empty() {
            sources.extend(deb822_source(&std::mem::take(&mut fields)));
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push_str(line);
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.to_ascii_lowercase(), value.to_owned()));
        }
    }
    sources
}

fn deb822_source(fields: &[(String, String)]) -> Option<Source> {
    let words = |wanted: &str| -> Vec<String> {
        let values = fields.iter().filter(|(name, _)| name == wanted);
        values.flat_map(|(_, value)| value.split_whitespace()).map(str::to_owned).collect()
    };
    let enabled = !words("enabled").iter().any(|word| word == "no");
    (enabled && words("types").iter().any(|word| word == "deb")).then(|| Source {
        uris: words("uris"),
        suites: words("suites"),
        components: words("components"),
    })
}

/// Debian's order of versions, for versions without epoch.
pub(crate) fn compare_versions(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left.as_bytes(), right.as_bytes());
    while !left.is_empty() || !right.is_empty() {
        let (words, numbers) = (text_part(&mut left), text_part(&mut right));
        let longest = words.len().max(numbers.len());
        for position in 0..longest {
            let order = weight(words.get(position)).cmp(&weight(numbers.get(position)));
            if order.is_ne() {
                return order;
            }
        }
        let order = number_part(&mut left).cmp(&number_part(&mut right));
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

fn text_part<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let end = rest.iter().position(u8::is_ascii_digit).unwrap_or(rest.len());
    let (part, later) = rest.split_at(end);
    *rest = later;
    part
}

fn number_part(rest: &mut &[u8]) -> u64 {
    let end = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
    let (part, later) = rest.split_at(end);
    *rest = later;
    part.iter()
        .fold(0, |sum: u64, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
}

/// `~` comes before the end, the end before letters, letters before the rest.
fn weight(byte: Option<&u8>) -> i32 {
    match byte {
        Some(b'~') => -1,
        None => 0,
        Some(letter) if letter.is_ascii_alphabetic() => i32::from(*letter),
        Some(other) => i32::from(*other) + 256,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_notations_give_the_same_source() {
        let one_line = "# deb http://other/debian bookworm main\n\
                        deb [arch=amd64 signed-by=/k.gpg] http://mirror/debian bookworm main contrib\n";
        let deb822 = "# a comment\nTypes: deb deb-src\nURIs: http://mirror/debian\nSuites: bookworm\n\
                      Components: main\n contrib\n\nTypes: deb\nEnabled: no\nURIs: http://other/debian\n";
        let expected = Source {
            uris: vec!["http://mirror/debian".into()],
            suites: vec!["bookworm".into()],
            components: vec!["main".into(), "contrib".into()],
        };
        assert_eq!(one_line_sources(one_line), [Source { ..expected }]);
        assert_eq!(deb822_sources(deb822), one_line_sources(one_line));
    }

    #[test]
    fn the_mirror_is_debians_and_no_third_partys() {
        let sources = one_line_sources(
            "deb https://docker/linux/debian bookworm stable\n\
             deb https://database/apt bookworm-pgdg main\n\
             deb http://mirror/debian-security bookworm-security main\n\
             deb http://mirror/debian/ bookworm main\n",
        );
        let mirrors = Mirrors::among(&sources).expect("both are there");
        assert_eq!(mirrors.archive, "http://mirror/debian");
        assert_eq!(mirrors.security, "http://mirror/debian-security");
    }

    #[test]
    fn versions_are_in_debians_order() {
        let ascending = [
            "5.10.262-1",
            "6.1.9-1",
            "6.1.192-2",
            "6.12.117-1~deb12u1",
            "6.12.117-1",
            "7.3.4-1~bpo13+1",
            "7.3.4-1",
        ];
        for pair in ascending.windows(2) {
            let [smaller, larger] = pair else { continue };
            assert_eq!(compare_versions(smaller, larger), Ordering::Less, "{smaller} < {larger}");
            assert_eq!(compare_versions(larger, smaller), Ordering::Greater);
        }
    }
}
