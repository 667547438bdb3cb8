//! Compares what hosts say with what the plane last knew, brings the world up to date, and states the differences as events.
//!
//! Level, not edge: a poll lists everything, so an event that was missed (a lost notice, a time when the daemon was down) is
//! found at the next poll, and one that was noticed already is not stated twice. Three rules keep it from being fooled:
//!
//! * A state that a poll *asked for before* the newest known change is stale and is ignored.
//! * A guest that is paused or off *because of a migration* is on its way: neither adopted, nor moved, nor taken for stopped.
//! * A guest that vanishes from one host is looked for on the others before it is *gone*: only when its host was read twice
//!   without it, no other host listed it meanwhile, and no host is out of reach where it could be.

use crate::model::{
    Description, DomainReport, ElementId, EventBody, HostId, HostReport, Link, Mark, Mode, Notice, NoticeBody, Reason,
    Timestamp, Vm, VmId, VmLoad, VmState, World,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Something a sensor states: about whom, when, what.
#[derive(Debug, Clone, PartialEq)]
pub struct Sensed {
    /// About whom.
    pub element: ElementId,
    /// When.
    pub at: Timestamp,
    /// What.
    pub body: EventBody,
}

/// What the comparison remembers between polls. Not durable: all of it is found again by looking.
#[derive(Debug, Default)]
pub struct Inventory {
    /// How far the plane goes with guests it sees for the first time.
    pub adopt: Mode,
    /// Guests that their host did not list at its last poll.
    missing: BTreeSet<VmId>,
    /// Guests that run on two hosts at once: alarmed already.
    doubled: BTreeMap<VmId, HostId>,
    /// Alarms for the manager to pass on.
    alarms: Vec<String>,
    /// Guests on their way to this plane that are not its own yet.
    strange: BTreeSet<VmId>,
}

impl Inventory {
    /// A memory that starts empty.
    pub fn new(adopt: Mode) -> Inventory {
        Inventory { adopt, ..Inventory::default() }
    }

    /// Guests that are on their way here and not this plane's yet: nothing is stated of them.
    pub fn leave_alone(&mut self, strange: BTreeSet<VmId>) {
        self.strange = strange;
    }

    /// A guest has gone to another plane.
    pub fn forget(&mut self, vm: VmId) {
        self.missing.remove(&vm);
        self.doubled.remove(&vm);
    }

    /// Is the guest somebody else's, and known to be: on its way here, or gone to another plane?
    fn is_strange(&self, world: &World, vm: VmId, mark: Option<&Mark>) -> bool {
        let left = || world.gone.get(&vm).is_some_and(|stone| mark.is_some_and(|mark| mark.plane == stone.plane));
        self.strange.contains(&vm) || left()
    }

    /// Takes the alarms that came up since the last call.
    pub fn take_alarms(&mut self) -> Vec<String> {
        std::mem::take(&mut self.alarms)
    }

    /// A poll of a host was answered.
    pub fn report(&mut self, world: &mut World, host: &HostId, report: &HostReport) -> Vec<Sensed> {
        let mut sensed = Vec::new();
        let at = report.asked_at;
        let Some(known) = world.host(host) else { return sensed };
        if known.link != Link::Up {
            sensed.push(Sensed { element: ElementId::Host(host.clone()), at, body: EventBody::HostUp });
        }
        if known.link != Link::Up || known.capacity != report.capacity {
            world.edit_host(host, |host| {
                host.link = Link::Up;
                host.capacity = report.capacity;
            });
        }
        for domain in &report.domains {
            self.domain(world, host, at, domain, &mut sensed);
        }
        self.vanished(world, host, report, &mut sensed);
        self.host_load(world, host, report);
        sensed.push(Sensed { element: ElementId::Host(host.clone()), at, body: EventBody::Load });
        sensed
    }

    /// A host no longer answers.
    pub fn lost(&mut self, world: &mut World, host: &HostId, reason: &Arc<str>, at: Timestamp) -> Vec<Sensed> {
        let down = Link::Down(reason.to_string());
        match world.host(host) {
            Some(known) if !matches!(known.link, Link::Down(_)) => {}
            _ => return Vec::new(),
        }
        world.edit_host(host, |host| host.link = down);
        vec![Sensed { element: ElementId::Host(host.clone()), at, body: EventBody::HostDown(reason.clone()) }]
    }

    /// A host said something between polls.
    pub fn notice(&mut self, world: &mut World, host: &HostId, notice: &Notice) -> Vec<Sensed> {
        let (vm, at) = (notice.vm, notice.at);
        let mut sensed = Vec::new();
        if world.host(host).is_none() {
            return sensed;
        }
        let here = world.vm(vm).is_some_and(|known| known.host == *host);
        let about = |body: EventBody| Sensed { element: ElementId::Vm(vm), at, body };
        match &notice.body {
            NoticeBody::State(state, reason) => {
                let report = DomainReport {
                    vm,
                    state: *state,
                    reason: *reason,
                    balloon_mib: None,
                    load: VmLoad::default(),
                    description: None,
                };
                self.state(world, host, at, &report, &mut sensed);
            }
            NoticeBody::Described(description) => match world.vm(vm) {
                Some(known) if known.host == *host => self.describe(world, vm, at, description, &mut sensed),
                Some(_) => {}
                None => self.appear(world, host, at, vm, VmState::Off, Reason::Unknown, description, &mut sensed),
            },
            NoticeBody::Undefined => {
                if here && world.vm(vm).is_some_and(|known| !known.is_active()) && !world.open.contains_key(&vm) {
                    self.gone(world, vm, at, &mut sensed);
                }
            }
            NoticeBody::Balloon(memory_mib) => {
                if here && world.vm(vm).is_some_and(|known| known.balloon_mib != *memory_mib) {
                    world.edit_vm(vm, |vm| vm.balloon_mib = *memory_mib);
                    sensed.push(about(EventBody::Balloon { memory_mib: *memory_mib }));
                }
            }
            NoticeBody::Watchdog(action) if here => sensed.push(about(EventBody::Watchdog { action: action.clone() })),
            NoticeBody::IoError(disk, reason) if here => {
                let element = ElementId::Disk(vm, disk.clone());
                sensed.push(Sensed { element, at, body: EventBody::IoError { reason: reason.clone() } });
            }
            NoticeBody::Agent(agent) if here => {
                world.edit_vm(vm, |vm| vm.agent = *agent == crate::model::AgentState::Connected);
                sensed.push(about(EventBody::Agent(*agent)));
            }
            NoticeBody::Rebooted | NoticeBody::Watchdog(_) | NoticeBody::IoError(..) | NoticeBody::Agent(_) => {}
        }
        sensed
    }

    /// An action of the plane has brought a guest to a host, or to a state: known at once, not only at the next poll.
    pub fn acted(
        &mut self,
        world: &mut World,
        vm: VmId,
        at: Timestamp,
        host: Option<&HostId>,
        state: Option<(VmState, Reason)>,
    ) -> Vec<Sensed> {
        let mut sensed = Vec::new();
        if let Some(host) = host {
            self.moved(world, vm, host, at, &mut sensed);
        }
        if let (Some((state, reason)), Some(known)) = (state, world.vm(vm)) {
            let host = known.host.clone();
            let report = DomainReport { vm, state, reason, balloon_mib: None, load: VmLoad::default(), description: None };
            self.state(world, &host, at, &report, &mut sensed);
        }
        sensed
    }

    /// One guest of a poll.
    fn domain(&mut self, world: &mut World, host: &HostId, at: Timestamp, domain: &DomainReport, sensed: &mut Vec<Sensed>) {
        let vm = domain.vm;
        let arriving = domain.reason == Reason::Migration && !matches!(domain.state, VmState::Running);
        let Some(known) = world.vm(vm) else {
            if let (Some(description), false) = (&domain.description, arriving) {
                self.appear(world, host, at, vm, domain.state, domain.reason, description, sensed);
                self.sample(world, vm, at, domain, sensed);
            }
            return;
        };
        if known.host == *host {
            self.missing.remove(&vm);
        }
        self.state(world, host, at, domain, sensed);
        if world.vm(vm).is_none_or(|known| known.host != *host) {
            return;
        }
        if let Some(description) = &domain.description {
            self.describe(world, vm, at, description, sensed);
        }
        self.sample(world, vm, at, domain, sensed);
    }

    /// A guest's state, as a poll or a notice tells it.
    fn state(&mut self, world: &mut World, host: &HostId, at: Timestamp, domain: &DomainReport, sensed: &mut Vec<Sensed>) {
        let (vm, state, reason) = (domain.vm, domain.state, domain.reason);
        let Some(known) = world.vm(vm) else { return };
        if at < known.since || (reason == Reason::Migration && !matches!(state, VmState::Running)) {
            return;
        }
        if known.host != *host {
            return self.elsewhere(world, host, at, domain, sensed);
        }
        if self.doubled.get(&vm).is_some_and(|other| other == host) {
            self.doubled.remove(&vm);
        }
        let old = known.state;
        if old == state {
            return;
        }
        let died = matches!(reason, Reason::Crashed | Reason::Failed);
        let state = if state == VmState::Off && died { VmState::Crashed } else { state };
        if old == state || (old == VmState::Crashed && state == VmState::Off) {
            return;
        }
        world.edit_vm(vm, |vm| {
            vm.state = state;
            vm.reason = reason;
            vm.since = at;
        });
        let body = match state {
            VmState::Running if matches!(old, VmState::Paused | VmState::Asleep) => EventBody::Resumed(reason),
            VmState::Running => EventBody::Started(reason),
            VmState::Paused | VmState::Asleep => EventBody::Paused(reason),
            VmState::Off => EventBody::Stopped(reason),
            VmState::Crashed => EventBody::Crashed(reason),
        };
        sensed.push(Sensed { element: ElementId::Vm(vm), at, body });
    }

    /// A host lists a guest that the plane knows on another host.
    fn elsewhere(&mut self, world: &mut World, host: &HostId, at: Timestamp, domain: &DomainReport, sensed: &mut Vec<Sensed>) {
        let vm = domain.vm;
        let Some(known) = world.vm(vm) else { return };
        let active = matches!(domain.state, VmState::Running | VmState::Paused | VmState::Asleep);
        // Its host is no longer in the configuration, or no longer lists it.
        let lost_there = self.missing.contains(&vm) || world.host(&known.host).is_none();
        let came = lost_there || (active && (!known.is_active() || domain.reason == Reason::Migration));
        if came {
            self.moved(world, vm, host, at, sensed);
            return self.state(world, host, at, domain, sensed);
        }
        if active && !world.open.contains_key(&vm) && self.doubled.get(&vm) != Some(host) {
            self.alarms.push(format!(
                "guest {} ({vm}) runs on {} and on {host} at once; embot will not touch it: stop one of them by hand, then `embot \
                 manage {vm} --mode act`",
                known.name, known.host
            ));
            self.doubled.insert(vm, host.clone());
            world.edit_vm(vm, |vm| vm.mode = Mode::Observe);
        }
    }

    /// A guest is on another host now.
    fn moved(&mut self, world: &mut World, vm: VmId, host: &HostId, at: Timestamp, sensed: &mut Vec<Sensed>) {
        let Some(known) = world.vm(vm) else { return };
        if known.host == *host {
            return;
        }
        self.missing.remove(&vm);
        let (mut guest, from) = (known.clone(), known.host.clone());
        guest.host = host.clone();
        guest.since = at;
        world.put_vm(guest);
        sensed.push(Sensed { element: ElementId::Vm(vm), at, body: EventBody::Migrated { from, to: host.clone() } });
    }

    #[expect(clippy::too_many_arguments, reason = "each is a separate fact about the newcomer")]
    fn appear(
        &mut self,
        world: &mut World,
        host: &HostId,
        at: Timestamp,
        vm: VmId,
        state: VmState,
        reason: Reason,
        description: &Description,
        sensed: &mut Vec<Sensed>,
    ) {
        if self.is_strange(world, vm, description.mark.as_ref()) {
            return;
        }
        let foreign = description.mark.clone().filter(|mark| mark.plane != world.plane);
        let guest = Vm {
            id: vm,
            name: description.name.clone(),
            host: host.clone(),
            state,
            reason,
            since: at,
            vcpus: description.vcpus,
            memory_mib: description.memory_mib,
            balloon_mib: description.memory_mib,
            persistent: description.persistent,
            autostart: description.autostart,
            labels: description.labels.clone(),
            disks: description.disks.clone(),
            nics: description.nics.clone(),
            agent: false,
            mark: description.mark.clone(),
            mode: if foreign.is_some() { Mode::Observe } else { self.adopt },
            load: VmLoad::default(),
            load_at: at,
        };
        world.put_vm(guest);
        sensed.push(Sensed { element: ElementId::Vm(vm), at, body: EventBody::Appeared });
        if let Some(mark) = foreign {
            self.conflict(world, vm, at, mark, sensed);
        }
    }

    fn describe(&mut self, world: &mut World, vm: VmId, at: Timestamp, new: &Description, sensed: &mut Vec<Sensed>) {
        let Some(old) = world.vm(vm) else { return };
        // While it is handed over, its mark is the business of the handover.
        let leaves = world.open.get(&vm).is_some_and(|(_, verb)| *verb == crate::model::Verb::Handover);
        let ours = Description { mark: old.mark.clone(), ..new.clone() };
        let new = if leaves { &ours } else { new };
        let same = old.name == new.name
            && (old.vcpus, old.memory_mib) == (new.vcpus, new.memory_mib)
            && (old.persistent, old.autostart) == (new.persistent, new.autostart)
            && (&old.labels, &old.mark) == (&new.labels, &new.mark)
            && (&old.disks, &old.nics) == (&new.disks, &new.nics);
        if same {
            return;
        }
        let foreign = new.mark.clone().filter(|mark| mark.plane != world.plane && Some(mark) != old.mark.as_ref());
        let mut guest = old.clone();
        guest.name = new.name.clone();
        guest.vcpus = new.vcpus;
        guest.balloon_mib = if guest.balloon_mib == guest.memory_mib { new.memory_mib } else { guest.balloon_mib };
        guest.memory_mib = new.memory_mib;
        guest.persistent = new.persistent;
        guest.autostart = new.autostart;
        guest.labels = new.labels.clone();
        guest.mark = new.mark.clone();
        guest.disks = new.disks.clone();
        guest.nics = new.nics.clone();
        if foreign.is_some() {
            guest.mode = Mode::Observe;
        }
        world.put_vm(guest);
        sensed.push(Sensed { element: ElementId::Vm(vm), at, body: EventBody::Changed });
        if let Some(mark) = foreign {
            self.conflict(world, vm, at, mark, sensed);
        }
    }

    fn conflict(&mut self, world: &World, vm: VmId, at: Timestamp, mark: Mark, sensed: &mut Vec<Sensed>) {
        let name = world.label(&ElementId::Vm(vm));
        self.alarms.push(format!(
            "guest {name} ({vm}) carries the mark of plane `{}` (epoch {}): two planes see one host; this plane only observes it",
            mark.plane, mark.epoch
        ));
        sensed.push(Sensed { element: ElementId::Vm(vm), at, body: EventBody::Conflict(mark) });
    }

    fn sample(&mut self, world: &mut World, vm: VmId, at: Timestamp, domain: &DomainReport, sensed: &mut Vec<Sensed>) {
        let Some(known) = world.vm(vm) else { return };
        if at < known.since {
            return;
        }
        if let Some(memory_mib) = domain.balloon_mib
            && memory_mib != known.balloon_mib
        {
            world.edit_vm(vm, |vm| vm.balloon_mib = memory_mib);
        }
        let running = domain.state == VmState::Running;
        world.sample_vm(vm, |vm| {
            vm.load = if running { domain.load } else { VmLoad::default() };
            vm.load_at = at;
        });
        if running {
            sensed.push(Sensed { element: ElementId::Vm(vm), at, body: EventBody::Load });
        }
    }

    /// Guests that this host had and no longer lists.
    fn vanished(&mut self, world: &mut World, host: &HostId, report: &HostReport, sensed: &mut Vec<Sensed>) {
        let at = report.asked_at;
        let Some(known) = world.host(host) else { return };
        if known.vms.len() <= report.domains.len() && report.domains.iter().all(|domain| known.vms.contains(&domain.vm)) {
            return;
        }
        let listed: BTreeSet<VmId> = report.domains.iter().map(|domain| domain.vm).collect();
        let absent: Vec<VmId> = known.vms.difference(&listed).copied().collect();
        for vm in absent {
            let stale = world.vm(vm).is_some_and(|known| at <= known.since);
            if stale || world.open.contains_key(&vm) {
                continue;
            }
            // It may be on a host that is not heard of now.
            if !self.missing.insert(vm) && world.hosts().all(crate::model::Host::is_up) {
                self.gone(world, vm, at, sensed);
            }
        }
    }

    fn gone(&mut self, world: &mut World, vm: VmId, at: Timestamp, sensed: &mut Vec<Sensed>) {
        self.missing.remove(&vm);
        self.doubled.remove(&vm);
        world.remove_vm(vm);
        sensed.push(Sensed { element: ElementId::Vm(vm), at, body: EventBody::Gone });
    }

    /// The host's own sample; where it tells none, its guests' together.
    fn host_load(&mut self, world: &mut World, host: &HostId, report: &HostReport) {
        let load = report.load.unwrap_or_else(|| {
            let mut sum = crate::model::HostLoad::default();
            for vm in world.vms_on(host).filter(|vm| vm.is_active()) {
                sum.cpu_cores += vm.load.cpu_cores.unwrap_or(0.0);
                sum.cpu_wait_cores += vm.load.cpu_wait_cores.unwrap_or(0.0);
                sum.memory_used_mib += vm.balloon_mib as f32;
            }
            sum
        });
        world.sample_host(host, |host| {
            host.load = load;
            host.load_at = report.asked_at;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing;
    use crate::model::{Capacity, HostLoad};

    const GUEST: VmId = VmId(uuid::Uuid::from_u128(1));

    fn description(mark: Option<&str>) -> Description {
        Description {
            name: "web".into(),
            vcpus: 2,
            memory_mib: 2_048,
            persistent: true,
            autostart: false,
            labels: BTreeMap::new(),
            mark: mark.map(|plane| Mark { plane: plane.into(), epoch: 1 }),
            disks: vec!["vda".into()],
            nics: Vec::new(),
        }
    }

    fn domain(state: VmState, reason: Reason, described: bool) -> DomainReport {
        let description = described.then(|| Box::new(description(None)));
        DomainReport { vm: GUEST, state, reason, balloon_mib: None, load: VmLoad::default(), description }
    }

    fn report(at: i64, domains: Vec<DomainReport>) -> HostReport {
        HostReport {
            asked_at: Timestamp(at),
            capacity: Capacity { cpus: 8, memory_mib: 32_768 },
            load: Some(HostLoad::default()),
            domains,
        }
    }

    fn bodies(sensed: &[Sensed]) -> Vec<&'static str> {
        sensed.iter().map(|sensed| sensed.body.kind().name).filter(|name| *name != "load").collect()
    }

    fn start() -> (World, Inventory) {
        let mut world = World::new("home");
        world.put_host(testing::host("a"));
        world.put_host(testing::host("b"));
        (world, Inventory::new(Mode::Observe))
    }

    fn with_guest() -> (World, Inventory) {
        let (mut world, mut inventory) = start();
        let running = domain(VmState::Running, Reason::Booted, true);
        let sensed = inventory.report(&mut world, &"a".into(), &report(10, vec![running]));
        assert_eq!(bodies(&sensed), ["appeared"]);
        (world, inventory)
    }

    #[test]
    fn a_new_guest_is_adopted_in_observe_mode() {
        let (world, _) = with_guest();
        assert_eq!(world.vm(GUEST).map(|vm| vm.mode), Some(Mode::Observe));
    }

    #[test]
    fn what_is_noticed_is_not_stated_again_by_a_poll_asked_before() {
        let (mut world, mut inventory) = with_guest();
        let crash = Notice { vm: GUEST, at: Timestamp(30), body: NoticeBody::State(VmState::Off, Reason::Crashed) };
        assert_eq!(bodies(&inventory.notice(&mut world, &"a".into(), &crash)), ["crashed"]);
        let stale = report(20, vec![domain(VmState::Running, Reason::Booted, false)]);
        assert_eq!(bodies(&inventory.report(&mut world, &"a".into(), &stale)), [] as [&str; 0]);
        let fresh = report(40, vec![domain(VmState::Off, Reason::Crashed, false)]);
        assert_eq!(bodies(&inventory.report(&mut world, &"a".into(), &fresh)), [] as [&str; 0]);
        assert_eq!(world.vm(GUEST).map(|vm| vm.state), Some(VmState::Crashed));
    }

    #[test]
    fn a_missed_event_is_found_by_the_next_poll() {
        let (mut world, mut inventory) = with_guest();
        let poll = report(40, vec![domain(VmState::Off, Reason::Shutdown, false)]);
        assert_eq!(bodies(&inventory.report(&mut world, &"a".into(), &poll)), ["stopped"]);
    }

    #[test]
    fn a_guest_on_its_way_is_neither_adopted_nor_stopped() {
        let (mut world, mut inventory) = start();
        let arriving = report(10, vec![domain(VmState::Paused, Reason::Migration, true)]);
        assert_eq!(bodies(&inventory.report(&mut world, &"b".into(), &arriving)), [] as [&str; 0]);
        assert_eq!(world.vm_count(), 0);
        let (mut world, mut inventory) = with_guest();
        let leaving = report(20, vec![domain(VmState::Paused, Reason::Migration, false)]);
        assert_eq!(bodies(&inventory.report(&mut world, &"a".into(), &leaving)), [] as [&str; 0]);
        assert_eq!(world.vm(GUEST).map(|vm| vm.state), Some(VmState::Running));
    }

    #[test]
    fn a_guest_moved_by_somebody_else_is_followed() {
        let (mut world, mut inventory) = with_guest();
        let there = report(20, vec![domain(VmState::Running, Reason::Migration, true)]);
        assert_eq!(bodies(&inventory.report(&mut world, &"b".into(), &there)), ["migrated"]);
        let stale = report(15, vec![domain(VmState::Running, Reason::Booted, false)]);
        assert_eq!(bodies(&inventory.report(&mut world, &"a".into(), &stale)), [] as [&str; 0]);
        assert_eq!(world.vm(GUEST).map(|vm| vm.host.clone()), Some("b".into()));
    }

    #[test]
    fn a_vanished_guest_is_looked_for_before_it_is_gone() {
        let (mut world, mut inventory) = with_guest();
        assert_eq!(bodies(&inventory.report(&mut world, &"a".into(), &report(20, vec![]))), [] as [&str; 0]);
        let found = report(25, vec![domain(VmState::Off, Reason::Unknown, true)]);
        assert_eq!(bodies(&inventory.report(&mut world, &"b".into(), &found)), ["migrated", "stopped"]);
        let (mut world, mut inventory) = with_guest();
        inventory.report(&mut world, &"a".into(), &report(20, vec![]));
        assert_eq!(bodies(&inventory.report(&mut world, &"a".into(), &report(30, vec![]))), ["gone"]);
    }

    #[test]
    fn one_guest_on_two_hosts_is_an_alarm_and_no_move() {
        let (mut world, mut inventory) = with_guest();
        world.edit_vm(GUEST, |vm| vm.mode = Mode::Act);
        let twin = report(20, vec![domain(VmState::Running, Reason::Booted, true)]);
        assert_eq!(bodies(&inventory.report(&mut world, &"b".into(), &twin)), [] as [&str; 0]);
        inventory.report(&mut world, &"b".into(), &twin);
        assert_eq!(inventory.take_alarms().len(), 1);
        assert_eq!(world.vm(GUEST).map(|vm| (vm.host.clone(), vm.mode)), Some(("a".into(), Mode::Observe)));
    }

    #[test]
    fn a_foreign_mark_is_an_alarm() {
        let (mut world, mut inventory) = start();
        inventory.adopt = Mode::Act;
        let mut foreign = domain(VmState::Running, Reason::Booted, true);
        foreign.description = Some(Box::new(description(Some("other"))));
        let sensed = inventory.report(&mut world, &"a".into(), &report(10, vec![foreign]));
        assert_eq!(bodies(&sensed), ["appeared", "conflict"]);
        assert_eq!(world.vm(GUEST).map(|vm| vm.mode), Some(Mode::Observe));
        assert_eq!(inventory.take_alarms().len(), 1);
    }

    #[test]
    fn a_lost_host_is_stated_once() {
        let (mut world, mut inventory) = with_guest();
        let why: Arc<str> = "connection refused".into();
        assert_eq!(bodies(&inventory.lost(&mut world, &"a".into(), &why, Timestamp(50))), ["host_down"]);
        assert_eq!(bodies(&inventory.lost(&mut world, &"a".into(), &why, Timestamp(60))), [] as [&str; 0]);
        let back = report(70, vec![domain(VmState::Running, Reason::Booted, true)]);
        assert_eq!(bodies(&inventory.report(&mut world, &"a".into(), &back)), ["host_up"]);
    }
}
