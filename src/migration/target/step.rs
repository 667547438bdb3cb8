//! The target's transitions: what each input does in each phase.

use super::{Effect, Input, Phase, Target};
use crate::migration::message::Message;
use crate::migration::{Epochs, Order, Reason, ReasonKind};
use crate::model::{Mark, Timestamp};
use std::sync::Arc;

impl Target {
    pub(super) fn begin(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        match &self.reason {
            Some(reason) => effects.push(Effect::Send(Message::Aborted(reason.clone()))),
            None => {
                self.times.lease_by = Some(now + self.timing.step);
                effects.push(Effect::Consider);
            }
        }
    }

    pub(super) fn take(&mut self, input: Input, now: Timestamp, effects: &mut Vec<Effect>) {
        match input {
            Input::Message(message) => {
                self.times.heard = now;
                if self.undecided.as_ref().is_some_and(|reason| reason.kind == ReasonKind::TimedOut) {
                    self.undecided = None;
                    self.alarmed = false;
                }
                self.hear(message, now, effects);
            }
            Input::LinkUp => self.say_again(now, effects),
            Input::Tick => self.tick(now, effects),
            Input::Restarted => {
                self.waiting = None;
                if self.phase == Phase::Considering {
                    effects.push(Effect::Consider);
                }
                self.order_again(effects);
                self.say_again(now, effects);
            }
            Input::Answer(number, answer) if self.waiting == Some(number) => {
                self.waiting = None;
                self.answered(answer, now, effects);
            }
            Input::Answer(..) => {}
            Input::Verdict(verdict) if self.phase == Phase::Considering => self.considered(verdict, now, effects),
            Input::Verdict(_) => {}
            Input::Imported(imported) => self.imported(imported, now, effects),
            Input::Installed(imported) => self.installed(imported, now, effects),
            Input::Resolve(resolution) => self.resolve(&resolution, now, effects),
        }
    }

    // Time, and beginning anew.

    pub(super) fn tick(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        if self.times.lease_by.is_some_and(|at| now >= at) {
            let text = format!("plane {} did not go on while room was reserved ({})", self.id.plane, self.phase.name());
            return self.give_up(Reason::new(ReasonKind::TimedOut, text), now, effects);
        }
        if self.times.sensed_by.is_some_and(|at| now >= at) {
            self.release_sensed(effects);
        }
        if self.awaits_source() && now >= self.times.heard + self.timing.patience {
            let text = format!("plane {} has not been heard of for {}", self.id.plane, self.timing.patience);
            self.cannot_decide(Reason::new(ReasonKind::TimedOut, text), effects);
        }
        if self.times.again_at.is_some_and(|at| now >= at) {
            self.times.again_at = None;
            self.order_again(effects);
            self.say_again(now, effects);
        }
    }

    /// Is it bound, and only the source can tell how it goes on?
    pub(super) fn awaits_source(&self) -> bool {
        self.phase == Phase::Bound && !self.alarmed
    }

    /// Orders what its phase waits for, where no answer is due.
    pub(super) fn order_again(&mut self, effects: &mut Vec<Effect>) {
        if self.waiting.is_some() {
            return;
        }
        match self.phase {
            Phase::Defining => self.order(Order::Define(self.mark(self.epochs().committed())), effects),
            Phase::Committing | Phase::Unmaking => self.order(Order::Look, effects),
            Phase::Committed if !self.settled => {
                let mark = self.mark(self.epoch.unwrap_or_default());
                // By an admin's word nobody knows whether its files are whole.
                let start = !self.forced && self.offer.as_ref().is_some_and(|offer| offer.stops());
                self.order(Order::Resume { mark, start, force: self.forced }, effects);
            }
            Phase::Aborted if !self.settled => {
                let mark = self.mark(self.epochs().committed());
                self.order(Order::DestroyCopy { mark, running: self.forced }, effects);
            }
            Phase::Yielded if !self.settled => {
                let mark = self.mark(self.epoch.unwrap_or_default());
                self.order(Order::DestroyCopy { mark, running: true }, effects);
            }
            _ => {}
        }
    }

    /// Asks again for what it waits for.
    pub(super) fn say_again(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        if !self.lacks.is_empty() {
            self.times.again_at = Some(now + self.timing.again);
            effects.push(Effect::Send(Message::ModuleRequest(self.lacks.clone())));
        } else if self.phase == Phase::Bound {
            self.times.again_at = Some(now + if self.alarmed { self.timing.patience } else { self.timing.step });
            effects.push(Effect::Send(Message::Inquire));
        }
    }

    // Small things.

    pub(super) fn enter(&mut self, phase: Phase, now: Timestamp) {
        self.phase = phase;
        self.times.since = now;
        self.times.lease_by = None;
        self.times.again_at = None;
        self.times.away_since = None;
        self.waiting = None;
        self.undecided = None;
        self.alarmed = false;
    }

    pub(super) fn lease(&self, now: Timestamp) -> Option<Timestamp> {
        self.grants.as_ref().map(|grants| now + grants.lease)
    }

    pub(super) fn order(&mut self, order: Order, effects: &mut Vec<Effect>) {
        self.orders = self.orders.wrapping_add(1);
        self.waiting = Some(self.orders);
        effects.push(Effect::Order(self.orders, order));
    }

    pub(super) fn epochs(&self) -> Epochs {
        Epochs(self.offer.as_ref().map_or(0, |offer| offer.epoch))
    }

    pub(super) fn mark(&self, epoch: u64) -> Mark {
        Mark { plane: self.offer.as_ref().map_or_else(|| Arc::from(""), |offer| offer.to.clone()), epoch }
    }

    pub(super) fn acknowledgement(&self) -> Option<Effect> {
        self.epoch.map(|epoch| Effect::Send(Message::CompleteAck { epoch, rounds: self.rounds }))
    }

    pub(super) fn why(&self) -> Reason {
        self.reason.clone().unwrap_or_else(|| Reason::new(ReasonKind::Peer, "given up"))
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
}
