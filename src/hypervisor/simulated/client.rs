//! The way to a fleet that runs as a process of its own.
//!
//! Each call borrows a connection and gives it back; a lost one is replaced with the next call. One more connection, and one
//! thread, hear what all hosts say.

use super::fault::Fault;
use super::host::{Door, PATIENCE, SimulatedHost};
use super::server::HEARTBEAT;
use super::wire::{self, Answer, Call, Reply, Said};
use crate::clock::Clock;
use crate::hypervisor::{ErrorKind, HypervisorError, NoticeSink};
use crate::model::{HostId, Notice, Span, Timestamp};
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// A fleet in another process, at a unix socket.
pub struct RemoteFleet {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    idle: Mutex<Vec<UnixStream>>,
    /// Who wants to hear what is said, and whether the thread that hears runs.
    hearing: Mutex<Hearing>,
    me: Weak<RemoteFleet>,
}

#[derive(Default)]
struct Hearing {
    sinks: Vec<(HostId, NoticeSink)>,
    runs: bool,
}

/// So many connections are kept for later calls.
const MOST_IDLE: usize = 16;

/// Between two looks at an order, and between two attempts to connect for notices.
const GLANCE: Span = Span(10);
const AGAIN: Span = Span(200);

impl RemoteFleet {
    /// The fleet at this socket. Nothing is connected until it is needed, and the server may come and go.
    pub fn new(path: &Path, clock: Arc<dyn Clock>) -> Arc<RemoteFleet> {
        Arc::new_cyclic(|me| RemoteFleet {
            path: path.to_owned(),
            clock,
            idle: Mutex::new(Vec::new()),
            hearing: Mutex::new(Hearing::default()),
            me: me.clone(),
        })
    }

    /// A connection to one of its hosts. A name that the fleet does not have shows as a host that cannot be reached.
    pub fn host(self: &Arc<Self>, host: &HostId) -> SimulatedHost {
        SimulatedHost::new(host.clone(), self.clone())
    }

    /// The names of its hosts.
    pub fn hosts(&self) -> Result<Vec<HostId>, HypervisorError> {
        match self.call(Call::Hosts)? {
            Answer::Hosts(hosts) => Ok(hosts),
            _ => Err(self.unreachable(&io::Error::other("it answered something else"))),
        }
    }

    /// Lets something go wrong now.
    pub fn inject(&self, fault: &Fault) -> Result<(), HypervisorError> {
        self.call(Call::Inject(fault.clone())).map(|_| ())
    }

    fn unreachable(&self, error: &io::Error) -> HypervisorError {
        let what = format!("the simulated fleet at {} cannot be reached: {error}", self.path.display());
        HypervisorError::new(ErrorKind::Unreachable, what)
    }

    fn connect(&self) -> io::Result<UnixStream> {
        let stream = UnixStream::connect(&self.path)?;
        stream.set_read_timeout(Some(PATIENCE.as_duration()))?;
        stream.set_write_timeout(Some(PATIENCE.as_duration()))?;
        Ok(stream)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<UnixStream>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn exchange(&self, mut stream: UnixStream, call: &Call) -> io::Result<Reply> {
        wire::send(&mut stream, call)?;
        let reply = wire::receive(&mut stream)?;
        let mut idle = self.idle();
        if idle.len() < MOST_IDLE {
            idle.push(stream);
        }
        Ok(reply)
    }

    fn start_hearing(&self) -> io::Result<UnixStream> {
        let mut stream = self.connect()?;
        stream.set_read_timeout(Some(HEARTBEAT * 5))?;
        wire::send(&mut stream, &Call::Listen)?;
        // The first word says that from here on everything will be heard.
        wire::receive::<Said>(&mut stream)?;
        Ok(stream)
    }

    fn hearing(&self) -> MutexGuard<'_, Hearing> {
        self.hearing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn deliver(&self, host: &HostId, notice: &Notice) {
        let notice = Notice { at: self.clock.now(), ..notice.clone() };
        let sinks: Vec<NoticeSink> =
            self.hearing().sinks.iter().filter(|(of, _)| of == host).map(|(_, sink)| sink.clone()).collect();
        for sink in sinks {
            sink(notice.clone());
        }
    }
}

/// Hears what is said until nobody holds the fleet any more. What is said while the connection is lost is lost; the next report
/// makes up for it.
fn hear(fleet: &Weak<RemoteFleet>, mut stream: Option<UnixStream>) {
    while let Some(fleet) = fleet.upgrade() {
        match stream.as_mut().map(wire::receive::<Said>) {
            Some(Ok(Some((host, notice)))) => fleet.deliver(&host, &notice),
            Some(Ok(None)) => {}
            Some(Err(_)) => stream = None,
            None => {
                stream = fleet.start_hearing().ok();
                if stream.is_none() {
                    fleet.clock.sleep(AGAIN);
                }
            }
        }
    }
}

impl Door for RemoteFleet {
    fn call(&self, call: Call) -> Reply {
        // An order is never sent twice: whether the first one arrived is not known. Everything else may be asked again where a
        // connection has died in the pool.
        if !matches!(call, Call::Begin { .. }) {
            let pooled = self.idle().pop();
            if let Some(Ok(reply)) = pooled.map(|stream| self.exchange(stream, &call)) {
                return reply;
            }
            self.idle().clear();
        }
        let answered = self.connect().and_then(|stream| self.exchange(stream, &call));
        answered.unwrap_or_else(|error| {
            self.idle().clear();
            Err(self.unreachable(&error))
        })
    }

    fn subscribe(&self, host: &HostId, sink: NoticeSink) {
        let mut hearing = self.hearing();
        hearing.sinks.push((host.clone(), sink));
        if hearing.runs {
            return;
        }
        hearing.runs = true;
        drop(hearing);
        let (me, stream) = (self.me.clone(), self.start_hearing().ok());
        let thread = std::thread::Builder::new().name("fleet-notices".to_owned());
        if let Err(error) = thread.spawn(move || hear(&me, stream)) {
            tracing::error!("notices of the simulated fleet will not be heard: {error}");
            self.hearing().runs = false;
        }
    }

    fn pause(&self) {
        self.clock.sleep(GLANCE);
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
