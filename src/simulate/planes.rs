//! Several planes in virtual time: the daemon's own managers over one simulated fleet, each with hosts of its own, and links
//! between them that can be cut.
//!
//! ```text
//!   plane a: manager, store --orders--> hosts of a --+
//!       |  ^                                         +-- one fleet, one time
//!      messages, after the link's delay              |
//!       v  |                                         |
//!   plane b: manager, store --orders--> hosts of b --+
//! ```
//! Nothing of the planes is imitated but the wire. Each may have a clock that is off, may die at any write to its store, and
//! be started again on what the store holds.

use crate::effectors::Catalog;
use crate::effectors::migration::{carry_out, describe, job_ended, job_steps};
use crate::hypervisor::simulated::{Begun, Fleet, JobId, OrderState, Seen};
use crate::hypervisor::{
    Definition, Destination, EMBEDDED, Fate, Handover, Hypervisor, HypervisorError, MigrationLimits, NoticeSink, Watch,
};
use crate::hypervisor::{ErrorKind, Order as ActionOrder};
use crate::manager::{Manager, Output};
use crate::migration::Order;
use crate::migration::order::MigrationOrder;
use crate::model::{
    Action, ActionUpdate, Batch, Bytes, Command, HostId, HostReport, Input, Mark, MigrationId, MigrationInput, Notice,
    Progress, Reply, Sighting, Span, Ticket, Timestamp, VmId,
};
use crate::store::{Store, StoreError};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// After so many polls without an answer a host is taken for lost.
const PATIENCE: u32 = 3;

/// How a host is polled.
#[derive(Debug)]
struct Poll {
    due: Timestamp,
    seen: Option<Seen>,
    failures: u32,
}

/// A migration's job: the order it is, and what is left of it.
struct Job {
    migration: MigrationId,
    order: u32,
    host: HostId,
    steps: VecDeque<Handover>,
    is_cancelled: bool,
}

/// One plane.
pub struct Plane {
    manager: Manager,
    store: Option<Store>,
    /// By how much its clock is ahead of the fleet's, in milliseconds.
    clock_ms: i64,
    catalog: Catalog,
    polls: BTreeMap<HostId, Poll>,
    inbox: VecDeque<Input>,
    /// Jobs that somebody waits for.
    jobs: BTreeMap<JobId, Job>,
    replies: BTreeMap<Ticket, Reply>,
    tickets: u64,
    /// What it took in and decided, as it became durable.
    batches: Vec<Batch>,
}

/// A message on its way.
#[derive(Debug)]
struct OnTheWay {
    due: Timestamp,
    from: usize,
    to: usize,
    bytes: Arc<[u8]>,
}

/// Planes, and the fleet they share.
pub struct Planes {
    fleet: Mutex<Fleet>,
    planes: Vec<Plane>,
    wire: VecDeque<OnTheWay>,
    /// Links that are cut, lower number first.
    cut: BTreeSet<(usize, usize)>,
    poll: Span,
    delay: Span,
    /// How often planes tell each other what they have to give, and when the next time is; `None`: never.
    summaries: Option<(Span, Timestamp)>,
    now: Timestamp,
}

/// Why a plane came to a stop.
#[derive(Debug)]
pub struct Died {
    /// Which.
    pub plane: usize,
    /// What its store said.
    pub error: StoreError,
}

impl Plane {
    /// A plane on its manager; its clock is off by so much. It knows how to reach the hosts of all planes.
    pub fn new(manager: Manager, store: Option<Store>, clock_ms: i64, limits: MigrationLimits) -> Plane {
        let catalog = Catalog {
            plane: manager.settings().plane.clone(),
            destinations: manager.settings().hosts.iter().map(|host| (host.id.clone(), destination(&host.id))).collect(),
            migration: limits,
        };
        let poll = || Poll { due: Timestamp(0), seen: None, failures: 0 };
        let polls = manager.settings().hosts.iter().map(|host| (host.id.clone(), poll())).collect();
        Plane {
            manager,
            store,
            clock_ms,
            catalog,
            polls,
            inbox: VecDeque::new(),
            jobs: BTreeMap::new(),
            replies: BTreeMap::new(),
            tickets: 0,
            batches: Vec::new(),
        }
    }

    /// Its manager.
    pub fn manager(&self) -> &Manager {
        &self.manager
    }

    /// The store that its batches are committed to, if any.
    pub fn store(&self) -> Option<&Store> {
        self.store.as_ref()
    }

    /// What it took in and decided since its start.
    pub fn batches(&self) -> &[Batch] {
        &self.batches
    }

    fn clock(&self, now: Timestamp) -> Timestamp {
        Timestamp(now.0 + self.clock_ms)
    }
}

fn destination(host: &HostId) -> Destination {
    Destination { host: host.clone(), uri: Arc::from(EMBEDDED), migration_uri: None }
}

/// A host of the fleet, asked at one instant.
struct At<'a> {
    fleet: &'a Mutex<Fleet>,
    host: &'a HostId,
    now: Timestamp,
}

/// Nobody watches: what takes time is polled.
struct Nobody;

impl Watch for Nobody {
    fn progress(&self, _: Progress) {}

    fn is_cancelled(&self) -> bool {
        false
    }
}

fn lock(fleet: &Mutex<Fleet>) -> MutexGuard<'_, Fleet> {
    fleet.lock().unwrap_or_else(PoisonError::into_inner)
}

fn not_here<T>() -> Result<T, HypervisorError> {
    Err(HypervisorError::new(ErrorKind::Unsupported, "planes in virtual time ask the fleet itself"))
}

impl Hypervisor for At<'_> {
    fn report(&self, _: Timestamp) -> Result<HostReport, HypervisorError> {
        not_here()
    }

    fn subscribe(&self, _: NoticeSink) {}

    fn mark(&self, vm: VmId) -> Result<Option<Mark>, HypervisorError> {
        lock(self.fleet).mark(self.host, vm)
    }

    fn execute(&self, _: &ActionOrder, _: &dyn Watch) -> Result<(), HypervisorError> {
        not_here()
    }

    fn recover(&self, _: &ActionOrder, _: &dyn Watch) -> Result<Fate, HypervisorError> {
        not_here()
    }

    fn look(&self, vm: VmId) -> Result<Option<Sighting>, HypervisorError> {
        lock(self.fleet).look(self.host, vm)
    }

    fn definition(&self, vm: VmId) -> Result<Definition, HypervisorError> {
        lock(self.fleet).definition(self.host, vm)
    }

    fn hand_over(&self, handover: &Handover, _: &dyn Watch) -> Result<(), HypervisorError> {
        match lock(self.fleet).hand_over(self.host, handover, self.now)? {
            Begun::Done => Ok(()),
            Begun::Job(_) => not_here(),
        }
    }
}

impl Planes {
    /// Planes that begin to watch their hosts. Messages take `delay` from one to another.
    pub fn new(fleet: Fleet, planes: Vec<Plane>, poll: Span, delay: Span) -> Planes {
        let now = fleet.now();
        let mut all = Planes {
            fleet: Mutex::new(fleet),
            planes,
            wire: VecDeque::new(),
            cut: BTreeSet::new(),
            poll,
            delay,
            summaries: None,
            now,
        };
        for index in 0..all.planes.len() {
            all.plug(index);
        }
        all
    }

    /// The planes tell each other what they have to give, as often as this.
    pub fn with_summaries(mut self, every: Span) -> Planes {
        self.summaries = Some((every, self.now + every));
        self
    }

    /// A plane's links to those that it can reach come up, at both ends.
    fn plug(&mut self, index: usize) {
        for other in (0..self.planes.len()).filter(|other| *other != index) {
            self.tell_link(index, other, !self.cut.contains(&pair(index, other)));
        }
    }

    fn tell_link(&mut self, a: usize, b: usize, up: bool) {
        for (one, other) in [(a, b), (b, a)] {
            let peer = self.name(other);
            self.planes[one].inbox.push_back(Input::Migration(MigrationInput::Link { peer, up }));
        }
    }

    fn name(&self, plane: usize) -> Arc<str> {
        self.planes[plane].manager.settings().plane.clone()
    }

    /// A plane.
    pub fn plane(&self, plane: usize) -> &Plane {
        &self.planes[plane]
    }

    /// A plane's manager.
    pub fn manager(&self, plane: usize) -> &Manager {
        &self.planes[plane].manager
    }

    /// The fleet.
    pub fn fleet(&self) -> MutexGuard<'_, Fleet> {
        lock(&self.fleet)
    }

    /// The fleet's time.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Cuts the link between two planes, or mends it. What is on its way when it is cut is lost.
    pub fn link(&mut self, a: usize, b: usize, up: bool) {
        let changed = if up { self.cut.remove(&pair(a, b)) } else { self.cut.insert(pair(a, b)) };
        if changed {
            self.wire.retain(|message| up || pair(message.from, message.to) != pair(a, b));
            self.tell_link(a, b, up);
        }
    }

    /// A plane's clock is off by so many milliseconds from now on.
    pub fn set_clock(&mut self, plane: usize, clock_ms: i64) {
        self.planes[plane].clock_ms = clock_ms;
    }

    /// A plane's daemon died and was started again, with what its store holds. What was on its way to or from the old one is
    /// lost; its hosts go on.
    pub fn restart(&mut self, plane: usize, manager: Manager, store: Store) {
        self.wire.retain(|message| message.from != plane && message.to != plane);
        let one = &mut self.planes[plane];
        (one.manager, one.store) = (manager, Some(store));
        one.inbox.clear();
        one.jobs.clear();
        one.replies.clear();
        for poll in one.polls.values_mut() {
            (poll.seen, poll.failures) = (None, 0);
        }
        for action in one.manager.unreconciled() {
            let fate = lock(&self.fleet).poll(&JobId::Action(one.catalog.plane.clone(), action.id));
            let update = match fate {
                Some(OrderState::Waiting) => continue,
                Some(OrderState::Running(progress)) => ActionUpdate::Progress(progress),
                Some(ended) => ended_action(ended),
                None => ActionUpdate::Failed("a restart of the manager came before it was begun".into()),
            };
            one.inbox.push_back(Input::Update(action.id, update));
        }
        self.plug(plane);
    }

    /// An admin's command to a plane, and its answer.
    pub fn command(&mut self, plane: usize, command: Command) -> Result<Option<Reply>, Died> {
        let one = &mut self.planes[plane];
        one.tickets += 1;
        let ticket = Ticket(one.tickets);
        self.turn(plane, vec![Input::Command { command, by: "admin".into(), ticket: Some(ticket) }])?;
        Ok(self.planes[plane].replies.remove(&ticket))
    }

    /// A host says something to its plane.
    pub fn notice(&mut self, plane: usize, host: &HostId, vm: VmId, body: crate::model::NoticeBody) -> Result<(), Died> {
        let at = self.planes[plane].clock(self.now);
        self.turn(plane, vec![Input::Notice(host.clone(), Notice { vm, at, body })])
    }

    /// Lets time pass.
    pub fn run_for(&mut self, span: Span) -> Result<(), Died> {
        self.run_until(span, |_| false).map(drop)
    }

    /// Lets time pass until something is so, or for `span` at the most; says whether it came to be so.
    pub fn run_until(&mut self, span: Span, mut is_so: impl FnMut(&Planes) -> bool) -> Result<bool, Died> {
        let end = self.now + span;
        loop {
            if is_so(self) {
                return Ok(true);
            }
            if !self.step(end)? {
                return Ok(is_so(self));
            }
        }
    }

    /// Lets happen what comes next, up to an instant; says whether there was anything.
    pub fn step(&mut self, until: Timestamp) -> Result<bool, Died> {
        let Some(next) = self.next_at().filter(|next| *next <= until) else {
            self.now = until;
            lock(&self.fleet).advance(until);
            return Ok(false);
        };
        self.now = self.now.max(next);
        self.happen()?;
        Ok(true)
    }

    fn next_at(&self) -> Option<Timestamp> {
        if self.planes.iter().any(|plane| !plane.inbox.is_empty()) {
            return Some(self.now);
        }
        let polls = self.planes.iter().flat_map(|plane| plane.polls.values().map(|poll| poll.due));
        let due = |plane: &Plane| plane.manager.next_due().map(|due| Timestamp(due.0 - plane.clock_ms));
        let wire = self.wire.iter().map(|message| message.due);
        let summaries = self.summaries.map(|(_, due)| due);
        let others = self.planes.iter().filter_map(due).chain(wire).chain(summaries);
        polls.chain(lock(&self.fleet).next_change_at()).chain(others).min()
    }

    /// What happens at the present instant.
    fn happen(&mut self) -> Result<(), Died> {
        let changes = lock(&self.fleet).advance(self.now);
        for (host, mut notice) in changes.notices {
            let Some(plane) = self.planes.iter_mut().find(|plane| plane.polls.contains_key(&host)) else { continue };
            notice.at = plane.clock(notice.at);
            plane.inbox.push_back(Input::Notice(host, notice));
        }
        for job in changes.ended {
            self.ended(&job);
        }
        let now = self.now;
        let (due, later) = std::mem::take(&mut self.wire).into_iter().partition(|message| message.due <= now);
        self.wire = later;
        let due: VecDeque<OnTheWay> = due;
        for OnTheWay { from, to, bytes, .. } in due {
            let (peer, ahead_ms) = (self.name(from), self.planes[to].clock_ms - self.planes[from].clock_ms);
            let message = MigrationInput::Message { peer, ahead_ms, bytes: Bytes(bytes) };
            self.planes[to].inbox.push_back(Input::Migration(message));
        }
        self.exchange_summaries();
        for plane in 0..self.planes.len() {
            self.poll_hosts(plane);
            let inputs: Vec<Input> = self.planes[plane].inbox.drain(..).collect();
            let due = self.planes[plane].manager.next_due().is_some_and(|due| due <= self.planes[plane].clock(now));
            match inputs.is_empty() {
                true if due => self.turn(plane, vec![Input::Tick])?,
                true => {}
                false => self.turn(plane, inputs)?,
            }
        }
        Ok(())
    }

    /// Each plane hears what those it can reach have to give.
    fn exchange_summaries(&mut self) {
        let Some((every, _)) = self.summaries.filter(|(_, due)| *due <= self.now) else { return };
        self.summaries = Some((every, self.now + every));
        for from in 0..self.planes.len() {
            let summary = self.planes[from].manager.summary();
            for to in (0..self.planes.len()).filter(|to| *to != from && !self.cut.contains(&pair(from, *to))) {
                let peer = self.name(from);
                let said = MigrationInput::Summary { peer, summary: summary.clone() };
                self.planes[to].inbox.push_back(Input::Migration(said));
            }
        }
    }

    /// A job of the fleet is over: whoever waits for it hears.
    fn ended(&mut self, job: &JobId) {
        let Some(state) = lock(&self.fleet).poll(job).filter(OrderState::is_final) else { return };
        match job {
            JobId::Action(name, action) => {
                if let Some(plane) = self.planes.iter_mut().find(|plane| plane.catalog.plane == *name) {
                    plane.inbox.push_back(Input::Update(*action, ended_action(state)));
                }
            }
            JobId::Handover(_) => {
                let result = match state {
                    OrderState::Done => Ok(()),
                    OrderState::Failed(error) => Err(error),
                    _ => Err(HypervisorError::new(ErrorKind::Cancelled, "cancelled on request")),
                };
                for plane in 0..self.planes.len() {
                    if let Some(job) = self.planes[plane].jobs.remove(job) {
                        self.go_on(plane, job, result.clone());
                    }
                }
            }
        }
    }

    fn poll_hosts(&mut self, plane: usize) {
        let (now, poll_every) = (self.now, self.poll);
        let plane = &mut self.planes[plane];
        let offset = plane.clock_ms;
        let mut fleet = lock(&self.fleet);
        for (host, poll) in plane.polls.iter_mut().filter(|(_, poll)| poll.due <= now) {
            poll.due = now + poll_every;
            match fleet.report(host, now, poll.seen) {
                Ok((mut report, seen)) => {
                    (poll.seen, poll.failures) = (Some(seen), 0);
                    report.asked_at = Timestamp(report.asked_at.0 + offset);
                    plane.inbox.push_back(Input::Report(host.clone(), report));
                }
                Err(error) => {
                    poll.failures += 1;
                    if poll.failures == PATIENCE {
                        plane.inbox.push_back(Input::HostLost(host.clone(), error.what.into()));
                    }
                }
            }
        }
        for (job, Job { migration, .. }) in &plane.jobs {
            if let Some(OrderState::Running(progress)) = fleet.poll(job) {
                let migration = migration.clone();
                plane.inbox.push_back(Input::Migration(MigrationInput::Progress { migration, progress }));
            }
        }
    }

    fn turn(&mut self, plane: usize, inputs: Vec<Input>) -> Result<(), Died> {
        let now = self.planes[plane].clock(self.now);
        let one = &mut self.planes[plane];
        let Some((batch, outputs)) = one.manager.turn(inputs, now) else { return Ok(()) };
        if let Some(store) = &mut one.store {
            store.commit(std::slice::from_ref(&batch)).map_err(|error| Died { plane, error })?;
        }
        one.batches.push(batch);
        for output in outputs {
            self.leave(plane, output);
        }
        Ok(())
    }

    fn leave(&mut self, plane: usize, output: Output) {
        match output {
            Output::Dispatch(action) => self.begin(plane, *action),
            Output::Cancel(action) => {
                let job = JobId::Action(self.name(plane), action);
                lock(&self.fleet).cancel(&job, self.now);
            }
            Output::Reply(ticket, reply) => drop(self.planes[plane].replies.insert(ticket, reply)),
            Output::Send { peer, bytes } => {
                let to = self.planes.iter().position(|other| other.catalog.plane == peer);
                if let Some(to) = to.filter(|to| !self.cut.contains(&pair(plane, *to))) {
                    self.wire.push_back(OnTheWay { due: self.now + self.delay, from: plane, to, bytes });
                }
            }
            Output::Describe { migration, vm, host, way } => {
                let at = At { fleet: &self.fleet, host: &host, now: self.now };
                let guest = describe(&at, vm, way, &self.planes[plane].catalog).map_err(Arc::from);
                let guest = guest.and_then(|guest| postcard::to_stdvec(&guest).map_err(|error| error.to_string().into()));
                let guest = guest.map(Bytes::from);
                self.planes[plane].inbox.push_back(Input::Migration(MigrationInput::Described { migration, guest }));
            }
            Output::Order(order) => self.order(plane, &order),
        }
    }

    fn order(&mut self, plane: usize, order: &MigrationOrder) {
        let one = &mut self.planes[plane];
        let answer = match &order.order {
            Order::StartJob(job) => {
                let steps = job_steps(order, job, &one.catalog).into();
                let (migration, host) = (order.migration.clone(), order.host.clone());
                let job = Job { migration, order: order.number, host, steps, is_cancelled: false };
                return self.go_on(plane, job, Ok(()));
            }
            Order::CancelJob => {
                let job = JobId::Handover(order.migration.to_string().into());
                if let Some(job) = one.jobs.get_mut(&job) {
                    job.is_cancelled = true;
                }
                lock(&self.fleet).cancel(&job, self.now);
                None
            }
            _ => carry_out(&At { fleet: &self.fleet, host: &order.host, now: self.now }, order, &one.catalog, &Nobody),
        };
        if let Some(answer) = answer {
            one.inbox.push_back(answered(&order.migration, order.number, &answer));
        }
    }

    /// The next step of a job, until one takes its time, or fails, or none is left.
    fn go_on(&mut self, plane: usize, mut job: Job, mut result: Result<(), HypervisorError>) {
        while result.is_ok()
            && let Some(step) = job.steps.pop_front()
        {
            if job.is_cancelled {
                result = Err(HypervisorError::new(ErrorKind::Cancelled, "cancelled on request"));
                break;
            }
            result = match lock(&self.fleet).hand_over(&job.host, &step, self.now) {
                Ok(Begun::Done) => Ok(()),
                Ok(Begun::Job(begun)) => {
                    self.planes[plane].jobs.insert(begun, job);
                    return;
                }
                Err(error) => Err(error),
            };
        }
        self.planes[plane].inbox.push_back(answered(&job.migration, job.order, &job_ended(result)));
    }

    fn begin(&mut self, plane: usize, action: Action) {
        let id = action.id;
        let one = &mut self.planes[plane];
        one.inbox.push_back(Input::Update(id, ActionUpdate::Started));
        let Some(host) = action.host.clone() else {
            return one.inbox.push_back(Input::Update(id, ActionUpdate::Done));
        };
        let order = one.catalog.order(&action);
        if let Err(error) = lock(&self.fleet).begin(&host, &order, self.now) {
            one.inbox.push_back(Input::Update(id, ActionUpdate::Failed(error.what.into())));
        }
    }
}

fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

fn answered(migration: &MigrationId, order: u32, answer: &crate::migration::Answer) -> Input {
    let answer = Bytes::from(postcard::to_stdvec(answer).unwrap_or_default());
    Input::Migration(MigrationInput::Answer { migration: migration.clone(), order, answer })
}

fn ended_action(state: OrderState) -> ActionUpdate {
    match state {
        OrderState::Done => ActionUpdate::Done,
        OrderState::Failed(error) => ActionUpdate::Failed(error.what.into()),
        _ => ActionUpdate::Cancelled("request".into()),
    }
}
