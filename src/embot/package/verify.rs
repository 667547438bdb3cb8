//! Packages with their files, before and after they were verified.

use super::bounds;
use super::content::Contents;
use super::error::PackageError;
use super::form;
use super::in_force::{InForce, Take, take};
use super::key::{PublicKey, SigningKey};
use super::listing::Listing;
use super::sealed::Sealed;
use super::trust::{TrustStore, TrustedKey};
use crate::embot::Manifest;
use crate::model::{ContentHash, Mode, ModuleVersion, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Not looked at yet: nothing of it may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unverified {
    files: BTreeMap<ContentHash, Arc<[u8]>>,
    /// Was anything there that the listing does not name? Then what is missing was changed on its way.
    strangers: bool,
}

/// A trusted key stands for it, and its files are those that were signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    key: TrustedKey,
    take: Take,
    texts: Texts,
}

/// The files of a package as texts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Texts {
    manifest: Arc<str>,
    policies: Vec<(Arc<str>, Arc<str>)>,
}

/// A package. What can be done with it depends on its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package<State> {
    sealed: Sealed,
    state: State,
}

/// What packages are held against.
#[derive(Debug, Clone, Copy)]
pub struct Gate<'a> {
    /// Whose packages are taken.
    pub trust: &'a TrustStore,
    /// This plane.
    pub plane: &'a str,
    /// The present instant.
    pub now: Timestamp,
}

impl<State> Package<State> {
    /// Its address.
    pub fn hash(&self) -> ContentHash {
        self.sealed.hash()
    }

    /// Its listing with the signature.
    pub fn sealed(&self) -> &Sealed {
        &self.sealed
    }
}

impl Package<Unverified> {
    /// A package of a listing and its files. Files that the listing does not name are left out.
    pub fn new(sealed: Sealed, files: impl IntoIterator<Item = Arc<[u8]>>) -> Package<Unverified> {
        let mut all: BTreeMap<ContentHash, Arc<[u8]>> = files.into_iter().map(|file| (ContentHash::of(&file), file)).collect();
        let before = all.len();
        all.retain(|hash, _| sealed.claims().files().any(|listed| listed.hash == *hash));
        let strangers = all.len() < before;
        Package { sealed, state: Unverified { files: all, strangers } }
    }

    /// The package at this address, as far as its files are there.
    pub fn gather(hash: &ContentHash, contents: &Contents) -> Option<Package<Unverified>> {
        let sealed = contents.sealed(hash)?.clone();
        let files: Vec<Arc<[u8]>> = sealed.claims().files().filter_map(|listed| contents.get(&listed.hash).cloned()).collect();
        Some(Package::new(sealed, files))
    }

    /// Reads a package file.
    pub fn read(bytes: &[u8]) -> Result<Package<Unverified>, PackageError> {
        let most = bounds::SEALED_BYTES + (bounds::POLICIES + 1) * (bounds::FILE_BYTES + 8);
        let (sealed, files): (Vec<u8>, Vec<Vec<u8>>) = form::read("it", bytes, most)?;
        let sealed = Sealed::read(&sealed)?;
        Ok(Package::new(sealed, files.into_iter().map(Arc::from)))
    }

    /// The bytes of a package file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let files: Vec<&[u8]> = self.files().iter().map(|file| &***file).collect();
        form::write(&(&**self.sealed.bytes(), files))
    }

    /// Its files, in the listing's order and each once, as far as they are there.
    pub(super) fn files(&self) -> Vec<&Arc<[u8]>> {
        let mut told = std::collections::BTreeSet::new();
        let listed = self.sealed.claims().files().filter(|listed| told.insert(listed.hash));
        listed.filter_map(|listed| self.state.files.get(&listed.hash)).collect()
    }

    /// Everything of it, to be kept or sent: the sealed listing and the files.
    pub fn blobs(&self) -> Vec<Arc<[u8]>> {
        std::iter::once(self.sealed.bytes()).chain(self.files()).cloned().collect()
    }

    /// What it claims, true or not.
    pub fn claims(&self) -> &Listing {
        self.sealed.claims()
    }

    /// Signs it; an older signature is replaced.
    pub fn sign(self, key: &SigningKey) -> Result<Package<Unverified>, PackageError> {
        let sealed = Sealed::new(self.sealed.claims().clone(), Some(key))?;
        Ok(Package { sealed, state: self.state })
    }

    /// Are the files those that were listed, and do they say what the listing says? No word yet on whether anybody stands for
    /// it.
    pub fn check_files(&self) -> Result<(), PackageError> {
        self.read_files().map(|_| ())
    }

    /// Makes it one that can be loaded: a key that `gate` trusts stands for it, here and now, with all the permits it asks for;
    /// its files are those that were signed; and it may take the place of what is in force.
    pub fn verify(self, gate: &Gate, in_force: Option<&InForce>) -> Result<Package<Verified>, PackageError> {
        let vouched = self.sealed.vouch(gate.trust, gate.plane, gate.now)?;
        let key = vouched.key.clone();
        let take = take(&self.sealed, in_force)?;
        let texts = self.read_files()?;
        Ok(Package { sealed: self.sealed, state: Verified { key, take, texts } })
    }

    fn read_files(&self) -> Result<Texts, PackageError> {
        let listing = self.sealed.claims();
        let name = || listing.name.clone();
        let text = |listed: &super::listing::Listed| -> Result<Arc<str>, PackageError> {
            let Some(bytes) = self.state.files.get(&listed.hash) else {
                let file = listed.file.clone();
                return Err(match self.state.strangers {
                    true => PackageError::Tampered { name: name(), file },
                    false => PackageError::Missing { name: name(), file },
                });
            };
            if ContentHash::of(bytes) != listed.hash || bytes.len() as u64 != listed.bytes {
                return Err(PackageError::Tampered { name: name(), file: listed.file.clone() });
            }
            let what = || format!("{} is no text", listed.file);
            std::str::from_utf8(bytes).map(Arc::from).map_err(|_| PackageError::Contradictory { name: name(), what: what() })
        };
        let manifest = text(&listing.manifest)?;
        let policies: Vec<(Arc<str>, Arc<str>)> =
            listing.policies.iter().map(|listed| Ok((listed.file.clone(), text(listed)?))).collect::<Result<_, _>>()?;
        agrees(listing, &manifest)?;
        Ok(Texts { manifest, policies })
    }
}

/// Does the manifest say what the listing says? A listing that promises less than its manifest asks for would be a lie.
fn agrees(listing: &Listing, text: &str) -> Result<(), PackageError> {
    let bad = |what: String| Err(PackageError::Contradictory { name: listing.name.clone(), what });
    let manifest = match Manifest::read(&listing.manifest.file, text) {
        Ok((manifest, _)) => manifest,
        Err(errors) => return bad(errors.first().map_or(String::new(), ToString::to_string)),
    };
    let policies: Vec<&Arc<str>> = listing.policies.iter().map(|listed| &listed.file).collect();
    let agree = [
        ("name", manifest.module == listing.name),
        ("version", manifest.version == listing.version),
        ("mode", manifest.mode == listing.mode),
        ("permits", manifest.permits == listing.permits),
        ("policies", manifest.policies.iter().collect::<Vec<_>>() == policies),
    ];
    match agree.into_iter().find(|(_, agree)| !agree) {
        Some((key, _)) => bad(format!("its listing and its manifest ({}) differ in `{key}`", listing.manifest.file)),
        None => Ok(()),
    }
}

impl Package<Verified> {
    /// What it says of itself.
    pub fn listing(&self) -> &Listing {
        self.sealed.claims()
    }

    /// The key that stands for it.
    pub fn signed_by(&self) -> &TrustedKey {
        &self.state.key
    }

    /// The public key that stands for it.
    pub fn key(&self) -> PublicKey {
        self.state.key.key
    }

    /// How far it may go: as it wants, and no farther than modules by its key may.
    pub fn mode(&self) -> Mode {
        self.sealed.claims().mode.min(self.state.key.mode)
    }

    /// What comes of it.
    pub fn take(&self) -> Take {
        self.state.take
    }

    /// The module, ready to be loaded.
    pub fn version(&self, now: Timestamp) -> ModuleVersion {
        ModuleVersion {
            file: self.sealed.claims().manifest.file.clone(),
            manifest: self.state.texts.manifest.clone(),
            policies: self.state.texts.policies.clone(),
            loaded_at: now,
            by: format!("package {} by {}", self.hash().short(), self.state.key.name).into(),
        }
    }
}
