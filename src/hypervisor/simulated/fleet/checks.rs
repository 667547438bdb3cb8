//! May this be done now? Asked at the last moment before an order is begun.

use super::super::load::share;
use super::orders::error;
use super::*;
use crate::hypervisor::{ErrorKind, HypervisorError, Order, Seal};
use crate::model::ActionKind;

impl Fleet {
    /// Does the host exist, and is it not cut off? One that hangs is reachable.
    pub fn reachable(&self, host: &HostId) -> Result<(), HypervisorError> {
        let Some(machine) = self.hosts.get(host) else {
            let hint = crate::error::nearest(host.as_str(), self.hosts.keys().map(HostId::as_str));
            let hint = hint.map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"));
            return Err(error(ErrorKind::Unreachable, format!("the simulated fleet has no host `{host}`{hint}")));
        };
        if machine.is_cut_off() {
            return Err(error(ErrorKind::Unreachable, format!("host {host}: connection refused")));
        }
        Ok(())
    }

    /// Would a call to the host return now?
    pub(super) fn answers(&self, host: &HostId) -> Result<(), HypervisorError> {
        self.reachable(host)?;
        match self.stalled_until(host) {
            None => Ok(()),
            Some(_) => Err(error(ErrorKind::TimedOut, format!("host {host} does not answer"))),
        }
    }

    /// Until when calls to this host block, as far as known now.
    pub fn stalled_until(&self, host: &HostId) -> Option<Timestamp> {
        self.hosts.get(host)?.until(Trouble::Hangs)
    }

    /// May this order be begun on this host now?
    pub(super) fn check(&mut self, host: &HostId, order: &Order) -> Result<(), HypervisorError> {
        let machine = self.hosts.get(host);
        let verb = order.kind.verb();
        let refused = |why: &str| Err(error(ErrorKind::Failed, format!("host {host} refused to {verb}: {why}")));
        if machine.is_some_and(|machine| machine.has(Trouble::Refuses)) {
            return refused("internal error (a simulated fault)");
        }
        if self.chances.order_refused > 0.0 && share(&mut self.order_dice) < self.chances.order_refused {
            return refused("internal error (a simulated fault by chance)");
        }
        let Some(vm) = order.kind.vm() else {
            return Err(error(ErrorKind::Unsupported, format!("a hypervisor cannot {verb}")));
        };
        if let ActionKind::Define { xml, .. } = &order.kind {
            return self.check_define(host, vm, xml);
        }
        if let Some(copy) = self.copies.get(&(vm, host.clone())) {
            return check_seal(&copy.description.name, copy.seal.as_ref());
        }
        let here = self.hosts.get(host).is_some_and(|machine| machine.guests.contains(&vm));
        let arriving = self.hosts.get(host).is_some_and(|machine| machine.incoming.contains_key(&vm));
        let Some(guest) = self.guests.get(&vm).filter(|_| here || arriving) else {
            return Err(error(ErrorKind::NotFound, format!("no guest {vm} on host {host}")));
        };
        let name = &guest.description.name;
        check_seal(name, guest.seal.as_ref())?;
        check_mark(guest, order)?;
        if guest.work.is_some() || arriving {
            let what = format!("guest {name} on host {host}: cannot {verb} while another job works on it");
            return Err(error(ErrorKind::Precondition, what));
        }
        // The plane calls a guest that died crashed where its host may say off, and the reverse.
        let down = |state| matches!(state, VmState::Off | VmState::Crashed);
        let is_as = |expected| expected == guest.state || down(expected) && down(guest.state);
        if let Some(expected) = order.expects.filter(|expected| !is_as(*expected)) {
            let what = format!("guest {name} on host {host} is {}, not {expected} as when this was decided", guest.state);
            return Err(error(ErrorKind::Precondition, what));
        }
        self.check_kind(host, guest, order)
    }

    pub(super) fn check_define(&self, host: &HostId, vm: VmId, xml: &str) -> Result<(), HypervisorError> {
        if let Some(guest) = self.guests.get(&vm) {
            let what = format!("guest {vm} is defined already, as {} on host {}", guest.description.name, guest.host);
            return Err(error(ErrorKind::Precondition, what));
        }
        let defined =
            definition::read(vm, xml).map_err(|what| error(ErrorKind::Failed, format!("cannot define {vm}: {what}")))?;
        let name = &defined.description.name;
        let machine = self.hosts.get(host);
        let mut names = machine.iter().flat_map(|machine| &machine.guests).filter_map(|vm| self.guests.get(vm));
        if names.any(|guest| guest.description.name == *name) {
            return Err(error(ErrorKind::Failed, format!("host {host} has another guest called {name}")));
        }
        Ok(())
    }

    fn check_kind(&self, host: &HostId, guest: &Guest, order: &Order) -> Result<(), HypervisorError> {
        let (name, verb, state) = (&guest.description.name, order.kind.verb(), guest.state);
        let must_be = |states: &[VmState]| {
            if states.contains(&state) {
                return Ok(());
            }
            Err(error(ErrorKind::Precondition, format!("cannot {verb} guest {name} on host {host}: it is {state}")))
        };
        let no = |why: String| Err(error(ErrorKind::Failed, format!("cannot {verb} guest {name} on host {host}: {why}")));
        match &order.kind {
            ActionKind::Start { .. } => {
                must_be(&[VmState::Off, VmState::Crashed])?;
                self.check_room(host, guest.balloon_mib, name)
            }
            ActionKind::Restore { .. } if !guest.saved => {
                let what = format!("cannot {verb} guest {name} on host {host}: nothing of it is saved");
                Err(error(ErrorKind::Precondition, what))
            }
            ActionKind::Restore { .. } => {
                must_be(&[VmState::Off])?;
                self.check_room(host, guest.balloon_mib, name)
            }
            ActionKind::Shutdown { .. } | ActionKind::Suspend { .. } => must_be(&[VmState::Running]),
            ActionKind::Resume { .. } => must_be(&[VmState::Paused, VmState::Asleep]),
            ActionKind::Reset { .. } | ActionKind::Save { .. } => must_be(&[VmState::Running, VmState::Paused]),
            ActionKind::Destroy { .. } => must_be(&[VmState::Running, VmState::Paused, VmState::Asleep, VmState::Crashed]),
            ActionKind::Undefine { .. } => must_be(&[VmState::Off, VmState::Crashed]),
            ActionKind::SetVcpus { vcpus, .. } => {
                let cpus = self.hosts.get(host).map_or(0, |machine| machine.capacity.cpus);
                if (1..=cpus).contains(vcpus) { Ok(()) } else { no(format!("the host has 1 to {cpus} processors to give")) }
            }
            ActionKind::SetMemory { memory_mib, .. } => {
                let most = self.hosts.get(host).map_or(0, |machine| machine.capacity.memory_mib);
                if (1..=most).contains(memory_mib) { Ok(()) } else { no(format!("the host has {most} MiB")) }
            }
            ActionKind::Balloon { memory_mib, .. } => {
                must_be(&[VmState::Running])?;
                let most = guest.description.memory_mib;
                if !(1..=most).contains(memory_mib) {
                    return no(format!("it may hold 1 to {most} MiB"));
                }
                self.check_room(host, memory_mib.saturating_sub(guest.balloon_mib), name)
            }
            ActionKind::Migrate { live, .. } => {
                must_be(if *live { &[VmState::Running, VmState::Paused] } else { &[VmState::Off, VmState::Crashed] })?;
                self.check_target(host, guest, order)
            }
            ActionKind::Handover { .. } => no("one hypervisor alone hands nothing over".to_owned()),
            ActionKind::Adopt { .. } | ActionKind::Define { .. } | ActionKind::Notify { .. } => Ok(()),
        }
    }

    /// Has the host so much memory left for a guest?
    pub(super) fn check_room(&self, host: &HostId, memory_mib: u64, name: &str) -> Result<(), HypervisorError> {
        let free = self.hosts.get(host).map_or(0, |machine| machine.capacity.memory_mib).saturating_sub(self.held_mib(host));
        if memory_mib <= free {
            return Ok(());
        }
        let what = format!("host {host} cannot allocate {memory_mib} MiB for guest {name}: {free} MiB are free");
        Err(error(ErrorKind::Failed, what))
    }
}

/// A guest on its way to another plane is nobody's but that handover's.
fn check_seal(name: &str, seal: Option<&Seal>) -> Result<(), HypervisorError> {
    let Some(seal) = seal else { return Ok(()) };
    let what = format!("guest {name} is on its way to another plane: it is sealed for handover {}", seal.handover);
    Err(error(ErrorKind::NotOwner, what))
}

/// Does the guest belong to the plane that asks, and was this decided under its present epoch?
fn check_mark(guest: &Guest, order: &Order) -> Result<(), HypervisorError> {
    let (name, plane, epoch) = (&guest.description.name, &order.plane, order.epoch);
    let adopts = matches!(order.kind, ActionKind::Adopt { .. });
    let what = match &guest.description.mark {
        None if adopts => return Ok(()),
        None => format!("guest {name} carries no mark of plane {plane}; adopt it first"),
        Some(mark) if mark.plane != *plane => format!("guest {name} belongs to plane {}, not to {plane}", mark.plane),
        Some(mark) if mark.epoch == epoch || (adopts && mark.epoch < epoch) => return Ok(()),
        Some(mark) => format!("guest {name} is at epoch {}, and this was decided under epoch {epoch}", mark.epoch),
    };
    Err(error(ErrorKind::NotOwner, what))
}
