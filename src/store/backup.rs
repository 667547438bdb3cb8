//! Backups: everything a store held at one moment, as a stream.
//!
//! ```text
//! "embot backup\n"  one line of JSON: BackupHead  sections  0  SHA-256 of all before it
//! section: 1, length of the table's name (1 byte), name, rows, 0
//! row:     1, length of the key (4 bytes, lowest first), key, length of the value (4 bytes), value
//! ```
//! It is made while batches are committed, from one read transaction, which sees one moment; pages that commits replace
//! meanwhile stay in the store's file until it is done. Rows are copied as they stand (journal entries are compressed as it is),
//! so a backup is as readable for later programs as a store of its schema.

use super::Journal;
use super::audit::{self, AuditHead};
use super::error::{Doing, Fault, StoreError};
use super::tables::{self, every_table};
use crate::model::Timestamp;
use redb::{Key, ReadTransaction, ReadableDatabase, TableDefinition, Value};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io::{self, Write};

/// How every backup begins.
pub(super) const MAGIC: &[u8] = b"embot backup\n";
/// The version of the stream's form.
pub(super) const FORMAT: u32 = 1;
/// What is written, and hashed, at once.
pub(super) const PIECE: usize = 256 * 1_024;

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupHead {
    /// The version of its form.
    pub format: u32,
    /// The plane it is of.
    pub plane: String,
    /// When it was made.
    pub made_at: Timestamp,
    /// The schema of its rows.
    pub schema: u64,
    /// The newest batch in it.
    pub batch: u64,
    /// The newest entry of the audit in it.
    pub audit: AuditHead,
    /// About how many bytes follow: those of the journal and of the audit.
    pub about_bytes: u64,
}

/// Hashes what passes, and gathers it in pieces.
struct Summed<'a> {
    out: &'a mut dyn Write,
    sum: Sha256,
    piece: Vec<u8>,
}

impl Summed<'_> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE { self.pass_on() } else { Ok(()) }
    }

    fn pass_on(&mut self) -> io::Result<()> {
        self.sum.update(&self.piece);
        self.out.write_all(&self.piece)?;
        self.piece.clear();
        Ok(())
    }

    fn item(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.put(&length.to_le_bytes())?;
        self.put(bytes)
    }

    fn end(mut self) -> io::Result<()> {
        self.pass_on()?;
        self.out.write_all(&self.sum.finalize())?;
        self.out.flush()
    }
}

/// Either side of making one.
enum MakeError {
    Store(Fault),
    Out(io::Error),
}

impl<E: Into<Fault>> From<E> for MakeError {
    fn from(error: E) -> MakeError {
        MakeError::Store(error.into())
    }
}

impl Journal {
    /// Writes a backup of the whole store, as it is now.
    pub fn backup(&self, plane: &str, now: Timestamp, out: &mut dyn Write) -> Result<(), StoreError> {
        self.write_backup(plane, now, out).map_err(|error| match error {
            MakeError::Store(fault) => fault.on(&self.name, Doing::Read),
            MakeError::Out(error) => StoreError::Export(error),
        })
    }

    fn write_backup(&self, plane: &str, now: Timestamp, out: &mut dyn Write) -> Result<(), MakeError> {
        let read = self.database.begin_read()?;
        let meta = read.open_table(tables::META)?;
        let number = |key: &str| -> Result<u64, Fault> { Ok(meta.get(key)?.map_or(0, |value| value.value())) };
        let head = BackupHead {
            format: FORMAT,
            plane: plane.to_owned(),
            made_at: now,
            schema: number(tables::META_SCHEMA)?,
            batch: number(tables::META_BATCH)?,
            audit: audit::head(&read)?,
            about_bytes: number(tables::META_JOURNAL)? + number(tables::META_AUDIT)?,
        };
        let mut out = Summed { out, sum: Sha256::new(), piece: Vec::with_capacity(2 * PIECE) };
        let mut text = serde_json::to_vec(&head).map_err(|error| MakeError::Out(error.into()))?;
        text.push(b'\n');
        out.put(MAGIC).and_then(|()| out.put(&text)).map_err(MakeError::Out)?;
        macro_rules! sections {
            ($($table:ident),*) => { $(section(&read, tables::$table, &mut out)?;)* };
        }
        every_table!(sections);
        out.put(&[0]).and_then(|()| out.end()).map_err(MakeError::Out)
    }
}

fn section<K: Key + 'static, V: Value + 'static>(
    read: &ReadTransaction,
    table: TableDefinition<'static, K, V>,
    out: &mut Summed<'_>,
) -> Result<(), MakeError> {
    let name = redb::TableHandle::name(&table);
    out.put(&[1, name.len() as u8]).and_then(|()| out.put(name.as_bytes())).map_err(MakeError::Out)?;
    for row in read.open_table(table)?.range::<K::SelfType<'_>>(..)? {
        let (key, value) = row?;
        let (key, value) = (key.value(), value.value());
        let (key, value) = (K::as_bytes(&key), V::as_bytes(&value));
        let row = out.put(&[1]).and_then(|()| out.item(key.as_ref())).and_then(|()| out.item(value.as_ref()));
        row.map_err(MakeError::Out)?;
    }
    out.put(&[0]).map_err(MakeError::Out)
}
