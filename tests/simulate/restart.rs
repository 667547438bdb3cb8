//! What a plane does between its start and the moment when it knows again what is true.

use crate::kit::{self, Plane};
use embot::hypervisor::simulated::{Fault, Fleet, Trouble};
use embot::manager::Output;
use embot::model::{
    ActionKind, ActionState, ActionUpdate, Command, EventBody, Input, Reason, Record, Reply, Span, Timestamp, VmId, VmState,
};
use embot::simulate::Simulation;
use embot::store::{Crash, SimulatedDisk, Store};

/// A guest takes minutes to move.
const FLEET: &str = "
hosts: [{ name: 'host-{n}', count: 3, cpus: 8, memory_mib: 16384, bandwidth_mib_per_s: 4 }]
guests: [{ name: 'guest-{n}', count: 3, memory_mib: 1024, load: { dirty_mib_per_s: 0.5 } }]
";

fn fleet() -> Fleet {
    Fleet::new(&kit::fleet(FLEET), Timestamp(0)).unwrap()
}

fn over(fleet: Fleet, disk: &SimulatedDisk) -> Simulation {
    let (store, recovered) = Store::on_disk(disk).unwrap();
    let manager = Plane::default().manager(&fleet, recovered);
    kit::alone(kit::plane(manager).with_store(store), fleet)
}

/// The daemon dies and is started again.
fn restart(simulation: &mut Simulation, disk: &SimulatedDisk) -> SimulatedDisk {
    let disk = disk.crash(Crash::Killed);
    let (store, recovered) = Store::on_disk(&disk).unwrap();
    let manager = Plane::default().manager(simulation.fleet(), recovered);
    simulation.restart(0, manager, store);
    disk
}

fn guest(simulation: &Simulation, name: &str) -> VmId {
    simulation.fleet().guest_named(name).unwrap().id
}

fn act(simulation: &mut Simulation, kind: ActionKind) -> Reply {
    simulation.command(0, Command::Act { kind, reason: "test".into() }).unwrap().unwrap()
}

fn is_done(reply: &Reply) -> bool {
    matches!(reply, Reply::Done { .. })
}

#[test]
fn a_migration_that_goes_on_keeps_its_own_guest_from_being_acted_on_and_nothing_else() {
    let disk = SimulatedDisk::default();
    let mut simulation = over(fleet(), &disk);
    simulation.run_for(Span::seconds(20)).unwrap();
    let (moving, other) = (guest(&simulation, "guest-1"), guest(&simulation, "guest-3"));
    let migrate = ActionKind::Migrate { vm: moving, to: Some("host-2".into()), live: true };
    assert!(is_done(&act(&mut simulation, migrate)));
    simulation.run_for(Span::seconds(10)).unwrap();
    restart(&mut simulation, &disk);
    simulation.run_for(Span::seconds(6)).unwrap();
    assert_eq!(simulation.manager(0).open().count(), 1, "it goes on");
    assert!(is_done(&act(&mut simulation, ActionKind::Suspend { vm: other })));
    assert!(!is_done(&act(&mut simulation, ActionKind::Suspend { vm: moving })));
    simulation.run_for(Span::minutes(20)).unwrap();
    assert_eq!(simulation.manager(0).open().count(), 0);
    assert_eq!(simulation.fleet().guest_named("guest-1").unwrap().host.as_str(), "host-2");
}

#[test]
fn a_wish_to_cancel_outlives_the_daemon() {
    let disk = SimulatedDisk::default();
    let mut simulation = over(fleet(), &disk);
    simulation.run_for(Span::seconds(20)).unwrap();
    let vm = guest(&simulation, "guest-1");
    assert!(is_done(&act(&mut simulation, ActionKind::Migrate { vm, to: Some("host-2".into()), live: true })));
    let id = simulation.manager(0).open().next().unwrap().id;
    simulation.run_for(Span::seconds(10)).unwrap();
    // The wish is committed; the daemon dies before any effector hears of it.
    let disk = disk.crash(Crash::Killed);
    let (mut store, recovered) = Store::on_disk(&disk).unwrap();
    let mut manager = Plane::default().manager(simulation.fleet(), recovered);
    let wish = Input::Command { command: Command::Cancel { action: id, reason: None }, by: "ada".into(), ticket: None };
    let (batch, unsent) = manager.turn(vec![wish], simulation.now()).unwrap();
    assert_eq!(unsent, [Output::Cancel(id)]);
    assert_eq!(manager.action(id).unwrap().cancelling.as_deref(), Some("ada"));
    store.commit(&[batch]).unwrap();
    drop(store);

    restart(&mut simulation, &disk);
    simulation.run_for(Span::seconds(10)).unwrap();
    let state = &simulation.manager(0).action(id).unwrap().state;
    assert!(matches!(state, ActionState::Cancelled { .. }), "{state:?}");
    assert_eq!(simulation.fleet().guest_named("guest-1").unwrap().host.as_str(), "host-1");
}

#[test]
fn a_restart_states_nothing_of_hosts_that_are_as_they_were() {
    let disk = SimulatedDisk::default();
    let mut simulation = over(fleet(), &disk);
    simulation.run_for(Span::seconds(20)).unwrap();
    let now = simulation.now();
    let hangs = Fault::Host { host: "host-1".into(), trouble: Trouble::Hangs, lasts: Span::minutes(5) };
    simulation.fleet_mut().inject(&hangs, now);
    simulation.run_for(Span::minutes(1)).unwrap();
    let disk = restart(&mut simulation, &disk);
    // What is written of a host meanwhile does not forget what was stated of it.
    simulation.command(0, Command::Maintenance { host: "host-2".into(), on: true }).unwrap();
    let disk = restart(&mut simulation, &disk);
    simulation.run_for(Span::minutes(1)).unwrap();
    restart(&mut simulation, &disk);
    simulation.run_for(Span::minutes(5)).unwrap();
    let mut stated = Vec::new();
    for batch in simulation.plane(0).store().unwrap().journal().batches(0) {
        for record in batch.unwrap().records {
            match record {
                Record::Event { event } if matches!(event.body, EventBody::HostUp | EventBody::HostDown(_)) => {
                    stated.push(format!("{} {}", event.element, event.body.kind().name));
                }
                _ => {}
            }
        }
    }
    let once =
        ["host:host-1 host_up", "host:host-2 host_up", "host:host-3 host_up", "host:host-1 host_down", "host:host-1 host_up"];
    assert_eq!(stated, once);
}

#[test]
fn an_action_of_unknown_fate_does_not_hold_the_plane_up_for_long() {
    let disk = SimulatedDisk::default();
    let mut simulation = over(fleet(), &disk);
    simulation.run_for(Span::seconds(20)).unwrap();
    let (waits, other) = (guest(&simulation, "guest-1"), guest(&simulation, "guest-3"));
    let now = simulation.now();
    let hangs = Fault::Host { host: "host-1".into(), trouble: Trouble::Hangs, lasts: Span::minutes(10) };
    simulation.fleet_mut().inject(&hangs, now);
    assert!(is_done(&act(&mut simulation, ActionKind::Suspend { vm: waits })));
    restart(&mut simulation, &disk);
    simulation.run_for(Span::seconds(50)).unwrap();
    let reply = act(&mut simulation, ActionKind::Suspend { vm: other });
    assert!(matches!(&reply, Reply::Refused { reason } if reason.contains("try again")), "{reply:?}");
    simulation.run_for(Span::seconds(20)).unwrap();
    assert!(is_done(&act(&mut simulation, ActionKind::Suspend { vm: other })));
    let reply = act(&mut simulation, ActionKind::Resume { vm: waits });
    assert!(!is_done(&reply), "its guest is left alone: {reply:?}");
    simulation.run_for(Span::minutes(15)).unwrap();
    assert_eq!(simulation.manager(0).open().count(), 0);
}

#[test]
fn guests_whose_adoption_failed_are_adopted_at_the_next_start() {
    let disk = SimulatedDisk::default();
    let mut fleet = fleet();
    let refuses = Fault::Host { host: "host-1".into(), trouble: Trouble::Refuses, lasts: Span::seconds(30) };
    fleet.inject(&refuses, Timestamp(0));
    let mut simulation = over(fleet, &disk);
    simulation.run_for(Span::seconds(40)).unwrap();
    let marked = |simulation: &Simulation| simulation.fleet().guests().filter(|guest| guest.description.mark.is_some()).count();
    assert_eq!(marked(&simulation), 2);
    restart(&mut simulation, &disk);
    simulation.run_for(Span::seconds(20)).unwrap();
    assert_eq!(marked(&simulation), 3);
}

#[test]
fn what_a_host_said_since_an_action_was_begun_counts_more_than_its_recovery() {
    let disk = SimulatedDisk::default();
    let mut simulation = over(fleet(), &disk);
    simulation.run_for(Span::seconds(20)).unwrap();
    let vm = guest(&simulation, "guest-1");
    assert!(is_done(&act(&mut simulation, ActionKind::Suspend { vm })));
    let id = simulation.manager(0).open().next().unwrap().id;
    // While no daemon is there, the guest is suspended, and then switched off by somebody.
    let (_, recovered) = Store::on_disk(&disk.crash(Crash::Killed)).unwrap();
    let mut manager = Plane::default().manager(simulation.fleet(), recovered);
    let now = simulation.now();
    let mut told = Vec::new();
    for host in ["host-1", "host-2", "host-3"] {
        let (mut report, _) = simulation.fleet_mut().report(&host.into(), now + Span(1_000), None).unwrap();
        report.domains.iter_mut().filter(|domain| domain.vm == vm).for_each(|domain| domain.state = VmState::Off);
        told.extend(manager.turn(vec![Input::Report(host.into(), report)], now + Span(1_000)));
    }
    for (after, update) in [(1_100, ActionUpdate::Started), (1_200, ActionUpdate::Done)] {
        told.extend(manager.turn(vec![Input::Update(id, update)], now + Span(after)));
    }
    assert_eq!(manager.action(id).unwrap().state, ActionState::Done);
    let paused = |record: &Record| matches!(record, Record::Event { event } if matches!(event.body, EventBody::Paused(_)));
    assert!(!told.iter().flat_map(|(batch, _)| &batch.records).any(paused), "it is off, and was not paused since");
    assert_eq!(manager.world().vm(vm).unwrap().state, VmState::Off);
}

#[test]
fn a_finished_move_does_not_undo_what_a_host_said_since() {
    let disk = SimulatedDisk::default();
    let mut simulation = over(fleet(), &disk);
    simulation.run_for(Span::seconds(20)).unwrap();
    let vm = guest(&simulation, "guest-1");
    assert!(is_done(&act(&mut simulation, ActionKind::Migrate { vm, to: Some("host-2".into()), live: true })));
    let id = simulation.manager(0).open().next().unwrap().id;
    // While no daemon is there, the move ends, and somebody moves the guest on.
    let (_, recovered) = Store::on_disk(&disk.crash(Crash::Killed)).unwrap();
    let mut manager = Plane::default().manager(simulation.fleet(), recovered);
    let now = simulation.now() + Span(1_000);
    let mut report = |host: &str| simulation.fleet_mut().report(&host.into(), now, None).unwrap().0;
    let (mut first, second, mut third) = (report("host-1"), report("host-2"), report("host-3"));
    let at = first.domains.iter().position(|domain| domain.vm == vm).unwrap();
    let mut moved = first.domains.remove(at);
    (moved.state, moved.reason) = (VmState::Running, Reason::Migration);
    third.domains.push(moved);
    let reports = [("host-1", first), ("host-2", second), ("host-3", third)];
    let mut inputs: Vec<Input> = reports.into_iter().map(|(host, report)| Input::Report(host.into(), report)).collect();
    inputs.extend([ActionUpdate::Started, ActionUpdate::Done].map(|update| Input::Update(id, update)));
    manager.turn(inputs, now);
    assert_eq!(manager.action(id).unwrap().state, ActionState::Done);
    assert_eq!(manager.world().vm(vm).unwrap().host.as_str(), "host-3");
}

#[test]
fn what_the_configuration_no_longer_names_leaves_no_rows_behind() {
    let disk = SimulatedDisk::default();
    let mut simulation = over(fleet(), &disk);
    simulation.run_for(Span::seconds(20)).unwrap();
    let policy = "fn on_loaded() { this.here = true; after(minutes(30), \"later\"); }";
    for (name, each) in [("hosts", "host"), ("guests", "vm")] {
        let manifest =
            format!("module: {name}\nversion: '1'\npolicies: [{name}.rhai]\ncovers: {{ each: {each} }}\npermits: []\n");
        kit::must(&mut simulation, kit::module(&manifest, &[(&format!("{name}.rhai"), policy)]));
    }
    simulation.run_for(Span::minutes(3)).unwrap();
    let (_, before) = Store::on_disk(&disk.crash(Crash::Killed)).unwrap();
    assert_eq!((before.hosts.len(), before.vms.len(), before.embots.len(), before.timers.len()), (3, 3, 6, 6));
    assert_eq!(before.usage.len(), 6);

    // The next start is told of two of the three hosts, and none of them has the third's guest.
    let disk = disk.crash(Crash::Killed);
    let (store, recovered) = Store::on_disk(&disk).unwrap();
    let mut left = kit::fleet(FLEET);
    left.hosts[0].count = 2;
    let smaller = Fleet::new(&left, Timestamp(0)).unwrap();
    let manager = Plane::default().manager(&smaller, recovered);
    simulation.restart(0, manager, store);
    simulation.run_for(Span::minutes(3)).unwrap();
    let (_, after) = Store::on_disk(&disk.crash(Crash::Killed)).unwrap();
    let hosts: Vec<_> = after.hosts.keys().map(ToString::to_string).collect();
    assert_eq!(hosts, ["host-1", "host-2"]);
    assert_eq!(after.vms.len(), 2, "{:?}", after.vms.values().map(|vm| (&vm.name, &vm.host)).collect::<Vec<_>>());
    let of = |element: &dyn Fn(&embot::model::ElementId) -> bool| after.embots.keys().filter(|id| element(&id.element)).count();
    assert_eq!(of(&|element| matches!(element, embot::model::ElementId::Host(_))), 2);
    assert_eq!(of(&|element| element.vm().is_some()), 2);
    assert_eq!((after.timers.len(), after.usage.len()), (4, 4));
}
