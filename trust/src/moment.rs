// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A moment as documents write it: `2026-11-25T03:12:00Z`, and no other way.

use std::fmt;

/// Whole seconds since 1970, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// The last moment that can be written: the end of the year 9999.
    pub const LAST: Self = Self(253_402_300_799);

    /// So many seconds after 1970 began.
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(seconds)
    }

    /// Seconds since 1970 began.
    pub const fn seconds(self) -> u64 {
        self.0
    }

    /// What was written in RFC 3339, UTC, whole seconds; any other spelling is `None`.
    pub fn read(text: &str) -> Option<Self> {
        let bytes: &[u8; 20] = text.as_bytes().try_into().ok()?;
        let [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1, b'T', rest @ ..] = bytes else {
            return None;
        };
        let [h0, h1, b':', i0, i1, b':', s0, s1, b'Z'] = rest else { return None };
        let year = number(&[*y0, *y1, *y2, *y3])?;
        let (month, day) = (number(&[*m0, *m1])?, number(&[*d0, *d1])?);
        let (hour, minute, second) =
            (number(&[*h0, *h1])?, number(&[*i0, *i1])?, number(&[*s0, *s1])?);
        let moment = Self::at(year, month, day, hour * 3600 + minute * 60 + second)?;
        // What is out of its range comes back as something else.
        (moment.to_string() == text).then_some(moment)
    }

    /// Days are counted with the year beginning in March, so that a leap day is its last.
    fn at(year: u64, month: u64, day: u64, of_day: u64) -> Option<Self> {
        let (year, month) =
            if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
        let leap_days = year / 4 - year / 100 + year / 400;
        let days = year * 365 + leap_days + (153 * month + 2) / 5 + day;
        Some(Self(days.checked_sub(719_469)? * 86_400 + of_day))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, of_day) = (self.0 / 86_400 + 719_468, self.0 % 86_400);
        let (era, of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * of_year + 2) / 153;
        let day = of_year - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |sum, digit| {
        digit.is_ascii_digit().then(|| sum * 10 + u64::from(*digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (68_169_599, "1972-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(Moment::from_seconds(seconds).to_string(), text);
            assert_eq!(Moment::read(text), Some(Moment::from_seconds(seconds)), "{text}");
        }
        for seconds in (0..Moment::LAST.seconds()).step_by(86_399 * 97) {
            let moment = Moment::from_seconds(seconds);
            assert_eq!(Moment::read(&moment.to_string()), Some(moment));
        }
    }

    #[test]
    fn there_is_one_spelling_of_a_moment() {
        for text in [
            "",
            "2026-11-25",
            "2026-11-25T03:12:00",
            "2026-11-25t03:12:00z",
            "2026-11-25T03:12:00+00:00",
            "2026-11-25T03:12:00.0Z",
            "2026-11-25 03:12:00Z",
            "2026-11-31T03:12:00Z",
            "2025-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "2026-12-31T23:59:60Z",
            "1969-12-31T23:59:59Z",
            "0000-01-01T00:00:00Z",
            "+026-11-25T03:12:00Z",
            "２026-11-25T03:12:0",
        ] {
            assert_eq!(Moment::read(text), None, "{text}");
        }
    }
}
