//! The form of packages as bytes: one byte of version, then postcard. What reads in two ways is refused: bytes that do not come
//! out the same when they are written again were not written by this.

use super::error::PackageError;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The version of every form here.
const VERSION: u8 = 1;

/// A value's bytes.
pub(super) fn write<T: Serialize>(value: &T) -> Vec<u8> {
    // Every type here is plain data, for which postcard into a vector has no way to fail.
    postcard::to_extend(value, vec![VERSION]).unwrap_or_default()
}

/// The value of these bytes.
pub(super) fn read<T: Serialize + DeserializeOwned>(what: &str, bytes: &[u8], most: usize) -> Result<T, PackageError> {
    let bad = |why: &str| PackageError::Unreadable(format!("{what} {why}"));
    if bytes.len() > most {
        return Err(bad(&format!("has {} bytes, and {most} is the most", bytes.len())));
    }
    match bytes.split_first() {
        Some((&VERSION, rest)) => {
            let value: T = postcard::from_bytes(rest).map_err(|error| bad(&format!("is damaged ({error})")))?;
            if write(&value) != bytes {
                return Err(bad("is not written as it should be"));
            }
            Ok(value)
        }
        Some((version, _)) => Err(bad(&format!("has version {version}, and this program reads version {VERSION}"))),
        None => Err(bad("is empty")),
    }
}
