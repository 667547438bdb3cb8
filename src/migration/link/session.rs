//! One open stream: says what waits, hears what comes, ends when something is wrong.
//!
//! ```text
//!  Link::send --queue--> speaking --+--> frames, numbered --> peer
//!  pings, pongs, summary -----------+
//!  deliver <--- listening <--- rate <--- Reader <--- frames --- peer
//!  checking: is its certificate still good (files changed, time passed)? Has somebody told the stream to end?
//! ```
//! Whoever receives decides the pace: while it has no room, nothing more is read from this peer.

use super::difference::Measuring;
use super::peers::{QUEUE, Stream};
use super::proto::frame::Body;
use super::proto::{Frame, Ping, Pong};
use super::rate::Rate;
use super::tls::Presented;
use super::wire::{self, Numbers, Reader, Said, Speaker};
use super::{Heard, Shared};
use crate::pki::{Certificate, Purpose};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tonic::{Status, Streaming};

/// How often a certificate that has been accepted is checked again, changed files apart.
const RECHECK: Duration = Duration::from_secs(30);
/// How long a farewell may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// A stream whose Hellos are done.
pub(super) struct Opened {
    /// The other plane.
    pub peer: Arc<str>,
    /// Its part.
    pub speaker: Speaker,
    /// What it has presented.
    pub presented: Presented,
    /// The certificate as it reads.
    pub certificate: Certificate,
    /// Where it is.
    pub address: Arc<str>,
    /// The protocol's version.
    pub version: u32,
    /// Reads its frames.
    pub reader: Reader,
    /// Numbers ours.
    pub numbers: Numbers,
    /// Its frames.
    pub inbound: Streaming<Frame>,
    /// Ours.
    pub out: mpsc::Sender<Result<Frame, Status>>,
}

/// How a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// The network, or the peer's process.
    Lost(String),
    /// The peer ended it, and why.
    Told(String),
    /// This plane ended it for something the peer did or is.
    Refused(String),
    /// This plane ended it for reasons of its own.
    Closed(String),
}

impl Ended {
    /// In words for an admin.
    pub(super) fn words(&self) -> &str {
        match self {
            Ended::Lost(why) | Ended::Told(why) | Ended::Refused(why) | Ended::Closed(why) => why,
        }
    }
}

/// Runs a stream to its end.
pub(super) async fn run(shared: &Arc<Shared>, opened: Opened) -> Ended {
    let Opened { peer, speaker, presented, certificate, address, version, mut reader, mut numbers, inbound, out } = opened;
    let (queue, mut waiting) = mpsc::channel(QUEUE);
    let (end, mut told) = watch::channel(None);
    let stream = Arc::new(Stream {
        id: shared.next_stream(),
        since: shared.clock.now(),
        address: address.clone(),
        version,
        certificate,
        queue,
        queued_bytes: AtomicUsize::new(0),
        end,
        sent: AtomicUsize::new(0),
        heard: AtomicUsize::new(0),
    });
    let (pongs, mut answers) = mpsc::channel(8);
    let measuring = Mutex::new(Measuring::default());
    if let Some(state) = shared.peers.opened(&peer, speaker, &stream) {
        shared.deliver(Heard::Peer(Box::new(state))).await;
    }
    tracing::info!(%peer, %address, version, "connected");
    let mut session = Session { shared, peer: &peer, stream: &stream, measuring: &measuring };
    let ended = tokio::select! {
        ended = session.clone().speak(&mut numbers, &out, &mut waiting, &mut answers) => ended,
        ended = session.clone().listen(&mut reader, inbound, &pongs) => ended,
        ended = session.check(&presented, speaker, &mut told) => ended,
    };
    if let Ended::Refused(why) = &ended {
        shared.refuse(&address, Some(&stream.certificate), why);
    }
    if let (Ended::Refused(why) | Ended::Closed(why), Ok(Ok(room))) = (&ended, timeout(FAREWELL, out.reserve()).await) {
        room.send(Ok(numbers.frame(wire::farewell(why))));
        if let Ok(Ok(room)) = timeout(FAREWELL, out.reserve()).await {
            room.send(Err(match &ended {
                Ended::Refused(why) => Status::permission_denied(why),
                _ => Status::unavailable(why),
            }));
        }
    }
    tracing::info!(%peer, %address, why = ended.words(), "disconnected");
    if let Some(state) = shared.peers.closed(&peer, speaker, stream.id) {
        shared.deliver(Heard::Peer(Box::new(state))).await;
    }
    ended
}

#[derive(Clone)]
struct Session<'a> {
    shared: &'a Arc<Shared>,
    peer: &'a Arc<str>,
    stream: &'a Arc<Stream>,
    measuring: &'a Mutex<Measuring>,
}

impl Session<'_> {
    fn measuring(&self) -> MutexGuard<'_, Measuring> {
        self.measuring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn speak(
        self,
        numbers: &mut Numbers,
        out: &mpsc::Sender<Result<Frame, Status>>,
        waiting: &mut mpsc::Receiver<super::proto::Message>,
        answers: &mut mpsc::Receiver<Pong>,
    ) -> Ended {
        let mut ping = tokio::time::interval(self.shared.limits.ping.as_duration());
        ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut summary = self.shared.summary.subscribe();
        summary.mark_changed();
        loop {
            // Room first: a frame that is not sent must not have taken a number.
            let Ok(room) = out.reserve().await else { return Ended::Lost("the connection was closed".to_owned()) };
            let body = tokio::select! {
                biased;
                Some(mut pong) = answers.recv() => {
                    pong.sent_ms = self.shared.clock.now().0;
                    Body::Pong(pong)
                }
                _ = ping.tick() => Body::Ping(Ping { id: self.measuring().ping(self.shared.clock.now()) }),
                Ok(()) = summary.changed() => match &*summary.borrow_and_update() {
                    Some(summary) => Body::Summary(summary.into()),
                    None => continue,
                },
                Some(message) = waiting.recv() => {
                    self.stream.queued_bytes.fetch_sub(message.content.len(), Ordering::SeqCst);
                    self.stream.sent.fetch_add(1, Ordering::Relaxed);
                    Body::Message(message)
                }
            };
            room.send(Ok(numbers.frame(body)));
        }
    }

    async fn listen(self, reader: &mut Reader, mut inbound: Streaming<Frame>, pongs: &mpsc::Sender<Pong>) -> Ended {
        let Shared { limits, clock, .. } = &**self.shared;
        let allowed = self.shared.peers.settings(self.peer).map(|peer| peer.limits).unwrap_or_default();
        let mut messages = Rate::new(allowed.messages_per_s.into(), clock.now());
        let mut bytes = Rate::new(u64::from(allowed.mib_per_s) << 20, clock.now());
        loop {
            let frame = match timeout(limits.idle.as_duration(), inbound.message()).await {
                Err(_) => return Ended::Lost(format!("nothing was heard for {}", limits.idle)),
                Ok(Ok(None)) => return Ended::Lost("the peer closed the stream".to_owned()),
                Ok(Err(status)) => return of_status(&status),
                Ok(Ok(Some(frame))) => frame,
            };
            let now = clock.now();
            let size = match &frame.body {
                Some(Body::Message(message)) => message.content.len() as u64,
                _ => 0,
            };
            let wait = messages.take(1, now).max(bytes.take(size, now));
            if wait.0 > 0 {
                sleep(wait.as_duration()).await;
            }
            match reader.read(frame) {
                Err(violation) => return Ended::Refused(violation.to_string()),
                Ok(Said::Farewell(reason)) => return Ended::Told(reason),
                Ok(Said::Ping(id)) => {
                    let now = clock.now().0;
                    // Where so many answers wait already, one less does no harm.
                    let _ = pongs.try_send(Pong { id, received_ms: now, sent_ms: now });
                }
                Ok(Said::Pong(pong)) => {
                    let best = {
                        let mut measuring = self.measuring();
                        measuring.pong(&pong, clock.now());
                        measuring.best()
                    };
                    self.shared.peers.clock(self.peer, best);
                }
                Ok(Said::Summary(summary)) => {
                    if let Some(state) = self.shared.peers.summary(self.peer, summary, clock.now()) {
                        self.shared.deliver(Heard::Peer(Box::new(state))).await;
                    }
                }
                Ok(Said::Message(envelope)) => {
                    self.stream.heard.fetch_add(1, Ordering::Relaxed);
                    let clock = self.shared.peers.difference(self.peer);
                    self.shared.deliver(Heard::Message { peer: self.peer.clone(), clock, envelope }).await;
                }
            }
        }
    }

    /// Ends when the stream should.
    async fn check(&mut self, presented: &Presented, speaker: Speaker, told: &mut watch::Receiver<Option<Arc<str>>>) -> Ended {
        let purpose = match speaker {
            Speaker::Dialler => Purpose::Client,
            Speaker::Listener => Purpose::Server,
        };
        let mut credentials = self.shared.credentials.subscribe();
        // A stream that opened while the link was being stopped was not among those that were told.
        if self.shared.stopped.load(Ordering::SeqCst) {
            return Ended::Closed("the plane stops".to_owned());
        }
        loop {
            let trust = credentials.borrow_and_update().trust.clone();
            if let Some((certificate, others)) = presented.chain.split_first()
                && let Err(refused) = trust.verify(certificate, others, purpose, self.shared.clock.now())
            {
                return Ended::Refused(format!("its certificate is no longer accepted: {refused}"));
            }
            tokio::select! {
                changed = told.changed() => {
                    let why = told.borrow().clone();
                    if let Some(why) = why {
                        return Ended::Closed(why.to_string());
                    }
                    if changed.is_err() {
                        return Ended::Closed("the link is stopped".to_owned());
                    }
                }
                _ = credentials.changed() => {}
                () = sleep(RECHECK) => {}
            }
        }
    }
}

/// What ended the peer's frames.
pub(super) fn of_status(status: &Status) -> Ended {
    let why = wire::words(status.message(), 300);
    match status.code() {
        // Said by the other side, on purpose.
        tonic::Code::PermissionDenied | tonic::Code::ResourceExhausted | tonic::Code::FailedPrecondition => Ended::Told(why),
        // What the decoder says of a frame that is too large, or none.
        tonic::Code::OutOfRange | tonic::Code::Internal => Ended::Refused(format!("a frame that cannot be read: {why}")),
        _ => Ended::Lost(if why.is_empty() { "the connection was closed".to_owned() } else { why }),
    }
}
