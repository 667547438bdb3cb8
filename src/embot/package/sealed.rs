//! A listing with its signature: all that is needed to say whether a package would be taken, without its files.

use super::bounds;
use super::error::PackageError;
use super::form;
use super::key::{PublicKey, SigningKey};
use super::listing::Listing;
use super::trust::{TrustStore, TrustedKey};
use crate::model::{ContentHash, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Stands before what is signed, so that a signature for this is a signature for nothing else.
const PURPOSE: &[u8] = b"embot module package 1\n";

/// A listing, signed or not. Its address is the package's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    listing: Listing,
    seal: Option<Seal>,
    bytes: Arc<[u8]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Seal {
    key: PublicKey,
    /// Both halves, since no format here takes 64 bytes at once.
    signature: ([u8; 32], [u8; 32]),
}

#[derive(Serialize, Deserialize)]
struct Form {
    listing: Vec<u8>,
    seal: Option<Seal>,
}

/// A sealed listing that a key of the trust store stands for. Says nothing of the files yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vouched<'a> {
    /// What it says of itself.
    pub listing: &'a Listing,
    /// Who stands for it.
    pub key: &'a TrustedKey,
}

impl Sealed {
    /// Seals a listing; without a key it stays unsigned, and nobody will take it.
    pub fn new(listing: Listing, key: Option<&SigningKey>) -> Result<Sealed, PackageError> {
        listing.check()?;
        let inner = listing.to_bytes();
        let seal = key.map(|key| {
            let signature = key.sign(&signed_bytes(&inner));
            let (mut first, mut second) = ([0; 32], [0; 32]);
            first.copy_from_slice(&signature[..32]);
            second.copy_from_slice(&signature[32..]);
            Seal { key: key.public(), signature: (first, second) }
        });
        let bytes = form::write(&Form { listing: inner, seal });
        if bytes.len() > bounds::SEALED_BYTES {
            let what = format!("its listing has {} bytes, and {} is the most", bytes.len(), bounds::SEALED_BYTES);
            return Err(PackageError::Contradictory { name: listing.name, what });
        }
        Ok(Sealed { listing, seal, bytes: bytes.into() })
    }

    /// Reads one. Nothing it says may be believed yet.
    pub fn read(bytes: &[u8]) -> Result<Sealed, PackageError> {
        let form: Form = form::read("it", bytes, bounds::SEALED_BYTES)?;
        let listing = Listing::from_bytes(&form.listing)?;
        Ok(Sealed { listing, seal: form.seal, bytes: bytes.into() })
    }

    /// Its bytes.
    pub fn bytes(&self) -> &Arc<[u8]> {
        &self.bytes
    }

    /// Its address: the package's.
    pub fn hash(&self) -> ContentHash {
        ContentHash::of(&self.bytes)
    }

    /// What it claims, whether that is true or not: to show it, and to know what to ask for.
    pub fn claims(&self) -> &Listing {
        &self.listing
    }

    /// The key it claims to be signed by.
    pub fn key(&self) -> Option<PublicKey> {
        self.seal.map(|seal| seal.key)
    }

    /// Does a trusted key stand for it, here and now, with all it asks for?
    pub fn vouch<'a>(&'a self, trust: &'a TrustStore, plane: &str, now: Timestamp) -> Result<Vouched<'a>, PackageError> {
        let listing = &self.listing;
        let name = || listing.name.clone();
        let Some(seal) = self.seal else { return Err(PackageError::Unsigned { name: name() }) };
        let Some(key) = trust.named(&seal.key) else {
            return Err(PackageError::UnknownKey { name: name(), key: seal.key });
        };
        let signature = [seal.signature.0, seal.signature.1].concat();
        if !seal.key.signed(&signed_bytes(&listing.to_bytes()), &signature) {
            return Err(PackageError::Tampered { name: name(), file: "its listing".into() });
        }
        if !listing.audience.is_empty() && !listing.audience.contains(plane) {
            return Err(PackageError::Audience { name: name(), audience: listing.audience_text(), plane: plane.into() });
        }
        if now < listing.not_before {
            return Err(PackageError::NotYet { name: name(), not_before: listing.not_before, now });
        }
        if let Some(expired) = listing.expires.filter(|expires| *expires <= now) {
            return Err(PackageError::Expired { name: name(), expired, now });
        }
        let lacking: std::collections::BTreeSet<_> = listing.permits.difference(&key.permits).copied().collect();
        if !lacking.is_empty() {
            return Err(PackageError::Permits { name: name(), key: key.name.clone(), lacking });
        }
        Ok(Vouched { listing, key })
    }
}

fn signed_bytes(listing: &[u8]) -> Vec<u8> {
    [PURPOSE, listing].concat()
}
