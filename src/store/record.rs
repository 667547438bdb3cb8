//! The form of rows and journal entries on disk: one byte of version, then postcard.
//!
//! This is the one place that says which types are written as they stand in the model: those that implement [`Row`], and
//! the inputs of a journal entry. For them the disk form *is* the model type of today: postcard writes fields in their
//! order and enum variants by their position, so adding a variant at an enum's end is compatible, and every other change
//! is not. `fixtures/v1.txt` holds the bytes of version 1; a change of form fails the test that compares them. Then: keep
//! the old type here under a name of its own, raise [`VERSION`], and write out the conversion in `decode`; raise `tables::SCHEMA` with it,
//! so that an older program refuses the file as newer instead of taking its rows for damaged.
//!
//! [`Record`] has a form of its own already, because the model's is tagged for JSON, which no binary format can read back.

use super::error::Fault;
use crate::model::{
    Action, ActionId, ActionUpdate, Batch, EmbotId, EmbotRow, Event, Host, Input, Level, MigrationRow, MobileRow, ModuleRow,
    PlaneRow, Record, Refusal, TimerRow, Timestamp, Tombstone, Vm,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// The version of every form in this file.
pub const VERSION: u8 = 1;

/// A model type that is written as it is.
pub trait Row: Serialize + DeserializeOwned {
    /// What it is, for messages.
    const WHAT: &'static str;
}

macro_rules! rows {
    ($($row:ty: $what:literal),* $(,)?) => { $(impl Row for $row { const WHAT: &'static str = $what; })* };
}

rows! {
    PlaneRow: "the plane", Host: "host", Vm: "guest", EmbotRow: "embot", TimerRow: "timer",
    Event: "waiting event", Action: "action", ModuleRow: "module",
    MigrationRow: "migration", Tombstone: "tombstone",
    MobileRow: "module that came with guests",
}

/// A row's bytes.
pub fn encode<T: Row>(row: &T) -> Result<Vec<u8>, Fault> {
    versioned(T::WHAT, row)
}

/// The row of these bytes; `key` is for messages.
pub fn decode<T: Row>(key: impl fmt::Display, bytes: &[u8]) -> Result<T, Fault> {
    let damaged = |why: String| Fault::Row(format!("{} {key}: {why}", T::WHAT));
    plain(bytes).map_err(damaged)
}

/// A key's bytes. Keys carry no version: the schema's covers them.
pub fn encode_key<T: Serialize>(key: &T) -> Result<Vec<u8>, Fault> {
    postcard::to_stdvec(key).map_err(|error| Fault::Row(format!("a key cannot be written: {error}")))
}

/// The key of these bytes.
pub fn decode_key<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, Fault> {
    postcard::from_bytes(bytes).map_err(|error| Fault::Row(format!("the key of {what}: {error}")))
}

/// A journal entry: a whole batch but for its changes, which the rows tell.
#[derive(Serialize, Deserialize)]
struct EntryV1<'a> {
    seq: u64,
    now: Timestamp,
    durable: bool,
    inputs: Cow<'a, [Input]>,
    records: Vec<RecordV1<'a>>,
}

#[derive(Serialize, Deserialize)]
enum RecordV1<'a> {
    Event(Cow<'a, Event>),
    Planned(Cow<'a, Action>),
    Refused(u64, Cow<'a, Refusal>),
    Action(ActionId, Cow<'a, ActionUpdate>),
    Settled { action: ActionId, how: Cow<'a, str>, by: Cow<'a, str>, reason: Option<Cow<'a, str>> },
    Fault { embot: Cow<'a, EmbotId>, error: Cow<'a, str>, deadline: bool, suspended: bool },
    Log(Cow<'a, EmbotId>, Cow<'a, str>),
    Notice(Level, Cow<'a, str>),
}

impl<'a> From<&'a Record> for RecordV1<'a> {
    fn from(record: &'a Record) -> RecordV1<'a> {
        use Cow::Borrowed;
        match record {
            Record::Event { event } => RecordV1::Event(Borrowed(event)),
            Record::Planned { action } => RecordV1::Planned(Borrowed(action)),
            Record::Refused { number, refusal } => RecordV1::Refused(*number, Borrowed(refusal)),
            Record::Action { action, update } => RecordV1::Action(*action, Borrowed(update)),
            Record::Settled { action, how, by, reason } => RecordV1::Settled {
                action: *action,
                how: Borrowed(how),
                by: Borrowed(by),
                reason: reason.as_deref().map(Borrowed),
            },
            Record::Fault { embot, error, deadline, suspended } => {
                RecordV1::Fault { embot: Borrowed(embot), error: Borrowed(error), deadline: *deadline, suspended: *suspended }
            }
            Record::Log { embot, text } => RecordV1::Log(Borrowed(embot), Borrowed(text)),
            Record::Notice { level, text } => RecordV1::Notice(*level, Borrowed(text)),
        }
    }
}

impl From<RecordV1<'_>> for Record {
    fn from(record: RecordV1<'_>) -> Record {
        match record {
            RecordV1::Event(event) => Record::Event { event: event.into_owned() },
            RecordV1::Planned(action) => Record::Planned { action: action.into_owned() },
            RecordV1::Refused(number, refusal) => Record::Refused { number, refusal: refusal.into_owned() },
            RecordV1::Action(action, update) => Record::Action { action, update: update.into_owned() },
            RecordV1::Settled { action, how, by, reason } => {
                Record::Settled { action, how: how.into(), by: by.into(), reason: reason.map(Into::into) }
            }
            RecordV1::Fault { embot, error, deadline, suspended } => {
                Record::Fault { embot: embot.into_owned(), error: error.into_owned(), deadline, suspended }
            }
            RecordV1::Log(embot, text) => Record::Log { embot: embot.into_owned(), text: text.into_owned() },
            RecordV1::Notice(level, text) => Record::Notice { level, text: text.into_owned() },
        }
    }
}

/// A journal entry's bytes: the version, the length before compression (four bytes, the lowest first), lz4.
pub fn encode_entry(batch: &Batch) -> Result<Vec<u8>, Fault> {
    let entry = EntryV1 {
        seq: batch.seq,
        now: batch.now,
        durable: batch.durable,
        inputs: Cow::Borrowed(&batch.inputs),
        records: batch.records.iter().map(RecordV1::from).collect(),
    };
    let bytes = postcard::to_stdvec(&entry).map_err(|error| Fault::Row(format!("batch {}: {error}", batch.seq)))?;
    let mut out = lz4_flex::block::compress_prepend_size(&bytes);
    out.insert(0, VERSION);
    Ok(out)
}

/// The batch, without changes, of a journal entry.
pub fn decode_entry(seq: u64, bytes: &[u8]) -> Result<Batch, Fault> {
    let damaged = |why: &dyn fmt::Display| Fault::Row(format!("journal entry {seq}: {why}"));
    let rest = strip_version(bytes).map_err(|why| damaged(&why))?;
    let (length, rest) = lz4_flex::block::uncompressed_size(rest).map_err(|error| damaged(&error))?;
    // lz4 shrinks to a 255th at best: a length beyond that is damage, and must not be allocated.
    if length / 255 > rest.len() {
        return Err(damaged(&format_args!("{} bytes cannot hold {length}", rest.len())));
    }
    let bytes = lz4_flex::block::decompress(rest, length).map_err(|error| damaged(&error))?;
    let entry: EntryV1 = postcard::from_bytes(&bytes).map_err(|error| damaged(&error))?;
    Ok(Batch {
        seq: entry.seq,
        now: entry.now,
        inputs: entry.inputs.into_owned(),
        records: entry.records.into_iter().map(Record::from).collect(),
        changes: Vec::new(),
        durable: entry.durable,
    })
}

/// Bytes that another part versions itself (usage histories) get our version, too: it says how they lie in the table.
pub fn encode_opaque(bytes: &[u8]) -> Vec<u8> {
    [&[VERSION], bytes].concat()
}

/// The bytes that were given to [`encode_opaque`].
pub fn decode_opaque(what: impl fmt::Display, bytes: &[u8]) -> Result<Vec<u8>, Fault> {
    strip_version(bytes).map(<[u8]>::to_vec).map_err(|why| Fault::Row(format!("{what}: {why}")))
}

fn versioned<T: Serialize>(what: &str, value: &T) -> Result<Vec<u8>, Fault> {
    postcard::to_extend(value, vec![VERSION]).map_err(|error| Fault::Row(format!("{what} cannot be written: {error}")))
}

fn plain<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let (value, rest) = postcard::take_from_bytes(strip_version(bytes)?).map_err(|error| error.to_string())?;
    if rest.is_empty() { Ok(value) } else { Err(format!("{} bytes too many", rest.len())) }
}

fn strip_version(bytes: &[u8]) -> Result<&[u8], String> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => Ok(rest),
        Some((version, _)) => Err(format!("version {version} of its form; this program knows version {VERSION}")),
        None => Err("nothing is there".to_owned()),
    }
}
