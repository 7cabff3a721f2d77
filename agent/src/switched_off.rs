// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `aegisbpf=off` on the kernel command line: the way out for a host that does not come up, from its
//! boot loader. Nothing is put in force then; what looks, or takes something out, works.

use crate::failure::Refusal;

/// Whether this boot is to go without us.
pub(crate) fn holds() -> bool {
    std::fs::read_to_string("/proc/cmdline").is_ok_and(|line| says_off(&line))
}

/// Refuses what would put anything in force.
pub(crate) fn refuse() -> Result<(), Refusal> {
    if !holds() {
        return Ok(());
    }
    let message = "the kernel command line says aegisbpf=off: nothing is put in force in this boot";
    Err(Refusal::new("SWITCHED_OFF", message)
        .hint("start the host without that word to enforce again"))
}

/// The last word counts, as the kernel does with its own.
fn says_off(line: &str) -> bool {
    let mut said = line.split_ascii_whitespace().filter_map(|word| word.strip_prefix("aegisbpf="));
    said.next_back() == Some("off")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_word_and_the_last_of_them_counts() {
        assert!(says_off("quiet aegisbpf=off\n"));
        assert!(says_off("aegisbpf=on aegisbpf=off"));
        for on in ["", "aegisbpf=off aegisbpf=on", "xaegisbpf=off", "aegisbpf=offline"] {
            assert!(!says_off(on), "{on}");
        }
    }
}
