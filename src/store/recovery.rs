//! What a store knows when it is opened: the state after the last committed batch, and nothing of later ones.

use super::error::Fault;
use super::record::{self, Row};
use super::tables::{self};
use crate::model::{
    Action, ActionId, Bytes, ContentHash, ElementId, EmbotId, EmbotRow, Event, Host, HostId, MigrationId, MigrationRow,
    MobileRow, ModuleRow, PlaneRow, Restored, TimerRow, Timestamp, Tombstone, Unconfirmed, Vm, VmId,
};
use redb::{Database, Key, ReadTransaction, ReadableDatabase, TableDefinition};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The state after the last committed batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Recovered {
    /// The plane's own row. In a fresh store it is armed and every number starts at 1. `next_batch` is always the one that
    /// the store expects, whatever the row says.
    pub plane: PlaneRow,
    /// Hosts as last known.
    pub hosts: BTreeMap<HostId, Host>,
    /// Guests as last known.
    pub vms: BTreeMap<VmId, Vm>,
    /// Embots' states.
    pub embots: BTreeMap<EmbotId, EmbotRow>,
    /// Timers that are not due yet, by number.
    pub timers: BTreeMap<u64, TimerRow>,
    /// Facts accepted and not yet handled, by number.
    pub pending: BTreeMap<u64, Event>,
    /// Actions: all that are open, and the latest of those that have ended.
    pub actions: BTreeMap<ActionId, Action>,
    /// Modules.
    pub modules: BTreeMap<Arc<str>, ModuleRow>,
    /// Usage histories at their last checkpoint, as `Usage::export` wrote them.
    pub usage: BTreeMap<ElementId, Vec<u8>>,
    /// Migrations between planes: the open ones, and the latest of those that have ended.
    pub migrations: BTreeMap<MigrationId, MigrationRow>,
    /// Where guests went.
    pub tombstones: BTreeMap<VmId, Tombstone>,
    /// Modules that came with guests.
    pub mobile: BTreeMap<Arc<str>, MobileRow>,
    /// Pieces of packages, by address.
    pub contents: BTreeMap<ContentHash, Bytes>,
    /// Was the store made from a backup?
    pub restored: Option<Restored>,
    /// Guests whose marks were not read since then.
    pub unconfirmed: BTreeMap<VmId, Unconfirmed>,
    /// The `now` of the last batch: time must not run backwards from here.
    pub last_now: Timestamp,
    /// Was nothing ever committed?
    pub fresh: bool,
}

impl Recovered {
    /// What a store knows that nothing was ever committed to.
    pub fn nothing() -> Recovered {
        Recovered {
            plane: first_row(),
            hosts: BTreeMap::new(),
            vms: BTreeMap::new(),
            embots: BTreeMap::new(),
            timers: BTreeMap::new(),
            pending: BTreeMap::new(),
            actions: BTreeMap::new(),
            modules: BTreeMap::new(),
            usage: BTreeMap::new(),
            migrations: BTreeMap::new(),
            tombstones: BTreeMap::new(),
            mobile: BTreeMap::new(),
            contents: BTreeMap::new(),
            restored: None,
            unconfirmed: BTreeMap::new(),
            last_now: Timestamp::default(),
            fresh: true,
        }
    }
}

/// The plane's row before the first batch.
fn first_row() -> PlaneRow {
    PlaneRow { next_event: 1, next_action: 1, next_timer: 1, next_batch: 1, armed: true, planner: Vec::new(), next_refusal: 1 }
}

/// Reads everything, in one read transaction.
pub fn recover(database: &Database) -> Result<Recovered, Fault> {
    let read = database.begin_read()?;
    let meta = read.open_table(tables::META)?;
    let number = |key: &str| -> Result<u64, Fault> { Ok(meta.get(key)?.map_or(0, |value| value.value())) };
    let last_batch = number(tables::META_BATCH)?;
    let mut plane = match read.open_table(tables::PLANE)?.get(())? {
        Some(row) => record::decode::<PlaneRow>("itself", row.value())?,
        None => first_row(),
    };
    plane.next_batch = last_batch + 1;
    Ok(Recovered {
        plane,
        hosts: rows(&read, tables::HOSTS, |name| Ok(HostId::from(name)))?,
        vms: rows(&read, tables::VMS, |uuid| Ok(VmId(uuid::Uuid::from_u128(uuid))))?,
        embots: rows(&read, tables::EMBOTS, |key| record::decode_key("an embot", key))?,
        timers: rows(&read, tables::TIMERS, Ok)?,
        pending: rows(&read, tables::PENDING, Ok)?,
        actions: rows(&read, tables::ACTIONS, |number| Ok(ActionId(number)))?,
        modules: rows(&read, tables::MODULES, |name| Ok(Arc::from(name)))?,
        usage: usage(&read)?,
        migrations: rows(&read, tables::MIGRATIONS, |name| name.parse().map_err(|error| Fault::Row(format!("{error}"))))?,
        tombstones: rows(&read, tables::TOMBSTONES, |uuid| Ok(VmId(uuid::Uuid::from_u128(uuid))))?,
        mobile: rows(&read, tables::MOBILE, |name| Ok(Arc::from(name)))?,
        contents: contents(&read)?,
        restored: match read.open_table(tables::RESTORED)?.get(())? {
            Some(row) => Some(record::decode("of the store", row.value())?),
            None => None,
        },
        unconfirmed: rows(&read, tables::UNCONFIRMED, |uuid| Ok(VmId(uuid::Uuid::from_u128(uuid))))?,
        last_now: Timestamp(number(tables::META_NOW)?.cast_signed()),
        fresh: last_batch == 0,
    })
}

fn rows<K, I, R>(
    read: &ReadTransaction,
    table: TableDefinition<K, &'static [u8]>,
    id: impl Fn(K::SelfType<'_>) -> Result<I, Fault>,
) -> Result<BTreeMap<I, R>, Fault>
where
    K: Key + 'static,
    I: Ord + fmt::Display,
    R: Row,
{
    let mut rows = BTreeMap::new();
    for entry in read.open_table(table)?.range::<K::SelfType<'_>>(..)? {
        let (key, row) = entry?;
        let id = id(key.value())?;
        let row = record::decode(&id, row.value())?;
        rows.insert(id, row);
    }
    Ok(rows)
}

fn usage(read: &ReadTransaction) -> Result<BTreeMap<ElementId, Vec<u8>>, Fault> {
    let mut histories = BTreeMap::new();
    for entry in read.open_table(tables::USAGE)?.range::<&[u8]>(..)? {
        let (key, bytes) = entry?;
        let element: ElementId = record::decode_key("a usage history", key.value())?;
        let bytes = record::decode_opaque(format_args!("usage of {element}"), bytes.value())?;
        histories.insert(element, bytes);
    }
    Ok(histories)
}

/// Pieces of packages; each is found under the address that its bytes have.
fn contents(read: &ReadTransaction) -> Result<BTreeMap<ContentHash, Bytes>, Fault> {
    let mut contents = BTreeMap::new();
    for entry in read.open_table(tables::CONTENTS)?.range::<&[u8]>(..)? {
        let bytes = record::decode_opaque("a piece of a package", entry?.1.value())?;
        contents.insert(ContentHash::of(&bytes), Bytes::from(bytes));
    }
    Ok(contents)
}
