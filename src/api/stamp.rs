//! Instants on the wire: RFC 3339 in UTC with milliseconds, which people, scripts and every language read.

use crate::model::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// An instant of the plane's clock, written as `2026-03-01T12:03:04.005Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Stamp(pub Timestamp);

impl From<Timestamp> for Stamp {
    fn from(at: Timestamp) -> Stamp {
        Stamp(at)
    }
}

/// What jiff cannot represent (thousands of years away) is shown as plain milliseconds instead of failing.
impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0.0) {
            Ok(at) => write!(f, "{at:.3}"),
            Err(_) => write!(f, "{} ms", self.0.0),
        }
    }
}

impl Serialize for Stamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Stamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Stamp, D::Error> {
        let text = String::deserialize(deserializer)?;
        if let Some(ms) = text.strip_suffix(" ms").and_then(|ms| ms.parse().ok()) {
            return Ok(Stamp(Timestamp(ms)));
        }
        let at: jiff::Timestamp = text.parse().map_err(serde::de::Error::custom)?;
        Ok(Stamp(Timestamp(at.as_millisecond())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_read_back_as_they_print() {
        assert_eq!(Stamp(Timestamp(1_772_366_584_005)).to_string(), "2026-03-01T12:03:04.005Z");
        for ms in [0, 1, -1, 1_772_366_584_005, i64::MAX, i64::MIN] {
            let json = serde_json::to_string(&Stamp(Timestamp(ms))).unwrap();
            assert_eq!(serde_json::from_str::<Stamp>(&json).unwrap(), Stamp(Timestamp(ms)), "{json}");
        }
    }
}
