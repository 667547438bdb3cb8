//! A large plane at work: so many hosts and guests on the simulated hypervisor, in real time, one sample each per second.
//!
//! It is the daemon itself (sensors, manager, store on disk, effectors), with everything but the API. While it runs, guests
//! crash at even intervals, and a policy proposes to start them again at once. The delay runs from the moment the hypervisor's
//! notice of the crash is handed to the manager until the batch with the planned start is durable.

use super::BenchError;
use super::delays::Delays;
use super::folder::{Folder, Module};
use super::metered::{Meter, Metered};
use crate::cli::progress::Progress;
use crate::config::Config;
use crate::daemon::{Daemon, DaemonError};
use crate::hypervisor::simulated::{Fault, LiveFleet, Mishap};
use crate::manager::{Figures, Handle, Manager};
use crate::model::{ActionKind, Batch, Command, Record, Reply, VmId};
use crate::process::Process;
use crate::store::Store;
use crate::usage::Usage;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::broadcast::error::RecvError;

/// Crashes a second.
const CRASHES: u32 = 20;
/// The plane runs so long before anything is measured.
const WARM_UP: Duration = Duration::from_secs(5);
/// The plane must have caught up with its hosts after so long.
const PATIENCE: Duration = Duration::from_secs(120);

/// A policy for each guest as admins write them: it looks at five values of every sample, and acts on what seldom happens.
const WATCH: &str = r#"
fn settings() { #{ cpu: 0.98, memory: 0.99, iops: 90000.0, net: 1.0e10, wait: 0.9 } }
fn on_load(vm, settings) {
    if vm.cpu > settings.cpu { this.odd = "cpu"; }
    if vm.memory > settings.memory { this.odd = "memory"; }
    if vm.iops > settings.iops { this.odd = "iops"; }
    if vm.net > settings.net { this.odd = "net"; }
    if vm.cpu_wait > settings.wait { this.odd = "wait"; }
}
fn on_crashed(vm) { vm.start("crashed"); }
"#;

const WATCH_MANIFEST: &str = r#"
module: watch-guest
version: "1.0.0"
description: Looks at every sample of each guest, and starts crashed guests at once.
policies: [watch-guest.rhai]
covers: { each: vm }
mode: act
permits: [start]
"#;

/// What was measured.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct PlaneFigures {
    /// Hosts.
    pub hosts: usize,
    /// Guests.
    pub guests: usize,
    /// Embots.
    pub embots: usize,
    /// So long it was measured.
    pub seconds: f64,
    /// Events in that time, a second.
    pub events_per_s: f64,
    /// Steps in that time, a second.
    pub steps_per_s: f64,
    /// Processor time of the plane, as a share of one core: the whole process less the simulation and less the measuring.
    pub cpu_of_core: f64,
    /// The same by thread. Threads are counted until they end.
    pub cpu_by_thread: BTreeMap<String, f64>,
    /// The simulated hypervisor's share of one core: its own thread, and the calls into it from the plane's threads.
    pub simulation_of_core: f64,
    /// Resident memory of the whole process at the end, the simulated fleet included, in MiB.
    pub resident_mib: f64,
    /// Of that, before the plane was started.
    pub resident_before_mib: f64,
    /// What usage history will take in addition once it is full, after three hours, in MiB.
    pub history_to_come_mib: f64,
    /// Threads of the process.
    pub threads: usize,
    /// From the notice of a crash to the durable plan.
    pub fact_to_plan: Delays,
    /// Crashes that led to no plan.
    pub unanswered: usize,
    /// The store's file at the end, in MiB.
    pub store_mib: f64,
}

/// Runs the plane and measures it.
pub fn run(hosts: usize, guests: usize, seconds: u64, progress: &Progress) -> Result<PlaneFigures, BenchError> {
    progress.say(&format!("plane: {hosts} hosts, {guests} guests, starting"));
    let folder = Folder::new("plane")?;
    folder.write("fleet.yaml", &fleet(hosts, guests))?;
    folder.write("plane.yaml", CONFIG)?;
    let config = Config::load(&folder.path("plane.yaml")).map_err(|found| BenchError::Config(found.into_iter().next()))?;
    let own = Process::own();
    let resident_before = own.resident();
    let meter = Arc::new(Meter::default());
    let between = |_: &_, host| Arc::new(Metered::new(host, meter.clone())) as Arc<_>;
    let opened = Store::open(&config.store, config.retention()).map_err(DaemonError::from)?;
    let daemon = Daemon::start(&config, opened, &between, None)?;
    let result = measure(&daemon, &meter, guests, seconds, progress);
    daemon.stop()?;
    let mut figures = result?;
    figures.hosts = hosts;
    figures.resident_before_mib = mib(resident_before);
    figures.store_mib = std::fs::metadata(&config.store).map_or(0.0, |file| mib(file.len()));
    Ok(figures)
}

const CONFIG: &str = "
plane: bench
new_modules: act
fleet: fleet.yaml
poll: 1s
adopt: act
guardrails:
  cooldown: 1s
  # What is measured is how quickly plans are made, not how well too many are kept from being made.
  module_rate: { actions: 1000000, per: 1m }
  plane_rate: { actions: 1000000, per: 1m }
  blast_radius: 1.0
";

/// A fleet whose guests' loads go up and down, each in its own time, so that every sample differs from the last.
fn fleet(hosts: usize, guests: usize) -> String {
    format!(
        "seed: 1
hosts: [{{ name: 'host-{{n}}', count: {hosts}, cpus: 32, memory_mib: 262144 }}]
guests:
  - name: 'guest-{{n}}'
    count: {guests}
    vcpus: 2
    memory_mib: 2048
    mark: {{ plane: bench, epoch: 1 }}
    load:
      cpu: {{ sine: {{ mean: 0.3, amplitude: 0.2, period: 10m, stagger: 7s }} }}
      memory: {{ sine: {{ mean: 0.5, amplitude: 0.1, period: 30m, stagger: 11s }} }}
"
    )
}

fn measure(
    daemon: &Daemon,
    meter: &Arc<Meter>,
    guests: usize,
    seconds: u64,
    progress: &Progress,
) -> Result<PlaneFigures, BenchError> {
    let handle = daemon.handle();
    let fleet = daemon.fleet().ok_or(BenchError::NoFleet)?;
    let started = Instant::now();
    while look(handle, move |manager| manager.is_starting() || manager.world().vm_count() < guests)? {
        if started.elapsed() > PATIENCE {
            return Err(BenchError::TooSlow("the plane has not heard of all its guests", PATIENCE));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let watch = Module::new("watch-guest.yaml", WATCH_MANIFEST, &[("watch-guest.rhai", WATCH)]);
    for module in Module::shipped().iter().chain([&watch]) {
        load(handle, module)?;
    }
    progress.wait(WARM_UP, "plane: warming up");
    let follower = Follower::start(handle, meter.clone())?;
    let own = Process::own();
    let before = Moment::now(&own, meter, look(handle, Manager::figures)?);
    let crashed = crash(fleet, seconds, progress);
    let after = Moment::now(&own, meter, look(handle, Manager::figures)?);
    let (resident, threads) = (own.resident(), own.threads());
    // What was under way has the time of a sigh.
    std::thread::sleep(Duration::from_secs(2));
    let delays = follower.delays();
    let embots = look(handle, |manager| manager.modules().iter().map(|module| module.embots).sum())?;
    let (kept, full) = look(handle, history)?;
    Ok(PlaneFigures {
        guests,
        embots,
        resident_mib: mib(resident),
        history_to_come_mib: mib(full.saturating_sub(kept)),
        threads,
        unanswered: crashed.saturating_sub(delays.len()),
        fact_to_plan: Delays::of(delays),
        ..after.since(&before)
    })
}

/// What the usage history takes now, and what it takes when it is full, in bytes.
fn history(manager: &Manager) -> (u64, u64) {
    let usage = manager.usage();
    let full = (usage.elements().count() * Usage::FULL_BYTES) as u64;
    (usage.bytes() as u64, full)
}

/// Lets guests crash, one after the other, for so long. Says how many did.
fn crash(fleet: &LiveFleet, seconds: u64, progress: &Progress) -> usize {
    let guests: Vec<VmId> = fleet.with(|fleet| fleet.guests().map(|guest| guest.id).collect());
    let (began, pace) = (Instant::now(), Duration::from_secs(1) / CRASHES);
    let mut crashed = 0;
    // A step that shares no factor with the number of guests comes by every host and guest.
    let mut next = 0;
    while began.elapsed() < Duration::from_secs(seconds) {
        if let Some(vm) = guests.get(next % guests.len().max(1)) {
            fleet.inject(&Fault::Guest { vm: *vm, mishap: Mishap::Crashes });
            crashed += 1;
        }
        next += 7_919;
        progress.say(&format!("plane: measuring, {} of {seconds} s", began.elapsed().as_secs()));
        let due = pace * u32::try_from(crashed).unwrap_or(u32::MAX);
        std::thread::sleep(due.saturating_sub(began.elapsed()));
    }
    crashed
}

/// Where all meters stand at one moment.
struct Moment {
    at: Instant,
    process: Duration,
    threads: BTreeMap<String, Duration>,
    inside: Duration,
    figures: Figures,
}

/// Threads of the simulation and of the measuring, by the names that [`Process::cpu_by_thread`] gives.
pub(super) const SIMULATION: &str = "simulated";
const MEASURING: [&str; 2] = ["embot", "bench"];

impl Moment {
    fn now(own: &Process, meter: &Meter, figures: Figures) -> Moment {
        let (process, threads) = (own.cpu(), own.cpu_by_thread());
        Moment { at: Instant::now(), process, threads, inside: meter.inside(), figures }
    }

    /// What was used since an earlier moment.
    fn since(&self, before: &Moment) -> PlaneFigures {
        let seconds = self.at.duration_since(before.at).as_secs_f64().max(0.001);
        let share = |time: f64| time / seconds;
        let thread = |name: &str| {
            let time = |moment: &Moment| moment.threads.get(name).map_or(0.0, Duration::as_secs_f64);
            (time(self) - time(before)).max(0.0)
        };
        let inside = (self.inside - before.inside).as_secs_f64();
        let process = self.process.saturating_sub(before.process).as_secs_f64();
        let measuring: f64 = MEASURING.iter().map(|name| thread(name)).sum();
        let plane = process - inside - thread(SIMULATION) - measuring;
        let others = ["poll", "at", SIMULATION].into_iter().chain(MEASURING);
        let others: Vec<&str> = others.collect();
        let named = self.threads.keys().filter(|name| !others.contains(&name.as_str()));
        let mut by_thread: BTreeMap<String, f64> = named.map(|name| (name.clone(), share(thread(name)))).collect();
        by_thread.insert("pollers and workers".to_owned(), share((thread("poll") + thread("at") - inside).max(0.0)));
        by_thread.retain(|_, share| *share >= 0.0005);
        let (now, then) = (self.figures, before.figures);
        PlaneFigures {
            seconds,
            events_per_s: (now.events - then.events) as f64 / seconds,
            steps_per_s: (now.steps - then.steps) as f64 / seconds,
            cpu_of_core: share(plane.max(0.0)),
            cpu_by_thread: by_thread,
            simulation_of_core: share(inside + thread(SIMULATION)),
            ..PlaneFigures::default()
        }
    }
}

/// Hears of every durable batch, as the API does, and notes how old the crash is that a start in it answers.
struct Follower(Arc<Mutex<Vec<Duration>>>);

impl Follower {
    fn start(handle: &Handle, meter: Arc<Meter>) -> Result<Follower, BenchError> {
        let (mut batches, delays) = (handle.follow(), Arc::new(Mutex::new(Vec::new())));
        let kept = delays.clone();
        let follow = move || {
            loop {
                match batches.blocking_recv() {
                    Ok(batch) => kept.lock().unwrap_or_else(PoisonError::into_inner).extend(answers(&batch, &meter)),
                    // Those batches' crashes count as unanswered.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                }
            }
        };
        std::thread::Builder::new().name("bench".to_owned()).spawn(follow)?;
        Ok(Follower(delays))
    }

    fn delays(&self) -> Vec<Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The delays of a batch's starts.
fn answers(batch: &Batch, meter: &Meter) -> Vec<Duration> {
    let starts = batch.records.iter().filter_map(|record| match record {
        Record::Planned { action } => match &action.proposal.kind {
            ActionKind::Start { vm } => Some(*vm),
            _ => None,
        },
        _ => None,
    });
    starts.filter_map(|vm| meter.take_crash(vm)).map(|crashed_at| crashed_at.elapsed()).collect()
}

pub(super) fn look<T: Send + 'static>(
    handle: &Handle,
    question: impl FnOnce(&Manager) -> T + Send + 'static,
) -> Result<T, BenchError> {
    handle.ask(question).blocking_recv().map_err(|_| BenchError::Silent)
}

pub(super) fn load(handle: &Handle, module: &Module) -> Result<(), BenchError> {
    let command =
        Command::LoadModule { file: module.file.clone(), manifest: module.manifest.clone(), policies: module.policies.clone() };
    match handle.command(command, "bench".into()).blocking_recv() {
        Ok(Reply::Done { .. }) => Ok(()),
        Ok(Reply::Refused { reason }) => Err(BenchError::Refused(reason)),
        Err(_) => Err(BenchError::Silent),
    }
}

pub(super) fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}
