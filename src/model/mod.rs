//! The nouns: what the plane manages, what happens to it, what is decided about it.
//!
//! Nothing here imports another module of ours, does I/O, or knows the wall clock. Maps are ordered, so that whoever walks
//! them walks them the same way each time: equal inputs must lead to equal decisions.

pub mod action;
pub mod audit;
pub mod command;
pub mod element;
pub mod event;
pub mod hash;
pub mod host;
pub mod input;
pub mod migration;
pub mod offer;
pub mod peer;
pub mod power;
pub mod record;
pub mod report;
pub mod rule;
pub mod sighting;
#[cfg(test)]
pub mod testing;
pub mod time;
pub mod value;
pub mod vm;
pub mod world;

pub use action::{
    Action, ActionId, ActionKind, ActionState, ActionUpdate, Level, Place, Plan, Progress, Proposal, Read, Refusal, Verb,
};
pub use audit::{AuditAnswer, AuditEntry, Restored, Unconfirmed};
pub use command::{Command, Deed, ModuleTexts, Reply, Ticket};
pub use element::{ElementId, EmbotId, HostId, Kind, Lookup, VmId};
pub use event::{Event, EventBody, EventClass, EventKind};
pub use hash::{ContentHash, hex};
pub use host::{Abilities, Capacity, Host, HostLoad, Link, Maintenance};
pub use input::{Bytes, Input, MigrationInput};
pub use migration::{MigrationId, MigrationRow, Outcome, Phase, Reservation, Side, Staged, Tombstone};

pub use offer::{Admission, Answer, Grant, Offer, OfferedGuest, OfferedHost, OfferedModule, Verdict};
pub use peer::{Peer, Summary};
pub use power::{PowerCurve, PowerCurveError};
pub use record::{Batch, Change, Declared, EmbotRow, MobileRow, ModuleRow, ModuleVersion, PlaneRow, Record, TimerRow};
pub use report::{AgentState, Description, DomainReport, HostReport, Notice, NoticeBody};
pub use rule::{Affinity, AffinityRule, Violation};
pub use sighting::{Sighting, Standing};
pub use time::{Span, Timestamp};
pub use value::Value;
pub use vm::{Mark, Mode, Reason, Vm, VmLoad, VmState};
pub use world::World;
