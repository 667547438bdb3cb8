//! TLS of the API, version 1.3 only: the plane shows a certificate, its clients say who they are by tokens.

use super::certificate::chain;
use super::credentials::certified_key;
use super::files::FileState;
use super::{Certificate, PkiError};
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, RwLock};

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));

const ALPN: &[u8] = b"http/1.1";

/// A certificate and its key, read again when their files change.
#[derive(Debug)]
pub struct Identity {
    certificate: PathBuf,
    key: PathBuf,
    known: Mutex<FileState>,
    in_force: RwLock<Arc<CertifiedKey>>,
}

impl Identity {
    /// Reads both, and checks that they belong together.
    pub fn load(certificate: &Path, key: &Path) -> Result<Arc<Identity>, PkiError> {
        let paths = [certificate.to_owned(), key.to_owned()];
        let known = FileState::of(&paths);
        let in_force = RwLock::new(Arc::new(certified_key(certificate, key)?));
        let [certificate, key] = paths;
        Ok(Arc::new(Identity { certificate, key, known: Mutex::new(known), in_force }))
    }

    /// Takes over what the files hold now; says whether anything has changed. After an error, what was in force stays.
    pub fn refresh(&self) -> Result<bool, PkiError> {
        let state = FileState::of([&self.certificate, &self.key]);
        {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if *known == state {
                return Ok(false);
            }
            *known = state;
        }
        let fresh = Arc::new(certified_key(&self.certificate, &self.key)?);
        *self.in_force.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(true)
    }

    /// The certificate in force, as it reads.
    pub fn certificate(&self) -> Result<Certificate, PkiError> {
        let wrong = |what: String| PkiError::Content { path: self.certificate.clone(), what };
        let in_force = self.now();
        let first = in_force.cert.first().ok_or_else(|| wrong("holds no certificate".to_owned()))?;
        Certificate::read(first).map_err(wrong)
    }

    fn now(&self) -> Arc<CertifiedKey> {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How connections are answered, each with the certificate that is in force by then.
    pub fn server(self: &Arc<Identity>) -> Result<Arc<ServerConfig>, PkiError> {
        let mut config = ServerConfig::builder_with_provider(PROVIDER.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![ALPN.to_vec()];
        // Nothing is kept for clients that may never come back.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.now())
    }
}

/// How a plane is dialled: its certificate must be signed by one of these authorities, or, where none are named, by one that
/// the system trusts, and name the host that is dialled.
pub fn client(authorities: Option<&Path>) -> Result<Arc<ClientConfig>, PkiError> {
    let mut roots = RootCertStore::empty();
    match authorities {
        Some(path) => {
            for certificate in chain(path)? {
                let wrong = |error| PkiError::Content {
                    path: path.to_owned(),
                    what: format!("not an authority's certificate: {error}"),
                };
                roots.add(certificate).map_err(wrong)?;
            }
        }
        // Whatever of these cannot be read cannot vouch for anybody.
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    let mut config = ClientConfig::builder_with_provider(PROVIDER.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}
