//! What the source says.

use super::{Effect, Import, Phase, Target};
use crate::migration::message::{LateFacts, Message, Offer, Record, Round};
use crate::migration::{Order, Reason, ReasonKind};
use crate::model::Timestamp;

impl Target {
    pub(super) fn hear(&mut self, message: Message, now: Timestamp, effects: &mut Vec<Effect>) {
        match message {
            Message::Abort { epoch, reason, asks } => return self.abort(epoch, reason, asks, now, effects),
            Message::Inquire => return effects.push(Effect::Send(Message::Status(self.record()))),
            Message::Status(record) => return self.told(record, now, effects),
            _ => {}
        }
        if let Phase::Aborted | Phase::Denied | Phase::Yielded = self.phase {
            let was_denied = self.phase == Phase::Denied && matches!(message, Message::Offer(_));
            let refusal = if was_denied { Message::Denied(self.why()) } else { Message::Aborted(self.why()) };
            return effects.push(Effect::Send(refusal));
        }
        match message {
            Message::Offer(offer) => self.offered_again(&offer, effects),
            Message::Parcel(parcel) if !self.lacks.is_empty() => effects.push(Effect::Install(parcel)),
            Message::State(payload) => match self.phase {
                Phase::Permitted => self.import(Import::State(payload), effects),
                Phase::Considering | Phase::Fetching => {}
                _ => effects.push(Effect::Send(Message::StateAccepted)),
            },
            Message::Events(payload) => match self.phase {
                Phase::Stated => self.import(Import::Events(payload), effects),
                Phase::Considering | Phase::Fetching | Phase::Permitted | Phase::Defining => {}
                _ => effects.push(Effect::Send(Message::EventsAccepted)),
            },
            Message::Dirty(round) => self.hear_round(round, effects),
            Message::Complete { epoch, rounds } => self.complete(epoch, rounds, now, effects),
            Message::Late(late) => self.hear_late(late, effects),
            _ => {}
        }
    }

    /// The same offer once more, or another one under the same name.
    pub(super) fn offered_again(&mut self, offer: &Offer, effects: &mut Vec<Effect>) {
        let is_same = self.offer.as_ref().is_some_and(|known| known.vm == offer.vm && known.epoch == offer.epoch);
        if !is_same {
            let text = format!("migration {} is known with another guest or epoch", self.id);
            return effects.push(Effect::Send(Message::Denied(Reason::new(ReasonKind::Peer, text))));
        }
        match (&self.phase, &self.grants) {
            (Phase::Considering, _) => {}
            (Phase::Fetching, _) => effects.push(Effect::Send(Message::ModuleRequest(self.lacks.clone()))),
            (_, Some(grants)) => effects.push(Effect::Send(Message::Permitted(grants.clone()))),
            (_, None) => {}
        }
    }

    pub(super) fn hear_round(&mut self, round: Round, effects: &mut Vec<Effect>) {
        match self.phase {
            Phase::Committed | Phase::Closed => effects.push(Effect::Send(Message::Status(self.record()))),
            Phase::Bound | Phase::Committing | Phase::Unmaking if round.round <= self.rounds => {
                effects.push(Effect::Send(Message::DirtyAccepted(round.round)));
            }
            Phase::Bound if round.round == self.rounds + 1 && !self.last => self.import(Import::Dirty(round), effects),
            _ => {}
        }
    }

    pub(super) fn complete(&mut self, epoch: u64, rounds: u32, now: Timestamp, effects: &mut Vec<Effect>) {
        match self.phase {
            Phase::Committed | Phase::Closed => effects.extend(self.acknowledgement()),
            Phase::Bound => {
                let epochs = self.epochs();
                let is_forced = epoch == epochs.given();
                let is_whole = self.last && rounds == self.rounds;
                if !is_whole || !(is_forced || epoch == epochs.committed()) {
                    let text = format!(
                        "epoch {epoch} after {rounds} rounds is not what was to come: epoch {} after {}{} rounds",
                        epochs.committed(),
                        self.rounds,
                        if self.last { "" } else { " and more" },
                    );
                    return effects.push(Effect::Send(Message::CompleteFailed(Reason::new(ReasonKind::Peer, text))));
                }
                if is_forced {
                    // By an admin's word at the source: what is not here is defined from the record.
                    self.forced = true;
                    return self.commit(epoch, now, effects);
                }
                self.phase = Phase::Committing;
                self.times.again_at = None;
                self.order(Order::Look, effects);
            }
            _ => {}
        }
    }

    pub(super) fn hear_late(&mut self, late: LateFacts, effects: &mut Vec<Effect>) {
        match self.phase {
            Phase::Committed | Phase::Closed if late.lot <= self.lots => {
                effects.push(Effect::Send(Message::LateAck(late.lot)));
            }
            Phase::Committed | Phase::Closed if late.lot == self.lots + 1 => self.import(Import::Late(late), effects),
            _ => {}
        }
    }

    /// What the source's record says.
    pub(super) fn told(&mut self, record: Record, now: Timestamp, effects: &mut Vec<Effect>) {
        let to = self.id.plane.clone();
        match (record, &self.phase) {
            (Record::Unknown, Phase::Considering | Phase::Fetching | Phase::Permitted | Phase::Stated | Phase::Defining) => {
                let text = format!("plane {to} has no record of it: was it restored from a backup?");
                self.give_up(Reason::new(ReasonKind::Peer, text), now, effects);
            }
            (Record::Unknown, Phase::Bound) => {
                let text = format!("plane {to} has no record of it: was it restored from a backup?");
                self.cannot_decide(Reason::new(ReasonKind::Peer, text), effects);
            }
            (Record::Retired, Phase::Bound | Phase::Committing | Phase::Unmaking) => {
                let text =
                    format!("plane {to} takes it for committed, but here it is not: was this plane restored from a backup?");
                self.cannot_decide(Reason::new(ReasonKind::Peer, text), effects);
            }
            (Record::Undecided(reason), Phase::Bound) => {
                let text = format!("plane {to} says: {reason}");
                self.cannot_decide(Reason::new(ReasonKind::Peer, text), effects);
            }
            (Record::Underway(_), Phase::Bound) => {
                self.undecided = None;
                self.alarmed = false;
            }
            _ => {}
        }
    }
}
