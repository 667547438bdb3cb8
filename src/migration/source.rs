//! The plane that hands a guest over.
//!
//! ```text
//!  Offering -> Stating -> Queueing -> Marking -> Moving -> LastRound -> HandingOver -> Retiring -> Retired
//!     |           |          |           |         |  ^        ^             ^
//!     |           |          |           |         v  | again  | gone        | committed
//!     |           |          |           |      (a look) ----+             |
//!     |           |          |           |         |         | it runs there |
//!     |           |          |           |         +----> Asking ------------+   what only the target knows
//!     |           |          |           v         v         |
//!     |           |          |         Reclaiming <----------+ it is on record there as given up
//!     |           v          v            |
//!     +-----> TellingPeer <---------------+   (managed on here)
//!     v           v
//!   Ended <-------+
//! ```
//! (Retiring also follows any phase in which the target turns out to own the guest: an admin said so there.)
//!
//! Up to *moved* (live: the guest is gone here; cold: its files are there) it can be given up, by a cancel, a time-out, a refusal or a failure; from there on
//! only forward. See the module's page for how a manager drives it.

mod guest;
mod peer;
mod step;
#[cfg(test)]
mod tests;

use super::message::{Digest, Grants, Message, Offer, Payload, Record};
use super::{Answer, Ending, JobProgress, MigrationId, Order, Reason, Resolution, Timing};
use crate::model::{Span, Timestamp};
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
    /// Answer to [`Effect::Start`], in the same turn: that it is off has nothing to do with the handover.
    NotOwed,
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
    /// The guest has left, or an admin gave it away after it was released: its embots are retired, facts that the target has are dropped, the hold stays for those it has
    /// not, which are late, and a tombstone says where it went.
    Retire {
        /// The owner's epoch.
        epoch: u64,
        /// Facts of the events and of the dirty rounds up to this one are with the target.
        rounds: u32,
    },
    /// The target has this lot of late facts and all before: drop them here.
    Forget(u32),
    /// The action that asked for all this is over. Once.
    End(Ending),
    /// A guest that was given up after it had been asked to shut down is off now: start it. Wanted again until a look finds it
    /// running. Answer with `NotOwed` where somebody of this plane wanted it off since.
    Start,
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

/// What is known of the hypervisor's job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum JobState {
    /// None was started.
    None,
    /// The order with this number is under way.
    Ordered(u32),
    /// It was under way when the plane died: nobody will tell of its end. So many looks in a row have found no job.
    Adopted(u8),
    /// It is over.
    Over,
    /// It is over, and a cold guest's files have arrived.
    Copied,
}

/// How it is with facts that came in after the guest was handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Late {
    /// There are none, or all are out.
    Out,
    /// Some are not out yet.
    Waiting,
    /// The target takes no more: they stay here, on hold.
    Refused,
}

/// A migration as its source has it: the row.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Source {
    /// Which migration.
    pub id: MigrationId,
    /// What is offered, with the epoch.
    pub offer: Box<Offer>,
    /// What the target grants.
    pub grants: Option<Box<Grants>>,
    /// How long things may take.
    pub timing: Timing,
    /// Cold: a guest that has not shut down after this time is switched off; `None`: never.
    pub force_after: Option<Span>,
    /// Where it stands.
    pub phase: Phase,
    /// The source's epoch, at present or once it is given up.
    pub epoch: u64,
    /// How far the hypervisor's job is.
    pub progress: JobProgress,
    /// Dirty rounds that the target has.
    pub rounds: u32,
    /// Lots of late facts that the target has.
    pub lots: u32,
    /// Why it is given up, where it is.
    pub reason: Option<Reason>,
    /// Why only an admin can decide at the moment, where it is so.
    pub undecided: Option<Reason>,
    /// The instants that matter to it.
    pub times: Times,
    /// State, events, a round or late facts that are out and not accepted.
    out: Option<Message>,
    /// The number of the last order.
    orders: u32,
    /// The order that will be answered, if any; the job is apart.
    waiting: Option<u32>,
    job: JobState,
    /// Why the hypervisor's job failed, where it told.
    failure: Option<Reason>,
    /// It was undecided while the guest moved: an admin may have given it to the target.
    asks_first: bool,
    /// Does the target know that it is given up? What was said may not have arrived.
    told: bool,
    /// Has the target it on record that it is given up?
    agreed: bool,
    /// Was it alarmed about in this phase?
    alarmed: bool,
    /// Whose the guest is by an admin's word, if there was one.
    forced: Option<super::Side>,
    /// Has the action been told how it ended?
    ended: bool,
    /// Is nothing left of the guest here, verified after the commit?
    removed: bool,
    late: Late,
    /// The guest was asked to shut down, and still ran when it was given up. What was asked of a guest cannot be taken back: if
    /// it goes off all the same before this time, it is started again.
    pub start_owed: Option<Timestamp>,
}

/// The instants that matter to a source's machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Times {
    /// When the phase began.
    pub since: Timestamp,
    /// When the phase takes too long.
    pub step_by: Timestamp,
    /// When all takes too long.
    pub whole_by: Timestamp,
    /// When to say, order or look again.
    pub again_at: Option<Timestamp>,
    /// When the next dirty round is due.
    pub round_at: Option<Timestamp>,
    /// Since when the host does not answer.
    pub away_since: Option<Timestamp>,
}

impl Source {
    /// A new migration. Give it [`Input::Begin`].
    pub fn new(id: MigrationId, offer: Offer, timing: Timing, now: Timestamp) -> Source {
        Source {
            id,
            epoch: offer.epoch,
            offer: Box::new(offer),
            grants: None,
            timing,
            force_after: None,
            phase: Phase::Offering,
            progress: JobProgress::default(),
            rounds: 0,
            lots: 0,
            reason: None,
            undecided: None,
            times: Times { since: now, step_by: now + timing.step, whole_by: now + timing.whole, ..Times::default() },
            out: None,
            orders: 0,
            waiting: None,
            job: JobState::None,
            failure: None,
            asks_first: false,
            told: false,
            agreed: false,
            alarmed: false,
            forced: None,
            ended: false,
            removed: false,
            late: Late::Out,
            start_owed: None,
        }
    }

    /// Takes one input.
    pub fn step(&mut self, input: Input, now: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.take(input, now, &mut effects);
        effects
    }

    /// When it wants an [`Input::Tick`] at the latest.
    pub fn wake_at(&self) -> Option<Timestamp> {
        let times = &self.times;
        let step = self.has_step_limit().then_some(times.step_by);
        let whole = (self.is_cancellable() && self.reason.is_none()).then_some(times.whole_by);
        [step, whole, times.again_at, times.round_at].into_iter().flatten().min()
    }

    /// Can it still be cancelled?
    pub fn is_cancellable(&self) -> bool {
        matches!(self.phase, Phase::Offering | Phase::Stating | Phase::Queueing | Phase::Marking | Phase::Moving)
    }

    /// Is dispatch to the guest on hold? (After the commit for good, so that what comes is sent on.)
    pub fn holds(&self) -> bool {
        !matches!(self.phase, Phase::Offering | Phase::TellingPeer | Phase::Ended)
    }

    /// Does the source's plane still own the guest, as far as it knows?
    pub fn owns(&self) -> bool {
        !matches!(self.phase, Phase::Retiring | Phase::Retired)
    }

    /// Must it hear of facts that come now? Not where some wait already, nor where the target takes no more.
    pub fn takes_late(&self) -> bool {
        self.late == Late::Out
    }

    /// Has the target not yet taken all that it will take of what came late?
    pub fn owes_late(&self) -> bool {
        !self.owns() && self.late != Late::Refused && (self.late == Late::Waiting || self.out.is_some())
    }

    /// Does the job shut the guest down, so that its owner must start it again?
    fn stops(&self) -> bool {
        self.offer.stops() && !matches!(self.job, JobState::None)
    }

    /// Is nothing left to do? (A retired one still answers, and sends late facts on.)
    pub fn is_final(&self) -> bool {
        matches!(self.phase, Phase::Retired | Phase::Ended) && self.out.is_none() && self.start_owed.is_none()
    }

    /// Counts instants from `now` and orders from 0, and forgets how long ago what is past was: two states that differ in
    /// nothing else become equal. For explorers of all states. Returns what was the number of the last order.
    #[doc(hidden)]
    pub fn rebase(&mut self, now: Timestamp) -> u32 {
        if !self.has_step_limit() {
            self.times.step_by = now;
        }
        if !self.is_cancellable() || self.reason.is_some() {
            self.times.whole_by = now;
        }
        let Times { since, step_by, whole_by, again_at, round_at, away_since } = &mut self.times;
        *since = Timestamp(0);
        let all = [Some(step_by), Some(whole_by), again_at.as_mut(), round_at.as_mut(), self.start_owed.as_mut()];
        for at in all.into_iter().flatten() {
            at.0 = (at.0 - now.0).max(0);
        }
        if let Some(since) = away_since {
            since.0 = (since.0 - now.0).max(-(self.timing.patience.0 as i64));
        }
        let orders = std::mem::take(&mut self.orders);
        self.waiting = self.waiting.map(|number| number.wrapping_sub(orders));
        if let JobState::Ordered(number) = &mut self.job {
            *number = number.wrapping_sub(orders);
        }
        orders
    }

    /// What its record says, for the peer.
    pub fn record(&self) -> Record {
        match (&self.phase, &self.reason, &self.undecided) {
            (Phase::Retiring | Phase::Retired, ..) => Record::Retired,
            (Phase::TellingPeer | Phase::Ended, Some(reason), _) => Record::Aborted(reason.clone()),
            (_, _, Some(reason)) => Record::Undecided(reason.clone()),
            (phase, ..) => Record::Underway(phase.name().into()),
        }
    }
}

impl Phase {
    /// Its name: one stable word.
    pub fn name(&self) -> &'static str {
        match self {
            Phase::Offering => "offering",
            Phase::Stating => "stating",
            Phase::Queueing => "queueing",
            Phase::Marking => "marking",
            Phase::Moving => "moving",
            Phase::LastRound => "last_round",
            Phase::HandingOver => "handing_over",
            Phase::Retiring => "retiring",
            Phase::Retired => "retired",
            Phase::Asking => "asking",
            Phase::Reclaiming => "reclaiming",
            Phase::TellingPeer => "telling_peer",
            Phase::Ended => "ended",
        }
    }
}

/// The answer to a message about a migration that this plane has no record of, if there is one to give.
pub fn unknown(message: &Message) -> Option<Message> {
    let asks = !matches!(message, Message::Status(_) | Message::Aborted(_) | Message::Denied(_));
    asks.then_some(Message::Status(Record::Unknown))
}
