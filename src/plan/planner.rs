//! The planner: proposals in, plan out.

use super::guardrails::Guardrails;
use super::terms::Terms;
use crate::model::{Action, ActionId, ActionKind, EmbotId, Event, Plan, Proposal, Refusal, Timestamp, World};
use crate::usage::Usage;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a decision is based on.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// Hosts and guests.
    pub world: &'a World,
    /// What they used.
    pub usage: &'a Usage,
    /// The plane's limits.
    pub guardrails: &'a Guardrails,
    /// All actions that are not over: advised, planned, started.
    pub open: &'a BTreeMap<ActionId, Action>,
    /// The time of the decision.
    pub now: Timestamp,
}

/// Turns proposals into plans. It remembers what limits of pace need: cool-downs, budgets, holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Planner {}

impl Planner {
    /// Weighs the proposals of a batch. Every proposal ends in the plan: accepted or refused. Numbers for accepted ones are
    /// taken from `next_action`.
    pub fn decide(&mut self, _situation: &Situation, _proposals: Vec<(Proposal, Arc<Terms>)>, _next_action: &mut u64) -> Plan {
        Plan::default()
    }

    /// To be called after every step of an embot, also one that proposed nothing, and before [`Planner::decide`] of its
    /// proposals: a hold ends where a step on the same kind of event no longer proposes the same.
    pub fn considered<'p>(&mut self, _embot: &EmbotId, _event: &Event, _proposed: impl IntoIterator<Item = &'p ActionKind>) {}

    /// An admin approves an advised action: may it be carried out as things are now? The limits of safety are checked again;
    /// those of pace are the admin's to judge. On `Ok` the action counts as acted upon; the caller makes it `Planned`.
    pub fn approve(&mut self, _situation: &Situation, _action: &Action, _by: &str) -> Result<(), Refusal> {
        Ok(())
    }

    /// An action came to one of its final states. The cool-down of its guest counts from here.
    pub fn ended(&mut self, _action: &Action, _now: Timestamp) {}

    /// Has what [`Planner::to_bytes`] writes changed since the last call?
    pub fn take_changed(&mut self) -> bool {
        false
    }

    /// What it remembers, in a versioned form of bounded size.
    pub fn to_bytes(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Reads what [`Planner::to_bytes`] wrote. No bytes at all: a planner that remembers nothing.
    pub fn from_bytes(_bytes: &[u8]) -> Result<Planner, PlannerError> {
        Ok(Planner::default())
    }
}

/// Why a planner's memory cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlannerError {
    /// It was written by another version.
    #[error(
        "the planner's memory has version {0}; this program reads version 1: use the program that wrote it, or a newer one"
    )]
    Version(u8),
    /// It is damaged.
    #[error("the planner's memory is damaged ({0}); restore the store from a backup")]
    Damaged(String),
}
