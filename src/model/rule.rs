//! Affinity: which guests belong together or apart. Rules are the plane's configuration, not a module's; the planner keeps them.

use super::element::VmId;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Together on one host, or each on another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Affinity {
    /// On the same host.
    Together,
    /// No two on the same host.
    Apart,
}

/// One rule over the guests whose names match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AffinityRule {
    /// Its name, used in refusals.
    pub name: Arc<str>,
    /// Together or apart.
    pub kind: Affinity,
    /// Hard rules refuse a placement; soft ones only make it less attractive.
    #[serde(default)]
    pub hard: bool,
    /// Patterns of guest names (`db-*`).
    pub vms: Vec<String>,
}

/// A rule that the present placement breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule's name.
    pub rule: Arc<str>,
    /// Together or apart.
    pub kind: Affinity,
    /// Is it a hard rule?
    pub hard: bool,
    /// The guests concerned, by UUID: those that share a host though they should not, or that are spread though they should
    /// not.
    pub vms: Vec<VmId>,
}
