//! The handover of a guest, with its management, from one plane to another.
//!
//! ```text
//!      source plane                                    target plane
//!  asked, planned                                                            nothing is held yet
//!  Offering      Offer -------------------------------> Considering          a policy decides
//!                ModuleRequest <----------------------- Fetching             what it lacks, as often as it takes
//!                Parcel ------------------------------->
//!                Permitted | Denied <------------------ Permitted            resources are reserved
//!  Stating       State -------------------------------> (import)             dispatch to the guest is on hold here
//!                StateAccepted | StateFailed <--------- Stated
//!  Queueing      Events ------------------------------> (import)
//!                                                       Defining             cold only: the guest is defined there, off
//!                EventsAccepted | EventsFailed <------- Bound                bound: gives up only by the source's word
//!  Marking       the mark of the target, epoch + 1
//!  Moving        the hypervisor's job; Dirty rounds --> (import)             the copy is there, and does not run
//!  LastRound     Dirty { last } ----------------------> (import)             *moved*: from here on only forward
//!  HandingOver   Complete ----------------------------> Committing           looks for the copy
//!                CompleteAck <------------------------- Committed            THE write: the owner is the target now
//!  Retiring      Late --------------------------------> (import)             resumes the guest; source-held, source-late,
//!                LateAck <-----------------------------                      target-sensed facts, in this order
//!  Retired                                              Closed
//! ```
//! *Moved* means: live, that the guest is gone at the source; cold, that it is off there and its files have arrived. (Its
//! definition stays at the source until the commit, sealed.) A cold job shuts the guest down first, where it runs; whoever owns
//! the guest in the end starts it again.
//!
//! [`source::Source`] and [`target::Target`] are pure: `step(input, now) -> effects`. How they sit in a manager:
//!
//! * A machine's state is a row. Each step's new state is written in the same batch as what its *local* effects change, and
//!   the effects that leave the plane ([`source::Effect::Send`], orders, alarms) leave when that batch is durable. So whatever
//!   a peer was told is on record, and a crash loses either a step with all its effects or only the effects.
//! * Effects are carried out in their order. Some are questions to the manager itself (`Capture`, `Import`, ...): their answers
//!   are inputs of the same turn, before anything else is fed to this machine.
//! * There are no timer effects: after each step the manager sees to it that [`source::Source::wake_at`] is followed by an
//!   input `Tick`. A tick too many does no harm.
//! * After a restart each machine that is not final gets `Restarted` once, before any other input. It says again, orders again
//!   and looks again as its phase demands; every receiver takes a repetition for what it is.
//! * Orders to the hypervisor of one guest are carried out one after the other, and each is answered, unless the plane dies
//!   first. Answers carry the order's number; an answer to an older order is dropped by the machine.
//! * Every message may come twice, late, in another order or never.
//!
//! What the two machines guarantee together, by whatever faults: at most one plane owns the guest, and it changes at exactly one
//! write, the target's `Committed`; at most one guest runs; each fact takes effect once; nothing stays on hold once both planes,
//! their hosts and the link are up, except where what the hypervisors did cannot be known. Then both are *undecided*, say so
//! loudly, and wait for an admin's `resolve`. `tests/explorer` shows it exhaustively.

pub mod bundle;
pub mod link;
pub mod message;
pub mod order;
pub mod source;
pub mod target;
#[cfg(test)]
pub mod testing;

pub use crate::model::{MigrationId, Side};

use crate::model::{Mark, Span, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// How the guest itself moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// While it runs.
    #[default]
    Live,
    /// While it is off; one that runs is shut down first, and started again by whoever owns it in the end.
    Cold,
}

/// Who lets the guest run on when it has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum ResumeBy {
    /// It arrives paused; the target's manager resumes it after its commit: whatever breaks, the guest runs once.
    #[default]
    #[serde(rename = "by-manager")]
    Manager,
    /// The hypervisor, at once: a shorter pause. Where the link breaks in the last moment it may run on both hosts, so only where
    /// its disks are locked.
    #[serde(rename = "by-hypervisor")]
    Hypervisor,
}

/// Why something was refused or failed: a sort, for those who react to it, and the words.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reason {
    /// What sort.
    pub kind: ReasonKind,
    /// What failed, on what, and what to do; for admins.
    pub text: Arc<str>,
}

/// Sorts of [`Reason`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasonKind {
    /// The target's policy or a guardrail said no.
    Denied,
    /// A module or an element's type is unknown, unsigned, not trusted or too large.
    Instantiation,
    /// State or events could not be read or did not fit.
    Import,
    /// The hypervisor refused, or its job failed.
    Hypervisor,
    /// Somebody cancelled it.
    Cancelled,
    /// It took too long.
    TimedOut,
    /// The other plane gave it up, does not know it, or contradicts it.
    Peer,
    /// An admin decided.
    Resolved,
}

impl Reason {
    /// A reason of this sort.
    pub fn new(kind: ReasonKind, text: impl Into<Arc<str>>) -> Reason {
        Reason { kind, text: text.into() }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// How long things may take. Durable with the machine, so that a changed configuration concerns new migrations only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Timing {
    /// What was sent and not answered is sent again after this.
    pub again: Span,
    /// An answer that takes longer ends the step: before the move with an abort, after it with an alarm.
    pub step: Span,
    /// All up to the end of the move; then its job is cancelled.
    pub whole: Span,
    /// A host that could not be reached, and a job that was adopted, are looked at again after this.
    pub look: Span,
    /// A target that is bound and has not heard from the source for this long alarms; so does a source whose host is away.
    pub patience: Span,
    /// Between two dirty rounds while the guest moves.
    pub round: Span,
    /// Dirty rounds before the last one, at most.
    pub rounds: u32,
    /// How long facts sensed by the target wait for those that came late to the source.
    pub late: Span,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            again: Span::seconds(2),
            step: Span::seconds(20),
            whole: Span::minutes(30),
            look: Span::seconds(3),
            patience: Span::minutes(1),
            round: Span::seconds(2),
            rounds: 8,
            late: Span::seconds(10),
        }
    }
}

/// What a host says of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Guest {
    /// There is no such domain, neither defined nor running, and no job that could bring it back.
    Gone,
    /// It is there.
    Here {
        /// What it does.
        activity: Activity,
        /// Does a migration job still work on it?
        job: bool,
        /// Who owns it, as its metadata says.
        mark: Option<Mark>,
    },
}

/// What a guest does, as far as a handover cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Activity {
    /// It runs, or somebody but the migration has paused it or put it to sleep.
    Running,
    /// The migration has paused it; its memory is there.
    Paused,
    /// It is defined, and off.
    Off,
}

/// What a machine wants of its own plane's host. Every order may be repeated; each is carried out as if it came once.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Order {
    /// Source: put this mark on the guest, live and persistent. -> `Done`
    Mark(Mark),
    /// Source: move it, as the grants say. -> `JobEnded`, whatever its end, when no job is left
    StartJob(Box<Job>),
    /// Source: end the job, if there is one. Is not answered; the job's own answer comes.
    CancelJob,
    /// Both: what is there? -> `Guest`
    Look,
    /// Source: make the guest ours again: this mark on it, running if the migration has stopped it. -> `Done`
    Reclaim {
        /// The mark to write.
        mark: Mark,
        /// If it is off: start it, because the job has shut it down.
        start: bool,
        /// By an admin's word: where there is no such domain, or its host is the fenced one, define it from the record, without
        /// starting it. (Else: `Failed(Gone)`.)
        redefine: bool,
    },
    /// Source: remove what the move has left of it here, if it carries this or an older mark. Never a running guest.
    /// -> `Done`, also where nothing is left
    Remove(Mark),
    /// Target: define the guest as its offer describes it, off, with this mark: its files are about to come. -> `Done`
    Define(Mark),
    /// Target: let the guest run if it carries this mark and the migration has stopped it. -> `Done`
    Resume {
        /// The mark it must carry, or be given where `force` says so.
        mark: Mark,
        /// If it is off: start it, because it ran before it was to go.
        start: bool,
        /// By an admin's word: write the mark; where there is no copy, or its host is the fenced one, define it from the record,
        /// without starting it.
        force: bool,
    },
    /// Target: remove the copy with this or an older mark; files that have come stay. -> `Done`, also where there is none
    DestroyCopy {
        /// The newest mark it may carry.
        mark: Mark,
        /// Also where it runs. (Else: `Failed(Running)`.)
        running: bool,
    },
}

/// What the source's host is to do.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Job {
    /// How.
    pub way: Way,
    /// Does the guest arrive paused?
    pub resume: ResumeBy,
    /// Cold: where the guest runs, shut it down first.
    pub shut_down: bool,
    /// Cold: switch it off where it has not shut down after this time; `None`: never.
    pub force_after: Option<Span>,
    /// What the target grants.
    pub grants: message::Grants,
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Answer {
    /// It is so.
    Done,
    /// What a look found.
    Guest(Guest),
    /// The job is over. What is so now, a look tells; this says only what the hypervisor said. (That a cold guest's files have
    /// arrived, nobody but the job can tell.)
    JobEnded(Result<(), Reason>),
    /// It is not so.
    Failed(OrderFault, Arc<str>),
}

/// Why an order was not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum OrderFault {
    /// The host does not answer: nothing is known.
    Unreachable,
    /// There is no such guest.
    Gone,
    /// It runs, and must not.
    Running,
    /// It carries a mark that forbids it.
    Marked,
    /// The hypervisor refused or failed.
    Refused,
}

/// How far the hypervisor's job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct JobProgress {
    /// Bytes sent, memory and disks together.
    pub sent_bytes: u64,
    /// Bytes in all, as far as known.
    pub total_bytes: u64,
    /// When this was so.
    pub at: Timestamp,
}

/// An admin's word on a migration that cannot be decided. It outdoes what the planes decide by themselves, so it must be true,
/// and it must not be given where the other plane, or its record, says that it manages the guest already.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Resolution {
    /// Who owns the guest from now on.
    pub owner: Side,
    /// The host that is certain not to run it, and stays so until both planes have spoken again.
    pub fenced: Arc<str>,
    /// Who says so.
    pub by: Arc<str>,
}

/// How a migration ended, or will end.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Ending {
    /// The target owns the guest.
    Done,
    /// The source owns it, as before.
    Failed(Reason),
}

/// The epochs of one migration, from the epoch under which it was offered. A mark that may have been written is never used for
/// another owner, and an admin's word outdoes what the planes decide by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epochs(pub u64);

impl Epochs {
    /// The target's after a commit.
    pub fn committed(self) -> u64 {
        self.0.saturating_add(1)
    }

    /// The source's after an abort that had to take its mark back.
    pub fn reclaimed(self) -> u64 {
        self.0.saturating_add(2)
    }

    /// The target's, where an admin said so.
    pub fn given(self) -> u64 {
        self.0.saturating_add(3)
    }

    /// The source's, where an admin said so.
    pub fn kept(self) -> u64 {
        self.0.saturating_add(4)
    }
}
