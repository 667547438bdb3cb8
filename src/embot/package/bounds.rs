//! How large packages may be, and how much of them one guest may bring along. Far above what people write, far below what harms.

/// Bytes of a listing with its signature.
pub const SEALED_BYTES: usize = 64 * 1024;
/// Bytes of one file: what a manifest may have.
pub const FILE_BYTES: usize = crate::yaml::MAX_BYTES;
/// Policies of one package.
pub const POLICIES: usize = 64;
/// Packages that one package imports.
pub const IMPORTS: usize = 32;
/// Planes that one package is meant for.
pub const AUDIENCE: usize = 256;
/// Bytes of a name or a version.
pub const NAME_BYTES: usize = 128;
/// Bytes of a file's name.
pub const FILE_NAME_BYTES: usize = 256;
/// Imports of imports.
pub const DEPTH: usize = 8;
/// Packages that one offer comes to, imports included.
pub const PACKAGES: usize = 64;
/// Bytes of all files that one offer comes to.
pub const TOTAL_BYTES: u64 = 16 * 1024 * 1024;
/// Bytes of one parcel; what does not fit is asked for again.
pub const PARCEL_BYTES: usize = 4 * 1024 * 1024;
