//! A host of the fleet.

use super::super::fault::Trouble;
use super::super::fleet_plan::IdlePlan;
use super::orders::JobId;
use super::shares::Shares;
use super::sleep::Sleep;
use crate::hypervisor::Seal;
use crate::model::{Capacity, Description, Notice, PowerCurve, Reason, Timestamp, VmId, VmState};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A guest's second appearance: defined on a host for a cold handover, or left there when a move broke in its last moment.
#[derive(Debug, Clone)]
pub(super) struct Copied {
    pub(super) state: VmState,
    pub(super) reason: Reason,
    pub(super) description: Description,
    pub(super) seal: Option<Seal>,
    pub(super) autostart_after: bool,
    pub(super) definition: u64,
}

/// A simulated host.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Where it stands.
    pub site: Arc<str>,
    /// Labels.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// What it has.
    pub capacity: Capacity,
    /// The guests defined on it.
    pub guests: BTreeSet<VmId>,
    /// Copies that arrive by live migration: by which job, and the number of their definition here.
    pub(super) incoming: BTreeMap<VmId, (JobId, u64)>,
    /// Live migrations in and out.
    pub(super) moves: BTreeSet<JobId>,
    pub(super) bandwidth_mib_per_s: f64,
    pub(super) shared_mib: u64,
    pub(super) power: Option<PowerCurve>,
    pub(super) idle: Option<IdlePlan>,
    pub(super) sleep: Sleep,
    /// How its cores are shared out, where that was worked out and nothing has changed since.
    pub(super) shares: Option<Shares>,
    /// What is wrong with it, and until when.
    pub(super) troubles: Vec<(Trouble, Timestamp)>,
    /// Rises whenever readers have to connect anew.
    pub(super) connection: u64,
    /// What it will say when it no longer hangs.
    pub(super) held: Vec<Notice>,
}

impl Machine {
    /// Does it sleep, or is it still on its way to be awake? `None`: it never sleeps.
    pub fn asleep(&self) -> Option<bool> {
        self.idle.map(|_| !matches!(self.sleep, Sleep::Awake { .. }))
    }

    /// Is this wrong with it?
    pub fn has(&self, trouble: Trouble) -> bool {
        self.troubles.iter().any(|(present, _)| present.is_like(trouble))
    }

    pub(super) fn is_cut_off(&self) -> bool {
        self.has(Trouble::Dies) || self.has(Trouble::Lost)
    }

    pub(super) fn hangs(&self) -> bool {
        self.has(Trouble::Hangs)
    }

    /// Until when this is wrong with it.
    pub(super) fn until(&self, trouble: Trouble) -> Option<Timestamp> {
        self.troubles.iter().find(|(present, _)| present.is_like(trouble)).map(|(_, until)| *until)
    }

    /// Where migrations break off at present, as a share.
    pub(super) fn breaks_migrations_at(&self) -> Option<f64> {
        self.troubles.iter().find_map(|(trouble, _)| match trouble {
            Trouble::MigrationsFail(percent) => Some(f64::from(*percent) / 100.0),
            _ => None,
        })
    }
}
