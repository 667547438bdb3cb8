//! Where guests went, and for how long that is remembered.

use crate::manager::Manager;
use crate::model::{Change, ElementId, Level, MigrationId, Tombstone, VmId};

impl Manager {
    /// Tombstones go after their time, and with them the hold on facts that come late.
    pub(super) fn tidy_tombstones(&mut self) {
        let now = self.now;
        let old = |(vm, stone): (&VmId, &Tombstone)| (now.since(stone.at) > Tombstone::KEPT).then_some(*vm);
        let over: Vec<VmId> = self.world.borrow().gone.iter().filter_map(old).collect();
        for vm in over {
            self.world.borrow_mut().gone.remove(&vm);
            self.turn.changes.push(Change::Tombstone(vm, None));
            let held = self.handovers.entries.of(vm).filter(|(_, entry)| entry.row.is_held && entry.machine.is_final());
            let held: Vec<MigrationId> = held.map(|(id, _)| id.clone()).collect();
            if held.is_empty() {
                continue;
            }
            for id in held {
                self.handovers.entries.edit(&id, |entry| entry.row.is_held = false);
                self.turn.migrations.insert(id);
            }
            let late = self.queue.held(&ElementId::Vm(vm)).count();
            if late > 0 {
                let text = format!(
                    "{late} facts about guest {vm} that came late are dropped: its plane has not taken them in 30 days"
                );
                self.notice(Level::Warning, text);
            }
            self.drop_held(&ElementId::Vm(vm), |_| true);
            self.queue.release(&ElementId::Vm(vm));
        }
    }
}
