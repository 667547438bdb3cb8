//! Samples, and their text.

use super::table::{METRICS, Metric};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::fmt;

/// The text's content type.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Kinds of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Sorted into classes and added up.
    Histogram,
}

impl Kind {
    /// In one word, as the text has it.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// A value.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Number(f64),
    Spread(Histogram),
}

/// Values with their labels' values, by metric.
#[derive(Debug, Clone, Default)]
pub(super) struct Samples(BTreeMap<&'static str, Vec<(Vec<String>, Value)>>);

impl Samples {
    /// Adds a number; the labels stand in the order of the table.
    pub(super) fn put(&mut self, name: &'static str, labels: &[&str], number: f64) {
        self.add(name, labels, Value::Number(number));
    }

    /// Adds a histogram.
    pub(super) fn spread(&mut self, name: &'static str, labels: &[&str], histogram: &Histogram) {
        self.add(name, labels, Value::Spread(histogram.clone()));
    }

    fn add(&mut self, name: &'static str, labels: &[&str], value: Value) {
        self.0.entry(name).or_default().push((labels.iter().map(ToString::to_string).collect(), value));
    }
}

/// The samples in the form that Prometheus reads. Every metric of the table is described, also one without values.
pub(super) fn text(samples: &Samples) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Table(samples.clone())));
    let mut text = String::new();
    // Writing to a text does not fail.
    let _ = encode(&mut text, &registry);
    text
}

#[derive(Debug)]
struct Table(Samples);

impl Collector for Table {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for metric in METRICS {
            let (name, kind) = match metric.kind {
                // The ending is added to each value.
                Kind::Counter => (metric.name.trim_end_matches("_total"), MetricType::Counter),
                Kind::Gauge => (metric.name, MetricType::Gauge),
                Kind::Histogram => (metric.name, MetricType::Histogram),
            };
            let mut encoder = encoder.encode_descriptor(name, metric.help, None, kind)?;
            let samples = self.0.0.get(metric.name).map_or(&[][..], Vec::as_slice);
            if let (true, Some((_, value))) = (metric.labels.is_empty(), samples.first()) {
                write(metric, value, encoder)?;
                continue;
            }
            for (labels, value) in samples {
                let labels: Vec<(&str, &str)> = metric.labels.iter().copied().zip(labels.iter().map(String::as_str)).collect();
                write(metric, value, encoder.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

fn write(metric: &Metric, value: &Value, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
    match value {
        Value::Number(number) if metric.kind == Kind::Counter => encoder.encode_counter::<NoLabelSet, _, f64>(number, None),
        Value::Number(number) => encoder.encode_gauge(number),
        Value::Spread(histogram) => histogram.encode(encoder),
    }
}
