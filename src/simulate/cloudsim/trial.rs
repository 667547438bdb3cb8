//! A [`Draft`] as policies see it.

use super::cluster::Cluster;
use super::draft::Draft;
use crate::model::{HostId, Timestamp, VmId};
use crate::plan::trial::{HostSet, Overload, Trial, Trials};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use uuid::Uuid;

/// The name of a host.
pub(super) fn host_name(host: usize) -> HostId {
    HostId::from(format!("host-{host:03}").as_str())
}

/// The identity of a guest.
pub(super) fn guest_id(guest: usize) -> VmId {
    VmId(Uuid::from_u128(guest as u128 + 1))
}

/// Makes trials of the cluster as it is.
#[derive(Debug)]
pub(super) struct DraftTrials {
    pub(super) hosts: Rc<[HostId]>,
    /// What is so, while policies may look at it.
    cluster: RefCell<Option<Arc<Cluster>>>,
}

impl DraftTrials {
    pub(super) fn new(cluster: &Arc<Cluster>) -> DraftTrials {
        let hosts = (0..cluster.hosts.len()).map(host_name).collect();
        DraftTrials { hosts, cluster: RefCell::new(Some(cluster.clone())) }
    }

    /// What is so from now on; `None`: nobody looks, and the world is free to change without a copy.
    pub(super) fn show(&self, cluster: Option<&Arc<Cluster>>) {
        *self.cluster.borrow_mut() = cluster.cloned();
    }
}

impl Trials for DraftTrials {
    fn trial(&self, _: Timestamp) -> Box<dyn Trial> {
        let cluster = self.cluster.borrow();
        let cluster = cluster.as_ref().expect("policies step only while the cluster is shown");
        Box::new(DraftTrial { draft: Draft::new(cluster), hosts: self.hosts.clone() })
    }
}

struct DraftTrial {
    draft: Draft,
    hosts: Rc<[HostId]>,
}

/// A guest's number.
fn number(vm: VmId) -> usize {
    usize::try_from(vm.0.as_u128()).map_or(usize::MAX, |number| number.wrapping_sub(1))
}

impl Trial for DraftTrial {
    fn hosts(&self) -> &Rc<[HostId]> {
        &self.hosts
    }

    fn host(&self, id: &HostId) -> Option<usize> {
        let number = id.as_str().strip_prefix("host-")?.parse().ok()?;
        (self.hosts.get(number)? == id).then_some(number)
    }

    fn has(&self, vm: VmId) -> bool {
        self.draft.cluster().guests.get(number(vm)).is_some_and(|guest| guest.host.is_some())
    }

    fn guests(&self, host: usize) -> Vec<VmId> {
        self.draft.guests(host).iter().map(|guest| guest_id(*guest)).collect()
    }

    fn is_fixed(&self, _: usize) -> bool {
        false
    }

    fn is_unused(&self, host: usize) -> bool {
        self.draft.guests(host).is_empty()
    }

    fn wanted(&self, vm: VmId) -> f64 {
        let guest = &self.draft.cluster().guests[number(vm)];
        guest.demand_mips / guest.mips
    }

    fn demand(&self, vm: VmId) -> f64 {
        self.draft.cluster().guests[number(vm)].demand_mips
    }

    fn wanted_of(&self, vm: VmId, host: usize) -> f64 {
        self.demand(vm) / self.draft.cluster().hosts[host].kind.total_mips
    }

    fn load(&self, host: usize) -> f64 {
        self.draft.load(host)
    }

    fn used(&self, host: usize) -> f64 {
        self.draft.utilisation(host)
    }

    fn take(&mut self, vm: VmId) {
        self.draft.take(number(vm));
    }

    fn put(&mut self, vm: VmId, host: usize) {
        self.draft.put(number(vm), host);
    }

    fn mark(&self) -> usize {
        self.draft.mark()
    }

    fn back(&mut self, mark: usize) {
        self.draft.roll_back(mark);
    }

    fn is_over(&self, host: usize, test: Overload) -> bool {
        self.draft.overloaded(host, test)
    }

    fn expected(&self, host: usize, test: Overload) -> f64 {
        self.draft.expected(host, test)
    }

    fn cheapest(&self, vm: VmId, test: Overload, except: &HostSet) -> Option<usize> {
        self.draft.best_fit(number(vm), except, test)
    }

    fn fullest(&self, vm: VmId, test: Overload, except: &HostSet) -> Option<usize> {
        self.draft.fullest_fit(number(vm), except, test)
    }

    fn least_used(&self, except: &HostSet) -> Option<usize> {
        self.draft.least_used(except)
    }

    /// A guest that was put back to where it is stays there.
    fn moves(&self) -> Vec<(VmId, usize)> {
        let moves = self.draft.moves();
        let last: BTreeMap<usize, usize> = moves.iter().map(|one| (one.guest, one.to)).collect();
        let leaves = |guest: usize| self.draft.cluster().guests[guest].host != last.get(&guest).copied();
        moves.into_iter().filter(|one| leaves(one.guest)).map(|one| (guest_id(one.guest), one.to)).collect()
    }
}
