//! The migrations at hand, found by name, by guest, and by what is still to be done: those that are long over are many, and
//! no turn walks past them.

use super::{Entry, KEPT};
use crate::model::{MigrationId, Timestamp, VmId};
use std::collections::{BTreeMap, BTreeSet};

/// Migrations by name.
#[derive(Debug, Default)]
pub(super) struct Entries {
    all: BTreeMap<MigrationId, Entry>,
    by_vm: BTreeMap<VmId, BTreeSet<MigrationId>>,
    /// Those whose machine has something left to do.
    open: BTreeSet<MigrationId>,
    /// Those on which nothing depends any more, by the time they began.
    over: BTreeSet<(Timestamp, MigrationId)>,
}

impl Entries {
    /// One of them.
    pub(super) fn get(&self, id: &MigrationId) -> Option<&Entry> {
        self.all.get(id)
    }

    /// Is it known?
    pub(super) fn contains(&self, id: &MigrationId) -> bool {
        self.all.contains_key(id)
    }

    /// All of them, by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&MigrationId, &Entry)> {
        self.all.iter()
    }

    /// Those whose machine has something left to do.
    pub(super) fn open(&self) -> impl Iterator<Item = (&MigrationId, &Entry)> {
        self.open.iter().filter_map(|id| self.all.get_key_value(id))
    }

    /// Those of a guest.
    pub(super) fn of(&self, vm: VmId) -> impl Iterator<Item = (&MigrationId, &Entry)> {
        self.by_vm.get(&vm).into_iter().flatten().filter_map(|id| self.all.get_key_value(id))
    }

    /// Takes one out, to be worked on and [put](Entries::put) back.
    pub(super) fn take(&mut self, id: &MigrationId) -> Option<Entry> {
        self.all.remove(id)
    }

    /// Puts one in its place, new or worked on.
    pub(super) fn put(&mut self, id: MigrationId, entry: Entry) {
        self.by_vm.entry(entry.row.vm).or_default().insert(id.clone());
        if !entry.machine.is_final() || entry.machine.wake_at().is_some() {
            self.open.insert(id.clone());
        } else {
            self.open.remove(&id);
        }
        let over = (entry.row.opened_at(), id.clone());
        if entry.is_live() {
            self.over.remove(&over);
        } else {
            self.over.insert(over);
        }
        self.all.insert(id, entry);
    }

    /// Changes one where it is, if it is known.
    pub(super) fn edit(&mut self, id: &MigrationId, change: impl FnOnce(&mut Entry)) {
        if let Some(mut entry) = self.take(id) {
            change(&mut entry);
            self.put(id.clone(), entry);
        }
    }

    /// Forgets the oldest of those that are over, beyond the number that is kept, and says which.
    pub(super) fn forget_oldest(&mut self) -> Vec<MigrationId> {
        let mut forgotten = Vec::new();
        while self.over.len() > KEPT
            && let Some((_, id)) = self.over.pop_first()
        {
            if let Some(entry) = self.all.remove(&id)
                && let Some(of) = self.by_vm.get_mut(&entry.row.vm)
            {
                of.remove(&id);
                if of.is_empty() {
                    self.by_vm.remove(&entry.row.vm);
                }
            }
            self.open.remove(&id);
            forgotten.push(id);
        }
        forgotten
    }
}
