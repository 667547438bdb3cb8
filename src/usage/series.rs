//! One metric of one element over time.

use super::window::Window;
use crate::model::{Span, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Samples kept as they came.
pub const NATIVE: usize = 120;

/// One-minute means kept of what is older.
pub const MINUTES: usize = 180;

/// A series: two rings, the younger as sampled, the older by the minute.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    native: VecDeque<Point>,
    minutes: VecDeque<Minute>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Point {
    at: Timestamp,
    value: f32,
}

/// The mean of `count` samples within one minute of the clock.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Minute {
    number: u32,
    count: u32,
    sum: f32,
}

impl Series {
    /// Adds a sample. One that is not newer than the newest, or is not a finite number, is ignored.
    pub fn push(&mut self, at: Timestamp, value: f32) {
        if !value.is_finite() || self.native.back().is_some_and(|last| last.at >= at) {
            return;
        }
        if self.native.len() == NATIVE
            && let Some(oldest) = self.native.pop_front()
        {
            self.roll_up(oldest);
        }
        self.native.push_back(Point { at, value });
    }

    fn roll_up(&mut self, point: Point) {
        let number = u32::try_from(point.at.0 / 60_000).unwrap_or(0);
        match self.minutes.back_mut() {
            Some(last) if last.number == number => {
                last.count += 1;
                last.sum += point.value;
            }
            _ => {
                if self.minutes.len() == MINUTES {
                    self.minutes.pop_front();
                }
                self.minutes.push_back(Minute { number, count: 1, sum: point.value });
            }
        }
    }

    /// What happened in the `span` before `now`, `now` included.
    pub fn window(&self, span: Span, now: Timestamp) -> Window {
        let from = now - span;
        let native_from = self.native.front().map_or(now, |point| point.at);
        let mut window = Window::default();
        if from < native_from {
            let old = self.minutes.iter().map(|minute| (Timestamp(i64::from(minute.number) * 60_000), minute));
            for (at, minute) in old.skip_while(|(at, _)| *at <= from) {
                window.push(at, f64::from(minute.sum) / f64::from(minute.count));
            }
        }
        let start = self.native.partition_point(|point| point.at <= from);
        for point in self.native.range(start..).take_while(|point| point.at <= now) {
            window.push(point.at, f64::from(point.value));
        }
        window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_joins_minutes_and_samples() {
        let mut series = Series::default();
        for second in 0..600 {
            series.push(Timestamp(second * 1_000), second as f32);
        }
        let window = series.window(Span::minutes(10), Timestamp(599_000));
        assert_eq!(window.len(), NATIVE + 8, "480 older samples lie in eight minutes");
        assert_eq!(series.window(Span::seconds(10), Timestamp(599_000)).mean(), Some(594.5));
    }

    #[test]
    fn nonsense_is_ignored() {
        let mut series = Series::default();
        series.push(Timestamp(5), 1.0);
        series.push(Timestamp(5), 2.0);
        series.push(Timestamp(4), 2.0);
        series.push(Timestamp(6), f32::NAN);
        assert_eq!(series.window(Span::minutes(1), Timestamp(10)).len(), 1);
    }

    #[test]
    fn memory_is_bounded() {
        let mut series = Series::default();
        for minute in 0..10_000 {
            series.push(Timestamp(minute * 60_000), 1.0);
        }
        assert_eq!((series.native.len(), series.minutes.len()), (NATIVE, MINUTES));
    }
}
