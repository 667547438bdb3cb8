//! Files that are in use, from elsewhere, damaged or cannot be written: what an admin is told.

use super::{samples, state};
use crate::model::Batch;
use crate::store::{Crash, Doing, Retention, SimulatedDisk, Store, StoreError, tables};
use proptest::prelude::*;
use std::error::Error;
use std::io;
use std::path::Path;

/// The error with its causes, as `main` prints it, and without the test's folder.
fn text(error: &StoreError, folder: &Path) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}\n  caused by: {error}");
        cause = error.source();
    }
    text.replace(&folder.display().to_string(), "/var/lib/embot")
}

fn refusal(path: &Path) -> String {
    let error = Store::open(path, Retention::default()).map(|_| ()).expect_err("it must not open");
    text(&error, path.parent().unwrap())
}

fn set_schema(path: &Path, version: u64) {
    let (store, _) = Store::open(path, Retention::default()).unwrap();
    let write = store.database.begin_write().unwrap();
    write.open_table(tables::META).unwrap().insert(tables::META_SCHEMA, version).unwrap();
    write.commit().unwrap();
}

#[test]
fn a_store_opens_again_with_what_it_held() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plane.redb");
    // What a process left that was killed while it made a store.
    std::fs::write(folder.path().join("plane.redb.new-0"), [0; 4_096]).unwrap();
    let (mut store, recovered) = Store::open(&path, Retention::default()).unwrap();
    assert_eq!(recovered, state::fresh());
    store.commit(&samples::batches()).unwrap();
    drop(store);
    let (_, recovered) = Store::open(&path, Retention::default()).unwrap();
    assert_eq!(recovered, state::after(&samples::batches()));
    let mut names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["plane.redb", "plane.redb.new-0"], "nothing is left of this one's making");
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o077, 0, "others may not read it");
    }
}

#[test]
fn what_keeps_a_store_from_opening_is_said_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);

    let held = at("in-use.redb");
    let _store = Store::open(&held, Retention::default()).unwrap();
    insta::assert_snapshot!("in_use", refusal(&held));

    set_schema(&at("newer.redb"), 7);
    insta::assert_snapshot!("newer", refusal(&at("newer.redb")));
    set_schema(&at("nonsense.redb"), 0);
    insta::assert_snapshot!("nonsense_schema", refusal(&at("nonsense.redb")));

    std::fs::write(at("text.redb"), "plane: home\n".repeat(100)).unwrap();
    insta::assert_snapshot!("not_a_database", refusal(&at("text.redb")));

    let other = redb::Database::create(at("other.redb")).unwrap();
    let write = other.begin_write().unwrap();
    write.open_table(redb::TableDefinition::<u64, u64>::new("mail")).unwrap();
    write.commit().unwrap();
    drop(other);
    insta::assert_snapshot!("another_programs", refusal(&at("other.redb")));

    drop(Store::open(&at("short.redb"), Retention::default()).unwrap());
    let file = std::fs::OpenOptions::new().write(true).open(at("short.redb")).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    insta::assert_snapshot!("cut_short", refusal(&at("short.redb")));

    let (store, _) = Store::open(&at("row.redb"), Retention::default()).unwrap();
    let write = store.database.begin_write().unwrap();
    write.open_table(tables::HOSTS).unwrap().insert("host-a", &[9_u8, 1][..]).unwrap();
    write.commit().unwrap();
    drop(store);
    insta::assert_snapshot!("a_row_that_cannot_be_read", refusal(&at("row.redb")));

    insta::assert_snapshot!(
        "no_folder",
        text(&Store::open(&at("no/such.redb"), Retention::default()).unwrap_err(), folder.path())
    );
    std::fs::create_dir(at("folder")).unwrap();
    insta::assert_snapshot!("a_folder", refusal(&at("folder")));
}

#[test]
fn what_keeps_a_store_from_writing_is_said_with_what_to_do() {
    let disk = SimulatedDisk::default();
    let (mut store, _) = Store::on_disk(&disk).unwrap();
    disk.fail_from(disk.changes(), io::ErrorKind::StorageFull);
    let folder = Path::new("/nowhere");
    insta::assert_snapshot!("full", text(&store.commit(&samples::batches()).unwrap_err(), folder));
    insta::assert_snapshot!("closed", text(&store.commit(&samples::batches()).unwrap_err(), folder));
    for (name, kind) in [
        ("read_only", io::ErrorKind::ReadOnlyFilesystem),
        ("denied", io::ErrorKind::PermissionDenied),
        ("broken", io::ErrorKind::Other),
    ] {
        let doing = if name == "broken" { Doing::Write } else { Doing::Open };
        let error = StoreError::Io { store: "/var/lib/embot/plane.redb".into(), doing, source: kind.into() };
        insta::assert_snapshot!(name, text(&error, folder));
    }
}

#[test]
fn batches_out_of_order_change_nothing() {
    let disk = SimulatedDisk::default();
    let (mut store, _) = Store::on_disk(&disk).unwrap();
    let batch = |seq| Batch { seq, ..Batch::default() };
    store.commit(&[batch(1), batch(2)]).unwrap();
    let error = store.commit(&[batch(3), batch(3)]).unwrap_err();
    insta::assert_snapshot!("out_of_order", error.to_string());
    store.commit(&[batch(4)]).unwrap();
    assert_eq!(store.journal().batches(0).map(|batch| batch.unwrap().seq).collect::<Vec<_>>(), [1, 2, 4]);
}

#[test]
fn the_past_is_dropped_by_its_size_and_never_what_is_open() {
    let mut store =
        Store::in_memory().unwrap().keeping(Retention { journal_bytes: 2_000, ended_actions: 2, ..Retention::default() });
    let all = samples::batches().remove(0);
    store.commit(std::slice::from_ref(&all)).unwrap();
    for seq in 2..40 {
        store.commit(&[Batch { seq, changes: Vec::new(), ..all.clone() }]).unwrap();
        let extent = store.journal().extent().unwrap().unwrap();
        assert_eq!(extent.last, seq);
        let entries: Vec<_> = store.journal().batches(0).map(Result::unwrap).collect();
        assert_eq!(entries.first().map(|batch| batch.seq), Some(extent.first));
        assert!(extent.bytes <= 2_000 || entries.len() == 1, "{extent:?}");
    }
    let recovered = crate::store::recovery::recover(&store.database).unwrap();
    let left: Vec<_> = recovered.actions.iter().map(|(id, action)| (id.0, action.state.word())).collect();
    assert_eq!(left, [(0, "advised"), (1, "planned"), (2, "started"), (7, "expired"), (8, "withdrawn")]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever bits a disk flips: an answer, never a panic.
    #[test]
    fn a_damaged_file_is_read_or_refused(flips in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 1..8), tail in any::<bool>()) {
        let disk = damaged_template();
        // Most of a small store's file is empty: half of the cases flip only what lies at its beginning.
        let size = if tail { 1_600_000 } else { 70_000 };
        for (place, bits) in &flips {
            disk.damage(place.index(size), *bits);
        }
        if let Ok((mut store, _)) = Store::on_disk(&disk) {
            let _ = store.journal().batches(0).filter(Result::is_ok).count();
            let _ = store.commit(&[Batch { seq: u64::MAX, ..Batch::default() }]);
        }
    }
}

fn damaged_template() -> SimulatedDisk {
    let disk = SimulatedDisk::default();
    let (mut store, _) = Store::on_disk(&disk).unwrap();
    store.commit(&samples::batches()).unwrap();
    disk.crash(Crash::Killed)
}
