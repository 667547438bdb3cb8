//! One state of the whole: two planes, the link, the hosts; what can happen next, and what comes of it.

use crate::hosts::{Answered, Cut, Hosts, Stage};
use crate::planes::{Given, SENSED, Setting, SourcePlane, Tables, Taking, TargetPlane, Turn};
use embot::migration::{Activity, Order, OrderFault, Side, Way, source, target};
use embot::model::Timestamp;
use std::rc::Rc;

/// A state. Time is relative: it is always 0.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    /// The planes, by number.
    pub source: u32,
    pub target: u32,
    pub hosts: Hosts,
    /// The link, in order, by numbers of messages.
    pub to_target: Vec<u32>,
    pub to_source: Vec<u32>,
    /// Messages that come at any time, or never; is it for the target?
    pub astray: Vec<(bool, u32)>,
    pub link_is_up: bool,
    /// Faults that may still happen.
    pub faults_left: u8,
    pub handled: u32,
    pub dropped: u32,
    /// The last of the source's facts that took effect at the target.
    pub last_at_target: u8,
    /// The newest epoch under which anybody has owned the guest.
    pub epoch: u64,
    /// What an admin has said.
    pub resolved: Option<Side>,
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    Begin,
    Deliver { to_target: bool },
    DeliverAstray(u8),
    Carry { at_target: bool },
    Job,
    LateJob,
    LateFinish,
    Tick { target: bool },
    Restart { target: bool },
    LinkUp,
    HostUp { target: bool },
    Resolve { at_target: bool, owner: Side },
    // Faults.
    Drop { to_target: bool },
    Duplicate { to_target: bool },
    Stray { to_target: bool },
    Unlink,
    SlowTick { target: bool },
    Cancel,
    JobCut(Cut),
    LibvirtdKilled(Cut),
    Down { target: bool },
    Dead { target: bool },
    Away { target: bool },
    OrderFails { at_target: bool },
    ImportRefused,
    LateJobCrash,
}

/// When a plane dies within a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Crash {
    /// Before its write: the input is lost.
    Before,
    /// After its write: what was to leave is lost.
    After,
}

/// What happens, and whether the plane that takes it dies over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Step {
    pub event: Event,
    pub crash: Option<Crash>,
}

/// Kinds of faults, for the count of their combinations.
pub const KINDS: &[&str] = &[
    "-",
    "message lost",
    "message twice",
    "message astray (late, out of order)",
    "link down",
    "time passes first",
    "cancelled",
    "job cut off",
    "source's libvirtd killed",
    "host down",
    "host dead",
    "host away",
    "order fails",
    "import refused",
    "crash before a write",
    "crash after a write",
    "crash, and its job comes to life",
];

impl Step {
    pub fn kind(&self) -> u8 {
        let event = match self.event {
            Event::Drop { .. } => 1,
            Event::Duplicate { .. } => 2,
            Event::Stray { .. } => 3,
            Event::Unlink => 4,
            Event::SlowTick { .. } => 5,
            Event::Cancel => 6,
            Event::JobCut(_) => 7,
            Event::LibvirtdKilled(_) => 8,
            Event::Down { .. } => 9,
            Event::Dead { .. } => 10,
            Event::Away { .. } => 11,
            Event::OrderFails { .. } => 12,
            Event::ImportRefused => 13,
            Event::LateJobCrash => 16,
            _ => 0,
        };
        match self.crash {
            Some(Crash::Before) => 14,
            Some(Crash::After) => 15,
            None => event,
        }
    }
}

impl World {
    pub fn new(setting: &Setting, tables: &mut Tables, faults: u8) -> World {
        let source = SourcePlane::new(setting, tables);
        let (source, target) = (tables.source_planes.put(source), tables.target_planes.put(TargetPlane::new()));
        World {
            source,
            target,
            hosts: Hosts::new(setting.way, setting.resume),
            to_target: Vec::new(),
            to_source: Vec::new(),
            astray: Vec::new(),
            link_is_up: true,
            faults_left: faults,
            handled: 0,
            dropped: 0,
            last_at_target: 0,
            epoch: 1,
            resolved: None,
        }
    }

    /// Everything that can happen next.
    pub fn steps(&self, tables: &Tables) -> Vec<Step> {
        let mut turns = Vec::new();
        let mut events = Vec::new();
        let (at_source, at_target) = (tables.source_planes.get(self.source), tables.target_planes.get(self.target));
        let source = tables.sources.get(at_source.machine);
        let target = at_target.machine.map(|machine| tables.targets.get(machine));
        for (to_target, queue) in [(true, &self.to_target), (false, &self.to_source)] {
            let is_up = if to_target { at_target.is_up } else { at_source.is_up };
            if is_up && !queue.is_empty() {
                turns.push(Event::Deliver { to_target });
            }
        }
        for (index, (to_target, _)) in self.astray.iter().enumerate() {
            if if *to_target { at_target.is_up } else { at_source.is_up } {
                turns.push(Event::DeliverAstray(index as u8));
            }
        }
        let has_client = self.hosts.job.is_some_and(|job| job.client.is_some());
        let next = at_source.orders.first().map(|(_, order)| tables.orders.get(*order));
        let source_carries = next.is_some_and(|order| !has_client || matches!(*order, Order::CancelJob));
        if source_carries {
            turns.push(Event::Carry { at_target: false });
        }
        if !at_target.orders.is_empty() {
            turns.push(Event::Carry { at_target: true });
        }
        let job = self.hosts.job.map(|job| job.stage);
        if let Some(stage) = job {
            if stage == Stage::Arrived && has_client { turns.push(Event::Job) } else { events.push(Event::Job) }
        }
        if self.hosts.late_job {
            events.push(Event::LateJob);
        }
        if self.hosts.late_finish {
            events.push(Event::LateFinish);
        }
        // What brings everybody back.
        for (target, is_up, answers, is_dead) in [
            (false, at_source.is_up, self.hosts.source_answers, self.hosts.source_is_dead),
            (true, at_target.is_up, self.hosts.target_answers, self.hosts.target_is_dead),
        ] {
            if !is_up {
                turns.push(Event::Restart { target });
            }
            if !answers && !is_dead {
                events.push(Event::HostUp { target });
            }
        }
        if !self.link_is_up {
            turns.push(Event::LinkUp);
        }
        // An honest admin: speaks only where a host is certainly dead, knows what both planes have on record, and does not say
        // one thing here and another there.
        let undecided = |is_target: bool| match is_target {
            true => at_target.is_up && target.as_ref().is_some_and(|target| target.undecided.is_some()),
            false => at_source.is_up && source.undecided.is_some() && source.owns(),
        };
        let gave_up = at_target.owns.is_none() && target.as_ref().is_none_or(|target| target.reason.is_some());
        for is_target in [false, true] {
            for owner in [Side::Source, Side::Target] {
                let is_honest = self.resolved.is_none_or(|said| said == owner) || gave_up && owner == Side::Source;
                // Certain is: on the other side it neither runs nor will. Where one plane already acts, that can only be confirmed.
                let (source_runs, target_runs) = self.hosts.running();
                let source_acts = at_source.owns.is_some() && !at_source.on_hold;
                let target_acts = at_target.owns.is_some();
                let is_fenced = match owner {
                    Side::Source => {
                        let is_off = !target_runs && !self.hosts.late_finish;
                        !target_acts && (source_acts || (self.hosts.target_is_dead || gave_up) && is_off)
                    }
                    Side::Target => !gave_up && !source_acts && (target_acts || self.hosts.source_is_dead && !source_runs),
                };
                let is_honest = is_honest && is_fenced && self.hosts.job.is_none();
                if undecided(is_target) && self.is_crippled() && is_honest {
                    turns.push(Event::Resolve { at_target: is_target, owner });
                }
            }
        }
        // Time passes when nothing else is to be done; also while the job sends, which can take long, and while somebody is away.
        let is_busy =
            !self.to_target.is_empty() || !self.to_source.is_empty() || source_carries || !at_target.orders.is_empty();
        let is_busy =
            is_busy || self.hosts.late_job || self.hosts.late_finish || job.is_some_and(|stage| stage != Stage::Sending);
        let wakes = [
            source.wake_at().filter(|_| at_source.is_up && !source.is_final()),
            target.as_ref().filter(|target| at_target.is_up && !target.is_final()).and_then(|target| target.wake_at()),
        ];
        let first = wakes.iter().flatten().min();
        let due = wakes.iter().position(|wake| wake.is_some() && wake.as_ref() == first).map(|at| at == 1);
        if let Some(target) = due.filter(|_| !is_busy) {
            turns.push(Event::Tick { target });
        }
        let mut steps: Vec<Step> = turns.iter().chain(&events).map(|event| Step { event: *event, crash: None }).collect();
        if self.faults_left == 0 {
            return steps;
        }
        for event in turns.into_iter().filter(|event| !matches!(event, Event::LinkUp | Event::Resolve { .. })) {
            steps.push(Step { event, crash: Some(Crash::Before) });
            steps.push(Step { event, crash: Some(Crash::After) });
        }
        let mut faults = Vec::new();
        for (to_target, queue) in [(true, &self.to_target), (false, &self.to_source)] {
            if !queue.is_empty() {
                faults.extend([Event::Drop { to_target }, Event::Duplicate { to_target }, Event::Stray { to_target }]);
            }
        }
        if self.link_is_up {
            faults.push(Event::Unlink);
        }
        // (What a dying plane has ordered reaches the hypervisor within two looks, or not at all.)
        if let Some(target) = due.filter(|_| is_busy && !self.hosts.late_job) {
            faults.push(Event::SlowTick { target });
        }
        if source.is_cancellable() && source.reason.is_none() && at_source.is_up {
            faults.push(Event::Cancel);
        }
        if job.is_some() {
            for source_paused in [false, true] {
                for copy_stays in [false, true] {
                    for finish_comes in [false, true] {
                        let cut = Cut { source_paused, copy_stays, finish_comes };
                        let is_possible = job != Some(Stage::Sending) || !source_paused && !finish_comes;
                        let is_possible = is_possible && (copy_stays || !finish_comes) && job != Some(Stage::Arrived)
                            || job == Some(Stage::Arrived) && copy_stays && !finish_comes;
                        if is_possible {
                            faults.extend([Event::JobCut(cut), Event::LibvirtdKilled(cut)]);
                        }
                    }
                }
            }
        }
        for target in [false, true] {
            if if target { self.hosts.target_answers } else { self.hosts.source_answers } {
                faults.extend([Event::Down { target }, Event::Dead { target }, Event::Away { target }]);
            }
        }
        if source_carries {
            faults.push(Event::OrderFails { at_target: false });
        }
        if !at_target.orders.is_empty() {
            faults.push(Event::OrderFails { at_target: true });
        }
        if !at_target.refuses && target.as_ref().is_some_and(|target| !target.is_final()) && !at_target.owns.is_some() {
            faults.push(Event::ImportRefused);
        }
        let starts = at_source.orders.first().map(|(_, order)| tables.orders.get(*order));
        if starts.is_some_and(|order| matches!(*order, Order::StartJob(_))) && self.hosts.way == Way::Live {
            faults.push(Event::LateJobCrash);
        }
        steps.extend(faults.into_iter().map(|event| Step { event, crash: None }));
        steps
    }

    /// The state after a step. `Err`: something that must never be.
    pub fn after(&self, step: Step, setting: &Setting, tables: &mut Tables, said: &mut Vec<u32>) -> Result<World, String> {
        let mut world = self.clone();
        world.faults_left -= u8::from(step.kind() != 0);
        world.happen(step, setting, tables, said)?;
        world.check(tables)?;
        Ok(world)
    }

    fn happen(&mut self, step: Step, setting: &Setting, tables: &mut Tables, said: &mut Vec<u32>) -> Result<(), String> {
        let (crash, zero) = (step.crash, Timestamp(0));
        let mut run = Run { setting, tables, crash, said };
        match step.event {
            Event::Begin => run.source(self, Taking::Begin, zero),
            Event::Deliver { to_target } => {
                let queue = if to_target { &mut self.to_target } else { &mut self.to_source };
                let message = queue.remove(0);
                run.message(self, to_target, message)
            }
            Event::DeliverAstray(index) => {
                let (to_target, message) = self.astray.remove(index.into());
                run.message(self, to_target, message)
            }
            Event::Carry { at_target: false } => {
                let (number, order) = run.take_source_order(self);
                let order = run.tables.orders.get(order);
                // A job that can still be stopped is.
                if *order == Order::CancelJob && self.hosts.source_answers {
                    let can_be = self.hosts.job.is_some_and(|job| job.stage == Stage::Sending);
                    let cut = Cut { source_paused: false, copy_stays: false, finish_comes: false };
                    let client = if can_be { self.hosts.cut(cut) } else { None };
                    return run.job_over(self, client);
                }
                match self.hosts.at_source(&order, number) {
                    Some(answer) => run.source(self, Taking::Answer(number, answer), zero),
                    None if crash.is_some() => run.crash_source(self),
                    None => Ok(()),
                }
            }
            Event::Carry { at_target: true } => {
                let (number, order) = run.take_target_order(self);
                let order = run.tables.orders.get(order);
                let answer = self.hosts.at_target(&order)?;
                run.target(self, Taking::Answer(number, answer), zero)
            }
            Event::Job => match self.hosts.advance() {
                Some(client) => run.job_over(self, client),
                None => Ok(()),
            },
            Event::LateJob => {
                self.hosts.late_job = false;
                let _ = self.hosts.start(None);
                Ok(())
            }
            Event::LateFinish => {
                self.hosts.finish();
                Ok(())
            }
            Event::Tick { target } | Event::SlowTick { target } => {
                let wake = match (target, run.target_machine(self)) {
                    (true, Some(machine)) => machine.wake_at(),
                    _ => run.source_machine(self).wake_at(),
                };
                let now = wake.unwrap_or_default();
                match target {
                    true => run.target(self, Taking::Tick, now)?,
                    false => run.source(self, Taking::Tick, now)?,
                }
                self.pass(run.tables, now, target);
                Ok(())
            }
            Event::Restart { target: false } => {
                run.edit_source(self, |plane| plane.is_up = true);
                let is_final = run.source_machine(self).is_final();
                if is_final { Ok(()) } else { run.source(self, Taking::Restarted, zero) }
            }
            Event::Restart { target: true } => {
                run.edit_target(self, |plane| plane.is_up = true);
                let is_final = run.target_machine(self).is_none_or(|machine| machine.is_final());
                if is_final { Ok(()) } else { run.target(self, Taking::Restarted, zero) }
            }
            Event::LinkUp => {
                self.link_is_up = true;
                if run.tables.source_planes.get(self.source).is_up {
                    run.source(self, Taking::LinkUp, zero)?;
                }
                if run.tables.target_planes.get(self.target).is_up { run.target(self, Taking::LinkUp, zero) } else { Ok(()) }
            }
            Event::HostUp { target } => {
                *(if target { &mut self.hosts.target_answers } else { &mut self.hosts.source_answers }) = true;
                Ok(())
            }
            Event::Resolve { at_target, owner } => {
                self.resolved = Some(owner);
                match at_target {
                    true => run.target(self, Taking::Resolve(owner), zero),
                    false => run.source(self, Taking::Resolve(owner), zero),
                }
            }
            Event::Drop { to_target } => {
                (if to_target { &mut self.to_target } else { &mut self.to_source }).remove(0);
                Ok(())
            }
            Event::Duplicate { to_target } => {
                let message = if to_target { self.to_target[0] } else { self.to_source[0] };
                self.astray.push((to_target, message));
                Ok(())
            }
            Event::Stray { to_target } => {
                let message = (if to_target { &mut self.to_target } else { &mut self.to_source }).remove(0);
                self.astray.push((to_target, message));
                Ok(())
            }
            Event::Unlink => {
                self.link_is_up = false;
                self.to_target.clear();
                self.to_source.clear();
                Ok(())
            }
            Event::Cancel => run.source(self, Taking::Cancel, zero),
            Event::JobCut(cut) => {
                let client = self.hosts.cut(cut);
                run.job_over(self, client)
            }
            Event::LibvirtdKilled(cut) => {
                let client = self.hosts.cut(cut);
                self.hosts.source_answers = false;
                run.job_over(self, client)
            }
            Event::Down { target } | Event::Dead { target } => {
                let client = if target { self.hosts.target_down() } else { self.hosts.source_down() };
                if let Event::Dead { .. } = step.event {
                    *(if target { &mut self.hosts.target_is_dead } else { &mut self.hosts.source_is_dead }) = true;
                }
                run.job_over(self, client)
            }
            Event::Away { target } => {
                *(if target { &mut self.hosts.target_answers } else { &mut self.hosts.source_answers }) = false;
                Ok(())
            }
            Event::OrderFails { at_target } => {
                let (number, order) = if at_target { run.take_target_order(self) } else { run.take_source_order(self) };
                let refused = Answered::Failed(OrderFault::Refused);
                match (at_target, &*run.tables.orders.get(order)) {
                    (true, _) => run.target(self, Taking::Answer(number, refused), zero),
                    (false, Order::CancelJob) => Ok(()),
                    (false, Order::StartJob(_)) => run.source(self, Taking::Answer(number, Answered::JobEnded), zero),
                    (false, _) => run.source(self, Taking::Answer(number, refused), zero),
                }
            }
            Event::ImportRefused => {
                run.edit_target(self, |plane| plane.refuses = true);
                Ok(())
            }
            Event::LateJobCrash => {
                self.hosts.late_job = true;
                run.crash_source(self)
            }
        }
    }

    /// Time has passed: it is 0 again.
    fn pass(&mut self, tables: &mut Tables, now: Timestamp, was_target: bool) {
        if was_target {
            let mut plane = (*tables.source_planes.get(self.source)).clone();
            let mut machine = (*tables.sources.get(plane.machine)).clone();
            let shift = machine.rebase(now);
            for (number, _) in &mut plane.orders {
                *number = number.wrapping_sub(shift);
            }
            plane.machine = tables.sources.put(machine);
            self.source = tables.source_planes.put(plane);
            self.shift_client(shift);
        } else {
            let mut plane = (*tables.target_planes.get(self.target)).clone();
            let Some(number) = plane.machine else { return };
            let mut machine = (*tables.targets.get(number)).clone();
            let shift = machine.rebase(now);
            for (number, _) in &mut plane.orders {
                *number = number.wrapping_sub(shift);
            }
            plane.machine = Some(tables.targets.put(machine));
            self.target = tables.target_planes.put(plane);
        }
    }

    fn shift_client(&mut self, shift: u32) {
        if let Some(client) = self.hosts.job.as_mut().and_then(|job| job.client.as_mut()) {
            *client = client.wrapping_sub(shift);
        }
    }

    /// What must be so in every state.
    fn check(&self, tables: &Tables) -> Result<(), String> {
        let (at_source, at_target) = (tables.source_planes.get(self.source), tables.target_planes.get(self.target));
        let source = tables.sources.get(at_source.machine);
        let acts = (at_source.owns.is_some() && !at_source.on_hold, at_target.owns.is_some());
        if acts == (true, true) {
            return Err("two planes own the guest and act on it".to_owned());
        }
        let runs = self.hosts.running();
        if runs == (true, true) {
            return Err("two guests run".to_owned());
        }
        if acts.0 && runs.1 {
            return Err("the source manages the guest, and it runs at the target".to_owned());
        }
        if acts.1 && runs.0 {
            return Err("the target owns the guest, and it runs at the source".to_owned());
        }
        // (An admin may have a copy destroyed without knowing that it was the last: the record defines the guest again.)
        if self.hosts.source.is_none() && self.hosts.target.is_none() && self.resolved.is_none() {
            return Err("the guest is nowhere".to_owned());
        }
        if at_source.owns.is_some() != source.owns() {
            return Err("the source's machine and its plane differ about who owns the guest".to_owned());
        }
        if at_source.ended > 1 {
            return Err("the action ended twice".to_owned());
        }
        Ok(())
    }

    /// Is a host gone for good?
    pub fn is_crippled(&self) -> bool {
        self.hosts.source_is_dead || self.hosts.target_is_dead
    }

    /// Is this a state in which everything may stay as it is? `Err`: it is not, and why.
    pub fn is_settled(&self, tables: &Tables) -> Result<(), String> {
        let (at_source, at_target) = (tables.source_planes.get(self.source), tables.target_planes.get(self.target));
        let source = tables.sources.get(at_source.machine);
        let target = at_target.machine.map(|machine| tables.targets.get(machine));
        let open = |what: &str, phase: &str| Err(format!("the {what} is still {phase}, and nothing happens any more"));
        let only_cleans = self.is_crippled() && source.phase == source::Phase::Retiring;
        if !source.is_final() && !only_cleans {
            return open("source", source.phase.name());
        }
        if let Some(target) = target {
            use target::Phase::{Aborted, Committed, Yielded};
            let only_cleans = self.is_crippled() && matches!(target.phase, Aborted | Committed | Yielded);
            if !target.is_final() && !only_cleans {
                return open("target", target.phase.name());
            }
        }
        if (at_source.owns.is_some() && !at_source.on_hold) == at_target.owns.is_some() {
            return Err("nobody, or everybody, owns the guest".to_owned());
        }
        let facts = (at_source.raised() | at_target.raised) & !self.dropped;
        if self.handled != facts {
            return Err(format!("of the facts {facts:b} only {:b} took effect", self.handled));
        }
        if at_source.ended == 0 {
            return Err("the action that asked never ended".to_owned());
        }
        let (guest, side) = match at_target.owns {
            Some(_) => (self.hosts.target, self.hosts.target_is_dead),
            None => (self.hosts.source, self.hosts.source_is_dead),
        };
        if !side && guest.is_none_or(|guest| guest.activity == Activity::Paused) {
            return Err("the owner's guest does not run".to_owned());
        }
        Ok(())
    }
}

/// One step being carried out.
struct Run<'a> {
    setting: &'a Setting,
    tables: &'a mut Tables,
    crash: Option<Crash>,
    said: &'a mut Vec<u32>,
}

impl Run<'_> {
    fn source_machine(&self, world: &World) -> Rc<source::Source> {
        self.tables.sources.get(self.tables.source_planes.get(world.source).machine)
    }

    fn target_machine(&self, world: &World) -> Option<Rc<target::Target>> {
        self.tables.target_planes.get(world.target).machine.map(|machine| self.tables.targets.get(machine))
    }

    fn edit_source<T>(&mut self, world: &mut World, edit: impl FnOnce(&mut SourcePlane) -> T) -> T {
        let mut plane = (*self.tables.source_planes.get(world.source)).clone();
        let out = edit(&mut plane);
        world.source = self.tables.source_planes.put(plane);
        out
    }

    fn edit_target<T>(&mut self, world: &mut World, edit: impl FnOnce(&mut TargetPlane) -> T) -> T {
        let mut plane = (*self.tables.target_planes.get(world.target)).clone();
        let out = edit(&mut plane);
        world.target = self.tables.target_planes.put(plane);
        out
    }

    fn take_source_order(&mut self, world: &mut World) -> Given {
        self.edit_source(world, |plane| plane.orders.remove(0))
    }

    fn take_target_order(&mut self, world: &mut World) -> Given {
        self.edit_target(world, |plane| plane.orders.remove(0))
    }

    fn message(&mut self, world: &mut World, to_target: bool, message: u32) -> Result<(), String> {
        match to_target {
            true => self.target(world, Taking::Message(message), Timestamp(0)),
            false => self.source(world, Taking::Message(message), Timestamp(0)),
        }
    }

    /// The job is over; its client, if it lives, hears of it.
    fn job_over(&mut self, world: &mut World, client: Option<u32>) -> Result<(), String> {
        match client {
            Some(number) => self.source(world, Taking::Answer(number, Answered::JobEnded), Timestamp(0)),
            None if self.crash.is_some() => self.crash_source(world),
            None => Ok(()),
        }
    }

    fn source(&mut self, world: &mut World, taking: Taking, now: Timestamp) -> Result<(), String> {
        if self.crash == Some(Crash::Before) {
            return self.crash_source(world);
        }
        let turn = self.tables.source_turn(world.source, taking, now);
        let (plane, turn) = &*turn;
        world.source = *plane;
        world.shift_client(turn.shift);
        account(world, turn, false)?;
        if self.crash == Some(Crash::After) {
            return self.crash_source(world);
        }
        self.leave(world, turn, true);
        Ok(())
    }

    fn target(&mut self, world: &mut World, taking: Taking, now: Timestamp) -> Result<(), String> {
        if self.crash == Some(Crash::Before) {
            return self.crash_target(world);
        }
        let turn = self.tables.target_turn(self.setting, world.target, taking, now);
        let (plane, turn) = &*turn;
        world.target = *plane;
        account(world, turn, true)?;
        if self.crash == Some(Crash::After) {
            return self.crash_target(world);
        }
        self.leave(world, turn, false);
        Ok(())
    }

    fn leave(&mut self, world: &mut World, turn: &Turn, to_target: bool) {
        for message in &turn.said {
            self.said.push(*message);
            if world.link_is_up {
                if to_target { &mut world.to_target } else { &mut world.to_source }.push(*message);
            }
        }
    }

    fn crash_source(&mut self, world: &mut World) -> Result<(), String> {
        self.edit_source(world, |plane| {
            plane.is_up = false;
            plane.orders.clear();
        });
        world.to_source.clear();
        if let Some(job) = &mut world.hosts.job {
            job.client = None;
            // Nobody else carries on with a cold move.
            if world.hosts.way == Way::Cold {
                world.hosts.cut(Cut { source_paused: false, copy_stays: true, finish_comes: false });
            }
        }
        Ok(())
    }

    fn crash_target(&mut self, world: &mut World) -> Result<(), String> {
        self.edit_target(world, |plane| {
            plane.is_up = false;
            plane.orders.clear();
        });
        world.to_target.clear();
        Ok(())
    }
}

/// What a turn has done to facts and ownership.
fn account(world: &mut World, turn: &Turn, at_target: bool) -> Result<(), String> {
    if let Some(wrong) = &turn.wrong {
        return Err(wrong.clone());
    }
    for fact in &turn.handled {
        if world.handled & (1 << fact) != 0 {
            return Err(format!("fact {fact} took effect twice"));
        }
        world.handled |= 1 << fact;
        if at_target && *fact < SENSED {
            if *fact < world.last_at_target {
                return Err(format!("fact {fact} took effect after fact {}", world.last_at_target));
            }
            world.last_at_target = *fact;
        }
    }
    for fact in &turn.dropped {
        world.dropped |= 1 << fact;
    }
    if let Some(epoch) = turn.owned {
        let is_newer = epoch > world.epoch || epoch == world.epoch && !at_target;
        if !is_newer {
            return Err(format!("the guest is owned under epoch {epoch}, after epoch {}", world.epoch));
        }
        world.epoch = epoch;
    }
    Ok(())
}
