// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Keys, signatures and envelopes in files.

use std::{
    ffi::OsString,
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use aegis_trust::{AttachError, Envelope, KeyError, Kind, PublicKey, SecretKey};
use anyhow::Context as _;
use rustix::rand::{GetRandomFlags, getrandom};

use super::malformed;
use crate::{cli, failure::Refusal, files};

/// Draws a key.
pub(crate) fn generate() -> anyhow::Result<SecretKey> {
    let mut seed = [0; 32];
    let drawn = getrandom(&mut seed, GetRandomFlags::empty());
    if drawn.context("failed to draw a random number")? < seed.len() {
        anyhow::bail!("failed to draw enough random numbers");
    }
    Ok(SecretKey::from_seed(&seed))
}

/// Reads a private key from a file that others cannot read.
pub(crate) fn secret(path: &Path) -> anyhow::Result<SecretKey> {
    let bytes = files::read_secret(path, MOST_KEY_BYTES)?;
    let text = std::str::from_utf8(bytes.bytes());
    let key = text.map_or(Err(KeyError::NotPem("PRIVATE KEY")), SecretKey::from_pem);
    key.map_err(|error| no_key(path, error).into())
}

/// Reads a public key.
pub(crate) fn public(path: &Path) -> anyhow::Result<PublicKey> {
    let bytes = read(path, MOST_KEY_BYTES)?;
    let text = std::str::from_utf8(&bytes);
    let key = text.map_or(Err(KeyError::NotPem("PUBLIC KEY")), PublicKey::from_pem);
    key.map_err(|error| no_key(path, error).into())
}

/// Reads an envelope.
pub(crate) fn envelope(kind: Kind, path: &Path) -> anyhow::Result<Envelope> {
    let most = u64::try_from(kind.most_envelope_bytes()).unwrap_or(u64::MAX);
    let bytes = read(path, most)?;
    Envelope::read(kind, &bytes).map_err(|error| malformed(path.display(), &error).into())
}

/// Whether a file holds an envelope, and no text.
pub(crate) fn is_envelope(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().starts_with(b"{")
}

/// Reads what anybody may have written, of bounded length: a byte more shows that it was longer.
pub(crate) fn read(path: &Path, most: u64) -> anyhow::Result<Vec<u8>> {
    use std::io::Read as _;
    let failed = || format!("failed to read {}", path.display());
    let mut bytes = Vec::new();
    let file = fs::File::open(path).with_context(failed)?;
    file.take(most.saturating_add(1)).read_to_end(&mut bytes).with_context(failed)?;
    Ok(bytes)
}

/// Adds the signatures that are asked for; hands back what has to be signed elsewhere.
pub(crate) fn sign(envelope: &mut Envelope, by: &cli::By) -> anyhow::Result<Option<Vec<u8>>> {
    if by.prepare {
        return Ok(Some(envelope.signed_bytes()));
    }
    if let (Some(signature), Some(key)) = (&by.attach, &by.public_key) {
        let bytes = read(signature, 64)?;
        let attached = envelope.attach(public(key)?, &bytes);
        attached.map_err(|error| not_attached(signature, error))?;
        return Ok(None);
    }
    if by.key.is_empty() {
        return Err(Refusal::new("NO_KEY", "nobody signs it; nothing was written")
            .hint("say who does: --key K; or --prepare, and then --attach")
            .into());
    }
    for path in &by.key {
        let key = secret(path)?;
        envelope.sign(&key).map_err(|error| not_attached(path, error))?;
    }
    Ok(None)
}

/// Writes what is nobody's secret, in the place of what was there.
pub(crate) fn publish(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    files::write_whole(path, bytes)?;
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .with_context(|| format!("failed to make {} readable", path.display()))
}

/// Writes a file that was not there before.
pub(crate) fn create(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let failed = || format!("failed to write {}", path.display());
    let opened = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = match opened {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(Refusal::new("EXISTS", format!("{} is there already", path.display()))
                .hint("a key is never written over: choose another name, or move it away")
                .into());
        }
        opened => opened.with_context(failed)?,
    };
    if let Err(error) = file.write_all(bytes).and_then(|()| file.sync_all()) {
        files::remove(path).with_context(failed)?;
        return Err(error).with_context(failed);
    }
    files::sync_directory_of(path).with_context(failed)
}

/// A path with something added to its name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

fn no_key(path: &Path, error: KeyError) -> Refusal {
    Refusal::new("BAD_KEY", format!("{}: {error}", path.display())).hint(error.hint())
}

fn not_attached(path: &Path, error: AttachError) -> Refusal {
    Refusal::new("SIGNATURE", format!("{}: {error}", path.display()))
        .hint("sign exactly the bytes of the file that --prepare wrote")
}

const MOST_KEY_BYTES: u64 = 8 << 10;
