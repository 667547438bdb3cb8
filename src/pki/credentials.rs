//! What a plane shows of itself and whom it trusts, read from files that may change while it runs.

use super::certificate::{Certificate, chain};
use super::files::FileState;
use super::trust::{Purpose, Refused, Trust};
use super::{PkiError, files};
use crate::model::Timestamp;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::CertifiedKey;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// The plane's certificate, with those between it and the authority, if any.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities it trusts.
    pub ca: PathBuf,
    /// What they have revoked.
    pub crl: Option<PathBuf>,
}

impl Paths {
    /// The state of the files. Files that cannot be looked at count as a state of their own.
    pub fn state(&self) -> FileState {
        FileState::of([&self.certificate, &self.key, &self.ca].into_iter().chain(&self.crl))
    }
}

/// A plane's certificate and key, and whom it trusts.
#[derive(Debug)]
pub struct Credentials {
    /// The certificate as it reads.
    pub own: Certificate,
    /// Certificate and key as TLS uses them.
    pub key: Arc<CertifiedKey>,
    /// Whom it trusts.
    pub trust: Arc<Trust>,
    /// What is wrong with its own certificate in the eyes of others; they will say the same.
    pub doubt: Option<Refused>,
}

impl Credentials {
    /// Reads the files of plane `plane`, and checks that they belong together. An expired or revoked certificate is not an
    /// error: this plane can still refuse others, and tell its admin.
    pub fn load(paths: &Paths, plane: &str, now: Timestamp) -> Result<Credentials, PkiError> {
        let wrong = |what: String| PkiError::Content { path: paths.certificate.clone(), what };
        let key = certified_key(&paths.certificate, &paths.key)?;
        let certificates = key.cert.clone();
        let own = Certificate::read(&certificates[0]).map_err(wrong)?;
        if own.plane.as_deref() != Some(plane) {
            let found = own.plane.as_deref().map_or("no plane".to_owned(), |found| format!("plane {found}"));
            return Err(wrong(format!("names {found}, and this is plane {plane}: `embot pki issue {plane}` makes one for it")));
        }
        let trust = Trust::load(&paths.ca, paths.crl.as_deref())?;
        let both = [Purpose::Client, Purpose::Server];
        let checks = both.map(|purpose| trust.verify(&certificates[0], &certificates[1..], purpose, now).err());
        let doubt = checks.into_iter().flatten().next();
        match doubt {
            None | Some(Refused::Expired | Refused::TooEarly | Refused::Revoked) => {}
            Some(refused) => {
                return Err(wrong(format!("its own authorities ({}) do not accept it: {refused}", paths.ca.display())));
            }
        }
        Ok(Credentials { own, key: Arc::new(key), trust: Arc::new(trust), doubt })
    }
}

/// A certificate (with those between it and its authority, if any), and the key that belongs to it, as TLS uses them.
pub(super) fn certified_key(certificate: &Path, key: &Path) -> Result<CertifiedKey, PkiError> {
    let certificates = chain(certificate)?;
    let text = files::read_private(key)?;
    let private = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|error| PkiError::Content {
        path: key.to_owned(),
        what: format!("not a private key in PEM form: {error:?}"),
    })?;
    CertifiedKey::from_der(certificates, private, &rustls::crypto::ring::default_provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => PkiError::Content {
            path: certificate.to_owned(),
            what: format!("does not belong to the key {}; copy both from where they were issued", key.display()),
        },
        error => PkiError::Using(error),
    })
}
