//! What the hypervisor says of the guest, and the ways out: back, on, or by an admin's word.

use super::{Effect, JobState, Phase, Source, What};
use crate::migration::{
    Activity, Answer, Ending, Epochs, Guest, Job, Order, OrderFault, Reason, ReasonKind, Resolution, ResumeBy, Side, Way,
};
use crate::model::Timestamp;

/// A job that nobody tells the end of is believed to be over when so many looks in a row did not find it: an order that the
/// dead plane gave at the very last may still be on its way to the hypervisor.
const IDLE_LOOKS: u8 = 2;

impl Source {
    pub(super) fn answered(&mut self, answer: Answer, now: Timestamp, effects: &mut Vec<Effect>) {
        if let Phase::TellingPeer | Phase::Ended = self.phase {
            return self.watched(answer, now, effects);
        }
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

    pub(super) fn mark_answered(&mut self, answer: Answer, now: Timestamp, effects: &mut Vec<Effect>) {
        let Answer::Done = answer else {
            let text = match answer {
                Answer::Failed(_, text) => format!("the target's mark could not be put on the guest: {text}"),
                _ => "the target's mark could not be put on the guest".to_owned(),
            };
            return self.give_up(Reason::new(ReasonKind::Hypervisor, text), now, effects);
        };
        self.enter(Phase::Moving, now);
        self.start_job(effects);
        self.next_round(now);
    }

    /// Orders the job; a cold one is begun anew after a restart, for each of its parts may be done twice.
    pub(super) fn start_job(&mut self, effects: &mut Vec<Effect>) {
        let Some(grants) = &self.grants else { return };
        let job = Job {
            way: self.offer.way,
            resume: self.offer.resume,
            shut_down: self.offer.stops(),
            force_after: self.force_after,
            grants: (**grants).clone(),
        };
        self.orders = self.orders.wrapping_add(1);
        self.job = JobState::Ordered(self.orders);
        effects.push(Effect::Order(self.orders, Order::StartJob(Box::new(job))));
    }

    /// The heart of it: the job is over, or nobody tells; where is the guest?
    pub(super) fn looked(&mut self, answer: Answer, now: Timestamp, effects: &mut Vec<Effect>) {
        let Answer::Guest(guest) = answer else {
            self.times.again_at = Some(now + self.timing.look);
            return;
        };
        if self.undecided.take().is_some() {
            self.asks_first = true;
            self.alarmed = false;
        }
        match guest {
            // A cold guest leaves by its files: where they have not arrived, it was not this migration that took it away.
            Guest::Gone if self.offer.way == Way::Cold && self.job != JobState::Copied => self.is_missing(now, effects),
            Guest::Gone => self.moved(now, effects),
            Guest::Here { job: true, .. } => {
                self.job = JobState::Adopted(0);
                self.times.again_at = Some(now + self.timing.look);
            }
            Guest::Here { activity: Activity::Off, .. } if self.job == JobState::Copied && self.reason.is_none() => {
                self.moved(now, effects);
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
                let failure = self.failure.take().unwrap_or_else(|| {
                    let text = match self.job {
                        JobState::Copied => "the guest was started while its files were copied",
                        _ => "the hypervisor's job ended, and the guest is still here",
                    };
                    Reason::new(ReasonKind::Hypervisor, text)
                });
                self.reason.get_or_insert(failure);
                if activity == Activity::Running && self.stops() && self.job != JobState::Copied {
                    self.start_owed = Some(now + self.timing.whole);
                }
                // A guest whose memory is here never ran there: by the manager it runs there only after the commit. By the
                // hypervisor it may, once it was paused here. One that was switched off may have been fenced.
                let is_ours = match (self.offer.way, self.offer.resume, activity) {
                    (Way::Cold, ..) | (Way::Live, _, Activity::Running) => true,
                    (Way::Live, ResumeBy::Manager, Activity::Paused) => true,
                    (Way::Live, ..) => false,
                };
                // A guest that runs here has the lock of its disks: by the hypervisor, that says all.
                let is_certain = activity == Activity::Running && self.offer.resume == ResumeBy::Hypervisor;
                if is_ours && (is_certain || !self.asks_first) { self.reclaim(now, effects) } else { self.ask(now, effects) }
            }
        }
    }

    fn is_missing(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        let text = "the guest is no longer here, and its files had not arrived: who has undefined it?";
        self.cannot_decide(Reason::new(ReasonKind::Hypervisor, text), effects);
        self.times.again_at = Some(now + self.timing.look);
    }

    pub(super) fn reclaim_answered(&mut self, answer: Answer, now: Timestamp, effects: &mut Vec<Effect>) {
        match answer {
            Answer::Done => self.release(now, effects),
            // It was not to be moved any more, and is gone: not by this migration, unless a job had been ordered.
            Answer::Failed(OrderFault::Gone, _) if self.job == JobState::None => self.release(now, effects),
            Answer::Failed(OrderFault::Gone, _) if self.offer.way == Way::Live && !self.told && !self.agreed => {
                self.moved(now, effects);
            }
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

    /// It is to end before the guest has moved.
    pub(super) fn give_up(&mut self, reason: Reason, now: Timestamp, effects: &mut Vec<Effect>) {
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
    pub(super) fn order_cancel(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        if matches!(self.job, JobState::Ordered(_) | JobState::Adopted(_)) {
            // Nobody answers it, so it needs no number of its own.
            effects.push(Effect::Order(self.orders, Order::CancelJob));
            self.times.again_at = Some(now + self.timing.look);
        }
    }

    pub(super) fn ask(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        self.enter(Phase::Asking, now);
        self.epoch = Epochs(self.offer.epoch).reclaimed();
        if self.agreed {
            return self.reclaim(now, effects);
        }
        self.say_again(now, effects);
    }

    pub(super) fn reclaim(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        self.enter(Phase::Reclaiming, now);
        let epochs = Epochs(self.offer.epoch);
        let redefine = self.forced == Some(Side::Source);
        self.epoch = if redefine { epochs.kept() } else { epochs.reclaimed() };
        self.order_again(now, effects);
    }

    /// Managed on here.
    pub(super) fn release(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        if self.holds() {
            effects.push(Effect::Release { epoch: self.epoch });
        }
        self.out = None;
        let reason = self.why();
        self.end(Ending::Failed(reason), effects);
        if self.agreed {
            return self.over(now, effects);
        }
        self.enter(Phase::TellingPeer, now);
        self.order_again(now, effects);
        self.say_again(now, effects);
    }

    /// Nobody need be told anything any more.
    pub(super) fn over(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        self.enter(Phase::Ended, now);
        self.order_again(now, effects);
    }

    /// It is managed on here: does it still do what it was asked before, to shut down?
    fn watched(&mut self, answer: Answer, now: Timestamp, effects: &mut Vec<Effect>) {
        let Some(until) = self.start_owed else { return };
        match answer {
            Answer::Guest(Guest::Gone) => self.start_owed = None,
            Answer::Guest(Guest::Here { activity: Activity::Off, job: false, .. }) => {
                // From here on, that it runs is all that is waited for.
                let since = until.min(now);
                self.start_owed = Some(since);
                if now.since(since) >= self.timing.patience {
                    self.alarm(
                        "it has shut down after all, as it was asked to before, and does not start again".into(),
                        effects,
                    );
                }
                effects.push(Effect::Start);
            }
            Answer::Guest(Guest::Here { activity: Activity::Running, .. }) if now >= until => self.start_owed = None,
            _ => {}
        }
        if self.start_owed.is_some() {
            let after = if self.alarmed { self.timing.patience } else { self.timing.look };
            self.times.again_at = Some(now + after);
        }
    }

    /// The guest has left: from here on only forward.
    pub(super) fn moved(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        self.enter(Phase::LastRound, now);
        (self.reason, self.failure) = (None, None);
        self.epoch = self.offer.epoch;
        if self.out.is_some() {
            return self.say_again(now, effects);
        }
        effects.push(Effect::Capture(What::Dirty { round: self.rounds + 1, last: true }));
    }

    pub(super) fn resolve(&mut self, resolution: &Resolution, now: Timestamp, effects: &mut Vec<Effect>) {
        // What the target has on record as given up it cannot be given.
        if self.undecided.is_none() || !self.owns() || self.agreed && resolution.owner == Side::Target {
            return;
        }
        self.undecided = None;
        self.forced = Some(resolution.owner);
        match resolution.owner {
            Side::Source => {
                let text = format!("{} says that host {} does not run it", resolution.by, resolution.fenced);
                self.reason = Some(Reason::new(ReasonKind::Resolved, text));
                self.reclaim(now, effects);
            }
            Side::Target if self.phase == Phase::HandingOver => self.say_again(now, effects),
            Side::Target => self.moved(now, effects),
        }
    }

    pub(super) fn end(&mut self, ending: Ending, effects: &mut Vec<Effect>) {
        if !std::mem::replace(&mut self.ended, true) {
            effects.push(Effect::End(ending));
        }
    }
}
