//! Trials: what would be so if some guests were elsewhere. A policy tries moves, looks at what would come of them, takes back
//! what it does not like, and proposes the rest. Nothing happens by a trial.
//!
//! A [`Trial`] begins with everything as it is, and what is tried takes effect in it at once. There are two kinds: that of a
//! plane (`plane`), over hosts and guests as they are known, and that of the simulator's compatibility world. Whatever
//! a trial says is possible, the planner weighs each proposal afterwards as it weighs any other.

mod overload;
mod plane;
#[cfg(test)]
mod tests;

pub use overload::{Load, MOVED_MB_PER_S, Overload, SLOT, SLOTS};
pub use plane::PlaneTrials;

use crate::model::{HostId, Timestamp, VmId};
use std::rc::Rc;

/// Makes trials.
pub trait Trials: std::fmt::Debug {
    /// Everything as it is now.
    fn trial(&self, now: Timestamp) -> Box<dyn Trial>;
}

/// What would be so. Hosts are numbered from 0, in the order of their names; guests are those that take up room.
pub trait Trial {
    /// The hosts, awake and asleep.
    fn hosts(&self) -> &Rc<[HostId]>;
    /// A host's number.
    fn host(&self, id: &HostId) -> Option<usize>;
    /// Is this guest part of the trial?
    fn has(&self, vm: VmId) -> bool;
    /// The guests that would be on a host and can be moved, in their order.
    fn guests(&self, host: usize) -> Vec<VmId>;
    /// Would a guest be there that cannot be moved?
    fn is_fixed(&self, host: usize) -> bool;
    /// Would any guest be there?
    fn is_unused(&self, host: usize) -> bool;
    /// The share of its own processors that a guest wants.
    fn wanted(&self, vm: VmId) -> f64;
    /// The processing that a guest wants, in the same unit for all guests.
    fn demand(&self, vm: VmId) -> f64;
    /// The share of a host's processors that a guest wants.
    fn wanted_of(&self, vm: VmId, host: usize) -> f64;
    /// The share of a host's processors that those who would be there want; it may be more than 1.
    fn load(&self, host: usize) -> f64;
    /// The share of a host's processors that was in use at the last sample, whatever is tried.
    fn used(&self, host: usize) -> f64;
    /// Takes a guest off the host where it would be.
    fn take(&mut self, vm: VmId);
    /// Puts a guest on a host, off the one where it would be.
    fn put(&mut self, vm: VmId, host: usize);
    /// The point that the trial has come to.
    fn mark(&self) -> usize;
    /// Takes everything back that was done since a mark.
    fn back(&mut self, mark: usize);
    /// Would a host be overloaded?
    fn is_over(&self, host: usize, test: Overload) -> bool;
    /// What a test expects of a host ([`Overload::expected`]).
    fn expected(&self, host: usize, test: Overload) -> f64;
    /// Of the hosts that are not excluded, where a guest can go and which it would not overload, the one whose power rises
    /// least; the first of several.
    fn cheapest(&self, vm: VmId, test: Overload, except: &HostSet) -> Option<usize>;
    /// Of the same hosts the fullest in use, those of the more efficient kind first; only where none in use will do, one that
    /// is not in use, awake ones and the more efficient first.
    fn fullest(&self, vm: VmId, test: Overload, except: &HostSet) -> Option<usize>;
    /// Of the hosts that are not excluded, are in use but not full, and would have guests, all of which can be moved, the one
    /// that was used least at the last sample; the first of several.
    fn least_used(&self, except: &HostSet) -> Option<usize>;
    /// The moves that were tried and not taken back, in their order.
    fn moves(&self) -> Vec<(VmId, usize)>;
}

impl dyn Trial + '_ {
    /// The hosts for which something holds.
    pub fn hosts_where(&self, holds: impl Fn(usize) -> bool) -> HostSet {
        HostSet::of(self.hosts().len(), holds)
    }

    /// The hosts that would be in use and could be emptied, the least loaded by a test first.
    pub fn ranked(&self, test: Overload) -> Vec<usize> {
        let hosts = (0..self.hosts().len()).filter(|host| !self.is_unused(*host) && !self.is_fixed(*host));
        let mut ranked: Vec<(f64, usize)> = hosts.map(|host| (self.expected(host, test), host)).collect();
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
        ranked.into_iter().map(|(_, host)| host).collect()
    }
}

/// A set of hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSet {
    hosts: usize,
    /// A bit for each host; those beyond the last are 0.
    words: Vec<u64>,
}

impl HostSet {
    /// Of so many hosts those for which something holds.
    pub fn of(hosts: usize, holds: impl Fn(usize) -> bool) -> HostSet {
        let mut set = HostSet { hosts, words: vec![0; hosts.div_ceil(64)] };
        (0..hosts).filter(|host| holds(*host)).for_each(|host| set.insert(host));
        set
    }

    /// Is this host in it?
    pub fn contains(&self, host: usize) -> bool {
        self.words[host / 64] >> (host % 64) & 1 == 1
    }

    /// Adds a host.
    pub fn insert(&mut self, host: usize) {
        self.words[host / 64] |= 1 << (host % 64);
    }

    /// Adds the hosts of another set of the same trial.
    pub fn insert_all(&mut self, others: &HostSet) {
        self.words.iter_mut().zip(&others.words).for_each(|(word, other)| *word |= other);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Its hosts, in their order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(index, word)| bits(*word).map(move |bit| index * 64 + bit))
    }

    /// The hosts that are not in it, in their order.
    pub fn others(&self) -> impl Iterator<Item = usize> + '_ {
        let words = self.words.iter().enumerate();
        let all = words.flat_map(|(index, word)| bits(!word).map(move |bit| index * 64 + bit));
        all.take_while(|host| *host < self.hosts)
    }
}

/// The places of a word's bits that are 1.
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros() as usize)?;
        word &= word - 1;
        Some(bit)
    })
}
