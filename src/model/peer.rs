//! Peers: the other planes, as this one knows them. What a plane tells its peers of itself is a [`Summary`], so that a policy
//! can choose where to send a guest; it is stated now and then and may be old.

use super::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a plane has to give, in a few figures.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Summary {
    /// Hosts that answer and are not in maintenance. All figures are sums over these.
    pub hosts: u32,
    /// Guests that take up room there.
    pub vms: u32,
    /// Processor cores they have.
    pub cpus: u32,
    /// Processor time in use, in cores.
    pub cpu_cores: f32,
    /// Memory they have, in MiB.
    pub memory_mib: u64,
    /// Memory that may still be promised to guests, overcommit and reserve counted, in MiB.
    pub free_memory_mib: u64,
    /// The most of it that one host has: no larger guest finds room.
    pub largest_free_mib: u64,
    /// Processors that may still be promised to guests.
    pub free_vcpus: u64,
    /// CPU models that at least one of them can give a guest; empty: not known.
    pub cpu_models: BTreeSet<Arc<str>>,
    /// Site and label texts of hosts (`site=oslo`, `class=gpu`).
    pub classes: BTreeSet<Arc<str>>,
}

/// Another plane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// Its name, as its certificate says.
    pub name: Arc<str>,
    /// May this plane offer guests to it?
    pub sends: bool,
    /// May it offer guests to this plane?
    pub receives: bool,
    /// Guests that may be on their way at a time, in both directions together.
    pub migrations: u32,
    /// Is there a connection?
    pub reachable: bool,
    /// What it last said of itself.
    pub summary: Option<Summary>,
    /// When it said that, by this plane's clock.
    pub summary_at: Timestamp,
}

impl Peer {
    /// So many guests may be on their way at a time, unless the configuration says otherwise.
    pub const MIGRATIONS: u32 = 8;

    /// A peer that nothing is known of yet.
    pub fn new(name: &str, sends: bool, receives: bool) -> Peer {
        let (migrations, summary_at) = (Peer::MIGRATIONS, Timestamp::default());
        Peer { name: name.into(), sends, receives, migrations, reachable: false, summary: None, summary_at }
    }

    /// Its summary, where it is younger than this.
    pub fn fresh(&self, now: Timestamp, age: Span) -> Option<&Summary> {
        self.summary.as_ref().filter(|_| now.since(self.summary_at) <= age)
    }
}
