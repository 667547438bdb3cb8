//! The plane that takes a guest over.
//!
//! ```text
//!  Considering -> Fetching -> Permitted -> Stated ------------> Bound -> Committing -> Committed -> Closed
//!       |            |            |           | cold: Defining ^ |  ^        |
//!       v            v            v           v           |      |  +--------+  no copy, or its host is away
//!     Denied      Denied       Aborted     Aborted <------+      v
//!                                                            Unmaking -> Aborted     by the source's word only
//! ```
//! Up to *bound* the target may give up by itself (a lease that ran out, an import that failed). Once it has said
//! `EventsAccepted` it may not: the guest can be on its way, and must find somebody. `Committed` is the one write that makes
//! the target the owner. See the module's page for how a manager drives it.

mod guest;
mod import;
mod peer;
mod step;
#[cfg(test)]
mod tests;

use super::message::{Digest, Grants, LateFacts, Message, Offer, Payload, Record, Round};
use super::{Answer, MigrationId, Order, Reason, Resolution, Timing};
use crate::model::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What reaches the target's machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Input {
    /// The peer says something. (The first message of a migration goes to [`Target::first`].)
    Message(Message),
    /// The link to the peer is up (again).
    LinkUp,
    /// Time has passed.
    Tick,
    /// The plane was restarted.
    Restarted,
    /// An order was answered: its number, and how.
    Answer(u32, Answer),
    /// Answer to [`Effect::Consider`], in the same turn.
    Verdict(Verdict),
    /// Answer to [`Effect::Import`], in the same turn.
    Imported(Imported),
    /// Answer to [`Effect::Install`], in the same turn.
    Installed(Imported),
    /// An admin decides what cannot be known.
    Resolve(Resolution),
}

/// What admission says of an offer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Verdict {
    /// Yes, like this. The room is reserved in this very batch.
    Permit {
        /// What is granted.
        grants: Box<Grants>,
        /// Modules that are not here.
        lacks: BTreeSet<Digest>,
    },
    /// No.
    Deny(Reason),
}

/// What became of a payload.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Imported {
    /// It is read and kept.
    Accepted,
    /// It cannot be read before these modules are here.
    Lacks(BTreeSet<Digest>),
    /// It is refused; nothing of it is kept.
    Refused(Reason),
    /// Something else comes first: nothing of it is kept, and it will be sent again.
    NotNow,
}

/// What is imported.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Import {
    /// Elements, embots, their state, usage history.
    State(Payload),
    /// The source's facts on hold. When they are accepted, the policies are bound, and what the target's own hosts say of the guest
    /// is kept back until [`Effect::ReleaseSensed`].
    Events(Payload),
    /// A dirty round.
    Dirty(Round),
    /// Facts that came late to the source. They are dispatched after those before them and before the target's own.
    Late(LateFacts),
}

/// What the target's machine wants.
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
    /// Answer with `Verdict`: may this guest come? A verdict that permits has reserved the room.
    Consider,
    /// Answer with `Imported`: read this and keep it aside. Nothing of it acts before [`Effect::Commit`].
    Import(Import),
    /// Answer with `Installed`: these modules are kept by their hash.
    Install(Payload),
    /// The guest is ours: what was kept aside takes effect, its facts are dispatched, its row carries this epoch.
    Commit {
        /// The epoch.
        epoch: u64,
    },
    /// What the target's own hosts said of the guest is dispatched, after all that came from the source.
    ReleaseSensed,
    /// What was kept aside is dropped. (The room stays reserved until the machine is final: a copy may be there.)
    Discard,
    /// An admin gave the guest back to the source: its embots are retired, a tombstone says where it went.
    Retire {
        /// The owner's epoch.
        epoch: u64,
    },
}

/// Where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// The offer is in; admission thinks.
    Considering,
    /// Modules are asked for; then the offer is permitted.
    Fetching,
    /// Room is reserved; the state is awaited.
    Permitted,
    /// The facts are awaited.
    Stated,
    /// Cold: the facts are in; the guest is being defined here, off.
    Defining,
    /// Everything is here; the guest is awaited, and dirty rounds.
    Bound,
    /// `Complete` is in; is the copy here?
    Committing,
    /// The guest is ours; it is resumed, and late facts are awaited.
    Committed,
    /// Over: the guest is ours. Late facts are still taken.
    Closed,
    /// It is given up once the copy is gone, which must not run.
    Unmaking,
    /// Over: given up.
    Aborted,
    /// Over: refused.
    Denied,
    /// Over: an admin gave it back to the source after the commit.
    Yielded,
}

/// A migration as its target has it: the row.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Target {
    /// Which migration.
    pub id: MigrationId,
    /// What was offered. `None`: the source gave up before its offer arrived.
    pub offer: Option<Box<Offer>>,
    /// What was granted.
    pub grants: Option<Box<Grants>>,
    /// How long things may take.
    pub timing: Timing,
    /// Where it stands.
    pub phase: Phase,
    /// The target's epoch, once it owns the guest.
    pub epoch: Option<u64>,
    /// Dirty rounds that are in.
    pub rounds: u32,
    /// Lots of late facts that are in.
    pub lots: u32,
    /// How often the next lot could not be read.
    refusals: u32,
    /// Why it was given up or refused, where it was.
    pub reason: Option<Reason>,
    /// Why only an admin can decide at the moment, where it is so.
    pub undecided: Option<Reason>,
    /// The instants that matter to it.
    pub times: Times,
    /// Modules that were asked for and are not here.
    lacks: BTreeSet<Digest>,
    /// How often modules were asked for.
    requests: u32,
    /// What waits for them.
    pending: Option<Import>,
    /// Is the last round in?
    last: bool,
    /// The number of the last order.
    orders: u32,
    /// The order that will be answered, if any.
    waiting: Option<u32>,
    /// Is the hypervisor done with what the phase asks of it: is the guest resumed, the copy gone?
    settled: bool,
    /// The copy has run, by the hypervisor: it cannot be given up any more.
    ran: bool,
    /// An admin gave it to the target.
    forced: bool,
    /// Was it alarmed about in this phase?
    alarmed: bool,
}

/// The instants that matter to a target's machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Times {
    /// When the phase began.
    pub since: Timestamp,
    /// When the source was heard last.
    pub heard: Timestamp,
    /// Until when room is reserved; when modules take too long.
    pub lease_by: Option<Timestamp>,
    /// When to ask or order again.
    pub again_at: Option<Timestamp>,
    /// When facts sensed here wait no longer for late ones.
    pub sensed_by: Option<Timestamp>,
    /// Since when the host does not answer.
    pub away_since: Option<Timestamp>,
}

impl Target {
    /// The first message of a migration that there is no record of. `None`: there is nothing to put on record, and
    /// [`super::source::unknown`] says what to answer.
    pub fn first(id: MigrationId, message: Message, timing: Timing, now: Timestamp) -> Option<(Target, Vec<Effect>)> {
        let (offer, phase, reason) = match message {
            Message::Offer(offer) => (Some(offer), Phase::Considering, None),
            Message::Abort { reason, .. } => (None, Phase::Aborted, Some(reason)),
            _ => return None,
        };
        let mut target = Target {
            id,
            offer,
            grants: None,
            timing,
            phase,
            epoch: None,
            rounds: 0,
            lots: 0,
            refusals: 0,
            reason,
            undecided: None,
            times: Times { since: now, heard: now, ..Times::default() },
            lacks: BTreeSet::new(),
            requests: 0,
            pending: None,
            last: false,
            orders: 0,
            waiting: None,
            settled: true,
            ran: false,
            forced: false,
            alarmed: false,
        };
        let mut effects = Vec::new();
        target.begin(now, &mut effects);
        Some((target, effects))
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
        let lost = self.awaits_source().then(|| times.heard + self.timing.patience);
        [times.lease_by, times.again_at, times.sensed_by, lost].into_iter().flatten().min()
    }

    /// Does the target's plane own the guest?
    pub fn owns(&self) -> bool {
        matches!(self.phase, Phase::Committed | Phase::Closed)
    }

    /// Is nothing left to do? (A closed one still answers, and takes late facts.)
    pub fn is_final(&self) -> bool {
        match self.phase {
            Phase::Closed | Phase::Denied => self.pending.is_none(),
            Phase::Aborted | Phase::Yielded => self.settled,
            _ => false,
        }
    }

    /// See [`super::source::Source::rebase`].
    #[doc(hidden)]
    pub fn rebase(&mut self, now: Timestamp) -> u32 {
        let Times { since, heard, lease_by, again_at, sensed_by, away_since } = &mut self.times;
        *since = Timestamp(0);
        for at in [lease_by, again_at, sensed_by].into_iter().flatten() {
            at.0 = (at.0 - now.0).max(0);
        }
        for since in [Some(heard), away_since.as_mut()].into_iter().flatten() {
            since.0 = (since.0 - now.0).max(-(self.timing.patience.0 as i64));
        }
        let orders = std::mem::take(&mut self.orders);
        self.waiting = self.waiting.map(|number| number.wrapping_sub(orders));
        orders
    }

    /// What its record says, for the peer.
    pub fn record(&self) -> Record {
        match (&self.phase, self.epoch, &self.reason) {
            (Phase::Committed | Phase::Closed, Some(epoch), _) => Record::Committed { epoch, rounds: self.rounds },
            (Phase::Aborted | Phase::Denied | Phase::Yielded, _, Some(reason)) => Record::Aborted(reason.clone()),
            (Phase::Bound | Phase::Committing | Phase::Unmaking, ..) => match &self.undecided {
                Some(reason) => Record::Undecided(reason.clone()),
                None => Record::Bound { running: self.ran },
            },
            _ => Record::Open,
        }
    }
}

impl Phase {
    /// Its name: one stable word.
    pub fn name(&self) -> &'static str {
        match self {
            Phase::Considering => "considering",
            Phase::Fetching => "fetching",
            Phase::Permitted => "permitted",
            Phase::Stated => "stated",
            Phase::Defining => "defining",
            Phase::Bound => "bound",
            Phase::Committing => "committing",
            Phase::Committed => "committed",
            Phase::Closed => "closed",
            Phase::Unmaking => "unmaking",
            Phase::Aborted => "aborted",
            Phase::Denied => "denied",
            Phase::Yielded => "yielded",
        }
    }
}
