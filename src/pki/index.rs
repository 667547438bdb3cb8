//! What an authority has issued: `issued.json` in its folder.

use super::{PkiError, files};
use crate::model::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The form of the file that this program writes, and the only one it reads.
const VERSION: u32 = 1;

/// All that was issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    version: u32,
    /// The number of the newest list of revoked certificates; it only rises.
    pub crl_number: u64,
    /// The certificates, oldest first.
    pub certificates: Vec<Entry>,
}

/// One certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its serial number, in hexadecimal digits.
    pub serial: String,
    /// Whose it is.
    pub plane: String,
    /// Host names and addresses in it.
    pub names: Vec<String>,
    /// When it was issued.
    pub issued: Timestamp,
    /// When it expires.
    pub expires: Timestamp,
    /// When it was taken back, if it was.
    pub revoked: Option<Timestamp>,
}

impl Entry {
    /// May it still be used?
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.revoked.is_none() && now < self.expires
    }

    /// The same in a word.
    pub fn state(&self, now: Timestamp) -> &'static str {
        match (self.revoked, self.is_valid(now)) {
            (Some(_), _) => "revoked",
            (None, true) => "valid",
            (None, false) => "expired",
        }
    }

    /// Its serial number's bytes; `None` where somebody wrote something else into the file.
    pub fn serial_bytes(&self) -> Option<Vec<u8>> {
        let digits = self.serial.as_bytes();
        if digits.is_empty() || !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&self.serial[at..at + 2], 16).ok()).collect()
    }
}

impl Default for Index {
    fn default() -> Index {
        Index { version: VERSION, crl_number: 0, certificates: Vec::new() }
    }
}

impl Index {
    /// Reads it.
    pub fn read(path: &Path) -> Result<Index, PkiError> {
        let text = files::read(path)?;
        let wrong = |what: String| PkiError::Content { path: path.to_owned(), what };
        let index: Index =
            serde_json::from_str(&text).map_err(|error| wrong(format!("not the list of what was issued: {error}")))?;
        if index.version != VERSION {
            return Err(wrong(format!("its form has version {}; this program reads version {VERSION}", index.version)));
        }
        Ok(index)
    }

    /// Writes it.
    pub fn write(&self, path: &Path) -> Result<(), PkiError> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| PkiError::Content { path: path.to_owned(), what: format!("cannot be written: {error}") })?;
        files::replace(path, files::PUBLIC, text.as_bytes())
    }

    /// A plane's certificates that may still be used, newest first.
    pub fn valid<'a>(&'a self, plane: &'a str, now: Timestamp) -> impl Iterator<Item = &'a Entry> {
        self.certificates.iter().rev().filter(move |entry| entry.plane == plane && entry.is_valid(now))
    }
}
