//! Orders: checked at the last moment, carried out in their time, ended in one place.

use super::super::migration::Migration;
use super::*;
use crate::hypervisor::{ErrorKind, Handover, HypervisorError, Order};
use crate::model::{ActionId, ActionKind, Mark, Progress};
use std::sync::Arc;

/// Whose work it is. Planes that share a fleet number their actions each for itself; a handover's job has the handover's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum JobId {
    /// A plane's action.
    Action(Arc<str>, ActionId),
    /// A handover's move or copy.
    Handover(Arc<str>),
}

impl JobId {
    /// An order's.
    pub fn of(order: &Order) -> JobId {
        JobId::Action(order.plane.clone(), order.action)
    }
}

/// What has become of an order.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum OrderState {
    /// Its host hangs and has not begun it.
    Waiting,
    /// It was begun.
    Running(Progress),
    /// What it wanted is so.
    Done,
    /// It is not so.
    Failed(HypervisorError),
    /// It is not so, by request.
    Cancelled,
}

impl OrderState {
    /// Is it over?
    pub fn is_final(&self) -> bool {
        matches!(self, OrderState::Done | OrderState::Failed(_) | OrderState::Cancelled)
    }
}

/// An order and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) order: Order,
    /// Where it is a handover's: then `order` only describes the move.
    pub(super) handover: Option<Box<Handover>>,
    /// The host that was asked.
    pub(super) host: HostId,
    pub(super) stage: Stage,
    /// Was it ever begun?
    pub(super) begun: bool,
    /// The valid entry on the agenda.
    pub(super) ticket: u64,
}

impl Run {
    pub(super) fn id(&self) -> JobId {
        match &self.handover {
            Some(handover) => JobId::Handover(handover.id.clone()),
            None => JobId::of(&self.order),
        }
    }
}

#[derive(Debug, Clone)]
pub(super) enum Stage {
    /// The host hangs.
    Waiting,
    /// The host that it needs is being woken.
    AwaitsHost,
    /// Takes effect when it is due.
    Working,
    /// The guest was asked to shut down: it goes, is switched off or is given up on, whichever comes first.
    ShuttingDown { forced_at: Option<Timestamp> },
    /// Memory is under way.
    Migrating(Box<Migration>),
    /// It is over.
    Ended(OrderState),
}

/// An error about a guest.
pub(super) fn error(kind: ErrorKind, what: impl Into<String>) -> HypervisorError {
    HypervisorError::new(kind, what)
}

impl Fleet {
    /// Gives an order to a host. An error means that nothing was done and nothing will be; else the order runs until
    /// [`Fleet::poll`] tells its end. An action that was begun before is refused and logged as `double`.
    pub fn begin(&mut self, host: &HostId, order: &Order, now: Timestamp) -> Result<(), HypervisorError> {
        self.run_to(now);
        self.reachable(host)?;
        let (order_of_it, stage) = (order.clone(), Stage::Waiting);
        let mut run = Run { order: order_of_it, handover: None, host: host.clone(), stage, begun: false, ticket: 0 };
        let id = run.id();
        if let Some(known) = self.orders.get(&id) {
            let ended = matches!(known.stage, Stage::Ended(_));
            if known.begun || !ended {
                self.log(&run, Outcome::Double);
                let what = format!("action {} was begun before; it is not done again", order.action);
                return Err(error(ErrorKind::Failed, what));
            }
        }
        if self.fenced.contains(&id) {
            let what = format!("action {} was given up before it came here", order.action);
            return Err(error(ErrorKind::Failed, what));
        }
        let target_hangs = order.destination.as_ref().and_then(|to| self.hosts.get(&to.host)).is_some_and(Machine::hangs);
        if target_hangs || self.hosts.get(host).is_some_and(Machine::hangs) {
            self.orders.insert(id, run);
            return Ok(());
        }
        self.check(host, order)?;
        run.begun = true;
        self.start(run);
        Ok(())
    }

    /// An order of this number that was not given yet is refused when it comes. Whoever recovers an action may then rely on
    /// what [`Fleet::poll`] says.
    pub fn fence(&mut self, job: JobId) {
        if self.orders.contains_key(&job) {
            return;
        }
        self.fenced.insert(job);
        if self.fenced.len() > ENDED_KEPT {
            self.fenced.pop_first();
        }
    }

    /// Where an order stands; `None` where none of this number is known.
    pub fn poll(&self, job: &JobId) -> Option<OrderState> {
        let run = self.orders.get(job)?;
        Some(match &run.stage {
            Stage::Waiting => OrderState::Waiting,
            Stage::Working | Stage::AwaitsHost | Stage::ShuttingDown { .. } => OrderState::Running(Progress::default()),
            Stage::Migrating(migration) => OrderState::Running(migration.progress(self.now)),
            Stage::Ended(state) => state.clone(),
        })
    }

    /// Withdraws an order, where that is still possible: a migration, a save, a wait for a shutdown, or what was not begun.
    /// Everything else runs to its end. Returns whether it was withdrawn.
    pub fn cancel(&mut self, job: &JobId, now: Timestamp) -> bool {
        self.run_to(now);
        let Some(run) = self.orders.get(job) else { return false };
        let possible = match &run.stage {
            // Whoever is asked by a handover does it, so that its plane knows that it is off.
            Stage::ShuttingDown { .. } => run.handover.is_none(),
            Stage::Waiting | Stage::AwaitsHost | Stage::Migrating(_) => true,
            Stage::Working => matches!(run.order.kind, ActionKind::Save { .. } | ActionKind::Migrate { .. }),
            Stage::Ended(_) => false,
        };
        if possible {
            self.end(job, OrderState::Cancelled);
        }
        possible
    }

    /// The mark in a guest's metadata.
    pub fn mark(&self, host: &HostId, vm: VmId) -> Result<Option<Mark>, HypervisorError> {
        self.answers(host)?;
        let machine = self.hosts.get(host);
        if let Some(copy) = self.copies.get(&(vm, host.clone())) {
            return Ok(copy.description.mark.clone());
        }
        let known = machine.is_some_and(|machine| machine.guests.contains(&vm) || machine.incoming.contains_key(&vm));
        let guest = self.guests.get(&vm).filter(|_| known);
        let guest = guest.ok_or_else(|| error(ErrorKind::NotFound, format!("no guest {vm} on host {host}")))?;
        Ok(guest.description.mark.clone())
    }

    /// Begins an order, or a handover's step, that passed all checks.
    pub(super) fn start(&mut self, run: Run) {
        let (job, steps) = (run.id(), run.handover.is_some());
        let Some(vm) = run.order.kind.vm() else { return };
        self.log(&run, Outcome::Begun);
        let starts = matches!(run.order.kind, ActionKind::Start { .. } | ActionKind::Restore { .. });
        self.orders.insert(job.clone(), run);
        if let Some(guest) = self.guests.get_mut(&vm) {
            // As on libvirt: what was asked of a guest is no job of its host.
            guest.work = Some(job.clone()).filter(|_| !steps);
            guest.starting |= starts;
        }
        if !self.waits_for_host(&job) {
            self.carry_on(&job);
        }
    }

    /// What was begun is worked on, now that nothing has to be waited for.
    pub(super) fn carry_on(&mut self, job: &JobId) {
        let Some(kind) = self.orders.get(job).map(|run| run.order.kind.clone()) else { return };
        let Some(vm) = kind.vm() else { return };
        let mut lasts = self.times.quick;
        if let Some(guest) = self.guests.get_mut(&vm) {
            let on_disk = Span((guest.balloon_mib as f64 / self.times.disk_mib_per_s.max(0.001) * 1_000.0).ceil() as u64);
            match &kind {
                ActionKind::Start { .. } | ActionKind::Restore { .. } => {
                    lasts = if guest.saved { on_disk } else { self.times.start };
                }
                ActionKind::Save { .. } => lasts = on_disk,
                ActionKind::Shutdown { force_after, .. } => {
                    guest.awaited_by = Some(job.clone());
                    if guest.goes_off_at.is_none() && !guest.ignores_shutdown {
                        let goes_at = self.now.max(guest.booted_at) + self.times.shutdown;
                        guest.goes_off_at = Some(goes_at);
                        self.at(goes_at, Occurrence::GoesOff(vm, goes_at));
                    }
                    let forced_at = force_after.map(|after| self.now + after);
                    let given_up_at = self.now + self.times.shutdown_patience;
                    if let Some(run) = self.orders.get_mut(job) {
                        run.stage = Stage::ShuttingDown { forced_at };
                    }
                    return self.order_at(job, forced_at.map_or(given_up_at, |at| at.min(given_up_at)));
                }
                ActionKind::Migrate { live: true, .. } => return self.start_migration(job, vm),
                ActionKind::Migrate { .. } => lasts = Span(lasts.0 * 10),
                _ => {}
            }
        }
        if let Some(run) = self.orders.get_mut(job) {
            run.stage = Stage::Working;
        }
        self.order_at(job, self.now + lasts);
    }

    /// Puts an order on the agenda; an earlier entry of it becomes void.
    pub(super) fn order_at(&mut self, job: &JobId, when: Timestamp) {
        let Some(run) = self.orders.get_mut(job) else { return };
        run.ticket += 1;
        let ticket = run.ticket;
        self.at(when, Occurrence::Order(job.clone(), ticket));
    }

    pub(super) fn order_due(&mut self, job: &JobId, ticket: u64) {
        let Some(run) = self.orders.get(job).filter(|run| run.ticket == ticket) else { return };
        let target = run.order.destination.as_ref().map(|destination| &destination.host);
        let stalled = [Some(&run.host), target].into_iter().flatten().filter_map(|host| self.stalled_until(host)).max();
        if let Some(until) = stalled {
            return self.at(until, Occurrence::Order(job.clone(), ticket));
        }
        match &run.stage {
            Stage::Working => {
                let end = self.take_effect(job).map_or_else(OrderState::Failed, |()| OrderState::Done);
                self.end(job, end);
            }
            Stage::ShuttingDown { forced_at } => {
                let forced = forced_at.is_some_and(|at| at <= self.now);
                let active = run.order.kind.vm().filter(|vm| self.guests.get(vm).is_some_and(Guest::is_active));
                let end = match active {
                    Some(_) if !forced => {
                        let what = format!("the guest did not shut down within {}", self.times.shutdown_patience);
                        OrderState::Failed(error(ErrorKind::TimedOut, what))
                    }
                    active => {
                        if let Some(vm) = active {
                            self.set_state(vm, VmState::Off, Reason::Asked);
                        }
                        OrderState::Done
                    }
                };
                self.end(job, end);
            }
            Stage::Migrating(_) => self.migration_due(job),
            Stage::AwaitsHost => self.host_awaited(job),
            Stage::Waiting | Stage::Ended(_) => {}
        }
    }

    /// Does what a short order wants.
    fn take_effect(&mut self, job: &JobId) -> Result<(), HypervisorError> {
        let Some(run) = self.orders.get(job) else { return Ok(()) };
        let (order, host) = (run.order.clone(), run.host.clone());
        let Some(vm) = order.kind.vm() else { return Ok(()) };
        let mark = Mark { plane: order.plane.clone(), epoch: order.epoch };
        if let ActionKind::Define { xml, .. } = &order.kind {
            self.check_define(&host, vm, xml)?;
            return self.define(&host, vm, xml, mark);
        }
        let Some(guest) = self.guests.get_mut(&vm) else {
            return Err(error(ErrorKind::NotFound, format!("no guest {vm} on host {host}")));
        };
        match &order.kind {
            ActionKind::Start { .. } | ActionKind::Restore { .. } => self.started(vm),
            ActionKind::Destroy { .. } => self.set_state(vm, VmState::Off, Reason::Asked),
            ActionKind::Suspend { .. } => self.set_state(vm, VmState::Paused, Reason::Asked),
            ActionKind::Resume { .. } => self.set_state(vm, VmState::Running, Reason::Asked),
            ActionKind::Reset { .. } => {
                self.boots(vm);
                self.say(&host, vm, NoticeBody::Rebooted);
            }
            ActionKind::Save { .. } => {
                guest.saved = true;
                self.set_state(vm, VmState::Off, Reason::Saved);
            }
            ActionKind::SetVcpus { vcpus, .. } => {
                guest.description.vcpus = *vcpus;
                self.redefined(vm);
            }
            ActionKind::SetMemory { memory_mib, .. } => {
                guest.description.memory_mib = *memory_mib;
                let held = guest.balloon_mib;
                guest.balloon_mib = held.min(*memory_mib);
                self.redefined(vm);
                if held > *memory_mib {
                    self.say(&host, vm, NoticeBody::Balloon(*memory_mib));
                }
            }
            ActionKind::Balloon { memory_mib, .. } => {
                let (more, name) = (memory_mib.saturating_sub(guest.balloon_mib), guest.description.name.clone());
                self.check_room(&host, more, &name)?;
                if let Some(guest) = self.guests.get_mut(&vm) {
                    guest.balloon_mib = *memory_mib;
                }
                self.say(&host, vm, NoticeBody::Balloon(*memory_mib));
            }
            ActionKind::Undefine { .. } => {
                self.let_go(&host, vm);
                self.say(&host, vm, NoticeBody::Undefined);
            }
            ActionKind::Adopt { .. } => {
                guest.description.mark = Some(mark);
                self.redefined(vm);
            }
            ActionKind::Migrate { .. } => self.move_cold(job, vm)?,
            ActionKind::Define { .. }
            | ActionKind::Notify { .. }
            | ActionKind::Shutdown { .. }
            | ActionKind::Handover { .. } => {}
        }
        Ok(())
    }

    fn define(&mut self, host: &HostId, vm: VmId, xml: &str, mark: Mark) -> Result<(), HypervisorError> {
        let mut guest = definition::read(vm, xml).map_err(|what| error(ErrorKind::Failed, what))?;
        guest.host = host.clone();
        guest.description.mark = Some(mark);
        self.guests.insert(vm, guest);
        if let Some(machine) = self.hosts.get_mut(host) {
            machine.guests.insert(vm);
        }
        self.redefined(vm);
        Ok(())
    }

    /// A guest that was being started runs now: anew, or where it was saved.
    pub(super) fn started(&mut self, vm: VmId) {
        let Some(guest) = self.guests.get_mut(&vm) else { return };
        guest.starting = false;
        if std::mem::take(&mut guest.saved) {
            guest.booted_at = self.now;
            self.set_state(vm, VmState::Running, Reason::Saved);
        } else {
            self.set_state(vm, VmState::Running, Reason::Booted);
            self.boots(vm);
        }
    }

    /// A guest that runs begins to boot.
    pub(super) fn boots(&mut self, vm: VmId) {
        let booted_at = self.now + self.times.boot;
        let Some(guest) = self.guests.get_mut(&vm) else { return };
        guest.booted_at = booted_at;
        guest.goes_off_at = None;
        let host = guest.host.clone();
        self.touch(&host);
        let Some(guest) = self.guests.get(&vm) else { return };
        if guest.state == VmState::Paused {
            let reason = Reason::Asked;
            self.set_state(vm, VmState::Running, reason);
        }
        self.set_agent(vm, false);
        self.at(booted_at, Occurrence::Booted(vm, booted_at));
    }

    /// A guest does as it was asked: it goes off. One that stands still hears of it when it runs again.
    pub(super) fn goes_off(&mut self, vm: VmId, at: Timestamp) {
        let Some(guest) = self.guests.get_mut(&vm).filter(|guest| guest.goes_off_at == Some(at)) else { return };
        if guest.state != VmState::Running {
            let later = self.now + self.times.shutdown;
            guest.goes_off_at = Some(later);
            return self.at(later, Occurrence::GoesOff(vm, later));
        }
        if guest.work != guest.awaited_by {
            self.interrupt(vm, "the guest shut itself down meanwhile");
        }
        self.set_state(vm, VmState::Off, Reason::Shutdown);
    }

    /// Ends an order, whatever stage it is in, and cleans up after it.
    pub(super) fn end(&mut self, job: &JobId, state: OrderState) {
        let Some(run) = self.orders.get(job).filter(|run| !matches!(run.stage, Stage::Ended(_))) else { return };
        if matches!(run.stage, Stage::Migrating(_)) && state != OrderState::Done {
            self.abort_migration(job);
        }
        let Some(run) = self.orders.get_mut(job) else { return };
        run.stage = Stage::Ended(state.clone());
        let run = run.clone();
        if let Some(guest) = run.order.kind.vm().and_then(|vm| self.guests.get_mut(&vm))
            && guest.work.as_ref() == Some(job)
        {
            (guest.work, guest.starting) = (None, false);
            self.touch(&run.host);
        }
        if run.begun {
            let outcome = match state {
                OrderState::Done => Outcome::Done,
                OrderState::Failed(error) => Outcome::Failed { reason: error.what },
                OrderState::Cancelled | OrderState::Waiting | OrderState::Running(_) => Outcome::Cancelled,
            };
            self.log(&run, outcome);
        }
        self.ended.push(job.clone());
        self.forget_old();
    }

    fn forget_old(&mut self) {
        if self.orders.len() > ENDED_KEPT
            && let Some(oldest) = self.orders.first_entry()
            && matches!(oldest.get().stage, Stage::Ended(_))
        {
            oldest.remove();
        }
    }

    /// Fails whatever works on a guest.
    pub(super) fn interrupt(&mut self, vm: VmId, why: &str) {
        if let Some(job) = self.guests.get(&vm).and_then(|guest| guest.work.clone()) {
            self.end(&job, OrderState::Failed(error(ErrorKind::Failed, why)));
        }
    }

    /// The orders of a host, or to it, that are not over.
    pub(super) fn open_orders(&self, host: &HostId) -> Vec<JobId> {
        let concerns = |run: &Run| run.host == *host || run.order.destination.as_ref().is_some_and(|to| to.host == *host);
        let open = self.orders.iter().filter(|(_, run)| !matches!(run.stage, Stage::Ended(_)) && concerns(run));
        open.map(|(job, _)| job.clone()).collect()
    }

    /// Takes up the orders that waited for a host to answer.
    pub(super) fn release_waiting(&mut self, host: &HostId) {
        for job in self.open_orders(host) {
            let Some(run) = self.orders.get(&job).filter(|run| matches!(run.stage, Stage::Waiting)).cloned() else {
                continue;
            };
            let target = run.order.destination.as_ref().map(|destination| &destination.host);
            if [Some(&run.host), target].into_iter().flatten().any(|host| self.stalled_until(host).is_some()) {
                continue;
            }
            match self.check(&run.host, &run.order) {
                Ok(()) => self.start(Run { begun: true, ..run }),
                Err(error) => self.end(&job, OrderState::Failed(error)),
            }
        }
    }
}
