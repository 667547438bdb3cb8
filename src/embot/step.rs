//! An embot and its step: `step(event, view, now) -> new state + what it wants`.

use super::module::Module;
use crate::model::{Answer, EmbotId, EmbotRow, Event, Mode, Proposal, Read, Span, Timestamp, Value, Verb, Verdict};
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
    /// What its policies answer to the offer they heard.
    pub answers: Vec<Answer>,
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
        let state = |policy: &crate::policy::Bound| {
            row.state.get(policy.policy().name()).cloned().map(State::from_value).unwrap_or_default()
        };
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
                    stepped.take(&self.id, module, event, step);
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
            && self.answers.is_empty()
            && self.logs.is_empty()
            && self.faults.is_empty()
    }

    fn take(&mut self, embot: &EmbotId, module: &Module, event: &Event, step: Step) {
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
        self.answers.extend(step.verdict.map(|(verdict, place)| Answer {
            embot: embot.clone(),
            verdict: counted(module, verdict),
            place,
        }));
        self.timers.extend(step.timers);
        self.messages.extend(step.messages);
        self.logs.extend(step.logs);
    }
}

/// A module lets guests in only where it may: it needs the permit and the mode to act. Without them its word is a denial
/// that says what it lacks; it can always deny.
fn counted(module: &Module, verdict: Verdict) -> Verdict {
    let name = &module.manifest.module;
    let lacks = match &verdict {
        Verdict::Deny { .. } => None,
        Verdict::Accept(_) if !module.terms.permits.contains(&Verb::Admit) => {
            Some(format!("module {name} would accept, but has no permit to admit; add `admit` to `permits` in its manifest"))
        }
        Verdict::Accept(_) if module.mode() != Mode::Act => Some(format!(
            "module {name} would accept, but is in mode {}; `embot modules mode {name} act` lets its word count",
            module.mode()
        )),
        Verdict::Accept(_) => None,
    };
    lacks.map_or(verdict, |reason| Verdict::Deny { reason: reason.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embot::Manifest;
    use crate::model::testing::offer;
    use crate::model::{ElementId, EventBody, Grant, ModuleRow, World};
    use crate::policy::Limits;
    use crate::usage::Usage;
    use std::cell::RefCell;
    use std::rc::Rc;

    fn answer(head: &str, policy: &str) -> Vec<Verdict> {
        let world = Rc::new(RefCell::new(World::new("home")));
        let mut engine = Engine::new(world, Rc::new(RefCell::new(Usage::default())), Limits::default());
        let text = format!("module: gate\nversion: '1'\npolicies: [gate.rhai]\ncovers: {{ one_for: plane }}\n{head}");
        let (manifest, _) = Manifest::read("gate.yaml", &text).unwrap();
        let policy = engine.compile("gate.rhai", policy).unwrap();
        let bound = vec![engine.bind(policy, &BTreeMap::new()).unwrap()];
        let module = Module::new(manifest, bound, ModuleRow { mode: None, versions: Vec::new(), declared: None }).unwrap();
        let id = EmbotId { module: "gate".into(), element: ElementId::Plane };
        let mut embot = Embot::new(id.clone(), &module, None);
        let body = EventBody::MigrationOffer(Arc::new(offer("b")));
        let event = Event { seq: 1, at: Timestamp(1), element: ElementId::Plane, to: None, body };
        let stepped = embot.step(&mut engine, &module, &event, Timestamp(1));
        assert!(stepped.faults.is_empty(), "{:?}", stepped.faults);
        assert!(stepped.answers.iter().all(|answer| answer.embot == id && answer.place.line == 1));
        stepped.answers.into_iter().map(|answer| answer.verdict).collect()
    }

    #[test]
    fn a_module_lets_guests_in_only_with_the_permit_and_the_mode() {
        let accept = "fn on_migration_offer(offer) { offer.accept(); }";
        let deny = "fn on_migration_offer(offer) { offer.deny(\"full\"); }";
        assert_eq!(answer("mode: act\npermits: [admit]\n", accept), [Verdict::Accept(Grant::default())]);
        for (head, lacks) in [("mode: act\n", "permit to admit"), ("mode: advise\npermits: [admit]\n", "mode advise")] {
            let answers = answer(head, accept);
            assert!(matches!(&answers[..], [Verdict::Deny { reason }] if reason.contains(lacks)), "{answers:?}");
        }
        assert_eq!(answer("mode: observe\n", deny), [Verdict::Deny { reason: "full".into() }]);
        assert_eq!(answer("mode: act\npermits: [admit]\n", "fn on_migration_offer(offer) { print(1); }"), []);
    }
}
