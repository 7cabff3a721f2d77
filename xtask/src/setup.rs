// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What this machine lacks, installed where that is possible and named where it is not.
//!
//! Looks for the tools themselves, not for packages: a tool from elsewhere is as good, and a second run costs nothing.

use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::command::{find, output, program};
use crate::dist::libraries;
use crate::talk::Step;

/// A package of Debian and Ubuntu, and how to see that what it brings is there.
struct Need {
    package: &'static str,
    seen_by: SeenBy,
}

enum SeenBy {
    /// A program that can be started.
    Program(&'static str),
    /// A program that needs no library beside it: guests have none.
    Static(&'static str),
    /// A file in a directory for libraries: this one, or with this begin and a version.
    Library(&'static str),
    /// A file.
    File(&'static str),
    /// A module of Python.
    Module(&'static str),
}

use SeenBy::{File, Library, Module, Program, Static};

const NEEDS: [Need; 24] = [
    // What the programs for the kernel are made with.
    Need { package: "clang", seen_by: Program("clang") },
    Need { package: "llvm", seen_by: Program("llvm-strip") },
    Need { package: "clang-format", seen_by: Program("clang-format") },
    Need { package: LIBCLANG, seen_by: Library("libclang") },
    // What the loader is linked with.
    Need { package: "gcc", seen_by: Program("gcc") },
    Need { package: "g++", seen_by: Program("c++") }, // libFuzzer
    Need { package: "libc6-dev", seen_by: Library("libc.a") },
    Need { package: "make", seen_by: Program("make") },
    Need { package: "pkg-config", seen_by: Program("pkg-config") },
    Need { package: "libelf-dev", seen_by: Library("libelf.a") },
    Need { package: "zlib1g-dev", seen_by: Library("libz.a") },
    // What guests are made of.
    Need { package: "qemu-system-x86", seen_by: Program("qemu-system-x86_64") },
    Need { package: "busybox-static", seen_by: Static("busybox") },
    Need { package: "kmod", seen_by: Program("depmod") },
    Need { package: "zstd", seen_by: Program("zstd") },
    Need { package: "xz-utils", seen_by: Program("xz") },
    Need { package: "e2fsprogs", seen_by: Program("mkfs.ext4") },
    Need { package: "xfsprogs", seen_by: Program("mkfs.xfs") },
    Need { package: "btrfs-progs", seen_by: Program("mkfs.btrfs") },
    Need { package: "util-linux", seen_by: Program("setpriv") },
    Need { package: "systemd", seen_by: File("/lib/systemd/systemd") },
    // What reads our output and is not ours.
    Need { package: "python3-venv", seen_by: Module("ensurepip") },
    // What checks envelopes that is not ours.
    Need { package: "python3-pip", seen_by: Program("pip3") },
    Need {
        package: "debian-archive-keyring",
        seen_by: File("/usr/share/keyrings/debian-archive-keyring.gpg"),
    },
];

/// Installed under a name with a number, which differs from release to release.
const LIBCLANG: &str = "libclang1";

/// Installs what is missing; says nothing if that is nothing.
pub(crate) fn ensure() -> anyhow::Result<()> {
    let missing: Vec<&str> =
        NEEDS.iter().filter(|need| !need.seen_by.is_there()).map(|need| need.package).collect();
    if missing.is_empty() {
        return libraries().map(|_| ());
    }
    if find("apt-get").is_none() {
        bail!(
            "failed to find {} on this machine\nhint: install what brings them (these are Debian's names)",
            missing.join(", ")
        );
    }
    let step = Step::begin(format!("installing {}", missing.join(", ")));
    let result = install(&missing);
    step.end(if result.is_ok() { "" } else { "failed" });
    result?;
    let still: Vec<&str> =
        NEEDS.iter().filter(|need| !need.seen_by.is_there()).map(|need| need.package).collect();
    if !still.is_empty() {
        bail!("failed to find what {} should have installed", still.join(", "));
    }
    libraries().map(|_| ())
}

fn install(missing: &[&str]) -> anyhow::Result<()> {
    output(as_root().args(["apt-get", "update"]))?;
    let mut packages: Vec<String> = missing.iter().map(|&package| package.to_owned()).collect();
    for package in &mut packages {
        if package == LIBCLANG {
            *package = newest_libclang()?;
        }
    }
    let mut command = as_root();
    command.args(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "--yes"]);
    command.args(["--no-install-recommends", "-o", "DPkg::Lock::Timeout=120"]).args(&packages);
    output(&mut command).map(|_| ())
}

/// The library that fits the compiler, else the newest.
fn newest_libclang() -> anyhow::Result<String> {
    let names = output(program("apt-cache").args(["pkgnames", LIBCLANG]))?;
    let number = |name: &str| name.strip_prefix("libclang1-")?.parse::<u32>().ok();
    let newest = names.lines().filter_map(number).max();
    match newest {
        Some(newest) => Ok(format!("libclang1-{newest}")),
        None => bail!("failed to find a package {LIBCLANG}-NN in the machine's apt sources"),
    }
}

fn as_root() -> std::process::Command {
    let is_root = output(program("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    if is_root { program("env") } else { program("sudo") }
}

impl SeenBy {
    fn is_there(&self) -> bool {
        match self {
            Program(name) => find(name).is_some(),
            Static(name) => find(name).is_some_and(|program| is_static(&program)),
            File(path) => Path::new(path).exists(),
            Module(name) => find("python3").is_some_and(|python| {
                output(program(python).args(["-c", &format!("import {name}")])).is_ok()
            }),
            Library(begin) => library_directories().iter().any(|directory| has(directory, begin)),
        }
    }
}

/// The first directory that holds a library, for those who link with it.
pub(crate) fn library_directory(name: &str) -> Option<PathBuf> {
    library_directories().into_iter().find(|directory| directory.join(name).is_file())
}

fn library_directories() -> Vec<PathBuf> {
    let mut directories: Vec<PathBuf> =
        ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib"].map(PathBuf::from).into();
    if let Ok(entries) = std::fs::read_dir("/usr/lib") {
        let llvm = entries
            .flatten()
            .filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"llvm"));
        directories.extend(llvm.map(|entry| entry.path().join("lib")));
    }
    directories
}

/// A program that needs libraries names its loader near its begin.
fn is_static(program: &Path) -> bool {
    let Ok(bytes) = std::fs::read(program) else { return false };
    !bytes.windows(9).take(4096).any(|part| part == b"/ld-linux")
}

fn has(directory: &Path, begin: &str) -> bool {
    let Ok(entries) = std::fs::read_dir(directory) else { return false };
    let fits = |name: &[u8]| match name.strip_prefix(begin.as_bytes()) {
        Some([]) | Some([b'.', b's', b'o', ..]) => true,
        Some([b'-', digit, ..]) => digit.is_ascii_digit(),
        _ => false,
    };
    entries.flatten().any(|entry| fits(entry.file_name().as_encoded_bytes()))
}
