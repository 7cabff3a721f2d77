// SPDX-License-Identifier: Apache-2.0 OR MIT
//! When something was, to the microsecond: `2026-11-25T03:12:00.000000Z`.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::Moment;

/// Microseconds since 1970, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// So many microseconds after 1970 began.
    pub const fn from_us(us: u64) -> Self {
        Self(us)
    }

    /// Microseconds since 1970 began.
    pub const fn us(self) -> u64 {
        self.0
    }

    /// So many milliseconds earlier; not before 1970.
    pub fn before_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_sub(ms.saturating_mul(1000)))
    }

    /// What an operator may write: RFC 3339, in UTC or with an offset; seconds may be left out.
    pub fn read(text: &str) -> Option<Self> {
        let (rest, east) = zone(text)?;
        let (whole, part) = rest.split_once('.').unwrap_or((rest, "0"));
        let digits =
            (1..=6).contains(&part.len()) && part.bytes().all(|part| part.is_ascii_digit());
        let part: u64 = format!("{part:0<6}").parse().ok().filter(|_| digits)?;
        let seconds = if whole.len() == "2026-11-25T03:12".len() { ":00" } else { "" };
        let whole = Moment::read(&format!("{}{seconds}Z", whole.replacen(' ', "T", 1)))?;
        let seconds = whole.seconds().checked_add_signed(-east)?;
        Some(Self(seconds.checked_mul(1_000_000)?.checked_add(part)?))
    }
}

/// A time without its zone, and how many seconds that is east of UTC.
fn zone(text: &str) -> Option<(&str, i64)> {
    if let Some(rest) = text.strip_suffix('Z') {
        return Some((rest, 0));
    }
    let (rest, zone) = text.split_at_checked(text.len().checked_sub(6)?)?;
    let [sign, h0, h1, b':', m0, m1] = zone.as_bytes() else { return None };
    let [h0, h1, m0, m1] = [h0, h1, m0, m1].map(|digit| i64::from(*digit) - i64::from(b'0'));
    let right = [h0, h1, m0, m1].iter().all(|digit| (0..=9).contains(digit)) && m0 < 6;
    let east = (h0 * 10 + h1) * 3600 + (m0 * 10 + m1) * 60;
    match sign {
        b'+' if right => Some((rest, east)),
        b'-' if right => Some((rest, -east)),
        _ => None,
    }
}

impl From<Moment> for Time {
    fn from(moment: Moment) -> Self {
        Self(moment.seconds().saturating_mul(1_000_000))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = Moment::from_seconds(self.0 / 1_000_000).to_string();
        write!(f, "{}.{:06}Z", whole.trim_end_matches('Z'), self.0 % 1_000_000)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let time = Self::read(&text).filter(|time| time.to_string() == text);
        time.ok_or_else(|| D::Error::custom("it is no time like 2026-11-25T03:12:00.000000Z"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_written() {
        for us in [0, 1, 951_782_400_000_001, 1_735_689_599_999_999, 4_107_542_400_000_000] {
            let time = Time(us);
            assert_eq!(Time::read(&time.to_string()), Some(time), "{time}");
            let json = format!("\"{time}\"");
            assert_eq!(serde_json::to_string(&time).unwrap(), json);
            assert_eq!(serde_json::from_str::<Time>(&json).unwrap(), time);
        }
        assert_eq!(Time(951_782_400_000_001).to_string(), "2000-02-29T00:00:00.000001Z");
        assert_eq!(Time::from(Moment::from_seconds(5)), Time(5_000_000));
    }

    #[test]
    fn an_operator_may_be_brief_or_elsewhere() {
        let expected = Time::read("2026-11-25T03:12:00.000000Z");
        assert!(expected.is_some());
        for text in [
            "2026-11-25T03:12Z",
            "2026-11-25 03:12:00.0Z",
            "2026-11-25T04:42:00+01:30",
            "2026-11-24T23:12-04:00",
            "2026-11-25T13:12+10:00",
        ] {
            assert_eq!(Time::read(text), expected, "{text}");
            if !text.ends_with("00.000000Z") {
                assert!(serde_json::from_str::<Time>(&format!("\"{text}\"")).is_err(), "{text}");
            }
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "Z",
            "2026-11-25",
            "03:12",
            "2026-11-25T03:12",
            "2026-02-29T00:00:00Z",
            "2026-11-25T03:12:00.Z",
            "2026-11-25T03:12:00.1xZ",
            "2026-11-25T03:12:00.éZ",
            "2026-11-25T03:12:00.1234567Z",
            "2026-11-25T03:12:00+1:00",
            "2026-11-25T03:12:00+01:60",
            "2026-11-25T03:12:00-01:60",
            "2026-11-25T03:12:00x01:00",
            "1970-01-01T00:00:00+00:01",
        ] {
            assert_eq!(Time::read(text), None, "{text}");
        }
    }
}
