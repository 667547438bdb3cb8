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
