//! Two planes, `a` with hosts a-1 and a-2, `b` with b-1 and b-2; guests on a-1.

use embot::embot::package::{SigningKey, TrustStore, TrustedKey};
use embot::hypervisor::MigrationLimits;
use embot::hypervisor::simulated::{Fleet, FleetPlan};
use embot::manager::{HandoverSettings, HostSettings, Manager, MigrationView, Settings};
use embot::migration::message::Rewrite;
use embot::model::{ActionKind, Command, ElementId, HostId, Mode, Peer, Reply, Span, Timestamp, Verb, VmId};
use embot::plan::{Guardrails, Rate};
use embot::policy::Limits;
use embot::simulate::{Plane, Simulation};
use embot::store::{Recovered, SimulatedDisk, Store};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub const A: usize = 0;
pub const B: usize = 1;

pub const FLEET: &str = "
seed: 5
hosts:
  - { name: 'a-{n}', count: 2, cpus: 8, memory_mib: 16384, bandwidth_mib_per_s: 500 }
  - { name: 'b-{n}', count: 2, cpus: 8, memory_mib: 16384, bandwidth_mib_per_s: 500 }
guests: [{ name: 'web-{n}', count: 2, on: [a-1], vcpus: 2, memory_mib: 1024, load: { cpu: 0.3, memory: 0.5 } }]
";

/// Counts what it hears, and has a timer.
pub const COUNT: (&str, &str) = (
    "
module: count
version: '1'
policies: [count.rhai]
covers: { each: vm }
mode: act
permits: [notify]
",
    "
fn on_loaded(event) { this.loaded = this.get(\"loaded\", 0) + 1; after(seconds(100), \"tick\", 7); }
fn on_timer(event) { this.timers = this.get(\"timers\", 0) + event.content; }
fn on_watchdog(vm, event) { this.seen = this.get(\"seen\", \"\") + event.action + \" \"; }
fn on_migrated(vm, event) { this.seen = this.get(\"seen\", \"\") + \"migrated \"; }
",
);

/// Lets everything in.
pub const ADMIT: (&str, &str) = (
    "
module: admit
version: '1'
policies: [admit.rhai]
covers: { one_for: plane }
mode: act
permits: [admit]
",
    "fn on_migration_offer(offer) { offer.accept(); }",
);

/// Lets nothing in.
pub const DENY: (&str, &str) = (ADMIT.0, "fn on_migration_offer(offer) { offer.deny(\"the plane is full\"); }");

thread_local! {
    /// The keys that both planes trust in this test.
    static TRUSTED: RefCell<Vec<TrustedKey>> = const { RefCell::new(Vec::new()) };
}

/// The key of a number. Plane `a` signs with that of its letter.
pub fn key(number: u8) -> SigningKey {
    SigningKey::from_seed(&[number; 32]).unwrap()
}

/// Both planes trust the modules of plane `a`, with these permits.
pub fn trust(permits: &[Verb]) {
    let trusted =
        TrustedKey { name: "ops".into(), key: key(b'a').public(), permits: permits.iter().copied().collect(), mode: Mode::Act };
    TRUSTED.with(|all| *all.borrow_mut() = vec![trusted]);
}

/// Neither plane trusts modules of the other.
pub fn trust_nobody() {
    TRUSTED.with(|all| all.borrow_mut().clear());
}

/// The settings of a plane, `a` or `b`.
pub fn settings(name: &str) -> Settings {
    let host = |number| HostId::from(&*format!("{name}-{number}"));
    let hosts = [1, 2].map(|number| HostSettings { id: host(number), site: name.into(), labels: BTreeMap::new() });
    let rate = Rate { actions: 1_000, per: Span::minutes(1) };
    let other = if name == "a" { "b" } else { "a" };
    let handover = HandoverSettings {
        peers: vec![Peer::new(other, true, true)],
        trust: TrustStore::new(TRUSTED.with(|trusted| trusted.borrow().clone())),
        module_key: Some(Arc::new(key(name.as_bytes()[0]))),
        destinations: [1, 2].map(|number| (host(number), ("simulated".into(), "".into()))).into(),
        // Images lie in the same folder everywhere.
        rewrites: vec![Rewrite::File { from: "/images/".into(), to: "/images/".into() }],
        ..HandoverSettings::default()
    };
    Settings {
        plane: name.into(),
        hosts: hosts.into(),
        guardrails: Guardrails { cooldown: Span::seconds(1), module_rate: rate, plane_rate: rate, ..Guardrails::default() },
        adopt: Mode::Act,
        new_modules: Mode::Act,
        policy: Limits { deadline: Duration::from_secs(3_600), ..Limits::default() },
        handover,
        ..Settings::default()
    }
}

/// A manager of the plane, on what its store holds.
pub fn manager(plane: usize, recovered: Recovered) -> Manager {
    Manager::new(settings(["a", "b"][plane]), recovered)
}

/// A store on a disk, with its manager.
pub fn on_disk(plane: usize, disk: &SimulatedDisk) -> (Manager, Store) {
    let (store, recovered) = Store::on_disk(disk).unwrap_or_else(|error| panic!("the store does not open: {error}"));
    (manager(plane, recovered), store)
}

/// Both planes, fresh; their clocks are off by so many milliseconds.
pub fn planes(fleet: &str, disks: &[SimulatedDisk; 2], clocks_ms: [i64; 2]) -> Simulation {
    planes_with(fleet, disks, clocks_ms, MigrationLimits::default())
}

/// The same, with these limits for moves.
pub fn planes_with(fleet: &str, disks: &[SimulatedDisk; 2], clocks_ms: [i64; 2], limits: MigrationLimits) -> Simulation {
    let fleet = FleetPlan::parse("fleet.yaml", fleet).unwrap_or_else(|error| panic!("{error}"));
    let fleet = Fleet::new(&fleet, Timestamp(0)).unwrap();
    let planes = [A, B].map(|plane| {
        let (manager, store) = on_disk(plane, &disks[plane]);
        Plane::new(manager, limits).with_store(store).with_clock(clocks_ms[plane]).with_batches()
    });
    Simulation::new(fleet, planes.into(), Span::seconds(5), Span(20))
}

/// Both planes, with the counting module on both, and this admission on b; everything adopted.
pub fn ready(clocks_ms: [i64; 2], admission: (&str, &str)) -> Simulation {
    let mut planes = planes(FLEET, &[SimulatedDisk::default(), SimulatedDisk::default()], clocks_ms);
    planes.run_for(Span::seconds(6)).unwrap();
    prepare(&mut planes, admission);
    planes
}

/// Loads the modules.
pub fn prepare(planes: &mut Simulation, admission: (&str, &str)) {
    for plane in [A, B] {
        must(planes, plane, module(COUNT));
    }
    must(planes, B, module(admission));
    planes.run_for(Span::seconds(12)).unwrap();
}

pub fn module((manifest, policy): (&str, &str)) -> Command {
    let file = manifest.split("policies: [").nth(1).and_then(|rest| rest.split(']').next()).unwrap();
    Command::LoadModule { file: "module.yaml".into(), manifest: manifest.into(), policies: vec![(file.into(), policy.into())] }
}

/// Gives a command that must be obeyed.
pub fn must(planes: &mut Simulation, plane: usize, command: Command) -> String {
    match planes.command(plane, command).unwrap() {
        Some(Reply::Done { message, .. }) => message,
        other => panic!("{other:?}"),
    }
}

pub fn guest(planes: &Simulation, name: &str) -> VmId {
    planes.fleet().guest_named(name).expect("a guest of the fleet").id
}

pub fn handover(vm: VmId, plane: &str) -> Command {
    let kind = ActionKind::Handover { vm, plane: plane.into(), host: None, live: true, force_after: None };
    Command::Act { kind, reason: "test".into() }
}

/// The same while it is off: shut down where it runs, and switched off after this time.
pub fn cold(vm: VmId, plane: &str, force_after: Option<Span>) -> Command {
    let kind = ActionKind::Handover { vm, plane: plane.into(), host: None, live: false, force_after };
    Command::Act { kind, reason: "test".into() }
}

/// The last migration of a plane.
pub fn last(planes: &Simulation, plane: usize) -> Option<MigrationView> {
    planes.manager(plane).migrations().into_iter().max_by_key(|migration| migration.id.clone())
}

/// Runs until both ends say that it is over.
pub fn until_over(planes: &mut Simulation) {
    let over = |planes: &Simulation, plane| last(planes, plane).is_some_and(|migration| migration.outcome.is_some());
    let ended = planes.run_until(Span::minutes(10), |planes| over(planes, A) && over(planes, B)).unwrap();
    assert!(ended, "not over: {:?}\n{:?}\n{}", last(planes, A), last(planes, B), notices(planes));
}

/// What the planes told admins.
pub fn notices(planes: &Simulation) -> String {
    let mut text = String::new();
    for plane in [A, B] {
        for record in planes.plane(plane).batches().iter().flat_map(|batch| &batch.records) {
            if let embot::model::Record::Notice { level, text: what } = record {
                text += &format!("{plane} {level:?} {what}\n");
            }
        }
    }
    text
}

/// The state of the guest's counting embot on a plane, as JSON.
pub fn state(planes: &Simulation, plane: usize, vm: VmId) -> Option<String> {
    let embots = planes.manager(plane).embots(Some("count"));
    let embot = embots.into_iter().find(|embot| embot.id.element == ElementId::Vm(vm))?;
    embot.state.values().next().map(|state| state.to_json().to_string())
}

pub fn owner(planes: &Simulation, plane: usize, vm: VmId) -> Option<u64> {
    let manager = planes.manager(plane);
    let (world, plane) = (manager.world(), &manager.settings().plane);
    let mark = world.vm(vm)?.mark.clone()?;
    (mark.plane == *plane).then_some(mark.epoch)
}

pub fn text(text: &str) -> Arc<str> {
    text.into()
}
