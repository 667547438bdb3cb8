//! What guests want to do over time: generated, or played from a trace.
//!
//! A [`Shape`] is what the fleet's description says; a [`Signal`] plays it for one guest. All but the walk are plain functions
//! of time. A walk remembers where it is, and goes on in steps of fixed length, so that how often it is read does not matter.

use crate::model::Span;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use std::f64::consts::TAU;
use std::fmt;
use std::sync::Arc;

/// How a quantity goes over time. In YAML: a number (always that), or one of `sine`, `steps`, `walk`, `trace`.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// Always the same.
    Constant(f64),
    /// Up and down: `sine: { mean: 0.4, amplitude: 0.2, period: 10m, phase: 0s, stagger: 30s }`.
    Sine(Sine),
    /// From one value to the next: `steps: { at: { 0s: 0.1, 5m: 0.9 }, repeat: 10m }`.
    Steps(Steps),
    /// A random walk between two bounds: `walk: { start: 0.3, step: 0.05, every: 5s, low: 0.05, high: 0.9 }`.
    Walk(Walk),
    /// Recorded samples: `trace: { interval: 5m, samples: [0.1, 0.4], repeat: true, start: 0s, stagger: 1h }`. However many
    /// guests play a trace, its samples are in memory once.
    Trace(Trace),
    /// What was recorded of guests, one trace each.
    Recorded(Recorded),
}

/// See [`Shape::Sine`].
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sine {
    /// The middle.
    pub mean: f64,
    /// How far it goes from the middle.
    pub amplitude: f64,
    /// How long a whole wave is.
    pub period: Span,
    /// How far into the wave it begins.
    #[serde(default)]
    pub phase: Span,
    /// Each further guest of a group is that much further.
    #[serde(default)]
    pub stagger: Span,
}

/// See [`Shape::Steps`].
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Steps {
    /// From when on which value holds; before the first: the first.
    pub at: std::collections::BTreeMap<Span, f64>,
    /// Begins anew after this.
    #[serde(default)]
    pub repeat: Option<Span>,
    /// Each further guest of a group is that much further.
    #[serde(default)]
    pub stagger: Span,
}

/// See [`Shape::Walk`].
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Walk {
    /// Where it starts.
    pub start: f64,
    /// The longest step.
    pub step: f64,
    /// How long it rests between steps.
    pub every: Span,
    /// It goes no lower.
    #[serde(default)]
    pub low: f64,
    /// It goes no higher.
    #[serde(default = "one")]
    pub high: f64,
}

/// See [`Shape::Trace`].
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    /// How long a sample holds.
    pub interval: Span,
    /// The samples.
    pub samples: Arc<[f32]>,
    /// After the last sample the first again; else the last one stays.
    #[serde(default)]
    pub repeat: bool,
    /// How far into the samples it begins.
    #[serde(default)]
    pub start: Span,
    /// Each further guest of a group is that much further.
    #[serde(default)]
    pub stagger: Span,
}

/// A recorded trace for each guest of a group, shared by all that play it. It is given by the program, not in a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// How long a sample holds; after the last one that stays.
    pub interval: Span,
    /// The samples of each guest.
    pub guests: Arc<[Arc<[f32]>]>,
}

impl Recorded {
    /// What one guest of the group plays.
    fn of(&self, member: u64) -> Trace {
        let own = usize::try_from(member).ok().and_then(|member| self.guests.get(member)).cloned();
        let samples = own.unwrap_or_else(|| Arc::from([0.0]));
        Trace { interval: self.interval, samples, repeat: false, start: Span::ZERO, stagger: Span::ZERO }
    }
}

fn one() -> f64 {
    1.0
}

impl Shape {
    const NAMES: &'static [&'static str] = &["constant", "sine", "steps", "walk", "trace"];

    /// What is wrong with its numbers.
    pub fn complaint(&self) -> Option<String> {
        let too_short = |what: &str| Some(format!("`{what}` must be longer than 0"));
        match self {
            Shape::Sine(sine) if sine.period == Span::ZERO => too_short("period"),
            Shape::Steps(steps) if steps.at.is_empty() => Some("`steps` needs at least one value".to_owned()),
            Shape::Steps(steps) if steps.repeat == Some(Span::ZERO) => too_short("repeat"),
            Shape::Walk(walk) if walk.every == Span::ZERO => too_short("every"),
            Shape::Walk(walk) if walk.low > walk.high => Some("a walk's `low` must not lie above its `high`".to_owned()),
            Shape::Trace(trace) if trace.interval == Span::ZERO => too_short("interval"),
            Shape::Trace(trace) if trace.samples.is_empty() => Some("a trace needs at least one sample".to_owned()),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Shape, D::Error> {
        struct ShapeVisitor;
        impl<'de> Visitor<'de> for ShapeVisitor {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or one of `sine`, `steps`, `walk`, `trace`")
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Shape, E> {
                Ok(Shape::Constant(value))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Shape, E> {
                Ok(Shape::Constant(value as f64))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
                let Some(name) = map.next_key::<String>()? else { return Err(A::Error::invalid_length(0, &self)) };
                let shape = match name.as_str() {
                    "constant" => Shape::Constant(map.next_value()?),
                    "sine" => Shape::Sine(map.next_value()?),
                    "steps" => Shape::Steps(map.next_value()?),
                    "walk" => Shape::Walk(map.next_value()?),
                    "trace" => Shape::Trace(map.next_value()?),
                    other => return Err(A::Error::unknown_field(other, Shape::NAMES)),
                };
                match map.next_key::<String>()? {
                    None => Ok(shape),
                    Some(second) => Err(A::Error::custom(format!("a load has one shape; here are `{name}` and `{second}`"))),
                }
            }
        }
        deserializer.deserialize_any(ShapeVisitor)
    }
}

/// A shape as one guest plays it.
#[derive(Debug, Clone)]
pub(super) struct Signal {
    shape: Shape,
    walk: Option<Box<Walker>>,
    /// How much further than the group's first guest this one is.
    shift: Span,
}

#[derive(Debug, Clone)]
struct Walker {
    random: ChaCha8Rng,
    steps: u64,
    value: f64,
}

impl Signal {
    /// The signal of guest `member` (from 0) of a group; `stream` must differ for each signal of the fleet.
    pub(super) fn new(shape: &Shape, member: u64, seed: u64, stream: u64) -> Signal {
        let walk = match shape {
            Shape::Walk(walk) => {
                let mut random = ChaCha8Rng::seed_from_u64(seed);
                random.set_stream(stream);
                Some(Box::new(Walker { random, steps: 0, value: walk.start.clamp(walk.low, walk.high) }))
            }
            _ => None,
        };
        let shift = match shape {
            Shape::Sine(sine) => Span(sine.phase.0.saturating_add(sine.stagger.0.saturating_mul(member))),
            Shape::Steps(steps) => Span(steps.stagger.0.saturating_mul(member)),
            Shape::Trace(trace) => Span(trace.start.0.saturating_add(trace.stagger.0.saturating_mul(member))),
            _ => Span::ZERO,
        };
        let shape = match shape {
            Shape::Recorded(recorded) => Shape::Trace(recorded.of(member)),
            other => other.clone(),
        };
        Signal { shape, walk, shift }
    }

    /// Its value so long after the fleet's start; never negative.
    pub(super) fn value(&mut self, since_start: Span) -> f64 {
        let at = since_start.0.saturating_add(self.shift.0);
        let value = match &self.shape {
            Shape::Constant(value) => *value,
            // A guest plays its own trace of those.
            Shape::Recorded(_) => 0.0,
            Shape::Sine(sine) => {
                let period = sine.period.0.max(1);
                sine.mean + sine.amplitude * (TAU * (at % period) as f64 / period as f64).sin()
            }
            Shape::Steps(steps) => {
                let at = Span(steps.repeat.map_or(at, |repeat| at % repeat.0.max(1)));
                let step = steps.at.range(..=at).next_back().or_else(|| steps.at.first_key_value());
                step.map_or(0.0, |(_, value)| *value)
            }
            Shape::Walk(walk) => self.walk.as_mut().map_or(walk.start, |walker| walker.walk_to(walk, at)),
            Shape::Trace(trace) => {
                let count = trace.samples.len().max(1);
                let index = usize::try_from(at / trace.interval.0.max(1)).unwrap_or(usize::MAX);
                let index = if trace.repeat { index % count } else { index.min(count - 1) };
                trace.samples.get(index).map_or(0.0, |sample| f64::from(*sample))
            }
        };
        value.max(0.0)
    }
}

impl Walker {
    fn walk_to(&mut self, walk: &Walk, at: u64) -> f64 {
        let steps = at / walk.every.0.max(1);
        while self.steps < steps {
            self.steps += 1;
            let step = (share(&mut self.random) * 2.0 - 1.0) * walk.step;
            self.value = (self.value + step).clamp(walk.low, walk.high);
        }
        self.value
    }
}

/// A random number from 0 up to, not including, 1.
pub(super) fn share(random: &mut ChaCha8Rng) -> f64 {
    (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signal(yaml: &str, member: u64) -> Signal {
        Signal::new(&serde_yaml::from_str(yaml).unwrap(), member, 7, member)
    }

    #[test]
    fn shapes_have_the_values_computed_by_hand() {
        assert_eq!(signal("0.25", 0).value(Span::hours(3)), 0.25);
        let mut sine = signal("sine: { mean: 0.5, amplitude: 0.25, period: 8s }", 0);
        assert!((sine.value(Span::seconds(2)) - 0.75).abs() < 1e-9);
        assert!((sine.value(Span::seconds(6)) - 0.25).abs() < 1e-9);
        let mut third = signal("sine: { mean: 0.5, amplitude: 0.25, period: 8s, stagger: 1s }", 2);
        assert!((third.value(Span::ZERO) - 0.75).abs() < 1e-9);
        let mut steps = signal("steps: { at: { 0s: 0.1, 10s: 0.9 }, repeat: 20s }", 0);
        let values: Vec<_> = [0, 9, 10, 19, 20, 30].map(|s| steps.value(Span::seconds(s))).into();
        assert_eq!(values, [0.1, 0.1, 0.9, 0.9, 0.1, 0.9]);
        let mut trace = signal("trace: { interval: 5m, samples: [0.5, 0.75] }", 0);
        assert_eq!([0, 4, 5, 60].map(|m| trace.value(Span::minutes(m))), [0.5, 0.5, 0.75, 0.75]);
        let yaml = "trace: { interval: 5m, samples: [0.1, 0.2, 0.3], repeat: true, start: 5m, stagger: 10m }";
        let values = [0, 1, 2].map(|member| signal(yaml, member).value(Span::minutes(5)) as f32);
        assert_eq!(values, [0.3, 0.2, 0.1], "begun at minutes 5, 15 and 25");
    }

    #[test]
    fn guests_share_the_samples_of_a_trace() {
        let shape: Shape = serde_yaml::from_str("trace: { interval: 5m, samples: [0.5, 0.75], stagger: 5m }").unwrap();
        let signals: Vec<Signal> = (0..1_000).map(|member| Signal::new(&shape, member, 7, member)).collect();
        let Shape::Trace(trace) = &shape else { panic!("a trace") };
        assert_eq!(Arc::strong_count(&trace.samples), signals.len() + 1, "one list, however many play it");
    }

    #[test]
    fn a_walk_does_not_depend_on_how_often_it_is_read() {
        let yaml = "walk: { start: 0.3, step: 0.1, every: 5s, low: 0.2, high: 0.4 }";
        let (mut often, mut seldom, mut other) = (signal(yaml, 1), signal(yaml, 1), signal(yaml, 2));
        let mut differed = false;
        for second in 0..600 {
            let value = often.value(Span::seconds(second));
            assert!((0.2..=0.4).contains(&value));
            differed |= value != other.value(Span::seconds(second));
        }
        assert_eq!(often.value(Span::seconds(600)), seldom.value(Span::seconds(600)));
        assert!(differed, "two guests walk two ways");
    }
}
