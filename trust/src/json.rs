// SPDX-License-Identifier: Apache-2.0 OR MIT
//! JSON that says one thing only: no key twice, no unknown key, whole numbers, bounded size and depth.
//!
//! A document that two readers could understand differently is refused. Faults name their place.

use std::{collections::BTreeMap, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// Why a document is not what it should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// It is longer than any such document may be.
    #[error("{document} is {bytes} bytes long, and {most} is the most")]
    TooLarge {
        /// What was read.
        document: &'static str,
        /// Its length.
        bytes: usize,
        /// The bound.
        most: usize,
    },
    /// It is no JSON, not UTF-8, too deep, or a key stands twice.
    #[error("{document} is not readable")]
    Syntax {
        /// What was read.
        document: &'static str,
        /// What is wrong, with line and column.
        source: serde_json::Error,
    },
    /// A field is not there.
    #[error("{place} is missing")]
    Missing {
        /// The path of the field, from the top of the document.
        place: String,
    },
    /// There is a field that no such document has.
    #[error("{place} is not known here")]
    Unknown {
        /// The path of the field, from the top of the document.
        place: String,
    },
    /// A field has another shape or value.
    #[error("{place} must be {expected}")]
    Unexpected {
        /// The path of the field, from the top of the document.
        place: String,
        /// What is taken.
        expected: String,
    },
}

/// One value.
#[derive(Clone, Debug)]
pub(crate) enum Json {
    Text(String),
    /// A whole number that is not negative.
    Number(u64),
    List(Vec<Self>),
    Object(BTreeMap<String, Self>),
    /// `null`, `true`, `false` and other numbers, of which no document of ours has any.
    Other,
}

/// The members of an object, taken out one after the other; what is left at the end is unknown.
#[derive(Debug)]
pub(crate) struct Fields {
    place: String,
    members: BTreeMap<String, Json>,
}

/// Reads a document whose top is an object.
pub(crate) fn read(document: &'static str, bytes: &[u8], most: usize) -> Result<Fields, Malformed> {
    if bytes.len() > most {
        return Err(Malformed::TooLarge { document, bytes: bytes.len(), most });
    }
    let syntax = |source| Malformed::Syntax { document, source };
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let json = Depth(DEEPEST).deserialize(&mut deserializer).map_err(syntax)?;
    deserializer.end().map_err(syntax)?;
    Fields::of(json, document.to_owned())
}

impl Json {
    /// The text, if it is one.
    pub(crate) fn text(self, place: &str) -> Result<String, Malformed> {
        match self {
            Self::Text(text) => Ok(text),
            _ => Err(unexpected(place, "a text")),
        }
    }
}

impl Fields {
    /// The members of what must be an object.
    pub(crate) fn of(json: Json, place: String) -> Result<Self, Malformed> {
        match json {
            Json::Object(members) => Ok(Self { place, members }),
            _ => Err(unexpected(&place, "an object")),
        }
    }

    /// The path of a member, for messages.
    pub(crate) fn place(&self, name: &str) -> String {
        format!("{}: {name}", self.place)
    }

    pub(crate) fn text(&mut self, name: &str) -> Result<String, Malformed> {
        let place = self.place(name);
        self.take(name)?.text(&place)
    }

    /// Whether there is such a member.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// A text that need not be there.
    pub(crate) fn optional_text(&mut self, name: &str) -> Result<Option<String>, Malformed> {
        if self.has(name) { self.text(name).map(Some) } else { Ok(None) }
    }

    /// A whole number that fits into 32 bits.
    pub(crate) fn number(&mut self, name: &str) -> Result<u32, Malformed> {
        match self.take(name)? {
            Json::Number(number) => u32::try_from(number).ok(),
            _ => None,
        }
        .ok_or_else(|| unexpected(&self.place(name), "a whole number from 0 to 4294967295"))
    }

    /// The one text that may stand there.
    pub(crate) fn exactly(&mut self, name: &str, wanted: &str) -> Result<(), Malformed> {
        if self.text(name)? == wanted {
            return Ok(());
        }
        Err(unexpected(&self.place(name), &format!("{wanted:?}")))
    }

    /// What `read` makes of a text; `expected` says what that takes.
    pub(crate) fn parsed<T>(
        &mut self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, Malformed> {
        let text = self.text(name)?;
        read(&text).ok_or_else(|| unexpected(&self.place(name), expected))
    }

    pub(crate) fn object(&mut self, name: &str) -> Result<Self, Malformed> {
        let place = self.place(name);
        Self::of(self.take(name)?, place)
    }

    /// An object that need not be there.
    pub(crate) fn optional_object(&mut self, name: &str) -> Result<Option<Self>, Malformed> {
        if self.has(name) { self.object(name).map(Some) } else { Ok(None) }
    }

    /// The items of a list of at most so many, each with its place.
    pub(crate) fn list(
        &mut self,
        name: &str,
        most: usize,
    ) -> Result<Vec<(String, Json)>, Malformed> {
        let place = self.place(name);
        match self.take(name)? {
            Json::List(items) if items.len() <= most => Ok(items
                .into_iter()
                .enumerate()
                .map(|(at, item)| (format!("{place}[{at}]"), item))
                .collect()),
            _ => Err(unexpected(&place, &format!("a list of at most {most}"))),
        }
    }

    /// The names and values of all members that are left.
    pub(crate) fn rest(self) -> impl Iterator<Item = (String, Json)> {
        self.members.into_iter()
    }

    /// Refuses what was not asked for.
    pub(crate) fn end(self) -> Result<(), Malformed> {
        match self.members.keys().next() {
            None => Ok(()),
            Some(name) => Err(Malformed::Unknown { place: self.place(name) }),
        }
    }

    fn take(&mut self, name: &str) -> Result<Json, Malformed> {
        self.members.remove(name).ok_or_else(|| Malformed::Missing { place: self.place(name) })
    }
}

/// A field that is not what it must be.
pub(crate) fn unexpected(place: &str, expected: &str) -> Malformed {
    Malformed::Unexpected { place: place.to_owned(), expected: expected.to_owned() }
}

/// How many levels of lists and objects may follow.
#[derive(Clone, Copy)]
struct Depth(u8);

impl Depth {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        self.0.checked_sub(1).map(Self).ok_or_else(|| E::custom("lists and objects are too deep"))
    }
}

impl<'de> DeserializeSeed<'de> for Depth {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Depth {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    /// `7.0` is the number 7, and what protobuf makes of it.
    fn visit_f64<E>(self, number: f64) -> Result<Json, E> {
        let whole = number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number);
        let number = whole.then(|| format!("{number:.0}").parse().ok()).flatten();
        Ok(number.map_or(Json::Other, Json::Number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let depth = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(depth)? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let depth = self.deeper()?;
        let mut members = BTreeMap::new();
        while let Some(name) = entries.next_key::<String>()? {
            if members.contains_key(&name) {
                return Err(A::Error::custom(format_args!("the key {name:?} stands twice")));
            }
            let value = entries.next_value_seed(depth)?;
            members.insert(name, value);
        }
        Ok(Json::Object(members))
    }
}

/// No document of ours is deeper than this.
const DEEPEST: u8 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &[u8]) -> String {
        let error = read("it", text, 10_000).expect_err("no document");
        let cause = std::error::Error::source(&error)
            .map_or_else(String::new, |cause| format!(": {cause}"));
        format!("{error}{cause}")
    }

    #[test]
    fn what_two_readers_could_understand_differently_is_refused() {
        for (text, wanted) in [
            (&br#"{"a":1,"a":1}"#[..], "the key \"a\" stands twice"),
            (br#"{"a":{"b":1,"c":2,"b":3}}"#, "the key \"b\" stands twice"),
            (br#"{"a":1,"\u0061":1}"#, "the key \"a\" stands twice"),
            (br#"{"a":1}{"#, "trailing"),
            (br#"{"a":1}x"#, "trailing"),
            (br#"{"a":1,}"#, "trailing comma"),
            (b"{\"a\":\"\xff\"}", "unicode"),
            (br#"{"a":"\ud800\u0020"}"#, "surrogate"),
            (b"\xef\xbb\xbf{}", "expected value"),
            (b"{\"a\":\"\n\"}", "control character"),
            (br#"{"a":01}"#, "invalid number"),
            (br#"{a:1}"#, "key must be a string"),
            (b"", "EOF"),
            (b"[]", "must be an object"),
            (b"\"x\"", "must be an object"),
        ] {
            let fault = fault(text);
            assert!(fault.contains(wanted), "{fault} and not {wanted}");
        }
    }

    #[test]
    fn depth_and_size_are_bounded() {
        let deep = |levels: usize| {
            let (open, close) = ("[".repeat(levels - 1), "]".repeat(levels - 1));
            format!("{{\"a\":{open}{close}}}")
        };
        assert!(read("it", deep(6).as_bytes(), 100).is_ok());
        assert!(fault(deep(7).as_bytes()).contains("too deep"));
        assert!(fault(&b"{\"a\":".repeat(2000)).contains("too deep"));
        assert!(read("it", b"{}", 2).is_ok());
        assert!(matches!(read("it", b"{ }", 2), Err(Malformed::TooLarge { bytes: 3, .. })));
    }

    #[test]
    fn a_fault_names_its_place() {
        let mut fields =
            read("it", br#"{"a":{"n":-1,"f":1.5,"b":4294967296,"w":7.0,"h":1e99}}"#, 100).unwrap();
        let mut inner = fields.object("a").unwrap();
        let number = "must be a whole number from 0 to 4294967295";
        assert_eq!(inner.number("w").unwrap(), 7);
        for name in ["n", "f", "b", "h"] {
            let error = inner.number(name).unwrap_err().to_string();
            assert_eq!(error, format!("it: a: {name} {number}"));
        }
        assert_eq!(inner.number("n").unwrap_err().to_string(), "it: a: n is missing");
        let fields = read("it", br#"{"a":true}"#, 100).unwrap();
        assert_eq!(fields.end().unwrap_err().to_string(), "it: a is not known here");
    }
}
