//! A plane in virtual time: the daemon's own manager over a simulated fleet.
//!
//! Nothing of the plane is imitated: inputs, turns, batches, orders and journal are those of the daemon. Only the hypervisor is
//! the pure [`Fleet`], asked directly, and time jumps from one thing that happens to the next. So a simulation with the same
//! fleet, configuration and seed writes the same journal, to the byte.

pub mod cloudsim;
pub mod figures;
pub mod planes;
pub mod scenario;
pub mod traces;
pub mod world;

use crate::effectors::Catalog;
use crate::hypervisor::EMBEDDED;
use crate::hypervisor::simulated::{Fleet, JobId, OrderState, Seen};
use crate::hypervisor::{Destination, MigrationLimits};
use crate::manager::{Manager, Output};
use crate::model::{Action, ActionUpdate, Batch, Command, HostId, Input, Reply, Span, Ticket, Timestamp};
use crate::store::{Store, StoreError, export_batch};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// After so many polls without an answer a host is taken for lost.
const PATIENCE: u32 = 3;

/// A plane and its fleet.
pub struct Simulation {
    manager: Manager,
    fleet: Fleet,
    poll: Span,
    catalog: Catalog,
    polls: BTreeMap<HostId, Poll>,
    inbox: VecDeque<Input>,
    replies: BTreeMap<Ticket, Reply>,
    tickets: u64,
    now: Timestamp,
    store: Option<Store>,
    journal: Option<Vec<u8>>,
}

/// How a host is polled.
#[derive(Debug)]
struct Poll {
    due: Timestamp,
    seen: Option<Seen>,
    failures: u32,
}

impl Simulation {
    /// A plane that begins to watch a fleet, polling each host at `poll`, the hosts one after the other.
    pub fn new(manager: Manager, fleet: Fleet, poll: Span, limits: MigrationLimits) -> Simulation {
        let now = fleet.now();
        let count = fleet.hosts().count().max(1) as u64;
        let spread = |index: usize| now + Span(poll.0 * index as u64 / count);
        let polls = fleet
            .hosts()
            .enumerate()
            .map(|(index, (host, _))| (host.clone(), Poll { due: spread(index), seen: None, failures: 0 }));
        let destination = |host: &HostId| Destination { host: host.clone(), uri: Arc::from(EMBEDDED), migration_uri: None };
        let catalog = Catalog {
            plane: manager.settings().plane.clone(),
            destinations: fleet.hosts().map(|(host, _)| (host.clone(), destination(host))).collect(),
            migration: limits,
        };
        Simulation {
            polls: polls.collect(),
            catalog,
            manager,
            fleet,
            poll,
            inbox: VecDeque::new(),
            replies: BTreeMap::new(),
            tickets: 0,
            now,
            store: None,
            journal: None,
        }
    }

    /// Commits every batch to a store, as the daemon does.
    pub fn with_store(mut self, store: Store) -> Simulation {
        self.store = Some(store);
        self
    }

    /// The plane's daemon died and was started again, with what its store holds: the fleet goes on as if nothing had
    /// happened, and what was on its way to or from the old manager is lost. The fate of actions that were under way is asked
    /// of the fleet, as the daemon asks its hypervisors.
    pub fn restart(&mut self, manager: Manager, store: Store) {
        self.inbox.clear();
        self.replies.clear();
        for poll in self.polls.values_mut() {
            (poll.seen, poll.failures) = (None, 0);
        }
        for action in manager.unreconciled() {
            let job = JobId::Action(self.catalog.plane.clone(), action.id);
            if action.cancelling.is_some() {
                self.fleet.cancel(&job, self.now);
            }
            let update = match self.fleet.poll(&job) {
                Some(OrderState::Running(progress)) => Some(ActionUpdate::Progress(progress)),
                Some(state) => end(state),
                None => Some(ActionUpdate::Failed("a restart of the manager came before it was begun".into())),
            };
            self.inbox.extend(update.map(|update| Input::Update(action.id, update)));
        }
        self.manager = manager;
        self.store = Some(store);
    }

    /// Keeps the export of the journal in memory.
    pub fn with_journal(mut self) -> Simulation {
        self.journal = Some(Vec::new());
        self
    }

    /// The plane.
    pub fn manager(&self) -> &Manager {
        &self.manager
    }

    /// The fleet.
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// The fleet, to do something to it.
    pub fn fleet_mut(&mut self) -> &mut Fleet {
        &mut self.fleet
    }

    /// The store that batches are committed to, if any.
    pub fn store(&self) -> Option<&Store> {
        self.store.as_ref()
    }

    /// The time it has come to.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// What `embot journal export` would print of it so far.
    pub fn journal(&self) -> &[u8] {
        self.journal.as_deref().unwrap_or_default()
    }

    /// An admin's command, and the plane's answer.
    pub fn command(&mut self, command: Command) -> Result<Option<Reply>, StoreError> {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.turn(vec![Input::Command { command, by: "admin".into(), ticket: Some(ticket) }])?;
        Ok(self.replies.remove(&ticket))
    }

    /// Lets time pass.
    pub fn run_for(&mut self, span: Span) -> Result<(), StoreError> {
        let end = self.now + span;
        while let Some(next) = self.next_at().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            let inputs = self.happen();
            self.turn(inputs)?;
        }
        self.now = end;
        Ok(())
    }

    /// Lets time pass until something is so, or for `span` at the most; says whether it came to be so.
    pub fn run_until(&mut self, span: Span, mut is_so: impl FnMut(&Simulation) -> bool) -> Result<bool, StoreError> {
        let end = self.now + span;
        loop {
            if is_so(self) {
                return Ok(true);
            }
            let Some(next) = self.next_at().filter(|next| *next <= end) else {
                self.now = end;
                return Ok(is_so(self));
            };
            self.now = self.now.max(next);
            let inputs = self.happen();
            self.turn(inputs)?;
        }
    }

    fn next_at(&self) -> Option<Timestamp> {
        if !self.inbox.is_empty() {
            return Some(self.now);
        }
        let polls = self.polls.values().map(|poll| poll.due);
        polls.chain(self.fleet.next_change_at()).chain(self.manager.next_due()).min()
    }

    /// What reaches the plane at the present instant.
    fn happen(&mut self) -> Vec<Input> {
        let mut inputs: Vec<Input> = self.inbox.drain(..).collect();
        let changes = self.fleet.advance(self.now);
        inputs.extend(changes.notices.into_iter().map(|(host, notice)| Input::Notice(host, notice)));
        for job in changes.ended {
            let JobId::Action(_, action) = job else { continue };
            let update = self.fleet.poll(&job).and_then(end);
            inputs.extend(update.map(|update| Input::Update(action, update)));
        }
        self.poll_hosts(&mut inputs);
        if inputs.is_empty() {
            inputs.push(Input::Tick);
        }
        inputs
    }

    fn poll_hosts(&mut self, inputs: &mut Vec<Input>) {
        for (host, poll) in self.polls.iter_mut().filter(|(_, poll)| poll.due <= self.now) {
            poll.due = self.now + self.poll;
            match self.fleet.report(host, self.now, poll.seen) {
                Ok((report, seen)) => {
                    (poll.seen, poll.failures) = (Some(seen), 0);
                    inputs.push(Input::Report(host.clone(), report));
                }
                Err(error) => {
                    poll.failures += 1;
                    if poll.failures == PATIENCE {
                        inputs.push(Input::HostLost(host.clone(), error.what.into()));
                    }
                }
            }
        }
    }

    fn turn(&mut self, inputs: Vec<Input>) -> Result<(), StoreError> {
        let Some((batch, outputs)) = self.manager.turn(inputs, self.now) else { return Ok(()) };
        self.keep(&batch)?;
        for output in outputs {
            match output {
                Output::Dispatch(action) => self.begin(*action),
                Output::Cancel(action) => {
                    self.fleet.cancel(&JobId::Action(self.catalog.plane.clone(), action), self.now);
                }
                Output::Reply(ticket, reply) => {
                    self.replies.insert(ticket, reply);
                }
                // A plane by itself has no peers; see `planes` for several.
                Output::Send { .. } | Output::Describe { .. } | Output::Order(_) => {}
            }
        }
        Ok(())
    }

    fn keep(&mut self, batch: &Batch) -> Result<(), StoreError> {
        if let Some(store) = &mut self.store {
            store.commit(std::slice::from_ref(batch))?;
        }
        if let Some(journal) = &mut self.journal {
            export_batch(batch, journal)?;
        }
        Ok(())
    }

    fn begin(&mut self, action: Action) {
        let id = action.id;
        self.inbox.push_back(Input::Update(id, ActionUpdate::Started));
        let Some(host) = action.host.clone() else {
            // A notification: the journal keeps it, there is nobody to tell.
            return self.inbox.push_back(Input::Update(id, ActionUpdate::Done));
        };
        let order = self.catalog.order(&action);
        if let Err(error) = self.fleet.begin(&host, &order, self.now) {
            self.inbox.push_back(Input::Update(id, ActionUpdate::Failed(error.what.into())));
        }
    }
}

/// What an effector would say of an order that is over.
fn end(state: OrderState) -> Option<ActionUpdate> {
    match state {
        OrderState::Waiting | OrderState::Running(_) => None,
        OrderState::Done => Some(ActionUpdate::Done),
        OrderState::Failed(error) => Some(ActionUpdate::Failed(error.what.into())),
        OrderState::Cancelled => Some(ActionUpdate::Cancelled("request".into())),
    }
}
