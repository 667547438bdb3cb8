//! libvirt's numbers for states and reasons, in the plane's words.
//!
//! The guarantee that matters: what is paused or off *because of a migration* says so, so that nobody takes it for hung,
//! stopped or crashed. The numbers are those of `virDomainState` and the `virDomain*Reason` enums; they never change.

use crate::model::{Reason, VmState};

/// A state with its reason, as a poll gives them.
pub fn of(state: i32, reason: i32) -> (VmState, Reason) {
    match state {
        // Running, "blocked on a resource" (never with QEMU), and being shut down: it still runs until it is off.
        1 | 2 => (VmState::Running, running(reason)),
        4 => (VmState::Running, Reason::Shutdown),
        3 => (VmState::Paused, paused(reason)),
        5 => off(reason),
        6 => (VmState::Crashed, Reason::Crashed),
        7 => (VmState::Asleep, Reason::Asked),
        _ => (VmState::Off, Reason::Unknown),
    }
}

fn running(reason: i32) -> Reason {
    match reason {
        1 => Reason::Booted,
        // Migrated; its migration was cancelled; it runs at the target while memory still follows.
        2 | 6 | 10 => Reason::Migration,
        // Restored; saving it was cancelled.
        3 | 7 => Reason::Saved,
        // From a snapshot; unpaused; woken.
        4 | 5 | 8 => Reason::Asked,
        9 => Reason::Crashed,
        11 => Reason::Failed,
        _ => Reason::Unknown,
    }
}

fn paused(reason: i32) -> Reason {
    match reason {
        // By a user; for a dump; from or for a snapshot.
        1 | 4 | 7 | 9 => Reason::Asked,
        // For a migration; for its post-copy phase.
        2 | 12 => Reason::Migration,
        3 => Reason::Saved,
        5 => Reason::IoError,
        6 => Reason::Watchdog,
        8 => Reason::Shutdown,
        10 => Reason::Crashed,
        11 => Reason::Booted,
        // Post-copy broke; a call of libvirt left it so.
        13 | 14 => Reason::Failed,
        _ => Reason::Unknown,
    }
}

fn off(reason: i32) -> (VmState, Reason) {
    match reason {
        1 => (VmState::Off, Reason::Shutdown),
        2 | 7 => (VmState::Off, Reason::Asked),
        // What killing QEMU leads to: it lies there crashed until it is started again.
        3 => (VmState::Crashed, Reason::Crashed),
        4 => (VmState::Off, Reason::Migration),
        5 => (VmState::Off, Reason::Saved),
        // It could not be started; the daemon ended it when it came back.
        6 | 8 => (VmState::Off, Reason::Failed),
        _ => (VmState::Off, Reason::Unknown),
    }
}

/// What a watchdog did, in libvirt's own words.
pub fn watchdog_action(action: i32) -> &'static str {
    match action {
        0 => "none",
        1 => "pause",
        2 => "reset",
        3 => "poweroff",
        4 => "shutdown",
        5 => "debug",
        6 => "inject-nmi",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_is_never_taken_for_a_fault() {
        for (state, reason) in [(1, 2), (1, 6), (1, 10), (3, 2), (3, 12), (5, 4)] {
            assert_eq!(of(state, reason).1, Reason::Migration, "{state}/{reason}");
        }
    }

    #[test]
    fn a_killed_qemu_and_a_panicked_guest_are_crashed() {
        assert_eq!(of(5, 3), (VmState::Crashed, Reason::Crashed));
        assert_eq!(of(6, 1), (VmState::Crashed, Reason::Crashed));
    }

    #[test]
    fn numbers_of_a_newer_libvirt_are_no_fault() {
        assert_eq!(of(1, 99), (VmState::Running, Reason::Unknown));
        assert_eq!(of(3, 99), (VmState::Paused, Reason::Unknown));
        assert_eq!(of(99, 0), (VmState::Off, Reason::Unknown));
    }
}
