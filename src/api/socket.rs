//! The daemon's socket: for its owner only, and for one daemon only.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tokio::net::{UnixListener, UnixStream};

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another daemon answers on it.
    #[error("another daemon answers on {}: stop it first, or give this one another `socket`", .0.display())]
    InUse(PathBuf),
    /// Something else stands there.
    #[error("{} exists and is no socket: remove it, or set another `socket`", .0.display())]
    NotASocket(PathBuf),
    /// The path is longer than the kernel allows.
    #[error("the socket's path {} is too long for a unix socket (at most 107 bytes): set a shorter `socket`", .0.display())]
    TooLong(PathBuf),
    /// The operating system refuses.
    #[error("cannot listen on {}: {source}", path.display())]
    Refused {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Listens at `path`, readable and writable by the owner only. A socket file that a dead daemon left is removed; one that is
/// answered is left alone.
pub async fn listen(path: &Path) -> Result<UnixListener, SocketError> {
    use std::os::unix::ffi::OsStrExt;
    if path.as_os_str().as_bytes().len() > 107 {
        return Err(SocketError::TooLong(path.to_owned()));
    }
    let refused = |source| SocketError::Refused { path: path.to_owned(), source };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(refused(error)),
        Ok(found) if !found.file_type().is_socket() => return Err(SocketError::NotASocket(path.to_owned())),
        Ok(_) => match UnixStream::connect(path).await {
            Ok(_) => return Err(SocketError::InUse(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path).map_err(refused)?,
            Err(error) => return Err(refused(error)),
        },
    }
    // Made under another name and moved to its place once its mode is set: nobody can connect in between.
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    std::fs::remove_file(&fresh).ok();
    let listener = UnixListener::bind(&fresh).map_err(refused)?;
    std::fs::set_permissions(&fresh, Permissions::from_mode(0o600)).map_err(refused)?;
    std::fs::rename(&fresh, path).map_err(refused)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_daemon_a_socket_and_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("embot.sock");
        let first = listen(&path).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(listen(&path).await, Err(SocketError::InUse(_))));
        drop(first);
        let second = listen(&path).await.unwrap();
        assert!(UnixStream::connect(&path).await.is_ok(), "a dead daemon's socket was replaced");
        drop(second);
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.txt");
        std::fs::write(&path, "mine").unwrap();
        assert!(matches!(listen(&path).await, Err(SocketError::NotASocket(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
        let long = folder.path().join("x".repeat(120));
        assert!(matches!(listen(&long).await, Err(SocketError::TooLong(_))));
        assert!(matches!(listen(&folder.path().join("none/embot.sock")).await, Err(SocketError::Refused { .. })));
    }
}
