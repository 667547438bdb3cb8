//! What the target says, and what is sent to it: rounds, late facts.

use super::{Effect, Late, Phase, Source, What};
use crate::migration::message::{LateFacts, Message, Payload, Record, Round};
use crate::migration::{Ending, Order, Reason, ReasonKind, Way};
use crate::model::{Mark, Timestamp};

impl Source {
    pub(super) fn hear(&mut self, message: Message, now: Timestamp, effects: &mut Vec<Effect>) {
        match message {
            Message::Permitted(grants) if self.phase == Phase::Offering => {
                if let Some(uri) = grants.starting_a_program() {
                    let to = &self.offer.to;
                    let text =
                        format!("plane {to} names the hypervisor `{uri}`: a URI that starts a program here is not followed");
                    return self.give_up(Reason::new(ReasonKind::Peer, text), now, effects);
                }
                self.grants = Some(grants);
                self.enter(Phase::Stating, now);
                effects.extend([Effect::Hold, Effect::Capture(What::State)]);
            }
            Message::Denied(reason) if matches!(self.phase, Phase::Offering | Phase::TellingPeer) => {
                self.peer_gave_up(reason, now, effects);
            }
            Message::ModuleRequest(hashes) if !matches!(self.phase, Phase::Reclaiming | Phase::TellingPeer | Phase::Ended) => {
                self.times.step_by = now + self.timing.step;
                effects.push(Effect::Pack(hashes));
            }
            Message::StateAccepted if self.phase == Phase::Stating => {
                self.out = None;
                self.enter(Phase::Queueing, now);
                effects.push(Effect::Capture(What::Events));
            }
            Message::EventsAccepted if self.phase == Phase::Queueing => {
                self.out = None;
                self.enter(Phase::Marking, now);
                self.order_again(now, effects);
            }
            Message::DirtyAccepted(round) => self.round_accepted(round, now, effects),
            Message::DirtyFailed(round, reason) if self.is_out(round) => self.not_made(reason, now, effects),
            Message::CompleteAck { epoch, rounds } | Message::Status(Record::Committed { epoch, rounds }) => {
                self.committed(epoch, rounds, now, effects);
            }
            Message::CompleteFailed(reason) if self.phase == Phase::HandingOver => self.cannot_go_on(reason, now, effects),
            Message::LateAck(lot) => self.late_accepted(lot, effects),
            Message::StateFailed(reason)
            | Message::EventsFailed(reason)
            | Message::Aborted(reason)
            | Message::Status(Record::Aborted(reason)) => self.peer_gave_up(reason, now, effects),
            Message::Status(Record::Unknown)
                if matches!(self.phase, Phase::Stating | Phase::Queueing | Phase::Marking | Phase::Moving) =>
            {
                let text = format!("plane {} has no record of it: was it restored from a backup?", self.offer.to);
                self.give_up(Reason::new(ReasonKind::Peer, text), now, effects);
            }
            Message::Status(Record::Unknown) if matches!(self.phase, Phase::Retiring | Phase::Retired) => {
                self.late_refused("has no record of it any more", effects);
            }
            Message::Status(Record::Unknown) if matches!(self.phase, Phase::LastRound | Phase::HandingOver) => {
                let text = format!("the guest has left, but plane {} has no record of it", self.offer.to);
                let reason = Reason::new(ReasonKind::Peer, text);
                // Once it was told to commit it may have done so, and have lost its record since.
                match self.phase {
                    Phase::HandingOver => self.cannot_decide(reason, effects),
                    _ => self.cannot_go_on(reason, now, effects),
                }
            }
            Message::Status(Record::Bound { running: true }) if self.phase == Phase::Asking => self.moved(now, effects),
            Message::Inquire => match self.to_say() {
                Some(message) => effects.push(Effect::Send(message)),
                None => effects.push(Effect::Send(Message::Status(self.record()))),
            },
            _ => {}
        }
    }

    /// The target has it on record that it is given up.
    pub(super) fn peer_gave_up(&mut self, reason: Reason, now: Timestamp, effects: &mut Vec<Effect>) {
        match self.phase {
            Phase::Offering | Phase::Stating | Phase::Queueing | Phase::Marking | Phase::Moving => {
                self.agreed = true;
                self.give_up(reason, now, effects);
            }
            Phase::Asking => {
                self.agreed = true;
                self.reclaim(now, effects);
            }
            Phase::Reclaiming => self.agreed = true,
            Phase::TellingPeer => self.over(now, effects),
            Phase::LastRound | Phase::HandingOver if self.offer.way == Way::Cold => {
                self.agreed = true;
                self.reason = Some(reason);
                self.reclaim(now, effects);
            }
            Phase::LastRound | Phase::HandingOver => {
                self.agreed = true;
                let text = format!("the guest has left, but plane {} has given it up: {reason}", self.offer.to);
                self.cannot_decide(Reason::new(ReasonKind::Peer, text), effects);
            }
            Phase::Retiring | Phase::Retired => self.late_refused(&format!("has given it up: {reason}"), effects),
            Phase::Ended => {}
        }
    }

    /// The target owns the guest, under this epoch: so it is where `Complete` was sent, and where an admin decided there.
    pub(super) fn committed(&mut self, epoch: u64, rounds: u32, now: Timestamp, effects: &mut Vec<Effect>) {
        match self.phase {
            Phase::Retiring | Phase::Retired => return,
            Phase::Offering | Phase::Stating | Phase::Queueing => return,
            // The source's own word is the newer one: the target is told, and yields. (One that only asks has no word yet.)
            _ if epoch <= self.epoch && self.phase != Phase::Asking => {
                effects.extend(self.to_say().map(Effect::Send));
                return;
            }
            _ => {}
        }
        if !matches!(self.phase, Phase::LastRound | Phase::HandingOver) {
            let text = format!("the guest is given up: plane {} owns it by an admin's word", self.offer.to);
            effects.push(Effect::Alarm(text.into()));
        }
        self.enter(Phase::Retiring, now);
        self.rounds = rounds;
        (self.out, self.start_owed) = (None, None);
        self.late = Late::Waiting;
        effects.push(Effect::Retire { epoch, rounds });
        self.end(Ending::Done, effects);
        self.order(Order::Remove(Mark { plane: self.offer.to.clone(), epoch }), effects);
        self.send_late(effects);
    }

    /// Is this round out, and not accepted?
    pub(super) fn is_out(&self, round: u32) -> bool {
        matches!(&self.out, Some(Message::Dirty(out)) if out.round == round)
    }

    pub(super) fn round_accepted(&mut self, round: u32, now: Timestamp, effects: &mut Vec<Effect>) {
        if !self.is_out(round) {
            return;
        }
        let last = matches!(&self.out, Some(Message::Dirty(out)) if out.last);
        self.out = None;
        self.rounds = round;
        match self.phase {
            Phase::Moving => self.next_round(now),
            Phase::LastRound if last => {
                self.enter(Phase::HandingOver, now);
                self.say_again(now, effects);
            }
            Phase::LastRound => effects.push(Effect::Capture(What::Dirty { round: round + 1, last: true })),
            _ => {}
        }
    }

    pub(super) fn next_round(&mut self, now: Timestamp) {
        let more = self.reason.is_none() && self.rounds < self.timing.rounds;
        self.times.round_at = more.then(|| now + self.timing.round);
    }

    pub(super) fn late_accepted(&mut self, lot: u32, effects: &mut Vec<Effect>) {
        if !matches!(&self.out, Some(Message::Late(out)) if out.lot == lot) {
            return;
        }
        self.out = None;
        self.lots = lot;
        effects.push(Effect::Forget(lot));
        self.send_late(effects);
        self.retired();
    }

    /// The target, which owned the guest, takes no more facts of it: they stay here on hold and are not sent again.
    fn late_refused(&mut self, why: &str, effects: &mut Vec<Effect>) {
        if self.out.take().is_none() {
            return;
        }
        self.late = Late::Refused;
        let text = format!("facts that came late are kept here for 30 days, since plane {} {why}", self.offer.to);
        self.alarm(text, effects);
        self.retired();
    }

    /// Sends what is late, where nothing else is out.
    pub(super) fn send_late(&mut self, effects: &mut Vec<Effect>) {
        if self.late == Late::Waiting && self.out.is_none() && matches!(self.phase, Phase::Retiring | Phase::Retired) {
            effects.push(Effect::Capture(What::Late(self.lots + 1)));
        }
    }

    /// Is that all?
    pub(super) fn retired(&mut self) {
        let is_over = matches!(self.phase, Phase::Retiring | Phase::Retired);
        if is_over && self.removed && self.late != Late::Waiting && self.out.is_none() {
            self.phase = Phase::Retired;
            self.times.again_at = None;
        }
    }

    pub(super) fn captured(&mut self, what: What, payload: Option<Payload>, now: Timestamp, effects: &mut Vec<Effect>) {
        let message = match (what, payload, &self.phase) {
            (What::State, Some(payload), Phase::Stating) => Message::State(payload),
            (What::Events, Some(payload), Phase::Queueing) => Message::Events(payload),
            (What::Dirty { round, last }, Some(payload), Phase::Moving | Phase::LastRound) => {
                Message::Dirty(Round { round, last, payload })
            }
            (What::Dirty { .. }, None, Phase::Moving) => return self.next_round(now),
            (What::Late(lot), payload, Phase::Retiring | Phase::Retired) => {
                self.late = Late::Out;
                Message::Late(LateFacts { lot, payload: payload.unwrap_or_default() })
            }
            _ => {
                let text = format!("{what:?} was to be captured while {}, and was not", self.phase.name());
                return self.not_made(Reason::new(ReasonKind::Import, text), now, effects);
            }
        };
        self.out = Some(message);
        self.say_again(now, effects);
    }

    /// Something could not be captured, packed, or read by the target: before the move it is given up, after it tried again.
    pub(super) fn not_made(&mut self, reason: Reason, now: Timestamp, effects: &mut Vec<Effect>) {
        if self.is_cancellable() {
            return self.give_up(reason, now, effects);
        }
        self.cannot_go_on(reason, now, effects);
        if self.undecided.is_some() {
            self.times.again_at = Some(now + self.timing.patience);
        }
    }

    /// The target has all it needs to own the guest, and cannot. A guest that ran must wait for somebody to decide; a cold one is
    /// still here as well, and is ours once the target has it on record that it never takes it.
    fn cannot_go_on(&mut self, reason: Reason, now: Timestamp, effects: &mut Vec<Effect>) {
        if self.offer.way == Way::Cold && matches!(self.phase, Phase::LastRound | Phase::HandingOver) {
            self.reason = Some(reason);
            return self.ask(now, effects);
        }
        self.cannot_decide(reason, effects);
    }
}
