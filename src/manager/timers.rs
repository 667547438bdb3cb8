//! Timers that embots set: by when they are due, and by whose they are.

use super::Manager;
use crate::model::{Change, EmbotId, EventBody, Record, Span, TimerRow, Timestamp};
use crate::policy::TimerChange;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A timer is never due sooner: a policy that calls itself back forever must not fill the processor.
const SHORTEST_TIMER: Span = Span(100);
/// Timers of one embot at a time.
const TIMERS: usize = 64;
/// A timer whose step failed is due again after this: a policy that lives by its timer survives one fault.
pub(super) const TIMER_AGAIN: Span = Span::seconds(10);

/// All timers that are not due. An embot has one timer of a name.
#[derive(Debug, Default)]
pub(super) struct Timers {
    due: BTreeMap<(Timestamp, u64), TimerRow>,
    of: BTreeMap<EmbotId, BTreeMap<Arc<str>, (Timestamp, u64)>>,
}

impl Timers {
    /// Adds a timer under its number; gives the number of the one it replaces.
    pub(super) fn set(&mut self, number: u64, timer: TimerRow) -> Option<u64> {
        let replaced = self.cancel(&timer.embot, &timer.name);
        let key = (timer.due, number);
        self.of.entry(timer.embot.clone()).or_default().insert(timer.name.clone(), key);
        self.due.insert(key, timer);
        replaced
    }

    /// Removes a timer; gives its number.
    pub(super) fn cancel(&mut self, embot: &EmbotId, name: &str) -> Option<u64> {
        let theirs = self.of.get_mut(embot)?;
        let key = theirs.remove(name)?;
        if theirs.is_empty() {
            self.of.remove(embot);
        }
        self.due.remove(&key);
        Some(key.1)
    }

    /// All timers of an embot.
    pub(super) fn rows(&self, embot: &EmbotId) -> Vec<TimerRow> {
        let keys = self.of.get(embot).into_iter().flat_map(|theirs| theirs.values());
        keys.filter_map(|key| self.due.get(key).cloned()).collect()
    }

    /// Removes all timers of an embot; gives their numbers.
    pub(super) fn cancel_all(&mut self, embot: &EmbotId) -> Vec<u64> {
        let keys = self.of.remove(embot).unwrap_or_default().into_values();
        keys.inspect(|key| drop(self.due.remove(key))).map(|(_, number)| number).collect()
    }

    /// Takes the first timer that is due.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Option<(u64, TimerRow)> {
        self.next_due().filter(|due| *due <= now)?;
        let ((_, number), timer) = self.due.pop_first()?;
        if let Some(theirs) = self.of.get_mut(&timer.embot) {
            theirs.remove(&timer.name);
            if theirs.is_empty() {
                self.of.remove(&timer.embot);
            }
        }
        Some((number, timer))
    }

    /// Has the embot a timer of this name?
    pub(super) fn has(&self, embot: &EmbotId, name: &str) -> bool {
        self.of.get(embot).is_some_and(|theirs| theirs.contains_key(name))
    }

    /// The embots that have timers.
    pub(super) fn embots(&self) -> impl Iterator<Item = &EmbotId> {
        self.of.keys()
    }

    /// When the first is due.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.due.keys().next().map(|(due, _)| *due)
    }

    /// An embot's timers: names and when they are due.
    pub(super) fn of(&self, embot: &EmbotId) -> Vec<(Arc<str>, Timestamp)> {
        self.of.get(embot).into_iter().flatten().map(|(name, (due, _))| (name.clone(), *due)).collect()
    }
}

impl Manager {
    pub(super) fn drop_timers(&mut self, embot: &EmbotId) {
        let numbers = self.timers.cancel_all(embot);
        self.turn.changes.extend(numbers.into_iter().map(|number| Change::Timer(number, None)));
    }

    pub(super) fn due_timers(&mut self) {
        while let Some((number, timer)) = self.timers.take_due(self.now) {
            if let Some(vm) = timer.embot.element.vm().filter(|vm| self.handovers.is_frozen(*vm)) {
                self.handovers.stop_timer(vm, number, timer);
                continue;
            }
            self.turn.changes.push(Change::Timer(number, None));
            let TimerRow { embot, due, name, content } = timer;
            self.event(due, embot.element.clone(), Some(embot), EventBody::Timer { name, content });
        }
    }

    pub(super) fn timer(&mut self, embot: &EmbotId, change: TimerChange) {
        let old = match change {
            TimerChange::Cancel { name } => self.timers.cancel(embot, &name),
            TimerChange::Set { name, .. } if !self.timers.has(embot, &name) && self.timers.of(embot).len() >= TIMERS => {
                let error = format!("timer `{name}` is not set: {TIMERS} timers wait already; use fewer names");
                let embot = embot.clone();
                self.turn.records.push(Record::Fault { embot, error, deadline: false, suspended: false });
                None
            }
            TimerChange::Set { name, due, content } => {
                let number = self.row.next_timer;
                self.row.next_timer += 1;
                let timer = TimerRow { embot: embot.clone(), due: due.max(self.now + SHORTEST_TIMER), name, content };
                self.turn.changes.push(Change::Timer(number, Some(timer.clone())));
                self.timers.set(number, timer)
            }
        };
        self.turn.changes.extend(old.map(|number| Change::Timer(number, None)));
    }
}
