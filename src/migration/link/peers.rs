//! The peers as the link sees them: who is connected, since when, what it last said, what went wrong last.

use super::difference::Difference;
use super::proto;
use super::settings::PeerSettings;
use super::wire::Speaker;
use crate::model::{Peer, Summary, Timestamp};
use crate::pki::Certificate;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, mpsc, watch};

/// Messages that may wait to leave on one stream.
pub(super) const QUEUE: usize = 1_024;
/// Bytes that may wait to leave on one stream.
const QUEUE_BYTES: usize = 64 << 20;

/// One peer, for tables and the API.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PeerStatus {
    /// Its name.
    pub name: Arc<str>,
    /// Where it is dialled.
    pub address: Option<Arc<str>>,
    /// May this plane offer guests to it?
    pub sends: bool,
    /// May it offer guests to this plane?
    pub receives: bool,
    /// The stream this plane has dialled, on which it offers.
    pub outgoing: Option<StreamStatus>,
    /// The stream the peer has dialled, on which it offers.
    pub incoming: Option<StreamStatus>,
    /// What it last said of itself.
    pub summary: Option<Summary>,
    /// When it said that, by this plane's clock.
    pub summary_at: Option<Timestamp>,
    /// Its clock against ours.
    pub clock: Option<Difference>,
    /// Why there is no outgoing stream, or why the last one ended.
    pub problem: Option<Arc<str>>,
}

/// A stream, for tables and the API.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StreamStatus {
    /// Since when.
    pub since: Timestamp,
    /// The other end.
    pub address: Arc<str>,
    /// The protocol's version.
    pub version: u32,
    /// The certificate it has shown.
    pub certificate: Certificate,
    /// Messages sent.
    pub sent: u64,
    /// Messages heard.
    pub heard: u64,
}

/// Why a message was not sent. It is lost; whoever sent it sends it again after a while, as after any loss.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsent {
    /// Not one of the peers.
    #[error("plane {0} is not among the peers in the configuration")]
    NoPeer(Arc<str>),
    /// A migration of neither plane.
    #[error("migration {migration} is neither this plane's nor plane {peer}'s")]
    Foreign {
        /// Which.
        migration: String,
        /// To whom it was to go.
        peer: Arc<str>,
    },
    /// No stream.
    #[error("plane {peer} is not connected{why}")]
    NotConnected {
        /// To whom.
        peer: Arc<str>,
        /// Why, as far as that is known.
        why: String,
    },
    /// Too much waits already.
    #[error("too much waits to be sent to plane {0}")]
    Busy(Arc<str>),
    /// The peer would refuse it.
    #[error(transparent)]
    Message(#[from] crate::migration::message::MessageError),
}

/// An open stream, as others see it.
#[derive(Debug)]
pub(super) struct Stream {
    pub id: u64,
    pub since: Timestamp,
    pub address: Arc<str>,
    pub version: u32,
    pub certificate: Certificate,
    /// Messages to leave.
    pub queue: mpsc::Sender<proto::Message>,
    pub queued_bytes: AtomicUsize,
    /// Tells it to end, and why.
    pub end: watch::Sender<Option<Arc<str>>>,
    pub sent: AtomicUsize,
    pub heard: AtomicUsize,
}

impl Stream {
    /// Puts a message into the queue.
    pub(super) fn send(&self, peer: &Arc<str>, message: proto::Message) -> Result<(), Unsent> {
        let bytes = message.content.len();
        if self.queued_bytes.fetch_add(bytes, Ordering::SeqCst) > QUEUE_BYTES {
            self.queued_bytes.fetch_sub(bytes, Ordering::SeqCst);
            return Err(Unsent::Busy(peer.clone()));
        }
        self.queue.try_send(message).map_err(|error| {
            self.queued_bytes.fetch_sub(bytes, Ordering::SeqCst);
            match error {
                mpsc::error::TrySendError::Full(_) => Unsent::Busy(peer.clone()),
                mpsc::error::TrySendError::Closed(_) => Unsent::NotConnected { peer: peer.clone(), why: String::new() },
            }
        })
    }

    fn status(&self) -> StreamStatus {
        let count = |of: &AtomicUsize| of.load(Ordering::Relaxed) as u64;
        StreamStatus {
            since: self.since,
            address: self.address.clone(),
            version: self.version,
            certificate: self.certificate.clone(),
            sent: count(&self.sent),
            heard: count(&self.heard),
        }
    }
}

#[derive(Debug)]
struct Entry {
    settings: PeerSettings,
    outgoing: Option<Arc<Stream>>,
    incoming: Option<Arc<Stream>>,
    summary: Option<(Summary, Timestamp)>,
    clock: Option<Difference>,
    problem: Option<Arc<str>>,
    /// Told whenever the peer has dialled this plane.
    came: Arc<Notify>,
}

impl Entry {
    fn line(&mut self, dialler_is_peer: bool) -> &mut Option<Arc<Stream>> {
        if dialler_is_peer { &mut self.incoming } else { &mut self.outgoing }
    }

    fn peer(&self) -> Peer {
        let mut peer = self.settings.peer();
        peer.reachable = if peer.sends { self.outgoing.is_some() } else { self.incoming.is_some() };
        if let Some((summary, at)) = &self.summary {
            (peer.summary, peer.summary_at) = (Some(summary.clone()), *at);
        }
        peer
    }
}

/// All peers.
#[derive(Debug)]
pub(super) struct Peers(Mutex<BTreeMap<Arc<str>, Entry>>);

impl Peers {
    pub(super) fn new(peers: &[PeerSettings]) -> Peers {
        let entry = |settings: &PeerSettings| Entry {
            settings: settings.clone(),
            outgoing: None,
            incoming: None,
            summary: None,
            clock: None,
            problem: None,
            came: Arc::default(),
        };
        Peers(Mutex::new(peers.iter().map(|peer| (peer.name.clone(), entry(peer))).collect()))
    }

    /// Nothing that is done under the lock can panic half way, so what a panic elsewhere left is whole.
    fn table(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn settings(&self, name: &str) -> Option<PeerSettings> {
        self.table().get(name).map(|entry| entry.settings.clone())
    }

    /// Told whenever the peer has dialled this plane: it is there, and can be dialled.
    pub(super) fn came(&self, name: &str) -> Arc<Notify> {
        self.table().get(name).map(|entry| entry.came.clone()).unwrap_or_default()
    }

    /// A stream is open; one that was there before ends, since a peer that dials again has lost it.
    pub(super) fn opened(&self, name: &str, speaker: Speaker, stream: &Arc<Stream>) -> Option<Peer> {
        let mut table = self.table();
        let entry = table.get_mut(name)?;
        let before = entry.line(speaker == Speaker::Dialler).replace(stream.clone());
        match speaker {
            Speaker::Listener => entry.problem = None,
            Speaker::Dialler => entry.came.notify_one(),
        }
        if let Some(before) = before {
            before.end.send_replace(Some("the peer has opened a newer stream".into()));
        }
        Some(entry.peer())
    }

    /// A stream has ended. `None` where a newer one has its place.
    pub(super) fn closed(&self, name: &str, speaker: Speaker, id: u64) -> Option<Peer> {
        let mut table = self.table();
        let entry = table.get_mut(name)?;
        let line = entry.line(speaker == Speaker::Dialler);
        line.take_if(|stream| stream.id == id)?;
        Some(entry.peer())
    }

    pub(super) fn summary(&self, name: &str, summary: Summary, now: Timestamp) -> Option<Peer> {
        let mut table = self.table();
        let entry = table.get_mut(name)?;
        entry.summary = Some((summary, now));
        Some(entry.peer())
    }

    pub(super) fn clock(&self, name: &str, clock: Option<Difference>) {
        if let Some(entry) = self.table().get_mut(name) {
            entry.clock = clock;
        }
    }

    pub(super) fn difference(&self, name: &str) -> Option<Difference> {
        self.table().get(name)?.clock
    }

    /// Why there is no outgoing stream. Says whether that is news.
    pub(super) fn problem(&self, name: &str, problem: &str) -> bool {
        let mut table = self.table();
        let Some(entry) = table.get_mut(name) else { return false };
        let news = entry.problem.as_deref() != Some(problem);
        entry.problem = Some(problem.into());
        news
    }

    /// The stream that carries migrations of plane `source` to or from this peer.
    pub(super) fn stream(
        &self,
        name: &Arc<str>,
        own: &str,
        migration: &crate::migration::MigrationId,
    ) -> Result<Arc<Stream>, Unsent> {
        let mut table = self.table();
        let entry = table.get_mut(name).ok_or_else(|| Unsent::NoPeer(name.clone()))?;
        if *migration.plane != *own && migration.plane != *name {
            return Err(Unsent::Foreign { migration: migration.to_string(), peer: name.clone() });
        }
        let incoming = migration.plane == *name;
        entry.line(incoming).clone().ok_or_else(|| {
            let why = entry.problem.as_ref().filter(|_| !incoming).map_or(String::new(), |why| format!(": {why}"));
            Unsent::NotConnected { peer: name.clone(), why }
        })
    }

    /// Tells all streams to end.
    pub(super) fn end_all(&self, why: &str) {
        for entry in self.table().values() {
            for stream in [&entry.outgoing, &entry.incoming].into_iter().flatten() {
                stream.end.send_replace(Some(why.into()));
            }
        }
    }

    pub(super) fn all(&self) -> Vec<PeerStatus> {
        self.table()
            .values()
            .map(|entry| PeerStatus {
                name: entry.settings.name.clone(),
                address: entry.settings.address.clone(),
                sends: entry.settings.sends(),
                receives: entry.settings.receives(),
                outgoing: entry.outgoing.as_deref().map(Stream::status),
                incoming: entry.incoming.as_deref().map(Stream::status),
                summary: entry.summary.as_ref().map(|(summary, _)| summary.clone()),
                summary_at: entry.summary.as_ref().map(|(_, at)| *at),
                clock: entry.clock,
                problem: entry.problem.clone(),
            })
            .collect()
    }
}
