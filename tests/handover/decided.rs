//! What an admin decides: a migration is cancelled, or one that nobody else can decide is resolved.

use crate::kit::{self, A, ADMIT, B};
use embot::hypervisor::simulated::{Fault, Trouble};
use embot::model::{ActionState, Command, MigrationId, NoticeBody, Outcome, Reply, Span, VmId, VmState};
use embot::simulate::Simulation;

/// Runs until the source is in this phase.
fn until(planes: &mut Simulation, word: &str) {
    let there = |planes: &Simulation| {
        kit::last(planes, A).is_some_and(|one| one.phases.last().is_some_and(|phase| &*phase.word == word))
    };
    assert!(planes.run_until(Span::minutes(1), there).unwrap(), "{:#?}\n{}", kit::last(planes, A), kit::notices(planes));
}

fn id(planes: &Simulation) -> MigrationId {
    kit::last(planes, A).expect("a migration").id
}

fn cancel(planes: &mut Simulation, plane: usize) -> Reply {
    let migration = id(planes);
    planes.command(plane, Command::CancelMigration { migration }).unwrap().expect("a reply")
}

fn resolve(planes: &mut Simulation, plane: usize, owner: &str, fenced: &str) -> Reply {
    let command = Command::ResolveMigration { migration: id(planes), owner: owner.into(), fenced: fenced.into() };
    planes.command(plane, command).unwrap().expect("a reply")
}

fn refused(reply: Reply) -> String {
    match reply {
        Reply::Refused { reason } => reason.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_migration_is_cancelled_in_each_phase_before_the_guest_has_moved() {
    let asks: [fn(VmId) -> Command; 2] = [|vm| kit::handover(vm, "b"), |vm| kit::cold(vm, "b", None)];
    for ask in asks {
        for phase in ["offering", "stating", "queueing", "marking", "moving"] {
            let mut planes = kit::ready([0, 0], ADMIT);
            let vm = kit::guest(&planes, "web-1");
            let asked = kit::must(&mut planes, A, ask(vm));
            until(&mut planes, phase);
            let why = |planes: &Simulation| format!("{asked}, cancelled while {phase}\n{}", kit::notices(planes));
            if let Reply::Refused { reason } = cancel(&mut planes, A) {
                panic!("{reason}: {}", why(&planes));
            }
            kit::until_over(&mut planes);
            planes.run_for(Span::seconds(30)).unwrap();
            let Some(Outcome::Stayed { reason }) = kit::last(&planes, A).unwrap().outcome else { panic!("{}", why(&planes)) };
            assert!(reason.contains("cancelled by admin"), "{reason}: {}", why(&planes));
            assert!(kit::owner(&planes, A, vm).is_some() && kit::owner(&planes, B, vm).is_none(), "{}", why(&planes));
            assert_eq!(planes.manager(A).holds().count() + planes.manager(B).holds().count(), 0, "{}", why(&planes));
            assert!(planes.manager(B).world().reserved.is_empty(), "{}", why(&planes));
            assert_eq!(planes.manager(A).open().count(), 0, "{}", why(&planes));
            let action = planes.manager(A).actions().last().cloned().unwrap();
            assert!(matches!(action.state, ActionState::Cancelled { .. }), "{:?}: {}", action.state, why(&planes));
            assert_eq!(planes.fleet().guest(vm).map(|guest| guest.state), Some(VmState::Running), "{}", why(&planes));
            assert_eq!(planes.fleet().look(&"b-1".into(), vm), Ok(None), "{}", why(&planes));
            planes.notice(A, &"a-1".into(), vm, NoticeBody::Watchdog("after".into())).unwrap();
            assert_eq!(kit::state(&planes, A, vm).as_deref(), Some(r#"{"loaded":1,"seen":"after "}"#), "{}", why(&planes));
            // It goes at another time, under an epoch that nobody has seen.
            kit::must(&mut planes, A, ask(vm));
            let gone = |planes: &Simulation| kit::owner(planes, B, vm).is_some_and(|epoch| epoch >= 2);
            assert!(planes.run_until(Span::minutes(5), gone).unwrap(), "{}", why(&planes));
        }
    }
}

#[test]
fn what_has_moved_and_what_comes_from_elsewhere_is_not_cancelled_here() {
    let mut planes = kit::ready([0, 0], ADMIT);
    let vm = kit::guest(&planes, "web-1");
    kit::must(&mut planes, A, kit::handover(vm, "b"));
    until(&mut planes, "moving");
    let said = refused(cancel(&mut planes, B));
    assert!(said.contains("on plane a"), "{said}");
    until(&mut planes, "last_round");
    let said = refused(cancel(&mut planes, A));
    assert!(said.contains("cannot be cancelled any more"), "{said}");
    let said = refused(resolve(&mut planes, A, "a", "b-1"));
    assert!(said.contains("is not undecided"), "{said}");
    kit::until_over(&mut planes);
    assert_eq!(kit::owner(&planes, B, vm), Some(2));
    let said = refused(cancel(&mut planes, A));
    assert!(said.contains("is over"), "{said}");
}

/// The source's hypervisor is killed in the very moment in which the guest has arrived, and stays away for so long; until both
/// planes say that they cannot decide.
fn undecided(away: Span) -> (Simulation, VmId) {
    let mut planes = kit::ready([0, 0], ADMIT);
    let vm = kit::guest(&planes, "web-1");
    let now = planes.now();
    planes.fleet_mut().inject(&Fault::Host { host: "a-1".into(), trouble: Trouble::KilledAtSwitch, lasts: away }, now);
    kit::must(&mut planes, A, kit::handover(vm, "b"));
    let undecided = |planes: &Simulation| {
        [A, B].into_iter().all(|plane| kit::last(planes, plane).is_some_and(|one| one.undecided.is_some()))
    };
    assert!(planes.run_until(Span::minutes(5), undecided).unwrap(), "{}", kit::notices(&planes));
    let both_stand_still = planes.fleet().look(&"b-1".into(), vm).unwrap().unwrap().standing;
    assert_eq!(both_stand_still, embot::model::Standing::Migrating, "nobody has resumed it");
    let said = refused(resolve(&mut planes, A, "c", "a-1"));
    assert!(said.contains("is neither of them"), "{said}");
    (planes, vm)
}

/// One owner, under this epoch; it runs there, and the other has nothing of it.
fn belongs(planes: &Simulation, owner: usize, epoch: u64, vm: VmId, runs: bool) {
    let other = 1 - owner;
    let why = || format!("{:?}\n{:?}\n{}", kit::last(planes, A), kit::last(planes, B), kit::notices(planes));
    assert_eq!((kit::owner(planes, owner, vm), kit::owner(planes, other, vm)), (Some(epoch), None), "{}", why());
    let host: embot::model::HostId = ["a-1", "b-1"][owner].into();
    let fleet = planes.fleet();
    assert_eq!(
        fleet.guest(vm).map(|guest| (guest.host.clone(), guest.state == VmState::Running)),
        Some((host, runs)),
        "{}",
        why()
    );
    assert_eq!(fleet.look(&["a-1", "b-1"][other].into(), vm), Ok(None), "{}", why());
    assert!(planes.manager(B).world().reserved.is_empty(), "{}", why());
    assert_eq!(planes.manager(A).open().count(), 0, "{}", why());
}

#[test]
fn what_nobody_else_can_decide_an_admin_does() {
    for (at, owner, fenced, epoch) in [(A, "b", "a-1", 4), (B, "b", "a-1", 4), (A, "a", "b-1", 5), (B, "a", "b-1", 5)] {
        let (mut planes, vm) = undecided(Span::minutes(6));
        let said = resolve(&mut planes, at, owner, fenced);
        assert!(matches!(said, Reply::Done { .. }), "{said:?}");
        // Nobody contradicts it: said once more at the other plane, where that still waits for it.
        if let Reply::Refused { reason } = resolve(&mut planes, 1 - at, owner, fenced) {
            assert!(reason.contains("is not undecided"), "{reason}");
        }
        planes.run_for(Span::minutes(10)).unwrap();
        kit::until_over(&mut planes);
        planes.run_for(Span::seconds(30)).unwrap();
        belongs(&planes, if owner == "a" { A } else { B }, epoch, vm, true);
    }
}

#[test]
fn what_an_admin_gives_to_a_plane_that_has_no_copy_is_defined_from_the_record() {
    let (mut planes, vm) = undecided(Span::minutes(20));
    // The copy was in memory only, and is gone.
    let now = planes.now();
    planes.fleet_mut().inject(&Fault::Host { host: "b-1".into(), trouble: Trouble::Dies, lasts: Span::seconds(20) }, now);
    planes.run_for(Span::minutes(1)).unwrap();
    assert_eq!(planes.fleet().look(&"b-1".into(), vm), Ok(None));
    resolve(&mut planes, A, "b", "a-1");
    resolve(&mut planes, B, "b", "a-1");
    planes.run_for(Span::minutes(2)).unwrap();
    assert_eq!(kit::owner(&planes, B, vm), Some(4), "{}", kit::notices(&planes));
    planes.run_for(Span::minutes(25)).unwrap();
    // It is off: an admin has to say that it may run.
    belongs(&planes, B, 4, vm, false);
}
