//! `GET /v1/events` and the live stream `/v1/events/follow` (server-sent events).
//!
//! The stream sends `event: record` for each record, with the record's position as its id. A client that lost its
//! connection goes on with `?since=ID` or the `Last-Event-ID` header. The last thing a client hears says why the stream
//! ends: `event: dropped` when it read too slowly, `event: end` when the daemon stops. `event: gap` says that records after
//! the asked position are no longer at hand.

use super::error::{ApiError, Problem};
use super::recent::{Position, RecordView};
use super::request::Query;
use super::state::Api;
use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use tokio::sync::{broadcast, mpsc};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use utoipa::ToSchema;

/// Which records are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EventFilter {
    /// Only this sort: `event`, `plan`, `refused`, `action`, `fault`, `log`, `notice`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
    /// Only those whose words contain this text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Only those after this position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Position>,
    /// `false`: without details, such as the progress of long actions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<bool>,
    /// At most so many of the latest (100 where it is not said). Not for the live stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 4294967295_usize)]
    pub limit: Option<u32>,
}

const RECORDS: [&str; 7] = ["event", "plan", "refused", "action", "fault", "log", "notice"];

impl EventFilter {
    fn check(&self) -> Result<(), ApiError> {
        match self.record.as_deref().filter(|record| !RECORDS.contains(record)) {
            None => Ok(()),
            Some(record) => Err(ApiError::senseless(format!("there are no records of sort `{record}`"))
                .with_hint(format!("the sorts are {}", RECORDS.join(", ")))),
        }
    }

    fn wants(&self, view: &RecordView) -> bool {
        self.record.as_deref().is_none_or(|record| record == view.record)
            && self.text.as_deref().is_none_or(|text| view.text.contains(text))
            && self.since.is_none_or(|since| view.position > since)
            && (self.details != Some(false) || !view.detail)
    }
}

pub(super) async fn get_list(
    State(api): State<Api>,
    Query(filter): Query<EventFilter>,
) -> Result<Json<Vec<RecordView>>, ApiError> {
    filter.check()?;
    Ok(Json(api.recent.latest(filter.limit.map_or(100, |limit| limit as usize), |view| filter.wants(view))))
}

pub(super) async fn follow(
    State(api): State<Api>,
    headers: HeaderMap,
    Query(mut filter): Query<EventFilter>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    filter.check()?;
    if let Some(last) = headers.get("last-event-id") {
        let last = last.to_str().unwrap_or_default();
        filter.since = Some(last.parse().map_err(|error| ApiError::bad_request(format!("Last-Event-ID: {error}")))?);
    }
    let full =
        |_| ApiError::unavailable("too many event streams are open").with_hint("close some, or ask `/v1/events` now and then");
    let room = api.streams.clone().try_acquire_owned().map_err(full)?;
    let (sender, receiver) = mpsc::channel(64);
    tokio::spawn(async move {
        send(api, filter, sender).await;
        drop(room);
    });
    Ok(Sse::new(ReceiverStream::new(receiver)).keep_alive(KeepAlive::default()))
}

type Sender = mpsc::Sender<Result<Event, Infallible>>;

/// Feeds one follower. It waits for its reader; while it waits, the broadcast passes on, and the reader is dropped when it is
/// a whole backlog behind.
async fn send(api: Api, filter: EventFilter, sender: Sender) {
    let mut stopping = api.stop.subscribe();
    let _open = api.doors.metrics.stream();
    let work = async {
        let mut following = api.recent.follow(filter.since);
        let mut last = filter.since;
        if following.gap {
            let hint = "older records are in `embot journal export`";
            say(&sender, "gap", "some records after the asked position are no longer at hand", Some(hint)).await?;
        }
        for view in std::mem::take(&mut following.missed) {
            pass(&filter, &view, &sender, &mut last).await?;
        }
        loop {
            match following.coming.recv().await {
                Ok(view) => pass(&filter, &view, &sender, &mut last).await?,
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    let error = format!("this client reads too slowly: it missed {missed} records and is dropped");
                    let hint = last.map(|last| format!("follow again with `?since={last}`, and read faster"));
                    say(&sender, "dropped", &error, hint.as_deref()).await?;
                    return Some(());
                }
                Err(broadcast::error::RecvError::Closed) => return Some(()),
            }
        }
    };
    tokio::select! {
        _ = work => {}
        _ = stopping.wait_for(|stopping| *stopping) => {
            // Only if there is room: the stop does not wait for a reader.
            sender.try_send(Ok(problem("end", "the daemon stops", None))).ok();
        }
    }
}

/// `None`: the client has gone.
async fn pass(filter: &EventFilter, view: &RecordView, sender: &Sender, last: &mut Option<Position>) -> Option<()> {
    *last = Some(view.position);
    if !filter.wants(view) {
        return Some(());
    }
    let json = serde_json::to_string(view).ok()?;
    sender.send(Ok(Event::default().event("record").id(view.position.to_string()).data(json))).await.ok()
}

async fn say(sender: &Sender, event: &str, error: &str, hint: Option<&str>) -> Option<()> {
    sender.send(Ok(problem(event, error, hint))).await.ok()
}

fn problem(event: &str, error: &str, hint: Option<&str>) -> Event {
    let problem = Problem { error: error.to_owned(), hint: hint.map(ToOwned::to_owned) };
    Event::default().event(event).data(serde_json::to_string(&problem).unwrap_or_default())
}
