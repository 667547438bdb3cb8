//! What a host says when it is asked, as a hypervisor would.

use super::super::contention::{Claim, share_out};
use super::machine::Copied;
use super::*;
use crate::hypervisor::{ErrorKind, HypervisorError};
use crate::model::{DomainReport, HostLoad, HostReport, VmLoad};
use serde::{Deserialize, Serialize};

/// What the reader of a host's reports has seen of its definitions. Definitions are described that are newer, and all of them
/// where it has read another fleet or an earlier connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    started: Timestamp,
    connection: u64,
    definition: u64,
}

impl Fleet {
    /// What a host says of itself and its guests at the fleet's present time; and what its reader has then seen, to be given
    /// back with the next call. `asked_at` is the reader's time, and stands in the report.
    pub fn report(
        &mut self,
        host: &HostId,
        asked_at: Timestamp,
        seen: Option<Seen>,
    ) -> Result<(HostReport, Seen), HypervisorError> {
        self.answers(host)?;
        let since_start = self.now.since(self.started);
        let overhead = self.migration_cores(host);
        let (held_mib, Some(machine)) = (self.held_mib(host), self.hosts.get(host)) else {
            return Err(HypervisorError::new(ErrorKind::Unreachable, format!("there is no host {host}")));
        };
        let now_seen = Seen { started: self.started, connection: machine.connection, definition: self.definitions };
        let same = |seen: &Seen| (seen.started, seen.connection) == (now_seen.started, now_seen.connection);
        let known = seen.filter(same).map_or(0, |seen| seen.definition);
        let mute = machine.has(Trouble::StatisticsMissing);

        let mut claims = Vec::with_capacity(machine.guests.len());
        for vm in &machine.guests {
            let Some(guest) = self.guests.get_mut(vm) else { continue };
            let demand = guest.demand(self.now, since_start);
            claims.push(Claim { weight: f64::from(guest.description.vcpus.max(1)), demand });
        }
        let cores = (f64::from(machine.capacity.cpus) - overhead).max(0.0);
        let given = share_out(cores, &claims);

        let mut domains = Vec::with_capacity(machine.guests.len() + machine.incoming.len());
        let guests = machine.guests.iter();
        for (vm, (claim, given)) in guests.zip(claims.iter().zip(&given)) {
            let Some(guest) = self.guests.get_mut(vm) else { continue };
            domains.push(DomainReport {
                vm: *vm,
                state: guest.state,
                reason: guest.reason,
                balloon_mib: (!mute).then_some(guest.balloon_mib),
                load: if mute { VmLoad::default() } else { guest.load(since_start, claim.demand, *given) },
                description: (guest.definition > known).then(|| Box::new(guest.description.clone())),
            });
        }
        for (vm, (_, definition)) in &machine.incoming {
            let Some(guest) = self.guests.get(vm) else { continue };
            domains.push(DomainReport {
                vm: *vm,
                state: VmState::Paused,
                reason: Reason::Migration,
                balloon_mib: (!mute).then_some(guest.balloon_mib),
                load: VmLoad::default(),
                description: (*definition > known).then(|| Box::new(guest.description.clone())),
            });
        }
        for (vm, copy) in &machine.copies {
            domains.push(DomainReport {
                vm: *vm,
                state: copy.state,
                reason: copy.reason,
                balloon_mib: None,
                load: VmLoad::default(),
                description: (copy.definition > known).then(|| Box::new(copy.description.clone())),
            });
        }
        let wanted: f64 = claims.iter().map(|claim| claim.demand).sum();
        let used: f64 = given.iter().sum();
        let load = HostLoad {
            cpu_cores: (used + overhead).min(f64::from(machine.capacity.cpus)) as f32,
            cpu_wait_cores: (wanted - used).max(0.0) as f32,
            memory_used_mib: held_mib as f32,
            memory_shared_mib: Some(machine.shared_mib as f32),
        };
        let report = HostReport { asked_at, capacity: machine.capacity, load: (!mute).then_some(load), domains };
        Ok((report, now_seen))
    }

    /// Memory that a host's guests hold, those that are being started and those that arrive included, in MiB.
    pub fn held_mib(&self, host: &HostId) -> u64 {
        let Some(machine) = self.hosts.get(host) else { return 0 };
        let here = machine.guests.iter().filter_map(|vm| self.guests.get(vm)).map(Guest::held_mib);
        let arriving = machine.incoming.keys().filter_map(|vm| self.guests.get(vm)).map(|guest| guest.balloon_mib);
        let active = |(vm, copy): (&VmId, &Copied)| (copy.state != VmState::Off).then(|| self.guests.get(vm)).flatten();
        let copies = machine.copies.iter().filter_map(active).map(|guest| guest.balloon_mib);
        here.chain(arriving).chain(copies).sum()
    }

    /// Cores that a host spends on migrations.
    fn migration_cores(&self, host: &HostId) -> f64 {
        let Some(machine) = self.hosts.get(host) else { return 0.0 };
        let moves = machine.moves.iter().filter_map(|action| self.orders.get(action));
        let guests = moves.filter_map(|run| self.guests.get(&run.order.kind.vm()?));
        guests.map(|guest| f64::from(guest.description.vcpus) * self.times.migration_cpu).sum()
    }
}
