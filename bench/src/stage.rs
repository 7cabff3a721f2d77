// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The stage: two filesystems of the same kind, files at many depths, cgroups, policies.
//!
//! Paths on both filesystems are equally long, so that looking them up costs the same.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use anyhow::Context as _;
use rustix::mount::{MountFlags, mount};

/// No policy has an object here.
pub(crate) const BARE: &str = "/plain";
/// All objects are here.
pub(crate) const RULED: &str = "/ruled";
/// The cgroup that policies name, and one that they do not.
pub(crate) const INSIDE: &str = "/sys/fs/cgroup/cost.inside";
pub(crate) const OUTSIDE: &str = "/sys/fs/cgroup/cost.outside";
/// Denied as soon as any policy of ours is in force.
pub(crate) const WITNESS: &str = "/ruled/witness";
/// A file on the filesystem that the two others are mounted on.
pub(crate) const ABOVE: &str = "/above";

/// Directories that hold one chain of directories each, and are told apart by their rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chain {
    /// No rule on anything in it.
    Free,
    /// Its deepest directory also holds an object: names are bound all the way down.
    Beside,
    /// All of it is an object.
    Denied,
}

impl Chain {
    const ALL: [Self; 3] = [Self::Free, Self::Beside, Self::Denied];

    const fn letter(self) -> char {
        match self {
            Self::Free => 'a',
            Self::Beside => 'b',
            Self::Denied => 'c',
        }
    }
}

/// The path of a file with `depth` directories above it, the one that `filesystem` is mounted on first.
pub(crate) fn path(filesystem: &str, chain: Chain, depth: u32, file: &str) -> String {
    let mut path = format!("{filesystem}/{}", chain.letter());
    for level in 3..=depth {
        path.push_str(&format!("/{level}"));
    }
    path.push('/');
    path.push_str(file);
    path
}

/// The depths that are measured.
pub(crate) const DEPTHS: [u32; 5] = [2, 7, 8, 9, 32];
/// Where [`Chain::Beside`] has its object.
const BESIDE: u32 = 9;

/// Makes all of it but the policies.
pub(crate) fn build() -> anyhow::Result<()> {
    for filesystem in [BARE, RULED] {
        fs::create_dir_all(filesystem)
            .with_context(|| format!("failed to make the directory {filesystem}"))?;
        mount(c"tmpfs", filesystem, c"tmpfs", MountFlags::empty(), c"size=75%")
            .with_context(|| format!("failed to mount a tmpfs on {filesystem}"))?;
        for chain in Chain::ALL {
            for depth in DEPTHS {
                write(&path(filesystem, chain, depth, "file"), b"content")?;
                let program = path(filesystem, chain, depth, "exec");
                write(&program, PROGRAM)?;
                fs::set_permissions(&program, fs::Permissions::from_mode(0o755))
                    .with_context(|| format!("failed to make {program} a program"))?;
            }
        }
    }
    write(&beside(), b"content")?;
    write(ABOVE, b"content")?;
    write(WITNESS, b"content")?;
    for cgroup in [INSIDE, OUTSIDE] {
        fs::create_dir_all(cgroup).with_context(|| format!("failed to make {cgroup}"))?;
    }
    Ok(())
}

/// An object in the deepest directory of [`Chain::Beside`].
pub(crate) fn beside() -> String {
    path(RULED, Chain::Beside, BESIDE, "secret")
}

/// Writes a policy with this many objects, `also` among them, all of them there; says where it is.
pub(crate) fn policy(version: u32, objects: u32, also: &[String]) -> anyhow::Result<String> {
    let mut list = vec![WITNESS.to_owned(), format!("{RULED}/{}/", Chain::Denied.letter())];
    list.extend_from_slice(also);
    for number in (0..objects).skip(list.len()) {
        let path = format!("{RULED}/{:02}/{:03}", number / 1_000, number % 1_000);
        write(&path, b"")?;
        list.push(path);
    }
    let objects = list.iter().map(|path| format!("  \"{path}\",\n")).collect::<String>();
    let text = format!(
        "schema = 1\nname = \"cost\"\nversion = {version}\n\
         [workloads.inside]\ncgroups = [\"/cost.inside\"]\n\
         [[rules]]\nid = \"witness\"\nworkloads = [\"inside\"]\naction = \"deny\"\n\
         reason = \"to be measured\"\nobjects = [\n{objects}]\n"
    );
    let file = format!("/root/cost-{version}.toml");
    write(&file, text.as_bytes())?;
    Ok(file)
}

/// Moves so many new files out of the denied directory: each takes its label along.
pub(crate) fn leave(files: u32) -> anyhow::Result<()> {
    for number in 0..files {
        let from = format!("{RULED}/{}/leaves", Chain::Denied.letter());
        let to = format!("{RULED}/left/{number:04}");
        write(&from, b"content")?;
        let failed = || format!("failed to move {from} to {to}");
        fs::create_dir_all(format!("{RULED}/left")).with_context(failed)?;
        fs::rename(&from, &to).with_context(failed)?;
    }
    Ok(())
}

fn write(path: &str, content: &[u8]) -> anyhow::Result<()> {
    let failed = || format!("failed to write {path}");
    if let Some(parent) = Path::new(path).parent() {
        fs::create_dir_all(parent).with_context(failed)?;
    }
    fs::write(path, content).with_context(failed)
}

/// A whole program for x86-64: `exit(0)`, so that starting it is nearly all that it costs.
const PROGRAM: &[u8] = &[
    0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, // 64 bits, little endian
    2, 0, 0x3e, 0, 1, 0, 0, 0, // executable, x86-64
    0x78, 0, 0x40, 0, 0, 0, 0, 0, // begins at 0x400078
    0x40, 0, 0, 0, 0, 0, 0, 0, // its one segment is described behind this header
    0, 0, 0, 0, 0, 0, 0, 0, // no sections
    0, 0, 0, 0, 0x40, 0, 0x38, 0, 1, 0, 0x40, 0, 0, 0, 0, 0, //
    1, 0, 0, 0, 5, 0, 0, 0, // to be loaded, readable and executable
    0, 0, 0, 0, 0, 0, 0, 0, // from the begin of the file
    0, 0, 0x40, 0, 0, 0, 0, 0, // to 0x400000
    0, 0, 0x40, 0, 0, 0, 0, 0, //
    0x81, 0, 0, 0, 0, 0, 0, 0, // all of it
    0x81, 0, 0, 0, 0, 0, 0, 0, //
    0, 0x10, 0, 0, 0, 0, 0, 0, // by pages
    0xb8, 0x3c, 0, 0, 0, // mov eax, 60
    0x31, 0xff, // xor edi, edi
    0x0f, 0x05, // syscall
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_as_many_directories_as_its_depth() {
        for depth in DEPTHS {
            let path = path(RULED, Chain::Free, depth, "file");
            assert_eq!(path.matches('/').count() - 1, depth as usize, "{path}");
        }
    }

    #[test]
    fn the_program_is_as_long_as_it_says() {
        assert_eq!(PROGRAM.len(), 0x81);
    }
}
