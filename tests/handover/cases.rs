//! What must hold of each handover: where the guest runs, whose it is, what its embot knows.

use crate::kit::{self, A, ADMIT, B, DENY};
use embot::api::explain::explain;
use embot::hypervisor::simulated::{Fault, Trouble};
use embot::model::{
    ActionKind, ActionState, ActionUpdate, ElementId, NoticeBody, Outcome, Record, Span, Timestamp, VmId, VmState,
};
use embot::simulate::Simulation;
use embot::store::{SimulatedDisk, Store};

fn wink(planes: &mut Simulation, plane: usize, host: &str, vm: VmId, word: &str) {
    planes.notice(plane, &host.into(), vm, NoticeBody::Watchdog(word.into())).unwrap();
}

#[test]
fn a_guest_goes_over_with_all_that_is_known_of_it() {
    for clocks in [[0, 0], [0, 3_600_000], [90_000, -90_000]] {
        let mut planes = kit::ready(clocks, ADMIT);
        let vm = kit::guest(&planes, "web-1");
        wink(&mut planes, A, "a-1", vm, "before");
        assert_eq!(kit::state(&planes, A, vm).as_deref(), Some(r#"{"loaded":1,"seen":"before "}"#));
        let usage = planes.manager(A).usage().export(&ElementId::Vm(vm));
        assert!(usage.is_some());
        kit::must(&mut planes, A, kit::handover(vm, "b"));
        let moving = |planes: &Simulation| {
            kit::last(planes, A).is_some_and(|one| one.phases.last().is_some_and(|phase| &*phase.word == "moving"))
        };
        assert!(planes.run_until(Span::minutes(1), moving).unwrap(), "{:#?}", kit::last(&planes, A));
        wink(&mut planes, A, "a-1", vm, "first");
        wink(&mut planes, A, "a-1", vm, "second");
        wink(&mut planes, B, "b-1", vm, "there");
        kit::until_over(&mut planes);

        assert_eq!(planes.manager(A).world().vm(vm), None);
        assert_eq!(planes.manager(A).world().gone[&vm].plane, kit::text("b"));
        assert_eq!((kit::owner(&planes, A, vm), kit::owner(&planes, B, vm)), (None, Some(2)));
        let host = planes.fleet().guest_named("web-1").unwrap().host.clone();
        assert!(host.as_str().starts_with("b-"), "{host}");
        assert_eq!(planes.fleet().guest_named("web-1").unwrap().state, VmState::Running);
        let seen = r#"{"loaded":1,"seen":"before first second there migrated "}"#;
        assert_eq!(kit::state(&planes, B, vm).as_deref(), Some(seen), "clocks {clocks:?}");
        assert_eq!(kit::state(&planes, A, vm), None);
        let actions: Vec<_> =
            planes.manager(A).actions().filter(|action| action.proposal.kind.vm() == Some(vm)).cloned().collect();
        assert_eq!(actions.last().map(|action| action.state.clone()), Some(ActionState::Done));
        assert_eq!(planes.manager(A).holds().count(), 1, "late facts would be sent after it");
        assert_eq!(planes.manager(B).holds().count(), 0);
        assert!(planes.manager(B).world().reserved.is_empty());

        // The timer was set for 100 s at 6 s by the fleet's clock.
        planes.run_for(Timestamp(105_900).since(planes.now())).unwrap();
        assert_eq!(kit::state(&planes, B, vm).as_deref(), Some(seen), "clocks {clocks:?}");
        planes.run_for(Timestamp(106_300).since(planes.now())).unwrap();
        let later = r#"{"loaded":1,"seen":"before first second there migrated ","timers":7}"#;
        assert_eq!(kit::state(&planes, B, vm).as_deref(), Some(later), "clocks {clocks:?}");
    }
}

#[test]
fn a_month_after_a_guest_has_gone_nothing_of_it_is_waited_for() {
    let disks = [SimulatedDisk::default(), SimulatedDisk::default()];
    let mut planes = kit::planes(kit::FLEET, &disks, [0, 0]);
    planes.run_for(Span::seconds(6)).unwrap();
    kit::prepare(&mut planes, ADMIT);
    let vm = kit::guest(&planes, "web-1");
    kit::must(&mut planes, A, kit::handover(vm, "b"));
    kit::until_over(&mut planes);
    drop(planes);
    for (days, holds) in [(29, 1), (31, 0)] {
        let (_store, mut recovered) = Store::on_disk(&disks[A]).unwrap();
        recovered.last_now = Timestamp(recovered.last_now.0 + days * 86_400_000);
        let manager = kit::manager(A, recovered);
        let gone = manager.world().gone.len();
        assert_eq!((manager.holds().count(), gone), (holds, holds), "after {days} days");
    }
}

#[test]
fn a_denied_guest_stays() {
    let mut planes = kit::ready([0, 0], DENY);
    let vm = kit::guest(&planes, "web-1");
    kit::must(&mut planes, A, kit::handover(vm, "b"));
    kit::until_over(&mut planes);
    let Some(Outcome::Stayed { reason }) = kit::last(&planes, A).unwrap().outcome else { panic!("it went") };
    assert!(reason.contains("the plane is full"), "{reason}");
    assert_eq!((kit::owner(&planes, A, vm), kit::owner(&planes, B, vm)), (Some(1), None));
    assert_eq!(planes.manager(A).holds().count() + planes.manager(B).holds().count(), 0);
    assert!(planes.manager(B).world().reserved.is_empty());
    wink(&mut planes, A, "a-1", vm, "after");
    assert_eq!(kit::state(&planes, A, vm).as_deref(), Some(r#"{"loaded":1,"seen":"after "}"#));
}

fn on_host(planes: &mut Simulation, host: &str, trouble: Trouble, lasts: Span) {
    let (fault, now) = (Fault::Host { host: host.into(), trouble, lasts }, planes.now());
    planes.fleet_mut().inject(&fault, now);
}

/// What was said of the last action on a guest.
fn last_word(planes: &Simulation, vm: VmId) -> Option<ActionUpdate> {
    let manager = planes.manager(A);
    let id = manager.actions().filter(|action| action.proposal.kind.vm() == Some(vm)).map(|action| action.id).max()?;
    let records = planes.plane(A).batches().iter().flat_map(|batch| &batch.records);
    let mut of_it = records.filter_map(|record| match record {
        Record::Action { action, update } if *action == id => Some(update.clone()),
        _ => None,
    });
    of_it.next_back()
}

#[test]
fn a_guest_that_its_host_does_not_describe_stays_and_the_journal_says_so() {
    let mut planes = kit::ready([0, 0], ADMIT);
    let vm = kit::guest(&planes, "web-1");
    on_host(&mut planes, "a-1", Trouble::Lost, Span::seconds(4));
    kit::must(&mut planes, A, kit::handover(vm, "b"));
    planes.run_for(Span::seconds(1)).unwrap();
    let Some(ActionUpdate::Failed(why)) = last_word(&planes, vm) else { panic!("{:?}", last_word(&planes, vm)) };
    assert!(why.contains("a-1"), "{why}");
    assert_eq!(kit::last(&planes, A), None, "it was never offered");
}

#[test]
fn room_is_kept_as_long_as_a_copy_takes_it() {
    let mut planes = kit::ready([0, 0], ADMIT);
    let vm = kit::guest(&planes, "web-1");
    let phase = |planes: &Simulation, plane| {
        kit::last(planes, plane).and_then(|one| one.phases.last().map(|phase| phase.word.to_string())).unwrap_or_default()
    };
    kit::must(&mut planes, A, kit::handover(vm, "b"));
    assert!(planes.run_until(Span::minutes(1), |planes| phase(planes, A) == "moving").unwrap());
    let target = kit::last(&planes, B).unwrap().host;
    // All of the guest is there when the link breaks; then its host takes no orders.
    on_host(&mut planes, "a-1", Trouble::CutAtSwitch, Span::seconds(20));
    assert!(planes.run_until(Span::minutes(1), |planes| phase(planes, A) == "telling_peer").unwrap(), "{}", phase(&planes, A));
    on_host(&mut planes, target.as_str(), Trouble::Refuses, Span::seconds(20));
    planes.run_for(Span::seconds(10)).unwrap();
    assert_eq!((phase(&planes, A), phase(&planes, B)), ("ended".to_owned(), "aborted".to_owned()));
    assert!(planes.fleet().look(&target, vm).unwrap().is_some(), "the copy is there");
    assert_eq!(planes.manager(B).world().reserved.len(), 1);
    planes.run_for(Span::seconds(30)).unwrap();
    assert!(planes.fleet().look(&target, vm).unwrap().is_none());
    assert!(planes.manager(B).world().reserved.is_empty());
}

/// Sends its guest away when the watchdog fires, after a look around.
const LEAVE: (&str, &str) = (
    "
module: leave
version: '1'
policies: [leave.rhai]
covers: { each: vm }
mode: act
permits: [handover]
",
    "
fn on_watchdog(vm, plane) {
    for other in vm.host.vms {
        if other.name == vm.name { continue; }
        if plane.armed && other.running { vm.migrate_to(peers()[0], \"it is wanted there\"); }
    }
}
",
);

#[test]
fn what_another_plane_has_decided_is_explained_from_where_it_stood() {
    let mut planes = kit::ready([0, 0], kit::ADMIT);
    for plane in [A, B] {
        kit::must(&mut planes, plane, kit::module(LEAVE));
    }
    planes.run_for(Span::seconds(6)).unwrap();
    let vm = kit::guest(&planes, "web-1");
    planes.notice(A, &"a-1".into(), vm, NoticeBody::Watchdog("none".into())).unwrap();
    kit::until_over(&mut planes);
    let explained = |plane: usize| {
        let manager = planes.manager(plane);
        let handover = manager.actions().find(|action| matches!(action.proposal.kind, ActionKind::Handover { .. }));
        let chain = explain(manager, handover.expect("a handover").id, &[]).unwrap();
        let named = |what: &str| chain.reads.iter().find(|read| read.what == what).map(|read| read.of.clone());
        (named("armed"), named("state").or(named("running")))
    };
    assert_eq!(explained(A), (Some("a".to_owned()), Some("web-2".to_owned())));
    assert_eq!(explained(B), (Some("a".to_owned()), Some("a guest of plane a".to_owned())));
}
