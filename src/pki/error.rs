//! What can go wrong with keys and certificates.

use std::io;
use std::path::PathBuf;

/// Why something about keys or certificates did not work.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The operating system refuses a file.
    #[error("cannot {what} {}: {source}", .path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// A file would be overwritten.
    #[error("{} is there already, and is left as it is; {hint}", .path.display())]
    Exists {
        /// Which.
        path: PathBuf,
        /// What to do instead.
        hint: &'static str,
    },
    /// A file does not hold what it should.
    #[error("{}: {what}", .path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A secret that others may read.
    #[error("{} may be read by everybody (mode {mode:03o}); a secret must not: `chmod 600 {}`", .path.display(), .path.display())]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// There is no authority here.
    #[error("there is no authority in {}; make one with `embot pki init`, or name its folder with --folder", .0.display())]
    NoAuthority(PathBuf),
    /// A name that no plane can have.
    #[error("`{0}` cannot be a plane's name; it has 1 to 64 of the letters a-z, digits, `-`, `_` and `.`")]
    Plane(String),
    /// Neither a host's name nor an address.
    #[error("`{0}` is neither a host's name nor an IP address")]
    Name(String),
    /// A certificate of no use.
    #[error("a certificate for {days} days is refused: {limit}")]
    Lifetime {
        /// What was asked for.
        days: u32,
        /// What is possible.
        limit: String,
    },
    /// The plane has a certificate.
    #[error(
        "{plane} has a certificate (serial {serial}); `embot pki renew {plane}` gives it a fresh one, `embot pki revoke {plane}` takes it back"
    )]
    Issued {
        /// Which plane.
        plane: String,
        /// Its certificate's serial number.
        serial: String,
    },
    /// Nothing was issued under this name or number.
    #[error("no certificate of `{0}` was issued here that is still valid; `embot pki show --all` lists all")]
    Unknown(String),
    /// The library that makes certificates refuses.
    #[error("cannot make the certificate: {0}")]
    Making(#[from] rcgen::Error),
    /// The TLS library refuses.
    #[error("cannot use the certificate: {0}")]
    Using(#[from] rustls::Error),
}
