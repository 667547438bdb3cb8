//! What stands in a package's place already, and whether the package may take that place.
//!
//! | in force under this name | the package | what happens |
//! |---|---|---|
//! | nothing | any | it is installed |
//! | the same files | any | they stay: nothing of the package is needed |
//! | a module that an admin of this plane deployed | any | the plane's own stays, and takes over the embots' state |
//! | a package by the same key | a higher serial number | it replaces that |
//! | | a lower one, or the same with other files | refused: downgraded |
//! | a package by another key | any | refused |
//!
//! Where what is in force stays, nothing of the package is loaded, so nobody needs to stand for it: two planes that run the
//! same modules hand guests over to each other without any keys.

use super::content::Contents;
use super::error::PackageError;
use super::key::PublicKey;
use super::listing::Listed;
use super::sealed::Sealed;
use crate::model::ModuleVersion;
use std::sync::Arc;

/// The version of a module that is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InForce {
    /// Its version, for people.
    version: Arc<str>,
    /// Its manifest and policies.
    files: Vec<Listed>,
    /// The serial number and the key of the package it came in; `None`: an admin of this plane deployed it.
    package: Option<(u64, PublicKey)>,
}

/// What comes of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// There is none of this name: it is loaded.
    Install,
    /// It replaces an older one.
    Replace,
    /// What is in force stays.
    Keep,
}

impl InForce {
    /// What a version is, and whether it came in one of the packages that are kept.
    pub fn of(version: &ModuleVersion, number: &Arc<str>, contents: &Contents) -> InForce {
        let files = files_of(version);
        let package = contents.package_with(&files).and_then(|sealed| Some((sealed.claims().serial, sealed.key()?)));
        InForce { version: number.clone(), files, package }
    }
}

/// The files of a version, as a listing would name them.
pub(super) fn files_of(version: &ModuleVersion) -> Vec<Listed> {
    let policies = version.policies.iter().map(|(file, text)| Listed::of(file, text.as_bytes()));
    std::iter::once(Listed::of(&version.file, version.manifest.as_bytes())).chain(policies).collect()
}

/// Are these the same files? The manifest's own name does not matter, and neither does the policies' order.
pub(super) fn same_files(a: &[Listed], b: &[Listed]) -> bool {
    let (Some((one, mine)), Some((other, theirs))) = (a.split_first(), b.split_first()) else { return false };
    one.hash == other.hash && mine.len() == theirs.len() && mine.iter().all(|listed| theirs.contains(listed))
}

/// What comes of a package where this is in force. Whether somebody stands for it is another question.
pub fn take(sealed: &Sealed, in_force: Option<&InForce>) -> Result<Take, PackageError> {
    let Some(in_force) = in_force else { return Ok(Take::Install) };
    let listing = sealed.claims();
    let files: Vec<Listed> = listing.files().cloned().collect();
    let Some((serial, key)) = in_force.package.filter(|_| !same_files(&files, &in_force.files)) else {
        return Ok(Take::Keep);
    };
    match sealed.key() {
        None => Err(PackageError::Unsigned { name: listing.name.clone() }),
        Some(other) if other != key => Err(PackageError::OtherSigner { name: listing.name.clone(), key: other, in_force: key }),
        Some(_) if listing.serial > serial => Ok(Take::Replace),
        Some(_) => Err(PackageError::Downgraded {
            name: listing.name.clone(),
            version: listing.version.clone(),
            serial: listing.serial,
            in_force: in_force.version.clone(),
            in_force_serial: serial,
        }),
    }
}
