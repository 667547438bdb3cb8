//! Who wants and gets how much of a host's cores at an instant: for its report, and for the meter.

use super::super::contention::{Claim, share_out};
use super::super::meter::{Meter, Phase, Standing};
use super::orders::{Run, Stage};
use super::sleep::Sleep;
use super::*;
use crate::hypervisor::HandoverStep;

/// How a host's cores are shared out. The claims stand in the order of the host's guests.
#[derive(Debug, Clone)]
pub(super) struct Shares {
    /// When that is so.
    at: Timestamp,
    pub(super) claims: Vec<Claim>,
    pub(super) given: Vec<f64>,
    /// Cores that migrations take.
    pub(super) overhead: f64,
}

impl Shares {
    pub(super) fn wanted(&self) -> f64 {
        self.claims.iter().map(|claim| claim.demand).sum()
    }

    pub(super) fn used(&self) -> f64 {
        self.given.iter().sum()
    }
}

impl Fleet {
    /// From now on, and at least so often, the fleet is measured: see [`Fleet::meter`].
    pub fn measure(&mut self, every: Span) {
        self.meter = Some(Meter::default());
        self.at(self.now, Occurrence::Measure(Span(every.0.max(1))));
    }

    /// What was measured so far: what holds is counted up to the last change, and by [`Meter::figures`] to any later instant.
    pub fn meter(&self) -> Option<&Meter> {
        self.meter.as_ref()
    }

    /// Something about a host has changed that the meter, or its sleep, follows.
    pub(super) fn touch(&mut self, host: &HostId) {
        let Some(machine) = self.hosts.get_mut(host) else { return };
        machine.shares = None;
        if (self.meter.is_some() || machine.idle.is_some()) && !self.touched.contains(host) {
            self.touched.insert(host.clone());
        }
    }

    /// What was touched is looked at, before time goes on.
    pub(super) fn settle(&mut self) {
        for host in std::mem::take(&mut self.touched) {
            self.look_whether_idle(&host);
            self.measure_host(&host);
        }
    }

    /// All hosts are measured at one instant.
    pub(super) fn measure_all(&mut self, every: Span) {
        self.settle();
        let hosts: Vec<HostId> = self.hosts.keys().cloned().collect();
        for host in &hosts {
            self.measure_host(host);
        }
        if let Some(meter) = &mut self.meter {
            meter.point(self.now);
        }
        self.at(self.now + every, Occurrence::Measure(every));
    }

    fn measure_host(&mut self, host: &HostId) {
        if self.meter.is_none() {
            return;
        }
        let shares = self.take_shares(host);
        let standing = self.standing(host, &shares);
        if let Some(meter) = &mut self.meter {
            meter.set(host, self.now, standing);
        }
        self.put_shares(host, shares);
    }

    /// How a host's cores are shared out now; to be given back, so that it is worked out once for an instant.
    pub(super) fn take_shares(&mut self, host: &HostId) -> Shares {
        let (now, since_start) = (self.now, self.now.since(self.started));
        if let Some(known) =
            self.hosts.get_mut(host).and_then(|machine| machine.shares.take()).filter(|shares| shares.at == now)
        {
            return known;
        }
        let overhead = self.migration_cores(host);
        let mut shares = Shares { at: now, claims: Vec::new(), given: Vec::new(), overhead };
        let Some(machine) = self.hosts.get(host) else { return shares };
        shares.claims.reserve_exact(machine.guests.len());
        for vm in &machine.guests {
            let Some(guest) = self.guests.get_mut(vm) else { continue };
            let demand = guest.demand(now, since_start);
            shares.claims.push(Claim { weight: f64::from(guest.description.vcpus.max(1)), demand });
        }
        let cores = (f64::from(machine.capacity.cpus) - overhead).max(0.0);
        shares.given = share_out(cores, &shares.claims);
        shares
    }

    pub(super) fn put_shares(&mut self, host: &HostId, shares: Shares) {
        if let Some(machine) = self.hosts.get_mut(host) {
            machine.shares = Some(shares);
        }
    }

    /// What the meter is told of a host.
    fn standing(&mut self, host: &HostId, shares: &Shares) -> Standing {
        let (wanted, used) = (shares.wanted(), shares.used());
        let (stopped, slowed) = self.lost_to_moves(host, shares);
        let Some(machine) = self.hosts.get(host) else { return Standing::default() };
        let (phase, watts) = if machine.has(Trouble::Dies) {
            (Phase::Dead, machine.power.as_ref().map(|_| 0.0))
        } else {
            let idle = machine.idle.as_ref();
            let top = || idle.and_then(|idle| idle.wake_watts).or_else(|| Some(machine.power.as_ref()?.top()));
            let busy = (used + shares.overhead) / f64::from(machine.capacity.cpus.max(1));
            match machine.sleep {
                Sleep::Awake { .. } => (Phase::On, machine.power.as_ref().map(|power| power.watts(busy))),
                Sleep::Asleep => (Phase::Asleep, machine.power.as_ref().and(idle).map(|idle| idle.asleep_watts)),
                Sleep::Waking { .. } => (Phase::On, machine.power.as_ref().and_then(|_| top())),
            }
        };
        let runs = |vm: &VmId| self.guests.get(vm).is_some_and(|guest| guest.state == VmState::Running);
        Standing {
            phase,
            watts,
            is_active: machine.guests.iter().any(runs),
            is_short: wanted - used > 1e-9,
            wanted: wanted + stopped,
            given: used - slowed,
            lost_to_moves: stopped + slowed,
        }
    }

    /// What guests lose to their own migrations away from a host, in cores: those that stand still for the last part of it, and
    /// those that are slowed down before.
    fn lost_to_moves(&mut self, host: &HostId, shares: &Shares) -> (f64, f64) {
        let (mut stopped, mut slowed) = (0.0, 0.0);
        let Some(machine) = self.hosts.get(host).filter(|machine| !machine.moves.is_empty()) else { return (0.0, 0.0) };
        let since_start = self.now.since(self.started);
        for job in &machine.moves {
            let Some(Run { stage: Stage::Migrating(migration), order, host: source, handover, .. }) = self.orders.get(job)
            else {
                continue;
            };
            let copies = matches!(handover.as_ref().map(|handover| &handover.step), Some(HandoverStep::Copy(_)));
            let Some(vm) = order.kind.vm().filter(|_| source == host && !copies) else { continue };
            let Some(guest) = self.guests.get_mut(&vm) else { continue };
            match (guest.state, guest.reason) {
                (VmState::Running, _) => {
                    let place = machine.guests.iter().position(|other| *other == vm);
                    let given = place.and_then(|place| shares.given.get(place)).copied().unwrap_or(0.0);
                    slowed += given * migration.throttle().max(self.times.migration_slows);
                }
                (VmState::Paused, Reason::Migration) => stopped += guest.wants(self.now, since_start),
                _ => {}
            }
        }
        (stopped, slowed)
    }

    /// Cores that a host spends on migrations.
    fn migration_cores(&self, host: &HostId) -> f64 {
        let Some(machine) = self.hosts.get(host) else { return 0.0 };
        let moves = machine.moves.iter().filter_map(|action| self.orders.get(action));
        let guests = moves.filter_map(|run| self.guests.get(&run.order.kind.vm()?));
        guests.map(|guest| f64::from(guest.description.vcpus) * self.times.migration_cpu).sum()
    }
}
