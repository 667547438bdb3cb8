//! Who was refused, and why: in the log, and kept for whoever asks. A flood of refusals floods neither.

use super::rate::Rate;
use crate::model::Timestamp;
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// The last so many are kept.
const KEPT: usize = 200;
/// So many a second are written to the log; the others are counted.
const LOGGED_PER_S: u64 = 10;

/// One refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// When.
    pub at: Timestamp,
    /// Where it came from.
    pub address: Arc<str>,
    /// The identity that was presented; `nobody` where there was none.
    pub presented: Arc<str>,
    /// Why.
    pub reason: Arc<str>,
}

#[derive(Debug)]
struct Kept {
    last: VecDeque<Refusal>,
    count: u64,
    log: Rate,
    unlogged: u64,
}

/// The refusals.
#[derive(Debug)]
pub(super) struct Refusals(Mutex<Kept>);

impl Refusals {
    pub(super) fn new(now: Timestamp) -> Refusals {
        Refusals(Mutex::new(Kept { last: VecDeque::new(), count: 0, log: Rate::new(LOGGED_PER_S, now), unlogged: 0 }))
    }

    pub(super) fn add(&self, refusal: Refusal) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.count += 1;
        if kept.log.is_empty(refusal.at) {
            kept.unlogged += 1;
        } else {
            kept.log.take(1, refusal.at);
            let more = std::mem::take(&mut kept.unlogged);
            let Refusal { address, presented, reason, .. } = &refusal;
            tracing::warn!(%address, %presented, %reason, not_shown = more, "refused a peer");
        }
        if kept.last.len() == KEPT {
            kept.last.pop_front();
        }
        kept.last.push_back(refusal);
    }

    /// How many there were, and the last ones.
    pub(super) fn all(&self) -> (u64, Vec<Refusal>) {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.count, kept.last.iter().cloned().collect())
    }
}
