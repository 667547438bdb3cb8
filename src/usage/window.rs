//! Figures over a stretch of a series.

use crate::model::Timestamp;

/// Samples in time order. Every figure of an empty window is `None`: nothing is known, which is not the same as zero.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Window {
    points: Vec<(Timestamp, f64)>,
}

impl Window {
    pub(super) fn push(&mut self, at: Timestamp, value: f64) {
        self.points.push((at, value));
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// Is nothing known?
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// The values with their times, the oldest first.
    pub fn points(&self) -> impl DoubleEndedIterator<Item = (Timestamp, f64)> + '_ {
        self.points.iter().copied()
    }

    /// The values, the oldest first.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = f64> + '_ {
        self.points.iter().map(|(_, value)| *value)
    }

    /// The arithmetic mean.
    pub fn mean(&self) -> Option<f64> {
        (!self.is_empty()).then(|| self.values().sum::<f64>() / self.len() as f64)
    }

    /// The largest value.
    pub fn max(&self) -> Option<f64> {
        self.values().reduce(f64::max)
    }

    /// The smallest value.
    pub fn min(&self) -> Option<f64> {
        self.values().reduce(f64::min)
    }

    /// The newest value.
    pub fn last(&self) -> Option<f64> {
        self.values().next_back()
    }

    /// The value below which `percent` (0 to 100) of the samples lie, by linear interpolation between the two nearest ranks.
    pub fn percentile(&self, percent: f64) -> Option<f64> {
        let mut sorted: Vec<f64> = self.values().collect();
        sorted.sort_by(f64::total_cmp);
        let rank = percent.clamp(0.0, 100.0) / 100.0 * (sorted.len().checked_sub(1)? as f64);
        let (low, high) = (sorted[rank.floor() as usize], sorted[rank.ceil() as usize]);
        Some(low + (high - low) * rank.fract())
    }

    /// The slope of the least-squares line, per minute. `None` with fewer than two samples.
    pub fn trend(&self) -> Option<f64> {
        if self.len() < 2 {
            return None;
        }
        let start = self.points[0].0;
        let minutes = |at: Timestamp| at.since(start).as_seconds() / 60.0;
        let n = self.len() as f64;
        let mean_x = self.points.iter().map(|(at, _)| minutes(*at)).sum::<f64>() / n;
        let mean_y = self.mean()?;
        let (mut across, mut along) = (0.0, 0.0);
        for (at, value) in &self.points {
            let x = minutes(*at) - mean_x;
            across += x * (value - mean_y);
            along += x * x;
        }
        (along > 0.0).then(|| across / along)
    }

    /// The exponentially weighted mean: each newer sample counts `alpha` (0 to 1), all before it together the rest.
    pub fn ewma(&self, alpha: f64) -> Option<f64> {
        let alpha = alpha.clamp(0.0, 1.0);
        self.values().reduce(|mean, value| alpha * value + (1.0 - alpha) * mean)
    }

    /// The standard deviation of the samples (divided by n).
    pub fn deviation(&self) -> Option<f64> {
        let mean = self.mean()?;
        Some((self.values().map(|value| (value - mean).powi(2)).sum::<f64>() / self.len() as f64).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(values: &[f64]) -> Window {
        Window { points: values.iter().enumerate().map(|(i, value)| (Timestamp(i as i64 * 60_000), *value)).collect() }
    }

    #[test]
    fn figures_are_those_computed_by_hand() {
        let w = window(&[1.0, 2.0, 3.0, 10.0]);
        assert_eq!(w.mean(), Some(4.0));
        assert_eq!(w.percentile(50.0), Some(2.5));
        assert_eq!(w.percentile(100.0), Some(10.0));
        assert_eq!(w.trend(), Some(2.8));
        assert_eq!(w.ewma(0.5), Some(6.125));
        assert_eq!(w.deviation(), Some(12.5_f64.sqrt()));
    }

    #[test]
    fn nothing_known_is_not_zero() {
        let w = window(&[]);
        assert_eq!((w.mean(), w.percentile(50.0), w.trend(), w.ewma(0.5), w.max()), (None, None, None, None, None));
        assert_eq!(window(&[1.0]).trend(), None);
    }
}
