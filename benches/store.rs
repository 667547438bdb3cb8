//! What it costs to make facts durable: `cargo bench --bench store`.
//!
//! Each fact is what the manager commits for one: the input, the event's record, the embot's new state, and the pending
//! event of the batch before taken away. Divan's item rate is facts a second, on the file system of the temporary folder.

use divan::Bencher;
use divan::counter::ItemsCount;
use embot::model::*;
use embot::store::{Retention, Store};
use std::collections::BTreeMap;

fn main() {
    divan::main();
}

fn guest(number: u64) -> VmId {
    VmId(uuid::Uuid::from_u128(u128::from(number)))
}

fn fact(seq: u64) -> (Input, Record, [Change; 3]) {
    // Embots of 10,000 guests take turns.
    let vm = guest(seq % 10_000);
    let notice = Notice { vm, at: Timestamp(seq as i64), body: NoticeBody::State(VmState::Off, Reason::Crashed) };
    let element = ElementId::Vm(vm);
    let event = Event { seq, at: notice.at, element: element.clone(), to: None, body: EventBody::Crashed(Reason::Crashed) };
    let memory = BTreeMap::from([
        ("restarts".to_owned(), Value::Int(3)),
        ("last".to_owned(), Value::Int(seq as i64)),
        ("mean".to_owned(), Value::Float(0.25)),
    ]);
    let state = BTreeMap::from([("restart-crashed-guest".into(), Value::Map(memory).into())]);
    let embot = EmbotId { module: "restart-crashed-guest".into(), element };
    let changes = [
        Change::Pending(seq, Some(Box::new(event.clone()))),
        Change::Pending(seq.saturating_sub(1_000), None),
        Change::Embot(embot, Some(EmbotRow { state, ..EmbotRow::default() })),
    ];
    (Input::Notice("host-a".into(), notice), Record::Event { event }, changes)
}

fn batch(seq: u64, facts: u64) -> Batch {
    let mut batch = Batch { seq, now: Timestamp(seq as i64), durable: true, ..Batch::default() };
    for number in 0..facts {
        let (input, record, changes) = fact(seq * facts + number);
        batch.inputs.push(input);
        batch.records.push(record);
        batch.changes.extend(changes);
    }
    batch
}

/// Facts a second, one batch after the other, each durable before the next.
#[divan::bench(args = [1, 100, 1000], min_time = 2)]
fn facts_made_durable(bencher: Bencher, facts: u64) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (mut store, _) = Store::open(&folder.path().join("bench.redb"), Retention::default()).expect("a new store");
    let mut seq = 0;
    let next = || {
        seq += 1;
        batch(seq, facts)
    };
    bencher
        .with_inputs(next)
        .input_counter(move |_| ItemsCount::new(facts))
        .bench_local_values(|batch| store.commit(std::slice::from_ref(&batch)).expect("a commit"));
}

/// Facts a second where a hundred small batches wait and go into one transaction.
#[divan::bench(min_time = 2)]
fn facts_of_grouped_batches(bencher: Bencher) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (mut store, _) = Store::open(&folder.path().join("bench.redb"), Retention::default()).expect("a new store");
    let mut seq = 0;
    let next = || {
        let group: Vec<Batch> = (1..=100).map(|number| batch(seq + number, 10)).collect();
        seq += 100;
        group
    };
    bencher
        .with_inputs(next)
        .input_counter(|_| ItemsCount::new(1_000_u64))
        .bench_local_values(|group| store.commit(&group).expect("a commit"));
}
