//! What a host says of one guest when it is asked about that guest only: the ground on which two planes settle who has it.

use super::action::Progress;
use super::vm::{Mark, Reason, VmState};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How a guest stands on a host, as far as a move is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It runs there (or sleeps: it wakes by itself).
    Running,
    /// It is paused, and not for a move: somebody paused it, or a fault did.
    Paused,
    /// It is paused for a move: at the source in the last phase, at the target until somebody lets it run.
    Migrating,
    /// It is defined there, and off or crashed.
    Off,
}

/// A guest as one host has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sighting {
    /// How it stands.
    pub standing: Standing,
    /// Whose it is, as the host's own copy of its metadata says.
    pub mark: Option<Mark>,
    /// The handover it is sealed for, if it is: until that is over, only orders of that handover touch it.
    pub sealed: Option<Arc<str>>,
    /// A move of it runs, away from here or to here; how far it is, where this host knows (the source does).
    pub job: Option<Progress>,
}

impl Standing {
    /// How a guest of this state stands.
    pub fn of(state: VmState, reason: Reason) -> Standing {
        match (state, reason) {
            (VmState::Running | VmState::Asleep, _) => Standing::Running,
            (VmState::Paused, Reason::Migration) => Standing::Migrating,
            (VmState::Paused, _) => Standing::Paused,
            (VmState::Off | VmState::Crashed, _) => Standing::Off,
        }
    }

    /// In words, for people.
    pub fn word(self) -> &'static str {
        match self {
            Standing::Running => "running",
            Standing::Paused => "paused",
            Standing::Migrating => "paused for a move",
            Standing::Off => "off",
        }
    }
}

impl std::fmt::Display for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_still_for_a_move_is_told_from_what_was_paused() {
        assert_eq!(Standing::of(VmState::Paused, Reason::Migration), Standing::Migrating);
        assert_eq!(Standing::of(VmState::Paused, Reason::Asked), Standing::Paused);
        assert_eq!(Standing::of(VmState::Off, Reason::Migration), Standing::Off);
        assert_eq!(Standing::of(VmState::Running, Reason::Migration), Standing::Running);
    }
}
