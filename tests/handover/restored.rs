//! A plane is restored from a backup, and the world has gone on since: guests were given away, came, came back, or are on their
//! way at that moment. Nobody acts on a guest that is not its own, none runs twice, and admins are told.

use crate::kit::{self, A, ADMIT, B};
use embot::hypervisor::simulated::LogLine;
use embot::manager::MigrationView;
use embot::model::{ActionState, Command, HostId, Mark, Mode, Outcome, Reply, Span, VmId};
use embot::simulate::Simulation;
use embot::store::{Restore, Retention, Store};
use std::collections::{BTreeMap, BTreeSet};
use tempfile::TempDir;

/// A backup of a plane as it is now.
fn backup(planes: &Simulation, plane: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let name = planes.manager(plane).settings().plane.clone();
    let journal = planes.plane(plane).store().unwrap().journal();
    journal.backup(&name, planes.now(), &mut bytes).unwrap();
    bytes
}

/// The plane stops, and goes on with a store made from a backup.
fn restore(planes: &mut Simulation, plane: usize, backup: &[u8]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (file, path) = (folder.path().join("plane.backup"), folder.path().join("plane.redb"));
    std::fs::write(&file, backup).unwrap();
    let name = planes.manager(plane).settings().plane.clone();
    let restore = Restore { backup: &file, store: &path, plane: &name, by: "ada", now: planes.now(), force: false };
    restore.run(&mut |_| ()).unwrap();
    let (store, recovered) = Store::open(&path, Retention::default()).unwrap();
    planes.restart(plane, kit::manager(plane, recovered), store);
    folder
}

fn mode(planes: &Simulation, plane: usize, vm: VmId) -> Option<Mode> {
    planes.manager(plane).world().vm(vm).map(|vm| vm.mode)
}

fn mark(planes: &Simulation, vm: VmId) -> Option<Mark> {
    planes.fleet().guest(vm).and_then(|guest| guest.description.mark.clone())
}

/// No guest ever ran on two hosts.
fn ran_once(planes: &mut Simulation, context: &str) {
    let mut running: BTreeMap<VmId, BTreeSet<HostId>> = BTreeMap::new();
    for line in planes.fleet_mut().take_log() {
        let LogLine::Run(run) = line else { continue };
        let hosts = running.entry(run.vm).or_default();
        if run.runs {
            hosts.insert(run.host)
        } else {
            hosts.remove(&run.host)
        };
        assert!(hosts.len() <= 1, "{context}: guest {} runs on {hosts:?}\n{}", run.vm, kit::notices(planes));
    }
}

#[test]
fn guests_are_only_observed_until_their_marks_are_read() {
    let mut planes = kit::ready([0, 0], ADMIT);
    let (vm, other) = (kit::guest(&planes, "web-1"), kit::guest(&planes, "web-2"));
    kit::must(&mut planes, A, Command::Manage { vms: vec![other], mode: Mode::Advise });
    let saved = backup(&planes, A);
    planes.run_for(Span::seconds(30)).unwrap();
    let _folder = restore(&mut planes, A, &saved);
    // Before any host has answered.
    assert_eq!([mode(&planes, A, vm), mode(&planes, A, other)], [Some(Mode::Observe); 2]);
    let manage = Command::Manage { vms: vec![vm], mode: Mode::Act };
    let refused = planes.command(A, manage).unwrap();
    assert!(matches!(refused, Some(Reply::Refused { .. })), "{refused:?}");
    assert_eq!(mode(&planes, A, vm), Some(Mode::Observe));
    planes.run_for(Span::seconds(12)).unwrap();
    assert_eq!([mode(&planes, A, vm), mode(&planes, A, other)], [Some(Mode::Act), Some(Mode::Advise)]);
    let open = planes.manager(A).open().count();
    assert_eq!(open, 0);
    // Numbers that the lost time may have used are not used again.
    kit::must(&mut planes, A, kit::handover(vm, "b"));
    kit::until_over(&mut planes);
    assert!(kit::last(&planes, A).unwrap().id.number > 1_000_000);
    ran_once(&mut planes, "confirmed");
}

#[test]
fn a_guest_that_was_given_away_since_is_its_new_owners() {
    let mut planes = kit::ready([0, 0], ADMIT);
    let vm = kit::guest(&planes, "web-1");
    let saved = backup(&planes, A);
    kit::must(&mut planes, A, kit::handover(vm, "b"));
    kit::until_over(&mut planes);
    let owned = mark(&planes, vm);
    let _folder = restore(&mut planes, A, &saved);
    planes.run_for(Span::minutes(5)).unwrap();
    assert!(mode(&planes, A, vm).is_none_or(|mode| mode == Mode::Observe));
    assert_eq!((mark(&planes, vm), kit::owner(&planes, B, vm)), (owned, Some(2)));
    assert_eq!(mode(&planes, A, kit::guest(&planes, "web-2")), Some(Mode::Act));
    ran_once(&mut planes, "given away");
}

#[test]
fn a_guest_that_was_away_and_came_back_is_left_to_an_admin() {
    let mut planes = kit::ready([0, 0], ADMIT);
    kit::must(&mut planes, A, kit::module(ADMIT));
    let vm = kit::guest(&planes, "web-1");
    let saved = backup(&planes, A);
    kit::must(&mut planes, A, kit::handover(vm, "b"));
    kit::until_over(&mut planes);
    planes.run_for(Span::seconds(20)).unwrap();
    kit::must(&mut planes, B, kit::handover(vm, "a"));
    let back = |planes: &Simulation| mark(planes, vm).is_some_and(|mark| &*mark.plane == "a");
    assert!(planes.run_until(Span::minutes(5), back).unwrap());
    planes.run_for(Span::seconds(30)).unwrap();
    let _folder = restore(&mut planes, A, &saved);
    planes.run_for(Span::minutes(1)).unwrap();
    assert_eq!(mode(&planes, A, vm), Some(Mode::Observe));
    let told = kit::notices(&planes);
    assert!(told.contains("guest web-1") && told.contains("epoch 3") && told.contains("epoch 1"), "{told}");
    assert!(told.contains("embot manage web-1 --mode act"), "{told}");
    kit::must(&mut planes, A, Command::Manage { vms: vec![vm], mode: Mode::Act });
    kit::must(&mut planes, A, kit::handover(vm, "b"));
    let away = |planes: &Simulation| mark(planes, vm).is_some_and(|mark| &*mark.plane == "b" && mark.epoch == 4);
    assert!(planes.run_until(Span::minutes(5), away).unwrap(), "it is managed under the epoch it has");
    ran_once(&mut planes, "away and back");
}

#[test]
fn a_guest_that_came_since_is_left_to_an_admin() {
    let mut planes = kit::ready([0, 0], ADMIT);
    let vm = kit::guest(&planes, "web-1");
    let saved = backup(&planes, B);
    kit::must(&mut planes, A, kit::handover(vm, "b"));
    kit::until_over(&mut planes);
    let _folder = restore(&mut planes, B, &saved);
    planes.run_for(Span::minutes(5)).unwrap();
    assert_eq!((kit::owner(&planes, A, vm), kit::owner(&planes, B, vm)), (None, Some(2)));
    assert_eq!(mode(&planes, B, vm), Some(Mode::Observe));
    let told = kit::notices(&planes);
    assert!(told.contains("guest web-1") && told.contains("does not know it"), "{told}");
    kit::must(&mut planes, B, Command::Manage { vms: vec![vm], mode: Mode::Act });
    assert_eq!(mode(&planes, B, vm), Some(Mode::Act));
    ran_once(&mut planes, "came");
}

/// The last phase of a plane's migration.
fn phase(view: Option<MigrationView>) -> String {
    view.and_then(|view| view.phases.last().map(|phase| phase.word.to_string())).unwrap_or_default()
}

#[test]
fn whenever_either_plane_is_restored_while_a_guest_is_on_its_way_it_runs_once_and_has_one_owner() {
    let mut ends: BTreeMap<(String, String), usize> = BTreeMap::new();
    let moments: u64 = 8;
    for plane in [A, B] {
        for at in 0..moments {
            // At once, a little later, and when all is over.
            for later in [0, 700, 60_000] {
                let mut planes = kit::ready([0, 0], ADMIT);
                let vm = kit::guest(&planes, "web-1");
                kit::must(&mut planes, A, kit::handover(vm, "b"));
                planes.run_for(Span(at * 220)).unwrap();
                let (saved, was) = (backup(&planes, plane), phase(kit::last(&planes, A)));
                planes.run_for(Span(later)).unwrap();
                let context = format!("plane {plane}, backup at {at} ({was}), restored {later} ms later");
                let _folder = restore(&mut planes, plane, &saved);
                planes.run_for(Span::minutes(10)).unwrap();
                let told = || {
                    format!("{context}\n{:?}\n{:?}\n{}", kit::last(&planes, A), kit::last(&planes, B), kit::notices(&planes))
                };
                let mark = mark(&planes, vm).expect("it carries a mark");
                for (other, name) in [(A, "a"), (B, "b")] {
                    // A plane that hands it over does nothing else with it, also where an admin has to decide.
                    let leaves = planes.manager(other).open().any(|action| action.proposal.kind.vm() == Some(vm));
                    let managed = !leaves && mode(&planes, other, vm).is_some_and(|mode| mode > Mode::Observe);
                    let owns = kit::owner(&planes, other, vm);
                    assert!(!managed || owns.is_none() || (&*mark.plane, Some(mark.epoch)) == (name, owns), "{}", told());
                }
                let under_way = |action: &&embot::model::Action| action.state == ActionState::Started;
                assert!(planes.manager(plane).actions().filter(under_way).all(|action| action.id.0 > 1_000_000), "{}", told());
                ran_once(&mut planes, &context);
                let outcome = match kit::last(&planes, A).and_then(|view| view.outcome) {
                    Some(Outcome::Moved) => "moved",
                    Some(Outcome::Stayed { .. }) => "stayed",
                    None => "left to an admin",
                };
                *ends.entry((format!("{plane} {was}"), outcome.to_owned())).or_default() += 1;
            }
        }
    }
    println!("{ends:?}");
    assert!(ends.len() >= 6, "the moments are not spread over the handover: {ends:?}");
}
