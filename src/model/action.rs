//! From wish to deed: proposal, plan, action.
//!
//! ```text
//!                     +-> refused (reason)
//! proposal -> planner-+-> Advised --approve--> Planned --dispatch--> Started --> Done
//!                     |      |                    ^                     |  +---> Failed (reason)
//!                     |      +-> Rejected/Expired |                     +------> Cancelled
//!                     |      +-> Withdrawn        |
//!                     +---------------------------+
//! ```
//! `Planned` is durable before an effector hears of it; the end states are final.

use super::element::{ElementId, EmbotId, HostId, VmId};
use super::event::Event;
use super::time::{Span, Timestamp};
use super::value::Value;
use super::vm::{Mode, VmState};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// An action's number; rises by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ActionId(pub u64);

/// What a module may be permitted to do: one word for each kind of action, and `admit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Start a guest that is off.
    Start,
    /// Ask a guest to shut down; force it after a time.
    Shutdown,
    /// Switch a guest off at once.
    Destroy,
    /// Reset a guest, as by its button.
    Reset,
    /// Stop a guest's processors.
    Suspend,
    /// Let a paused guest run on.
    Resume,
    /// Save a guest's memory to disk and stop it.
    Save,
    /// Start a saved guest where it stopped.
    Restore,
    /// Move a guest to another host.
    Migrate,
    /// Change a guest's processors.
    SetVcpus,
    /// Change the most memory a guest may use.
    SetMemory,
    /// Change the memory a guest holds at present.
    Balloon,
    /// Define a guest.
    Define,
    /// Remove a guest's definition.
    Undefine,
    /// Put the plane's mark on a guest.
    Adopt,
    /// Tell admins.
    Notify,
    /// Hand a guest over to another plane.
    Handover,
    /// Let a guest of another plane in. No action: it is what `on_migration_offer` needs to accept.
    Admit,
}

impl Verb {
    /// All verbs, with their names in manifests and what they mean.
    pub const ALL: &'static [(Verb, &'static str, &'static str)] = &[
        (Verb::Start, "start", "start a guest that is off"),
        (Verb::Shutdown, "shutdown", "ask a guest to shut down, force it after a time"),
        (Verb::Destroy, "destroy", "switch a guest off at once"),
        (Verb::Reset, "reset", "reset a guest, as by its button"),
        (Verb::Suspend, "suspend", "stop a guest's processors"),
        (Verb::Resume, "resume", "let a paused guest run on"),
        (Verb::Save, "save", "save a guest's memory to disk and stop it"),
        (Verb::Restore, "restore", "start a saved guest where it stopped"),
        (Verb::Migrate, "migrate", "move a guest to another host"),
        (Verb::SetVcpus, "set_vcpus", "change a guest's processors"),
        (Verb::SetMemory, "set_memory", "change the most memory a guest may use"),
        (Verb::Balloon, "balloon", "change the memory a guest holds at present"),
        (Verb::Define, "define", "define a guest"),
        (Verb::Undefine, "undefine", "remove a guest's definition"),
        (Verb::Adopt, "adopt", "put the plane's mark on a guest"),
        (Verb::Notify, "notify", "tell admins"),
        (Verb::Handover, "handover", "hand a guest over to another plane, with its management"),
        (Verb::Admit, "admit", "let a guest of another plane in, with its management"),
    ];

    /// Its name in manifests.
    pub fn name(self) -> &'static str {
        Verb::ALL.iter().find(|(verb, ..)| *verb == self).map_or("?", |(_, name, _)| name)
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Verb {
    type Err = String;

    fn from_str(text: &str) -> Result<Verb, String> {
        let known = Verb::ALL.iter().find(|(_, name, _)| *name == text).map(|(verb, ..)| *verb);
        known.ok_or_else(|| format!("`{text}` is no action"))
    }
}

/// How loud a notification is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Good to know.
    Info,
    /// Somebody should look.
    Warning,
    /// Somebody must look now.
    Alarm,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionKind {
    /// Start it where it is defined.
    Start {
        /// Whom.
        vm: VmId,
    },
    /// Ask it to shut down.
    Shutdown {
        /// Whom.
        vm: VmId,
        /// After this time it is switched off; `None`: never.
        force_after: Option<Span>,
    },
    /// Switch it off.
    Destroy {
        /// Whom.
        vm: VmId,
    },
    /// Reset it.
    Reset {
        /// Whom.
        vm: VmId,
    },
    /// Pause it.
    Suspend {
        /// Whom.
        vm: VmId,
    },
    /// Let it run on.
    Resume {
        /// Whom.
        vm: VmId,
    },
    /// Save it to disk.
    Save {
        /// Whom.
        vm: VmId,
    },
    /// Start it from what was saved.
    Restore {
        /// Whom.
        vm: VmId,
    },
    /// Move it to another host of the plane.
    Migrate {
        /// Whom.
        vm: VmId,
        /// Where to; `None`: the planner chooses.
        to: Option<HostId>,
        /// While it runs (else it must be off).
        live: bool,
    },
    /// Change its processors.
    SetVcpus {
        /// Whom.
        vm: VmId,
        /// To how many.
        vcpus: u32,
    },
    /// Change the most memory it may use.
    SetMemory {
        /// Whom.
        vm: VmId,
        /// To how much, in MiB.
        memory_mib: u64,
    },
    /// Change the memory it holds.
    Balloon {
        /// Whom.
        vm: VmId,
        /// To how much, in MiB.
        memory_mib: u64,
    },
    /// Define a guest on a host.
    Define {
        /// Whom.
        vm: VmId,
        /// Where.
        host: HostId,
        /// Its domain XML.
        xml: Arc<str>,
    },
    /// Remove its definition.
    Undefine {
        /// Whom.
        vm: VmId,
    },
    /// Write the plane's mark into its metadata.
    Adopt {
        /// Whom.
        vm: VmId,
    },
    /// Tell admins.
    Notify {
        /// How loud.
        level: Level,
        /// What.
        text: Arc<str>,
    },
    /// Hand it over to another plane, with its management.
    Handover {
        /// Whom.
        vm: VmId,
        /// To which plane.
        plane: Arc<str>,
        /// To which of its hosts; `None`: it chooses.
        host: Option<HostId>,
        /// While it runs (else it is shut down first, and started again by whoever has it in the end).
        live: bool,
        /// Not live: it is switched off where it has not shut down after this time; `None`: never.
        force_after: Option<Span>,
    },
}

impl ActionKind {
    /// The permit it needs.
    pub fn verb(&self) -> Verb {
        match self {
            ActionKind::Start { .. } => Verb::Start,
            ActionKind::Shutdown { .. } => Verb::Shutdown,
            ActionKind::Destroy { .. } => Verb::Destroy,
            ActionKind::Reset { .. } => Verb::Reset,
            ActionKind::Suspend { .. } => Verb::Suspend,
            ActionKind::Resume { .. } => Verb::Resume,
            ActionKind::Save { .. } => Verb::Save,
            ActionKind::Restore { .. } => Verb::Restore,
            ActionKind::Migrate { .. } => Verb::Migrate,
            ActionKind::SetVcpus { .. } => Verb::SetVcpus,
            ActionKind::SetMemory { .. } => Verb::SetMemory,
            ActionKind::Balloon { .. } => Verb::Balloon,
            ActionKind::Define { .. } => Verb::Define,
            ActionKind::Undefine { .. } => Verb::Undefine,
            ActionKind::Adopt { .. } => Verb::Adopt,
            ActionKind::Notify { .. } => Verb::Notify,
            ActionKind::Handover { .. } => Verb::Handover,
        }
    }

    /// The guest it acts on; `None` for a notification.
    pub fn vm(&self) -> Option<VmId> {
        match self {
            ActionKind::Start { vm }
            | ActionKind::Shutdown { vm, .. }
            | ActionKind::Destroy { vm }
            | ActionKind::Reset { vm }
            | ActionKind::Suspend { vm }
            | ActionKind::Resume { vm }
            | ActionKind::Save { vm }
            | ActionKind::Restore { vm }
            | ActionKind::Migrate { vm, .. }
            | ActionKind::SetVcpus { vm, .. }
            | ActionKind::SetMemory { vm, .. }
            | ActionKind::Balloon { vm, .. }
            | ActionKind::Define { vm, .. }
            | ActionKind::Undefine { vm }
            | ActionKind::Adopt { vm }
            | ActionKind::Handover { vm, .. } => Some(*vm),
            ActionKind::Notify { .. } => None,
        }
    }

    /// Does a wish for this ask for what an action does? Where it leaves the target to the planner, any will do.
    pub fn asks_for(&self, known: &ActionKind) -> bool {
        match (self, known) {
            (ActionKind::Migrate { vm, to: None, live }, ActionKind::Migrate { vm: other, live: as_live, .. }) => {
                vm == other && live == as_live
            }
            _ => self == known,
        }
    }

    /// The host of this plane it takes the guest to.
    pub fn destination(&self) -> Option<&HostId> {
        match self {
            ActionKind::Migrate { to, .. } => to.as_ref(),
            ActionKind::Define { host, .. } => Some(host),
            _ => None,
        }
    }
}

/// A place in a policy script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The script's file.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
}

/// A value a step read before it proposed something.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Read {
    /// Whose.
    pub element: ElementId,
    /// What: `cpu`, `usage(cpu).mean(10m)`.
    pub what: Cow<'static, str>,
    /// What it was.
    pub value: Value,
}

/// Something an embot, or an admin, wants done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proposal {
    /// Who wants it; `None`: an admin.
    pub embot: Option<EmbotId>,
    /// The admin's name, where it was one.
    pub admin: Option<Arc<str>>,
    /// What.
    pub kind: ActionKind,
    /// Why, in the words of the script or the admin.
    pub reason: Arc<str>,
    /// Where in the script.
    pub place: Option<Place>,
    /// The event that led here.
    pub cause: Option<Arc<Event>>,
    /// The values the step had read.
    pub reads: Arc<[Read]>,
}

/// A proposal that was turned down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    /// What was wanted.
    pub proposal: Proposal,
    /// The guardrail that refused, in one stable word (`cooldown`, `permit`, `capacity`, ...), for counting.
    pub guardrail: Cow<'static, str>,
    /// Why, for an admin: what was measured, what the limit is, what to change.
    pub reason: String,
}

/// What comes of a step's, or a batch's, proposals.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Plan {
    /// To be carried out (or approved first), in this order.
    pub accepted: Vec<Action>,
    /// Turned down, each with its reason.
    pub refused: Vec<Refusal>,
    /// Advice that waits already and was given again, with the words of this time.
    pub refreshed: Vec<(ActionId, Proposal)>,
}

/// Where an action stands. See the diagram above.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionState {
    /// Waits for an admin until then.
    Advised {
        /// When the advice expires.
        until: Timestamp,
    },
    /// To be carried out.
    Planned,
    /// An effector works on it.
    Started,
    /// Done.
    Done,
    /// It failed.
    Failed {
        /// Why, and what was undone.
        reason: Arc<str>,
    },
    /// An admin, the kill switch or a shutdown ended it.
    Cancelled {
        /// Who or what.
        by: Arc<str>,
    },
    /// An admin said no.
    Rejected {
        /// Who.
        by: Arc<str>,
        /// Why, where it was said.
        reason: Option<Arc<str>>,
        /// Its module may advise the same for its guest again from here on.
        until: Timestamp,
    },
    /// Nobody answered in time.
    Expired,
    /// It is no longer advised: superseded, or the ground it stood on is gone.
    Withdrawn {
        /// Why.
        why: Arc<str>,
    },
}

impl ActionState {
    /// Is it over?
    pub fn is_final(&self) -> bool {
        !matches!(self, ActionState::Advised { .. } | ActionState::Planned | ActionState::Started)
    }

    /// Is it being, or about to be, carried out?
    pub fn is_open(&self) -> bool {
        matches!(self, ActionState::Planned | ActionState::Started)
    }

    /// One word for tables.
    pub fn word(&self) -> &'static str {
        match self {
            ActionState::Advised { .. } => "advised",
            ActionState::Planned => "planned",
            ActionState::Started => "started",
            ActionState::Done => "done",
            ActionState::Failed { .. } => "failed",
            ActionState::Cancelled { .. } => "cancelled",
            ActionState::Rejected { .. } => "rejected",
            ActionState::Expired => "expired",
            ActionState::Withdrawn { .. } => "withdrawn",
        }
    }
}

/// How far a long action is.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Bytes moved.
    pub done_bytes: u64,
    /// Bytes to move in all, as known now.
    pub total_bytes: u64,
}

/// An accepted proposal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Action {
    /// Its number.
    pub id: ActionId,
    /// What was proposed, by whom and why. `kind` names the destination the planner settled on.
    pub proposal: Proposal,
    /// The host whose effector carries it out; `None` for a notification.
    pub host: Option<HostId>,
    /// The guest's state when it was decided: a precondition that is checked again at the moment of acting.
    pub expects: Option<VmState>,
    /// The epoch it was decided under.
    pub epoch: u64,
    /// The mode it was decided under (advise: an admin approves).
    pub mode: Mode,
    /// When it was decided.
    pub decided_at: Timestamp,
    /// Where it stands.
    pub state: ActionState,
    /// When it came to that.
    pub state_at: Timestamp,
    /// How far it is.
    pub progress: Option<Progress>,
    /// Who approved it.
    pub approved_by: Option<Arc<str>>,
    /// What the planner weighed: checks passed, the gain and the cost, the hosts compared. One line each.
    pub weighed: Vec<String>,
    /// What the same step wanted and did not get.
    pub refused: Vec<Refusal>,
    /// Who wants it ended while it is open. Stands until it is over, a restart included.
    pub cancelling: Option<Arc<str>>,
}

/// What an effector says of an action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ActionUpdate {
    /// It works on it now.
    Started,
    /// How far it is.
    Progress(Progress),
    /// It is done.
    Done,
    /// It failed: why, and what was undone.
    Failed(Arc<str>),
    /// It was cancelled on request; what was undone.
    Cancelled(Arc<str>),
}

impl fmt::Display for ActionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}
