//! The source's transitions: what each input does in each phase.

use super::{Effect, Input, JobState, Phase, Source, What};
use crate::migration::message::{LateFacts, Message, Payload, Record, Round};
use crate::migration::{
    Activity, Answer, Ending, Epochs, Guest, Job, Order, OrderFault, Reason, ReasonKind, Resolution, ResumeBy, Side, Way,
};
use crate::model::{Mark, Timestamp};

/// A job that nobody tells the end of is believed to be over when so many looks in a row did not find it: an order that the
/// dead plane gave at the very last may still be on its way to the hypervisor.
const IDLE_LOOKS: u8 = 2;

impl Source {
    pub(super) fn take(&mut self, input: Input, now: Timestamp, effects: &mut Vec<Effect>) {
        match input {
            Input::Begin => self.say_again(now, effects),
            Input::Message(message) => self.hear(message, now, effects),
            Input::LinkUp => self.say_again(now, effects),
            Input::Tick => self.tick(now, effects),
            Input::Restarted => self.restarted(now, effects),
            Input::Answer(number, Answer::JobEnded(_)) if self.job == JobState::Ordered(number) => {
                self.job = JobState::Over;
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
                self.late = true;
                self.send_late(effects);
            }
        }
    }

    // What the peer says.

    fn hear(&mut self, message: Message, now: Timestamp, effects: &mut Vec<Effect>) {
        match message {
            Message::Permitted(grants) if self.phase == Phase::Offering => {
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
            Message::CompleteFailed(reason) if self.phase == Phase::HandingOver => self.cannot_decide(reason, effects),
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
            Message::Status(Record::Unknown) if matches!(self.phase, Phase::LastRound | Phase::HandingOver) => {
                let text = format!("the guest has left, but plane {} has no record of it", self.offer.to);
                self.cannot_decide(Reason::new(ReasonKind::Peer, text), effects);
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
    fn peer_gave_up(&mut self, reason: Reason, now: Timestamp, effects: &mut Vec<Effect>) {
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
            Phase::TellingPeer => self.enter(Phase::Ended, now),
            Phase::LastRound | Phase::HandingOver => {
                let text = format!("the guest has left, but plane {} has given it up: {reason}", self.offer.to);
                self.cannot_decide(Reason::new(ReasonKind::Peer, text), effects);
            }
            Phase::Retiring | Phase::Retired | Phase::Ended => {}
        }
    }

    /// The target owns the guest, under this epoch: so it is where `Complete` was sent, and where an admin decided there.
    fn committed(&mut self, epoch: u64, rounds: u32, now: Timestamp, effects: &mut Vec<Effect>) {
        match self.phase {
            Phase::Retiring | Phase::Retired => return,
            Phase::Offering | Phase::Stating | Phase::Queueing => return,
            // The source's own word is the newer one: the target is told, and yields.
            _ if epoch <= self.epoch => {
                effects.extend(self.to_say().map(Effect::Send));
                return;
            }
            _ => {}
        }
        if !matches!(self.phase, Phase::LastRound | Phase::HandingOver) {
            let text = format!("{} gives its guest up: plane {} owns it by an admin's word", self.id, self.offer.to);
            effects.push(Effect::Alarm(text.into()));
        }
        self.enter(Phase::Retiring, now);
        self.rounds = rounds;
        self.out = None;
        self.late = true;
        effects.push(Effect::Retire { epoch, rounds });
        self.end(Ending::Done, effects);
        self.order(Order::Remove(Mark { plane: self.offer.to.clone(), epoch }), effects);
        self.send_late(effects);
    }

    // Rounds and late facts.

    /// Is this round out, and not accepted?
    fn is_out(&self, round: u32) -> bool {
        matches!(&self.out, Some(Message::Dirty(out)) if out.round == round)
    }

    fn round_accepted(&mut self, round: u32, now: Timestamp, effects: &mut Vec<Effect>) {
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

    fn next_round(&mut self, now: Timestamp) {
        let more = self.reason.is_none() && self.rounds < self.timing.rounds;
        self.times.round_at = more.then(|| now + self.timing.round);
    }

    fn late_accepted(&mut self, lot: u32, effects: &mut Vec<Effect>) {
        if !matches!(&self.out, Some(Message::Late(out)) if out.lot == lot) {
            return;
        }
        self.out = None;
        self.lots = lot;
        effects.push(Effect::Forget(lot));
        self.send_late(effects);
        self.retired();
    }

    /// Sends what is late, where nothing else is out.
    fn send_late(&mut self, effects: &mut Vec<Effect>) {
        if self.late && self.out.is_none() && matches!(self.phase, Phase::Retiring | Phase::Retired) {
            effects.push(Effect::Capture(What::Late(self.lots + 1)));
        }
    }

    /// Is that all?
    fn retired(&mut self) {
        if self.phase == Phase::Retiring && self.removed && self.lots > 0 && self.out.is_none() {
            self.phase = Phase::Retired;
            self.times.again_at = None;
        }
    }

    fn captured(&mut self, what: What, payload: Option<Payload>, now: Timestamp, effects: &mut Vec<Effect>) {
        let message = match (what, payload, &self.phase) {
            (What::State, Some(payload), Phase::Stating) => Message::State(payload),
            (What::Events, Some(payload), Phase::Queueing) => Message::Events(payload),
            (What::Dirty { round, last }, Some(payload), Phase::Moving | Phase::LastRound) => {
                Message::Dirty(Round { round, last, payload })
            }
            (What::Dirty { .. }, None, Phase::Moving) => return self.next_round(now),
            (What::Late(lot), payload, Phase::Retiring | Phase::Retired) => {
                self.late = false;
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
    fn not_made(&mut self, reason: Reason, now: Timestamp, effects: &mut Vec<Effect>) {
        if self.is_cancellable() {
            return self.give_up(reason, now, effects);
        }
        self.cannot_decide(reason, effects);
        self.times.again_at = Some(now + self.timing.patience);
    }

    // What the hypervisor says.

    fn answered(&mut self, answer: Answer, now: Timestamp, effects: &mut Vec<Effect>) {
        let away = matches!(answer, Answer::Failed(OrderFault::Unreachable, _));
        if away {
            let since = *self.times.away_since.get_or_insert(now);
            if now.since(since) >= self.timing.patience {
                let text = format!("its host does not answer: what became of the guest is not known ({})", self.phase.name());
                self.cannot_decide(Reason::new(ReasonKind::Hypervisor, text), effects);
            }
        } else {
            self.times.away_since = None;
        }
        match self.phase {
            Phase::Marking => self.mark_answered(answer, now, effects),
            Phase::Moving => self.looked(answer, now, effects),
            Phase::Reclaiming => self.reclaim_answered(answer, now, effects),
            Phase::Retiring => {
                // A newer mark: the guest has come back by another migration.
                self.removed = matches!(answer, Answer::Done | Answer::Failed(OrderFault::Gone | OrderFault::Marked, _));
                if let Answer::Failed(OrderFault::Running | OrderFault::Refused, text) = &answer {
                    let text = format!("plane {} owns the guest, but it is still here: {text}", self.offer.to);
                    self.alarm(text, effects);
                }
                if !self.removed {
                    self.times.again_at = Some(now + self.timing.look);
                }
                self.retired();
            }
            _ => {}
        }
    }

    fn mark_answered(&mut self, answer: Answer, now: Timestamp, effects: &mut Vec<Effect>) {
        let (Answer::Done, Some(grants)) = (&answer, &self.grants) else {
            let text = match answer {
                Answer::Failed(_, text) => format!("the target's mark could not be put on the guest: {text}"),
                _ => "the target's mark could not be put on the guest".to_owned(),
            };
            return self.give_up(Reason::new(ReasonKind::Hypervisor, text), now, effects);
        };
        let job = Job { way: self.offer.way, resume: self.offer.resume, grants: (**grants).clone() };
        self.enter(Phase::Moving, now);
        self.orders = self.orders.wrapping_add(1);
        self.job = JobState::Ordered(self.orders);
        effects.push(Effect::Order(self.orders, Order::StartJob(Box::new(job))));
        self.next_round(now);
    }

    /// The heart of it: the job is over, or nobody tells; where is the guest?
    fn looked(&mut self, answer: Answer, now: Timestamp, effects: &mut Vec<Effect>) {
        let Answer::Guest(guest) = answer else {
            self.times.again_at = Some(now + self.timing.look);
            return;
        };
        if self.undecided.take().is_some() {
            self.asks_first = true;
            self.alarmed = false;
        }
        match guest {
            Guest::Gone => self.moved(now, effects),
            Guest::Here { job: true, .. } => {
                self.job = JobState::Adopted(0);
                self.times.again_at = Some(now + self.timing.look);
            }
            Guest::Here { activity, .. } => {
                if let JobState::Adopted(idle) = self.job {
                    if idle + 1 < IDLE_LOOKS {
                        self.job = JobState::Adopted(idle + 1);
                        self.times.again_at = Some(now + self.timing.look);
                        return;
                    }
                    self.job = JobState::Over;
                }
                if self.reason.is_none() {
                    let text = "the hypervisor's job ended, and the guest is still here";
                    self.reason = Some(Reason::new(ReasonKind::Hypervisor, text));
                }
                // A guest whose memory is here never ran there: by the manager it runs there only after the commit. By the
                // hypervisor it may, once it was paused here. One that was switched off may have been fenced.
                let is_ours = match (self.offer.way, self.offer.resume, activity) {
                    (Way::Cold, ..) | (Way::Live, _, Activity::Running) => true,
                    (Way::Live, ResumeBy::Manager, Activity::Paused) => true,
                    (Way::Live, ..) => false,
                };
                if is_ours && !self.asks_first { self.reclaim(now, effects) } else { self.ask(now, effects) }
            }
        }
    }

    fn reclaim_answered(&mut self, answer: Answer, now: Timestamp, effects: &mut Vec<Effect>) {
        match answer {
            Answer::Done => self.release(now, effects),
            // It was not to be moved any more, and is gone: not by this migration, unless a job had been ordered.
            Answer::Failed(OrderFault::Gone, _) if self.job == JobState::None => self.release(now, effects),
            Answer::Failed(OrderFault::Gone, _) if !self.told && !self.agreed => self.moved(now, effects),
            Answer::Failed(fault, text) => {
                if fault != OrderFault::Unreachable {
                    let text = format!("the guest could not be taken back: {text}");
                    self.cannot_decide(Reason::new(ReasonKind::Hypervisor, text), effects);
                }
                self.times.again_at = Some(now + self.timing.look);
            }
            _ => self.times.again_at = Some(now + self.timing.look),
        }
    }

    // The ways out.

    /// It is to end before the guest has moved.
    fn give_up(&mut self, reason: Reason, now: Timestamp, effects: &mut Vec<Effect>) {
        self.reason.get_or_insert(reason);
        match self.phase {
            Phase::Offering | Phase::Stating | Phase::Queueing => self.release(now, effects),
            Phase::Marking => self.reclaim(now, effects),
            Phase::Moving => {
                self.times.round_at = None;
                self.order_cancel(now, effects);
            }
            _ => {}
        }
    }

    /// The job must end; how it did, its end or a look tells.
    fn order_cancel(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        if matches!(self.job, JobState::Ordered(_) | JobState::Adopted(_)) {
            self.orders = self.orders.wrapping_add(1);
            effects.push(Effect::Order(self.orders, Order::CancelJob));
            self.times.again_at = Some(now + self.timing.look);
        }
    }

    fn ask(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        self.enter(Phase::Asking, now);
        self.epoch = Epochs(self.offer.epoch).reclaimed();
        if self.agreed {
            return self.reclaim(now, effects);
        }
        self.say_again(now, effects);
    }

    fn reclaim(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        self.enter(Phase::Reclaiming, now);
        let epochs = Epochs(self.offer.epoch);
        let redefine = self.forced == Some(Side::Source);
        self.epoch = if redefine { epochs.kept() } else { epochs.reclaimed() };
        self.order_again(now, effects);
    }

    /// Managed on here.
    fn release(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        if self.holds() {
            effects.push(Effect::Release { epoch: self.epoch });
        }
        self.out = None;
        let reason = self.why();
        self.end(Ending::Failed(reason), effects);
        if self.agreed {
            self.enter(Phase::Ended, now);
        } else {
            self.enter(Phase::TellingPeer, now);
            self.say_again(now, effects);
        }
    }

    /// The guest has left: from here on only forward.
    fn moved(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        self.enter(Phase::LastRound, now);
        self.reason = None;
        self.epoch = self.offer.epoch;
        if self.out.is_some() {
            return self.say_again(now, effects);
        }
        effects.push(Effect::Capture(What::Dirty { round: self.rounds + 1, last: true }));
    }

    fn resolve(&mut self, resolution: &Resolution, now: Timestamp, effects: &mut Vec<Effect>) {
        if self.undecided.take().is_none() || !self.owns() {
            return;
        }
        self.forced = Some(resolution.owner);
        match resolution.owner {
            Side::Source => {
                let text = format!("{} says that host {} does not run it", resolution.by, resolution.fenced);
                self.reason = Some(Reason::new(ReasonKind::Resolved, text));
                self.agreed = false;
                self.reclaim(now, effects);
            }
            Side::Target if self.phase == Phase::HandingOver => self.say_again(now, effects),
            Side::Target => self.moved(now, effects),
        }
    }

    fn end(&mut self, ending: Ending, effects: &mut Vec<Effect>) {
        if !std::mem::replace(&mut self.ended, true) {
            effects.push(Effect::End(ending));
        }
    }

    // Time, and beginning anew.

    fn tick(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
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
            self.say_again(now, effects);
        }
    }

    fn restarted(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        self.waiting = None;
        if matches!(self.job, JobState::Ordered(_) | JobState::Adopted(_)) {
            self.job = JobState::Adopted(0);
        }
        if self.phase == Phase::Moving {
            if self.reason.is_some() {
                self.order_cancel(now, effects);
            } else if self.out.is_none() {
                self.next_round(now);
            }
        }
        self.order_again(now, effects);
        self.say_again(now, effects);
    }

    /// Orders what its phase waits for, where no answer is due.
    fn order_again(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        if self.waiting.is_some() {
            return;
        }
        let redefine = self.forced == Some(Side::Source);
        match self.phase {
            Phase::Marking => self.order(Order::Mark(self.their_mark()), effects),
            Phase::Moving if matches!(self.job, JobState::Adopted(_) | JobState::Over) => self.order(Order::Look, effects),
            // Meanwhile an admin may have given it to the target, or it turns out that it runs there.
            Phase::Reclaiming if self.undecided.is_some() && !self.agreed && !redefine => self.ask(now, effects),
            Phase::Reclaiming => {
                let mark = Mark { plane: self.offer.from.clone(), epoch: self.epoch };
                self.order(Order::Reclaim { mark, redefine }, effects);
            }
            Phase::Retiring if !self.removed => {
                self.order(Order::Remove(self.their_mark()), effects);
            }
            _ => {}
        }
    }

    /// Says again what its phase waits an answer for.
    fn say_again(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
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
    fn to_say(&self) -> Option<Message> {
        match self.phase {
            Phase::Offering => Some(Message::Offer(self.offer.clone())),
            Phase::HandingOver => Some(Message::Complete { epoch: self.their_mark().epoch, rounds: self.rounds }),
            Phase::Asking | Phase::TellingPeer | Phase::Ended => Some(Message::Abort { epoch: self.epoch, reason: self.why() }),
            Phase::Marking | Phase::Reclaiming => None,
            Phase::Stating | Phase::Queueing | Phase::Moving | Phase::LastRound | Phase::Retiring | Phase::Retired => {
                self.out.clone()
            }
        }
    }

    // Small things.

    fn enter(&mut self, phase: Phase, now: Timestamp) {
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

    fn order(&mut self, order: Order, effects: &mut Vec<Effect>) {
        self.orders = self.orders.wrapping_add(1);
        self.waiting = Some(self.orders);
        effects.push(Effect::Order(self.orders, order));
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

    /// The target's mark.
    fn their_mark(&self) -> Mark {
        let epochs = Epochs(self.offer.epoch);
        let epoch = if self.forced == Some(Side::Target) { epochs.given() } else { epochs.committed() };
        Mark { plane: self.offer.to.clone(), epoch }
    }

    fn why(&self) -> Reason {
        self.reason.clone().unwrap_or_else(|| Reason::new(ReasonKind::Peer, "given up"))
    }
}
