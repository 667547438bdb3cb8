//! The description of a simulated fleet, as it stands in a YAML file.
//!
//! ```yaml
//! seed: 7
//! hosts:
//!   - { name: "north-{n}", count: 4, site: north, cpus: 8, memory_mib: 32768 }
//! guests:
//!   - { name: "web-{n}", count: 12, vcpus: 2, memory_mib: 2048, load: { cpu: 0.3 } }
//! heats:
//!   - { at: 25s, every: 2m, for: 90s, cpu: 0.95 }
//! faults:
//!   - { at: 90s, every: 5m, fault: guest_crashes, guest: web-3 }
//! ```
//! An entry with a `count` makes that many, and `{n}` in its name is replaced by 1, 2, 3 and so on. Everything that names a host
//! or a guest may name several by a pattern such as `web-*`.

use super::fault::Chances;
use super::load::Shape;
use crate::model::{Mark, PowerCurve, Span};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A fleet's description.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FleetPlan {
    /// All that is left to chance follows from it.
    pub seed: u64,
    /// The hosts.
    pub hosts: Vec<HostPlan>,
    /// The guests.
    pub guests: Vec<GuestPlan>,
    /// Times at which the guests of a host get busy.
    pub heats: Vec<HeatPlan>,
    /// Faults at given times.
    pub faults: Vec<FaultPlan>,
    /// Faults by chance.
    pub chances: Chances,
    /// How long things take.
    pub times: Times,
}

/// A host, or several alike.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HostPlan {
    /// Its name; with `{n}` where there are several.
    pub name: String,
    /// How many.
    pub count: u32,
    /// Where it stands.
    pub site: Arc<str>,
    /// Labels.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// Cores.
    pub cpus: u32,
    /// Memory.
    pub memory_mib: u64,
    /// What its link carries for migrations, in and out together.
    pub bandwidth_mib_per_s: f64,
    /// Memory that its guests save by sharing equal pages, as it says.
    pub shared_mib: u64,
    /// What it takes from the socket; where not set, it counts no energy.
    pub power: Option<PowerCurve>,
    /// How it sleeps while it has nothing to do; where not set, it never does.
    pub idle: Option<IdlePlan>,
}

/// How a host sleeps. Its management controller answers all the same, and wakes it when a guest is sent or started there.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdlePlan {
    /// It goes to sleep when it has held no active guest for so long.
    pub sleeps_after: Span,
    /// So long it takes until it is awake.
    #[serde(default)]
    pub wakes_in: Span,
    /// What it takes meanwhile, in watts; where not set, as much as under full load.
    #[serde(default)]
    pub wake_watts: Option<f64>,
    /// What it takes while it sleeps, in watts.
    #[serde(default)]
    pub asleep_watts: f64,
}

/// A guest, or several alike.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuestPlan {
    /// Its name; with `{n}` where there are several.
    pub name: String,
    /// Its UUID; made from its name where not set.
    pub uuid: Option<uuid::Uuid>,
    /// How many.
    pub count: u32,
    /// Names or patterns of hosts, over which the guests are dealt out in turn; empty: all hosts.
    pub on: Vec<String>,
    /// Processors.
    pub vcpus: u32,
    /// Memory at the most.
    pub memory_mib: u64,
    /// Memory it holds at first; all where not set.
    pub balloon_mib: Option<u64>,
    /// The size of its disks together, which counts where a migration copies them.
    pub disk_mib: u64,
    /// Labels.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// Targets of its disks.
    pub disks: Vec<Arc<str>>,
    /// Targets of its network cards.
    pub nics: Vec<Arc<str>>,
    /// Does it run at first?
    pub running: bool,
    /// Does its host start it by itself?
    pub autostart: bool,
    /// Has it a guest agent?
    pub agent: bool,
    /// Does it ignore requests to shut down?
    pub ignores_shutdown: bool,
    /// The owner its metadata names.
    pub mark: Option<Mark>,
    /// What it does.
    pub load: LoadPlan,
}

/// What a guest does.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoadPlan {
    /// Processor use it wants, as a share of its processors.
    pub cpu: Shape,
    /// Memory in use, as a share of its memory.
    pub memory: Shape,
    /// Disk traffic, in MiB a second.
    pub disk_mib_per_s: Shape,
    /// Disk operations a second.
    pub iops: Shape,
    /// Network traffic, in MiB a second.
    pub net_mib_per_s: Shape,
    /// Memory it dirties while it runs, in MiB a second.
    pub dirty_mib_per_s: f64,
}

/// The running guests of a host get busy for a while. The heat is the guests': it goes along when they move.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeatPlan {
    /// The first time, counted from the fleet's start.
    pub at: Span,
    /// Again after this.
    #[serde(default)]
    pub every: Option<Span>,
    /// How long it lasts.
    #[serde(rename = "for")]
    pub lasts: Span,
    /// Names or patterns of hosts, one of which is heated each time, in turn; empty: all hosts.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Names or patterns of the guests that get busy; empty: all.
    #[serde(default)]
    pub guests: Vec<String>,
    /// How many of them at the most.
    #[serde(default)]
    pub count: Option<u32>,
    /// Processor use they want, as a share of their processors.
    pub cpu: f64,
}

/// A fault at a given time.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultPlan {
    /// The first time, counted from the fleet's start.
    pub at: Span,
    /// Again after this.
    #[serde(default)]
    pub every: Option<Span>,
    /// What goes wrong.
    pub fault: FaultName,
    /// On which hosts: a name or a pattern.
    #[serde(default)]
    pub host: Option<String>,
    /// In which guests: a name or a pattern.
    #[serde(default)]
    pub guest: Option<String>,
    /// How long it lasts, where it lasts.
    #[serde(default, rename = "for")]
    pub lasts: Option<Span>,
    /// Where migrations break off.
    #[serde(default)]
    pub at_percent: Option<u8>,
    /// The disk that fails.
    #[serde(default)]
    pub disk: Option<Arc<str>>,
}

/// Faults by name. See [`super::Trouble`] and [`super::Mishap`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names are those of `Trouble` and `Mishap`, where they are explained")]
pub enum FaultName {
    HostDies,
    HostHangs,
    HostLost,
    HostRefuses,
    StatisticsMissing,
    MigrationsFail,
    CutAtSwitch,
    KilledAtSwitch,
    GuestCrashes,
    GuestStops,
    GuestSleeps,
    GuestReboots,
    Watchdog,
    WatchdogOff,
    WatchdogOnly,
    IoError,
    AgentLost,
}

impl FaultName {
    /// Is it a host's, rather than a guest's?
    pub fn is_of_host(self) -> bool {
        matches!(
            self,
            FaultName::HostDies
                | FaultName::HostHangs
                | FaultName::HostLost
                | FaultName::HostRefuses
                | FaultName::StatisticsMissing
                | FaultName::MigrationsFail
                | FaultName::CutAtSwitch
                | FaultName::KilledAtSwitch
        )
    }
}

/// How long things take.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Times {
    /// From the order to start until the guest runs.
    pub start: Span,
    /// From then until its agent answers; it does not hear a request to shut down before.
    pub boot: Span,
    /// From the request to shut down until it is off.
    pub shutdown: Span,
    /// So long a guest is waited for that was asked to shut down and is not to be forced.
    pub shutdown_patience: Span,
    /// Everything else that takes no time worth mentioning.
    pub quick: Span,
    /// How fast memory is saved and restored.
    pub disk_mib_per_s: f64,
    /// What a migration costs on either host, in cores for each of the guest's processors.
    pub migration_cpu: f64,
    /// Share of its work that a guest loses while its memory is sent, since what it writes is tracked.
    pub migration_slows: f64,
}

impl Default for HostPlan {
    fn default() -> HostPlan {
        HostPlan {
            name: String::new(),
            count: 1,
            site: "".into(),
            labels: BTreeMap::new(),
            cpus: 8,
            memory_mib: 32_768,
            bandwidth_mib_per_s: 1_000.0,
            shared_mib: 0,
            power: None,
            idle: None,
        }
    }
}

impl Default for GuestPlan {
    fn default() -> GuestPlan {
        GuestPlan {
            name: String::new(),
            uuid: None,
            count: 1,
            on: Vec::new(),
            vcpus: 2,
            memory_mib: 2_048,
            balloon_mib: None,
            disk_mib: 10_240,
            labels: BTreeMap::new(),
            disks: vec!["vda".into()],
            nics: vec!["vnet0".into()],
            running: true,
            autostart: false,
            agent: true,
            ignores_shutdown: false,
            mark: None,
            load: LoadPlan::default(),
        }
    }
}

impl Default for LoadPlan {
    fn default() -> LoadPlan {
        LoadPlan {
            cpu: Shape::Constant(0.1),
            memory: Shape::Constant(0.5),
            disk_mib_per_s: Shape::Constant(0.2),
            iops: Shape::Constant(20.0),
            net_mib_per_s: Shape::Constant(0.1),
            dirty_mib_per_s: 20.0,
        }
    }
}

impl Default for Times {
    fn default() -> Times {
        Times {
            start: Span(500),
            boot: Span::seconds(5),
            shutdown: Span::seconds(2),
            shutdown_patience: Span::minutes(5),
            quick: Span(100),
            disk_mib_per_s: 500.0,
            migration_cpu: 0.1,
            migration_slows: 0.1,
        }
    }
}
