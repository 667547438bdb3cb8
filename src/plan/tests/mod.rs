//! Tests of the planner as a whole: what it says (`refusals`), what it decides (`decisions`), what it never does
//! (`properties`, `thrash`).

mod arrivals;
mod decisions;
mod properties;
mod refusals;
mod thrash;

use super::{Guardrails, Limits, Planner, Situation, Terms};
use crate::model::testing::{host, vm};
use crate::model::{
    Action, ActionId, ActionKind, ActionState, ElementId, EmbotId, Event, EventBody, HostId, Mode, Plan, Proposal, Refusal,
    Span, Timestamp, Verb, VmId, World,
};
use crate::usage::Usage;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A plane of its own, with a planner and what it needs.
struct Plane {
    world: World,
    usage: Usage,
    guardrails: Guardrails,
    open: BTreeMap<ActionId, Action>,
    now: Timestamp,
    planner: Planner,
    next_action: u64,
}

fn id(number: u128) -> VmId {
    VmId(uuid::Uuid::from_u128(number))
}

fn migrate(number: u128, to: Option<&str>) -> ActionKind {
    ActionKind::Migrate { vm: id(number), to: to.map(HostId::from), live: true }
}

fn suspend(number: u128) -> ActionKind {
    ActionKind::Suspend { vm: id(number) }
}

/// The terms of a module that may do all.
fn terms(module: &str) -> Terms {
    Terms::of_module(module.into(), Mode::Act, Terms::admin("").permits, Limits::default())
}

/// What a module's embot of host `a` proposes on this event.
fn proposal(module: &str, body: EventBody, kind: ActionKind) -> Proposal {
    let element = ElementId::Host("a".into());
    let event = Event { seq: 1, at: Timestamp(0), element: element.clone(), to: None, body };
    Proposal {
        embot: Some(EmbotId { module: module.into(), element }),
        admin: None,
        kind,
        reason: "because".into(),
        place: None,
        cause: Some(Arc::new(event)),
        reads: Arc::new([]),
    }
}

impl Plane {
    /// Hosts `a` (90 % CPU), `b` and `c` (25 %), of 8 cores and 32 GiB; guests 1 and 2 (`web-1`, `web-2`, 1.5 cores each) and
    /// eight more on `a`.
    fn new() -> Plane {
        let mut world = World::new("home");
        for (name, cores) in [("a", 7.2), ("b", 2.0), ("c", 2.0)] {
            let mut host = host(name);
            host.load.cpu_cores = cores;
            world.put_host(host);
        }
        for number in 1..=10 {
            let mut vm = vm(number, &format!("web-{number}"), "a");
            vm.load.cpu_cores = Some(if number <= 2 { 1.5 } else { 0.5 });
            world.put_vm(vm);
        }
        Plane {
            world,
            usage: Usage::default(),
            guardrails: Guardrails::default(),
            open: BTreeMap::new(),
            now: Timestamp(1_000_000),
            planner: Planner::default(),
            next_action: 1,
        }
    }

    fn decide(&mut self, proposals: Vec<(Proposal, Terms)>) -> Plan {
        let proposals = proposals.into_iter().map(|(proposal, terms)| (proposal, Arc::new(terms))).collect();
        let Plane { world, usage, guardrails, open, now, planner, next_action } = self;
        planner.decide(&Situation { world, usage, guardrails, open, now: *now }, proposals, next_action)
    }

    /// What comes of one proposal of module `relieve` on a sample.
    fn propose(&mut self, kind: ActionKind) -> Result<Action, Box<Refusal>> {
        self.propose_under(kind, terms("relieve"))
    }

    fn propose_under(&mut self, kind: ActionKind, terms: Terms) -> Result<Action, Box<Refusal>> {
        let mut proposal = proposal(&terms.module.clone(), EventBody::Load, kind);
        if terms.is_admin {
            (proposal.embot, proposal.admin, proposal.cause) = (None, Some(terms.module.clone()), None);
        }
        let mut plan = self.decide(vec![(proposal, terms)]);
        assert_eq!(plan.accepted.len() + plan.refused.len(), 1);
        plan.accepted.pop().ok_or_else(|| Box::new(plan.refused.remove(0)))
    }

    /// Proposes, and has it under way.
    fn start(&mut self, kind: ActionKind) -> ActionId {
        let action = self.propose(kind).unwrap();
        let id = action.id;
        self.open.insert(id, action);
        id
    }

    /// Ends an action that is under way.
    fn end(&mut self, id: ActionId, state: ActionState) {
        let mut action = self.open.remove(&id).unwrap();
        action.state = state;
        if let (ActionState::Done, ActionKind::Migrate { vm, to: Some(to), .. }) = (&action.state, &action.proposal.kind) {
            let mut vm = self.world.vm(*vm).unwrap().clone();
            vm.host = to.clone();
            self.world.put_vm(vm);
        }
        self.planner.ended(&action, self.now);
    }

    fn pass(&mut self, span: Span) {
        self.now = self.now + span;
    }
}
