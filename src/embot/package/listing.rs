//! What a package says of itself: the part that is signed.

use super::bounds;
use super::error::PackageError;
use super::form;
use crate::model::{ContentHash, Mode, Timestamp, Verb};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a package says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The module's name.
    pub name: Arc<str>,
    /// Its version, for people.
    pub version: Arc<str>,
    /// Rises with each release: a lower one does not replace a higher one.
    pub serial: u64,
    /// The planes it is meant for; empty: any.
    pub audience: BTreeSet<Arc<str>>,
    /// Valid from then on.
    pub not_before: Timestamp,
    /// Valid until then; `None`: for good.
    pub expires: Option<Timestamp>,
    /// How far the module wants to go, as its manifest says.
    pub mode: Mode,
    /// What it wants to propose, as its manifest says.
    pub permits: BTreeSet<Verb>,
    /// Its manifest.
    pub manifest: Listed,
    /// Its policies, in the manifest's order.
    pub policies: Vec<Listed>,
    /// Packages of other modules that it needs beside it.
    pub imports: Vec<Import>,
}

/// A file of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Its name; a policy's is relative to the folder of policies.
    pub file: Arc<str>,
    /// Its address.
    pub hash: ContentHash,
    /// Its length.
    pub bytes: u64,
}

/// Another package that one needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// Its module's name.
    pub name: Arc<str>,
    /// Its address.
    pub hash: ContentHash,
}

/// The listing as bytes. Permits stand there by name, so that a version of the program that knows more of them does not
/// change what was signed.
#[derive(Serialize, Deserialize)]
struct Form {
    name: Arc<str>,
    version: Arc<str>,
    serial: u64,
    audience: BTreeSet<Arc<str>>,
    not_before: i64,
    expires: Option<i64>,
    mode: Mode,
    permits: BTreeSet<String>,
    manifest: Listed,
    policies: Vec<Listed>,
    imports: Vec<Import>,
}

impl Listed {
    /// A file with its contents.
    pub fn of(file: &Arc<str>, contents: &[u8]) -> Listed {
        Listed { file: file.clone(), hash: ContentHash::of(contents), bytes: contents.len() as u64 }
    }
}

impl Listing {
    /// The manifest and the policies.
    pub fn files(&self) -> impl Iterator<Item = &Listed> {
        std::iter::once(&self.manifest).chain(&self.policies)
    }

    /// Whom it is meant for, for people.
    pub fn audience_text(&self) -> String {
        if self.audience.is_empty() {
            return "any plane".to_owned();
        }
        self.audience.iter().map(|plane| &**plane).collect::<Vec<_>>().join(", ")
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        form::write(&Form {
            name: self.name.clone(),
            version: self.version.clone(),
            serial: self.serial,
            audience: self.audience.clone(),
            not_before: self.not_before.0,
            expires: self.expires.map(|expires| expires.0),
            mode: self.mode,
            permits: self.permits.iter().map(|verb| verb.name().to_owned()).collect(),
            manifest: self.manifest.clone(),
            policies: self.policies.clone(),
            imports: self.imports.clone(),
        })
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Listing, PackageError> {
        let form: Form = form::read("its listing", bytes, bounds::SEALED_BYTES)?;
        let name = form.name.clone();
        let bad = |what: String| PackageError::Contradictory { name: name.clone(), what };
        let permit = |word: &String| {
            word.parse::<Verb>().map_err(|_| bad(format!("it asks for the permit `{word}`, which this program does not know")))
        };
        let listing = Listing {
            name: form.name,
            version: form.version,
            serial: form.serial,
            audience: form.audience,
            not_before: Timestamp(form.not_before),
            expires: form.expires.map(Timestamp),
            mode: form.mode,
            permits: form.permits.iter().map(permit).collect::<Result<_, _>>()?,
            manifest: form.manifest,
            policies: form.policies,
            imports: form.imports,
        };
        listing.check()?;
        Ok(listing)
    }

    /// What must be so of any listing, whoever wrote it.
    pub(super) fn check(&self) -> Result<(), PackageError> {
        let name = crate::model::ContentHash::of(self.name.as_bytes()).short();
        if self.name.is_empty() || self.name.len() > bounds::NAME_BYTES || !self.name.bytes().all(is_of_name) {
            return Err(PackageError::Unreadable(format!("its listing gives no name of a module (address {name})")));
        }
        let bad = |what: String| Err(PackageError::Contradictory { name: self.name.clone(), what });
        if self.version.len() > bounds::NAME_BYTES {
            return bad(format!("its version has more than {} bytes", bounds::NAME_BYTES));
        }
        if self.policies.is_empty() || self.policies.len() > bounds::POLICIES {
            return bad(format!("it has {} policies, and 1 to {} are possible", self.policies.len(), bounds::POLICIES));
        }
        if self.imports.len() > bounds::IMPORTS {
            return bad(format!("it imports {} packages, and {} is the most", self.imports.len(), bounds::IMPORTS));
        }
        if self.audience.len() > bounds::AUDIENCE || self.audience.iter().any(|plane| plane.len() > bounds::NAME_BYTES) {
            return bad("its audience is too long".to_owned());
        }
        if let Some(import) = self.imports.iter().find(|import| import.name.len() > bounds::NAME_BYTES) {
            return bad(format!("the name of the import {} is too long", import.hash.short()));
        }
        let mut names = BTreeSet::new();
        for listed in self.files() {
            let file = &listed.file;
            if file.is_empty() || file.len() > bounds::FILE_NAME_BYTES || file.chars().any(char::is_control) {
                return bad("a file has no proper name".to_owned());
            }
            if listed.bytes > bounds::FILE_BYTES as u64 {
                return bad(format!("{file} has {} bytes, and {} is the most", listed.bytes, bounds::FILE_BYTES));
            }
            if !names.insert(file) {
                return bad(format!("{file} stands there twice"));
            }
        }
        Ok(())
    }
}

/// The characters that names of modules are made of.
fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}
