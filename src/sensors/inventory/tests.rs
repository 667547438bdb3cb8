//! What the comparison of reports states.

use super::*;
use crate::model::testing;
use crate::model::{Capacity, HostLoad};

const GUEST: VmId = VmId(uuid::Uuid::from_u128(1));

fn description(mark: Option<&str>) -> Description {
    Description {
        name: "web".into(),
        vcpus: 2,
        memory_mib: 2_048,
        persistent: true,
        autostart: false,
        labels: BTreeMap::new(),
        mark: mark.map(|plane| Mark { plane: plane.into(), epoch: 1 }),
        disks: vec!["vda".into()],
        nics: Vec::new(),
    }
}

fn domain(state: VmState, reason: Reason, described: bool) -> DomainReport {
    let description = described.then(|| Box::new(description(None)));
    DomainReport { vm: GUEST, state, reason, balloon_mib: None, load: VmLoad::default(), description }
}

fn report(at: i64, domains: Vec<DomainReport>) -> HostReport {
    HostReport {
        asked_at: Timestamp(at),
        capacity: Capacity { cpus: 8, memory_mib: 32_768 },
        load: Some(HostLoad::default()),
        domains,
    }
}

fn bodies(sensed: &[Sensed]) -> Vec<&'static str> {
    sensed.iter().map(|sensed| sensed.body.kind().name).filter(|name| *name != "load").collect()
}

fn start() -> (World, Inventory) {
    let mut world = World::new("home");
    world.put_host(testing::host("a"));
    world.put_host(testing::host("b"));
    (world, Inventory::new(Mode::Observe, ["a", "b"].map(|host| (host.into(), Link::Up))))
}

fn with_guest() -> (World, Inventory) {
    let (mut world, mut inventory) = start();
    let running = domain(VmState::Running, Reason::Booted, true);
    let sensed = inventory.report(&mut world, &"a".into(), &report(10, vec![running]));
    assert_eq!(bodies(&sensed), ["appeared"]);
    (world, inventory)
}

#[test]
fn a_new_guest_is_adopted_in_observe_mode() {
    let (world, _) = with_guest();
    assert_eq!(world.vm(GUEST).map(|vm| vm.mode), Some(Mode::Observe));
}

#[test]
fn what_is_noticed_is_not_stated_again_by_a_poll_asked_before() {
    let (mut world, mut inventory) = with_guest();
    let crash = Notice { vm: GUEST, at: Timestamp(30), body: NoticeBody::State(VmState::Off, Reason::Crashed) };
    assert_eq!(bodies(&inventory.notice(&mut world, &"a".into(), &crash)), ["crashed"]);
    let stale = report(20, vec![domain(VmState::Running, Reason::Booted, false)]);
    assert_eq!(bodies(&inventory.report(&mut world, &"a".into(), &stale)), [] as [&str; 0]);
    let fresh = report(40, vec![domain(VmState::Off, Reason::Crashed, false)]);
    assert_eq!(bodies(&inventory.report(&mut world, &"a".into(), &fresh)), [] as [&str; 0]);
    assert_eq!(world.vm(GUEST).map(|vm| vm.state), Some(VmState::Crashed));
}

#[test]
fn a_missed_event_is_found_by_the_next_poll() {
    let (mut world, mut inventory) = with_guest();
    let poll = report(40, vec![domain(VmState::Off, Reason::Shutdown, false)]);
    assert_eq!(bodies(&inventory.report(&mut world, &"a".into(), &poll)), ["stopped"]);
}

#[test]
fn a_guest_on_its_way_is_neither_adopted_nor_stopped() {
    let (mut world, mut inventory) = start();
    let arriving = report(10, vec![domain(VmState::Paused, Reason::Migration, true)]);
    assert_eq!(bodies(&inventory.report(&mut world, &"b".into(), &arriving)), [] as [&str; 0]);
    assert_eq!(world.vm_count(), 0);
    let (mut world, mut inventory) = with_guest();
    let leaving = report(20, vec![domain(VmState::Paused, Reason::Migration, false)]);
    assert_eq!(bodies(&inventory.report(&mut world, &"a".into(), &leaving)), [] as [&str; 0]);
    assert_eq!(world.vm(GUEST).map(|vm| vm.state), Some(VmState::Running));
}

#[test]
fn a_description_does_not_undo_what_came_after_it_was_asked_for() {
    let (mut world, mut inventory) = with_guest();
    let ours = Mark { plane: "home".into(), epoch: 1 };
    inventory.marked(&mut world, GUEST, ours.clone(), Timestamp(30));
    // Read before the mark was put there: the rest of it counts.
    let mut described = domain(VmState::Running, Reason::Booted, true);
    let mut newer = Box::new(description(None));
    newer.vcpus = 4;
    described.description = Some(newer.clone());
    let before = report(20, vec![described.clone()]);
    assert_eq!(bodies(&inventory.report(&mut world, &"a".into(), &before)), ["changed"]);
    assert_eq!(world.vm(GUEST).map(|vm| (vm.vcpus, vm.mark.clone())), Some((4, Some(ours.clone()))));
    // A notice tells of a change; a poll asked before it and answered after it knows less.
    newer.vcpus = 8;
    newer.mark = Some(ours);
    let notice = Notice { vm: GUEST, at: Timestamp(50), body: NoticeBody::Described(newer.clone()) };
    assert_eq!(bodies(&inventory.notice(&mut world, &"a".into(), &notice)), ["changed"]);
    assert_eq!(bodies(&inventory.report(&mut world, &"a".into(), &report(40, vec![described]))), [] as [&str; 0]);
    assert_eq!(world.vm(GUEST).map(|vm| vm.vcpus), Some(8));
    // A mark taken away later is gone, and another plane's is never taken for our own.
    newer.mark = None;
    let notice = |at, body| Notice { vm: GUEST, at: Timestamp(at), body: NoticeBody::Described(body) };
    inventory.notice(&mut world, &"a".into(), &notice(60, newer.clone()));
    assert_eq!(world.vm(GUEST).unwrap().mark, None);
    let theirs = Mark { plane: "other".into(), epoch: 7 };
    newer.mark = Some(theirs.clone());
    let sensed = inventory.notice(&mut world, &"a".into(), &notice(70, newer));
    assert_eq!(bodies(&sensed), ["changed", "conflict"]);
    inventory.marked(&mut world, GUEST, Mark { plane: "home".into(), epoch: 1 }, Timestamp(80));
    assert_eq!(world.vm(GUEST).unwrap().mark, Some(theirs));
}

#[test]
fn a_guest_moved_by_somebody_else_is_followed() {
    let (mut world, mut inventory) = with_guest();
    let there = report(20, vec![domain(VmState::Running, Reason::Migration, true)]);
    assert_eq!(bodies(&inventory.report(&mut world, &"b".into(), &there)), ["migrated"]);
    let stale = report(15, vec![domain(VmState::Running, Reason::Booted, false)]);
    assert_eq!(bodies(&inventory.report(&mut world, &"a".into(), &stale)), [] as [&str; 0]);
    assert_eq!(world.vm(GUEST).map(|vm| vm.host.clone()), Some("b".into()));
}

#[test]
fn a_vanished_guest_is_looked_for_before_it_is_gone() {
    let (mut world, mut inventory) = with_guest();
    assert_eq!(bodies(&inventory.report(&mut world, &"a".into(), &report(20, vec![]))), [] as [&str; 0]);
    let found = report(25, vec![domain(VmState::Off, Reason::Unknown, true)]);
    assert_eq!(bodies(&inventory.report(&mut world, &"b".into(), &found)), ["migrated", "stopped"]);
    let (mut world, mut inventory) = with_guest();
    inventory.report(&mut world, &"a".into(), &report(20, vec![]));
    assert_eq!(bodies(&inventory.report(&mut world, &"a".into(), &report(30, vec![]))), ["gone"]);
}

#[test]
fn one_guest_on_two_hosts_is_an_alarm_and_no_move() {
    let (mut world, mut inventory) = with_guest();
    world.edit_vm(GUEST, |vm| vm.mode = Mode::Act);
    let twin = report(20, vec![domain(VmState::Running, Reason::Booted, true)]);
    assert_eq!(bodies(&inventory.report(&mut world, &"b".into(), &twin)), [] as [&str; 0]);
    inventory.report(&mut world, &"b".into(), &twin);
    assert_eq!(inventory.take_alarms().len(), 1);
    assert_eq!(world.vm(GUEST).map(|vm| (vm.host.clone(), vm.mode)), Some(("a".into(), Mode::Observe)));
}

#[test]
fn a_guest_stays_doubled_until_it_runs_on_one_host_only() {
    let (mut world, mut inventory) = with_guest();
    world.put_host(testing::host("c"));
    let twin = |at| report(at, vec![domain(VmState::Running, Reason::Booted, true)]);
    let others = |inventory: &Inventory| inventory.also_on(GUEST).map(ToString::to_string).collect::<Vec<_>>();
    for (host, at) in [("b", 20), ("c", 25), ("b", 30), ("c", 35)] {
        inventory.report(&mut world, &host.into(), &twin(at));
    }
    assert_eq!(inventory.take_alarms().len(), 2, "each host once, however the polls alternate");
    assert_eq!(others(&inventory), ["b", "c"]);
    inventory.report(&mut world, &"b".into(), &report(40, vec![]));
    inventory.report(&mut world, &"c".into(), &twin(50));
    assert_eq!((inventory.take_alarms().len(), others(&inventory)), (0, vec!["c".to_owned()]));
    let later = 25 + i64::try_from(ALARM_AGAIN.0).unwrap();
    inventory.report(&mut world, &"c".into(), &twin(later));
    assert_eq!(inventory.take_alarms().len(), 1, "it stays so, and somebody should know");
    inventory.report(&mut world, &"c".into(), &report(later + 5, vec![domain(VmState::Off, Reason::Asked, false)]));
    assert_eq!(others(&inventory), [] as [&str; 0]);
}

#[test]
fn a_foreign_mark_is_an_alarm() {
    let (mut world, mut inventory) = start();
    inventory.adopt = Mode::Act;
    let mut foreign = domain(VmState::Running, Reason::Booted, true);
    foreign.description = Some(Box::new(description(Some("other"))));
    let sensed = inventory.report(&mut world, &"a".into(), &report(10, vec![foreign]));
    assert_eq!(bodies(&sensed), ["appeared", "conflict"]);
    assert_eq!(world.vm(GUEST).map(|vm| vm.mode), Some(Mode::Observe));
    assert_eq!(inventory.take_alarms().len(), 1);
}

#[test]
fn a_lost_host_is_stated_once() {
    let (mut world, mut inventory) = with_guest();
    let why: Arc<str> = "connection refused".into();
    assert_eq!(bodies(&inventory.lost(&mut world, &"a".into(), &why, Timestamp(50))), ["host_down"]);
    assert_eq!(bodies(&inventory.lost(&mut world, &"a".into(), &why, Timestamp(60))), [] as [&str; 0]);
    let back = report(70, vec![domain(VmState::Running, Reason::Booted, true)]);
    assert_eq!(bodies(&inventory.report(&mut world, &"a".into(), &back)), ["host_up"]);
}

#[test]
fn after_a_restart_only_what_has_changed_is_stated_of_hosts() {
    let down = Link::Down("connection refused".into());
    for (before, up, lost) in [
        (Link::Up, &[] as &[&str], &["host_down"] as &[&str]),
        (down, &["host_up"], &[]),
        (Link::Unknown, &["host_up"], &["host_down"]),
    ] {
        let start = || {
            let (mut world, _) = start();
            world.edit_host(&"a".into(), |host| host.link = Link::Unknown);
            (world, Inventory::new(Mode::Observe, [("a".into(), before.clone())]))
        };
        let (mut world, mut inventory) = start();
        assert_eq!(bodies(&inventory.report(&mut world, &"a".into(), &report(10, vec![]))), up, "{before:?}");
        assert!(world.host(&"a".into()).is_some_and(crate::model::Host::is_up));
        let (mut world, mut inventory) = start();
        assert_eq!(bodies(&inventory.lost(&mut world, &"a".into(), &"no answer".into(), Timestamp(10))), lost, "{before:?}");
        assert!(!world.host(&"a".into()).is_some_and(crate::model::Host::is_up));
    }
}
