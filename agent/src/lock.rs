// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One command at a time. A lock is on an open file, so it ends with the process, however that ends.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    time::Duration,
};

use anyhow::Context as _;
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use serde::{Deserialize, Serialize};

use crate::{failure::Refusal, time};

/// A lock that is held until this is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// Who holds a lock, as its file tells.
#[derive(Debug, Deserialize, Serialize)]
struct Holder {
    pid: u32,
    command: String,
    since: String,
}

impl Lock {
    /// Takes the lock, or is refused at once with who has it.
    pub(crate) fn take(path: &Path, command: &str) -> anyhow::Result<Self> {
        match Self::try_take(path, command)? {
            Some(lock) => Ok(lock),
            None => Err(busy(path).into()),
        }
    }

    /// Takes the lock as soon as nobody has it; `None` if that takes more than ten seconds.
    pub(crate) fn wait(path: &Path, command: &str) -> anyhow::Result<Option<Self>> {
        for _ in 0..TURNS {
            if let Some(lock) = Self::try_take(path, command)? {
                return Ok(Some(lock));
            }
            std::thread::sleep(PAUSE);
        }
        Ok(None)
    }

    /// Takes the lock if nobody has it.
    pub(crate) fn try_take(path: &Path, command: &str) -> anyhow::Result<Option<Self>> {
        let failed = || format!("failed to lock {}", path.display());
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(path)
                .with_context(failed)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(error).with_context(failed),
            }
            // Whoever had it may have removed the file: then this lock is on nothing.
            if is_at(&file, path) {
                write_holder(&file, command).with_context(failed)?;
                return Ok(Some(Self { _file: file }));
            }
        }
    }
}

/// Whether a path still leads to an open file.
fn is_at(file: &File, path: &Path) -> bool {
    let (ours, there) = (file.metadata(), fs::metadata(path));
    ours.is_ok_and(|ours| {
        there.is_ok_and(|there| (ours.dev(), ours.ino()) == (there.dev(), there.ino()))
    })
}

fn write_holder(mut file: &File, command: &str) -> anyhow::Result<()> {
    let holder = Holder {
        pid: std::process::id(),
        command: command.to_owned(),
        since: time::written(time::now()),
    };
    file.set_len(0)?;
    file.write_all(serde_json::to_string(&holder)?.as_bytes())?;
    Ok(())
}

fn busy(path: &Path) -> Refusal {
    let holder = fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let who = holder.map_or_else(
        || "another process".to_owned(),
        |Holder { pid, command, since }| format!("`aegisbpf {command}`, pid {pid}, since {since}"),
    );
    Refusal::new("LOCKED", format!("another command is changing policies: {who}"))
        .hint("wait until it has ended, then do this again")
}

/// Ten seconds.
const TURNS: u32 = 500;
const PAUSE: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tests::Scratch;

    #[test]
    fn the_second_is_told_who_is_first() {
        let scratch = Scratch::new();
        let path = scratch.0.join("lock");
        let first = Lock::take(&path, "apply").unwrap();
        let error = Lock::take(&path, "remove").unwrap_err().to_string();
        assert!(error.contains("`aegisbpf apply`"), "{error}");
        assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
        drop(first);
        assert!(Lock::take(&path, "remove").is_ok());
    }

    #[test]
    fn a_lock_on_a_removed_file_keeps_nobody_out() {
        let scratch = Scratch::new();
        let path = scratch.0.join("lock");
        let first = Lock::take(&path, "detach").unwrap();
        fs::remove_file(&path).unwrap();
        let second = Lock::take(&path, "apply").unwrap();
        drop(first);
        assert!(Lock::try_take(&path, "apply").unwrap().is_none());
        drop(second);
    }

    #[test]
    fn a_file_that_was_removed_meanwhile_is_no_lock() {
        let scratch = Scratch::new();
        let path = scratch.0.join("lock");
        let file = File::create(&path).unwrap();
        assert!(is_at(&file, &path));
        fs::remove_file(&path).unwrap();
        assert!(!is_at(&file, &path));
        fs::write(&path, "").unwrap();
        assert!(!is_at(&file, &path));
    }
}
