//! The target's transitions: what each input does in each phase.

use super::{Effect, Import, Imported, Input, Phase, Target, Verdict};
use crate::migration::message::{Digest, LateFacts, Message, Offer, Record, Round};
use crate::migration::{Answer, Epochs, Guest, Order, OrderFault, Reason, ReasonKind, Resolution, ResumeBy, Side};
use crate::model::{Mark, Timestamp};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Modules are asked for so often in one migration, at the most: what was read may import more, but not for ever.
const REQUESTS: u32 = 32;

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

    // What the peer says.

    fn hear(&mut self, message: Message, now: Timestamp, effects: &mut Vec<Effect>) {
        match message {
            Message::Abort { epoch, reason } => return self.abort(epoch, reason, now, effects),
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
                Phase::Considering | Phase::Fetching | Phase::Permitted => {}
                _ => effects.push(Effect::Send(Message::EventsAccepted)),
            },
            Message::Dirty(round) => self.hear_round(round, effects),
            Message::Complete { epoch, rounds } => self.complete(epoch, rounds, now, effects),
            Message::Late(late) => self.hear_late(late, effects),
            _ => {}
        }
    }

    /// The same offer once more, or another one under the same name.
    fn offered_again(&mut self, offer: &Offer, effects: &mut Vec<Effect>) {
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

    fn hear_round(&mut self, round: Round, effects: &mut Vec<Effect>) {
        match self.phase {
            Phase::Committed | Phase::Closed => effects.push(Effect::Send(Message::Status(self.record()))),
            Phase::Bound | Phase::Committing | Phase::Unmaking if round.round <= self.rounds => {
                effects.push(Effect::Send(Message::DirtyAccepted(round.round)));
            }
            Phase::Bound if round.round == self.rounds + 1 && !self.last => self.import(Import::Dirty(round), effects),
            _ => {}
        }
    }

    fn complete(&mut self, epoch: u64, rounds: u32, now: Timestamp, effects: &mut Vec<Effect>) {
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

    fn hear_late(&mut self, late: LateFacts, effects: &mut Vec<Effect>) {
        match self.phase {
            Phase::Committed | Phase::Closed if late.lot <= self.lots => {
                effects.push(Effect::Send(Message::LateAck(late.lot)));
            }
            Phase::Committed | Phase::Closed if late.lot == self.lots + 1 => self.import(Import::Late(late), effects),
            _ => {}
        }
    }

    /// What the source's record says.
    fn told(&mut self, record: Record, now: Timestamp, effects: &mut Vec<Effect>) {
        let to = self.id.plane.clone();
        match (record, &self.phase) {
            (Record::Unknown, Phase::Considering | Phase::Fetching | Phase::Permitted | Phase::Stated) => {
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

    // Admission, modules, imports.

    fn considered(&mut self, verdict: Verdict, now: Timestamp, effects: &mut Vec<Effect>) {
        match verdict {
            Verdict::Deny(reason) => self.deny(reason, now, effects),
            Verdict::Permit { grants, lacks } => {
                self.grants = Some(grants);
                if lacks.is_empty() {
                    return self.permit(now, effects);
                }
                self.enter(Phase::Fetching, now);
                self.times.lease_by = self.lease(now);
                self.request(lacks, now, effects);
            }
        }
    }

    fn permit(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        self.enter(Phase::Permitted, now);
        self.times.lease_by = self.lease(now);
        effects.extend(self.grants.clone().map(|grants| Effect::Send(Message::Permitted(grants))));
    }

    fn deny(&mut self, reason: Reason, now: Timestamp, effects: &mut Vec<Effect>) {
        if self.grants.is_some() {
            effects.push(Effect::Discard);
        }
        effects.push(Effect::Send(Message::Denied(reason.clone())));
        self.reason = Some(reason);
        self.enter(Phase::Denied, now);
    }

    /// Asks for modules, if that was not done too often.
    fn request(&mut self, lacks: BTreeSet<Digest>, now: Timestamp, effects: &mut Vec<Effect>) {
        self.requests += 1;
        if self.requests > REQUESTS {
            let text = format!("modules were asked for {REQUESTS} times, and more are lacking");
            return self.installed(Imported::Refused(Reason::new(ReasonKind::Instantiation, text)), now, effects);
        }
        self.lacks = lacks;
        self.say_again(now, effects);
    }

    fn installed(&mut self, imported: Imported, now: Timestamp, effects: &mut Vec<Effect>) {
        self.lacks.clear();
        match (imported, self.pending.take()) {
            (Imported::Lacks(more), pending) => {
                self.pending = pending;
                self.request(more, now, effects);
            }
            (Imported::Accepted, Some(import)) => self.import(import, effects),
            (Imported::Accepted, None) if self.phase == Phase::Fetching => self.permit(now, effects),
            (Imported::Refused(reason), None) if self.phase == Phase::Fetching => self.deny(reason, now, effects),
            (Imported::Refused(reason), Some(import)) => self.refuse(&import, reason, now, effects),
            (_, None) => {}
        }
    }

    /// Reads a payload, or says again what it waits for.
    fn import(&mut self, import: Import, effects: &mut Vec<Effect>) {
        if self.pending.is_some() && !self.lacks.is_empty() {
            return effects.push(Effect::Send(Message::ModuleRequest(self.lacks.clone())));
        }
        self.pending = Some(import.clone());
        effects.push(Effect::Import(import));
    }

    fn imported(&mut self, imported: Imported, now: Timestamp, effects: &mut Vec<Effect>) {
        let Some(import) = self.pending.take() else { return };
        match (imported, import) {
            (Imported::Lacks(lacks), import) => {
                self.pending = Some(import);
                self.request(lacks, now, effects);
            }
            (Imported::Refused(reason), import) => self.refuse(&import, reason, now, effects),
            (Imported::Accepted, Import::State(_)) => {
                self.enter(Phase::Stated, now);
                self.times.lease_by = self.lease(now);
                effects.push(Effect::Send(Message::StateAccepted));
            }
            (Imported::Accepted, Import::Events(_)) => {
                self.enter(Phase::Bound, now);
                self.times.again_at = Some(now + self.timing.step);
                effects.push(Effect::Send(Message::EventsAccepted));
            }
            (Imported::Accepted, Import::Dirty(round)) => {
                self.rounds = round.round;
                self.last = round.last;
                effects.push(Effect::Send(Message::DirtyAccepted(round.round)));
            }
            (Imported::Accepted, Import::Late(late)) => {
                self.lots = late.lot;
                effects.push(Effect::Send(Message::LateAck(late.lot)));
                self.release_sensed(effects);
            }
        }
    }

    /// A payload cannot be read: before it is bound the target gives up, after it the source decides.
    fn refuse(&mut self, import: &Import, reason: Reason, now: Timestamp, effects: &mut Vec<Effect>) {
        match import {
            Import::State(_) | Import::Events(_) => self.give_up(reason, now, effects),
            Import::Dirty(round) => effects.push(Effect::Send(Message::DirtyFailed(round.round, reason))),
            Import::Late(late) => {
                self.alarm(format!("facts that came late (lot {}) cannot be read: {reason}", late.lot), effects);
            }
        }
    }

    // What the hypervisor says.

    fn answered(&mut self, answer: Answer, now: Timestamp, effects: &mut Vec<Effect>) {
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
            (Phase::Unmaking, Answer::Done) => self.aborted(true, now, effects),
            (Phase::Unmaking, Answer::Failed(OrderFault::Running, _)) => {
                self.enter(Phase::Bound, now);
                self.times.again_at = Some(now + self.timing.step);
                self.reason = None;
                effects.push(Effect::Send(Message::Status(Record::Bound { running: true })));
            }
            (Phase::Committed, Answer::Done) => {
                self.settled = true;
                self.close();
            }
            (Phase::Aborted | Phase::Yielded, Answer::Done) => self.settled = true,
            (_, Answer::Failed(_, text)) => {
                self.alarm(format!("the hypervisor did not do what was asked ({}): {text}", self.phase.name()), effects);
                self.times.again_at = Some(now + self.timing.look);
            }
            _ => self.times.again_at = Some(now + self.timing.look),
        }
    }

    /// Is the copy here, so that the guest can be ours?
    fn looked(&mut self, guest: Guest, now: Timestamp, effects: &mut Vec<Effect>) {
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

    /// THE step: from its write on, the guest is ours.
    fn commit(&mut self, epoch: u64, now: Timestamp, effects: &mut Vec<Effect>) {
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

    fn release_sensed(&mut self, effects: &mut Vec<Effect>) {
        if self.times.sensed_by.take().is_some() {
            effects.push(Effect::ReleaseSensed);
            self.close();
        }
    }

    fn close(&mut self) {
        if self.phase == Phase::Committed && self.settled && self.times.sensed_by.is_none() {
            self.phase = Phase::Closed;
            self.undecided = None;
        }
    }

    // The ways out.

    /// The source gives it up. Only before the commit can it; after it, only by an admin's word, which the epoch tells.
    fn abort(&mut self, epoch: u64, reason: Reason, now: Timestamp, effects: &mut Vec<Effect>) {
        match self.phase {
            Phase::Considering | Phase::Fetching | Phase::Permitted | Phase::Stated => self.give_up(reason, now, effects),
            Phase::Bound | Phase::Committing => {
                self.reason = Some(reason);
                if self.offer.as_ref().is_some_and(|offer| offer.resume == ResumeBy::Manager) || self.was_taken_back(epoch) {
                    return self.aborted(false, now, effects);
                }
                self.enter(Phase::Unmaking, now);
                self.order_again(effects);
            }
            Phase::Unmaking => {}
            Phase::Committed | Phase::Closed if self.epoch.is_some_and(|own| epoch > own) => {
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
    fn was_taken_back(&self, epoch: u64) -> bool {
        epoch >= self.epochs().kept()
    }

    /// On record as given up, before anybody is told.
    fn aborted(&mut self, copy_is_gone: bool, now: Timestamp, effects: &mut Vec<Effect>) {
        self.enter(Phase::Aborted, now);
        self.pending = None;
        self.lacks.clear();
        self.settled = copy_is_gone;
        effects.push(Effect::Discard);
        effects.push(Effect::Send(Message::Aborted(self.why())));
        self.order_again(effects);
    }

    /// The target gives up by itself, or is told to before anything could have come: no copy can be here.
    fn give_up(&mut self, reason: Reason, now: Timestamp, effects: &mut Vec<Effect>) {
        self.reason = Some(reason);
        self.aborted(true, now, effects);
    }

    fn resolve(&mut self, resolution: &Resolution, now: Timestamp, effects: &mut Vec<Effect>) {
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

    // Time, and beginning anew.

    fn tick(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
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
    fn order_again(&mut self, effects: &mut Vec<Effect>) {
        if self.waiting.is_some() {
            return;
        }
        match self.phase {
            Phase::Committing => self.order(Order::Look, effects),
            Phase::Unmaking => {
                self.order(Order::DestroyCopy { mark: self.mark(self.epochs().committed()), running: false }, effects);
            }
            Phase::Committed if !self.settled => {
                let mark = self.mark(self.epoch.unwrap_or_default());
                self.order(Order::Resume { mark, force: self.forced }, effects);
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
    fn say_again(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        if !self.lacks.is_empty() {
            self.times.again_at = Some(now + self.timing.again);
            effects.push(Effect::Send(Message::ModuleRequest(self.lacks.clone())));
        } else if self.phase == Phase::Bound {
            self.times.again_at = Some(now + if self.alarmed { self.timing.patience } else { self.timing.step });
            effects.push(Effect::Send(Message::Inquire));
        }
    }

    // Small things.

    fn enter(&mut self, phase: Phase, now: Timestamp) {
        self.phase = phase;
        self.times.since = now;
        self.times.lease_by = None;
        self.times.again_at = None;
        self.times.away_since = None;
        self.waiting = None;
        self.undecided = None;
        self.alarmed = false;
    }

    fn lease(&self, now: Timestamp) -> Option<Timestamp> {
        self.grants.as_ref().map(|grants| now + grants.lease)
    }

    fn order(&mut self, order: Order, effects: &mut Vec<Effect>) {
        self.orders = self.orders.wrapping_add(1);
        self.waiting = Some(self.orders);
        effects.push(Effect::Order(self.orders, order));
    }

    fn epochs(&self) -> Epochs {
        Epochs(self.offer.as_ref().map_or(0, |offer| offer.epoch))
    }

    fn mark(&self, epoch: u64) -> Mark {
        Mark { plane: self.offer.as_ref().map_or_else(|| Arc::from(""), |offer| offer.to.clone()), epoch }
    }

    fn acknowledgement(&self) -> Option<Effect> {
        self.epoch.map(|epoch| Effect::Send(Message::CompleteAck { epoch, rounds: self.rounds }))
    }

    fn why(&self) -> Reason {
        self.reason.clone().unwrap_or_else(|| Reason::new(ReasonKind::Peer, "given up"))
    }

    /// Only an admin can decide at the moment, though it is tried on.
    fn cannot_decide(&mut self, reason: Reason, effects: &mut Vec<Effect>) {
        self.alarm(format!("undecided: {reason}"), effects);
        self.undecided = Some(reason);
    }

    fn alarm(&mut self, text: String, effects: &mut Vec<Effect>) {
        if !std::mem::replace(&mut self.alarmed, true) {
            effects.push(Effect::Alarm(format!("migration {}: {text}", self.id).into()));
        }
    }
}
