//! What every route needs: the way to the manager, the recent records, and the doors to what is not the manager's.

use super::attempts::Attempts;
use super::error::ApiError;
use super::exports::Exports;
use super::recent::Recent;
use super::tokens::Tokens;
use crate::clock::Clock;
use crate::effectors::Notifiers;
use crate::manager::{Handle, Manager};
use crate::model::{Command, Reply};
use crate::store::Journal;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot, watch};
use utoipa::ToSchema;

/// The manager must answer within this. It normally takes less than a millisecond; past this something is badly wrong, and
/// whoever asked should hear so instead of waiting on.
const PATIENCE: Duration = Duration::from_secs(20);

/// Event streams at once.
const EVENT_STREAMS: usize = 500;

/// What the daemon lends the API beside the manager.
#[derive(Clone)]
pub struct Doors {
    /// Reads the journal.
    pub journal: Journal,
    /// Tells the plane's time.
    pub clock: Arc<dyn Clock>,
    /// The link to other planes, where there is one.
    pub link: Option<crate::migration::link::Link>,
    /// The channels to admins.
    pub notifiers: Arc<Notifiers>,
    /// What is measured as it happens.
    pub metrics: super::metrics::Metrics,
    /// The way to have the configuration read again.
    pub reloader: super::reload::Reloader,
    /// Who may ask over the network, where the API is there.
    pub tokens: Option<Arc<Tokens>>,
}

/// What came of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReplyView {
    /// What was done, in words.
    pub message: String,
    /// The actions that follow from it.
    pub actions: Vec<u64>,
}

/// Shared by all routes; cheap to clone.
#[derive(Clone)]
pub(super) struct Api {
    pub(super) handle: Handle,
    pub(super) recent: Arc<Recent>,
    pub(super) doors: Doors,
    /// Attempts with tokens that are not accepted.
    pub(super) attempts: Arc<Attempts>,
    /// Room for event streams.
    pub(super) streams: Arc<Semaphore>,
    /// Exports and backups that are being read.
    pub(super) exports: Arc<Exports>,
    /// Becomes `true` when the daemon stops: streams end then, so that the stop need not wait for their readers.
    pub(super) stop: watch::Sender<bool>,
}

impl Api {
    pub(super) fn new(handle: Handle, doors: Doors) -> Api {
        let attempts = Arc::new(Attempts::new(doors.clock.now()));
        let streams = Arc::new(Semaphore::new(EVENT_STREAMS));
        let (recent, exports, stop) = (Arc::default(), Arc::default(), watch::Sender::new(false));
        Api { handle, recent, doors, attempts, streams, exports, stop }
    }

    /// Has the manager look something up.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Manager) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        answer(self.handle.ask(question)).await
    }

    /// Gives a command; the answer comes once the journal has it.
    pub(super) async fn command(&self, command: Command, by: Arc<str>) -> Result<ReplyView, ApiError> {
        match answer(self.handle.command(command, by)).await? {
            Reply::Done { message, actions } => {
                Ok(ReplyView { message, actions: actions.into_iter().map(|action| action.0).collect() })
            }
            Reply::Refused { reason } => Err(ApiError::refused(reason)),
        }
    }
}

pub(super) async fn answer<T>(receiver: oneshot::Receiver<T>) -> Result<T, ApiError> {
    match tokio::time::timeout(PATIENCE, receiver).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => {
            Err(ApiError::unavailable("the plane is stopping, or too busy to answer").with_hint("ask again in a moment"))
        }
        Err(_) => Err(ApiError::unavailable(format!("the plane did not answer within {} s", PATIENCE.as_secs()))
            .with_hint("what was asked may still happen; look at `embot status` and at the daemon's log")),
    }
}
