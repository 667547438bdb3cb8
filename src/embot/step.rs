//! An embot and its step: `step(event, view, now) -> new state + what it wants`.

use super::module::Module;
use crate::model::{EmbotId, EmbotRow, Event, Proposal, Read, Span, Timestamp, Value};
use crate::policy::{Engine, Fault, State, Step, StepInput, TimerChange};
use std::collections::BTreeMap;
use std::sync::Arc;

/// An autonomic element: the state of its module's policies for the element it stands for.
#[derive(Debug)]
pub struct Embot {
    /// Whose it is and what it stands for.
    pub id: EmbotId,
    /// State of each policy, in the manifest's order.
    states: Vec<State>,
    faults: u32,
    fault_at: Timestamp,
    /// Why it takes no steps, where it does not.
    pub suspended: Option<Arc<str>>,
    /// Must its row be written?
    pub dirty: bool,
}

/// After so many faults an embot is suspended.
pub const FAULTS: u32 = 3;

/// Faults older than this are forgiven.
pub const FORGIVEN_AFTER: Span = Span::hours(1);

/// What came of a step.
#[derive(Debug, Default)]
pub struct Stepped {
    /// What it wants done.
    pub proposals: Vec<Proposal>,
    /// Timers set and cancelled.
    pub timers: Vec<TimerChange>,
    /// What it says to others: channel and content.
    pub messages: Vec<(Arc<str>, Value)>,
    /// What it wrote to the log.
    pub logs: Vec<String>,
    /// Policies that failed; the others of the same embot stepped all the same.
    pub faults: Vec<Fault>,
    /// Did any policy handle the event?
    pub handled: bool,
}

impl Embot {
    /// An embot as its row has it, or a new one.
    pub fn new(id: EmbotId, module: &Module, row: Option<EmbotRow>) -> Embot {
        let dirty = row.is_none();
        let row = row.unwrap_or_default();
        let state =
            |policy: &crate::policy::Bound| row.state.get(policy.policy().name()).map(State::from_value).unwrap_or_default();
        let states = module.policies.iter().map(state).collect();
        Embot { id, states, faults: row.faults, fault_at: row.fault_at, suspended: row.suspended, dirty }
    }

    /// What the store keeps of it.
    pub fn row(&self, module: &Module) -> EmbotRow {
        let named = module.policies.iter().zip(&self.states);
        let state: BTreeMap<_, _> = named.map(|(policy, state)| (policy.policy().name().clone(), state.to_value())).collect();
        EmbotRow { state, faults: self.faults, fault_at: self.fault_at, suspended: self.suspended.clone() }
    }

    /// How often it failed of late.
    pub fn faults(&self) -> u32 {
        self.faults
    }

    /// Lets it step again, its faults forgiven.
    pub fn unsuspend(&mut self) {
        self.suspended = None;
        self.faults = 0;
        self.dirty = true;
    }

    /// Takes the step that an event calls for.
    pub fn step(&mut self, engine: &mut Engine, module: &Module, event: &Event, now: Timestamp) -> Stepped {
        let mut stepped = Stepped::default();
        if self.suspended.is_some() {
            return stepped;
        }
        for (policy, state) in module.policies.iter().zip(&mut self.states) {
            if !policy.policy().handles(&event.body) {
                continue;
            }
            stepped.handled = true;
            match engine.step(policy, state, StepInput { embot: &self.id, event, now }) {
                Ok(step) => {
                    self.dirty |= step.changed;
                    stepped.take(&self.id, event, step);
                }
                Err(fault) => stepped.faults.push(fault),
            }
        }
        for fault in &stepped.faults {
            self.fault(fault, now);
        }
        stepped
    }

    fn fault(&mut self, fault: &Fault, now: Timestamp) {
        self.faults = if now.since(self.fault_at) > FORGIVEN_AFTER { 1 } else { self.faults + 1 };
        self.fault_at = now;
        self.dirty = true;
        if self.faults >= FAULTS {
            self.suspended = Some(format!("{FAULTS} faults within {FORGIVEN_AFTER}; the last: {}", fault.error).into());
        }
    }
}

impl Stepped {
    /// Did nothing come of it?
    pub fn is_quiet(&self) -> bool {
        self.proposals.is_empty()
            && self.timers.is_empty()
            && self.messages.is_empty()
            && self.logs.is_empty()
            && self.faults.is_empty()
    }

    fn take(&mut self, embot: &EmbotId, event: &Event, step: Step) {
        if !step.proposals.is_empty() {
            let cause = Arc::new(event.clone());
            let reads: Arc<[Read]> = step.reads.into();
            self.proposals.extend(step.proposals.into_iter().map(|draft| Proposal {
                embot: Some(embot.clone()),
                admin: None,
                kind: draft.kind,
                reason: draft.reason,
                place: Some(draft.place),
                cause: Some(cause.clone()),
                reads: reads.clone(),
            }));
        }
        self.timers.extend(step.timers);
        self.messages.extend(step.messages);
        self.logs.extend(step.logs);
    }
}
