//! The check of what a peer presents, the same on both sides of a connection.

use super::certificate::{Certificate, chain};
use super::{PkiError, files};
use crate::model::Timestamp;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use rustls::{CertificateError, DistinguishedName};
use std::path::Path;
use std::time::Duration;
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, OwnedCertRevocationList, RevocationCheckDepth,
    RevocationOptionsBuilder, anchor_from_trusted_cert,
};
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

/// What a certificate is presented for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// By who dials.
    Client,
    /// By who listens.
    Server,
}

/// Why a certificate is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The bytes make no sense.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    /// Nobody whom this plane trusts has signed it.
    #[error("no authority that this plane trusts has signed it")]
    UnknownAuthority,
    /// Its time is over.
    #[error("it has expired")]
    Expired,
    /// Its time is still to come.
    #[error("it is not valid yet; compare the clocks")]
    TooEarly,
    /// It was taken back.
    #[error("it was revoked")]
    Revoked,
    /// No list says whether it was taken back.
    #[error("no list of revoked certificates of its authority is here; add it to the file that `link.crl` names")]
    NoRevocationList,
    /// It names no plane, or more than one.
    #[error("it names no plane; a plane's certificate has one URI `embot:plane:NAME`")]
    NoPlane,
    /// It is another plane's.
    #[error("it belongs to plane {found}, and plane {expected} is expected")]
    AnotherPlane {
        /// Who is expected.
        expected: String,
        /// Whose it is.
        found: String,
    },
    /// Anything else that the check of certificates complains about.
    #[error("{0}")]
    Other(String),
}

impl From<Refused> for rustls::Error {
    /// With the alert that tells the other side.
    fn from(refused: Refused) -> rustls::Error {
        rustls::Error::InvalidCertificate(match refused {
            Refused::Unreadable(_) => CertificateError::BadEncoding,
            Refused::UnknownAuthority => CertificateError::UnknownIssuer,
            Refused::Expired => CertificateError::Expired,
            Refused::TooEarly => CertificateError::NotValidYet,
            Refused::Revoked => CertificateError::Revoked,
            Refused::NoRevocationList => CertificateError::UnknownRevocationStatus,
            Refused::NoPlane | Refused::AnotherPlane { .. } => CertificateError::NotValidForName,
            Refused::Other(_) => CertificateError::ApplicationVerificationFailure,
        })
    }
}

/// Whom a plane trusts, and what was taken back.
#[derive(Debug)]
pub struct Trust {
    anchors: Vec<TrustAnchor<'static>>,
    subjects: Vec<DistinguishedName>,
    /// `None`: nothing was said about revocation.
    lists: Option<Vec<CertRevocationList<'static>>>,
    /// When the first of the lists is outdated.
    outdated: Option<Timestamp>,
}

impl Trust {
    /// Reads the authorities and, where there is one, the file of revoked certificates.
    pub fn load(authorities: &Path, revoked: Option<&Path>) -> Result<Trust, PkiError> {
        let certificates = chain(authorities)?;
        let mut trust = Trust { anchors: Vec::new(), subjects: Vec::new(), lists: None, outdated: None };
        for certificate in &certificates {
            let anchor = anchor_from_trusted_cert(certificate).map_err(|error| PkiError::Content {
                path: authorities.to_owned(),
                what: format!("not an authority's certificate: {error}"),
            })?;
            trust.subjects.push(DistinguishedName::in_sequence(&anchor.subject));
            trust.anchors.push(anchor.to_owned());
        }
        if let Some(path) = revoked {
            let wrong = |what: String| PkiError::Content { path: path.to_owned(), what };
            let text = files::read(path)?;
            let found: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(text.as_bytes()).collect();
            let found = found.map_err(|error| wrong(format!("not a list of revoked certificates: {error:?}")))?;
            if found.is_empty() {
                let what = "holds no list of revoked certificates; one begins with `-----BEGIN X509 CRL-----`";
                return Err(wrong(what.to_owned()));
            }
            let mut lists = Vec::new();
            for list in &found {
                let (_, dates) =
                    CertificateRevocationList::from_der(list).map_err(|error| wrong(format!("unreadable: {error}")))?;
                let next = dates.next_update().map(|time| Timestamp(time.timestamp().saturating_mul(1_000)));
                trust.outdated = [trust.outdated, next].into_iter().flatten().min();
                let list = OwnedCertRevocationList::from_der(list).map_err(|error| wrong(format!("unreadable: {error}")))?;
                lists.push(CertRevocationList::from(list));
            }
            trust.lists = Some(lists);
        }
        Ok(trust)
    }

    /// The authorities' names, as they are told to clients.
    pub fn subjects(&self) -> &[DistinguishedName] {
        &self.subjects
    }

    /// Should there be a newer list of revoked certificates by now?
    pub fn is_outdated(&self, now: Timestamp) -> bool {
        self.outdated.is_some_and(|at| at <= now)
    }

    /// Checks a certificate, and says whose it is.
    pub fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        purpose: Purpose,
        now: Timestamp,
    ) -> Result<Certificate, Refused> {
        let parsed = EndEntityCert::try_from(certificate).map_err(|error| Refused::Unreadable(error.to_string()))?;
        let lists: Option<Vec<&CertRevocationList<'_>>> = self.lists.as_ref().map(|lists| lists.iter().collect());
        let revocation = lists.as_deref().and_then(|lists| RevocationOptionsBuilder::new(lists).ok()).map(|options| {
            options.with_depth(RevocationCheckDepth::EndEntity).with_expiration_policy(ExpirationPolicy::Ignore).build()
        });
        let usage = match purpose {
            Purpose::Client => KeyUsage::client_auth(),
            Purpose::Server => KeyUsage::server_auth(),
        };
        let time = UnixTime::since_unix_epoch(Duration::from_millis(u64::try_from(now.0).unwrap_or(0)));
        parsed.verify_for_usage(algorithms(), &self.anchors, intermediates, time, usage, revocation, None).map_err(
            |error| match error {
                webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => Refused::UnknownAuthority,
                webpki::Error::CertExpired { .. } => Refused::Expired,
                webpki::Error::CertNotValidYet { .. } => Refused::TooEarly,
                webpki::Error::CertRevoked => Refused::Revoked,
                webpki::Error::UnknownRevocationStatus => Refused::NoRevocationList,
                error => Refused::Other(format!("it is not valid here: {error}")),
            },
        )?;
        let read = Certificate::read(certificate).map_err(Refused::Unreadable)?;
        if read.plane.is_none() {
            return Err(Refused::NoPlane);
        }
        Ok(read)
    }
}

fn algorithms() -> &'static [&'static dyn SignatureVerificationAlgorithm] {
    rustls::crypto::ring::default_provider().signature_verification_algorithms.all
}
