// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The hooks that programs of ours are attached to, and what differs between kernels.
//!
//! Whether a kernel has a hook, and which arguments it gives, is read from its own types (BTF) and
//! never guessed from its version.

use std::ffi::OsStr;

use aegis_abi::generated::aegis_arguments;
use libbpf_rs::{
    OpenObject,
    btf::{
        Btf, ReferencesType as _,
        types::{Enum, Func, FuncProto},
    },
};
use zerocopy::IntoBytes as _;

use crate::Error;

/// Every hook. A program of ours is called `aegis_HOOK`.
///
/// Those of [`FOR_WRITING`] are attached only while a generation has a rule on `write`, where that is
/// possible: a program on a hook costs every process that passes it.
pub(crate) const HOOKS: &[&str] = &[
    "file_open",
    "mmap_file",
    "file_mprotect",
    "inode_rename",
    "inode_link",
    "inode_unlink",
    "inode_rmdir",
    "inode_create",
    "inode_mkdir",
    "inode_mknod",
    "inode_symlink",
    "inode_follow_link",
    "inode_setattr",
    "inode_setxattr",
    "inode_removexattr",
    "inode_set_acl",
    "inode_remove_acl",
    "inode_free_security",
    "sb_mount",
    "move_mount",
    "sb_umount",
    "sb_pivotroot",
];

/// Hooks that decide `write`, and do nothing else.
pub(crate) const FOR_WRITING: &[&str] = &[
    "inode_create",
    "inode_mkdir",
    "inode_mknod",
    "inode_setattr",
    "inode_setxattr",
    "inode_removexattr",
    "inode_set_acl",
    "inode_remove_acl",
];

/// Hooks that came after 5.10, where something else is called in their place. All of them are
/// [`FOR_WRITING`].
pub(crate) const LATER: &[&str] = &["inode_set_acl", "inode_remove_acl"];

/// Those of [`HOOKS`] that are missing without harm on this kernel.
pub(crate) fn absent() -> Result<Vec<&'static str>, Error> {
    let kernel = kernel_types()?;
    Ok(LATER.iter().copied().filter(|hook| parameters(&kernel, hook).is_none()).collect())
}

/// Whether a program that was attached once can be attached again after it was taken off: since 5.13. It
/// is told by a kind of program that came right after.
pub(crate) fn can_come_and_go() -> Result<bool, Error> {
    let kernel = kernel_types()?;
    let kinds = kernel.type_by_name::<Enum<'_>>("bpf_prog_type");
    let name = OsStr::new("BPF_PROG_TYPE_SYSCALL");
    Ok(kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind.name == Some(name))))
}

/// Fits the programs to this kernel before they are loaded.
pub(crate) fn fit(object: &mut OpenObject) -> Result<(), Error> {
    let kernel = kernel_types()?;
    for mut program in object.progs_mut() {
        let later = LATER.iter().find(|hook| *program.name() == *format!("aegis_{hook}"));
        if let Some(hook) = later {
            program.set_autoload(parameters(&kernel, hook).is_some());
        }
    }
    let dentry_of = |hook: &'static str| {
        parameters(&kernel, hook)
            .and_then(|names| names.iter().position(|name| name == "dentry"))
            .and_then(|at| u32::try_from(at).ok())
            .ok_or(Error::OtherHook { hook })
    };
    let arguments = aegis_arguments {
        setattr_dentry: dentry_of("inode_setattr")?,
        setxattr_dentry: dentry_of("inode_setxattr")?,
        removexattr_dentry: dentry_of("inode_removexattr")?,
    };
    let section = ".rodata.arguments";
    object
        .maps_mut()
        .find(|map| map.name().to_string_lossy().ends_with(section))
        .ok_or_else(|| Error::OtherMap { map: section.to_owned(), what: "the object has none" })?
        .set_initial_value(arguments.as_bytes())
        .map_err(|source| Error::map("set", section, source))
}

fn kernel_types() -> Result<Btf<'static>, Error> {
    Btf::from_vmlinux().map_err(|source| Error::NoTypes { source })
}

/// The names of a hook's arguments; `None` if the kernel has no such hook.
fn parameters(kernel: &Btf<'_>, hook: &str) -> Option<Vec<String>> {
    let function = kernel.type_by_name::<Func<'_>>(&format!("bpf_lsm_{hook}"))?;
    let prototype = kernel.type_by_id::<FuncProto<'_>>(function.referenced_type_id())?;
    let name = |name: Option<&OsStr>| name.unwrap_or_default().to_string_lossy().into_owned();
    Some(prototype.iter().map(|parameter| name(parameter.name)).collect())
}
