// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Commands out of the documents, typed one after the other as an operator would.

use std::{
    fs,
    os::unix::fs::symlink,
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::{amnesia::forget_the_root, documents::DOCUMENTS, program::aegisbpf};

/// A directory in which an operator works.
#[derive(Debug)]
pub struct Desk {
    directory: PathBuf,
}

impl Desk {
    /// A new one, with `aegisbpf` on the path.
    pub fn new() -> Self {
        let directory = PathBuf::from(format!("/tmp/desk-{}", std::process::id()));
        fs::create_dir_all(directory.join("bin")).expect("a new directory");
        let program =
            std::env::var_os("AEGIS_BIN").expect("AEGIS_BIN names the program under test");
        symlink(program, directory.join("bin/aegisbpf")).expect("a link to the program");
        Self { directory }
    }

    /// A file on it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The same as text.
    pub fn file(&self, name: &str) -> String {
        self.path(name).to_str().expect("a name in UTF-8").to_owned()
    }

    /// Types the commands of the runbook with this heading; each must succeed. In a null run nothing is put in force.
    #[track_caller]
    pub fn follow(&self, document: &str, heading: &str) {
        for line in runbook(document, heading) {
            let mut line = line.replace("FINGERPRINT", &self.fingerprint_in(&line));
            if std::env::var_os("AEGIS_NULL").is_some() {
                line = line.replace("aegisbpf apply", "aegisbpf apply --dry-run");
            }
            let path = format!("{}:/bin:/sbin", self.file("bin"));
            let output = Command::new("/bin/sh")
                .args(["-ec", &line])
                .current_dir(&self.directory)
                .env("PATH", path)
                .stdin(Stdio::null())
                .output()
                .expect("a shell starts");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{document}, {heading}: {line}\n{said}");
        }
    }

    /// What somebody would read aloud of the root that a command installs.
    fn fingerprint_in(&self, line: &str) -> String {
        let Some((_, rest)) = line.split_once("trust install ") else { return String::new() };
        let file = rest.split_whitespace().next().unwrap_or_default();
        let shown = aegisbpf(&["trust", "show", &self.file(file)]).yes();
        shown["fingerprint"].as_str().expect("a fingerprint").to_owned()
    }
}

impl Default for Desk {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.directory));
        forget_the_root();
    }
}

/// The lines of the first block of code below a heading, comments left out.
fn runbook(document: &str, heading: &str) -> Vec<String> {
    let (_, text) = DOCUMENTS.iter().find(|(name, _)| *name == document).expect("the document");
    let below = text.lines().skip_while(|line| line.trim_start_matches('#').trim() != heading);
    let block = below.skip_while(|line| !line.starts_with("```")).skip(1);
    let lines: Vec<String> = block
        .take_while(|line| !line.starts_with("```"))
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    assert!(!lines.is_empty(), "{document} has commands below {heading:?}");
    lines
}
