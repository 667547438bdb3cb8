//! The trial of a plane: its hosts and guests as it knows them, under its guardrails.
//!
//! What guests want is what they use and wait for, summed over a host; what the host shows of itself counts only as what was
//! in use. A guest can be moved if it runs, the plane may act on it, nothing is being done with it, and something is known of
//! what it uses; all others are fixed. One that is on its way counts at both ends. A guest can go where the host answers and
//! is not in maintenance, hard affinity rules hold, and processors and memory suffice as `guardrails` say. Guests that must
//! be together are moved only to each other.

use super::{HostSet, Load, Overload, SLOT, SLOTS, Trial, Trials};
use crate::model::{Affinity, ElementId, Host, HostId, Lookup, Mode, PowerCurve, Span, Timestamp, Vm, VmId, VmState, World};
use crate::plan::Guardrails;
use crate::usage::{Metric, Usage};
use std::cell::{OnceCell, RefCell};
use std::rc::Rc;

/// A host's label that names its power curve. Hosts without it are taken to draw alike, core by core.
const POWER_LABEL: &str = "power";
/// What a core draws in a host whose power curve is not known, when the host is idle, and in addition when it is busy.
const IDLE_WATTS: f64 = 6.0;
const BUSY_WATTS: f64 = 4.0;

/// Makes trials of a plane.
#[derive(Debug)]
pub struct PlaneTrials {
    world: Rc<RefCell<World>>,
    usage: Rc<RefCell<Usage>>,
    guardrails: Guardrails,
}

impl PlaneTrials {
    /// Trials of this world, with this history, under these guardrails.
    pub fn new(world: Rc<RefCell<World>>, usage: Rc<RefCell<Usage>>, guardrails: Guardrails) -> PlaneTrials {
        PlaneTrials { world, usage, guardrails }
    }
}

impl Trials for PlaneTrials {
    fn trial(&self, now: Timestamp) -> Box<dyn Trial> {
        Box::new(PlaneTrial::new(&self.world.borrow(), self.usage.clone(), &self.guardrails, now))
    }
}

#[derive(Debug)]
struct PlaneTrial {
    usage: Rc<RefCell<Usage>>,
    now: Timestamp,
    target_max_cpu: f64,
    hosts: Rc<[HostId]>,
    rooms: Vec<Room>,
    guests: Vec<Guest>,
    numbers: Lookup<VmId, usize>,
    changes: Vec<Change>,
}

/// A host as it would be.
#[derive(Debug)]
struct Room {
    cpus: f64,
    memory_limit_mib: f64,
    vcpus_limit: f64,
    is_open: bool,
    is_asleep: bool,
    used: f64,
    curve: PowerCurve,
    /// The guests that would be there, in the order in which they came.
    guests: Vec<usize>,
    demand: f64,
    memory_mib: u64,
    vcpus: u64,
    /// How many of them cannot be moved.
    fixed: usize,
    load: OnceCell<Load>,
}

#[derive(Debug)]
struct Guest {
    id: VmId,
    vcpus: u32,
    memory_mib: u64,
    cores: f64,
    is_fixed: bool,
    /// Hard rules: their numbers.
    rules: Vec<(usize, Affinity)>,
    /// Where it is, and where it would be.
    home: usize,
    place: Option<usize>,
    /// What it used and waited for in the slots past, in cores, the newest first.
    history: OnceCell<[f64; SLOTS]>,
}

#[derive(Debug, Clone, Copy)]
enum Change {
    Taken { guest: usize, host: usize, index: usize },
    Put { guest: usize, host: usize },
}

impl PlaneTrial {
    fn new(world: &World, usage: Rc<RefCell<Usage>>, guardrails: &Guardrails, now: Timestamp) -> PlaneTrial {
        let hosts: Rc<[HostId]> = world.hosts().map(|host| host.id.clone()).collect();
        let rooms = world.hosts().map(|host| Room::new(host, guardrails)).collect();
        let (guests, numbers, changes) = (Vec::new(), Lookup::default(), Vec::new());
        let target_max_cpu = guardrails.target_max_cpu;
        let mut trial = PlaneTrial { usage, now, target_max_cpu, hosts, rooms, guests, numbers, changes };
        for (seat, host) in world.hosts().enumerate() {
            for vm in world.vms_on(&host.id).filter(|vm| vm.is_active()) {
                let number = trial.guests.len();
                trial.numbers.insert(vm.id, number);
                trial.guests.push(Guest::new(world, vm, seat));
                let coming = world.moving.get(&vm.id).and_then(|to| trial.host(to)).filter(|to| *to != seat);
                for room in [Some(seat), coming].into_iter().flatten() {
                    trial.add(number, room);
                }
            }
        }
        trial
    }

    fn add(&mut self, guest: usize, host: usize) {
        self.rooms[host].guests.push(guest);
        self.rooms[host].count(&self.guests[guest], true);
    }

    /// Takes a guest off its host; where it stood there.
    fn remove(&mut self, guest: usize) -> Option<(usize, usize)> {
        let host = self.guests[guest].place.take()?;
        let index = self.rooms[host].guests.iter().position(|other| *other == guest)?;
        self.rooms[host].guests.remove(index);
        self.rooms[host].count(&self.guests[guest], false);
        Some((host, index))
    }

    fn number(&self, vm: VmId) -> Option<usize> {
        self.numbers.get(&vm).copied()
    }

    fn load_of(&self, host: usize) -> &Load {
        let room = &self.rooms[host];
        room.load.get_or_init(|| {
            let mut load = Load::none(room.cpus);
            room.guests.iter().for_each(|guest| self.add_load(&mut load, *guest));
            load
        })
    }

    fn add_load(&self, load: &mut Load, guest: usize) {
        let guest = &self.guests[guest];
        load.demand += guest.cores;
        load.largest_mb = load.largest_mb.max(guest.memory_mib as f64);
        let history = guest.history.get_or_init(|| self.history_of(guest));
        for (sum, cores) in load.history.iter_mut().zip(history) {
            *sum += cores / load.total;
        }
    }

    fn history_of(&self, guest: &Guest) -> [f64; SLOTS] {
        let (mut sums, mut counts) = ([0.0; SLOTS], [0_u32; SLOTS]);
        let usage = self.usage.borrow();
        let whole = Span(SLOT.0 * SLOTS as u64);
        for metric in [Metric::Cpu, Metric::CpuWait] {
            let window = usage.window(&ElementId::Vm(guest.id), metric, whole, self.now);
            for (at, value) in window.points() {
                let slot = (self.now.since(at).0 / SLOT.0) as usize;
                if let (Some(sum), Some(count)) = (sums.get_mut(slot), counts.get_mut(slot)) {
                    *sum += value;
                    *count += u32::from(metric == Metric::Cpu);
                }
            }
        }
        std::array::from_fn(|slot| sums[slot] / f64::from(counts[slot].max(1)) * f64::from(guest.vcpus))
    }

    /// The load of a host with a guest in addition.
    fn load_with(&self, host: usize, guest: usize) -> Load {
        let mut load = self.load_of(host).clone();
        self.add_load(&mut load, guest);
        load
    }

    /// Can a guest go to a host?
    fn fits(&self, guest: usize, host: usize) -> bool {
        let (guest, room) = (&self.guests[guest], &self.rooms[host]);
        let demand = room.demand + guest.cores;
        room.is_open
            && guest.place != Some(host)
            && demand <= room.cpus * self.target_max_cpu
            && (room.memory_mib + guest.memory_mib) as f64 <= room.memory_limit_mib
            && (room.vcpus + u64::from(guest.vcpus)) as f64 <= room.vcpus_limit
            && guest.rules.iter().all(|rule| self.keeps(guest, *rule, host))
    }

    fn keeps(&self, guest: &Guest, (rule, kind): (usize, Affinity), host: usize) -> bool {
        let is_other = |other: &Guest| other.id != guest.id && other.rules.iter().any(|(number, _)| *number == rule);
        match kind {
            Affinity::Apart => !self.rooms[host].guests.iter().any(|other| is_other(&self.guests[*other])),
            Affinity::Together => !self.guests.iter().any(|other| is_other(other) && other.place != Some(host)),
        }
    }

    /// The hosts where a guest can go.
    fn candidates<'a>(&'a self, vm: VmId, except: &'a HostSet) -> impl Iterator<Item = (usize, usize)> + 'a {
        let guest = self.number(vm).filter(|guest| !self.guests[*guest].is_fixed);
        guest.into_iter().flat_map(move |guest| except.others().map(move |host| (guest, host)))
    }
}

impl Trial for PlaneTrial {
    fn hosts(&self) -> &Rc<[HostId]> {
        &self.hosts
    }

    fn host(&self, id: &HostId) -> Option<usize> {
        self.hosts.binary_search(id).ok()
    }

    fn has(&self, vm: VmId) -> bool {
        self.numbers.contains_key(&vm)
    }

    fn guests(&self, host: usize) -> Vec<VmId> {
        let there = self.rooms[host].guests.iter().map(|guest| &self.guests[*guest]);
        there.filter(|guest| !guest.is_fixed).map(|guest| guest.id).collect()
    }

    fn is_fixed(&self, host: usize) -> bool {
        self.rooms[host].fixed > 0
    }

    fn is_unused(&self, host: usize) -> bool {
        self.rooms[host].guests.is_empty()
    }

    fn wanted(&self, vm: VmId) -> f64 {
        self.number(vm).map_or(0.0, |guest| self.guests[guest].cores / f64::from(self.guests[guest].vcpus.max(1)))
    }

    fn demand(&self, vm: VmId) -> f64 {
        self.number(vm).map_or(0.0, |guest| self.guests[guest].cores)
    }

    fn wanted_of(&self, vm: VmId, host: usize) -> f64 {
        self.demand(vm) / self.rooms[host].cpus
    }

    fn load(&self, host: usize) -> f64 {
        self.rooms[host].demand / self.rooms[host].cpus
    }

    fn used(&self, host: usize) -> f64 {
        self.rooms[host].used
    }

    fn take(&mut self, vm: VmId) {
        let guest = self.number(vm).filter(|guest| !self.guests[*guest].is_fixed);
        if let Some((guest, (host, index))) = guest.and_then(|guest| Some((guest, self.remove(guest)?))) {
            self.changes.push(Change::Taken { guest, host, index });
        }
    }

    fn put(&mut self, vm: VmId, host: usize) {
        self.take(vm);
        let guest = self.number(vm).filter(|guest| !self.guests[*guest].is_fixed);
        if let Some(guest) = guest {
            self.add(guest, host);
            self.guests[guest].place = Some(host);
            self.changes.push(Change::Put { guest, host });
        }
    }

    fn mark(&self) -> usize {
        self.changes.len()
    }

    fn back(&mut self, mark: usize) {
        while self.changes.len() > mark {
            match self.changes.pop() {
                Some(Change::Taken { guest, host, index }) => {
                    self.rooms[host].guests.insert(index, guest);
                    self.rooms[host].count(&self.guests[guest], true);
                    self.guests[guest].place = Some(host);
                }
                Some(Change::Put { guest, .. }) => {
                    self.remove(guest);
                }
                None => return,
            }
        }
    }

    fn is_over(&self, host: usize, test: Overload) -> bool {
        match test {
            // The past is not looked up where it does not matter.
            Overload::Threshold { limit } => self.load(host) > limit,
            _ => test.is_over(self.load_of(host)),
        }
    }

    fn expected(&self, host: usize, test: Overload) -> f64 {
        test.expected(self.load_of(host))
    }

    fn cheapest(&self, vm: VmId, test: Overload, except: &HostSet) -> Option<usize> {
        let mut best: Option<(usize, f64)> = None;
        for (guest, host) in self.candidates(vm, except) {
            let room = &self.rooms[host];
            let watts = |cores: f64| room.curve.watts(cores / room.cpus);
            let idle = if room.is_asleep { 0.0 } else { watts(room.demand) };
            let rise = watts(room.demand + self.guests[guest].cores) - idle;
            let is_better = best.is_none_or(|(_, least)| rise < least);
            if is_better && self.fits(guest, host) && !test.is_over(&self.load_with(host, guest)) {
                best = Some((host, rise));
            }
        }
        best.map(|(host, _)| host)
    }

    fn fullest(&self, vm: VmId, test: Overload, except: &HostSet) -> Option<usize> {
        let mut best: Option<(usize, Rank)> = None;
        for (guest, host) in self.candidates(vm, except).filter(|(guest, host)| self.fits(*guest, *host)) {
            let room = &self.rooms[host];
            let load = self.load_with(host, guest);
            let expected = if room.guests.is_empty() { 0.0 } else { test.expected(&load) };
            let rank = (!room.guests.is_empty(), !room.is_asleep, room.cpus / room.curve.top().max(1.0), expected);
            if best.is_none_or(|(_, highest)| rank > highest) && !test.is_over(&load) {
                best = Some((host, rank));
            }
        }
        best.map(|(host, _)| host)
    }

    fn least_used(&self, except: &HostSet) -> Option<usize> {
        let is_candidate = |host: &usize| {
            let room = &self.rooms[*host];
            !room.guests.is_empty() && room.fixed == 0 && room.used > 0.0 && room.used < 1.0
        };
        let hosts = except.others().filter(is_candidate).map(|host| (host, self.rooms[host].used));
        hosts.reduce(|least, next| if next.1 < least.1 { next } else { least }).map(|(host, _)| host)
    }

    fn moves(&self) -> Vec<(VmId, usize)> {
        let puts = self.changes.iter().enumerate().filter_map(|(index, change)| match change {
            // A guest goes once, to where it would be in the end.
            Change::Put { guest, host } if *host != self.guests[*guest].home && !self.changes_later(*guest, index) => {
                Some((self.guests[*guest].id, *host))
            }
            _ => None,
        });
        puts.collect()
    }
}

/// In use, awake, efficient, full: the higher the better.
type Rank = (bool, bool, f64, f64);

impl PlaneTrial {
    fn changes_later(&self, guest: usize, index: usize) -> bool {
        self.changes[index + 1..].iter().any(|change| match change {
            Change::Put { guest: other, .. } | Change::Taken { guest: other, .. } => *other == guest,
        })
    }
}

impl Room {
    fn new(host: &Host, guardrails: &Guardrails) -> Room {
        let cpus = f64::from(host.capacity.cpus);
        let memory_mib = host.capacity.memory_mib as f64;
        let named = host.labels.get(POWER_LABEL).and_then(|name| PowerCurve::named(name).ok());
        let by_cores = || {
            let watts = (0..PowerCurve::POINTS).map(|tenths| cpus * (IDLE_WATTS + BUSY_WATTS * tenths as f64 / 10.0));
            PowerCurve::new(watts.collect()).expect("as many watts as a curve has")
        };
        Room {
            cpus: cpus.max(1.0),
            memory_limit_mib: memory_mib * guardrails.overcommit.memory * guardrails.target_max_memory,
            vcpus_limit: cpus * guardrails.overcommit.cpu,
            is_open: host.is_up() && !host.in_maintenance(),
            is_asleep: host.load.asleep == Some(true),
            used: host.cpu(),
            curve: named.unwrap_or_else(by_cores),
            guests: Vec::new(),
            demand: 0.0,
            memory_mib: 0,
            vcpus: 0,
            fixed: 0,
            load: OnceCell::new(),
        }
    }

    /// A guest comes, or goes.
    fn count(&mut self, guest: &Guest, comes: bool) {
        let (cores, memory_mib, vcpus, fixed) =
            (guest.cores, guest.memory_mib, u64::from(guest.vcpus), usize::from(guest.is_fixed));
        if comes {
            self.demand += cores;
            self.memory_mib += memory_mib;
            self.vcpus += vcpus;
            self.fixed += fixed;
        } else {
            self.demand = if self.guests.is_empty() { 0.0 } else { self.demand - cores };
            self.memory_mib -= memory_mib;
            self.vcpus -= vcpus;
            self.fixed -= fixed;
        }
        self.load = OnceCell::new();
    }
}

impl Guest {
    fn new(world: &World, vm: &Vm, seat: usize) -> Guest {
        let used = vm.load.cpu_cores.map(f64::from).filter(|cores| cores.is_finite());
        let waits = vm.load.cpu_wait_cores.map_or(0.0, f64::from);
        let may_act = vm.mode != Mode::Observe && vm.epoch_of(&world.plane).is_some();
        let is_free = !world.open.contains_key(&vm.id) && !world.arriving.contains_key(&vm.id);
        let hard = world.rules_of(vm.id).filter(|(_, rule)| rule.hard);
        Guest {
            id: vm.id,
            vcpus: vm.vcpus,
            memory_mib: vm.memory_mib,
            // Of one that nothing is known about, all its processors.
            cores: used.map_or(f64::from(vm.vcpus), |used| used.max(0.0) + waits.max(0.0)),
            is_fixed: !(may_act && is_free && used.is_some() && vm.state == VmState::Running),
            rules: hard.map(|(number, rule)| (number, rule.kind)).collect(),
            home: seat,
            place: Some(seat),
            history: OnceCell::new(),
        }
    }
}
