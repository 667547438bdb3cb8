//! Is a host overloaded? The tests of the literature (Beloglazov and Buyya 2012), and one by mean and deviation.

use crate::model::Span;
use crate::usage::statistics::{Line, interquartile_range, median_absolute_deviation};

/// The time of which a load's past keeps one value each.
pub const SLOT: Span = Span::minutes(5);
/// How many values a load's past has.
pub const SLOTS: usize = 30;

/// What a host is asked for, and was: by the guests that it has, or would have.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    /// The processing that the host can give, in whatever unit.
    pub total: f64,
    /// What its guests want of it, in the same unit.
    pub demand: f64,
    /// What they wanted in the slots past, wherever they were, as shares of what it can give, the newest first.
    pub history: [f64; SLOTS],
    /// The memory of its largest guest.
    pub largest_mb: f64,
}

impl Load {
    /// A host without guests.
    pub fn none(total: f64) -> Load {
        Load { total, demand: 0.0, history: [0.0; SLOTS], largest_mb: 0.0 }
    }

    /// What its guests want now, as a share of what it can give.
    pub fn share(&self) -> f64 {
        self.demand / self.total
    }

    /// The past as far as it is known.
    fn known(&self) -> &[f64] {
        &self.history[..self.history.iter().rposition(|share| *share != 0.0).map_or(0, |oldest| oldest + 1)]
    }
}

/// A test for overload.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Overload {
    /// A fixed share of what the host can give.
    Threshold {
        /// The share above which the host is overloaded.
        limit: f64,
    },
    /// The more its load varied, the less may be in use: by the interquartile range.
    Iqr {
        /// How often the range is kept free.
        safety: f64,
    },
    /// The same by the median absolute deviation.
    Mad {
        /// How often the deviation is kept free.
        safety: f64,
    },
    /// A straight line through the last ten slots says that it will be full by the time its largest guest is elsewhere.
    Regression {
        /// By how much the prediction is multiplied.
        safety: f64,
    },
    /// What is wanted now, or the mean of the last slots and some standard deviations more, is above a fixed share.
    Spread {
        /// How many standard deviations.
        deviations: f64,
        /// The share above which the host is overloaded.
        cap: f64,
        /// How many slots.
        slots: usize,
    },
}

/// What a host may use of which too little is known for another test.
const LIMIT_AT_FIRST: f64 = 0.7;
/// As many slots say how much a load varies.
const LEAST_SLOTS: usize = 12;
/// As many are enough for a mean and a deviation.
const LEAST_FOR_SPREAD: usize = 3;
/// As many slots are regressed on.
const REGRESSED_SLOTS: usize = 10;
/// What a move carries over half of a gigabit link.
pub const MOVED_MB_PER_S: f64 = 62.5;

impl Overload {
    /// Is a host with such a load overloaded?
    pub fn is_over(self, load: &Load) -> bool {
        let demand = load.share();
        if let Overload::Threshold { limit } = self {
            return demand > limit;
        }
        let known = load.known();
        match self {
            Overload::Iqr { safety } if known.len() >= LEAST_SLOTS => {
                interquartile_range(known).is_some_and(|range| demand > 1.0 - safety * range)
            }
            Overload::Mad { safety } if known.len() >= LEAST_SLOTS => {
                median_absolute_deviation(known).is_some_and(|deviation| demand > 1.0 - safety * deviation)
            }
            Overload::Regression { safety } if known.len() >= REGRESSED_SLOTS => {
                let mut last: [f64; REGRESSED_SLOTS] = std::array::from_fn(|index| known[index]);
                last.reverse();
                let slots = (load.largest_mb / MOVED_MB_PER_S / SLOT.as_seconds()).ceil();
                Line::fit(&last).is_some_and(|line| line.at(REGRESSED_SLOTS as f64 + slots) * safety >= 1.0)
            }
            Overload::Spread { cap, .. } => self.expected(load) > cap,
            _ => demand > self.limit_at_first(),
        }
    }

    /// What guests are expected to want of a host with such a load, as a share: what they want now, and by [`Overload::Spread`]
    /// what they come to want as they vary. As long as too little is known for that, as much more than now that the host is
    /// not filled more than by the other tests.
    pub fn expected(self, load: &Load) -> f64 {
        let Overload::Spread { deviations, cap, slots } = self else { return load.share() };
        let known = load.known();
        let known = &known[..known.len().min(slots)];
        if known.len() < LEAST_FOR_SPREAD {
            return load.share() * (cap / LIMIT_AT_FIRST).max(1.0);
        }
        let count = known.len() as f64;
        let mean = known.iter().sum::<f64>() / count;
        let variance = known.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / count;
        load.share().max(mean + deviations * variance.sqrt())
    }

    /// The share of what it can give that a host without a past may use.
    pub fn limit_at_first(self) -> f64 {
        if let Overload::Threshold { limit } = self { limit } else { LIMIT_AT_FIRST }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A load that wants `demand` of 1,000 MIPS now, and wanted these shares, the oldest first.
    fn load(demand: f64, shares: &[f64]) -> Load {
        let mut load = Load { demand: demand * 1_000.0, largest_mb: 870.0, ..Load::none(1_000.0) };
        load.history.iter_mut().zip(shares.iter().rev()).for_each(|(place, share)| *place = *share);
        load
    }

    #[test]
    fn a_threshold_is_exceeded_not_reached() {
        let test = Overload::Threshold { limit: 0.8 };
        assert!(!test.is_over(&load(0.8, &[])) && test.is_over(&load(0.801, &[])));
    }

    #[test]
    fn a_load_that_varies_leaves_less_to_use() {
        // Ranks 3 and 10 of twelve: 0.1 apart; the median is 0.5, and the median distance from it 0.05.
        let twelve = [0.3, 0.45, 0.45, 0.45, 0.5, 0.5, 0.5, 0.5, 0.55, 0.55, 0.55, 0.9];
        let iqr = Overload::Iqr { safety: 1.5 };
        assert!(!iqr.is_over(&load(0.84, &twelve)) && iqr.is_over(&load(0.86, &twelve)));
        let mad = Overload::Mad { safety: 2.5 };
        assert!(!mad.is_over(&load(0.87, &twelve)) && mad.is_over(&load(0.88, &twelve)));
        // With eleven, and with zeros before them, which nobody has seen.
        for test in [iqr, mad] {
            assert!(test.is_over(&load(0.71, &twelve[1..])) && !test.is_over(&load(0.69, &twelve[1..])));
        }
    }

    #[test]
    fn a_line_says_when_a_host_will_be_full() {
        // 0.32 to 0.5 in steps of 0.02; the next, after which the largest guest would be gone, is 0.52.
        let ten: Vec<f64> = (16..26).map(|step| f64::from(step) / 50.0).collect();
        assert!(!Overload::Regression { safety: 1.92 }.is_over(&load(0.9, &ten)));
        assert!(Overload::Regression { safety: 1.93 }.is_over(&load(0.1, &ten)));
        // A guest of 20,000 MB needs 320 s: two steps, to 0.54.
        let large = Load { largest_mb: 20_000.0, ..load(0.1, &ten) };
        assert!(Overload::Regression { safety: 1.86 }.is_over(&large));
        assert!(!Overload::Regression { safety: 1.85 }.is_over(&large));
        let nine = &ten[1..];
        let test = Overload::Regression { safety: 1.2 };
        assert!(test.is_over(&load(0.71, nine)) && !test.is_over(&load(0.69, nine)));
    }

    #[test]
    fn what_varies_is_expected_to_vary_on() {
        // Mean 0.4, deviation 0.1.
        let four = [0.5, 0.3, 0.5, 0.3];
        let test = |cap| Overload::Spread { deviations: 2.0, cap, slots: 12 };
        assert!((test(0.9).expected(&load(0.1, &four)) - 0.6).abs() < 1e-12);
        assert_eq!(test(0.9).expected(&load(0.8, &four)), 0.8);
        assert!(test(0.59).is_over(&load(0.1, &four)) && !test(0.61).is_over(&load(0.1, &four)));
        // Only the last three count, of which the mean is 0.36..
        let short = Overload::Spread { deviations: 0.0, cap: 0.9, slots: 3 };
        assert!((short.expected(&load(0.1, &four)) - 1.1 / 3.0).abs() < 1e-12);
        // With two, the limit is that of the beginning.
        assert!(test(0.9).is_over(&load(0.71, &four[2..])) && !test(0.9).is_over(&load(0.69, &four[2..])));
    }
}
