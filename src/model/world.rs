//! The plane's picture of what it manages: hosts and guests as last known; and of its peers.
//!
//! Everything that changes goes through the methods here, so that each change sets the element's *dirty* mark; the manager
//! takes the dirty set once per batch and writes those rows.

use super::action::{ActionId, Verb};
use super::element::{ElementId, HostId, Lookup, VmId};
use super::host::{Abilities, Host};
use super::migration::{MigrationId, Reservation, Tombstone};
use super::peer::Peer;
use super::rule::{Affinity, AffinityRule, Rules, Violation};
use super::vm::Vm;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Hosts, guests, peers and the plane's own standing.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// The plane's name.
    pub plane: Arc<str>,
    /// `false`: the kill switch is on, nothing new is started.
    pub armed: bool,
    /// What is being done to which guest: actions planned or started.
    pub open: BTreeMap<VmId, (ActionId, Verb)>,
    /// Guests that are being moved between hosts of the plane, and where to.
    pub moving: BTreeMap<VmId, HostId>,
    /// Guests for which advice waits for an admin.
    pub advised: BTreeSet<VmId>,
    /// The other planes, by name.
    pub peers: BTreeMap<Arc<str>, Peer>,
    /// Room kept for guests that are to come from other planes.
    pub reserved: BTreeMap<MigrationId, Reservation>,
    /// Guests that have just come, or are about to: nothing else is done with them until their migration is over.
    pub arriving: BTreeMap<VmId, MigrationId>,
    /// Where guests went.
    pub gone: BTreeMap<VmId, Tombstone>,
    /// What hosts can give guests, as far as they say.
    pub abilities: BTreeMap<HostId, Abilities>,
    rules: Rules,
    hosts: BTreeMap<HostId, Host>,
    vms: Lookup<VmId, Vm>,
    /// The guests in their order.
    order: BTreeSet<VmId>,
    dirty: BTreeSet<ElementId>,
}

impl World {
    /// An empty, armed world.
    pub fn new(plane: &str) -> World {
        World { plane: plane.into(), armed: true, ..World::default() }
    }

    /// Sets the affinity rules.
    pub fn set_rules(&mut self, rules: Vec<AffinityRule>) {
        self.rules = Rules::new(rules);
        for vm in self.order.iter().filter_map(|id| self.vms.get(id)) {
            self.rules.enroll(vm.id, &vm.name);
        }
    }

    /// The affinity rules.
    pub fn rules(&self) -> &[AffinityRule] {
        self.rules.list()
    }

    /// The rules that concern a guest, each with its position among [`World::rules`].
    pub fn rules_of(&self, vm: VmId) -> impl Iterator<Item = (usize, &AffinityRule)> {
        self.rules.of(vm).iter().filter_map(|index| Some((*index, self.rules().get(*index)?)))
    }

    /// The rules that would concern a guest of this name, each with its position among [`World::rules`].
    pub fn rules_for(&self, name: &str) -> Vec<(usize, &AffinityRule)> {
        self.rules.matching(name).into_iter().filter_map(|index| Some((index, self.rules().get(index)?))).collect()
    }

    /// The guests that the rule at this position of [`World::rules`] concerns, by UUID.
    pub fn members(&self, rule: usize) -> impl Iterator<Item = &Vm> {
        self.rules.members(rule).filter_map(|vm| self.vms.get(&vm))
    }

    /// The rules that the present placement of active guests breaks, in the order of the configuration. Guests that should be
    /// apart make one violation for each host that several of them share, by the host's name; guests that should be together
    /// make one in all.
    pub fn violations(&self) -> Vec<Violation> {
        let mut violations = Vec::new();
        for (index, rule) in self.rules().iter().enumerate() {
            let mut by_host: BTreeMap<&HostId, Vec<VmId>> = BTreeMap::new();
            for vm in self.members(index).filter(|vm| vm.is_active()) {
                by_host.entry(&vm.host).or_default().push(vm.id);
            }
            let violation = |vms| Violation { rule: rule.name.clone(), kind: rule.kind, hard: rule.hard, vms };
            match rule.kind {
                Affinity::Apart => violations.extend(by_host.into_values().filter(|vms| vms.len() > 1).map(violation)),
                Affinity::Together if by_host.len() > 1 => {
                    let mut vms: Vec<VmId> = by_host.into_values().flatten().collect();
                    vms.sort_unstable();
                    violations.push(violation(vms));
                }
                Affinity::Together => {}
            }
        }
        violations
    }

    /// Hosts, by name.
    pub fn hosts(&self) -> impl ExactSizeIterator<Item = &Host> {
        self.hosts.values()
    }

    /// Guests, by UUID.
    pub fn vms(&self) -> impl Iterator<Item = &Vm> {
        self.order.iter().filter_map(|id| self.vms.get(id))
    }

    /// How many guests there are.
    pub fn vm_count(&self) -> usize {
        self.vms.len()
    }

    /// A host.
    pub fn host(&self, id: &HostId) -> Option<&Host> {
        self.hosts.get(id)
    }

    /// A guest.
    pub fn vm(&self, id: VmId) -> Option<&Vm> {
        self.vms.get(&id)
    }

    /// The guests defined on a host, by UUID.
    pub fn vms_on(&self, id: &HostId) -> impl Iterator<Item = &Vm> {
        self.hosts.get(id).into_iter().flat_map(|host| &host.vms).filter_map(|vm| self.vms.get(vm))
    }

    /// Guests by exact name (there may be several: names are unique per host only).
    pub fn vms_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Vm> + 'a {
        self.vms().filter(move |vm| &*vm.name == name)
    }

    /// An element's name for people: a guest's name, a disk's `web-1/vda`, a host's name.
    pub fn label(&self, element: &ElementId) -> String {
        let gone = |vm: VmId| self.gone.get(&vm).map_or_else(|| vm.to_string(), |stone| stone.name.to_string());
        let guest = |vm: VmId| self.vms.get(&vm).map_or_else(|| gone(vm), |vm| vm.name.to_string());
        match element {
            ElementId::Plane => self.plane.to_string(),
            ElementId::Host(host) => host.to_string(),
            ElementId::Vm(vm) => guest(*vm),
            ElementId::Disk(vm, part) | ElementId::Nic(vm, part) | ElementId::App(vm, part) => format!("{}/{part}", guest(*vm)),
        }
    }

    /// Is the guest here, or was it?
    pub fn knows(&self, vm: VmId) -> bool {
        self.vms.contains_key(&vm) || self.gone.contains_key(&vm)
    }

    /// Adds or replaces a host. Its list of guests is kept by this type.
    pub fn put_host(&mut self, mut host: Host) {
        host.vms = self.vms().filter(|vm| vm.host == host.id).map(|vm| vm.id).collect();
        self.dirty.insert(ElementId::Host(host.id.clone()));
        self.hosts.insert(host.id.clone(), host);
    }

    /// Adds or replaces a guest, and keeps its hosts' lists.
    pub fn put_vm(&mut self, vm: Vm) {
        self.dirty.insert(ElementId::Vm(vm.id));
        let (id, host) = (vm.id, vm.host.clone());
        if self.vms.get(&id).is_none_or(|old| old.name != vm.name) {
            self.rules.enroll(id, &vm.name);
        }
        self.order.insert(id);
        if let Some(old) = self.vms.insert(id, vm)
            && old.host != host
            && let Some(old) = self.hosts.get_mut(&old.host)
        {
            old.vms.remove(&id);
        }
        if let Some(host) = self.hosts.get_mut(&host) {
            host.vms.insert(id);
        }
    }

    /// Forgets a guest.
    pub fn remove_vm(&mut self, id: VmId) -> Option<Vm> {
        let vm = self.vms.remove(&id)?;
        self.order.remove(&id);
        self.rules.forget(id);
        if let Some(host) = self.hosts.get_mut(&vm.host) {
            host.vms.remove(&id);
        }
        self.dirty.insert(ElementId::Vm(id));
        Some(vm)
    }

    /// Forgets a host that is no longer configured. Its guests stay until told otherwise.
    pub fn remove_host(&mut self, id: &HostId) -> Option<Host> {
        self.dirty.insert(ElementId::Host(id.clone()));
        self.hosts.remove(id)
    }

    /// Changes a host in place and marks it dirty. Not for `id` and `vms`.
    pub fn edit_host<T>(&mut self, id: &HostId, edit: impl FnOnce(&mut Host) -> T) -> Option<T> {
        let host = self.hosts.get_mut(id)?;
        self.dirty.insert(ElementId::Host(id.clone()));
        Some(edit(host))
    }

    /// Changes a guest in place and marks it dirty. Not for `id` and `host` (use [`World::put_vm`]).
    pub fn edit_vm<T>(&mut self, id: VmId, edit: impl FnOnce(&mut Vm) -> T) -> Option<T> {
        let vm = self.vms.get_mut(&id)?;
        self.dirty.insert(ElementId::Vm(id));
        let name = vm.name.clone();
        let result = edit(vm);
        if vm.name != name {
            self.rules.enroll(id, &vm.name);
        }
        Some(result)
    }

    /// Changes a host's sample. Samples set no dirty mark.
    pub fn sample_host(&mut self, id: &HostId, edit: impl FnOnce(&mut Host)) {
        if let Some(host) = self.hosts.get_mut(id) {
            edit(host);
        }
    }

    /// Changes a guest's sample. Samples set no dirty mark.
    pub fn sample_vm(&mut self, id: VmId, edit: impl FnOnce(&mut Vm)) {
        if let Some(vm) = self.vms.get_mut(&id) {
            edit(vm);
        }
    }

    /// Takes the set of elements that changed since the last call.
    pub fn take_dirty(&mut self) -> BTreeSet<ElementId> {
        std::mem::take(&mut self.dirty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::{host, vm};

    #[test]
    fn hosts_know_their_guests_as_they_move() {
        let mut world = World::new("home");
        world.put_host(host("a"));
        world.put_host(host("b"));
        let mut guest = vm(1, "web", "a");
        world.put_vm(guest.clone());
        assert_eq!(world.vms_on(&"a".into()).count(), 1);
        guest.host = "b".into();
        world.put_vm(guest);
        assert_eq!(world.vms_on(&"a".into()).count(), 0);
        assert_eq!(world.vms_on(&"b".into()).count(), 1);
        assert_eq!(world.take_dirty().len(), 3);
        assert!(world.take_dirty().is_empty());
        world.remove_vm(VmId(uuid::Uuid::from_u128(1)));
        assert_eq!(world.vms_on(&"b".into()).count(), 0);
    }
    fn rule(name: &str, kind: Affinity, patterns: &[&str]) -> AffinityRule {
        let vms = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        AffinityRule { name: name.into(), kind, hard: true, vms }
    }

    #[test]
    fn violations_follow_names_places_and_states() {
        let id = |number| VmId(uuid::Uuid::from_u128(number));
        let mut world = World::new("home");
        for name in ["a", "b"] {
            world.put_host(host(name));
        }
        world.put_vm(vm(1, "db-1", "a"));
        world.set_rules(vec![
            rule("databases", Affinity::Apart, &["db-*", "sql"]),
            rule("shop", Affinity::Together, &["db-1", "web"]),
            rule("broken", Affinity::Apart, &["[", "db-["]),
        ]);
        world.put_vm(vm(2, "sql", "a"));
        world.put_vm(vm(3, "web", "b"));
        let found = |world: &World| world.violations().into_iter().map(|v| (v.rule.to_string(), v.vms)).collect::<Vec<_>>();
        let databases = ("databases".to_owned(), vec![id(1), id(2)]);
        assert_eq!(found(&world), [databases.clone(), ("shop".to_owned(), vec![id(1), id(3)])]);
        world.edit_vm(id(3), |vm| vm.state = super::super::vm::VmState::Off);
        assert_eq!(found(&world), [databases], "a guest that is off stands nowhere");
        world.edit_vm(id(2), |vm| vm.name = "cache".into());
        assert_eq!(found(&world), [], "a guest leaves a rule with its name");
        world.put_vm(vm(4, "db-[", "a"));
        assert_eq!(
            world.rules_of(id(4)).map(|(index, _)| index).collect::<Vec<_>>(),
            [0, 2],
            "an unreadable pattern is a text"
        );
        world.remove_vm(id(1));
        assert_eq!(world.members(0).count(), 1);
        assert!(rule("broken", Affinity::Apart, &["["]).check().is_err());
    }
}
