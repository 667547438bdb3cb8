//! Which rules a guest would break on a host, all moves under way considered.

use super::fleet::Fleet;
use crate::model::{Affinity, AffinityRule, Vm};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The rules that concern one guest, with where its companions are.
///
/// Made once for a guest; asking about a host then costs no more than the guest has rules.
#[derive(Debug)]
pub(super) struct Ties<'a>(Vec<Tie<'a>>);

#[derive(Debug)]
struct Tie<'a> {
    rule: &'a AffinityRule,
    /// The companions at each host, those on their way to it and away from it included; and the name of one.
    here: BTreeMap<usize, (u32, &'a Arc<str>)>,
    /// The companions at each host once all have arrived.
    finally: BTreeMap<usize, u32>,
    companions: u32,
    /// Has a companion a place, finally, on a host that is not in maintenance?
    is_anchored: bool,
}

/// A rule that a guest would break on a host.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Broken<'a> {
    pub(super) rule: &'a AffinityRule,
    /// Who stands in the way: somebody who is there (apart), or somebody who is not (together).
    pub(super) with: &'a Arc<str>,
}

impl<'a> Ties<'a> {
    pub(super) fn of(vm: &Vm, fleet: &Fleet<'a>) -> Ties<'a> {
        let world = fleet.situation.world;
        let tie = |(index, rule): (usize, &'a AffinityRule)| {
            let (here, finally) = Default::default();
            let mut tie = Tie { rule, here, finally, companions: 0, is_anchored: false };
            for other in world.members(index).filter(|other| other.id != vm.id && fleet.counts(other)) {
                let Some(seat) = fleet.seat_of(other) else { continue };
                let last = fleet.moving.get(&other.id).map_or(seat, |(_, target)| *target);
                tie.companions += 1;
                tie.here.entry(seat).or_insert((0, &other.name)).0 += 1;
                if last != seat {
                    tie.here.entry(last).or_insert((0, &other.name)).0 += 1;
                }
                *tie.finally.entry(last).or_default() += 1;
                tie.is_anchored |= !fleet.seats[last].host.in_maintenance();
            }
            tie
        };
        Ties(world.rules_of(vm.id).map(tie).collect())
    }

    /// The rules that the guest breaks at a host.
    pub(super) fn broken_at(&self, seat: usize) -> impl Iterator<Item = Broken<'a>> + '_ {
        self.0.iter().filter_map(move |tie| match tie.rule.kind {
            Affinity::Apart => tie.here.get(&seat).map(|(_, with)| Broken { rule: tie.rule, with }),
            Affinity::Together if tie.at(seat) == tie.companions => None,
            Affinity::Together => {
                let elsewhere = tie.here.iter().find(|(other, _)| **other != seat)?;
                Some(Broken { rule: tie.rule, with: elsewhere.1.1 })
            }
        })
    }

    /// Does the guest break this rule at a host?
    pub(super) fn breaks(&self, seat: usize, rule: &str) -> bool {
        self.broken_at(seat).any(|broken| &*broken.rule.name == rule)
    }

    /// The hard rule that forbids to bring the guest from one host to another.
    ///
    /// Guests that must be together cannot leave at once. So a move that brings the guest to more companions than it leaves is
    /// allowed although some are still missing; and on a host in maintenance the first may go ahead, the others must follow.
    pub(super) fn forbids(&self, source: usize, target: usize, is_evacuation: bool) -> Option<Broken<'a>> {
        let hard = self.broken_at(target).filter(|broken| broken.rule.hard);
        hard.into_iter().find(|broken| {
            let tie = self.0.iter().find(|tie| std::ptr::eq(tie.rule, broken.rule));
            let is_tolerable = tie.is_some_and(|tie| {
                let (left, met) = (tie.at(source), tie.at(target));
                let joins = if is_evacuation { met > 0 || !tie.is_anchored } else { met > left };
                tie.rule.kind == Affinity::Together && joins
            });
            !is_tolerable
        })
    }
}

impl Tie<'_> {
    fn at(&self, seat: usize) -> u32 {
        self.finally.get(&seat).copied().unwrap_or(0)
    }
}
