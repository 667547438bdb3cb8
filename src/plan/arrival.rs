//! Guests that come from another plane: which host would take one, and what this plane tells its peers of its room.
//!
//! The limits of safety are those of every placement: answers, maintenance, migrations at a time, hard affinity rules, room
//! after overcommit and reserve, CPU load. Pace is not limited here; that is for the source, which proposes.

use super::fleet::{Fleet, Promised};
use super::planner::{Planner, Situation, in_plane, with_peer};
use super::target::{Obstacle, percent};
use crate::model::{Affinity, Host, HostId, OfferedGuest, OfferedHost, Peer, Summary, Vm};
use std::sync::Arc;

/// A guest that is on its way to a host of this plane: its place is taken already.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrival {
    /// Where to.
    pub host: HostId,
    /// Its processors.
    pub vcpus: u32,
    /// Its memory, in MiB.
    pub memory_mib: u64,
    /// The load it brings along, in cores; `None`: not known, so all its processors.
    pub cpu_cores: Option<f32>,
}

impl Planner {
    /// May one more guest of this peer be on its way? If not, why.
    pub fn admits(&self, situation: &Situation, peer: &Peer) -> Result<(), Arc<str>> {
        let fleet = Fleet::new(*situation, self.memory());
        let free = in_plane(&fleet, situation.guardrails).and_then(|()| with_peer(&fleet, peer));
        free.map_err(|no| no.reason.into())
    }

    /// All hosts as places for an offered guest: those that can take it first, the best of them in front; then the others, each
    /// with what stands in the way. `arriving` are the guests that have been promised a place and are not here yet.
    pub fn places(&self, situation: &Situation, guest: &OfferedGuest, live: bool, arriving: &[Arrival]) -> Vec<OfferedHost> {
        let fleet = self.fleet_with(situation, arriving);
        let mut places: Vec<(f64, OfferedHost)> = Vec::with_capacity(fleet.seats.len());
        for (index, seat) in fleet.seats.iter().enumerate() {
            let place =
                |obstacle: Option<String>| OfferedHost { host: seat.host.id.clone(), obstacle: obstacle.map(Arc::from) };
            places.push(match seated(&fleet, index, guest, live) {
                Ok(score) => (score, place(None)),
                Err(why) => (f64::INFINITY, place(Some(why))),
            });
        }
        places.sort_by(|a, b| a.0.total_cmp(&b.0));
        places.into_iter().map(|(_, place)| place).collect()
    }

    /// What this plane tells its peers of itself. Hosts that do not answer, are in maintenance or have not reported do not count.
    pub fn summary(&self, situation: &Situation, arriving: &[Arrival]) -> Summary {
        let fleet = self.fleet_with(situation, arriving);
        let guardrails = situation.guardrails;
        let mut summary = Summary::default();
        for (index, seat) in fleet.seats.iter().enumerate() {
            let host = seat.host;
            if !host.is_up() || host.in_maintenance() || host.capacity.memory_mib == 0 {
                continue;
            }
            let promised = fleet.promised(index);
            let may_promise = host.capacity.memory_mib as f64 * guardrails.overcommit.memory * guardrails.target_max_memory;
            let free = (may_promise as u64).saturating_sub(promised.memory_mib);
            let vcpus = (f64::from(host.capacity.cpus) * guardrails.overcommit.cpu) as u64;
            summary.hosts += 1;
            summary.vms += situation.world.vms_on(&host.id).filter(|vm| vm.is_active()).count() as u32;
            summary.cpus += host.capacity.cpus;
            summary.cpu_cores += host.load.cpu_cores;
            summary.memory_mib += host.capacity.memory_mib;
            summary.free_memory_mib += free;
            summary.largest_free_mib = summary.largest_free_mib.max(free);
            summary.free_vcpus += vcpus.saturating_sub(promised.vcpus);
            if let Some(abilities) = situation.world.abilities.get(&host.id) {
                summary.cpu_models.extend(abilities.cpu_models.iter().cloned());
            }
            summary.classes.extend(classes(host));
        }
        summary
    }

    fn fleet_with<'a>(&self, situation: &Situation<'a>, arriving: &[Arrival]) -> Fleet<'a> {
        let mut fleet = Fleet::new(*situation, self.memory());
        for arrival in arriving {
            let own = Promised { vcpus: u64::from(arrival.vcpus), memory_mib: arrival.memory_mib };
            let cores = arrival.cpu_cores.map_or(f64::from(arrival.vcpus), f64::from);
            fleet.arrives(&arrival.host, own, cores);
        }
        fleet
    }
}

impl Situation<'_> {
    /// The load that a guest brings along to another plane, in cores: of one that nothing is known of, all its processors.
    pub fn load_of(&self, vm: &Vm) -> f64 {
        self.guest_cores(vm).high
    }
}

/// What a host is like, in words a peer can select by.
fn classes(host: &Host) -> impl Iterator<Item = Arc<str>> + '_ {
    let site = (!host.site.is_empty()).then(|| format!("site={}", host.site).into());
    site.into_iter().chain(host.labels.iter().map(|(key, text)| format!("{key}={text}").into()))
}

/// Can it sit there? If so, how well: the lower the better.
fn seated(fleet: &Fleet, index: usize, guest: &OfferedGuest, live: bool) -> Result<f64, String> {
    let (seat, guardrails) = (&fleet.seats[index], fleet.situation.guardrails);
    let host = seat.host;
    let told = |obstacle: Obstacle| obstacle.to_string();
    if !host.is_up() {
        return Err(told(Obstacle::Down(host)));
    }
    if host.in_maintenance() {
        return Err(told(Obstacle::Maintenance));
    }
    if seat.migrations >= guardrails.migrations_per_host {
        return Err(told(Obstacle::Migrations { running: seat.migrations, limit: guardrails.migrations_per_host }));
    }
    able(fleet, host, guest, live)?;
    if let Some(passed) = guest.devices.iter().find(|device| live && device.starts_with("hostdev")) {
        return Err(format!("it was given {passed} of the host it is on, so it cannot move while it runs"));
    }
    let share = fleet.room(index, u64::from(guest.vcpus), guest.memory_mib).map_err(told)?;
    affinity(fleet, host, guest)?;
    let cpus = f64::from(host.capacity.cpus.max(1));
    let there = fleet.host_cores(index).high;
    let cores = if live { guest.cpu_cores.map_or(f64::from(guest.vcpus), f64::from) } else { 0.0 };
    let (now, then, limit) = (there / cpus, (there + cores) / cpus, guardrails.target_max_cpu);
    if cores > 0.0 && then > limit {
        return Err(format!("CPU would go from {} to {}, and {} is the limit", percent(now), percent(then), percent(limit)));
    }
    Ok(then + 0.25 * share)
}

/// Has the host what the guest needs? What is not known of a host is no obstacle: its hypervisor checks once more.
fn able(fleet: &Fleet, host: &Host, guest: &OfferedGuest, live: bool) -> Result<(), String> {
    let Some(abilities) = fleet.situation.world.abilities.get(&host.id) else { return Ok(()) };
    let model = &guest.cpu_model;
    let named = !model.is_empty() && (live || !matches!(&**model, "host-passthrough" | "host-model"));
    if named && !abilities.cpu_models.is_empty() && !abilities.cpu_models.contains(model) {
        return Err(format!("it cannot give a guest the CPU model {model}"));
    }
    let known = !abilities.networks.is_empty();
    if let Some(network) = guest.networks.iter().find(|network| known && !abilities.networks.contains(*network)) {
        return Err(format!("it has no network or bridge `{network}`"));
    }
    Ok(())
}

/// Hard rules that would concern the guest by its name.
fn affinity(fleet: &Fleet, host: &Host, guest: &OfferedGuest) -> Result<(), String> {
    let world = fleet.situation.world;
    for (index, rule) in world.rules_for(&guest.name).into_iter().filter(|(_, rule)| rule.hard) {
        let others = || world.members(index).filter(|vm| fleet.counts(vm) && vm.id != guest.id);
        let broken = match rule.kind {
            Affinity::Apart => others().find(|vm| vm.host == host.id),
            Affinity::Together => others().find(|vm| vm.host != host.id),
        };
        if let Some(with) = broken {
            let obstacle = match rule.kind {
                Affinity::Apart => Obstacle::Apart { rule: &rule.name, with: &with.name },
                Affinity::Together => Obstacle::Together { rule: &rule.name, with: &with.name },
            };
            return Err(obstacle.to_string());
        }
    }
    Ok(())
}
