//! The plane that hands a guest over.
//!
//! ```text
//!  Offering -> Stating -> Queueing -> Marking -> Moving -> LastRound -> HandingOver -> Retiring -> Retired
//!     |           |          |           |         |  ^        ^             ^
//!     |           |          |           |         v  | again  | gone        | committed
//!     |           |          |           |       Looking ------+             |
//!     |           |          |           |         |                         |
//!     |           |          |           |         +--> Asking (is it yours?)+   undecided before, or nobody knows who ran it
//!     |           |          |           v         v      |
//!     |           |          |         Reclaiming <-------+  Aborted: it never will be
//!     |           v          v           |
//!     |         (released) TellingPeer <-+
//!     v                        |
//!   Ended <--------------------+
//! ```
//! Up to *moved* (the guest is gone here) it can be given up, by a cancel, a time-out, a refusal or a failure; from there on
//! only forward. See the module's page for how a manager drives it.

use super::message::{Digest, Message, Offer, Payload, Round};
use super::{Answer, Ending, JobProgress, MigrationId, Order, Reason, Resolution, Timing};
use crate::model::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What reaches the source's machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Input {
    /// The planner accepted it: begin. The first input, given once.
    Begin,
    /// The peer says something.
    Message(Message),
    /// The link to the peer is up (again).
    LinkUp,
    /// Time has passed.
    Tick,
    /// The plane was restarted.
    Restarted,
    /// An order was answered: its number, and how.
    Answer(u32, Answer),
    /// The hypervisor's job goes on.
    Progress(JobProgress),
    /// Somebody wants it to end; who, and why.
    Cancel(Reason),
    /// An admin decides what cannot be known.
    Resolve(Resolution),
    /// Answer to [`Effect::Capture`], in the same turn. `None`: nothing has changed (only for [`What::Dirty`] but the last).
    Captured(What, Option<Payload>),
    /// A state that cannot be captured, or is too large: answer to [`Effect::Capture`], in the same turn.
    NotCaptured(What, Reason),
    /// Answer to [`Effect::Pack`], in the same turn.
    Packed(Result<Payload, Reason>),
    /// Facts of the guest came in after it was handed over: they are on hold and go to the target.
    LateFacts,
}

/// What is captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum What {
    /// Elements, embots, their state, usage history. Dirty marks start anew.
    State,
    /// The facts on hold. (They stay on hold, too, in case of an abort.)
    Events,
    /// What has changed since the capture before, and the facts on hold since.
    Dirty {
        /// The number of the round, from 1.
        round: u32,
        /// Is it the last?
        last: bool,
    },
    /// Facts on hold since the capture before; the number of the lot, from 1.
    Late(u32),
}

/// What the source's machine wants.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Effect {
    // Leave the plane, when the batch is durable.
    /// Say this to the peer, if the link is up.
    Send(Message),
    /// Have the hypervisor do this; its number goes with the answer.
    Order(u32, Order),
    /// Tell admins at once.
    Alarm(Arc<str>),
    // Local, in the same batch.
    /// Dispatch to the guest, its dependents and their embots stops; facts wait.
    Hold,
    /// The guest is managed on: facts on hold go back into the queue, all of them.
    Release {
        /// Its epoch from now on.
        epoch: u64,
    },
    /// Answer with `Captured`.
    Capture(What),
    /// Answer with `Packed`: these modules.
    Pack(BTreeSet<Digest>),
    /// The guest has left: its embots are retired, facts that were captured are dropped (the target has them), the hold stays for
    /// late ones, and a tombstone says where it went.
    Retire {
        /// The owner's epoch.
        epoch: u64,
    },
    /// The target has this lot of late facts and all before: drop them here.
    Forget(u32),
    /// The action that asked for all this is over. Once.
    End(Ending),
}

/// Where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// The offer is out; nothing is held.
    Offering,
    /// The guest is on hold; its management state is out.
    Stating,
    /// The facts on hold are out.
    Queueing,
    /// The target's mark is being written.
    Marking,
    /// The hypervisor works, or did; dirty rounds go out.
    Moving,
    /// The guest is gone here; the last dirty round is out.
    LastRound,
    /// `Complete` is out.
    HandingOver,
    /// The target owns it; what is left here goes.
    Retiring,
    /// Over: the target owns it. Late facts are still sent on.
    Retired,
    /// It must be given up, but whether the target already has it only the target knows.
    Asking,
    /// The source's mark is being written, and the guest runs on.
    Reclaiming,
    /// It is managed on here; the target must hear of it.
    TellingPeer,
    /// Over: the source owns it.
    Ended,
}

/// A migration as its source has it: the row.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Source {
    /// Which migration.
    pub id: MigrationId,
    /// What is offered, with the epoch.
    pub offer: Box<Offer>,
    /// How long things may take.
    pub timing: Timing,
    /// Where it stands.
    pub phase: Phase,
    /// Since when.
    pub since: Timestamp,
    /// How far the hypervisor's job is.
    pub progress: JobProgress,
    /// Dirty rounds that the target has.
    pub rounds: u32,
    /// Why it is given up, where it is.
    pub reason: Option<Reason>,
    /// Why only an admin can decide at the moment, where it is so.
    pub undecided: Option<Reason>,
    /// A round that is out and not accepted.
    flight: Option<Round>,
    /// The number of the last order.
    orders: u32,
}

impl Source {
    /// A new migration. Give it [`Input::Begin`].
    pub fn new(id: MigrationId, offer: Offer, timing: Timing, now: Timestamp) -> Source {
        Source {
            id,
            offer: Box::new(offer),
            timing,
            phase: Phase::Offering,
            since: now,
            progress: JobProgress::default(),
            rounds: 0,
            reason: None,
            undecided: None,
            flight: None,
            orders: 0,
        }
    }

    /// Takes one input.
    pub fn step(&mut self, input: Input, now: Timestamp) -> Vec<Effect> {
        let _ = (input, now);
        Vec::new()
    }

    /// When it wants a [`Input::Tick`] at the latest.
    pub fn wake_at(&self) -> Option<Timestamp> {
        None
    }

    /// Can it still be cancelled?
    pub fn is_cancellable(&self) -> bool {
        matches!(self.phase, Phase::Offering | Phase::Stating | Phase::Queueing | Phase::Marking | Phase::Moving)
    }

    /// Is dispatch to the guest on hold?
    pub fn holds(&self) -> bool {
        !matches!(self.phase, Phase::Offering | Phase::TellingPeer | Phase::Ended)
    }

    /// Does the source's plane still own the guest, as far as it knows?
    pub fn owns(&self) -> bool {
        !matches!(self.phase, Phase::Retiring | Phase::Retired)
    }

    /// Is nothing left to do? (A retired one still answers, and sends late facts on.)
    pub fn is_final(&self) -> bool {
        matches!(self.phase, Phase::Retired | Phase::Ended)
    }
}

/// The answer to a message about a migration that this plane has no record of, if there is one to give.
pub fn unknown(message: &Message) -> Option<Message> {
    use super::message::Record;
    let asks = !matches!(message, Message::Status(_) | Message::Aborted(_) | Message::Denied(_));
    asks.then_some(Message::Status(Record::Unknown))
}
