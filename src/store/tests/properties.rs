//! Whatever the batches: they come back as they went in, and any prefix of them is a state of its own.

use super::{samples, state};
use crate::model::testing::{host, vm};
use crate::model::*;
use crate::store::{Crash, SimulatedDisk, Store};
use proptest::prelude::*;
use proptest::sample::select;
use std::io;
use std::sync::Arc;

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Unit),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        any::<u64>().prop_map(|bits| Value::Float(f64::from_bits(bits))),
        any::<char>().prop_map(Value::Char),
        any::<String>().prop_map(Value::Text),
        any::<Vec<u8>>().prop_map(Value::Blob),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            prop::collection::btree_map(any::<String>(), inner, 0..6).prop_map(Value::Map),
        ]
    })
}

fn text() -> impl Strategy<Value = Arc<str>> {
    any::<String>().prop_map(Arc::from)
}

/// Few of them, so that rows are replaced and removed as well; their names are any text.
fn element() -> impl Strategy<Value = ElementId> {
    let guest = || (0_u128..3).prop_map(samples::guest);
    let name = || select(vec!["", "a", "a/b:c@d", "ü\n\"", "a\0b"]).prop_map(Arc::<str>::from);
    prop_oneof![
        Just(ElementId::Plane),
        name().prop_map(|name| ElementId::Host(HostId(name))),
        guest().prop_map(ElementId::Vm),
        (guest(), name()).prop_map(|(vm, part)| ElementId::Disk(vm, part)),
        (guest(), name()).prop_map(|(vm, part)| ElementId::Nic(vm, part)),
        (guest(), name()).prop_map(|(vm, part)| ElementId::App(vm, part)),
    ]
}

fn embot() -> impl Strategy<Value = EmbotId> {
    (select(vec!["", "m", "m@n"]), element()).prop_map(|(module, element)| EmbotId { module: module.into(), element })
}

fn event() -> impl Strategy<Value = Event> {
    let body = prop_oneof![
        select(samples::bodies()),
        (text(), value()).prop_map(|(name, content)| EventBody::Timer { name, content }),
        (embot(), text(), value()).prop_map(|(from, channel, content)| EventBody::Message { from, channel, content }),
    ];
    (any::<u64>(), any::<i64>(), element(), prop::option::of(embot()), body).prop_map(|(seq, at, element, to, body)| Event {
        seq,
        at: Timestamp(at),
        element,
        to,
        body,
    })
}

fn action() -> impl Strategy<Value = Action> {
    let state = prop_oneof![
        any::<i64>().prop_map(|until| ActionState::Advised { until: Timestamp(until) }),
        Just(ActionState::Planned),
        Just(ActionState::Done),
        text().prop_map(|reason| ActionState::Failed { reason }),
    ];
    (0_u64..6, state, prop::collection::vec(any::<String>(), 0..3))
        .prop_map(|(id, state, weighed)| Action { weighed, ..samples::action(id, state) })
}

fn change() -> impl Strategy<Value = Change> {
    let number = 0_u64..5;
    let embot_row = (
        prop::collection::btree_map(text(), value().prop_map(Arc::new), 0..3),
        any::<u32>(),
        any::<i64>(),
        prop::option::of(text()),
    )
        .prop_map(|(state, faults, at, suspended)| EmbotRow { state, faults, fault_at: Timestamp(at), suspended });
    let timer_row = (embot(), any::<i64>(), text(), value()).prop_map(|(embot, due, name, content)| TimerRow {
        embot,
        due: Timestamp(due),
        name,
        content,
    });
    prop_oneof![
        (any::<bool>(), any::<Vec<u8>>(), any::<u64>()).prop_map(|(armed, planner, next_event)| Change::Plane(PlaneRow {
            armed,
            planner,
            next_event,
            ..PlaneRow::default()
        })),
        (select(vec!["a", "b", ""]), any::<bool>())
            .prop_map(|(name, there)| Change::Host(name.into(), there.then(|| Box::new(host(name))))),
        (0_u128..4, any::<bool>(), any::<String>())
            .prop_map(|(n, there, name)| Change::Vm(samples::guest(n), there.then(|| Box::new(vm(n, &name, "a"))))),
        (embot(), prop::option::of(embot_row)).prop_map(|(id, row)| Change::Embot(id, row)),
        (number.clone(), prop::option::of(timer_row)).prop_map(|(id, row)| Change::Timer(id, row)),
        (number, prop::option::of(event())).prop_map(|(id, row)| Change::Pending(id, row.map(Box::new))),
        (action(), prop::bool::weighted(0.8)).prop_map(|(row, there)| Change::Action(row.id, there.then(|| Box::new(row)))),
        (element(), prop::option::of(any::<Vec<u8>>())).prop_map(|(id, bytes)| Change::Usage(id, bytes)),
        select(samples::batches().swap_remove(0).changes),
    ]
}

fn batches() -> impl Strategy<Value = Vec<Batch>> {
    let whole = samples::batches().swap_remove(0);
    let input = prop_oneof![
        select(whole.inputs),
        (text(), text(), text()).prop_map(|(file, manifest, policy)| Input::Command {
            command: Command::LoadModule { file: file.clone(), manifest, policies: vec![(file, policy)] },
            by: "ada".into(),
            ticket: None,
        }),
    ];
    let record = prop_oneof![
        select(whole.records),
        event().prop_map(|event| Record::Event { event }),
        action().prop_map(|action| Record::Planned { action }),
        (embot(), any::<String>()).prop_map(|(embot, text)| Record::Log { embot, text }),
    ];
    let batch = (
        any::<i64>(),
        prop::collection::vec(input, 0..4),
        prop::collection::vec(record, 0..4),
        prop::collection::vec(change(), 0..8),
        any::<bool>(),
    );
    prop::collection::vec(batch, 1..8).prop_map(|batches| {
        let numbered = (1..).zip(batches).map(|(seq, (now, inputs, records, changes, durable))| Batch {
            seq,
            now: Timestamp(now),
            inputs,
            records,
            changes,
            durable,
        });
        numbered.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn batches_come_back_as_they_went_in(batches in batches(), group in 1_usize..4) {
        let disk = SimulatedDisk::default();
        let (mut store, _) = Store::on_disk(&disk).unwrap();
        for group in batches.chunks(group) {
            store.commit(group).unwrap();
        }
        let journal: Vec<Batch> = store.journal().batches(0).collect::<Result<_, _>>().unwrap();
        let without: Vec<Batch> = batches.iter().map(|batch| Batch { changes: Vec::new(), ..batch.clone() }).collect();
        prop_assert_eq!(journal, without);
        drop(store);
        let (_, recovered) = Store::on_disk(&disk).unwrap();
        prop_assert_eq!(recovered, state::after(&batches));
    }

    #[test]
    fn after_a_power_cut_a_prefix_is_there(batches in batches(), cut in any::<prop::sample::Index>(), seed in any::<u64>()) {
        let disk = SimulatedDisk::default();
        let (mut store, _) = Store::on_disk(&disk).unwrap();
        // A commit of this size makes ten changes or more; the last cuts then come after the end.
        disk.fail_from(disk.changes() + cut.index(batches.len() * 14) as u64, io::ErrorKind::Other);
        let committed = batches.iter().take_while(|batch| store.commit(std::slice::from_ref(batch)).is_ok()).count();
        drop(store);
        let (_, recovered) = Store::on_disk(&disk.crash(Crash::PowerLoss { seed })).unwrap();
        let count = (recovered.plane.next_batch - 1) as usize;
        prop_assert!(count >= committed);
        prop_assert_eq!(recovered, state::after(&batches[..count]));
    }
}
