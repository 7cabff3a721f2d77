// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Files that are whole or not there: temp, sync, rename, sync of the directory.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;

/// Writes a file so that a reader, or a power cut, finds the old content or the new.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let failed = || format!("failed to write {}", path.display());
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    let written = write_new(&fresh, bytes).and_then(|()| fs::rename(&fresh, path));
    if let Err(error) = written {
        remove(&fresh).with_context(failed)?;
        return Err(error).with_context(failed);
    }
    sync_directory_of(path).with_context(failed)
}

/// Adds one line to a file, made if there is none, and waits until it is on disk.
pub(crate) fn append_line(path: &Path, line: &str) -> anyhow::Result<()> {
    let failed = || format!("failed to write to {}", path.display());
    let mut file =
        OpenOptions::new().append(true).create(true).mode(0o600).open(path).with_context(failed)?;
    let length = file.metadata().with_context(failed)?.len();
    let whole = file.write_all(format!("{line}\n").as_bytes()).and_then(|()| file.sync_data());
    if let Err(error) = whole {
        // A torn line would spoil the next one as well.
        file.set_len(length).with_context(failed)?;
        return Err(error).with_context(failed);
    }
    if length == 0 { sync_directory_of(path).with_context(failed) } else { Ok(()) }
}

/// Removes a file if it is there.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes a directory that only root reads, and those above it; the answer is the outermost one that
/// was made.
pub(crate) fn make_directory(path: &Path) -> anyhow::Result<Option<PathBuf>> {
    let missing = path.ancestors().take_while(|above| !above.exists()).last();
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("failed to make the directory {}", path.display()))?;
    Ok(missing.map(Path::to_owned))
}

/// A path from the root, with nothing looked up.
pub(crate) fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("failed to understand {}", path.display()))
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = path.parent().unwrap_or_else(|| Path::new("/"));
    File::open(directory)?.sync_all()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// A directory for one test, gone when the test ends.
    #[derive(Debug)]
    pub(crate) struct Scratch(pub(crate) PathBuf);

    impl Scratch {
        pub(crate) fn new() -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("aegisbpf-unit-{}-{count}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_content_and_nothing_else() {
        let scratch = Scratch::new();
        let path = scratch.0.join("file");
        write_whole(&path, b"old").unwrap();
        // A directory in the way of the temporary file is a failure that root meets as well.
        fs::create_dir(scratch.0.join("file.new")).unwrap();
        assert!(write_whole(&path, b"new").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }

    #[test]
    fn the_outermost_directory_that_was_made_is_known() {
        let scratch = Scratch::new();
        let inner = scratch.0.join("a/b/c");
        assert_eq!(make_directory(&inner).unwrap(), Some(scratch.0.join("a")));
        assert_eq!(make_directory(&inner).unwrap(), None);
    }
}
