//! What the hypervisor says of the copy, the commit, and the ways out.

use super::{Effect, Phase, Target};
use crate::migration::message::Message;
use crate::migration::{Activity, Answer, Guest, Order, OrderFault, Reason, ReasonKind, Resolution, ResumeBy, Side, Way};
use crate::model::Timestamp;

impl Target {
    pub(super) fn answered(&mut self, answer: Answer, now: Timestamp, effects: &mut Vec<Effect>) {
        if self.phase == Phase::Defining {
            return match answer {
                Answer::Done => self.bind(now, effects),
                Answer::Failed(_, text) => {
                    let text = format!("the guest cannot be defined on its host: {text}");
                    self.give_up(Reason::new(ReasonKind::Hypervisor, text), now, effects);
                }
                _ => self.times.again_at = Some(now + self.timing.look),
            };
        }
        if matches!(answer, Answer::Failed(OrderFault::Unreachable, _)) {
            let since = *self.times.away_since.get_or_insert(now);
            self.times.again_at = Some(now + self.timing.look);
            if now.since(since) >= self.timing.patience {
                let text = format!("its host does not answer: what became of the guest is not known ({})", self.phase.name());
                self.cannot_decide(Reason::new(ReasonKind::Hypervisor, text), effects);
            }
            return;
        }
        self.times.away_since = None;
        match (&self.phase, answer) {
            (Phase::Committing, Answer::Guest(guest)) => self.looked(guest, now, effects),
            (Phase::Unmaking, Answer::Guest(guest)) => self.looked_before_unmaking(guest, now, effects),
            (Phase::Unmaking, Answer::Done) => self.aborted(true, now, effects),
            (Phase::Unmaking, Answer::Failed(OrderFault::Running, _)) => self.has_run(now, effects),
            (Phase::Committed, Answer::Done) => {
                self.settled = true;
                self.close();
            }
            // What carries another mark is none of this migration's.
            (Phase::Aborted | Phase::Yielded, Answer::Done | Answer::Failed(OrderFault::Marked, _)) => self.settled = true,
            (_, Answer::Failed(_, text)) => {
                self.alarm(format!("the hypervisor did not do what was asked ({}): {text}", self.phase.name()), effects);
                self.times.again_at = Some(now + self.timing.look);
            }
            _ => self.times.again_at = Some(now + self.timing.look),
        }
    }

    /// Is the copy here, so that the guest can be ours?
    pub(super) fn looked(&mut self, guest: Guest, now: Timestamp, effects: &mut Vec<Effect>) {
        let expected = self.mark(self.epochs().committed());
        let why = match guest {
            Guest::Here { job: true, .. } => {
                self.times.again_at = Some(now + self.timing.look);
                return;
            }
            Guest::Here { mark: Some(mark), .. } if mark == expected => {
                return self.commit(expected.epoch, now, effects);
            }
            Guest::Here { mark, .. } => {
                let found =
                    mark.map_or("no mark".to_owned(), |mark| format!("the mark of {}, epoch {}", mark.plane, mark.epoch));
                format!("the copy here carries {found}, not that of {}, epoch {}", expected.plane, expected.epoch)
            }
            Guest::Gone => "the guest has left the source, and is not here".to_owned(),
        };
        let reason = Reason::new(ReasonKind::Hypervisor, why);
        self.phase = Phase::Bound;
        self.times.again_at = Some(now + self.timing.step);
        effects.push(Effect::Send(Message::CompleteFailed(reason.clone())));
        self.cannot_decide(reason, effects);
    }

    /// May the copy go? Not where the hypervisor has let it run: what it did since then is nowhere else.
    pub(super) fn looked_before_unmaking(&mut self, guest: Guest, now: Timestamp, effects: &mut Vec<Effect>) {
        let is_live = self.offer.as_ref().is_some_and(|offer| offer.way == Way::Live);
        match guest {
            Guest::Gone => self.aborted(true, now, effects),
            Guest::Here { job: true, .. } => self.times.again_at = Some(now + self.timing.look),
            Guest::Here { activity: Activity::Running, .. } => self.has_run(now, effects),
            Guest::Here { activity: Activity::Off, .. } if is_live => self.has_run(now, effects),
            Guest::Here { .. } => {
                let mark = self.mark(self.epochs().committed());
                self.order(Order::DestroyCopy { mark, running: false }, effects);
            }
        }
    }

    fn has_run(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        self.enter(Phase::Bound, now);
        self.times.again_at = Some(now + self.timing.step);
        self.reason = None;
        self.ran = true;
        effects.push(Effect::Send(Message::Status(self.record())));
    }

    /// THE step: from its write on, the guest is ours.
    pub(super) fn commit(&mut self, epoch: u64, now: Timestamp, effects: &mut Vec<Effect>) {
        self.enter(Phase::Committed, now);
        self.pending = None;
        self.lacks.clear();
        self.epoch = Some(epoch);
        self.settled = false;
        self.times.sensed_by = Some(now + self.timing.late);
        effects.push(Effect::Commit { epoch });
        effects.extend(self.acknowledgement());
        self.order_again(effects);
    }

    pub(super) fn release_sensed(&mut self, effects: &mut Vec<Effect>) {
        if self.times.sensed_by.take().is_some() {
            effects.push(Effect::ReleaseSensed);
            self.close();
        }
    }

    pub(super) fn close(&mut self) {
        if self.phase == Phase::Committed && self.settled && self.times.sensed_by.is_none() {
            self.phase = Phase::Closed;
            self.undecided = None;
        }
    }

    /// The source gives it up. Only before the commit can it; after it, only by an admin's word, which the epoch tells.
    pub(super) fn abort(&mut self, epoch: u64, reason: Reason, asks: bool, now: Timestamp, effects: &mut Vec<Effect>) {
        match self.phase {
            Phase::Considering | Phase::Fetching | Phase::Permitted | Phase::Stated | Phase::Defining => {
                self.give_up(reason, now, effects);
            }
            Phase::Bound | Phase::Committing => {
                let is_paused = self.offer.as_ref().is_some_and(|offer| offer.resume == ResumeBy::Manager);
                if !is_paused && asks && self.ran {
                    return effects.push(Effect::Send(Message::Status(self.record())));
                }
                self.reason = Some(reason);
                if is_paused || !asks {
                    return self.aborted(false, now, effects);
                }
                self.enter(Phase::Unmaking, now);
                self.order_again(effects);
            }
            Phase::Unmaking if !asks => {
                self.reason = Some(reason);
                self.aborted(false, now, effects);
            }
            Phase::Unmaking => {}
            // Any other is an old one: it was asked for when the source could not know that the copy runs.
            Phase::Committed | Phase::Closed if self.was_taken_back(epoch) => {
                let text = format!("gives its guest up: plane {} owns it by an admin's word", self.id.plane);
                self.enter(Phase::Yielded, now);
                self.alarm(text, effects);
                self.reason = Some(reason);
                self.settled = false;
                effects.push(Effect::Retire { epoch });
                effects.push(Effect::Send(Message::Aborted(self.why())));
                self.order_again(effects);
            }
            Phase::Committed | Phase::Closed => effects.push(Effect::Send(Message::Status(self.record()))),
            Phase::Aborted | Phase::Denied | Phase::Yielded => effects.push(Effect::Send(Message::Aborted(self.why()))),
        }
    }

    /// Has an admin given the guest to the source?
    pub(super) fn was_taken_back(&self, epoch: u64) -> bool {
        epoch >= self.epochs().kept()
    }

    /// On record as given up, before anybody is told.
    pub(super) fn aborted(&mut self, copy_is_gone: bool, now: Timestamp, effects: &mut Vec<Effect>) {
        self.enter(Phase::Aborted, now);
        self.pending = None;
        self.lacks.clear();
        self.settled = copy_is_gone;
        effects.push(Effect::Discard);
        effects.push(Effect::Send(Message::Aborted(self.why())));
        self.order_again(effects);
    }

    /// The target gives up by itself, or is told to before anything could have come: no copy can be here but what it has
    /// defined itself.
    pub(super) fn give_up(&mut self, reason: Reason, now: Timestamp, effects: &mut Vec<Effect>) {
        self.reason = Some(reason);
        self.aborted(self.phase != Phase::Defining, now, effects);
    }

    pub(super) fn resolve(&mut self, resolution: &Resolution, now: Timestamp, effects: &mut Vec<Effect>) {
        if self.undecided.is_none() || !matches!(self.phase, Phase::Bound | Phase::Committing | Phase::Unmaking) {
            return;
        }
        self.forced = true;
        match resolution.owner {
            Side::Target => self.commit(self.epochs().given(), now, effects),
            Side::Source => {
                let text = format!("{} says that host {} does not run it", resolution.by, resolution.fenced);
                self.reason = Some(Reason::new(ReasonKind::Resolved, text));
                self.aborted(false, now, effects);
            }
        }
    }
}
