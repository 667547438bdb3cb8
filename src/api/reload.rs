//! `POST /v1/commands/reload`: has the daemon read its configuration again. SIGHUP asks for the same.

use super::caller::Caller;
use super::commands::Nothing;
use super::error::ApiError;
use super::request::Body;
use super::state::Api;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use utoipa::ToSchema;

/// What came of reading the configuration again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct ReloadView {
    /// The whole, in words.
    pub message: String,
    /// What is in force now: keys, each with its old and its new value.
    pub taken_over: Vec<String>,
    /// What has changed in the file and is in force only after a restart; until then the old value holds.
    pub after_restart: Vec<String>,
}

/// Somebody wants the configuration read again.
#[derive(Debug)]
pub struct Wish {
    /// Who.
    pub by: Arc<str>,
    /// Where to say what came of it, or why nothing has changed.
    pub answer: oneshot::Sender<Result<ReloadView, String>>,
}

/// The door to whoever reads the configuration.
#[derive(Debug, Clone)]
pub struct Reloader(mpsc::Sender<Wish>);

impl Reloader {
    /// A door, and where wishes come out.
    pub fn new() -> (Reloader, mpsc::Receiver<Wish>) {
        let (sender, receiver) = mpsc::channel(4);
        (Reloader(sender), receiver)
    }

    /// Has the configuration read again. `None`: the daemon is about to stop.
    pub async fn reload(&self, by: Arc<str>) -> Option<Result<ReloadView, String>> {
        let (answer, answered) = oneshot::channel();
        self.0.send(Wish { by, answer }).await.ok()?;
        answered.await.ok()
    }
}

pub(super) async fn post(
    State(api): State<Api>,
    caller: Caller,
    Body(Nothing {}): Body<Nothing>,
) -> Result<Json<ReloadView>, ApiError> {
    match api.doors.reloader.reload(caller.name).await {
        Some(Ok(view)) => Ok(Json(view)),
        Some(Err(why)) => Err(ApiError::refused(why)),
        None => Err(ApiError::unavailable("the plane is stopping")),
    }
}
