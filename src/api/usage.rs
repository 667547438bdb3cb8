//! `GET /v1/usage/{element}`: what an element used, over time.

use super::error::ApiError;
use super::names::find_element;
use super::request::{Name, Query};
use super::state::Api;
use crate::model::Span;
use crate::usage::Metric;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Figures of one metric over a window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MetricView {
    /// Samples in the window (minute means count as one).
    pub samples: usize,
    /// The newest.
    pub last: Option<f64>,
    /// The arithmetic mean.
    pub mean: Option<f64>,
    /// The smallest.
    pub min: Option<f64>,
    /// The largest.
    pub max: Option<f64>,
    /// The value below which 95 of 100 samples lie.
    pub p95: Option<f64>,
    /// The slope of the least-squares line, per minute.
    pub trend_per_minute: Option<f64>,
    /// The samples themselves, the oldest first.
    pub values: Vec<f64>,
}

/// What an element used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UsageView {
    /// The element.
    pub element: String,
    /// Its name for people.
    pub name: String,
    /// The length of the window, back from now.
    pub span: String,
    /// Figures by metric. Shares are 0 to 1, rates are per second.
    pub metrics: BTreeMap<String, MetricView>,
}

/// Which usage is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UsageFilter {
    /// The window's length (10 minutes where it is not said).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span: Option<Span>,
    /// Only this metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<Metric>,
}

pub(super) async fn get_one(
    State(api): State<Api>,
    Name(name): Name,
    Query(filter): Query<UsageFilter>,
) -> Result<Json<UsageView>, ApiError> {
    let now = api.doors.clock.now();
    let found = api.ask(move |manager| {
        let world = manager.world();
        let element = find_element(&world, &name)?;
        let span = filter.span.unwrap_or(Span::minutes(10));
        let usage = manager.usage();
        let wanted = Metric::ALL.iter().filter(|(metric, ..)| filter.metric.is_none_or(|wanted| wanted == *metric));
        let metrics = wanted.filter_map(|(metric, name, _)| {
            let window = usage.window(&element, *metric, span, now);
            let view = MetricView {
                samples: window.len(),
                last: window.last(),
                mean: window.mean(),
                min: window.min(),
                max: window.max(),
                p95: window.percentile(95.0),
                trend_per_minute: window.trend(),
                values: window.values().collect(),
            };
            (!window.is_empty()).then(|| ((*name).to_owned(), view))
        });
        Ok(UsageView {
            element: element.to_string(),
            name: world.label(&element),
            span: span.to_string(),
            metrics: metrics.collect(),
        })
    });
    found.await?.map(Json)
}
