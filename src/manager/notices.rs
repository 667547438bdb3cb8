//! What the plane itself tells admins of its guests, hosts and advice, where nobody else does.
//!
//! - That advice waits: told when it has begun to, what comes together at once, and no more often than once in [`PACE`].
//! - That a guest crashed, or a host stopped answering, and no module that acts takes care of it: told at once but for what
//!   comes with it, of each of them no more often than once in [`PACE`].
//!
//! What was told is not kept over a restart: advice of the last [`PACE`] may be told once more, and a crash in the very moment of
//! the daemon's end shows in `embot status` only.

use super::Manager;
use crate::error::count;
use crate::model::{Action, ActionId, ActionState, ElementId, Event, EventBody, Level, Mode, Reason, Span, Timestamp, Verb};
use std::collections::{BTreeMap, BTreeSet};

/// Advice that comes within so long is told together...
const GATHER: Span = Span::seconds(30);
/// ... and troubles: where a host dies, many guests do.
const GATHER_TROUBLES: Span = Span::seconds(2);
/// The next is told after so long.
const PACE: Span = Span::minutes(15);
/// So many are named; the rest is counted.
const NAMED: usize = 5;

/// What is still to be told, and what was of late.
#[derive(Debug, Default)]
pub(super) struct Notices {
    /// Advice that nobody was told of.
    advice: BTreeSet<ActionId>,
    /// When that is to be told.
    advice_due: Option<Timestamp>,
    advice_told: Option<Timestamp>,
    /// Guests and hosts that nobody takes care of, each with what happened, by what people call them.
    troubles: BTreeMap<String, (ElementId, String)>,
    /// When they are to be told.
    troubles_due: Option<Timestamp>,
    /// Which of them were told of late.
    told: BTreeMap<ElementId, Timestamp>,
}

impl Notices {
    /// Goes on where the last run stopped.
    pub(super) fn restored<'a>(open: impl Iterator<Item = &'a Action>, now: Timestamp) -> Notices {
        let mut notices = Notices::default();
        let waits = |action: &&Action| matches!(action.state, ActionState::Advised { .. }) && action.decided_at + PACE > now;
        open.filter(waits).for_each(|action| notices.advised(action.id, now));
        notices
    }

    /// Advice begins to wait.
    pub(super) fn advised(&mut self, id: ActionId, now: Timestamp) {
        self.advice.insert(id);
        let soonest = now + GATHER;
        let due = self.advice_told.map_or(soonest, |told| soonest.max(told + PACE));
        self.advice_due.get_or_insert(due);
    }

    /// When the next is to be told.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.advice_due.into_iter().chain(self.troubles_due).min()
    }
}

impl Manager {
    /// Tells that advice waits, where it is time to and it still does.
    pub(super) fn tell_of_advice(&mut self) {
        if self.notices.advice_due.is_none_or(|due| due > self.now) {
            return;
        }
        self.notices.advice_due = None;
        let told = std::mem::take(&mut self.notices.advice);
        let waits = |id: &ActionId| self.open.get(id).filter(|action| matches!(action.state, ActionState::Advised { .. }));
        let waiting: Vec<&Action> = told.iter().filter_map(waits).collect();
        let Some(first) = waiting.first().map(|action| action.id) else { return };
        let line = |action: &&Action| {
            let by = action.proposal.embot.as_ref().map_or("plane", |embot| &embot.module);
            format!("{} {} ({by}: {})", action.id, self.deed(&action.proposal.kind), action.proposal.reason)
        };
        let text = format!(
            "{} for your approval: {}. `embot plan approve {first}` or `embot plan reject {first}` answers, `embot plan` shows all",
            match waiting.len() {
                1 => "an action waits".to_owned(),
                many => format!("{many} actions wait"),
            },
            listed(waiting.iter().map(line))
        );
        self.notices.advice_told = Some(self.now);
        self.notice(Level::Warning, text);
    }

    /// A fact was handled. Does it mean trouble that nobody takes care of?
    pub(super) fn note_trouble(&mut self, event: &Event) {
        let happened = match &event.body {
            EventBody::Crashed(reason) if *reason != Reason::Migration => "crashed".to_owned(),
            EventBody::Stopped(Reason::Crashed) => "crashed".to_owned(),
            EventBody::Stopped(Reason::Failed) => "could not be run".to_owned(),
            EventBody::Stopped(Reason::Watchdog) => "was switched off by its watchdog".to_owned(),
            EventBody::Stopped(Reason::IoError) => "was stopped by a disk error".to_owned(),
            EventBody::HostDown(reason) => format!("does not answer ({reason})"),
            _ => return,
        };
        let element = &event.element;
        let is_told = self.notices.told.get(element).is_some_and(|at| *at + PACE > self.now);
        if !is_told && !self.is_cared_for(event) {
            let label = self.world.borrow().label(element);
            self.notices.troubles.entry(label).or_insert_with(|| (element.clone(), happened));
            self.notices.troubles_due.get_or_insert(self.now + GATHER_TROUBLES);
        }
    }

    /// Is there a module that acts, and hears of it?
    fn is_cared_for(&mut self, event: &Event) -> bool {
        let (armed, mode) = {
            let world = self.world.borrow();
            (world.armed, event.element.vm().and_then(|vm| world.vm(vm)).map_or(Mode::Act, |vm| vm.mode))
        };
        if !armed || mode != Mode::Act {
            return false;
        }
        let hearers = self.roster.hearers(&event.element).to_vec();
        hearers.into_iter().any(|slot| {
            self.roster.at(slot).is_some_and(|(embot, module)| {
                embot.suspended.is_none()
                    && module.mode() == Mode::Act
                    && module.terms.permits.iter().any(|verb| !matches!(verb, Verb::Notify | Verb::Admit))
                    && module.policies.iter().any(|policy| policy.policy().handles(&event.body))
            })
        })
    }

    /// Tells of troubles, where it is time to.
    pub(super) fn tell_of_troubles(&mut self) {
        if self.notices.troubles_due.is_none_or(|due| due > self.now) {
            return;
        }
        self.notices.troubles_due = None;
        let now = self.now;
        let troubles = std::mem::take(&mut self.notices.troubles);
        self.notices.told.retain(|_, at| *at + PACE > now);
        self.notices.told.extend(troubles.values().map(|(element, _)| (element.clone(), now)));
        let (hosts, guests): (Vec<_>, Vec<_>) =
            troubles.into_iter().partition(|(_, (element, _))| matches!(element, ElementId::Host(_)));
        for (what, troubles) in [("host", hosts), ("guest", guests)] {
            let Some((first, _)) = troubles.first() else { continue };
            let world = self.world.borrow();
            let place = |element: &ElementId| match element {
                ElementId::Host(host) => format!(" with {}", count(world.vms_on(host).count(), "guest")),
                other => other.vm().and_then(|vm| world.vm(vm)).map(|vm| format!(" on {}", vm.host)).unwrap_or_default(),
            };
            let line =
                |(label, (element, happened)): &(String, (ElementId, String))| format!("{label}{} {happened}", place(element));
            let heading = if troubles.len() == 1 { what.to_owned() } else { format!("{}:", count(troubles.len(), what)) };
            let text = format!(
                "{heading} {}; no module that acts takes care of it. `embot plan` shows what is advised, `embot elements {first}` what is known",
                listed(troubles.iter().map(line))
            );
            drop(world);
            self.notice(Level::Alarm, text);
        }
    }
}

/// The first few, and how many more there are.
fn listed(lines: impl ExactSizeIterator<Item = String>) -> String {
    let more = lines.len().saturating_sub(NAMED);
    let named: Vec<String> = lines.take(NAMED).collect();
    match more {
        0 => named.join("; "),
        more => format!("{}; and {more} more", named.join("; ")),
    }
}
