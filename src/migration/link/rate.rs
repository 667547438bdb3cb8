//! How much a peer may say: a bucket of tokens that fills with time. Pure; time is a parameter.

use crate::model::{Span, Timestamp};

/// A limit per second, with as much at once after a silence.
#[derive(Debug, Clone)]
pub struct Rate {
    per_s: u64,
    /// What may still be taken, in thousandths; below zero: a debt.
    left: i128,
    at: Timestamp,
}

impl Rate {
    /// So much a second, at least 1.
    pub fn new(per_s: u64, now: Timestamp) -> Rate {
        let per_s = per_s.max(1);
        Rate { per_s, left: i128::from(per_s) * 1_000, at: now }
    }

    /// Is there nothing to take without waiting?
    pub fn is_empty(&mut self, now: Timestamp) -> bool {
        self.take(0, now);
        self.left < 1_000
    }

    /// Has nothing been taken of late?
    pub fn is_full(&mut self, now: Timestamp) -> bool {
        self.take(0, now);
        self.left >= i128::from(self.per_s) * 1_000
    }

    /// Takes an amount, and says how long to wait before the next. What is larger than the bucket is taken on credit.
    pub fn take(&mut self, amount: u64, now: Timestamp) -> Span {
        let full = i128::from(self.per_s) * 1_000;
        let gained = i128::from(now.since(self.at).0) * i128::from(self.per_s);
        self.at = self.at.max(now);
        self.left = (self.left + gained).min(full) - i128::from(amount) * 1_000;
        if self.left >= 0 {
            return Span::ZERO;
        }
        Span(u64::try_from((-self.left).div_euclid(i128::from(self.per_s)) + 1).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whoever waits as told stays within the limit, whatever the amounts.
        #[test]
        fn the_limit_holds(per_s in 1_u64..10_000, amounts in prop::collection::vec(0_u64..20_000, 1..50)) {
            let mut now = Timestamp(5);
            let mut rate = Rate::new(per_s, now);
            let mut taken = 0;
            for amount in &amounts {
                taken += amount;
                now = now + rate.take(*amount, now);
            }
            let passed = now.since(Timestamp(5)).0;
            // One bucket at the start; one millisecond of rounding for each step.
            let allowed = per_s + per_s * (passed + 1) / 1_000 + 1;
            prop_assert!(taken <= allowed, "{taken} in {passed} ms at {per_s}/s");
            let steps = u64::try_from(amounts.len()).unwrap();
            prop_assert!(passed <= taken * 1_000 / per_s + steps, "nobody waits longer than needed");
        }
    }
}
