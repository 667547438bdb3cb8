//! `GET /v1/audit`: who asked what of the plane, and what became of it; `/v1/audit/head`: the newest entry's number and hash, to
//! be kept elsewhere; `/v1/audit/export`: all of it, to be verified.

use super::caller::Caller;
use super::error::ApiError;
use super::journal::{JSON_LINES, streamed};
use super::names::find_element;
use super::request::Query;
use super::stamp::Stamp;
use super::state::Api;
use crate::model::{AuditAnswer, Span, Timestamp};
use crate::store::{AuditFilter, AuditHead, AuditLine, StoreError};
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Entries that are shown unless more are asked for.
const USUAL: u32 = 100;
/// More are not shown at once; the export has all.
const MOST: u32 = 10_000;

/// Which entries are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuditQuery {
    /// From then on: an instant (`2026-03-01T12:00:00Z`), or how long ago (`7d`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// By one whose name contains this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// About this element: a guest's or host's name, or `vm:UUID`, `host:NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub element: Option<String>,
    /// At most so many, the newest; 100 unless told, never more than 10,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 4_294_967_295_usize)]
    pub limit: Option<u32>,
}

/// An entry of the audit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditView {
    /// Its number.
    pub number: u64,
    /// When.
    pub at: Stamp,
    /// Who.
    pub by: String,
    /// What, in one word.
    pub what: String,
    /// The action it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<u64>,
    /// The elements it is about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elements: Vec<String>,
    /// In words.
    pub text: String,
    /// What the plane answered to a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// Was the command refused?
    #[serde(default)]
    pub refused: bool,
}

impl From<AuditLine<'_>> for AuditView {
    fn from(line: AuditLine<'_>) -> AuditView {
        let refused = matches!(line.answer, Some(AuditAnswer::Refused(_)));
        let answer = line.answer.map(|(AuditAnswer::Done(text) | AuditAnswer::Refused(text))| text);
        AuditView {
            number: line.number,
            at: Stamp(line.at),
            by: line.by.into_owned(),
            what: line.what.into_owned(),
            action: line.action,
            elements: line.elements,
            text: line.text.into_owned(),
            answer,
            refused,
        }
    }
}

fn instant(text: &str, now: Timestamp) -> Result<Timestamp, ApiError> {
    if let Ok(ago) = text.parse::<Span>() {
        return Ok(now - ago);
    }
    let read: Result<Stamp, _> = serde_json::from_value(text.into());
    read.map(|stamp| stamp.0).map_err(|_| {
        ApiError::senseless(format!("`{text}` is no time"))
            .with_hint("write an instant such as `2026-03-01T12:00:00Z`, or how long ago: `2h`, `7d`")
    })
}

fn unread(error: &StoreError) -> ApiError {
    ApiError::unavailable(format!("the audit cannot be read: {error}"))
}

pub(super) async fn get_list(
    State(api): State<Api>,
    Query(query): Query<AuditQuery>,
) -> Result<Json<Vec<AuditView>>, ApiError> {
    let now = api.doors.clock.now();
    let since = query.since.as_deref().map(|since| instant(since, now)).transpose()?;
    let element = match query.element {
        // One that is gone is still found by its full name.
        Some(name) if name.contains(':') => Some(name),
        Some(name) => Some(api.ask(move |manager| find_element(&manager.world(), &name)).await??.to_string()),
        None => None,
    };
    let filter = AuditFilter { since, by: query.by, element, limit: query.limit.unwrap_or(USUAL).min(MOST) as usize };
    let audit = api.doors.journal.audit();
    let found = tokio::task::spawn_blocking(move || audit.find(&filter)).await;
    let found = found.map_err(|_| ApiError::unavailable("the audit cannot be read"))?.map_err(|error| unread(&error))?;
    Ok(Json(found.into_iter().map(AuditView::from).collect()))
}

pub(super) async fn get_head(State(api): State<Api>) -> Result<Json<AuditHead>, ApiError> {
    api.doors.journal.audit().head().map(Json).map_err(|error| unread(&error))
}

pub(super) async fn export(State(api): State<Api>, by: Caller) -> Result<Response, ApiError> {
    let audit = api.doors.journal.audit();
    streamed(&api, &by, "the export", JSON_LINES, None, move |out| audit.export(out))
}
