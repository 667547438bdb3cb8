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
    Description, DomainReport, ElementId, EventBody, HostId, HostReport, Link, Mark, Mode, Notice, NoticeBody, Reason, Span,
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

/// While a guest runs on several hosts, admins are told again after so long.
const ALARM_AGAIN: Span = Span::hours(1);

/// A guest that runs on several hosts.
#[derive(Debug, Default)]
struct Doubled {
    /// Where it runs besides the host that the plane knows it on.
    also_on: BTreeSet<HostId>,
    alarmed_at: Timestamp,
}

/// What the comparison remembers between polls. Not durable: all of it is found again by looking.
#[derive(Debug, Default)]
pub struct Inventory {
    /// How far the plane goes with guests it sees for the first time.
    pub adopt: Mode,
    /// Guests that their host did not list at its last poll.
    missing: BTreeSet<VmId>,
    /// Guests of hosts that are no longer in the configuration; with the host at whose poll all hosts answered and none had
    /// listed it.
    strays: BTreeMap<VmId, Option<HostId>>,
    /// Guests that run on several hosts at once.
    doubled: BTreeMap<VmId, Doubled>,
    /// When the description was asked for that the plane knows of a guest.
    described: BTreeMap<VmId, Timestamp>,
    /// When the plane's own mark was known to be on a guest.
    marked: BTreeMap<VmId, Timestamp>,
    /// What was last stated of hosts: that they answer, or that they do not.
    stated: BTreeMap<HostId, Link>,
    /// Alarms for the manager to pass on.
    alarms: Vec<String>,
    /// Guests on their way to this plane that are not its own yet.
    strange: BTreeSet<VmId>,
    /// Was the plane restored from a backup? Then a guest that it does not know may carry its mark.
    pub may_have_forgotten: bool,
}

impl Inventory {
    /// A memory that starts empty, but for what was stated of hosts before a restart: it is stated again only where it has
    /// changed since.
    pub fn new(adopt: Mode, stated: impl IntoIterator<Item = (HostId, Link)>) -> Inventory {
        let stated = stated.into_iter().filter(|(_, link)| *link != Link::Unknown).collect();
        Inventory { adopt, stated, ..Inventory::default() }
    }

    /// Guests known from hosts that are no longer in the configuration. Where every host answers and none lists them, they are
    /// gone.
    pub fn stray(&mut self, vms: impl IntoIterator<Item = VmId>) {
        self.strays.extend(vms.into_iter().map(|vm| (vm, None)));
    }

    /// What was last stated of a host.
    pub fn stated(&self, host: &HostId) -> Link {
        self.stated.get(host).cloned().unwrap_or(Link::Unknown)
    }

    /// Is a guest on its way here, and not this plane's yet? Then nothing is stated of it.
    pub fn leave_alone(&mut self, vm: VmId, is_strange: bool) {
        let _ = if is_strange { self.strange.insert(vm) } else { self.strange.remove(&vm) };
    }

    /// A guest has gone to another plane.
    pub fn forget(&mut self, vm: VmId) {
        self.missing.remove(&vm);
        self.doubled.remove(&vm);
        self.described.remove(&vm);
        self.marked.remove(&vm);
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

    /// Where a guest runs besides the host that the plane knows it on; empty: nowhere, as it should be.
    pub fn also_on(&self, vm: VmId) -> impl Iterator<Item = &HostId> {
        self.doubled.get(&vm).into_iter().flat_map(|doubled| &doubled.also_on)
    }

    /// Has its host described the guest since the start?
    pub fn has_described(&self, vm: VmId) -> bool {
        self.described.contains_key(&vm)
    }

    /// A poll of a host was answered.
    pub fn report(&mut self, world: &mut World, host: &HostId, report: &HostReport) -> Vec<Sensed> {
        let mut sensed = Vec::new();
        let at = report.asked_at;
        let Some(known) = world.host(host) else { return sensed };
        if self.stated.get(host) != Some(&Link::Up) {
            self.stated.insert(host.clone(), Link::Up);
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
        self.strayed(world, host, at, &mut sensed);
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
        let was_down = matches!(self.stated.insert(host.clone(), down.clone()), Some(Link::Down(_)));
        world.edit_host(host, |host| host.link = down);
        if was_down {
            return Vec::new();
        }
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
                self.not_also_on(vm, host);
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

    /// The plane has put its mark on a guest: known at once, and not forgotten for a description asked for before. A mark of
    /// another plane that came meanwhile stays.
    pub fn marked(&mut self, world: &mut World, vm: VmId, mark: Mark, at: Timestamp) {
        if world.vm(vm).is_some_and(|known| is_older(known.mark.as_ref(), &mark)) {
            world.edit_vm(vm, |vm| vm.mark = Some(mark));
            self.marked.insert(vm, at);
        }
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
        self.not_also_on(vm, host);
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
        if !active {
            return self.not_also_on(vm, host);
        }
        // The host it was known on may no longer have it, and has not been heard of since the start.
        let unheard = world.host(&known.host).is_some_and(|host| host.link == Link::Unknown);
        if unheard || world.open.contains_key(&vm) {
            return;
        }
        let doubled = self.doubled.entry(vm).or_default();
        if doubled.also_on.insert(host.clone()) || at.since(doubled.alarmed_at) >= ALARM_AGAIN {
            doubled.alarmed_at = at;
            self.alarms.push(format!(
                "guest {} ({vm}) runs on {} and on {host} at once; embot will not touch it: stop one of them by hand, then `embot \
                 manage {vm} --mode act`",
                known.name, known.host
            ));
        }
        if known.mode != Mode::Observe {
            world.edit_vm(vm, |vm| vm.mode = Mode::Observe);
        }
    }

    /// A guest does not run on this host besides another, or no longer.
    fn not_also_on(&mut self, vm: VmId, host: &HostId) {
        if let Some(doubled) = self.doubled.get_mut(&vm) {
            doubled.also_on.remove(host);
            if doubled.also_on.is_empty() {
                self.doubled.remove(&vm);
            }
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
        let unknown = description.mark.as_ref().filter(|mark| self.may_have_forgotten && mark.plane == world.plane);
        if let Some(mark) = unknown {
            self.alarms.push(format!(
                "guest {0} ({vm}) carries this plane's mark (epoch {1}), and the backup that the plane was restored from does not know \
                 it: it came after that, or comes. It is only observed; `embot migrations` on the other planes tells whether it is on \
                 its way. If it is this plane's: `embot manage {0} --mode act`",
                description.name, mark.epoch
            ));
        }
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
            mode: if foreign.is_some() || unknown.is_some() { Mode::Observe } else { self.adopt },
            load: VmLoad::default(),
            load_at: at,
        };
        world.put_vm(guest);
        self.described.insert(vm, at);
        sensed.push(Sensed { element: ElementId::Vm(vm), at, body: EventBody::Appeared });
        if let Some(mark) = foreign {
            self.conflict(world, vm, at, mark, sensed);
        }
    }

    fn describe(&mut self, world: &mut World, vm: VmId, at: Timestamp, new: &Description, sensed: &mut Vec<Sensed>) {
        let Some(old) = world.vm(vm) else { return };
        if self.described.get(&vm).is_some_and(|known| at < *known) {
            return;
        }
        self.described.insert(vm, at);
        let asked_before = self.marked.get(&vm).is_some_and(|marked| at < *marked);
        // While it is handed over, its mark is the business of the handover.
        let leaves = world.open.get(&vm).is_some_and(|(_, verb)| *verb == crate::model::Verb::Handover);
        let mark = match &old.mark {
            Some(ours) if leaves => Some(ours.clone()),
            Some(ours) if asked_before && is_older(new.mark.as_ref(), ours) => old.mark.clone(),
            _ => new.mark.clone(),
        };
        let same = old.name == new.name
            && (old.vcpus, old.memory_mib) == (new.vcpus, new.memory_mib)
            && (old.persistent, old.autostart) == (new.persistent, new.autostart)
            && (&old.labels, &old.mark) == (&new.labels, &mark)
            && (&old.disks, &old.nics) == (&new.disks, &new.nics);
        if same {
            return;
        }
        let foreign = mark.clone().filter(|mark| mark.plane != world.plane && Some(mark) != old.mark.as_ref());
        let mut guest = old.clone();
        guest.name = new.name.clone();
        guest.vcpus = new.vcpus;
        guest.balloon_mib = if guest.balloon_mib == guest.memory_mib { new.memory_mib } else { guest.balloon_mib };
        guest.memory_mib = new.memory_mib;
        guest.persistent = new.persistent;
        guest.autostart = new.autostart;
        guest.labels = new.labels.clone();
        guest.mark = mark;
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
        self.doubled.retain(|vm, doubled| {
            if doubled.also_on.contains(host) && !report.domains.iter().any(|domain| domain.vm == *vm) {
                doubled.also_on.remove(host);
            }
            !doubled.also_on.is_empty()
        });
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

    /// Strays that nobody has are gone when the host is polled again at whose poll that showed first.
    fn strayed(&mut self, world: &mut World, host: &HostId, at: Timestamp, sensed: &mut Vec<Sensed>) {
        if self.strays.is_empty() {
            return;
        }
        self.strays.retain(|vm, _| world.vm(*vm).is_some_and(|known| world.host(&known.host).is_none()));
        let all_answer = world.hosts().all(crate::model::Host::is_up);
        let mut gone = Vec::new();
        for (vm, shown_by) in &mut self.strays {
            match shown_by {
                _ if !all_answer || world.open.contains_key(vm) => *shown_by = None,
                None => *shown_by = Some(host.clone()),
                Some(first) if first == host => gone.push(*vm),
                Some(_) => {}
            }
        }
        for vm in gone {
            self.gone(world, vm, at, sensed);
        }
    }

    fn gone(&mut self, world: &mut World, vm: VmId, at: Timestamp, sensed: &mut Vec<Sensed>) {
        self.missing.remove(&vm);
        self.doubled.remove(&vm);
        self.strays.remove(&vm);
        self.described.remove(&vm);
        self.marked.remove(&vm);
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

/// Is this an earlier state of a guest's mark: none yet, or the same plane's of a lower epoch?
fn is_older(mark: Option<&Mark>, than: &Mark) -> bool {
    mark.is_none_or(|mark| mark.plane == than.plane && mark.epoch < than.epoch)
}

#[cfg(test)]
mod tests;
