//! A guest goes to another plane while it is off; one that runs is shut down first, and started again by whoever has it in the
//! end.

use crate::kit::{self, A, ADMIT, B};
use embot::hypervisor::MigrationLimits;
use embot::hypervisor::simulated::{Fault, LogLine, Mishap, Trouble};
use embot::model::{ActionKind, Command, NoticeBody, Outcome, Span, VmId, VmState};
use embot::simulate::Simulation;
use embot::store::{Crash, SimulatedDisk};

/// Disks of 20 s, that are not shared.
fn ready() -> Simulation {
    ready_on(kit::FLEET, &[SimulatedDisk::default(), SimulatedDisk::default()])
}

fn ready_on(fleet: &str, disks: &[SimulatedDisk; 2]) -> Simulation {
    let limits = MigrationLimits { copy_storage: true, ..MigrationLimits::default() };
    let mut planes = kit::planes_with(fleet, disks, [0, 1_500], limits);
    planes.run_for(Span::seconds(6)).unwrap();
    kit::prepare(&mut planes, ADMIT);
    planes
}

/// The first plane's daemon is killed, and started again on what it had written.
fn restart(planes: &mut Simulation, disks: &mut [SimulatedDisk; 2]) {
    disks[A] = disks[A].crash(Crash::Killed);
    let (manager, store) = kit::on_disk(A, &disks[A]);
    planes.restart(A, manager, store);
}

/// A guest that takes half a minute to shut down; nobody waits for it that long.
fn slow() -> String {
    format!("{}times: {{ shutdown: 30s, shutdown_patience: 10s }}\n", kit::FLEET)
}

/// Given up, and the guest still runs; then it shuts down after all.
fn goes_off_too_late(planes: &mut Simulation, vm: VmId) {
    kit::must(planes, A, kit::cold(vm, "b", None));
    kit::until_over(planes);
    assert!(stayed(planes).contains("did not shut down"), "{}", stayed(planes));
    assert_eq!(place(planes, vm).1, VmState::Running, "it has not heard yet");
    assert!(kit::notices(planes).contains("is started again if it still does"), "{}", kit::notices(planes));
    assert!(planes.run_until(Span::minutes(1), |planes| place(planes, vm).1 == VmState::Off).unwrap());
}

fn in_phase(planes: &mut Simulation, word: &str) {
    let there = |planes: &Simulation| {
        kit::last(planes, A).is_some_and(|one| one.phases.last().is_some_and(|phase| &*phase.word == word))
    };
    assert!(planes.run_until(Span::minutes(1), there).unwrap(), "{:#?}\n{}", kit::last(planes, A), kit::notices(planes));
}

/// Where the guest is, and what it does, once.
fn place(planes: &Simulation, vm: VmId) -> (String, VmState) {
    let fleet = planes.fleet();
    let guest = fleet.guest(vm).expect("the guest");
    let known = ["a-1", "a-2", "b-1", "b-2"].into_iter().filter(|host| fleet.look(&(*host).into(), vm).unwrap().is_some());
    assert_eq!(known.count(), 1, "only one host knows it");
    (guest.host.to_string(), guest.state)
}

fn stayed(planes: &Simulation) -> String {
    match kit::last(planes, A).unwrap().outcome {
        Some(Outcome::Stayed { reason }) => reason.to_string(),
        other => panic!("{other:?}\n{}", kit::notices(planes)),
    }
}

/// The guest is the first plane's as before, and runs; nothing is left at the other.
fn is_as_before(planes: &Simulation, vm: VmId) {
    assert_eq!(place(planes, vm), ("a-1".to_owned(), VmState::Running), "{}", kit::notices(planes));
    assert!(kit::owner(planes, A, vm).is_some() && kit::owner(planes, B, vm).is_none());
    assert_eq!(planes.manager(A).holds().count() + planes.manager(B).holds().count(), 0);
    assert!(planes.manager(B).world().reserved.is_empty());
    assert_eq!(planes.manager(A).open().count(), 0);
}

#[test]
fn a_guest_that_is_off_goes_and_stays_off() {
    let mut planes = ready();
    let vm = kit::guest(&planes, "web-1");
    planes.notice(A, &"a-1".into(), vm, NoticeBody::Watchdog("before".into())).unwrap();
    let off = ActionKind::Shutdown { vm, force_after: None };
    kit::must(&mut planes, A, Command::Act { kind: off, reason: "test".into() });
    let is_off = |planes: &Simulation| planes.manager(A).world().vm(vm).is_some_and(|vm| vm.state == VmState::Off);
    assert!(planes.run_until(Span::minutes(1), is_off).unwrap());
    planes.run_for(Span::seconds(2)).unwrap();
    kit::must(&mut planes, A, kit::cold(vm, "b", None));
    in_phase(&mut planes, "moving");
    planes.run_for(Span::seconds(6)).unwrap();
    let half_way = kit::last(&planes, A).unwrap();
    assert!(0 < half_way.sent_bytes && half_way.sent_bytes < half_way.total_bytes, "{half_way:?}");
    assert_eq!(place_count(&planes, vm), 2, "it is defined at the target before its files come");
    kit::until_over(&mut planes);
    planes.run_for(Span::seconds(30)).unwrap();
    let (host, state) = place(&planes, vm);
    assert!(host.starts_with("b-") && state == VmState::Off, "{host} {state}");
    assert_eq!((kit::owner(&planes, A, vm), kit::owner(&planes, B, vm)), (None, Some(2)));
    assert_eq!(kit::state(&planes, B, vm).as_deref(), Some(r#"{"loaded":1,"seen":"before migrated "}"#));
    let start = Command::Act { kind: ActionKind::Start { vm }, reason: "test".into() };
    kit::must(&mut planes, B, start);
    assert!(planes.run_until(Span::minutes(1), |planes| place(planes, vm).1 == VmState::Running).unwrap());
}

fn place_count(planes: &Simulation, vm: VmId) -> usize {
    let fleet = planes.fleet();
    ["a-1", "a-2", "b-1", "b-2"].into_iter().filter(|host| fleet.look(&(*host).into(), vm).unwrap().is_some()).count()
}

#[test]
fn a_guest_that_runs_is_shut_down_and_started_again_at_the_target() {
    let mut planes = ready();
    let vm = kit::guest(&planes, "web-1");
    kit::must(&mut planes, A, kit::cold(vm, "b", None));
    in_phase(&mut planes, "moving");
    planes.notice(A, &"a-1".into(), vm, NoticeBody::Watchdog("during".into())).unwrap();
    kit::until_over(&mut planes);
    planes.run_for(Span::seconds(30)).unwrap();
    let (host, state) = place(&planes, vm);
    assert!(host.starts_with("b-") && state == VmState::Running, "{host} {state}\n{}", kit::notices(&planes));
    assert_eq!((kit::owner(&planes, A, vm), kit::owner(&planes, B, vm)), (None, Some(2)));
    assert_eq!(kit::state(&planes, B, vm).as_deref(), Some(r#"{"loaded":1,"seen":"during migrated "}"#));
}

#[test]
fn a_guest_that_will_not_shut_down_stays_unless_it_may_be_forced() {
    let deaf = kit::FLEET.replace("vcpus: 2,", "vcpus: 2, ignores_shutdown: true,");
    let disks = [SimulatedDisk::default(), SimulatedDisk::default()];
    let mut planes = kit::planes(&deaf, &disks, [0, 0]);
    planes.run_for(Span::seconds(6)).unwrap();
    kit::prepare(&mut planes, ADMIT);
    let vm = kit::guest(&planes, "web-1");
    kit::must(&mut planes, A, kit::cold(vm, "b", None));
    kit::until_over(&mut planes);
    assert!(stayed(&planes).contains("did not shut down"), "{}", stayed(&planes));
    planes.run_for(Span::seconds(30)).unwrap();
    is_as_before(&planes, vm);
    kit::must(&mut planes, A, kit::cold(vm, "b", Some(Span::seconds(20))));
    let gone = |planes: &Simulation| kit::owner(planes, B, vm).is_some() && place_count(planes, vm) == 1;
    assert!(planes.run_until(Span::minutes(5), gone).unwrap(), "{}", kit::notices(&planes));
    let (host, state) = place(&planes, vm);
    assert!(host.starts_with("b-") && state == VmState::Running, "{host} {state}");
}

#[test]
fn a_copy_that_breaks_off_or_is_cancelled_leaves_the_guest_running_where_it_was() {
    type Spoil = fn(&mut Simulation);
    let spoils: [(&str, &str, Spoil); 3] = [
        ("breaks off", "broke off", |_| {}),
        ("cancelled while files are copied", "cancelled by admin", |planes| {
            planes.run_for(Span::seconds(6)).unwrap();
            let id = kit::last(planes, A).unwrap().id;
            kit::must(planes, A, Command::CancelMigration { migration: id });
        }),
        ("cancelled while it shuts down", "cancelled by admin", |planes| {
            planes.run_for(Span(500)).unwrap();
            let id = kit::last(planes, A).unwrap().id;
            kit::must(planes, A, Command::CancelMigration { migration: id });
        }),
    ];
    for (what, why, spoil) in spoils {
        let mut planes = ready();
        let vm = kit::guest(&planes, "web-1");
        if what == "breaks off" {
            let now = planes.now();
            let fails = Fault::Host { host: "b-1".into(), trouble: Trouble::MigrationsFail(40), lasts: Span::minutes(5) };
            planes.fleet_mut().inject(&fails, now);
        }
        kit::must(&mut planes, A, kit::cold(vm, "b", None));
        in_phase(&mut planes, "moving");
        spoil(&mut planes);
        kit::until_over(&mut planes);
        assert!(stayed(&planes).contains(why), "{what}: {}", stayed(&planes));
        planes.run_for(Span::seconds(30)).unwrap();
        is_as_before(&planes, vm);
    }
}

#[test]
fn what_the_target_cannot_define_is_not_even_shut_down() {
    let mut planes = ready();
    let vm = kit::guest(&planes, "web-1");
    let now = planes.now();
    for host in ["b-1", "b-2"] {
        let refuses = Fault::Host { host: host.into(), trouble: Trouble::Refuses, lasts: Span::seconds(40) };
        planes.fleet_mut().inject(&refuses, now);
    }
    planes.fleet_mut().take_log();
    kit::must(&mut planes, A, kit::cold(vm, "b", None));
    kit::until_over(&mut planes);
    assert!(stayed(&planes).contains("cannot be defined on its host"), "{}", stayed(&planes));
    planes.run_for(Span::seconds(60)).unwrap();
    is_as_before(&planes, vm);
    let log = planes.fleet_mut().take_log();
    let stopped = log.iter().any(|line| matches!(line, LogLine::Run(run) if run.vm == vm && !run.runs));
    assert!(!stopped, "it ran all the time");
}

#[test]
fn a_daemon_that_dies_while_the_guest_shuts_down_goes_on_with_it() {
    let mut disks = [SimulatedDisk::default(), SimulatedDisk::default()];
    let mut planes = ready_on(kit::FLEET, &disks);
    let vm = kit::guest(&planes, "web-1");
    kit::must(&mut planes, A, kit::cold(vm, "b", None));
    in_phase(&mut planes, "moving");
    planes.run_for(Span(500)).unwrap();
    restart(&mut planes, &mut disks);
    assert_eq!(place_count(&planes, vm), 2);
    kit::until_over(&mut planes);
    planes.run_for(Span::seconds(30)).unwrap();
    let (host, state) = place(&planes, vm);
    assert!(host.starts_with("b-") && state == VmState::Running, "{host} {state}\n{}", kit::notices(&planes));
}

#[test]
fn a_guest_that_goes_off_after_its_host_was_away_for_a_moment_is_started_again() {
    let mut planes = ready_on(&slow(), &[SimulatedDisk::default(), SimulatedDisk::default()]);
    let vm = kit::guest(&planes, "web-1");
    kit::must(&mut planes, A, kit::cold(vm, "b", None));
    in_phase(&mut planes, "moving");
    planes.run_for(Span(500)).unwrap();
    let now = planes.now();
    let lost = Fault::Host { host: "a-1".into(), trouble: Trouble::Lost, lasts: Span::seconds(2) };
    planes.fleet_mut().inject(&lost, now);
    kit::until_over(&mut planes);
    assert!(stayed(&planes).contains("connection"), "{}", stayed(&planes));
    assert_eq!(planes.fleet().guest(vm).map(|guest| guest.state), Some(VmState::Running));
    assert!(planes.run_until(Span::minutes(1), |planes| place(planes, vm).1 == VmState::Off).unwrap());
    planes.run_for(Span::seconds(40)).unwrap();
    is_as_before(&planes, vm);
}

#[test]
fn a_guest_that_shuts_down_after_it_was_given_up_is_started_again_also_by_a_daemon_that_died() {
    for dies in [false, true] {
        let mut disks = [SimulatedDisk::default(), SimulatedDisk::default()];
        let mut planes = ready_on(&slow(), &disks);
        let vm = kit::guest(&planes, "web-1");
        goes_off_too_late(&mut planes, vm);
        if dies {
            restart(&mut planes, &mut disks);
        }
        planes.run_for(Span::seconds(40)).unwrap();
        is_as_before(&planes, vm);
        let started = planes.manager(A).actions().filter(|action| matches!(action.proposal.kind, ActionKind::Start { .. }));
        assert_eq!(started.count(), 1, "an action like any other, once");
        // From then on it is off when it goes off.
        let now = planes.now();
        planes.fleet_mut().inject(&Fault::Guest { vm, mishap: Mishap::Stops }, now);
        planes.run_for(Span::minutes(2)).unwrap();
        assert_eq!(place(&planes, vm).1, VmState::Off);
    }
}

#[test]
fn a_guest_that_was_given_up_and_is_switched_off_by_an_admin_stays_off() {
    let mut planes = ready_on(&slow(), &[SimulatedDisk::default(), SimulatedDisk::default()]);
    let vm = kit::guest(&planes, "web-1");
    kit::must(&mut planes, A, kit::cold(vm, "b", None));
    kit::until_over(&mut planes);
    let off = Command::Act { kind: ActionKind::Destroy { vm }, reason: "test".into() };
    kit::must(&mut planes, A, off);
    planes.run_for(Span::minutes(2)).unwrap();
    assert_eq!(place(&planes, vm).1, VmState::Off);
}
