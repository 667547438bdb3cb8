//! What the manager hands to the store.
//!
//! A [`Batch`] is the unit of commitment: the inputs consumed, what was decided, and the rows that changed, in one
//! transaction. What leaves the manager leaves only after it is durable; after a crash, a batch that was not committed never happened.

use super::action::{Action, ActionId, ActionUpdate, Level, Refusal};
use super::audit::{AuditEntry, Restored, Unconfirmed};
use super::element::{ElementId, EmbotId, HostId, VmId};
use super::event::Event;
use super::hash::ContentHash;
use super::host::Host;
use super::input::{Bytes, Input};
use super::migration::{MigrationId, MigrationRow, Tombstone};
use super::offer::Grant;
use super::time::Timestamp;
use super::value::Value;
use super::vm::{Mode, Vm};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The plane's own row.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PlaneRow {
    /// The next event's number.
    pub next_event: u64,
    /// The next action's number.
    pub next_action: u64,
    /// The next timer's number.
    pub next_timer: u64,
    /// The next batch's number.
    pub next_batch: u64,
    /// The kill switch: `false` starts nothing new.
    pub armed: bool,
    /// The planner's memory (cool-downs, budgets, holds), in its own versioned form.
    pub planner: Vec<u8>,
    /// The next refusal's number.
    pub next_refusal: u64,
}

/// An embot's row.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EmbotRow {
    /// State of each of its policies, by the policy's name.
    pub state: BTreeMap<Arc<str>, Arc<Value>>,
    /// Faults since the last good hour.
    pub faults: u32,
    /// When the last fault was.
    pub fault_at: Timestamp,
    /// Why it is suspended, where it is.
    pub suspended: Option<Arc<str>>,
}

/// A timer that is not due yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimerRow {
    /// Whose.
    pub embot: EmbotId,
    /// When it is due.
    pub due: Timestamp,
    /// The name the script gave. Setting a name again replaces the timer.
    pub name: Arc<str>,
    /// What the script attached.
    pub content: Value,
}

/// One version of a module, as it was deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleVersion {
    /// The manifest's file name.
    pub file: Arc<str>,
    /// The manifest.
    pub manifest: Arc<str>,
    /// Its policies: file name and text.
    pub policies: Vec<(Arc<str>, Arc<str>)>,
    /// When it was loaded.
    pub loaded_at: Timestamp,
    /// By whom.
    pub by: Arc<str>,
}

/// What is kept of a module that came with guests, beside its own row: it stands for those guests and for no others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MobileRow {
    /// The package it came in.
    pub package: ContentHash,
    /// The guests that brought it, with what was granted to each. When the last of them is gone, so is the module.
    pub guests: BTreeMap<VmId, Grant>,
}

/// A module's row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleRow {
    /// The mode an admin set; `None`: as the manifest says.
    pub mode: Option<Mode>,
    /// The versions, the one in force last; at most ten. None: an admin unloaded it.
    pub versions: Vec<ModuleVersion>,
    /// What the folder of modules said last. Where an admin has done otherwise since, that stands until the file changes.
    pub declared: Option<Declared>,
}

/// What a file in the folder of modules held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declared {
    /// The manifest's file name.
    pub file: Arc<str>,
    /// The address of the manifest and its policies together.
    pub digest: ContentHash,
}

/// One row that changed; without a value it is removed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Change {
    /// The plane's own row.
    Plane(PlaneRow),
    /// A host as last known.
    Host(HostId, Option<Box<Host>>),
    /// A guest as last known.
    Vm(VmId, Option<Box<Vm>>),
    /// An embot's state.
    Embot(EmbotId, Option<EmbotRow>),
    /// A timer, by its number.
    Timer(u64, Option<TimerRow>),
    /// A fact accepted and not yet handled, by its number.
    Pending(u64, Option<Box<Event>>),
    /// An action, open or ended.
    Action(ActionId, Option<Box<Action>>),
    /// A module.
    Module(Arc<str>, Option<ModuleRow>),
    /// Usage history of an element at a checkpoint, in its own versioned form.
    Usage(ElementId, Option<Vec<u8>>),
    /// A migration between planes, open or ended.
    Migration(MigrationId, Option<Box<MigrationRow>>),
    /// Where a guest went.
    Tombstone(VmId, Option<Tombstone>),
    /// A module that came with guests.
    Mobile(Arc<str>, Option<MobileRow>),
    /// A piece of a package, at its address.
    Content(ContentHash, Option<Bytes>),
    /// The next entry of the audit.
    Audit(Box<AuditEntry>),
    /// That the store was made from a backup.
    Restored(Restored),
    /// A guest whose mark was not read since then.
    Unconfirmed(VmId, Option<Unconfirmed>),
}

/// Something decided or noticed in a batch, for the journal and for those who follow it live.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "record")]
pub enum Record {
    /// A fact was taken in. (Samples are not recorded one by one: the inputs tell them.)
    Event {
        /// The event.
        event: Event,
    },
    /// A proposal was accepted.
    Planned {
        /// What is to be done.
        action: Action,
    },
    /// A proposal was refused.
    Refused {
        /// The refusal's number; rises by one.
        number: u64,
        /// What, and why.
        refusal: Refusal,
    },
    /// An action came to another state.
    Action {
        /// Which.
        action: ActionId,
        /// What the effector said.
        update: ActionUpdate,
    },
    /// An admin's answer to an advised action, or that it is taken back; its expiry, its withdrawal, or a cancel.
    Settled {
        /// Which.
        action: ActionId,
        /// `approved`, `rejected`, `lifted`, `expired`, `withdrawn`, `cancelling`.
        how: Arc<str>,
        /// Who; where it was withdrawn, why.
        by: Arc<str>,
        /// Why, where an admin said so.
        reason: Option<Arc<str>>,
    },
    /// A policy failed within a step; its state is as before the step.
    Fault {
        /// Which embot.
        embot: EmbotId,
        /// The error, with file, line and column.
        error: String,
        /// Was it the wall-clock deadline? (Replay needs to know.)
        deadline: bool,
        /// Is the embot suspended now?
        suspended: bool,
    },
    /// A script wrote to the log.
    Log {
        /// Which embot.
        embot: EmbotId,
        /// What.
        text: String,
    },
    /// The plane has something to tell admins.
    Notice {
        /// How loud.
        level: Level,
        /// What.
        text: String,
    },
}

/// One transaction.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Batch {
    /// Its number; rises by one.
    pub seq: u64,
    /// The `now` of every step in it.
    pub now: Timestamp,
    /// What was consumed, in order.
    pub inputs: Vec<Input>,
    /// What came of it, in order.
    pub records: Vec<Record>,
    /// Rows that changed; later ones win.
    pub changes: Vec<Change>,
    /// Must it be durable before its outputs leave? (A batch of samples that led to nothing need not.)
    pub durable: bool,
}
