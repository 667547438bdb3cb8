//! `GET /v1/backup`: everything the plane's store holds at that moment, as a stream; see [`crate::store`] for its form.

use super::caller::Caller;
use super::error::ApiError;
use super::journal::streamed;
use super::state::Api;
use crate::model::{Command, Deed};
use axum::extract::State;
use axum::response::Response;
use std::time::Duration;

/// Until a backup is done, the store keeps what commits replace: a reader that takes nothing for this long is given up.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn get(State(api): State<Api>, by: Caller) -> Result<Response, ApiError> {
    let plane = api.ask(|manager| manager.settings().plane.clone()).await?;
    // Before the first byte leaves: the backup says of itself who has taken it.
    api.command(Command::Audit { deed: Deed::Backup }, by.name.clone()).await?;
    let (journal, now) = (api.doors.journal.clone(), api.doors.clock.now());
    let write = move |out: &mut dyn std::io::Write| journal.backup(&plane, now, out);
    streamed(&api, &by, "the backup", "application/octet-stream", Some(PATIENCE), write)
}
