//! What is missing of the packages in an offer, and the parcels in which it comes.
//!
//! ```text
//! target: missing(roots) --ModuleRequest--> source: parcel(asked) --ModuleParcel--> target: unpack(asked), kept --> missing(roots) ...
//! ```
//! There is no state but what is kept: after a crash the target asks again for what it has not. Each round brings at least one
//! piece that was asked for, and the number of pieces is bounded, so it ends.

use super::bounds;
use super::content::Contents;
use super::error::PackageError;
use super::form;
use super::listing::Listing;
use crate::model::ContentHash;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Why an exchange of packages ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParcelError {
    /// More packages than one guest may bring.
    #[error("the offered modules and what they import come to more than {} packages", bounds::PACKAGES)]
    Packages,
    /// Imports of imports, too deep.
    #[error("the imports of {0} go deeper than {depth}", depth = bounds::DEPTH)]
    Depth(Arc<str>),
    /// Too large altogether.
    #[error("the offered modules come to {0} bytes, and {most} is the most", most = bounds::TOTAL_BYTES)]
    Bytes(u64),
    /// What is at an address is no package.
    #[error("what is offered at {} is no package", .0.short())]
    NoPackage(ContentHash),
    /// A file is not what its listing says.
    #[error("what came for {file} of package {name} is not what its listing says")]
    Length {
        /// The package.
        name: Arc<str>,
        /// The file.
        file: Arc<str>,
    },
    /// An import is another module than was said.
    #[error("package {name} imports {import}, but at that address is {found}")]
    OtherImport {
        /// The package.
        name: Arc<str>,
        /// The module it names.
        import: Arc<str>,
        /// The module that is there.
        found: Arc<str>,
    },
    /// Something was sent that nobody asked for.
    #[error("a parcel holds {} that was not asked for", .0.short())]
    Unasked(ContentHash),
    /// Nothing was sent of what was asked for.
    #[error("a parcel holds nothing of what was asked for")]
    Empty,
    /// A parcel cannot be read.
    #[error("a parcel cannot be read: {0}")]
    Unreadable(PackageError),
    /// The other side asks for what was not offered, or is not there any more.
    #[error("{} was asked for and is not part of the offer", .0.short())]
    NotOffered(ContentHash),
}

/// What is still missing of these packages, of their files and of all they import. Empty: nothing.
pub fn missing(roots: &[ContentHash], contents: &Contents) -> Result<BTreeSet<ContentHash>, ParcelError> {
    let mut missing = BTreeSet::new();
    let mut depths: BTreeMap<ContentHash, usize> = BTreeMap::new();
    let mut open: VecDeque<(ContentHash, usize)> = roots.iter().map(|root| (*root, 0)).collect();
    let mut sizes: BTreeMap<ContentHash, u64> = BTreeMap::new();
    while let Some((hash, depth)) = open.pop_front() {
        // Breadth first: the first time is the shortest way.
        if depths.contains_key(&hash) {
            continue;
        }
        depths.insert(hash, depth);
        if depths.len() > bounds::PACKAGES {
            return Err(ParcelError::Packages);
        }
        let Some(sealed) = contents.sealed(&hash) else {
            if contents.get(&hash).is_some() {
                return Err(ParcelError::NoPackage(hash));
            }
            missing.insert(hash);
            continue;
        };
        let listing = sealed.claims();
        files(listing, contents, &mut sizes, &mut missing)?;
        if depth >= bounds::DEPTH && !listing.imports.is_empty() {
            return Err(ParcelError::Depth(listing.name.clone()));
        }
        for import in &listing.imports {
            let found = contents.sealed(&import.hash).map(|sealed| sealed.claims().name.clone());
            if let Some(found) = found.filter(|found| *found != import.name) {
                return Err(ParcelError::OtherImport { name: listing.name.clone(), import: import.name.clone(), found });
            }
            open.push_back((import.hash, depth + 1));
        }
    }
    Ok(missing)
}

/// The files of one package: their lengths are known before they are asked for.
fn files(
    listing: &Listing,
    contents: &Contents,
    sizes: &mut BTreeMap<ContentHash, u64>,
    missing: &mut BTreeSet<ContentHash>,
) -> Result<(), ParcelError> {
    for listed in listing.files() {
        sizes.insert(listed.hash, listed.bytes);
        match contents.get(&listed.hash) {
            Some(bytes) if bytes.len() as u64 != listed.bytes => {
                return Err(ParcelError::Length { name: listing.name.clone(), file: listed.file.clone() });
            }
            Some(_) => {}
            None => {
                missing.insert(listed.hash);
            }
        }
    }
    let total = sizes.values().sum();
    if total > bounds::TOTAL_BYTES { Err(ParcelError::Bytes(total)) } else { Ok(()) }
}

/// The parcel that answers a request: as much of it as fits, and only of what was offered.
pub fn parcel(asked: &BTreeSet<ContentHash>, offered: &[ContentHash], contents: &Contents) -> Result<Vec<u8>, ParcelError> {
    let reached = contents.reached_from(offered.iter().copied());
    let (mut pieces, mut bytes): (Vec<&[u8]>, usize) = (Vec::new(), 0);
    for hash in asked {
        let piece = contents.get(hash).filter(|_| reached.contains(hash)).ok_or(ParcelError::NotOffered(*hash))?;
        if !pieces.is_empty() && bytes + piece.len() > bounds::PARCEL_BYTES {
            break;
        }
        bytes += piece.len();
        pieces.push(piece);
    }
    Ok(form::write(&pieces))
}

/// The pieces of a parcel. All of them were asked for, and there is at least one.
pub fn unpack(asked: &BTreeSet<ContentHash>, bytes: &[u8]) -> Result<Vec<Arc<[u8]>>, ParcelError> {
    let most = bounds::PARCEL_BYTES + bounds::FILE_BYTES + 1_024;
    let pieces: Vec<Vec<u8>> = form::read("it", bytes, most).map_err(ParcelError::Unreadable)?;
    if pieces.is_empty() && !asked.is_empty() {
        return Err(ParcelError::Empty);
    }
    let mut all = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let hash = ContentHash::of(&piece);
        if !asked.contains(&hash) {
            return Err(ParcelError::Unasked(hash));
        }
        all.push(Arc::from(piece));
    }
    Ok(all)
}
