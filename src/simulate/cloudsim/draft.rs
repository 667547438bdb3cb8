//! What would be so: moves are tried here, looked at, and taken back, before any is begun.

use super::cluster::Cluster;
use super::day::Move;
use super::host::{HostKind, Presence};
use crate::plan::trial::{HostSet, Load, Overload};
use std::sync::Arc;

/// The cluster as it would be after some moves, which take effect here at once. Loads are those of the last update.
#[derive(Debug, Clone)]
pub struct Draft {
    cluster: Arc<Cluster>,
    hosts: Vec<Tentative>,
    /// Where each guest would be.
    places: Vec<Option<usize>>,
    changes: Vec<Change>,
    grants: Vec<f64>,
}

/// A host as it would be.
#[derive(Debug, Clone, PartialEq)]
struct Tentative {
    guests: Vec<usize>,
    free_mips: f64,
    granted_mips: f64,
    memory_mb: f64,
    load: Load,
}

#[derive(Debug, Clone, Copy)]
enum Change {
    Taken { guest: usize, host: usize, index: usize },
    Put { guest: usize, host: usize },
}

impl Draft {
    /// Everything as it is.
    pub fn new(cluster: &Arc<Cluster>) -> Draft {
        let hosts = cluster.hosts.iter().map(|host| {
            let total_mips = host.kind.total_mips;
            Tentative {
                guests: host.guests().collect(),
                free_mips: total_mips,
                granted_mips: 0.0,
                memory_mb: 0.0,
                load: Load::none(total_mips),
            }
        });
        let mut draft = Draft {
            cluster: cluster.clone(),
            hosts: hosts.collect(),
            places: cluster.guests.iter().map(|guest| guest.host).collect(),
            changes: Vec::new(),
            grants: Vec::new(),
        };
        for host in 0..draft.hosts.len() {
            if !draft.hosts[host].guests.is_empty() {
                draft.reckon(host);
            }
        }
        draft
    }

    /// What is so.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The hosts for which something holds.
    pub fn hosts_where(&self, holds: impl Fn(&Draft, usize) -> bool) -> HostSet {
        HostSet::of(self.hosts.len(), |host| holds(self, host))
    }

    /// The guests that would be on a host, in the order in which they came.
    pub fn guests(&self, host: usize) -> &[usize] {
        &self.hosts[host].guests
    }

    /// The share of a host's MIPS that was in use at the last update, whatever is tried here.
    pub fn utilisation(&self, host: usize) -> f64 {
        self.cluster.hosts[host].utilisation
    }

    /// Guests by the MIPS they want, the most first; equal ones stay in their order.
    pub fn sort_by_demand(&self, guests: &mut [usize]) {
        let demand = |guest: usize| self.cluster.guests[guest].demand_mips;
        guests.sort_by(|a, b| demand(*b).total_cmp(&demand(*a)));
    }

    /// Takes a guest off the host where it would be, if it is on any.
    pub fn take(&mut self, guest: usize) {
        let Some(host) = self.places[guest].take() else { return };
        let Some(index) = self.hosts[host].guests.iter().position(|other| *other == guest) else { return };
        self.hosts[host].guests.remove(index);
        self.reckon(host);
        self.changes.push(Change::Taken { guest, host, index });
    }

    /// Puts a guest on a host, off the one where it would be.
    pub fn put(&mut self, guest: usize, host: usize) {
        self.take(guest);
        self.hosts[host].guests.push(guest);
        self.places[guest] = Some(host);
        self.reckon(host);
        self.changes.push(Change::Put { guest, host });
    }

    /// The point that it has come to.
    pub fn mark(&self) -> usize {
        self.changes.len()
    }

    /// Takes everything back that was done since a mark.
    pub fn roll_back(&mut self, mark: usize) {
        while self.changes.len() > mark {
            match self.changes.pop() {
                Some(Change::Taken { guest, host, index }) => {
                    self.hosts[host].guests.insert(index, guest);
                    self.places[guest] = Some(host);
                    self.reckon(host);
                }
                Some(Change::Put { guest, host }) => {
                    self.hosts[host].guests.pop();
                    self.places[guest] = None;
                    self.reckon(host);
                }
                None => return,
            }
        }
    }

    /// The moves that were tried and not taken back, in their order. A guest that was put on two hosts is moved twice.
    pub fn moves(&self) -> Vec<Move> {
        let puts = self.changes.iter().filter_map(|change| match change {
            Change::Put { guest, host } => Some(Move { guest: *guest, to: *host }),
            Change::Taken { .. } => None,
        });
        puts.collect()
    }

    /// Would this host be overloaded?
    pub fn overloaded(&self, host: usize, test: Overload) -> bool {
        test.is_over(&self.hosts[host].load)
    }

    /// Would it, with this guest in addition?
    pub fn would_overload(&self, host: usize, guest: usize, test: Overload) -> bool {
        let mut load = self.hosts[host].load.clone();
        self.add_load(&mut load, guest);
        test.is_over(&load)
    }

    /// Has a host as many MIPS left as a guest wants, and as much memory, where that binds?
    pub fn fits(&self, guest: usize, host: usize) -> bool {
        let (there, demand) = (&self.hosts[host], self.cluster.guests[guest].demand_mips);
        let room = self.cluster.memory_mb.is_none_or(|mb| there.memory_mb + self.cluster.guests[guest].memory_mb <= mb);
        room && self.cluster.hosts[host].kind.processor_mips >= demand && there.free_mips >= demand
    }

    /// By how many watts a host's power would rise above that of the last update with this guest in addition.
    pub fn power_increase(&self, guest: usize, host: usize) -> f64 {
        let there = &self.cluster.hosts[host];
        let mips = self.hosts[host].granted_mips + self.cluster.guests[guest].demand_mips;
        there.kind.curve.watts(mips / there.kind.total_mips) - there.watts
    }

    /// Of the hosts that are not excluded, on which a guest fits, and which it would not overload, the one whose power rises
    /// least; the first of several. A host of which nothing is in use is never overloaded.
    pub fn best_fit(&self, guest: usize, excluded: &HostSet, test: Overload) -> Option<usize> {
        let mut best = None;
        let mut idle: Vec<&HostKind> = Vec::new();
        for host in excluded.others() {
            if self.guests(host).is_empty() && self.utilisation(host) == 0.0 {
                // Of idle hosts of one kind, which are all the same, only the first can be chosen.
                let kind = &*self.cluster.hosts[host].kind;
                if idle.iter().any(|other| std::ptr::eq(*other, kind)) {
                    continue;
                }
                idle.push(kind);
            }
            if !self.fits(guest, host) {
                continue;
            }
            let increase = self.power_increase(guest, host);
            let better = best.is_none_or(|(_, least)| increase < least);
            if better && (self.hosts[host].granted_mips == 0.0 || !self.would_overload(host, guest, test)) {
                best = Some((host, increase));
            }
        }
        best.map(|(host, _)| host)
    }

    /// Of the hosts that are not excluded, on which a guest fits, and which it would not overload, the fullest of those that
    /// would have guests, the more efficient kind first; only if there is none, one without guests, the first of the more
    /// efficient kind.
    pub fn fullest_fit(&self, guest: usize, excluded: &HostSet, test: Overload) -> Option<usize> {
        let mut best: Option<(usize, (bool, f64, f64))> = None;
        for host in excluded.others() {
            let is_used = !self.guests(host).is_empty();
            let kind = &self.cluster.hosts[host].kind;
            let efficiency = kind.total_mips / kind.curve.top();
            let least = (is_used, efficiency, if is_used { f64::MAX } else { 0.0 });
            if best.is_some_and(|(_, highest)| least <= highest) || !self.fits(guest, host) {
                continue;
            }
            let mut load = self.hosts[host].load.clone();
            self.add_load(&mut load, guest);
            let rank = (is_used, efficiency, if is_used { test.expected(&load) } else { 0.0 });
            if best.is_none_or(|(_, highest)| rank > highest) && !test.is_over(&load) {
                best = Some((host, rank));
            }
        }
        best.map(|(host, _)| host)
    }

    /// What a test expects of a host.
    pub fn expected(&self, host: usize, test: Overload) -> f64 {
        test.expected(&self.hosts[host].load)
    }

    /// The share of a host's MIPS that those who would be there want.
    pub fn load(&self, host: usize) -> f64 {
        self.hosts[host].load.share()
    }

    /// Of the hosts that are not excluded, are in use but not full, and would have guests, the one that was used least at the
    /// last update; the first of several.
    pub fn least_used(&self, excluded: &HostSet) -> Option<usize> {
        let mut least = None;
        for host in excluded.others().filter(|host| !self.guests(*host).is_empty()) {
            let utilisation = self.utilisation(host);
            if utilisation > 0.0 && least.map_or(utilisation < 1.0, |(_, lowest)| utilisation < lowest) {
                least = Some((host, utilisation));
            }
        }
        least.map(|(host, _)| host)
    }

    /// Reckons up what a host's guests would get and ask for.
    fn reckon(&mut self, host: usize) {
        let kind = &self.cluster.hosts[host].kind;
        let guests = &self.cluster.guests;
        let there = &mut self.hosts[host];
        let wanted = there.guests.iter().map(|guest| (guests[*guest].demand_mips, Presence::Settled));
        there.free_mips = kind.share(wanted, &mut self.grants);
        there.granted_mips = self.grants.iter().sum();
        there.memory_mb = there.guests.iter().map(|guest| guests[*guest].memory_mb).sum();
        let mut load = Load::none(kind.total_mips);
        for guest in &self.hosts[host].guests {
            self.add_load(&mut load, *guest);
        }
        self.hosts[host].load = load;
    }

    fn add_load(&self, load: &mut Load, guest: usize) {
        let guest = &self.cluster.guests[guest];
        load.demand += guest.demand_mips;
        load.largest_mb = load.largest_mb.max(guest.memory_mb);
        for (sum, share) in load.history.iter_mut().zip(&guest.history) {
            *sum += share * guest.mips / load.total;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::cloudsim::native::Reference;
    use crate::simulate::cloudsim::{Day, SAMPLES};
    use crate::simulate::traces::{Trace, Traces};
    use proptest::prelude::*;

    /// Guests 0 to 15 on the first hosts, as ThrMmt places them; the more MIPS the higher the number, within a size.
    fn traces() -> Arc<Traces> {
        let guest = |guest: u8| Trace { name: format!("{guest:02}"), percent: vec![f32::from(10 + 5 * (guest % 4)); SAMPLES] };
        Arc::new(Traces { step_s: 300, guests: (0..16).map(guest).collect() })
    }

    fn at_first_tick(check: impl FnOnce(&Arc<Cluster>)) {
        let traces = traces();
        let mut day = Day::new(&traces, &Reference::named("ThrMmt").unwrap().setup).unwrap();
        check(day.next_tick().unwrap());
    }

    fn none(draft: &Draft) -> HostSet {
        draft.hosts_where(|_, _| false)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever is tried, what is reckoned step by step is what is reckoned at once, and all of it can be taken back.
        #[test]
        fn tries_leave_no_trace(tries in prop::collection::vec((0usize..16, 0usize..8, any::<bool>()), 0..40), keep in 0usize..40) {
            at_first_tick(|cluster| {
                let mut draft = Draft::new(cluster);
                let begin = draft.mark();
                let mut kept = begin;
                for (index, (guest, host, put)) in tries.iter().enumerate() {
                    if index == keep {
                        kept = draft.mark();
                    }
                    if *put { draft.put(*guest, *host) } else { draft.take(*guest) }
                }
                draft.roll_back(kept);
                let mut anew = Draft::new(cluster);
                for (guest, host, put) in tries.iter().take(if kept == begin { 0 } else { keep }) {
                    if *put { anew.put(*guest, *host) } else { anew.take(*guest) }
                }
                assert_eq!(draft.hosts, anew.hosts);
                assert_eq!((&draft.places, draft.moves()), (&anew.places, anew.moves()));
                (0..draft.hosts.len()).for_each(|host| anew.reckon(host));
                assert_eq!(draft.hosts, anew.hosts);
                draft.roll_back(begin);
                assert_eq!(draft.hosts, Draft::new(cluster).hosts);
            });
        }
    }

    #[test]
    fn a_guest_put_twice_is_moved_twice() {
        at_first_tick(|cluster| {
            let mut draft = Draft::new(cluster);
            draft.put(3, 100);
            draft.put(4, 101);
            draft.put(3, 102);
            draft.take(4);
            let moves: Vec<_> = draft.moves().iter().map(|one| (one.guest, one.to)).collect();
            assert_eq!(moves, [(3, 100), (4, 101), (3, 102)]);
            assert_eq!((draft.guests(100), draft.guests(101), draft.guests(102)), (&[][..], &[][..], &[3][..]));
        });
    }

    #[test]
    fn the_best_fit_adds_the_least_watts() {
        at_first_tick(|cluster| {
            let draft = Draft::new(cluster);
            let test = Overload::Threshold { limit: 0.8 };
            for guest in 0..cluster.guests.len() {
                let home = cluster.guests[guest].host;
                let excluded = draft.hosts_where(|_, host| Some(host) == home);
                let chosen = draft.best_fit(guest, &excluded, test).unwrap();
                let increases = (0..cluster.hosts.len()).filter(|host| Some(*host) != home);
                let least = increases
                    .map(|host| (draft.power_increase(guest, host), host))
                    .reduce(|a, b| if b.0 < a.0 { b } else { a });
                assert_eq!(least.map(|(_, host)| host), Some(chosen));
            }
            let all = draft.hosts_where(|_, _| true);
            assert_eq!((draft.best_fit(0, &all, test), draft.least_used(&all)), (None, None));
        });
    }

    #[test]
    fn a_host_that_would_be_overloaded_is_passed_over() {
        at_first_tick(|cluster| {
            let mut draft = Draft::new(cluster);
            let host = draft.best_fit(0, &none(&draft), Overload::Threshold { limit: 0.8 }).unwrap();
            // The same host with what is there, and a limit that it keeps by itself, but not with the guest.
            draft.put(1, host);
            let total = cluster.hosts[host].kind.total_mips;
            let there: f64 = draft.guests(host).iter().map(|guest| cluster.guests[*guest].demand_mips).sum();
            let tight = Overload::Threshold { limit: there / total };
            assert!(!draft.overloaded(host, tight) && draft.would_overload(host, 0, tight));
            assert_ne!(draft.best_fit(0, &none(&draft), tight), Some(host));
        });
    }

    #[test]
    fn memory_binds_where_it_is_told_to() {
        let traces = traces();
        let setup = Reference::named("ThrMmt").unwrap().setup;
        for (memory_mb, fit) in [(None, true), (Some(2_000.0), false), (Some(2_610.0), true)] {
            let mut day = Day::new(&traces, &crate::simulate::cloudsim::Setup { memory_mb, ..setup.clone() }).unwrap();
            let mut draft = Draft::new(day.next_tick().unwrap());
            // Three guests of 870 MB.
            draft.put(0, 101);
            draft.put(1, 101);
            assert_eq!(draft.fits(2, 101), fit, "{memory_mb:?}");
        }
    }

    #[test]
    fn the_least_used_host_is_in_use() {
        at_first_tick(|cluster| {
            let mut draft = Draft::new(cluster);
            let least = draft.least_used(&none(&draft)).unwrap();
            let used = |host: &usize| cluster.hosts[*host].utilisation > 0.0;
            assert!(
                (0..cluster.hosts.len())
                    .filter(used)
                    .all(|host| cluster.hosts[host].utilisation >= cluster.hosts[least].utilisation)
            );
            for guest in draft.guests(least).to_vec() {
                draft.take(guest);
            }
            assert_ne!(draft.least_used(&none(&draft)), Some(least), "it has no guests any more");
        });
    }
}
