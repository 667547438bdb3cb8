//! What a target's machine wants of its manager: admission, import, commit, discard.

use super::{Entry, Machine};
use crate::manager::Manager;
use crate::migration::bundle::{Bundle, Changes, Waiting};
use crate::migration::message::Payload;
use crate::migration::source;
use crate::migration::target::{Effect, Import, Imported, Input};
use crate::migration::{Reason, ReasonKind};
use crate::model::{
    Action, ActionKind, ActionState, Change, ElementId, EmbotId, Event, EventBody, HostId, Level, Mark, MigrationId, Notice,
    NoticeBody, Record, TimerRow, Timestamp, VmId,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

impl Manager {
    /// Steps a target, answers of its manager included.
    pub(super) fn run_target(&mut self, id: &MigrationId, entry: &mut Entry, mut inputs: VecDeque<Input>) {
        while let Some(input) = inputs.pop_front() {
            let Machine::Target(machine) = &mut entry.machine else { return };
            for effect in machine.step(input, self.now) {
                inputs.extend(self.target_effect(id, entry, effect));
            }
            entry.row.enter(entry.machine.word(), self.now);
        }
    }

    /// Does what a target wants; gives the answer, where it is a question.
    pub(super) fn target_effect(&mut self, id: &MigrationId, entry: &mut Entry, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Send(message) => {
                let peer = entry.row.peer.clone();
                self.say(&peer, id, message);
            }
            Effect::Order(number, order) => self.order(id, entry, number, order),
            Effect::Alarm(text) => self.notice(Level::Alarm, format!("migration {id} of guest {}: {text}", entry.row.name)),
            Effect::Consider => return Some(Input::Verdict(self.consider(id, entry))),
            Effect::Import(import) => {
                let imported = self.import(entry, import).unwrap_or_else(Imported::Refused);
                return Some(Input::Imported(imported));
            }
            Effect::Install(parcel) => return Some(Input::Installed(self.install(entry, &parcel))),
            Effect::Commit { epoch } => self.commit(id, entry, epoch),
            Effect::ReleaseSensed => self.release_sensed(entry),
            Effect::Discard => {
                self.let_go(entry);
                entry.row.staged = crate::model::Staged::default();
                let is_here = self.world.borrow().vm(entry.row.vm).is_some();
                if !is_here {
                    self.forget_bringer(entry.row.vm);
                }
            }
            Effect::Retire { epoch } => {
                if std::mem::take(&mut entry.row.is_held) {
                    self.drop_held(&entry.vm(), |_| true);
                    self.queue.release(&entry.vm());
                }
                let peer = entry.row.peer.clone();
                let told = self.depart(entry.row.vm, &peer, epoch);
                entry.row.staged.own.extend(told);
            }
        }
        None
    }

    /// Room that was kept is free again.
    pub(super) fn unreserve(&mut self, id: &MigrationId, entry: &mut Entry) {
        entry.row.reservation = None;
        self.world.borrow_mut().reserved.remove(id);
    }

    /// Modules have come, or a part of them.
    fn install(&mut self, entry: &Entry, parcel: &Payload) -> Imported {
        let refused = |text: String| Imported::Refused(Reason::new(ReasonKind::Instantiation, text));
        let (Machine::Target(machine), Some(grant)) = (&entry.machine, &entry.row.grant) else {
            return refused("modules came that nobody waits for".to_owned());
        };
        let Some(offer) = &machine.offer else { return refused("modules came without an offer".to_owned()) };
        self.install_parcel(entry.row.vm, &offer.modules, grant, parcel).unwrap_or_else(refused)
    }

    /// Reads what has come and keeps it aside.
    fn import(&mut self, entry: &mut Entry, import: Import) -> Result<Imported, Reason> {
        let (vm, ahead_ms) = (entry.row.vm, entry.ahead_ms);
        let refused = |error: crate::migration::bundle::BundleError| {
            Reason::new(ReasonKind::Import, format!("what came is refused: {error}"))
        };
        let staged = &mut entry.row.staged;
        match import {
            Import::State(Payload(bytes)) => {
                let bundle = Bundle::from_bytes(&bytes, vm).map_err(refused)?;
                if let Some(refused) = self.unmanaged(&bundle) {
                    return Ok(Imported::Refused(refused));
                }
                staged.state = bytes.to_vec();
                staged.ahead_ms = ahead_ms;
            }
            Import::Events(Payload(bytes)) => {
                Waiting::from_bytes(&bytes, vm).map_err(refused)?;
                // It left this plane once, and what came late to it then is not all there yet where it comes from: the two would
                // pass each other.
                if self.settle_late(vm) {
                    return Ok(Imported::NotNow);
                }
                entry.row.staged.events = vec![bytes.to_vec()];
                entry.row.is_held = true;
                self.hold_sensed(vm, &entry.vm());
            }
            Import::Dirty(round) => {
                let changes = Changes::from_bytes(&round.payload.0, vm).map_err(refused)?;
                if let Some(state) = changes.state {
                    let bundle = Bundle::from_bytes(&state, vm).map_err(refused)?;
                    if let Some(refused) = self.unmanaged(&bundle) {
                        return Ok(Imported::Refused(refused));
                    }
                    staged.dirty = state;
                    staged.ahead_ms = ahead_ms;
                }
                staged.events.push(changes.events);
            }
            Import::Late(late) => {
                let waiting = Waiting::from_bytes(&late.payload.0, vm).map_err(refused)?;
                // It is on its way back here: if that comes to nothing, what is held for it now is dropped.
                if !entry.row.is_held && self.handovers.coming(vm).is_some() {
                    return Ok(Imported::NotNow);
                }
                self.take_over(entry, waiting);
            }
        }
        Ok(Imported::Accepted)
    }

    /// What this plane's hosts say of the guest waits from now on. An earlier migration that still held the guest's facts hands
    /// them over.
    fn hold_sensed(&mut self, vm: VmId, element: &ElementId) {
        self.queue.hold(element);
        let holds = |(id, entry): (&MigrationId, &Entry)| entry.row.is_held.then(|| id.clone());
        let earlier: Vec<MigrationId> = self.handovers.entries.of(vm).filter_map(holds).collect();
        for id in earlier {
            self.handovers.entries.edit(&id, |entry| entry.row.is_held = false);
            self.turn.migrations.insert(id);
        }
    }

    /// Every module of a bundle is in force here, in its own version or in the one that came along. If not: one that came to
    /// the guest after it was offered.
    fn unmanaged(&self, bundle: &Bundle) -> Option<Reason> {
        let stamp = bundle.modules.iter().find(|stamp| self.roster.module(&stamp.name).is_none())?;
        let text = format!("module {} was not part of the offer, and is not in force here: offer the guest again", stamp.name);
        Some(Reason::new(ReasonKind::Instantiation, text))
    }

    /// The guest is ours: what was kept aside takes effect.
    fn commit(&mut self, id: &MigrationId, entry: &mut Entry, epoch: u64) {
        let (vm, element, peer) = (entry.row.vm, entry.vm(), entry.row.peer.clone());
        let ahead_ms = entry.row.staged.ahead_ms;
        let staged = std::mem::take(&mut entry.row.staged);
        let read = |bytes: &[u8]| Bundle::from_bytes(bytes, vm);
        let bundle = match (read(&staged.state), staged.dirty.is_empty()) {
            (Ok(first), true) => Ok(first),
            (Ok(first), false) => read(&staged.dirty).map(|dirty| dirty.after(first)),
            (Err(error), _) => Err(error),
        };
        let mark = Mark { plane: self.settings.plane.clone(), epoch };
        let host = entry.row.host.clone();
        entry.row.staged.ahead_ms = ahead_ms;
        self.unreserve(id, entry);
        let mut numbers = BTreeMap::new();
        let mut from = HostId(peer.clone());
        match bundle {
            Ok(bundle) => {
                let shift = Bundle::shift_ms(bundle.captured_at, ahead_ms, self.now);
                let mut bundle = bundle.rebase(shift);
                from = HostId(format!("{peer}/{}", bundle.guest.host).into());
                numbers = bundle.renumber(&peer, &mut self.row.next_action);
                self.take_in(entry, bundle, mark, &host, shift);
            }
            // It was read when it came, so only a damaged store leads here; the guest itself is ours all the same.
            Err(error) => self.notice(Level::Alarm, format!("migration {id}: the guest's management is lost: {error}")),
        }
        for bytes in &staged.events {
            match Waiting::from_bytes(bytes, vm) {
                Ok(mut waiting) => {
                    waiting.renumber_actions(&numbers);
                    self.take_over(entry, waiting);
                }
                Err(error) => self.notice(Level::Alarm, format!("migration {id}: waiting facts are lost: {error}")),
            }
        }
        let migrated = EventBody::Migrated { from, to: host };
        // Stated here, so it stands behind all that comes from the source.
        self.event(self.now, element, None, migrated);
    }

    /// The guest's management is put in force.
    pub(super) fn take_in(&mut self, entry: &Entry, bundle: Bundle, mark: Mark, host: &HostId, shift_ms: i64) {
        let (vm, element) = (entry.row.vm, entry.vm());
        let Bundle { captured_at, mut guest, embots, timers, memory, usage, advice, mut decisions, .. } = bundle;
        let limit = entry.row.grant.as_ref().and_then(|grant| grant.mode);
        guest.mode = limit.map_or(guest.mode, |limit| guest.mode.min(limit));
        (guest.host, guest.mark, guest.since) = (host.clone(), Some(mark), self.now);
        let names: BTreeSet<EmbotId> = embots.iter().map(|(id, _)| id.clone()).collect();
        self.roster.expect(embots);
        let mut world = self.world.borrow_mut();
        if world.gone.remove(&vm).is_some() {
            self.turn.changes.push(Change::Tombstone(vm, None));
        }
        let mark = guest.mark.clone();
        world.put_vm(guest);
        mark.into_iter().for_each(|mark| self.inventory.marked(&mut world, vm, mark, self.now));
        drop(world);
        let (made, dropped) = self.roster.register(&self.world.borrow(), &element);
        let (continued, news): (Vec<EmbotId>, Vec<EmbotId>) = made.into_iter().partition(|id| names.contains(id));
        self.embots_changed(news, dropped);
        for id in continued {
            self.turn.embots.extend(self.roster.slot(&id));
        }
        for id in self.roster.expected(&element) {
            self.notice(
                Level::Warning,
                format!("the state of embot {id} is dropped: its module does not cover the guest here"),
            );
        }
        for timer in timers.into_iter().filter(|timer| self.roster.slot(&timer.embot).is_some()) {
            let due = captured_at + timer.remaining;
            let number = self.row.next_timer;
            self.row.next_timer += 1;
            let row = TimerRow { embot: timer.embot, due, name: timer.name, content: timer.content };
            self.turn.changes.push(Change::Timer(number, Some(row.clone())));
            self.timers.set(number, row);
        }
        self.planner.remember_guest(vm, memory);
        for (element, bytes) in usage {
            let imported = self.usage.borrow_mut().import_shifted(element.clone(), &bytes, shift_ms);
            match imported {
                Ok(()) => {
                    let bytes = self.usage.borrow().export(&element);
                    self.turn.changes.push(Change::Usage(element, bytes));
                }
                Err(error) => self.notice(Level::Warning, format!("usage of {element} starts anew: {error}")),
            }
        }
        // The handover that brought it is over in this moment.
        let is_handover = |action: &&mut Action| matches!(action.proposal.kind, ActionKind::Handover { .. });
        if let Some(handover) = decisions.iter_mut().rfind(is_handover) {
            handover.state_at = self.now;
        }
        for action in decisions.into_iter().chain(advice) {
            self.turn.actions.insert(action.id);
            let place = if matches!(action.state, ActionState::Advised { .. }) { &mut self.open } else { &mut self.ended };
            place.insert(action.id, action);
        }
    }

    /// Facts of the source, in their order: before all that was sensed here.
    fn take_over(&mut self, entry: &mut Entry, waiting: Waiting) {
        let shift = Bundle::shift_ms(waiting.captured_at, entry.ahead_ms, self.now);
        let waiting = waiting.rebase(shift);
        let first = self.row.next_event;
        let mut last_at = entry.row.staged.last_at;
        for event in waiting.events {
            if event.seq <= entry.row.staged.through {
                continue;
            }
            entry.row.staged.through = event.seq;
            // Its place among the others is that of the source, whatever the clocks say.
            last_at = last_at.max(event.at);
            let event = Event { seq: self.row.next_event, at: last_at, ..event };
            self.row.next_event += 1;
            match entry.row.is_held {
                true => self.pass(event),
                // Its own hold is over. Where there is another, the guest has gone on meanwhile, and the fact goes after it.
                false => self.wait(event),
            }
        }
        entry.row.staged.last_at = last_at;
        if entry.row.is_held && self.row.next_event > first {
            entry.row.staged.own.push((first, self.row.next_event - 1));
        }
    }

    /// A fact stated now that passes its element's hold. Returns its number.
    pub(super) fn event_past(&mut self, element: ElementId, to: Option<EmbotId>, body: EventBody) -> u64 {
        let seq = self.row.next_event;
        self.row.next_event += 1;
        self.pass(Event { seq, at: self.now, element, to, body });
        seq
    }

    fn pass(&mut self, event: Event) {
        self.stated(&event);
        self.queue.push_past(event);
    }

    /// A fact stated elsewhere that its element's hold keeps back, where there is one.
    fn wait(&mut self, event: Event) {
        self.stated(&event);
        self.queue.push(event);
    }

    fn stated(&mut self, event: &Event) {
        self.figures.events += 1;
        self.turn.facts.insert(event.seq);
        self.turn.records.push(Record::Event { event: event.clone() });
    }

    /// Has an earlier migration still to send what came late to a guest after it had left? Then it sends it again now.
    fn settle_late(&mut self, vm: VmId) -> bool {
        let owes = |(id, entry): (&MigrationId, &Entry)| {
            matches!(&entry.machine, Machine::Source(machine) if machine.owes_late()).then(|| id.clone())
        };
        let owing: Vec<MigrationId> = self.handovers.entries.of(vm).filter_map(owes).collect();
        for id in &owing {
            self.feed_source(id, source::Input::LinkUp);
        }
        !owing.is_empty()
    }

    /// A guest that was on its way here is not: what is sensed of it goes, and the migration by which it left once, if there was
    /// one, has its hold back.
    fn let_go(&mut self, entry: &mut Entry) {
        if !std::mem::take(&mut entry.row.is_held) {
            return;
        }
        self.drop_held(&entry.vm(), |_| true);
        let is_gone = self.world.borrow().gone.contains_key(&entry.row.vm);
        let left = |(id, entry): (&MigrationId, &Entry)| {
            matches!(&entry.machine, Machine::Source(machine) if !machine.owns()).then(|| (entry.row.epoch, id.clone()))
        };
        match self.handovers.entries.of(entry.row.vm).filter_map(left).max().filter(|_| is_gone) {
            Some((_, id)) => {
                self.handovers.entries.edit(&id, |entry| entry.row.is_held = true);
                self.turn.migrations.insert(id);
            }
            None => self.queue.release(&entry.vm()),
        }
    }

    /// What was sensed here is dispatched, after all that came from the source.
    fn release_sensed(&mut self, entry: &mut Entry) {
        if !std::mem::take(&mut entry.row.is_held) {
            return;
        }
        let last_at = entry.row.staged.last_at;
        for mut event in self.queue.take_held(&entry.vm()) {
            let moved = event.at <= last_at;
            if moved {
                event.at = Timestamp(last_at.0.saturating_add(1));
            }
            let is_kept = !self.turn.facts.contains(&event.seq) && event.body.class() == crate::model::EventClass::Fact;
            if moved && is_kept {
                self.turn.changes.push(Change::Pending(event.seq, Some(Box::new(event.clone()))));
            }
            self.queue.push(event);
        }
        entry.row.staged = crate::model::Staged { through: entry.row.staged.through, last_at, ..Default::default() };
    }

    /// A host of this plane says something of a guest that is on its way here. What does not show at the next poll as well is kept
    /// until the guest is ours. Says whether it was such a guest.
    pub(in crate::manager) fn sensed_early(&mut self, notice: &Notice) -> bool {
        let Some(entry) = self.handovers.coming(notice.vm) else { return false };
        if !entry.row.is_held {
            return true;
        }
        let guest = ElementId::Vm(notice.vm);
        let (element, body) = match &notice.body {
            NoticeBody::IoError(disk, reason) => {
                (ElementId::Disk(notice.vm, disk.clone()), EventBody::IoError { reason: reason.clone() })
            }
            NoticeBody::Watchdog(action) => (guest, EventBody::Watchdog { action: action.clone() }),
            NoticeBody::Agent(agent) => (guest, EventBody::Agent(*agent)),
            NoticeBody::State(..)
            | NoticeBody::Described(_)
            | NoticeBody::Undefined
            | NoticeBody::Rebooted
            | NoticeBody::Balloon(_) => return true,
        };
        self.event(notice.at, element, None, body);
        true
    }
}
