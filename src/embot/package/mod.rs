//! Packages: modules that travel. What a plane loads from another plane is signed, and signed by a key it trusts.
//!
//! ```text
//! module files --pack--> Package<Unverified> --sign--> Package<Unverified> ==travels==> Package<Unverified>
//!                                                                                            |  verify(trust, plane, now)
//!                                    ModuleVersion <--version-- Package<Verified> <----------+--> PackageError
//! ```
//! A package is a [`Listing`] (name, version, serial number, for whom, until when, which permits, and the hashes of the module's
//! manifest and policies and of other packages it needs), signed as a whole ([`Sealed`]); and the files themselves, each at
//! the address of its SHA-256. So a signature over a few hundred bytes covers all, a file that two packages share travels
//! once, and nothing is asked for that is there already ([`missing`]).
//!
//! What is guaranteed:
//! - The texts of an unverified package cannot be got at: only [`Package<Verified>`] gives them out, and only
//!   [`Package::verify`] makes one. So a check that was forgotten does not compile.
//! - Equal contents make equal bytes; bytes that read in two ways are refused.
//! - Whatever the bytes, reading ends in an error or a package, within the bounds of [`bounds`].
//!
//! How a module that was deployed from a folder comes to travel: see [`for_travel`].

pub mod bounds;
mod content;
mod error;
mod form;
mod in_force;
mod key;
mod listing;
mod packing;
mod parcel;
mod sealed;
#[cfg(test)]
mod tests;
mod trust;
mod verify;

pub use content::Contents;
pub use error::PackageError;
pub use in_force::{InForce, Take, take};
pub use key::{KeyError, PublicKey, SigningKey};
pub use listing::{Import, Listed, Listing};
pub use packing::{Recipe, Travelling, for_travel, pack};
pub use parcel::{ParcelError, missing, parcel, unpack};
pub use sealed::{Sealed, Vouched};
pub use trust::{TrustStore, TrustedKey};
pub use verify::{Gate, Package, Unverified, Verified};
