//! What a start finds in the store that the configuration no longer speaks of: rows of hosts that were taken out, of embots
//! that stood for them, and what hangs on these. Guests of such hosts are looked for on the others first
//! ([`crate::sensors::Inventory::stray`]).

use super::Manager;
use crate::model::{Change, ElementId, HostId, VmId};

impl Manager {
    /// Clears up, once the modules of the last run are in force. `hosts` are those of the last run.
    pub(super) fn clear_leftovers(&mut self, hosts: Vec<HostId>) {
        let world = self.world.borrow();
        for host in hosts.into_iter().filter(|host| world.host(host).is_none()) {
            self.turn.changes.push(Change::Host(host, None));
        }
        let strays: Vec<VmId> = world.vms().filter(|vm| world.host(&vm.host).is_none()).map(|vm| vm.id).collect();
        self.inventory.stray(strays);
        let is_known = |element: &ElementId| match element {
            ElementId::Plane => true,
            ElementId::Host(host) => world.host(host).is_some(),
            other => other.vm().is_some_and(|vm| world.vm(vm).is_some()),
        };
        let mut usage = self.usage.borrow_mut();
        let unknown: Vec<ElementId> = usage.elements().filter(|element| !is_known(element)).cloned().collect();
        for element in unknown {
            usage.forget(&element);
            self.turn.changes.push(Change::Usage(element, None));
        }
        drop((world, usage));
        // What belongs to a module that does not check now waits for its next version.
        let waits = |module: &str| self.shelf.unrestored.contains_key(module);
        let rows = self.roster.forget_rows(|id| !waits(&id.module));
        let timers = self.timers.embots().filter(|id| self.roster.slot(id).is_none() && !waits(&id.module));
        let mut gone: Vec<_> = timers.cloned().chain(rows).collect();
        gone.dedup();
        self.embots_changed(Vec::new(), gone);
    }
}
