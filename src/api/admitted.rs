//! Whoever was let in by a token, for as long as an answer lasts: a stream ends soon after its token does, or says something else.

use super::caller::Caller;
use super::error::Problem;
use super::tokens::Tokens;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use hyper::body::Frame;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// So often it is asked whether the token still holds.
const ASKED_EVERY: Duration = Duration::from_millis(500);

/// Somebody who has shown a token.
#[derive(Debug, Clone)]
pub(super) struct Admitted {
    pub(super) caller: Caller,
    /// What is kept of the token.
    pub(super) hash: String,
    pub(super) tokens: Arc<Tokens>,
}

impl Admitted {
    /// Ends an answer that is told bit by bit where the token is no longer what it was.
    pub(super) fn watch(self, response: Response) -> Response {
        // What has a length is on its way already.
        if response.body().size_hint().exact().is_some() {
            return response;
        }
        let kind = response.headers().get(CONTENT_TYPE);
        let are_events = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        let mut asked = interval(ASKED_EVERY);
        asked.set_missed_tick_behavior(MissedTickBehavior::Delay);
        response.map(|body| Body::new(Watched { body, admitted: self, are_events, asked, is_over: false }))
    }

    /// Why it no longer holds.
    fn lost(&self) -> Option<String> {
        match self.tokens.holder(&self.hash) {
            Ok(now) if now == self.caller => None,
            Ok(now) => Some(format!("the role of {} has changed from {} to {}", self.caller.name, self.caller.role, now.role)),
            Err(denied) => Some(denied.to_string()),
        }
    }
}

/// An answer that lasts no longer than its token.
struct Watched {
    body: Body,
    admitted: Admitted,
    /// Or else lines, or a backup, which ends with a line where it breaks off.
    are_events: bool,
    asked: Interval,
    is_over: bool,
}

impl Watched {
    fn farewell(&self, why: String) -> Bytes {
        let problem = Problem { error: why, hint: Some("an admin makes a token with `embot token create`".to_owned()) };
        let json = serde_json::to_string(&problem).unwrap_or_default();
        if self.are_events { format!("event: end\ndata: {json}\n\n").into() } else { format!("\n{json}\n").into() }
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        while self.asked.poll_tick(context).is_ready() {
            if let Some(why) = self.admitted.lost() {
                tracing::info!(by = %self.admitted.caller.name, "a stream of the API ends: {why}");
                self.is_over = true;
                // Whoever feeds it stops as well.
                self.body = Body::empty();
                return Poll::Ready(Some(Ok(Frame::data(self.farewell(why)))));
            }
        }
        Pin::new(&mut self.body).poll_frame(context)
    }
}
