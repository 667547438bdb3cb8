//! The tables of a store file, by schema version.
//!
//! Two versions protect a file. The *schema* version in [`META`] rises with any change of tables, keys or rows; a file of a
//! newer schema is refused. Each row opens with the version of its own form (see `record`), so that rows of an older form
//! can stay as they are until they are next written. To change a table: give the new one another name, raise [`SCHEMA`],
//! and convert in [`prepare`].

use super::error::{Doing, Fault, Name, StoreError};
use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition, TableError, TableHandle, WriteTransaction};

/// The schema this program writes.
pub const SCHEMA: u64 = 1;

/// Numbers about the file itself; see the `META_` keys.
pub const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// The schema's version.
pub const META_SCHEMA: &str = "schema";
/// The number of the last committed batch.
pub const META_BATCH: &str = "last_batch";
/// The `now` of the last committed batch, in milliseconds (the bits of an `i64`).
pub const META_NOW: &str = "last_now";
/// What the journal's entries take, in bytes.
pub const META_JOURNAL: &str = "journal_bytes";
/// What the audit's entries take, in bytes.
pub const META_AUDIT: &str = "audit_bytes";

/// A row in its versioned form.
type Row = &'static [u8];

/// The plane's own row.
pub const PLANE: TableDefinition<(), Row> = TableDefinition::new("plane");
/// Hosts, by name.
pub const HOSTS: TableDefinition<&str, Row> = TableDefinition::new("hosts");
/// Guests, by UUID.
pub const VMS: TableDefinition<u128, Row> = TableDefinition::new("vms");
/// Embots, by their identity in its binary form.
pub const EMBOTS: TableDefinition<&[u8], Row> = TableDefinition::new("embots");
/// Timers, by number.
pub const TIMERS: TableDefinition<u64, Row> = TableDefinition::new("timers");
/// Facts accepted and not yet handled, by number.
pub const PENDING: TableDefinition<u64, Row> = TableDefinition::new("pending");
/// Actions, by number.
pub const ACTIONS: TableDefinition<u64, Row> = TableDefinition::new("actions");
/// The numbers of those actions that have ended: what may be dropped, the oldest first.
pub const ENDED: TableDefinition<u64, ()> = TableDefinition::new("ended");
/// Modules, by name.
pub const MODULES: TableDefinition<&str, Row> = TableDefinition::new("modules");
/// Usage histories, by element in its binary form.
pub const USAGE: TableDefinition<&[u8], Row> = TableDefinition::new("usage");
/// Migrations between planes, by name.
pub const MIGRATIONS: TableDefinition<&str, Row> = TableDefinition::new("migrations");
/// Where guests went, by UUID.
pub const TOMBSTONES: TableDefinition<u128, Row> = TableDefinition::new("tombstones");
/// Modules that came with guests, by name.
pub const MOBILE: TableDefinition<&str, Row> = TableDefinition::new("mobile");
/// Pieces of packages, by address.
pub const CONTENTS: TableDefinition<&[u8], Row> = TableDefinition::new("contents");
/// The journal: compressed batches, by number.
pub const JOURNAL: TableDefinition<u64, Row> = TableDefinition::new("journal");
/// The audit: its lines, by number.
pub const AUDIT: TableDefinition<u64, Row> = TableDefinition::new("audit");
/// That the store was made from a backup.
pub const RESTORED: TableDefinition<(), Row> = TableDefinition::new("restored");
/// Guests whose marks were not read since then, by UUID.
pub const UNCONFIRMED: TableDefinition<u128, Row> = TableDefinition::new("unconfirmed");

/// Calls a macro with the names of all tables.
macro_rules! every_table {
    ($with:ident) => {
        $with!(
            META,
            PLANE,
            HOSTS,
            VMS,
            EMBOTS,
            TIMERS,
            PENDING,
            ACTIONS,
            ENDED,
            MODULES,
            USAGE,
            MIGRATIONS,
            TOMBSTONES,
            MOBILE,
            CONTENTS,
            JOURNAL,
            AUDIT,
            RESTORED,
            UNCONFIRMED
        )
    };
}
pub(super) use every_table;

/// All tables, open for writing in one transaction.
pub struct Tables<'t> {
    pub meta: Table<'t, &'static str, u64>,
    pub plane: Table<'t, (), Row>,
    pub hosts: Table<'t, &'static str, Row>,
    pub vms: Table<'t, u128, Row>,
    pub embots: Table<'t, &'static [u8], Row>,
    pub timers: Table<'t, u64, Row>,
    pub pending: Table<'t, u64, Row>,
    pub actions: Table<'t, u64, Row>,
    pub ended: Table<'t, u64, ()>,
    pub modules: Table<'t, &'static str, Row>,
    pub usage: Table<'t, &'static [u8], Row>,
    pub migrations: Table<'t, &'static str, Row>,
    pub tombstones: Table<'t, u128, Row>,
    pub mobile: Table<'t, &'static str, Row>,
    pub contents: Table<'t, &'static [u8], Row>,
    pub journal: Table<'t, u64, Row>,
    pub audit: Table<'t, u64, Row>,
    pub restored: Table<'t, (), Row>,
    pub unconfirmed: Table<'t, u128, Row>,
}

impl<'t> Tables<'t> {
    /// Opens them all, and creates those that are missing.
    pub fn open(write: &'t WriteTransaction) -> Result<Tables<'t>, Fault> {
        Ok(Tables {
            meta: write.open_table(META)?,
            plane: write.open_table(PLANE)?,
            hosts: write.open_table(HOSTS)?,
            vms: write.open_table(VMS)?,
            embots: write.open_table(EMBOTS)?,
            timers: write.open_table(TIMERS)?,
            pending: write.open_table(PENDING)?,
            actions: write.open_table(ACTIONS)?,
            ended: write.open_table(ENDED)?,
            modules: write.open_table(MODULES)?,
            usage: write.open_table(USAGE)?,
            migrations: write.open_table(MIGRATIONS)?,
            tombstones: write.open_table(TOMBSTONES)?,
            mobile: write.open_table(MOBILE)?,
            contents: write.open_table(CONTENTS)?,
            journal: write.open_table(JOURNAL)?,
            audit: write.open_table(AUDIT)?,
            restored: write.open_table(RESTORED)?,
            unconfirmed: write.open_table(UNCONFIRMED)?,
        })
    }

    /// A number of [`META`]; 0 where it was never written.
    pub fn number(&self, key: &str) -> Result<u64, Fault> {
        Ok(self.meta.get(key)?.map_or(0, |value| value.value()))
    }
}

/// Makes a fresh file a store, or checks that it is one this program can read. Says whether it was fresh.
pub fn prepare(database: &Database, store: &Name) -> Result<bool, StoreError> {
    let fault = |fault: Fault| fault.on(store, Doing::Open);
    match schema(database).map_err(fault)? {
        Found::Nothing => create(database).map_err(fault).map(|()| true),
        Found::Schema(SCHEMA) => Ok(false),
        Found::Schema(found) if found > SCHEMA => Err(StoreError::Newer { store: store.clone(), found, known: SCHEMA }),
        Found::Schema(found) => {
            Err(StoreError::Damaged { store: store.clone(), what: format!("it claims schema version {found}") })
        }
        Found::Foreign(table) => Err(StoreError::Foreign { store: store.clone(), what: format!("it has a table `{table}`") }),
    }
}

/// What a database turned out to be.
enum Found {
    /// Empty.
    Nothing,
    /// A store of this schema version.
    Schema(u64),
    /// Some other program's; one of its tables.
    Foreign(String),
}

fn schema(database: &Database) -> Result<Found, Fault> {
    let read = database.begin_read()?;
    let other = || -> Result<Found, Fault> {
        let first = read.list_tables()?.map(|table| table.name().to_owned()).min();
        Ok(first.map_or(Found::Nothing, Found::Foreign))
    };
    match read.open_table(META) {
        Ok(meta) => meta.get(META_SCHEMA)?.map_or_else(other, |version| Ok(Found::Schema(version.value()))),
        Err(TableError::TableDoesNotExist(_)) => other(),
        Err(error) => Err(error.into()),
    }
}

fn create(database: &Database) -> Result<(), Fault> {
    let write = database.begin_write()?;
    let mut tables = Tables::open(&write)?;
    tables.meta.insert(META_SCHEMA, SCHEMA)?;
    drop(tables);
    Ok(write.commit()?)
}
