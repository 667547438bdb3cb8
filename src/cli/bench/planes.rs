//! Two planes that exchange all their guests, again and again.
//!
//! Both are the daemon itself (sensors, manager, store on disk, lanes, and the link with TLS between them) but for the API, in
//! this process, in real time, over one simulated fleet. The hypervisor's time is taken out: its processor time is measured
//! call by call, and of the time in which a guest's facts wait the move itself is taken off.
//!
//! What a plane keeps of a guest after a day is measured in virtual time.

use super::BenchError;
use super::delays::Delays;
use super::folder::{Folder, Module};
use super::metered::{Meter, Metered};
use super::plane::{SIMULATION, load, look, mib};
use crate::cli::progress::Progress;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::daemon::{Daemon, DaemonError};
use crate::hypervisor::simulated::{Fleet, FleetPlan, LiveFleet, LiveOptions};
use crate::hypervisor::{Hypervisor, MigrationLimits};
use crate::manager::{HostSettings, Manager, Settings};
use crate::model::{ActionKind, Command, HostId, MigrationId, Mode, Outcome, Phase, Reply, Side, Span, Timestamp, VmId};
use crate::pki::{Authority, Request};
use crate::process::Process;
use crate::simulate::{Plane, Simulation};
use crate::store::{Recovered, Store};
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// Guests on their way at a time, from each plane to the other.
const AT_ONCE: usize = 64;
/// Times that all guests change places.
const EXCHANGES: usize = 16;
/// Memory is compared from here on: by then a plane has as many past migrations and actions at hand as it keeps.
const FULL: usize = 8;
/// All guests must have changed places after so long.
const PATIENCE: Duration = Duration::from_secs(300);
/// Guests of which one day is measured.
const DAY_GUESTS: usize = 4;

const NAMES: [&str; 2] = ["bench-a", "bench-b"];

/// A policy for each guest whose state travels: what it saw last, and how often.
const COUNT: &str = r#"
fn on_load(vm) {
    this.samples = this.get("samples", 0) + 1;
    this.peak = max(this.get("peak", 0.0), vm.cpu);
}
fn on_migrated(event) { this.moves = this.get("moves", 0) + 1; }
"#;

const COUNT_MANIFEST: &str = r#"
module: count-samples
version: "1.0.0"
description: Keeps a state for each guest.
policies: [count-samples.rhai]
covers: { each: vm }
mode: act
permits: []
"#;

/// What was measured.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct PlanesFigures {
    /// Guests, half of them on each plane.
    pub guests: usize,
    /// How often all of them changed places.
    pub exchanges: usize,
    /// Handovers done.
    pub handovers: usize,
    /// Handovers that ended otherwise, and were tried again.
    pub stayed: usize,
    /// So long all of it took.
    pub seconds: f64,
    /// Handovers a second, with the processor time of the simulated hypervisor taken out.
    pub handovers_per_s: f64,
    /// Processor time of both planes together for a handover, in milliseconds.
    pub cpu_ms: f64,
    /// The simulated hypervisor's share of one core.
    pub simulation_of_core: f64,
    /// How long facts of a guest wait, the move itself taken off.
    pub wait: Delays,
    /// Resident memory after half of the exchanges, in MiB: both planes and the fleet.
    pub resident_first_mib: f64,
    /// The same after the last.
    pub resident_last_mib: f64,
    /// What a handover sends of a guest after a day, in bytes: elements, embots, state, history.
    pub day_bytes: usize,
}

/// Runs the planes and measures them.
pub fn run(guests: usize, progress: &Progress) -> Result<PlanesFigures, BenchError> {
    progress.say("planes: a day in virtual time");
    let day_bytes = day()?;
    progress.say("planes: starting");
    let bench = Bench::start(guests)?;
    let result = bench.measure(guests, progress);
    for daemon in bench.daemons {
        daemon.stop()?;
    }
    Ok(PlanesFigures { day_bytes, ..result? })
}

/// Both planes at work.
struct Bench {
    daemons: [Daemon; 2],
    meter: Arc<Meter>,
    // They outlive the daemons.
    _runtime: Runtime,
    _folder: Folder,
}

impl Bench {
    fn start(guests: usize) -> Result<Bench, BenchError> {
        let folder = Folder::new("planes")?;
        let clock = SystemClock::start(Timestamp(0));
        let pki = |error: crate::pki::PkiError| BenchError::Io(std::io::Error::other(error.to_string()));
        let authority = Authority::init(&folder.path("pki"), "bench", clock.now()).map_err(pki)?;
        // Ports that were free a moment ago.
        let listeners = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
        let ports = [listeners[0].local_addr()?.port(), listeners[1].local_addr()?.port()];
        drop(listeners);
        let plan = FleetPlan::parse("fleet.yaml", &fleet(guests)).map_err(|found| BenchError::Config(Some(found)))?;
        let fleet = LiveFleet::start(&plan, LiveOptions::new(clock.clone()));
        let fleet = fleet.map_err(|error| BenchError::Io(std::io::Error::other(error.to_string())))?;
        let meter = Arc::new(Meter::default());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let daemon = |own: usize| -> Result<Daemon, BenchError> {
            let (name, peer) = (NAMES[own], 1 - own);
            authority.issue(&Request::new(name), clock.now()).map_err(pki)?;
            let file = format!("{name}.yaml");
            folder.write(&file, &config(own, ports, NAMES[peer]))?;
            let config = Config::load(&folder.path(&file)).map_err(|found| BenchError::Config(found.into_iter().next()))?;
            let opened = Store::open(&config.store, config.retention()).map_err(DaemonError::from)?;
            let between =
                |host: &HostId, _| -> Arc<dyn Hypervisor> { Arc::new(Metered::new(Arc::new(fleet.host(host)), meter.clone())) };
            Ok(Daemon::start(&config, opened, &between, Some(runtime.handle()))?)
        };
        let daemons = [daemon(0)?, daemon(1)?];
        Ok(Bench { daemons, meter, _runtime: runtime, _folder: folder })
    }

    fn measure(&self, guests: usize, progress: &Progress) -> Result<PlanesFigures, BenchError> {
        self.settle(guests)?;
        let own = Process::own();
        let mut figures = PlanesFigures { guests, exchanges: EXCHANGES, day_bytes: 0, ..PlanesFigures::default() };
        let (mut waits, mut cpu, mut inside) = (Vec::new(), Duration::ZERO, Duration::ZERO);
        for exchange in 0..EXCHANGES {
            progress.say(&format!("planes: exchange {} of {EXCHANGES}", exchange + 1));
            let simulated = || self.meter.inside() + own.cpu_by_thread().get(SIMULATION).copied().unwrap_or_default();
            let (began, cpu_before, inside_before) = (Instant::now(), own.cpu(), simulated());
            let seen: Vec<MigrationId> = self.migrations(0)?.into_keys().collect();
            self.exchange()?;
            figures.seconds += began.elapsed().as_secs_f64();
            cpu += own.cpu().saturating_sub(cpu_before);
            inside += simulated().saturating_sub(inside_before);
            let (here, there) = (self.migrations(0)?, self.migrations(1)?);
            for (id, one) in here.iter().filter(|(id, _)| !seen.contains(id)) {
                if one.moved {
                    figures.handovers += 1;
                    waits.extend(there.get(id).and_then(|other| wait(one, other)));
                } else {
                    figures.stayed += 1;
                }
            }
            let resident = mib(own.resident());
            (figures.resident_first_mib, figures.resident_last_mib) =
                (if exchange < FULL { resident } else { figures.resident_first_mib }, resident);
        }
        let processors = std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64);
        let alone = figures.seconds - inside.as_secs_f64() / processors;
        figures.handovers_per_s = figures.handovers as f64 / alone.max(0.001);
        figures.cpu_ms = cpu.saturating_sub(inside).as_secs_f64() * 1e3 / figures.handovers.max(1) as f64;
        figures.simulation_of_core = inside.as_secs_f64() / figures.seconds.max(0.001);
        figures.wait = Delays::of(waits);
        Ok(figures)
    }

    /// Waits until both know all their guests and each other, with the modules in force.
    fn settle(&self, guests: usize) -> Result<(), BenchError> {
        let started = Instant::now();
        for daemon in &self.daemons {
            for module in Module::shipped().iter().chain([&count()]) {
                load(daemon.handle(), module)?;
            }
        }
        let ready = |daemon: &Daemon| -> Result<bool, BenchError> {
            look(daemon.handle(), move |manager| {
                let connected = manager.peers().iter().all(|peer| peer.reachable);
                connected && !manager.is_starting() && manager.world().vm_count() >= guests / 2
            })
        };
        while !(ready(&self.daemons[0])? && ready(&self.daemons[1])?) {
            if started.elapsed() > PATIENCE {
                return Err(BenchError::TooSlow("the planes have not found all guests and each other", PATIENCE));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Every guest goes to the other plane. One that is not taken is asked for again.
    fn exchange(&self) -> Result<(), BenchError> {
        let started = Instant::now();
        let guests = |plane: usize| look(self.daemons[plane].handle(), own_guests);
        let leave = [Arc::new(guests(0)?), Arc::new(guests(1)?)];
        let mut is_over = false;
        while !is_over {
            is_over = true;
            for plane in [0, 1] {
                let (handle, wanted) = (self.daemons[plane].handle(), leave[plane].clone());
                let (here, next) = look(handle, move |manager| still_here(manager, &wanted))?;
                is_over &= here == 0;
                let ask = |vm| {
                    let kind =
                        ActionKind::Handover { vm, plane: NAMES[1 - plane].into(), host: None, live: true, force_after: None };
                    handle.command(Command::Act { kind, reason: "bench".into() }, "bench".into())
                };
                let replies: Vec<oneshot::Receiver<Reply>> = next.into_iter().map(ask).collect();
                // Who is refused is among the next again.
                replies.into_iter().for_each(|reply| drop(reply.blocking_recv()));
            }
            let goes_on = |manager: &Manager| manager.migrations().iter().any(|one| one.outcome.is_none());
            is_over = is_over && !look(self.daemons[0].handle(), goes_on)? && !look(self.daemons[1].handle(), goes_on)?;
            if started.elapsed() > PATIENCE {
                return Err(BenchError::TooSlow("the guests have not changed places", PATIENCE));
            }
            std::thread::sleep(Duration::from_millis(3));
        }
        Ok(())
    }

    /// The migrations that a plane has on record, by name.
    fn migrations(&self, plane: usize) -> Result<BTreeMap<MigrationId, End>, BenchError> {
        look(self.daemons[plane].handle(), |manager| {
            let migrations = manager.migrations().into_iter();
            migrations
                .map(|one| (one.id, End { side: one.side, moved: one.outcome == Some(Outcome::Moved), phases: one.phases }))
                .collect()
        })
    }
}

/// One end of a migration that is over.
struct End {
    side: Side,
    moved: bool,
    phases: Vec<Phase>,
}

impl End {
    fn at(&self, word: &str) -> Option<Timestamp> {
        self.phases.iter().find(|phase| &*phase.word == word).map(|phase| phase.at)
    }
}

/// How long the guest's facts waited: from the hold at the source to the dispatch at the target, the move taken off.
fn wait(one: &End, other: &End) -> Option<Duration> {
    let (source, target) = if one.side == Side::Source { (one, other) } else { (other, one) };
    let whole = target.at("committed")?.since(source.at("stating")?);
    let moved = source.at("last_round")?.since(source.at("moving")?);
    Some(Duration::from_millis(whole.0.saturating_sub(moved.0)))
}

/// The guests that carry the plane's mark.
fn own_guests(manager: &Manager) -> Vec<VmId> {
    let world = manager.world();
    world.vms().filter(|vm| vm.epoch_of(&world.plane).is_some()).map(|vm| vm.id).collect()
}

/// How many of these are still the plane's own, and those that may be asked to leave now.
fn still_here(manager: &Manager, wanted: &[VmId]) -> (usize, Vec<VmId>) {
    let world = manager.world();
    let here: Vec<VmId> = wanted.iter().copied().filter(|vm| world.vm(*vm).is_some()).collect();
    let free = AT_ONCE.saturating_sub(world.open.len());
    let next = here.iter().copied().filter(|vm| !world.open.contains_key(vm)).take(free).collect();
    (here.len(), next)
}

fn count() -> Module {
    Module::new("count-samples.yaml", COUNT_MANIFEST, &[("count-samples.rhai", COUNT)])
}

fn config(own: usize, ports: [u16; 2], peer: &str) -> String {
    let (name, letter) = (NAMES[own], ["a", "b"][own]);
    let pki = format!("pki/planes/{name}");
    format!(
        "plane: {name}
adopt: act
new_modules: act
store: {name}.redb
poll: 5s
hosts:
  - {{ name: {letter}-1, uri: \"simulated:unix:none\" }}
  - {{ name: {letter}-2, uri: \"simulated:unix:none\" }}
link: {{ listen: \"127.0.0.1:{}\", certificate: {pki}/plane.crt, key: {pki}/plane.key, ca: {pki}/ca.crt, crl: {pki}/crl.pem }}
peers: [{{ name: {peer}, address: \"127.0.0.1:{}\", limits: {{ migrations: 1000 }} }}]
# What is measured is how quickly guests are handed over, not how well too many are kept from it.
guardrails: {{ migrations: 1000, migrations_per_host: 1000 }}
",
        ports[own],
        ports[1 - own],
    )
}

/// Two hosts for each plane, with room for all guests, and links that carry a guest in no time.
fn fleet(guests: usize) -> String {
    let host = |letter: &str| {
        format!("  - {{ name: '{letter}-{{n}}', count: 2, cpus: 4096, memory_mib: 8388608, bandwidth_mib_per_s: 100000000 }}\n")
    };
    let guest = |letter: &str, count: usize| {
        format!(
            "  - {{ name: '{letter}-guest-{{n}}', count: {count}, on: ['{letter}-*'], vcpus: 1, memory_mib: 1024, \
             mark: {{ plane: bench-{letter}, epoch: 1 }}, load: {{ cpu: 0.1, memory: 0.5 }} }}\n"
        )
    };
    let (half, rest) = (guests / 2, guests - guests / 2);
    format!("seed: 1\nhosts:\n{}{}guests:\n{}{}", host("a"), host("b"), guest("a", half), guest("b", rest))
}

/// What a handover would send of a guest that was watched for a day: the most of some.
fn day() -> Result<usize, BenchError> {
    let text = format!(
        "seed: 1
hosts: [{{ name: a-1, cpus: 32, memory_mib: 65536 }}]
guests:
  - name: 'guest-{{n}}'
    count: {DAY_GUESTS}
    memory_mib: 2048
    mark: {{ plane: bench-a, epoch: 1 }}
    load:
      cpu: {{ sine: {{ mean: 0.3, amplitude: 0.2, period: 10m, stagger: 7s }} }}
      memory: {{ sine: {{ mean: 0.5, amplitude: 0.1, period: 30m, stagger: 11s }} }}
"
    );
    let plan = FleetPlan::parse("fleet.yaml", &text).map_err(|found| BenchError::Config(Some(found)))?;
    let wrong = |error: String| BenchError::Io(std::io::Error::other(error));
    let fleet = Fleet::new(&plan, Timestamp(0)).map_err(|error| wrong(error.to_string()))?;
    let host = HostSettings { id: "a-1".into(), site: "".into(), labels: BTreeMap::new() };
    let settings =
        Settings { plane: NAMES[0].into(), hosts: vec![host], adopt: Mode::Act, new_modules: Mode::Act, ..Settings::default() };
    let manager = Manager::new(settings, Recovered::nothing());
    let mut simulation =
        Simulation::new(fleet, vec![Plane::new(manager, MigrationLimits::default())], Span::seconds(15), Span::ZERO);
    let passes = |simulation: &mut Simulation, span| simulation.run_for(span).map_err(|error| wrong(error.to_string()));
    passes(&mut simulation, Span::seconds(20))?;
    for module in Module::shipped().iter().chain([&count()]) {
        let command = Command::LoadModule {
            file: module.file.clone(),
            manifest: module.manifest.clone(),
            policies: module.policies.clone(),
        };
        match simulation.command(0, command).map_err(|error| wrong(error.to_string()))? {
            Some(Reply::Done { .. }) => {}
            refused => return Err(BenchError::Refused(format!("{refused:?}"))),
        }
    }
    passes(&mut simulation, Span::hours(24))?;
    let manager = simulation.manager(0);
    let bytes = own_guests(manager).into_iter().filter_map(|vm| manager.management_bytes(vm));
    bytes.max().ok_or_else(|| BenchError::Refused("no guest is managed after a day".to_owned()))
}
