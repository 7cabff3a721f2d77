// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Texts of policies.

use std::{os::unix::ffi::OsStrExt as _, path::Path};

/// A policy that grows.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// Its version; none: the time, so that each is newer than those before.
    pub version: Option<u32>,
    /// How it is applied.
    pub mode: &'static str,
    workloads: Vec<(String, Vec<String>)>,
    rules: Vec<Rule>,
}

/// One rule of it.
#[derive(Clone, Debug)]
pub struct Rule {
    id: String,
    workload: String,
    action: &'static str,
    access: Vec<&'static str>,
    objects: Vec<String>,
    except: Vec<String>,
}

impl Policy {
    /// Without workloads or rules.
    pub fn new(name: &str) -> Self {
        let (name, mode) = (name.to_owned(), "enforce");
        Self { name, version: None, mode, workloads: Vec::new(), rules: Vec::new() }
    }

    /// Adds a workload.
    #[must_use]
    pub fn workload(mut self, name: &str, cgroups: &[&str]) -> Self {
        let cgroups = cgroups.iter().map(|cgroup| (*cgroup).to_owned()).collect();
        self.workloads.push((name.to_owned(), cgroups));
        self
    }

    /// Adds a rule.
    #[must_use]
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// With this version.
    #[must_use]
    pub fn version(mut self, version: u32) -> Self {
        self.version = Some(version);
        self
    }

    /// To be applied in mode audit.
    #[must_use]
    pub fn audit(mut self) -> Self {
        self.mode = "audit";
        self
    }

    /// The text.
    pub fn text(&self) -> String {
        let version = self.version.unwrap_or_else(newer_version);
        let mut text = format!("schema = 1\nname = {:?}\nversion = {version}\n", self.name);
        for (name, cgroups) in &self.workloads {
            text.push_str(&format!("[workloads.{name}]\ncgroups = {cgroups:?}\n"));
        }
        for rule in &self.rules {
            text.push_str(&rule.text());
        }
        text
    }
}

impl Rule {
    /// A rule that denies workload `w`.
    pub fn deny(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            workload: "w".to_owned(),
            action: "deny",
            access: Vec::new(),
            objects: Vec::new(),
            except: Vec::new(),
        }
    }

    /// A rule that watches workload `w`.
    pub fn audit(id: &str) -> Self {
        Self { action: "audit", ..Self::deny(id) }
    }

    /// For another workload, or `*`.
    #[must_use]
    pub fn of(mut self, workload: &str) -> Self {
        workload.clone_into(&mut self.workload);
        self
    }

    /// Only for these accesses.
    #[must_use]
    pub fn access(mut self, access: &[&'static str]) -> Self {
        self.access = access.to_vec();
        self
    }

    /// On a file.
    #[must_use]
    pub fn file(mut self, path: impl AsRef<Path>) -> Self {
        self.objects.push(written(path.as_ref()));
        self
    }

    /// On a directory and all beneath.
    #[must_use]
    pub fn beneath(mut self, path: impl AsRef<Path>) -> Self {
        self.objects.push(written(path.as_ref()) + "/");
        self
    }

    /// But not on this file.
    #[must_use]
    pub fn except_file(mut self, path: impl AsRef<Path>) -> Self {
        self.except.push(written(path.as_ref()));
        self
    }

    /// But not on this directory and all beneath.
    #[must_use]
    pub fn except_beneath(mut self, path: impl AsRef<Path>) -> Self {
        self.except.push(written(path.as_ref()) + "/");
        self
    }

    fn text(&self) -> String {
        let mut text = format!(
            "[[rules]]\nid = {:?}\nworkloads = [{:?}]\naction = {:?}\nobjects = {:?}\n",
            self.id, self.workload, self.action, self.objects
        );
        if !self.access.is_empty() {
            text.push_str(&format!("access = {:?}\n", self.access));
        }
        if !self.except.is_empty() {
            text.push_str(&format!("except = {:?}\n", self.except));
        }
        text.push_str(&format!("reason = \"why {} is\"\n", self.id));
        text
    }
}

/// A path as a policy may write it.
pub fn written(path: &Path) -> String {
    let mut text = String::new();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                text.push(char::from(*byte));
            }
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}

/// The bytes of a path that AegisBPF has printed.
pub fn unwritten(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let pair = after.get(..2).filter(|_| *first == b'%');
        let byte = pair.and_then(|pair| std::str::from_utf8(pair).ok());
        let byte = byte.and_then(|pair| u8::from_str_radix(pair, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    bytes
}

/// Higher than at any earlier time since boot.
pub fn newer_version() -> u32 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let hundredths = now.tv_sec * 100 + now.tv_nsec / 10_000_000;
    u32::try_from(hundredths).expect("a machine that was booted today")
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, path::Path};

    use super::*;

    #[test]
    fn what_is_written_comes_back() {
        let name = b"/a b\n%41\xff";
        let text = written(Path::new(OsStr::from_bytes(name)));
        assert_eq!(text, "/a%20b%0A%2541%FF");
        assert_eq!(unwritten(&text), name);
    }
}
