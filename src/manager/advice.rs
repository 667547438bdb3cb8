//! Advice while it waits: kept fresh, superseded, withdrawn, expired.
//!
//! Advice says what a module would do now. Said again, it stays open longer. It is withdrawn
//! - where something is done to its guest, or its embot advises the same kind of action otherwise: it is superseded;
//! - where its ground is gone: its module, its embot, its guest, or that there is anything left to do;
//! - where it was to empty a host that is no longer in maintenance, or would bring a guest to one that is now;
//! - where it came of a sample, and the embot's steps on samples of the same element have not said it for [`SILENCE`] and
//!   [`SILENT_STEPS`]: the condition is over. So much patience keeps advice from blinking where a value flutters about a
//!   threshold, and lets policies look at their samples only now and then.
//!
//! Facts, timers and messages come once: what is advised on them is not said again though it is still meant, so that stays until it
//! is answered, expires, or loses its ground. What an embot was silent about is not kept over a restart: its patience begins
//! anew then.

use super::Manager;
use crate::model::{
    Action, ActionId, ActionKind, ActionState, ElementId, EmbotId, Event, EventClass, HostId, Mode, Proposal, Record, Span,
    Timestamp, Verb, VmId,
};
use crate::plan;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Advice that is said again is kept for its whole time anew once this share of it has passed: its row is not written with
/// every sample.
const FRESH_PARTS: u64 = 10;
/// Advice that came of a sample is withdrawn when its embot has not said it again for so long...
const SILENCE: Span = Span::minutes(5);
/// ... and in so many steps.
const SILENT_STEPS: u32 = 3;

/// Since when, and in how many steps since, an embot has not said again what it advises.
#[derive(Debug)]
struct Silent {
    since: Timestamp,
    steps: u32,
}

/// What is to be seen of advice that waits, and what the manager remembers of it.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Advice that came of samples, by its embot.
    on_samples: BTreeMap<EmbotId, Vec<ActionId>>,
    silent: BTreeMap<ActionId, Silent>,
}

impl Waiting {
    /// Does a step of this embot on this event say what becomes of advice that waits?
    pub(super) fn is_said_by(&self, embot: &EmbotId, event: &Event) -> bool {
        event.body.class() == EventClass::Sample && self.on_samples.contains_key(embot)
    }
}

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

    /// Before embots step: whose advice waits, and for whom.
    pub(super) fn note_advice(&mut self) {
        let mut world = self.world.borrow_mut();
        world.advised.clear();
        self.waiting.on_samples.clear();
        for action in self.open.values().filter(|action| is_advice(action)) {
            world.advised.extend(action.proposal.kind.vm());
            if let (Some(embot), Some(EventClass::Sample)) = (&action.proposal.embot, class(action)) {
                self.waiting.on_samples.entry(embot.clone()).or_default().push(action.id);
            }
        }
        let open = &self.open;
        self.waiting.silent.retain(|id, _| open.get(id).is_some_and(is_advice));
    }

    /// An embot took a step on a sample, and this is what it wants. Of its advice that waits: what does it say no more?
    pub(super) fn hear(&mut self, embot: &EmbotId, event: &Event, wanted: &[Proposal]) {
        let Some(ids) = self.waiting.on_samples.get(embot) else { return };
        let mut over = Vec::new();
        for id in ids {
            let Some(proposal) = self.open.get(id).map(|action| &action.proposal) else { continue };
            if proposal
                .cause
                .as_ref()
                .is_none_or(|cause| cause.element != event.element || cause.body.index() != event.body.index())
            {
                continue;
            }
            if wanted.iter().any(|wanted| wanted.kind.asks_for(&proposal.kind)) {
                self.waiting.silent.remove(id);
                continue;
            }
            let silent = self.waiting.silent.entry(*id).or_insert(Silent { since: self.now, steps: 0 });
            silent.steps += 1;
            if silent.steps >= SILENT_STEPS && self.now.since(silent.since) >= SILENCE {
                over.push((*id, self.now.since(silent.since).rounded()));
            }
        }
        for (id, span) in over {
            self.withdraw_advice(id, format!("module {} has not advised it for {span}: what led to it is over", embot.module));
        }
    }

    /// A host enters or leaves maintenance, in which it was since `since`: who is advised to go there, and who was advised to
    /// leave because of it?
    pub(super) fn withdraw_for_maintenance(&mut self, host: &HostId, ended: Option<Timestamp>) {
        let is_void = |action: &&Action| match (&action.proposal.kind, ended) {
            (ActionKind::Migrate { .. } | ActionKind::Handover { .. }, Some(since)) => {
                action.host.as_ref() == Some(host) && action.decided_at >= since
            }
            (kind, None) => kind.destination() == Some(host),
            _ => false,
        };
        let ids: Vec<ActionId> =
            self.open.values().filter(|action| is_advice(action)).filter(is_void).map(|action| action.id).collect();
        for id in ids {
            let is = if ended.is_some() { "is no longer" } else { "is" };
            self.withdraw_advice(id, format!("{host} {is} in maintenance"));
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
            // Until it has arrived it is not what it will be.
            _ if world.arriving.contains_key(&vm) => None,
            None => Some("its guest is gone".to_owned()),
            Some(guest) if guest.mode == Mode::Observe => Some(format!("{} is only observed now", guest.name)),
            Some(guest) => plan::nothing_to_do(&action.proposal.kind, guest),
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

    /// An admin takes back that something was rejected.
    pub(super) fn lift(&mut self, action: ActionId, by: &Arc<str>, reason: Option<&Arc<str>>) -> Result<String, String> {
        let Some((vm, rejection)) = self.planner.lift(action, self.now) else {
            return Err(format!(
                "no action {action} was rejected so that it still counts; `embot plan rejections` lists those that were"
            ));
        };
        self.settled(action, "lifted", by, reason);
        let guest = self.world.borrow().label(&ElementId::Vm(vm));
        Ok(format!(
            "the rejection of action {action} is lifted: module {} may advise to {} {guest} again",
            rejection.module, rejection.verb
        ))
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

/// Did it come of a sample or of a fact?
fn class(action: &Action) -> Option<EventClass> {
    action.proposal.cause.as_ref().map(|event| event.body.class())
}
