// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What was pinned, so that it shows when somebody detaches a link, deletes a pin or puts another map in
//! the place of ours.
//!
//! The numbers of the links, programs and maps are written down by the command that made them, and kept
//! until they go. What is there later under the same name has the same number, or it is something else.

use std::{collections::BTreeMap, fs};

use aegis_kernel::{Identity, Kernel, Slot};
use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::{context::Context, files, time};

/// What was pinned when it was made.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Installed {
    /// Numbers begin anew with each boot.
    boot: Option<String>,
    pins: Identity,
    /// The maps of each generation, by its name: one that is bound anew keeps the number, and for a
    /// while both are there.
    generations: BTreeMap<String, Identity>,
}

impl Installed {
    /// What is there now.
    pub(crate) fn now(context: &Context, kernel: &Kernel) -> anyhow::Result<Self> {
        let mut generations = BTreeMap::new();
        for slot in Slot::all() {
            if let Some(generation) = kernel.generation(slot)? {
                generations.insert(generation.to_string(), kernel.filled(slot)?);
            }
        }
        Ok(Self { boot: time::boot(), pins: Kernel::installed(&context.pins), generations })
    }

    /// What was written down in this boot.
    pub(crate) fn recorded(context: &Context) -> Option<Self> {
        let recorded: Self = serde_json::from_slice(&fs::read(path(context)).ok()?).ok()?;
        (recorded.boot.is_some() && recorded.boot == time::boot()).then_some(recorded)
    }

    /// Everything of this that is not the same any more, in words. A generation that has gone is none.
    pub(crate) fn changed(&self, now: &Self) -> Vec<String> {
        let mut changed = differences("the pin", &self.pins, &now.pins);
        for (name, before) in &self.generations {
            if let Some(now) = now.generations.get(name) {
                changed.extend(differences(&format!("generation {name}:"), before, now));
            }
        }
        changed
    }

    /// This, and of `now` what was not known before.
    fn with(&self, now: &Self) -> Self {
        let mut merged = self.clone();
        // A hook that nothing needs any more is detached, and gets another link when it is needed again.
        merged.pins.retain(|name, _| !is_link(name) || now.pins.contains_key(name));
        for (name, what) in &now.pins {
            merged.pins.entry(name.clone()).or_insert_with(|| what.clone());
        }
        merged.generations.retain(|name, _| now.generations.contains_key(name));
        for (name, maps) in &now.generations {
            merged.generations.entry(name.clone()).or_insert_with(|| maps.clone());
        }
        merged
    }
}

/// Writes down what is new. What was written down before stays as it was: whoever replaced it since
/// does not become right by it.
pub(crate) fn record(context: &Context, kernel: &Kernel) -> anyhow::Result<()> {
    let now = Installed::now(context, kernel)?;
    let known = Installed::recorded(context);
    let merged = known.as_ref().map_or_else(|| now.clone(), |known| known.with(&now));
    if known.as_ref() == Some(&merged) {
        return Ok(());
    }
    let bytes = serde_json::to_vec(&merged).context("failed to write what is pinned as JSON")?;
    files::write_whole(&path(context), &bytes)
}

/// Writes down what a command has just put there, whatever was there before.
pub(crate) fn renew(context: &Context, kernel: &Kernel) -> anyhow::Result<()> {
    let now = Installed::now(context, kernel)?;
    let bytes = serde_json::to_vec(&now).context("failed to write what is pinned as JSON")?;
    files::write_whole(&path(context), &bytes)
}

/// Forgets what was pinned: a command is about to put something else there, and says so.
pub(crate) fn forget(context: &Context) -> anyhow::Result<()> {
    files::remove(&path(context)).context("failed to forget what was pinned")
}

/// What was written down and is not so any more.
pub(crate) fn changed(context: &Context, kernel: &Kernel) -> Vec<String> {
    let Some(recorded) = Installed::recorded(context) else { return Vec::new() };
    match Installed::now(context, kernel) {
        Ok(now) => recorded.changed(&now),
        Err(error) => vec![format!("what is pinned cannot be read: {error:#}")],
    }
}

fn differences(whose: &str, before: &Identity, now: &Identity) -> Vec<String> {
    let differs = |(name, before): (&String, &String)| match now.get(name) {
        Some(now) if now == before => None,
        Some(now) => Some(format!("{whose} {name} is {now}, and was {before}")),
        // Whether a hook that is needed is attached is looked at as such.
        None if is_link(name) => None,
        None => Some(format!("{whose} {name} is gone, and was {before}")),
    };
    before.iter().filter_map(differs).collect()
}

fn is_link(name: &str) -> bool {
    name.starts_with("link_")
}

fn path(context: &Context) -> std::path::PathBuf {
    context.run.join("installed.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(of: &[(&str, &str)]) -> Identity {
        of.iter().map(|(name, what)| ((*name).to_owned(), (*what).to_owned())).collect()
    }

    fn installed(link: &str, generation: &str, map: &str) -> Installed {
        Installed {
            boot: Some("this".to_owned()),
            pins: identity(&[("link_file_open", link)]),
            generations: [(generation.to_owned(), identity(&[("objects", map)]))].into(),
        }
    }

    #[test]
    fn what_is_replaced_or_gone_is_named_and_what_is_new_is_none_of_that() {
        let before = installed("link 1", "7", "map 3");
        assert!(before.changed(&before).is_empty());
        let other = before.changed(&installed("link 2", "7", "map 4"));
        assert_eq!(other.len(), 2, "{other:?}");
        assert!(other[0].contains("link_file_open is link 2, and was link 1"), "{other:?}");
        let without = Installed { pins: Identity::new(), ..before.clone() };
        assert!(before.changed(&without).is_empty(), "a hook that nothing needs any more");
        let more = Installed { pins: identity(&[("names", "map 5")]), ..before.clone() };
        let gone = more.changed(&before);
        assert!(gone[0].contains("names is gone"), "{gone:?}");
        assert!(before.changed(&installed("link 1", "8", "map 9")).is_empty(), "a new generation");
        assert!(before.changed(&installed("link 1", "7.1", "map 9")).is_empty(), "bound anew");
    }

    #[test]
    fn what_was_replaced_does_not_become_right_by_being_written_down_again() {
        let before = installed("link 1", "7", "map 3");
        let merged = before.with(&installed("link 2", "7", "map 4"));
        assert_eq!(merged, before);
        let next = before.with(&installed("link 1", "8", "map 9"));
        assert_eq!(next, installed("link 1", "8", "map 9"), "a generation that went is forgotten");
    }
}
