// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a command that was killed has left behind, cleared away by the next one that has the lock.
//!
//! Nothing of it decides, and nothing of it is in the way of a change: it would only stay. What a
//! change needs to be whole is not here, but in the order in which it is made.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use aegis_kernel::Kernel;

use crate::{context::Context, files, output::plural};

/// Clears it away. The answer is what there was, in words; what cannot be cleared away is said as well.
///
/// Only for whoever has the lock of changes: a trial, and a slot that nothing leads to, may be another's.
pub(crate) fn after_a_kill(context: &Context, kernel: Option<&Kernel>) -> Vec<String> {
    let mut said = Vec::new();
    if let Some(kernel) = kernel {
        if kernel.end_trial().is_some() {
            said.push(
                "repaired: a trial of a change that was cut off went on, and was ended".to_owned(),
            );
        }
        match kernel.reclaim() {
            Ok(slots) if slots.is_empty() => {}
            Ok(slots) => said.push(format!(
                "repaired: {} that nothing led to held rows, and was emptied",
                plural(slots.len(), "slot")
            )),
            Err(error) => said.push(format!(
                "slots that nothing leads to could not be emptied: {:#}",
                anyhow::Error::from(error)
            )),
        }
    }
    let mut left = Vec::new();
    for top in [&context.state, &context.run] {
        half_written(top, &mut left);
    }
    for path in left {
        said.push(match files::remove(&path) {
            Ok(()) => format!("repaired: {} was left by a write that was cut off", path.display()),
            Err(error) => format!("{} could not be removed: {error}", path.display()),
        });
    }
    said
}

/// Files that were written under another name and did not get theirs, some time ago: what is newer may
/// be somebody's who writes right now.
fn half_written(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(about) = entry.metadata() else { continue };
        let path = entry.path();
        if about.is_dir() {
            half_written(&path, found);
        } else if files::is_fresh_name(&path) && about.modified().is_ok_and(is_old) {
            found.push(path);
        }
    }
}

/// A time to come is that of a clock that was set.
fn is_old(written: SystemTime) -> bool {
    written.elapsed().map_or(true, |age| age > IN_THE_WORKS)
}

/// Nobody writes a file for so long.
const IN_THE_WORKS: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::files::tests::Scratch;

    #[test]
    fn only_what_was_half_written_some_time_ago_is_cleared_away() {
        let scratch = Scratch::new();
        let make = |name: &str, age: u64| {
            let path = scratch.0.join(name);
            fs::create_dir_all(path.parent().expect("a directory")).unwrap();
            let file = File::create(&path).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
            path
        };
        let (old, deep) = (make("floors.json.new", 100), make("sets/1.json.new", 100));
        let (recent, whole) = (make("posture.json.new", 1), make("posture.json", 100));
        let mut found = Vec::new();
        half_written(&scratch.0, &mut found);
        found.sort();
        assert_eq!(found, [old, deep]);
        assert!(recent.exists() && whole.exists());
    }
}
