//! Connections of the API, and what one of them may cost: in number, in time, and in memory.
//!
//! | limit | value | what happens beyond |
//! |---|---|---|
//! | connections, by the socket, from the network or to the metrics, and from one address (IPv6: a /64) | [`CONNECTIONS`], [`PER_ADDRESS`] | a few more are told so (503); still more are closed |
//! | the TLS handshake | [`HANDSHAKE`] | closed |
//! | until the head of a request is there, also between two requests | [`HEAD`] | closed |
//! | the body of a request | [`super::request::BODY_TIME`], [`super::request::BODY_LIMIT_BYTES`] | 408, 413 |
//! | the answer | [`super::TIMEOUT`] | 408 |
//! | a client on the network that takes nothing of its answer | [`STALL`] | closed |
//!
//! Whatever is served runs on the network's runtime and asks the manager through its inbox, so none of this holds up the plane.

use super::access::Origin;
use super::caller::Caller;
use super::error::ApiError;
use super::locality::place_of;
use super::network::Network;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::{CONNECTION, SERVER};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::socket::{setsockopt, sockopt};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt;

/// Connections at once.
const CONNECTIONS: usize = 1_000;
/// Connections at once from one address.
const PER_ADDRESS: usize = 600;
/// So many more are told that it is too much.
const TOLD: usize = 32;
/// A TLS handshake must be done within this.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// The head of a request must be there within this; so long may a connection also be idle.
const HEAD: Duration = Duration::from_secs(15);
/// A client on the network that takes nothing of what it asked for is given up after this. Whoever reads by the socket may
/// take a pause: it is their own plane.
const STALL: Duration = Duration::from_secs(30);
/// What is read ahead, and what waits to be taken: of each connection at the most.
const BUFFER_BYTES: usize = 64 * 1024;
/// What the kernel keeps of an answer for a client on the network that does not take it (it counts as much again for itself).
const KERNEL_BYTES: usize = 128 * 1024;
/// After a failure to accept, others must end first.
const AGAIN: Duration = Duration::from_millis(100);

/// Serves connections. Cheap to clone; the other end of `_alive` hears when the last is gone.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) router: Router,
    pub(super) seats: Arc<Seats>,
    pub(super) stopping: watch::Receiver<bool>,
    pub(super) _alive: mpsc::Sender<()>,
}

impl Server {
    /// Accepts on the plane's socket, for ever.
    pub(super) async fn accept_local(self, listener: UnixListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(self.clone().local(stream))),
                Err(error) => refused(&error).await,
            }
        }
    }

    async fn local(self, stream: UnixStream) {
        let Some(seat) = self.seats.take(None) else { return };
        let origin = Origin::Socket(Caller::of_socket(&stream));
        self.converse(stream, origin, &seat).await;
    }

    /// Accepts on the network, for ever.
    pub(super) async fn accept_network(self, network: Arc<Network>) {
        loop {
            match network.listener.accept().await {
                Ok((stream, from)) => {
                    drop(tokio::spawn(self.clone().remote(network.clone(), stream, from.ip().to_canonical())));
                }
                Err(error) => refused(&error).await,
            }
        }
    }

    /// Accepts whoever can connect, without TLS, for ever.
    pub(super) async fn accept_plain(self, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, from)) => drop(tokio::spawn(self.clone().plain(stream, from.ip().to_canonical()))),
                Err(error) => refused(&error).await,
            }
        }
    }

    async fn plain(self, stream: TcpStream, address: IpAddr) {
        let Some(seat) = self.seats.take(Some(address)) else { return };
        slim(&stream);
        self.converse(patient(stream), Origin::Network(address), &seat).await;
    }

    async fn remote(self, network: Arc<Network>, stream: TcpStream, address: IpAddr) {
        let Some(seat) = self.seats.take(Some(address)) else { return };
        slim(&stream);
        match tokio::time::timeout(HANDSHAKE, network.acceptor.accept(patient(stream))).await {
            Ok(Ok(stream)) => self.converse(stream, Origin::Network(address), &seat).await,
            // Scanners and clients that hang up; those who mean it are told by their own side.
            Ok(Err(error)) => tracing::debug!(%address, %error, "no TLS handshake with a client of the API"),
            Err(_) => tracing::debug!(%address, "a client of the API took too long for the TLS handshake"),
        }
    }

    async fn converse(&self, stream: impl AsyncRead + AsyncWrite + Unpin, origin: Origin, seat: &Seat) {
        let service = service_fn(|request: hyper::Request<Incoming>| {
            let (router, origin) = (self.router.clone(), origin.clone());
            async move { Ok::<Response, Infallible>(answer(router, origin, seat, request.map(Body::new)).await) }
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(BUFFER_BYTES);
        let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
        let mut stopping = self.stopping.clone();
        let stops = async { drop(stopping.wait_for(|stopping| *stopping).await) };
        let ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            () = stops => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, ?origin, "a connection of the API broke off");
        }
    }
}

async fn refused(error: &std::io::Error) {
    tracing::warn!(%error, "the API cannot accept a connection");
    tokio::time::sleep(AGAIN).await;
}

/// A connection that is quick, and takes little room in the kernel.
fn slim(stream: &TcpStream) {
    // Without it, small messages may wait for each other; nothing else depends on it.
    stream.set_nodelay(true).ok();
    // Else the kernel keeps some MiB for each client that does not read, and it is long before that shows.
    setsockopt(stream, sockopt::SndBuf, &KERNEL_BYTES).ok();
}

/// A stream that gives up when nothing of what is written is taken.
fn patient<S: AsyncRead + AsyncWrite>(stream: S) -> std::pin::Pin<Box<TimeoutStream<S>>> {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(STALL));
    Box::pin(stream)
}

async fn answer(router: Router, origin: Origin, seat: &Seat, mut request: Request) -> Response {
    let mut response = match seat.refused {
        Some(what) => {
            let error = ApiError::unavailable(format!("too many connections {what}"));
            let mut response = error.with_hint("close some, or try again later").into_response();
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            response
        }
        None => {
            request.extensions_mut().insert(origin);
            router.oneshot(request).await.unwrap_or_else(|never| match never {})
        }
    };
    response.headers_mut().insert(SERVER, HeaderValue::from_static(super::SERVER));
    response
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by: BTreeMap<IpAddr, usize>,
}

/// Counts connections.
#[derive(Debug, Default)]
pub(super) struct Seats(Mutex<Taken>);

/// A connection counts as long as this lives.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    address: Option<IpAddr>,
    /// Why it may stay only to hear so.
    refused: Option<&'static str>,
}

impl Seats {
    /// `None`: there is not even room to say that there is none.
    fn take(self: &Arc<Seats>, address: Option<IpAddr>) -> Option<Seat> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let address = address.map(place_of);
        let from_there = address.and_then(|address| taken.by.get(&address)).copied().unwrap_or(0);
        if taken.all >= CONNECTIONS + TOLD || from_there >= PER_ADDRESS + TOLD {
            return None;
        }
        taken.all += 1;
        if let Some(address) = address {
            *taken.by.entry(address).or_default() += 1;
        }
        let refused = match () {
            () if from_there >= PER_ADDRESS => Some("from this address"),
            () if taken.all > CONNECTIONS => Some("to this plane"),
            () => None,
        };
        Some(Seat { seats: self.clone(), address, refused })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all = taken.all.saturating_sub(1);
        let Some(address) = self.address else { return };
        if let Some(count) = taken.by.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                taken.by.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_limited_in_all_and_for_each_address() {
        let seats = Arc::new(Seats::default());
        let address = |last: u8| Some(IpAddr::from([10, 0, 0, last]));
        let mut taken: Vec<Seat> = (0..PER_ADDRESS).map(|_| seats.take(address(1)).unwrap()).collect();
        assert!(taken.iter().all(|seat| seat.refused.is_none()));
        taken.extend((0..TOLD).map(|_| seats.take(address(1)).unwrap()));
        assert_eq!(taken.last().unwrap().refused, Some("from this address"));
        assert!(seats.take(address(1)).is_none());
        assert_eq!(seats.take(address(2)).unwrap().refused, None, "others are not concerned");
        while taken.len() < CONNECTIONS {
            taken.push(seats.take(None).unwrap());
        }
        assert_eq!(seats.take(address(2)).unwrap().refused, Some("to this plane"));
        taken.clear();
        let rest = seats.0.lock().unwrap();
        assert_eq!((rest.all, rest.by.len()), (0, 0), "nothing stays behind");
    }
}
