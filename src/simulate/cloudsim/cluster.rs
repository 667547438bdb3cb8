//! What is so: the hosts and guests of a day, at its present instant.

use super::host::{HostKind, Presence};
use super::metrics::{GuestTally, HostTally};
use crate::plan::trial::SLOTS;
use std::sync::Arc;

/// The hosts and guests at the present instant. Both are named by their numbers, from 0.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// The hosts.
    pub hosts: Vec<Host>,
    /// The guests, in the order of their traces.
    pub guests: Vec<Guest>,
    /// The memory of a host, where it binds.
    pub memory_mb: Option<f64>,
}

/// A host.
#[derive(Debug, Clone)]
pub struct Host {
    /// Its kind.
    pub kind: Arc<HostKind>,
    /// The share of its MIPS that was in use at the last update; 0: it is idle, and draws nothing.
    pub utilisation: f64,
    /// What it would draw at that utilisation if it was on.
    pub watts: f64,
    /// The MIPS in use at the last update.
    pub granted_mips: f64,
    pub(super) residents: Vec<Resident>,
    pub(super) tally: HostTally,
}

/// A guest's place on a host.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resident {
    pub guest: usize,
    pub arriving: bool,
}

/// A guest.
#[derive(Debug, Clone)]
pub struct Guest {
    /// The MIPS of its processor.
    pub mips: f64,
    /// Its memory.
    pub memory_mb: f64,
    /// The share of its MIPS that it wants.
    pub utilisation: f64,
    /// The MIPS that it wants.
    pub demand_mips: f64,
    /// Its utilisation at the last ticks, the newest first; 0 before the first.
    pub history: [f64; SLOTS],
    /// Where it runs; `None` once it is gone.
    pub host: Option<usize>,
    /// Is it being moved?
    pub moving: bool,
    pub(super) tally: GuestTally,
}

impl Host {
    pub(super) fn new(kind: Arc<HostKind>) -> Host {
        let watts = kind.curve.watts(0.0);
        Host { kind, utilisation: 0.0, watts, granted_mips: 0.0, residents: Vec::new(), tally: HostTally::default() }
    }

    /// The guests that run there or are being moved there, in the order in which they came.
    pub fn guests(&self) -> impl Iterator<Item = usize> + '_ {
        self.residents.iter().map(|resident| resident.guest)
    }
}

impl Guest {
    pub(super) fn new((mips, memory_mb): (f64, f64)) -> Guest {
        Guest {
            mips,
            memory_mb,
            utilisation: 0.0,
            demand_mips: 0.0,
            history: [0.0; SLOTS],
            host: None,
            moving: false,
            tally: GuestTally::default(),
        }
    }

    pub(super) fn presence(&self, arriving: bool) -> Presence {
        match (arriving, self.moving) {
            (true, _) => Presence::Arriving,
            (false, true) => Presence::Leaving,
            (false, false) => Presence::Settled,
        }
    }
}
