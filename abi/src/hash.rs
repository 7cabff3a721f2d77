// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Hashes of names, bit for bit those of `aegis.h` and `kernel/bpf/`.

/// One step: `aegis_hash_word()` of the header.
const fn hash_word(hash: u64, word: u64) -> u64 {
    let hash = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^ (hash >> 29)
}

/// A file's name in its directory, without the terminating NUL.
///
/// The kernel reads names in pieces of 23 bytes and a NUL, since a whole name does not fit on a
/// program's stack; a shorter piece (at the latest an empty one) is the last.
pub fn hash_name(seed: u64, name: &[u8]) -> u64 {
    let mut hash = seed;
    let mut rest = name;
    loop {
        let (piece, after) = rest.split_at(rest.len().min(PIECE));
        let mut padded = [0; PIECE + 1];
        for (to, from) in padded.iter_mut().zip(piece) {
            *to = *from;
        }
        for word in padded.chunks_exact(8) {
            let word = word.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
            hash = hash_word(hash, word);
        }
        if piece.len() < PIECE {
            return hash;
        }
        rest = after;
    }
}

/// A cgroup's name, or the part of a pattern before its `*`.
pub fn hash_cgroup_name(seed: u64, name: &[u8]) -> u64 {
    name.iter().fold(seed, |hash, byte| hash_word(hash, u64::from(*byte)))
}

/// The part of a pattern after its `*`, hashed from its last byte to its first.
pub fn hash_cgroup_suffix(seed: u64, suffix: &[u8]) -> u64 {
    suffix.iter().rev().fold(seed, |hash, byte| hash_word(hash, u64::from(*byte)))
}

/// Bytes that one bounded read of a name takes; 24 with its NUL.
const PIECE: usize = 23;
