//! Is a host overloaded? The tests of the literature.

use super::cluster::HISTORY;
use crate::usage::statistics::{Line, interquartile_range, median_absolute_deviation};

/// What a host is asked for, and was: by the guests that it has, or would have.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    /// The MIPS of the host.
    pub total_mips: f64,
    /// The MIPS that its guests want.
    pub demand_mips: f64,
    /// What they wanted at the last ticks, wherever they were, as shares of its MIPS, the newest first.
    pub history: [f64; HISTORY],
    /// The memory of its largest guest.
    pub largest_mb: f64,
}

/// A test for overload.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Overload {
    /// A fixed share of the MIPS.
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
    /// A straight line through the last ten ticks says that it will be full by the time its largest guest is elsewhere.
    Regression {
        /// By how much the prediction is multiplied.
        safety: f64,
    },
}

/// What a host may use of which too little is known for another test.
const LIMIT_AT_FIRST: f64 = 0.7;
/// As many ticks say how much a load varies.
const LEAST_TICKS: usize = 12;
/// As many ticks are regressed on.
const REGRESSED_TICKS: usize = 10;
/// What a move carries over half of a gigabit link.
pub(super) const MOVED_MB_PER_S: f64 = 62.5;

impl Overload {
    /// Is a host with such a load overloaded?
    pub fn is_over(self, load: &Load) -> bool {
        let known = load.history.iter().rposition(|share| *share != 0.0).map_or(0, |oldest| oldest + 1);
        let known = &load.history[..known];
        let demand = load.demand_mips / load.total_mips;
        match self {
            Overload::Iqr { safety } if known.len() >= LEAST_TICKS => {
                interquartile_range(known).is_some_and(|range| demand > 1.0 - safety * range)
            }
            Overload::Mad { safety } if known.len() >= LEAST_TICKS => {
                median_absolute_deviation(known).is_some_and(|deviation| demand > 1.0 - safety * deviation)
            }
            Overload::Regression { safety } if known.len() >= REGRESSED_TICKS => {
                let mut last: [f64; REGRESSED_TICKS] = std::array::from_fn(|index| known[index]);
                last.reverse();
                let ticks = (load.largest_mb / MOVED_MB_PER_S / super::SAMPLE_S).ceil();
                Line::fit(&last).is_some_and(|line| line.at(REGRESSED_TICKS as f64 + ticks) * safety >= 1.0)
            }
            _ => demand > self.limit_at_first(),
        }
    }

    /// The share of its MIPS that a host without a past may use.
    pub fn limit_at_first(self) -> f64 {
        if let Overload::Threshold { limit } = self { limit } else { LIMIT_AT_FIRST }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A load that wants `demand` of the MIPS now, and wanted these shares, the oldest first.
    fn load(demand: f64, shares: &[f64]) -> Load {
        let mut history = [0.0; HISTORY];
        history.iter_mut().zip(shares.iter().rev()).for_each(|(place, share)| *place = *share);
        Load { total_mips: 1_000.0, demand_mips: demand * 1_000.0, history, largest_mb: 870.0 }
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
}
