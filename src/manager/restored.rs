//! A plane whose store was made from a backup: what it must not take for true, and how it finds out what is.
//!
//! Between the backup and now guests were moved, given away and taken back, and peers were told things. So in its first turn on
//! a restored store the plane
//! - only observes its guests. Each gets its mode back when its host describes it and its mark is the one that the backup
//!   knows. With another mark it stays observed, and an admin is told: somebody else may own it, or has owned it since.
//! - ends what was under way: nothing is resumed, and no host is told to undo anything. Migrations to and from other planes are
//!   forgotten. Peers who ask for them hear that there is no record, for which they have their own ways; only to a source that
//!   asks whether it may have its guest back, the plane does not say yes, since it may have taken it after the backup.
//! - begins all its numbers anew, far above those of the backup: at the time of the restore in milliseconds since 1970, so that none
//!   stands for two things, here or in a peer's memory, however often and however late the same backup is restored.

use super::Manager;
use crate::model::{
    ActionId, ActionState, Change, HostId, Level, MigrationId, MigrationRow, Mode, PlaneRow, Record, Restored, Timestamp,
    Unconfirmed, VmId,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a manager knows of a restore.
#[derive(Debug, Default)]
pub(super) struct Restoration {
    restored: Option<Restored>,
    unconfirmed: BTreeMap<VmId, Unconfirmed>,
}

impl Restoration {
    pub(super) fn new(restored: Option<Restored>, unconfirmed: BTreeMap<VmId, Unconfirmed>) -> Restoration {
        Restoration { restored, unconfirmed }
    }

    /// Is this the first run on a restored store?
    pub(super) fn is_fresh(&self) -> bool {
        self.restored.is_some_and(|restored| restored.taken_over_at.is_none())
    }

    /// May the plane have known migrations that it does not know now?
    pub(super) fn may_have_forgotten(&self) -> bool {
        self.restored.is_some()
    }

    /// Was the guest's mark not read since?
    pub(super) fn awaits(&self, vm: VmId) -> bool {
        self.unconfirmed.contains_key(&vm)
    }
}

/// Where clocks are not to be relied on, at least the next multiple of this.
const FAR: u64 = 1_000_000;

/// Numbers that nobody has seen.
pub(super) fn unused_numbers(row: &mut PlaneRow, now: Timestamp) {
    let unused = u64::try_from(now.0).unwrap_or_default();
    let numbers = [&mut row.next_event, &mut row.next_action, &mut row.next_timer, &mut row.next_batch, &mut row.next_refusal];
    for number in numbers {
        *number = unused.max(number.next_multiple_of(FAR) + 1);
    }
}

impl Manager {
    /// The first run on a restored store. `migrations` are those of the backup; what was under way of them goes.
    pub(super) fn begin_restored(&mut self, migrations: &mut BTreeMap<MigrationId, MigrationRow>, now: Timestamp) {
        let Some(restored) = self.restoration.restored.as_mut().filter(|restored| restored.taken_over_at.is_none()) else {
            return;
        };
        restored.taken_over_at = Some(now);
        self.turn.changes.push(Change::Restored(*restored));
        let guests: Vec<_> = self.world.borrow().vms().cloned().collect();
        let count = guests.len();
        for mut vm in guests {
            let row = Unconfirmed { mode: vm.mode, mark: vm.mark.clone() };
            vm.mode = Mode::Observe;
            self.turn.changes.push(Change::Unconfirmed(vm.id, Some(row.clone())));
            self.turn.changes.push(Change::Vm(vm.id, Some(Box::new(vm.clone()))));
            self.restoration.unconfirmed.insert(vm.id, row);
            self.world.borrow_mut().edit_vm(vm.id, |known| known.mode = Mode::Observe);
        }
        let open: Vec<(ActionId, bool)> =
            self.open.values().map(|action| (action.id, matches!(action.state, ActionState::Advised { .. }))).collect();
        for (id, is_advice) in open {
            let why: Arc<str> =
                "the plane was restored from a backup made before its end: what became of it is not known".into();
            self.end(id, if is_advice { ActionState::Withdrawn { why } } else { ActionState::Failed { reason: why } });
        }
        let under_way = |row: &MigrationRow| row.outcome.is_none();
        let ids: Vec<MigrationId> = migrations.iter().filter(|(_, row)| under_way(row)).map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.turn.changes.push(Change::Migration(id.clone(), None));
            let Some(row) = migrations.remove(&id) else { continue };
            let text = format!(
                "migration {id} of guest {} with plane {} was under way when the backup was made, and is not gone on with: whose the \
                 guest is, its mark tells. Look at it on plane {} too",
                row.name, row.peer, row.peer
            );
            self.turn.records.push(Record::Notice { level: Level::Alarm, text });
        }
        let text = format!(
            "the plane runs on a store that was restored from a backup: its {count} guests are only observed until their marks are \
             read and agree with it"
        );
        self.turn.records.push(Record::Notice { level: Level::Warning, text });
    }

    /// A host has answered: marks of its guests may tell whose they are.
    pub(super) fn confirm(&mut self, host: &HostId) {
        if self.restoration.unconfirmed.is_empty() {
            return;
        }
        let read: Vec<VmId> = {
            let world = self.world.borrow();
            let here = world.vms_on(host).map(|vm| vm.id);
            here.filter(|vm| self.restoration.awaits(*vm) && self.inventory.has_described(*vm)).collect()
        };
        let mut confirmed = 0;
        for vm in read {
            let Some(row) = self.confirmed(vm) else { continue };
            let Some(guest) = self.world.borrow().vm(vm).cloned() else { continue };
            if guest.mark == row.mark {
                confirmed += 1;
                self.world.borrow_mut().edit_vm(vm, |vm| vm.mode = row.mode);
                continue;
            }
            let told = |mark: &Option<crate::model::Mark>| match mark {
                Some(mark) => format!("the mark of plane `{}`, epoch {}", mark.plane, mark.epoch),
                None => "no mark".to_owned(),
            };
            let text = format!(
                "guest {0} ({vm}) carries {1}; the backup that the plane was restored from knew it with {2}. It has changed hands since, \
                 and is only observed. If it is this plane's: `embot manage {0} --mode act`",
                guest.name,
                told(&guest.mark),
                told(&row.mark)
            );
            self.notice(Level::Alarm, text);
        }
        if confirmed > 0 {
            self.looks_for_unmarked = true;
            let left = self.restoration.unconfirmed.len();
            let text = format!(
                "{confirmed} guests on {host} carry the marks that the backup knew, and have their modes back; {left} are still to be seen"
            );
            self.notice(Level::Info, text);
        }
    }

    /// Nothing more is to be found out about a guest.
    pub(super) fn confirmed(&mut self, vm: VmId) -> Option<Unconfirmed> {
        let row = self.restoration.unconfirmed.remove(&vm)?;
        self.turn.changes.push(Change::Unconfirmed(vm, None));
        Some(row)
    }
}
