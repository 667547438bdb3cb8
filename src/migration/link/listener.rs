//! The side that is dialled: accepts connections, finds out who they are, and serves one stream on each.

use super::peers::Peers;
use super::proto::Frame;
use super::proto::planes_server::{Planes, PlanesServer};
use super::session::{self, Opened};
use super::tls::{self, Check, Connection, Presented};
use super::wire::{self, FRAME_BYTES, Numbers, Reader, Speaker};
use super::{LinkError, Shared};
use crate::pki::Certificate;
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};

/// After its stream has ended, a connection gets so long to say why.
const LINGER: Duration = Duration::from_secs(1);
/// Streams that one connection may ask for at once; all but the first are refused.
const STREAMS: u32 = 32;

/// Who is at the other end of a connection.
pub(super) struct Caller {
    shared: Arc<Shared>,
    address: Arc<str>,
    presented: Presented,
    certificate: Certificate,
    plane: Arc<str>,
    /// Has a stream been asked for?
    used: AtomicBool,
    /// Has one been accepted?
    accepted: AtomicBool,
    close: Mutex<Option<oneshot::Sender<()>>>,
}

impl Caller {
    fn close(&self) {
        self.close.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Refuses a stream, with the reason for the caller and for our log.
    fn refuse(&self, status: Status) -> Status {
        self.shared.refuse(&self.address, Some(&self.certificate), status.message());
        status
    }
}

impl Connected for Connection<Arc<Place>> {
    type ConnectInfo = Arc<Caller>;

    fn connect_info(&self) -> Arc<Caller> {
        self.info.caller.clone()
    }
}

/// A connection counts as long as this lives.
pub(super) struct Place {
    caller: Arc<Caller>,
    counts: Arc<Counts>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.counts.leave(&self.caller.plane);
    }
}

/// Connections of each plane.
#[derive(Debug, Default)]
struct Counts(Mutex<BTreeMap<Arc<str>, usize>>);

impl Counts {
    fn enter(&self, plane: &Arc<str>, most: usize) -> bool {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(plane.clone()).or_default();
        let room = *count < most;
        *count += usize::from(room);
        room
    }

    fn leave(&self, plane: &str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(plane) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(plane);
            }
        }
    }
}

/// Serves until the task is ended.
pub(super) async fn serve(shared: Arc<Shared>, listener: TcpListener) -> Result<(), LinkError> {
    let (connections, incoming) = mpsc::channel(16);
    let accepting = accept(shared.clone(), listener, connections);
    let service =
        PlanesServer::new(Service { shared }).max_decoding_message_size(FRAME_BYTES).max_encoding_message_size(FRAME_BYTES);
    let serving = Server::builder()
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(2 << 20)
        .http2_max_header_list_size(16 << 10)
        .serve_with_incoming(service, ReceiverStream::new(incoming));
    tokio::select! {
        () = accepting => Ok(()),
        served = serving => served.map_err(|error| LinkError::Serving(error.to_string())),
    }
}

async fn accept(shared: Arc<Shared>, listener: TcpListener, connections: mpsc::Sender<io::Result<Connection<Arc<Place>>>>) {
    let handshakes = Arc::new(Semaphore::new(shared.limits.handshakes));
    let counts = Arc::new(Counts::default());
    loop {
        let Ok(turn) = handshakes.clone().acquire_owned().await else { return };
        let (stream, address) = match listener.accept().await {
            Ok((stream, address)) => (stream, Arc::from(address.to_string())),
            Err(error) => {
                // No file descriptors left, for example: others must end first.
                tracing::warn!(%error, "cannot accept a connection");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (shared, counts, connections) = (shared.clone(), counts.clone(), connections.clone());
        tokio::spawn(async move {
            let connection = shake(&shared, stream, &address, &counts).await;
            drop(turn);
            if let Some(connection) = connection {
                let caller = connection.info.caller.clone();
                if connections.send(Ok(connection)).await.is_ok() {
                    sleep(shared.limits.hello.as_duration() * 2).await;
                    if !caller.accepted.load(Ordering::SeqCst) {
                        caller.close();
                    }
                }
            }
        });
    }
}

/// The handshake: finds out who it is, or refuses.
async fn shake(
    shared: &Arc<Shared>,
    stream: TcpStream,
    address: &Arc<str>,
    counts: &Arc<Counts>,
) -> Option<Connection<Arc<Place>>> {
    // Without it, small messages may wait for each other; nothing else depends on it.
    stream.set_nodelay(true).ok();
    let credentials = shared.credentials.borrow().clone();
    let check = Check::new(credentials.trust.clone(), shared.clock.clone(), None);
    let config = match tls::server(&credentials, check.clone()) {
        Ok(config) => Arc::new(config),
        Err(error) => {
            tracing::error!(%error, "cannot answer a connection");
            return None;
        }
    };
    let limit = shared.limits.handshake;
    let shaken = match timeout(limit.as_duration(), TlsAcceptor::from(config).accept(stream)).await {
        Ok(shaken) => shaken.map_err(|error| tls::explain(&error)),
        Err(_) => Err(format!("the handshake took longer than {limit}")),
    };
    let presented = check.presented().cloned();
    let stream = match shaken {
        Ok(stream) => stream,
        Err(error) => {
            let reason = match presented.as_ref().and_then(|presented| presented.refused.as_ref()) {
                Some(refused) => format!("its certificate is not accepted: {refused}"),
                None => error,
            };
            shared.refuse(address, presented.as_ref().and_then(|presented| presented.read.as_ref()), &reason);
            return None;
        }
    };
    // A handshake that is done has presented a certificate that names a plane; the check was there.
    let presented = presented?;
    let certificate = presented.read.clone()?;
    let plane = certificate.plane.clone()?;
    let most = shared.limits.connections;
    if !counts.enter(&plane, most) {
        shared.refuse(address, Some(&certificate), &format!("{most} connections of this plane are open already"));
        return None;
    }
    let caller = Arc::new(Caller {
        shared: shared.clone(),
        address: address.clone(),
        presented,
        certificate,
        plane,
        used: AtomicBool::new(false),
        accepted: AtomicBool::new(false),
        close: Mutex::new(None),
    });
    let place = Arc::new(Place { caller: caller.clone(), counts: counts.clone() });
    let (connection, close, _) = Connection::new(stream, place);
    *caller.close.lock().unwrap_or_else(PoisonError::into_inner) = Some(close);
    Some(connection)
}

struct Service {
    shared: Arc<Shared>,
}

#[tonic::async_trait]
impl Planes for Service {
    type ExchangeStream = ReceiverStream<Result<Frame, Status>>;

    async fn exchange(&self, request: Request<Streaming<Frame>>) -> Result<Response<Self::ExchangeStream>, Status> {
        let caller = request.extensions().get::<Arc<Caller>>().cloned();
        let caller = caller.ok_or_else(|| Status::internal("the connection is not known"))?;
        if caller.used.swap(true, Ordering::SeqCst) {
            return Err(caller.refuse(Status::resource_exhausted("a connection carries one stream, and has had it")));
        }
        admit(&self.shared.peers, &caller.plane, &self.shared.plane)
            .map_err(|reason| caller.refuse(Status::permission_denied(reason)))?;
        let mut inbound = request.into_inner();
        let limit = self.shared.limits.hello;
        let first = match timeout(limit.as_duration(), inbound.message()).await {
            Ok(Ok(Some(first))) => first,
            Ok(Ok(None)) => return Err(caller.refuse(Status::failed_precondition("the stream ended before a Hello"))),
            Ok(Err(status)) => {
                let why = session::of_status(&status);
                return Err(caller.refuse(Status::failed_precondition(why.words())));
            }
            Err(_) => return Err(caller.refuse(Status::deadline_exceeded(format!("no Hello came within {limit}")))),
        };
        let mut reader = Reader::new(Speaker::Dialler, caller.plane.clone(), self.shared.plane.clone());
        let version = reader.hello(&first).and_then(|(theirs, _)| self.shared.versions.agree(theirs));
        let version = version.map_err(|violation| caller.refuse(Status::permission_denied(violation.to_string())))?;
        let (out, frames) = mpsc::channel(4);
        let mut numbers = Numbers::default();
        let hello = numbers.frame(wire::hello(&self.shared.plane, &caller.plane, self.shared.versions, version));
        // The channel is new and has room.
        out.try_send(Ok(hello)).map_err(|error| Status::internal(error.to_string()))?;
        caller.accepted.store(true, Ordering::SeqCst);
        let opened = Opened {
            peer: caller.plane.clone(),
            speaker: Speaker::Dialler,
            presented: caller.presented.clone(),
            certificate: caller.certificate.clone(),
            address: caller.address.clone(),
            version,
            reader,
            numbers,
            inbound,
            out,
        };
        let shared = self.shared.clone();
        tokio::spawn(async move {
            session::run(&shared, opened).await;
            sleep(LINGER).await;
            caller.close();
        });
        Ok(Response::new(ReceiverStream::new(frames)))
    }
}

/// May this plane open streams here?
fn admit(peers: &Peers, plane: &str, here: &str) -> Result<(), String> {
    match peers.settings(plane) {
        None => Err(format!("plane {plane} is not among the peers of plane {here}")),
        Some(peer) if !peer.receives() => {
            Err(format!("plane {here} receives nothing from plane {plane}: `allow` has no `receive`"))
        }
        Some(_) => Ok(()),
    }
}
