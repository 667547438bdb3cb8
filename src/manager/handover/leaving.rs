//! What a source's machine wants of its manager: hold, capture, release, retire.

use super::{Entry, Machine, row};
use crate::manager::{Manager, Output};
use crate::migration::bundle::{Bundle, Changes, Parts, Waiting};
use crate::migration::message::{GuestOffer, ModuleOffer, Offer, Payload};
use crate::migration::order::MigrationOrder;
use crate::migration::source::{Effect, Input, Source, What};
use crate::migration::{Ending, Order, Reason, ReasonKind, ResumeBy, Way};
use crate::model::{
    Action, ActionId, ActionKind, ActionState, ActionUpdate, Bytes, Change, ElementId, EmbotId, EventBody, HostId, Level, Mark,
    MigrationId, Side, Tombstone, VmId,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

impl Manager {
    /// The planner has accepted that a guest is handed over: its host is asked what the peer must know of it.
    pub(in crate::manager) fn begin_handover(&mut self, action: &Action) {
        let ActionKind::Handover { vm, live, .. } = action.proposal.kind else { return };
        let Some(host) = action.host.clone() else { return };
        let migration = self.migration_of(action.id);
        let way = if live { Way::Live } else { Way::Cold };
        self.turn.outputs.push(Output::Describe { migration, vm, host, way });
    }

    /// A host has described a guest that is to go: now it can be offered.
    pub(super) fn described(&mut self, id: &MigrationId, guest: &Result<Bytes, Arc<str>>) {
        let action = ActionId(id.number);
        let Some(known) = self.open.get(&action).filter(|action| action.state.is_open() && id.plane == self.settings.plane)
        else {
            return;
        };
        if self.handovers.entries.contains(id) {
            return;
        }
        let known = known.clone();
        let offer = match guest {
            Ok(bytes) => {
                postcard::from_bytes(&bytes.0).map_err(|error| format!("its description cannot be read: {error}").into())
            }
            Err(why) => Err(why.clone()),
        };
        match offer.and_then(|guest| self.offer(&known, guest)) {
            Ok(offer) => {
                self.update(action, &ActionUpdate::Started);
                let host = known.host.clone().unwrap_or_else(|| HostId::from(""));
                let live = offer.way == Way::Live;
                let row = row(Side::Source, &offer.to, offer.vm, &offer.guest.name, offer.epoch, live, host);
                let mut machine = Source::new(id.clone(), offer, self.settings.handover.timing, self.now);
                if let ActionKind::Handover { force_after, .. } = &known.proposal.kind {
                    machine.force_after = *force_after;
                }
                let mut entry = Entry::new(Machine::Source(machine), row);
                self.run_source(id, &mut entry, VecDeque::from([Input::Begin]));
                self.keep(id.clone(), entry, true);
            }
            Err(why) => self.update(action, &ActionUpdate::Failed(why)),
        }
    }

    /// What is offered to the peer.
    fn offer(&self, action: &Action, mut guest: GuestOffer) -> Result<Offer, Arc<str>> {
        let ActionKind::Handover { vm, plane, host, live, .. } = &action.proposal.kind else {
            return Err("it is no handover".into());
        };
        let is_settling = |(_, entry): (_, &Entry)| entry.row.is_held && matches!(entry.machine, Machine::Target(_));
        if self.handovers.entries.of(*vm).any(is_settling) {
            return Err("it has just come, and the last of its facts are on their way: try again in some seconds".into());
        }
        let world = self.world.borrow();
        let known = world.vm(*vm).ok_or("the plane no longer knows the guest")?;
        (guest.name, guest.state) = (known.name.clone(), known.state);
        (guest.vcpus, guest.memory_mib) = (known.vcpus, known.memory_mib);
        guest.cpu_millicores = (self.weighed(|_, situation| situation.load_of(known)) * 1_000.0) as u32;
        (guest.labels, guest.mode) = (known.labels.clone(), known.mode);
        let element = ElementId::Vm(*vm);
        let modules: Vec<ModuleOffer> = self
            .roster
            .of(&element)
            .filter_map(|embot| self.roster.module(&embot.id.module))
            .map(|module| self.module_offer(module))
            .collect::<Result<_, _>>()?;
        Ok(Offer {
            vm: *vm,
            epoch: action.epoch,
            from: self.settings.plane.clone(),
            to: plane.clone(),
            host: host.clone(),
            way: if *live { Way::Live } else { Way::Cold },
            // A cold guest is started, not resumed.
            resume: if *live { self.settings.handover.resume } else { ResumeBy::Manager },
            why: action.proposal.reason.clone(),
            guest,
            modules,
        })
    }

    /// Steps a source, answers of its manager included.
    pub(super) fn run_source(&mut self, id: &MigrationId, entry: &mut Entry, mut inputs: VecDeque<Input>) {
        while let Some(input) = inputs.pop_front() {
            let Machine::Source(machine) = &mut entry.machine else { return };
            for effect in machine.step(input, self.now) {
                inputs.extend(self.source_effect(id, entry, effect));
            }
            entry.row.enter(entry.machine.word(), self.now);
        }
    }

    /// Does what a source wants; gives the answer, where it is a question.
    fn source_effect(&mut self, id: &MigrationId, entry: &mut Entry, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Send(message) => {
                let peer = entry.row.peer.clone();
                self.say(&peer, id, message);
            }
            Effect::Order(number, order) => self.order(id, entry, number, order),
            Effect::Alarm(text) => self.notice(Level::Alarm, format!("migration {id} of guest {}: {text}", entry.row.name)),
            Effect::Hold => {
                self.queue.hold(&entry.vm());
                entry.row.is_held = true;
            }
            Effect::Release { epoch } => self.release_source(entry, epoch),
            Effect::Capture(what) => return Some(self.capture(entry, what)),
            Effect::Pack(hashes) => {
                let Machine::Source(machine) = &entry.machine else { return None };
                return Some(Input::Packed(self.pack(&machine.offer.modules, &hashes)));
            }
            Effect::Retire { epoch, rounds } => {
                // What the target does not have is late.
                entry.row.rounds.retain(|(round, _)| *round <= rounds);
                let through = entry.row.rounds.iter().map(|(_, seq)| *seq).max().unwrap_or(0);
                self.queue.hold(&entry.vm());
                self.drop_held(&entry.vm(), |seq| seq <= through);
                (entry.row.is_held, entry.row.is_frozen) = (true, false);
                let peer = entry.row.peer.clone();
                let told = self.depart(entry.row.vm, &peer, epoch);
                entry.row.staged.own.extend(told);
            }
            Effect::Forget(lot) => {
                let through = entry.row.lots.iter().filter(|(number, _)| *number <= lot).map(|(_, seq)| *seq).max();
                if let Some(through) = through {
                    self.drop_held(&entry.vm(), |seq| seq <= through);
                }
            }
            Effect::End(ending) => self.handed_over(ActionId(id.number), &entry.row.peer.clone(), ending),
            Effect::Start => return self.start_again(id, entry.row.vm),
        }
        None
    }

    /// A guest that was given up has gone off after all, as it was asked to before: an action of the plane starts it, as soon as
    /// the planner lets it.
    fn start_again(&mut self, id: &MigrationId, vm: VmId) -> Option<Input> {
        let stops = |kind: &ActionKind| {
            matches!(
                kind,
                ActionKind::Shutdown { .. }
                    | ActionKind::Destroy { .. }
                    | ActionKind::Save { .. }
                    | ActionKind::Handover { live: false, .. }
            )
        };
        let of_it = |action: &&Action| action.id.0 > id.number && action.proposal.kind.vm() == Some(vm);
        if self.actions().filter(of_it).any(|action| stops(&action.proposal.kind)) {
            return Some(Input::NotOwed);
        }
        let (start, by) = (ActionKind::Start { vm }, Arc::from("plane"));
        if self.is_settled() && self.try_out(start.clone(), &by).is_ok() {
            let reason = format!("it was asked to shut down for migration {id}, and did so after that was given up");
            // Where it is refused after all, it is wanted again.
            let _ = self.act_for_admin(start, reason.into(), &by);
        }
        None
    }

    /// An order for a host of this plane, when this batch is durable.
    pub(super) fn order(&mut self, id: &MigrationId, entry: &Entry, number: u32, order: Order) {
        let (offer, rewrites) = match &entry.machine {
            Machine::Source(machine) => (Some(&machine.offer), None),
            Machine::Target(machine) => {
                let rewrites = machine.grants.as_ref().map(|grants| grants.rewrites.clone());
                (machine.offer.as_ref(), Some(rewrites.unwrap_or_default()))
            }
        };
        let guest = offer.map(|offer| &offer.guest);
        let (source, target) = match entry.row.side {
            Side::Source => (self.settings.plane.clone(), entry.row.peer.clone()),
            Side::Target => (entry.row.peer.clone(), self.settings.plane.clone()),
        };
        let epochs = crate::migration::Epochs(entry.row.epoch);
        self.turn.outputs.push(Output::Order(Box::new(MigrationOrder {
            migration: id.clone(),
            number,
            vm: entry.row.vm,
            host: entry.row.host.clone(),
            offered: Mark { plane: source, epoch: entry.row.epoch },
            coming: Mark { plane: target, epoch: epochs.committed() },
            definition: guest.map_or_else(|| "".into(), |guest| guest.description.clone()),
            autostart: guest.is_some_and(|guest| guest.autostart),
            copies: guest.is_some_and(GuestOffer::copies),
            bases: guest.map(|guest| guest.bases.clone()).unwrap_or_default(),
            rewrites,
            order,
        })));
    }

    /// The guest is managed on here.
    fn release_source(&mut self, entry: &mut Entry, epoch: u64) {
        let (vm, plane) = (entry.row.vm, self.settings.plane.clone());
        (entry.row.is_held, entry.row.is_frozen) = (false, false);
        (entry.captured, entry.row.rounds, entry.row.lots) = (None, Vec::new(), Vec::new());
        self.queue.release(&entry.vm());
        for (number, timer) in self.handovers.stopped.remove(&vm).into_iter().flatten() {
            self.timers.set(number, timer);
        }
        let mark = Mark { plane, epoch };
        self.inventory.marked(&mut self.world.borrow_mut(), vm, mark, self.now);
    }

    /// Captures what the machine asks for.
    fn capture(&mut self, entry: &mut Entry, what: What) -> Input {
        let captured = match what {
            What::State => self.bundle(entry.row.vm, true).map(|bundle| {
                entry.captured = Some(bundle.fingerprint());
                Some(bundle.to_bytes())
            }),
            What::Events => {
                // Asked again, it must be the same: the target may have it already.
                let known = entry.row.rounds.iter().find(|(round, _)| *round == 0).map(|(_, seq)| *seq);
                let through = known.unwrap_or(self.row.next_event - 1);
                entry.row.rounds = vec![(0, through)];
                Ok(Some(self.facts_between(&entry.vm(), 0, through).to_bytes()))
            }
            What::Dirty { round, last } => self.changes(entry, round, last),
            What::Late(lot) => {
                let before = entry.row.lots.iter().filter(|(number, _)| *number < lot).map(|(_, seq)| *seq);
                let after = before.chain(entry.row.rounds.iter().map(|(_, seq)| *seq)).max().unwrap_or(0);
                let known = entry.row.lots.iter().find(|(number, _)| *number == lot).map(|(_, seq)| *seq);
                let through = known.unwrap_or(self.row.next_event - 1);
                if known.is_none() {
                    entry.row.lots.push((lot, through));
                }
                Ok(Some(self.facts_between(&entry.vm(), after, through).to_bytes()))
            }
        };
        match captured {
            Ok(bytes) => {
                let too_large = bytes.as_ref().filter(|bytes| bytes.len() > crate::migration::message::PAYLOAD_BYTES);
                match too_large {
                    Some(bytes) => {
                        let text = format!("the guest's management takes {} bytes; more than a message may carry", bytes.len());
                        Input::NotCaptured(what, Reason::new(ReasonKind::Import, text))
                    }
                    None => Input::Captured(what, bytes.map(Payload::from)),
                }
            }
            Err(reason) => Input::NotCaptured(what, reason),
        }
    }

    /// A dirty round. From the last one on, nothing changes here any more: timers stand still.
    fn changes(&mut self, entry: &mut Entry, round: u32, last: bool) -> Result<Option<Vec<u8>>, Reason> {
        let after = entry.row.rounds.iter().filter(|(number, _)| *number < round).map(|(_, seq)| *seq).max().unwrap_or(0);
        let through = self.row.next_event - 1;
        let events = self.facts_between(&entry.vm(), after, through);
        let bundle = self.bundle(entry.row.vm, false)?;
        let fingerprint = bundle.fingerprint();
        let changed = entry.captured != Some(fingerprint);
        if !last && !changed && events.events.is_empty() {
            return Ok(None);
        }
        entry.captured = Some(fingerprint);
        entry.row.rounds.retain(|(number, _)| *number < round);
        entry.row.rounds.push((round, through));
        entry.row.is_frozen = last;
        // The last one is whole, so that the target need not rely on what it thinks it has.
        let state = (last || changed).then(|| bundle.to_bytes());
        Ok(Some(Changes { state, events: events.to_bytes() }.to_bytes()))
    }

    /// Facts on hold with numbers after `after` up to `through`.
    fn facts_between(&self, element: &ElementId, after: u64, through: u64) -> Waiting {
        Waiting::of(self.queue.held(element).filter(|event| event.seq > after && event.seq <= through), self.now)
    }

    /// What is remembered of a guest.
    pub(in crate::manager) fn bundle(&self, vm: VmId, with_usage: bool) -> Result<Bundle, Reason> {
        let world = self.world.borrow();
        let Some(guest) = world.vm(vm) else {
            return Err(Reason::new(ReasonKind::Import, "the plane no longer knows the guest"));
        };
        let element = ElementId::Vm(vm);
        let mine = self.roster.of(&element);
        let rows: Vec<_> =
            mine.filter_map(|embot| Some((embot.id.clone(), embot.row(self.roster.module(&embot.id.module)?)))).collect();
        let timers = rows.iter().flat_map(|(id, _): &(EmbotId, _)| self.timers.rows(id)).collect();
        let modules: BTreeMap<_, _> = self
            .roster
            .modules()
            .map(|module| (module.manifest.module.clone(), (module.manifest.version.clone(), &module.row)))
            .collect();
        let usage = self.usage.borrow();
        let parts = Parts {
            guest,
            embots: rows,
            modules,
            timers,
            memory: self.planner.of_guest(vm),
            usage: with_usage.then_some(&*usage),
            actions: self.actions().filter(|action| action.proposal.kind.vm() == Some(vm)).collect(),
            now: self.now,
        };
        Ok(parts.capture())
    }

    /// The action that asked for it is over.
    fn handed_over(&mut self, action: ActionId, peer: &Arc<str>, ending: Ending) {
        let state = match ending {
            Ending::Done => ActionState::Done,
            Ending::Failed(reason) if reason.kind == ReasonKind::Cancelled => ActionState::Cancelled { by: reason.text },
            Ending::Failed(reason) => {
                ActionState::Failed { reason: format!("{reason}; the guest stays here, and plane {peer} is told").into() }
            }
        };
        let update = match &state {
            ActionState::Done => ActionUpdate::Done,
            ActionState::Cancelled { by } => ActionUpdate::Cancelled(by.clone()),
            ActionState::Failed { reason } => ActionUpdate::Failed(reason.clone()),
            _ => return,
        };
        self.update(action, &update);
    }

    /// Facts on hold that somebody else handles are dropped here.
    pub(super) fn drop_held(&mut self, element: &ElementId, which: impl Fn(u64) -> bool) {
        for event in self.queue.take_of_held(element, |event| which(event.seq)) {
            if event.body.class() == crate::model::EventClass::Fact && !self.turn.facts.remove(&event.seq) {
                self.turn.handled.push(event.seq);
            }
        }
    }

    /// A guest belongs to another plane now: what is known of it goes, a tombstone stays.
    /// Returns the numbers of the facts that say so, which pass the hold.
    pub(super) fn depart(&mut self, vm: VmId, plane: &Arc<str>, epoch: u64) -> Vec<(u64, u64)> {
        let element = ElementId::Vm(vm);
        for (number, _) in self.handovers.stopped.remove(&vm).into_iter().flatten() {
            self.turn.changes.push(Change::Timer(number, None));
        }
        let dropped = self.roster.dismiss(&element);
        self.embots_changed(Vec::new(), dropped);
        self.forget_bringer(vm);
        let name = self.world.borrow().label(&element);
        // Embots over several elements hear that it is gone; the hold is not for them.
        let rest: Vec<usize> = self.roster.hearers(&element).to_vec();
        let rest: Vec<EmbotId> =
            rest.into_iter().filter_map(|slot| self.roster.at(slot).map(|(embot, _)| embot.id.clone())).collect();
        self.roster.deregister(&element);
        let mut told = Vec::new();
        for embot in rest {
            let seq = self.event_past(element.clone(), Some(embot), EventBody::Gone);
            told.push((seq, seq));
        }
        let advice: Vec<ActionId> = self
            .open
            .values()
            .filter(|action| action.proposal.kind.vm() == Some(vm) && !action.state.is_open())
            .map(|action| action.id)
            .collect();
        for id in advice {
            if let Some(mut action) = self.open.remove(&id) {
                (action.state, action.state_at) =
                    (ActionState::Cancelled { by: format!("it went to plane {plane}").into() }, self.now);
                self.turn.actions.insert(id);
                self.ended.insert(id, action);
            }
        }
        self.planner.forget_guest(vm);
        let mut histories: Vec<ElementId> =
            self.usage.borrow().elements().filter(|element| element.vm() == Some(vm)).cloned().collect();
        histories.push(element);
        for element in histories {
            self.usage.borrow_mut().forget(&element);
            self.turn.changes.push(Change::Usage(element, None));
        }
        let mut world = self.world.borrow_mut();
        world.remove_vm(vm);
        world.open.remove(&vm);
        let stone = Tombstone { name: name.into(), plane: plane.clone(), epoch, at: self.now };
        world.gone.insert(vm, stone.clone());
        drop(world);
        self.tidy_tombstones();
        self.inventory.forget(vm);
        self.turn.changes.push(Change::Tombstone(vm, Some(stone)));
        told
    }
}
