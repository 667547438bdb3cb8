//! Wiring only: builds the parts, starts the threads, stops them in order.
//!
//! Threads: the manager; the store; a few effector workers and one poller for each host; one supervisor of the pollers;
//! libvirt's event loop; tokio's for the network. They talk through channels alone.

mod folder;
mod hosts;

pub use folder::Folder;

use crate::api;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::effectors::{Effectors, LogNotifier, Workers};
use crate::manager::{Handle, HostSettings, Manager, Outlet, RunError, Settings};
use crate::model::{Action, Input, Output, Span};
use crate::sensors::{Polling, Sensors};
use crate::store::{Recovered, Store, StoreError, Writer};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use tokio::signal::unix::{Signal, SignalKind, signal};

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
    /// The hosts of the configuration cannot be reached for, as they are written.
    #[error("{0}")]
    Hosts(String),
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

/// Runs a plane until it is told to stop (SIGINT, SIGTERM). `on_ready` is called when the socket answers.
pub fn run(config: &Config, on_ready: impl FnOnce(&Handle) + Send + 'static) -> Result<(), DaemonError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    // From here on a signal to stop is remembered, however long the start takes.
    let stop_signal = runtime.block_on(async { StopSignal::listen() })?;
    // The store first: its lock decides which of two daemons may go on, before either touches the socket.
    let (store, recovered) = Store::open(&config.store, config.retention())?;
    let listener = runtime.block_on(api::listen(&config.socket))?;
    let socket = SocketFile(&config.socket);
    let clock: Arc<SystemClock> = SystemClock::start(recovered.last_now);
    let journal = store.journal();
    let hosts = hosts::open(config, clock.clone()).map_err(DaemonError::Hosts)?;
    let (handle, inbox) = Handle::new(INBOX);

    let (commits, to_store) = crossbeam_channel::bounded(64);
    let (from_store, committed) = crossbeam_channel::unbounded();
    let writer = Writer::spawn(store, to_store, from_store, SAMPLES_WAIT)?;

    let updates = handle.clone();
    let effectors = Effectors::new(
        hosts.connections.clone(),
        hosts.catalog,
        Workers::default(),
        Arc::new(LogNotifier),
        clock.clone(),
        Arc::new(move |action, update| {
            updates.send(Input::Update(action, update));
        }),
    )?;
    let settings = settings(config, &hosts.settings);
    let manager = {
        let (handle, clock) = (handle.clone(), clock.clone());
        let mut outlet = ToEffectors(effectors);
        thread::Builder::new().name("manager".into()).spawn(move || {
            let result = manage(settings, recovered, &handle, &inbox, &commits, &committed, &mut outlet, &*clock);
            // Nobody listens any more; effectors must not wait to be heard.
            drop(inbox);
            let left = outlet.0.stop(FAREWELL);
            if !left.is_empty() {
                let left: Vec<String> = left.iter().map(ToString::to_string).collect();
                tracing::info!("left to the hypervisors, to be found again at the next start: actions {}", left.join(", "));
            }
            result
        })?
    };
    let sensors = {
        let (send, try_send) = (handle.clone(), handle.clone());
        let (send, try_send) = (move |input| send.send(input), move |input| try_send.try_send(input));
        Sensors::start(hosts.connections, Polling::every(config.poll), clock.clone(), send, try_send)?
    };

    let served = runtime.block_on(async {
        let folder = tokio::spawn(Folder::new(&config.modules, &config.policies).watch(handle.clone()));
        on_ready(&handle);
        let doors = api::Doors { journal, clock: clock.clone() };
        let served = api::serve(listener, handle.clone(), doors, stop_signal.received()).await;
        folder.abort();
        served
    });
    // While this daemon still holds the store, so that the next one's socket is not the one that goes.
    drop(socket);
    handle.stop();
    sensors.stop(FAREWELL);
    let managed = manager.join().map_err(|_| DaemonError::Panicked("manager"))?;
    let written = writer.join();
    managed?;
    written.map_err(|error| DaemonError::Manager(RunError::Store(error)))?;
    served?;
    runtime.shutdown_background();
    Ok(())
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
    outlet: &mut ToEffectors,
    clock: &dyn Clock,
) -> Result<(), RunError> {
    let manager = Manager::new(settings, recovered);
    for action in manager.unreconciled() {
        outlet.recover(action);
    }
    let result = crate::manager::run(manager, handle, inbox, commits, committed, outlet, clock);
    if let Err(error) = &result {
        let cause = std::error::Error::source(error).map_or_else(String::new, |cause| format!(": {cause}"));
        tracing::error!("{error}{cause}");
        // Whoever waits for the daemon's end must not wait for a signal.
        nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGTERM).ok();
    }
    result
}

/// What leaves the manager goes to the effectors.
struct ToEffectors(Effectors);

impl ToEffectors {
    fn recover(&mut self, action: Action) {
        self.0.recover(action);
    }
}

impl Outlet for ToEffectors {
    fn leave(&mut self, output: Output) {
        match output {
            Output::Dispatch(action) => self.0.dispatch(*action),
            Output::Cancel(action) => self.0.cancel(action),
            Output::Reply(..) => {}
        }
    }
}

fn settings(config: &Config, hosts: &[HostSettings]) -> Settings {
    Settings {
        plane: config.plane.clone(),
        hosts: hosts.to_vec(),
        rules: config.rules.clone(),
        guardrails: config.guardrails.clone(),
        policy: config.policy_limits(),
        adopt: config.adopt,
    }
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
