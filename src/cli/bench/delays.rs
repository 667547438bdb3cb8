//! Delays, and the figures people want of them.

use serde::Serialize;
use std::time::Duration;

/// Some of the delays, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Delays {
    /// How many were measured.
    pub count: usize,
    /// Half were shorter.
    pub p50_ms: f64,
    /// One in a hundred was longer.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl Delays {
    /// The figures of these.
    pub fn of(mut all: Vec<Duration>) -> Delays {
        all.sort_unstable();
        let at = |share: f64| {
            let rank = (share * all.len() as f64).ceil() as usize;
            all.get(rank.clamp(1, all.len().max(1)) - 1).map_or(0.0, |delay| delay.as_secs_f64() * 1e3)
        };
        Delays { count: all.len(), p50_ms: at(0.5), p99_ms: at(0.99), max_ms: at(1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_those_counted_by_hand() {
        let delays = Delays::of((1..=200).rev().map(Duration::from_millis).collect());
        assert_eq!((delays.count, delays.p50_ms, delays.p99_ms, delays.max_ms), (200, 100.0, 198.0, 200.0));
        assert_eq!(Delays::of(Vec::new()), Delays::default());
        assert_eq!(Delays::of(vec![Duration::from_millis(3)]).p99_ms, 3.0);
    }
}
