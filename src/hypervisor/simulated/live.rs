//! A fleet that runs in real time within this process.
//!
//! One thread lets time pass and delivers notices; calls come from any thread. All of them settle the fleet first, that is, they
//! bring it up to the clock, so nothing depends on when the thread gets to run.

use super::effects::LogLine;
use super::fault::Fault;
use super::fleet::{Fleet, FleetError};
use super::fleet_plan::FleetPlan;
use super::host::{Door, SimulatedHost};
use super::wire::{Answer, Call, Reply};
use crate::clock::Clock;
use crate::hypervisor::{HypervisorError, NoticeSink};
use crate::model::{HostId, Notice, Span, Timestamp};
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// How a fleet runs.
pub struct LiveOptions {
    /// The plane's clock.
    pub clock: Arc<dyn Clock>,
    /// So many seconds of the fleet pass in one of the clock; 1 for real time.
    pub speed: f64,
    /// Effects are written here, one line of JSON each, before the caller learns of them.
    pub effects_log: Option<Box<dyn Write + Send>>,
}

impl LiveOptions {
    /// In real time, without a log.
    pub fn new(clock: Arc<dyn Clock>) -> LiveOptions {
        LiveOptions { clock, speed: 1.0, effects_log: None }
    }
}

/// Hears what hosts say; answers `false` when it no longer wants to.
pub(super) type Listener = Box<dyn Fn(&HostId, &Notice) -> bool + Send>;

/// A fleet in real time.
pub struct LiveFleet {
    state: Mutex<State>,
    changed: Condvar,
    clock: Arc<dyn Clock>,
    started: Timestamp,
    speed: f64,
}

struct State {
    fleet: Fleet,
    listeners: Vec<Listener>,
    effects_log: Option<Box<dyn Write + Send>>,
}

/// The longest the thread sleeps: whoever drops the fleet need not wait longer for it to end.
const NAP: Duration = Duration::from_millis(200);

/// The longest a waiter sleeps before it looks whether its order was withdrawn.
const GLANCE: Duration = Duration::from_millis(20);

impl LiveFleet {
    /// Builds the fleet that `plan` describes, and lets it run from now on, until the last reference is dropped.
    pub fn start(plan: &FleetPlan, options: LiveOptions) -> Result<Arc<LiveFleet>, FleetError> {
        let started = options.clock.now();
        let fleet = Fleet::new(plan, started)?;
        let state = State { fleet, listeners: Vec::new(), effects_log: options.effects_log };
        let live = Arc::new(LiveFleet {
            state: Mutex::new(state),
            changed: Condvar::new(),
            clock: options.clock,
            started,
            speed: if options.speed > 0.0 { options.speed } else { 1.0 },
        });
        let weak = Arc::downgrade(&live);
        let thread = std::thread::Builder::new().name("simulated-fleet".to_owned());
        thread
            .spawn(move || run(&weak))
            .map_err(|error| FleetError::new(format!("cannot start the fleet's thread: {error}")))?;
        Ok(live)
    }

    /// The names of its hosts.
    pub fn hosts(&self) -> Vec<HostId> {
        self.settled().fleet.hosts().map(|(host, _)| host.clone()).collect()
    }

    /// A connection to one of its hosts. A name that the fleet does not have shows as a host that cannot be reached.
    pub fn host(self: &Arc<Self>, host: &HostId) -> SimulatedHost {
        SimulatedHost::new(host.clone(), self.clone())
    }

    /// Lets something go wrong now.
    pub fn inject(&self, fault: &Fault) {
        self.with(|fleet| {
            let now = fleet.now();
            fleet.inject(fault, now);
        });
    }

    /// Looks at the fleet, or changes it, at the present time. `look` must not call back.
    pub fn with<T>(&self, look: impl FnOnce(&mut Fleet) -> T) -> T {
        let mut state = self.settled();
        let seen = look(&mut state.fleet);
        self.settle(&mut state);
        seen
    }

    /// From now on, tells the listener what hosts say. It is called with the fleet locked: it must neither block nor call back.
    pub(super) fn listen(&self, listener: Listener) {
        self.settled().listeners.push(listener);
    }

    fn settled(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.settle(&mut state);
        state
    }

    /// Brings the fleet up to the clock, and tells everybody what happened.
    fn settle(&self, state: &mut State) {
        let now = self.clock.now();
        let passed = now.since(self.started).0 as f64 * self.speed;
        let changes = state.fleet.advance(self.started + Span(passed as u64));
        let lines = state.fleet.take_log();
        if let Some(log) = &mut state.effects_log
            && let Err(error) = write_lines(log, &lines)
        {
            tracing::error!("the log of effects cannot be written: {error}");
        }
        for (host, notice) in &changes.notices {
            // Readers know the plane's clock, not the fleet's.
            let notice = Notice { at: now, ..notice.clone() };
            state.listeners.retain(|listener| listener(host, &notice));
        }
        if !changes.notices.is_empty() || !changes.ended.is_empty() {
            self.changed.notify_all();
        }
    }

    /// How long it is until something happens by itself, in real time.
    fn until_change(&self, fleet: &Fleet) -> Duration {
        let span = fleet.next_change_at().map_or(Span(u64::MAX), |at| at.since(fleet.now()));
        Duration::from_secs_f64((span.as_seconds() / self.speed).clamp(0.001, 3_600.0))
    }

    fn wait(&self, at_most: Duration) {
        let state = self.settled();
        let wait = self.until_change(&state.fleet).min(at_most);
        drop(self.changed.wait_timeout(state, wait));
    }
}

fn write_lines(log: &mut Box<dyn Write + Send>, lines: &[LogLine]) -> io::Result<()> {
    for line in lines {
        let mut line = serde_json::to_string(line).map_err(io::Error::other)?;
        line.push('\n');
        log.write_all(line.as_bytes())?;
    }
    if lines.is_empty() { Ok(()) } else { log.flush() }
}

fn run(fleet: &Weak<LiveFleet>) {
    while let Some(fleet) = fleet.upgrade() {
        fleet.wait(NAP);
    }
}

impl Door for LiveFleet {
    fn call(&self, call: Call) -> Reply {
        // What only asks plans nothing new, and must not wake those that wait: they would ask, and wake each other.
        let plans = matches!(call, Call::Begin { .. } | Call::HandOver { .. } | Call::Cancel { .. } | Call::Inject(_));
        let mut state = self.settled();
        let answer = answer(&mut state.fleet, call);
        self.settle(&mut state);
        if plans {
            self.changed.notify_all();
        }
        answer
    }

    fn subscribe(&self, host: &HostId, sink: NoticeSink) {
        let host = host.clone();
        self.listen(Box::new(move |says, notice| {
            if *says == host {
                sink(notice.clone());
            }
            true
        }));
    }

    fn pause(&self) {
        self.wait(GLANCE);
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// Answers a call at the fleet's present time.
fn answer(fleet: &mut Fleet, call: Call) -> Result<Answer, HypervisorError> {
    let now = fleet.now();
    Ok(match call {
        Call::Hosts => Answer::Hosts(fleet.hosts().map(|(host, _)| host.clone()).collect()),
        Call::Report { host, .. }
        | Call::Mark { host, .. }
        | Call::Look { host, .. }
        | Call::Definition { host, .. }
        | Call::HandOver { host, .. }
            if fleet.stalled_until(&host).is_some() =>
        {
            fleet.reachable(&host)?;
            Answer::Stalled
        }
        Call::Report { host, asked_at, seen } => {
            let (report, seen) = fleet.report(&host, asked_at, seen)?;
            Answer::Report(Box::new(report), seen)
        }
        Call::Mark { host, vm } => Answer::Mark(fleet.mark(&host, vm)?),
        Call::Begin { host, order } => {
            fleet.begin(&host, &order, now)?;
            Answer::Done
        }
        Call::Poll { host, job } => {
            let state = fleet.poll(&job);
            let over = state.as_ref().is_some_and(super::OrderState::is_final);
            if !over {
                fleet.reachable(&host)?;
            }
            Answer::State { state, stalled: !over && fleet.stalled_until(&host).is_some() }
        }
        Call::Cancel { job } => {
            fleet.cancel(&job, now);
            Answer::Done
        }
        Call::Inject(fault) => {
            fleet.inject(&fault, now);
            Answer::Done
        }
        Call::Fence { job } => {
            fleet.fence(job);
            Answer::Done
        }
        Call::Look { host, vm } => Answer::Sighting(fleet.look(&host, vm)?),
        Call::Definition { host, vm } => Answer::Definition(fleet.definition(&host, vm)?),
        Call::HandOver { host, handover } => {
            let target = handover.step.transfer().map(|transfer| &transfer.destination.host);
            // As libvirt: a move to a host that hangs waits for that host, before it has begun.
            if target.is_some_and(|target| fleet.stalled_until(target).is_some()) {
                return Ok(Answer::Stalled);
            }
            Answer::Begun(fleet.hand_over(&host, &handover, now)?)
        }
        Call::Listen => Answer::Done,
    })
}
