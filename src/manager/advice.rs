//! Advice while it waits: kept fresh, superseded, withdrawn, expired.
//!
//! Advice says what a module would do now. Said again, it stays open longer; where the module says otherwise, or something is
//! done to the guest, it is superseded; where its ground is gone (its module, its embot, its guest), it is withdrawn.

use super::Manager;
use crate::model::{Action, ActionId, ActionKind, ActionState, ElementId, Mode, Proposal, Record, Verb, VmId};
use std::sync::Arc;

/// Advice that is said again is kept for its whole time anew once this share of it has passed: its row is not written with
/// every sample.
const FRESH_PARTS: u64 = 10;

impl Manager {
    /// The planner was told again what waits already.
    pub(super) fn refresh_advice(&mut self, told: Vec<(ActionId, Proposal)>) {
        let span = self.settings.guardrails.advice_expires;
        for (id, proposal) in told {
            let Some(action) = self.open.get_mut(&id) else { continue };
            if let ActionState::Advised { until } = &mut action.state
                && until.since(self.now).0 < span.0 - span.0 / FRESH_PARTS
            {
                *until = self.now + span;
                // What it rests on is what was measured this time. Where the planner had chosen a destination, that stays.
                action.proposal = Proposal { kind: action.proposal.kind.clone(), ..proposal };
                self.turn.actions.insert(id);
            }
        }
    }

    /// An action was accepted or approved: what was advised for its guest is no longer the question. Other advice only takes
    /// the place of its own embot's of the same sort.
    pub(super) fn supersede_advice(&mut self, by: &Action) {
        let Some(vm) = by.proposal.kind.vm().filter(|_| by.proposal.kind.verb() != Verb::Adopt) else { return };
        let acts = by.state.is_open();
        let is_superseded = |other: &&Action| {
            let (mine, others) = (&by.proposal, &other.proposal);
            let same = mine.embot.is_some() && mine.embot == others.embot && mine.kind.verb() == others.kind.verb();
            other.id != by.id && is_advice(other) && others.kind.vm() == Some(vm) && (acts || same)
        };
        let ids: Vec<ActionId> = self.open.values().filter(is_superseded).map(|other| other.id).collect();
        for id in ids {
            let what = if acts { "is carried out" } else { "is advised" };
            self.withdraw_advice(id, format!("action {} ({}) {what} instead", by.id, by.proposal.kind.verb()));
        }
    }

    /// Withdraws advice that nobody stands behind any more.
    pub(super) fn withdraw_groundless(&mut self) {
        let advice = self.open.values().filter(|action| is_advice(action));
        let groundless: Vec<_> = advice.filter_map(|action| Some((action.id, self.lost_ground(action)?))).collect();
        for (id, why) in groundless {
            self.withdraw_advice(id, why);
        }
    }

    fn lost_ground(&self, action: &Action) -> Option<String> {
        let embot = action.proposal.embot.as_ref()?;
        match self.roster.module(&embot.module) {
            None => return Some(format!("module {} is no longer in force", embot.module)),
            Some(module) if module.mode() == Mode::Observe => {
                return Some(format!("module {} only observes now", embot.module));
            }
            Some(_) => {}
        }
        let world = self.world.borrow();
        if self.roster.slot(embot).is_none() {
            return Some(format!("module {} no longer covers {}", embot.module, world.label(&embot.element)));
        }
        let vm = action.proposal.kind.vm().filter(|_| !matches!(action.proposal.kind, ActionKind::Define { .. }))?;
        match world.vm(vm) {
            None => Some("its guest is gone".to_owned()),
            Some(guest) if guest.mode == Mode::Observe => Some(format!("{} is only observed now", guest.name)),
            Some(_) => None,
        }
    }

    /// What was advised for a guest that is gone, or another of its name.
    pub(super) fn withdraw_advice_for(&mut self, element: &ElementId) {
        let Some(vm): Option<VmId> = element.vm() else { return };
        let of_guest = |action: &&Action| is_advice(action) && action.proposal.kind.vm() == Some(vm);
        let ids: Vec<ActionId> = self.open.values().filter(of_guest).map(|action| action.id).collect();
        for id in ids {
            self.withdraw_advice(id, "its guest is gone".to_owned());
        }
    }

    fn withdraw_advice(&mut self, id: ActionId, why: String) {
        let why: Arc<str> = why.into();
        self.turn.records.push(Record::Settled { action: id, how: "withdrawn".into(), by: why.clone(), reason: None });
        self.end(id, ActionState::Withdrawn { why });
    }

    /// Advice that nobody answered expires.
    pub(super) fn expire_advice(&mut self) {
        let now = self.now;
        let is_over = |action: &&Action| matches!(action.state, ActionState::Advised { until } if until <= now);
        let over: Vec<ActionId> = self.open.values().filter(is_over).map(|action| action.id).collect();
        for id in over {
            self.turn.records.push(Record::Settled { action: id, how: "expired".into(), by: "time".into(), reason: None });
            self.end(id, ActionState::Expired);
        }
    }
}

fn is_advice(action: &Action) -> bool {
    matches!(action.state, ActionState::Advised { .. })
}
