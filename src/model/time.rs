//! Instants and durations, in whole milliseconds. Nothing here reads a clock: time is always a parameter.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;

/// An instant: milliseconds since 1970-01-01 UTC (in a simulation: since its start).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

/// A length of time in milliseconds, never negative. In YAML and on the command line: `500ms`, `30s`, `5m`, `2h`, `1d`,
/// or several of them as in `1m30s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(pub u64);

impl Span {
    /// No time at all.
    pub const ZERO: Span = Span(0);

    /// A span of whole seconds.
    pub const fn seconds(n: u64) -> Span {
        Span(n.saturating_mul(1_000))
    }

    /// A span of whole minutes.
    pub const fn minutes(n: u64) -> Span {
        Span(n.saturating_mul(60_000))
    }

    /// A span of whole hours.
    pub const fn hours(n: u64) -> Span {
        Span(n.saturating_mul(3_600_000))
    }

    /// The span in seconds.
    pub fn as_seconds(self) -> f64 {
        self.0 as f64 / 1_000.0
    }

    /// As exact as people want a measured time: below a second in milliseconds, below an hour in seconds, else in minutes.
    pub fn rounded(self) -> Span {
        let unit = match self.0 {
            0..1_000 => 1,
            1_000..3_600_000 => 1_000,
            _ => 60_000,
        };
        Span(self.0 / unit * unit)
    }

    /// The span as the standard library has it.
    pub fn as_duration(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }
}

impl Timestamp {
    /// How long ago `earlier` was; zero where it is not earlier.
    pub fn since(self, earlier: Timestamp) -> Span {
        Span(self.0.saturating_sub(earlier.0).max(0) as u64)
    }
}

impl Add<Span> for Timestamp {
    type Output = Timestamp;
    fn add(self, span: Span) -> Timestamp {
        Timestamp(self.0.saturating_add_unsigned(span.0))
    }
}

impl Sub<Span> for Timestamp {
    type Output = Timestamp;
    fn sub(self, span: Span) -> Timestamp {
        Timestamp(self.0.saturating_sub_unsigned(span.0))
    }
}

/// The units of a span, the largest first: name and milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.0;
        for (name, size) in UNITS {
            if rest >= size {
                write!(f, "{}{name}", rest / size)?;
                rest %= size;
            }
        }
        Ok(())
    }
}

/// Why a text is not a span.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a length of time; write for example `500ms`, `30s`, `5m`, `2h` or `1d`")]
pub struct SpanError(String);

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Span, SpanError> {
        let bad = || SpanError(text.to_owned());
        let mut rest = text.trim();
        let mut total: u64 = 0;
        if rest.is_empty() {
            return Err(bad());
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
            let number: u64 = rest[..digits].parse().map_err(|_| bad())?;
            rest = &rest[digits..];
            let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
            let (_, size) = UNITS.iter().find(|(name, _)| *name == &rest[..letters]).ok_or_else(bad)?;
            rest = rest[letters..].trim_start();
            total = number.checked_mul(*size).and_then(|ms| total.checked_add(ms)).ok_or_else(bad)?;
        }
        Ok(Span(total))
    }
}

impl Serialize for Span {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { serializer.serialize_u64(self.0) }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
        } else {
            u64::deserialize(deserializer).map(Span)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measured_time_is_rounded_for_people() {
        let shown = |ms| Span(ms).rounded().to_string();
        assert_eq!([63, 12_063, 84_063, 7_384_063].map(shown), ["63ms", "12s", "1m24s", "2h3m"]);
    }

    #[test]
    fn spans_read_back_as_they_print() {
        for ms in [0, 1, 999, 1_000, 61_001, 3_600_000, 90_061_001] {
            let span = Span(ms);
            assert_eq!(span.to_string().parse(), Ok(span));
        }
    }

    #[test]
    fn spans_refuse_what_they_do_not_understand() {
        for text in ["", "5", "m", "5 parsecs", "-1s", "99999999999999999999s", "1d99999999999999999h"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
