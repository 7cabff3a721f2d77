// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Compiles the decision natively, and collects the documents whose commands must exist.

use std::{env, fs, path::PathBuf};

fn main() {
    let tests = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let root = tests.join("..");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());

    cc::Build::new()
        .file(tests.join("shim/decide.c"))
        .include(root.join("abi/include"))
        .include(root.join("kernel/bpf"))
        .warnings_into_errors(true)
        // Only one program wants it, and says so itself.
        .cargo_metadata(false)
        .compile("aegis_decide");
    println!("cargo::rustc-link-search=native={}", out.display());
    for each in ["tests/shim", "abi/include", "kernel/bpf/decide.h"] {
        println!("cargo::rerun-if-changed={}", root.join(each).display());
    }

    let documents = list(&[root.clone(), root.join("docs")], "md");
    let policies = list(&[root.join("dist/policies")], "toml");
    let code = format!(
        "/// Every document, by its name.\npub const DOCUMENTS: &[(&str, &str)] = {documents};\n\
         /// Every policy that is shipped, by its name.\npub const POLICIES: &[(&str, &str)] = {policies};\n"
    );
    if let Err(error) = fs::write(out.join("documents.rs"), code) {
        println!("cargo::error=failed to write the list of documents: {error}");
    }
}

/// The files of directories with this extension, as code that includes them.
fn list(directories: &[PathBuf], extension: &str) -> String {
    let mut paths = Vec::new();
    for directory in directories {
        println!("cargo::rerun-if-changed={}", directory.display());
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let files = entries.map(|entry| entry.path());
        paths.extend(files.filter(|path| path.extension().is_some_and(|end| end == extension)));
    }
    paths.sort();
    let mut code = String::from("&[");
    for path in paths {
        let name = path.file_name().unwrap_or_default();
        code.push_str(&format!("({name:?}, include_str!({path:?})), "));
    }
    code + "]"
}
