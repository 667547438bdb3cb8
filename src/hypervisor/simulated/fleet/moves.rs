//! Guests on their way from host to host.
//!
//! While a live migration runs, the target shows the guest as paused with reason migration, as libvirt does, and the source as
//! it was; for the last part the source shows it paused with reason migration as well. So it never runs twice.

use super::super::load::share;
use super::super::migration::{Migration, Turn};
use super::orders::{OrderState, Run, Stage, error};
use super::*;
use crate::hypervisor::{ErrorKind, HypervisorError, Order};

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
        if names.any(|other| other.description.name == *name) {
            return no(format!("host {target} has another guest of this name"));
        }
        if guest.is_active() { self.check_room(target, guest.balloon_mib, name) } else { Ok(()) }
    }

    pub(super) fn start_migration(&mut self, action: ActionId, vm: VmId) {
        let (Some(run), Some(guest)) = (self.orders.get(&action), self.guests.get(&vm)) else { return };
        let Some(target) = run.order.destination.as_ref().map(|destination| destination.host.clone()) else { return };
        let source = run.host.clone();
        let dirty = if guest.state == VmState::Running { guest.dirty_mib_per_s } else { 0.0 };
        let mut migration = Migration::new(self.now, guest.balloon_mib, guest.disk_mib, dirty, &run.order.limits);
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
                machine.moves.insert(action);
                if arrives {
                    machine.incoming.insert(vm, (action, number));
                }
            }
        }
        if let Some(run) = self.orders.get_mut(&action) {
            run.stage = Stage::Migrating(Box::new(migration));
        }
        self.say(&target, vm, NoticeBody::Described(description));
        self.say(&target, vm, NoticeBody::State(VmState::Paused, Reason::Migration));
        self.share_links();
    }

    pub(super) fn migration_due(&mut self, action: ActionId) {
        let now = self.now;
        let Some(Run { stage: Stage::Migrating(migration), order, .. }) = self.orders.get_mut(&action) else { return };
        let Some(vm) = order.kind.vm() else { return };
        match migration.turn(now) {
            Turn::Goes => {
                let next = migration.next_at();
                self.order_at(action, next);
            }
            Turn::Switches => {
                let next = migration.next_at();
                self.order_at(action, next);
                // A guest that was paused before stays as it is; it is stopped already.
                if self.guests.get(&vm).is_some_and(|guest| guest.state == VmState::Running) {
                    self.set_state(vm, VmState::Paused, Reason::Migration);
                }
            }
            Turn::Arrived => {
                self.arrive(action, vm);
                self.end(action, OrderState::Done);
            }
            Turn::Broke => {
                let what = "the migration broke off: the stream to the target was cut (a simulated fault)";
                self.end(action, OrderState::Failed(error(ErrorKind::Failed, what)));
            }
            Turn::TimedOut => {
                let what = "the migration did not end in the permitted time; the guest stays where it was";
                self.end(action, OrderState::Failed(error(ErrorKind::TimedOut, what)));
            }
        }
    }

    fn arrive(&mut self, action: ActionId, vm: VmId) {
        let Some((source, target)) = self.leave_links(action, vm) else { return };
        let Some(guest) = self.guests.get(&vm) else { return };
        let (state, reason) = match (guest.state, guest.reason) {
            (VmState::Paused, Reason::Migration) => (VmState::Running, Reason::Migration),
            other => other,
        };
        self.change_host(vm, &source, &target);
        self.say(&source, vm, NoticeBody::State(VmState::Off, Reason::Migration));
        self.say(&source, vm, NoticeBody::Undefined);
        self.redefined(vm);
        self.set_state(vm, state, reason);
    }

    /// Takes back what a migration had begun: the guest is where it was, the target knows nothing of it.
    pub(super) fn abort_migration(&mut self, action: ActionId) {
        let Some(run) = self.orders.get(&action) else { return };
        let Some(vm) = run.order.kind.vm() else { return };
        let Some((_, target)) = self.leave_links(action, vm) else { return };
        self.say(&target, vm, NoticeBody::State(VmState::Off, Reason::Migration));
        self.say(&target, vm, NoticeBody::Undefined);
        let stopped = |guest: &&Guest| (guest.state, guest.reason) == (VmState::Paused, Reason::Migration);
        if self.guests.get(&vm).filter(stopped).is_some() {
            self.set_state(vm, VmState::Running, Reason::Migration);
        }
    }

    /// The migration uses the links no more; source and target.
    fn leave_links(&mut self, action: ActionId, vm: VmId) -> Option<(HostId, HostId)> {
        let run = self.orders.get(&action)?;
        let (source, target) = (run.host.clone(), run.order.destination.as_ref()?.host.clone());
        for host in [&source, &target] {
            if let Some(machine) = self.hosts.get_mut(host) {
                machine.moves.remove(&action);
            }
        }
        if let Some(machine) = self.hosts.get_mut(&target) {
            machine.incoming.remove(&vm);
        }
        self.share_links();
        Some((source, target))
    }

    /// Deals each host's link out to its migrations: equal parts, the slower end counts.
    fn share_links(&mut self) {
        let part = |machine: &Machine| machine.bandwidth_mib_per_s / machine.moves.len().max(1) as f64;
        let parts: BTreeMap<ActionId, f64> = self
            .hosts
            .values()
            .flat_map(|machine| machine.moves.iter().map(move |action| (*action, part(machine))))
            .fold(BTreeMap::new(), |mut parts, (action, part)| {
                let least = parts.entry(action).or_insert(f64::INFINITY);
                *least = least.min(part);
                parts
            });
        for (action, part) in parts {
            let now = self.now;
            let Some(Run { stage: Stage::Migrating(migration), .. }) = self.orders.get_mut(&action) else { continue };
            migration.set_rate(now, migration.limit_mib_per_s.map_or(part, |limit| limit.min(part)));
            let next = migration.next_at();
            self.order_at(action, next);
        }
    }

    pub(super) fn move_cold(&mut self, action: ActionId, vm: VmId) -> Result<(), HypervisorError> {
        let Some((run, guest)) = self.orders.get(&action).zip(self.guests.get(&vm)) else { return Ok(()) };
        let (order, source) = (run.order.clone(), run.host.clone());
        self.check_target(&source, guest, &order)?;
        let Some(target) = order.destination.map(|destination| destination.host) else { return Ok(()) };
        self.change_host(vm, &source, &target);
        self.say(&source, vm, NoticeBody::Undefined);
        self.redefined(vm);
        Ok(())
    }

    fn change_host(&mut self, vm: VmId, source: &HostId, target: &HostId) {
        if let Some(machine) = self.hosts.get_mut(source) {
            machine.guests.remove(&vm);
        }
        if let Some(machine) = self.hosts.get_mut(target) {
            machine.guests.insert(vm);
        }
        if let Some(guest) = self.guests.get_mut(&vm) {
            guest.host = target.clone();
        }
    }
}
