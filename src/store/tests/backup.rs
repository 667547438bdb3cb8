//! Backups: whole or refused, made while batches are committed, and what a restore leaves.

use super::{form, samples, state};
use crate::model::{Batch, Restored, Timestamp};
use crate::store::{BackupError, BackupView, Chain, Restore, Retention, Store, audit_of, tables, verify_backup};
use redb::{ReadableDatabase, TableHandle};
use std::error::Error;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A backup of the first version.
fn first() -> Vec<u8> {
    std::fs::read(form::fixture("v1.backup")).unwrap()
}

fn backup_of(store: &Store) -> Vec<u8> {
    let mut backup = Vec::new();
    store.journal().backup("home", Timestamp(1_772_366_584_005), &mut backup).unwrap();
    backup
}

fn restore(backup: &Path, store: &Path, force: bool) -> Result<(BackupView, Option<PathBuf>), BackupError> {
    Restore { backup, store, plane: "home", by: "ada", now: Timestamp(1_772_366_600_000), force }.run(&mut |_| ())
}

fn told(error: &BackupError, folder: &Path) -> String {
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{error}{cause}").replace(&folder.display().to_string(), "/backup")
}

#[test]
fn all_tables_are_in_a_backup() {
    let mut store = Store::in_memory().unwrap();
    store.commit(&form::batches()).unwrap();
    let mut known = Vec::new();
    macro_rules! names {
        ($($table:ident),*) => { $(known.push(tables::$table.name().to_owned());)* };
    }
    tables::every_table!(names);
    let mut there: Vec<String> =
        store.database.begin_read().unwrap().list_tables().unwrap().map(|table| table.name().to_owned()).collect();
    known.sort();
    there.sort();
    assert_eq!(known, there);
}

#[test]
fn the_backup_of_an_earlier_version_is_restored_with_all_it_held() {
    let folder = tempfile::tempdir().unwrap();
    let (backup, path) = (folder.path().join("v1.backup"), folder.path().join("plane.redb"));
    std::fs::write(&backup, first()).unwrap();
    let view = verify_backup(&backup, &mut |_| ()).unwrap();
    assert_eq!(
        (view.head.plane.as_str(), view.guests, view.journal_entries, view.verified.unwrap().head.number),
        ("home", 1, 4, 3)
    );
    let (restored, aside) = restore(&backup, &path, false).unwrap();
    assert_eq!((restored, aside), (view, None));
    let (store, recovered) = Store::open(&path, Retention::default()).unwrap();
    let mut wanted = state::after(&form::batches());
    wanted.plane.next_batch = 6;
    wanted.last_now = Timestamp(1_772_366_600_000);
    wanted.restored = Some(Restored { backup_at: Timestamp(1_772_366_584_005), taken_over_at: None });
    assert_eq!(recovered, wanted);
    assert_eq!(store.journal().batches(0).map(Result::unwrap).count(), 5);
    let mut chain = Chain::default();
    store.audit().lines(&mut |line| chain.take(line).is_ok()).unwrap();
    assert_eq!(chain.finish().unwrap().head.number, 4);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o077, 0, "others may not read it");
    let mut names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["plane.redb", "v1.backup"], "nothing else is left");
}

#[test]
fn a_backup_is_of_one_moment_though_batches_are_committed_meanwhile() {
    /// Commits a batch whenever a piece of the backup is taken.
    struct Busy<'a>(&'a mut Store, Vec<u8>, u64);
    impl Write for Busy<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.2 += 1;
            self.0.commit(&[Batch { seq: self.2, ..samples::audited() }]).unwrap();
            self.1.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut store = Store::in_memory().unwrap();
    store.commit(&form::batches()).unwrap();
    let (seq, mut first) = (5_000, samples::batches().remove(0));
    for number in 5..seq {
        first.seq = number;
        first.changes.clear();
        store.commit(std::slice::from_ref(&first)).unwrap();
    }
    let journal = store.journal();
    let mut busy = Busy(&mut store, Vec::new(), seq);
    journal.backup("home", Timestamp(7), &mut busy).unwrap();
    assert!(busy.2 > seq + 5, "only {} commits came between", busy.2 - seq);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plane.backup");
    std::fs::write(&path, busy.1).unwrap();
    let view = verify_backup(&path, &mut |_| ()).unwrap();
    assert_eq!((view.head.batch, view.journal_entries, view.verified.unwrap().head.number), (seq - 1, seq - 1, 3));
}

#[test]
fn what_keeps_a_backup_from_being_used_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let refusal = |bytes: &[u8]| {
        std::fs::write(at("plane.backup"), bytes).unwrap();
        told(&verify_backup(&at("plane.backup"), &mut |_| ()).unwrap_err(), folder.path())
    };
    let mut store = Store::in_memory().unwrap();
    store.commit(&form::batches()).unwrap();
    let sound = backup_of(&store);
    let changed = |from: &str, to: &str| {
        let text: Vec<u8> = sound.clone();
        let at = text.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        [&text[..at], to.as_bytes(), &text[at + from.len()..]].concat()
    };
    let mut flipped = sound.clone();
    flipped[sound.len() / 2] ^= 4;
    let mut sum = sound.clone();
    *sum.last_mut().unwrap() ^= 1;
    let mut all = vec![
        refusal(b""),
        refusal(b"plane: home\n"),
        refusal(&sound[..sound.len() / 2]),
        refusal(&sum),
        refusal(&[&sound[..], b"more"].concat()),
        refusal(&changed("\"format\":1", "\"format\":2")),
        refusal(&changed("\"schema\":1", "\"schema\":2")),
        told(&verify_backup(&at("none"), &mut |_| ()).unwrap_err(), folder.path()),
    ];
    // The audit in the store was tampered with before.
    let write = store.database.begin_write().unwrap();
    let mut audit = write.open_table(tables::AUDIT).unwrap();
    let line = String::from_utf8(redb::ReadableTable::get(&audit, 2).unwrap().unwrap().value().to_vec()).unwrap();
    audit.insert(2, line.replace("ada", "eve").as_bytes()).unwrap();
    drop(audit);
    write.commit().unwrap();
    std::fs::write(at("plane.backup"), backup_of(&store)).unwrap();
    let view = verify_backup(&at("plane.backup"), &mut |_| ()).unwrap();
    assert_eq!(view.verified, None, "the rest of it can be used");
    all.push(view.audit_fault.unwrap());

    std::fs::write(at("plane.backup"), &sound).unwrap();
    let other = Restore {
        backup: &at("plane.backup"),
        store: &at("new.redb"),
        plane: "cloud",
        by: "ada",
        now: Timestamp(0),
        force: false,
    };
    all.push(told(&other.run(&mut |_| ()).unwrap_err(), folder.path()));
    let held = Store::open(&at("plane.redb"), Retention::default()).unwrap();
    all.push(told(&restore(&at("plane.backup"), &at("plane.redb"), true).unwrap_err(), folder.path()));
    drop(held);
    all.push(told(&restore(&at("plane.backup"), &at("plane.redb"), false).unwrap_err(), folder.path()));
    insta::assert_snapshot!(all.join("\n"));
    assert!(!at("new.redb").exists());
    std::fs::write(at("flipped"), flipped).unwrap();
    assert!(verify_backup(&at("flipped"), &mut |_| ()).is_err());

    let (_, aside) = restore(&at("plane.backup"), &at("plane.redb"), true).unwrap();
    assert_eq!(aside.as_deref(), Some(&*at("plane.redb.before-restore-1")));
    assert!(Store::open(&aside.unwrap(), Retention::default()).unwrap().1.fresh, "the old one is whole");
    assert_eq!(restore(&at("plane.backup"), &at("plane.redb"), true).unwrap().1, Some(at("plane.redb.before-restore-2")));
}

#[test]
fn at_every_moment_of_a_restore_there_is_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let (backup, path) = (folder.path().join("plane.backup"), folder.path().join("plane.redb"));
    std::fs::write(&backup, first()).unwrap();
    restore(&backup, &path, false).unwrap();
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut looks = 0_u64;
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                assert!(path.exists(), "a daemon that starts now would make an empty one (look {looks})");
                looks += 1;
            }
        });
        for number in 1..=20 {
            let (_, aside) = restore(&backup, &path, true).unwrap();
            assert_eq!(aside, Some(folder.path().join(format!("plane.redb.before-restore-{number}"))));
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        watching.join().expect("there always was one");
    });
}

#[test]
fn the_audit_is_read_from_backups_and_from_stores() {
    let folder = tempfile::tempdir().unwrap();
    let (backup, path) = (folder.path().join("plane.backup"), folder.path().join("plane.redb"));
    std::fs::write(&backup, first()).unwrap();
    restore(&backup, &path, false).unwrap();
    let verified = |path: &Path| {
        let mut chain = Chain::default();
        audit_of(path, &mut |line| chain.take(line)).unwrap().unwrap();
        chain.finish().unwrap().head.number
    };
    assert_eq!((verified(&backup), verified(&path)), (3, 4));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    /// Whatever happens to a file: an answer, never a panic, and never yes.
    #[test]
    fn a_damaged_backup_is_refused(at in proptest::prelude::any::<proptest::sample::Index>(), bits in 1_u8.., cut in proptest::prelude::any::<bool>()) {
        let mut bytes = first();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] ^= bits }
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&bytes).unwrap();
        proptest::prop_assert!(verify_backup(file.path(), &mut |_| ()).is_err());
    }
}
