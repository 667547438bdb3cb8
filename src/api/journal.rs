//! `GET /v1/journal/export`: the journal as JSON lines, streamed, so that its size does not matter.
//!
//! The export runs on a thread that may block, and stops as soon as its reader goes away or the daemon stops. A failure in
//! the middle ends the stream with a line `{"error": ...}`.

use super::caller::Caller;
use super::error::{ApiError, Problem};
use super::request::Query;
use super::state::Api;
use crate::store::StoreError;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::io::{self, Write};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::SendTimeoutError;
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
    /// A reader that takes nothing for so long is given up.
    patience: Option<Duration>,
}

const PIECE: usize = 64 * 1024;

/// The type of an answer of JSON lines.
pub(super) const JSON_LINES: &str = "application/x-ndjson";

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
        let Some(patience) = self.patience else {
            return self.sender.blocking_send(Ok(piece)).map_err(|_| io::ErrorKind::BrokenPipe.into());
        };
        let sent = Handle::current().block_on(self.sender.send_timeout(Ok(piece), patience));
        sent.map_err(|error| match error {
            SendTimeoutError::Timeout(_) => io::Error::new(io::ErrorKind::TimedOut, "its reader takes nothing"),
            SendTimeoutError::Closed(_) => io::ErrorKind::BrokenPipe.into(),
        })
    }
}

/// An error with all that led to it.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// An answer that is written bit by bit, by a thread that may block, and ends when its reader goes away, or takes nothing for
/// longer than `patience`, or the daemon stops. Only so many are written at once, by one caller and in all. A failure in the
/// middle ends it with a line `{"error": ...}`.
pub(super) fn streamed(
    api: &Api,
    by: &Caller,
    what: &'static str,
    content_type: &'static str,
    patience: Option<Duration>,
    write: impl FnOnce(&mut dyn Write) -> Result<(), StoreError> + Send + 'static,
) -> Result<Response, ApiError> {
    let room = api.exports.take(by)?;
    let (sender, receiver) = mpsc::channel(4);
    let mut pipe = Pipe { piece: Vec::with_capacity(PIECE), sender, stopping: api.stop.subscribe(), patience };
    tokio::task::spawn_blocking(move || {
        if let Err(error) = write(&mut pipe) {
            let problem = Problem { error: format!("{what} broke off: {}", with_causes(&error)), hint: None };
            let line = serde_json::to_string(&problem).unwrap_or_default();
            writeln!(pipe, "{line}").ok();
        }
        pipe.flush().ok();
        drop(room);
    });
    let body = Body::from_stream(ReceiverStream::new(receiver));
    Ok(([(CONTENT_TYPE, content_type)], body).into_response())
}

pub(super) async fn export(
    State(api): State<Api>,
    by: Caller,
    Query(filter): Query<JournalFilter>,
) -> Result<Response, ApiError> {
    let journal = api.doors.journal.clone();
    streamed(&api, &by, "the export", JSON_LINES, None, move |out| journal.export(filter.from, u64::MAX, out).map(drop))
}
