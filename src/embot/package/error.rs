//! Why a package is not taken.

use super::key::PublicKey;
use crate::model::{Span, Timestamp, Verb};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Why a package is not taken: which one, what is wrong with it, what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackageError {
    /// It cannot be read at all.
    #[error("this is no package of modules: {0}; `embot module pack` makes one")]
    Unreadable(String),
    /// Nobody signed it.
    #[error("package {name} is not signed; `embot module sign` signs it, or give its plane a `module_key`")]
    Unsigned {
        /// The package.
        name: Arc<str>,
    },
    /// The plane does not know the key.
    #[error(
        "package {name} is signed by a key that is not trusted here: {key}; if it should be, add it to `trust` in plane.yaml"
    )]
    UnknownKey {
        /// The package.
        name: Arc<str>,
        /// Whose signature it carries.
        key: PublicKey,
    },
    /// What is there is not what was signed.
    #[error("package {name}: {file} is not what was signed; fetch the package again from whoever signed it")]
    Tampered {
        /// The package.
        name: Arc<str>,
        /// The file, or `its listing`.
        file: Arc<str>,
    },
    /// A file is not there.
    #[error("package {name}: {file} is missing; pack or fetch it again")]
    Missing {
        /// The package.
        name: Arc<str>,
        /// The file.
        file: Arc<str>,
    },
    /// It is meant for other planes.
    #[error("package {name} is meant for {audience}, not for plane {plane}; have it signed for this plane as well")]
    Audience {
        /// The package.
        name: Arc<str>,
        /// Whom it is meant for.
        audience: String,
        /// This plane.
        plane: Arc<str>,
    },
    /// Its time has not come.
    #[error("package {name} is not valid yet, but in {}; check this machine's clock, or wait", about(not_before.since(*now)))]
    NotYet {
        /// The package.
        name: Arc<str>,
        /// From when.
        not_before: Timestamp,
        /// The present instant.
        now: Timestamp,
    },
    /// Its time is over.
    #[error("package {name} expired {} ago; have it signed anew", about(now.since(*expired)))]
    Expired {
        /// The package.
        name: Arc<str>,
        /// When.
        expired: Timestamp,
        /// The present instant.
        now: Timestamp,
    },
    /// A newer one is in force.
    #[error(
        "package {name} {version} (serial {serial}) would replace {name} {in_force} (serial {in_force_serial}), which is newer or another of the same serial; `embot modules unload {name}` makes way for it"
    )]
    Downgraded {
        /// The package.
        name: Arc<str>,
        /// Its version.
        version: Arc<str>,
        /// Its serial number.
        serial: u64,
        /// The version in force.
        in_force: Arc<str>,
        /// Its serial number.
        in_force_serial: u64,
    },
    /// The module in force is somebody else's.
    #[error(
        "package {name} is signed by {key}, and the {name} in force by another key ({in_force}); `embot modules unload {name}` makes way for it"
    )]
    OtherSigner {
        /// The package.
        name: Arc<str>,
        /// The key that signed it.
        key: PublicKey,
        /// The key that signed what is in force.
        in_force: PublicKey,
    },
    /// It asks for more than its key may give.
    #[error(
        "package {name} asks for the permits {}, which modules by key {key} do not get here; add them to that key's `permits` under `trust`, or have the module ask for less",
        words(lacking)
    )]
    Permits {
        /// The package.
        name: Arc<str>,
        /// The key's name.
        key: Arc<str>,
        /// What it asks for in vain.
        lacking: BTreeSet<Verb>,
    },
    /// What was signed contradicts itself.
    #[error("package {name}: {what}; pack it again")]
    Contradictory {
        /// The package.
        name: Arc<str>,
        /// What.
        what: String,
    },
}

impl PackageError {
    /// What is wrong, in one stable word, for counting and for scripts.
    pub fn word(&self) -> &'static str {
        match self {
            PackageError::Unreadable(_) => "unreadable",
            PackageError::Unsigned { .. } => "unsigned",
            PackageError::UnknownKey { .. } => "unknown_key",
            PackageError::Tampered { .. } => "tampered",
            PackageError::Missing { .. } => "missing",
            PackageError::Audience { .. } => "audience",
            PackageError::NotYet { .. } => "not_yet",
            PackageError::Expired { .. } => "expired",
            PackageError::Downgraded { .. } => "downgraded",
            PackageError::OtherSigner { .. } => "other_signer",
            PackageError::Permits { .. } => "permits",
            PackageError::Contradictory { .. } => "contradictory",
        }
    }
}

/// `migrate, notify`.
fn words(verbs: &BTreeSet<Verb>) -> String {
    verbs.iter().map(|verb| verb.name()).collect::<Vec<_>>().join(", ")
}

/// A span without the parts that say nothing beside its large ones.
fn about(span: Span) -> Span {
    let unit = match span {
        span if span >= Span::hours(48) => Span::hours(1),
        span if span >= Span::hours(1) => Span::minutes(1),
        _ => Span::seconds(1),
    };
    Span(span.0 - span.0 % unit.0)
}
