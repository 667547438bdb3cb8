//! The hosts as they will be: what is promised to guests, and what CPU load they carry, once all that is under way is done.
//!
//! A guest that is moving counts at both ends: its memory is still taken at the source and already reserved at the target.
//! Estimates are pairs of a low and a high one, the lower and the higher of the present sample and the mean over `guardrails.load_window`.
//! Whoever must be sure that there is room takes the high one; whoever must be sure that a host is hot takes the low one.
//! So neither a peak of a second nor a mean that has not yet noticed the last move leads to a move.
//!
//! Built at most once for a batch, and only where a proposal needs it; sums of a host are made when it is first asked for.

use super::memory::Memory;
use super::planner::Situation;
use crate::model::{Action, ActionKind, ElementId, Host, HostId, Vm, VmId};
use crate::usage::Metric;
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Processor time in cores: at least, at most.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Cores {
    pub(super) low: f64,
    pub(super) high: f64,
}

/// What a host has promised to its active guests.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Promised {
    pub(super) vcpus: u64,
    pub(super) memory_mib: u64,
}

/// A host with all that is under way there.
#[derive(Debug)]
pub(super) struct Seat<'a> {
    pub(super) host: &'a Host,
    /// Migrations in and out that are under way.
    pub(super) migrations: u32,
    present: OnceCell<Promised>,
    reserved: Promised,
    carried: OnceCell<Cores>,
    coming: Cores,
    going: Cores,
}

/// All hosts, by name.
#[derive(Debug)]
pub(super) struct Fleet<'a> {
    pub(super) situation: Situation<'a>,
    pub(super) seats: Vec<Seat<'a>>,
    /// Guests that are moving: from where to where.
    pub(super) moving: BTreeMap<VmId, (usize, usize)>,
    /// Guests that are on their way to other planes, or come from them, by the plane.
    abroad: BTreeMap<Arc<str>, u32>,
    /// Guests that something is being done with.
    busy: BTreeSet<VmId>,
    /// Guests that are being started.
    starting: BTreeSet<VmId>,
    /// Guests that a balancing plan has moved in thought.
    placed: BTreeMap<VmId, usize>,
}

impl<'a> Fleet<'a> {
    pub(super) fn new(situation: Situation<'a>, memory: &Memory) -> Fleet<'a> {
        let seat = |host| Seat {
            host,
            migrations: 0,
            present: OnceCell::new(),
            reserved: Promised::default(),
            carried: OnceCell::new(),
            coming: Cores::default(),
            going: Cores::default(),
        };
        let seats = situation.world.hosts().map(seat).collect();
        let (moving, abroad, busy, starting, placed) = Default::default();
        let mut fleet = Fleet { situation, seats, moving, abroad, busy, starting, placed };
        for action in situation.open.values().filter(|action| action.state.is_open()) {
            fleet.reserve(action);
        }
        for (migration, room) in &situation.world.reserved {
            *fleet.abroad.entry(migration.plane.clone()).or_default() += 1;
            fleet.arrives(&room.host, Promised { vcpus: u64::from(room.vcpus), memory_mib: room.memory_mib }, room.cores);
        }
        for (vm, moved) in memory.settling() {
            let Some(vm) = situation.world.vm(vm) else { continue };
            let cores = situation.guest_cores(vm);
            let unseen = |seat: &&mut Seat| seat.host.load_at <= moved.at;
            if let Some(seat) = fleet.seat(&moved.target).map(|index| &mut fleet.seats[index]).filter(unseen) {
                seat.coming.add(cores);
            }
            if let Some(seat) = fleet.seat(&moved.source).map(|index| &mut fleet.seats[index]).filter(unseen) {
                seat.going.add(cores);
            }
        }
        fleet
    }

    /// Counts an action that is, or is going to be, under way.
    pub(super) fn reserve(&mut self, action: &Action) {
        let Some(vm) = action.proposal.kind.vm().and_then(|vm| self.situation.world.vm(vm)) else { return };
        let own = Promised { vcpus: u64::from(vm.vcpus), memory_mib: vm.memory_mib };
        self.busy.insert(vm.id);
        match &action.proposal.kind {
            ActionKind::Migrate { to: Some(to), live, .. } => {
                let source = action.host.as_ref().unwrap_or(&vm.host);
                let (Some(source), Some(target)) = (self.seat(source), self.seat(to)) else { return };
                self.moving.insert(vm.id, (source, target));
                self.seats[source].migrations += 1;
                self.seats[target].migrations += 1;
                // Where the move is done already but for the effector's word, the guest counts as present at the target.
                if *live && vm.host != *to {
                    let cores = self.situation.guest_cores(vm);
                    self.seats[source].going.add(cores);
                    self.seats[target].coming.add(cores);
                    self.seats[target].reserved.add(own);
                }
            }
            ActionKind::Handover { plane, .. } => {
                *self.abroad.entry(plane.clone()).or_default() += 1;
                if let Some(source) = self.seat(action.host.as_ref().unwrap_or(&vm.host)) {
                    self.seats[source].migrations += 1;
                }
            }
            ActionKind::Start { .. } | ActionKind::Restore { .. } if !vm.is_active() => {
                if let Some(seat) = self.seat(&vm.host) {
                    self.seats[seat].reserved.add(own);
                    self.starting.insert(vm.id);
                }
            }
            ActionKind::SetVcpus { vcpus, .. } if vm.is_active() => {
                if let Some(seat) = self.seat(&vm.host) {
                    self.seats[seat].reserved.vcpus += u64::from(vcpus.saturating_sub(vm.vcpus));
                }
            }
            ActionKind::SetMemory { memory_mib, .. } if vm.is_active() => {
                if let Some(seat) = self.seat(&vm.host) {
                    self.seats[seat].reserved.memory_mib += memory_mib.saturating_sub(vm.memory_mib);
                }
            }
            _ => {}
        }
    }

    /// Counts a guest that comes from another plane.
    pub(super) fn arrives(&mut self, host: &HostId, own: Promised, cores: f64) {
        if let Some(seat) = self.seat(host).map(|seat| &mut self.seats[seat]) {
            seat.migrations += 1;
            seat.reserved.add(own);
            seat.coming.add(Cores { low: 0.0, high: cores });
        }
    }

    /// Takes a guest from one host to another in thought, as if the move were done.
    pub(super) fn relocate(&mut self, vm: &Vm, source: usize, target: usize) {
        let cores = self.situation.guest_cores(vm);
        for seat in [source, target] {
            // Makes sure that the sums are there to be changed.
            let _ = (self.promised(seat), self.host_cores(seat));
        }
        if let Some(present) = self.seats[source].present.get_mut() {
            present.vcpus = present.vcpus.saturating_sub(u64::from(vm.vcpus));
            present.memory_mib = present.memory_mib.saturating_sub(vm.memory_mib);
        }
        if let Some(present) = self.seats[target].present.get_mut() {
            present.add(Promised { vcpus: u64::from(vm.vcpus), memory_mib: vm.memory_mib });
        }
        if let Some(carried) = self.seats[source].carried.get_mut() {
            *carried = Cores { low: (carried.low - cores.high).max(0.0), high: (carried.high - cores.low).max(0.0) };
        }
        if let Some(carried) = self.seats[target].carried.get_mut() {
            carried.add(cores);
        }
        self.placed.insert(vm.id, target);
    }

    /// A host's place in `seats`.
    pub(super) fn seat(&self, host: &HostId) -> Option<usize> {
        self.seats.binary_search_by(|seat| seat.host.id.cmp(host)).ok()
    }

    /// Where a guest is.
    pub(super) fn seat_of(&self, vm: &Vm) -> Option<usize> {
        self.placed.get(&vm.id).copied().or_else(|| self.seat(&vm.host))
    }

    /// Is anything being done with the guest?
    pub(super) fn is_busy(&self, vm: VmId) -> bool {
        self.busy.contains(&vm)
    }

    /// Does it, or will it soon, take up room?
    pub(super) fn counts(&self, vm: &Vm) -> bool {
        vm.is_active() || self.starting.contains(&vm.id)
    }

    /// Migrations under way in the whole plane, to and from other planes included.
    pub(super) fn migrations(&self) -> u32 {
        let abroad: u32 = self.abroad.values().sum();
        u32::try_from(self.moving.len()).unwrap_or(u32::MAX).saturating_add(abroad)
    }

    /// Guests that are on their way to a peer or come from it.
    pub(super) fn migrations_with(&self, peer: &str) -> u32 {
        self.abroad.get(peer).copied().unwrap_or(0)
    }

    /// What a host has promised: to those who are there, and to those who come.
    pub(super) fn promised(&self, seat: usize) -> Promised {
        let seat = &self.seats[seat];
        let present = seat.present.get_or_init(|| {
            let mut present = Promised::default();
            for vm in self.situation.world.vms_on(&seat.host.id).filter(|vm| vm.is_active()) {
                present.add(Promised { vcpus: u64::from(vm.vcpus), memory_mib: vm.memory_mib });
            }
            present
        });
        Promised { vcpus: present.vcpus + seat.reserved.vcpus, memory_mib: present.memory_mib + seat.reserved.memory_mib }
    }

    /// The load a host will carry: at least what is left when all that goes is gone and nothing has come, at most what it is
    /// when all that comes has come and nothing is gone.
    pub(super) fn host_cores(&self, seat: usize) -> Cores {
        let seat = &self.seats[seat];
        let carried = seat.carried.get_or_init(|| {
            let Situation { usage, now, guardrails, .. } = self.situation;
            let mean = usage.window(&ElementId::Host(seat.host.id.clone()), Metric::Cpu, guardrails.load_window, now).mean();
            let cpus = f64::from(seat.host.capacity.cpus);
            Cores::between(f64::from(seat.host.load.cpu_cores), mean.map(|mean| mean * cpus))
        });
        Cores { low: (carried.low - seat.going.high).max(0.0), high: carried.high + seat.coming.high }
    }
}

impl Situation<'_> {
    /// The load a guest brings along. Of one that nothing is known about: at least nothing, at most all its processors.
    pub(super) fn guest_cores(&self, vm: &Vm) -> Cores {
        let Situation { usage, now, guardrails, .. } = *self;
        let vcpus = f64::from(vm.vcpus);
        let mean =
            usage.window(&ElementId::Vm(vm.id), Metric::Cpu, guardrails.load_window, now).mean().map(|mean| mean * vcpus);
        match vm.load.cpu_cores.map(f64::from).or(mean) {
            Some(sample) => Cores::between(sample, mean),
            None => Cores { low: 0.0, high: vcpus },
        }
    }
}

impl Cores {
    fn between(sample: f64, mean: Option<f64>) -> Cores {
        let sample = if sample.is_finite() { sample.max(0.0) } else { 0.0 };
        let mean = mean.filter(|mean| mean.is_finite()).map_or(sample, |mean| mean.max(0.0));
        Cores { low: sample.min(mean), high: sample.max(mean) }
    }

    fn add(&mut self, other: Cores) {
        self.low += other.low;
        self.high += other.high;
    }
}

impl Promised {
    fn add(&mut self, other: Promised) {
        self.vcpus += other.vcpus;
        self.memory_mib += other.memory_mib;
    }
}
