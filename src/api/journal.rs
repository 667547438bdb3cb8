//! `GET /v1/journal/export`: the journal as JSON lines, streamed, so that its size does not matter.
//!
//! The export runs on a thread that may block, and stops as soon as its reader goes away or the daemon stops. A failure in
//! the middle ends the stream with a line `{"error": ...}`.

use super::error::{ApiError, Problem};
use super::request::Query;
use super::state::Api;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::io::{self, Write};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use utoipa::ToSchema;

/// Which part of the journal is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JournalFilter {
    /// From this batch on.
    #[schema(maximum = 18446744073709551615_usize)]
    pub from: u64,
}

/// Collects small writes and passes them on in pieces.
struct Pipe {
    piece: Vec<u8>,
    sender: mpsc::Sender<Result<Bytes, Infallible>>,
    stopping: watch::Receiver<bool>,
}

const PIECE: usize = 64 * 1024;

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if *self.stopping.borrow() {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "the daemon stops"));
        }
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::take(&mut self.piece));
        self.sender.blocking_send(Ok(piece)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// An error with all that led to it.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

pub(super) async fn export(State(api): State<Api>, Query(filter): Query<JournalFilter>) -> Result<Response, ApiError> {
    let (sender, receiver) = mpsc::channel(4);
    let mut pipe = Pipe { piece: Vec::with_capacity(PIECE), sender, stopping: api.stop.subscribe() };
    let journal = api.doors.journal.clone();
    tokio::task::spawn_blocking(move || {
        let result = journal.export(filter.from, u64::MAX, &mut pipe);
        if let Err(error) = result {
            let problem = Problem { error: format!("the export broke off: {}", with_causes(&error)), hint: None };
            let line = serde_json::to_string(&problem).unwrap_or_default();
            writeln!(pipe, "{line}").ok();
        }
        pipe.flush().ok();
    });
    let body = Body::from_stream(ReceiverStream::new(receiver));
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}
