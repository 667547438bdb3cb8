//! Counts and times since the start, for metrics. Nothing decides by them, and none stands in the journal.

use super::Manager;
use crate::model::{Batch, Outcome, Record, Side, Timestamp, Verb};
use prometheus_client::metrics::histogram::Histogram;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Limits of the classes that steps are sorted into, in seconds: most take microseconds, and a few milliseconds end them.
const STEP_SECONDS: [f64; 10] = [2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 5e-4, 1e-3, 5e-3, 2.5e-2];

/// Limits of the classes that the delays of decisions are sorted into, in seconds.
const DELAY_SECONDS: [f64; 12] = [1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

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
#[derive(Debug, Clone)]
pub struct Tally {
    /// Actions by verb and by what became of them (`planned` and `advised` when they are decided, then how they ended).
    pub actions: BTreeMap<(Verb, &'static str), u64>,
    /// Refused proposals by the guardrail that refused.
    pub refusals: BTreeMap<Cow<'static, str>, u64>,
    /// Migrations between planes that are over, by the end this plane was and by how: `moved` or `stayed`.
    pub migrations: BTreeMap<(Side, &'static str), u64>,
    /// Steps by module.
    pub modules: BTreeMap<Arc<str>, ModuleTally>,
    /// How long it took from an event until the decision that it led to was durable, in seconds.
    pub delays: Histogram,
}

impl Default for Tally {
    fn default() -> Tally {
        let (actions, refusals, migrations, modules) = Default::default();
        Tally { actions, refusals, migrations, modules, delays: Histogram::new(DELAY_SECONDS) }
    }
}

/// When the events happened that led to a decision in this batch.
pub(super) fn causes(batch: &Batch) -> Vec<Timestamp> {
    let mut seen = BTreeSet::new();
    let proposals = batch.records.iter().filter_map(|record| match record {
        Record::Planned { action } => Some(&action.proposal),
        Record::Refused { refusal, .. } => Some(&refusal.proposal),
        _ => None,
    });
    let causes = proposals.filter_map(|proposal| proposal.cause.as_ref());
    causes.filter(|cause| seen.insert(cause.seq)).map(|cause| cause.at).collect()
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

    /// What followed from these events is durable now.
    pub(super) fn decided(&self, causes: &[Timestamp], now: Timestamp) {
        causes.iter().for_each(|at| self.delays.observe(now.since(*at).0 as f64 / 1e3));
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
