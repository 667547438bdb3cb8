//! A crash at every write and every sync of a scripted life: what a store gives afterwards is the state after some prefix of
//! the batches, the journal ends with that prefix, and every batch whose commit returned is in it.

use super::{samples, state};
use crate::model::testing::vm;
use crate::model::*;
use crate::store::{Crash, Retention, SimulatedDisk, Store};
use std::io;

/// Batches that grow, replace and take away rows, some small, some larger than the store's first pages.
fn script() -> Vec<Vec<Batch>> {
    let mut batches = samples::batches();
    for seq in 3..24_u64 {
        let now = Timestamp(seq as i64 * 10);
        let size = if seq.is_multiple_of(7) { 60_000 } else { 40 };
        let text = "0123456789abcdef".repeat(size / 16);
        let embot = samples::embot(ElementId::Vm(samples::guest(u128::from(seq % 5))));
        let row = EmbotRow { state: [("p".into(), Value::Text(text).into())].into(), ..EmbotRow::default() };
        let mut changes = vec![
            Change::Plane(samples::plane(seq)),
            Change::Pending(seq, Some(Box::new(samples::event(seq, EventBody::Appeared)))),
            Change::Pending(seq - 2, None),
            Change::Embot(embot.clone(), (!seq.is_multiple_of(3)).then_some(row)),
            Change::Action(ActionId(seq), Some(Box::new(samples::action(seq, ActionState::Planned)))),
            Change::Action(ActionId(seq - 1), Some(Box::new(samples::action(seq - 1, ActionState::Done)))),
        ];
        changes.extend((0..seq as u128 % 4).map(|n| Change::Vm(samples::guest(n), Some(Box::new(vm(n, "web", "host-a"))))));
        let records = vec![Record::Event { event: samples::event(seq, EventBody::Appeared) }];
        batches.push(Batch { seq, now, inputs: vec![Input::Tick], records, changes, durable: true });
    }
    // Groups of one, two and three batches, as the store thread would make them.
    let mut groups = Vec::new();
    while !batches.is_empty() {
        let size = (groups.len() % 3 + 1).min(batches.len());
        groups.push(batches.drain(..size).collect());
    }
    groups
}

/// A disk with an empty store on it, and how many changes that took. (A file comes to be under another name, so a crash
/// while it is made leaves no store at all; `files` tests that.)
fn made() -> (SimulatedDisk, u64) {
    let disk = SimulatedDisk::default();
    drop(Store::on_disk(&disk).unwrap());
    let changes = disk.changes();
    (disk, changes)
}

/// Lives the script on a disk. Returns how many batches were committed for certain.
fn live(disk: &SimulatedDisk, groups: &[Vec<Batch>]) -> usize {
    let Ok((mut store, _)) = Store::on_disk(disk) else { return 0 };
    let mut committed = 0;
    for group in groups {
        match store.commit(group) {
            Ok(()) => committed += group.len(),
            Err(_) => break,
        }
    }
    committed
}

fn check(disk: &SimulatedDisk, batches: &[Batch], committed: usize, states: &[crate::store::Recovered], context: &str) {
    let (mut store, recovered) = Store::on_disk(disk).unwrap_or_else(|error| panic!("{context}: {error}"));
    let count = (recovered.plane.next_batch - 1) as usize;
    assert!(count >= committed, "{context}: {committed} batches were committed, {count} are there");
    assert_eq!(recovered, states[count], "{context}: not the state after {count} batches");
    let journal: Vec<Batch> = store.journal().batches(0).collect::<Result<_, _>>().unwrap();
    let expected: Vec<Batch> = batches[..count].iter().map(|batch| Batch { changes: Vec::new(), ..batch.clone() }).collect();
    assert_eq!(journal, expected, "{context}");
    // Life goes on from there.
    if let Some(rest) = batches.get(count..).filter(|rest| !rest.is_empty()) {
        store.commit(rest).unwrap_or_else(|error| panic!("{context}: {error}"));
        drop(store);
        let (_, recovered) = Store::on_disk(disk).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!(recovered, states[batches.len()], "{context}");
    }
}

#[test]
fn a_crash_at_any_write_or_sync_loses_nothing_committed_and_leaves_nothing_half() {
    let groups = script();
    let batches: Vec<Batch> = groups.iter().flatten().cloned().collect();
    let states: Vec<_> = (0..=batches.len()).map(|count| state::after(&batches[..count])).collect();

    let (whole, start) = made();
    assert_eq!(live(&whole, &groups), batches.len());
    let changes = whole.changes();
    assert!(changes > 100, "the script is too short to mean much: {changes} writes and syncs");
    check(&whole, &batches, batches.len(), &states, "without a crash");

    for at in start..changes {
        let (disk, _) = made();
        disk.fail_from(at, io::ErrorKind::Other);
        let committed = live(&disk, &groups);
        check(&disk.crash(Crash::Killed), &batches, committed, &states, &format!("killed at change {at}"));
        for round in 0..2 {
            let seed = at * 2 + round;
            let context = format!("power lost at change {at}, seed {seed}");
            check(&disk.crash(Crash::PowerLoss { seed }), &batches, committed, &states, &context);
        }
    }
}

/// The same where old journal entries and ended actions are dropped meanwhile.
#[test]
fn a_crash_amid_pruning_leaves_a_whole_store() {
    let groups = script();
    let batches: Vec<Batch> = groups.iter().flatten().cloned().collect();
    let retention = Retention { journal_bytes: 1_000, ended_actions: 3, ..Retention::default() };
    let live = |disk: &SimulatedDisk| {
        let Ok((store, _)) = Store::on_disk(disk) else { return 0 };
        let mut store = store.keeping(retention);
        groups.iter().take_while(|group| store.commit(group).is_ok()).map(Vec::len).sum::<usize>()
    };
    let (whole, start) = made();
    assert_eq!(live(&whole), batches.len());
    for at in start..whole.changes() {
        let (disk, _) = made();
        disk.fail_from(at, io::ErrorKind::Other);
        let committed = live(&disk);
        let disk = disk.crash(Crash::PowerLoss { seed: at });
        let (store, recovered) = Store::on_disk(&disk).unwrap_or_else(|error| panic!("power lost at {at}: {error}"));
        let count = (recovered.plane.next_batch - 1) as usize;
        assert!(count >= committed, "power lost at {at}");
        let expected = state::after(&batches[..count]);
        assert_eq!(recovered.pending, expected.pending, "power lost at {at}");
        let open = |state: &crate::store::Recovered| {
            state.actions.values().filter(|action| !action.state.is_final()).cloned().collect::<Vec<_>>()
        };
        assert_eq!(open(&recovered), open(&expected), "power lost at {at}");
        let ended = recovered.actions.values().filter(|action| action.state.is_final()).count();
        assert!(ended <= 3, "power lost at {at}: {ended} ended actions");
        let journal: Vec<u64> = store.journal().batches(0).map(|batch| batch.unwrap().seq).collect();
        assert!(journal.is_sorted_by(|a, b| a + 1 == *b), "power lost at {at}: {journal:?}");
        assert_eq!(journal.last().copied().unwrap_or(0), count as u64, "power lost at {at}");
    }
}
