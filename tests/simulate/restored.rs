//! A plane by itself is restored from a backup: what was under way then is not gone on with, and moves since are no trouble.

use crate::kit::{self, Plane};
use embot::hypervisor::simulated::Fleet;
use embot::model::{ActionKind, ActionState, Command, Mode, Record, Reply, Span, Timestamp};
use embot::simulate::Simulation;
use embot::store::{Recovered, Restore, Retention, SimulatedDisk, Store};
use tempfile::TempDir;

const FLEET: &str = "
hosts: [{ name: 'host-{n}', count: 3, cpus: 8, memory_mib: 16384, bandwidth_mib_per_s: 40 }]
guests: [{ name: 'guest-{n}', count: 3, memory_mib: 1024, load: { dirty_mib_per_s: 0.5 } }]
";

fn begin() -> Simulation {
    let fleet = Fleet::new(&kit::fleet(FLEET), Timestamp(0)).unwrap();
    let (store, recovered) = Store::on_disk(&SimulatedDisk::default()).unwrap();
    let manager = Plane::default().manager(&fleet, recovered);
    let mut simulation = kit::alone(kit::plane(manager).with_store(store), fleet);
    simulation.run_for(Span::seconds(20)).unwrap();
    simulation
}

fn backup(simulation: &Simulation) -> Vec<u8> {
    let mut bytes = Vec::new();
    simulation.plane(0).store().unwrap().journal().backup("home", simulation.now(), &mut bytes).unwrap();
    bytes
}

fn restored(backup: &[u8], now: Timestamp) -> (TempDir, Store, Recovered) {
    let folder = tempfile::tempdir().unwrap();
    let (file, path) = (folder.path().join("plane.backup"), folder.path().join("plane.redb"));
    std::fs::write(&file, backup).unwrap();
    Restore { backup: &file, store: &path, plane: "home", by: "ada", now, force: false }.run(&mut |_| ()).unwrap();
    let (store, recovered) = Store::open(&path, Retention::default()).unwrap();
    (folder, store, recovered)
}

fn act(simulation: &mut Simulation, kind: ActionKind) {
    let reply = simulation.command(0, Command::Act { kind, reason: "test".into() }).unwrap();
    assert!(matches!(reply, Some(Reply::Done { .. })), "{reply:?}");
}

fn notices(simulation: &Simulation) -> String {
    let journal = simulation.plane(0).store().unwrap().journal();
    let records = journal.batches(0).flat_map(|batch| batch.unwrap().records);
    let text = records.filter_map(|record| match record {
        Record::Notice { text, .. } => Some(format!("{text}\n")),
        _ => None,
    });
    text.collect()
}

#[test]
fn what_was_under_way_is_ended_and_nothing_is_done_again() {
    let mut simulation = begin();
    let vm = simulation.fleet().guest_named("guest-1").unwrap().id;
    act(&mut simulation, ActionKind::Migrate { vm, to: Some("host-2".into()), live: true });
    simulation.run_for(Span::seconds(5)).unwrap();
    let (saved, id) = (backup(&simulation), simulation.manager(0).open().next().expect("under way").id);
    // The move ends; then somebody pauses the guest, and moves it on.
    simulation.run_for(Span::minutes(5)).unwrap();
    act(&mut simulation, ActionKind::Migrate { vm, to: Some("host-3".into()), live: true });
    simulation.run_for(Span::minutes(5)).unwrap();
    assert_eq!(simulation.fleet().guest_named("guest-1").unwrap().host.as_str(), "host-3");

    let (_folder, store, recovered) = restored(&saved, simulation.now());
    let manager = Plane::default().manager(simulation.fleet(), recovered);
    assert!(manager.unreconciled().is_empty(), "no host is asked to go on with it, or to undo it");
    simulation.restart(0, manager, store);
    simulation.run_for(Span::minutes(1)).unwrap();
    let action = simulation.manager(0).action(id).unwrap();
    assert!(matches!(&action.state, ActionState::Failed { reason } if reason.contains("restored from a backup")), "{action:?}");
    let world = simulation.manager(0).world();
    let guest = world.vm(vm).unwrap();
    // It is found where it is, its mark is the one the backup knew, and it does not seem to run twice.
    assert_eq!((guest.host.as_str(), guest.mode), ("host-3", Mode::Act));
    drop(world);
    let told = notices(&simulation);
    assert!(!told.contains("at once"), "{told}");
    assert_eq!(simulation.fleet().guest_named("guest-1").unwrap().host.as_str(), "host-3", "nothing moved it");
    act(&mut simulation, ActionKind::Migrate { vm, to: Some("host-1".into()), live: true });
    assert!(simulation.manager(0).open().next().unwrap().id.0 > 1_000_000, "no number stands for two actions");
}

#[test]
fn a_restore_that_was_not_finished_goes_on_at_the_next_start() {
    let mut simulation = begin();
    let saved = backup(&simulation);
    let (folder, store, recovered) = restored(&saved, simulation.now());
    let vms: Vec<_> = recovered.vms.keys().copied().collect();
    // The first run sees one host only, then the daemon dies.
    let mut manager = Plane::default().manager(simulation.fleet(), recovered);
    let mut store = store;
    let now = simulation.now() + Span(100);
    let (report, _) = simulation.fleet_mut().report(&"host-1".into(), now, None).unwrap();
    let (batch, _) = manager.turn(vec![embot::model::Input::Report("host-1".into(), report)], now).unwrap();
    let first = batch.seq;
    store.commit(&[batch]).unwrap();
    drop((manager, store));
    assert!(first > 1_000_000);

    let (store, recovered) = Store::open(&folder.path().join("plane.redb"), Retention::default()).unwrap();
    assert_eq!(recovered.unconfirmed.len(), 2, "{:?}", recovered.unconfirmed);
    let observed = recovered.vms.values().filter(|vm| vm.mode == Mode::Observe).count();
    assert_eq!(observed, 2, "the one that was seen has its mode back");
    let manager = Plane::default().manager(simulation.fleet(), recovered);
    simulation.restart(0, manager, store);
    simulation.run_for(Span::seconds(20)).unwrap();
    let world = simulation.manager(0).world();
    assert!(vms.iter().all(|vm| world.vm(*vm).unwrap().mode == Mode::Act));
    drop(world);
    drop(simulation);
    let (_, recovered) = Store::open(&folder.path().join("plane.redb"), Retention::default()).unwrap();
    assert!(recovered.unconfirmed.is_empty() && recovered.restored.unwrap().taken_over_at.is_some());
    assert_eq!(recovered.plane.next_batch / 1_000_000, 1, "numbers jump once");
}

#[test]
fn the_same_inputs_give_the_same_audit() {
    let audit = || {
        let mut simulation = begin();
        let vm = simulation.fleet().guest_named("guest-1").unwrap().id;
        act(&mut simulation, ActionKind::Suspend { vm });
        simulation.run_for(Span::minutes(1)).unwrap();
        simulation.command(0, Command::Approve { action: embot::model::ActionId(99), reason: None }).unwrap();
        let mut export = Vec::new();
        simulation.plane(0).store().unwrap().audit().export(&mut export).unwrap();
        String::from_utf8(export).unwrap()
    };
    let first = audit();
    assert_eq!(first, audit());
    let words: Vec<&str> = first.lines().filter_map(|line| line.split("\"what\":\"").nth(1)?.split('"').next()).collect();
    // Three adoptions, then what was asked.
    assert_eq!(words[..6], ["planned", "planned", "planned", "done", "done", "done"]);
    assert_eq!(words[6..], ["planned", "act", "done", "approve"]);
    assert!(first.lines().last().unwrap().contains("\"answer\":{\"refused\":\"there is no action 99"), "{first}");
}
