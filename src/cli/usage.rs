//! `embot usage`: what an element used, over time.

use super::client::segment;
use super::context::Context;
use super::failure::Failure;
use super::screen::{Screen, percent};
use super::table::{Fit, table};
use crate::api::usage::{UsageFilter, UsageView};
use crate::api::words::bytes;
use crate::model::Span;
use crate::usage::Metric;

/// Show what a host or guest used, over time.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  embot usage host-a\n  embot usage web-3 --span 1h\n  embot usage web-3 --metric cpu --output json     with all samples"
)]
pub struct Usage {
    /// The host or guest.
    element: String,
    /// How far back (`30s`, `10m`, `3h`).
    #[arg(long, default_value = "10m")]
    span: Span,
    /// Only this metric: cpu, cpu_wait, memory, disk, iops, net.
    #[arg(long)]
    metric: Option<Metric>,
}

impl Usage {
    /// Asks and shows.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let filter = UsageFilter { span: Some(self.span), metric: self.metric };
        let usage: UsageView = context.client()?.find(&format!("/v1/usage/{}", segment(&self.element)), &filter).await?;
        context.show(&usage, |screen| render(&usage, screen))
    }
}

fn amount(metric: &str, value: Option<f64>) -> String {
    match (metric, value) {
        (_, None) => "-".to_owned(),
        ("cpu" | "cpu_wait" | "memory", Some(value)) => percent(value),
        ("disk" | "net", Some(value)) => format!("{}/s", bytes(value.max(0.0) as u64)),
        (_, Some(value)) => format!("{value:.0}/s"),
    }
}

/// The samples as a line of bars, from nothing to the largest (shares: to 1).
pub fn sparkline(metric: &str, values: &[f64], width: usize) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let top = match metric {
        "cpu" | "cpu_wait" | "memory" => 1.0,
        _ => values.iter().copied().fold(f64::MIN_POSITIVE, f64::max),
    };
    let skip = values.len().saturating_sub(width);
    let bar = |value: &f64| BARS[((value / top * 7.0).round().clamp(0.0, 7.0)) as usize];
    values.iter().skip(skip).map(bar).collect()
}

fn render(usage: &UsageView, screen: &Screen) -> String {
    let row = |(name, metric): (&String, &crate::api::usage::MetricView)| {
        let amount = |value| amount(name, value);
        vec![
            name.clone(),
            amount(metric.last),
            amount(metric.mean),
            amount(metric.p95),
            amount(metric.max),
            sparkline(name, &metric.values, 40),
        ]
    };
    let columns = [
        ("METRIC", Fit::Keep),
        ("LAST", Fit::Right),
        ("MEAN", Fit::Right),
        ("P95", Fit::Right),
        ("MAX", Fit::Right),
        ("LATEST SAMPLES", Fit::Cut),
    ];
    let text = table(&columns, usage.metrics.iter().map(row).collect(), screen);
    let none = format!("nothing was measured of {} in the last {}\n", usage.name, usage.span);
    if text.is_empty() { none } else { format!("{} over the last {}\n\n{text}", usage.name, usage.span) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::usage::MetricView;
    use crate::cli::screen::plain;

    #[test]
    fn usage_as_people_see_it() {
        let metric = |values: Vec<f64>| MetricView {
            samples: values.len(),
            last: values.last().copied(),
            mean: Some(0.5),
            min: Some(0.0),
            max: values.iter().copied().reduce(f64::max),
            p95: None,
            trend_per_minute: None,
            values,
        };
        let mut usage = UsageView {
            element: "host:host-a".into(),
            name: "host-a".into(),
            span: "10m".into(),
            metrics: [("cpu".to_owned(), metric(vec![0.0, 0.25, 0.5, 0.93, 1.2])), ("net".to_owned(), metric(vec![0.0, 4e6]))]
                .into(),
        };
        let text = render(&usage, &plain(80));
        usage.metrics.clear();
        insta::assert_snapshot!(format!("{text}---\n{}", render(&usage, &plain(80))));
    }
}
