//! The file of tokens: JSON with a version, for its owner only, never seen half written.

use super::super::caller::Role;
use super::super::stamp::Stamp;
use crate::model::Timestamp;
use crate::pki::{PkiError, files};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The version of the file's form.
const VERSION: u32 = 1;

/// What is kept of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Its name, which stands in the journal with what is done by it.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// The SHA-256 of the secret, in hexadecimal digits.
    pub hash: String,
    /// When it was made.
    pub created: Stamp,
    /// By whom.
    pub by: String,
    /// From when on it is over; without it, never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Stamp>,
    /// Since when it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Stamp>,
}

impl Token {
    /// Neither revoked nor over?
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.revoked.is_none() && self.expires.is_none_or(|at| now < at.0)
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    version: u32,
    tokens: Vec<Token>,
}

/// Why the file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// The operating system refuses.
    #[error("cannot read the tokens in {} (`api.tokens`): {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
    /// Others than the owner may use it.
    #[error("the tokens in {} may be read or changed by others (mode {mode:03o}): `chmod 600 {}`", path.display(), path.display())]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It does not hold what it should.
    #[error("the tokens in {} cannot be understood: {what}; put a good copy in its place, or remove it and make new tokens", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

pub(super) fn read(path: &Path) -> Result<Vec<Token>, TokensError> {
    let file = |source| TokensError::File { path: path.to_owned(), source };
    let mode = match fs::metadata(path) {
        Ok(found) => found.permissions().mode() & 0o777,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(file(error)),
    };
    if mode & 0o077 != 0 {
        return Err(TokensError::Exposed { path: path.to_owned(), mode });
    }
    let text = fs::read_to_string(path).map_err(file)?;
    let wrong = |what: String| TokensError::Content { path: path.to_owned(), what };
    let form: Form = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    if form.version == VERSION {
        Ok(form.tokens)
    } else {
        Err(wrong(format!("it has version {}, and this embot reads version {VERSION}", form.version)))
    }
}

pub(super) fn write(path: &Path, tokens: &[Token]) -> Result<(), PkiError> {
    let form = Form { version: VERSION, tokens: tokens.to_vec() };
    let wrong = |error: serde_json::Error| PkiError::Content { path: path.to_owned(), what: error.to_string() };
    let text = serde_json::to_string_pretty(&form).map_err(wrong)?;
    files::replace(path, files::PRIVATE, format!("{text}\n").as_bytes())
}
