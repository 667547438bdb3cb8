//! A connection whose every call is bounded in time.
//!
//! Any call of libvirt can hang: opening a connection to a daemon that is stopped never returns, keepalive or not; other calls
//! return only when keepalive gives the connection up; a daemon whose workers are stuck keeps it alive and still never answers.
//! So a connection lives in a thread of its own that opens it, carries out one request after the other, and closes it. Callers
//! wait for the answer as long as they are ready to. A caller that gives up leaves the thread behind, at most one a session, and
//! what was asked but not yet begun is not done any more.
//!
//! ```text
//! Connecting --opened--> Connected --closed, broken--> Lost
//!     +---------- cannot be opened ------------------> Lost
//! ```
//! A lost session stays lost; whoever needs the host opens another.

use super::event_loop;
use super::failure::{self, Trouble};
use super::ffi::{Ear, Registrations, register};
use crate::hypervisor::{ErrorKind, HypervisorError};
use crate::model::HostId;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use virt::connect::Connect;

/// An answer that takes longer counts as none. Keepalive closes a silent connection after about 20 s.
pub const ANSWER: Duration = Duration::from_secs(15);
/// What a copy still needs when its last block was read; long, for a disk may have to write all that it was given.
pub const ACT_LONG: Duration = Duration::from_secs(120);
const KEEPALIVE_SECONDS: i32 = 5;
const KEEPALIVE_COUNT: u32 = 3;

/// Where a host is to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Door {
    /// The host's name in the plane.
    pub host: HostId,
    /// libvirt's URI of it.
    pub uri: Arc<str>,
}

type Request = Box<dyn FnOnce(&Connect) + Send>;

#[derive(Debug, Clone)]
enum Standing {
    Connecting,
    Connected,
    Lost { was_connected: bool, error: HypervisorError },
}

/// A connection to one host, see above.
#[derive(Debug, Clone)]
pub struct Session {
    host: HostId,
    requests: Sender<Request>,
    standing: Arc<Mutex<Standing>>,
    /// Somebody gave up waiting, and what they waited for still is not done.
    overdue: Arc<AtomicBool>,
}

/// A request that was sent.
#[derive(Debug)]
pub struct Pending<T> {
    host: HostId,
    what: String,
    answer: Receiver<Result<T, HypervisorError>>,
    standing: Arc<Mutex<Standing>>,
    /// Held as long as anybody waits.
    _wanted: Arc<()>,
}

fn read(standing: &Mutex<Standing>) -> Standing {
    standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn set(standing: &Mutex<Standing>, new: Standing) {
    *standing.lock().unwrap_or_else(PoisonError::into_inner) = new;
}

impl Session {
    /// Begins to connect. Where there is an ear, it hears the host's events for as long as the session lives.
    pub fn open(door: &Door, ear: Option<Arc<Ear>>) -> Session {
        let (requests, incoming) = unbounded();
        let standing = Arc::new(Mutex::new(Standing::Connecting));
        let overdue = Arc::new(AtomicBool::new(false));
        let session = Session { host: door.host.clone(), requests, standing: standing.clone(), overdue: overdue.clone() };
        let Door { host, uri } = door.clone();
        let thread = std::thread::Builder::new().name(format!("libvirt-{host}"));
        let run = move || serve(&host, &uri, ear, incoming, &standing, &overdue);
        if let Err(error) = thread.spawn(run) {
            let error = HypervisorError::new(ErrorKind::Failed, format!("{}: cannot start a thread: {error}", session.host));
            set(&session.standing, Standing::Lost { was_connected: false, error });
        }
        session
    }

    /// Sends a request. `what` completes "cannot ...".
    pub fn begin<T: Send + 'static>(
        &self,
        what: impl Into<String>,
        work: impl FnOnce(&Connect) -> Result<T, Trouble> + Send + 'static,
    ) -> Pending<T> {
        let (reply, answer) = bounded(1);
        let wanted = Arc::new(());
        let (still_wanted, host, what) = (Arc::downgrade(&wanted), self.host.clone(), what.into());
        let doing = what.clone();
        let request = move |connect: &Connect| {
            if still_wanted.strong_count() == 0 {
                return;
            }
            let result = work(connect).map_err(|trouble| trouble.into_error(&host, &doing, is_alive(connect)));
            // Nobody may be waiting any more; then nobody wants to know.
            let _ = reply.send(result);
        };
        // Where the session is lost, the request is dropped, and with it the reply: whoever waits hears of it.
        let _ = self.requests.send(Box::new(request));
        Pending { host: self.host.clone(), what, answer, standing: self.standing.clone(), _wanted: wanted }
    }

    /// Sends a request and waits for its answer, but not longer than `deadline`.
    pub fn call<T: Send + 'static>(
        &self,
        what: impl Into<String>,
        deadline: Duration,
        work: impl FnOnce(&Connect) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, HypervisorError> {
        let pending = self.begin(what, work);
        pending.wait(deadline).unwrap_or_else(|| {
            self.overdue.store(true, Ordering::SeqCst);
            Err(pending.overdue(deadline))
        })
    }

    /// Is it of no more use?
    pub fn is_lost(&self) -> bool {
        matches!(read(&self.standing), Standing::Lost { .. })
    }

    /// Is it connected, and busy with something that takes longer than somebody could wait?
    pub fn is_overdue(&self) -> bool {
        self.overdue.load(Ordering::SeqCst) && matches!(read(&self.standing), Standing::Connected)
    }

    /// Did it break after it had been good? Then a new one may well succeed.
    pub fn broke(&self) -> bool {
        matches!(read(&self.standing), Standing::Lost { was_connected: true, .. })
    }
}

impl<T> Pending<T> {
    /// Waits for the answer; `None`: not yet.
    pub fn wait(&self, at_most: Duration) -> Option<Result<T, HypervisorError>> {
        match self.answer.recv_timeout(at_most) {
            Ok(answer) => Some(answer),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Err(match read(&self.standing) {
                Standing::Lost { error, .. } => error,
                Standing::Connecting | Standing::Connected => self.unreachable("the connection ended"),
            })),
        }
    }

    /// The error for an answer that did not come in time.
    pub fn overdue(&self, deadline: Duration) -> HypervisorError {
        let seconds = deadline.as_secs();
        match read(&self.standing) {
            Standing::Lost { error, .. } => error,
            Standing::Connecting => self.unreachable(&format!("it let nobody connect for {seconds} s, it seems to hang")),
            Standing::Connected => self.unreachable(&format!("it gave no answer for {seconds} s, it seems to hang")),
        }
    }

    fn unreachable(&self, why: &str) -> HypervisorError {
        let Pending { host, what, .. } = self;
        let advice = "look at libvirtd on that host";
        HypervisorError::new(ErrorKind::Unreachable, format!("{host}: cannot {what}: {why}; {advice}"))
    }
}

/// A question to our own end of the connection: asks no server.
fn is_alive(connect: &Connect) -> bool {
    connect.is_alive().unwrap_or(false)
}

fn open(host: &HostId, uri: &str, ear: Option<Arc<Ear>>) -> Result<(Connect, Registrations), HypervisorError> {
    event_loop::ensure().map_err(|error| HypervisorError::new(ErrorKind::Failed, format!("{host}: {error}")))?;
    let failed = |error| failure::of_open(host, uri, &error);
    // `virt` panics on these.
    if uri.contains('\0') {
        return Err(HypervisorError::new(ErrorKind::Unreachable, format!("{host}: the URI contains a NUL character")));
    }
    let connect = Connect::open(Some(uri)).map_err(failed)?;
    // Local drivers have no connection to keep alive, and say so.
    let _ = connect.set_keep_alive(KEEPALIVE_SECONDS, KEEPALIVE_COUNT);
    let registrations = match ear {
        Some(ear) => register(&connect, &ear).map_err(failed)?,
        None => Registrations::default(),
    };
    Ok((connect, registrations))
}

/// The session's thread.
fn serve(
    host: &HostId,
    uri: &str,
    ear: Option<Arc<Ear>>,
    requests: Receiver<Request>,
    standing: &Mutex<Standing>,
    overdue: &AtomicBool,
) {
    let (connect, registrations) = match open(host, uri, ear) {
        Ok(opened) => opened,
        Err(error) => return set(standing, Standing::Lost { was_connected: false, error }),
    };
    set(standing, Standing::Connected);
    for request in &requests {
        if !is_alive(&connect) {
            break;
        }
        request(&connect);
        overdue.store(false, Ordering::SeqCst);
        if !is_alive(&connect) {
            break;
        }
    }
    let what = format!("{host}: the connection to {uri} broke; is libvirtd running there?");
    let error = HypervisorError::new(ErrorKind::Unreachable, what);
    set(standing, Standing::Lost { was_connected: true, error });
    // Whoever still waits must not wait for the goodbyes below, which a hanging host may delay.
    drop(requests);
    registrations.remove(&connect);
}
