//! TLS as planes speak it: version 1.3 only, both sides with certificates, no resumption, so that each connection is checked.

use crate::clock::Clock;
use crate::model::Timestamp;
use crate::pki::{Certificate, Credentials, Purpose, Refused, Trust};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::time_provider::TimeProvider;
use rustls::{AlertDescription, ClientConfig, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, OnceLock};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::TlsStream;

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));

/// What the other side presented, once it has.
#[derive(Debug, Clone)]
pub(super) struct Presented {
    /// The certificate as it reads; `None` where it does not.
    pub read: Option<Certificate>,
    /// The chain, for later checks.
    pub chain: Vec<CertificateDer<'static>>,
    /// Why it was refused, if it was.
    pub refused: Option<Refused>,
}

/// Checks one connection's certificate and remembers what was presented, whether it is taken or not.
pub(super) struct Check {
    trust: Arc<Trust>,
    clock: Arc<dyn Clock>,
    /// Whose certificate it must be; `None`: any plane's.
    plane: Option<Arc<str>>,
    presented: OnceLock<Presented>,
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check").field("plane", &self.plane).finish_non_exhaustive()
    }
}

impl Check {
    /// A check for one connection.
    pub(super) fn new(trust: Arc<Trust>, clock: Arc<dyn Clock>, plane: Option<Arc<str>>) -> Arc<Check> {
        Arc::new(Check { trust, clock, plane, presented: OnceLock::new() })
    }

    /// What was presented.
    pub(super) fn presented(&self) -> Option<&Presented> {
        self.presented.get()
    }

    fn check(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        purpose: Purpose,
    ) -> Result<(), rustls::Error> {
        let found = self.trust.verify(certificate, intermediates, purpose, self.clock.now());
        let found = found.and_then(|found| match (&self.plane, &found.plane) {
            (Some(expected), Some(plane)) if expected != plane => {
                Err(Refused::AnotherPlane { expected: expected.to_string(), found: plane.to_string() })
            }
            _ => Ok(found),
        });
        let refused = found.as_ref().err().cloned();
        let read = found.ok().or_else(|| Certificate::read(certificate).ok());
        let chain = std::iter::once(certificate).chain(intermediates).map(|one| one.clone().into_owned()).collect();
        // A connection presents once; were there a second time, the first would stay.
        let _ = self.presented.set(Presented { read, chain, refused: refused.clone() });
        refused.map_or(Ok(()), |refused| Err(refused.into()))
    }
}

fn no_tls12<T>() -> Result<T, rustls::Error> {
    Err(rustls::Error::General("planes speak TLS 1.3 only".to_owned()))
}

impl ClientCertVerifier for Check {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.trust.subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.check(certificate, intermediates, Purpose::Client).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &PROVIDER.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        PROVIDER.signature_verification_algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for Check {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(certificate, intermediates, Purpose::Server).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &PROVIDER.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        PROVIDER.signature_verification_algorithms.supported_schemes()
    }
}

/// The plane's clock, as rustls asks for it.
struct PlaneTime(Arc<dyn Clock>);

impl fmt::Debug for PlaneTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlaneTime")
    }
}

impl TimeProvider for PlaneTime {
    fn current_time(&self) -> Option<UnixTime> {
        let Timestamp(now) = self.0.now();
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_millis(u64::try_from(now).ok()?)))
    }
}

/// How this plane answers a connection.
pub(super) fn server(credentials: &Credentials, check: Arc<Check>) -> Result<ServerConfig, rustls::Error> {
    let time = Arc::new(PlaneTime(check.clock.clone()));
    let mut config = ServerConfig::builder_with_details(PROVIDER.clone(), time)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(check)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(credentials.key.clone())));
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// How this plane dials.
pub(super) fn client(credentials: &Credentials, check: Arc<Check>) -> Result<ClientConfig, rustls::Error> {
    let time = Arc::new(PlaneTime(check.clock.clone()));
    let mut config = ClientConfig::builder_with_details(PROVIDER.clone(), time)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(check)
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(credentials.key.clone())));
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// What an error of a connection means, in words for an admin.
pub(super) fn explain(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(alert)) => match alert {
            AlertDescription::CertificateRevoked => "it refuses this plane's certificate: revoked".to_owned(),
            AlertDescription::CertificateExpired => {
                "it refuses this plane's certificate: expired (`embot pki renew` makes a fresh one), or not valid yet"
                    .to_owned()
            }
            AlertDescription::UnknownCA => {
                "it refuses this plane's certificate: signed by an authority that it does not trust".to_owned()
            }
            AlertDescription::CertificateRequired => "it wants a certificate".to_owned(),
            alert => format!("it refuses the connection ({alert:?})"),
        },
        Some(error) => error.to_string(),
        None if error.kind() == io::ErrorKind::UnexpectedEof => "the connection was closed".to_owned(),
        None => error.to_string(),
    }
}

/// A connection that can be closed from outside, and that remembers what went wrong first.
#[derive(Debug)]
pub(super) struct Connection<I> {
    stream: TlsStream<TcpStream>,
    /// Fires, or is dropped, when it is to close.
    close: oneshot::Receiver<()>,
    closed: bool,
    trouble: Arc<OnceLock<String>>,
    /// Whatever else belongs to it.
    pub info: I,
}

impl<I> Connection<I> {
    /// Wraps a stream; `close` closes it.
    pub(super) fn new(
        stream: impl Into<TlsStream<TcpStream>>,
        info: I,
    ) -> (Connection<I>, oneshot::Sender<()>, Arc<OnceLock<String>>) {
        let (sender, close) = oneshot::channel();
        let trouble = Arc::new(OnceLock::new());
        (Connection { stream: stream.into(), close, closed: false, trouble: trouble.clone(), info }, sender, trouble)
    }

    fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            self.trouble.get_or_init(|| explain(error));
        }
        result
    }
}

impl<I: Unpin> AsyncRead for Connection<I> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.closed || Pin::new(&mut self.close).poll(context).is_ready() {
            self.closed = true;
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let result = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        Poll::Ready(self.note(result))
    }
}

impl<I: Unpin> AsyncWrite for Connection<I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        Poll::Ready(self.note(result))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = ready!(Pin::new(&mut self.stream).poll_flush(context));
        Poll::Ready(self.note(result))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
