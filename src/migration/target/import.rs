//! Admission, modules, and what is read.

use super::{Effect, Import, Imported, Phase, Target, Verdict};
use crate::migration::message::{Digest, Message};
use crate::migration::{Reason, ReasonKind, Way};
use crate::model::Timestamp;
use std::collections::BTreeSet;

/// Modules are asked for so often in one migration, at the most: what was read may import more, but not for ever.
const REQUESTS: u32 = 32;
/// A lot of late facts is read so often before it is left out.
const LATE_TRIES: u32 = 8;

impl Target {
    pub(super) fn considered(&mut self, verdict: Verdict, now: Timestamp, effects: &mut Vec<Effect>) {
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

    pub(super) fn permit(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        self.enter(Phase::Permitted, now);
        self.times.lease_by = self.lease(now);
        effects.extend(self.grants.clone().map(|grants| Effect::Send(Message::Permitted(grants))));
    }

    pub(super) fn deny(&mut self, reason: Reason, now: Timestamp, effects: &mut Vec<Effect>) {
        if self.grants.is_some() {
            effects.push(Effect::Discard);
        }
        effects.push(Effect::Send(Message::Denied(reason.clone())));
        self.reason = Some(reason);
        self.enter(Phase::Denied, now);
    }

    /// Asks for modules, if that was not done too often.
    pub(super) fn request(&mut self, lacks: BTreeSet<Digest>, now: Timestamp, effects: &mut Vec<Effect>) {
        self.requests += 1;
        if self.requests > REQUESTS {
            let text = format!("modules were asked for {REQUESTS} times, and more are lacking");
            return self.installed(Imported::Refused(Reason::new(ReasonKind::Instantiation, text)), now, effects);
        }
        self.lacks = lacks;
        self.say_again(now, effects);
    }

    pub(super) fn installed(&mut self, imported: Imported, now: Timestamp, effects: &mut Vec<Effect>) {
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
            (Imported::NotNow, _) | (_, None) => {}
        }
    }

    /// Reads a payload, or says again what it waits for.
    pub(super) fn import(&mut self, import: Import, effects: &mut Vec<Effect>) {
        if self.pending.is_some() && !self.lacks.is_empty() {
            return effects.push(Effect::Send(Message::ModuleRequest(self.lacks.clone())));
        }
        self.pending = Some(import.clone());
        effects.push(Effect::Import(import));
    }

    pub(super) fn imported(&mut self, imported: Imported, now: Timestamp, effects: &mut Vec<Effect>) {
        let Some(import) = self.pending.take() else { return };
        match (imported, import) {
            (Imported::Lacks(lacks), import) => {
                self.pending = Some(import);
                self.request(lacks, now, effects);
            }
            (Imported::NotNow, _) => {}
            (Imported::Refused(reason), import) => self.refuse(&import, reason, now, effects),
            (Imported::Accepted, Import::State(_)) => {
                self.enter(Phase::Stated, now);
                self.times.lease_by = self.lease(now);
                effects.push(Effect::Send(Message::StateAccepted));
            }
            (Imported::Accepted, Import::Events(_)) if self.offer.as_ref().is_some_and(|offer| offer.way == Way::Cold) => {
                self.enter(Phase::Defining, now);
                self.times.lease_by = self.lease(now);
                self.order_again(effects);
            }
            (Imported::Accepted, Import::Events(_)) => self.bind(now, effects),
            (Imported::Accepted, Import::Dirty(round)) => {
                self.rounds = round.round;
                self.last = round.last;
                effects.push(Effect::Send(Message::DirtyAccepted(round.round)));
            }
            (Imported::Accepted, Import::Late(late)) => self.late_done(late.lot, effects),
        }
    }

    /// Everything is here: from now on only the source can give it up.
    pub(super) fn bind(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        self.enter(Phase::Bound, now);
        self.times.again_at = Some(now + self.timing.step);
        effects.push(Effect::Send(Message::EventsAccepted));
    }

    fn late_done(&mut self, lot: u32, effects: &mut Vec<Effect>) {
        (self.lots, self.refusals) = (lot, 0);
        effects.push(Effect::Send(Message::LateAck(lot)));
        self.release_sensed(effects);
    }

    /// A payload cannot be read: before it is bound the target gives up, after it the source decides; after the commit it is
    /// left out.
    pub(super) fn refuse(&mut self, import: &Import, reason: Reason, now: Timestamp, effects: &mut Vec<Effect>) {
        match import {
            Import::State(_) | Import::Events(_) => self.give_up(reason, now, effects),
            Import::Dirty(round) => effects.push(Effect::Send(Message::DirtyFailed(round.round, reason))),
            // They are sent again; but what is never readable must not go on for ever. It stands in the source's journal.
            Import::Late(late) => {
                self.refusals += 1;
                if self.refusals >= LATE_TRIES {
                    let text = format!("facts that came late (lot {}) cannot be read, and are left out: {reason}", late.lot);
                    effects.push(Effect::Alarm(text.into()));
                    self.late_done(late.lot, effects);
                }
            }
        }
    }
}
