//! What was really done to the fleet: the account that tests compare with a plane's journal.
//!
//! Three kinds of line. An [`Effect`] is written when an order passed all checks and was begun, and again when it ended. An
//! order that is refused before it did anything leaves no line, with one exception: an action number that was begun before
//! is a fault of the plane (it acted twice), and stands here as `double`. A [`Step`] is the same for a step of a handover; one
//! that was done before leaves no line. A [`Run`] is written whenever a guest begins or ceases to run on a host, whatever the
//! cause. So a log shows whether two planes acted on a guest at a time, and whether it ever ran twice.

use crate::model::{ActionId, HostId, Timestamp, Verb, VmId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LogLine {
    /// An order.
    Effect(Effect),
    /// A step of a handover.
    Step(Step),
    /// A guest runs, or no longer runs.
    Run(Run),
}

/// What became of an action's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// When, by the fleet's time.
    pub at: Timestamp,
    /// The order's action.
    pub action: ActionId,
    /// The plane that asked.
    pub plane: Arc<str>,
    /// Under which epoch.
    pub epoch: u64,
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

/// What became of a handover's step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// When, by the fleet's time.
    pub at: Timestamp,
    /// The handover's id.
    pub handover: Arc<str>,
    /// The plane that asked.
    pub plane: Arc<str>,
    /// The epoch of the mark it expected.
    pub epoch: u64,
    /// What it does: `seal`, `define`, `move`, `copy`, `resume`, `remove`.
    pub step: Arc<str>,
    /// To whom.
    pub vm: VmId,
    /// The host that was asked.
    pub host: HostId,
    /// Where it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<HostId>,
    /// Begun, or how it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// A guest began or ceased to run on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// When, by the fleet's time.
    pub at: Timestamp,
    /// Who.
    pub vm: VmId,
    /// Where.
    pub host: HostId,
    /// Does it run there from now on?
    pub runs: bool,
    /// The plane that its mark there names, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plane: Option<Arc<str>>,
    /// The epoch of that mark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
}

/// What became of an order or a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It passed all checks; from here on something may have changed.
    Begun,
    /// It is done.
    Done,
    /// It failed, and changed nothing that lasts. (Of a handover's move whose end nobody saw, the hosts must be asked.)
    Failed {
        /// Why.
        reason: String,
    },
    /// It was cancelled on request, and changed nothing that lasts.
    Cancelled,
    /// The same action was asked for again; nothing was done.
    Double,
}
