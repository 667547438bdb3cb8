//! What two planes say to each other about one migration.
//!
//! On the wire a message is one byte of version, then postcard: [`encode`] and [`decode`]. What comes from a peer is hostile
//! until shown otherwise: `decode` refuses what is too long, too many, of an unknown version or followed by anything, and never
//! panics. Payloads are opaque here; `bundle` knows what is in them.

#[cfg(test)]
mod tests;

use super::{MigrationId, Reason, ResumeBy, Way};
use crate::model::{HostId, Mode, Span, Verb, VmId, VmState};
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// The version this program writes, and the only one it reads.
pub const VERSION: u8 = 1;
/// A message's bytes, at most.
pub const MESSAGE_BYTES: usize = 16 << 20;
/// A payload's bytes, at most.
pub const PAYLOAD_BYTES: usize = 15 << 20;
/// A description's (domain XML) bytes, at most.
pub const DESCRIPTION_BYTES: usize = 1 << 20;
/// The bytes of a module's listing, at most.
pub const LISTING_BYTES: usize = 64 << 10;
/// Any other text's bytes, at most.
pub const TEXT_BYTES: usize = 4 << 10;
/// Entries of a list, at most.
pub const ENTRIES: usize = 1_000;

/// A message and what it is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Envelope {
    /// Which migration.
    pub id: MigrationId,
    /// What is said.
    pub message: Message,
}

/// What is said. The table in the module's page tells who says it when.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Message {
    // From the source.
    /// *StartMigration*: will you take this guest?
    Offer(Box<Offer>),
    /// *ModuleParcel*: the modules that were asked for.
    Parcel(Payload),
    /// *ManagementState*: elements, dependents, embots, their state, usage history.
    State(Payload),
    /// *ManagementEventState*: the facts on hold, in order, with their numbers.
    Events(Payload),
    /// *DirtyState*: what has changed since the round before, and the facts since.
    Dirty(Round),
    /// *MigrationComplete*: the guest is yours.
    Complete {
        /// The target's epoch.
        epoch: u64,
        /// How many dirty rounds there were, the last included.
        rounds: u32,
    },
    /// Facts that reached the source after the last round.
    Late(LateFacts),
    /// The source gives it up.
    Abort {
        /// The source's epoch from now on.
        epoch: u64,
        /// Why.
        reason: Reason,
        /// Does it ask, and manages the guest on only when this is on record? (Else it does so already.)
        asks: bool,
    },
    // From the target.
    /// *MigrationPermitted*: yes, and how. All modules that were named are here.
    Permitted(Box<Grants>),
    /// *MigrationDenied*.
    Denied(Reason),
    /// *ModuleRequest*: modules it lacks, by hash; whatever those import is asked for when they were read.
    ModuleRequest(BTreeSet<Digest>),
    /// *ManagementStateSuccess*.
    StateAccepted,
    /// *ManagementStateFailed*, *ManagedObjectInstantiationError*: the target has given it up.
    StateFailed(Reason),
    /// The facts are accepted. From here on the target gives up only by the source's word.
    EventsAccepted,
    /// The target has given it up.
    EventsFailed(Reason),
    /// *MigrationStateSuccess*: this round and all before are in.
    DirtyAccepted(u32),
    /// This round could not be read; all before are in.
    DirtyFailed(u32, Reason),
    /// The target owns the guest, durably.
    CompleteAck {
        /// Under this epoch.
        epoch: u64,
        /// With the dirty rounds up to this one.
        rounds: u32,
    },
    /// It cannot commit now; it stays bound.
    CompleteFailed(Reason),
    /// These and all before are in.
    LateAck(u32),
    /// It is on record as given up: no `Complete` of this attempt will ever be accepted.
    Aborted(Reason),
    // From both.
    /// What does your record say?
    Inquire,
    /// This is what it says.
    Status(Record),
}

/// One dirty round.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Round {
    /// Its number, from 1.
    pub round: u32,
    /// Is it the last?
    pub last: bool,
    /// What is in it.
    pub payload: Payload,
}

/// Facts that came late.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LateFacts {
    /// The number of this lot, from 1.
    pub lot: u32,
    /// What is in it.
    pub payload: Payload,
}

/// What a plane's record says of a migration.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Record {
    /// There is none.
    Unknown,
    /// The source works on it; its phase, for people.
    Underway(Arc<str>),
    /// The source, or the target's host, cannot be asked what became of the guest.
    Undecided(Reason),
    /// The target considers it, or waits for more; not bound.
    Open,
    /// The target is bound.
    Bound {
        /// Does its copy run, so that it can no longer be given up? (Only where the hypervisor resumes it.)
        running: bool,
    },
    /// The target owns the guest.
    Committed {
        /// Under this epoch.
        epoch: u64,
        /// With the dirty rounds up to this one.
        rounds: u32,
    },
    /// It was given up, or denied.
    Aborted(Reason),
    /// The source has seen the commit.
    Retired,
}

/// The guest on offer, and what goes with it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Offer {
    /// Which guest.
    pub vm: VmId,
    /// The source's epoch.
    pub epoch: u64,
    /// The source plane.
    pub from: Arc<str>,
    /// The target plane.
    pub to: Arc<str>,
    /// The host that is wished for there.
    pub host: Option<HostId>,
    /// How it is to move.
    pub way: Way,
    /// Who is to resume it.
    pub resume: ResumeBy,
    /// Why it is offered.
    pub why: Arc<str>,
    /// What it is.
    pub guest: GuestOffer,
    /// The modules that go with it.
    pub modules: Vec<ModuleOffer>,
}

impl Offer {
    /// Is it to go cold, and runs: must it be shut down before it goes, and started again after?
    pub fn stops(&self) -> bool {
        self.way == Way::Cold && self.guest.state == VmState::Running
    }
}

/// What a guest is and needs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GuestOffer {
    /// Its name.
    pub name: Arc<str>,
    /// What it does.
    pub state: VmState,
    /// Processors.
    pub vcpus: u32,
    /// Most memory, in MiB.
    pub memory_mib: u64,
    /// The load it brings along, in thousandths of a core; of one that nothing is known of, all its processors.
    pub cpu_millicores: u32,
    /// Labels.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// How far the source goes with it.
    pub mode: Mode,
    /// Its processors' model, as the hypervisor names it; empty where unknown.
    pub cpu_model: Arc<str>,
    /// The machine type; empty where unknown.
    pub machine: Arc<str>,
    /// Devices passed through from its host, if any: such a guest cannot move live.
    pub passthrough: Vec<Arc<str>>,
    /// Its disks.
    pub disks: Vec<DiskOffer>,
    /// Base images that its disks rest on, by path. They do not come along, and are looked for under the same path.
    pub bases: Vec<Arc<str>>,
    /// Bridges and networks its cards hang on, by their names at the source.
    pub networks: Vec<Arc<str>>,
    /// Does its host start it by itself?
    pub autostart: bool,
    /// Its description (domain XML), with what the hypervisor needs to define it.
    pub description: Arc<str>,
}

impl GuestOffer {
    /// Are its disks copied, because the target's hosts cannot reach them?
    pub fn copies(&self) -> bool {
        self.disks.iter().any(|disk| !disk.shared)
    }
}

/// A disk on offer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DiskOffer {
    /// Its target in the guest (`vda`).
    pub target: Arc<str>,
    /// File, device or volume at the source.
    pub path: Arc<str>,
    /// Its size, in bytes.
    pub bytes: u64,
    /// Can the target's hosts reach it under a path?
    pub shared: bool,
}

/// A module on offer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ModuleOffer {
    /// Its name.
    pub name: Arc<str>,
    /// The hash of its package: of `sealed`.
    pub hash: Digest,
    /// The package's listing with its signature, so that the target can say at once whether it would take it.
    pub sealed: Payload,
    /// Its mode at the source.
    pub mode: Mode,
    /// What it may propose at the source.
    pub permits: BTreeSet<Verb>,
}

/// What the target grants.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Grants {
    /// The host that takes the guest.
    pub host: HostId,
    /// How far the target's plane will go with it.
    pub mode: Mode,
    /// What the modules that come with it may propose there.
    pub permits: BTreeSet<Verb>,
    /// For how long room is reserved, unless the move begins.
    pub lease: Span,
    /// How the source's host reaches the target's hypervisor (`qemu+tls://b-1/system`).
    pub hypervisor_uri: Arc<str>,
    /// Where the guest's memory is sent to; empty: the hypervisor chooses.
    pub migration_uri: Arc<str>,
    /// What changes in its description.
    pub rewrites: Vec<Rewrite>,
}

/// One change of a guest's description.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Rewrite {
    /// A bridge or network has another name.
    Network {
        /// At the source.
        from: Arc<str>,
        /// At the target.
        to: Arc<str>,
    },
    /// Consoles listen at another address.
    Listen {
        /// At the source.
        from: Arc<str>,
        /// At the target.
        to: Arc<str>,
    },
    /// A file (disk, firmware's variables, kernel) or a folder of them lies elsewhere.
    File {
        /// At the source.
        from: Arc<str>,
        /// At the target.
        to: Arc<str>,
    },
}

/// SHA-256 of a package.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Bytes that only their makers and readers understand. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Payload(pub Arc<[u8]>);

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Payload {
        Payload(bytes.into())
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Payload, D::Error> {
        struct Bytes;
        impl<'de> Visitor<'de> for Bytes {
            type Value = Payload;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Payload, E> {
                Ok(Payload(bytes.into()))
            }

            // JSON has no bytes: there they are a list of numbers.
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Payload, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = list.next_element()? {
                    if bytes.len() == PAYLOAD_BYTES {
                        return Err(A::Error::custom("a payload is too long"));
                    }
                    bytes.push(byte);
                }
                Ok(bytes.into())
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

impl Grants {
    /// A URI by which libvirt would start a program where it is opened: no peer may choose one for this plane.
    pub fn starting_a_program(&self) -> Option<&str> {
        [&*self.hypervisor_uri, &*self.migration_uri].into_iter().find(|uri| {
            let uri = uri.to_ascii_lowercase();
            let (address, query) = uri.split_once('?').unwrap_or((&uri, ""));
            let scheme = address.split(':').next().unwrap_or_default();
            let mut keys = query.split(['&', ';']).map(|pair| pair.split('=').next().unwrap_or_default());
            scheme.ends_with("+ext") || keys.any(|key| matches!(key, "command" | "netcat") || key.contains('%'))
        })
    }
}

/// Why bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Of another version.
    #[error("a message of version {0}; this plane speaks version {VERSION}: bring both planes to the same release")]
    Version(u8),
    /// Nothing is there.
    #[error("an empty message")]
    Empty,
    /// Too much of something.
    #[error("a message with {what} of {size}; at most {limit} are taken")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How much.
        size: usize,
        /// How much is taken.
        limit: usize,
    },
    /// The bytes make no sense.
    #[error("a message that cannot be read: {0}")]
    Damaged(String),
}

/// A message's bytes. Fails on what a peer would refuse, too.
pub fn encode(envelope: &Envelope) -> Result<Vec<u8>, MessageError> {
    check(envelope)?;
    let bytes = postcard::to_extend(envelope, vec![VERSION]).map_err(|error| MessageError::Damaged(error.to_string()))?;
    within("bytes", bytes.len(), MESSAGE_BYTES)?;
    Ok(bytes)
}

/// The message of these bytes.
pub fn decode(bytes: &[u8]) -> Result<Envelope, MessageError> {
    within("bytes", bytes.len(), MESSAGE_BYTES)?;
    let (version, rest) = bytes.split_first().ok_or(MessageError::Empty)?;
    if *version != VERSION {
        return Err(MessageError::Version(*version));
    }
    let (envelope, rest) = postcard::take_from_bytes(rest).map_err(|error| MessageError::Damaged(error.to_string()))?;
    if !rest.is_empty() {
        return Err(MessageError::Damaged(format!("{} bytes too many", rest.len())));
    }
    check(&envelope)?;
    Ok(envelope)
}

fn within(what: &'static str, size: usize, limit: usize) -> Result<(), MessageError> {
    if size <= limit { Ok(()) } else { Err(MessageError::TooLarge { what, size, limit }) }
}

fn text(text: &str) -> Result<(), MessageError> {
    within("a text", text.len(), TEXT_BYTES)
}

fn entries(count: usize) -> Result<(), MessageError> {
    within("a list", count, ENTRIES)
}

fn payload(payload: &Payload) -> Result<(), MessageError> {
    within("a payload", payload.0.len(), PAYLOAD_BYTES)
}

/// Is everything within its bounds?
fn check(envelope: &Envelope) -> Result<(), MessageError> {
    text(&envelope.id.plane)?;
    match &envelope.message {
        Message::Offer(offer) => check_offer(offer),
        Message::Permitted(grants) => check_grants(grants),
        Message::Parcel(bytes) | Message::State(bytes) | Message::Events(bytes) => payload(bytes),
        Message::Dirty(round) => payload(&round.payload),
        Message::Late(late) => payload(&late.payload),
        Message::ModuleRequest(hashes) => entries(hashes.len()),
        Message::Abort { reason, .. }
        | Message::Denied(reason)
        | Message::StateFailed(reason)
        | Message::EventsFailed(reason)
        | Message::DirtyFailed(_, reason)
        | Message::CompleteFailed(reason)
        | Message::Aborted(reason)
        | Message::Status(Record::Undecided(reason) | Record::Aborted(reason)) => text(&reason.text),
        Message::Status(Record::Underway(phase)) => text(phase),
        Message::StateAccepted
        | Message::EventsAccepted
        | Message::DirtyAccepted(_)
        | Message::Complete { .. }
        | Message::CompleteAck { .. }
        | Message::LateAck(_)
        | Message::Inquire
        | Message::Status(_) => Ok(()),
    }
}

fn check_offer(offer: &Offer) -> Result<(), MessageError> {
    let Offer { from, to, host, why, guest, modules, .. } = offer;
    within("a description", guest.description.len(), DESCRIPTION_BYTES)?;
    for count in
        [guest.labels.len(), guest.passthrough.len(), guest.disks.len(), guest.bases.len(), guest.networks.len(), modules.len()]
    {
        entries(count)?;
    }
    let texts = [from, to, why, &guest.name, &guest.cpu_model, &guest.machine].into_iter();
    let texts = texts.chain(host.iter().map(|host| &host.0)).chain(guest.labels.iter().flat_map(|(key, value)| [key, value]));
    let texts = texts.chain(&guest.passthrough).chain(&guest.bases).chain(&guest.networks);
    let texts = texts.chain(modules.iter().map(|module| &module.name));
    let mut texts = texts.chain(guest.disks.iter().flat_map(|disk| [&disk.target, &disk.path]));
    texts.try_for_each(|each| text(each))?;
    modules.iter().try_for_each(|module| within("a module's listing", module.sealed.0.len(), LISTING_BYTES))
}

fn check_grants(grants: &Grants) -> Result<(), MessageError> {
    let Grants { host, hypervisor_uri, migration_uri, rewrites, .. } = grants;
    entries(rewrites.len())?;
    let pairs = rewrites.iter().flat_map(|rewrite| match rewrite {
        Rewrite::Network { from, to } | Rewrite::Listen { from, to } | Rewrite::File { from, to } => [from, to],
    });
    [&host.0, hypervisor_uri, migration_uri].into_iter().chain(pairs).try_for_each(|each| text(each))
}
