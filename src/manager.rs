//! THE loop: inputs in, decisions out.
//!
//! ```text
//! sensors ---Report, Notice, HostLost--+                                   +--> effectors (Dispatch, Cancel)
//! effectors ----------Update-----------+--> turn(inputs, now) -> Batch ----+--> API (Reply, live feed)
//! API ---------------Command-----------+      |  1 take in: inventory, queue      ^
//! the clock -----------Tick------------+      |  2 due timers, expired advice     | only when the batch
//!                                             |  3 each event's embots step       | is durable
//!                                             |  4 the planner decides            |
//!                                             +->5 what changed -> store ---------+
//! ```
//! [`Manager`] is the pure part: a turn depends on nothing but its inputs, its `now` and what came before, so the same inputs
//! lead to the same decisions in the daemon, in a simulation and in a replay. [`run`] drives it in a thread of its own.
//!
//! After a restart nothing is decided until every host was heard of (or given up), and until of each action that was under way
//! it is known how it ended, or that it goes on. Until then events wait in the queue, where samples replace each other and
//! facts stay. That wait is bounded: one host that does not answer keeps its own guests from being acted on, not the plane.

mod actions;
mod adjust;
mod advice;
mod audit;
mod commands;
mod handover;
mod history;
mod leftovers;
mod mobile;
mod modules;
mod notices;
mod output;
mod restored;
mod run;
mod tally;
mod timers;
mod views;

pub use adjust::Adjustable;
pub use handover::{HandoverSettings, MigrationView, PeerView};
pub use output::Output;
pub use run::{Handle, Message, Outlet, RunError, run};
pub use tally::{ModuleTally, Tally};
pub use views::{EmbotView, Figures, Idle, IdleModule, ModuleView, RefusalView};

use crate::embot::Roster;
use crate::model::{
    Action, ActionId, ActionKind, Batch, Capacity, Change, ElementId, EmbotId, Event, EventBody, Host, HostId, HostLoad, Input,
    Level, Link, Maintenance, MigrationId, Mode, PlaneRow, Proposal, Record, Span, Timestamp, World,
};
use crate::plan::trial::{PlaneTrials, Trials};
use crate::plan::{Guardrails, Planner, Situation, Terms};
use crate::policy::{Engine, TimerChange};
use crate::queue::Queue;
use crate::sensors::{Inventory, Sensed};
use crate::store::Recovered;
use crate::usage::Usage;
use handover::Handovers;
use mobile::Mobile;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use timers::Timers;

/// A host as the configuration has it.
#[derive(Debug, Clone)]
pub struct HostSettings {
    /// Its name.
    pub id: HostId,
    /// Its site; may be empty.
    pub site: Arc<str>,
    /// Its labels.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
}

/// What the configuration tells the manager.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The plane's name.
    pub plane: Arc<str>,
    /// Its hosts.
    pub hosts: Vec<HostSettings>,
    /// Affinity rules.
    pub rules: Vec<crate::model::AffinityRule>,
    /// The planner's limits.
    pub guardrails: Guardrails,
    /// The sandbox's limits.
    pub policy: crate::policy::Limits,
    /// How far the plane goes with guests it sees for the first time.
    pub adopt: Mode,
    /// How guests go to other planes, and come from them.
    pub handover: HandoverSettings,
    /// How far modules that it sees for the first time may go, whatever their manifests say.
    pub new_modules: Mode,
}

/// Events handled in one turn at the most; the rest waits for the next, so that no command waits long.
const EVENTS_A_TURN: usize = 4_096;
/// A host that was not heard of so long after the start, or an action whose fate is not known by then, no longer keeps the
/// plane from deciding. (A guest with an open action is left alone anyway.)
const START_PATIENCE: Span = Span::minutes(1);
/// Messages of one embot that are delivered within a second, each receiver counted.
const MESSAGES_A_SECOND: usize = 1_000;
/// Ended actions kept at hand; the store keeps more.
const ENDED_KEPT: usize = 2_000;

/// The manager of one plane: all that it knows, and how it decides.
pub struct Manager {
    settings: Settings,
    world: Rc<RefCell<World>>,
    usage: Rc<RefCell<Usage>>,
    inventory: Inventory,
    queue: Queue,
    roster: Roster,
    engine: Engine,
    planner: Planner,
    open: BTreeMap<ActionId, Action>,
    waiting: advice::Waiting,
    notices: notices::Notices,
    ended: BTreeMap<ActionId, Action>,
    refusals: VecDeque<RefusalView>,
    timers: Timers,
    now: Timestamp,
    row: PlaneRow,
    /// Hosts not heard of since the start, and until when that matters.
    awaited: BTreeSet<HostId>,
    patience_ends: Option<Timestamp>,
    /// Actions whose fate since the last run is not known yet.
    unreconciled: BTreeSet<ActionId>,
    /// A host has come (back): guests there may still lack the plane's mark, where putting it there failed or was interrupted.
    looks_for_unmarked: bool,
    usage_saved: BTreeMap<HostId, Timestamp>,
    messages: BTreeMap<EmbotId, (Timestamp, usize)>,
    shelf: modules::Shelf,
    figures: Figures,
    tally: Tally,
    handovers: Handovers,
    mobile: Mobile,
    restoration: restored::Restoration,
    turn: Turn,
}

/// What gathers in one turn.
#[derive(Default)]
struct Turn {
    records: Vec<Record>,
    outputs: Vec<Output>,
    changes: Vec<Change>,
    actions: BTreeSet<ActionId>,
    migrations: BTreeSet<MigrationId>,
    /// Places of embots that changed, some perhaps more than once.
    embots: Vec<usize>,
    /// Facts taken in or made, that may still wait at the end of the turn.
    facts: BTreeSet<u64>,
    /// Facts handled that an earlier batch keeps as pending.
    handled: Vec<u64>,
}

impl Manager {
    /// A manager that goes on where the store says the last one stopped. What it finds amiss is told by [`Record::Notice`]s of
    /// its first turn.
    pub fn new(settings: Settings, mut recovered: Recovered) -> Manager {
        let mut world = World::new(&settings.plane);
        world.armed = recovered.plane.armed;
        world.set_rules(settings.rules.clone());
        for host in &settings.hosts {
            let known = recovered.hosts.get(&host.id);
            world.put_host(Host {
                id: host.id.clone(),
                site: host.site.clone(),
                labels: host.labels.clone(),
                capacity: known.map_or_else(Capacity::default, |known| known.capacity),
                link: Link::Unknown,
                maintenance: known.map_or(Maintenance::Off, |known| known.maintenance),
                load: HostLoad::default(),
                load_at: Timestamp::default(),
                vms: BTreeSet::new(),
            });
        }
        let mut row = recovered.plane;
        let restoration = restored::Restoration::new(recovered.restored, std::mem::take(&mut recovered.unconfirmed));
        if restoration.is_fresh() {
            restored::unused_numbers(&mut row, recovered.last_now);
        }
        for vm in recovered.vms.into_values() {
            world.put_vm(vm);
        }
        let mut turn = Turn::default();
        let planner = Planner::from_bytes(&row.planner).unwrap_or_else(|error| {
            turn.records
                .push(Record::Notice { level: Level::Warning, text: format!("cool-downs and budgets start anew: {error}") });
            row.planner = Vec::new();
            Planner::default()
        });
        let mut usage = Usage::default();
        for (element, bytes) in recovered.usage {
            if let Err(error) = usage.import(element.clone(), &bytes) {
                turn.records
                    .push(Record::Notice { level: Level::Warning, text: format!("usage of {element} starts anew: {error}") });
            }
        }
        let (open, ended): (BTreeMap<_, _>, BTreeMap<_, _>) =
            recovered.actions.into_iter().partition(|(_, action)| !action.state.is_final());
        for action in open.values().filter(|action| action.state.is_open()) {
            if let Some(vm) = action.proposal.kind.vm() {
                world.open.insert(vm, (action.id, action.proposal.kind.verb()));
                if let ActionKind::Migrate { to: Some(to), .. } = &action.proposal.kind {
                    world.moving.insert(vm, to.clone());
                }
            }
        }
        // What becomes of a handover its own machine finds out.
        let asks = |action: &&Action| action.state.is_open() && !matches!(action.proposal.kind, ActionKind::Handover { .. });
        let unreconciled = open.values().filter(asks).map(|action| action.id).collect();
        let mut timers = Timers::default();
        for (number, timer) in recovered.timers {
            timers.set(number, timer);
        }
        let pending = std::mem::take(&mut recovered.pending);
        let modules = std::mem::take(&mut recovered.modules);
        let embots = std::mem::take(&mut recovered.embots);
        let mobile = Mobile::restored(std::mem::take(&mut recovered.mobile), std::mem::take(&mut recovered.contents));
        let (mut migrations, tombstones) =
            (std::mem::take(&mut recovered.migrations), std::mem::take(&mut recovered.tombstones));
        let world = Rc::new(RefCell::new(world));
        let usage = Rc::new(RefCell::new(usage));
        let engine = Engine::new(world.clone(), usage.clone(), settings.policy.clone());
        engine.set_trials(Rc::new(PlaneTrials::new(world.clone(), usage.clone(), settings.guardrails.clone())));
        let hosts: Vec<HostId> = recovered.hosts.keys().cloned().collect();
        let mut manager = Manager {
            inventory: Inventory::new(settings.adopt, recovered.hosts.into_iter().map(|(id, host)| (id, host.link))),
            awaited: settings.hosts.iter().map(|host| host.id.clone()).collect(),
            patience_ends: None,
            timers,
            roster: Roster::restored(embots),
            now: recovered.last_now,
            settings,
            world,
            usage,
            queue: Queue::default(),
            engine,
            planner,
            notices: notices::Notices::restored(open.values(), recovered.last_now),
            open,
            waiting: advice::Waiting::default(),
            ended,
            refusals: VecDeque::new(),
            row,
            unreconciled,
            looks_for_unmarked: false,
            usage_saved: BTreeMap::new(),
            messages: BTreeMap::new(),
            shelf: modules::Shelf::default(),
            figures: Figures::default(),
            tally: Tally::default(),
            handovers: Handovers::default(),
            mobile,
            restoration,
            turn,
        };
        manager.inventory.may_have_forgotten = manager.restoration.may_have_forgotten();
        manager.begin_restored(&mut migrations, recovered.last_now);
        manager.restore_handovers(migrations, tombstones);
        for event in pending.into_values() {
            // What a source sent stands before what its guest's hold keeps back.
            if manager.handovers.passes(event.seq) { manager.queue.push_past(event) } else { manager.queue.push(event) }
        }
        for (name, row) in modules {
            manager.restore_module(name, row);
        }
        manager.sweep_packages();
        manager.clear_leftovers(hosts);
        manager.world.borrow_mut().take_dirty();
        manager
    }

    /// Policies try moves in these trials from now on, in place of those of the plane's own hosts and guests.
    pub fn set_trials(&mut self, trials: Rc<dyn Trials>) {
        self.engine.set_trials(trials);
    }

    /// Actions that were under way when the last run ended: their fate must be asked of the hypervisor
    /// ([`crate::hypervisor::Hypervisor::recover`]) and told as updates.
    pub fn unreconciled(&self) -> Vec<Action> {
        self.unreconciled.iter().filter_map(|id| self.open.get(id)).cloned().collect()
    }

    /// The plane's settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// When the next turn is due without any input; `None`: not until something happens.
    pub fn next_due(&self) -> Option<Timestamp> {
        if self.queue.is_ready() && self.is_settled() {
            return Some(self.now);
        }
        let advice = self.open.values().filter_map(|action| match action.state {
            crate::model::ActionState::Advised { until } => Some(until),
            _ => None,
        });
        let patience = self.patience_ends.or_else(|| (!self.is_settled()).then_some(self.now));
        let migrations = self.handovers.next_due(self.now);
        self.timers.next_due().into_iter().chain(advice).chain(patience).chain(migrations).chain(self.notices.next_due()).min()
    }

    /// Takes inputs in, lets embots step, decides. The outputs may leave when the batch is durable; `None`: nothing happened.
    pub fn turn(&mut self, inputs: Vec<Input>, now: Timestamp) -> Option<(Batch, Vec<Output>)> {
        self.now = self.now.max(now);
        self.wake_handovers();
        for input in &inputs {
            self.take(input);
        }
        self.start_patience();
        self.due_handovers();
        self.due_timers();
        self.expire_advice();
        self.withdraw_groundless();
        self.tell_of_advice();
        self.tell_of_troubles();
        if self.is_settled() {
            self.adopt_unmarked();
            self.dispatch();
        }
        self.late_facts();
        self.finish(inputs)
    }

    /// Has the plane caught up with the world since its start, so that it may decide?
    fn is_settled(&self) -> bool {
        self.unreconciled.is_empty() && self.awaited.is_empty()
    }

    fn start_patience(&mut self) {
        if self.is_settled() {
            self.patience_ends = None;
            return;
        }
        let ends = *self.patience_ends.get_or_insert(self.now + START_PATIENCE);
        if self.now >= ends {
            let hosts = self.awaited.iter().map(ToString::to_string);
            let actions = self.unreconciled.iter().map(|id| format!("what became of action {id}"));
            let names: Vec<String> = hosts.chain(actions).collect();
            self.notice(
                Level::Warning,
                format!("not heard of since the start: {}; the plane decides without", names.join(", ")),
            );
            self.awaited.clear();
            self.unreconciled.clear();
            self.patience_ends = None;
        }
    }

    fn take(&mut self, input: &Input) {
        match input {
            Input::Report(host, report) => {
                self.looks_for_unmarked |= self.world.borrow().host(host).is_some_and(|host| !host.is_up());
                let sensed = self.inventory.report(&mut self.world.borrow_mut(), host, report);
                self.awaited.remove(host);
                self.sensed(sensed);
                self.confirm(host);
                self.save_usage(host);
            }
            Input::Notice(_, notice) if self.sensed_early(notice) => {}
            Input::Notice(host, notice) => {
                let sensed = self.inventory.notice(&mut self.world.borrow_mut(), host, notice);
                self.sensed(sensed);
            }
            Input::HostLost(host, reason) => {
                let sensed = self.inventory.lost(&mut self.world.borrow_mut(), host, reason, self.now);
                self.awaited.remove(host);
                self.sensed(sensed);
            }
            Input::Update(id, update) => self.update(*id, update),
            Input::Command { command, by, ticket } => self.command(command, by, *ticket),
            Input::Tick => {}
            Input::Migration(input) => self.migration(input),
            Input::Abilities(host, abilities) => {
                self.world.borrow_mut().abilities.insert(host.clone(), abilities.clone());
            }
        }
        for alarm in self.inventory.take_alarms() {
            self.notice(Level::Alarm, alarm);
        }
    }

    /// Events into the queue; the roster and the usage history follow.
    fn sensed(&mut self, sensed: Vec<Sensed>) {
        for Sensed { element, at, body } in sensed {
            match (&body, &element) {
                (EventBody::Load, ElementId::Vm(vm)) => {
                    if let Some(vm) = self.world.borrow().vm(*vm) {
                        self.usage.borrow_mut().record_vm(vm);
                    }
                }
                (EventBody::Load, ElementId::Host(host)) => {
                    if let Some(host) = self.world.borrow().host(host) {
                        self.usage.borrow_mut().record_host(host);
                    }
                }
                (EventBody::Appeared | EventBody::Changed, _) => self.register(&element),
                _ => {}
            }
            self.looks_for_unmarked |= matches!(body, EventBody::Appeared | EventBody::Changed);
            self.event(at, element, None, body);
        }
    }

    /// Numbers an event and queues it.
    fn event(&mut self, at: Timestamp, element: ElementId, to: Option<EmbotId>, body: EventBody) {
        let event = Event { seq: self.row.next_event, at, element, to, body };
        self.row.next_event += 1;
        self.figures.events += 1;
        if event.body.class() == crate::model::EventClass::Fact {
            self.turn.facts.insert(event.seq);
            self.turn.records.push(Record::Event { event: event.clone() });
        }
        self.queue.push(event);
    }

    fn notice(&mut self, level: Level, text: String) {
        self.turn.records.push(Record::Notice { level, text });
    }

    /// The roster follows an element that came or changed.
    fn register(&mut self, element: &ElementId) {
        let (made, dropped) = self.roster.register(&self.world.borrow(), element);
        self.embots_changed(made, dropped);
    }

    fn embots_changed(&mut self, made: Vec<EmbotId>, dropped: Vec<EmbotId>) {
        for id in dropped {
            self.drop_timers(&id);
            self.messages.remove(&id);
            self.turn.changes.push(Change::Embot(id, None));
        }
        for id in made {
            if let Some(slot) = self.roster.slot(&id) {
                self.turn.embots.push(slot);
            }
            self.event(self.now, id.element.clone(), Some(id), EventBody::Loaded);
        }
    }

    /// Every event that was there when the turn began reaches its embots; then the planner decides on all that they want.
    fn dispatch(&mut self) {
        let before = self.row.next_event;
        self.note_advice();
        let mut wanted: Vec<(Proposal, Arc<Terms>)> = Vec::new();
        let mut hearers: Vec<usize> = Vec::new();
        for _ in 0..EVENTS_A_TURN {
            let Some(event) = self.queue.pop(before) else { break };
            hearers.clear();
            match &event.to {
                Some(embot) => hearers.extend(self.roster.slot(embot)),
                None => hearers.extend_from_slice(self.roster.hearers(&event.element)),
            }
            for slot in &hearers {
                self.step(*slot, &event, &mut wanted);
            }
            if event.body.class() == crate::model::EventClass::Fact && !self.turn.facts.remove(&event.seq) {
                self.turn.handled.push(event.seq);
            }
            self.note_trouble(&event);
            if event.body == EventBody::Gone {
                self.retire(event.element);
            }
        }
        if !wanted.is_empty() {
            self.decide(wanted);
        }
    }

    /// A guest is gone, and with it its embots and its history; one that has come back meanwhile starts anew.
    fn retire(&mut self, element: ElementId) {
        self.withdraw_advice_for(&element);
        element.vm().and_then(|vm| self.confirmed(vm));
        let dropped = self.roster.deregister(&element);
        self.embots_changed(Vec::new(), dropped);
        let is_back = element.vm().is_some_and(|vm| self.world.borrow().vm(vm).is_some());
        element.vm().filter(|_| !is_back).into_iter().for_each(|vm| self.forget_bringer(vm));
        if element.vm().is_some_and(|vm| self.world.borrow().vm(vm).is_some()) {
            return self.register(&element);
        }
        self.usage.borrow_mut().forget(&element);
        self.turn.changes.push(Change::Usage(element, None));
    }

    /// An embot steps; what it answers to an offer is returned.
    fn step(&mut self, slot: usize, event: &Event, wanted: &mut Vec<(Proposal, Arc<Terms>)>) -> Vec<crate::model::Answer> {
        let Some((embot, module)) = self.roster.at(slot) else { return Vec::new() };
        let stepped = embot.step(&mut self.engine, module, event, self.now);
        if std::mem::take(&mut embot.dirty) {
            self.turn.embots.push(slot);
        }
        if !stepped.handled {
            return Vec::new();
        }
        self.figures.steps += 1;
        self.tally.step(&module.manifest.module, self.engine.take_time(), stepped.faults.len());
        self.planner.considered(&embot.id, event, stepped.proposals.iter().map(|proposal| &proposal.kind));
        let is_heard = stepped.faults.is_empty() && self.waiting.is_said_by(&embot.id, event);
        if stepped.is_quiet() && !is_heard {
            return Vec::new();
        }
        let (id, suspended, terms) = (embot.id.clone(), embot.suspended.is_some(), module.terms_for(&event.element));
        if is_heard {
            self.hear(&id, event, &stepped.proposals);
        }
        wanted.extend(stepped.proposals.into_iter().map(|proposal| (proposal, terms.clone())));
        for text in stepped.logs {
            self.turn.records.push(Record::Log { embot: id.clone(), text });
        }
        let failed = !stepped.faults.is_empty();
        for fault in stepped.faults {
            self.figures.faults += 1;
            let error = fault.error.to_string();
            self.turn.records.push(Record::Fault { embot: id.clone(), error, deadline: fault.deadline, suspended });
        }
        for change in stepped.timers {
            self.timer(&id, change);
        }
        if let (true, EventBody::Timer { name, content }) = (failed && !suspended, &event.body)
            && !self.timers.has(&id, name)
        {
            let again = TimerChange::Set { name: name.clone(), due: self.now + timers::TIMER_AGAIN, content: content.clone() };
            self.timer(&id, again);
        }
        for (channel, content) in stepped.messages {
            self.send(&id, channel, content);
        }
        stepped.answers
    }

    fn send(&mut self, from: &EmbotId, channel: Arc<str>, content: crate::model::Value) {
        let (since, count) = self.messages.entry(from.clone()).or_insert((self.now, 0));
        if self.now.since(*since) >= Span::seconds(1) {
            (*since, *count) = (self.now, 0);
        }
        let receivers = self.roster.channel(&channel, from);
        let (before, now) = (*count, *count + receivers.len());
        *count = now;
        if now > MESSAGES_A_SECOND {
            if before <= MESSAGES_A_SECOND {
                let text = format!("{from} sends more than {MESSAGES_A_SECOND} messages a second; the rest is not delivered");
                self.notice(Level::Warning, text);
            }
            return;
        }
        for to in receivers {
            let body = EventBody::Message { from: from.clone(), channel: channel.clone(), content: content.clone() };
            self.event(self.now, to.element.clone(), Some(to), body);
        }
    }

    /// Closes the turn: what changed becomes rows.
    fn finish(&mut self, inputs: Vec<Input>) -> Option<(Batch, Vec<Output>)> {
        let mut turn = std::mem::take(&mut self.turn);
        self.changed_elements(&mut turn);
        turn.embots.sort_unstable();
        turn.embots.dedup();
        for slot in &turn.embots {
            if let Some((embot, module)) = self.roster.at(*slot) {
                turn.changes.push(Change::Embot(embot.id.clone(), Some(embot.row(module))));
            }
        }
        for id in &turn.actions {
            let action = self.open.get(id).or_else(|| self.ended.get(id));
            turn.changes.push(Change::Action(*id, action.cloned().map(Box::new)));
        }
        turn.changes.extend(self.migration_rows(std::mem::take(&mut turn.migrations)));
        while self.ended.len() > ENDED_KEPT {
            self.ended.pop_first();
        }
        turn.changes.extend(turn.handled.iter().map(|seq| Change::Pending(*seq, None)));
        if !turn.facts.is_empty() {
            let waiting = self.queue.waiting_facts().filter(|event| turn.facts.contains(&event.seq));
            turn.changes.extend(waiting.map(|event| Change::Pending(event.seq, Some(Box::new(event.clone())))));
        }
        let samples_only = inputs.iter().all(Input::is_sample);
        let nothing = turn.records.is_empty() && turn.changes.is_empty() && turn.outputs.is_empty();
        if nothing && inputs.iter().all(|input| *input == Input::Tick) {
            return None;
        }
        if self.planner.take_changed() {
            self.row.planner = self.planner.to_bytes();
        }
        let seq = self.row.next_batch;
        self.row.next_batch += 1;
        turn.changes.push(Change::Plane(self.row.clone()));
        let durable = !samples_only || !turn.records.is_empty() || !turn.outputs.is_empty() || !turn.handled.is_empty();
        self.figures.batches += 1;
        let batch = Batch { seq, now: self.now, inputs, records: turn.records, changes: turn.changes, durable };
        Some((batch, turn.outputs))
    }

    fn changed_elements(&mut self, turn: &mut Turn) {
        let dirty = self.world.borrow_mut().take_dirty();
        let world = self.world.borrow();
        for element in dirty {
            match element {
                ElementId::Host(id) => {
                    let mut row = world.host(&id).cloned();
                    // Not heard of since the start: the row keeps what was last stated of it.
                    if let Some(row) = row.as_mut().filter(|row| row.link == Link::Unknown) {
                        row.link = self.inventory.stated(&id);
                    }
                    turn.changes.push(Change::Host(id, row.map(Box::new)));
                }
                ElementId::Vm(id) => turn.changes.push(Change::Vm(id, world.vm(id).cloned().map(Box::new))),
                ElementId::Plane | ElementId::Disk(..) | ElementId::Nic(..) | ElementId::App(..) => {}
            }
        }
    }
}
