//! Modules that come along: what is fetched, for whom it stands, how long it stays, and what is refused.

use crate::kit::{self, A, ADMIT, B, COUNT};
use embot::manager::MigrationView;
use embot::model::{Change, Command, ElementId, NoticeBody, Outcome, Span, Verb, VmId};
use embot::simulate::Simulation;
use embot::store::{Crash, SimulatedDisk};

/// The counting module on `a` only.
fn ready() -> Simulation {
    let mut planes = kit::planes(kit::FLEET, &[SimulatedDisk::default(), SimulatedDisk::default()], [0, 0]);
    planes.run_for(Span::seconds(6)).unwrap();
    kit::must(&mut planes, A, kit::module(COUNT));
    kit::must(&mut planes, B, kit::module(ADMIT));
    planes.run_for(Span::seconds(12)).unwrap();
    planes
}

/// The last migration from a plane, as one of its ends has it.
fn newest(planes: &Simulation, end: usize, source: usize) -> Option<MigrationView> {
    let from = ["a", "b"][source];
    let theirs = planes.manager(end).migrations().into_iter().filter(|one| &*one.id.plane == from);
    theirs.max_by_key(|one| one.id.number)
}

fn go(planes: &mut Simulation, plane: usize, name: &str, to: &str) -> VmId {
    let vm = kit::guest(planes, name);
    let before = newest(planes, plane, plane).map(|one| one.id);
    kit::must(planes, plane, kit::handover(vm, to));
    let over = |planes: &Simulation| {
        let ended = |one: MigrationView| Some(&one.id) != before.as_ref() && one.outcome.is_some();
        [A, B].into_iter().all(|end| newest(planes, end, plane).is_some_and(ended))
    };
    let ended = planes.run_until(Span::minutes(10), over).unwrap();
    assert!(ended, "{:?}\n{}", newest(planes, plane, plane), kit::notices(planes));
    vm
}

fn stayed(planes: &Simulation) -> String {
    match newest(planes, A, A).unwrap().outcome {
        Some(Outcome::Stayed { reason }) => reason.to_string(),
        other => panic!("{other:?}"),
    }
}

fn names(planes: &Simulation, plane: usize) -> Vec<String> {
    planes.manager(plane).modules().iter().map(|module| module.module.to_string()).collect()
}

/// Pieces of packages that a plane's store holds, as its batches tell.
fn pieces(planes: &Simulation, plane: usize) -> i64 {
    let changes = planes.plane(plane).batches().iter().flat_map(|batch| &batch.changes);
    changes
        .map(|change| match change {
            Change::Content(_, Some(_)) => 1,
            Change::Content(_, None) => -1,
            _ => 0,
        })
        .sum()
}

#[test]
fn a_module_comes_along_and_stands_for_its_guest_only() {
    kit::trust(&[Verb::Notify]);
    let mut planes = ready();
    let vm = kit::guest(&planes, "web-1");
    planes.notice(A, &"a-1".into(), vm, NoticeBody::Watchdog("before".into())).unwrap();
    go(&mut planes, A, "web-1", "b");
    assert_eq!(kit::owner(&planes, B, vm), Some(2), "{}", kit::notices(&planes));
    assert_eq!(names(&planes, B), ["admit", "count"]);
    let state = kit::state(&planes, B, vm).unwrap();
    assert!(state.contains("before"), "its state goes on: {state}");
    assert_eq!(pieces(&planes, B), 3, "listing, manifest, policy");
    // Another guest of the target is none of its business, although the manifest covers each vm.
    let other = planes.manager(B).embots(Some("count"));
    assert_eq!(other.len(), 1);

    // The next guest brings the same: nothing is fetched again.
    let second = go(&mut planes, A, "web-2", "b");
    assert_eq!(pieces(&planes, B), 3);
    let embots: Vec<ElementId> = planes.manager(B).embots(Some("count")).into_iter().map(|embot| embot.id.element).collect();
    assert_eq!(embots.len(), 2);
    assert!(embots.contains(&ElementId::Vm(second)));
}

#[test]
fn a_module_goes_with_the_last_guest_that_brought_it() {
    kit::trust(&[Verb::Notify]);
    let mut planes = ready();
    kit::must(&mut planes, A, kit::module(ADMIT));
    go(&mut planes, A, "web-1", "b");
    go(&mut planes, A, "web-2", "b");
    let vm = go(&mut planes, B, "web-1", "a");
    assert_eq!(names(&planes, B), ["admit", "count"], "web-2 still needs it");
    assert_eq!(kit::owner(&planes, A, vm), Some(3));
    assert!(kit::state(&planes, A, vm).is_some(), "the plane's own module takes over");
    go(&mut planes, B, "web-2", "a");
    assert_eq!(names(&planes, B), ["admit"]);
    assert_eq!(pieces(&planes, B), 0);
}

#[test]
fn a_module_whose_key_is_unknown_or_may_less_keeps_its_guest_out() {
    for (permits, told) in [(None, "not trusted here"), (Some(&[Verb::Migrate][..]), "asks for the permits notify")] {
        match permits {
            Some(permits) => kit::trust(permits),
            None => kit::trust_nobody(),
        }
        let mut planes = ready();
        let vm = go(&mut planes, A, "web-1", "b");
        assert!(stayed(&planes).contains(told), "{}", stayed(&planes));
        assert_eq!((kit::owner(&planes, A, vm), kit::owner(&planes, B, vm)), (Some(1), None));
        assert_eq!(names(&planes, B), ["admit"]);
        assert_eq!(pieces(&planes, B), 0);
        assert!(planes.manager(B).world().reserved.is_empty());
    }
}

#[test]
fn what_the_target_does_not_grant_its_modules_do_not_do() {
    kit::trust(&[Verb::Notify]);
    let mut planes = kit::planes(kit::FLEET, &[SimulatedDisk::default(), SimulatedDisk::default()], [0, 0]);
    planes.run_for(Span::seconds(6)).unwrap();
    let shouts = (COUNT.0, "fn on_watchdog(vm, event) { this.seen = event.action; notify(event.action); }");
    kit::must(&mut planes, A, kit::module(shouts));
    let less = (ADMIT.0, "fn on_migration_offer(offer) { offer.accept(#{ permits: [] }); }");
    kit::must(&mut planes, B, kit::module(less));
    planes.run_for(Span::seconds(12)).unwrap();
    let vm = go(&mut planes, A, "web-1", "b");
    let host = planes.fleet().guest_named("web-1").unwrap().host.clone();
    planes.notice(B, &host, vm, NoticeBody::Watchdog("fire".into())).unwrap();
    let refused: Vec<&str> = planes.manager(B).refusals().map(|one| one.refusal.reason.as_str()).collect();
    assert!(refused.iter().any(|reason| reason.contains("no permit to notify")), "{refused:?}\n{}", kit::notices(&planes));
}

#[test]
fn a_newer_release_replaces_what_came_before_and_an_older_one_is_refused() {
    kit::trust(&[Verb::Notify]);
    let mut planes = ready();
    let vm = go(&mut planes, A, "web-1", "b");
    planes.run_for(Span::seconds(5)).unwrap();
    let newer = COUNT.0.replace("version: '1'", "version: '2'");
    kit::must(&mut planes, A, kit::module((&newer, COUNT.1)));
    let version = |planes: &Simulation| {
        planes.manager(B).modules().iter().find(|one| &*one.module == "count").map(|one| one.version.to_string())
    };
    assert_eq!(version(&planes).as_deref(), Some("1"));
    let before = kit::state(&planes, B, vm);
    go(&mut planes, A, "web-2", "b");
    assert_eq!(version(&planes).as_deref(), Some("2"), "{}", kit::notices(&planes));
    assert!(before.is_some(), "the guest that was there keeps its embot");
    assert_eq!(planes.manager(B).embots(Some("count")).len(), 2);

    // Home again; there the newer version is taken back, and the older one is offered.
    kit::must(&mut planes, A, kit::module(ADMIT));
    go(&mut planes, B, "web-2", "a");
    kit::must(&mut planes, A, Command::RollBack { module: "count".into() });
    go(&mut planes, A, "web-2", "b");
    assert!(stayed(&planes).contains("would replace count 2"), "{}", stayed(&planes));
}

#[test]
fn after_a_restart_it_still_stands_for_its_guest_only() {
    kit::trust(&[Verb::Notify]);
    let disks = [SimulatedDisk::default(), SimulatedDisk::default()];
    let mut planes = kit::planes(kit::FLEET, &disks, [0, 0]);
    planes.run_for(Span::seconds(6)).unwrap();
    kit::must(&mut planes, A, kit::module(COUNT));
    kit::must(&mut planes, B, kit::module(ADMIT));
    planes.run_for(Span::seconds(12)).unwrap();
    let vm = go(&mut planes, A, "web-1", "b");
    let state = kit::state(&planes, B, vm);
    assert!(state.is_some());
    let (manager, store) = kit::on_disk(B, &disks[B].crash(Crash::Killed));
    planes.restart(B, manager, store);
    planes.run_for(Span::seconds(12)).unwrap();
    assert_eq!(names(&planes, B), ["admit", "count"]);
    assert_eq!(kit::state(&planes, B, vm), state);
    // A guest of the plane's own: the module is not for it.
    kit::must(&mut planes, B, kit::module(ADMIT));
    let own = kit::guest(&planes, "web-2");
    go(&mut planes, A, "web-2", "b");
    assert!(kit::state(&planes, B, own).is_some(), "it brought the module as well");
    // An admin deploys the same: now it is the plane's own, and stays when the guests go.
    kit::must(&mut planes, B, kit::module(COUNT));
    kit::must(&mut planes, A, kit::module(ADMIT));
    go(&mut planes, B, "web-1", "a");
    go(&mut planes, B, "web-2", "a");
    assert_eq!(names(&planes, B), ["admit", "count"]);
}
