//! What a store should hold, kept in plain maps: the model that the store is compared with.

use crate::model::*;
use crate::store::Recovered;
use std::collections::BTreeMap;

/// What an empty store gives.
pub fn fresh() -> Recovered {
    Recovered {
        plane: PlaneRow {
            next_event: 1,
            next_action: 1,
            next_timer: 1,
            next_batch: 1,
            armed: true,
            planner: Vec::new(),
            next_refusal: 1,
        },
        hosts: BTreeMap::new(),
        vms: BTreeMap::new(),
        embots: BTreeMap::new(),
        timers: BTreeMap::new(),
        pending: BTreeMap::new(),
        actions: BTreeMap::new(),
        modules: BTreeMap::new(),
        usage: BTreeMap::new(),
        migrations: BTreeMap::new(),
        tombstones: BTreeMap::new(),
        mobile: BTreeMap::new(),
        contents: BTreeMap::new(),
        restored: None,
        unconfirmed: BTreeMap::new(),
        last_now: Timestamp::default(),
        fresh: true,
    }
}

/// What a store gives after these batches, where nothing is pruned.
pub fn after(batches: &[Batch]) -> Recovered {
    let mut state = fresh();
    for batch in batches {
        for change in batch.changes.iter().cloned() {
            apply(&mut state, change);
        }
        state.plane.next_batch = batch.seq + 1;
        state.last_now = batch.now;
        state.fresh = false;
    }
    state
}

fn apply(state: &mut Recovered, change: Change) {
    match change {
        Change::Plane(row) => state.plane = row,
        Change::Host(id, row) => set(&mut state.hosts, id, row.map(|row| *row)),
        Change::Vm(id, row) => set(&mut state.vms, id, row.map(|row| *row)),
        Change::Embot(id, row) => set(&mut state.embots, id, row),
        Change::Timer(id, row) => set(&mut state.timers, id, row),
        Change::Pending(id, row) => set(&mut state.pending, id, row.map(|row| *row)),
        Change::Action(id, row) => set(&mut state.actions, id, row.map(|row| *row)),
        Change::Module(id, row) => set(&mut state.modules, id, row),
        Change::Migration(id, row) => set(&mut state.migrations, id, row.map(|row| *row)),
        Change::Tombstone(id, row) => set(&mut state.tombstones, id, row),
        Change::Mobile(name, row) => set(&mut state.mobile, name, row),
        Change::Content(hash, bytes) => set(&mut state.contents, hash, bytes),
        Change::Audit(_) => {}
        Change::Restored(row) => state.restored = Some(row),
        Change::Unconfirmed(id, row) => set(&mut state.unconfirmed, id, row),
        Change::Usage(id, row) => set(&mut state.usage, id, row),
    }
}

fn set<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => drop(map.insert(key, value)),
        None => drop(map.remove(&key)),
    }
}
