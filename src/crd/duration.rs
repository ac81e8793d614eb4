//! Durations as users write them in specs: `90s`, `5m`, `1h30m`.
//! The text is kept as written, so that a server-side apply of the same manifest stays a no-op.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

/// What the schema admits and `FromStr` parses: hours, minutes, seconds in this order, each at most once.
/// CEL's and Go's `duration()` read it the same way.
pub(super) const PATTERN: &str = "^([0-9]{1,5}h)?([0-9]{1,5}m)?([0-9]{1,5}s)?$";
/// The longest text the pattern admits, e.g. `12345h12345m12345s`.
pub(super) const MAX_LENGTH: u32 = 18;

/// Why a text is not a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a duration is written like 90s, 5m or 1h30m")]
pub struct InvalidDuration;

/// A duration and the text it came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DurationText {
    text: String,
    duration: Duration,
}

impl DurationText {
    /// Its length.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.duration
    }

    /// As the user wrote it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// For defaults, which are constants of ours.
    pub(super) fn literal(text: &str) -> Self {
        text.parse().expect("defaults are durations; a test reads them all")
    }
}

impl TryFrom<String> for DurationText {
    type Error = InvalidDuration;

    fn try_from(text: String) -> Result<Self, InvalidDuration> {
        let seconds = total_seconds(&text).ok_or(InvalidDuration)?;
        Ok(Self { text, duration: Duration::from_secs(seconds) })
    }
}

impl FromStr for DurationText {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, InvalidDuration> {
        Self::try_from(text.to_owned())
    }
}

impl From<DurationText> for String {
    fn from(duration: DurationText) -> Self {
        duration.text
    }
}

impl fmt::Display for DurationText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

fn total_seconds(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total = 0;
    for (unit, seconds) in [('h', 3_600), ('m', 60), ('s', 1)] {
        if let Some((digits, tail)) = rest.split_once(unit) {
            if digits.is_empty() || digits.len() > 5 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            total += digits.parse::<u64>().ok()? * seconds;
            rest = tail;
        }
    }
    (rest.is_empty() && !text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_hours_minutes_seconds_in_this_order() {
        for (text, seconds) in
            [("90s", 90), ("5m", 300), ("1h30m", 5_400), ("4h", 14_400), ("0s", 0), ("1h1m1s", 3_661)]
        {
            assert_eq!(text.parse::<DurationText>().expect(text).duration(), Duration::from_secs(seconds), "{text}");
        }
        for text in ["", "5", "m", "5m1h", "1.5h", "-5m", "5 m", "5d", "1h1h", "123456s", "5M", "５m"] {
            assert_eq!(text.parse::<DurationText>(), Err(InvalidDuration), "{text}");
        }
    }
}
