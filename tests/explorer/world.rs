//! One state of the whole: two planes, the link, the hosts; what can happen next, and what comes of it.

use crate::hosts::{Answered, Cut, Hosts, Stage};
use crate::planes::{Given, SENSED, Setting, SourcePlane, Tables, Taking, TargetPlane, Turn};
use crate::steps::{Crash, Event, Step};
use embot::migration::{Activity, Order, OrderFault, ResumeBy, Side, Way, source, target};
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

impl World {
    pub fn new(setting: &Setting, tables: &mut Tables, faults: u8) -> World {
        let source = SourcePlane::new(setting, tables);
        let (source, target) = (tables.source_planes.put(source), tables.target_planes.put(TargetPlane::new()));
        World {
            source,
            target,
            hosts: Hosts::new(setting.way, setting.resume, setting.runs),
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
                    // Live: until the switch. Cold: until the files have arrived; a guest that was asked to shut down, does.
                    let until = if setting.way == Way::Live { Stage::Sending } else { Stage::Switching };
                    let can_be = self.hosts.job.is_some_and(|job| job.stage == until);
                    let cut = Cut { source_paused: false, copy_stays: false, finish_comes: false };
                    let client = if can_be { self.hosts.cut(cut) } else { None };
                    return run.job_over(self, client, false);
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
                Some(client) => run.job_over(self, client, true),
                None => Ok(()),
            },
            Event::GoesOff => {
                self.hosts.goes_off();
                Ok(())
            }
            Event::Start => {
                run.edit_source(self, |plane| plane.starts = false);
                if self.hosts.source_answers && self.hosts.source.is_some_and(|guest| !guest.mark.is_target) {
                    self.hosts.start_source();
                }
                Ok(())
            }
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
                run.job_over(self, client, false)
            }
            Event::LibvirtdKilled(cut) => {
                let client = self.hosts.cut(cut);
                self.hosts.source_answers = false;
                run.job_over(self, client, false)
            }
            Event::Down { target } | Event::Dead { target } => {
                let client = if target { self.hosts.target_down() } else { self.hosts.source_down() };
                if let Event::Dead { .. } = step.event {
                    *(if target { &mut self.hosts.target_is_dead } else { &mut self.hosts.source_is_dead }) = true;
                }
                run.job_over(self, client, false)
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
                    (false, Order::StartJob(_)) => {
                        run.source(self, Taking::Answer(number, Answered::JobEnded { ok: false }), zero)
                    }
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
        if runs.1 && !acts.1 && self.hosts.resume == ResumeBy::Manager {
            return Err("the copy runs, and the target does not own the guest".to_owned());
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
    pub fn is_settled(&self, setting: &Setting, tables: &Tables) -> Result<(), String> {
        let (at_source, at_target) = (tables.source_planes.get(self.source), tables.target_planes.get(self.target));
        let source = tables.sources.get(at_source.machine);
        let target = at_target.machine.map(|machine| tables.targets.get(machine));
        let open = |what: &str, phase: &str| Err(format!("the {what} is still {phase}, and nothing happens any more"));
        let only_cleans = self.is_crippled() && matches!(source.phase, source::Phase::Retiring | source::Phase::Ended);
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
        // Only what failed of itself, and what an admin has decided, may leave a guest off that ran.
        let may_be_off = !setting.runs || self.hosts.power_failed || self.resolved.is_some();
        if !may_be_off && guest.is_some_and(|guest| guest.activity != Activity::Running) {
            return Err("the owner's guest ran, and is off".to_owned());
        }
        if self.hosts.source.is_some() && self.hosts.target.is_some() && !self.is_crippled() {
            return Err("both hosts still have the guest".to_owned());
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
    fn job_over(&mut self, world: &mut World, client: Option<u32>, ok: bool) -> Result<(), String> {
        match client {
            Some(number) => self.source(world, Taking::Answer(number, Answered::JobEnded { ok }), Timestamp(0)),
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
            plane.starts = false;
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
