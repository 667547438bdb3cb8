//! What goes wrong in a simulated fleet: at given times, by chance from the seed, or because a test says so.

use crate::model::{HostId, Span, VmId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One thing that goes wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Fault {
    /// On a host, for a while.
    Host {
        /// Which.
        host: HostId,
        /// What.
        trouble: Trouble,
        /// For how long.
        lasts: Span,
    },
    /// In a guest.
    Guest {
        /// Which.
        vm: VmId,
        /// What.
        mishap: Mishap,
    },
}

/// What can be wrong with a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// It loses its power: its guests are off, and calls fail at once. Autostarted guests start when it is back.
    Dies,
    /// Its hypervisor does not answer, calls wait; its guests run on, and what they say arrives when it is back.
    Hangs,
    /// Its hypervisor is not there: calls fail at once, what it worked on is given up; its guests run on.
    Lost,
    /// It answers, but refuses every order.
    Refuses,
    /// It reports its guests without any figures.
    StatisticsMissing,
    /// Migrations from and to it break off when they have sent this share (percent) of the guest.
    MigrationsFail(u8),
    /// When a handover's move from or to it has sent everything, the link breaks in that very moment: the source believes that it
    /// failed and lets the guest run on, the target has all of it. With a move that the target's manager resumes, its copy
    /// waits there paused; else it runs, and the guest runs twice.
    CutAtSwitch,
    /// In the same moment the hypervisor of a move's source is killed, and is gone for the rest of this trouble's time. The guest is
    /// left paused at the source; at the target as with `CutAtSwitch`.
    KilledAtSwitch,
}

/// What can happen to a guest that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mishap {
    /// It crashes.
    Crashes,
    /// Its watchdog fires; it is switched off.
    WatchdogOff,
    /// Its watchdog fires; nothing is done about it.
    WatchdogOnly,
    /// It shuts itself down.
    Stops,
    /// It puts itself to sleep.
    Sleeps,
    /// It reboots.
    Reboots,
    /// Its watchdog fires; it is reset.
    Watchdog,
    /// A disk fails an operation; the guest is paused.
    IoError {
        /// The disk's target; the guest's first disk where `None`.
        disk: Option<Arc<str>>,
    },
    /// Its agent goes away for a while.
    AgentLost {
        /// For how long.
        lasts: Span,
    },
}

impl Trouble {
    /// Are two of a kind the same, whatever their figures?
    pub(super) fn is_like(self, other: Trouble) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }
}

/// How often things go wrong by themselves. All are 0 unless set.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Chances {
    /// How long a host's trouble lasts; 30 s where not set.
    pub trouble_lasts: Option<Span>,
    /// How often to expect it per host and hour.
    pub host_dies: f64,
    /// How often to expect it per host and hour.
    pub host_hangs: f64,
    /// How often to expect it per host and hour.
    pub host_lost: f64,
    /// How often to expect it per host and hour.
    pub host_refuses: f64,
    /// How often to expect it per host and hour.
    pub statistics_missing: f64,
    /// How often to expect it per guest and hour.
    pub guest_crashes: f64,
    /// How often to expect it per guest and hour.
    pub guest_stops: f64,
    /// How often to expect it per guest and hour.
    pub guest_reboots: f64,
    /// How often to expect it per guest and hour.
    pub watchdog: f64,
    /// How often to expect it per guest and hour.
    pub io_error: f64,
    /// How often to expect it per guest and hour.
    pub agent_lost: f64,
    /// Probability per migration; where it breaks is chance as well.
    pub migration_fails: f64,
    /// Probability per order of any kind.
    pub order_refused: f64,
}

/// The kinds of chance that strike by themselves; each has its own stream of random numbers, so that setting one does not
/// move the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Strike {
    HostDies,
    HostHangs,
    HostLost,
    HostRefuses,
    StatisticsMissing,
    GuestCrashes,
    GuestStops,
    GuestReboots,
    Watchdog,
    IoError,
    AgentLost,
}

impl Strike {
    pub(super) const ALL: [Strike; 11] = [
        Strike::HostDies,
        Strike::HostHangs,
        Strike::HostLost,
        Strike::HostRefuses,
        Strike::StatisticsMissing,
        Strike::GuestCrashes,
        Strike::GuestStops,
        Strike::GuestReboots,
        Strike::Watchdog,
        Strike::IoError,
        Strike::AgentLost,
    ];
}

impl Chances {
    /// How often to expect a strike per hour on each host or guest.
    pub(super) fn per_hour(&self, strike: Strike) -> f64 {
        match strike {
            Strike::HostDies => self.host_dies,
            Strike::HostHangs => self.host_hangs,
            Strike::HostLost => self.host_lost,
            Strike::HostRefuses => self.host_refuses,
            Strike::StatisticsMissing => self.statistics_missing,
            Strike::GuestCrashes => self.guest_crashes,
            Strike::GuestStops => self.guest_stops,
            Strike::GuestReboots => self.guest_reboots,
            Strike::Watchdog => self.watchdog,
            Strike::IoError => self.io_error,
            Strike::AgentLost => self.agent_lost,
        }
    }

    /// How long trouble lasts that came by chance.
    pub(super) fn lasts(&self) -> Span {
        self.trouble_lasts.unwrap_or(Span::seconds(30))
    }
}
