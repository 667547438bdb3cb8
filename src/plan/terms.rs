//! Under what terms somebody proposes: a module's mode, permits and limits, or an admin's authority.

use super::guardrails::{Guardrails, Limits, Rate};
use crate::model::{Mode, Span, Verb};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What the planner must know of whoever proposes.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// The module's name; an admin's name where `is_admin`.
    pub module: Arc<str>,
    /// How far the module may go.
    pub mode: Mode,
    /// What it may propose.
    pub permits: BTreeSet<Verb>,
    /// Its own, tighter guardrails.
    pub limits: Limits,
    /// An admin: pace (hold, cool-down, rates, blast radius, gain) does not bind, safety does.
    pub is_admin: bool,
}

impl Terms {
    /// A module's terms.
    pub fn of_module(module: Arc<str>, mode: Mode, permits: BTreeSet<Verb>, limits: Limits) -> Terms {
        Terms { module, mode, permits, limits, is_admin: false }
    }

    /// An admin's terms.
    pub fn admin(name: &str) -> Terms {
        let permits = Verb::ALL.iter().map(|(verb, ..)| *verb).collect();
        Terms { module: name.into(), mode: Mode::Act, permits, limits: Limits::default(), is_admin: true }
    }

    /// The cool-down that counts, and the key that sets it.
    pub(super) fn cooldown(&self, guardrails: &Guardrails) -> (Span, &'static str) {
        stricter(self.limits.cooldown, guardrails.cooldown, "limits.cooldown", "guardrails.cooldown")
    }

    /// The hold that counts, and the key that sets it.
    pub(super) fn hold(&self, guardrails: &Guardrails) -> (Span, &'static str) {
        stricter(self.limits.hold, guardrails.hold, "limits.hold", "guardrails.hold")
    }

    /// The rates that bind the module, each with the key that sets it.
    pub(super) fn rates(&self, guardrails: &Guardrails) -> impl Iterator<Item = (Rate, &'static str)> {
        let own = self.limits.rate.map(|rate| (rate, "limits.rate"));
        own.into_iter().chain([(guardrails.module_rate, "guardrails.module_rate")])
    }

    /// The CPU load a target may come to, and the key that sets it.
    pub(super) fn target_max_cpu(&self, guardrails: &Guardrails) -> (f64, &'static str) {
        match self.limits.target_max_cpu {
            Some(own) if own < guardrails.target_max_cpu => (own, "limits.target_max_cpu"),
            _ => (guardrails.target_max_cpu, "guardrails.target_max_cpu"),
        }
    }

    /// What a move must gain over its cost, and the key that sets it.
    pub(super) fn minimum_gain(&self, guardrails: &Guardrails) -> (f64, &'static str) {
        match self.limits.minimum_gain {
            Some(own) => (own, "limits.minimum_gain"),
            None => (guardrails.minimum_gain, "guardrails.minimum_gain"),
        }
    }
}

fn stricter(own: Option<Span>, plane: Span, own_key: &'static str, plane_key: &'static str) -> (Span, &'static str) {
    match own {
        Some(own) if own > plane => (own, own_key),
        _ => (plane, plane_key),
    }
}
