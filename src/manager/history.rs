//! Usage history on its way to the store: host by host while the plane runs, all of it when it stops.

use super::{Manager, Output};
use crate::model::{Batch, Change, ElementId, HostId, Span};

/// In so many parts of the interval hosts are written.
const SPREAD: u64 = 64;

impl Manager {
    /// Usage history is written by host, each so often: the more elements there are, the less often.
    pub(super) fn save_usage(&mut self, host: &HostId) {
        let world = self.world.borrow();
        let interval = Span::minutes(1 + world.vm_count() as u64 / 1_000);
        // Hosts that are first heard of together are not all written together ever after.
        let place = self.usage_saved.len() as u64 % SPREAD;
        let first = self.now - Span(interval.0 * place / SPREAD);
        let saved = self.usage_saved.entry(host.clone()).or_insert(first);
        if self.now.since(*saved) < interval {
            return;
        }
        *saved = self.now;
        let elements = std::iter::once(ElementId::Host(host.clone())).chain(world.vms_on(host).map(|vm| ElementId::Vm(vm.id)));
        let usage = self.usage.borrow();
        let rows = elements.filter_map(|element| usage.export(&element).map(|bytes| Change::Usage(element, Some(bytes))));
        self.turn.changes.extend(rows);
    }

    /// All usage history, to be written when the daemon stops.
    pub fn checkpoint(&mut self) -> Option<(Batch, Vec<Output>)> {
        let usage = self.usage.borrow();
        let rows: Vec<_> = usage.elements().map(|element| Change::Usage(element.clone(), usage.export(element))).collect();
        drop(usage);
        self.turn.changes.extend(rows);
        self.finish(Vec::new())
    }
}
