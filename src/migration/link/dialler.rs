//! The side that dials: keeps a stream open to every peer to which this plane may send.

use super::Shared;
use super::proto::planes_client::PlanesClient;
use super::session::{self, Ended, Opened};
use super::settings::PeerSettings;
use super::tls::{self, Check, Connection};
use super::wire::{self, FRAME_BYTES, Numbers, Reader, Speaker, Violation};
use crate::model::Span;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

/// Dials until the task is ended.
pub(super) async fn keep(shared: Arc<Shared>, peer: PeerSettings, address: Arc<str>) {
    let mut credentials = shared.credentials.subscribe();
    let came = shared.peers.came(&peer.name);
    let mut failures = 0_u32;
    loop {
        credentials.mark_unchanged();
        let started = shared.clock.now();
        let ended = dial(&shared, &peer.name, &address).await.unwrap_or_else(|ended| ended);
        // A stream that has worked for a while was no failure.
        if shared.clock.now().since(started) > shared.limits.idle {
            failures = 0;
        }
        if shared.peers.problem(&peer.name, ended.words()) {
            tracing::warn!(peer = %peer.name, %address, why = ended.words(), "not connected; it is tried again and again");
        }
        let wait = back_off(&shared.plane, &peer.name, failures, shared.limits.again_first, shared.limits.again_most);
        failures = failures.saturating_add(1);
        tokio::select! {
            () = sleep(wait.as_duration()) => {}
            // It has dialled this plane, so it is there.
            () = came.notified() => failures = 0,
            // New certificates may be what was missing.
            _ = credentials.changed() => {}
        }
    }
}

/// Twice as long after each failure, up to a limit, and a little different for each pair of planes, so that those who lost a
/// common peer at once do not all come back at once.
fn back_off(own: &str, peer: &str, failures: u32, first: Span, most: Span) -> Span {
    let full = first.0.saturating_mul(1_u64.checked_shl(failures.min(32)).unwrap_or(u64::MAX)).min(most.0);
    let mut hasher = DefaultHasher::new();
    (own, peer, failures).hash(&mut hasher);
    // Between 75 % and 125 %.
    Span(full.saturating_mul(750 + hasher.finish() % 501) / 1_000)
}

async fn dial(shared: &Arc<Shared>, peer: &Arc<str>, address: &Arc<str>) -> Result<Ended, Ended> {
    let lost = Ended::Lost;
    let limits = &shared.limits;
    let late = |what: &str, limit: Span| Ended::Lost(format!("{address}: {what} took longer than {limit}"));
    let stream = timeout(limits.handshake.as_duration(), TcpStream::connect(&**address)).await;
    let stream = stream.map_err(|_| late("connecting", limits.handshake))?;
    let stream = stream.map_err(|error| lost(format!("cannot connect to {address}: {error}")))?;
    // Without it, small messages may wait for each other; nothing else depends on it.
    stream.set_nodelay(true).ok();

    let credentials = shared.credentials.borrow().clone();
    let check = Check::new(credentials.trust.clone(), shared.clock.clone(), Some(peer.clone()));
    let config = tls::client(&credentials, check.clone()).map_err(|error| lost(error.to_string()))?;
    let name = server_name(address).map_err(lost)?;
    let shaking = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let shaken = timeout(limits.handshake.as_duration(), shaking).await.map_err(|_| late("the handshake", limits.handshake))?;
    let presented = check.presented().cloned();
    let stream = shaken.map_err(|error| match presented.as_ref().and_then(|presented| presented.refused.as_ref()) {
        Some(refused) => {
            let reason = format!("its certificate is not accepted: {refused}");
            shared.refuse(address, presented.as_ref().and_then(|presented| presented.read.as_ref()), &reason);
            Ended::Refused(reason)
        }
        None => lost(format!("{address}: {}", tls::explain(&error))),
    })?;
    let nobody = || lost(format!("{address}: the peer has presented no certificate"));
    let presented = presented.ok_or_else(nobody)?;
    let certificate = presented.read.clone().ok_or_else(nobody)?;

    // The connection closes when this is dropped.
    let (connection, _close, trouble) = Connection::new(stream, ());
    let failed = |status: &tonic::Status| match (trouble.get(), session::of_status(status)) {
        (Some(trouble), Ended::Lost(_) | Ended::Refused(_)) => Ended::Lost(trouble.clone()),
        (_, ended) => ended,
    };
    let connection = Mutex::new(Some(connection));
    let connector = tower::service_fn(move |_| {
        let connection = connection.lock().unwrap_or_else(PoisonError::into_inner).take();
        let connection = connection.map(TokioIo::new).ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected));
        std::future::ready(connection)
    });
    let endpoint =
        Endpoint::from_static("http://plane").initial_stream_window_size(1 << 20).initial_connection_window_size(2 << 20);
    let channel = endpoint.connect_with_connector(connector).await;
    let channel = channel.map_err(|error| lost(trouble.get().cloned().unwrap_or_else(|| error.to_string())))?;
    let mut client = PlanesClient::new(channel).max_decoding_message_size(FRAME_BYTES).max_encoding_message_size(FRAME_BYTES);

    let (out, frames) = mpsc::channel(4);
    let mut numbers = Numbers::default();
    let hello = numbers.frame(wire::hello(&shared.plane, peer, shared.versions, 0));
    out.try_send(Ok(hello)).map_err(|error| lost(error.to_string()))?;
    let frames = ReceiverStream::new(frames).map_while(Result::ok);
    let answer = timeout(limits.hello.as_duration(), client.exchange(frames)).await;
    let answer = answer.map_err(|_| late("the answer to our Hello", limits.hello))?;
    let mut inbound = answer.map_err(|status| failed(&status))?.into_inner();
    let first = timeout(limits.hello.as_duration(), inbound.message()).await;
    let first = first.map_err(|_| late("the answer to our Hello", limits.hello))?.map_err(|status| failed(&status))?;
    let first = first.ok_or_else(|| lost(format!("{address}: the stream ended before a Hello")))?;
    let mut reader = Reader::new(Speaker::Listener, shared.plane.clone(), peer.clone());
    let version = reader.hello(&first).and_then(|(theirs, version)| {
        let agreed = shared.versions.agree(theirs)?;
        if agreed == version { Ok(version) } else { Err(Violation::Version(version)) }
    });
    let version = version.map_err(|violation| {
        shared.refuse(address, Some(&certificate), &violation.to_string());
        Ended::Refused(violation.to_string())
    })?;
    let opened = Opened {
        peer: peer.clone(),
        speaker: Speaker::Listener,
        presented,
        certificate,
        address: address.clone(),
        version,
        reader,
        numbers,
        inbound,
        out,
    };
    Ok(match session::run(shared, opened).await {
        Ended::Lost(why) => Ended::Lost(trouble.get().cloned().unwrap_or(why)),
        ended => ended,
    })
}

/// The name in an address; TLS sends it along, nobody checks it.
fn server_name(address: &str) -> Result<ServerName<'static>, String> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(host.to_owned()).map_err(|_| format!("`{address}` is not an address, as `HOST:PORT`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dialling_slows_down_and_never_stops() {
        let (first, most) = (Span(250), Span::seconds(15));
        let waits: Vec<u64> = (0..100).map(|failures| back_off("a", "b", failures, first, most).0).collect();
        assert!((187..=313).contains(&waits[0]), "{waits:?}");
        assert!(waits.iter().all(|wait| (187..=18_750).contains(wait)), "{waits:?}");
        assert!(waits[8..].iter().all(|wait| *wait >= 11_250), "{waits:?}");
    }

    #[test]
    fn addresses_are_hosts_or_numbers() {
        for address in ["b.example:7400", "10.0.0.2:7400", "[fd00::2]:7400", "localhost:1"] {
            assert!(server_name(address).is_ok(), "{address}");
        }
        assert!(server_name("no host:1").is_err());
    }
}
