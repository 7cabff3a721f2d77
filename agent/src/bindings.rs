// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What stood on the ways to the objects when a generation was filled, and whether it still does.
//!
//! Names are bound in the kernel, so files and directories may come, go and be replaced. A link or a
//! mount on the way leads elsewhere, which only resolving again can tell.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use aegis_abi::InodeKey;
use aegis_kernel::{Generation, Kernel, Slot};
use aegis_policy::{Component, Found, Host, HostError, Kind, Ruleset, escape, resolve};
use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::{
    apply::active, context::Context, coverage::Coverage, files, host::ThisHost, late,
    report::Bound, time,
};

/// What was found of one generation's objects.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Bindings {
    generation: u64,
    /// How often its policies were bound anew.
    revision: u32,
    /// Numbers of generations begin anew with each boot.
    boot: Option<String>,
    /// The number of the cgroup that rules on `"*"` leave alone.
    exempt: Option<u64>,
    /// Whether files with several links beneath directories have rows of their own.
    link_scan: bool,
    names: Names,
}

/// Each name that was asked for, and what stood there.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Names {
    by_path: BTreeMap<String, Stood>,
    /// Whether there were more.
    pub(crate) cut: bool,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Stood {
    Nothing,
    /// A file or a device: which one may change at any time, and its name stays bound.
    File,
    Directory(String),
    Link(String),
    Mount(String),
}

impl Bindings {
    pub(crate) fn new(
        generation: &Generation,
        exempt: Option<u64>,
        link_scan: bool,
        names: Names,
    ) -> Self {
        Self {
            generation: generation.number,
            revision: generation.revision,
            boot: time::boot(),
            exempt,
            link_scan,
            names,
        }
    }

    /// Why a generation has to be filled anew to be what it would be now.
    pub(crate) fn stale(
        &self,
        exempt: Option<u64>,
        link_scan: bool,
        now: &Names,
    ) -> Option<String> {
        if self.exempt != exempt {
            return Some("the exempt cgroup is another".to_owned());
        }
        if self.link_scan != link_scan {
            let told = if link_scan { "without" } else { "with" };
            return Some(format!("it was made {told} a scan for files with several links"));
        }
        self.moved(now).or_else(|| self.names.differs(now, |_| true))
    }

    /// A link or a mount that leads elsewhere by now.
    pub(crate) fn moved(&self, now: &Names) -> Option<String> {
        self.names.leads_elsewhere(now)
    }
}

impl Names {
    /// The first link or mount that came, went or changed.
    pub(crate) fn leads_elsewhere(&self, now: &Self) -> Option<String> {
        self.differs(now, |stood| matches!(stood, Stood::Link(_) | Stood::Mount(_)))
    }

    /// The first name at which something else stands, among what matters.
    fn differs(&self, now: &Self, matters: impl Fn(&Stood) -> bool) -> Option<String> {
        let cut = self.cut || now.cut;
        let paths: BTreeSet<&String> = self.by_path.keys().chain(now.by_path.keys()).collect();
        paths.into_iter().find_map(|path| {
            let (before, now) = (self.by_path.get(path), now.by_path.get(path));
            // Where many names are cut off, what comes last depends on what comes first.
            if before == now || (cut && (before.is_none() || now.is_none())) {
                return None;
            }
            let any = [before, now].into_iter().flatten().any(&matters);
            any.then(|| format!("{path} is {}, and was {} when bound", told(now), told(before)))
        })
    }
}

fn told(stood: Option<&Stood>) -> String {
    match stood {
        None => "not on the way".to_owned(),
        Some(Stood::Nothing) => "nothing".to_owned(),
        Some(Stood::File) => "a file".to_owned(),
        Some(Stood::Directory(key)) => format!("the directory {key}"),
        Some(Stood::Link(target)) => format!("a link to {target}"),
        Some(Stood::Mount(key)) => format!("a mount of {key}"),
    }
}

/// A host that answers as another does, and remembers what it said.
pub(crate) struct Remembering<'a> {
    host: &'a mut dyn Host,
    mounts: Vec<Vec<u8>>,
    names: Names,
    /// How many names are remembered.
    limit: usize,
    /// Whether nothing is asked beyond that, as if nothing was there.
    bounded: bool,
    /// Whether trees are searched for files with several links.
    link_scan: bool,
}

impl<'a> Remembering<'a> {
    /// For an apply, which asks for everything.
    pub(crate) fn everything(host: &'a mut dyn Host, link_scan: bool) -> anyhow::Result<Self> {
        Ok(Self { link_scan, ..Self::new(host, LIMIT, false)? })
    }

    /// For a comparison, which has to be cheap.
    fn bounded(host: &'a mut dyn Host) -> anyhow::Result<Self> {
        Self::new(host, LIMIT, true)
    }

    fn new(host: &'a mut dyn Host, limit: usize, bounded: bool) -> anyhow::Result<Self> {
        let mounts = host.mounts().context("failed to list what is mounted")?;
        Ok(Self { host, mounts, names: Names::default(), limit, bounded, link_scan: false })
    }

    pub(crate) fn names(self) -> Names {
        self.names
    }

    fn stood(&self, path: &[u8], found: &Found) -> Stood {
        match found {
            Found::Absent => Stood::Nothing,
            Found::Link(target) => Stood::Link(escape(target)),
            Found::There(there) if self.mounts.iter().any(|mount| mount == path) => {
                Stood::Mount(key(&there.key))
            }
            Found::There(Component { kind: Kind::Directory, key: of, .. }) => {
                Stood::Directory(key(of))
            }
            Found::There(_) => Stood::File,
        }
    }
}

impl Host for Remembering<'_> {
    fn look(&mut self, path: &[u8]) -> Result<Found, HostError> {
        let written = escape(path);
        let beyond =
            self.names.by_path.len() >= self.limit && !self.names.by_path.contains_key(&written);
        self.names.cut |= beyond;
        if beyond && self.bounded {
            return Ok(Found::Absent);
        }
        let found = self.host.look(path)?;
        if !beyond {
            let stood = self.stood(path, &found);
            self.names.by_path.insert(written, stood);
        }
        Ok(found)
    }

    fn filesystems(&mut self) -> Result<Vec<u32>, HostError> {
        self.host.filesystems()
    }

    fn mounts(&mut self) -> Result<Vec<Vec<u8>>, HostError> {
        Ok(self.mounts.clone())
    }

    fn linked(&mut self, directory: &[u8]) -> Result<Vec<Vec<u8>>, HostError> {
        if self.link_scan { self.host.linked(directory) } else { Ok(Vec::new()) }
    }
}

fn key(key: &InodeKey) -> String {
    let InodeKey { dev, ino, generation } = key;
    format!("{}:{} inode {ino}.{generation}", dev >> 20, dev & 0xf_ffff)
}

/// Resolves again, and compares with what the active generation was filled with, and with what the
/// kernel has of it.
pub(crate) fn compare(
    context: &Context,
    kernel: &Kernel,
    (slot, active): (Slot, &Generation),
    ruleset: &Ruleset,
) -> anyhow::Result<Coverage> {
    let mut host = ThisHost::new(context.patience_to_look())?;
    let mut remembering = Remembering::bounded(&mut host)?;
    let places = resolve(ruleset, &mut remembering);
    let names = remembering.names();
    if let Some(hung) = host.hung() {
        return Err(hung.clone().into());
    }
    let mut coverage = Coverage::default();
    match places {
        _ if names.cut => coverage.warnings.push(format!(
            "the objects' paths have more than {LIMIT} names: whether others have moved was not \
             looked at"
        )),
        Ok(places) => {
            coverage.warnings.extend(Bound::of(ruleset, &places).warnings());
            coverage.compare_objects(kernel, slot, ruleset, &places)?;
        }
        Err(errors) => coverage
            .warnings
            .extend(errors.into_iter().map(|error| format!("{:#}", anyhow::Error::from(error)))),
    }
    match last(context, slot, active) {
        Some(before) => {
            coverage.moved = before.moved(&names);
            coverage.warnings.extend((!before.link_scan).then(|| NO_LINK_SCAN.to_owned()));
        }
        None => coverage.warnings.push(
            "how objects were found when the policies were applied is not known any more: \
             `aegisbpf apply` them again"
                .to_owned(),
        ),
    }
    if coverage.moved.is_none() {
        coverage.moved = late::unbound(context, kernel, &mut host, slot, ruleset)?;
    }
    Ok(coverage)
}

/// What a slot's generation was filled with, if it is known.
pub(crate) fn last(context: &Context, slot: Slot, generation: &Generation) -> Option<Bindings> {
    let bytes = fs::read(context.bindings(slot.number())).ok()?;
    let last: Bindings = serde_json::from_slice(&bytes).ok()?;
    let same = (last.generation, last.revision) == (generation.number, generation.revision)
        && last.boot.is_some()
        && last.boot == time::boot();
    same.then_some(last)
}

/// Whether what is in force was made with a scan for files with several links.
pub(crate) fn last_link_scan(context: &Context) -> bool {
    let kernel = Kernel::open(&context.pins).ok().flatten();
    let active = active(kernel.as_ref()).ok().flatten();
    let last = active.and_then(|(slot, generation)| last(context, slot, &generation));
    last.is_none_or(|last| last.link_scan)
}

/// Writes down what a slot was filled with.
pub(crate) fn record(context: &Context, slot: Slot, bindings: &Bindings) -> anyhow::Result<()> {
    let bytes = serde_json::to_vec(bindings).context("failed to write bindings as JSON")?;
    files::write_whole(&context.bindings(slot.number()), &bytes)
}

/// What `--no-link-scan` costs.
pub(crate) const NO_LINK_SCAN: &str = "applied with --no-link-scan: a file beneath a denied directory \
                                       is not denied by another name that it had elsewhere";

/// How many names are remembered and compared.
const LIMIT: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// A host of a few names.
    #[derive(Default)]
    struct Few {
        found: BTreeMap<Vec<u8>, Found>,
        mounts: Vec<Vec<u8>>,
        asked: usize,
    }

    impl Host for Few {
        fn look(&mut self, path: &[u8]) -> Result<Found, HostError> {
            self.asked += 1;
            Ok(self.found.get(path).cloned().unwrap_or(Found::Absent))
        }

        fn filesystems(&mut self) -> Result<Vec<u32>, HostError> {
            Ok(Vec::new())
        }

        fn mounts(&mut self) -> Result<Vec<Vec<u8>>, HostError> {
            Ok(self.mounts.clone())
        }

        fn linked(&mut self, _: &[u8]) -> Result<Vec<Vec<u8>>, HostError> {
            Ok(Vec::new())
        }
    }

    fn there(kind: Kind, ino: u64) -> Found {
        let key = InodeKey { ino, dev: 1, generation: 0 };
        Found::There(Component { key, kind, case_insensitive: false, magic: 0 })
    }

    fn few(last: Found) -> Few {
        let found = [(b"/d".to_vec(), there(Kind::Directory, 1)), (b"/d/f".to_vec(), last)];
        Few { found: found.into_iter().collect(), ..Few::default() }
    }

    fn names(host: &mut Few) -> Names {
        let mut remembering = Remembering::everything(host, true).unwrap();
        for path in [b"/d".as_slice(), b"/d/f"] {
            remembering.look(path).unwrap();
        }
        remembering.names()
    }

    fn bindings(names: Names) -> Bindings {
        Bindings { generation: 1, revision: 0, boot: None, exempt: Some(7), link_scan: true, names }
    }

    #[test]
    fn a_file_may_be_replaced_and_a_missing_one_appear() {
        let before = bindings(names(&mut few(there(Kind::File, 2))));
        assert_eq!(before.stale(Some(7), true, &names(&mut few(there(Kind::File, 3)))), None);
        assert_eq!(before.moved(&names(&mut few(Found::Absent))), None);
        assert!(
            before.stale(Some(7), true, &names(&mut few(Found::Absent))).is_some(),
            "filled anew it can be"
        );
        assert!(
            before.stale(Some(8), true, &before.names).is_some(),
            "so it is for another exempt cgroup"
        );
    }

    #[test]
    fn a_replaced_directory_has_not_moved_and_is_worth_an_apply() {
        let before = bindings(names(&mut few(Found::Absent)));
        let mut other = few(Found::Absent);
        other.found.insert(b"/d".to_vec(), there(Kind::Directory, 9));
        assert_eq!(before.moved(&names(&mut other)), None);
        assert!(before.stale(Some(7), true, &names(&mut other)).is_some());
    }

    #[test]
    fn a_link_or_a_mount_that_comes_goes_or_changes_has_moved() {
        let to = |target: &[u8]| names(&mut few(Found::Link(target.to_vec())));
        let file = || few(there(Kind::File, 2));
        let mount = Few { mounts: vec![b"/d/f".to_vec()], ..file() };
        let (file, mount) = (names(&mut file()), names(&mut { mount }));
        let nothing = names(&mut few(Found::Absent));
        for (before, now) in [
            (to(b"/a"), to(b"/b")),
            (file.clone(), to(b"/a")),
            (to(b"/a"), nothing.clone()),
            (nothing, to(b"/a")),
            (file.clone(), mount.clone()),
            (mount, file),
        ] {
            let moved = bindings(before.clone()).moved(&now);
            assert!(moved.is_some_and(|moved| moved.contains("/d/f")), "{before:?} {now:?}");
            assert_eq!(bindings(now.clone()).moved(&now), None);
        }
    }

    #[test]
    fn a_bounded_comparison_asks_no_more_and_compares_what_both_know() {
        let mut host = few(Found::Link(b"/a".to_vec()));
        let mut remembering = Remembering::new(&mut host, 1, true).unwrap();
        remembering.look(b"/d").unwrap();
        assert_eq!(remembering.look(b"/d/f").unwrap(), Found::Absent);
        let cut = remembering.names();
        assert!(cut.cut);
        assert_eq!(host.asked, 1);
        assert_eq!(bindings(names(&mut host)).moved(&cut), None);
    }
}
