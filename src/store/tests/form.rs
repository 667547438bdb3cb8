//! The form on disk stays what it is: `fixtures/v1.txt` holds every row of a store of schema 1, one a line: table, key and
//! value, in hexadecimal; `fixtures/v1.backup` is a backup of the same. The tables are named here once more, literally, so that
//! a change there shows. With `WRITE_STORE_FIXTURE` set, the test writes them anew. That is right as long as no version
//! with this schema was released; from then on a change takes a new schema, fixtures of its own beside these, and its
//! conversion in `tables` or `record`.

use super::{samples, state};
use crate::model::Timestamp;
use crate::store::{Retention, Store, record};
use redb::{Database, Key, ReadableDatabase, TableDefinition, Value};
use std::fmt::Write;

/// A file of the fixtures.
pub fn fixture(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/fixtures").join(name)
}

fn rows() -> String {
    std::fs::read_to_string(fixture("v1.txt")).unwrap()
}

/// What the fixtures hold.
pub fn batches() -> Vec<crate::model::Batch> {
    let mut batches = samples::batches();
    batches.extend([samples::migrations(), samples::audited()]);
    batches
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn dump_table<K: Key + 'static, V: Value + 'static>(database: &Database, name: &'static str, out: &mut String)
where
    for<'a> V::SelfType<'a>: Sized,
{
    let table = database.begin_read().unwrap().open_table(TableDefinition::<K, V>::new(name)).unwrap();
    for row in table.range::<K::SelfType<'_>>(..).unwrap() {
        let (key, value) = row.unwrap();
        let (key, value) = (key.value(), value.value());
        writeln!(out, "{name} {} {}", hex(K::as_bytes(&key).as_ref()), hex(V::as_bytes(&value).as_ref())).unwrap();
    }
}

fn dump(store: &Store) -> String {
    let (database, mut out) = (&store.database, String::new());
    dump_table::<&str, u64>(database, "meta", &mut out);
    dump_table::<(), &[u8]>(database, "plane", &mut out);
    dump_table::<&str, &[u8]>(database, "hosts", &mut out);
    dump_table::<u128, &[u8]>(database, "vms", &mut out);
    dump_table::<&[u8], &[u8]>(database, "embots", &mut out);
    dump_table::<u64, &[u8]>(database, "timers", &mut out);
    dump_table::<u64, &[u8]>(database, "pending", &mut out);
    dump_table::<u64, &[u8]>(database, "actions", &mut out);
    dump_table::<u64, ()>(database, "ended", &mut out);
    dump_table::<&str, &[u8]>(database, "modules", &mut out);
    dump_table::<&[u8], &[u8]>(database, "usage", &mut out);
    dump_table::<&str, &[u8]>(database, "migrations", &mut out);
    dump_table::<u128, &[u8]>(database, "tombstones", &mut out);
    dump_table::<&str, &[u8]>(database, "mobile", &mut out);
    dump_table::<&[u8], &[u8]>(database, "contents", &mut out);
    dump_table::<u64, &[u8]>(database, "journal", &mut out);
    dump_table::<u64, &[u8]>(database, "audit", &mut out);
    dump_table::<(), &[u8]>(database, "restored", &mut out);
    dump_table::<u128, &[u8]>(database, "unconfirmed", &mut out);
    out
}

/// Compressed bytes may differ from one version of the compressor to the next; what they hold may not.
fn without_compression(dump: &str) -> String {
    let line = |line: &str| {
        let mut words = line.split(' ');
        let [table, key, value] = [words.next().unwrap(), words.next().unwrap(), words.next().unwrap()];
        match table {
            "journal" => {
                let value = unhex(value);
                format!("journal {key} {:02x} {}\n", value[0], hex(&lz4_flex::decompress_size_prepended(&value[1..]).unwrap()))
            }
            "meta" if key == hex(b"journal_bytes") => String::new(),
            _ => format!("{line}\n"),
        }
    };
    dump.lines().map(line).collect()
}

fn put<K: Key + 'static, V: Value + 'static>(write: &redb::WriteTransaction, name: &str, key: &[u8], value: &[u8]) {
    let mut table = write.open_table(TableDefinition::<K, V>::new(name)).unwrap();
    table.insert(K::from_bytes(key), V::from_bytes(value)).unwrap();
}

#[test]
fn what_is_written_has_the_bytes_of_its_fixture() {
    let mut store = Store::in_memory().unwrap();
    store.commit(&batches()).unwrap();
    let dump = dump(&store);
    if std::env::var_os("WRITE_STORE_FIXTURE").is_some() {
        std::fs::write(fixture("v1.txt"), dump).unwrap();
        let mut backup = Vec::new();
        store.journal().backup("home", Timestamp(1_772_366_584_005), &mut backup).unwrap();
        std::fs::write(fixture("v1.backup"), backup).unwrap();
        return;
    }
    let (new, old) = (without_compression(&dump), without_compression(&rows()));
    for (new, old) in new.lines().zip(old.lines()) {
        assert_eq!(new, old, "the form on disk has changed; `store/record.rs` says how to do that");
    }
    assert_eq!(new.lines().count(), old.lines().count());
}

#[test]
fn stores_of_every_released_schema_stay_readable() {
    is_readable(&rows(), &batches());
}

fn is_readable(fixture: &str, batches: &[crate::model::Batch]) {
    let backend = crate::store::SimulatedDisk::default();
    let database = Database::builder().create_with_backend(backend.clone()).unwrap();
    let write = database.begin_write().unwrap();
    for line in fixture.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let (table, key, value) = (words[0], unhex(words[1]), unhex(words[2]));
        match table {
            "meta" => put::<&str, u64>(&write, table, &key, &value),
            "plane" | "restored" => put::<(), &[u8]>(&write, table, &key, &value),
            "hosts" | "modules" | "migrations" | "mobile" => put::<&str, &[u8]>(&write, table, &key, &value),
            "vms" | "tombstones" | "unconfirmed" => put::<u128, &[u8]>(&write, table, &key, &value),
            "embots" | "usage" | "contents" => put::<&[u8], &[u8]>(&write, table, &key, &value),
            "ended" => put::<u64, ()>(&write, table, &key, &value),
            _ => put::<u64, &[u8]>(&write, table, &key, &value),
        }
    }
    write.commit().unwrap();
    drop(database);

    let (store, recovered) = Store::on_disk(&backend).unwrap();
    assert_eq!(recovered, state::after(batches));
    let journal: Vec<_> = store.journal().batches(0).map(Result::unwrap).collect();
    assert_eq!(journal.len(), batches.len());
    for (read, written) in journal.iter().zip(batches) {
        assert_eq!((read.seq, read.now, read.durable), (written.seq, written.now, written.durable));
        assert_eq!(read.inputs, written.inputs);
        assert_eq!(read.records, written.records);
    }
    let mut store = store.keeping(Retention { ended_actions: 2, ..Retention::default() });
    // It takes what comes next.
    let more = crate::model::Batch { seq: 9, ..samples::audited() };
    store.commit(&[more]).unwrap();
    let mut chain = crate::store::Chain::default();
    store.audit().lines(&mut |line| chain.take(line).is_ok()).unwrap();
    let audited = batches.iter().flat_map(|batch| &batch.changes);
    let audited = audited.filter(|change| matches!(change, crate::model::Change::Audit(_))).count() as u64;
    assert_eq!(chain.finish().unwrap().head.number, audited + 3);
}

#[test]
fn a_row_of_another_version_is_refused_by_name() {
    let bytes = record::encode(&samples::plane(1)).unwrap();
    assert_eq!(record::decode::<crate::model::PlaneRow>("x", &bytes).unwrap(), samples::plane(1));
    let mut newer = bytes.clone();
    newer[0] = 2;
    for (bytes, why) in [(&newer[..], "version 2"), (&[], "nothing"), (&bytes[..4], "end"), (&bytes.repeat(2), "too many")] {
        let fault = record::decode::<crate::model::PlaneRow>("itself", bytes).unwrap_err();
        assert!(format!("{fault:?}").to_lowercase().contains(why), "{fault:?} does not say `{why}`");
    }
}
