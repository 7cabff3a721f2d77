// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A guest: one of the kernels in QEMU, with what a host has mounted, running one command.
//!
//! Three serial lines keep apart what the kernel says, what the command says, and how it ended. A guest that does not
//! report an end, or whose kernel complains of itself, has failed whatever its command printed.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::accel::Accel;
use crate::command::{find, program, target, tool};
use crate::disk::Disk;
use crate::initramfs::Initramfs;
use crate::kernels::Kernel;
use crate::systemd;

/// A guest to be booted.
#[derive(Debug)]
pub(crate) struct Guest<'a> {
    kernel: &'a Kernel,
    command_line: Vec<String>,
    own_lsm_default: bool,
    disks: Vec<Disk>,
    files: Vec<(PathBuf, String)>,
    texts: Vec<(String, u32, String)>,
    environment: Vec<(String, String)>,
    accel: Accel,
    memory: u32,
    timeout: Duration,
}

/// How a guest ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The command's exit status; none if the guest never reported one.
    pub(crate) status: Option<i32>,
    /// What the command wrote, unless it was passed on as it came.
    pub(crate) output: Vec<u8>,
    /// Lines in which the kernel complains of itself.
    pub(crate) complaints: Vec<String>,
    /// What the kernel's console said.
    pub(crate) console: String,
    /// From the start of QEMU to the first report of the guest.
    pub(crate) boot: Option<Duration>,
    /// From the start of QEMU to its end.
    pub(crate) total: Duration,
    /// Why the guest was stopped from outside, if it was.
    pub(crate) stopped: Option<String>,
}

/// Where the command's output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Show {
    /// Into [`Outcome::output`] only.
    Nothing,
    /// To our stdout as it comes, and into the outcome.
    Live,
    /// The command has our terminal.
    Terminal,
}

impl<'a> Guest<'a> {
    /// A guest with two processors, 2 GiB, and nothing but the scratch disk on /data.
    pub(crate) fn new(kernel: &'a Kernel, accel: Accel) -> Self {
        Self {
            kernel,
            command_line: Vec::new(),
            own_lsm_default: false,
            disks: vec![Disk::Ext4],
            files: Vec::new(),
            texts: Vec::new(),
            environment: Vec::new(),
            accel,
            memory: 2048,
            timeout: Duration::from_secs(600),
        }
    }

    /// Leaves `lsm=` to the kernel, even where its default lacks `bpf`.
    pub(crate) fn own_lsm_default(mut self) -> Self {
        self.own_lsm_default = true;
        self
    }

    /// More for the kernel's command line; a later word wins over an earlier one.
    pub(crate) fn command_line(mut self, words: &str) -> Self {
        self.command_line.push(words.to_owned());
        self
    }

    /// One more disk, mounted under its name.
    pub(crate) fn disk(mut self, disk: Disk) -> Self {
        if !self.disks.contains(&disk) {
            self.disks.push(disk);
        }
        self
    }

    /// A file or directory of this machine.
    pub(crate) fn put(mut self, from: impl Into<PathBuf>, to: impl Into<String>) -> Self {
        self.files.push((from.into(), to.into()));
        self
    }

    /// A file with this text.
    pub(crate) fn text(mut self, path: &str, mode: u32, text: &str) -> Self {
        self.texts.push((path.to_owned(), mode, text.to_owned()));
        self
    }

    /// This machine's systemd is the guest's first process, and runs the command.
    pub(crate) fn systemd(mut self) -> anyhow::Result<Self> {
        for file in systemd::files()? {
            let place = file.display().to_string();
            self = self.put(file, place);
        }
        Ok(self
            .text("/guest/systemd", 0o644, systemd::PROGRAM)
            .text("/etc/machine-id", 0o444, systemd::MACHINE_ID)
            .text("/etc/systemd/system/guest.service", 0o644, systemd::COMMAND)
            .command_line("systemd.unit=guest.service systemd.show_status=no"))
    }

    /// A variable of the command's environment.
    pub(crate) fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// How long it may run, boot included.
    pub(crate) fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Its memory in MiB.
    pub(crate) fn memory(mut self, memory: u32) -> Self {
        self.memory = memory;
        self
    }

    /// Boots it, runs the command (one word: a line for the shell; none: a shell) and waits for its end.
    pub(crate) fn run(&self, command: &[String], show: Show) -> anyhow::Result<Outcome> {
        let scratch = Scratch::make()?;
        let initramfs = self.initramfs(command, show)?;
        let file = |name: &str| scratch.0.join(name);
        fs::write(file("initramfs"), initramfs)
            .context("failed to write a guest's initial ramdisk")?;
        let mut qemu = self.qemu(&scratch.0, show)?;
        let _turn = Turn::wait();
        let since = Instant::now();
        let child = qemu.spawn().context("failed to start QEMU")?;
        let mut running = Running(child);
        let reader = running
            .0
            .stdout
            .take()
            .map(|pipe| std::thread::spawn(move || collect(pipe, show == Show::Live)));
        let mut boot = None;
        let mut stopped = None;
        let finished = loop {
            if let Some(status) = running.0.try_wait().context("failed to wait for QEMU")? {
                break Some(status);
            }
            if boot.is_none() && read(&file("report")).contains("guest: up") {
                boot = Some(since.elapsed());
            }
            let limit = if boot.is_none() { BOOT.min(self.timeout) } else { self.timeout };
            if show != Show::Terminal && since.elapsed() > limit {
                let what = if boot.is_none() { "did not come up" } else { "did not end" };
                stopped = Some(format!("the guest {what} within {} s", limit.as_secs()));
                break None;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        drop(running);
        let total = since.elapsed();
        let output = reader.and_then(|reader| reader.join().ok()).unwrap_or_default();
        let report = read(&file("report"));
        let console = read(&file("console"));
        if let Some(status) = finished.filter(|status| !status.success()) {
            let said = read(&file("qemu"));
            stopped = Some(format!("QEMU ended with {status}: {}", said.trim()));
        }
        Ok(Outcome {
            status: report.lines().find_map(|line| line.strip_prefix("guest: exit ")?.parse().ok()),
            output,
            complaints: complaints(&console, &report),
            console,
            boot,
            total,
            stopped,
        })
    }

    fn initramfs(&self, command: &[String], show: Show) -> anyhow::Result<Vec<u8>> {
        let mut archive = Initramfs::default();
        let busybox = find("busybox").context("failed to find busybox\nhint: cargo xtask setup")?;
        archive.copy(&busybox, "/bin/busybox")?;
        archive.link("/bin/sh", "busybox")?;
        archive.file("/init", 0o755, include_bytes!("../guest/init"))?;
        archive.file("/guest/start", 0o755, include_bytes!("../guest/start"))?;
        archive.file("/guest/end", 0o755, include_bytes!("../guest/end"))?;
        archive.file("/etc/passwd", 0o644, PASSWD.as_bytes())?;
        archive.file("/etc/group", 0o644, GROUP.as_bytes())?;
        archive.directory("/usr/bin")?;
        archive.directory("/sbin")?;
        archive.link("/sbin/modprobe", "/bin/busybox")?;
        archive.copy(&self.kernel.directory.join("lib/modules"), "/lib/modules")?;
        for disk in &self.disks {
            archive.file(
                &format!("/guest/disk.{}", disk.mounted_at()),
                0o644,
                disk.name().as_bytes(),
            )?;
        }
        for (from, to) in &self.files {
            archive.copy(from, to)?;
        }
        for (path, mode, text) in &self.texts {
            archive.file(path, *mode, text.as_bytes())?;
        }
        let environment: String = self
            .environment
            .iter()
            .map(|(name, value)| format!("export {name}={}\n", quote(value)))
            .collect();
        archive.file("/guest/environment", 0o644, environment.as_bytes())?;
        if show == Show::Terminal {
            archive.file("/guest/interactive", 0o644, b"")?;
        }
        archive.file("/guest/command", 0o755, script(command).as_bytes())?;
        archive.finish()
    }

    fn qemu(&self, scratch: &Path, show: Show) -> anyhow::Result<std::process::Command> {
        // Dies with us even if we are killed.
        let mut qemu = match find("setpriv") {
            Some(setpriv) => {
                let mut command = program(setpriv);
                command.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
                command
            }
            None => tool("qemu-system-x86_64"),
        };
        qemu.args([
            "-M",
            "q35",
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
        ]);
        qemu.args(self.accel.arguments()).args(["-m", &self.memory.to_string()]);
        let file = |name: &str| format!("file:{}", scratch.join(name).display());
        qemu.args(["-serial", &file("console")]);
        qemu.args(["-chardev", "stdio,id=command,signal=off", "-serial", "chardev:command"]);
        qemu.args(["-serial", &file("report")]);
        for disk in &self.disks {
            let (image, name) = (disk.image(self.kernel)?, disk.mounted_at());
            let image = image.display().to_string().replace(',', ",,");
            qemu.args([
                "-drive",
                &format!("file={image},format=raw,if=none,id={name},snapshot=on"),
                "-device",
                &format!("virtio-blk-pci,drive={name},serial={name}"),
            ]);
        }
        qemu.arg("-kernel").arg(self.kernel.directory.join("vmlinuz"));
        qemu.arg("-initrd").arg(scratch.join("initramfs"));
        qemu.args(["-append", &self.kernel_command_line()]);
        // Copies of the disks that guests write to.
        qemu.env("TMPDIR", scratch);
        let errors = fs::File::create(scratch.join("qemu"))
            .context("failed to write below target/guests")?;
        qemu.stderr(errors);
        if show == Show::Terminal {
            qemu.stdin(Stdio::inherit());
        } else {
            qemu.stdout(Stdio::piped());
        }
        Ok(qemu)
    }

    /// Warnings of the kernel reach its console, and a panic ends QEMU.
    fn kernel_command_line(&self) -> String {
        let mut words = vec!["console=ttyS0 panic=-1 loglevel=5".to_owned()];
        words.push(self.accel.command_line().to_owned());
        if let Some(lsm) = self.kernel.series.lsm.as_deref().filter(|_| !self.own_lsm_default) {
            words.push(format!("lsm={lsm}"));
        }
        words.extend(self.command_line.iter().cloned());
        words.join(" ")
    }
}

impl Outcome {
    /// What is wrong with the guest itself, whatever its command answered.
    pub(crate) fn check(&self) -> anyhow::Result<i32> {
        let console = || last_lines(&self.console);
        if let Some(why) = &self.stopped {
            bail!("{why}; the end of its console:\n{}", console());
        }
        if !self.complaints.is_empty() {
            bail!(
                "the guest's kernel complains of itself:\n{}\n{}",
                self.complaints.join("\n"),
                console()
            );
        }
        self.status.with_context(|| {
            format!("the guest ended without a report; the end of its console:\n{}", console())
        })
    }
}

/// One processor's worth of emulation each: two finish in three quarters of the time that one after the other takes, and of
/// three some come too late to what they must do in time.
pub(crate) const AT_ONCE: usize = 2;
const BOOT: Duration = Duration::from_secs(120);
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n";
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\n";
/// How a kernel begins to speak of its own faults.
const COMPLAINTS: [&str; 9] = [
    "Kernel panic",
    "Oops",
    "BUG:",
    "WARNING:",
    "general protection fault",
    "kernel BUG at",
    "INFO: rcu",
    "soft lockup",
    "UBSAN:",
];

fn complaints(console: &str, report: &str) -> Vec<String> {
    let of_console =
        console.lines().filter(|line| COMPLAINTS.iter().any(|complaint| line.contains(complaint)));
    let of_guest = report
        .lines()
        .filter(|line| line.starts_with("guest: tainted") || line.ends_with("cannot be mounted"));
    of_console.chain(of_guest).map(str::to_owned).collect()
}

fn last_lines(console: &str) -> String {
    let lines: Vec<&str> = console.lines().collect();
    let last = lines.get(lines.len().saturating_sub(40)..).unwrap_or_default().join("\n");
    last.chars().filter(|letter| *letter == '\n' || !letter.is_control()).collect()
}

fn collect(mut pipe: impl std::io::Read, live: bool) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = pipe.read(&mut buffer) {
        let part = buffer.get(..read).unwrap_or_default();
        if live {
            crate::talk::pass_on(part);
        }
        all.extend_from_slice(part);
    }
    all
}

fn read(file: &Path) -> String {
    let mut bytes = Vec::new();
    if let Ok(mut file) = fs::File::open(file) {
        drop(file.read_to_end(&mut bytes));
    }
    String::from_utf8_lossy(&bytes).replace('\r', "")
}

/// The command as a script: exactly these words, or one word as a line for the shell.
fn script(command: &[String]) -> String {
    let exec = match command {
        [] => "exec sh -l".to_owned(),
        [line] => line.clone(),
        words => {
            format!("exec {}", words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" "))
        }
    };
    format!("#!/bin/sh\n{exec}\n")
}

fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A directory for one boot, removed at its end.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Scratch {
    fn make() -> anyhow::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self::remove_left_behind();
        let path = target("guests").join(format!("{}-{number}", std::process::id()));
        fs::create_dir_all(&path)
            .with_context(|| format!("failed to create {}", path.display()))?;
        Ok(Self(path))
    }

    /// Those of commands that were killed.
    fn remove_left_behind() {
        for entry in fs::read_dir(target("guests")).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some((process, _)) = name.split_once('-') else { continue };
            let is_process = process.bytes().all(|byte| byte.is_ascii_digit());
            if is_process && !Path::new("/proc").join(process).exists() {
                drop(fs::remove_dir_all(entry.path()));
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// One of the guests that run at once, as long as this lives.
#[derive(Debug)]
struct Turn;

/// Guests that run, and whoever waits for the end of one.
static RUNNING: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

impl Turn {
    /// Waits until there is one.
    fn wait() -> Self {
        let running = RUNNING.0.lock().unwrap_or_else(PoisonError::into_inner);
        let running = RUNNING.1.wait_while(running, |running| *running >= AT_ONCE);
        *running.unwrap_or_else(PoisonError::into_inner) += 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *RUNNING.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        RUNNING.1.notify_one();
    }
}

/// QEMU, which does not outlive the wait for it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_guest_as_they_are() {
        let words = ["echo".to_owned(), "it's $HOME".to_owned()];
        assert_eq!(script(&words), "#!/bin/sh\nexec 'echo' 'it'\\''s $HOME'\n");
        assert_eq!(script(&["a | b".to_owned()]), "#!/bin/sh\na | b\n");
    }

    #[test]
    fn a_kernel_that_complains_is_heard() {
        let console = "[1.0] fine\n[2.0] WARNING: CPU: 0 PID: 1 at x.c:1\n";
        assert_eq!(complaints(console, "guest: up 1\nguest: exit 0\n").len(), 1);
        assert_eq!(complaints("", "guest: tainted 512\n").len(), 1);
        assert!(complaints("[1.0] fine\n", "guest: exit 0\n").is_empty());
    }
}
