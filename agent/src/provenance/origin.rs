// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who writes an entry, when, and on which machine.

use aegis_trust::{Digest, provenance::Time};
use anyhow::Context as _;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::{state::hex, time};

/// What every entry of one command says of where it comes from.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) time: Time,
    pub(super) boot: Option<String>,
    pub(super) since_boot_ms: u64,
    pub(super) uid: u32,
    pub(super) login_uid: Option<u32>,
    pub(super) machine: Option<Digest>,
}

impl Origin {
    /// Of this process, now.
    pub(super) fn now() -> Self {
        Self {
            time: now(),
            boot: time::boot(),
            since_boot_ms: time::since_boot() / 1_000_000,
            uid: rustix::process::getuid().as_raw(),
            login_uid: login_uid(),
            machine: machine(),
        }
    }
}

impl Origin {
    /// Looks at the clocks again.
    pub(super) fn set_time(&mut self) {
        self.time = now();
        self.since_boot_ms = time::since_boot() / 1_000_000;
    }
}

/// The calendar's present moment.
pub(crate) fn now() -> Time {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Time::from_us(now.map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX)))
}

/// 128 random bits, written.
pub(super) fn new_instance() -> anyhow::Result<String> {
    let mut id = [0; 16];
    getrandom(&mut id, GetRandomFlags::empty()).context("failed to draw a random number")?;
    Ok(hex(&id))
}

/// Who logged in for this process, whoever it became; kernels without audit do not know.
pub(crate) fn login_uid() -> Option<u32> {
    let text = std::fs::read_to_string("/proc/self/loginuid").ok()?;
    text.trim().parse().ok().filter(|uid| *uid != u32::MAX)
}

/// Two copies of one disk have the same machine id; two virtual machines have two product ids. Hashed,
/// because a machine's id is nobody's business elsewhere.
fn machine() -> Option<Digest> {
    let read = |path| std::fs::read_to_string(path).map(|text| text.trim().to_owned()).ok();
    let ids = [read("/etc/machine-id"), read("/sys/class/dmi/id/product_uuid")];
    if ids.iter().all(Option::is_none) {
        return None;
    }
    let ids = ids.map(Option::unwrap_or_default);
    Some(Digest::of(format!("aegisbpf machine\n{}\n{}\n", ids[0], ids[1]).as_bytes()))
}
