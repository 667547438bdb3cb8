//! The one door to guests.
//!
//! A [`Hypervisor`] is a connection to one host. It states what is (reports, notices) and carries out orders; it decides
//! nothing. All implementations pass the same contract suite, `tests/hypervisor`. To add one: implement the trait,
//! name its URI scheme in [`Registry::open`], and add it to the suite.
//!
//! Every call may block; callers use threads that may wait (one poller and a few workers a host).

mod adjusted;
mod domain_xml;
mod handover;
pub mod libvirt;
mod registry;
pub mod simulated;

pub use adjusted::Adjusted;
pub use domain_xml::{DiskFile, Portrait, Rewriting, backing_files, import, portrait, rewrite, with_note};
use handover::{Busy, Found, SAVED, Verdict, judge};
pub use handover::{Definition, Handover, HandoverStep, Seal, Transfer};
pub use registry::{BEHIND_SOCKET, EMBEDDED, Registry};

use crate::model::{
    Abilities, ActionId, ActionKind, HostId, HostReport, Mark, Notice, Progress, Sighting, Span, Timestamp, VmId, VmState,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Where a migration goes, as the source's hypervisor must address it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// The host's name in the plane.
    pub host: HostId,
    /// The URI under which the source host's hypervisor reaches it.
    pub uri: Arc<str>,
    /// The address for the memory stream (`tcp://10.0.0.2`), where it differs from what the hypervisor would choose.
    pub migration_uri: Option<Arc<str>>,
}

/// How a migration may behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MigrationLimits {
    /// At most so many MiB a second. (libvirt's streams of a cold copy are not slowed.)
    pub bandwidth_mib_per_s: Option<u64>,
    /// The pause at the end may last so long.
    pub max_downtime: Option<Span>,
    /// Cancelled when it lasts longer.
    pub timeout: Option<Span>,
    /// Slow the guest down where it dirties memory faster than it can be sent.
    pub auto_converge: bool,
    /// Send memory pages compressed: pays where the link is slower than a processor.
    pub compression: bool,
    /// Disks are not shared: copy them along (live, with the guest's writes mirrored meanwhile).
    pub copy_storage: bool,
    /// Encrypt what goes from host to host; the hosts' QEMU needs certificates for that (`default_tls_x509_cert_dir` in
    /// `qemu.conf`).
    pub tls: bool,
}

/// What an effector asks of a hypervisor: an action with all it takes to carry it out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// The action's number: the hypervisor's log of effects names it.
    pub action: ActionId,
    /// What to do.
    pub kind: ActionKind,
    /// The plane that asks.
    pub plane: Arc<str>,
    /// The epoch it was decided under: an effector refuses a guest whose mark names another plane or another epoch.
    pub epoch: u64,
    /// The state the guest must be in, still.
    pub expects: Option<VmState>,
    /// For a migration: where to.
    pub destination: Option<Destination>,
    /// For a migration: how.
    pub limits: MigrationLimits,
}

/// What became of an order that was under way when the daemon died.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// What it wanted is so.
    Done,
    /// It is not so; what is.
    NotDone(String),
}

/// Whoever waits for an order: hears of progress, may have changed their mind.
pub trait Watch: Send + Sync {
    /// How far it is.
    fn progress(&self, progress: Progress);

    /// Has the wish been withdrawn?
    fn is_cancelled(&self) -> bool;
}

/// Takes notices; must not block.
pub type NoticeSink = Arc<dyn Fn(Notice) + Send + Sync>;

/// A connection to one host.
pub trait Hypervisor: Send + Sync {
    /// Everything the host says of itself and its guests. Connects again first, where the connection was lost; the first
    /// report after that carries every guest's description.
    fn report(&self, asked_at: Timestamp) -> Result<HostReport, HypervisorError>;

    /// What the host can give guests beside room, as far as it tells.
    fn abilities(&self) -> Result<Abilities, HypervisorError> {
        Ok(Abilities::default())
    }

    /// From now on, tells `sink` what happens between reports; also after a reconnect.
    fn subscribe(&self, sink: NoticeSink);

    /// The mark in a guest's metadata, read anew.
    fn mark(&self, vm: VmId) -> Result<Option<Mark>, HypervisorError>;

    /// Carries an order out, and returns when it is done, has failed or was cancelled. Checks mark, epoch and expected state
    /// first, at the last moment. A failed or cancelled migration leaves the guest where it was.
    fn execute(&self, order: &Order, watch: &dyn Watch) -> Result<(), HypervisorError>;

    /// Finds out what became of an order that was under way when the daemon died; where the hypervisor still works on it,
    /// waits for its end. Starts nothing.
    fn recover(&self, order: &Order, watch: &dyn Watch) -> Result<Fate, HypervisorError>;

    // A hypervisor that knows no handovers says so: its guests then cannot leave the plane, and everything else is as ever.

    /// Looks at one guest, anew; `None`: this host does not know it. An error of kind [`ErrorKind::Unreachable`] says that
    /// nobody can tell now.
    fn look(&self, _vm: VmId) -> Result<Option<Sighting>, HypervisorError> {
        Err(without_handovers())
    }

    /// A guest's definition, as another plane's host can be given it.
    fn definition(&self, _vm: VmId) -> Result<Definition, HypervisorError> {
        Err(without_handovers())
    }

    /// Carries out one step of a handover, and returns when it is done, has failed or was cancelled; see [`Handover`] for what
    /// each step checks and promises. A step that was done before is done: repeating one changes nothing.
    fn hand_over(&self, _handover: &Handover, _watch: &dyn Watch) -> Result<(), HypervisorError> {
        Err(without_handovers())
    }
}

fn without_handovers() -> HypervisorError {
    HypervisorError::new(ErrorKind::Unsupported, "this hypervisor cannot hand guests over to another plane")
}

/// Why a hypervisor did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{what}")]
pub struct HypervisorError {
    /// What sort of failure, for those who react to it.
    pub kind: ErrorKind,
    /// What failed, on what, and the hypervisor's own words.
    pub what: String,
}

/// Sorts of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The host does not answer.
    Unreachable,
    /// There is no such guest there.
    NotFound,
    /// The guest belongs to another plane, or to a newer epoch, or to nobody.
    NotOwner,
    /// The guest is not in the expected state.
    Precondition,
    /// It was cancelled on request.
    Cancelled,
    /// It took too long.
    TimedOut,
    /// This hypervisor cannot do that.
    Unsupported,
    /// The hypervisor refused or failed.
    Failed,
}

impl HypervisorError {
    /// An error of this kind.
    pub fn new(kind: ErrorKind, what: impl Into<String>) -> HypervisorError {
        HypervisorError { kind, what: what.into() }
    }
}
