//! A fleet as a process of its own: it outlives the daemon that uses it, and what was begun goes on without it.
//!
//! A plain thread for each connection; every answer is given at once, waiting is the client's business. Effects are on their way
//! to the file system before the caller learns that its order was begun.

use super::fleet::FleetError;
use super::fleet_plan::FleetPlan;
use super::host::Door;
use super::live::{LiveFleet, LiveOptions};
use super::wire::{self, Call, Reply, Said};
use crate::clock::Clock;
use crossbeam_channel::RecvTimeoutError;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// What a server is to do.
pub struct ServeOptions {
    /// The socket's path.
    pub listen: PathBuf,
    /// The fleet.
    pub plan: FleetPlan,
    /// Where effects are written to, one line of JSON each, after what stands there.
    pub effects_log: Option<PathBuf>,
    /// So many seconds of the fleet pass in one of the clock.
    pub speed: f64,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The description makes no fleet.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// Another one is there already.
    #[error("a simulated fleet listens at {0} already; stop it or choose another path")]
    InUse(PathBuf),
    /// A file or the socket.
    #[error("cannot {what} {path}")]
    File {
        /// What was wanted.
        what: &'static str,
        /// Of what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// A server that runs, until it is dropped.
pub struct Server {
    fleet: Arc<LiveFleet>,
    path: PathBuf,
    stops: Arc<AtomicBool>,
    clients: Clients,
    accepts: Option<JoinHandle<()>>,
}

/// The connections that are open, by number, so that a server that stops can close them.
type Clients = Arc<Mutex<BTreeMap<u64, UnixStream>>>;

/// A client that takes nothing for so long is dropped.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// So often a listener is told that the server is still there.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(1);

/// Starts a server, and serves until the process ends.
pub fn serve(options: ServeOptions) -> Result<(), ServeError> {
    let mut server = Server::start(options)?;
    if let Some(accepts) = server.accepts.take() {
        // A thread that panicked has said so.
        let _ = accepts.join();
    }
    Ok(())
}

impl Server {
    /// Starts a server.
    pub fn start(options: ServeOptions) -> Result<Server, ServeError> {
        let path = options.listen;
        let listener = bind(&path)?;
        let effects_log = options.effects_log.map(|path| open_log(&path)).transpose()?;
        let live = LiveOptions {
            clock: options.clock,
            speed: options.speed,
            effects_log: effects_log.map(|log| Box::new(log) as Box<dyn io::Write + Send>),
        };
        let fleet = LiveFleet::start(&options.plan, live)?;
        let stops = Arc::new(AtomicBool::new(false));
        let clients = Clients::default();
        let accepts =
            {
                let (fleet, stops, clients) = (fleet.clone(), stops.clone(), clients.clone());
                spawn("fleet-accepts", move || accept(&listener, &fleet, &stops, &clients))
                    .map_err(|source| ServeError::File { what: "start a thread for", path: path.clone(), source })?
            };
        Ok(Server { fleet, path, stops, clients, accepts: Some(accepts) })
    }

    /// The fleet it serves.
    pub fn fleet(&self) -> &Arc<LiveFleet> {
        &self.fleet
    }
}

/// Stops serving: clients see the connection closed.
impl Drop for Server {
    fn drop(&mut self) {
        self.stops.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts; the path goes first, so that nobody else gets in.
        let woken = UnixStream::connect(&self.path).is_ok();
        let _ = std::fs::remove_file(&self.path);
        if let Some(accepts) = self.accepts.take().filter(|_| woken) {
            let _ = accepts.join();
        }
        for client in self.clients.lock().unwrap_or_else(PoisonError::into_inner).values() {
            let _ = client.shutdown(Shutdown::Both);
        }
    }
}

/// Listens at a path; takes a socket file away that nobody listens at.
fn bind(path: &Path) -> Result<UnixListener, ServeError> {
    let failed = |what| move |source| ServeError::File { what, path: path.to_owned(), source };
    if path.exists() {
        if UnixStream::connect(path).is_ok() {
            return Err(ServeError::InUse(path.to_owned()));
        }
        std::fs::remove_file(path).map_err(failed("remove the stale socket"))?;
    }
    let listener = UnixListener::bind(path).map_err(failed("listen at"))?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed("protect"))?;
    Ok(listener)
}

fn open_log(path: &Path) -> Result<File, ServeError> {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.map_err(|source| ServeError::File { what: "open the log of effects", path: path.to_owned(), source })
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work)
}

fn accept(listener: &UnixListener, fleet: &Arc<LiveFleet>, stops: &AtomicBool, clients: &Clients) {
    for (number, stream) in (0..).zip(listener.incoming()) {
        if stops.load(Ordering::SeqCst) {
            return;
        }
        let served = stream.and_then(|stream| {
            stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
            let handle = stream.try_clone()?;
            clients.lock().unwrap_or_else(PoisonError::into_inner).insert(number, handle);
            let (fleet, clients) = (fleet.clone(), clients.clone());
            spawn("fleet-client", move || {
                attend(stream, &fleet);
                clients.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
            })
        });
        if let Err(error) = served {
            tracing::warn!("a client of the simulated fleet could not be served: {error}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Answers one client until it goes away.
fn attend(mut stream: UnixStream, fleet: &LiveFleet) {
    loop {
        let call: Call = match wire::receive(&mut stream) {
            Ok(call) => call,
            Err(error) => {
                if error.kind() != io::ErrorKind::UnexpectedEof {
                    tracing::warn!("a client of the simulated fleet is dropped: {error}");
                }
                return;
            }
        };
        if call == Call::Listen {
            return tell(&mut stream, fleet);
        }
        let reply: Reply = fleet.call(call);
        if wire::send(&mut stream, &reply).is_err() {
            return;
        }
    }
}

/// Tells one client what hosts say, until it goes away.
fn tell(stream: &mut UnixStream, fleet: &LiveFleet) {
    let (sender, receiver) = crossbeam_channel::unbounded();
    fleet.listen(Box::new(move |host, notice| sender.send((host.clone(), notice.clone())).is_ok()));
    let mut said: Said = None;
    loop {
        if wire::send(stream, &said).is_err() {
            return;
        }
        said = match receiver.recv_timeout(HEARTBEAT) {
            Ok(notice) => Some(notice),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
    }
}
