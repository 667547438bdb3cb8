//! The hosts of the configuration, opened.

use crate::clock::Clock;
use crate::config::{Config, LoadFrom};
use crate::effectors::Catalog;
use crate::hypervisor::simulated::{FleetPlan, LiveFleet, LiveOptions};
use crate::hypervisor::{Adjusted, Destination, EMBEDDED, Hypervisor, Registry};
use crate::manager::HostSettings;
use crate::model::HostId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A plane's hosts: connections, what the manager knows of them, and how they reach each other.
pub(super) struct Hosts {
    pub(super) connections: BTreeMap<HostId, Arc<dyn Hypervisor>>,
    pub(super) settings: Vec<HostSettings>,
    pub(super) catalog: Catalog,
    /// The fleet in this process, where there is one.
    pub(super) fleet: Option<Arc<LiveFleet>>,
}

/// Opens them. Nothing is connected yet.
pub(super) fn open(config: &Config, clock: Arc<dyn Clock>) -> Result<Hosts, String> {
    let embedded = config.fleet.as_deref().map(|fleet| start(fleet, clock.clone())).transpose()?;
    let mut registry = Registry::new(clock, embedded.clone());
    let mut hosts = Hosts {
        connections: BTreeMap::new(),
        settings: Vec::new(),
        catalog: Catalog { plane: config.plane.clone(), destinations: BTreeMap::new(), migration: config.migration },
        fleet: embedded,
    };
    for host in &config.hosts {
        let id = HostId(host.name.clone());
        let connection = registry.open(&id, &host.uri)?;
        let guests = host.load_from == LoadFrom::Guests;
        let connection: Arc<dyn Hypervisor> = match host.capacity {
            None if !guests => connection,
            capacity => Arc::new(Adjusted::new(connection, capacity, guests)),
        };
        hosts.connections.insert(id.clone(), connection);
        hosts.settings.push(HostSettings { id: id.clone(), site: host.site.clone(), labels: host.labels.clone() });
        let uri = host.migration_uri.clone().unwrap_or_else(|| host.uri.clone());
        hosts
            .catalog
            .destinations
            .insert(id.clone(), Destination { host: id, uri, migration_uri: host.migration_address.clone() });
    }
    if let Some(fleet) = &hosts.fleet {
        let described: Vec<_> = fleet.with(|fleet| {
            fleet.hosts().map(|(id, machine)| (id.clone(), machine.site.clone(), machine.labels.clone())).collect()
        });
        for (id, site, labels) in described {
            if hosts.connections.contains_key(&id) {
                return Err(format!("host {id} is in `hosts` and in the fleet; give one of them another name"));
            }
            hosts.connections.insert(id.clone(), registry.open(&id, EMBEDDED)?);
            let uri = Arc::from(EMBEDDED);
            hosts.catalog.destinations.insert(id.clone(), Destination { host: id.clone(), uri, migration_uri: None });
            hosts.settings.push(HostSettings { id, site, labels });
        }
    }
    Ok(hosts)
}

fn start(fleet: &str, clock: Arc<dyn Clock>) -> Result<Arc<LiveFleet>, String> {
    let plan = FleetPlan::named(fleet).map_err(|complaint| complaint.to_string())?;
    LiveFleet::start(&plan, LiveOptions::new(clock)).map_err(|error| format!("the fleet cannot run: {error}"))
}
