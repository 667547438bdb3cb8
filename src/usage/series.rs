//! What one element used over time: all its metrics together, since they are sampled together.

use super::Metric;
use super::window::Window;
use crate::model::{Span, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Samples kept as they came.
pub const NATIVE: usize = 120;

/// One-minute means kept of what is older.
pub const MINUTES: usize = 180;

/// A value for each metric, in their order; NaN where it is not known.
pub type Values = [f32; Metric::ALL.len()];

/// A series: two rings, the younger as sampled, the older by the minute. With 10,000 guests these rings are most of what the
/// plane holds in memory, so a time is kept once for all metrics, and rings never grow beyond what they may hold.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Series {
    native: VecDeque<Sample>,
    minutes: VecDeque<Minute>,
    /// How many samples are in the means of the youngest minute.
    counts: [u32; Metric::ALL.len()],
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Sample {
    at: Timestamp,
    values: Values,
}

/// The means of the samples within one minute of the clock.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Minute {
    number: u32,
    means: Values,
}

impl Series {
    /// What a full series takes in memory.
    pub const FULL_BYTES: usize = NATIVE * size_of::<Sample>() + MINUTES * size_of::<Minute>();

    /// What it takes in memory.
    pub fn bytes(&self) -> usize {
        self.native.capacity() * size_of::<Sample>() + self.minutes.capacity() * size_of::<Minute>()
    }

    /// Adds a sample. One that is not newer than the newest, or knows nothing, is ignored; what is no finite number is not
    /// known.
    pub fn push(&mut self, at: Timestamp, values: &Values) {
        let values = values.map(|value| if value.is_finite() { value } else { f32::NAN });
        if values.iter().all(|value| value.is_nan()) || self.native.back().is_some_and(|last| last.at >= at) {
            return;
        }
        if self.native.len() == NATIVE
            && let Some(oldest) = self.native.pop_front()
        {
            self.roll_up(oldest);
        }
        make_room(&mut self.native, NATIVE);
        self.native.push_back(Sample { at, values });
    }

    fn roll_up(&mut self, sample: Sample) {
        let number = u32::try_from(sample.at.0 / 60_000).unwrap_or(0);
        if self.minutes.back().is_none_or(|last| last.number != number) {
            if self.minutes.len() == MINUTES {
                self.minutes.pop_front();
            }
            make_room(&mut self.minutes, MINUTES);
            self.minutes.push_back(Minute { number, means: [f32::NAN; Metric::ALL.len()] });
            self.counts = Default::default();
        }
        let Some(minute) = self.minutes.back_mut() else { return };
        for ((mean, count), value) in minute.means.iter_mut().zip(&mut self.counts).zip(sample.values) {
            if value.is_nan() {
                continue;
            }
            *count += 1;
            *mean = if *count == 1 { value } else { *mean + (value - *mean) / *count as f32 };
        }
    }

    /// The same, unless it is no history this program could have written: it comes from a file, or from another plane.
    pub fn checked(self) -> Option<Series> {
        let bounded = self.native.len() <= NATIVE && self.minutes.len() <= MINUTES;
        let samples = self.native.iter().zip(self.native.iter().skip(1)).all(|(a, b)| a.at < b.at);
        let minutes = self.minutes.iter().zip(self.minutes.iter().skip(1)).all(|(a, b)| a.number < b.number);
        (bounded && samples && minutes).then_some(self)
    }

    /// Moves all of it in time: later, or earlier where the figure is negative. Minutes stay whole.
    pub fn shift(&mut self, by_ms: i64) {
        let minutes = by_ms.div_euclid(60_000) + i64::from(by_ms.rem_euclid(60_000) >= 30_000);
        for sample in &mut self.native {
            sample.at = Timestamp(sample.at.0.saturating_add(by_ms));
        }
        for minute in &mut self.minutes {
            let number = i64::from(minute.number).saturating_add(minutes);
            minute.number = u32::try_from(number.max(0)).unwrap_or(u32::MAX);
        }
    }

    /// What happened to a metric in the `span` before `now`, `now` included.
    pub fn window(&self, metric: Metric, span: Span, now: Timestamp) -> Window {
        let metric = metric as usize;
        let from = now - span;
        let native_from = self.native.front().map_or(now, |sample| sample.at);
        let mut window = Window::default();
        let mut push = |at: Timestamp, value: f32| {
            if !value.is_nan() {
                window.push(at, f64::from(value));
            }
        };
        if from < native_from {
            let old = self.minutes.iter().map(|minute| (Timestamp(i64::from(minute.number) * 60_000), minute));
            for (at, minute) in old.skip_while(|(at, _)| *at <= from) {
                push(at, minute.means[metric]);
            }
        }
        let start = self.native.partition_point(|sample| sample.at <= from);
        for sample in self.native.range(start..).take_while(|sample| sample.at <= now) {
            push(sample.at, sample.values[metric]);
        }
        window
    }
}

/// Makes room for one more in a ring that will hold `most`: by half of what it holds, since doubling would leave up to half of
/// it empty for good.
fn make_room<T>(ring: &mut VecDeque<T>, most: usize) {
    if ring.len() == ring.capacity() {
        ring.reserve_exact((ring.len() / 2).max(8).min(most.saturating_sub(ring.len()).max(1)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sample of two metrics.
    fn values(cpu: f32, net: f32) -> Values {
        let mut values = [f32::NAN; Metric::ALL.len()];
        (values[Metric::Cpu as usize], values[Metric::Net as usize]) = (cpu, net);
        values
    }

    #[test]
    fn a_window_joins_minutes_and_samples() {
        let mut series = Series::default();
        for second in 0..600 {
            series.push(Timestamp(second * 1_000), &values(second as f32, 1.0));
        }
        let window = series.window(Metric::Cpu, Span::minutes(10), Timestamp(599_000));
        assert_eq!(window.len(), NATIVE + 8, "480 older samples lie in eight minutes");
        assert_eq!(window.values().next(), Some(29.5));
        assert_eq!(series.window(Metric::Cpu, Span::seconds(10), Timestamp(599_000)).mean(), Some(594.5));
        assert_eq!(series.window(Metric::Net, Span::minutes(10), Timestamp(599_000)).mean(), Some(1.0));
        assert!(series.window(Metric::Disk, Span::minutes(10), Timestamp(599_000)).is_empty());
    }

    #[test]
    fn nonsense_is_ignored() {
        let mut series = Series::default();
        series.push(Timestamp(5), &values(1.0, f32::INFINITY));
        series.push(Timestamp(5), &values(2.0, 2.0));
        series.push(Timestamp(4), &values(2.0, 2.0));
        series.push(Timestamp(6), &values(f32::NAN, f32::NAN));
        series.push(Timestamp(7), &values(f32::NAN, 7.0));
        let known = |metric| series.window(metric, Span::minutes(1), Timestamp(10)).values().collect::<Vec<_>>();
        assert_eq!((known(Metric::Cpu), known(Metric::Net)), (vec![1.0], vec![7.0]));
    }

    #[test]
    fn a_minute_counts_each_metric_by_itself() {
        let mut series = Series::default();
        for second in 0..30 + NATIVE as i64 {
            let net = if second % 2 == 0 { f32::NAN } else { second as f32 };
            series.push(Timestamp(second * 1_000), &values(second as f32, net));
        }
        let minute = |metric| series.window(metric, Span::hours(1), Timestamp(1_000_000)).values().next();
        assert_eq!(series.minutes.len(), 1);
        assert_eq!((minute(Metric::Cpu), minute(Metric::Net)), (Some(14.5), Some(15.0)));
    }

    #[test]
    fn memory_is_bounded() {
        let mut series = Series::default();
        for minute in 0..10_000 {
            series.push(Timestamp(minute * 60_000), &values(1.0, 1.0));
        }
        assert_eq!((series.native.len(), series.minutes.len()), (NATIVE, MINUTES));
        assert_eq!(series.bytes(), Series::FULL_BYTES, "no room is left empty");
    }
}
