// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A process of our own binary that may hang on a disk: what it says is waited for as long as it is worth it,
//! and then it is left behind. It ends when the disk lets it; a thread that hangs would keep us from ending.

use std::{
    ffi::OsStr,
    io::Read as _,
    process::{ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

/// Has a hidden verb done, with these flags and arguments; the JSON that it answers. `place` is what it may hang on.
///
/// # Errors
/// If it does not answer in time.
pub(crate) fn ask(
    arguments: &[&OsStr],
    place: &str,
    patience: Duration,
) -> anyhow::Result<Vec<u8>> {
    // Whatever this binary is called, and even if a newer one has taken its place.
    let mut child = Command::new("/proc/self/exe")
        .arg("--json")
        .args(arguments)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // Left behind, it must hold nothing that whoever started us waits for.
        .stderr(Stdio::null())
        .spawn()
        .context("failed to start a process of our own")?;
    let stdout = child.stdout.take().context("failed to hear a process of our own")?;
    match hear(stdout, place, patience) {
        Ok(said) => {
            child.wait().context("failed to wait for a process of our own")?;
            Ok(said)
        }
        Err(error) => {
            // What hangs on a disk ends when the disk lets it.
            drop(child.kill());
            Err(error)
        }
    }
}

/// Everything that is said until the end.
fn hear(mut from: ChildStdout, place: &str, patience: Duration) -> anyhow::Result<Vec<u8>> {
    let deadline = Instant::now() + patience;
    let mut said = Vec::new();
    loop {
        let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now()))
            .context("failed to tell the time")?;
        match poll(&mut [PollFd::new(&from, PollFlags::IN)], Some(&left)) {
            Ok(0) => anyhow::bail!("{place} does not answer within {} s", patience.as_secs()),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error).context("failed to wait for a process of our own"),
        }
        let mut piece = [0; 4096];
        let size = from.read(&mut piece).context("failed to hear a process of our own")?;
        if size == 0 {
            return Ok(said);
        }
        said.extend(piece.iter().take(size));
    }
}
