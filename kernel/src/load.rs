// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Bytes of an object → programs in the kernel, with the reason when the kernel refuses.

use std::sync::{Mutex, PoisonError};

use libbpf_rs::{Object, ObjectBuilder, OpenObject, PrintLevel, set_print};

use crate::Error;

/// Opens and loads one of our objects; `fit` fits it to this kernel in between.
pub(crate) fn load(
    name: &'static str,
    bytes: &[u8],
    fit: impl FnOnce(&mut OpenObject) -> Result<(), Error>,
) -> Result<Object, Error> {
    set_print(Some((PrintLevel::Info, keep)));
    take_log();
    let refused = |source| Error::Refused { object: name, log: tail(&take_log()), source };
    let opened = ObjectBuilder::default().name(name).and_then(|it| it.open_memory(bytes));
    let loaded = opened.map_err(refused).and_then(|mut object| {
        fit(&mut object)?;
        object.load().map_err(refused)
    });
    set_print(None);
    loaded
}

/// What libbpf and the verifier wrote since the log was last taken.
static LOG: Mutex<String> = Mutex::new(String::new());

fn keep(_level: PrintLevel, message: String) {
    LOG.lock().unwrap_or_else(PoisonError::into_inner).push_str(&message);
}

fn take_log() -> String {
    std::mem::take(&mut *LOG.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The end of a log: the verifier writes its reason last, then libbpf its summary.
fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default().join("\n")
}

const LINES: usize = 24;
