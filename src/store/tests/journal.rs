//! Reading the journal, and its export.

use super::samples;
use crate::model::*;
use crate::store::{Journal, Store, export_batch};

fn export(journal: &Journal, from: u64, to: u64) -> String {
    let mut out = Vec::new();
    let lines = journal.export(from, to, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert_eq!(lines as usize, text.lines().count());
    text
}

/// One of each kind of line is enough to see the form; `every_kind_of_line_can_be_written` has them all.
fn typical() -> Vec<Batch> {
    let notice = Notice { vm: samples::guest(7), at: Timestamp(1_000), body: NoticeBody::State(VmState::Off, Reason::Crashed) };
    let command = Command::Approve { action: ActionId(4), reason: None };
    let started = ActionUpdate::Started;
    vec![
        Batch {
            seq: 1,
            now: Timestamp(1_002),
            inputs: vec![
                Input::Report("host-a".into(), samples::report(990)),
                Input::Notice("host-a".into(), notice),
                Input::HostLost("host-b".into(), "connection refused".into()),
            ],
            records: vec![
                Record::Event { event: samples::event(6, EventBody::Crashed(Reason::Crashed)) },
                Record::Refused { number: 3, refusal: samples::refusal(ActionKind::Start { vm: samples::guest(7) }) },
                Record::Log { embot: samples::embot(ElementId::Plane), text: "two \"lines\"\nof text".to_owned() },
            ],
            changes: vec![Change::Plane(samples::plane(1))],
            durable: true,
        },
        Batch { seq: 2, now: Timestamp(1_003), ..Batch::default() },
        Batch {
            seq: 3,
            now: Timestamp(2_000),
            inputs: vec![
                Input::Update(ActionId(3), started.clone()),
                Input::Command { command, by: "ada".into(), ticket: None },
                Input::Tick,
            ],
            records: vec![
                Record::Action { action: ActionId(3), update: started },
                Record::Settled { action: ActionId(4), how: "approved".into(), by: "ada".into(), reason: None },
                Record::Notice { level: Level::Warning, text: "hot".to_owned() },
            ],
            changes: Vec::new(),
            durable: true,
        },
    ]
}

#[test]
fn an_export_is_lines_of_json() {
    let mut store = Store::in_memory().unwrap();
    store.commit(&typical()).unwrap();
    insta::assert_snapshot!("export", export(&store.journal(), 0, u64::MAX));
    assert_eq!(export(&store.journal(), 3, 3).lines().count(), 6);
    assert_eq!(export(&store.journal(), 0, 0), "");
}

#[test]
fn every_kind_of_line_can_be_written() {
    let mut store = Store::in_memory().unwrap();
    let batches = samples::batches();
    store.commit(&batches).unwrap();
    let text = export(&store.journal(), 0, u64::MAX);
    let expected: usize = batches.iter().map(|batch| batch.inputs.len() + batch.records.len()).sum();
    assert_eq!(text.lines().count(), expected);
    for line in text.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["input"].is_null() != line["record"].is_null(), "{line}");
    }
}

#[test]
fn equal_journals_give_equal_bytes_however_they_were_grouped() {
    let batches: Vec<Batch> = typical();
    let mut grouped = Store::in_memory().unwrap();
    grouped.commit(&batches).unwrap();
    let mut single = Store::in_memory().unwrap();
    for batch in &batches {
        single.commit(std::slice::from_ref(batch)).unwrap();
    }
    let text = export(&grouped.journal(), 0, u64::MAX);
    assert_eq!(text, export(&single.journal(), 0, u64::MAX));
    let mut direct = Vec::new();
    for batch in &batches {
        export_batch(batch, &mut direct).unwrap();
    }
    assert_eq!(text.as_bytes(), direct, "a batch exports the same without a store");
}

#[test]
fn a_journal_can_be_read_while_batches_are_committed() {
    let mut store = Store::in_memory().unwrap();
    let batch = |seq| Batch { seq, inputs: vec![Input::Tick], ..Batch::default() };
    store.commit(&(1..=600).map(batch).collect::<Vec<_>>()).unwrap();
    let mut read = Vec::new();
    let mut seq = 600;
    for batch_read in store.journal().batches(0) {
        read.push(batch_read.unwrap().seq);
        // A commit between any two reads, as long as the first chunk lasts.
        if read.len() <= 100 {
            seq += 1;
            store.commit(&[batch(seq)]).unwrap();
        }
    }
    assert_eq!(read, (1..=700).collect::<Vec<_>>());
}

#[test]
fn an_empty_journal_has_no_extent() {
    let mut store = Store::in_memory().unwrap();
    assert_eq!(store.journal().extent().unwrap(), None);
    assert_eq!(store.journal().batches(0).count(), 0);
    store.commit(&typical()).unwrap();
    let extent = store.journal().extent().unwrap().unwrap();
    assert_eq!((extent.first, extent.last), (1, 3));
    assert_eq!((extent.first_now, extent.last_now), (Timestamp(1_002), Timestamp(2_000)));
}
