//! What can go wrong with a store, in words an admin can act upon.

use redb::{CommitError, CompactionError, DatabaseError, StorageError, TableError, TransactionError};
use std::fmt;
use std::io;
use std::sync::Arc;

/// A store's name for messages: its path, or what it is where it has none.
pub type Name = Arc<str>;

/// Why the store could not do what was asked. After a failed commit the store takes no more: whether the failed batches are
/// in the file shows when it is opened again; nothing that depends on them may leave before.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the file open.
    #[error(
        "the store {store} is in use: another embot runs on it. Stop that one first, ask it through its socket instead, or \
         give this one a store of its own"
    )]
    InUse {
        /// Which store.
        store: Name,
    },
    /// A newer program wrote it.
    #[error(
        "the store {store} was written by a newer embot: it has schema version {found}, this program knows up to version \
         {known}. Run the newer embot on it, or restore a backup made before the upgrade"
    )]
    Newer {
        /// Which store.
        store: Name,
        /// The file's schema version.
        found: u64,
        /// The newest that this program knows.
        known: u64,
    },
    /// It is something else.
    #[error(
        "{store} is not a store of embot: {what}. Name another file, or move this one away; a new store is made where none is"
    )]
    Foreign {
        /// Which file.
        store: Name,
        /// How that shows.
        what: String,
    },
    /// It cannot be read.
    #[error(
        "the store {store} is damaged: {what}. Restore a backup (`embot backup restore FILE`), or move the file away and start with an empty store: the \
         plane then reads its hosts anew and only observes its guests, until told otherwise"
    )]
    Damaged {
        /// Which store.
        store: Name,
        /// Where, and how that shows.
        what: String,
    },
    /// The disk or the system refused.
    #[error("cannot {doing} the store {store}. {}", advice(*doing, source))]
    Io {
        /// Which store.
        store: Name,
        /// What was attempted.
        doing: Doing,
        /// What the system said.
        source: io::Error,
    },
    /// An earlier commit failed; nothing more is written.
    #[error("the store {store} takes nothing more since an earlier write failed. Mend what that error names, then start again")]
    Closed {
        /// Which store.
        store: Name,
    },
    /// Batches out of order: a fault of this program, refused so that it cannot spoil the file.
    #[error("batch {found} came to the store {store} after batch {last}. This is a fault in embot: please report it")]
    OutOfOrder {
        /// Which store.
        store: Name,
        /// The last batch that was committed.
        last: u64,
        /// The one that came.
        found: u64,
    },
    /// An export, or a backup, could not be written out.
    #[error("cannot write the export")]
    Export(#[source] io::Error),
}

/// What was being done when an error came up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// Open or create it.
    Open,
    /// Read from it.
    Read,
    /// Write to it.
    Write,
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Doing::Open => "open",
            Doing::Read => "read",
            Doing::Write => "write to",
        })
    }
}

fn advice(doing: Doing, error: &io::Error) -> &'static str {
    match (error.kind(), doing) {
        (io::ErrorKind::NotFound, _) => "The folder it is to lie in does not exist: create it",
        (io::ErrorKind::PermissionDenied, _) => "Give the user who runs embot the right to write the file and its folder",
        (io::ErrorKind::ReadOnlyFilesystem, _) => {
            "Its file system is mounted read-only: remount it, or put the store elsewhere"
        }
        (io::ErrorKind::IsADirectory, _) => "That is a folder: name a file in it",
        (io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded, _) => {
            "Free some space on its file system (a lower journal limit helps only later), then start again: what was committed \
             before is whole"
        }
        (_, Doing::Write) => "Look for errors of the disk in the system's log; what was committed before is whole",
        _ => "Look for errors of the disk in the system's log",
    }
}

/// A failure inside a transaction, before it is known whose store it is.
#[derive(Debug)]
pub enum Fault {
    /// redb's.
    Redb(redb::Error),
    /// A row that cannot be read: where, and how that shows.
    Row(String),
    /// A batch that does not follow the last one.
    Order {
        /// The last.
        last: u64,
        /// The one that came.
        found: u64,
    },
}

impl Fault {
    /// The same in the words of the store concerned.
    pub fn on(self, store: &Name, doing: Doing) -> StoreError {
        let store = store.clone();
        let error = match self {
            Fault::Row(what) => return StoreError::Damaged { store, what },
            Fault::Order { last, found } => return StoreError::OutOfOrder { store, last, found },
            Fault::Redb(error) => error,
        };
        match error {
            redb::Error::DatabaseAlreadyOpen => StoreError::InUse { store },
            redb::Error::PreviousIo | redb::Error::DatabaseClosed | redb::Error::LockPoisoned(_) => {
                StoreError::Closed { store }
            }
            // Where the first bytes are not redb's.
            redb::Error::Io(error) if doing == Doing::Open && error.kind() == io::ErrorKind::InvalidData => {
                StoreError::Foreign { store, what: error.to_string() }
            }
            redb::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                StoreError::Damaged { store, what: "it ends too early".to_owned() }
            }
            redb::Error::Io(source) => StoreError::Io { store, doing, source },
            redb::Error::Corrupted(what) => StoreError::Damaged { store, what },
            other => StoreError::Damaged { store, what: other.to_string() },
        }
    }
}

macro_rules! from_redb {
    ($($error:ty),*) => {
        $(impl From<$error> for Fault {
            fn from(error: $error) -> Fault {
                Fault::Redb(error.into())
            }
        })*
    };
}
from_redb!(CommitError, CompactionError, DatabaseError, StorageError, TableError, TransactionError);
