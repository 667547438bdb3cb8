//! What was really done to the fleet: the account that tests compare with a plane's journal.
//!
//! An effect is written when an order passed all checks and was begun, and again when it ended. An order that is refused
//! before it did anything leaves no line, with one exception: an action number that was begun before is a fault of the
//! plane (it acted twice), and stands here as `double`.

use crate::model::{ActionId, HostId, Timestamp, Verb, VmId};
use serde::{Deserialize, Serialize};

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// When, by the fleet's time.
    pub at: Timestamp,
    /// The order's action.
    pub action: ActionId,
    /// What it does.
    pub verb: Verb,
    /// To whom.
    pub vm: VmId,
    /// The host that was asked.
    pub host: HostId,
    /// Where a migration goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<HostId>,
    /// Begun, or how it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It passed all checks; from here on something may have changed.
    Begun,
    /// It is done.
    Done,
    /// It failed, and changed nothing that lasts.
    Failed {
        /// Why.
        reason: String,
    },
    /// It was cancelled on request, and changed nothing that lasts.
    Cancelled,
    /// The same action was asked for again; nothing was done.
    Double,
}
