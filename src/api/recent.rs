//! The latest records, in words, for those who look back a little or follow live.
//!
//! One task follows the manager's committed batches, puts each record in words once, keeps the latest [`KEPT`] and hands them
//! to followers. A follower that subscribes gets what it missed and what comes with nothing doubled or left out between,
//! because both happen under one lock. Nothing here can hold up the manager: its broadcast never waits, nor does ours.

use super::stamp::Stamp;
use super::words;
use crate::manager::Handle;
use crate::model::{
    Action, ActionKind, ActionState, ActionUpdate, Batch, ElementId, Event, EventBody, Record, Timestamp, Verb, VmId, World,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast;
use utoipa::ToSchema;

/// So many records are kept.
pub const KEPT: usize = 10_000;

/// So many records may wait for one slow follower before it is dropped.
const BACKLOG: usize = 4_096;

/// So many actions are remembered in words.
const ACTIONS: usize = 10_000;

/// A record's place in the journal: its batch and its position there. It is written `1207.3`; it stays the same after a
/// restart, so a follower can go on where it was. `1207` alone means the end of that batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position {
    /// The batch.
    pub batch: u64,
    /// The position within it.
    pub index: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.batch, self.index)
    }
}

/// Why a text is no position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no position in the journal; write a batch's number such as `1207`, or the `position` of a record (`1207.3`)")]
pub struct PositionError(String);

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Position, PositionError> {
        let bad = || PositionError(text.to_owned());
        let (batch, index) = match text.split_once('.') {
            Some((batch, index)) => (batch, index.parse().map_err(|_| bad())?),
            None => (text, u32::MAX),
        };
        Ok(Position { batch: batch.parse().map_err(|_| bad())?, index })
    }
}

impl Serialize for Position {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Position, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A record in words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RecordView {
    /// Where it stands in the journal.
    pub position: Position,
    /// When.
    pub at: Stamp,
    /// What sort: `event`, `plan`, `refused`, `action`, `fault`, `log`, `notice`.
    pub record: String,
    /// The element it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub element: Option<String>,
    /// The action it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<u64>,
    /// The refusal it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<u64>,
    /// The module it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// Of a notice: `info`, `warning` or `alarm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// Of an action's record: what it came to, for its time line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub milestone: Option<String>,
    /// Is it a detail: progress of a long action, or the book-keeping of embots and marks?
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub detail: bool,
    /// The whole, in words.
    pub text: String,
}

impl RecordView {
    fn blank(position: Position, at: Timestamp) -> RecordView {
        RecordView {
            position,
            at: at.into(),
            record: String::new(),
            element: None,
            action: None,
            refusal: None,
            module: None,
            level: None,
            milestone: None,
            detail: false,
            text: String::new(),
        }
    }
}

/// Puts records in words. It must be told names it does not know ([`Scribe::unknown`]).
#[derive(Debug, Default)]
pub struct Scribe {
    plane: String,
    guests: BTreeMap<VmId, Arc<str>>,
    hosts: BTreeMap<VmId, crate::model::HostId>,
    actions: BTreeMap<u64, String>,
}

impl Scribe {
    /// One who knows the present names.
    pub fn new<'a>(world: &World, actions: impl Iterator<Item = &'a Action>) -> Scribe {
        let mut scribe = Scribe { plane: world.plane.to_string(), ..Scribe::default() };
        for vm in world.vms() {
            scribe.guests.insert(vm.id, vm.name.clone());
            scribe.hosts.insert(vm.id, vm.host.clone());
        }
        actions.for_each(|action| scribe.learn(action));
        scribe
    }

    fn learn(&mut self, action: &Action) {
        let what = words::action(&action.proposal.kind, action.host.as_ref(), &|element| self.label(element));
        self.actions.insert(action.id.0, what);
        if self.actions.len() > ACTIONS {
            self.actions.pop_first();
        }
    }

    fn is_adopt(&self, action: u64) -> bool {
        self.actions.get(&action).is_some_and(|what| what.starts_with(Verb::Adopt.name()))
    }

    fn label(&self, element: &ElementId) -> String {
        let guest = |vm: &VmId| self.guests.get(vm).map_or_else(|| vm.to_string(), ToString::to_string);
        match element {
            ElementId::Plane => self.plane.clone(),
            ElementId::Host(host) => host.to_string(),
            ElementId::Vm(vm) => guest(vm),
            ElementId::Disk(vm, part) | ElementId::Nic(vm, part) | ElementId::App(vm, part) => format!("{}/{part}", guest(vm)),
        }
    }

    /// A batch's records in words, in order.
    pub fn read(&mut self, batch: &Batch) -> Vec<RecordView> {
        let views = batch.records.iter().zip(0..).map(|(record, index)| {
            let position = Position { batch: batch.seq, index };
            self.view(record, position, batch.now)
        });
        let views = views.collect();
        for record in &batch.records {
            // The name of a guest that is gone is of use until this batch is told.
            if let Record::Event { event: Event { element: ElementId::Vm(vm), body: EventBody::Gone, .. } } = record {
                self.guests.remove(vm);
                self.hosts.remove(vm);
            }
        }
        views
    }

    /// The guests in a batch whose name or host must be asked for first: unknown ones, and those that changed.
    pub fn unknown(&self, batch: &Batch) -> BTreeSet<VmId> {
        let mut unknown = BTreeSet::new();
        for record in &batch.records {
            let (vm, changed) = match record {
                Record::Event { event } => {
                    let changed = matches!(event.body, EventBody::Changed | EventBody::Appeared | EventBody::Migrated { .. });
                    (event.element.vm(), changed)
                }
                Record::Planned { action } => (action.proposal.kind.vm(), false),
                Record::Refused { refusal, .. } => (refusal.proposal.kind.vm(), false),
                Record::Fault { embot, .. } | Record::Log { embot, .. } => (embot.element.vm(), false),
                Record::Action { .. } | Record::Settled { .. } | Record::Notice { .. } => (None, false),
            };
            unknown.extend(vm.filter(|vm| changed || !self.guests.contains_key(vm)));
        }
        unknown
    }

    /// Names and hosts that were asked for.
    pub fn tell(&mut self, known: Vec<(VmId, Arc<str>, crate::model::HostId)>) {
        for (vm, name, host) in known {
            self.guests.insert(vm, name);
            self.hosts.insert(vm, host);
        }
    }

    fn view(&mut self, record: &Record, position: Position, now: Timestamp) -> RecordView {
        let mut view = RecordView::blank(position, now);
        let because = |reason: &str, by: &str| format!(": {reason} ({by})");
        match record {
            Record::Event { event } => {
                view.record = "event".to_owned();
                view.at = event.at.into();
                view.element = Some(event.element.to_string());
                view.module = event.to.as_ref().map(|embot| embot.module.to_string());
                let to = event.to.as_ref().map(|embot| format!(" (for {})", embot.module)).unwrap_or_default();
                // What is told to one embot has been told before, or is its own business.
                view.detail = event.to.is_some() || matches!(event.body, EventBody::Changed);
                view.text = format!("{}{to}", words::event(event, &|element| self.label(element)));
            }
            Record::Planned { action } => {
                self.learn(action);
                let advised = matches!(action.state, ActionState::Advised { .. });
                view.record = "plan".to_owned();
                view.detail = action.proposal.kind.verb() == Verb::Adopt;
                view.action = Some(action.id.0);
                view.element = action.proposal.kind.vm().map(|vm| ElementId::Vm(vm).to_string());
                view.module = action.proposal.embot.as_ref().map(|embot| embot.module.to_string());
                let what = &self.actions[&action.id.0];
                let word = if advised { "advise" } else { "plan" };
                let by = words::author(&action.proposal);
                // A notification is its own reason.
                let more = match &action.proposal.kind {
                    ActionKind::Notify { .. } => format!(" ({by})"),
                    _ => because(&action.proposal.reason, &by),
                };
                view.text = format!("{word} {} {what}{more}", action.id);
            }
            Record::Refused { number, refusal } => {
                let proposal = &refusal.proposal;
                let from = proposal.kind.vm().and_then(|vm| self.hosts.get(&vm));
                view.record = "refused".to_owned();
                view.refusal = Some(*number);
                view.element = proposal.kind.vm().map(|vm| ElementId::Vm(vm).to_string());
                view.module = proposal.embot.as_ref().map(|embot| embot.module.to_string());
                let what = words::action(&proposal.kind, from, &|element| self.label(element));
                view.text = format!("refuse r{number} {what} ({}): {}", words::author(proposal), refusal.reason);
            }
            Record::Action { action, update } => {
                let (word, more) = words::update(update);
                let more = if more.is_empty() { more } else { format!(": {more}") };
                view.record = "action".to_owned();
                view.action = Some(action.0);
                view.detail = matches!(update, ActionUpdate::Progress(_)) || self.is_adopt(action.0);
                view.text = format!("{word} {}{more}", self.named(action.0));
                view.milestone = Some(format!("{word}{more}"));
            }
            Record::Settled { action, how, by, reason } => {
                view.record = "action".to_owned();
                view.action = Some(action.0);
                let named = self.named(action.0);
                (view.text, view.milestone) = match &**how {
                    "withdrawn" => (format!("{how} {named}: {by}"), Some(format!("{how}: {by}"))),
                    _ => {
                        let why = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
                        (format!("{how} {named} by {by}{why}"), Some(format!("{how} by {by}{why}")))
                    }
                };
            }
            Record::Fault { embot, error, suspended, .. } => {
                view.record = "fault".to_owned();
                view.element = Some(embot.element.to_string());
                view.module = Some(embot.module.to_string());
                let so = if *suspended { "; it is suspended now" } else { "" };
                view.text = format!("fault of {} at {}: {error}{so}", embot.module, self.label(&embot.element));
            }
            Record::Log { embot, text } => {
                view.record = "log".to_owned();
                view.element = Some(embot.element.to_string());
                view.module = Some(embot.module.to_string());
                view.text = format!("{} at {} says: {text}", embot.module, self.label(&embot.element));
            }
            Record::Notice { level, text } => {
                view.record = "notice".to_owned();
                view.level = Some(words::level(*level).to_owned());
                view.text = format!("{}: {text}", words::level(*level));
            }
        }
        view
    }

    fn named(&self, action: u64) -> String {
        self.actions.get(&action).map_or_else(|| action.to_string(), |what| format!("{action} {what}"))
    }
}

/// The latest records and those who follow.
pub struct Recent {
    kept: Mutex<VecDeque<Arc<RecordView>>>,
    followers: broadcast::Sender<Arc<RecordView>>,
}

impl Default for Recent {
    fn default() -> Recent {
        Recent { kept: Mutex::default(), followers: broadcast::channel(BACKLOG).0 }
    }
}

/// What a follower gets: what it missed, and what is to come.
pub struct Following {
    /// Kept records after the position it named, the oldest first.
    pub missed: Vec<Arc<RecordView>>,
    /// Are there records after that position which are no longer kept?
    pub gap: bool,
    /// Those to come.
    pub coming: broadcast::Receiver<Arc<RecordView>>,
}

impl Recent {
    fn kept(&self) -> MutexGuard<'_, VecDeque<Arc<RecordView>>> {
        // A panic while the lock was held can at worst have lost a record here; the journal has it.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds records and hands them to those who follow.
    pub fn push(&self, views: Vec<RecordView>) {
        let mut kept = self.kept();
        for view in views {
            let view = Arc::new(view);
            if kept.len() == KEPT {
                kept.pop_front();
            }
            kept.push_back(view.clone());
            self.followers.send(view).ok();
        }
    }

    /// The latest `limit` records that pass `wanted`, the oldest first.
    pub fn latest(&self, limit: usize, wanted: impl Fn(&RecordView) -> bool) -> Vec<RecordView> {
        let kept = self.kept();
        let mut found: Vec<RecordView> =
            kept.iter().rev().filter(|view| wanted(view)).take(limit).map(|view| (**view).clone()).collect();
        found.reverse();
        found
    }

    /// The kept records about an action.
    pub fn about(&self, action: crate::model::ActionId) -> Vec<RecordView> {
        self.latest(KEPT, |view| view.action == Some(action.0))
    }

    /// Follows from after `since`; without it, from now on.
    pub fn follow(&self, since: Option<Position>) -> Following {
        let kept = self.kept();
        let missed: Vec<_> = match since {
            Some(since) => kept.iter().filter(|view| view.position > since).cloned().collect(),
            None => Vec::new(),
        };
        let gap = since.is_some_and(|since| kept.front().is_none_or(|oldest| oldest.position.batch > since.batch + 1));
        Following { missed, gap, coming: self.followers.subscribe() }
    }
}

/// Follows the manager, from this call on, and fills `recent` until the manager is gone.
pub(super) fn keep(handle: Handle, recent: Arc<Recent>) -> impl Future<Output = ()> + Send {
    let batches = handle.follow();
    fill(handle, batches, recent)
}

async fn fill(handle: Handle, mut batches: broadcast::Receiver<Arc<Batch>>, recent: Arc<Recent>) {
    // Asked after subscribing: what changes in between is asked for again when its batch comes.
    let known = handle.ask(|manager| Scribe::new(&manager.world(), manager.actions()));
    let Ok(mut scribe) = known.await else { return };
    let mut last = Batch::default();
    loop {
        match batches.recv().await {
            Ok(batch) => {
                let unknown = scribe.unknown(&batch);
                if !unknown.is_empty() {
                    let known = handle.ask(move |manager| {
                        let world = manager.world();
                        let found = unknown.into_iter().filter_map(|vm| world.vm(vm));
                        found.map(|vm| (vm.id, vm.name.clone(), vm.host.clone())).collect()
                    });
                    // Without an answer the guest appears under its UUID.
                    scribe.tell(known.await.unwrap_or_default());
                }
                (last.seq, last.now) = (batch.seq, batch.now);
                recent.push(scribe.read(&batch));
            }
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "the API fell behind: batches are missing among recent events, the journal has them");
                recent.push(vec![lost(missed, &last)]);
            }
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

/// What followers hear in place of batches that the API could not keep up with.
fn lost(batches: u64, last: &Batch) -> RecordView {
    let text = format!("warning: {batches} batches are missing here; `embot journal export --from {}` has them", last.seq + 1);
    let position = Position { batch: last.seq, index: u32::MAX };
    let level = Some("warning".to_owned());
    RecordView { level, record: "notice".to_owned(), text, ..RecordView::blank(position, last.now) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::testing::{a_batch, world};

    #[test]
    fn positions_read_back_as_they_print() {
        for position in [Position { batch: 0, index: 0 }, Position { batch: 1207, index: 3 }] {
            assert_eq!(position.to_string().parse(), Ok(position));
        }
        assert_eq!("12".parse(), Ok(Position { batch: 12, index: u32::MAX }));
        assert_eq!("x".parse::<Position>().unwrap_err().to_string(), PositionError("x".into()).to_string());
    }

    #[test]
    fn records_are_put_in_words() {
        let mut scribe = Scribe::new(&world(), std::iter::empty());
        let lines: Vec<_> =
            scribe.read(&a_batch(7)).into_iter().map(|view| format!("{} {}", view.position, view.text)).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn a_follower_misses_nothing_and_gets_nothing_twice() {
        let recent = Recent::default();
        let mut scribe = Scribe::new(&world(), std::iter::empty());
        for seq in 1..=3 {
            recent.push(scribe.read(&a_batch(seq)));
        }
        let mut following = recent.follow(Some(Position { batch: 1, index: u32::MAX }));
        recent.push(scribe.read(&a_batch(4)));
        let mut seen: Vec<_> = following.missed.iter().map(|view| view.position).collect();
        while let Ok(view) = following.coming.try_recv() {
            seen.push(view.position);
        }
        let each = a_batch(1).records.len() as u32;
        let wanted: Vec<_> = (2..=4).flat_map(|batch| (0..each).map(move |index| Position { batch, index })).collect();
        assert_eq!(seen, wanted);
        assert!(!following.gap);
        assert!(recent.follow(None).missed.is_empty());
    }

    #[test]
    fn memory_is_bounded_and_a_gap_is_known() {
        let recent = Recent::default();
        let mut scribe = Scribe::new(&world(), std::iter::empty());
        let each = a_batch(1).records.len();
        for seq in 1..=(KEPT / each + 10) as u64 {
            recent.push(scribe.read(&a_batch(seq)));
        }
        assert_eq!(recent.latest(usize::MAX, |_| true).len(), KEPT);
        assert!(recent.follow(Some(Position { batch: 2, index: 0 })).gap);
    }
}
