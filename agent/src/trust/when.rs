// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a person writes for a moment.

use aegis_trust::Moment;

use crate::failure::Refusal;

/// A moment, or a day (its beginning, UTC), or so much from now on: `90d`, `12h`, `30m`.
pub(crate) fn from_now(flag: &str, text: &str, now: Moment) -> anyhow::Result<Moment> {
    let span = || {
        let unit = match text.bytes().last()? {
            b'd' => 86_400,
            b'h' => 3600,
            b'm' => 60,
            _ => return None,
        };
        let count: u64 = text.get(..text.len() - 1)?.parse().ok()?;
        let moment = Moment::from_seconds(now.seconds().checked_add(count.checked_mul(unit)?)?);
        (moment <= Moment::LAST).then_some(moment)
    };
    span().or_else(|| moment(text)).ok_or_else(|| {
        Refusal::new("BAD_TIME", format!("{flag} {text} is no moment"))
            .hint("write 90d, 12h, 2027-01-31 or 2027-01-31T12:00:00Z")
            .into()
    })
}

/// A moment, or a day.
fn moment(text: &str) -> Option<Moment> {
    Moment::read(text).or_else(|| Moment::read(&format!("{text}T00:00:00Z")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_people_do() {
        let now = Moment::from_seconds(1_000_000);
        let later = |text| from_now("--expires", text, now).map(|moment| moment.seconds()).ok();
        assert_eq!(later("90d"), Some(1_000_000 + 90 * 86_400));
        assert_eq!(later("12h"), Some(1_000_000 + 12 * 3600));
        assert_eq!(later("1m"), Some(1_000_060));
        assert_eq!(later("1970-01-03"), Some(2 * 86_400));
        assert_eq!(later("1970-01-03T00:00:01Z"), Some(2 * 86_400 + 1));
        for wrong in ["", "d", "-1d", "1w", "90", "1970-1-3", "99999999999999999999d", "9999999d"] {
            assert_eq!(later(wrong), None, "{wrong}");
        }
    }
}
