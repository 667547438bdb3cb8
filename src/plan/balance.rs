//! A balancing plan for the whole plane: the few moves that empty hosts in maintenance, mend broken affinity rules and take
//! overloaded hosts below the limit.
//!
//! Greedy, and in an order in which the moves can be carried out one by one: each is judged as if those before it were done,
//! by the same checks that a single proposed move has to pass. It looks one move ahead and swaps nothing; where that is not
//! enough, the hosts left over are named. No guest moves twice.

use super::affinity::Ties;
use super::fleet::Fleet;
use super::memory::Memory;
use super::placement::by_score;
use super::planner::Situation;
use super::standing;
use super::target::{Candidate, Fit, percent};
use super::terms::Terms;
use crate::model::{ActionKind, HostId, Mode, Span, Vm, VmId};
use std::collections::BTreeSet;

/// What a balancing plan is to do.
#[derive(Debug, Clone, PartialEq)]
pub struct BalanceOptions {
    /// Moves at the most.
    pub moves: usize,
    /// The CPU load (0 to 1) above which a host counts as overloaded; the plane's `target_max_cpu` where it is lower.
    pub overloaded: f64,
}

impl Default for BalanceOptions {
    fn default() -> BalanceOptions {
        BalanceOptions { moves: 100, overloaded: 1.0 }
    }
}

/// One move of a balancing plan.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct BalanceMove {
    /// Whom.
    pub vm: VmId,
    /// From where.
    pub source: HostId,
    /// Where to.
    pub target: HostId,
    /// Why, and what it does to both hosts.
    pub reason: String,
    /// What it gains within the horizon, in core-seconds.
    pub gain_core_s: f64,
    /// What it costs, in core-seconds.
    pub cost_core_s: f64,
    /// How long it takes at the assumed bandwidth.
    pub takes: Span,
}

/// Moves in the order in which they can be carried out, and what they do not mend.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize)]
pub struct BalancePlan {
    /// The moves.
    pub moves: Vec<BalanceMove>,
    /// What stays as it is, a sentence each.
    pub left: Vec<String>,
}

/// Makes a balancing plan. It is a recommendation: carrying it out means proposing its moves.
pub fn balance(situation: &Situation, options: &BalanceOptions) -> BalancePlan {
    let mut balancing = Balancing {
        fleet: Fleet::new(*situation, &Memory::default()),
        terms: Terms::of_module("balance".into(), Mode::Act, BTreeSet::new(), Default::default()),
        moved: BTreeSet::new(),
        plan: BalancePlan::default(),
        moves: options.moves,
    };
    balancing.evacuate();
    balancing.mend();
    balancing.relieve(options.overloaded.min(situation.guardrails.target_max_cpu));
    balancing.plan
}

struct Balancing<'a> {
    fleet: Fleet<'a>,
    terms: Terms,
    moved: BTreeSet<VmId>,
    plan: BalancePlan,
    moves: usize,
}

impl<'a> Balancing<'a> {
    fn evacuate(&mut self) {
        for source in 0..self.fleet.seats.len() {
            let host = self.fleet.seats[source].host;
            if !host.in_maintenance() {
                continue;
            }
            // The large ones first: they are the hardest to place.
            let mut guests = self.guests_on(source);
            guests.sort_by_key(|vm| (std::cmp::Reverse(vm.memory_mib), vm.id));
            for vm in guests {
                match self.best(vm, source) {
                    Some(fit) => self.take(vm, source, fit, &format!("{} is in maintenance", host.id)),
                    None => {
                        self.plan.left.push(format!("{} stays on {} in maintenance: no host can take it", vm.name, host.id))
                    }
                }
            }
        }
    }

    fn mend(&mut self) {
        let world = self.fleet.situation.world;
        for violation in world.violations() {
            let mut guests: Vec<&'a Vm> = violation.vms.iter().filter_map(|vm| world.vm(*vm)).collect();
            guests.sort_by_key(|vm| (vm.memory_mib, vm.id));
            for vm in &guests {
                let Some(source) = self.fleet.seat_of(vm).filter(|_| self.may_move(vm)) else { continue };
                let ties = Ties::of(vm, &self.fleet);
                if !ties.breaks(source, &violation.rule) {
                    continue;
                }
                let mends = |fit: &Fit| fit.is_repair && !ties.breaks(fit.seat, &violation.rule);
                if let Some(fit) = self.fits(vm, source).into_iter().filter(mends).min_by(by_score) {
                    self.take(vm, source, fit, &format!("affinity rule {}", violation.rule));
                }
            }
            let breaks = |vm: &Vm, seat| Ties::of(vm, &self.fleet).breaks(seat, &violation.rule);
            let is_broken = |vm: &&Vm| self.fleet.seat_of(vm).is_some_and(|seat| breaks(vm, seat));
            if let Some(vm) = guests.into_iter().find(is_broken) {
                self.plan.left.push(format!("rule {} stays broken: no single move mends it for {}", violation.rule, vm.name));
            }
        }
    }

    /// Takes the hottest host, and of its guests and their targets the pair that leaves the fewest processors waiting; until no
    /// host is too hot, or none that is can be helped.
    fn relieve(&mut self, limit: f64) {
        let mut given_up = BTreeSet::new();
        while self.plan.moves.len() < self.moves {
            let hot = (0..self.fleet.seats.len()).filter(|seat| !given_up.contains(seat)).map(|seat| (self.load(seat), seat));
            let Some((load, source)) =
                hot.filter(|(load, _)| *load > limit).max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)))
            else {
                return;
            };
            let mut best: Option<(&'a Vm, Fit<'a>)> = None;
            for vm in self.guests_on(source) {
                for fit in self.fits(vm, source) {
                    let worth = |fit: &Fit| fit.gain_core_s - fit.cost_core_s - fit.soft.len() as f64 * fit.cost_core_s;
                    if best.as_ref().is_none_or(|(_, than)| worth(&fit) > worth(than)) {
                        best = Some((vm, fit));
                    }
                }
            }
            match best {
                Some((vm, fit)) => {
                    let reason = format!("{} is at {} CPU", self.fleet.seats[source].host.id, percent(load));
                    self.take(vm, source, fit, &reason);
                }
                None => {
                    let host = &self.fleet.seats[source].host.id;
                    self.plan.left.push(format!("{host} stays at {} CPU: no move of one of its guests pays", percent(load)));
                    given_up.insert(source);
                }
            }
        }
    }

    /// The load that both the present sample and the recent mean agree on.
    fn load(&self, seat: usize) -> f64 {
        let host = self.fleet.seats[seat].host;
        if host.in_maintenance() || !host.is_up() {
            return 0.0;
        }
        self.fleet.host_cores(seat).low / f64::from(host.capacity.cpus.max(1))
    }

    fn guests_on(&self, seat: usize) -> Vec<&'a Vm> {
        let on = self.fleet.situation.world.vms_on(&self.fleet.seats[seat].host.id);
        on.filter(|vm| self.fleet.seat_of(vm) == Some(seat) && self.may_move(vm)).collect()
    }

    fn may_move(&self, vm: &Vm) -> bool {
        let world = self.fleet.situation.world;
        let kind = ActionKind::Migrate { vm: vm.id, to: None, live: true };
        !self.moved.contains(&vm.id)
            && vm.mode != Mode::Observe
            && !self.fleet.moving.contains_key(&vm.id)
            && !self.fleet.is_busy(vm.id)
            && standing::known(world, &kind).is_ok()
            && standing::owner(world, &kind, Some(vm)).is_ok()
            && standing::state(&kind, vm).is_ok()
    }

    fn fits(&self, vm: &'a Vm, source: usize) -> Vec<Fit<'a>> {
        let candidate = Candidate::new(&self.fleet, vm, source, true, &self.terms);
        (0..self.fleet.seats.len()).filter(|seat| *seat != source).filter_map(|seat| candidate.at(seat).ok()).collect()
    }

    fn best(&self, vm: &'a Vm, source: usize) -> Option<Fit<'a>> {
        self.fits(vm, source).into_iter().min_by(by_score)
    }

    fn take(&mut self, vm: &'a Vm, source: usize, fit: Fit<'a>, why: &str) {
        if self.plan.moves.len() >= self.moves {
            return;
        }
        let id = |seat: usize| self.fleet.seats[seat].host.id.clone();
        let (from, to) = (id(source), id(fit.seat));
        let reason = format!(
            "{why}; CPU of {from} {} -> {}, of {to} {} -> {}",
            percent(fit.source.0),
            percent(fit.source.1),
            percent(fit.target.0),
            percent(fit.target.1)
        );
        let seconds = vm.balloon_mib as f64 / self.fleet.situation.guardrails.migration_mib_per_s.max(1.0);
        self.plan.moves.push(BalanceMove {
            vm: vm.id,
            source: from,
            target: to,
            reason,
            gain_core_s: fit.gain_core_s,
            cost_core_s: fit.cost_core_s,
            takes: Span((seconds * 1_000.0) as u64),
        });
        self.moved.insert(vm.id);
        self.fleet.relocate(vm, source, fit.seat);
    }
}
