// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One line: written once, and read as it was written. Nothing is encoded again to be compared.

use sha2::{Digest as _, Sha256};

use super::{Head, Record};
use crate::Digest;

/// A record with the hash of its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// What the line says.
    pub record: Record,
    /// Its hash.
    pub hash: Digest,
}

impl Sealed {
    /// This line as the newest of a log.
    pub const fn head(&self) -> Head {
        Head { sequence: self.record.sequence, hash: self.hash }
    }
}

/// Why bytes are no line of a log.
#[derive(Debug, thiserror::Error)]
pub enum BadLine {
    /// It has not the shape that every line has.
    #[error("it is not {{\"record\":…,\"hash\":…}} as AegisBPF writes it")]
    Shape,
    /// Its bytes are not those that were hashed.
    #[error("its content has another hash than it says: {found}")]
    Hash {
        /// The hash of what stands there.
        found: Digest,
    },
    /// Its hash is right, and the record is not one that this version understands.
    #[error("its record cannot be read: {0}")]
    Record(#[from] serde_json::Error),
    /// A later version gave the fields another meaning.
    #[error("its record has schema {0}, and this version of AegisBPF knows schema 1")]
    Schema(u32),
    /// More than a line may have.
    #[error("it has {0} bytes, and {LINE_MAX} is the most")]
    TooLong(usize),
}

/// Writes a record as a line, with the newline.
///
/// # Errors
/// If it is longer than [`LINE_MAX`].
pub fn seal(record: &Record) -> Result<(String, Head), BadLine> {
    let json = serde_json::to_string(record)?;
    let hash = hash(json.as_bytes());
    let line = format!("{BEFORE}{json}{BETWEEN}{hash}{AFTER}\n");
    if line.len() > LINE_MAX {
        return Err(BadLine::TooLong(line.len()));
    }
    Ok((line, Head { sequence: record.sequence, hash }))
}

/// Reads a line, without its newline.
///
/// # Errors
/// If a byte of it is not as [`seal`] wrote it, or a later version did.
pub fn read_line(line: &[u8]) -> Result<Sealed, BadLine> {
    if line.len() >= LINE_MAX {
        return Err(BadLine::TooLong(line.len()));
    }
    let (json, said) = parts(line).ok_or(BadLine::Shape)?;
    let found = hash(json);
    if found != said {
        return Err(BadLine::Hash { found });
    }
    let record: Record = serde_json::from_slice(json)?;
    if record.schema != Record::SCHEMA {
        return Err(BadLine::Schema(record.schema));
    }
    Ok(Sealed { record, hash: found })
}

/// The record's bytes, and the hash that stands beside them.
fn parts(line: &[u8]) -> Option<(&[u8], Digest)> {
    let rest = line.strip_prefix(BEFORE.as_bytes())?.strip_suffix(AFTER.as_bytes())?;
    let (rest, digits) = rest.split_at_checked(rest.len().checked_sub(64)?)?;
    let said = Digest::from_hex(std::str::from_utf8(digits).ok()?)?;
    Some((rest.strip_suffix(BETWEEN.as_bytes())?, said))
}

/// What is hashed is told apart from anything else that is hashed anywhere.
pub(super) fn hash(json: &[u8]) -> Digest {
    let hasher = Sha256::new().chain_update(DOMAIN).chain_update(json);
    Digest::from_bytes(hasher.finalize().into())
}

const BEFORE: &str = "{\"record\":";
const BETWEEN: &str = ",\"hash\":\"";
const AFTER: &str = "\"}";
const DOMAIN: &[u8] = b"aegisbpf provenance record 1\n";

/// Bytes of the longest line, with its newline.
pub const LINE_MAX: usize = 1 << 20;
