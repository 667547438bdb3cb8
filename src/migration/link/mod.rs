//! The link: what one plane says to another, over gRPC and mutual TLS. The only part of the migration that does I/O.
//!
//! ```text
//!            plane A, source                                     plane B, target
//!  Link::send(B, message) --queue--> dialler ==== TLS 1.3 ====> listener ---> deliver(Heard::Message { peer: A, .. })
//!  deliver(Heard::Message) <-------- dialler <=== one stream ==== listener <---queue-- Link::send(A, message)
//! ```
//! * The plane that dials is the source of all migrations on the stream, and nothing else may be said on it: a migration's
//!   name begins with its source, offers name both planes, and each kind of message belongs to one side.
//! * A peer is who its certificate says ([`crate::pki`]); it must stand in the configuration, with the direction allowed.
//! * Messages are delivered in their order, or lost with the stream. Nothing is sent twice by the link, nothing is kept: who
//!   wants an answer asks again. A stream that is lost is dialled again, ever more slowly.
//! * What a peer can make this plane do is bounded: bytes of a frame, frames and bytes a second, connections, handshakes,
//!   time. Whatever is refused is logged with the identity that was presented, and kept for `embot peers`.
//! * Certificates, keys, authorities and revocations are read again when their files change. Open streams are checked again.

mod dialler;
pub mod difference;
mod listener;
pub mod peers;
pub mod rate;
mod refusals;
mod session;
pub mod settings;
mod tls;
pub mod wire;

/// The `.proto`, compiled.
#[allow(missing_docs, clippy::all, reason = "written by a compiler")]
pub mod proto {
    tonic::include_proto!("embot.planes.v1");
}

pub use difference::Difference;
pub use peers::{PeerStatus, StreamStatus, Unsent};
pub use refusals::Refusal;
pub use settings::{Direction, Limits, LinkSettings, PeerLimits, PeerSettings};
pub use wire::{VERSIONS, Versions};

use super::message::Envelope;
use crate::clock::Clock;
use crate::model::{Peer, Span, Summary};
use crate::pki::{Certificate, Credentials, Paths, PkiError};
use peers::Peers;
use refusals::Refusals;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Where a receiver has no room, it is asked again after this.
const AGAIN: Duration = Duration::from_millis(10);
/// An own certificate that ends within this is warned of.
const SOON: Span = Span::hours(14 * 24);

/// What the link tells the plane.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// A peer says something about a migration. Its kind, its source and its names have been checked.
    Message {
        /// The peer, as its certificate says.
        peer: Arc<str>,
        /// Its clock against ours, as measured by now.
        clock: Option<Difference>,
        /// What it says.
        envelope: Box<Envelope>,
    },
    /// A peer has come, gone, or said what it has to give.
    Peer(Box<Peer>),
}

/// Takes what was heard; without room it gives it back, and is asked again. Must not block.
pub type Deliver = Arc<dyn Fn(Heard) -> Result<(), Heard> + Send + Sync>;

/// Why the link cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Keys and certificates.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The address to listen at.
    #[error("cannot listen at {address} (`link.listen`): {source}")]
    Listen {
        /// Which.
        address: Arc<str>,
        /// What the operating system says.
        source: io::Error,
    },
    /// The server has ended.
    #[error("the link cannot serve: {0}")]
    Serving(String),
}

/// What a link is made of.
pub struct Settings {
    /// This plane's name.
    pub plane: Arc<str>,
    /// Where to listen; `None`: it only dials.
    pub listen: Option<Arc<str>>,
    /// Keys and certificates.
    pub paths: Paths,
    /// The peers.
    pub peers: Vec<PeerSettings>,
    /// Limits in time and number.
    pub limits: Limits,
    /// Versions of the protocol to speak.
    pub versions: Versions,
}

impl Settings {
    /// As configured, with the usual limits.
    pub fn new(plane: &Arc<str>, link: &LinkSettings, peers: &[PeerSettings]) -> Settings {
        Settings {
            plane: plane.clone(),
            listen: link.listen.clone(),
            paths: link.paths(),
            peers: peers.to_vec(),
            limits: Limits::default(),
            versions: VERSIONS,
        }
    }
}

/// What all tasks of the link share.
pub(crate) struct Shared {
    plane: Arc<str>,
    limits: Limits,
    versions: Versions,
    clock: Arc<dyn Clock>,
    credentials: watch::Sender<Arc<Credentials>>,
    summary: watch::Sender<Option<Summary>>,
    peers: Peers,
    /// Why the files of certificates, as they are now, are not in force.
    unread: Mutex<Option<Arc<str>>>,
    refusals: Refusals,
    deliver: Deliver,
    streams: AtomicU64,
    stopped: AtomicBool,
}

impl Shared {
    fn next_stream(&self) -> u64 {
        self.streams.fetch_add(1, Ordering::Relaxed)
    }

    /// Waits until there is room, or the link has been stopped and nobody will ever take it.
    async fn deliver(&self, mut heard: Heard) {
        while let Err(back) = (self.deliver)(heard) {
            if self.stopped.load(Ordering::SeqCst) {
                return;
            }
            heard = back;
            sleep(AGAIN).await;
        }
    }

    fn refuse(&self, address: &Arc<str>, presented: Option<&Certificate>, reason: &str) {
        self.refusals.add(Refusal {
            at: self.clock.now(),
            address: address.clone(),
            presented: presented.map_or("nobody".into(), |certificate| certificate.to_string().into()),
            reason: reason.into(),
        });
    }
}

/// The link of one plane. Ends when the last clone is dropped, or on [`Link::stop`].
#[derive(Clone)]
pub struct Link(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    address: Option<SocketAddr>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("plane", &self.0.shared.plane).field("address", &self.0.address).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.end();
    }
}

impl Inner {
    /// Streams that peers have dialled run on their own; they are told.
    fn end(&self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.shared.peers.end_all("the plane stops");
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..).for_each(|task| task.abort());
    }
}

impl Link {
    /// Reads the certificates, listens, and begins to dial. From here on `deliver` is called from the runtime's threads.
    pub fn start(
        runtime: &runtime::Handle,
        settings: Settings,
        clock: Arc<dyn Clock>,
        deliver: Deliver,
    ) -> Result<Link, LinkError> {
        let credentials = Credentials::load(&settings.paths, &settings.plane, clock.now())?;
        remark(&credentials, &*clock);
        let listener = settings.listen.as_ref().map(|address| {
            let bound = std::net::TcpListener::bind(&**address).and_then(|listener| {
                listener.set_nonblocking(true)?;
                let _inside = runtime.enter();
                tokio::net::TcpListener::from_std(listener)
            });
            bound.map_err(|source| LinkError::Listen { address: address.clone(), source })
        });
        let listener = listener.transpose()?;
        let address = listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let shared = Arc::new(Shared {
            plane: settings.plane,
            limits: settings.limits,
            versions: settings.versions,
            credentials: watch::Sender::new(Arc::new(credentials)),
            summary: watch::Sender::new(None),
            peers: Peers::new(&settings.peers),
            unread: Mutex::default(),
            refusals: Refusals::new(clock.now()),
            clock,
            deliver,
            streams: AtomicU64::new(1),
            stopped: AtomicBool::new(false),
        });
        let mut tasks = vec![runtime.spawn(reload(shared.clone(), settings.paths))];
        if let Some(listener) = listener {
            let shared = shared.clone();
            tasks.push(runtime.spawn(async move {
                if let Err(error) = listener::serve(shared, listener).await {
                    tracing::error!("{error}");
                }
            }));
        }
        for peer in settings.peers {
            if let (true, Some(address)) = (peer.sends(), peer.address.clone()) {
                tasks.push(runtime.spawn(dialler::keep(shared.clone(), peer, address)));
            }
        }
        Ok(Link(Arc::new(Inner { shared, address, tasks: Mutex::new(tasks) })))
    }

    /// Where it listens.
    pub fn address(&self) -> Option<SocketAddr> {
        self.0.address
    }

    /// Puts a message on its way, or says at once that it cannot. Never blocks. What is put on its way may still be lost.
    pub fn send(&self, peer: &Arc<str>, envelope: &Envelope) -> Result<(), Unsent> {
        let shared = &self.0.shared;
        let stream = shared.peers.stream(peer, &shared.plane, &envelope.id)?;
        stream.send(peer, wire::message(envelope)?)
    }

    /// Tells the peers what this plane has to give, now and to those who come later.
    pub fn tell(&self, summary: Summary) {
        self.0.shared.summary.send_if_modified(|told| {
            let news = told.as_ref() != Some(&summary);
            *told = Some(summary);
            news
        });
    }

    /// The peers as they are now, by name.
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.0.shared.peers.all()
    }

    /// How many were refused since the start, and the last of them.
    pub fn refusals(&self) -> (u64, Vec<Refusal>) {
        self.0.shared.refusals.all()
    }

    /// This plane's own certificate, as it is in use.
    pub fn certificate(&self) -> Certificate {
        self.0.shared.credentials.borrow().own.clone()
    }

    /// Why the files of certificates, as they are now, are not in force; `None` where they are.
    pub fn unread(&self) -> Option<Arc<str>> {
        self.0.shared.unread.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends all streams and tasks.
    pub fn stop(&self) {
        self.0.end();
    }
}

/// Reads the files again when they change. What cannot be read leaves in force what was.
async fn reload(shared: Arc<Shared>, paths: Paths) {
    let mut known = paths.state();
    loop {
        sleep(shared.limits.reload.as_duration()).await;
        let state = paths.state();
        if state == known {
            continue;
        }
        known = state;
        let unread = match Credentials::load(&paths, &shared.plane, shared.clock.now()) {
            Ok(credentials) => {
                tracing::info!(own = %credentials.own, "certificates read again");
                remark(&credentials, &*shared.clock);
                shared.credentials.send_replace(Arc::new(credentials));
                None
            }
            Err(error) => {
                tracing::error!("certificates have changed, and the old ones stay in force: {error}");
                Some(error.to_string().into())
            }
        };
        *shared.unread.lock().unwrap_or_else(PoisonError::into_inner) = unread;
    }
}

/// What an admin should know about the plane's own certificate.
fn remark(credentials: &Credentials, clock: &dyn Clock) {
    let now = clock.now();
    if let Some(doubt) = &credentials.doubt {
        tracing::error!(own = %credentials.own, "this plane's own certificate is of no use, peers will refuse it: {doubt}");
    } else if credentials.own.until <= now + SOON {
        let days = credentials.own.until.since(now).0 / Span::hours(24).0;
        tracing::warn!(own = %credentials.own, "this plane's certificate ends in {days} days: `embot pki renew`");
    }
    if credentials.trust.is_outdated(now) {
        tracing::warn!("the list of revoked certificates is outdated; copy a newer `crl.pem` here");
    }
}
