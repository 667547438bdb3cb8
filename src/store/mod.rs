//! The store: rows of what is, and the journal of what happened, in one redb file.
//!
//! ```text
//! manager --Batch--> writer (thread) --one transaction for all that wait--> file
//!                       +--Committed--> manager: outputs of these batches may leave
//! ```
//! Guarantees:
//! - [`Store::commit`] puts batches into one transaction that is on disk when it returns: all of them, or none.
//! - After a crash at any moment, [`Store::open`] gives the state after some prefix of the batches; that prefix holds every
//!   batch whose commit returned. The crash tests try a crash at every write and every sync.
//! - The journal is whole and readable while batches are committed; old entries go by the bytes they take.
//! - A file of a newer program, of another program, in use, or damaged is refused with an error that says what to do.
//!
//! Disk forms are versioned and kept apart from the model in `record`; `tables` knows the file's layout.

mod audit;
mod backup;
mod commit;
mod disk;
mod error;
mod journal;
mod record;
mod recovery;
mod restore;
mod tables;
mod writer;

#[cfg(test)]
mod tests;

pub use audit::{Audit, AuditFault, AuditFilter, AuditHead, AuditLine, Chain, Verified};
pub use backup::BackupHead;
pub use disk::{Crash, SimulatedDisk};
pub use error::{Doing, StoreError};
pub use journal::{Batches, Journal, JournalExtent, Sizes, export_batch};
pub use recovery::Recovered;
pub use restore::{BackupError, BackupView, Restore, audit_of, verify as verify_backup};
pub use writer::{Committed, Writer};

use crate::model::{Batch, Span};
use error::{Fault, Name};
use redb::{Database, Durability, StorageBackend};
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Memory for the file's pages. Rows live in the manager's memory as well, so this only has to hold what commits touch.
const CACHE_BYTES: usize = 16 * 1_024 * 1_024;

/// How much of the past is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Journal entries are dropped, the oldest first, when together they take more than this. The file can be twice as large:
    /// it grows by doubling and does not shrink.
    pub journal_bytes: u64,
    /// So many actions that have ended are kept, those with the highest numbers.
    pub ended_actions: u64,
    /// Entries of the audit are dropped, the oldest first, when together they take more than this...
    pub audit_bytes: u64,
    /// ... or are older than this.
    pub audit_age: Span,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention {
            journal_bytes: 1_024 * 1_024 * 1_024,
            ended_actions: 10_000,
            audit_bytes: 1_024 * 1_024 * 1_024,
            audit_age: Span::hours(24 * 3_650),
        }
    }
}

/// Makes a store's file under another name, and gives it its own once it is whole. What is there is kept as `aside`, and has its
/// place until the new one takes it, in one step. Without `aside` nothing may be there; `None`: somebody else was quicker. (redb
/// cannot open what a crash left of a file it was creating.)
fn place<T, E: From<StoreError>>(
    path: &Path,
    name: &Name,
    make: impl FnOnce(File) -> Result<T, E>,
    aside: Option<&Path>,
) -> Result<Option<T>, E> {
    let refused = |source| E::from(StoreError::Io { store: name.clone(), doing: Doing::Open, source });
    let unfinished = path.with_added_extension(format!("new-{}", std::process::id()));
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true);
    // Policies and what they remember are nobody else's business.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(&unfinished).map_err(refused)?;
    let placed = make(file).and_then(|made| {
        let placed = match aside {
            Some(aside) => std::fs::hard_link(path, aside).and_then(|()| std::fs::rename(&unfinished, path)),
            None => std::fs::hard_link(&unfinished, path),
        };
        match placed {
            Err(error) if aside.is_none() && error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            result => result.map(|()| Some(made)).map_err(refused),
        }
    });
    let removed = match std::fs::remove_file(&unfinished) {
        // It has its own name now.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(refused),
    };
    let placed = placed.and_then(|placed| removed.map(|()| placed))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(refused)?;
    Ok(placed)
}

/// Makes an empty store. Where another embot is quicker, it shows next whether that still runs on it.
fn create(path: &Path, name: &Name) -> Result<(), StoreError> {
    let make = |file| Store::prepare(name.clone(), |builder| builder.create_file(file)).map(drop);
    place(path, name, make, None).map(drop)
}

/// Locks a store's file as whoever opens it does, until the file is dropped.
fn lock(path: &Path, name: &Name) -> Result<File, StoreError> {
    let refused = |source| StoreError::Io { store: name.clone(), doing: Doing::Open, source };
    let file = File::open(path).map_err(refused)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { store: name.clone() }),
        Err(TryLockError::Error(error)) => Err(refused(error)),
    }
}

/// An open store. Exactly one process has it open.
#[derive(Debug)]
pub struct Store {
    database: Arc<Database>,
    name: Name,
    retention: Retention,
}

impl Store {
    /// Opens the store at `path`, or creates it where there is none, and reads the state it holds.
    pub fn open(path: &Path, retention: Retention) -> Result<(Store, Recovered), StoreError> {
        let name: Name = path.display().to_string().into();
        let refused = |source| StoreError::Io { store: name.clone(), doing: Doing::Open, source };
        if !path.try_exists().map_err(refused)? {
            create(path, &name)?;
        }
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(refused)?;
        // redb would take it for a new one.
        if file.metadata().map_err(refused)?.len() == 0 {
            return Err(StoreError::Damaged { store: name, what: "its file is empty".to_owned() });
        }
        let (store, recovered) = Store::prepare(name, |builder| builder.create_file(file))?;
        Ok((store.keeping(retention), recovered))
    }

    /// Gives what is free in a store's file back to the file system; nobody may have it open. Returns what it took and takes.
    pub fn compact(path: &Path) -> Result<(u64, u64), StoreError> {
        let (store, _) = Store::open(path, Retention::default())?;
        let failed = |fault: Fault| fault.on(&store.name, Doing::Write);
        let size =
            || std::fs::metadata(path).map(|file| file.len()).map_err(|error| failed(redb::StorageError::Io(error).into()));
        let before = size()?;
        // Nobody else has it yet.
        if let Some(mut database) = Arc::into_inner(store.database) {
            database.compact().map_err(|error| Fault::from(error).on(&store.name, Doing::Write))?;
        }
        Ok((before, size()?))
    }

    /// An empty store without a file; what it holds ends with it.
    pub fn in_memory() -> Result<Store, StoreError> {
        Store::with_backend("in memory", redb::backends::InMemoryBackend::new()).map(|(store, _)| store)
    }

    /// A store on a disk that fails as it is told; to reopen it, drop the store and give the same disk again.
    pub fn on_disk(disk: &SimulatedDisk) -> Result<(Store, Recovered), StoreError> {
        Store::with_backend("on a simulated disk", disk.clone())
    }

    /// A store on any storage that redb can use; `name` is for messages.
    pub fn with_backend(name: &str, backend: impl StorageBackend) -> Result<(Store, Recovered), StoreError> {
        Store::prepare(name.into(), |builder| builder.create_with_backend(backend))
    }

    fn prepare(
        name: Name,
        open: impl FnOnce(&redb::Builder) -> Result<Database, redb::DatabaseError>,
    ) -> Result<(Store, Recovered), StoreError> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        let database = open(&builder).map_err(|error| Fault::from(error).on(&name, Doing::Open))?;
        tables::prepare(&database, &name)?;
        let recovered = recovery::recover(&database).map_err(|fault| fault.on(&name, Doing::Read))?;
        Ok((Store { database: Arc::new(database), name, retention: Retention::default() }, recovered))
    }

    /// The same with other limits on what it keeps.
    pub fn keeping(self, retention: Retention) -> Store {
        Store { retention, ..self }
    }

    /// Commits batches, in order, in one transaction that is durable when this returns. Their numbers must rise. After an
    /// error nothing more can be committed: open the store again to see what it holds.
    pub fn commit(&mut self, batches: &[Batch]) -> Result<(), StoreError> {
        if batches.is_empty() {
            return Ok(());
        }
        self.transact(batches).map_err(|fault| fault.on(&self.name, Doing::Write))
    }

    fn transact(&self, batches: &[Batch]) -> Result<(), Fault> {
        // redb's quick repair stays off: it costs every commit a second sync (twice the time), to save 2 s of opening after a
        // crash with a 2 GiB file.
        let mut write = self.database.begin_write()?;
        write.set_durability(Durability::Immediate).map_err(|error| Fault::Redb(error.into()))?;
        let mut tables = tables::Tables::open(&write)?;
        commit::apply(&mut tables, batches, self.retention)?;
        drop(tables);
        Ok(write.commit()?)
    }

    /// The audit, to be read from any thread.
    pub fn audit(&self) -> Audit {
        self.journal().audit()
    }

    /// The journal, to be read from any thread.
    pub fn journal(&self) -> Journal {
        Journal { database: self.database.clone(), name: self.name.clone() }
    }

    /// The store's path, or what it is where it has none.
    pub fn name(&self) -> &str {
        &self.name
    }
}
