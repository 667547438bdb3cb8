//! Spans on their way to the collector: JSON over plain HTTP, in lots.

use super::spans::Span;
use crate::api::metrics::Metrics;
use crate::clock::Stopwatch;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc::Receiver;

/// Spans sent at once.
const LOT: usize = 512;
/// More spans are waited for so long.
const GATHER: Duration = Duration::from_millis(500);
/// An attempt may take so long.
const PATIENCE: Duration = Duration::from_secs(5);
/// After a failure the next attempt waits, at first so long, then twice as long, and so on,
const AGAIN_FIRST: Duration = Duration::from_secs(1);
/// up to this.
const AGAIN_MOST: Duration = Duration::from_secs(30);
/// The log says so often that the collector is away.
const REMIND: Duration = Duration::from_secs(600);

/// Where the collector is.
#[derive(Debug, Clone)]
pub struct Collector {
    /// Its host and port.
    pub authority: Arc<str>,
}

/// Why a lot was not taken.
enum Untaken {
    /// The collector is away or busy: the same lot may be taken later.
    Later(String),
    /// It does not want this lot.
    Never(String),
}

/// Sends what comes until nobody has anything to say any more.
pub(super) async fn run(collector: Collector, plane: Arc<str>, mut spans: Receiver<Span>, metrics: Metrics) {
    let mut told: Option<Stopwatch> = None;
    let mut lot = Vec::with_capacity(LOT);
    while spans.recv_many(&mut lot, LOT).await > 0 {
        if lot.len() < LOT && !spans.is_closed() {
            tokio::time::sleep(GATHER).await;
            while lot.len() < LOT
                && let Ok(span) = spans.try_recv()
            {
                lot.push(span);
            }
        }
        let body = body(&plane, &lot);
        let mut pause = AGAIN_FIRST;
        loop {
            let tried = tokio::time::timeout(PATIENCE, post(&collector, body.clone())).await;
            let tried = tried.unwrap_or_else(|_| Err(Untaken::Later(format!("no answer within {} s", PATIENCE.as_secs()))));
            let (why, again) = match tried {
                Ok(()) => {
                    if told.take().is_some() {
                        tracing::info!("the collector of traces at {} takes them again", collector.authority);
                    }
                    metrics.spans(lot.len() as u64, 0);
                    break;
                }
                Err(Untaken::Later(why)) => (why, !spans.is_closed()),
                Err(Untaken::Never(why)) => (why, false),
            };
            if told.is_none_or(|told| told.elapsed() > REMIND) {
                tracing::warn!("traces do not reach {}: {why}; spans that find no room are given up", collector.authority);
                told = Some(Stopwatch::start());
            }
            if !again {
                metrics.spans(0, lot.len() as u64);
                break;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(AGAIN_MOST);
        }
        lot.clear();
    }
}

fn body(plane: &str, spans: &[Span]) -> Bytes {
    let attribute = |key: &str, value: &str| json!({ "key": key, "value": { "stringValue": value } });
    let resource = [
        attribute("service.name", "embot"),
        attribute("service.version", env!("CARGO_PKG_VERSION")),
        attribute("service.instance.id", plane),
    ];
    let spans: Vec<_> = spans.iter().map(Span::json).collect();
    let scope = json!({ "scope": { "name": "embot" }, "spans": spans });
    json!({ "resourceSpans": [{ "resource": { "attributes": resource }, "scopeSpans": [scope] }] }).to_string().into()
}

async fn post(collector: &Collector, body: Bytes) -> Result<(), Untaken> {
    let later = |error: &dyn std::error::Error| Untaken::Later(error.to_string());
    let stream = TcpStream::connect(&*collector.authority).await.map_err(|error| later(&error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| later(&error))?;
    let connection = tokio::spawn(connection);
    let request = Request::post("/v1/traces").header(HOST, &*collector.authority).header(CONTENT_TYPE, "application/json");
    let request = request.body(Full::new(body)).map_err(|error| Untaken::Never(error.to_string()))?;
    let response = sender.send_request(request).await.map_err(|error| later(&error))?;
    let status = response.status();
    response.into_body().collect().await.map_err(|error| later(&error))?;
    connection.abort();
    match status {
        status if status.is_success() => Ok(()),
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Err(Untaken::Later(format!("it answers {status}"))),
        status => Err(Untaken::Never(format!("it answers {status}"))),
    }
}
