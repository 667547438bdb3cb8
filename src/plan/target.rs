//! Can this guest go to that host? The limits of safety, and whether the move is worth it.

use super::No;
use super::affinity::Ties;
use super::fleet::{Cores, Fleet};
use super::gain::{cost_core_s, waiting};
use super::terms::Terms;
use crate::model::{Host, HostId, Link, Span, Vm};
use std::fmt;
use std::sync::Arc;

/// What a move is for decides what it must gain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To even out the load: it has to pay.
    Balance,
    /// To empty a host in maintenance.
    Evacuation,
    /// An admin wants it so.
    Admin,
    /// Its module says that load is not its purpose (`minimum_gain: 0`).
    Other,
}

/// A move to be judged: the guest with all that is the same for every target.
#[derive(Debug)]
pub(super) struct Candidate<'a, 'f> {
    fleet: &'f Fleet<'a>,
    pub(super) vm: &'a Vm,
    pub(super) source: usize,
    ties: Ties<'a>,
    /// Rules it breaks where it is.
    broken_now: usize,
    cores: Cores,
    source_cores: Cores,
    /// The source's load without it, and how many processors fewer wait there then.
    left: f64,
    relief: f64,
    live: bool,
    pub(super) purpose: Purpose,
    target_max_cpu: (f64, &'static str),
    minimum_gain: (f64, &'static str),
    is_admin: bool,
}

/// A host that the guest can go to, and what comes of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fit<'a> {
    pub(super) seat: usize,
    /// The lower the better: the CPU load the host would come to (0 to 1), a quarter of the memory it would have promised
    /// (0 to 1), 0.5 for each soft rule broken there and for another site.
    pub(super) score: f64,
    pub(super) source: (f64, f64),
    pub(super) target: (f64, f64),
    pub(super) gain_core_s: f64,
    pub(super) cost_core_s: f64,
    pub(super) is_repair: bool,
    pub(super) soft: Vec<&'a Arc<str>>,
}

/// Why a host cannot take a guest.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Obstacle<'a> {
    Down(&'a Host),
    Maintenance,
    NoReport,
    Migrations { running: u32, limit: u32 },
    Apart { rule: &'a Arc<str>, with: &'a Arc<str> },
    Together { rule: &'a Arc<str>, with: &'a Arc<str> },
    Memory { promised: u64, wants: u64, limit: f64 },
    Vcpus { promised: u64, wants: u64, limit: f64 },
    TargetCpu { now: f64, then: f64, limit: f64, key: &'static str },
    Hotter { then: f64, source: f64 },
    Gain { gain: f64, cost: f64, factor: f64, key: &'static str, horizon: Span },
}

impl<'a, 'f> Candidate<'a, 'f> {
    pub(super) fn new(fleet: &'f Fleet<'a>, vm: &'a Vm, source: usize, live: bool, terms: &Terms) -> Candidate<'a, 'f> {
        let guardrails = fleet.situation.guardrails;
        let minimum_gain = terms.minimum_gain(guardrails);
        let purpose = match () {
            () if terms.is_admin => Purpose::Admin,
            () if fleet.seats[source].host.in_maintenance() => Purpose::Evacuation,
            () if minimum_gain.0 <= 0.0 => Purpose::Other,
            () => Purpose::Balance,
        };
        let ties = Ties::of(vm, fleet);
        // A guest that is off takes no load along.
        let cores = if live { fleet.situation.guest_cores(vm) } else { Cores::default() };
        let (source_cores, cpus) = (fleet.host_cores(source), fleet.seats[source].host.capacity.cpus);
        let left = (source_cores.low - cores.low).max(0.0);
        Candidate {
            broken_now: ties.broken_at(source).count(),
            ties,
            relief: waiting(source_cores.low, cpus) - waiting(left, cpus),
            left,
            cores,
            source_cores,
            fleet,
            vm,
            source,
            live,
            purpose,
            target_max_cpu: terms.target_max_cpu(guardrails),
            minimum_gain,
            is_admin: terms.is_admin,
        }
    }

    /// May it go there, and what would come of it?
    pub(super) fn at(&self, seat: usize) -> Result<Fit<'a>, Obstacle<'a>> {
        let guardrails = self.fleet.situation.guardrails;
        let (source, target) = (&self.fleet.seats[self.source], &self.fleet.seats[seat]);
        if !target.host.is_up() {
            return Err(Obstacle::Down(target.host));
        }
        if target.host.in_maintenance() {
            return Err(Obstacle::Maintenance);
        }
        if target.migrations >= guardrails.migrations_per_host {
            return Err(Obstacle::Migrations { running: target.migrations, limit: guardrails.migrations_per_host });
        }
        let mut soft = Vec::new();
        let mut broken = 0;
        let mut memory_share = 0.0;
        if self.live {
            let is_evacuation = source.host.in_maintenance();
            if let Some(broken) = self.ties.forbids(self.source, seat, is_evacuation) {
                return Err(Obstacle::of(&broken));
            }
            for rule in self.ties.broken_at(seat) {
                broken += 1;
                soft.push(&rule.rule.name);
            }
            memory_share = self.fleet.room(seat, u64::from(self.vm.vcpus), self.vm.memory_mib)?;
        }
        let cpus = f64::from(target.host.capacity.cpus.max(1));
        let source_cpus = f64::from(source.host.capacity.cpus.max(1));
        let there = self.fleet.host_cores(seat);
        let (cores, is_repair) = (self.cores, broken < self.broken_now);
        let (now, then) = (there.high / cpus, (there.high + cores.high) / cpus);
        let (limit, key) = self.target_max_cpu;
        // Only what makes the target warmer is bound by this; an admin may, since it harms nobody's data.
        if cores.high > 0.0 && then > limit && !self.is_admin {
            return Err(Obstacle::TargetCpu { now, then, limit, key });
        }
        let burden =
            waiting(there.high + cores.high, target.host.capacity.cpus) - waiting(there.high, target.host.capacity.cpus);
        let gain = (self.relief - burden) * guardrails.gain_horizon.as_seconds();
        let cost = if self.live { cost_core_s(self.vm, guardrails) } else { 0.0 };
        if self.live && self.purpose == Purpose::Balance && !is_repair {
            let hot = self.source_cores.low / source_cpus;
            if then > hot {
                return Err(Obstacle::Hotter { then, source: hot });
            }
            let (factor, key) = self.minimum_gain;
            if gain < factor * cost || gain <= 0.0 {
                return Err(Obstacle::Gain { gain, cost, factor, key, horizon: guardrails.gain_horizon });
            }
        }
        let is_far = !source.host.site.is_empty() && source.host.site != target.host.site;
        let score = then + 0.25 * memory_share + 0.5 * soft.len() as f64 + 0.5 * f64::from(u8::from(is_far));
        let source = (self.source_cores.low / source_cpus, self.left / source_cpus);
        Ok(Fit { seat, score, source, target: (now, then), gain_core_s: gain, cost_core_s: cost, is_repair, soft })
    }
}

impl<'a> Fleet<'a> {
    /// Has a host room for this much more? If so, the share (0 to 1) of the memory it may promise that it would have promised.
    pub(super) fn room(&self, seat: usize, vcpus: u64, memory_mib: u64) -> Result<f64, Obstacle<'a>> {
        let guardrails = self.situation.guardrails;
        let capacity = self.seats[seat].host.capacity;
        if capacity.cpus == 0 || capacity.memory_mib == 0 {
            return Err(Obstacle::NoReport);
        }
        let promised = self.promised(seat);
        let may_promise = capacity.memory_mib as f64 * guardrails.overcommit.memory;
        let limit = may_promise * guardrails.target_max_memory;
        let then = (promised.memory_mib + memory_mib) as f64;
        if memory_mib > 0 && then > limit {
            return Err(Obstacle::Memory { promised: promised.memory_mib, wants: memory_mib, limit });
        }
        let limit = f64::from(capacity.cpus) * guardrails.overcommit.cpu;
        if vcpus > 0 && (promised.vcpus + vcpus) as f64 > limit {
            return Err(Obstacle::Vcpus { promised: promised.vcpus, wants: vcpus, limit });
        }
        Ok(then / may_promise.max(1.0))
    }
}

impl<'a> Obstacle<'a> {
    /// A hard rule as an obstacle.
    pub(super) fn of(broken: &super::affinity::Broken<'a>) -> Obstacle<'a> {
        let (rule, with) = (&broken.rule.name, broken.with);
        match broken.rule.kind {
            crate::model::Affinity::Apart => Obstacle::Apart { rule, with },
            crate::model::Affinity::Together => Obstacle::Together { rule, with },
        }
    }

    /// The guardrail in one word.
    pub(super) fn guardrail(&self) -> &'static str {
        match self {
            Obstacle::Down(_) | Obstacle::NoReport => "host",
            Obstacle::Maintenance => "maintenance",
            Obstacle::Migrations { .. } => "migrations",
            Obstacle::Apart { .. } | Obstacle::Together { .. } => "affinity",
            Obstacle::Memory { .. } | Obstacle::Vcpus { .. } => "capacity",
            Obstacle::TargetCpu { .. } | Obstacle::Hotter { .. } => "target_cpu",
            Obstacle::Gain { .. } => "gain",
        }
    }

    /// What an admin could set otherwise.
    pub(super) fn remedy(&self) -> Option<String> {
        match self {
            Obstacle::Down(_) | Obstacle::NoReport | Obstacle::Hotter { .. } => None,
            Obstacle::Maintenance => Some("`embot maintenance HOST off`".into()),
            Obstacle::Migrations { .. } => Some("`guardrails.migrations_per_host`".into()),
            Obstacle::Apart { .. } | Obstacle::Together { .. } => Some("`affinity`".into()),
            Obstacle::Memory { .. } => Some("`guardrails.target_max_memory`".into()),
            Obstacle::Vcpus { .. } => Some("`guardrails.overcommit.cpu`".into()),
            Obstacle::TargetCpu { key, .. } | Obstacle::Gain { key, .. } => Some(setting(key)),
        }
    }

    /// The refusal where this host was named; `what` says what was to be done and ends before the host: `web-1 to`.
    pub(super) fn refusal(&self, what: &str, host: &HostId) -> No {
        let remedy = match self {
            Obstacle::Down(_) => "; nothing is placed there until it answers".to_owned(),
            Obstacle::Maintenance => format!("; `embot maintenance {host} off` ends that"),
            Obstacle::NoReport => "; wait for its first report".to_owned(),
            Obstacle::Migrations { .. } => "; wait for one to end, or raise `guardrails.migrations_per_host`".to_owned(),
            Obstacle::Apart { with, .. } => format!("; move {with} away first, or change the rule in `affinity`"),
            Obstacle::Together { .. } => "; guests that must be together only move off a host in maintenance".to_owned(),
            Obstacle::Memory { .. } => {
                "; free memory there, or raise `guardrails.target_max_memory` or `guardrails.overcommit.memory`".to_owned()
            }
            Obstacle::Vcpus { .. } => "; free vcpus there, or raise `guardrails.overcommit.cpu`".to_owned(),
            Obstacle::TargetCpu { key, .. } => format!("; choose a cooler host, or raise {}", setting(key)),
            Obstacle::Hotter { .. } => "; the load would only change places".to_owned(),
            Obstacle::Gain { key, .. } => format!("; a smaller guest costs less. To allow it, lower {}", setting(key)),
        };
        No { guardrail: self.guardrail(), reason: format!("{what} {host}: {self}{remedy}") }
    }
}

/// What was measured and what the limit is, in a few words.
impl fmt::Display for Obstacle<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::Down(host) => match &host.link {
                Link::Down(why) => write!(f, "it does not answer ({why})"),
                Link::Up | Link::Unknown => f.write_str("it has not answered yet"),
            },
            Obstacle::Maintenance => f.write_str("it is in maintenance"),
            Obstacle::NoReport => f.write_str("it has not said yet what it has"),
            Obstacle::Migrations { running, limit } => {
                write!(f, "{running} of {limit} migrations (in and out) are under way there")
            }
            Obstacle::Apart { rule, with } => write!(f, "hard rule {rule} keeps it apart from {with}"),
            Obstacle::Together { rule, with } => write!(f, "hard rule {rule} keeps it together with {with}"),
            Obstacle::Memory { promised, wants, limit } => {
                write!(f, "the host has promised {promised} MiB; {wants} more would pass the limit of {limit:.0} MiB")
            }
            Obstacle::Vcpus { promised, wants, limit } => {
                write!(f, "the host has promised {promised} vcpus; {wants} more would pass the limit of {limit:.0}")
            }
            Obstacle::TargetCpu { now, then, limit, .. } => {
                write!(f, "CPU would go from {} to {}, and {} is the limit", percent(*now), percent(*then), percent(*limit))
            }
            Obstacle::Hotter { then, source } => {
                write!(f, "it would come to {} CPU, hotter than the source is now ({})", percent(*then), percent(*source))
            }
            Obstacle::Gain { gain, cost, factor, horizon, .. } => write!(
                f,
                "the move would gain {gain:.0} core-seconds within {horizon} and cost {cost:.0}, and it must gain {factor} times its cost"
            ),
        }
    }
}

/// A key as an admin finds it.
pub(super) fn setting(key: &str) -> String {
    if key.starts_with("limits.") { format!("`{key}` in the module's manifest") } else { format!("`{key}`") }
}

/// A share as people read it.
pub(super) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}
