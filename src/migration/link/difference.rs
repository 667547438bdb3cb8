//! How far a peer's clock is from ours, measured by round trips. For timers and display only: no order of facts rests on it.
//!
//! ```text
//!  ours     sent ------\                 /-----> back       difference = ((received - sent) + (answered - back)) / 2
//!  theirs               received  answered                  uncertainty = round trip / 2
//! ```

use super::proto::Pong;
use crate::model::Timestamp;
use serde::Serialize;
use std::collections::VecDeque;

/// So many of the last round trips count; of these the quickest, which is disturbed the least.
const KEPT: usize = 8;
/// Pings that were not answered are forgotten beyond this many.
const OPEN: usize = 8;

/// A measured difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The peer's clock minus ours, in milliseconds.
    pub ahead_ms: i64,
    /// It may be wrong by this much.
    pub uncertainty_ms: u64,
    /// The round trip that it was measured by.
    pub round_trip_ms: u64,
}

/// Measures.
#[derive(Debug, Default)]
pub struct Measuring {
    next: u64,
    open: VecDeque<(u64, Timestamp)>,
    kept: VecDeque<Difference>,
}

impl Measuring {
    /// A ping leaves now; its number.
    pub fn ping(&mut self, now: Timestamp) -> u64 {
        self.next += 1;
        if self.open.len() == OPEN {
            self.open.pop_front();
        }
        self.open.push_back((self.next, now));
        self.next
    }

    /// An answer came. One that nobody waits for is ignored.
    pub fn pong(&mut self, pong: &Pong, now: Timestamp) {
        let Some(at) = self.open.iter().position(|(id, _)| *id == pong.id) else { return };
        let (_, sent) = self.open[at];
        self.open.drain(..=at);
        let wide = |ms: i64| i128::from(ms);
        let there = wide(pong.received_ms) - wide(sent.0);
        let back = wide(pong.sent_ms) - wide(now.0);
        let spent = (wide(pong.sent_ms) - wide(pong.received_ms)).max(0);
        let trip = (wide(now.0) - wide(sent.0) - spent).max(0);
        let clamp = |ms: i128| i64::try_from(ms).unwrap_or(if ms < 0 { i64::MIN } else { i64::MAX });
        let trip = u64::try_from(trip).unwrap_or(u64::MAX);
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        // Clocks that show whole milliseconds are off by up to one.
        self.kept.push_back(Difference {
            ahead_ms: clamp((there + back) / 2),
            uncertainty_ms: trip / 2 + 1,
            round_trip_ms: trip,
        });
    }

    /// The best that is known.
    pub fn best(&self) -> Option<Difference> {
        self.kept.iter().rev().min_by_key(|one| one.round_trip_ms).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Span;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the way there, the way back and the time spent: the true difference is within the uncertainty.
        #[test]
        fn the_true_difference_is_within_the_uncertainty(
            ahead in -1_000_000_000_i64..1_000_000_000,
            trips in prop::collection::vec((0_u64..5_000, 0_u64..5_000, 0_u64..5_000), 1..20),
        ) {
            let mut now = Timestamp(1_790_000_000_000);
            let mut measuring = Measuring::default();
            for (there, spent, back) in trips {
                let id = measuring.ping(now);
                let received_ms = (now + Span(there)).0 + ahead;
                let sent_ms = received_ms + i64::try_from(spent).unwrap();
                now = now + Span(there + spent + back);
                measuring.pong(&Pong { id, received_ms, sent_ms }, now);
                let found = measuring.best().unwrap();
                prop_assert!((found.ahead_ms - ahead).unsigned_abs() <= found.uncertainty_ms, "{found:?}");
            }
        }

        /// A peer that lies about the time gets a wrong difference, and does nothing worse.
        #[test]
        fn any_answer_is_survived(answers in prop::collection::vec((any::<u64>(), any::<i64>(), any::<i64>(), any::<i64>()), 0..30)) {
            let mut measuring = Measuring::default();
            for (id, received_ms, sent_ms, now) in answers {
                measuring.ping(Timestamp(now));
                measuring.pong(&Pong { id: id % 40, received_ms, sent_ms }, Timestamp(now));
            }
            let _ = measuring.best();
        }
    }

    #[test]
    fn an_answer_nobody_waits_for_is_ignored() {
        let mut measuring = Measuring::default();
        measuring.pong(&Pong { id: 1, received_ms: 5, sent_ms: 5 }, Timestamp(5));
        assert_eq!(measuring.best(), None);
        let id = measuring.ping(Timestamp(10));
        measuring.pong(&Pong { id, received_ms: 110, sent_ms: 110 }, Timestamp(10));
        measuring.pong(&Pong { id, received_ms: 999, sent_ms: 999 }, Timestamp(10));
        let expected = Difference { ahead_ms: 100, uncertainty_ms: 1, round_trip_ms: 0 };
        assert_eq!(measuring.best(), Some(expected), "the same answer again changes nothing");
    }
}
