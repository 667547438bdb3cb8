//! All that can reach the manager. Closed, so that a journal of inputs is a complete account of what it knew.

use super::action::{ActionId, ActionUpdate};
use super::command::{Command, Ticket};
use super::element::HostId;
use super::report::{HostReport, Notice};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Input {
    /// A poll of a host was answered.
    Report(HostId, HostReport),
    /// A host said something between polls.
    Notice(HostId, Notice),
    /// A host was lost; why.
    HostLost(HostId, Arc<str>),
    /// An effector tells of an action.
    Update(ActionId, ActionUpdate),
    /// An admin asks.
    Command {
        /// What.
        command: Command,
        /// Who.
        by: Arc<str>,
        /// Where the answer goes.
        ticket: Option<Ticket>,
    },
    /// Nothing but time has passed; timers may be due.
    Tick,
}

impl Input {
    /// Is it only samples, so that a crash may lose it?
    pub fn is_sample(&self) -> bool {
        matches!(self, Input::Report(..) | Input::Tick | Input::Update(_, ActionUpdate::Progress(_)))
    }
}
