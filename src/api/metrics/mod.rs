//! `GET /metrics`: the plane's figures in the text form that Prometheus reads (OpenMetrics 1.0).
//!
//! Most are looked up when somebody asks: the manager keeps plain counts and answers between two turns, and the rest belongs
//! to the process and its store. Only what nobody could tell later is measured as it happens, outside of the manager:
//! commits by the store's thread, requests by the API, and delays by one who follows the committed batches ([`observe`]).
//!
//! The same stands on the API's socket and, with `metrics` in `plane.yaml`, on an address of its own that serves nothing else.

mod form;
mod look;
pub mod table;

pub use form::{CONTENT_TYPE, Kind};

use super::error::ApiError;
use super::state::{Api, Doors, answer};
use crate::clock::Clock;
use crate::manager::Handle;
use crate::model::{Batch, Record, Timestamp};
use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::metrics::histogram::Histogram;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;
use tokio::sync::broadcast::error::RecvError;

/// Limits of the classes that delays are sorted into, in seconds.
const DELAY_SECONDS: [f64; 12] = [1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// What is measured as it happens. Clones are the same.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Measured>);

#[derive(Debug)]
struct Measured {
    /// When the daemon started.
    started: Timestamp,
    /// The store's file, where it has one.
    store: Option<PathBuf>,
    commits: Histogram,
    delays: Histogram,
    /// Requests by method, route and status.
    requests: Mutex<BTreeMap<(String, String, u16), u64>>,
    streams: AtomicI64,
    spans: AtomicU64,
    spans_dropped: AtomicU64,
}

impl Metrics {
    /// Nothing measured yet, by a daemon that starts now, with its store's file and how long commits to it take.
    pub fn new(started: Timestamp, store: Option<PathBuf>, commits: Histogram) -> Metrics {
        Metrics(Arc::new(Measured {
            started,
            store,
            commits,
            delays: Histogram::new(DELAY_SECONDS),
            requests: Mutex::default(),
            streams: AtomicI64::default(),
            spans: AtomicU64::default(),
            spans_dropped: AtomicU64::default(),
        }))
    }

    /// A stream of events is open for as long as this is kept.
    pub fn stream(&self) -> OpenStream {
        self.0.streams.fetch_add(1, Ordering::Relaxed);
        OpenStream(self.clone())
    }

    /// Spans that were handed to the collector of traces, and spans that were given up.
    pub fn spans(&self, sent: u64, dropped: u64) {
        self.0.spans.fetch_add(sent, Ordering::Relaxed);
        self.0.spans_dropped.fetch_add(dropped, Ordering::Relaxed);
    }

    fn request(&self, method: &str, route: &str, status: u16) {
        let key = (method.to_owned(), route.to_owned(), status);
        *self.0.requests.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default() += 1;
    }

    /// How long it took from each event in a batch that led to a decision until that was durable, which it is now.
    fn decided(&self, batch: &Batch, now: Timestamp) {
        let mut seen = BTreeSet::new();
        for record in &batch.records {
            let proposal = match record {
                Record::Planned { action } => &action.proposal,
                Record::Refused { refusal, .. } => &refusal.proposal,
                _ => continue,
            };
            let Some(cause) = &proposal.cause else { continue };
            if seen.insert(cause.seq) {
                self.0.delays.observe(now.since(cause.at).0 as f64 / 1e3);
            }
        }
    }
}

/// Counts a stream of events while it is open.
#[derive(Debug)]
pub struct OpenStream(Metrics);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Follows the committed batches until the manager is gone. Where it cannot keep up it leaves batches out, so that the delays
/// of a plane in a hurry are those of a sample.
pub async fn observe(handle: Handle, metrics: Metrics, clock: Arc<dyn Clock>) {
    let mut batches = handle.follow();
    loop {
        match batches.recv().await {
            Ok(batch) => metrics.decided(&batch, clock.now()),
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

/// Counts requests by the route they took, which is one of few, not by the path they named.
pub(super) async fn count(State(api): State<Api>, request: Request, next: Next) -> Response {
    // Methods are whatever a stranger writes; of those that are not ours none is remembered.
    let ours = [Method::GET, Method::POST].into_iter().find(|method| method == request.method());
    let method = ours.as_ref().map_or("other", Method::as_str).to_owned();
    let route = request.extensions().get::<MatchedPath>().map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let response = next.run(request).await;
    let method = if route == "none" { "other" } else { &method };
    api.doors.metrics.request(method, &route, response.status().as_u16());
    response
}

/// Where the figures are.
pub(super) const PATH: &str = "/metrics";

pub(super) async fn get_text(State(api): State<Api>) -> Result<Response, ApiError> {
    text(&api.handle, &api.doors).await
}

async fn text(handle: &Handle, doors: &Doors) -> Result<Response, ApiError> {
    let now = doors.clock.now();
    let started = doors.metrics.0.started;
    let mut samples = answer(handle.ask(move |manager| look::at_manager(manager, now, started))).await?;
    let doors = doors.clone();
    // The store's file is looked at, and the process by the files that the kernel shows.
    let rest = tokio::task::spawn_blocking(move || {
        look::at_daemon(&mut samples, &doors);
        form::text(&samples)
    });
    let text = rest.await.map_err(|error| ApiError::unavailable(format!("the figures cannot be put together: {error}")))?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}

/// Serves `/metrics`, and nothing else, to whoever can connect.
pub async fn serve(listener: TcpListener, handle: Handle, doors: Doors) -> std::io::Result<()> {
    let scrape = move || {
        let (handle, doors) = (handle.clone(), doors.clone());
        async move { text(&handle, &doors).await }
    };
    let absent = async || ApiError::not_found("only /metrics is here").with_hint("the API is on the plane's socket");
    axum::serve(listener, Router::new().route(PATH, get(scrape)).fallback(absent)).await
}
