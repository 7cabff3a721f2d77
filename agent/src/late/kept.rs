// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What files took along, on disk: by filesystem, number and generation, with rules by their names, so that it
//! means the same after a reboot and to other programs.
//!
//! The kernel's rows are what decides. Here they are written down as long as their files and rules are there, and
//! whoever fills a slot reads them. Only filesystems whose files keep their numbers count.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use aegis_abi::{InodeKey, generated::AEGIS_ROW_DIRECTORY};
use aegis_kernel::{can_tell, outlives};
use aegis_policy::{Ruleset, TakenAlong};
use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::{
    context::Context,
    files,
    host::{ThisHost, mounts},
    looker::Number,
    state::hex,
};

/// A file, whenever its filesystem is mounted.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub(super) struct Lasting {
    /// The UUID of its filesystem.
    filesystem: String,
    ino: u64,
    generation: u32,
}

/// What it took along.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Took {
    /// Rules by policy and id, for itself and for what lies beneath it.
    rules: BTreeSet<(String, String)>,
    #[serde(default)]
    beneath: BTreeSet<(String, String)>,
    /// In schema 1: whether the rules hold for what lies beneath as well.
    #[serde(default, skip_serializing)]
    flags: u32,
    /// Where names go on being bound below it.
    node: Option<Vec<u8>>,
    /// Whose process had it do so.
    #[serde(default)]
    uid: Option<u32>,
}

/// All of them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Kept {
    files: BTreeMap<Lasting, Took>,
    /// As many left when there was no room to note it.
    pub(super) lost: u32,
}

/// Keeps aside what cannot be used, for somebody to look at. The answer is what to say.
pub(super) fn set_aside(context: &Context, error: &anyhow::Error) -> anyhow::Result<String> {
    let (path, aside) = (context.left(), context.left_aside());
    fs::rename(&path, &aside)
        .with_context(|| format!("{error:#}, and it cannot be kept as {}", aside.display()))?;
    Ok(format!(
        "{error:#}: it is kept as {}, and what files took along is written down anew, of what the kernel has",
        aside.display()
    ))
}

#[derive(Deserialize, Serialize)]
struct File {
    schema: u32,
    #[serde(default)]
    lost: u32,
    files: Vec<Line>,
}

#[derive(Deserialize, Serialize)]
struct Line {
    #[serde(flatten)]
    file: Lasting,
    #[serde(flatten)]
    took: Took,
}

impl Kept {
    /// What is written down.
    ///
    /// # Errors
    /// If it cannot be read or understood, or others could have written it.
    pub(super) fn read(context: &Context) -> anyhow::Result<Self> {
        let path = context.left();
        let bytes = match files::read_trusted(&path, FILE_MAX) {
            Err(error) if files::is_missing(&error) => return Ok(Self::default()),
            bytes => bytes?,
        };
        Self::parse(&bytes).with_context(|| format!("failed to understand {}", path.display()))
    }

    fn parse(bytes: &[u8]) -> anyhow::Result<Self> {
        let File { schema, lost, files } = serde_json::from_slice(bytes)?;
        let known = [SCHEMA_OF_BEFORE, SCHEMA].contains(&schema);
        anyhow::ensure!(known, "its schema is {schema}, and not {SCHEMA}");
        let as_now = |Line { file, mut took }: Line| {
            if took.flags & AEGIS_ROW_DIRECTORY != 0 {
                took.beneath.extend(took.rules.iter().cloned());
            }
            took.flags = 0;
            (file, took)
        };
        let files = files.into_iter().map(as_now).collect();
        Ok(Self { files, lost })
    }

    fn text(&self) -> anyhow::Result<Vec<u8>> {
        let lines =
            self.files.iter().map(|(file, took)| Line { file: file.clone(), took: took.clone() });
        let file = File { schema: SCHEMA, lost: self.lost, files: lines.collect() };
        let bytes = serde_json::to_vec(&file).context("failed to write it as JSON")?;
        let size = bytes.len();
        anyhow::ensure!(size as u64 <= FILE_MAX, "it has {size} bytes, and {FILE_MAX} are read");
        Ok(bytes)
    }

    /// Whether there is a file, or what is no file in its place.
    pub(super) fn is_written(context: &Context) -> bool {
        fs::symlink_metadata(context.left()).is_ok()
    }

    pub(super) fn write(&self, context: &Context) -> anyhow::Result<()> {
        let path = context.left();
        if self.is_empty() {
            return files::remove(&path)
                .with_context(|| format!("failed to remove {}", path.display()));
        }
        files::make_directory(&context.state)?;
        files::write_whole(&path, &self.text()?)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty() && self.lost == 0
    }

    /// A row of the kernel, whose rules are those of `ruleset`.
    pub(super) fn add(&mut self, file: Lasting, taken: &TakenAlong, ruleset: &Ruleset) {
        let took = self.files.entry(file).or_default();
        for (names, numbers) in
            [(&mut took.rules, &taken.rules), (&mut took.beneath, &taken.beneath)]
        {
            let rules = numbers.iter().filter_map(|number| ruleset.rule(*number));
            let own = rules.filter(|rule| !rule.built_in);
            names.extend(own.map(|rule| (rule.policy.clone(), rule.rule.id.clone())));
        }
        took.node = taken.node.clone().or_else(|| took.node.take());
        took.uid = took.uid.or(taken.uid);
    }

    /// Forgets rules that are nowhere any more, and files without any.
    pub(super) fn keep_rules(
        &mut self,
        rules: &BTreeSet<(String, String)>,
        node: impl Fn(&[u8]) -> bool,
    ) {
        self.files.retain(|_, took| {
            took.rules.retain(|rule| rules.contains(rule));
            took.beneath.retain(|rule| rules.contains(rule));
            took.node.take_if(|path| !node(path));
            !took.rules.is_empty() || !took.beneath.is_empty() || took.node.is_some()
        });
    }

    /// Forgets files that are gone, but for those that have rows.
    pub(super) fn keep_files(
        &mut self,
        host: &mut ThisHost,
        filesystems: &Filesystems,
        rows: &BTreeSet<Lasting>,
    ) -> anyhow::Result<()> {
        let mut gone = Vec::new();
        for file in self.files.keys().filter(|file| !rows.contains(file)) {
            let mounted = filesystems.0.iter().filter(|one| one.uuid == file.filesystem);
            let mut there = None;
            for one in mounted {
                let number = Number {
                    top: one.top.clone(),
                    dev: one.dev,
                    magic: one.magic,
                    ino: file.ino,
                    generation: file.generation,
                };
                // What cannot be looked at, or not now, is taken for there.
                let one = !can_tell(one.magic) || host.has(number).unwrap_or(true);
                there = Some(there.unwrap_or(false) || one);
            }
            if there == Some(false) {
                gone.push(file.clone());
            }
        }
        for file in gone {
            self.files.remove(&file);
        }
        match host.hung() {
            Some(hung) => Err(hung.clone().into()),
            None => Ok(()),
        }
    }

    /// What those on mounted filesystems have to be denied by a ruleset.
    pub(super) fn rows(
        &self,
        filesystems: &Filesystems,
        ruleset: &Ruleset,
    ) -> Vec<(InodeKey, TakenAlong)> {
        let mut numbers: BTreeMap<(&str, &str), u32> = BTreeMap::new();
        for rule in ruleset.rules() {
            numbers.insert((&rule.policy, &rule.rule.id), rule.number);
        }
        let numbered = |names: &BTreeSet<(String, String)>| {
            let mut rules: Vec<u32> = names
                .iter()
                .filter_map(|(policy, id)| numbers.get(&(policy.as_str(), id.as_str())).copied())
                .collect();
            rules.sort_unstable();
            rules
        };
        let mut rows = Vec::new();
        for (file, took) in &self.files {
            let taken = TakenAlong {
                rules: numbered(&took.rules),
                beneath: numbered(&took.beneath),
                node: took.node.clone(),
                uid: took.uid,
            };
            if taken.is_nothing() {
                continue;
            }
            for one in filesystems.0.iter().filter(|one| one.uuid == file.filesystem) {
                let key = InodeKey { ino: file.ino, dev: one.dev, generation: file.generation };
                rows.push((key, taken.clone()));
            }
        }
        rows
    }

    /// How many are on filesystems that are not mounted.
    pub(super) fn pending(&self, filesystems: &Filesystems) -> usize {
        let mounted = |file: &Lasting| filesystems.0.iter().any(|one| one.uuid == file.filesystem);
        self.files.keys().filter(|file| !mounted(file)).count()
    }
}

/// The mounted filesystems whose files keep their numbers.
#[derive(Debug, Default)]
pub(super) struct Filesystems(Vec<Filesystem>);

#[derive(Debug)]
struct Filesystem {
    uuid: String,
    dev: u32,
    magic: u64,
    /// Where it can be reached.
    top: Vec<u8>,
}

impl Filesystems {
    /// Looks where they are mounted, as this mount namespace shows it.
    pub(super) fn find(host: &mut ThisHost) -> anyhow::Result<Self> {
        let mut found: Vec<Filesystem> = Vec::new();
        let mut tries: BTreeMap<u32, usize> = BTreeMap::new();
        for mount in mounts().context("failed to list what is mounted")? {
            if !KINDS.contains(&mount.kind.as_slice())
                || found.iter().any(|one| one.dev == mount.device)
            {
                continue;
            }
            let tried = tries.entry(mount.device).or_default();
            *tried += 1;
            if *tried > TRIES {
                continue;
            }
            // Something else may be mounted over it, or it is a file that is mounted.
            let stands = host.stands(&mount.path);
            if let Some(hung) = host.hung() {
                return Err(hung.clone().into());
            }
            let Ok(Some(there)) = stands else { continue };
            let directory = there.mode & S_IFMT == S_IFDIR;
            if directory
                && there.key.dev == mount.device
                && outlives(there.magic)
                && there.uuid != [0; 16]
            {
                found.push(Filesystem {
                    uuid: hex(&there.uuid),
                    dev: mount.device,
                    magic: there.magic,
                    top: mount.path,
                });
            }
        }
        Ok(Self(found))
    }

    /// A file by the key that it has now, if it outlives that.
    pub(super) fn lasting(&self, key: &InodeKey) -> Option<Lasting> {
        let one = self.0.iter().find(|one| one.dev == key.dev)?;
        Some(Lasting { filesystem: one.uuid.clone(), ino: key.ino, generation: key.generation })
    }
}

const SCHEMA: u32 = 2;
/// It is read as well: a host that goes from one version to the next by a `detach` has it.
const SCHEMA_OF_BEFORE: u32 = 1;

/// What mount(8) calls them: ext4 serves three.
const KINDS: [&[u8]; 5] = [b"ext4", b"ext3", b"ext2", b"xfs", b"btrfs"];

/// At how many of its mount points a filesystem is looked for: a container host has hundreds.
const TRIES: usize = 8;

/// Larger than all that can be kept, and no more than fits into memory.
const FILE_MAX: u64 = 256 << 20;

const S_IFMT: u32 = 0o170_000;
const S_IFDIR: u32 = 0o040_000;

#[cfg(test)]
mod tests {
    use aegis_policy::{BuiltIn, PolicySet, compile};

    use super::*;

    fn mounted(uuid: &str, dev: u32) -> Filesystems {
        let (uuid, top) = (uuid.to_owned(), b"/data".to_vec());
        Filesystems(vec![Filesystem { uuid, dev, magic: 0xef53, top }])
    }

    fn no_rules() -> Ruleset {
        let built_in = BuiltIn { proof_directory: b"/proof".to_vec() };
        compile(&PolicySet::new(), &built_in).unwrap()
    }

    fn took(rules: &[(&str, &str)], node: Option<&str>) -> Took {
        let rules = rules.iter().map(|(policy, id)| ((*policy).to_owned(), (*id).to_owned()));
        let node = node.map(|path| path.as_bytes().to_vec());
        Took { rules: rules.collect(), node, ..Took::default() }
    }

    fn kept(all: Vec<Took>) -> Kept {
        let file = |ino| Lasting { filesystem: "aa".to_owned(), ino, generation: 7 };
        let files = all.into_iter().zip(1..).map(|(took, ino)| (file(ino), took)).collect();
        Kept { files, lost: 0 }
    }

    #[test]
    fn a_file_goes_with_the_last_of_its_rules_and_its_names() {
        let mut all = kept(vec![
            took(&[("p", "a"), ("p", "b")], None),
            took(&[("p", "b")], None),
            took(&[], Some("/d")),
            took(&[("p", "b")], Some("/e")),
        ]);
        let left = BTreeSet::from([("p".to_owned(), "a".to_owned())]);
        all.keep_rules(&left, |path| path == b"/d");
        assert_eq!(all.files.keys().map(|file| file.ino).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(all.files.values().next(), Some(&took(&[("p", "a")], None)));
    }

    #[test]
    fn a_filesystem_is_known_by_its_uuid_whatever_its_number() {
        let all = kept(vec![took(&[], Some("/d"))]);
        assert_eq!(all.pending(&mounted("aa", 1)), 0);
        assert_eq!(all.pending(&mounted("bb", 1)), 1);
        let key = InodeKey { ino: 1, dev: 5, generation: 7 };
        assert_eq!(mounted("aa", 5).lasting(&key), all.files.keys().next().cloned());
        assert_eq!(mounted("aa", 6).lasting(&key), None);
        let rows = all.rows(&mounted("aa", 5), &no_rules());
        assert_eq!(rows.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [key]);
        assert!(all.rows(&mounted("bb", 5), &no_rules()).is_empty());
    }

    #[test]
    fn what_an_earlier_version_wrote_says_the_same() {
        let line = |flags| {
            format!(
                r#"{{"filesystem":"aa","ino":1,"generation":7,"rules":[["p","a"]],"node":null,"flags":{flags},"seen":null}}"#
            )
        };
        let rules = BTreeSet::from([("p".to_owned(), "a".to_owned())]);
        for (flags, beneath) in [(0, BTreeSet::new()), (1, rules.clone())] {
            let text = format!(r#"{{"schema":1,"lost":3,"files":[{}]}}"#, line(flags));
            let kept = Kept::parse(text.as_bytes()).unwrap();
            let took = Took { rules: rules.clone(), beneath, ..Took::default() };
            assert_eq!((kept.files.into_values().collect(), kept.lost), (vec![took], 3));
        }
    }

    #[test]
    fn what_is_written_is_read_again_and_nothing_that_is_cut_off_or_of_others() {
        let all = kept(vec![took(&[("p", "a")], Some("/d")), took(&[("q", "\u{e9}")], None)]);
        let text = all.text().unwrap();
        assert_eq!(Kept::parse(&text).unwrap(), all);
        for end in 0..text.len() {
            Kept::parse(&text[..end]).unwrap_err();
        }
        let other = String::from_utf8(text).unwrap().replace("\"schema\":2", "\"schema\":3");
        Kept::parse(other.as_bytes()).unwrap_err();
    }
}
