//! What a host says when it is asked, as a hypervisor would.

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
        let shares = self.take_shares(host);
        let (held_mib, Some(machine)) = (self.held_mib(host), self.hosts.get(host)) else {
            return Err(HypervisorError::new(ErrorKind::Unreachable, format!("there is no host {host}")));
        };
        let now_seen = Seen { started: self.started, connection: machine.connection, definition: self.definitions };
        let same = |seen: &Seen| (seen.started, seen.connection) == (now_seen.started, now_seen.connection);
        let known = seen.filter(same).map_or(0, |seen| seen.definition);
        let mute = machine.has(Trouble::StatisticsMissing);

        let mut domains = Vec::with_capacity(machine.guests.len() + machine.incoming.len());
        let guests = machine.guests.iter();
        for (vm, (claim, given)) in guests.zip(shares.claims.iter().zip(&shares.given)) {
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
        for ((vm, _), copy) in self.copies.iter().filter(|((_, on), _)| on == host) {
            domains.push(DomainReport {
                vm: *vm,
                state: copy.state,
                reason: copy.reason,
                balloon_mib: None,
                load: VmLoad::default(),
                description: (copy.definition > known).then(|| Box::new(copy.description.clone())),
            });
        }
        let (wanted, used) = (shares.wanted(), shares.used());
        let load = HostLoad {
            cpu_cores: (used + shares.overhead).min(f64::from(machine.capacity.cpus)) as f32,
            cpu_wait_cores: (wanted - used).max(0.0) as f32,
            memory_used_mib: held_mib as f32,
            memory_shared_mib: Some(machine.shared_mib as f32),
            asleep: machine.asleep(),
        };
        let report = HostReport { asked_at, capacity: machine.capacity, load: (!mute).then_some(load), domains };
        self.put_shares(host, shares);
        Ok((report, now_seen))
    }

    /// Memory that a host's guests hold, those that are being started and those that arrive included, in MiB.
    pub fn held_mib(&self, host: &HostId) -> u64 {
        let Some(machine) = self.hosts.get(host) else { return 0 };
        let here = machine.guests.iter().filter_map(|vm| self.guests.get(vm)).map(Guest::held_mib);
        let arriving = machine.incoming.keys().filter_map(|vm| self.guests.get(vm)).map(|guest| guest.balloon_mib);
        let active = |(vm, copy): (&VmId, &Copied)| (copy.state != VmState::Off).then(|| self.guests.get(vm)).flatten();
        let copies = self.copies_on(host).filter_map(active).map(|guest| guest.balloon_mib);
        here.chain(arriving).chain(copies).sum()
    }
}
