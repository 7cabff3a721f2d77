// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tables in the documents that are made from tables in the code. Only tests look at this.

use std::{fs, path::Path};

/// Fails unless `docs/FILE` has `table` between its marks `<!-- NAME -->` and `<!-- end of NAME -->`.
/// With `AEGIS_WRITE_DOCS` in the environment it writes it there instead.
#[track_caller]
pub(crate) fn holds(file: &str, name: &str, table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(file);
    let text = fs::read_to_string(&path).unwrap();
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("\n<!-- end of {name} -->"));
    let (before, rest) = text.split_once(&begin).expect("the mark of the beginning");
    let (present, after) = rest.split_once(&end).expect("the mark of the end");
    if present != table && std::env::var_os("AEGIS_WRITE_DOCS").is_some() {
        fs::write(&path, format!("{before}{begin}{table}{end}{after}")).unwrap();
    } else {
        assert_eq!(present, table, "run with AEGIS_WRITE_DOCS=1 to write docs/{file}");
    }
}
