//! What a hypervisor says of itself and its guests: raw material of events, without judgement.

use super::element::VmId;
use super::host::{Capacity, HostLoad};
use super::time::Timestamp;
use super::vm::{Mark, Reason, VmLoad, VmState};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Everything a host says at one poll. The list of guests is complete: who is not in it is not defined there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostReport {
    /// When the host was asked (not when it answered), by the plane's clock. States it tells lose against newer notices.
    pub asked_at: Timestamp,
    /// What the host has.
    pub capacity: Capacity,
    /// How it fares; `None` where the hypervisor does not tell (the plane then adds up its guests).
    pub load: Option<HostLoad>,
    /// Every guest defined there.
    pub domains: Vec<DomainReport>,
}

/// One guest in a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DomainReport {
    /// Which guest.
    pub vm: VmId,
    /// What it does.
    pub state: VmState,
    /// Why.
    pub reason: Reason,
    /// Memory it holds (balloon), in MiB; `None` where not told.
    pub balloon_mib: Option<u64>,
    /// Its sample.
    pub load: VmLoad,
    /// Its definition: present when the host is first read, after a reconnect, and when it changed.
    pub description: Option<Box<Description>>,
}

/// A guest's definition, as far as the plane needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Its name.
    pub name: Arc<str>,
    /// Processors.
    pub vcpus: u32,
    /// Memory at the most, in MiB.
    pub memory_mib: u64,
    /// Does its definition outlive its run?
    pub persistent: bool,
    /// Does its host start it by itself?
    pub autostart: bool,
    /// Labels from its metadata.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// Owner and epoch from its metadata.
    pub mark: Option<Mark>,
    /// Targets of its disks.
    pub disks: Vec<Arc<str>>,
    /// Targets or addresses of its network cards.
    pub nics: Vec<Arc<str>>,
}

/// Something a hypervisor says between polls.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// About whom.
    pub vm: VmId,
    /// When it arrived, by the plane's clock.
    pub at: Timestamp,
    /// What.
    pub body: NoticeBody,
}

/// The guest agent's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentState {
    /// It answers.
    Connected,
    /// It does not.
    Disconnected,
}

/// What a notice says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum NoticeBody {
    /// The guest's state.
    State(VmState, Reason),
    /// It is defined, or its definition changed.
    Described(Box<Description>),
    /// It is no longer defined on this host.
    Undefined,
    /// It rebooted; it runs on.
    Rebooted,
    /// Its balloon's size, in MiB.
    Balloon(u64),
    /// Its watchdog fired; what the hypervisor did.
    Watchdog(Arc<str>),
    /// A disk (target) failed; what the hypervisor says.
    IoError(Arc<str>, Arc<str>),
    /// Its agent.
    Agent(AgentState),
}
