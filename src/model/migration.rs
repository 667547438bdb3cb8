//! What a plane keeps of guests that go to another plane, or come from one.
//!
//! The machines that run the exchange live in `migration`; here is what the store holds of them, and what the planner, the
//! sensors and the API must know. A machine's own state is kept as bytes of its own versioned form.

use super::element::{HostId, VmId};
use super::offer::Grant;
use super::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A migration's name: the plane that the guest leaves, and the number of the action there. One action is one attempt; who
/// tries again takes a new one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MigrationId {
    /// The source plane.
    pub plane: Arc<str>,
    /// The number of the action there.
    pub number: u64,
}

/// Which end of a migration a plane is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The guest leaves.
    Source,
    /// The guest comes.
    Target,
}

/// Room kept for a guest that is to come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reservation {
    /// Where.
    pub host: HostId,
    /// Processors.
    pub vcpus: u32,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// Processor time that it will use, in cores, as far as known.
    pub cores: f64,
}

/// A phase that a migration came to, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phase {
    /// In one stable word.
    pub word: Arc<str>,
    /// When, by this plane's clock.
    pub at: Timestamp,
}

/// How a migration ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The guest is the target's.
    Moved,
    /// It stayed where it was: why, and what was undone.
    Stayed {
        /// In words.
        reason: Arc<str>,
    },
}

/// A migration as one end of it keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MigrationRow {
    /// Which end this is.
    pub side: Side,
    /// The other end.
    pub peer: Arc<str>,
    /// The guest.
    pub vm: VmId,
    /// Its name.
    pub name: Arc<str>,
    /// Its epoch at the source; the next is the target's.
    pub epoch: u64,
    /// While it runs (else it is off).
    pub live: bool,
    /// The machine's state, in its own versioned form.
    pub machine: Vec<u8>,
    /// The host of this plane that it leaves, or comes to; empty as long as none is settled.
    pub host: HostId,
    /// Are the guest's events held?
    pub is_held: bool,
    /// Do timers of its embots stand still? (From the source's last capture on: they go on at the target.)
    pub is_frozen: bool,
    /// Up to which number the guest's facts on hold were captured in each round, at the source; round 0 is the first capture.
    pub rounds: Vec<(u32, u64)>,
    /// The same for each lot of late facts.
    pub lots: Vec<(u32, u64)>,
    /// Room kept for it, at the target.
    pub reservation: Option<Reservation>,
    /// What the target granted.
    pub grant: Option<Grant>,
    /// What came of the guest's management and is not in force yet, at the target.
    pub staged: Staged,
    /// The phases it went through, in order.
    pub phases: Vec<Phase>,
    /// How it ended; `None`: it goes on.
    pub outcome: Option<Outcome>,
}

/// Management that has come and waits for the commit. Nothing of it has any effect before.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Staged {
    /// The first capture, with usage history.
    pub state: Vec<u8>,
    /// The latest later capture, which replaces all of the first but the usage history.
    pub dirty: Vec<u8>,
    /// Waiting facts, in the order in which they came.
    pub events: Vec<Vec<u8>>,
    /// By how much this plane's clock is ahead of the source's, in milliseconds, as the link measured it.
    pub ahead_ms: i64,
    /// Facts of the source have come up to this number.
    pub through: u64,
    /// The time of the latest of them, by this plane's clock.
    pub last_at: Timestamp,
    /// The numbers that facts of the source were given here, from and to: they are dispatched while what was sensed here still
    /// waits.
    pub own: Vec<(u64, u64)>,
}

/// Where a guest went. Kept for 30 days, so that whoever still asks here is sent on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// Its name here.
    pub name: Arc<str>,
    /// The plane that has it now.
    pub plane: Arc<str>,
    /// The epoch it has there.
    pub epoch: u64,
    /// When it went.
    pub at: Timestamp,
}

impl Tombstone {
    /// It is kept for so long.
    pub const KEPT: Span = Span::hours(30 * 24);
}

impl MigrationRow {
    /// Does it go on?
    pub fn is_open(&self) -> bool {
        self.outcome.is_none()
    }

    /// Notes a phase, unless it is the one it is in.
    pub fn enter(&mut self, word: &str, at: Timestamp) {
        if self.phases.last().is_none_or(|phase| *phase.word != *word) {
            self.phases.push(Phase { word: word.into(), at });
        }
    }

    /// The phase it is in.
    pub fn phase(&self) -> &str {
        self.phases.last().map_or("offered", |phase| &phase.word)
    }

    /// When it began.
    pub fn opened_at(&self) -> Timestamp {
        self.phases.first().map_or_else(Timestamp::default, |phase| phase.at)
    }
}

impl fmt::Display for MigrationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.plane, self.number)
    }
}

/// Why a text names no migration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no migration; write PLANE/NUMBER, such as `site-a/41`")]
pub struct MigrationIdError(String);

impl FromStr for MigrationId {
    type Err = MigrationIdError;

    fn from_str(text: &str) -> Result<MigrationId, MigrationIdError> {
        let bad = || MigrationIdError(text.chars().take(80).collect());
        let (plane, number) = text.rsplit_once('/').filter(|(plane, _)| !plane.is_empty()).ok_or_else(bad)?;
        let digits = number.bytes().all(|byte| byte.is_ascii_digit());
        let number = number.parse().ok().filter(|_| digits).ok_or_else(bad)?;
        Ok(MigrationId { plane: plane.into(), number })
    }
}

impl Serialize for MigrationId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MigrationId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<MigrationId, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back_as_it_prints() {
        let id = MigrationId { plane: "site/a".into(), number: 41 };
        assert_eq!(id.to_string(), "site/a/41");
        assert_eq!(id.to_string().parse(), Ok(id.clone()));
        assert_eq!(postcard::from_bytes::<MigrationId>(&postcard::to_stdvec(&id).unwrap()).unwrap(), id);
        for text in ["", "41", "/41", "site-a/", "site-a/+1", "site-a/99999999999999999999"] {
            assert!(text.parse::<MigrationId>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_phase_is_noted_once() {
        let mut row = super::super::testing::migration(Side::Source, 1);
        row.enter("moving", Timestamp(5));
        row.enter("moving", Timestamp(6));
        assert_eq!((row.phase(), row.phases.len()), ("moving", 2));
    }
}
