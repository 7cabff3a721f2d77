// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The configuration of the guest.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

/// Where it is.
pub const FILE: &str = "/etc/aegisbpf/config.toml";

/// The configuration of this guest, until this is dropped.
#[derive(Debug)]
pub struct Written;

impl Written {
    /// Writes it.
    pub fn new(text: &str) -> Self {
        fs::create_dir_all(Path::new(FILE).parent().expect("a directory")).expect("a directory");
        fs::write(FILE, text).expect("a new file");
        fs::set_permissions(FILE, fs::Permissions::from_mode(0o644)).expect("a mode");
        Self
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        drop(fs::remove_file(FILE));
    }
}
