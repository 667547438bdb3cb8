//! A host: a hypervisor connection of the plane and what it can carry.

use super::element::HostId;
use super::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::element::VmId;

/// What a host has to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capacity {
    /// Processor cores.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
}

/// What a host can give guests beside room. What is empty is not known.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Abilities {
    /// CPU models that a guest can have there, and `host-passthrough` where a guest of a like host could go on with it.
    pub cpu_models: BTreeSet<Arc<str>>,
    /// Networks and bridges that its guests can be on.
    pub networks: BTreeSet<Arc<str>>,
}

/// Is the host reachable?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// Not heard of since the daemon started.
    Unknown,
    /// It answers.
    Up,
    /// It does not answer; why.
    Down(String),
}

/// The maintenance state of a host.
///
/// ```text
/// Off --maintenance on--> On --maintenance off--> Off
/// ```
/// While `On`, no guest is placed there; the shipped policy moves away what runs there, and remembers it for the way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Maintenance {
    /// In service.
    Off,
    /// Out of service since.
    On(Timestamp),
}

/// The latest sample of a host.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct HostLoad {
    /// Processor time used, in cores.
    pub cpu_cores: f32,
    /// Processor time that guests wanted but did not get, in cores.
    pub cpu_wait_cores: f32,
    /// Memory in use, in MiB.
    pub memory_used_mib: f32,
    /// Memory that guests would need in addition if they no longer shared equal pages (KSM), in MiB; `None` where not told.
    pub memory_shared_mib: Option<f32>,
    /// Does it sleep, to save power? `None` where not told. What is sent or started there wakes it.
    pub asleep: Option<bool>,
}

/// A host as the plane knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// Its name.
    pub id: HostId,
    /// The site it stands at; empty where none is configured.
    pub site: Arc<str>,
    /// Labels from the configuration.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// What it has, as it reports or as configured.
    pub capacity: Capacity,
    /// Is it reachable?
    pub link: Link,
    /// Is it in maintenance?
    pub maintenance: Maintenance,
    /// The latest sample.
    pub load: HostLoad,
    /// When `load` was taken.
    pub load_at: Timestamp,
    /// Guests defined there.
    pub vms: BTreeSet<VmId>,
}

impl Host {
    /// CPU use as a share of its cores, 0 to 1.
    pub fn cpu(&self) -> f64 {
        f64::from(self.load.cpu_cores) / f64::from(self.capacity.cpus.max(1))
    }

    /// Memory use as a share of its memory, 0 to 1.
    pub fn memory(&self) -> f64 {
        f64::from(self.load.memory_used_mib) / self.capacity.memory_mib.max(1) as f64
    }

    /// Does it answer?
    pub fn is_up(&self) -> bool {
        self.link == Link::Up
    }

    /// Is it in maintenance?
    pub fn in_maintenance(&self) -> bool {
        matches!(self.maintenance, Maintenance::On(_))
    }
}
