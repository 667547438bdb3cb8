//! Files that hold secrets, or that must never be seen half written.

use super::PkiError;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Only the owner.
pub(crate) const PRIVATE: u32 = 0o600;
/// Everybody may read.
pub(super) const PUBLIC: u32 = 0o644;

/// What tells one state of files from another; equal where nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileState(Vec<Option<(u64, [i64; 4], u64)>>);

impl FileState {
    /// The state of these files. Files that cannot be looked at count as a state of their own.
    pub(crate) fn of<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> FileState {
        // The second pair of times changes with the mode and the owner as well, which may have kept the file from being read.
        let times = |of: &fs::Metadata| [of.mtime(), of.mtime_nsec(), of.ctime(), of.ctime_nsec()];
        let look = |path: &PathBuf| fs::metadata(path).ok().map(|of| (of.ino(), times(&of), of.size()));
        FileState(paths.into_iter().map(look).collect())
    }
}

pub(super) fn refused(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> PkiError {
    let path = path.to_owned();
    move |source| PkiError::File { what, path, source }
}

/// A folder that only its owner may look into, if it is not there yet.
pub(super) fn private_folder(path: &Path) -> Result<(), PkiError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(refused("make the folder", path))
}

/// Writes a file that must not be there yet.
pub(super) fn write_new(path: &Path, mode: u32, content: &[u8], hint: &'static str) -> Result<(), PkiError> {
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => PkiError::Exists { path: path.to_owned(), hint },
            _ => refused("write", path)(error),
        })?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(refused("write", path))
}

/// Puts a file in the place of another; readers see the old or the new one, never a part.
pub(crate) fn replace(path: &Path, mode: u32, content: &[u8]) -> Result<(), PkiError> {
    let beside = beside(path, "new");
    // Left by a process that was killed while it wrote.
    fs::remove_file(&beside).ok();
    write_new(&beside, mode, content, "another process writes it")?;
    fs::rename(&beside, path).map_err(refused("write", path))?;
    // Only then it stays so, whatever happens to the machine.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(refused("write", path))
}

/// The path of a file next to another, with this at the end of its name.
pub(super) fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(end);
    path.with_file_name(name)
}

/// Reads a text.
pub(super) fn read(path: &Path) -> Result<String, PkiError> {
    fs::read_to_string(path).map_err(refused("read", path))
}

/// Reads a secret's text, unless everybody may.
pub(crate) fn read_private(path: &Path) -> Result<String, PkiError> {
    let mode = fs::metadata(path).map_err(refused("read", path))?.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        return Err(PkiError::Exposed { path: path.to_owned(), mode });
    }
    read(path)
}
