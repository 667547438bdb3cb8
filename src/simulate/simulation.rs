//! The fleet, its planes, and the time they share.

use super::at_host::{AtHost, Nobody};
use super::plane::{Job, Plane, action_ended};
use crate::effectors::migration::{carry_out, describe, job_ended, job_steps};
use crate::hypervisor::simulated::{Begun, Fleet, JobId, OrderState};
use crate::hypervisor::{ErrorKind, HypervisorError};
use crate::manager::{Manager, Output};
use crate::migration::order::MigrationOrder;
use crate::migration::{Answer, Order};
use crate::model::{
    Action, ActionUpdate, Bytes, Command, HostId, Input, MigrationId, MigrationInput, Notice, NoticeBody, Reply, Span,
    Timestamp, VmId,
};
use crate::store::{Store, StoreError};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// A message on its way.
#[derive(Debug)]
struct OnTheWay {
    due: Timestamp,
    from: usize,
    to: usize,
    bytes: Arc<[u8]>,
}

/// Planes, and the fleet they share.
pub struct Simulation {
    fleet: Fleet,
    planes: Vec<Plane>,
    /// Whose each host is.
    owners: BTreeMap<HostId, usize>,
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
#[derive(Debug, thiserror::Error)]
#[error("plane {plane} came to a stop: {error}")]
pub struct Died {
    /// Which.
    pub plane: usize,
    /// What its store said.
    #[source]
    pub error: StoreError,
}

impl Simulation {
    /// Planes that begin to watch their hosts, polling each as often as `poll`. Messages take `delay` from one plane to
    /// another.
    pub fn new(fleet: Fleet, planes: Vec<Plane>, poll: Span, delay: Span) -> Simulation {
        let now = fleet.now();
        let mut owners = BTreeMap::new();
        for (index, plane) in planes.iter().enumerate() {
            for host in plane.hosts() {
                owners.entry(host.clone()).or_insert(index);
            }
        }
        let (wire, cut) = (VecDeque::new(), BTreeSet::new());
        let mut all = Simulation { fleet, planes, owners, wire, cut, poll, delay, summaries: None, now };
        for index in 0..all.planes.len() {
            all.planes[index].begin(now, poll);
            all.plug(index);
        }
        all
    }

    /// The planes tell each other what they have to give, as often as this.
    pub fn with_summaries(mut self, every: Span) -> Simulation {
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

    /// A plane, by its place among them.
    pub fn plane(&self, plane: usize) -> &Plane {
        &self.planes[plane]
    }

    /// A plane, to take something from it.
    pub fn plane_mut(&mut self, plane: usize) -> &mut Plane {
        &mut self.planes[plane]
    }

    /// A plane's manager.
    pub fn manager(&self, plane: usize) -> &Manager {
        &self.planes[plane].manager
    }

    /// The fleet.
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// The fleet, to do something to it.
    pub fn fleet_mut(&mut self) -> &mut Fleet {
        &mut self.fleet
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
        self.planes[plane].restart(manager, store, &mut self.fleet, self.now);
        self.plug(plane);
    }

    /// An admin's command to a plane, and its answer.
    pub fn command(&mut self, plane: usize, command: Command) -> Result<Option<Reply>, Died> {
        let (ticket, input) = self.planes[plane].ask(command);
        self.turn(plane, vec![input])?;
        Ok(self.planes[plane].take_reply(ticket))
    }

    /// A host says something to its plane.
    pub fn notice(&mut self, plane: usize, host: &HostId, vm: VmId, body: NoticeBody) -> Result<(), Died> {
        let at = self.planes[plane].clock(self.now);
        self.turn(plane, vec![Input::Notice(host.clone(), Notice { vm, at, body })])
    }

    /// Lets time pass.
    pub fn run_for(&mut self, span: Span) -> Result<(), Died> {
        self.run_until(span, |_| false).map(drop)
    }

    /// Lets time pass until something is so, or for `span` at the most; says whether it came to be so.
    pub fn run_until(&mut self, span: Span, mut is_so: impl FnMut(&Simulation) -> bool) -> Result<bool, Died> {
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
            self.fleet.advance(until);
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
        let wire = self.wire.iter().map(|message| message.due);
        let summaries = self.summaries.map(|(_, due)| due);
        let others = wire.chain(summaries).chain(self.fleet.next_change_at());
        self.planes.iter().filter_map(Plane::next_at).chain(others).min()
    }

    /// What happens at the present instant.
    fn happen(&mut self) -> Result<(), Died> {
        let changes = self.fleet.advance(self.now);
        for (host, mut notice) in changes.notices {
            let Some(plane) = self.owners.get(&host).map(|owner| &mut self.planes[*owner]) else { continue };
            notice.at = plane.clock(notice.at);
            plane.inbox.push_back(Input::Notice(host, notice));
        }
        for job in changes.ended {
            self.ended(&job);
        }
        let now = self.now;
        let (due, later): (VecDeque<OnTheWay>, _) =
            std::mem::take(&mut self.wire).into_iter().partition(|message| message.due <= now);
        self.wire = later;
        for OnTheWay { from, to, bytes, .. } in due {
            let (peer, ahead_ms) = (self.name(from), self.planes[to].clock_ms - self.planes[from].clock_ms);
            let message = MigrationInput::Message { peer, ahead_ms, bytes: Bytes(bytes) };
            self.planes[to].inbox.push_back(Input::Migration(message));
        }
        self.exchange_summaries();
        for index in 0..self.planes.len() {
            let plane = &mut self.planes[index];
            plane.poll(&mut self.fleet, now, self.poll);
            for (job, Job { migration, .. }) in &plane.jobs {
                if let Some(OrderState::Running(progress)) = self.fleet.poll(job) {
                    let migration = migration.clone();
                    plane.inbox.push_back(Input::Migration(MigrationInput::Progress { migration, progress }));
                }
            }
            let inputs: Vec<Input> = plane.inbox.drain(..).collect();
            match inputs.is_empty() {
                true if plane.manager.next_due().is_some_and(|due| due <= plane.clock(now)) => {
                    self.turn(index, vec![Input::Tick])?;
                }
                true => {}
                false => self.turn(index, inputs)?,
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
        let Some(state) = self.fleet.poll(job).filter(OrderState::is_final) else { return };
        match job {
            JobId::Action(name, action) => {
                if let Some(plane) = self.planes.iter_mut().find(|plane| plane.catalog.plane == *name) {
                    plane.inbox.push_back(Input::Update(*action, action_ended(state)));
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

    fn turn(&mut self, plane: usize, inputs: Vec<Input>) -> Result<(), Died> {
        for output in self.planes[plane].turn(plane, inputs, self.now)? {
            self.leave(plane, output);
        }
        Ok(())
    }

    fn leave(&mut self, plane: usize, output: Output) {
        match output {
            Output::Dispatch(action) => self.begin(plane, *action),
            Output::Cancel(action) => {
                let job = self.planes[plane].job_of(action);
                self.fleet.cancel(&job, self.now);
            }
            Output::Reply(ticket, reply) => self.planes[plane].replied(ticket, reply),
            Output::Send { peer, bytes } => {
                let to = self.planes.iter().position(|other| other.catalog.plane == peer);
                if let Some(to) = to.filter(|to| !self.cut.contains(&pair(plane, *to))) {
                    self.wire.push_back(OnTheWay { due: self.now + self.delay, from: plane, to, bytes });
                }
            }
            Output::Describe { migration, vm, host, way } => {
                let at = AtHost::new(&mut self.fleet, &host, self.now);
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
                self.fleet.cancel(&job, self.now);
                None
            }
            _ => carry_out(&AtHost::new(&mut self.fleet, &order.host, self.now), order, &one.catalog, &Nobody),
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
            result = match self.fleet.hand_over(&job.host, &step, self.now) {
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
            // A notification: the journal keeps it, there is nobody to tell.
            return one.inbox.push_back(Input::Update(id, ActionUpdate::Done));
        };
        let order = one.catalog.order(&action);
        if let Err(error) = self.fleet.begin(&host, &order, self.now) {
            one.inbox.push_back(Input::Update(id, ActionUpdate::Failed(error.what.into())));
        }
    }
}

fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

fn answered(migration: &MigrationId, order: u32, answer: &Answer) -> Input {
    let answer = Bytes::from(postcard::to_stdvec(answer).unwrap_or_default());
    Input::Migration(MigrationInput::Answer { migration: migration.clone(), order, answer })
}
