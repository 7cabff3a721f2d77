// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One thing that a process may try, and what came of it.
//!
//! An operation is a line of words, so that a test can have it done by itself and by the probe. Only
//! its last step can be refused; whatever fails before is "could not try", never an answer.

use std::{
    fmt, fs,
    fs::File,
    io::{self, Read as _},
    os::{
        fd::AsRawFd as _,
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Mutex, OnceLock,
        mpsc::{Receiver, Sender, channel},
    },
};

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::{change::change_by, mounting::mount_by, routes};

pub use crate::{change::*, mounting::*};

/// What to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    words: Vec<Vec<u8>>,
    /// The access that a denial names.
    pub access: &'static str,
}

/// How a file is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// For reading.
    Read,
    /// For writing, so that the file changes.
    SharedWrite,
    /// To be run.
    Exec,
    /// For reading, and then made fit to be run by mprotect.
    LateExec,
}

/// What came of it, as the process itself saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tried {
    /// It was done.
    Allowed,
    /// The kernel said no, with this error number.
    Refused(i32),
    /// It did not come to the step that asks.
    CouldNotTry(String),
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed => f.write_str("allowed"),
            Self::Refused(number) => {
                write!(f, "refused: {}", io::Error::from_raw_os_error(*number))
            }
            Self::CouldNotTry(why) => write!(f, "could not be tried: {why}"),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.words.iter().map(|word| word.escape_ascii().to_string());
        f.write_str(&words.collect::<Vec<_>>().join(" "))
    }
}

/// Opening for reading.
pub fn read(path: impl AsRef<Path>) -> Operation {
    open(path, OFlags::RDONLY)
}

/// Opening for writing.
pub fn write(path: impl AsRef<Path>) -> Operation {
    open(path, OFlags::WRONLY)
}

/// Opening with these flags.
pub fn open(path: impl AsRef<Path>, flags: OFlags) -> Operation {
    let access = access_of(flags);
    with("open", access, &[flags.bits().to_string().as_bytes(), bytes(path.as_ref())])
}

/// Listing a directory.
pub fn list(path: impl AsRef<Path>) -> Operation {
    open(path, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// openat2 with these restrictions, for reading.
pub fn openat2(path: impl AsRef<Path>, resolve: ResolveFlags) -> Operation {
    with("openat2", "read", &[resolve.bits().to_string().as_bytes(), bytes(path.as_ref())])
}

/// openat of io_uring, on a thread of the kernel, for reading.
pub fn io_uring(path: impl AsRef<Path>) -> Operation {
    with("io_uring", "read", &[bytes(path.as_ref())])
}

/// open_by_handle_at, for reading.
pub fn by_handle(path: impl AsRef<Path>) -> Operation {
    with("by_handle", "read", &[bytes(path.as_ref())])
}

/// O_PATH, which is no access, and then opening what it holds by /proc/self/fd.
pub fn reopen(path: impl AsRef<Path>) -> Operation {
    with("reopen", "read", &[bytes(path.as_ref())])
}

/// Going into a directory, and opening from there for reading.
pub fn relative(directory: impl AsRef<Path>, path: impl AsRef<Path>) -> Operation {
    with("relative", "read", &[bytes(directory.as_ref()), bytes(path.as_ref())])
}

/// Opening for reading in another thread of the process, which is made once and stays.
pub fn in_thread(path: impl AsRef<Path>) -> Operation {
    with("in_thread", "read", &[bytes(path.as_ref())])
}

/// Running a program, by execve.
pub fn run(path: impl AsRef<Path>) -> Operation {
    with("run", "exec", &[bytes(path.as_ref())])
}

/// execve in this process of what has no program in it: the kernel opens it to be run, and finds that out.
pub fn run_nothing(path: impl AsRef<Path>) -> Operation {
    with("run_nothing", "exec", &[bytes(path.as_ref())])
}

/// Running a program by a descriptor of it, by execveat.
pub fn run_descriptor(path: impl AsRef<Path>) -> Operation {
    with("run_descriptor", "exec", &[bytes(path.as_ref())])
}

/// Opening for reading so many times; refused only if every time is, and allowed only likewise.
pub fn read_times(path: impl AsRef<Path>, times: usize) -> Operation {
    with("read_times", "read", &[times.to_string().as_bytes(), bytes(path.as_ref())])
}

/// Keeping a descriptor of a file open from now on, with these flags.
pub fn hold(path: impl AsRef<Path>, flags: OFlags) -> Operation {
    with("hold", access_of(flags), &[flags.bits().to_string().as_bytes(), bytes(path.as_ref())])
}

/// Remembering a file's handle from now on.
pub fn hold_handle(path: impl AsRef<Path>) -> Operation {
    with("hold_handle", "", &[bytes(path.as_ref())])
}

/// open_by_handle_at of a handle that [`hold_handle`] remembers, for reading.
pub fn by_held_handle(path: impl AsRef<Path>) -> Operation {
    with("by_held_handle", "read", &[bytes(path.as_ref())])
}

/// Mapping a file: by the descriptor that [`hold`] keeps, else by one that is opened for it.
pub fn map(path: impl AsRef<Path>, mapping: Mapping) -> Operation {
    let access = match mapping {
        Mapping::Read => "read",
        Mapping::SharedWrite => "write",
        Mapping::Exec | Mapping::LateExec => "exec",
    };
    with("map", access, &[(mapping as u32).to_string().as_bytes(), bytes(path.as_ref())])
}

/// stat, access(2), readlink of /proc/self/fd, and O_PATH: what is never covered.
pub fn look(path: impl AsRef<Path>) -> Operation {
    with("look", "", &[bytes(path.as_ref())])
}

/// Going into a cgroup, by its directory.
pub fn join(cgroup: impl AsRef<Path>) -> Operation {
    with("join", "", &[bytes(cgroup.as_ref())])
}

/// Making a chain of directories, each in the one before, and a file at its end; opening that for reading.
pub fn deep(top: impl AsRef<Path>, levels: usize) -> Operation {
    with("deep", "read", &[bytes(top.as_ref()), levels.to_string().as_bytes()])
}

impl Operation {
    /// The same, where another of its accesses is the one that is denied.
    #[must_use]
    pub fn denied_for(mut self, access: &'static str) -> Self {
        self.access = access;
        self
    }

    /// As one line.
    pub fn line(&self) -> String {
        let words = self.words.iter().map(|word| word.iter().map(|byte| format!("{byte:02x}")));
        words.map(Iterator::collect).collect::<Vec<String>>().join(" ")
    }

    /// From a line.
    pub fn from_line(line: &str) -> Self {
        let byte = |pair: &[u8]| {
            let digits = std::str::from_utf8(pair).expect("a line is ASCII");
            u8::from_str_radix(digits, 16).expect("two hexadecimal digits")
        };
        let words = line.trim_end().split(' ');
        let words = words.map(|word| word.as_bytes().chunks(2).map(byte).collect()).collect();
        Self { words, access: "" }
    }

    /// Tries it in this process.
    pub fn perform(&self) -> Tried {
        Tried::of(self.attempt().map(drop))
    }

    /// Tries it in this process, and takes back what it changed.
    pub fn try_out(&self) -> Tried {
        Tried::of(self.attempt().and_then(|undo| before(undo())))
    }

    fn attempt(&self) -> Result<Undo, Failure> {
        let verb = self.words.first().map(Vec::as_slice).unwrap_or_default();
        if let Some(changed) = change_by(verb, self) {
            return changed;
        }
        mount_by(verb, self).unwrap_or_else(|| self.open(verb)).map(|()| nothing())
    }

    fn open(&self, verb: &[u8]) -> Result<(), Failure> {
        match verb {
            b"open" => open_file(&self.path(2), OFlags::from_bits_retain(self.number(1))).map(drop),
            b"openat2" => {
                let resolve = ResolveFlags::from_bits_retain(self.number(1).into());
                let root = before(rustix::fs::open("/", OFlags::PATH, Mode::empty()))?;
                let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                rustix::fs::openat2(&root, self.path(2), flags, Mode::empty(), resolve)
                    .map(drop)
                    .map_err(|error| Failure::Refused(error.raw_os_error()))
            }
            b"io_uring" => routes::open_by_io_uring(&self.path(1)),
            b"by_handle" => {
                routes::hold_handle(self.path(1))?;
                routes::open_handle(&self.path(1), &OFlags::RDONLY).map(drop)
            }
            b"reopen" => {
                let held = before(rustix::fs::open(self.path(1), OFlags::PATH, Mode::empty()))?;
                let again = PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()));
                open_file(&again, OFlags::RDONLY).map(drop)
            }
            b"relative" => {
                before(std::env::set_current_dir(self.path(1)))?;
                let opened = open_file(&self.path(2), OFlags::RDONLY).map(drop);
                before(std::env::set_current_dir("/"))?;
                opened
            }
            b"in_thread" => in_other_thread(self.path(1)),
            b"run" => {
                let mut command = Command::new(self.path(1));
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                command.status().map(drop).map_err(Failure::of)
            }
            b"run_nothing" => routes::run_nothing(&self.path(1)),
            b"run_descriptor" => routes::run_descriptor(&self.path(1)),
            b"read_times" => read_all_times(&self.path(2), self.number(1)),
            b"hold" => {
                let flags = OFlags::from_bits_retain(self.number(1));
                open_file(&self.path(2), flags).and_then(|file| routes::hold(self.path(2), file))
            }
            b"hold_handle" => routes::hold_handle(self.path(1)),
            b"by_held_handle" => routes::open_handle(&self.path(1), &OFlags::RDONLY).map(drop),
            b"map" => routes::map(&self.path(2), self.number(1)),
            b"look" => look_at(&self.path(1)),
            b"join" => before(fs::write(self.path(1).join("cgroup.procs"), "0")),
            b"deep" => {
                let (top, levels) = (self.path(1), self.number(2));
                let directory = before(deep_directory(&top, levels))?;
                let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                rustix::fs::openat(&directory, "file", flags, Mode::empty())
                    .map(drop)
                    .map_err(|error| Failure::Refused(error.raw_os_error()))
            }
            other => Err(Failure::Before(format!("unknown operation {}", other.escape_ascii()))),
        }
    }

    pub(crate) fn path(&self, index: usize) -> PathBuf {
        let word = self.words.get(index).cloned().unwrap_or_default();
        PathBuf::from(std::ffi::OsString::from_vec(word))
    }

    fn number(&self, index: usize) -> u32 {
        let word = self.words.get(index).map(Vec::as_slice).unwrap_or_default();
        std::str::from_utf8(word).ok().and_then(|word| word.parse().ok()).expect("a number")
    }
}

impl Tried {
    fn of(result: Result<(), Failure>) -> Self {
        match result {
            Ok(()) => Self::Allowed,
            Err(Failure::Refused(number)) => Self::Refused(number),
            Err(Failure::Before(why)) => Self::CouldNotTry(why),
        }
    }
}

/// How an operation is taken back.
pub(crate) type Undo = Box<dyn FnOnce() -> io::Result<()>>;

/// Of an operation that changes nothing, or what tests want to last.
pub(crate) fn nothing() -> Undo {
    Box::new(|| Ok(()))
}

/// Why an operation did not end well.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The step that asks was refused.
    Refused(i32),
    /// Something before it failed.
    Before(String),
}

impl Failure {
    pub(crate) fn of(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(number) => Self::Refused(number),
            None => Self::Before(error.to_string()),
        }
    }
}

/// A step that is only made so that the next can be tried.
pub(crate) fn before<T, E: fmt::Display>(result: Result<T, E>) -> Result<T, Failure> {
    result.map_err(|error| Failure::Before(error.to_string()))
}

/// Makes what is missing of `levels` directories called `d` and a file in the last; longer than a path can be.
pub fn deep_directory(top: &Path, levels: u32) -> rustix::io::Result<std::os::fd::OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut directory = rustix::fs::open(top, flags, Mode::empty())?;
    for _ in 0..levels {
        match rustix::fs::mkdirat(&directory, "d", Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        directory = rustix::fs::openat(&directory, "d", flags, Mode::empty())?;
    }
    match rustix::fs::statat(&directory, "file", rustix::fs::AtFlags::empty()) {
        Ok(_) => {}
        Err(_) => {
            let create = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
            rustix::fs::openat(&directory, "file", create, Mode::from_raw_mode(0o644))?;
        }
    }
    Ok(directory)
}

fn open_file(path: &Path, flags: OFlags) -> Result<File, Failure> {
    let flags = flags | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::from_raw_mode(0o644));
    let mut file = File::from(opened.map_err(|error| Failure::Refused(error.raw_os_error()))?);
    let no_content = flags.intersects(OFlags::DIRECTORY | OFlags::PATH);
    if flags.bits() & O_ACCMODE == OFlags::RDONLY.bits() && !no_content {
        // A descriptor that cannot be read would be no access. Directories answer EISDIR.
        let mut byte = [0];
        match file.read(&mut byte) {
            Err(error) if error.kind() != io::ErrorKind::IsADirectory => {
                return Err(Failure::of(error));
            }
            _ => {}
        }
    }
    Ok(file)
}

/// What another thread's opens came to.
type Answers = Receiver<Result<(), Failure>>;

fn in_other_thread(path: PathBuf) -> Result<(), Failure> {
    static THREAD: OnceLock<Mutex<(Sender<PathBuf>, Answers)>> = OnceLock::new();
    let thread = THREAD.get_or_init(|| {
        let (orders, paths) = channel::<PathBuf>();
        let (answer, answers) = channel();
        std::thread::spawn(move || {
            for path in paths {
                drop(answer.send(open_file(&path, OFlags::RDONLY).map(drop)));
            }
        });
        Mutex::new((orders, answers))
    });
    let thread = before(thread.lock())?;
    before(thread.0.send(path))?;
    before(thread.1.recv())?
}

fn look_at(path: &Path) -> Result<(), Failure> {
    let refused = |error: rustix::io::Errno| Failure::Refused(error.raw_os_error());
    rustix::fs::stat(path).map_err(refused)?;
    rustix::fs::access(path, rustix::fs::Access::READ_OK).map_err(refused)?;
    let held = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let held = held.map_err(refused)?;
    let link = format!("/proc/self/fd/{}", held.as_raw_fd());
    rustix::fs::readlink(link, Vec::new()).map(drop).map_err(refused)
}

fn read_all_times(path: &Path, times: u32) -> Result<(), Failure> {
    let mut refused = 0;
    let mut last = Ok(());
    for _ in 0..times {
        last = open_file(path, OFlags::RDONLY).map(drop);
        refused += u32::from(matches!(last, Err(Failure::Refused(_))));
    }
    if refused == 0 || refused == times {
        return last;
    }
    Err(Failure::Before(format!("{refused} of {times} opens were refused")))
}

fn access_of(flags: OFlags) -> &'static str {
    let mode = flags.bits() & O_ACCMODE;
    if mode == OFlags::WRONLY.bits() { "write" } else { "read" }
}

pub(crate) fn with(verb: &str, access: &'static str, words: &[&[u8]]) -> Operation {
    let mut all = vec![verb.as_bytes().to_vec()];
    all.extend(words.iter().map(|word| word.to_vec()));
    Operation { words: all, access }
}

pub(crate) fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

/// Which accesses flags ask for; 3 is neither reading nor writing.
pub const O_ACCMODE: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_survives_its_line() {
        let operation = read(Path::new(std::ffi::OsStr::from_bytes(b"/a b\n\xff")));
        assert_eq!(Operation::from_line(&operation.line()).words, operation.words);
    }

    #[test]
    fn what_fails_before_the_last_step_is_no_refusal() {
        assert_eq!(read("/no/such/file").perform(), Tried::Refused(2));
        assert!(matches!(reopen("/no/such/file").perform(), Tried::CouldNotTry(_)));
        assert!(matches!(Operation::from_line("00").perform(), Tried::CouldNotTry(_)));
    }

    #[test]
    fn what_is_tried_out_leaves_everything_as_it_was() {
        let top = std::env::temp_dir().join(format!("aegis-operation-{}", std::process::id()));
        fs::create_dir_all(top.join("empty")).unwrap();
        let [one, other, new] = ["one", "other", "new"].map(|name| top.join(name));
        for (path, content) in [(&one, "1"), (&other, "content")] {
            fs::write(path, content).unwrap();
        }
        let operations = [
            rename(&one, &new),
            rename(&one, &other),
            exchange(&one, &other),
            link(&one, &new),
            link_descriptor(&one, &new),
            unlink(&other),
            rmdir(top.join("empty")),
            mkdir(&new),
            mknod(&new),
            symlink("one", &new),
            create(&new),
            copy_to(&one, &new),
        ];
        for operation in operations {
            let operation = Operation::from_line(&operation.line());
            assert_eq!(operation.try_out(), Tried::Allowed, "{operation}");
            let mut left: Vec<_> = fs::read_dir(&top).unwrap().flatten().collect();
            left.sort_by_key(fs::DirEntry::file_name);
            let left: Vec<_> = left.iter().map(fs::DirEntry::file_name).collect();
            assert_eq!(left, ["empty", "one", "other"], "{operation}");
            let content = [&one, &other].map(|path| fs::read_to_string(path).unwrap());
            assert_eq!(content, ["1", "content"], "{operation}");
        }
        assert_eq!(rename(&one, &new).perform(), Tried::Allowed);
        assert!(new.exists() && !one.exists(), "what is performed lasts");
        fs::remove_dir_all(top).unwrap();
    }
}
