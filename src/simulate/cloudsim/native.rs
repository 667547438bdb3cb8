//! The policies of the literature, natively: what scripts of the same name are held against.
//!
//! Each is a test for overload and a rule which guest to move; where guests go, and how hosts are emptied, is the same for
//! all: power-aware best fit decreasing (Beloglazov and Buyya 2012).

use super::{Cluster, Day, Draft, Move, Placement, Power, Setup, Unfit};
use crate::plan::trial::{HostSet, Overload};
use crate::simulate::figures::Figures;
use crate::simulate::traces::Traces;
use std::sync::Arc;

/// Which guest is moved off an overloaded host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// The one that is moved soonest: with the least memory.
    MinimumMigrationTime,
    /// The one that uses the least of its own MIPS.
    MinimumUtilisation,
}

/// A policy that moves guests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// When a host is overloaded.
    pub overload: Overload,
    /// Which guest is moved off it then.
    pub selection: Selection,
}

/// An experiment of the literature.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// The world that it is run in.
    pub setup: Setup,
    /// What moves guests; `None`: nothing does.
    pub policy: Option<Policy>,
}

impl Reference {
    /// The modules that are the policies of the literature.
    pub const MODULES: [&'static str; 7] = ["non-power-aware", "dvfs", "thr-mmt", "iqr-mmt", "mad-mmt", "lr-mmt", "thr-mu"];
    /// The tests for overload by name, each with the parameter that the literature gives it.
    const OVERLOADS: [(&'static str, Overload); 5] = [
        ("Thr", Overload::Threshold { limit: 0.8 }),
        ("Iqr", Overload::Iqr { safety: 1.5 }),
        ("Mad", Overload::Mad { safety: 2.5 }),
        ("Lr", Overload::Regression { safety: 1.2 }),
        ("Lrr", Overload::Regression { safety: 1.2 }),
    ];
    /// The rules for selection by name.
    const SELECTIONS: [(&'static str, Selection); 2] =
        [("Mmt", Selection::MinimumMigrationTime), ("Mu", Selection::MinimumUtilisation)];

    /// The experiment of a name such as `Dvfs`, `NonPowerAware`, `LrMmt` or `ThrMu`.
    pub fn named(name: &str) -> Option<Reference> {
        let still = |power| Reference { setup: Setup { placement: Placement::FirstFit, power, memory_mb: None }, policy: None };
        match name {
            "NonPowerAware" => return Some(still(Power::AlwaysFull)),
            "Dvfs" => return Some(still(Power::ByUse)),
            _ => {}
        }
        let (overload, selection) = Reference::OVERLOADS.iter().find_map(|(test, overload)| {
            let rule = name.strip_prefix(test)?;
            Some((*overload, Reference::SELECTIONS.iter().find(|(known, _)| *known == rule)?.1))
        })?;
        let placement = Placement::LeastPower { limit: overload.limit_at_first() };
        let setup = Setup { placement, power: Power::ByUse, memory_mb: None };
        Some(Reference { setup, policy: Some(Policy { overload, selection }) })
    }

    /// The experiment that a module such as `lr-mmt` or `non-power-aware` stands for.
    pub fn of_module(module: &str) -> Option<Reference> {
        let word = |word: &str| {
            word.chars().take(1).map(|first| first.to_ascii_uppercase()).chain(word.chars().skip(1)).collect::<String>()
        };
        Reference::named(&module.split('-').map(word).collect::<String>())
    }

    /// Runs a day.
    pub fn run(&self, traces: &Arc<Traces>) -> Result<Figures, Unfit> {
        let mut day = Day::new(traces, &self.setup)?;
        while let Some(cluster) = day.next_tick() {
            if let Some(policy) = &self.policy {
                let moves = policy.decide(cluster);
                day.start(&moves).expect("moves of guests that are there, to hosts where they are not");
            }
        }
        Ok(day.figures())
    }
}

impl Policy {
    /// The moves of a tick: first those that relieve overloaded hosts, then those that empty the least used.
    pub fn decide(&self, cluster: &Arc<Cluster>) -> Vec<Move> {
        let mut draft = Draft::new(cluster);
        let overloaded = draft.hosts_where(|draft, host| draft.overloaded(host, self.overload));
        self.relieve(&mut draft, &overloaded);
        self.empty(&mut draft, &overloaded);
        draft.moves()
    }

    /// Takes guests off overloaded hosts until these are not so any more, and puts them elsewhere. Those that have no place
    /// stay where they are.
    fn relieve(&self, draft: &mut Draft, overloaded: &HostSet) {
        let mut guests = Vec::new();
        for host in overloaded.iter() {
            while let Some(guest) = self.selection.choose(draft, host) {
                draft.take(guest);
                guests.push(guest);
                if !draft.overloaded(host, self.overload) {
                    break;
                }
            }
        }
        draft.sort_by_demand(&mut guests);
        for guest in guests {
            if let Some(host) = draft.best_fit(guest, overloaded, self.overload) {
                draft.put(guest, host);
            }
        }
    }

    /// Empties hosts, the least used first, each altogether or not at all.
    fn empty(&self, draft: &mut Draft, overloaded: &HostSet) {
        let mut no_source = draft.hosts_where(|draft, host| overloaded.contains(host) || draft.utilisation(host) == 0.0);
        let mut no_target = no_source.clone();
        while let Some(source) = draft.least_used(&no_source) {
            no_source.insert(source);
            no_target.insert(source);
            let before = draft.mark();
            let mut guests = draft.guests(source).to_vec();
            draft.sort_by_demand(&mut guests);
            let targets: Option<Vec<usize>> = guests
                .into_iter()
                .map(|guest| {
                    let target = draft.best_fit(guest, &no_target, self.overload)?;
                    draft.put(guest, target);
                    Some(target)
                })
                .collect();
            match targets {
                Some(targets) => targets.into_iter().for_each(|target| no_source.insert(target)),
                None => draft.roll_back(before),
            }
        }
    }
}

impl Selection {
    /// The guest to move off a host; the first of several.
    fn choose(self, draft: &Draft, host: usize) -> Option<usize> {
        let cost = |guest: usize| {
            let guest = &draft.cluster().guests[guest];
            match self {
                Selection::MinimumMigrationTime => guest.memory_mb,
                Selection::MinimumUtilisation => guest.demand_mips / guest.mips,
            }
        };
        draft.guests(host).iter().copied().min_by(|a, b| cost(*a).total_cmp(&cost(*b)))
    }
}
