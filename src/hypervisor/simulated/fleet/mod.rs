//! The fleet itself: hosts and guests, what they do, and what becomes of orders.
//!
//! Pure: no thread, no clock, no I/O. Time is a parameter and only goes forward; whatever is to happen by itself stands on the
//! agenda, so a caller in virtual time jumps from [`Fleet::next_change_at`] to the next. Same plan, same calls: same answers,
//! to the byte. All iteration is over ordered maps, and all chance comes from the plan's seed.
//!
//! Loads are functions of time and are not on the agenda: they are worked out when a host is asked for a report.
//!
//! What an order goes through:
//!
//! ```text
//! begin --checks refuse--> error, nothing happened
//!   |---host hangs---> Waiting ---host is back---+--checks refuse--> Ended(Failed)
//!   +--------------------------------------------+--> Working | ShuttingDown | Migrating ---> Ended(Done|Failed|Cancelled)
//! ```
//! An order that ended as `Failed` or `Cancelled` has left its guest as it was; but one that was asked to shut down goes off all
//! the same.

mod build;
mod checks;
mod definition;
mod guest;
mod handovers;
#[cfg(test)]
mod invariants;
mod machine;
mod moves;
mod orders;
mod reporting;
mod shares;
mod sleep;
mod troubles;

pub use build::FleetError;
pub use guest::Guest;
pub use handovers::Begun;
pub use machine::Machine;
pub use orders::{JobId, OrderState};
pub use reporting::Seen;

use super::effects::{self, Effect, LogLine, Outcome};
use super::fault::{Chances, Fault, Strike, Trouble};
use super::fleet_plan::Times;
use super::meter::Meter;
use crate::hypervisor::Handover;
use crate::model::{HostId, Mark, Notice, NoticeBody, Reason, Span, Timestamp, VmId, VmState};
use guest::Heat;
use machine::Copied;
use orders::Run;
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};

/// A simulated fleet.
#[derive(Debug)]
pub struct Fleet {
    seed: u64,
    started: Timestamp,
    now: Timestamp,
    times: Times,
    hosts: BTreeMap<HostId, Machine>,
    guests: BTreeMap<VmId, Guest>,
    /// Guests that another host has as well.
    copies: BTreeMap<(VmId, HostId), Copied>,
    orders: BTreeMap<JobId, Run>,
    /// Orders that are refused when they come.
    fenced: BTreeSet<JobId>,
    agenda: BTreeMap<(Timestamp, u64), Occurrence>,
    /// Entries ever put on the agenda: what falls on the same instant happens in the order it was put there.
    entries: u64,
    /// Rises with every change of a definition, so that a reader who knows up to a number knows what it has missed.
    definitions: u64,
    faults: Vec<Repeated<Fault>>,
    heats: Vec<Repeated<Heat>>,
    chances: Chances,
    dice: BTreeMap<Strike, ChaCha8Rng>,
    order_dice: ChaCha8Rng,
    notices: Vec<(HostId, Notice)>,
    ended: Vec<JobId>,
    log: Vec<LogLine>,
    /// Who runs where, as far as it was logged.
    runs: BTreeSet<(VmId, HostId)>,
    /// Hosts to be looked at before time goes on.
    touched: BTreeSet<HostId>,
    meter: Option<Meter>,
}

/// What happens by itself when its time has come.
#[derive(Debug, Clone, PartialEq)]
enum Occurrence {
    /// An order is due; void where the order was planned anew meanwhile and has another ticket.
    Order(JobId, u64),
    /// A guest has booted; void where it was started anew meanwhile.
    Booted(VmId, Timestamp),
    /// A host's trouble may be over.
    TroubleEnds(HostId),
    /// A guest's agent is back.
    AgentBack(VmId),
    /// A guest goes off, as it was asked to; void where it is no longer to go off then.
    GoesOff(VmId, Timestamp),
    /// A fault of the schedule.
    Fault(usize),
    /// A fault by chance.
    Strike(Strike),
    /// A heat of the schedule, for the so manieth time.
    Heat(usize, u64),
    /// A host falls asleep; void where it has had something to do since then.
    FallsAsleep(HostId, Timestamp),
    /// A host is awake; void where it has lost its power since.
    Wakes(HostId, Timestamp),
    /// All hosts are measured, and again after so long.
    Measure(Span),
}

#[derive(Debug, Clone)]
struct Repeated<T> {
    what: T,
    every: Option<Span>,
}

/// What happened since it was last asked for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Changes {
    /// What hosts say, in order.
    pub notices: Vec<(HostId, Notice)>,
    /// Orders that ended; [`Fleet::poll`] says how.
    pub ended: Vec<JobId>,
}

/// Ended orders that are remembered; the oldest numbers are forgotten first.
const ENDED_KEPT: usize = 8_192;

impl Fleet {
    /// The time it has come to.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The hosts, by name.
    pub fn hosts(&self) -> impl Iterator<Item = (&HostId, &Machine)> {
        self.hosts.iter()
    }

    /// A host.
    pub fn host(&self, host: &HostId) -> Option<&Machine> {
        self.hosts.get(host)
    }

    /// The guests, by UUID.
    pub fn guests(&self) -> impl Iterator<Item = &Guest> {
        self.guests.values()
    }

    /// A guest.
    pub fn guest(&self, vm: VmId) -> Option<&Guest> {
        self.guests.get(&vm)
    }

    /// A guest by name.
    pub fn guest_named(&self, name: &str) -> Option<&Guest> {
        self.guests.values().find(|guest| &*guest.description.name == name)
    }

    /// When something happens next by itself, or has happened and was not yet fetched by [`Fleet::advance`].
    pub fn next_change_at(&self) -> Option<Timestamp> {
        if !self.notices.is_empty() || !self.ended.is_empty() || !self.touched.is_empty() {
            return Some(self.now);
        }
        self.agenda.first_key_value().map(|((at, _), _)| *at)
    }

    /// Lets time pass up to and including `to`, and says what happened since the last call. An earlier time than the present
    /// one changes nothing.
    pub fn advance(&mut self, to: Timestamp) -> Changes {
        self.run_to(to);
        self.settle();
        Changes { notices: std::mem::take(&mut self.notices), ended: std::mem::take(&mut self.ended) }
    }

    /// What was logged since the last call.
    pub fn take_log(&mut self) -> Vec<LogLine> {
        std::mem::take(&mut self.log)
    }

    /// The same, orders only.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        let effects = self.take_log().into_iter().filter_map(|line| match line {
            LogLine::Effect(effect) => Some(effect),
            LogLine::Step(_) | LogLine::Run(_) => None,
        });
        effects.collect()
    }

    fn run_to(&mut self, to: Timestamp) {
        loop {
            let next = self.agenda.first_key_value().map(|((at, _), _)| *at).filter(|at| *at <= to);
            if next.unwrap_or(to) > self.now && !self.touched.is_empty() {
                self.settle();
                continue;
            }
            let Some(((at, _), occurrence)) = next.and_then(|_| self.agenda.pop_first()) else { break };
            self.now = self.now.max(at);
            self.occur(occurrence);
        }
        self.now = self.now.max(to);
    }

    fn occur(&mut self, occurrence: Occurrence) {
        match occurrence {
            Occurrence::Order(job, ticket) => self.order_due(&job, ticket),
            Occurrence::Booted(vm, booted_at) => self.booted(vm, booted_at),
            Occurrence::TroubleEnds(host) => self.troubles_end(&host),
            Occurrence::AgentBack(vm) => self.set_agent(vm, true),
            Occurrence::GoesOff(vm, at) => self.goes_off(vm, at),
            Occurrence::Fault(index) => self.scheduled_fault(index),
            Occurrence::Strike(strike) => self.strike(strike),
            Occurrence::Heat(index, time) => self.heat(index, time),
            Occurrence::FallsAsleep(host, since) => self.falls_asleep(&host, since),
            Occurrence::Wakes(host, at) => self.wakes(&host, at),
            Occurrence::Measure(every) => self.measure_all(every),
        }
    }

    fn at(&mut self, when: Timestamp, occurrence: Occurrence) {
        self.entries += 1;
        self.agenda.insert((when.max(self.now), self.entries), occurrence);
    }

    /// A host says something. What a host says that is cut off is lost; one that hangs says it later.
    fn say(&mut self, host: &HostId, vm: VmId, body: NoticeBody) {
        let Some(machine) = self.hosts.get_mut(host) else { return };
        if machine.is_cut_off() {
            return;
        }
        let notice = Notice { vm, at: self.now, body };
        if machine.hangs() {
            machine.held.push(notice);
        } else {
            self.notices.push((host.clone(), notice));
        }
    }

    /// Puts a guest into a state, and lets its host say so.
    fn set_state(&mut self, vm: VmId, state: VmState, reason: Reason) {
        let Some(guest) = self.guests.get_mut(&vm) else { return };
        (guest.state, guest.reason) = (state, reason);
        guest.agent_up &= guest.is_active();
        let host = guest.host.clone();
        self.touch(&host);
        let Some(guest) = self.guests.get_mut(&vm) else { return };
        let mut waits = None;
        if !guest.is_active() {
            (guest.goes_off_at, waits) = (None, guest.awaited_by.take());
        }
        self.note_runs(vm);
        self.say(&host, vm, NoticeBody::State(state, reason));
        if let Some(job) = waits {
            self.order_at(&job, self.now);
        }
    }

    /// A guest's definition has changed: numbers it anew, and lets its host say so.
    fn redefined(&mut self, vm: VmId) {
        self.definitions += 1;
        let Some(guest) = self.guests.get_mut(&vm) else { return };
        guest.definition = self.definitions;
        let (host, description) = (guest.host.clone(), Box::new(guest.description.clone()));
        self.touch(&host);
        self.say(&host, vm, NoticeBody::Described(description));
    }

    fn log(&mut self, run: &Run, outcome: Outcome) {
        let Run { order, host, handover, .. } = run;
        if let Some(handover) = handover {
            return self.log_step(host, handover, outcome);
        }
        let Some(vm) = order.kind.vm() else { return };
        self.log.push(LogLine::Effect(Effect {
            at: self.now,
            action: order.action,
            plane: order.plane.clone(),
            epoch: order.epoch,
            verb: order.kind.verb(),
            vm,
            host: host.clone(),
            target: order.destination.as_ref().map(|destination| destination.host.clone()),
            outcome,
        }));
    }

    fn log_step(&mut self, host: &HostId, handover: &Handover, outcome: Outcome) {
        self.log.push(LogLine::Step(effects::Step {
            at: self.now,
            handover: handover.id.clone(),
            plane: handover.plane.clone(),
            epoch: handover.mark.epoch,
            step: handover.step.name().into(),
            vm: handover.vm,
            host: host.clone(),
            target: handover.step.transfer().map(|transfer| transfer.destination.host.clone()),
            outcome,
        }));
    }

    /// A guest's copies, by host.
    fn copies_of(&self, vm: VmId) -> impl Iterator<Item = (&HostId, &Copied)> {
        let range = self.copies.range((vm, HostId::from(""))..);
        range.take_while(move |((of, _), _)| *of == vm).map(|((_, host), copy)| (host, copy))
    }

    /// The copies that a host has, by guest. There are few, if any, in all the fleet.
    fn copies_on(&self, host: &HostId) -> impl Iterator<Item = (&VmId, &Copied)> {
        self.copies.iter().filter(move |((_, on), _)| on == host).map(|((vm, _), copy)| (vm, copy))
    }

    /// Logs where a guest runs now, as far as that has changed.
    fn note_runs(&mut self, vm: VmId) {
        let guest = self.guests.get(&vm);
        let mut runs: BTreeMap<HostId, Option<&Mark>> = BTreeMap::new();
        if let Some(guest) = guest.filter(|guest| guest.state == VmState::Running) {
            runs.insert(guest.host.clone(), guest.description.mark.as_ref());
        }
        for (host, copy) in self.copies_of(vm).filter(|(_, copy)| copy.state == VmState::Running) {
            runs.insert(host.clone(), copy.description.mark.as_ref());
        }
        let logged = self.runs.range((vm, HostId::from(""))..).take_while(|(of, _)| *of == vm);
        let before: Vec<HostId> = logged.map(|(_, host)| host.clone()).collect();
        let (at, mut lines) = (self.now, Vec::new());
        let mut line = |host: &HostId, runs, mark: Option<&Mark>| {
            let (plane, epoch) = (mark.map(|mark| mark.plane.clone()), mark.map(|mark| mark.epoch));
            lines.push(LogLine::Run(effects::Run { at, vm, host: host.clone(), runs, plane, epoch }));
        };
        for host in before.iter().filter(|host| !runs.contains_key(host)) {
            line(host, false, guest.and_then(|guest| guest.description.mark.as_ref()));
        }
        for (host, mark) in runs.iter().filter(|(host, _)| !before.contains(host)) {
            line(host, true, *mark);
        }
        let runs: Vec<HostId> = runs.into_keys().collect();
        for host in before {
            self.runs.remove(&(vm, host));
        }
        self.runs.extend(runs.into_iter().map(|host| (vm, host)));
        self.log.extend(lines);
    }
}
