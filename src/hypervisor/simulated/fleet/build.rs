//! From the description to the fleet.

use super::super::fault::{Fault, Mishap, Strike, Trouble};
use super::super::fleet_plan::{FaultName, FaultPlan, FleetPlan, GuestPlan, HeatPlan};
use super::super::load::Signal;
use super::guest::Signals;
use super::sleep::Sleep;
use super::*;
use crate::error::nearest;
use crate::model::{Capacity, Description, Span};
use globset::{Glob, GlobSet, GlobSetBuilder};
use rand_chacha::rand_core::SeedableRng;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

/// Why a description makes no fleet: whose, what is wrong, what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FleetError(String);

impl FleetError {
    pub(in super::super) fn new(what: impl Into<String>) -> FleetError {
        FleetError(what.into())
    }
}

/// The streams of random numbers of orders; those of strikes lie below, those of signals above.
const ORDER_STREAM: u64 = 100;
const SIGNAL_STREAM: u64 = 1_000;

impl Fleet {
    /// The fleet that `plan` describes, as it is at `start`.
    pub fn new(plan: &FleetPlan, start: Timestamp) -> Result<Fleet, FleetError> {
        if let Some(complaint) = plan.complaint() {
            return Err(FleetError(complaint.what));
        }
        let dice = |stream: u64| {
            let mut random = ChaCha8Rng::seed_from_u64(plan.seed);
            random.set_stream(stream);
            random
        };
        let mut fleet = Fleet {
            seed: plan.seed,
            started: start,
            now: start,
            times: plan.times,
            hosts: BTreeMap::new(),
            guests: BTreeMap::new(),
            copies: BTreeMap::new(),
            orders: BTreeMap::new(),
            fenced: BTreeSet::new(),
            agenda: BTreeMap::new(),
            entries: 0,
            definitions: 1,
            faults: Vec::new(),
            heats: Vec::new(),
            chances: plan.chances,
            dice: Strike::ALL.into_iter().map(|strike| (strike, dice(strike as u64))).collect(),
            order_dice: dice(ORDER_STREAM),
            notices: Vec::new(),
            ended: Vec::new(),
            log: Vec::new(),
            runs: BTreeSet::new(),
            touched: BTreeSet::new(),
            meter: None,
        };
        // Guests are dealt out in the order in which the hosts are written down.
        let mut hosts = Vec::new();
        for entry in &plan.hosts {
            for member in 0..entry.count {
                let id = HostId::from(&*name_of(&entry.name, member));
                let machine = Machine {
                    site: entry.site.clone(),
                    labels: entry.labels.clone(),
                    capacity: Capacity { cpus: entry.cpus, memory_mib: entry.memory_mib },
                    guests: BTreeSet::new(),
                    incoming: BTreeMap::new(),
                    moves: BTreeSet::new(),
                    bandwidth_mib_per_s: entry.bandwidth_mib_per_s,
                    shared_mib: entry.shared_mib,
                    power: entry.power.clone(),
                    idle: entry.idle,
                    sleep: Sleep::AWAKE,
                    shares: None,
                    troubles: Vec::new(),
                    connection: 1,
                    held: Vec::new(),
                };
                if fleet.hosts.insert(id.clone(), machine).is_some() {
                    return Err(FleetError(format!("host {id} is described twice; give one of them another name")));
                }
                hosts.push(id);
            }
        }
        for entry in &plan.guests {
            fleet.add_guests(entry, &hosts)?;
        }
        for entry in &plan.heats {
            fleet.add_heat(entry, &hosts)?;
        }
        for entry in &plan.faults {
            fleet.add_faults(entry, &hosts)?;
        }
        for strike in Strike::ALL {
            fleet.plan_strike(strike);
        }
        hosts.iter().for_each(|host| fleet.touch(host));
        fleet.settle();
        Ok(fleet)
    }

    /// Adds guests while the fleet runs. Where one of several does not fit, those before it stay.
    pub fn add(&mut self, entry: &GuestPlan) -> Result<Vec<VmId>, FleetError> {
        let hosts: Vec<HostId> = self.hosts.keys().cloned().collect();
        let added = self.add_guests(entry, &hosts)?;
        for vm in &added {
            self.redefined(*vm);
        }
        Ok(added)
    }

    /// Lets something go wrong at the times it says, counted from now.
    pub fn fail(&mut self, entry: &FaultPlan) -> Result<(), FleetError> {
        let hosts: Vec<HostId> = self.hosts.keys().cloned().collect();
        self.add_faults(entry, &hosts)
    }

    /// Lets guests get busy at the times it says, counted from now.
    pub fn heat_up(&mut self, entry: &HeatPlan) -> Result<(), FleetError> {
        let hosts: Vec<HostId> = self.hosts.keys().cloned().collect();
        self.add_heat(entry, &hosts)
    }

    fn add_guests(&mut self, entry: &GuestPlan, hosts: &[HostId]) -> Result<Vec<VmId>, FleetError> {
        let mut added = Vec::new();
        let hosts = matching_hosts(&entry.on, hosts).map_err(|what| FleetError(format!("guest {}: {what}", entry.name)))?;
        for member in 0..entry.count {
            let name = name_of(&entry.name, member);
            let id = VmId(entry.uuid.unwrap_or_else(|| uuid_of(&name)));
            let host = &hosts[member as usize % hosts.len()];
            let number = self.guests.len() as u64;
            let mut stream = SIGNAL_STREAM + number * 8;
            let mut signal = |shape| {
                stream += 1;
                Signal::new(shape, u64::from(member), self.seed, stream)
            };
            let guest = Guest {
                id,
                host: host.clone(),
                description: Description {
                    name: name.as_str().into(),
                    vcpus: entry.vcpus,
                    memory_mib: entry.memory_mib,
                    persistent: true,
                    autostart: entry.autostart,
                    labels: entry.labels.clone(),
                    mark: entry.mark.clone(),
                    disks: entry.disks.clone(),
                    nics: entry.nics.clone(),
                },
                state: if entry.running { VmState::Running } else { VmState::Off },
                reason: if entry.running { Reason::Booted } else { Reason::Unknown },
                balloon_mib: entry.balloon_mib.unwrap_or(entry.memory_mib),
                saved: false,
                seal: None,
                work: None,
                definition: 1,
                starting: false,
                booted_at: self.now,
                disk_mib: entry.disk_mib,
                has_agent: entry.agent,
                agent_up: entry.agent && entry.running,
                ignores_shutdown: entry.ignores_shutdown,
                autostart_after: false,
                goes_off_at: None,
                awaited_by: None,
                dirty_mib_per_s: entry.load.dirty_mib_per_s,
                heated: None,
                signals: Signals {
                    cpu: signal(&entry.load.cpu),
                    memory: signal(&entry.load.memory),
                    disk_mib_per_s: signal(&entry.load.disk_mib_per_s),
                    iops: signal(&entry.load.iops),
                    net_mib_per_s: signal(&entry.load.net_mib_per_s),
                },
            };
            if self.guests.contains_key(&id) {
                let what = format!("guest {name} is described twice, or has the UUID {id} of another guest");
                return Err(FleetError(format!("{what}; give it a name and a UUID of its own")));
            }
            // No host may hold more memory than it has, at first as later.
            if let Err(error) = self.check_room(host, guest.held_mib(), &guest.description.name) {
                return Err(FleetError(format!("{}; give it more memory or fewer guests", error.what)));
            }
            added.push(id);
            if let Some(machine) = self.hosts.get_mut(host) {
                machine.guests.insert(id);
            }
            self.guests.insert(id, guest);
            self.note_runs(id);
        }
        Ok(added)
    }

    fn add_heat(&mut self, entry: &HeatPlan, hosts: &[HostId]) -> Result<(), FleetError> {
        let hosts = matching_hosts(&entry.hosts, hosts).map_err(|what| FleetError(format!("heats: {what}")))?;
        let everybody = ["*".to_owned()];
        let patterns: &[String] = if entry.guests.is_empty() { &everybody } else { &entry.guests };
        let guests = patterns_of(patterns).map_err(|what| FleetError(format!("heats: {what}")))?;
        let count = entry.count.map_or(usize::MAX, |count| count as usize);
        let heat = Heat { hosts, guests, count, cpu: entry.cpu, lasts: entry.lasts };
        self.heats.push(Repeated { what: heat, every: entry.every });
        let index = self.heats.len() - 1;
        self.at(self.now + entry.at, Occurrence::Heat(index, 0));
        Ok(())
    }

    fn add_faults(&mut self, entry: &FaultPlan, hosts: &[HostId]) -> Result<(), FleetError> {
        let lasts = entry.lasts.unwrap_or(Span::seconds(30));
        let found: Vec<Fault> = match (trouble_of(entry), &entry.host, &entry.guest) {
            (Some(trouble), Some(host), _) => matching_hosts(std::slice::from_ref(host), hosts)
                .map_err(|what| FleetError(format!("faults: {what}")))?
                .into_iter()
                .map(|host| Fault::Host { host, trouble, lasts })
                .collect(),
            (None, _, Some(pattern)) => {
                let pattern_set = patterns_of(std::slice::from_ref(pattern)).map_err(FleetError)?;
                let named = self.guests.values().filter(|guest| pattern_set.is_match(&*guest.description.name));
                let faults: Vec<_> =
                    named.filter_map(|guest| Some(Fault::Guest { vm: guest.id, mishap: mishap_of(entry)? })).collect();
                if faults.is_empty() {
                    let names = self.guests.values().map(|guest| &*guest.description.name);
                    return Err(FleetError(format!("faults: no guest is called `{pattern}`{}", meant(pattern, names))));
                }
                faults
            }
            _ => return Err(FleetError(format!("faults: {:?} names neither a host nor a guest", entry.fault))),
        };
        for fault in found {
            self.faults.push(Repeated { what: fault, every: entry.every });
            let index = self.faults.len() - 1;
            self.at(self.now + entry.at, Occurrence::Fault(index));
        }
        Ok(())
    }
}

fn trouble_of(entry: &FaultPlan) -> Option<Trouble> {
    match entry.fault {
        FaultName::HostDies => Some(Trouble::Dies),
        FaultName::HostHangs => Some(Trouble::Hangs),
        FaultName::HostLost => Some(Trouble::Lost),
        FaultName::HostRefuses => Some(Trouble::Refuses),
        FaultName::StatisticsMissing => Some(Trouble::StatisticsMissing),
        FaultName::MigrationsFail => Some(Trouble::MigrationsFail(entry.at_percent.unwrap_or(50))),
        FaultName::CutAtSwitch => Some(Trouble::CutAtSwitch),
        FaultName::KilledAtSwitch => Some(Trouble::KilledAtSwitch),
        _ => None,
    }
}

fn mishap_of(entry: &FaultPlan) -> Option<Mishap> {
    match entry.fault {
        FaultName::GuestCrashes => Some(Mishap::Crashes),
        FaultName::WatchdogOff => Some(Mishap::WatchdogOff),
        FaultName::WatchdogOnly => Some(Mishap::WatchdogOnly),
        FaultName::GuestStops => Some(Mishap::Stops),
        FaultName::GuestSleeps => Some(Mishap::Sleeps),
        FaultName::GuestReboots => Some(Mishap::Reboots),
        FaultName::Watchdog => Some(Mishap::Watchdog),
        FaultName::IoError => Some(Mishap::IoError { disk: entry.disk.clone() }),
        FaultName::AgentLost => Some(Mishap::AgentLost { lasts: entry.lasts.unwrap_or(Span::seconds(30)) }),
        _ => None,
    }
}

fn name_of(pattern: &str, member: u32) -> String {
    pattern.replace("{n}", &(member + 1).to_string())
}

/// A guest's UUID, where the description gives none: made from its name, so that adding a guest changes no other's.
fn uuid_of(name: &str) -> uuid::Uuid {
    let digest = Sha256::digest(format!("simulated guest {name}"));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

fn patterns_of(patterns: &[String]) -> Result<GlobSet, String> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(Glob::new(pattern).map_err(|error| format!("`{pattern}` is no pattern: {error}"))?);
    }
    set.build().map_err(|error| error.to_string())
}

/// The hosts whose names match one of the patterns, in their order; all, where there is no pattern. Never none.
fn matching_hosts(patterns: &[String], hosts: &[HostId]) -> Result<Vec<HostId>, String> {
    if hosts.is_empty() {
        return Err("the fleet has no hosts".to_owned());
    }
    if patterns.is_empty() {
        return Ok(hosts.to_vec());
    }
    for pattern in patterns {
        let set = patterns_of(std::slice::from_ref(pattern))?;
        if !hosts.iter().any(|host| set.is_match(host.as_str())) {
            let hint = meant(pattern, hosts.iter().map(HostId::as_str));
            return Err(format!("no host is called `{pattern}`{hint}"));
        }
    }
    let set = patterns_of(patterns)?;
    Ok(hosts.iter().filter(|host| set.is_match(host.as_str())).cloned().collect())
}

fn meant<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(wrong, known).map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"))
}
