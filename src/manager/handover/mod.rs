//! Guests that go to other planes, and guests that come from them: how the machines of [`crate::migration`] sit in the manager.
//!
//! ```text
//! peer's message, host's answer, admin --Input::Migration, Command--> machine --effects--+--> Output: to the peer, to a host
//!                                            ^                                           |
//!                                            +----answers, in the same turn----<--hold, capture, import, commit, retire
//! ```
//! A machine's state is a row, written in the same batch as what its local effects change; what leaves the plane leaves when
//! that batch is durable. So a peer never hears of anything that a crash could undo, and a crash loses either a step with all
//! its effects or only what left: each open machine hears `Restarted` in the first turn after a start, and says it again.
//!
//! `leaving` carries out what a source wants, `coming` what a target wants, `admission` puts an offer to the policies.

mod admission;
mod coming;
mod entries;
mod leaving;
mod settings;
mod tombstones;
mod view;

#[cfg(test)]
mod tests;

pub use settings::HandoverSettings;
pub use view::{MigrationView, PeerView};

use super::{Manager, Output};
use crate::migration::message::{self, Envelope, Message};
use crate::migration::source::{self, Source};
use crate::migration::target::{self, Target};
use crate::migration::{Answer, JobProgress, Reason, ReasonKind, Resolution, Way};
use crate::model::{
    ActionId, ActionKind, ActionUpdate, Bytes, Change, ContentHash, ElementId, HostId, Level, MigrationId, MigrationInput,
    MigrationRow, Outcome, Phase, Progress, Side, Staged, TimerRow, Tombstone, VmId,
};
use entries::Entries;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Migrations that are over and are kept for those who look back, and for peers who ask late.
const KEPT: usize = 1_000;
/// The version of a machine's bytes in its row.
const VERSION: u8 = 1;

/// One end of a migration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Machine {
    Source(Source),
    Target(Target),
}

/// A migration of this plane.
#[derive(Debug)]
struct Entry {
    row: MigrationRow,
    machine: Machine,
    /// The fingerprint of what was captured last, in this run.
    captured: Option<[u8; 32]>,
    /// By how much this plane's clock is ahead of the peer's.
    ahead_ms: i64,
}

/// The migrations of a plane.
#[derive(Debug, Default)]
pub(super) struct Handovers {
    entries: Entries,
    /// Have the machines heard of the restart?
    woken: bool,
    /// Timers that stand still, with the numbers of their rows.
    stopped: BTreeMap<VmId, Vec<(u64, TimerRow)>>,
}

impl Machine {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        // Writing to memory fails for types without a fixed shape only, and there are none here.
        bytes.extend(postcard::to_stdvec(self).unwrap_or_default());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Result<Machine, String> {
        match bytes.split_first() {
            Some((&VERSION, rest)) => postcard::from_bytes(rest).map_err(|error| error.to_string()),
            Some((version, _)) => Err(format!("its state has version {version}; this program reads version {VERSION}")),
            None => Err("its state is empty".to_owned()),
        }
    }

    fn is_final(&self) -> bool {
        match self {
            Machine::Source(machine) => machine.is_final(),
            Machine::Target(machine) => machine.is_final(),
        }
    }

    fn wake_at(&self) -> Option<crate::model::Timestamp> {
        match self {
            Machine::Source(machine) => machine.wake_at(),
            Machine::Target(machine) => machine.wake_at(),
        }
    }

    /// Its phase in one stable word.
    fn word(&self) -> &'static str {
        match self {
            Machine::Source(machine) => machine.phase.name(),
            Machine::Target(machine) => machine.phase.name(),
        }
    }

    fn undecided(&self) -> Option<&Reason> {
        match self {
            Machine::Source(machine) => machine.undecided.as_ref(),
            Machine::Target(machine) => machine.undecided.as_ref(),
        }
    }

    /// How it ended, once it has.
    fn outcome(&self) -> Option<Outcome> {
        let stayed = |reason: &Option<Reason>| {
            let reason = reason.as_ref().map_or_else(|| "it was given up".into(), |reason| reason.text.clone());
            Some(Outcome::Stayed { reason })
        };
        match self {
            Machine::Source(machine) => match machine.phase {
                source::Phase::Retired => Some(Outcome::Moved),
                source::Phase::Ended => stayed(&machine.reason),
                _ => None,
            },
            Machine::Target(machine) => match machine.phase {
                target::Phase::Closed => Some(Outcome::Moved),
                target::Phase::Aborted | target::Phase::Denied | target::Phase::Yielded => stayed(&machine.reason),
                _ => None,
            },
        }
    }
}

impl Entry {
    fn new(machine: Machine, row: MigrationRow) -> Entry {
        Entry { row, machine, captured: None, ahead_ms: 0 }
    }

    /// Does anything still depend on it?
    fn is_live(&self) -> bool {
        !self.machine.is_final() || self.row.is_held
    }

    fn vm(&self) -> ElementId {
        ElementId::Vm(self.row.vm)
    }
}

/// A fresh row.
fn row(side: Side, peer: &Arc<str>, vm: VmId, name: &Arc<str>, epoch: u64, live: bool, host: HostId) -> MigrationRow {
    MigrationRow {
        side,
        peer: peer.clone(),
        vm,
        name: name.clone(),
        epoch,
        live,
        machine: Vec::new(),
        host,
        is_held: false,
        is_frozen: false,
        rounds: Vec::new(),
        lots: Vec::new(),
        reservation: None,
        grant: None,
        staged: Staged::default(),
        phases: Vec::<Phase>::new(),
        outcome: None,
    }
}

impl Handovers {
    /// The migrations that a store holds; what cannot be read is told.
    pub(super) fn restored(rows: BTreeMap<MigrationId, MigrationRow>) -> (Handovers, Vec<String>) {
        let mut handovers = Handovers::default();
        let mut trouble = Vec::new();
        for (id, row) in rows {
            match Machine::from_bytes(&row.machine) {
                Ok(machine) => handovers.entries.put(id, Entry::new(machine, row)),
                Err(why) => trouble.push(format!(
                    "migration {id} of guest {} cannot be gone on with: {why}; start the program that wrote it",
                    row.name
                )),
            }
        }
        (handovers, trouble)
    }

    /// Guests whose facts are held.
    pub(super) fn held(&self) -> impl Iterator<Item = VmId> {
        self.entries.iter().filter(|(_, entry)| entry.row.is_held).map(|(_, entry)| entry.row.vm)
    }

    /// Is this fact one of a source's, which passes the hold of its guest?
    pub(super) fn passes(&self, seq: u64) -> bool {
        let mut own = self.entries.iter().flat_map(|(_, entry)| &entry.row.staged.own);
        own.any(|(first, last)| (*first..=*last).contains(&seq))
    }

    /// When the first machine wants to be looked after.
    pub(super) fn next_due(&self, now: crate::model::Timestamp) -> Option<crate::model::Timestamp> {
        if !self.woken {
            return Some(now).filter(|_| self.entries.iter().any(|(_, entry)| entry.is_live()));
        }
        self.entries.open().filter_map(|(_, entry)| entry.machine.wake_at()).min()
    }

    /// Do timers of this guest's embots stand still?
    pub(super) fn is_frozen(&self, vm: VmId) -> bool {
        self.entries.of(vm).any(|(_, entry)| entry.row.is_frozen)
    }

    /// Keeps a timer back that was due while it stands still.
    pub(super) fn stop_timer(&mut self, vm: VmId, number: u64, timer: TimerRow) {
        self.stopped.entry(vm).or_default().push((number, timer));
    }

    /// The packages in the offers that are being considered or carried out here.
    pub(super) fn offered_packages(&self) -> impl Iterator<Item = ContentHash> {
        let open = self.entries.open().filter(|(_, entry)| !entry.machine.is_final());
        let offers = open.filter_map(|(_, entry)| match &entry.machine {
            Machine::Target(machine) => machine.offer.as_ref(),
            Machine::Source(_) => None,
        });
        offers.flat_map(|offer| &offer.modules).map(|module| ContentHash(module.hash.0))
    }

    /// Is the guest on its way to this plane, and not its own yet?
    fn coming(&self, vm: VmId) -> Option<&Entry> {
        let is_coming =
            |entry: &&Entry| matches!(&entry.machine, Machine::Target(machine) if !machine.owns() && !machine.is_final());
        self.entries.of(vm).map(|(_, entry)| entry).find(is_coming)
    }
}

impl Manager {
    /// What the store knows of migrations takes its places.
    pub(super) fn restore_handovers(
        &mut self,
        migrations: BTreeMap<MigrationId, MigrationRow>,
        tombstones: BTreeMap<VmId, Tombstone>,
    ) {
        let (handovers, trouble) = Handovers::restored(migrations);
        for text in trouble {
            self.notice(Level::Alarm, text);
        }
        let mut world = self.world.borrow_mut();
        world.gone = tombstones;
        world.peers = self.settings.handover.peers.iter().map(|peer| (peer.name.clone(), peer.clone())).collect();
        for (id, entry) in handovers.entries.iter() {
            world.reserved.extend(entry.row.reservation.clone().map(|room| (id.clone(), room)));
        }
        drop(world);
        for vm in handovers.held() {
            self.queue.hold(&ElementId::Vm(vm));
        }
        for (id, entry) in handovers.entries.iter() {
            self.note_traveller(id, entry);
        }
        self.handovers = handovers;
        self.tidy_tombstones();
    }

    /// What sensors and the planner must know of a guest on its way.
    fn note_traveller(&mut self, id: &MigrationId, entry: &Entry) {
        let Machine::Target(machine) = &entry.machine else { return };
        let (vm, mut world) = (entry.row.vm, self.world.borrow_mut());
        if !machine.is_final() {
            world.arriving.insert(vm, id.clone());
            self.inventory.leave_alone(vm, !machine.owns());
        } else if world.arriving.get(&vm) == Some(id) {
            world.arriving.remove(&vm);
            self.inventory.leave_alone(vm, false);
        }
    }

    /// In the first turn: every machine hears that the plane was restarted.
    pub(super) fn wake_handovers(&mut self) {
        if std::mem::replace(&mut self.handovers.woken, true) {
            return;
        }
        let live: Vec<MigrationId> =
            self.handovers.entries.iter().filter(|(_, entry)| entry.is_live()).map(|(id, _)| id.clone()).collect();
        for id in live {
            self.feed(&id, source::Input::Restarted, target::Input::Restarted);
        }
        let open: Vec<_> = self.open.values().filter(|action| action.state.is_open()).cloned().collect();
        for action in open.into_iter().filter(|action| matches!(action.proposal.kind, ActionKind::Handover { .. })) {
            if !self.handovers.entries.contains(&self.migration_of(action.id)) {
                self.begin_handover(&action);
            }
        }
    }

    /// Machines whose time has come.
    pub(super) fn due_handovers(&mut self) {
        let now = self.now;
        let is_due = |entry: &Entry| entry.machine.wake_at().is_some_and(|at| at <= now);
        let due: Vec<MigrationId> =
            self.handovers.entries.open().filter(|(_, entry)| is_due(entry)).map(|(id, _)| id.clone()).collect();
        for id in due {
            self.feed(&id, source::Input::Tick, target::Input::Tick);
        }
    }

    /// Facts that came to a guest after it was handed over are sent after it.
    pub(super) fn late_facts(&mut self) {
        let late = |entry: &Entry| {
            let Machine::Source(machine) = &entry.machine else { return false };
            if machine.owns() || !machine.takes_late() || !entry.row.is_held {
                return false;
            }
            let known = entry.row.rounds.iter().chain(&entry.row.lots).map(|(_, seq)| *seq).max().unwrap_or(0);
            self.queue.held(&entry.vm()).any(|event| event.seq > known)
        };
        let waiting = self.queue.with_held().filter_map(ElementId::vm);
        let theirs = waiting.flat_map(|vm| self.handovers.entries.of(vm));
        let late: Vec<MigrationId> = theirs.filter(|(_, entry)| late(entry)).map(|(id, _)| id.clone()).collect();
        for id in late {
            self.feed_source(&id, source::Input::LateFacts);
        }
    }

    /// An input about migrations.
    pub(super) fn migration(&mut self, input: &MigrationInput) {
        match input {
            MigrationInput::Message { peer, ahead_ms, bytes } => self.heard(peer, *ahead_ms, bytes),
            MigrationInput::Link { peer, up } => {
                let known = self.world.borrow_mut().peers.get_mut(peer).map(|peer| peer.reachable = *up).is_some();
                if !known || !*up {
                    return;
                }
                let theirs = |entry: &Entry| entry.row.peer == *peer && entry.is_live();
                let theirs: Vec<MigrationId> =
                    self.handovers.entries.iter().filter(|(_, entry)| theirs(entry)).map(|(id, _)| id.clone()).collect();
                for id in theirs {
                    self.feed(&id, source::Input::LinkUp, target::Input::LinkUp);
                }
            }
            MigrationInput::Summary { peer, summary } => {
                if let Some(peer) = self.world.borrow_mut().peers.get_mut(peer) {
                    (peer.summary, peer.summary_at) = (Some(summary.clone()), self.now);
                }
            }
            MigrationInput::Described { migration, guest } => self.described(migration, guest),
            MigrationInput::Answer { migration, order, answer } => match postcard::from_bytes::<Answer>(&answer.0) {
                Ok(answer) => {
                    self.feed(migration, source::Input::Answer(*order, answer.clone()), target::Input::Answer(*order, answer));
                }
                Err(error) => {
                    self.notice(Level::Warning, format!("migration {migration}: an answer of a host cannot be read: {error}"));
                }
            },
            MigrationInput::Progress { migration, progress } => self.progressed(migration, *progress),
        }
    }

    /// A peer says something.
    fn heard(&mut self, peer: &Arc<str>, ahead_ms: i64, bytes: &Bytes) {
        let refused = |manager: &mut Manager, why: String| {
            manager.notice(Level::Warning, format!("a message of plane {peer} is not taken: {why}"));
        };
        if !self.world.borrow().peers.contains_key(peer) {
            return refused(self, "it is not among `peers` in the configuration".to_owned());
        }
        let Envelope { id, message } = match message::decode(&bytes.0) {
            Ok(envelope) => envelope,
            Err(error) => return refused(self, error.to_string()),
        };
        let Some(entry) = self.handovers.entries.get(&id) else {
            return self.heard_first(peer, ahead_ms, id, message);
        };
        if entry.row.peer != *peer {
            let other = entry.row.peer.clone();
            return refused(self, format!("migration {id} is one with plane {other}"));
        }
        self.handovers.entries.edit(&id, |entry| entry.ahead_ms = ahead_ms);
        self.feed(&id, source::Input::Message(message.clone()), target::Input::Message(message));
    }

    /// The first word about a migration that this plane has no record of.
    fn heard_first(&mut self, peer: &Arc<str>, ahead_ms: i64, id: MigrationId, message: Message) {
        let answer = |manager: &mut Manager, message: Option<Message>| {
            if let Some(message) = message {
                manager.say(peer, &id, message);
            }
        };
        if id.plane != *peer {
            // One of ours that is forgotten, or was never begun; or somebody else's.
            return answer(self, source::unknown(&message));
        }
        if let Message::Offer(offer) = &message {
            let plane = self.settings.plane.clone();
            if offer.from != *peer || offer.to != plane {
                let why =
                    format!("plane {} offers guest {} to plane {} under a wrong name", offer.from, offer.guest.name, offer.to);
                return answer(self, Some(Message::Denied(Reason::new(ReasonKind::Denied, why))));
            }
            if !self.is_settled() {
                // It is offered again in a moment.
                return;
            }
        }
        let (vm, name, epoch, live) = match &message {
            Message::Offer(offer) => (offer.vm, offer.guest.name.clone(), offer.epoch, offer.way == Way::Live),
            _ => (VmId(uuid::Uuid::nil()), "?".into(), 0, true),
        };
        if matches!(message, Message::Abort { asks: true, .. }) && self.restoration.may_have_forgotten() {
            // After the backup the guest may have come here: then the source must not have it back.
            return answer(self, source::unknown(&message));
        }
        match Target::first(id.clone(), message.clone(), self.settings.handover.timing, self.now) {
            Some((machine, effects)) => {
                let row = row(Side::Target, peer, vm, &name, epoch, live, HostId::from(""));
                let mut entry = Entry::new(Machine::Target(machine), row);
                entry.ahead_ms = ahead_ms;
                let mut inputs = VecDeque::new();
                for effect in effects {
                    inputs.extend(self.target_effect(&id, &mut entry, effect));
                }
                self.run_target(&id, &mut entry, inputs);
                self.keep(id, entry, true);
            }
            None => answer(self, source::unknown(&message)),
        }
    }

    /// Says something to a peer, when this batch is durable.
    fn say(&mut self, peer: &Arc<str>, id: &MigrationId, message: Message) {
        match message::encode(&Envelope { id: id.clone(), message }) {
            Ok(bytes) => self.turn.outputs.push(Output::Send { peer: peer.clone(), bytes: bytes.into() }),
            Err(error) => self.notice(Level::Alarm, format!("migration {id}: plane {peer} cannot be told: {error}")),
        }
    }

    /// Gives a machine an input: the one for its side.
    fn feed(&mut self, id: &MigrationId, source: source::Input, target: target::Input) {
        match self.handovers.entries.get(id).map(|entry| entry.row.side) {
            Some(Side::Source) => self.feed_source(id, source),
            Some(Side::Target) => {
                let Some(mut entry) = self.handovers.entries.take(id) else { return };
                self.run_target(id, &mut entry, VecDeque::from([target]));
                self.keep(id.clone(), entry, true);
            }
            None => {}
        }
    }

    fn feed_source(&mut self, id: &MigrationId, input: source::Input) {
        let Some(mut entry) = self.handovers.entries.take(id) else { return };
        self.run_source(id, &mut entry, VecDeque::from([input]));
        self.keep(id.clone(), entry, true);
    }

    /// Puts a migration back after a step; with `write`, as a row.
    fn keep(&mut self, id: MigrationId, mut entry: Entry, write: bool) {
        if entry.machine.is_final() {
            // Up to here a copy that is given up may still be there.
            self.unreserve(&id, &mut entry);
        }
        let was = entry.row.outcome.is_some();
        entry.row.outcome = entry.machine.outcome();
        let ends = !was && entry.row.outcome.is_some();
        if ends {
            self.over(&id, &entry);
        }
        if write {
            entry.row.enter(entry.machine.word(), self.now);
            self.turn.migrations.insert(id.clone());
        }
        self.note_traveller(&id, &entry);
        self.handovers.entries.put(id, entry);
        if ends {
            self.sweep_packages();
        }
    }

    /// A migration is over: those who follow the plane read how.
    fn over(&mut self, id: &MigrationId, entry: &Entry) {
        let MigrationRow { name, peer, side, .. } = &entry.row;
        if matches!(&entry.machine, Machine::Target(machine) if machine.offer.is_none()) {
            // Given up before it was even offered: nobody here has heard of it.
            return;
        }
        self.tally.migration(*side, entry.row.outcome.as_ref());
        let (level, text) = match (&entry.row.outcome, side) {
            (Some(Outcome::Moved), Side::Source) => {
                let copied = |machine: &Source| machine.offer.way == Way::Cold && machine.offer.guest.copies();
                let left = match &entry.machine {
                    Machine::Source(machine) if copied(machine) => {
                        format!("; the files it had stay on {}, for you to remove", entry.row.host)
                    }
                    _ => String::new(),
                };
                (Level::Info, format!("guest {name} belongs to plane {peer} now{left}"))
            }
            (Some(Outcome::Moved), Side::Target) => (Level::Info, format!("guest {name} has come from plane {peer}")),
            (Some(Outcome::Stayed { reason }), Side::Source) => {
                let owed = matches!(&entry.machine, Machine::Source(machine) if machine.start_owed.is_some());
                let owed = if owed { "; it was asked to shut down, and is started again if it still does" } else { "" };
                (Level::Warning, format!("guest {name} has not gone to plane {peer}: {reason}{owed}"))
            }
            (Some(Outcome::Stayed { reason }), Side::Target) => {
                (Level::Info, format!("guest {name} has not come from plane {peer}: {reason}"))
            }
            (None, _) => return,
        };
        self.notice(level, format!("migration {id}: {text}"));
    }

    /// The rows of this turn's migrations; those that are long over go.
    pub(super) fn migration_rows(&mut self, changed: BTreeSet<MigrationId>) -> Vec<Change> {
        let mut changes = Vec::new();
        for id in changed {
            self.handovers.entries.edit(&id, |entry| {
                entry.row.machine = entry.machine.to_bytes();
                changes.push(Change::Migration(id.clone(), Some(Box::new(entry.row.clone()))));
            });
        }
        changes.extend(self.handovers.entries.forget_oldest().into_iter().map(|id| Change::Migration(id, None)));
        changes
    }

    /// The migration that an action of this plane is.
    pub(super) fn migration_of(&self, action: ActionId) -> MigrationId {
        MigrationId { plane: self.settings.plane.clone(), number: action.0 }
    }

    /// The hypervisor's job goes on. Nothing of it need survive a crash.
    fn progressed(&mut self, id: &MigrationId, progress: Progress) {
        let at = self.now;
        if let Some(action) = self.open.get_mut(&ActionId(id.number)).filter(|_| id.plane == self.settings.plane) {
            action.progress = Some(progress);
        }
        let Some(mut entry) = self.handovers.entries.take(id) else { return };
        let before = entry.machine.word();
        let outputs = self.turn.outputs.len();
        if entry.row.side == Side::Source {
            let progress = JobProgress { sent_bytes: progress.done_bytes, total_bytes: progress.total_bytes, at };
            self.run_source(id, &mut entry, VecDeque::from([source::Input::Progress(progress)]));
        }
        let write = before != entry.machine.word() || outputs != self.turn.outputs.len();
        self.keep(id.clone(), entry, write);
    }

    /// Can it still be given up? If not, why.
    pub(super) fn may_cancel(&self, id: &MigrationId) -> Result<(), String> {
        // Its guest is not even described yet.
        let Some(entry) = self.handovers.entries.get(id) else { return Ok(()) };
        match &entry.machine {
            Machine::Source(machine) if machine.is_cancellable() => Ok(()),
            Machine::Source(machine) if matches!(machine.phase, source::Phase::TellingPeer | source::Phase::Ended) => {
                Err(format!("migration {id} is over: the guest stays here"))
            }
            Machine::Source(machine) if machine.is_final() => Err(format!("migration {id} is over")),
            Machine::Source(_) => Err(format!(
                "migration {id} cannot be cancelled any more: the guest has moved, and only goes forward (`embot migrations show {id}`)"
            )),
            Machine::Target(_) => {
                let peer = &entry.row.peer;
                Err(format!(
                    "migration {id} is cancelled where the guest comes from: `embot migrations cancel {id}` on plane {peer}"
                ))
            }
        }
    }

    /// An admin wants a migration to end.
    pub(super) fn cancel_migration(&mut self, id: &MigrationId, by: &Arc<str>) -> Result<String, String> {
        if !self.handovers.entries.contains(id) {
            return Err(self.no_such_migration(id));
        }
        self.may_cancel(id)?;
        self.cancel(ActionId(id.number), by, None)?;
        Ok(format!("migration {id} is being cancelled; the guest stays here"))
    }

    /// An admin decides a migration that cannot be decided otherwise.
    pub(super) fn resolve_migration(
        &mut self,
        id: &MigrationId,
        owner: &Arc<str>,
        fenced: &HostId,
        by: &Arc<str>,
    ) -> Result<String, String> {
        let Some(entry) = self.handovers.entries.get(id) else { return Err(self.no_such_migration(id)) };
        let plane = &self.settings.plane;
        let (source, target) = match entry.row.side {
            Side::Source => (plane, &entry.row.peer),
            Side::Target => (&entry.row.peer, plane),
        };
        let owner_side = match () {
            () if owner == source => Side::Source,
            () if owner == target => Side::Target,
            () => return Err(format!("migration {id} is between {source} and {target}; {owner} is neither of them")),
        };
        let Some(reason) = entry.machine.undecided() else {
            return Err(format!(
                "migration {id} is not undecided (it is {}): the planes settle it by themselves",
                entry.row.phase()
            ));
        };
        let text = format!(
            "migration {id}: {by} has decided that plane {owner} owns guest {}; {fenced} is fenced (it was undecided: {reason})",
            entry.row.name
        );
        let resolution = Resolution { owner: owner_side, fenced: fenced.0.clone(), by: by.clone() };
        self.notice(Level::Alarm, text);
        self.feed(id, source::Input::Resolve(resolution.clone()), target::Input::Resolve(resolution));
        Ok(format!("migration {id} is decided: plane {owner} owns the guest. Say the same on the other plane"))
    }

    fn no_such_migration(&self, id: &MigrationId) -> String {
        format!("there is no migration {id}; `embot migrations` lists those there are")
    }

    /// An action that hands a guest over is cancelled as its migration is, as long as that is possible.
    pub(super) fn cancel_handover(&mut self, action: ActionId, by: &Arc<str>) {
        let id = self.migration_of(action);
        if self.handovers.entries.contains(&id) {
            let reason = Reason::new(ReasonKind::Cancelled, format!("cancelled by {by}"));
            return self.feed_source(&id, source::Input::Cancel(reason));
        }
        self.update(action, &ActionUpdate::Cancelled(by.clone()));
    }
}
