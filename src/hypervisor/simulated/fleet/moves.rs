//! Guests on their way from host to host.
//!
//! While a live migration runs, the target shows the guest as paused with reason migration, as libvirt does, and the source as
//! it was; for the last part the source shows it paused with reason migration as well. So it never runs twice.
//!
//! A handover's move is the same, but for its end: the copy at the target stays paused and sealed, unless the hypervisor is to
//! resume it. And it can break in the very moment of the switch ([`Trouble::CutAtSwitch`], [`Trouble::KilledAtSwitch`]): then
//! both hosts have the guest.

use super::super::load::share;
use super::super::meter::Move;
use super::super::migration::{Migration, Turn};
use super::machine::Copied;
use super::orders::{JobId, OrderState, Run, Stage, error};
use super::*;
use crate::hypervisor::{ErrorKind, HandoverStep, HypervisorError, Order};
use crate::migration::ResumeBy;

impl Fleet {
    /// Can the guest go where the order wants it?
    pub(super) fn check_target(&self, host: &HostId, guest: &Guest, order: &Order) -> Result<(), HypervisorError> {
        let name = &guest.description.name;
        let no = |why: String| Err(error(ErrorKind::Failed, format!("cannot migrate guest {name} from {host}: {why}")));
        let Some(destination) = &order.destination else { return no("no destination is given".to_owned()) };
        let target = &destination.host;
        if target == host {
            return no("it is there already".to_owned());
        }
        let Some(machine) = self.hosts.get(target).filter(|machine| !machine.is_cut_off()) else {
            return no(format!("cannot connect to {} ({target})", destination.uri));
        };
        if machine.has(Trouble::Refuses) {
            return no(format!("host {target} refused: internal error (a simulated fault)"));
        }
        let mut names = machine.guests.iter().filter_map(|vm| self.guests.get(vm));
        if self.copies.contains_key(&(guest.id, target.clone())) || names.any(|other| other.description.name == *name) {
            return no(format!("host {target} has another guest of this name"));
        }
        if guest.is_active() { self.check_room(target, guest.balloon_mib, name) } else { Ok(()) }
    }

    pub(super) fn start_migration(&mut self, job: &JobId, vm: VmId) {
        if self.waits_for_host(job) {
            return;
        }
        let (Some(run), Some(guest)) = (self.orders.get(job), self.guests.get(&vm)) else { return };
        let Some(target) = run.order.destination.as_ref().map(|destination| destination.host.clone()) else { return };
        let source = run.host.clone();
        let dirty = if guest.state == VmState::Running { guest.dirty_mib_per_s } else { 0.0 };
        let copies = matches!(run.handover.as_ref().map(|handover| &handover.step), Some(HandoverStep::Copy(_)));
        let memory_mib = if copies { 0 } else { guest.balloon_mib };
        let mut migration = Migration::new(self.now, memory_mib, guest.disk_mib, dirty, &run.order.limits);
        let machines = [&source, &target].into_iter().filter_map(|host| self.hosts.get(host));
        if let Some(share) = machines.filter_map(Machine::breaks_migrations_at).reduce(f64::min) {
            migration.break_at(share);
        }
        if self.chances.migration_fails > 0.0 && share(&mut self.order_dice) < self.chances.migration_fails {
            migration.break_at(share(&mut self.order_dice));
        }
        self.definitions += 1;
        let (number, description) = (self.definitions, Box::new(guest.description.clone()));
        for (host, arrives) in [(&source, false), (&target, true)] {
            if let Some(machine) = self.hosts.get_mut(host) {
                machine.moves.insert(job.clone());
                if arrives && !copies {
                    machine.incoming.insert(vm, (job.clone(), number));
                }
            }
        }
        if let Some(run) = self.orders.get_mut(job) {
            run.stage = Stage::Migrating(Box::new(migration));
        }
        if !copies {
            self.count_move(Move::Begun);
            self.say(&target, vm, NoticeBody::Described(description));
            self.say(&target, vm, NoticeBody::State(VmState::Paused, Reason::Migration));
        }
        self.share_links(&source, &target);
    }

    /// The meter counts live migrations.
    fn count_move(&mut self, came: Move) {
        if let Some(meter) = &mut self.meter {
            meter.moved(came);
        }
    }

    pub(super) fn migration_due(&mut self, job: &JobId) {
        let now = self.now;
        let Some(Run { stage: Stage::Migrating(migration), order, .. }) = self.orders.get_mut(job) else { return };
        let Some(vm) = order.kind.vm() else { return };
        match migration.turn(now) {
            Turn::Goes => {
                let next = migration.next_at();
                self.order_at(job, next);
            }
            Turn::Switches => {
                let next = migration.next_at();
                self.order_at(job, next);
                // A guest that was paused before stays as it is; it is stopped already.
                if self.guests.get(&vm).is_some_and(|guest| guest.state == VmState::Running) {
                    self.set_state(vm, VmState::Paused, Reason::Migration);
                }
            }
            Turn::Arrived => match self.breaks_at_switch(job) {
                Some(killed) => self.break_at_switch(job, vm, killed),
                None => {
                    self.arrive(job, vm);
                    self.end(job, OrderState::Done);
                }
            },
            Turn::Broke => {
                let what = "the migration broke off: the stream to the target was cut (a simulated fault)";
                self.end(job, OrderState::Failed(error(ErrorKind::Failed, what)));
            }
            Turn::TimedOut => {
                let what = "the migration did not end in the permitted time; the guest stays where it was";
                self.end(job, OrderState::Failed(error(ErrorKind::TimedOut, what)));
            }
        }
    }

    /// Does this move break in its last moment? `true`: because its source's hypervisor is killed.
    fn breaks_at_switch(&self, job: &JobId) -> Option<bool> {
        let run = self.orders.get(job)?;
        let moves = matches!(run.handover.as_ref()?.step, HandoverStep::Move(_));
        let (source, target) = (self.hosts.get(&run.host)?, self.hosts.get(&run.order.destination.as_ref()?.host)?);
        let cut = source.has(Trouble::CutAtSwitch) || target.has(Trouble::CutAtSwitch);
        let killed = source.has(Trouble::KilledAtSwitch);
        (moves && (cut || killed)).then_some(killed)
    }

    /// Both hosts have the guest from here on.
    fn break_at_switch(&mut self, job: &JobId, vm: VmId, killed: bool) {
        let Some((source, target)) = self.leave_links(job, vm) else { return };
        let (state, reason) = self.state_on_arrival(job, vm);
        self.definitions += 1;
        let definition = self.definitions;
        if let Some(guest) = self.guests.get(&vm) {
            let (description, seal, autostart_after) = (guest.description.clone(), guest.seal.clone(), guest.autostart_after);
            let copy = Copied { state, reason, description, seal, autostart_after, definition };
            self.copies.insert((vm, target.clone()), copy);
        }
        self.count_move(Move::Failed);
        self.note_runs(vm);
        self.say(&target, vm, NoticeBody::State(state, reason));
        if let Some(run) = self.orders.get_mut(job) {
            // There is nothing to be taken back.
            run.stage = Stage::Working;
        }
        if killed {
            let what = format!("host {source}: the connection to the hypervisor was lost (a simulated fault)");
            self.end(job, OrderState::Failed(error(ErrorKind::Unreachable, what)));
            let until = self.hosts.get(&source).and_then(|machine| machine.until(Trouble::KilledAtSwitch));
            return self.trouble(&source, Trouble::Lost, until.map_or(Span::ZERO, |until| until.since(self.now)));
        }
        let stopped = |guest: &&Guest| (guest.state, guest.reason) == (VmState::Paused, Reason::Migration);
        if self.guests.get(&vm).filter(stopped).is_some() {
            self.set_state(vm, VmState::Running, Reason::Migration);
        }
        let what = format!("the connection to {target} broke in the last moment of the move (a simulated fault)");
        self.end(job, OrderState::Failed(error(ErrorKind::Failed, what)));
    }

    /// What a guest is at the target when all of it has arrived.
    fn state_on_arrival(&self, job: &JobId, vm: VmId) -> (VmState, Reason) {
        let Some(guest) = self.guests.get(&vm) else { return (VmState::Off, Reason::Unknown) };
        let step = self.orders.get(job).and_then(|run| run.handover.as_ref()).map(|handover| &handover.step);
        let waits = matches!(step, Some(HandoverStep::Move(transfer)) if transfer.resume == ResumeBy::Manager);
        match (guest.state, guest.reason) {
            (VmState::Paused, Reason::Migration) if !waits => (VmState::Running, Reason::Migration),
            other => other,
        }
    }

    fn arrive(&mut self, job: &JobId, vm: VmId) {
        let Some((source, target)) = self.leave_links(job, vm) else { return };
        let step = self.orders.get(job).and_then(|run| run.handover.as_ref()).map(|handover| &handover.step);
        if matches!(step, Some(HandoverStep::Copy(_))) {
            return;
        }
        let (state, reason) = self.state_on_arrival(job, vm);
        self.count_move(Move::Ended);
        self.change_host(vm, &source, &target);
        self.say(&source, vm, NoticeBody::State(VmState::Off, Reason::Migration));
        self.say(&source, vm, NoticeBody::Undefined);
        self.redefined(vm);
        self.set_state(vm, state, reason);
    }

    /// Takes back what a migration had begun: the guest is where it was, the target knows nothing of it.
    pub(super) fn abort_migration(&mut self, job: &JobId) {
        let Some(run) = self.orders.get(job) else { return };
        let Some(vm) = run.order.kind.vm() else { return };
        let copies = matches!(run.handover.as_ref().map(|handover| &handover.step), Some(HandoverStep::Copy(_)));
        let Some((_, target)) = self.leave_links(job, vm) else { return };
        if copies {
            return;
        }
        self.count_move(Move::Failed);
        self.say(&target, vm, NoticeBody::State(VmState::Off, Reason::Migration));
        self.say(&target, vm, NoticeBody::Undefined);
        let stopped = |guest: &&Guest| (guest.state, guest.reason) == (VmState::Paused, Reason::Migration);
        if self.guests.get(&vm).filter(stopped).is_some() {
            self.set_state(vm, VmState::Running, Reason::Migration);
        }
    }

    /// The migration uses the links no more; source and target.
    fn leave_links(&mut self, job: &JobId, vm: VmId) -> Option<(HostId, HostId)> {
        let run = self.orders.get(job)?;
        let (source, target) = (run.host.clone(), run.order.destination.as_ref()?.host.clone());
        for host in [&source, &target] {
            if let Some(machine) = self.hosts.get_mut(host) {
                machine.moves.remove(job);
            }
        }
        if let Some(machine) = self.hosts.get_mut(&target) {
            machine.incoming.remove(&vm);
        }
        self.share_links(&source, &target);
        Some((source, target))
    }

    /// The migrations of these two hosts have changed. Each host's link is dealt out to its migrations: equal parts, the slower
    /// end counts.
    fn share_links(&mut self, source: &HostId, target: &HostId) {
        let (now, both) = (self.now, [source, target]);
        both.into_iter().for_each(|host| self.touch(host));
        let machines = both.into_iter().filter_map(|host| self.hosts.get(host));
        let jobs: BTreeSet<JobId> = machines.flat_map(|machine| machine.moves.iter().cloned()).collect();
        for job in jobs {
            let Some(run) = self.orders.get(&job) else { continue };
            let ends = [Some(&run.host), run.order.destination.as_ref().map(|destination| &destination.host)];
            let machines = ends.into_iter().flatten().filter_map(|host| self.hosts.get(host));
            let parts = machines.map(|machine| machine.bandwidth_mib_per_s / machine.moves.len().max(1) as f64);
            let part = parts.fold(f64::INFINITY, f64::min);
            let Some(Run { stage: Stage::Migrating(migration), .. }) = self.orders.get_mut(&job) else { continue };
            migration.set_rate(now, migration.limit_mib_per_s.map_or(part, |limit| limit.min(part)));
            let next = migration.next_at();
            self.order_at(&job, next);
        }
    }

    pub(super) fn move_cold(&mut self, job: &JobId, vm: VmId) -> Result<(), HypervisorError> {
        let Some((run, guest)) = self.orders.get(job).zip(self.guests.get(&vm)) else { return Ok(()) };
        let (order, source) = (run.order.clone(), run.host.clone());
        self.check_target(&source, guest, &order)?;
        let Some(target) = order.destination.map(|destination| destination.host) else { return Ok(()) };
        self.change_host(vm, &source, &target);
        self.say(&source, vm, NoticeBody::Undefined);
        self.redefined(vm);
        Ok(())
    }

    pub(super) fn change_host(&mut self, vm: VmId, source: &HostId, target: &HostId) {
        if let Some(machine) = self.hosts.get_mut(source) {
            machine.guests.remove(&vm);
        }
        if let Some(machine) = self.hosts.get_mut(target) {
            machine.guests.insert(vm);
        }
        if let Some(guest) = self.guests.get_mut(&vm) {
            guest.host = target.clone();
        }
        [source, target].into_iter().for_each(|host| self.touch(host));
        self.note_runs(vm);
    }
}
