//! Wiring only: builds the parts, starts the threads, stops them in order.
//!
//! Threads: the manager; the store; a few effector workers and one poller for each host; one supervisor of the pollers;
//! libvirt's event loop; tokio's for the network. They talk through channels alone.

mod folder;
mod hosts;
mod jumps;
mod neighbours;
mod notices;
mod reload;
mod supervisor;

pub use folder::{Folder, Folders};

use crate::api;
use crate::api::metrics::Metrics;
use crate::api::reload::Reloader;
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, TracesConfig};
use crate::effectors::{Effectors, Lanes, Notifiers, Workers};
use crate::hypervisor::Hypervisor;
use crate::hypervisor::simulated::LiveFleet;
use crate::manager::{Handle, Manager, Outlet, Output, RunError, Settings};
use crate::migration::link::{Link, LinkError};
use crate::migration::message;
use crate::model::{Action, HostId, Input, Span};
use crate::sensors::{Polling, Sensors};
use crate::store::{Journal, Recovered, Store, StoreError, Writer};
use crate::traces::{self, Collector};
use reload::Reload;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Inputs that may wait for the manager.
const INBOX: usize = 16_384;
/// Samples may wait so long for a fact to be committed with.
const SAMPLES_WAIT: Span = Span::seconds(1);
/// Actions under way get so long to end when the daemon stops; libvirt goes on with them without us.
const FAREWELL: Span = Span::seconds(3);

/// Why the daemon did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The store cannot be opened or read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No socket.
    #[error(transparent)]
    Socket(#[from] api::SocketError),
    /// No address for metrics.
    #[error("cannot listen on {address} for metrics: {source}; set another `metrics.listen`, or end who listens there")]
    Metrics {
        /// Where.
        address: Arc<str>,
        /// Why.
        source: io::Error,
    },
    /// The API's place on the network.
    #[error(transparent)]
    Network(#[from] api::NetworkError),
    /// Who may use it.
    #[error(transparent)]
    Tokens(#[from] api::TokensError),
    /// The hosts of the configuration cannot be reached for, as they are written.
    #[error("{0}")]
    Hosts(String),
    /// The key for modules cannot be read.
    #[error("{0}")]
    Key(String),
    /// No link to the peers.
    #[error(transparent)]
    Link(LinkError),
    /// The manager ended early.
    #[error(transparent)]
    Manager(#[from] RunError),
    /// The operating system refuses a thread or a runtime.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    /// A part of the daemon panicked.
    #[error("the {0} thread ended unexpectedly; please report this with the log above")]
    Panicked(&'static str),
}

/// Runs a plane until it is told to stop (SIGINT, SIGTERM); SIGHUP has its configuration read again from `path`. `on_ready` is
/// called when the socket answers.
pub fn run(path: &Path, config: &Config, on_ready: impl FnOnce(&Handle) + Send + 'static) -> Result<(), DaemonError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    // From here on a signal to stop is remembered, however long the start takes.
    let (stop_signal, hang_up) =
        runtime.block_on(async { io::Result::Ok((StopSignal::listen()?, signal(SignalKind::hangup())?)) })?;
    // The store first: its lock decides which of two daemons may go on, before either touches the socket.
    let store = store_path(config)?;
    let opened = Store::open(&store, config.retention())?;
    let listener = runtime.block_on(api::listen(&config.socket))?;
    let socket = SocketFile(&config.socket);
    let scraped = runtime.block_on(metrics_listener(config))?;
    let network = match &config.api {
        Some(settings) => Some(runtime.block_on(api::Network::listen(settings))?),
        None => None,
    };
    let daemon = Daemon::start(config, opened, &|_, connection| connection, Some(runtime.handle()))?;
    let tokens = match &config.api {
        Some(settings) => Some(Arc::new(api::Tokens::open(&settings.tokens, daemon.clock.clone())?)),
        None => None,
    };
    let handle = daemon.handle().clone();
    let mut ended = daemon.ended.clone();
    let stop = async move {
        tokio::select! {
            () = stop_signal.received() => {}
            // The manager has failed; why, is told once everything is down.
            _ = ended.changed() => {}
        }
    };
    if let Some(address) = network.as_ref().and_then(|network| network.address().ok()) {
        tracing::info!(%address, "the API is on the network");
    }
    runtime.block_on(async {
        let (folders, places) = watch::channel(Folders::of(config));
        let mut tasks = JoinSet::new();
        let (reloader, wishes) = Reloader::new();
        tasks.spawn(hear_hang_ups(hang_up, reloader.clone()));
        let reload = Reload { path: path.to_owned(), config: config.clone(), handle: handle.clone(), folders };
        tasks.spawn(reload.serve(wishes));
        tasks.spawn(supervisor::watch(handle.clone()));
        tasks.spawn(jumps::watch(daemon.clock.clone()));
        let doors = daemon.doors(Some(store), reloader, tokens);
        if let Some(scraped) = scraped {
            let (handle, doors) = (handle.clone(), doors.clone());
            tasks.spawn(api::metrics::serve(scraped, handle, doors));
        }
        if let Some(authority) = config.traces.as_ref().and_then(TracesConfig::authority) {
            let collector = Collector { authority: authority.into() };
            let (metrics, clock) = (doors.metrics.clone(), doors.clock.clone());
            tasks.spawn(traces::keep(handle.clone(), collector, metrics, clock));
        }
        let serving = api::serve(listener, network, handle.clone(), doors, stop);
        // Whoever follows what becomes durable does so by now: nothing of what modules do is missed.
        tasks.spawn(Folder::new(Folders::of(config)).watch(handle.clone(), places));
        on_ready(&handle);
        supervisor::ready();
        serving.await;
        supervisor::stopping();
        tasks.shutdown().await;
    });
    // While this daemon still holds the store, so that the next one's socket is not the one that goes.
    drop(socket);
    daemon.stop()?;
    runtime.shutdown_background();
    Ok(())
}

/// The address of its own for metrics, where there is one.
async fn metrics_listener(config: &Config) -> Result<Option<TcpListener>, DaemonError> {
    let Some(metrics) = &config.metrics else { return Ok(None) };
    let refused = |source| DaemonError::Metrics { address: metrics.listen.clone(), source };
    TcpListener::bind(&*metrics.listen).await.map(Some).map_err(refused)
}

/// SIGHUP has the configuration read again; what came of it stands in the log.
async fn hear_hang_ups(mut hang_up: Signal, reloader: Reloader) {
    while hang_up.recv().await.is_some() {
        reloader.reload("SIGHUP".into()).await;
    }
}

/// Where the plane's store is. A fleet within this process starts anew with it, so its plane does as well: it has a store of its
/// own beside the configured one, made anew each time.
fn store_path(config: &Config) -> io::Result<PathBuf> {
    if config.fleet.is_none() {
        return Ok(config.store.clone());
    }
    let mut path = config.store.clone().into_os_string();
    path.push(".simulated");
    let path = PathBuf::from(path);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(path),
    }
}

/// All of a plane but its network side: sensors, manager, store and effectors at work.
pub struct Daemon {
    handle: Handle,
    journal: Journal,
    clock: Arc<SystemClock>,
    fleet: Option<Arc<LiveFleet>>,
    link: Option<Link>,
    notifiers: Arc<Notifiers>,
    sensors: Sensors,
    manager: JoinHandle<Result<(), RunError>>,
    /// Its other end is dropped when the manager ends, by itself too.
    ended: watch::Receiver<()>,
    writer: Writer,
}

/// Something put between the plane and a host's hypervisor, such as a meter.
pub type Between<'a> = &'a dyn Fn(&HostId, Arc<dyn Hypervisor>) -> Arc<dyn Hypervisor>;

impl Daemon {
    /// Starts a plane on its opened store. It reaches each host through what `between` makes of its connection, and its peers,
    /// where it has any, from `runtime`.
    pub fn start(
        config: &Config,
        (store, recovered): (Store, Recovered),
        between: Between<'_>,
        runtime: Option<&tokio::runtime::Handle>,
    ) -> Result<Daemon, DaemonError> {
        let clock: Arc<SystemClock> = SystemClock::start(recovered.last_now);
        let (journal, path) = (store.journal(), PathBuf::from(store.name()));
        let mut hosts = hosts::open(config, clock.clone()).map_err(DaemonError::Hosts)?;
        hosts.connections = hosts.connections.into_iter().map(|(id, host)| (id.clone(), between(&id, host))).collect();
        let (handle, inbox) = Handle::new(INBOX);

        let (commits, to_store) = crossbeam_channel::bounded(64);
        let (from_store, committed) = crossbeam_channel::unbounded();
        let writer = Writer::spawn(store, to_store, from_store, SAMPLES_WAIT)?;

        let link = match runtime {
            Some(runtime) => neighbours::link(config, runtime, &handle, clock.clone())?,
            None => None,
        };
        let settings = settings(config, &hosts).map_err(DaemonError::Key)?;
        let told = handle.clone();
        let sink = Arc::new(move |input| {
            told.send(Input::Migration(input));
        });
        let lanes = Lanes::new(hosts.connections.clone(), hosts.catalog.clone(), sink);
        let told_time: Arc<dyn Clock> = clock.clone();
        let notifiers = Arc::new(Notifiers::start(&config.plane, &config.notify, &told_time, Some(&path))?);
        notices::pass_on(&handle, notifiers.clone())?;
        let updates = handle.clone();
        let effectors = Effectors::new(
            hosts.connections.clone(),
            hosts.catalog,
            Workers::default(),
            notifiers.clone(),
            clock.clone(),
            Arc::new(move |action, update| {
                updates.send(Input::Update(action, update));
            }),
        )?;
        let (ends, ended) = watch::channel(());
        let manager = {
            let (handle, clock) = (handle.clone(), clock.clone());
            let mut outlet = Outside { effectors, lanes, link: link.clone() };
            thread::Builder::new().name("manager".into()).spawn(move || {
                let result = manage(settings, recovered, &handle, &inbox, &commits, &committed, &mut outlet, &*clock);
                // Nobody listens any more; effectors must not wait to be heard.
                drop(inbox);
                // A panic drops this end as well: the daemon never goes on without its manager.
                drop(ends);
                let left = outlet.effectors.stop(FAREWELL);
                if !left.is_empty() {
                    let left: Vec<String> = left.iter().map(ToString::to_string).collect();
                    let left = left.join(", ");
                    tracing::info!("left to the hypervisors, to be found again at the next start: actions {left}");
                }
                result
            })?
        };
        let sensors = {
            let (send, try_send) = (handle.clone(), handle.clone());
            let (send, try_send) = (move |input| send.send(input), move |input| try_send.try_send(input));
            Sensors::start(hosts.connections, Polling::every(config.poll), clock.clone(), send, try_send)?
        };
        Ok(Daemon { handle, journal, clock, fleet: hosts.fleet, link, notifiers, sensors, manager, ended, writer })
    }

    /// The door to its manager.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The embedded simulated fleet, where there is one.
    pub fn fleet(&self) -> Option<&Arc<LiveFleet>> {
        self.fleet.as_ref()
    }

    /// The link to its peers, where it has any.
    pub fn link(&self) -> Option<&Link> {
        self.link.as_ref()
    }

    /// What it lends the API; with tokens, where that is on the network. `store`: the store's file, to be measured.
    pub fn doors(&self, store: Option<PathBuf>, reloader: Reloader, tokens: Option<Arc<api::Tokens>>) -> api::Doors {
        let metrics = Metrics::new(self.clock.now(), store, self.writer.commits().clone());
        let (journal, clock, link) = (self.journal.clone(), self.clock.clone(), self.link.clone());
        api::Doors { journal, clock, link, notifiers: self.notifiers.clone(), metrics, reloader, tokens }
    }

    /// Stops everything, in order: what comes in, what decides, what is written.
    pub fn stop(self) -> Result<(), DaemonError> {
        if let Some(link) = &self.link {
            link.stop();
        }
        // The manager is told first: hosts that hang hold up their pollers, not the stop.
        self.handle.stop();
        self.sensors.stop(FAREWELL);
        let managed = self.manager.join().map_err(|_| DaemonError::Panicked("manager"))?;
        let written = self.writer.join();
        managed?;
        written.map_err(|error| DaemonError::Manager(RunError::Store(error)))?;
        Ok(())
    }
}

/// The manager's thread. The manager is made here, since the policy engine never leaves its thread.
#[expect(clippy::too_many_arguments, reason = "the ends of the channels between four threads")]
fn manage(
    settings: Settings,
    recovered: Recovered,
    handle: &Handle,
    inbox: &crossbeam_channel::Receiver<crate::manager::Message>,
    commits: &crossbeam_channel::Sender<crate::model::Batch>,
    committed: &crossbeam_channel::Receiver<crate::store::Committed>,
    outlet: &mut Outside,
    clock: &dyn Clock,
) -> Result<(), RunError> {
    let manager = Manager::new(settings, recovered);
    for action in manager.unreconciled() {
        let (id, cancelling) = (action.id, action.cancelling.is_some());
        outlet.recover(action);
        if cancelling {
            outlet.leave(Output::Cancel(id));
        }
    }
    let result = crate::manager::run(manager, handle, inbox, commits, committed, outlet, clock);
    if let Err(error) = &result {
        let cause = std::error::Error::source(error).map_or_else(String::new, |cause| format!(": {cause}"));
        tracing::error!("{error}{cause}");
    }
    result
}

/// Where what leaves the manager goes: to the effectors, to the lanes of migrations, to the peers.
struct Outside {
    effectors: Effectors,
    lanes: Lanes,
    link: Option<Link>,
}

impl Outside {
    fn recover(&mut self, action: Action) {
        self.effectors.recover(action);
    }

    /// What is not sent is lost, as on any link: the machine that says it says it again.
    fn send(&self, peer: &Arc<str>, bytes: &[u8]) {
        let Some(link) = &self.link else { return };
        let sent = message::decode(bytes).map_err(|error| error.to_string());
        if let Err(why) = sent.and_then(|envelope| link.send(peer, &envelope).map_err(|error| error.to_string())) {
            tracing::debug!(%peer, "a message is not sent: {why}");
        }
    }
}

impl Outlet for Outside {
    fn leave(&mut self, output: Output) {
        match output {
            Output::Dispatch(action) => self.effectors.dispatch(*action),
            Output::Cancel(action) => self.effectors.cancel(action),
            Output::Reply(..) => {}
            Output::Describe { migration, vm, host, way } => self.lanes.describe(migration, vm, host, way),
            Output::Order(order) => self.lanes.order(*order),
            Output::Send { peer, bytes } => self.send(&peer, &bytes),
        }
    }
}

fn settings(config: &Config, hosts: &hosts::Hosts) -> Result<Settings, String> {
    Ok(Settings {
        plane: config.plane.clone(),
        hosts: hosts.settings.clone(),
        rules: config.rules.clone(),
        guardrails: config.guardrails.clone(),
        policy: config.policy_limits(),
        adopt: config.adopt,
        new_modules: config.new_modules,
        handover: neighbours::settings(config, &hosts.catalog)?,
    })
}

/// The API's socket in the file system; taken away with the daemon, also when that fails to start.
struct SocketFile<'a>(&'a Path);

impl Drop for SocketFile<'_> {
    fn drop(&mut self) {
        // Where it is gone already, all is well.
        std::fs::remove_file(self.0).ok();
    }
}

/// Hears that the daemon is asked to stop.
struct StopSignal {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignal {
    /// From now on such a signal does not end the process, but is kept until somebody asks for it.
    fn listen() -> io::Result<StopSignal> {
        Ok(StopSignal { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Resolves when there is one.
    async fn received(mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => tracing::info!("stopping: interrupted"),
            _ = self.terminate.recv() => tracing::info!("stopping: asked to"),
        }
    }
}
