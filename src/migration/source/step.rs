//! The source's transitions: what each input does in each phase.

use super::{Effect, Input, JobState, Late, Phase, Source, What};
use crate::migration::message::Message;
use crate::migration::{Answer, Epochs, Order, Reason, ReasonKind, Side, Way};
use crate::model::{Mark, Timestamp};

impl Source {
    pub(super) fn take(&mut self, input: Input, now: Timestamp, effects: &mut Vec<Effect>) {
        match input {
            Input::Begin => self.say_again(now, effects),
            Input::Message(message) => self.hear(message, now, effects),
            Input::LinkUp => {
                self.inquire(effects);
                self.say_again(now, effects);
            }
            Input::Tick => self.tick(now, effects),
            Input::Restarted => self.restarted(now, effects),
            Input::Answer(number, Answer::JobEnded(result)) if self.job == JobState::Ordered(number) => {
                let is_copied = self.offer.way == Way::Cold && result.is_ok();
                self.job = if is_copied { JobState::Copied } else { JobState::Over };
                self.failure = result.err();
                self.order(Order::Look, effects);
            }
            Input::Answer(number, answer) if self.waiting == Some(number) => {
                self.waiting = None;
                self.answered(answer, now, effects);
            }
            Input::Answer(..) => {}
            Input::Progress(progress) => self.progress = progress,
            Input::Cancel(reason) => {
                if self.is_cancellable() {
                    self.give_up(reason, now, effects);
                }
            }
            Input::Resolve(resolution) => self.resolve(&resolution, now, effects),
            Input::Captured(what, payload) => self.captured(what, payload, now, effects),
            Input::NotCaptured(_, reason) => self.not_made(reason, now, effects),
            Input::Packed(Ok(parcel)) => effects.push(Effect::Send(Message::Parcel(parcel))),
            Input::Packed(Err(reason)) => self.not_made(reason, now, effects),
            Input::LateFacts => {
                if self.takes_late() {
                    self.late = Late::Waiting;
                    self.send_late(effects);
                }
            }
            Input::NotOwed => {
                self.start_owed = None;
                self.times.again_at = self.times.again_at.filter(|_| self.phase != Phase::Ended);
            }
        }
    }

    // Time, and beginning anew.

    pub(super) fn tick(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        if self.is_cancellable() && self.reason.is_none() && now >= self.times.whole_by {
            let text = format!("not moved within {}", self.timing.whole);
            return self.give_up(Reason::new(ReasonKind::TimedOut, text), now, effects);
        }
        if self.has_step_limit() && now >= self.times.step_by {
            let (phase, to) = (self.phase.name(), &self.offer.to);
            let text = format!("plane {to} has not answered within {} ({phase})", self.timing.step);
            let reason = Reason::new(ReasonKind::TimedOut, text);
            match self.phase {
                Phase::Offering | Phase::Stating | Phase::Queueing => return self.give_up(reason, now, effects),
                _ => self.cannot_decide(reason, effects),
            }
        }
        if self.times.round_at.is_some_and(|at| now >= at) {
            self.times.round_at = None;
            if self.phase == Phase::Moving && self.out.is_none() {
                effects.push(Effect::Capture(What::Dirty { round: self.rounds + 1, last: false }));
            }
        }
        if self.times.again_at.is_some_and(|at| now >= at) {
            self.times.again_at = None;
            if self.reason.is_some() && self.phase == Phase::Moving {
                self.order_cancel(now, effects);
            }
            self.order_again(now, effects);
            if self.undecided.is_some() {
                self.inquire(effects);
            }
            self.say_again(now, effects);
        }
    }

    pub(super) fn restarted(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        self.waiting = None;
        if matches!(self.job, JobState::Ordered(_) | JobState::Adopted(_)) {
            // A cold job is this plane's own work and ended with it.
            self.job = if self.offer.way == Way::Cold { JobState::Over } else { JobState::Adopted(0) };
            if self.job == JobState::Over && self.reason.is_none() {
                self.start_job(effects);
            }
        }
        if self.phase == Phase::Moving {
            if self.reason.is_some() {
                self.order_cancel(now, effects);
            } else if self.out.is_none() {
                self.next_round(now);
            }
        }
        self.order_again(now, effects);
        self.inquire(effects);
        self.say_again(now, effects);
    }

    /// Asks what the target has on record, where nothing that is out tells anyway.
    pub(super) fn inquire(&self, effects: &mut Vec<Effect>) {
        if matches!(self.phase, Phase::Marking | Phase::Moving | Phase::Reclaiming) {
            effects.push(Effect::Send(Message::Inquire));
        }
    }

    /// Orders what its phase waits for, where no answer is due.
    pub(super) fn order_again(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        if self.waiting.is_some() {
            return;
        }
        let redefine = self.forced == Some(Side::Source);
        match self.phase {
            Phase::Marking => self.order(Order::Mark(self.their_mark()), effects),
            Phase::Moving if matches!(self.job, JobState::Adopted(_) | JobState::Over | JobState::Copied) => {
                self.order(Order::Look, effects);
            }
            // Meanwhile an admin may have given it to the target, or it turns out that it runs there, or a job works on it.
            Phase::Reclaiming if self.undecided.is_some() && !self.agreed && !redefine => match self.job {
                JobState::None => self.ask(now, effects),
                _ => {
                    self.asks_first = true;
                    self.job = JobState::Over;
                    self.enter(Phase::Moving, now);
                    self.order(Order::Look, effects);
                }
            },
            Phase::Reclaiming => {
                let mark = Mark { plane: self.offer.from.clone(), epoch: self.epoch };
                let start = self.stops();
                self.order(Order::Reclaim { mark, start, redefine }, effects);
            }
            Phase::Retiring if !self.removed => {
                self.order(Order::Remove(self.their_mark()), effects);
            }
            Phase::TellingPeer | Phase::Ended if self.start_owed.is_some() => self.order(Order::Look, effects),
            _ => {}
        }
    }

    /// Says again what its phase waits an answer for.
    pub(super) fn say_again(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        if self.phase == Phase::Ended {
            return;
        }
        if let Some(message) = self.to_say() {
            self.told |= matches!(message, Message::Abort { .. });
            let after = if self.alarmed { self.timing.patience } else { self.timing.again };
            self.times.again_at = Some(now + after);
            effects.push(Effect::Send(message));
        } else if self.phase == Phase::LastRound {
            effects.push(Effect::Capture(What::Dirty { round: self.rounds + 1, last: true }));
        } else {
            self.send_late(effects);
        }
    }

    /// What its phase has to say, if anything.
    pub(super) fn to_say(&self) -> Option<Message> {
        match self.phase {
            Phase::Offering => Some(Message::Offer(self.offer.clone())),
            Phase::HandingOver => Some(Message::Complete { epoch: self.their_mark().epoch, rounds: self.rounds }),
            Phase::Asking | Phase::TellingPeer | Phase::Ended => {
                Some(Message::Abort { epoch: self.epoch, reason: self.why(), asks: self.phase == Phase::Asking })
            }
            Phase::Marking | Phase::Reclaiming => None,
            Phase::Stating | Phase::Queueing | Phase::Moving | Phase::LastRound | Phase::Retiring | Phase::Retired => {
                self.out.clone()
            }
        }
    }

    // Small things.

    pub(super) fn enter(&mut self, phase: Phase, now: Timestamp) {
        self.phase = phase;
        self.times.since = now;
        self.times.step_by = now + self.timing.step;
        self.times.again_at = None;
        self.times.round_at = None;
        self.times.away_since = None;
        self.waiting = None;
        self.undecided = None;
        self.alarmed = false;
    }

    pub(super) fn has_step_limit(&self) -> bool {
        let waits_for_peer = matches!(
            self.phase,
            Phase::Offering | Phase::Stating | Phase::Queueing | Phase::LastRound | Phase::HandingOver | Phase::Asking
        );
        waits_for_peer && !self.alarmed
    }

    pub(super) fn order(&mut self, order: Order, effects: &mut Vec<Effect>) {
        self.orders = self.orders.wrapping_add(1);
        self.waiting = Some(self.orders);
        effects.push(Effect::Order(self.orders, order));
    }

    /// Only an admin can decide at the moment, though it is tried on.
    pub(super) fn cannot_decide(&mut self, reason: Reason, effects: &mut Vec<Effect>) {
        self.alarm(format!("undecided: {reason}"), effects);
        self.undecided = Some(reason);
    }

    pub(super) fn alarm(&mut self, text: String, effects: &mut Vec<Effect>) {
        if !std::mem::replace(&mut self.alarmed, true) {
            effects.push(Effect::Alarm(text.into()));
        }
    }

    /// The target's mark.
    pub(super) fn their_mark(&self) -> Mark {
        let epochs = Epochs(self.offer.epoch);
        let epoch = if self.forced == Some(Side::Target) { epochs.given() } else { epochs.committed() };
        Mark { plane: self.offer.to.clone(), epoch }
    }

    pub(super) fn why(&self) -> Reason {
        self.reason.clone().unwrap_or_else(|| Reason::new(ReasonKind::Peer, "given up"))
    }
}
