//! What can happen next: the usual, and every fault at every place where it can strike.

use crate::hosts::{Cut, Stage};
use crate::planes::Tables;
use crate::world::World;
use embot::migration::{Order, Side, Way};

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    Begin,
    Deliver { to_target: bool },
    DeliverAstray(u8),
    Carry { at_target: bool },
    Job,
    GoesOff,
    Start,
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

/// Kinds of faults, by number.
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
        if self.hosts.shuts_down {
            events.push(Event::GoesOff);
        }
        if at_source.starts {
            events.push(Event::Start);
        }
        // (A cold one waits first until the guest is off.)
        let waits = |stage| self.hosts.way == Way::Cold && stage == Stage::Sending && self.hosts.running().0;
        if let Some(stage) = job.filter(|stage| !waits(*stage)) {
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
        let takes_long = |stage| stage == Stage::Sending || self.hosts.way == Way::Cold && stage == Stage::Switching;
        let is_busy = is_busy || self.hosts.late_job || self.hosts.late_finish || job.is_some_and(|stage| !takes_long(stage));
        let wakes = [
            source.wake_at().filter(|_| at_source.is_up && !source.is_final()),
            target.as_ref().filter(|target| at_target.is_up && !target.is_final()).and_then(|target| target.wake_at()),
        ];
        let first = wakes.iter().flatten().min();
        // (One that was asked to shut down does so before it is no longer expected to.)
        let heeds = self.hosts.shuts_down && source.start_owed.is_some_and(|until| first.is_some_and(|wake| *wake >= until));
        let due = wakes.iter().position(|wake| wake.is_some() && wake.as_ref() == first).map(|at| at == 1).filter(|_| !heeds);
        if let Some(target) = due.filter(|_| !is_busy) {
            turns.push(Event::Tick { target });
        }
        let mut steps: Vec<Step> = turns.iter().chain(&events).map(|event| Step { event: *event, crash: None }).collect();
        // (The target's half of a job that was cut off is over in an instant, or the source's half would still wait for it.)
        if self.faults_left == 0 || self.hosts.late_finish {
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
                        // (A cold job leaves the guest as it is, and so the copy that was defined.)
                        let is_possible = match self.hosts.way {
                            Way::Live => is_possible,
                            Way::Cold => !source_paused && copy_stays && !finish_comes,
                        };
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
        if !at_target.refuses && target.as_ref().is_some_and(|target| !target.is_final()) && at_target.owns.is_none() {
            faults.push(Event::ImportRefused);
        }
        let starts = at_source.orders.first().map(|(_, order)| tables.orders.get(*order));
        if starts.is_some_and(|order| matches!(*order, Order::StartJob(_))) && self.hosts.way == Way::Live {
            faults.push(Event::LateJobCrash);
        }
        steps.extend(faults.into_iter().map(|event| Step { event, crash: None }));
        steps
    }
}
