//! The store thread: what it groups, holds back and reports.

use crate::model::*;
use crate::store::{Committed, SimulatedDisk, Store, Writer};
use crossbeam_channel::{Receiver, bounded, unbounded};
use std::io;

fn batch(seq: u64, durable: bool) -> Batch {
    Batch { seq, durable, inputs: vec![Input::Tick], ..Batch::default() }
}

fn through(committed: &Receiver<Committed>) -> Vec<u64> {
    let seq = |committed| match committed {
        Committed::Through { seq } => seq,
        Committed::Failed { error, .. } => panic!("{error}"),
    };
    committed.iter().map(seq).collect()
}

fn kept(store: &Store) -> Vec<u64> {
    store.journal().batches(0).map(|batch| batch.unwrap().seq).collect()
}

#[test]
fn all_that_waits_goes_into_one_transaction() {
    let (commits, waiting) = unbounded();
    (1..=100).for_each(|seq| commits.send(batch(seq, true)).unwrap());
    let (sender, committed) = unbounded();
    let writer = Writer::spawn(Store::in_memory().unwrap(), waiting, sender, Span::hours(1)).unwrap();
    drop(commits);
    assert_eq!(through(&committed), [100]);
    assert_eq!(kept(&writer.join().unwrap()), (1..=100).collect::<Vec<_>>());
}

#[test]
fn samples_wait_for_the_next_fact() {
    // A rendezvous: the thread has taken the first batch before the second is offered.
    let (commits, waiting) = bounded(0);
    let (sender, committed) = unbounded();
    let writer = Writer::spawn(Store::in_memory().unwrap(), waiting, sender, Span::hours(1)).unwrap();
    for (seq, durable) in [(1, false), (2, false), (3, true)] {
        commits.send(batch(seq, durable)).unwrap();
    }
    assert!(matches!(committed.recv().unwrap(), Committed::Through { seq: 3 }));
    commits.send(batch(4, false)).unwrap();
    drop(commits);
    assert_eq!(through(&committed), [4], "what is held back is written at the end");
    assert_eq!(kept(&writer.join().unwrap()), [1, 2, 3, 4]);
}

#[test]
fn samples_alone_are_written_after_a_while() {
    let (commits, waiting) = unbounded();
    let (sender, committed) = unbounded();
    let writer = Writer::spawn(Store::in_memory().unwrap(), waiting, sender, Span(1)).unwrap();
    commits.send(batch(1, false)).unwrap();
    assert!(matches!(committed.recv().unwrap(), Committed::Through { seq: 1 }));
    drop(commits);
    writer.join().unwrap();
}

#[test]
fn a_failed_commit_is_reported_and_nothing_more_is_taken() {
    let disk = SimulatedDisk::default();
    let (store, _) = Store::on_disk(&disk).unwrap();
    let (commits, waiting) = bounded(0);
    let (sender, committed) = unbounded();
    let writer = Writer::spawn(store, waiting, sender, Span::hours(1)).unwrap();
    commits.send(batch(1, true)).unwrap();
    assert!(matches!(committed.recv().unwrap(), Committed::Through { seq: 1 }));
    disk.fail_from(disk.changes(), io::ErrorKind::StorageFull);
    commits.send(batch(2, true)).unwrap();
    let Committed::Failed { from: 2, error } = committed.recv().unwrap() else { panic!("the disk was full") };
    assert!(error.to_string().contains("Free some space"), "{error}");
    assert!(commits.send(batch(3, true)).is_err());
    assert!(committed.recv().is_err());
    assert!(writer.join().is_err());
}

#[test]
fn a_manager_that_is_gone_does_not_keep_its_batches_from_being_written() {
    let (commits, waiting) = unbounded();
    let (sender, committed) = unbounded();
    drop(committed);
    commits.send(batch(1, true)).unwrap();
    let writer = Writer::spawn(Store::in_memory().unwrap(), waiting, sender, Span::hours(1)).unwrap();
    drop(commits);
    assert_eq!(kept(&writer.join().unwrap()), [1]);
}
