//! A plane of a simulation: its manager, and what stands around it in place of a daemon.

use super::simulation::Died;
use crate::effectors::Catalog;
use crate::hypervisor::simulated::{Fleet, JobId, OrderState, Seen};
use crate::hypervisor::{Destination, EMBEDDED, Handover, MigrationLimits};
use crate::manager::{Manager, Output};
use crate::model::{ActionUpdate, Batch, Command, HostId, Input, MigrationId, Reply, Span, Ticket, Timestamp};
use crate::store::{Store, StoreError, export_batch};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// After so many polls without an answer a host is taken for lost.
const PATIENCE: u32 = 3;

/// A migration's job: the order it is, and what is left of it.
pub(super) struct Job {
    pub(super) migration: MigrationId,
    pub(super) order: u32,
    pub(super) host: HostId,
    pub(super) steps: VecDeque<Handover>,
    pub(super) is_cancelled: bool,
}

/// How a host is polled.
#[derive(Debug)]
struct Poll {
    host: HostId,
    seen: Option<Seen>,
    failures: u32,
}

/// One plane.
pub struct Plane {
    pub(super) manager: Manager,
    store: Option<Store>,
    /// By how much its clock is ahead of the fleet's, in milliseconds.
    pub(super) clock_ms: i64,
    pub(super) catalog: Catalog,
    polls: Vec<Poll>,
    /// When which host is polled next.
    due: BTreeSet<(Timestamp, usize)>,
    polls_in_turn: bool,
    pub(super) inbox: VecDeque<Input>,
    /// Jobs that somebody waits for.
    pub(super) jobs: BTreeMap<JobId, Job>,
    replies: BTreeMap<Ticket, Reply>,
    tickets: u64,
    batches: Option<Vec<Batch>>,
    journal: Option<Vec<u8>>,
}

impl Plane {
    /// A plane on its manager; it polls the hosts that its settings name, all at once. It knows how to reach the hosts of all
    /// planes.
    pub fn new(manager: Manager, limits: MigrationLimits) -> Plane {
        let settings = manager.settings();
        let destination = |host: &HostId| Destination { host: host.clone(), uri: Arc::from(EMBEDDED), migration_uri: None };
        let catalog = Catalog {
            plane: settings.plane.clone(),
            destinations: settings.hosts.iter().map(|host| (host.id.clone(), destination(&host.id))).collect(),
            migration: limits,
        };
        let hosts: BTreeSet<&HostId> = settings.hosts.iter().map(|host| &host.id).collect();
        let polls = hosts.into_iter().map(|host| Poll { host: host.clone(), seen: None, failures: 0 }).collect();
        Plane {
            manager,
            store: None,
            clock_ms: 0,
            catalog,
            polls,
            due: BTreeSet::new(),
            polls_in_turn: false,
            inbox: VecDeque::new(),
            jobs: BTreeMap::new(),
            replies: BTreeMap::new(),
            tickets: 0,
            batches: None,
            journal: None,
        }
    }

    /// Commits every batch to a store, as the daemon does.
    pub fn with_store(mut self, store: Store) -> Plane {
        self.store = Some(store);
        self
    }

    /// Its clock is ahead of the fleet's by so many milliseconds.
    pub fn with_clock(mut self, ahead_ms: i64) -> Plane {
        self.clock_ms = ahead_ms;
        self
    }

    /// Polls its hosts one after the other, spread over the interval, as a daemon's pollers come to do.
    pub fn polls_in_turn(mut self) -> Plane {
        self.polls_in_turn = true;
        self
    }

    /// Keeps its batches in memory.
    pub fn with_batches(mut self) -> Plane {
        self.batches = Some(Vec::new());
        self
    }

    /// Keeps the export of its journal in memory.
    pub fn with_journal(mut self) -> Plane {
        self.journal = Some(Vec::new());
        self
    }

    /// Its manager.
    pub fn manager(&self) -> &Manager {
        &self.manager
    }

    /// The store that its batches are committed to, if any.
    pub fn store(&self) -> Option<&Store> {
        self.store.as_ref()
    }

    /// What it took in and decided, as it became durable, where that is kept: since its start, or since it was last taken.
    pub fn batches(&self) -> &[Batch] {
        self.batches.as_deref().unwrap_or_default()
    }

    /// Takes the batches that were kept.
    pub fn take_batches(&mut self) -> Vec<Batch> {
        self.batches.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// What `embot journal export` would print of it so far, where that is kept.
    pub fn journal(&self) -> &[u8] {
        self.journal.as_deref().unwrap_or_default()
    }

    /// Its hosts.
    pub(super) fn hosts(&self) -> impl Iterator<Item = &HostId> {
        self.polls.iter().map(|poll| &poll.host)
    }

    /// What its clock shows.
    pub(super) fn clock(&self, now: Timestamp) -> Timestamp {
        Timestamp(now.0 + self.clock_ms)
    }

    /// It begins to poll its hosts.
    pub(super) fn begin(&mut self, now: Timestamp, every: Span) {
        let count = self.polls.len().max(1) as u64;
        let spread = |index: usize| if self.polls_in_turn { Span(every.0 * index as u64 / count) } else { Span::ZERO };
        self.due = (0..self.polls.len()).map(|index| (now + spread(index), index)).collect();
    }

    /// When something is due here by the fleet's clock.
    pub(super) fn next_at(&self) -> Option<Timestamp> {
        let manager = self.manager.next_due().map(|due| Timestamp(due.0 - self.clock_ms));
        self.due.first().map(|(due, _)| *due).into_iter().chain(manager).min()
    }

    /// Polls the hosts whose time has come.
    pub(super) fn poll(&mut self, fleet: &mut Fleet, now: Timestamp, every: Span) {
        while let Some((_, index)) = self.due.first().copied().filter(|(due, _)| *due <= now) {
            self.due.pop_first();
            self.due.insert((now + every.max(Span(1)), index));
            let poll = &mut self.polls[index];
            match fleet.report(&poll.host, now, poll.seen) {
                Ok((mut report, seen)) => {
                    (poll.seen, poll.failures) = (Some(seen), 0);
                    report.asked_at = Timestamp(report.asked_at.0 + self.clock_ms);
                    self.inbox.push_back(Input::Report(poll.host.clone(), report));
                }
                Err(error) => {
                    poll.failures += 1;
                    if poll.failures == PATIENCE {
                        self.inbox.push_back(Input::HostLost(poll.host.clone(), error.what.into()));
                    }
                }
            }
        }
    }

    /// Its daemon was started again. The fate of actions that were under way is asked of the fleet, as the daemon asks its
    /// hypervisors.
    pub(super) fn restart(&mut self, manager: Manager, store: Store, fleet: &mut Fleet, now: Timestamp) {
        (self.manager, self.store) = (manager, Some(store));
        self.inbox.clear();
        self.jobs.clear();
        self.replies.clear();
        for poll in &mut self.polls {
            (poll.seen, poll.failures) = (None, 0);
        }
        for action in self.manager.unreconciled() {
            let job = self.job_of(action.id);
            if action.cancelling.is_some() {
                fleet.cancel(&job, now);
            }
            let update = match fleet.poll(&job) {
                Some(OrderState::Waiting) => continue,
                Some(OrderState::Running(progress)) => ActionUpdate::Progress(progress),
                Some(ended) => action_ended(ended),
                None => ActionUpdate::Failed("a restart of the manager came before it was begun".into()),
            };
            self.inbox.push_back(Input::Update(action.id, update));
        }
    }

    /// The fleet's job for an action of this plane.
    pub(super) fn job_of(&self, action: crate::model::ActionId) -> JobId {
        JobId::Action(self.catalog.plane.clone(), action)
    }

    /// The manager takes its turn, and the batch becomes durable; what may leave then.
    pub(super) fn turn(&mut self, index: usize, inputs: Vec<Input>, now: Timestamp) -> Result<Vec<Output>, Died> {
        let Some((batch, outputs)) = self.manager.turn(inputs, self.clock(now)) else { return Ok(Vec::new()) };
        self.keep(batch).map_err(|error| Died { plane: index, error })?;
        Ok(outputs)
    }

    fn keep(&mut self, batch: Batch) -> Result<(), StoreError> {
        if let Some(store) = &mut self.store {
            store.commit(std::slice::from_ref(&batch))?;
        }
        if let Some(journal) = &mut self.journal {
            export_batch(&batch, journal)?;
        }
        if let Some(batches) = &mut self.batches {
            batches.push(batch);
        }
        Ok(())
    }

    /// An admin's command under its ticket.
    pub(super) fn ask(&mut self, command: Command) -> (Ticket, Input) {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        (ticket, Input::Command { command, by: "admin".into(), ticket: Some(ticket) })
    }

    pub(super) fn replied(&mut self, ticket: Ticket, reply: Reply) {
        self.replies.insert(ticket, reply);
    }

    pub(super) fn take_reply(&mut self, ticket: Ticket) -> Option<Reply> {
        self.replies.remove(&ticket)
    }
}

/// What an effector would say of an order that is over.
pub(super) fn action_ended(state: OrderState) -> ActionUpdate {
    match state {
        OrderState::Done => ActionUpdate::Done,
        OrderState::Failed(error) => ActionUpdate::Failed(error.what.into()),
        _ => ActionUpdate::Cancelled("request".into()),
    }
}
