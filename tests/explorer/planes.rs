//! The two planes: a machine, and what a manager does around it, in durable rows. A turn is one input with all its effects, in
//! one transaction; what leaves does so after it.
//!
//! Facts are numbers. Each phase of either machine raises one as it begins, so that there is one for every place where a fact
//! can be lost or doubled.

use crate::hosts::Answered;
use crate::hosts::{SOURCE, TARGET};
use crate::intern::{Map, Table};
use embot::migration::message::{Digest, Grants, GuestOffer, Message, ModuleOffer, Offer, Payload};
use embot::migration::source::{self, Source, What};
use embot::migration::target::{self, Import, Imported, Target, Verdict};
use embot::migration::{MigrationId, Order, Reason, ReasonKind, Resolution, ResumeBy, Side, Timing, Way};
use embot::model::{HostId, Mode, Span, Timestamp, VmId, VmState};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// What is the same in all states of one exploration.
pub struct Setting {
    pub name: &'static str,
    pub way: Way,
    pub resume: ResumeBy,
    /// Does the guest run at first?
    pub runs: bool,
    /// The target lacks a module when it permits, and finds another one lacking when it reads the state.
    pub lacks: bool,
    /// The target's policy says no.
    pub denies: bool,
}

/// Everything that states name by number, and every turn that was taken once.
pub struct Tables {
    pub sources: Table<Source>,
    pub targets: Table<Target>,
    pub messages: Table<Message>,
    pub orders: Table<Order>,
    pub source_planes: Table<SourcePlane>,
    pub target_planes: Table<TargetPlane>,
    source_turns: Map<(u32, Taking, Timestamp), Rc<(u32, Turn)>>,
    target_turns: Map<(u32, Taking, Timestamp), Rc<(u32, Turn)>>,
}

/// An input, small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Taking {
    Begin,
    Message(u32),
    Answer(u32, Answered),
    LinkUp,
    Tick,
    Restarted,
    Cancel,
    Resolve(Side),
}

impl Tables {
    pub fn new() -> Tables {
        Tables {
            sources: Table::new(),
            targets: Table::new(),
            messages: Table::new(),
            orders: Table::new(),
            source_planes: Table::new(),
            target_planes: Table::new(),
            source_turns: Map::default(),
            target_turns: Map::default(),
        }
    }

    /// The source's plane takes an input: its number after it, and what came of it.
    pub fn source_turn(&mut self, plane: u32, taking: Taking, now: Timestamp) -> Rc<(u32, Turn)> {
        if let Some(known) = self.source_turns.get(&(plane, taking, now)) {
            return known.clone();
        }
        let input = match taking {
            Taking::Begin => source::Input::Begin,
            Taking::Message(number) => source::Input::Message((*self.messages.get(number)).clone()),
            Taking::Answer(number, answered) => source::Input::Answer(number, answered.whole()),
            Taking::LinkUp => source::Input::LinkUp,
            Taking::Tick => source::Input::Tick,
            Taking::Restarted => source::Input::Restarted,
            Taking::Cancel => source::Input::Cancel(Reason::new(ReasonKind::Cancelled, "so they want")),
            Taking::Resolve(owner) => source::Input::Resolve(resolution(owner)),
        };
        let mut after = (*self.source_planes.get(plane)).clone();
        let turn = after.turn(self, input, now);
        let turn = Rc::new((self.source_planes.put(after), turn));
        self.source_turns.insert((plane, taking, now), turn.clone());
        turn
    }

    /// The target's plane takes an input.
    pub fn target_turn(&mut self, setting: &Setting, plane: u32, taking: Taking, now: Timestamp) -> Rc<(u32, Turn)> {
        if let Some(known) = self.target_turns.get(&(plane, taking, now)) {
            return known.clone();
        }
        let input = match taking {
            Taking::Message(number) => target::Input::Message((*self.messages.get(number)).clone()),
            Taking::Answer(number, answered) => target::Input::Answer(number, answered.whole()),
            Taking::LinkUp => target::Input::LinkUp,
            Taking::Restarted => target::Input::Restarted,
            Taking::Resolve(owner) => target::Input::Resolve(resolution(owner)),
            Taking::Tick | Taking::Begin | Taking::Cancel => target::Input::Tick,
        };
        let mut after = (*self.target_planes.get(plane)).clone();
        let turn = after.turn(setting, self, input, now);
        let turn = Rc::new((self.target_planes.put(after), turn));
        self.target_turns.insert((plane, taking, now), turn.clone());
        turn
    }
}

fn resolution(owner: Side) -> Resolution {
    Resolution { owner, fenced: "h".into(), by: "ops".into() }
}

/// An order that was given: how many orders before the last one, and which.
pub type Given = (u32, u32);

/// What a capture has taken a fact into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Taken {
    Not,
    Round(u32),
    Lot(u32),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SourcePlane {
    pub machine: u32,
    pub is_up: bool,
    pub orders: Vec<Given>,
    /// Its epoch, where it owns the guest.
    pub owns: Option<u64>,
    pub on_hold: bool,
    pub held: Vec<(u8, Taken)>,
    pub ended: u8,
    /// An action of the plane's own starts the guest; one that a crash overtakes comes to nothing.
    pub starts: bool,
    /// Phases that have raised their fact.
    pub phases: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TargetPlane {
    pub machine: Option<u32>,
    pub is_up: bool,
    pub orders: Vec<Given>,
    pub owns: Option<u64>,
    pub staged: Vec<u8>,
    pub sensed: Vec<u8>,
    pub keeps_sensed: bool,
    pub modules: u8,
    /// The next import is refused (a fault).
    pub refuses: bool,
    /// Facts that were raised here.
    pub raised: u32,
}

/// What a turn is to the rest of the world.
#[derive(Default)]
pub struct Turn {
    pub said: Vec<u32>,
    /// Facts that took effect, in order.
    pub handled: Vec<u8>,
    /// Facts of the copy that never became a guest's, and those that could not be read.
    pub dropped: Vec<u8>,
    /// Ownership was taken under this epoch.
    pub owned: Option<u64>,
    pub wrong: Option<String>,
    /// Orders have been numbered anew: from each number this was taken.
    pub shift: u32,
}

/// Sensed facts have numbers from here on.
pub const SENSED: u8 = 16;

pub fn timing() -> Timing {
    Timing {
        again: Span(2),
        step: Span(4),
        whole: Span(8),
        look: Span(2),
        patience: Span(6),
        round: Span(2),
        rounds: 1,
        late: Span(4),
    }
}

fn digest(number: u8) -> Digest {
    Digest([number; 32])
}

pub fn offer(setting: &Setting) -> Offer {
    let guest = GuestOffer {
        name: "g".into(),
        state: if setting.runs { VmState::Running } else { VmState::Off },
        vcpus: 1,
        memory_mib: 1,
        cpu_millicores: 500,
        labels: BTreeMap::new(),
        mode: Mode::Act,
        cpu_model: "".into(),
        machine: "".into(),
        passthrough: Vec::new(),
        disks: Vec::new(),
        bases: Vec::new(),
        networks: Vec::new(),
        autostart: false,
        description: "".into(),
    };
    Offer {
        vm: VmId(uuid::Uuid::from_u128(7)),
        epoch: 1,
        from: SOURCE.into(),
        to: TARGET.into(),
        host: None,
        way: setting.way,
        resume: setting.resume,
        why: "".into(),
        guest,
        modules: Vec::<ModuleOffer>::new(),
    }
}

fn grants() -> Grants {
    Grants {
        host: HostId::from("h"),
        mode: Mode::Act,
        permits: BTreeSet::new(),
        lease: Span(12),
        hypervisor_uri: "".into(),
        migration_uri: "".into(),
        rewrites: Vec::new(),
    }
}

pub fn id() -> MigrationId {
    MigrationId { plane: SOURCE.into(), number: 1 }
}

fn no() -> Reason {
    Reason::new(ReasonKind::Denied, "no")
}

impl SourcePlane {
    /// Facts that were raised here.
    pub fn raised(&self) -> u32 {
        (1..=self.phases.count_ones()).map(|fact| 1 << fact).sum()
    }

    pub fn new(setting: &Setting, tables: &mut Tables) -> SourcePlane {
        let machine = tables.sources.put(Source::new(id(), offer(setting), timing(), Timestamp(0)));
        SourcePlane {
            machine,
            is_up: true,
            orders: Vec::new(),
            owns: Some(1),
            on_hold: false,
            held: Vec::new(),
            ended: 0,
            starts: false,
            phases: 0,
        }
    }

    /// One turn, and the facts that its new phase raises.
    pub fn turn(&mut self, tables: &mut Tables, input: source::Input, now: Timestamp) -> Turn {
        let mut machine = (*tables.sources.get(self.machine)).clone();
        let mut turn = Turn::default();
        let phase = machine.phase.clone();
        self.feed(tables, &mut machine, input, now, &mut turn);
        if machine.phase != phase {
            let phase = machine.phase.clone() as u8;
            if self.phases & (1 << phase) == 0 {
                self.phases |= 1 << phase;
                let fact = self.phases.count_ones() as u8;
                if self.on_hold {
                    self.held.push((fact, Taken::Not));
                    if self.owns.is_none() {
                        self.feed(tables, &mut machine, source::Input::LateFacts, now, &mut turn);
                    }
                } else {
                    turn.handled.push(fact);
                }
            }
        }
        let orders = machine.rebase(now);
        for (number, _) in &mut self.orders {
            *number = number.wrapping_sub(orders);
        }
        turn.shift = orders;
        if machine.holds() != self.on_hold {
            turn.wrong = Some(format!("the machine says on hold: {}, but it is {}", machine.holds(), self.on_hold));
        }
        self.machine = tables.sources.put(machine);
        turn
    }

    fn feed(&mut self, tables: &mut Tables, machine: &mut Source, input: source::Input, now: Timestamp, turn: &mut Turn) {
        for effect in machine.step(input, now) {
            match effect {
                source::Effect::Send(message) => turn.said.push(tables.messages.put(message)),
                source::Effect::Order(number, order) => self.orders.push((number, tables.orders.put(order))),
                source::Effect::Alarm(_) => {}
                source::Effect::Hold => self.on_hold = true,
                source::Effect::Release { epoch } => {
                    if !std::mem::take(&mut self.on_hold) {
                        turn.wrong = Some("released, but it was not on hold".to_owned());
                    }
                    turn.handled.extend(self.held.drain(..).map(|(fact, _)| fact));
                    self.owns = Some(epoch);
                    turn.owned = Some(epoch);
                }
                source::Effect::Capture(what) => {
                    let payload = self.capture(what);
                    self.feed(tables, machine, source::Input::Captured(what, payload), now, turn);
                }
                source::Effect::Pack(hashes) => {
                    let parcel = hashes.iter().map(|hash| hash.0[0]).collect::<Vec<u8>>();
                    self.feed(tables, machine, source::Input::Packed(Ok(parcel.into())), now, turn);
                }
                source::Effect::Retire { rounds, .. } => {
                    self.owns = None;
                    self.on_hold = true;
                    self.held.retain(|(_, taken)| !matches!(taken, Taken::Round(round) if *round <= rounds));
                    for (_, taken) in &mut self.held {
                        *taken = Taken::Not;
                    }
                }
                source::Effect::Forget(lot) => {
                    self.held.retain(|(_, taken)| !matches!(taken, Taken::Lot(old) if *old <= lot));
                }
                source::Effect::End(_) => self.ended += 1,
                source::Effect::Start => self.starts = true,
            }
        }
    }

    fn capture(&mut self, what: What) -> Option<Payload> {
        let into = match what {
            What::State => return Some(Payload::default()),
            What::Events => Taken::Round(0),
            What::Dirty { round, .. } => Taken::Round(round),
            What::Late(lot) => Taken::Lot(lot),
        };
        for (_, taken) in self.held.iter_mut().filter(|(_, taken)| *taken == Taken::Not) {
            *taken = into;
        }
        let facts: Vec<u8> = self.held.iter().filter(|(_, taken)| *taken == into).map(|(fact, _)| *fact).collect();
        let may_be_nothing = matches!(what, What::Dirty { last: false, .. });
        (!facts.is_empty() || !may_be_nothing).then(|| facts.into())
    }
}

impl TargetPlane {
    pub fn new() -> TargetPlane {
        TargetPlane {
            machine: None,
            is_up: true,
            orders: Vec::new(),
            owns: None,
            staged: Vec::new(),
            sensed: Vec::new(),
            keeps_sensed: false,
            modules: 0,
            refuses: false,
            raised: 0,
        }
    }

    /// One turn, and the facts that its new phase raises.
    pub fn turn(&mut self, setting: &Setting, tables: &mut Tables, input: target::Input, now: Timestamp) -> Turn {
        let mut turn = Turn::default();
        let (mut machine, phase, effects) = match (self.machine, input) {
            (Some(machine), input) => {
                let mut machine = (*tables.targets.get(machine)).clone();
                let phase = machine.phase.clone();
                let effects = machine.step(input, now);
                (machine, Some(phase), effects)
            }
            (None, target::Input::Message(message)) => match Target::first(id(), message.clone(), timing(), now) {
                Some((machine, effects)) => (machine, None, effects),
                None => {
                    turn.said.extend(source::unknown(&message).map(|message| tables.messages.put(message)));
                    return turn;
                }
            },
            (None, _) => return turn,
        };
        self.perform(setting, tables, &mut machine, effects, now, &mut turn);
        if Some(&machine.phase) != phase.as_ref() && self.raised & (1 << (SENSED + machine.phase.clone() as u8)) == 0 {
            let fact = SENSED + machine.phase.clone() as u8;
            if self.keeps_sensed {
                self.raised |= 1 << fact;
                self.sensed.push(fact);
            } else if self.owns.is_some() {
                self.raised |= 1 << fact;
                turn.handled.push(fact);
            }
        }
        let orders = machine.rebase(now);
        for (number, _) in &mut self.orders {
            *number = number.wrapping_sub(orders);
        }
        turn.shift = orders;
        self.machine = Some(tables.targets.put(machine));
        turn
    }

    fn perform(
        &mut self,
        setting: &Setting,
        tables: &mut Tables,
        machine: &mut Target,
        effects: Vec<target::Effect>,
        now: Timestamp,
        turn: &mut Turn,
    ) {
        for effect in effects {
            let answer = match effect {
                target::Effect::Send(message) => {
                    turn.said.push(tables.messages.put(message));
                    continue;
                }
                target::Effect::Order(number, order) => {
                    self.orders.push((number, tables.orders.put(order)));
                    continue;
                }
                target::Effect::Alarm(_) => continue,
                target::Effect::Consider if setting.denies => target::Input::Verdict(Verdict::Deny(no())),
                target::Effect::Consider => {
                    let lacks = if setting.lacks && self.modules == 0 { BTreeSet::from([digest(1)]) } else { BTreeSet::new() };
                    target::Input::Verdict(Verdict::Permit { grants: Box::new(grants()), lacks })
                }
                target::Effect::Import(import) => target::Input::Imported(self.import(setting, import, turn)),
                target::Effect::Install(parcel) => {
                    self.modules = self.modules.max(parcel.0.iter().copied().max().unwrap_or(0));
                    target::Input::Installed(Imported::Accepted)
                }
                target::Effect::Commit { epoch } => {
                    turn.handled.append(&mut self.staged);
                    self.owns = Some(epoch);
                    turn.owned = Some(epoch);
                    continue;
                }
                target::Effect::ReleaseSensed => {
                    self.keeps_sensed = false;
                    turn.handled.append(&mut self.sensed);
                    continue;
                }
                target::Effect::Discard => {
                    self.staged.clear();
                    self.keeps_sensed = false;
                    turn.dropped.append(&mut self.sensed);
                    continue;
                }
                target::Effect::Retire { .. } => {
                    self.owns = None;
                    self.keeps_sensed = false;
                    turn.dropped.append(&mut self.sensed);
                    continue;
                }
            };
            let effects = machine.step(answer, now);
            self.perform(setting, tables, machine, effects, now, turn);
        }
    }

    fn import(&mut self, setting: &Setting, import: Import, turn: &mut Turn) -> Imported {
        if std::mem::take(&mut self.refuses) {
            return Imported::Refused(no());
        }
        match import {
            Import::State(_) if setting.lacks && self.modules < 2 => return Imported::Lacks(BTreeSet::from([digest(2)])),
            Import::State(_) => {}
            Import::Events(payload) => {
                self.staged.extend_from_slice(&payload.0);
                self.keeps_sensed = true;
            }
            Import::Dirty(round) => self.staged.extend_from_slice(&round.payload.0),
            Import::Late(late) => turn.handled.extend_from_slice(&late.payload.0),
        }
        Imported::Accepted
    }
}
