//! Modules that come along: what is fetched, for whom it stands, how long it stays, and what is refused.

use crate::kit::{self, A, ADMIT, B, COUNT};
use embot::model::{Change, ElementId, NoticeBody, Outcome, Span, Verb, VmId};
use embot::simulate::planes::Planes;
use embot::store::SimulatedDisk;

/// The counting module on `a` only.
fn ready() -> Planes {
    let mut planes = kit::planes(kit::FLEET, &[SimulatedDisk::default(), SimulatedDisk::default()], [0, 0]);
    planes.run_for(Span::seconds(6)).unwrap();
    kit::must(&mut planes, A, kit::module(COUNT));
    kit::must(&mut planes, B, kit::module(ADMIT));
    planes.run_for(Span::seconds(12)).unwrap();
    planes
}

fn go(planes: &mut Planes, plane: usize, name: &str, to: &str) -> VmId {
    let vm = kit::guest(planes, name);
    let known = kit::last(planes, plane).map(|migration| migration.id);
    kit::must(planes, plane, kit::handover(vm, to));
    let other = if plane == A { B } else { A };
    let over = |planes: &Planes| {
        let ended =
            |end| kit::last(planes, end).filter(|one| Some(&one.id) != known.as_ref()).is_some_and(|one| one.outcome.is_some());
        kit::last(planes, plane).is_some_and(|one| Some(&one.id) != known.as_ref()) && [plane, other].into_iter().all(ended)
    };
    assert!(planes.run_until(Span::minutes(10), over).unwrap(), "{:#?}\n{}", kit::last(planes, plane), kit::notices(planes));
    vm
}

fn stayed(planes: &Planes) -> String {
    match kit::last(planes, A).unwrap().outcome {
        Some(Outcome::Stayed { reason }) => reason.to_string(),
        other => panic!("{other:?}"),
    }
}

fn names(planes: &Planes, plane: usize) -> Vec<String> {
    planes.manager(plane).modules().iter().map(|module| module.module.to_string()).collect()
}

/// Pieces of packages that a plane's store holds, as its batches tell.
fn pieces(planes: &Planes, plane: usize) -> i64 {
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
