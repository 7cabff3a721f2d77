// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a signed policy says: an in-toto statement about the policy's text, with the text in it.
//!
//! `docs/bundle.schema.json` describes the same for others. Name, version and digest stand beside the
//! text and have to agree with it, so that whoever only reads statements reads the truth.

use serde_json::{Value, json};

use crate::{
    Digest, Envelope, Kind, Malformed, Moment,
    json::{Fields, read, unexpected},
};

/// The content of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// Of the policy.
    pub name: String,
    /// Of the policy.
    pub version: u32,
    /// The policy, byte for byte as its author wrote it.
    pub text: String,
    /// Before this moment it is not accepted.
    pub not_before: Moment,
    /// From this moment on it is not accepted for the first time.
    pub expires: Moment,
    /// Where the text was taken from.
    pub source: Option<Source>,
    /// Who wrote it, in words.
    pub author: Option<String>,
    /// What else is to be known.
    pub notes: Option<String>,
}

/// Where a text was taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// A repository, as one would clone it.
    pub repository: String,
    /// The commit in it.
    pub commit: Option<String>,
}

impl Bundle {
    /// What its signers say. Nothing follows from it before their signatures were checked.
    ///
    /// # Errors
    /// [`Malformed`], with the place.
    pub fn claimed(envelope: &Envelope) -> Result<Self, Malformed> {
        Self::read(envelope.payload())
    }

    /// SHA-256 of the text: `policy_digest`.
    pub fn policy_digest(&self) -> Digest {
        Digest::of(self.text.as_bytes())
    }

    /// The envelope that is to be signed.
    ///
    /// # Errors
    /// [`Malformed`] if nobody would accept it, whoever signed.
    pub fn envelope(&self) -> Result<Envelope, Malformed> {
        let payload = self.statement().to_string().into_bytes();
        Self::read(&payload)?;
        Ok(Envelope::new(Kind::Bundle, payload))
    }

    fn statement(&self) -> Value {
        let mut predicate = json!({
            "name": self.name,
            "version": self.version,
            "text": self.text,
            "notBefore": self.not_before.to_string(),
            "expires": self.expires.to_string(),
        });
        let mut put = |name: &str, value: Option<Value>| {
            if let (Some(value), Some(members)) = (value, predicate.as_object_mut()) {
                members.insert(name.to_owned(), value);
            }
        };
        put("source", self.source.as_ref().map(Source::json));
        put("author", self.author.as_deref().map(Value::from));
        put("notes", self.notes.as_deref().map(Value::from));
        json!({
            "_type": STATEMENT,
            "subject": [{
                "name": self.name,
                "digest": { "sha256": self.policy_digest().to_string() },
            }],
            "predicateType": PREDICATE,
            "predicate": predicate,
        })
    }

    /// Reads the payload of a bundle; the name, version and digest agree with each other.
    pub(crate) fn read(payload: &[u8]) -> Result<Self, Malformed> {
        let mut statement = read("the statement", payload, Kind::Bundle.most_bytes())?;
        statement.exactly("_type", STATEMENT)?;
        statement.exactly("predicateType", PREDICATE)?;
        let mut predicate = statement.object("predicate")?;
        let bundle = Self {
            name: predicate.parsed("name", NAME, |text| is_name(text).then(|| text.to_owned()))?,
            version: predicate.number("version")?,
            text: bounded(&mut predicate, "text", MOST_TEXT_BYTES)?,
            not_before: predicate.parsed("notBefore", MOMENT, Moment::read)?,
            expires: predicate.parsed("expires", MOMENT, Moment::read)?,
            source: predicate.optional_object("source")?.map(Source::read).transpose()?,
            author: words(&mut predicate, "author", MOST_WORDS_BYTES)?,
            notes: words(&mut predicate, "notes", MOST_NOTES_BYTES)?,
        };
        if bundle.version == 0 {
            return Err(unexpected(&predicate.place("version"), "at least 1"));
        }
        if bundle.expires <= bundle.not_before {
            return Err(unexpected(&predicate.place("expires"), "after notBefore"));
        }
        predicate.end()?;
        bundle.check_subject(&mut statement)?;
        statement.end()?;
        Ok(bundle)
    }

    fn check_subject(&self, statement: &mut Fields) -> Result<(), Malformed> {
        let mut subjects = statement.list("subject", 1)?.into_iter();
        let (place, subject) = subjects
            .next()
            .ok_or_else(|| unexpected(&statement.place("subject"), "a list of one"))?;
        let mut subject = Fields::of(subject, place)?;
        subject.exactly("name", &self.name)?;
        let mut digest = subject.object("digest")?;
        digest.exactly("sha256", &self.policy_digest().to_string())?;
        digest.end()?;
        subject.end()
    }
}

impl Source {
    fn read(mut fields: Fields) -> Result<Self, Malformed> {
        let repository = words(&mut fields, "repository", MOST_WORDS_BYTES)?
            .ok_or_else(|| Malformed::Missing { place: fields.place("repository") })?;
        let commit = words(&mut fields, "commit", MOST_WORDS_BYTES)?;
        fields.end()?;
        Ok(Self { repository, commit })
    }

    fn json(&self) -> Value {
        match &self.commit {
            Some(commit) => json!({ "repository": self.repository, "commit": commit }),
            None => json!({ "repository": self.repository }),
        }
    }
}

/// Whether a policy can have this name.
pub(crate) fn is_name(text: &str) -> bool {
    let first = text.bytes().next();
    text.len() <= 63
        && first.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        && text.bytes().all(is_name_byte)
}

pub(crate) const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-')
}

fn bounded(fields: &mut Fields, name: &str, most: usize) -> Result<String, Malformed> {
    let text = fields.text(name)?;
    if text.len() > most {
        return Err(unexpected(&fields.place(name), &format!("at most {most} bytes long")));
    }
    Ok(text)
}

/// Words for people: not empty, of bounded length.
pub(crate) fn words(
    fields: &mut Fields,
    name: &str,
    most: usize,
) -> Result<Option<String>, Malformed> {
    let expected = format!("1 to {most} bytes of text without control characters");
    let takes = |text: &String| {
        (1..=most).contains(&text.len()) && !text.chars().any(|c| c.is_control() && c != '\n')
    };
    match fields.optional_text(name)? {
        Some(text) if !takes(&text) => Err(unexpected(&fields.place(name), &expected)),
        text => Ok(text),
    }
}

/// The longest text that can be signed, in bytes.
pub const MOST_TEXT_BYTES: usize = 8 << 20;

/// The type of every in-toto statement of version 1.
const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// The type of what is in it here.
const PREDICATE: &str = "urn:aegisbpf:policy:v1";

pub(crate) const NAME: &str = "a name of 1 to 63 of a-z, 0-9, '.' and '-'";
pub(crate) const MOMENT: &str = "a moment like 2026-11-25T03:12:00Z";
pub(crate) const MOST_WORDS_BYTES: usize = 512;
const MOST_NOTES_BYTES: usize = 4096;
