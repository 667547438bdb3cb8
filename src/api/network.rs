//! The API on the network: where it listens, and the certificate it shows.

use crate::model::{Span, Timestamp};
use crate::pki::PkiError;
use crate::pki::https::Identity;
use serde::{Deserialize, Serialize};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// How often the files of the certificate are looked at.
const RELOAD: Duration = Duration::from_secs(5);
/// A certificate that ends within this is warned of.
const SOON: Span = Span::hours(14 * 24);

/// `api:` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkSettings {
    /// Where to listen, as `ADDRESS:PORT`.
    pub listen: Arc<str>,
    /// The certificate that clients are shown.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The file of tokens. It is made with the first.
    #[serde(default = "default_tokens")]
    pub tokens: PathBuf,
}

fn default_tokens() -> PathBuf {
    "tokens.json".into()
}

/// Why the API is not on the network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The certificate or its key.
    #[error("the API's certificate (`api.certificate`): {0}")]
    Pki(#[from] PkiError),
    /// The address.
    #[error("cannot listen on {address} for the API: {source}; set another `api.listen`, or end who listens there")]
    Listen {
        /// Which.
        address: Arc<str>,
        /// What the operating system says.
        source: io::Error,
    },
}

/// The API's place on the network.
pub struct Network {
    pub(super) listener: TcpListener,
    pub(super) acceptor: TlsAcceptor,
    identity: Arc<Identity>,
}

impl Network {
    /// Listens, with the certificate as it is now.
    pub async fn listen(settings: &NetworkSettings) -> Result<Network, NetworkError> {
        let identity = Identity::load(&settings.certificate, &settings.key)?;
        let acceptor = TlsAcceptor::from(identity.server()?);
        let refused = |source| NetworkError::Listen { address: settings.listen.clone(), source };
        let listener = TcpListener::bind(&*settings.listen).await.map_err(refused)?;
        Ok(Network { listener, acceptor, identity })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Takes the certificate over when its files change, for ever. What cannot be read leaves in force what was.
    pub(super) async fn keep_identity(self: Arc<Network>, now: impl Fn() -> Timestamp) {
        self.remark(now());
        loop {
            tokio::time::sleep(RELOAD).await;
            match self.identity.refresh() {
                Ok(false) => {}
                Ok(true) => {
                    tracing::info!("the API's certificate was read again");
                    self.remark(now());
                }
                Err(error) => tracing::error!("the API's certificate has changed, and the old one stays in force: {error}"),
            }
        }
    }

    /// What an admin should know about it.
    fn remark(&self, now: Timestamp) {
        match self.identity.certificate() {
            Ok(certificate) if certificate.until <= now => {
                tracing::error!(%certificate, "the API's certificate has expired, clients refuse it: `embot pki renew`");
            }
            Ok(certificate) if certificate.until <= now + SOON => {
                let days = certificate.until.since(now).0 / Span::hours(24).0;
                tracing::warn!(%certificate, "the API's certificate ends in {days} days: `embot pki renew`");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!("the API's certificate cannot be looked at: {error}"),
        }
    }
}
