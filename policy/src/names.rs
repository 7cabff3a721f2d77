// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Names as policies write them: paths of objects, and cgroups with patterns.
//!
//! Names of files are bytes and TOML strings are not, so `%XX` (two hexadecimal digits) stands for
//! one byte; a percent sign itself is `%25`. A backslash would collide with what systemd writes in
//! cgroup names (`\x2d`), which can so be written as they are.

use crate::{limits, policy::Object};

/// Bytes as a policy would write them, which is also safe on a terminal.
///
/// Escaped are `%`, control characters, and what is not UTF-8.
pub fn escape(bytes: &[u8]) -> String {
    let mut written = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character == '%' || is_unsafe_to_print(character) {
                let mut utf8 = [0; 4];
                push_escaped(&mut written, character.encode_utf8(&mut utf8).as_bytes());
            } else {
                written.push(character);
            }
        }
        push_escaped(&mut written, chunk.invalid());
    }
    written
}

/// Control characters, and those that turn the direction of the text around them.
pub(crate) fn is_unsafe_to_print(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn push_escaped(written: &mut String, bytes: &[u8]) {
    for byte in bytes {
        written.push_str(&format!("%{byte:02X}"));
    }
}

/// Why a name cannot be what it is meant to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NameFault {
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl NameFault {
    fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: Some(help.into()) }
    }
}

/// A path of an object, as written, becomes bytes.
pub(crate) fn parse_object(text: &str) -> Result<Object, NameFault> {
    let parts = parse_path(text, "the path of an object")?;
    if parts.iter().any(|part| part.star.is_some()) {
        return Err(NameFault::new(
            "objects have no patterns",
            "name the directory with a trailing slash to cover all in it, or write %2A for a name \
             that has a star in it",
        ));
    }
    let directory = text.ends_with('/');
    let mut path = Vec::with_capacity(text.len());
    for part in &parts {
        path.push(b'/');
        path.extend_from_slice(&part.bytes);
    }
    if parts.is_empty() {
        path.push(b'/');
    }
    if path.len() > limits::PATH_BYTES {
        return Err(NameFault::new(
            format!(
                "a path of {} bytes: no more than {} can be opened",
                path.len(),
                limits::PATH_BYTES
            ),
            "name a directory above it",
        ));
    }
    if parts.len() > limits::PATH_DEPTH {
        return Err(NameFault::new(
            format!(
                "a path of {} names: no more than {} directories are climbed",
                parts.len(),
                limits::PATH_DEPTH
            ),
            "name a directory above it",
        ));
    }
    Ok(Object { path, directory })
}

/// The path of a cgroup from the root of the hierarchy; a component may hold one `*`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CgroupPattern {
    /// One for each component, the outermost first; never empty.
    pub components: Vec<NamePattern>,
}

/// One component of a [`CgroupPattern`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NamePattern {
    /// This name.
    Exact(Vec<u8>),
    /// Every name that begins with what stands before the star and ends with what stands after it.
    /// The two may overlap: `ab*ba` takes `aba`.
    Star {
        /// Before the star.
        prefix: Vec<u8>,
        /// After the star.
        suffix: Vec<u8>,
    },
}

impl CgroupPattern {
    /// Whether the pattern names this cgroup or one above it.
    pub fn selects(&self, path: &[u8]) -> bool {
        let mut names = components(path);
        self.components.iter().all(|pattern| names.next().is_some_and(|name| pattern.takes(name)))
    }

    /// The pattern as a policy would write it.
    pub fn written(&self) -> String {
        let mut written = String::new();
        for component in &self.components {
            written.push('/');
            match component {
                NamePattern::Exact(name) => written.push_str(&escape_star(name)),
                NamePattern::Star { prefix, suffix } => {
                    written.push_str(&escape_star(prefix));
                    written.push('*');
                    written.push_str(&escape_star(suffix));
                }
            }
        }
        written
    }
}

/// A name where a star would be a pattern.
pub(crate) fn escape_star(name: &[u8]) -> String {
    escape(name).replace('*', "%2A")
}

impl NamePattern {
    /// Whether the pattern takes this name.
    pub fn takes(&self, name: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::Star { prefix, suffix } => name.starts_with(prefix) && name.ends_with(suffix),
        }
    }
}

/// The names in an absolute path, outermost first.
pub(crate) fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty())
}

/// The path of a cgroup, as written, becomes a pattern.
pub(crate) fn parse_cgroup(text: &str) -> Result<CgroupPattern, NameFault> {
    let parts = parse_path(text, "the path of a cgroup")?;
    if parts.is_empty() {
        return Err(NameFault::new(
            "a workload cannot be the root cgroup, which holds every process",
            "write workloads = [\"*\"] in the rule that is meant for everybody",
        ));
    }
    if text.ends_with('/') {
        return Err(NameFault::new(
            "a cgroup is written without a trailing slash",
            format!(
                "write {:?}: a cgroup selects itself and all below it",
                text.trim_end_matches('/')
            ),
        ));
    }
    if parts.len() > limits::CGROUP_DEPTH {
        return Err(NameFault::new(
            format!("a cgroup of {} names: the limit is {}", parts.len(), limits::CGROUP_DEPTH),
            "name a cgroup above it: it selects all below it",
        ));
    }
    if parts.first().is_some_and(|part| part.star.is_none() && part.bytes == OWN_CGROUP) {
        return Err(NameFault::new(
            "the cgroups beneath /aegisbpf are AegisBPF's own",
            "name the cgroup of the workload",
        ));
    }
    let components = parts
        .into_iter()
        .map(|part| match part.star {
            None => NamePattern::Exact(part.bytes),
            Some(at) => {
                let (prefix, suffix) = part.bytes.split_at(at);
                NamePattern::Star { prefix: prefix.to_vec(), suffix: suffix.to_vec() }
            }
        })
        .collect();
    Ok(CgroupPattern { components })
}

/// One component as written: its bytes without the star, and where the star was.
struct Part {
    bytes: Vec<u8>,
    star: Option<usize>,
}

fn parse_path(text: &str, what: &str) -> Result<Vec<Part>, NameFault> {
    let Some(rest) = text.strip_prefix('/') else {
        let help = if text.is_empty() {
            "write a path that begins with /".to_owned()
        } else {
            format!("write {:?}", format!("/{text}"))
        };
        return Err(NameFault::new(format!("{what} must begin with /"), help));
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.is_empty() && text != "//" {
        return Ok(Vec::new());
    }
    rest.split('/').map(|component| parse_component(component, text)).collect()
}

fn parse_component(component: &str, path: &str) -> Result<Part, NameFault> {
    if matches!(component, "" | "." | "..") {
        let fault = match component {
            "" => "two slashes in a row",
            "." => "`.` in a path",
            _ => "`..` in a path",
        };
        return Err(NameFault::new(
            format!("{fault}: paths are written without detours"),
            format!("write {:?}", normalised(path)),
        ));
    }
    let mut part = Part { bytes: Vec::with_capacity(component.len()), star: None };
    let mut bytes = component.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => part.bytes.push(escaped_byte(bytes.next(), bytes.next())?),
            b'*' if part.star.is_some() => {
                return Err(NameFault::new(
                    "a component may hold one `*`",
                    "list several patterns, or one that takes more",
                ));
            }
            b'*' => part.star = Some(part.bytes.len()),
            0 => return Err(nul_fault()),
            byte => part.bytes.push(byte),
        }
    }
    if part.star.is_none() && matches!(part.bytes.as_slice(), b"." | b"..") {
        return Err(NameFault::new(
            "an escape cannot hide `.` or `..`",
            "write the path without it",
        ));
    }
    if part.bytes.len() > limits::COMPONENT_BYTES {
        return Err(NameFault::new(
            format!(
                "a name of {} bytes: no filesystem takes more than {}",
                part.bytes.len(),
                limits::COMPONENT_BYTES
            ),
            "look for a slash that is missing",
        ));
    }
    Ok(part)
}

/// The byte that `%` and two digits stand for.
fn escaped_byte(high: Option<u8>, low: Option<u8>) -> Result<u8, NameFault> {
    let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
    let value = digit(high).zip(digit(low)).map(|(high, low)| high << 4 | low);
    let Some(byte) = value.and_then(|value| u8::try_from(value).ok()) else {
        return Err(NameFault::new(
            "`%` stands for one byte and wants two hexadecimal digits",
            "write %25 for a percent sign",
        ));
    };
    match byte {
        0 => Err(nul_fault()),
        b'/' => {
            Err(NameFault::new("no name has a slash in it", "write / where a directory begins"))
        }
        byte => Ok(byte),
    }
}

fn nul_fault() -> NameFault {
    NameFault::new("no name has a NUL in it", "write the name without it")
}

/// The path that was probably meant.
fn normalised(path: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    let slash = if path.ends_with('/') && !names.is_empty() { "/" } else { "" };
    format!("/{}{slash}", names.join("/"))
}

/// The cgroup in which the agent keeps its own: scratch and exempt.
const OWN_CGROUP: &[u8] = b"aegisbpf";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escape_and_what_it_stands_for_are_the_same_name() {
        for name in
            [&b"plain"[..], b"100%", b"tab\tnew\nline", b"\xff\xfe", "ü€".as_bytes(), b"a b"]
        {
            let path = [b"/", name].concat();
            let written = escape(&path);
            assert!(!written.chars().any(is_unsafe_to_print), "{written}");
            assert_eq!(parse_object(&written).map(|object| object.path), Ok(path));
        }
    }

    #[test]
    fn a_directory_covers_itself_and_what_is_beneath_and_no_sibling() {
        let object = parse_object("/srv/data/").unwrap();
        assert!(object.covers(b"/srv/data") && object.covers(b"/srv/data/a/b"));
        assert!(!object.covers(b"/srv/database") && !object.covers(b"/srv"));
        let root = parse_object("/").unwrap();
        assert!(root.directory && root.covers(b"/") && root.covers(b"/etc"));
        let file = parse_object("/srv/data").unwrap();
        assert!(file.covers(b"/srv/data") && !file.covers(b"/srv/data/a"));
    }

    #[test]
    fn a_cgroup_selects_itself_and_all_below() {
        let pattern = parse_cgroup("/system.slice/backup-*.service").unwrap();
        assert!(pattern.selects(b"/system.slice/backup-1.service"));
        assert!(pattern.selects(b"/system.slice/backup-1.service/child"));
        assert!(!pattern.selects(b"/system.slice"));
        assert!(!pattern.selects(b"/system.slice/backup-1.scope"));
        assert!(parse_cgroup("/ab*ba").unwrap().selects(b"/aba"));
    }

    #[test]
    fn a_backslash_of_systemd_is_a_backslash() {
        let pattern = parse_cgroup(r"/system.slice/dev-disk\x2duuid.swap").unwrap();
        assert!(pattern.selects(br"/system.slice/dev-disk\x2duuid.swap"));
    }
}
