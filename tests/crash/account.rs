//! The account: what the journal says, what the store remembers and what was really done to the fleet, compared.
//!
//! An effect's end and the action's must agree. The exceptions are those that recovery states, and no others: an action that
//! never reached its host, was refused there, or was cancelled before a restart, has *failed* for the plane.

use crate::rounds::Given;
use embot::hypervisor::simulated::{Effect, LogLine, Outcome};
use embot::model::{
    Action, ActionId, ActionState, ActionUpdate, Command, ElementId, EmbotId, Event, EventBody, EventClass, Input, Level,
    Record, Timestamp, Verb,
};
use embot::store::{Recovered, Retention, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// What the journal says.
#[derive(Default)]
pub struct Account {
    complaints: Vec<String>,
    batches: u64,
    events: Vec<Event>,
    planned: BTreeMap<ActionId, Action>,
    /// What was said of each action.
    updates: BTreeMap<ActionId, Vec<ActionUpdate>>,
    /// Reasons of commands.
    commands: BTreeMap<Arc<str>, u32>,
    effects: BTreeMap<ActionId, Vec<Effect>>,
}

const INTERRUPTED: &str = "interrupted by a restart of the manager: ";

/// Compares everything; the complaints, and the figures for a look.
pub fn compare(store: &Path, effects: &Path, exported: &[u8], given: &[Given]) -> (Vec<String>, String) {
    let (store, recovered) = Store::open(store, Retention::default()).expect("the store opens");
    let mut account = Account::default();
    account.journal(&store, exported);
    account.effects(effects);
    account.actions(&recovered);
    account.given(given);
    account.facts(&recovered);
    let ended = |wanted: fn(&ActionUpdate) -> bool| account.updates.values().flatten().filter(|update| wanted(update)).count();
    let figures = format!(
        "{} batches, {} facts, {} actions ({} done, {} failed, {} cancelled), {} effects begun, {} interrupted by a restart, {} commands",
        account.batches,
        account.events.len(),
        account.planned.len(),
        ended(|update| *update == ActionUpdate::Done),
        ended(|update| matches!(update, ActionUpdate::Failed(_))),
        ended(|update| matches!(update, ActionUpdate::Cancelled(_))),
        account.effects.len(),
        ended(|update| matches!(update, ActionUpdate::Failed(why) if why.starts_with(INTERRUPTED))),
        given.len(),
    );
    (account.complaints, figures)
}

impl Account {
    fn complain(&mut self, what: String) {
        self.complaints.push(what);
    }

    fn journal(&mut self, store: &Store, exported: &[u8]) {
        let mut whole = Vec::new();
        store.journal().export(0, u64::MAX, &mut whole).expect("an export");
        if !whole.starts_with(exported) || exported.is_empty() {
            self.complain("what `embot journal export` wrote is not the journal's beginning".to_owned());
        }
        let mut last_now = Timestamp::default();
        for batch in store.journal().batches(0) {
            let batch = batch.expect("a readable journal");
            self.batches += 1;
            if batch.seq != self.batches || batch.now < last_now {
                self.complain(format!("batch {} at {:?} is the {}th, after {last_now:?}", batch.seq, batch.now, self.batches));
            }
            last_now = batch.now;
            for input in batch.inputs {
                if let Input::Command { command: Command::Act { reason, .. }, .. } = input {
                    *self.commands.entry(reason).or_default() += 1;
                }
            }
            for record in batch.records {
                self.record(record, batch.seq);
            }
        }
    }

    fn record(&mut self, record: Record, batch: u64) {
        match record {
            Record::Event { event } => {
                if event.body == EventBody::Gone {
                    self.complain(format!("batch {batch}: {} is said to be gone", event.element));
                }
                self.events.push(event);
            }
            Record::Planned { action } => {
                if action.state != ActionState::Planned || self.planned.insert(action.id, action.clone()).is_some() {
                    self.complain(format!("batch {batch}: action {} is planned again, or is only advice", action.id));
                }
            }
            Record::Action { action, update } => {
                if !self.planned.contains_key(&action) {
                    self.complain(format!("batch {batch}: {update:?} of action {action}, which was not planned before"));
                }
                self.updates.entry(action).or_default().push(update);
            }
            Record::Fault { embot, error, .. } => self.complain(format!("batch {batch}: fault of {embot}: {error}")),
            Record::Notice { level: Level::Alarm, text } => self.complain(format!("batch {batch}: alarm: {text}")),
            Record::Notice { .. } | Record::Refused { .. } | Record::Settled { .. } | Record::Log { .. } => {}
        }
    }

    fn effects(&mut self, log: &Path) {
        let text = std::fs::read_to_string(log).expect("a log of effects");
        for line in text.lines() {
            let line: LogLine = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
            let LogLine::Effect(effect) = line else { continue };
            self.effects.entry(effect.action).or_default().push(effect);
        }
    }

    fn actions(&mut self, recovered: &Recovered) {
        let numbers: BTreeSet<ActionId> = self.planned.keys().chain(self.effects.keys()).copied().collect();
        for id in numbers {
            let effects = self.effects.get(&id).cloned().unwrap_or_default();
            let Some(action) = self.planned.get(&id).cloned() else {
                self.complain(format!("action {id} was carried out and never planned: {effects:?}"));
                continue;
            };
            let said = self.updates.get(&id).cloned().unwrap_or_default();
            if let Err(why) = agree(&action, &said, &effects) {
                self.complain(format!(
                    "action {id} ({}): {why}; said: {said:?}; effects: {effects:?}",
                    action.proposal.kind.verb()
                ));
            }
            if let (Some(row), Some(end)) = (recovered.actions.get(&id), said.last())
                && !same_end(&row.state, end)
            {
                self.complain(format!("action {id} stands as {:?} in the store, and was said to be {end:?}", row.state));
            }
        }
        let open = recovered.actions.values().filter(|action| !action.state.is_final());
        let open: Vec<_> = open.map(|action| (action.id, action.state.word())).collect();
        if !open.is_empty() {
            self.complain(format!("actions that never ended: {open:?}"));
        }
    }

    fn given(&mut self, given: &[Given]) {
        for Given { reason, answer } in given {
            let times = self.commands.get(reason.as_str()).copied().unwrap_or(0);
            let code = answer.as_ref().map(|answer| answer.code);
            let right = match code {
                // A yes and a no both come from the journal.
                Some(200 | 409) => times == 1,
                Some(503) | None => times <= 1,
                Some(_) => false,
            };
            if !right {
                self.complain(format!("{reason}: in the journal {times} times, answered {answer:?}"));
            }
            let Some(answer) = answer.as_ref().filter(|answer| answer.code == 200) else { continue };
            for id in answer.body["actions"].as_array().into_iter().flatten().filter_map(serde_json::Value::as_u64) {
                if self.planned.get(&ActionId(id)).is_none_or(|action| *action.proposal.reason != **reason) {
                    self.complain(format!("{reason}: action {id} was promised, and is not this command's in the journal"));
                }
            }
        }
    }

    /// Every fact of the journal that does not wait was handled once by each embot that hears it.
    fn facts(&mut self, recovered: &Recovered) {
        let mut seen = BTreeSet::new();
        let twice: Vec<u64> = self.events.iter().map(|event| event.seq).filter(|seq| !seen.insert(*seq)).collect();
        let mut complaints = Vec::new();
        if !twice.is_empty() {
            complaints.push(format!("event numbers given twice: {twice:?}"));
        }
        let unknown: Vec<u64> = recovered.pending.keys().copied().filter(|seq| !seen.contains(seq)).collect();
        if !unknown.is_empty() {
            complaints.push(format!("facts wait that the journal does not have: {unknown:?}"));
        }
        let mut sent = (0, 0);
        for (embot, row) in &recovered.embots {
            let state = row.state.values().next().map(embot::model::Value::to_json).unwrap_or_default();
            let figure = |key: &str| state.get(key).and_then(serde_json::Value::as_i64).unwrap_or(0);
            if &*embot.module == "listen" {
                continue;
            }
            for (kind, (count, times)) in self.heard(embot, recovered) {
                let counted = (figure(kind), figure(&format!("{kind}_at")));
                if counted != (count, times) {
                    complaints.push(format!("{embot} counted {kind} {counted:?}, the journal has {:?}", (count, times)));
                }
            }
            let waits = recovered.timers.values().filter(|timer| timer.embot == *embot);
            let due = recovered.pending.values().filter(|event| event.to.as_ref() == Some(embot));
            let due = due.filter_map(|event| match &event.body {
                EventBody::Timer { content, .. } => Some(content),
                _ => None,
            });
            let waits: i64 = waits.map(|timer| &timer.content).chain(due).filter_map(number).sum();
            let (set, fired) = (figure("numbers"), figure("fired"));
            if set != fired + waits {
                complaints.push(format!("{embot}: its timers' numbers sum up to {set}; {fired} have fired, {waits} wait"));
            }
            sent = (sent.0 + figure("number"), sent.1 + figure("numbers"));
        }
        let listener = recovered.embots.iter().find(|(embot, _)| &*embot.module == "listen").map(|(_, row)| row);
        let state = listener.and_then(|row| row.state.values().next()).map(embot::model::Value::to_json).unwrap_or_default();
        let mut told = (state["messages"].as_i64().unwrap_or(0), state["numbers"].as_i64().unwrap_or(0));
        for event in recovered.pending.values() {
            if let EventBody::Message { content, .. } = &event.body {
                told = (told.0 + 1, told.1 + number(content).unwrap_or(0));
            }
        }
        if told != sent || sent.0 == 0 {
            complaints.push(format!("messages sent {sent:?}, received {told:?}"));
        }
        self.complaints.extend(complaints);
    }

    /// Facts that an embot has heard since it is there: how many of each kind, and the sum of their times.
    fn heard(&self, embot: &EmbotId, recovered: &Recovered) -> BTreeMap<&'static str, (i64, i64)> {
        let loaded = |event: &&Event| event.body == EventBody::Loaded && event.to.as_ref() == Some(embot);
        let since = self.events.iter().find(loaded).map_or(u64::MAX, |event| event.seq);
        let hears = |event: &&Event| match &event.to {
            Some(to) => to == embot,
            None => event.element.vm().map(ElementId::Vm).as_ref() == Some(&embot.element),
        };
        let mut heard = BTreeMap::new();
        for event in self.events.iter().filter(|event| event.seq >= since).filter(hears) {
            if recovered.pending.contains_key(&event.seq) {
                continue;
            }
            debug_assert_eq!(event.body.class(), EventClass::Fact);
            let (count, times) = heard.entry(event.body.kind().name).or_insert((0, 0));
            (*count, *times) = (*count + 1, *times + event.at.0);
        }
        heard
    }
}

fn number(value: &embot::model::Value) -> Option<i64> {
    value.to_json().as_i64()
}

/// Does what was said of an action agree with what was done?
fn agree(action: &Action, said: &[ActionUpdate], effects: &[Effect]) -> Result<(), String> {
    let is_end = |update: &&ActionUpdate| !matches!(update, ActionUpdate::Started | ActionUpdate::Progress(_));
    let ends = said.iter().filter(is_end).count();
    let Some(end) = said.last().filter(|last| ends == 1 && is_end(last)) else {
        return Err(format!("it has {ends} ends, or something was said after its end"));
    };
    let kind = &action.proposal.kind;
    let is_this = |effect: &Effect| {
        effect.verb == kind.verb()
            && Some(effect.vm) == kind.vm()
            && Some(&effect.host) == action.host.as_ref()
            && effect.target.as_ref() == kind.destination()
    };
    if !effects.iter().all(is_this) {
        return Err("something else was done under its number".to_owned());
    }
    let outcomes: Vec<&Outcome> = effects.iter().map(|effect| &effect.outcome).collect();
    let interrupted = |why: &str| why.strip_prefix(INTERRUPTED).map(ToOwned::to_owned);
    match (outcomes.as_slice(), end) {
        ([Outcome::Begun, Outcome::Done], ActionUpdate::Done) => Ok(()),
        // There is no effect on a guest in telling admins.
        ([], ActionUpdate::Done) if kind.verb() == Verb::Notify => Ok(()),
        ([Outcome::Begun, Outcome::Failed { reason }], ActionUpdate::Failed(why)) => {
            let told = interrupted(why).unwrap_or_else(|| why.to_string());
            if told == *reason { Ok(()) } else { Err("it failed for another reason than was said".to_owned()) }
        }
        ([Outcome::Begun, Outcome::Cancelled], ActionUpdate::Cancelled(_)) => Ok(()),
        ([Outcome::Begun, Outcome::Cancelled], ActionUpdate::Failed(why))
            if interrupted(why).as_deref() == Some("it was cancelled") =>
        {
            Ok(())
        }
        // Refused, or withdrawn, before anything was done.
        ([], ActionUpdate::Failed(why)) if !why.contains("cannot tell what became of it") => Ok(()),
        ([], ActionUpdate::Cancelled(_)) => Ok(()),
        _ => Err("what was said is not what was done".to_owned()),
    }
}

fn same_end(state: &ActionState, end: &ActionUpdate) -> bool {
    match (state, end) {
        (ActionState::Done, ActionUpdate::Done) => true,
        (ActionState::Failed { reason }, ActionUpdate::Failed(why)) => reason == why,
        (ActionState::Cancelled { by }, ActionUpdate::Cancelled(why)) => by == why,
        _ => false,
    }
}
