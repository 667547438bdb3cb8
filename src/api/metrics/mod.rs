//! `GET /metrics`: the plane's figures in the text form that Prometheus reads (OpenMetrics 1.0).
//!
//! Most are looked up when somebody asks: the manager keeps plain counts and answers between two turns, and the rest belongs
//! to the process and its store. Only what nobody could tell later is measured as it happens: commits by the store's thread,
//! requests by the API.
//!
//! The same stands on the API's socket and, with `metrics` in `plane.yaml`, on an address of its own that serves nothing else.

mod form;
mod look;
pub mod table;

pub use form::{CONTENT_TYPE, Kind};

use super::connections::Server;
use super::error::ApiError;
use super::state::{Api, Doors, answer};
use crate::manager::Handle;
use crate::model::Timestamp;
use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::metrics::histogram::Histogram;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

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
}

/// Counts a stream of events while it is open.
#[derive(Debug)]
pub struct OpenStream(Metrics);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.0.streams.fetch_sub(1, Ordering::Relaxed);
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
pub async fn serve(listener: TcpListener, handle: Handle, doors: Doors) {
    let scrape = move || {
        let (handle, doors) = (handle.clone(), doors.clone());
        async move { text(&handle, &doors).await }
    };
    let absent = async || ApiError::not_found("only /metrics is here").with_hint("the API is on the plane's socket");
    let router = Router::new().route(PATH, get(scrape)).fallback(absent).layer(from_fn(super::timely));
    // Connections end with this task.
    let ((_goes_on, stopping), (alive, _)) = (watch::channel(false), mpsc::channel(1));
    Server { router, seats: Arc::default(), stopping, _alive: alive }.accept_plain(listener).await;
}
