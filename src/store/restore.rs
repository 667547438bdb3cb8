//! Reads backups: checks them, and makes stores from them.
//!
//! Everything is checked on the way: lengths, the form of every row, the sum over all, the chain of the audit. A store made from
//! a backup takes its place only when it is whole. It says of itself that it was restored, so that the plane that runs on it
//! does not take the past for the present.

use super::audit::{self, AuditFault, Chain, Verified};
use super::backup::{BackupHead, FORMAT, MAGIC, PIECE};
use super::error::{Doing, Fault, StoreError};
use super::tables::{self, every_table};
use super::{Recovered, Retention, Store, record};
use crate::model::{AuditEntry, Batch, Change, Level, Record, Restored, Timestamp};
use redb::{Database, Key, Table, TableDefinition, Value, WriteTransaction};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

/// The longest head that is read.
const HEAD_BYTES: usize = 64 * 1_024;
/// The longest key or value that is read.
const ITEM_BYTES: usize = 1_024 * 1_024 * 1_024;
const SUM_BYTES: usize = 32;

/// What was found in a sound backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupView {
    /// What it says of itself.
    #[serde(flatten)]
    pub head: BackupHead,
    /// Guests in it.
    pub guests: usize,
    /// Hosts.
    pub hosts: usize,
    /// Modules.
    pub modules: usize,
    /// Entries of the journal.
    pub journal_entries: u64,
    /// The audit in it, where it is whole.
    pub verified: Option<Verified>,
    /// What is wrong with its audit, where something is: the rest is sound nevertheless, and can be restored.
    pub audit_fault: Option<String>,
}

/// Why a backup cannot be read or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// It cannot be read.
    #[error("cannot read the backup {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is something else.
    #[error("{} is not a backup of a plane: it does not begin as one. `embot backup FILE` makes them", path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
    },
    /// A newer program made it.
    #[error("the backup {} was made by a newer embot (its {what} is {found}, this program knows up to {known}): restore it with that one", path.display())]
    Newer {
        /// Which.
        path: PathBuf,
        /// `form` or `schema`.
        what: &'static str,
        /// Its version.
        found: u64,
        /// The newest known.
        known: u64,
    },
    /// It is not as it was written.
    #[error("the backup {} is damaged: {what}. Nothing was restored from it; take another one", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// How that shows.
        what: String,
    },
    /// It is of another plane.
    #[error(
        "the backup {} is of plane `{found}`, and the configuration is that of plane `{plane}`: guests carry the name of their \
         plane, so a plane cannot go on under another. Name the configuration of `{found}` with --config",
        path.display()
    )]
    OtherPlane {
        /// Which.
        path: PathBuf,
        /// Its plane.
        found: String,
        /// The plane wanted.
        plane: String,
    },
    /// There is a store already.
    #[error("there is a store already: {}. With --force it is set aside, under another name, and the backup takes its place", store.display())]
    Exists {
        /// Which.
        store: PathBuf,
    },
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a reader of a backup stumbles over, before it is known which file that is.
enum Trouble {
    Io(io::Error),
    Damaged(String),
    Foreign,
    Newer(&'static str, u64, u64),
    Store(Fault),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Trouble::Damaged("it ends too early".to_owned()),
            _ => Trouble::Io(error),
        }
    }
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Trouble {
        match fault {
            Fault::Row(what) => Trouble::Damaged(what),
            fault => Trouble::Store(fault),
        }
    }
}

macro_rules! from_redb {
    ($($error:ty),*) => { $(impl From<$error> for Trouble {
        fn from(error: $error) -> Trouble {
            Trouble::Store(error.into())
        }
    })* };
}
from_redb!(redb::CommitError, redb::DatabaseError, redb::StorageError, redb::TableError, redb::TransactionError);

impl Trouble {
    fn of(self, path: &Path) -> BackupError {
        let path = path.to_owned();
        match self {
            Trouble::Io(source) => BackupError::Read { path, source },
            Trouble::Damaged(what) => BackupError::Damaged { path, what },
            Trouble::Foreign => BackupError::Foreign { path },
            Trouble::Newer(what, found, known) => BackupError::Newer { path, what, found, known },
            Trouble::Store(fault) => BackupError::Store(fault.on(&"made from the backup".into(), Doing::Write)),
        }
    }
}

/// Reads a backup, hashing what it reads.
struct Reading<'a> {
    input: &'a mut dyn Read,
    sum: Sha256,
    passed: u64,
    progress: &'a mut dyn FnMut(u64),
}

impl Reading<'_> {
    fn exactly(&mut self, bytes: &mut [u8]) -> Result<(), Trouble> {
        self.input.read_exact(bytes)?;
        self.sum.update(&*bytes);
        let before = self.passed;
        self.passed += bytes.len() as u64;
        if before >> 20 != self.passed >> 20 {
            (self.progress)(self.passed);
        }
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, Trouble> {
        let mut byte = [0];
        self.exactly(&mut byte)?;
        Ok(byte[0])
    }

    /// Is there one more?
    fn more(&mut self) -> Result<bool, Trouble> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(Trouble::Damaged(format!("there is a {other} where a row or its end should be"))),
        }
    }

    fn item(&mut self, item: &mut Vec<u8>) -> Result<(), Trouble> {
        let mut length = [0; 4];
        self.exactly(&mut length)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > ITEM_BYTES {
            return Err(Trouble::Damaged(format!("a row claims {length} bytes")));
        }
        item.clear();
        // What a damaged length claims must not be allocated at once.
        while item.len() < length {
            let start = item.len();
            item.resize(length.min(start + PIECE), 0);
            self.exactly(&mut item[start..])?;
        }
        Ok(())
    }

    fn head(&mut self) -> Result<BackupHead, Trouble> {
        let mut magic = [0; MAGIC.len()];
        match self.exactly(&mut magic) {
            Ok(()) if magic == MAGIC => {}
            Ok(()) | Err(Trouble::Damaged(_)) => return Err(Trouble::Foreign),
            Err(error) => return Err(error),
        }
        let mut text = Vec::new();
        loop {
            match self.byte()? {
                b'\n' => break,
                _ if text.len() > HEAD_BYTES => return Err(Trouble::Damaged("its head does not end".to_owned())),
                byte => text.push(byte),
            }
        }
        let unread = |error: serde_json::Error| Trouble::Damaged(format!("its head is not understood: {error}"));
        let format = serde_json::from_slice::<serde_json::Value>(&text).map_err(unread)?["format"].as_u64().unwrap_or(0);
        if format > u64::from(FORMAT) {
            return Err(Trouble::Newer("form", format, u64::from(FORMAT)));
        }
        let head: BackupHead = serde_json::from_slice(&text).map_err(unread)?;
        if head.schema > tables::SCHEMA {
            return Err(Trouble::Newer("schema", head.schema, tables::SCHEMA));
        }
        Ok(head)
    }

    /// All sections, each row given to `take`; then the sum.
    fn sections(&mut self, mut take: impl FnMut(&mut Reading<'_>, &str) -> Result<(), Trouble>) -> Result<(), Trouble> {
        while self.more()? {
            let mut name = vec![0; usize::from(self.byte()?)];
            self.exactly(&mut name)?;
            let name = String::from_utf8(name).map_err(|_| Trouble::Damaged("a table has no name".to_owned()))?;
            take(self, &name)?;
        }
        let sum = std::mem::take(&mut self.sum).finalize();
        let mut told = [0; SUM_BYTES];
        self.input.read_exact(&mut told)?;
        if sum[..] != told || self.input.read(&mut [0])? != 0 {
            return Err(Trouble::Damaged("its sum is not that of what it holds".to_owned()));
        }
        Ok(())
    }
}

/// Which rows go into the database, and what is found out on the way.
struct Load {
    /// The journal and the audit too?
    past: bool,
    journal_entries: u64,
    chain: Chain,
    fault: Option<AuditFault>,
}

impl Load {
    fn rows<K: Key + 'static, V: Value + 'static>(
        &mut self,
        from: &mut Reading<'_>,
        write: &WriteTransaction,
        definition: TableDefinition<'static, K, V>,
    ) -> Result<(), Trouble> {
        let name = redb::TableHandle::name(&definition).to_owned();
        let (journal, audit) =
            (name == redb::TableHandle::name(&tables::JOURNAL), name == redb::TableHandle::name(&tables::AUDIT));
        let mut table: Table<'_, K, V> = write.open_table(definition)?;
        let (mut key, mut value) = (Vec::new(), Vec::new());
        while from.more()? {
            from.item(&mut key)?;
            from.item(&mut value)?;
            fits::<K>(&name, &key)?;
            fits::<V>(&name, &value)?;
            if journal || audit {
                let number = <[u8; 8]>::try_from(&key[..]).map(u64::from_le_bytes).unwrap_or_default();
                // The row's own form: what redb puts around it is nothing for byte slices.
                if journal {
                    self.journal_entries += 1;
                    record::decode_entry(number, &value)?;
                } else {
                    let text = audit::text_of(number, &value)?;
                    self.fault = self.fault.take().or_else(|| self.chain.take(&text).err());
                }
                if !self.past {
                    continue;
                }
            }
            table.insert(K::from_bytes(&key), V::from_bytes(&value))?;
        }
        Ok(())
    }
}

/// Are these bytes what redb can read as such a key or value? It trusts what it is given.
fn fits<T: Value>(table: &str, bytes: &[u8]) -> Result<(), Trouble> {
    let wrong = || Trouble::Damaged(format!("a row of table {table} has {} bytes where they do not fit", bytes.len()));
    match T::fixed_width() {
        Some(width) if bytes.len() != width => Err(wrong()),
        None if T::type_name() == <&str>::type_name() => std::str::from_utf8(bytes).map(drop).map_err(|_| wrong()),
        _ => Ok(()),
    }
}

/// What a backup says of itself, how many entries its journal has, and its audit.
type Loaded = (BackupHead, u64, Result<Verified, AuditFault>);

/// Reads a backup into an empty database, checking everything on the way.
fn load(path: &Path, database: &Database, past: bool, progress: &mut dyn FnMut(u64)) -> Result<Loaded, Trouble> {
    let mut input = BufReader::with_capacity(PIECE, File::open(path)?);
    let mut reading = Reading { input: &mut input, sum: Sha256::new(), passed: 0, progress };
    let head = reading.head()?;
    let mut load = Load { past, journal_entries: 0, fault: None, chain: Chain::with_head(Some(head.audit)) };
    let write = database.begin_write()?;
    reading.sections(|from, name| {
        macro_rules! by_name {
            ($($table:ident),*) => {
                match name {
                    $(name if name == redb::TableHandle::name(&tables::$table) => load.rows(from, &write, tables::$table),)*
                    other => Err(Trouble::Damaged(format!("it has a table `{other}`, which no store of this program has"))),
                }
            };
        }
        every_table!(by_name)
    })?;
    write.commit()?;
    let audit = load.fault.map_or_else(|| load.chain.finish(), Err);
    Ok((head, load.journal_entries, audit))
}

/// Checks a backup: its sum, every row, and the chain of its audit. `progress` is told how many bytes are read.
pub fn verify(path: &Path, progress: &mut dyn FnMut(u64)) -> Result<BackupView, BackupError> {
    let mut view = None;
    Store::prepare("in the backup".into(), |builder| {
        let database = builder.create_with_backend(redb::backends::InMemoryBackend::new())?;
        view = Some(load(path, &database, false, progress));
        Ok(database)
    })
    .map_err(BackupError::from)
    .and_then(|opened| found(path, view, &opened.1))
}

fn found(path: &Path, loaded: Option<Result<Loaded, Trouble>>, recovered: &Recovered) -> Result<BackupView, BackupError> {
    let nothing = || Trouble::Damaged("nothing is in it".to_owned());
    let (head, journal_entries, audit) = loaded.unwrap_or_else(|| Err(nothing())).map_err(|trouble| trouble.of(path))?;
    Ok(BackupView {
        head,
        guests: recovered.vms.len(),
        hosts: recovered.hosts.len(),
        modules: recovered.modules.len(),
        journal_entries,
        verified: audit.as_ref().ok().copied(),
        audit_fault: audit.err().map(|fault| fault.to_string()),
    })
}

/// How a restore is to be done.
#[derive(Debug, Clone, Copy)]
pub struct Restore<'a> {
    /// The backup.
    pub backup: &'a Path,
    /// The store that is to be made.
    pub store: &'a Path,
    /// The plane that is to run on it.
    pub plane: &'a str,
    /// Who restores.
    pub by: &'a str,
    /// Now.
    pub now: Timestamp,
    /// Is a store that is there set aside?
    pub force: bool,
}

impl Restore<'_> {
    /// Makes a store from a backup, and says where one that was there is now. The store takes its place only when it is whole, in
    /// one step; until then nothing has changed.
    pub fn run(&self, progress: &mut dyn FnMut(u64)) -> Result<(BackupView, Option<PathBuf>), BackupError> {
        let name: super::error::Name = self.store.display().to_string().into();
        let refused = |source| StoreError::Io { store: name.clone(), doing: Doing::Open, source };
        let exists = self.store.try_exists().map_err(refused)?;
        // Held until the end: no daemon starts on it meanwhile.
        let _old = exists.then(|| super::lock(self.store, &name)).transpose()?;
        if exists && !self.force {
            return Err(BackupError::Exists { store: self.store.to_owned() });
        }
        let mut names = (1..).map(|number| self.store.with_added_extension(format!("before-restore-{number}")));
        let aside = if exists { names.find(|path| !path.exists()) } else { None };
        let view = super::place(self.store, &name, |file| self.fill(file, progress), aside.as_deref())?;
        match view {
            Some(view) => Ok((view, aside)),
            None => Err(BackupError::Exists { store: self.store.to_owned() }),
        }
    }

    fn fill(&self, file: File, progress: &mut dyn FnMut(u64)) -> Result<BackupView, BackupError> {
        self.hand_over(&file)?;
        let mut loaded = None;
        let opened = Store::prepare("made from the backup".into(), |builder| {
            let database = builder.create_file(file)?;
            loaded = Some(load(self.backup, &database, true, progress));
            Ok(database)
        });
        // What is wrong with the backup says more than what is wrong with what was made of it.
        if let Some(Err(trouble)) = loaded {
            return Err(trouble.of(self.backup));
        }
        let (store, recovered) = opened?;
        let view = found(self.backup, loaded, &recovered)?;
        if view.head.plane != self.plane {
            let (path, found) = (self.backup.to_owned(), view.head.plane);
            return Err(BackupError::OtherPlane { path, found, plane: self.plane.to_owned() });
        }
        // Nothing of the past goes with the first commit: the daemon knows how much is to be kept.
        let everything = Retention { journal_bytes: u64::MAX, ended_actions: u64::MAX, ..Retention::default() };
        store.keeping(everything).commit(&[self.first_batch(&view.head, &recovered)])?;
        Ok(view)
    }

    /// The store belongs to whoever had the one before, else to whoever its folder belongs to: a daemon under a name of its own
    /// could not open what root has made.
    fn hand_over(&self, file: &File) -> Result<(), BackupError> {
        use std::os::unix::fs::MetadataExt;
        let refused = |source| StoreError::Io { store: self.store.display().to_string().into(), doing: Doing::Open, source };
        let folder = self.store.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let owner = std::fs::metadata(self.store).or_else(|_| std::fs::metadata(folder)).map_err(refused)?;
        let mine = file.metadata().map_err(refused)?;
        if (mine.uid(), mine.gid()) != (owner.uid(), owner.gid()) && mine.uid() == 0 {
            std::os::unix::fs::fchown(file, Some(owner.uid()), Some(owner.gid())).map_err(refused)?;
        }
        Ok(())
    }

    /// What the restored store knows besides what the backup knew.
    fn first_batch(&self, head: &BackupHead, recovered: &Recovered) -> Batch {
        let now = self.now.max(recovered.last_now);
        let made = jiff::Timestamp::from_millisecond(head.made_at.0).map(|made| made.to_string()).unwrap_or_default();
        let text = format!("restored from the backup of {made}, which ends with batch {}", head.batch);
        let entry = AuditEntry {
            at: now,
            by: self.by.into(),
            what: audit::RESTORED.into(),
            action: None,
            elements: Vec::new(),
            text: text.clone(),
            answer: None,
        };
        let changes =
            vec![Change::Restored(Restored { backup_at: head.made_at, taken_over_at: None }), Change::Audit(Box::new(entry))];
        let records = vec![Record::Notice { level: Level::Warning, text: format!("the store was {text}") }];
        Batch { seq: recovered.plane.next_batch, now, records, changes, durable: true, ..Batch::default() }
    }
}

/// Gives the lines of the audit in a backup, or in a store that is not in use, to `take`, until it has enough.
pub fn audit_of(
    path: &Path,
    take: &mut dyn FnMut(&str) -> Result<(), AuditFault>,
) -> Result<Result<(), AuditFault>, BackupError> {
    let is_backup = || -> io::Result<bool> {
        let mut magic = [0; MAGIC.len()];
        match File::open(path)?.read_exact(&mut magic) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            result => result.map(|()| magic == MAGIC),
        }
    };
    if !is_backup().map_err(|source| BackupError::Read { path: path.to_owned(), source })? {
        let (store, _) = Store::open(path, Retention::default())?;
        let mut result = Ok(());
        store.audit().lines(&mut |line| {
            result = take(line);
            result.is_ok()
        })?;
        return Ok(result);
    }
    let mut lines = || -> Result<Result<(), AuditFault>, Trouble> {
        let mut input = BufReader::with_capacity(PIECE, File::open(path)?);
        let mut reading = Reading { input: &mut input, sum: Sha256::new(), passed: 0, progress: &mut |_| {} };
        reading.head()?;
        let (mut result, mut key, mut value) = (Ok(()), Vec::new(), Vec::new());
        reading.sections(|from, name| {
            while from.more()? {
                from.item(&mut key)?;
                from.item(&mut value)?;
                if name == redb::TableHandle::name(&tables::AUDIT) && result.is_ok() {
                    result = take(&audit::text_of(0, &value)?);
                }
            }
            Ok(())
        })?;
        Ok(result)
    };
    lines().map_err(|trouble| trouble.of(path))
}
