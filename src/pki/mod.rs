//! Who is who between planes: a small authority, the certificates it issues, and the check of what a peer presents.
//!
//! ```text
//!  embot pki init      authority/  ca.crt  ca.key  crl.pem  issued.json
//!  embot pki issue          |            planes/site-a/  plane.crt  plane.key  ca.crt  crl.pem
//!                           |                |  copied to the plane's machine
//!                           v                v
//!                      issued.json      Credentials (read again when a file changes) --> Trust --> TLS on both sides
//! ```
//! * A plane is who its certificate says: one URI among the alternative names, `embot:plane:NAME`. Host names and addresses
//!   may stand beside it for other tools; planes never look at them, so a plane may move to another address.
//! * Both sides check the same way ([`Trust::verify`]): signed by a trusted authority, in time, not revoked, made for the
//!   purpose, and naming exactly one plane.
//! * A private key is written with mode 0600, never overwritten, and not used where others may read it.
//! * Of the API only the server shows a certificate, which clients check by the name they dial ([`https`]).
//! * An outdated list of revoked certificates goes on to be used, with a warning: the alternative would cut all planes off at
//!   once, on a day nobody chose.

pub mod authority;
pub mod certificate;
pub mod credentials;
pub mod error;
pub(crate) mod files;
pub mod https;
pub mod index;
pub mod trust;

pub use authority::{Authority, Issued, Request};
pub use certificate::Certificate;
pub use credentials::{Credentials, Paths};
pub use error::PkiError;
pub use trust::{Purpose, Refused, Trust};

/// Makes names of planes to URIs.
pub const PLANE_URI: &str = "embot:plane:";

/// The longest name a plane may have in a certificate.
pub const LONGEST_NAME: usize = 64;

/// May a plane have this name? The same rule as in configurations: letters, digits, `-`, `_` and `.`.
pub fn is_plane_name(name: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=LONGEST_NAME).contains(&name.len()) && name.chars().all(known) && name.chars().any(|c| c.is_ascii_alphanumeric())
}
