//! The audit: who asked what of the plane, what it answered, and what it did by itself; for those who must answer for it.

use super::action::ActionId;
use super::element::ElementId;
use super::time::Timestamp;
use super::vm::{Mark, Mode};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;

/// One thing that was done. The store numbers it and chains it to the one before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// Who: an admin as the API knows him, an embot, or `plane`.
    pub by: Arc<str>,
    /// What, in one stable word: that of a command (`approve`, `disarm`, ...), or what became of an action (`planned`, `advised`,
    /// `done`, `failed`, ...).
    pub what: Cow<'static, str>,
    /// The action it is about.
    pub action: Option<ActionId>,
    /// The elements it is about.
    pub elements: Vec<ElementId>,
    /// The same for people, with the reason that was given.
    pub text: String,
    /// Of a command: what the plane answered.
    pub answer: Option<AuditAnswer>,
}

/// What the plane answered to a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditAnswer {
    /// It was done.
    Done(String),
    /// It was refused.
    Refused(String),
}

/// That the plane's store was made from a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// When the backup was made.
    pub backup_at: Timestamp,
    /// When the plane took the restored store over; `None`: it has not run on it yet.
    pub taken_over_at: Option<Timestamp>,
}

/// A guest whose mark has not been read since the plane was restored from a backup: until then it is only observed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unconfirmed {
    /// Its mode according to the backup.
    pub mode: Mode,
    /// Its mark according to the backup.
    pub mark: Option<Mark>,
}
