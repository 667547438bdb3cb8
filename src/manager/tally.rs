//! Counts and times since the start, for metrics. Nothing decides by them, and none stands in the journal.

use super::Manager;
use crate::model::{Outcome, Side, Verb};
use prometheus_client::metrics::histogram::Histogram;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Limits of the classes that steps are sorted into, in seconds: most take microseconds, and a few milliseconds end them.
const STEP_SECONDS: [f64; 10] = [2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 5e-4, 1e-3, 5e-3, 2.5e-2];

/// What one module's embots did.
#[derive(Debug, Clone)]
pub struct ModuleTally {
    /// How long their steps took, in seconds.
    pub steps: Histogram,
    /// How many there were.
    pub count: u64,
    /// What they took together.
    pub took: Duration,
    /// Policies that failed in a step.
    pub faults: u64,
}

/// The counts. Each set of names is bounded: verbs, results and guardrails by the program, modules by what is loaded.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Actions by verb and by what became of them (`planned` and `advised` when they are decided, then how they ended).
    pub actions: BTreeMap<(Verb, &'static str), u64>,
    /// Refused proposals by the guardrail that refused.
    pub refusals: BTreeMap<Cow<'static, str>, u64>,
    /// Migrations between planes that are over, by the end this plane was and by how: `moved` or `stayed`.
    pub migrations: BTreeMap<(Side, &'static str), u64>,
    /// Steps by module.
    pub modules: BTreeMap<Arc<str>, ModuleTally>,
}

impl Tally {
    pub(super) fn action(&mut self, verb: Verb, result: &'static str) {
        *self.actions.entry((verb, result)).or_default() += 1;
    }

    pub(super) fn refusal(&mut self, guardrail: Cow<'static, str>) {
        *self.refusals.entry(guardrail).or_default() += 1;
    }

    pub(super) fn migration(&mut self, side: Side, outcome: Option<&Outcome>) {
        let result = match outcome {
            Some(Outcome::Moved) => "moved",
            Some(Outcome::Stayed { .. }) => "stayed",
            None => return,
        };
        *self.migrations.entry((side, result)).or_default() += 1;
    }

    /// An embot of this module has stepped: how long that took, and how many of its policies failed.
    pub(super) fn step(&mut self, module: &Arc<str>, took: Duration, faults: usize) {
        if !self.modules.contains_key(module) {
            self.modules.insert(
                module.clone(),
                ModuleTally { steps: Histogram::new(STEP_SECONDS), count: 0, took: Duration::ZERO, faults: 0 },
            );
        }
        let Some(tally) = self.modules.get_mut(module) else { return };
        tally.steps.observe(took.as_secs_f64());
        tally.count += 1;
        tally.took += took;
        tally.faults += faults as u64;
    }

    /// A module is gone.
    pub(super) fn forget(&mut self, module: &str) {
        self.modules.remove(module);
    }
}

impl Manager {
    /// Counts and times since the start.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }
}
