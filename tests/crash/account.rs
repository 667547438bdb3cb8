//! The account: what the journals say, what the stores remember and what was really done to the fleet, compared.
//!
//! An effect's end and the action's must agree. The exceptions are those that recovery states, and no others: an action that
//! never reached its host, was refused there, or was cancelled before a restart, has *failed* for the plane. Every fact that
//! a plane has accepted is handled once, by the plane itself or by the one that its guest went to (see [`crate::handed`]).

use crate::handed::{Handed, hand_over};
use crate::rounds::Given;
use embot::hypervisor::simulated::{Effect, LogLine, Outcome};
use embot::model::{
    Action, ActionId, ActionState, ActionUpdate, Command, ElementId, EmbotId, EmbotRow, Event, EventBody, EventClass, Input,
    Level, Record, Timestamp, Verb,
};
use embot::store::{Recovered, Retention, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// What a plane leaves behind.
pub struct Books<'a> {
    /// The plane's name.
    pub plane: &'a str,
    /// Its store.
    pub store: &'a Path,
    /// What `embot journal export` wrote of it.
    pub exported: &'a [u8],
    /// The commands it was given.
    pub given: &'a [Given],
}

/// What the journal of a plane says, and what its store remembers.
pub struct Account {
    pub plane: Arc<str>,
    pub complaints: Vec<String>,
    pub recovered: Recovered,
    pub planned: BTreeMap<ActionId, Action>,
    pub handed: Handed,
    batches: u64,
    pub last_now: Timestamp,
    events: Vec<Event>,
    /// What was said of each action.
    updates: BTreeMap<ActionId, Vec<ActionUpdate>>,
    /// Reasons of commands.
    commands: BTreeMap<Arc<str>, u32>,
    effects: BTreeMap<ActionId, Vec<Effect>>,
}

/// By so much, at the most, is a fact put behind others.
const PUT_BEHIND_MS: i64 = 10_000;

const INTERRUPTED: &str = "interrupted by a restart of the manager: ";

/// The lines of a fleet's log of effects.
pub fn log(effects: &Path) -> Vec<LogLine> {
    let text = std::fs::read_to_string(effects).expect("a log of effects");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
}

/// Compares everything; the accounts with their complaints, and the figures for a look.
pub fn compare(books: &[Books], log: &[LogLine]) -> (Vec<Account>, Vec<String>) {
    let mut accounts: Vec<Account> = books.iter().map(Account::read).collect();
    hand_over(&mut accounts);
    for (account, books) in accounts.iter_mut().zip(books) {
        account.effects(log);
        account.actions();
        account.given(books.given);
    }
    let complaints = facts(&accounts);
    if let Some(account) = accounts.first_mut() {
        account.complaints.extend(complaints);
    }
    let figures = accounts.iter().zip(books).map(|(account, books)| account.figures(books.given.len())).collect();
    (accounts, figures)
}

/// Words of alarms that this test gives reason for.
const EXPECTED: [&str; 2] = ["(a simulated fault)", "no module that acts takes care of it"];

impl Account {
    fn read(books: &Books) -> Account {
        let (store, recovered) = Store::open(books.store, Retention::default()).expect("the store opens");
        let mut account = Account {
            plane: books.plane.into(),
            complaints: Vec::new(),
            recovered,
            planned: BTreeMap::new(),
            handed: Handed::default(),
            batches: 0,
            last_now: Timestamp::default(),
            events: Vec::new(),
            updates: BTreeMap::new(),
            commands: BTreeMap::new(),
            effects: BTreeMap::new(),
        };
        account.journal(&store, books.exported);
        account
    }

    fn figures(&self, given: usize) -> String {
        let ended = |wanted: fn(&ActionUpdate) -> bool| self.updates.values().flatten().filter(|update| wanted(update)).count();
        format!(
            "{}: {} batches, {} facts, {} actions ({} done, {} failed, {} cancelled), {} effects begun, {} interrupted by a restart, \
             {given} commands, {} guests handed over",
            self.plane,
            self.batches,
            self.events.len(),
            self.planned.len(),
            ended(|update| *update == ActionUpdate::Done),
            ended(|update| matches!(update, ActionUpdate::Failed(_))),
            ended(|update| matches!(update, ActionUpdate::Cancelled(_))),
            self.effects.len(),
            ended(|update| matches!(update, ActionUpdate::Failed(why) if why.starts_with(INTERRUPTED))),
            self.handed.moved.len(),
        )
    }

    pub fn complain(&mut self, what: String) {
        self.complaints.push(format!("{}: {what}", self.plane));
    }

    fn journal(&mut self, store: &Store, exported: &[u8]) {
        let mut whole = Vec::new();
        store.journal().export(0, u64::MAX, &mut whole).expect("an export");
        if !whole.starts_with(exported) || exported.is_empty() {
            self.complain("what `embot journal export` wrote is not the journal's beginning".to_owned());
        }
        for batch in store.journal().batches(0) {
            let batch = batch.expect("a readable journal");
            self.batches += 1;
            if batch.seq != self.batches || batch.now < self.last_now {
                let after = self.last_now;
                self.complain(format!("batch {} at {:?} is the {}th, after {after:?}", batch.seq, batch.now, self.batches));
            }
            self.last_now = batch.now;
            for input in batch.inputs {
                match input {
                    Input::Command { command: Command::Act { reason, .. }, .. } => {
                        *self.commands.entry(reason).or_default() += 1;
                    }
                    Input::Migration(input) => self.handed.hear(&self.plane, &input),
                    _ => {}
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
                // (A guest that went to another plane is gone for embots over several elements.)
                if event.body == EventBody::Gone && event.to.is_none() {
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
            // What the fleet refuses on purpose, and hosts that the test takes away, admins hear of.
            Record::Notice { level: Level::Alarm, text } if !EXPECTED.iter().any(|words| text.contains(words)) => {
                self.complain(format!("batch {batch}: alarm: {text}"))
            }
            Record::Notice { .. } | Record::Refused { .. } | Record::Settled { .. } | Record::Log { .. } => {}
        }
    }

    fn effects(&mut self, log: &[LogLine]) {
        for line in log {
            let LogLine::Effect(effect) = line else { continue };
            if effect.plane == self.plane {
                self.effects.entry(effect.action).or_default().push(effect.clone());
            }
        }
    }

    /// Has the guest of this action gone to another plane by it?
    fn has_moved(&self, action: ActionId) -> bool {
        self.handed.moved.iter().any(|id| id.number == action.0)
    }

    fn actions(&mut self) {
        let numbers: BTreeSet<ActionId> = self.planned.keys().chain(self.effects.keys()).copied().collect();
        for id in numbers {
            let effects = self.effects.get(&id).cloned().unwrap_or_default();
            let Some(action) = self.planned.get(&id).cloned() else {
                self.complain(format!("action {id} was carried out and never planned: {effects:?}"));
                continue;
            };
            let said = self.updates.get(&id).cloned().unwrap_or_default();
            if let Err(why) = agree(&action, &said, &effects, self.has_moved(id)) {
                self.complain(format!(
                    "action {id} ({}): {why}; said: {said:?}; effects: {effects:?}",
                    action.proposal.kind.verb()
                ));
            }
            if let (Some(row), Some(end)) = (self.recovered.actions.get(&id), said.last())
                && !same_end(&row.state, end)
            {
                self.complain(format!("action {id} stands as {:?} in the store, and was said to be {end:?}", row.state));
            }
        }
        let open = self.recovered.actions.values().filter(|action| !action.state.is_final());
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
                // It is, or has gone, to another plane.
                Some(404) => times == 0,
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

    /// What became of the plane's facts: does it still wait here, or has another plane handled it?
    fn has_handled(&self, event: &Event) -> bool {
        !self.recovered.pending.contains_key(&event.seq) && !self.handed.sent.contains(&event.seq)
    }

    /// From which fact on an embot could hear anything here. It is loaded once, on one of the planes, and comes to the others
    /// with its guest.
    fn loaded(&self, embot: &EmbotId) -> Option<u64> {
        let loaded = |event: &&Event| event.body == EventBody::Loaded && event.to.as_ref() == Some(embot);
        self.events.iter().find(loaded).map(|event| event.seq)
    }

    /// Facts that an embot has heard here: how many of each kind, and the sum of their times.
    fn heard(&self, embot: &EmbotId) -> BTreeMap<&'static str, (i64, i64)> {
        let since = self.loaded(embot).unwrap_or(0);
        let hears = |event: &&Event| match &event.to {
            Some(to) => to == embot,
            None => event.element.vm().map(ElementId::Vm).as_ref() == Some(&embot.element),
        };
        let mut heard = BTreeMap::new();
        for event in self.events.iter().filter(|event| event.seq >= since).filter(hears) {
            if !self.has_handled(event) {
                continue;
            }
            debug_assert_eq!(event.body.class(), EventClass::Fact);
            let (count, times) = heard.entry(event.body.kind().name).or_insert((0, 0));
            (*count, *times) = (*count + 1, *times + event.at.0);
        }
        heard
    }

    /// Facts that wait.
    fn waiting(&self) -> impl Iterator<Item = &Event> {
        self.recovered.pending.values().filter(|event| !self.handed.sent.contains(&event.seq))
    }

    /// Are facts numbered once, and is what waits known?
    fn numbers(&self) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let twice: Vec<u64> = self.events.iter().map(|event| event.seq).filter(|seq| !seen.insert(*seq)).collect();
        let mut complaints = Vec::new();
        if !twice.is_empty() {
            complaints.push(format!("{}: event numbers given twice: {twice:?}", self.plane));
        }
        let unknown: Vec<u64> = self.recovered.pending.keys().copied().filter(|seq| !seen.contains(seq)).collect();
        if !unknown.is_empty() {
            complaints.push(format!("{}: facts wait that the journal does not have: {unknown:?}", self.plane));
        }
        complaints
    }
}

/// The only state of an embot, as JSON.
fn state(row: &EmbotRow) -> serde_json::Value {
    row.state.values().next().map(|state| state.to_json()).unwrap_or_default()
}

/// Every fact of the journals that does not wait was handled once by each embot that hears it, wherever that was.
fn facts(accounts: &[Account]) -> Vec<String> {
    let mut complaints: Vec<String> = accounts.iter().flat_map(Account::numbers).collect();
    let embots =
        || accounts.iter().flat_map(|account| account.recovered.embots.iter().map(move |(id, row)| (account, id, row)));
    let mut sent = (0, 0);
    for (account, embot, row) in embots().filter(|(_, embot, _)| &*embot.module == "count") {
        let state = state(row);
        let figure = |key: &str| state.get(key).and_then(serde_json::Value::as_i64).unwrap_or(0);
        if embots().filter(|(_, other, _)| *other == embot).count() != 1 {
            complaints.push(format!("{}: {embot} is elsewhere as well", account.plane));
        }
        if accounts.iter().filter(|account| account.loaded(embot).is_some()).count() != 1 {
            complaints.push(format!("{}: {embot} was not loaded once", account.plane));
        }
        let mut heard: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
        for (kind, (count, times)) in accounts.iter().flat_map(|account| account.heard(embot)) {
            let (counts, sums) = heard.entry(kind).or_default();
            (*counts, *sums) = (*counts + count, *sums + times);
        }
        for (kind, (count, times)) in heard {
            let counted = (figure(kind), figure(&format!("{kind}_at")));
            // What the target's hosts said of a guest on its way is put behind all that comes from the source, in time as well.
            let later = if accounts.len() > 1 { counted.1 - times } else { 0 };
            if counted != (count, times + later) || !(0..=PUT_BEHIND_MS * count).contains(&later) {
                let plane = &account.plane;
                complaints.push(format!("{plane}: {embot} counted {kind} {counted:?}, the journals have {:?}", (count, times)));
            }
        }
        let waits = account.recovered.timers.values().filter(|timer| timer.embot == *embot);
        let due = accounts.iter().flat_map(Account::waiting).filter(|event| event.to.as_ref() == Some(embot));
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
    let mut told = (0, 0);
    for (_, _, row) in embots().filter(|(_, embot, _)| &*embot.module == "listen") {
        let state = state(row);
        told = (told.0 + state["messages"].as_i64().unwrap_or(0), told.1 + state["numbers"].as_i64().unwrap_or(0));
    }
    for event in accounts.iter().flat_map(Account::waiting) {
        if let EventBody::Message { content, .. } = &event.body {
            told = (told.0 + 1, told.1 + number(content).unwrap_or(0));
        }
    }
    if told != sent || sent.0 == 0 {
        complaints.push(format!("messages sent {sent:?}, received {told:?}"));
    }
    complaints
}

fn number(value: &embot::model::Value) -> Option<i64> {
    value.to_json().as_i64()
}

/// Does what was said of an action agree with what was done?
fn agree(action: &Action, said: &[ActionUpdate], effects: &[Effect], has_moved: bool) -> Result<(), String> {
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
    if kind.verb() == Verb::Handover {
        // What is done for it are steps of its migration; the journal of the other plane says what became of it.
        return match (end, has_moved) {
            _ if !outcomes.is_empty() => Err("it is an order itself".to_owned()),
            (ActionUpdate::Done, true) | (ActionUpdate::Failed(_) | ActionUpdate::Cancelled(_), false) => Ok(()),
            _ => Err(format!("the other plane's word is: moved {has_moved}")),
        };
    }
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
        // An admin wanted it ended while its manager was down, and by then it had failed by itself, for the reason that is told.
        ([Outcome::Begun, Outcome::Failed { reason }], ActionUpdate::Cancelled(why)) if **why == **reason => Ok(()),
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
