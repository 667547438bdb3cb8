//! From a module's files to a package; and how a plane packs what it has loaded.

use super::content::Contents;
use super::error::PackageError;
use super::in_force::files_of;
use super::key::SigningKey;
use super::listing::{Import, Listed, Listing};
use super::sealed::Sealed;
use super::verify::{Package, Unverified};
use crate::embot::Manifest;
use crate::error::Diagnostic;
use crate::model::{ModuleVersion, Timestamp};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a package says of itself beyond what its module's manifest does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recipe {
    /// Its serial number.
    pub serial: u64,
    /// The planes it is meant for; empty: any.
    pub audience: BTreeSet<Arc<str>>,
    /// Valid from then on.
    pub not_before: Timestamp,
    /// Valid until then.
    pub expires: Option<Timestamp>,
    /// Packages of other modules that it needs beside it.
    pub imports: Vec<Import>,
}

/// A package on its way to another plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Travelling {
    /// It.
    pub package: Package<Unverified>,
    /// Does it go on as it came, signed by its author? Otherwise this plane packed it.
    pub is_original: bool,
}

/// Packs a module: its manifest, and each policy that the manifest names.
pub fn pack(
    file: &Arc<str>,
    manifest: &str,
    policies: &[(Arc<str>, Arc<str>)],
    recipe: Recipe,
) -> Result<Package<Unverified>, Vec<Diagnostic>> {
    let (read, document, _) = Manifest::read_with_places(file, manifest)?;
    let (mut listed, mut files) = (Vec::new(), vec![Arc::<[u8]>::from(manifest.as_bytes())]);
    for (index, policy) in read.policies.iter().enumerate() {
        let Some((_, text)) = policies.iter().find(|(name, _)| name == policy) else {
            let at = ["policies", &index.to_string()];
            let complaint = document.error(&at, format!("the policy `{policy}` is missing"));
            return Err(vec![complaint.with_hint("put it into the policies folder, or name that folder with `--policies`")]);
        };
        listed.push(Listed::of(policy, text.as_bytes()));
        files.push(text.as_bytes().into());
    }
    let listing = Listing {
        name: read.module,
        version: read.version,
        serial: recipe.serial,
        audience: recipe.audience,
        not_before: recipe.not_before,
        expires: recipe.expires,
        mode: read.mode,
        permits: read.permits,
        manifest: Listed::of(file, manifest.as_bytes()),
        policies: listed,
        imports: recipe.imports,
    };
    let complaint = |error: PackageError| vec![Diagnostic::error(file, 0, 0, 1, error.to_string())];
    let package = Package::new(Sealed::new(listing, None).map_err(complaint)?, files);
    package.check_files().map_err(complaint)?;
    Ok(package)
}

/// How a module in force travels.
///
/// Where it came in a package, that package goes on unchanged: the author's signature is worth more than a plane's. What an
/// admin of this plane deployed is packed now, for any plane, its serial number the second in which it was loaded (so a later
/// deployment is a later release), and signed with the plane's own `module_key`. Without that key it goes unsigned, and is
/// of use only where the same module is in force already.
pub fn for_travel(
    version: &ModuleVersion,
    contents: &Contents,
    key: Option<&SigningKey>,
) -> Result<Travelling, Vec<Diagnostic>> {
    if let Some(sealed) = contents.package_with(&files_of(version))
        && let Some(package) = Package::gather(&sealed.hash(), contents)
        && package.check_files().is_ok()
    {
        return Ok(Travelling { package, is_original: true });
    }
    let serial = u64::try_from(version.loaded_at.0 / 1_000).unwrap_or(0);
    let package = pack(&version.file, &version.manifest, &version.policies, Recipe { serial, ..Recipe::default() })?;
    let package = match key {
        Some(key) => package.sign(key).map_err(|error| vec![Diagnostic::error(&version.file, 0, 0, 1, error.to_string())])?,
        None => package,
    };
    Ok(Travelling { package, is_original: false })
}
