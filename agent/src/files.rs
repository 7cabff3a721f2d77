// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Files that are whole or not there (temp, sync, rename, sync of the directory), and files that are
//! believed: what is checked is the file that was opened, never a name.

use std::{
    fmt,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use aegis_fault::{self as fault, Point};
use anyhow::Context as _;
use rustix::fs::OFlags;
use zeroize::Zeroize as _;

use crate::failure::Refusal;

/// What nobody but its owner may see. It has no way into a message.
pub(crate) struct Secret(Vec<u8>);

impl Secret {
    /// The bytes, for whoever needs them.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Reads a file that only root and we can have written: a regular one, no symbolic link, of at most
/// `most` bytes.
///
/// # Errors
/// A refusal `UNSAFE_FILE` that says what is wrong with the file and how to mend it; an error with
/// the cause `NotFound` if there is none.
pub(crate) fn read_trusted(path: &Path, most: u64) -> anyhow::Result<Vec<u8>> {
    read_checked(path, most, 0o022)
}

/// Reads a file that nobody but its owner (root, or us) can read.
///
/// # Errors
/// As [`read_trusted`].
pub(crate) fn read_secret(path: &Path, most: u64) -> anyhow::Result<Secret> {
    read_checked(path, most, 0o077).map(Secret)
}

/// Opens a directory that only root and we can change.
///
/// # Errors
/// As [`read_trusted`].
pub(crate) fn open_trusted_directory(path: &Path) -> anyhow::Result<File> {
    let file = open_no_link(path, OFlags::DIRECTORY)?;
    check_owner(path, &file, 0o022)?;
    Ok(file)
}

/// Whether something could not be read because it is not there.
pub(crate) fn is_missing(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn read_checked(path: &Path, most: u64, forbidden: u32) -> anyhow::Result<Vec<u8>> {
    let failed = || format!("failed to read {}", path.display());
    // A pipe in the place of a file must not be waited for.
    let file = open_no_link(path, OFlags::NONBLOCK)?;
    if !file.metadata().with_context(failed)?.is_file() {
        return Err(unsafe_file(path, "it is no regular file", "name a regular file").into());
    }
    check_owner(path, &file, forbidden)?;
    // At its size from the start: what is moved to a larger place leaves a copy behind.
    let size = file.metadata().with_context(failed)?.len().min(most).saturating_add(1);
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    file.take(most.saturating_add(1)).read_to_end(&mut bytes).with_context(failed)?;
    if u64::try_from(bytes.len()).is_ok_and(|size| size > most) {
        let what = format!("it has more than {most} bytes");
        return Err(unsafe_file(path, &what, "name the right file").into());
    }
    Ok(bytes)
}

fn open_no_link(path: &Path, flags: OFlags) -> anyhow::Result<File> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags | OFlags::RDONLY, rustix::fs::Mode::empty()) {
        Ok(opened) => Ok(opened.into()),
        Err(rustix::io::Errno::LOOP) => {
            Err(unsafe_file(path, "it is a symbolic link", "name the file itself").into())
        }
        Err(rustix::io::Errno::NOTDIR) if fs::symlink_metadata(path).is_ok() => {
            Err(unsafe_file(path, "it is no directory", "move it away").into())
        }
        Err(error) => Err(io::Error::from(error))
            .with_context(|| format!("failed to open {}", path.display())),
    }
}

fn check_owner(path: &Path, file: &File, forbidden: u32) -> anyhow::Result<()> {
    let found = file.metadata().with_context(|| format!("failed to look at {}", path.display()))?;
    let us = rustix::process::geteuid().as_raw();
    match wrong_owner(found.uid(), us).or_else(|| wrong_mode(found.mode(), forbidden)) {
        None => Ok(()),
        Some((what, fix)) => {
            Err(unsafe_file(path, &what, &format!("{fix} {}", path.display())).into())
        }
    }
}

fn wrong_owner(owner: u32, us: u32) -> Option<(String, &'static str)> {
    let wrong = owner != 0 && owner != us;
    wrong.then(|| (format!("it belongs to uid {owner}, who can change it"), "chown root"))
}

fn wrong_mode(mode: u32, forbidden: u32) -> Option<(String, &'static str)> {
    let too_much = mode & forbidden;
    let others = if too_much & 0o022 == 0 { "read" } else { "change" };
    let fix = if forbidden == 0o077 { "chmod go-rwx" } else { "chmod go-w" };
    let what = || format!("its mode {:04o} lets others {others} it", mode & 0o7777);
    (too_much != 0).then(|| (what(), fix))
}

fn unsafe_file(path: &Path, what: &str, fix: &str) -> Refusal {
    Refusal::new("UNSAFE_FILE", format!("{} is not used: {what}", path.display())).hint(fix)
}

/// Writes a file so that a reader, or a power cut, finds the old content or the new.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    write_with_mode(path, bytes, 0o600)
}

/// The same for a file that everybody may read.
pub(crate) fn write_whole_for_all(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    write_with_mode(path, bytes, 0o644)
}

fn write_with_mode(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let failed = || format!("failed to write {}", path.display());
    let mut fresh = path.as_os_str().to_owned();
    // Two that write the same at once must not write into one file.
    fresh.push(format!(".{}{FRESH}", std::process::id()));
    let fresh = PathBuf::from(fresh);
    let written = fault::step(Point::WriteBegun)
        .and_then(|()| write_new(&fresh, bytes, mode))
        .and_then(|()| fault::step(Point::WriteSynced))
        .and_then(|()| fs::rename(&fresh, path));
    if let Err(error) = written {
        remove(&fresh).with_context(failed)?;
        return Err(error).with_context(failed);
    }
    fault::step(Point::WriteRenamed).and_then(|()| sync_directory_of(path)).with_context(failed)
}

/// Whether this is what a file is called until its content is on disk.
pub(crate) fn is_fresh_name(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().ends_with(FRESH.as_bytes())
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

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    // What a killed command left there is taken away, whatever it is; nothing is followed or shared.
    remove(path)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Waits until a name in a directory is on disk.
pub(crate) fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = match path.parent() {
        None => Path::new("/"),
        Some(here) if here.as_os_str().is_empty() => Path::new("."),
        Some(directory) => directory,
    };
    File::open(directory)?.sync_all()
}

/// What the name of a file ends with until its content is on disk.
const FRESH: &str = ".new";

#[cfg(test)]
pub(crate) mod tests {
    use std::{
        os::unix::fs::PermissionsExt as _,
        sync::atomic::{AtomicU32, Ordering},
    };

    use super::*;
    use crate::failure::tell;

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
        fs::create_dir(scratch.0.join(format!("file.{}.new", std::process::id()))).unwrap();
        assert!(write_whole(&path, b"new").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }

    #[test]
    fn a_file_that_others_can_change_is_not_believed() {
        let scratch = Scratch::new();
        let path = scratch.0.join("file");
        fs::write(&path, "content").unwrap();
        let with_mode = |mode| {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let refused = |why: &str| {
            let told = tell(&read_trusted(&path, 100).unwrap_err());
            assert_eq!(told.code, "UNSAFE_FILE", "{}", told.message);
            assert!(told.message.contains(why), "{}", told.message);
        };
        with_mode(0o644);
        assert_eq!(read_trusted(&path, 7).unwrap(), b"content");
        assert!(read_trusted(&path, 6).unwrap_err().to_string().contains("more than 6 bytes"));
        with_mode(0o664);
        refused("lets others change it");
        with_mode(0o646);
        refused("lets others change it");
        with_mode(0o600);
        fs::rename(&path, scratch.0.join("real")).unwrap();
        std::os::unix::fs::symlink(scratch.0.join("real"), &path).unwrap();
        refused("symbolic link");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        refused("no regular file");
        fs::remove_dir(&path).unwrap();
        // A pipe that nobody writes to is not waited for.
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .unwrap();
        refused("no regular file");
        fs::remove_file(&path).unwrap();
        assert!(is_missing(&read_trusted(&path, 100).unwrap_err()));
    }

    #[test]
    fn a_file_of_somebody_else_is_not_believed() {
        assert_eq!(wrong_owner(0, 1000), None);
        assert_eq!(wrong_owner(1000, 1000), None);
        let (what, fix) = wrong_owner(1000, 0).expect("it is wrong");
        assert!(what.contains("belongs to uid 1000"), "{what}");
        assert_eq!(fix, "chown root");
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused_and_none_is_ever_shown() {
        let scratch = Scratch::new();
        let path = scratch.0.join("key");
        fs::write(&path, "hunter2").unwrap();
        for mode in [0o604, 0o640, 0o620, 0o611] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let told = tell(&read_secret(&path, 100).unwrap_err());
            assert_eq!(told.code, "UNSAFE_FILE", "{mode:o}");
            assert_eq!(told.hint, Some(format!("chmod go-rwx {}", path.display())));
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let secret = read_secret(&path, 100).unwrap();
        assert_eq!(secret.bytes(), b"hunter2");
        assert!(!format!("{secret:?}").contains("hunter2"));
    }

    #[test]
    fn the_outermost_directory_that_was_made_is_known() {
        let scratch = Scratch::new();
        let inner = scratch.0.join("a/b/c");
        assert_eq!(make_directory(&inner).unwrap(), Some(scratch.0.join("a")));
        assert_eq!(make_directory(&inner).unwrap(), None);
    }
}
