// SPDX-License-Identifier: Apache-2.0 OR MIT
//! This host, as policies ask about it: what stands at a path, as the kernel sees it.
//!
//! A child (`looker`) touches the paths, and can be left behind; what it touches, the kernel tells us,
//! by a program that listens to the child alone and is attached before it looks. Whoever asks waits
//! until the deadline and not longer.

use std::{
    fmt,
    io::{Read as _, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use aegis_abi::Resolved;
use aegis_kernel::Resolver;
use aegis_policy::{Component, Found, Host, HostError, Kind, escape};
use anyhow::Context as _;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::FileType,
    io::Errno,
};

use crate::{
    cgroups::unescape,
    failure::Refusal,
    looker::{Number, Question, Reply},
};

/// A host that answers through a child, or not in time.
#[derive(Debug)]
pub(crate) struct ThisHost {
    resolver: Resolver,
    child: Option<Child>,
    questions: ChildStdin,
    replies: ChildStdout,
    /// What was read of the child's replies and not yet understood.
    read: Vec<u8>,
    patience: Duration,
    deadline: Instant,
    /// Once there was no answer, there is none any more.
    hung: Option<NoAnswer>,
}

/// There was no answer in time, and about what.
#[derive(Clone, Debug)]
pub(crate) struct NoAnswer {
    path: Vec<u8>,
    patience: Duration,
}

impl ThisHost {
    /// Starts the child. Each answer may take this long: many objects on a busy machine are no hang.
    pub(crate) fn new(patience: Duration) -> anyhow::Result<Self> {
        Self::with(None, patience)
    }

    /// The same with a resolver that is attached already, if there is one.
    pub(crate) fn with(attached: Option<Resolver>, patience: Duration) -> anyhow::Result<Self> {
        if let Some(path) = still_stuck() {
            return Err(NoAnswer { path, patience: Duration::ZERO }.into());
        }
        // Whatever this binary is called, and even if a newer one has taken its place.
        let mut child = Command::new("/proc/self/exe")
            .arg("__look")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Left behind, it must hold nothing that whoever started us waits for.
            .stderr(Stdio::null())
            .spawn()
            .context("failed to start the process that looks at paths")?;
        let ends = child.stdin.take().zip(child.stdout.take());
        let (questions, replies) = ends.context("failed to talk to what looks at paths")?;
        let resolver = match attached.map_or_else(Resolver::new, Ok) {
            Ok(resolver) => resolver,
            Err(error) => {
                end(child);
                return Err(error).context("failed to attach the resolver");
            }
        };
        let thread = child.id();
        let mut host = Self {
            resolver,
            child: Some(child),
            questions,
            replies,
            read: Vec::new(),
            patience,
            deadline: Instant::now() + patience,
            hung: None,
        };
        host.begin(thread).map_err(|error| anyhow::anyhow!(error))?;
        Ok(host)
    }

    /// What a process that begins asks the kernel for is no answer to a question of ours.
    fn begin(&mut self, thread: u32) -> Result<(), Failed> {
        self.ask(&Question::Ready)?;
        match self.reply(b"/")? {
            Reply::Ready => {}
            _ => return Err(OUT_OF_STEP.into()),
        }
        self.resolver.listen_to(thread);
        Ok(())
    }

    /// About what there was no answer, if so.
    pub(crate) fn hung(&self) -> Option<&NoAnswer> {
        self.hung.as_ref()
    }

    fn ask(&mut self, question: &Question) -> Result<(), Failed> {
        if let Some(hung) = &self.hung {
            return Err(hung.clone().into());
        }
        self.resolver.forget();
        self.deadline = Instant::now() + self.patience;
        let mut line = serde_json::to_vec(question)?;
        line.push(b'\n');
        // The child reads a question before it looks, and is asked one at a time: this cannot wait.
        self.questions.write_all(&line)?;
        Ok(())
    }

    /// The child's next reply about a path.
    fn reply(&mut self, path: &[u8]) -> Result<Reply, Failed> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return Ok(serde_json::from_slice(&line)?);
            }
            let left = self.deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left)?;
            match poll(&mut [PollFd::new(&self.replies, PollFlags::IN)], Some(&left)) {
                Ok(0) => return Err(self.give_up(path)),
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            let mut piece = [0; 65536];
            let size = self.replies.read(&mut piece)?;
            if size == 0 {
                return Err("the process that looks at paths has ended".into());
            }
            self.read.extend(piece.iter().take(size));
        }
    }

    /// Leaves the child behind: it ends when the kernel lets go of it.
    fn give_up(&mut self, path: &[u8]) -> Failed {
        let hung = NoAnswer { path: path.to_vec(), patience: self.patience };
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            let mut stuck = STUCK.lock().unwrap_or_else(PoisonError::into_inner);
            *stuck = Some((child, path.to_vec()));
        }
        self.hung = Some(hung.clone());
        hung.into()
    }

    fn try_look(&mut self, path: &[u8]) -> Result<Found, Failed> {
        self.ask(&Question::Look(path.to_vec()))?;
        match self.reply(path)? {
            Reply::Absent => Ok(Found::Absent),
            Reply::Link(target) => Ok(Found::Link(target)),
            Reply::There => Ok(Found::There(component(&self.resolver.answer()?))),
            Reply::Failed(number) => Err(Errno::from_raw_os_error(number).into()),
            Reply::Ready | Reply::Linked(_) | Reply::NoMore => Err(OUT_OF_STEP.into()),
        }
    }

    /// What stands at a path, with all that the kernel says of it; `None` if it is a link, or nothing does.
    pub(crate) fn stands(&mut self, path: &[u8]) -> Result<Option<Resolved>, HostError> {
        match self.try_look(path).map_err(HostError)? {
            Found::There(_) => {
                self.resolver.answer().map(Some).map_err(|error| HostError(Box::new(error)))
            }
            Found::Absent | Found::Link(_) => Ok(None),
        }
    }

    /// Whether a number still stands for the same file, or it cannot be told.
    pub(crate) fn has(&mut self, number: Number) -> Result<bool, HostError> {
        let top = number.top.clone();
        let reply = self.ask(&Question::Number(number)).and_then(|()| self.reply(&top));
        match reply.map_err(HostError)? {
            Reply::There => Ok(true),
            Reply::Absent => Ok(false),
            Reply::Failed(number) => Err(HostError(Box::new(Errno::from_raw_os_error(number)))),
            Reply::Ready | Reply::Link(_) | Reply::Linked(_) | Reply::NoMore => {
                Err(HostError(OUT_OF_STEP.into()))
            }
        }
    }

    fn try_linked(&mut self, directory: &[u8]) -> Result<Vec<Vec<u8>>, Failed> {
        self.ask(&Question::Linked(directory.to_vec()))?;
        let mut paths = Vec::new();
        loop {
            match self.reply(directory)? {
                Reply::Linked(path) => paths.push(path),
                Reply::NoMore => return Ok(paths),
                Reply::Failed(number) => return Err(Errno::from_raw_os_error(number).into()),
                Reply::Ready | Reply::Absent | Reply::There | Reply::Link(_) => {
                    return Err(OUT_OF_STEP.into());
                }
            }
        }
    }
}

impl Host for ThisHost {
    fn look(&mut self, path: &[u8]) -> Result<Found, HostError> {
        self.try_look(path).map_err(HostError)
    }

    fn mounts(&mut self) -> Result<Vec<Vec<u8>>, HostError> {
        let mounts = mounts().map_err(|error| HostError(Box::new(error)))?;
        Ok(mounts.into_iter().map(|mount| mount.path).collect())
    }

    fn linked(&mut self, directory: &[u8]) -> Result<Vec<Vec<u8>>, HostError> {
        self.try_linked(directory).map_err(HostError)
    }

    fn filesystems(&mut self) -> Result<Vec<u32>, HostError> {
        let mounts = mounts().map_err(|error| HostError(Box::new(error)))?;
        Ok(mounts.into_iter().map(|mount| mount.device).collect())
    }
}

impl Drop for ThisHost {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            end(child);
        }
    }
}

impl NoAnswer {
    /// For a command that cannot go on without.
    pub(crate) fn refusal(&self, whose: &str) -> Refusal {
        Refusal::new("NO_ANSWER", format!("{whose}{self}; nothing was changed")).hint(self.fix())
    }

    /// What an operator can do.
    pub(crate) fn fix(&self) -> String {
        let all = mounts().unwrap_or_default();
        let on = all.iter().filter(|mount| is_beneath(&self.path, &mount.path));
        match on.max_by_key(|mount| mount.path.len()) {
            Some(mount) => format!(
                "mend or unmount the {} at {}, name other objects, or wait longer with \
                 --resolve-within",
                escape(&mount.kind),
                escape(&mount.path)
            ),
            None => "mend what serves this path, or name other objects".to_owned(),
        }
    }
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = escape(&self.path);
        match self.patience.as_secs() {
            0 => write!(f, "an earlier question about {path} has no answer yet"),
            seconds => {
                write!(f, "no answer within {seconds} s, the last question was about {path}")
            }
        }
    }
}

impl std::error::Error for NoAnswer {}

/// What is mounted where, in our mount namespace, which is the host's: anything else is a blocker.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mounted {
    pub(crate) path: Vec<u8>,
    /// What mount(8) calls the filesystem.
    pub(crate) kind: Vec<u8>,
    /// `s_dev`, as the kernel itself has it: on btrfs and overlayfs as well.
    pub(crate) device: u32,
}

/// Everything that is mounted.
pub(crate) fn mounts() -> std::io::Result<Vec<Mounted>> {
    Ok(std::fs::read("/proc/self/mountinfo")?
        .split(|byte| *byte == b'\n')
        .filter_map(mounted)
        .collect())
}

/// The third and the fifth field of a line of mountinfo, and the first after the dash.
fn mounted(line: &[u8]) -> Option<Mounted> {
    let mut fields = line.split(|byte| *byte == b' ');
    let device = std::str::from_utf8(fields.nth(2)?).ok()?;
    let (major, minor) = device.split_once(':')?;
    let path = unescape(fields.nth(1)?);
    let kind = fields.skip_while(|field| *field != b"-").nth(1).unwrap_or_default();
    let device = major.parse::<u32>().ok()? << 20 | minor.parse::<u32>().ok()?;
    Some(Mounted { path, kind: kind.to_vec(), device })
}

fn is_beneath(path: &[u8], top: &[u8]) -> bool {
    let below = path.strip_prefix(top.strip_suffix(b"/").unwrap_or(top));
    below.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

fn component(resolved: &Resolved) -> Component {
    Component {
        key: resolved.key,
        kind: match FileType::from_raw_mode(resolved.mode) {
            FileType::Directory => Kind::Directory,
            FileType::RegularFile => Kind::File,
            _ => Kind::Other,
        },
        case_insensitive: resolved.i_flags & S_CASEFOLD != 0,
        magic: resolved.magic,
    }
}

/// Ends a child that waits for nothing but us.
fn end(mut child: Child) {
    drop(child.kill());
    drop(child.wait());
}

/// Nobody can end a process that waits in the kernel for a server that never answers. One of ours that
/// does is enough: while it is there, no other is started.
static STUCK: Mutex<Option<(Child, Vec<u8>)>> = Mutex::new(None);

fn still_stuck() -> Option<Vec<u8>> {
    let mut stuck = STUCK.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((child, _)) = stuck.as_mut()
        && !matches!(child.try_wait(), Ok(None))
    {
        *stuck = None;
    }
    stuck.as_ref().map(|(_, path)| path.clone())
}

/// Whether both are one file: device and inode, as stat(2) tells.
pub(crate) fn is_same_file(one: &Path, other: &Path) -> bool {
    let (one, other) = (rustix::fs::stat(one), rustix::fs::stat(other));
    one.is_ok_and(|one| {
        other.is_ok_and(|other| (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
    })
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

const OUT_OF_STEP: &str = "the process that looks at paths answers something else";

/// `S_CASEFOLD` of `<linux/fs.h>`, the same since it came with 5.2.
const S_CASEFOLD: u32 = 1 << 15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_is_read_as_it_is_named() {
        let line = b"23 22 259:6 / /a\\040b\\134c rw shared:1 - tmpfs t rw";
        let (path, kind) = (b"/a b\\c".to_vec(), b"tmpfs".to_vec());
        assert_eq!(mounted(line), Some(Mounted { path, kind, device: 259 << 20 | 6 }));
        assert_eq!(mounted(b""), None);
    }

    #[test]
    fn a_path_is_beneath_a_directory_and_not_beside_it() {
        assert!(is_beneath(b"/a/b", b"/a") && is_beneath(b"/a", b"/a") && is_beneath(b"/a", b"/"));
        assert!(!is_beneath(b"/ab", b"/a"));
    }
}
