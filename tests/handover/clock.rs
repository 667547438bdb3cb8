//! A machine's clock is set an hour ahead, and an hour back, while its daemon does not run: nothing runs twice, nothing waits for
//! the hour to pass, and the journal's time never goes back.

use crate::kit::{self, A, ADMIT};
use embot::clock::{Clock, SystemClock};
use embot::model::{Command, Mode, Span, Timestamp};
use embot::simulate::Simulation;
use embot::store::{Crash, SimulatedDisk, Store};

const HOUR_MS: i64 = 3_600_000;

/// The daemon of plane `a` is started again, on a machine whose clock is off by so much.
fn restart(planes: &mut Simulation, disk: &SimulatedDisk, wall_ms: i64) -> SimulatedDisk {
    let disk = disk.crash(Crash::Killed);
    let (store, recovered) = Store::on_disk(&disk).unwrap();
    // As the daemon's clock begins: with the machine's, but not before what the journal knows.
    let begins = SystemClock::beginning(Timestamp(planes.now().0 + wall_ms), recovered.last_now).now();
    planes.set_clock(A, begins.0 - planes.now().0);
    planes.restart(A, kit::manager(A, recovered), store);
    disk
}

fn journal_is_in_order(planes: &Simulation) {
    let mut last = Timestamp(i64::MIN);
    for batch in planes.plane(A).store().unwrap().journal().batches(0) {
        let now = batch.unwrap().now;
        assert!(now >= last, "{now:?} comes after {last:?}");
        last = now;
    }
}

#[test]
fn an_hour_ahead_and_an_hour_back() {
    let disks = [SimulatedDisk::default(), SimulatedDisk::default()];
    let mut planes = kit::planes(kit::FLEET, &disks, [0, 0]);
    planes.run_for(Span::seconds(6)).unwrap();
    kit::prepare(&mut planes, ADMIT);
    let (vm, other) = (kit::guest(&planes, "web-1"), kit::guest(&planes, "web-2"));
    let timers = |planes: &Simulation, vm| kit::state(planes, A, vm).is_some_and(|state| state.contains("\"timers\":7"));
    assert!(!timers(&planes, vm), "they are due in a minute and a half");

    let disk = restart(&mut planes, &disks[A], HOUR_MS);
    planes.run_for(Span::seconds(12)).unwrap();
    assert!(timers(&planes, vm) && timers(&planes, other), "each is due, and comes once");
    journal_is_in_order(&planes);

    // The clock is set right: the plane's time does not go back for that, and goes on at once.
    let disk = restart(&mut planes, &disk, 0);
    planes.run_for(Span::seconds(12)).unwrap();
    kit::must(&mut planes, A, Command::Manage { vms: vec![other], mode: Mode::Advise });
    kit::must(&mut planes, A, kit::handover(vm, "b"));
    kit::until_over(&mut planes);
    planes.run_for(Span::minutes(3)).unwrap();
    assert!(timers(&planes, other), "what was done is not done again");
    journal_is_in_order(&planes);

    // And an hour behind: the same.
    restart(&mut planes, &disk, -HOUR_MS);
    planes.run_for(Span::seconds(12)).unwrap();
    kit::must(&mut planes, A, kit::handover(other, "b"));
    kit::until_over(&mut planes);
    journal_is_in_order(&planes);
}
