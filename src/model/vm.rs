//! A guest: what it is, how it fares, and who may act on it.

use super::element::{ElementId, HostId, VmId};
use super::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// What a guest is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VmState {
    /// It runs.
    Running,
    /// Its processors are stopped; it keeps its memory.
    Paused,
    /// It put itself to sleep.
    Asleep,
    /// It is off.
    Off,
    /// It, or the process that ran it, died.
    Crashed,
}

/// Why a guest is in its state, as far as the hypervisor tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Nothing more is known.
    Unknown,
    /// It was started, by somebody.
    Booted,
    /// An admin or a program asked for it (pause, resume, destroy).
    Asked,
    /// The guest shut itself down, or was asked to and did.
    Shutdown,
    /// It is moving, or has moved, to another host; never taken for a fault.
    Migration,
    /// It was saved to disk, or restored from there.
    Saved,
    /// A disk error stopped it.
    IoError,
    /// Its watchdog fired.
    Watchdog,
    /// The guest's kernel panicked, or the process that ran it died.
    Crashed,
    /// The hypervisor could not run it.
    Failed,
}

/// How far the plane may go with a guest or with a module's proposals. The smaller of the two counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Watch and record only.
    #[default]
    Observe,
    /// Recommend; an admin approves each action.
    Advise,
    /// Act within permits and guardrails.
    Act,
}

/// Who owns a guest; stands in the domain's own metadata and travels with it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mark {
    /// The owning plane's name.
    pub plane: Arc<str>,
    /// Rises with each change of owner.
    pub epoch: u64,
}

/// The latest sample of a guest. What its hypervisor does not tell is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct VmLoad {
    /// Processor time used, in cores (2.0: two cores fully busy).
    pub cpu_cores: Option<f32>,
    /// Processor time wanted but not given, in cores.
    pub cpu_wait_cores: Option<f32>,
    /// Memory in use inside the guest, in MiB (balloon or agent).
    pub memory_used_mib: Option<f32>,
    /// Disk reads and writes together, in bytes a second.
    pub disk_bytes_per_s: Option<f32>,
    /// Disk operations a second.
    pub disk_iops: Option<f32>,
    /// Network bytes received and sent together, a second.
    pub net_bytes_per_s: Option<f32>,
}

/// A guest as the plane knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Vm {
    /// Its identity.
    pub id: VmId,
    /// Its name on its host.
    pub name: Arc<str>,
    /// Where it is defined.
    pub host: HostId,
    /// What it is doing.
    pub state: VmState,
    /// Why.
    pub reason: Reason,
    /// Since when.
    pub since: Timestamp,
    /// Processors it has.
    pub vcpus: u32,
    /// Memory it may use at the most, in MiB.
    pub memory_mib: u64,
    /// Memory it holds at present (the balloon's target), in MiB.
    pub balloon_mib: u64,
    /// Does its definition outlive its run?
    pub persistent: bool,
    /// Does its host start it by itself?
    pub autostart: bool,
    /// Labels from its metadata, such as `tier: web`.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// Targets of its disks (`vda`).
    pub disks: Vec<Arc<str>>,
    /// Targets or addresses of its network cards.
    pub nics: Vec<Arc<str>>,
    /// Is its guest agent connected?
    pub agent: bool,
    /// Who owns it, as its metadata says.
    pub mark: Option<Mark>,
    /// How far this plane may go with it.
    pub mode: Mode,
    /// The latest sample, and when it was taken.
    pub load: VmLoad,
    /// When `load` was taken.
    pub load_at: Timestamp,
}

impl Vm {
    /// CPU use as a share of its own processors, 0 to 1; 0 where unknown.
    pub fn cpu(&self) -> f64 {
        self.load.cpu_cores.map_or(0.0, |cores| f64::from(cores) / f64::from(self.vcpus.max(1)))
    }

    /// Memory use as a share of what it holds, 0 to 1; 0 where unknown.
    pub fn memory(&self) -> f64 {
        self.load.memory_used_mib.map_or(0.0, |used| f64::from(used) / self.balloon_mib.max(1) as f64)
    }

    /// Does it take up room on its host now?
    pub fn is_active(&self) -> bool {
        matches!(self.state, VmState::Running | VmState::Paused | VmState::Asleep)
    }

    /// The epoch of its mark where `plane` owns it.
    pub fn epoch_of(&self, plane: &str) -> Option<u64> {
        self.mark.as_ref().filter(|mark| &*mark.plane == plane).map(|mark| mark.epoch)
    }

    /// Its dependents: disks and network cards.
    pub fn dependents(&self) -> impl Iterator<Item = ElementId> + '_ {
        let disks = self.disks.iter().map(|disk| ElementId::Disk(self.id, disk.clone()));
        disks.chain(self.nics.iter().map(|nic| ElementId::Nic(self.id, nic.clone())))
    }
}

impl fmt::Display for VmState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            VmState::Running => "running",
            VmState::Paused => "paused",
            VmState::Asleep => "asleep",
            VmState::Off => "off",
            VmState::Crashed => "crashed",
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Unknown => "unknown",
            Reason::Booted => "booted",
            Reason::Asked => "asked",
            Reason::Shutdown => "shutdown",
            Reason::Migration => "migration",
            Reason::Saved => "saved",
            Reason::IoError => "io_error",
            Reason::Watchdog => "watchdog",
            Reason::Crashed => "crashed",
            Reason::Failed => "failed",
        })
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Observe => "observe",
            Mode::Advise => "advise",
            Mode::Act => "act",
        })
    }
}
