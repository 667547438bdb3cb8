//! The simulated fleet behind a socket, as `embot hypervisor` serves it.

use crate::contract::{Fixture, PLANE, Side, Wanted, Watcher, eventually, mark, migration, order};
use crate::simulated::{SPEED, Simulated, host, plan};
use embot::clock::SystemClock;
use embot::hypervisor::simulated::{Effect, LogLine, Outcome, RemoteFleet, ServeError, ServeOptions, Server, SimulatedHost};
use embot::hypervisor::{ErrorKind, Fate, Hypervisor, HypervisorError, Order, Watch};
use embot::model::{ActionKind, HostId, Progress, Timestamp, VmId, VmState};
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

/// A server and one client.
struct Remote<F: Fn(&HostId) -> SimulatedHost + Send + Sync> {
    fixture: Simulated<F>,
    server: Option<Server>,
    folder: TempDir,
}

impl<F: Fn(&HostId) -> SimulatedHost + Send + Sync> Deref for Remote<F> {
    type Target = Simulated<F>;

    fn deref(&self) -> &Simulated<F> {
        &self.fixture
    }
}

fn start(folder: &Path) -> Result<Server, ServeError> {
    let clock = SystemClock::start(Timestamp(0));
    let effects_log = Some(folder.join("effects.jsonl"));
    Server::start(ServeOptions { listen: folder.join("socket"), plan: plan(), effects_log, speed: SPEED, clock })
}

fn client(folder: &Path) -> Arc<RemoteFleet> {
    RemoteFleet::new(&folder.join("socket"), SystemClock::start(Timestamp(0)))
}

fn remote() -> Remote<impl Fn(&HostId) -> SimulatedHost + Send + Sync> {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path()).unwrap();
    let way = client(folder.path());
    let fixture = Simulated { fleet: server.fleet().clone(), connect: move |host: &HostId| way.host(host) };
    Remote { fixture, server: Some(server), folder }
}

/// The suite wants a fixture; the server must live as long.
struct Suite<F: Fn(&HostId) -> SimulatedHost + Send + Sync>(Remote<F>);

impl<F: Fn(&HostId) -> SimulatedHost + Send + Sync> Fixture for Suite<F> {
    fn connect(&self, side: Side) -> Box<dyn Hypervisor> {
        self.0.connect(side)
    }
    fn destination(&self, side: Side) -> embot::hypervisor::Destination {
        self.0.destination(side)
    }
    fn guest(&self, side: Side, wanted: &Wanted) -> VmId {
        self.0.guest(side, wanted)
    }
    fn xml(&self, vm: VmId, name: &str) -> String {
        self.0.xml(vm, name)
    }
    fn crash(&self, vm: VmId) {
        self.0.crash(vm);
    }
    fn slowly(&self) -> embot::hypervisor::MigrationLimits {
        self.0.slowly()
    }
    fn can(&self, ability: crate::contract::Ability) -> bool {
        self.0.can(ability)
    }
    fn refuse(&self, side: Side) {
        self.0.refuse(side);
    }
    fn lose(&self, side: Side) {
        self.0.lose(side);
    }
    fn remove(&self, vm: VmId) {
        self.0.remove(vm);
    }
}

contract_tests!(Some(Suite(remote())));

fn guest(fixture: &dyn Fixture, name: &str) -> VmId {
    fixture.guest(Side::A, &Wanted { name: name.to_owned(), running: true, deaf: false, mark: mark() })
}

fn effects(folder: &Path) -> Vec<Effect> {
    let text = std::fs::read_to_string(folder.join("effects.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.filter_map(|line| if let LogLine::Effect(effect) = line { Some(effect) } else { None }).collect()
}

/// Panics at the first sign of life, as a daemon dies that is killed midway.
struct Dies;

impl Watch for Dies {
    fn progress(&self, _progress: Progress) {
        panic!("killed");
    }

    fn is_cancelled(&self) -> bool {
        false
    }
}

#[test]
fn what_was_begun_goes_on_without_the_client() {
    let remote = remote();
    let vm = guest(&*remote, "goes-on");
    let moves = Order { limits: remote.slowly(), ..migration(&*remote, vm, Side::B, true) };
    let dead = std::thread::scope(|scope| {
        let daemon = scope.spawn(|| client(remote.folder.path()).host(&host(Side::A)).execute(&moves, &Dies));
        daemon.join().is_err()
    });
    assert!(dead);
    let next = client(remote.folder.path()).host(&host(Side::A));
    assert_eq!(next.recover(&moves, &Watcher::default()), Ok(Fate::Done));
    let outcomes: Vec<Outcome> = effects(remote.folder.path()).into_iter().map(|effect| effect.outcome).collect();
    assert_eq!(outcomes, [Outcome::Begun, Outcome::Done]);
}

#[test]
fn what_is_still_on_its_way_when_it_is_recovered_is_not_begun_any_more() {
    let remote = remote();
    let vm = guest(&*remote, "overtaken");
    let a = remote.connect(Side::A);
    let suspends = order(ActionKind::Suspend { vm });
    assert!(matches!(a.recover(&suspends, &Watcher::default()), Ok(Fate::NotDone(_))));
    // What the killed daemon had sent arrives only now.
    assert_eq!(a.execute(&suspends, &Watcher::default()).unwrap_err().kind, ErrorKind::Failed);
    assert_eq!(effects(remote.folder.path()), []);
}

#[test]
fn an_action_that_is_begun_twice_is_refused_and_stands_in_the_log() {
    let remote = remote();
    let vm = guest(&*remote, "twice");
    let a = remote.connect(Side::A);
    let suspends = order(ActionKind::Suspend { vm });
    a.execute(&suspends, &Watcher::default()).unwrap();
    assert_eq!(a.execute(&suspends, &Watcher::default()).unwrap_err().kind, ErrorKind::Failed);
    let log = effects(remote.folder.path());
    let outcomes: Vec<_> = log.iter().map(|effect| &effect.outcome).collect();
    assert_eq!(outcomes, [&Outcome::Begun, &Outcome::Done, &Outcome::Double]);
    assert!(log.iter().all(|effect| (effect.action, effect.vm, effect.host.as_str()) == (suspends.action, vm, "a")));
}

#[test]
fn what_is_refused_leaves_no_line() {
    let remote = remote();
    let vm = guest(&*remote, "kept");
    let stale = Order { epoch: 1, ..order(ActionKind::Destroy { vm }) };
    let refused = remote.connect(Side::A).execute(&stale, &Watcher::default());
    assert_eq!(refused.unwrap_err().kind, ErrorKind::NotOwner);
    assert_eq!(effects(remote.folder.path()), []);
}

#[test]
fn a_client_outlives_the_server() {
    let mut remote = remote();
    guest(&*remote, "known");
    let a = remote.connect(Side::A);
    assert!(a.report(Timestamp(1)).unwrap().domains[0].description.is_some());
    drop(remote.server.take());
    let unreachable = a.report(Timestamp(1)).unwrap_err();
    assert_eq!(unreachable.kind, ErrorKind::Unreachable);
    assert!(unreachable.what.contains("socket"), "{unreachable}");
    let server = start(remote.folder.path()).expect("the path is free again");
    let vm = {
        let fixture = Simulated { fleet: server.fleet().clone(), connect: |host: &HostId| server.fleet().host(host) };
        guest(&fixture, "another")
    };
    let domain = a.report(Timestamp(1)).unwrap().domains.remove(0);
    assert_eq!((domain.vm, domain.state), (vm, VmState::Running));
    assert!(domain.description.is_some(), "another fleet is described anew");
}

#[test]
fn a_second_server_at_the_same_path_is_refused() {
    let remote = remote();
    assert!(matches!(start(remote.folder.path()), Err(ServeError::InUse(_))));
    assert_eq!(client(remote.folder.path()).hosts().unwrap().len(), 2, "and the first one was not disturbed");
}

#[test]
fn many_clients_are_served_at_once() {
    let remote = remote();
    let vms: Vec<VmId> = (0..16).map(|n| guest(&*remote, &format!("one-of-many-{n}"))).collect();
    std::thread::scope(|scope| {
        for vm in vms {
            let folder = remote.folder.path();
            scope.spawn(move || -> Result<(), HypervisorError> {
                let a = client(folder).host(&host(Side::A));
                for _ in 0..5 {
                    a.execute(&order(ActionKind::Suspend { vm }), &Watcher::default()).unwrap();
                    a.execute(&order(ActionKind::Resume { vm }), &Watcher::default()).unwrap();
                    assert_eq!(a.mark(vm).unwrap().unwrap().plane.as_ref(), PLANE);
                }
                Ok(())
            });
        }
    });
    eventually("all is written", || effects(remote.folder.path()).len() == 16 * 5 * 2 * 2);
}
