//! The simulated fleet within this process, twenty times as fast as time.

use crate::contract::{Ability, EPOCH, Fixture, PLANE, Side, Wanted, Watcher, eventually, migration, order};
use embot::clock::SystemClock;
use embot::hypervisor::simulated::{
    Fault, Fleet, FleetPlan, GuestPlan, HostPlan, JobId, LiveFleet, LiveOptions, LoadPlan, LogLine, Mishap, OrderState,
    Outcome, SimulatedHost, Trouble,
};
use embot::hypervisor::{
    Destination, ErrorKind, Handover, HandoverStep, Hypervisor, HypervisorError, MigrationLimits, Order, Rewriting, Transfer,
};
use embot::migration::ResumeBy;
use embot::model::{ActionKind, HostId, Mark, Span, Standing, Timestamp, VmId};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// A simulated fleet, and a way to its hosts.
pub struct Simulated<F: Fn(&HostId) -> SimulatedHost + Send + Sync> {
    pub fleet: Arc<LiveFleet>,
    pub connect: F,
}

pub const SPEED: f64 = 20.0;

pub fn host(side: Side) -> HostId {
    match side {
        Side::A => "a".into(),
        Side::B => "b".into(),
    }
}

pub fn plan() -> FleetPlan {
    let hosts = ["a", "b"].map(|name| HostPlan { name: name.to_owned(), ..HostPlan::default() });
    FleetPlan { hosts: hosts.into(), ..FleetPlan::default() }
}

impl<F: Fn(&HostId) -> SimulatedHost + Send + Sync> Fixture for Simulated<F> {
    fn connect(&self, side: Side) -> Box<dyn Hypervisor> {
        Box::new((self.connect)(&host(side)))
    }

    fn destination(&self, side: Side) -> Destination {
        Destination { host: host(side), uri: "simulated:".into(), migration_uri: None }
    }

    fn guest(&self, side: Side, wanted: &Wanted) -> VmId {
        let plan = GuestPlan {
            name: wanted.name.clone(),
            on: vec![host(side).to_string()],
            memory_mib: 256,
            running: wanted.running,
            ignores_shutdown: wanted.deaf,
            mark: wanted.mark.clone(),
            load: LoadPlan { dirty_mib_per_s: 2.0, ..LoadPlan::default() },
            ..GuestPlan::default()
        };
        self.fleet.with(|fleet| fleet.add(&plan)).unwrap()[0]
    }

    fn xml(&self, vm: VmId, name: &str) -> String {
        format!("<domain><name>{name}</name><uuid>{vm}</uuid><memory unit='MiB'>64</memory><vcpu>2</vcpu></domain>")
    }

    fn crash(&self, vm: VmId) {
        self.fleet.inject(&Fault::Guest { vm, mishap: Mishap::Crashes });
    }

    fn slowly(&self) -> MigrationLimits {
        MigrationLimits { bandwidth_mib_per_s: Some(20), ..MigrationLimits::default() }
    }

    fn can(&self, _ability: Ability) -> bool {
        true
    }

    fn refuse(&self, side: Side) {
        self.break_host(side, Trouble::Refuses, Span::hours(1));
    }

    fn lose(&self, side: Side) {
        self.break_host(side, Trouble::Lost, Span::seconds(2));
    }

    fn remove(&self, _vm: VmId) {}
}

impl<F: Fn(&HostId) -> SimulatedHost + Send + Sync> Simulated<F> {
    pub fn break_host(&self, side: Side, trouble: Trouble, lasts: Span) {
        self.fleet.inject(&Fault::Host { host: host(side), trouble, lasts });
    }
}

fn in_process() -> Option<Simulated<impl Fn(&HostId) -> SimulatedHost + Send + Sync>> {
    logged(Log::default())
}

fn logged(log: Log) -> Option<Simulated<impl Fn(&HostId) -> SimulatedHost + Send + Sync>> {
    let effects_log: Option<Box<dyn std::io::Write + Send>> = Some(Box::new(log));
    let options = LiveOptions { speed: SPEED, effects_log, ..LiveOptions::new(SystemClock::start(Timestamp(0))) };
    let fleet = LiveFleet::start(&plan(), options).unwrap();
    let way = fleet.clone();
    Some(Simulated { fleet, connect: move |host: &HostId| way.host(host) })
}

contract_tests!(in_process());

fn guest<F: Fn(&HostId) -> SimulatedHost + Send + Sync>(fixture: &Simulated<F>, name: &str) -> VmId {
    let mark = Some(Mark { plane: PLANE.into(), epoch: EPOCH });
    fixture.guest(Side::A, &Wanted { name: name.to_owned(), running: true, deaf: false, mark })
}

#[test]
fn a_host_that_hangs_answers_when_it_is_back() {
    let fixture = in_process().unwrap();
    let vm = guest(&fixture, "waits");
    fixture.break_host(Side::A, Trouble::Hangs, Span::seconds(4));
    let a = fixture.connect(Side::A);
    std::thread::scope(|scope| {
        let report = scope.spawn(|| a.report(Timestamp(1)));
        let suspends = scope.spawn(|| a.execute(&order(ActionKind::Suspend { vm }), &Watcher::default()));
        report.join().unwrap().expect("it waited");
        suspends.join().unwrap().expect("and so did the order");
    });
}

#[test]
fn patience_ends_and_what_was_not_begun_is_withdrawn() {
    let fixture = in_process().unwrap();
    let vm = guest(&fixture, "waits-in-vain");
    fixture.break_host(Side::A, Trouble::Hangs, Span::hours(1));
    let a = (fixture.connect)(&host(Side::A)).with_patience(Span(50));
    assert_eq!(a.report(Timestamp(1)).unwrap_err().kind, ErrorKind::Unreachable);
    let order = order(ActionKind::Suspend { vm });
    assert_eq!(a.execute(&order, &Watcher::default()).unwrap_err().kind, ErrorKind::Unreachable);
    assert_eq!(fixture.fleet.with(|fleet| fleet.poll(&JobId::of(&order))), Some(OrderState::Cancelled));
}

#[test]
fn a_host_that_dies_takes_its_guests_and_orders_along() {
    let fixture = in_process().unwrap();
    let vm = guest(&fixture, "goes-down");
    let (a, b) = (fixture.connect(Side::A), fixture.connect(Side::B));
    let moves = Order { limits: fixture.slowly(), ..migration(&fixture, vm, Side::B, true) };
    let watcher = Watcher::default();
    std::thread::scope(|scope| {
        let moving = scope.spawn(|| a.execute(&moves, &watcher));
        eventually("it moves", || !watcher.progress.lock().unwrap().is_empty());
        fixture.break_host(Side::A, Trouble::Dies, Span::seconds(10));
        assert_eq!(moving.join().unwrap().unwrap_err().kind, ErrorKind::Unreachable);
    });
    assert_eq!(a.report(Timestamp(1)).unwrap_err().kind, ErrorKind::Unreachable);
    assert!(b.report(Timestamp(1)).unwrap().domains.is_empty(), "the copy is gone");
    eventually("it is back", || a.report(Timestamp(1)).is_ok());
    let domain = a.report(Timestamp(1)).unwrap().domains.remove(0);
    assert_eq!(domain.state, embot::model::VmState::Off);
}

#[test]
fn a_host_that_is_mute_reports_guests_without_figures() {
    let fixture = in_process().unwrap();
    guest(&fixture, "mute");
    fixture.break_host(Side::A, Trouble::StatisticsMissing, Span::hours(1));
    let report = fixture.connect(Side::A).report(Timestamp(1)).unwrap();
    assert_eq!((report.load, report.domains.len()), (None, 1));
    assert_eq!(report.domains[0].load, embot::model::VmLoad::default());
}

#[test]
fn bandwidth_is_honoured_and_shared() {
    // Virtual time: 256 MiB at 20 MiB/s take 12.8 s, plus a last round of what 2 MiB/s dirtied meanwhile, 25.6 MiB, and another.
    let plan = FleetPlan {
        guests: vec![GuestPlan {
            name: "moves-{n}".to_owned(),
            count: 2,
            on: vec!["a".to_owned()],
            memory_mib: 256,
            mark: Some(Mark { plane: PLANE.into(), epoch: EPOCH }),
            load: LoadPlan { dirty_mib_per_s: 0.0, ..LoadPlan::default() },
            ..GuestPlan::default()
        }],
        ..plan()
    };
    let ended_after = |limit: Option<u64>, how_many: usize| -> Vec<i64> {
        let mut fleet = Fleet::new(&plan, Timestamp(0)).unwrap();
        let vms: Vec<VmId> = fleet.guests().map(|guest| guest.id).take(how_many).collect();
        for vm in vms {
            let destination = Some(Destination { host: "b".into(), uri: "simulated:".into(), migration_uri: None });
            let limits = MigrationLimits { bandwidth_mib_per_s: limit, ..MigrationLimits::default() };
            let order = Order { destination, limits, ..order(ActionKind::Migrate { vm, to: Some("b".into()), live: true }) };
            fleet.begin(&"a".into(), &order, Timestamp(0)).unwrap();
        }
        fleet.advance(Timestamp(60_000));
        let done = fleet.take_effects().into_iter().filter(|effect| effect.outcome == Outcome::Done);
        done.map(|effect| effect.at.0).collect()
    };
    assert_eq!(ended_after(None, 1), [256 + 50], "the whole link");
    assert_eq!(ended_after(Some(20), 1), [12_800 + 50], "no more than was permitted");
    assert_eq!(ended_after(None, 2), [512 + 50, 512 + 50], "half the link each");
}

/// The way to both hosts, how a move ended, and what was done.
struct Broken {
    a: Box<dyn Hypervisor>,
    b: Box<dyn Hypervisor>,
    vm: VmId,
    error: HypervisorError,
    log: Log,
}

/// Moves a guest to another plane while something is wrong with its source.
fn break_at_switch(trouble: Trouble, resume: ResumeBy) -> Broken {
    let log = Log::default();
    let fixture = logged(log.clone()).unwrap();
    let vm = guest(&fixture, "breaks");
    let (a, b) = (fixture.connect(Side::A), fixture.connect(Side::B));
    let mark = Mark { plane: PLANE.into(), epoch: EPOCH };
    let step = |step| Handover { id: "contract/1".into(), plane: PLANE.into(), vm, mark: mark.clone(), step };
    a.hand_over(&step(HandoverStep::Seal { becomes: mark.clone() }), &Watcher::default()).unwrap();
    fixture.break_host(Side::A, trouble, Span::seconds(20));
    let (destination, limits) = (fixture.destination(Side::B), MigrationLimits::default());
    let transfer = Transfer { destination, limits, resume, rewriting: Rewriting::default() };
    let moves = step(HandoverStep::Move(Box::new(transfer)));
    let error = a.hand_over(&moves, &Watcher::default()).unwrap_err();
    Broken { a, b, vm, error, log }
}

fn standing(host: &dyn Hypervisor, vm: VmId) -> Option<Standing> {
    host.look(vm).unwrap().map(|sighting| sighting.standing)
}

/// A fleet's log of effects.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn lines(&self) -> Vec<LogLine> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// On how many hosts a guest ran at a time, according to the log.
fn most_runs(log: &Log, vm: VmId) -> usize {
    let (mut running, mut most) = (BTreeSet::new(), 0);
    for line in log.lines() {
        let LogLine::Run(run) = line else { continue };
        if run.vm == vm {
            if run.runs {
                running.insert(run.host)
            } else {
                running.remove(&run.host)
            };
            most = most.max(running.len());
        }
    }
    most
}

#[test]
fn a_link_that_breaks_in_the_last_moment_leaves_one_that_runs_where_managers_resume() {
    let Broken { a, b, vm, error, log } = break_at_switch(Trouble::CutAtSwitch, ResumeBy::Manager);
    assert_eq!(error.kind, ErrorKind::Failed, "{error}");
    assert_eq!((standing(&*a, vm), standing(&*b, vm)), (Some(Standing::Running), Some(Standing::Migrating)));
    assert_eq!(most_runs(&log, vm), 1);
    let mark = Mark { plane: PLANE.into(), epoch: EPOCH };
    let step = |step| Handover { id: "contract/1".into(), plane: PLANE.into(), vm, mark: mark.clone(), step };
    b.hand_over(&step(HandoverStep::Remove { running: false }), &Watcher::default()).unwrap();
    a.hand_over(&step(HandoverStep::Resume { becomes: mark.clone(), start: false }), &Watcher::default()).unwrap();
    assert_eq!((standing(&*a, vm), standing(&*b, vm)), (Some(Standing::Running), None));
}

#[test]
fn a_link_that_breaks_in_the_last_moment_leaves_two_where_hypervisors_resume_and_the_log_tells() {
    let Broken { a, b, vm, log, .. } = break_at_switch(Trouble::CutAtSwitch, ResumeBy::Hypervisor);
    assert_eq!((standing(&*a, vm), standing(&*b, vm)), (Some(Standing::Running), Some(Standing::Running)));
    assert_eq!(most_runs(&log, vm), 2);
}

#[test]
fn a_source_that_is_killed_in_the_last_moment_comes_back_with_the_guest_paused() {
    for (resume, there) in [(ResumeBy::Manager, Standing::Migrating), (ResumeBy::Hypervisor, Standing::Running)] {
        let Broken { a, b, vm, error, log } = break_at_switch(Trouble::KilledAtSwitch, resume);
        assert_eq!(error.kind, ErrorKind::Unreachable, "{error}");
        assert_eq!(a.look(vm).unwrap_err().kind, ErrorKind::Unreachable, "nobody can tell");
        assert_eq!(standing(&*b, vm), Some(there));
        eventually("the source is back", || a.look(vm).is_ok());
        assert_eq!(standing(&*a, vm), Some(Standing::Migrating));
        assert!(most_runs(&log, vm) <= 1);
    }
}

#[test]
fn two_planes_number_their_actions_each_for_itself() {
    let log = Log::default();
    let fixture = logged(log.clone()).unwrap();
    let (ours, theirs) = (guest(&fixture, "ours"), {
        let mark = Some(Mark { plane: "other".into(), epoch: EPOCH });
        fixture.guest(Side::A, &Wanted { name: "theirs".to_owned(), running: true, deaf: false, mark })
    });
    let a = fixture.connect(Side::A);
    let first = order(ActionKind::Suspend { vm: ours });
    let second = Order { plane: "other".into(), kind: ActionKind::Suspend { vm: theirs }, ..first.clone() };
    a.execute(&first, &Watcher::default()).unwrap();
    a.execute(&second, &Watcher::default()).expect("the number is the other plane's own");
    let lines = log.lines().into_iter();
    let effects = lines.filter_map(|line| if let LogLine::Effect(effect) = line { Some(effect) } else { None });
    let planes: BTreeSet<_> = effects.map(|effect| effect.plane).collect();
    assert_eq!(planes, [PLANE.into(), "other".into()].into());
}
