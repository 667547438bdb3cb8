//! The journal: what the manager knew and decided, batch by batch.
//!
//! An entry is a whole batch without its changed rows, compressed. Entries are dropped, the oldest first, once they take
//! more than [`super::Retention::journal_bytes`]. A [`Journal`] may be read from any thread while batches are committed:
//! each chunk is read in a short transaction of its own, so a long export neither blocks commits nor keeps old pages alive.
//! Entries dropped meanwhile are then missing at the beginning; those that are read are whole.

use super::audit::Audit;
use super::error::{Doing, Fault, Name, StoreError};
use super::record;
use super::tables;
use crate::model::{Batch, Input, Record, Timestamp};
use redb::{Database, ReadableDatabase, ReadableTable};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::io::Write;
use std::sync::Arc;

/// A chunk ends after so many entries or so many compressed bytes, whichever comes first.
const CHUNK_ENTRIES: usize = 256;
const CHUNK_BYTES: usize = 256 * 1_024;

/// Reads a store's journal. Clones share the store; its file stays locked until the store and all of them are gone.
#[derive(Debug, Clone)]
pub struct Journal {
    pub(super) database: Arc<Database>,
    pub(super) name: Name,
}

/// Where a journal begins and ends, and what it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct JournalExtent {
    /// The number of the oldest batch kept.
    pub first: u64,
    /// The number of the newest.
    pub last: u64,
    /// The `now` of the oldest batch kept.
    pub first_now: Timestamp,
    /// The `now` of the newest.
    pub last_now: Timestamp,
    /// What the entries take, compressed.
    pub bytes: u64,
}

/// What a store takes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// Its file; `None` where it has none.
    pub file_bytes: Option<u64>,
    /// The entries of its journal.
    pub journal_bytes: u64,
    /// Those of its audit.
    pub audit_bytes: u64,
}

impl Journal {
    /// The audit of the same store.
    pub fn audit(&self) -> Audit {
        Audit { database: self.database.clone(), name: self.name.clone() }
    }

    /// What the store takes.
    pub fn sizes(&self) -> Result<Sizes, StoreError> {
        let sizes = || -> Result<Sizes, Fault> {
            let meta = self.database.begin_read()?.open_table(tables::META)?;
            let number = |key: &str| -> Result<u64, Fault> { Ok(meta.get(key)?.map_or(0, |value| value.value())) };
            let file_bytes = std::fs::metadata(&*self.name).ok().map(|file| file.len());
            Ok(Sizes { file_bytes, journal_bytes: number(tables::META_JOURNAL)?, audit_bytes: number(tables::META_AUDIT)? })
        };
        sizes().map_err(|fault| fault.on(&self.name, Doing::Read))
    }

    /// What it holds; `None` where it is empty.
    pub fn extent(&self) -> Result<Option<JournalExtent>, StoreError> {
        let extent = || -> Result<Option<JournalExtent>, Fault> {
            let read = self.database.begin_read()?;
            let journal = read.open_table(tables::JOURNAL)?;
            let bytes = read.open_table(tables::META)?.get(tables::META_JOURNAL)?.map_or(0, |bytes| bytes.value());
            let (Some((first, oldest)), Some((last, newest))) = (journal.first()?, journal.last()?) else { return Ok(None) };
            let (first, last) = (first.value(), last.value());
            let first_now = record::decode_entry(first, oldest.value())?.now;
            let last_now = record::decode_entry(last, newest.value())?.now;
            Ok(Some(JournalExtent { first, last, first_now, last_now, bytes }))
        };
        extent().map_err(|fault| fault.on(&self.name, Doing::Read))
    }

    /// The batches from number `from` on, the oldest first, up to the one that is the newest when it is reached.
    pub fn batches(&self, from: u64) -> Batches {
        Batches { journal: self.clone(), next: Some(from), chunk: VecDeque::new() }
    }

    /// Writes the batches from number `from` to number `to` as JSON lines: one for each input, then one for each record, in
    /// order. Equal journals give equal bytes. Returns how many lines there were.
    pub fn export(&self, from: u64, to: u64, out: &mut dyn Write) -> Result<u64, StoreError> {
        let mut lines = 0;
        for batch in self.batches(from) {
            let batch = batch?;
            if batch.seq > to {
                break;
            }
            lines += export_batch(&batch, out)?;
        }
        out.flush().map_err(StoreError::Export)?;
        Ok(lines)
    }

    /// One chunk, in one short read transaction; and where the next begins, if there may be one.
    fn chunk(&self, from: u64) -> Result<(VecDeque<Batch>, Option<u64>), Fault> {
        let mut raw: Vec<(u64, Vec<u8>)> = Vec::new();
        let mut bytes = 0;
        {
            let read = self.database.begin_read()?;
            for entry in read.open_table(tables::JOURNAL)?.range(from..)? {
                let (seq, entry) = entry?;
                bytes += entry.value().len();
                raw.push((seq.value(), entry.value().to_vec()));
                if raw.len() == CHUNK_ENTRIES || bytes >= CHUNK_BYTES {
                    break;
                }
            }
        }
        let next = raw.last().and_then(|(seq, _)| seq.checked_add(1));
        let batches = raw.into_iter().map(|(seq, bytes)| record::decode_entry(seq, &bytes)).collect::<Result<_, _>>()?;
        Ok((batches, next))
    }
}

/// Walks a journal. After an error it ends.
#[derive(Debug)]
pub struct Batches {
    journal: Journal,
    next: Option<u64>,
    chunk: VecDeque<Batch>,
}

impl Iterator for Batches {
    type Item = Result<Batch, StoreError>;

    fn next(&mut self) -> Option<Result<Batch, StoreError>> {
        if self.chunk.is_empty() {
            match self.journal.chunk(self.next.take()?) {
                Ok((chunk, next)) => (self.chunk, self.next) = (chunk, next),
                Err(fault) => return Some(Err(fault.on(&self.journal.name, Doing::Read))),
            }
        }
        self.chunk.pop_front().map(Ok)
    }
}

/// One line of an export: the batch's number and time, then the input or the record.
#[derive(Serialize)]
struct Line<'a> {
    batch: u64,
    now: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<&'a Input>,
    #[serde(flatten)]
    record: Option<&'a Record>,
}

/// Writes one batch as [`Journal::export`] does; for those who follow what is committed, or have a batch that no store keeps.
pub fn export_batch(batch: &Batch, out: &mut dyn Write) -> Result<u64, StoreError> {
    let inputs = batch.inputs.iter().map(|input| (Some(input), None));
    let records = batch.records.iter().map(|record| (None, Some(record)));
    let mut lines = 0;
    for (input, record) in inputs.chain(records) {
        let line = Line { batch: batch.seq, now: batch.now, input, record };
        serde_json::to_writer(&mut *out, &line).map_err(|error| StoreError::Export(error.into()))?;
        out.write_all(b"\n").map_err(StoreError::Export)?;
        lines += 1;
    }
    Ok(lines)
}
