//! The content store: sealed listings and files by their address, kept for as long as a package that is used leads to them.

use super::in_force::same_files;
use super::listing::Listed;
use super::sealed::Sealed;
use crate::model::ContentHash;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is kept, by address. A pure index; the store holds the bytes durably, one row each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Contents {
    blobs: BTreeMap<ContentHash, Arc<[u8]>>,
    packages: BTreeMap<ContentHash, Sealed>,
}

impl Contents {
    /// Keeps these bytes, at their address.
    pub fn put(&mut self, bytes: Arc<[u8]>) -> ContentHash {
        let hash = ContentHash::of(&bytes);
        // Whatever reads as a listing is kept as one: a listing begins with a byte that no manifest or policy begins with.
        if let Ok(sealed) = Sealed::read(&bytes) {
            self.packages.insert(hash, sealed);
        }
        self.blobs.insert(hash, bytes);
        hash
    }

    /// What is at this address.
    pub fn get(&self, hash: &ContentHash) -> Option<&Arc<[u8]>> {
        self.blobs.get(hash)
    }

    /// The sealed listing at this address.
    pub fn sealed(&self, hash: &ContentHash) -> Option<&Sealed> {
        self.packages.get(hash)
    }

    /// How many pieces there are.
    pub fn len(&self) -> usize {
        self.blobs.len()
    }

    /// Is nothing kept?
    pub fn is_empty(&self) -> bool {
        self.blobs.is_empty()
    }

    /// A signed package with just these files (the manifest first); of several the one with the highest serial number.
    pub fn package_with(&self, files: &[Listed]) -> Option<&Sealed> {
        let matches = |sealed: &&Sealed| same_files(&sealed.claims().files().cloned().collect::<Vec<_>>(), files);
        let signed = self.packages.values().filter(|sealed| sealed.key().is_some());
        signed.filter(matches).max_by_key(|sealed| (sealed.claims().serial, sealed.hash()))
    }

    /// Everything that these packages lead to, themselves included, as far as it is there.
    pub fn reached_from(&self, roots: impl IntoIterator<Item = ContentHash>) -> BTreeSet<ContentHash> {
        let mut reached = BTreeSet::new();
        let mut open: Vec<ContentHash> = roots.into_iter().collect();
        while let Some(hash) = open.pop() {
            if !self.blobs.contains_key(&hash) || !reached.insert(hash) {
                continue;
            }
            if let Some(sealed) = self.packages.get(&hash) {
                open.extend(sealed.claims().files().map(|listed| listed.hash));
                open.extend(sealed.claims().imports.iter().map(|import| import.hash));
            }
        }
        reached
    }

    /// Forgets what none of these packages leads to, and says what that was.
    pub fn sweep(&mut self, used: impl IntoIterator<Item = ContentHash>) -> Vec<ContentHash> {
        let reached = self.reached_from(used);
        let gone: Vec<ContentHash> = self.blobs.keys().filter(|hash| !reached.contains(hash)).copied().collect();
        for hash in &gone {
            self.blobs.remove(hash);
            self.packages.remove(hash);
        }
        gone
    }
}
