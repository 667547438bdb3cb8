//! What the tests share: authorities, planes with a real listening link on loopback, and strangers who dial it by hand.

use embot::clock::{Clock, SystemClock};
use embot::migration::link::proto::frame::Body;
use embot::migration::link::proto::planes_client::PlanesClient;
use embot::migration::link::proto::{Frame, Hello};
use embot::migration::link::{
    Direction, Heard, Limits, Link, PeerLimits, PeerSettings, PeerStatus, Settings, VERSIONS, Versions,
};
use embot::migration::message::{Envelope, Message};
use embot::migration::{MigrationId, Reason, ReasonKind};
use embot::model::{Span, Timestamp};
use embot::pki::{Authority, Paths, Request};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status, Streaming};

/// Waits until something holds. The limit is for tests that hang, not for slow machines.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "never happened: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn now() -> Timestamp {
    SystemClock::start(Timestamp(0)).now()
}

pub const DAY: Span = Span::hours(24);

/// An authority and the folders of the planes it has given certificates to.
pub struct World {
    pub folder: tempfile::TempDir,
    pub runtime: Runtime,
}

impl World {
    pub fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        Authority::init(&folder.path().join("pki"), "test authority", now() - DAY).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        World { folder, runtime }
    }

    pub fn authority(&self) -> Authority {
        Authority::open(&self.folder.path().join("pki")).unwrap()
    }

    /// The folder of a plane's certificate; issued where there is none yet.
    pub fn certified(&self, plane: &str) -> PathBuf {
        let folder = self.folder.path().join("pki/planes").join(plane);
        if !folder.exists() {
            self.authority().issue(&Request::new(plane), now()).unwrap();
        }
        folder
    }

    /// A plane that listens, and may be sent to by these.
    pub fn listening(&self, plane: &str, peers: &[&str]) -> Plane {
        let peers: Vec<PeerSettings> = peers.iter().map(|name| peer(name, None, &[Direction::Receive])).collect();
        self.plane(plane, peers, |_| {})
    }

    pub fn plane(&self, plane: &str, peers: Vec<PeerSettings>, change: impl FnOnce(&mut Settings)) -> Plane {
        let folder = self.certified(plane);
        let mut settings = Settings {
            plane: plane.into(),
            listen: Some("127.0.0.1:0".into()),
            paths: paths(&folder),
            peers,
            limits: Limits {
                again_first: Span(20),
                again_most: Span(200),
                reload: Span(20),
                ping: Span(50),
                ..Limits::default()
            },
            versions: VERSIONS,
        };
        change(&mut settings);
        let heard = Arc::new(Mutex::new(Vec::new()));
        let full = Arc::new(AtomicBool::new(false));
        let (into, no_room) = (heard.clone(), full.clone());
        let deliver = Arc::new(move |heard| {
            if no_room.load(Ordering::SeqCst) {
                return Err(heard);
            }
            into.lock().unwrap().push(heard);
            Ok(())
        });
        let clock = SystemClock::start(Timestamp(0));
        let link = Link::start(self.runtime.handle(), settings, clock, deliver).unwrap();
        Plane { name: plane.into(), link, heard, full }
    }
}

pub fn paths(folder: &Path) -> Paths {
    Paths {
        certificate: folder.join("plane.crt"),
        key: folder.join("plane.key"),
        ca: folder.join("ca.crt"),
        crl: Some(folder.join("crl.pem")),
    }
}

pub fn peer(name: &str, address: Option<SocketAddr>, allow: &[Direction]) -> PeerSettings {
    PeerSettings {
        name: name.into(),
        address: address.map(|address| address.to_string().into()),
        allow: allow.to_vec(),
        limits: PeerLimits::default(),
    }
}

/// A plane with its link.
pub struct Plane {
    pub name: Arc<str>,
    pub link: Link,
    pub heard: Arc<Mutex<Vec<Heard>>>,
    /// While it is set, the plane takes nothing more.
    pub full: Arc<AtomicBool>,
}

impl Plane {
    pub fn address(&self) -> SocketAddr {
        self.link.address().unwrap()
    }

    pub fn peer(&self, name: &str) -> PeerStatus {
        self.link.peers().into_iter().find(|peer| &*peer.name == name).unwrap()
    }

    /// The messages heard so far.
    pub fn messages(&self) -> Vec<(Arc<str>, Envelope)> {
        let heard = self.heard.lock().unwrap();
        let message = |heard: &Heard| match heard {
            Heard::Message { peer, envelope, .. } => Some((peer.clone(), (**envelope).clone())),
            Heard::Peer(_) => None,
        };
        heard.iter().filter_map(message).collect()
    }

    /// Waits for a refusal with this in its reason; what was presented, and the reason.
    pub fn refused(&self, reason: &str) -> (String, String) {
        let found = || self.link.refusals().1.into_iter().find(|refusal| refusal.reason.contains(reason));
        let started = Instant::now();
        loop {
            if let Some(found) = found() {
                return (found.presented.to_string(), found.reason.to_string());
            }
            let all = self.link.refusals();
            assert!(started.elapsed() < Duration::from_secs(60), "no refusal says `{reason}`: {all:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Good peers are still served: one dials, offers, and is answered.
    pub fn still_works(&self, world: &World, good: &str) {
        let sender = world.plane(good, vec![peer(&self.name, Some(self.address()), &[Direction::Send])], |settings| {
            settings.listen = None;
        });
        eventually("the good peer connects", || sender.peer(&self.name).outgoing);
        let number = u64::try_from(self.messages().len()).unwrap() + 1_000;
        let said = inquiry(good, number);
        sender.link.send(&self.name, &said).unwrap();
        eventually("its message arrives", || self.messages().iter().any(|(_, message)| *message == said).then_some(()));
        let answer = denied(good, number);
        self.link.send(&good.into(), &answer).unwrap();
        eventually("the answer arrives", || sender.messages().iter().any(|(_, message)| *message == answer).then_some(()));
    }
}

/// A small message that both sides may say.
pub fn inquiry(source: &str, number: u64) -> Envelope {
    Envelope { id: MigrationId { plane: source.into(), number }, message: Message::Inquire }
}

/// A small message of a target.
pub fn denied(source: &str, number: u64) -> Envelope {
    let reason = Reason::new(ReasonKind::Denied, "full");
    Envelope { id: MigrationId { plane: source.into(), number }, message: Message::Denied(reason) }
}

/// Somebody who dials by hand and looks at nothing that the other side presents.
#[derive(Debug)]
struct Blind;

impl rustls::client::danger::ServerCertVerifier for Blind {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A TLS connection by hand, with the certificate of this folder, or with none.
pub async fn shake(address: SocketAddr, identity: Option<&Path>) -> io::Result<TlsStream<TcpStream>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Blind));
    let mut config = match identity {
        None => config.with_no_client_auth(),
        Some(folder) => {
            let chain = CertificateDer::pem_file_iter(folder.join("plane.crt")).unwrap();
            let key = PrivateKeyDer::from_pem_file(folder.join("plane.key")).unwrap();
            config.with_client_auth_cert(chain.map(Result::unwrap).collect(), key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::from(address.ip());
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// What the other side says to such a connection when it does not want it.
pub async fn turned_away(address: SocketAddr, identity: Option<&Path>) -> String {
    use tokio::io::AsyncReadExt;
    let mut stream = match shake(address, identity).await {
        Ok(stream) => stream,
        Err(error) => return error.to_string(),
    };
    // In TLS 1.3 the client is done first; what the server thinks of its certificate comes with the first bytes.
    let mut bytes = [0; 4_096];
    loop {
        match stream.read(&mut bytes).await {
            Ok(0) => return "closed".to_owned(),
            Ok(_) => {}
            Err(error) => return error.to_string(),
        }
    }
}

/// A stranger's gRPC client.
pub async fn dial(address: SocketAddr, identity: &Path) -> PlanesClient<Channel> {
    let stream = Mutex::new(Some(TokioIo::new(shake(address, Some(identity)).await.unwrap())));
    let connector = tower::service_fn(move |_| {
        let stream = stream.lock().unwrap().take().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected));
        std::future::ready(stream)
    });
    let channel = Endpoint::from_static("http://plane").connect_with_connector(connector).await.unwrap();
    PlanesClient::new(channel).max_decoding_message_size(64 << 20).max_encoding_message_size(64 << 20)
}

/// A stream that a stranger speaks on by hand.
pub struct Hand {
    pub out: mpsc::Sender<Frame>,
    pub answer: Result<Response<Streaming<Frame>>, Status>,
}

impl Hand {
    /// Opens a stream and says these frames.
    pub async fn say(client: &mut PlanesClient<Channel>, frames: Vec<Frame>) -> Hand {
        let (out, stream) = mpsc::channel(frames.len().max(1) + 16);
        for frame in frames {
            out.send(frame).await.unwrap();
        }
        let answer = client.exchange(ReceiverStream::new(stream)).await;
        Hand { out, answer }
    }

    /// Reads to the end; the last word of the other side.
    pub async fn ending(self) -> String {
        let mut stream = match self.answer {
            Ok(response) => response.into_inner(),
            Err(status) => return format!("{:?}: {}", status.code(), status.message()),
        };
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return "ended".to_owned(),
                Err(status) => return format!("{:?}: {}", status.code(), status.message()),
            }
        }
    }
}

pub fn hello(plane: &str, to: &str, versions: Versions) -> Frame {
    let Versions { oldest, newest } = versions;
    let hello = Hello { plane: plane.to_owned(), to: to.to_owned(), oldest, newest, version: 0 };
    Frame { number: 1, body: Some(Body::Hello(hello)) }
}

pub fn frame(number: u64, body: Body) -> Frame {
    Frame { number, body: Some(body) }
}
