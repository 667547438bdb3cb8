//! What a plane asks of its own host while a VM moves to another plane.
//!
//! A handover is no policy's action: its steps are wanted by the machines of `migration`, on either side, and may be wanted
//! again after a crash. So each step may be repeated, and says `Ok` when what it wants is so already.
//!
//! ```text
//! source                                            target
//! Mark{sealed}   nobody but this handover acts
//! Move ---- p2p: memory, definition, mark --------> copy, paused for a move, sealed, defined
//! (gone)                                            Mark{sealed: false} (its own, after its commit), Resume
//!   | failed, cancelled: still here                 Remove: the paused copy goes
//! Mark{sealed: false}, Resume
//!
//! cold (the guest is off):
//! Mark{sealed}                                      Define: off, sealed
//! Copy ---- disks, with checksums ----------------> files
//! Remove: definition goes                           Mark{sealed: false}
//! ```
//! **The seal** is the handover's id in the guest's own metadata, beside the mark of owner and epoch, and travels with it. While
//! it is there, ordinary orders of either plane are refused, and so are steps of any other handover: a step that comes late,
//! from an attempt that was given up, finds another seal or none and does nothing.
//!
//! Nothing here decides. Whether a move that ended is *moved*, *aborted* or *undecided* is found by looking at both hosts.

use super::{Destination, MigrationLimits, Rewriting};
use crate::model::{Mark, VmId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One step, wanted by one plane of its own host.
///
/// Before it acts, at the last moment, the host reads the guest's mark and seal: the mark must be `mark` and the seal that of
/// this handover; else it refuses as [`super::ErrorKind::NotOwner`]. (A `Mark` that seals finds no seal yet.)
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Handover {
    /// The handover's id, such as `site-a/41`.
    pub id: Arc<str>,
    /// The plane that asks: the log of effects names it.
    pub plane: Arc<str>,
    /// Whom it concerns.
    pub vm: VmId,
    /// The mark that the guest must carry now.
    pub mark: Mark,
    /// What to do.
    pub step: HandoverStep,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HandoverStep {
    /// Write a mark, into what runs and what will be started next, and seal the guest or take the seal away. Done where the
    /// guest carries both already. Not possible while libvirt moves the guest.
    Mark {
        /// The new mark; may be the same.
        becomes: Mark,
        /// Seal it for this handover; else: take this handover's seal away.
        sealed: bool,
    },
    /// Define the guest, off, with `Handover::mark` and the seal. Refused where it is known already, unless by this very step.
    /// The XML comes from another plane: it may reach no file or device of this host that `rewriting` does not name.
    Define {
        /// Its definition at the source.
        xml: Arc<str>,
        /// What is called otherwise here.
        rewriting: Rewriting,
    },
    /// Move the guest, which runs or is paused, to another plane's host. Where such a move of it runs already, waits for that.
    ///
    /// `Ok`: this host knows it no more. Any error: it may still be here, or not; look, and look there. Cancelling is tried as
    /// long as memory is under way, and says [`super::ErrorKind::Cancelled`] where it succeeded.
    Move(Box<Transfer>),
    /// Copy the files of a guest that is off to another plane's host, which knows it by `Define`; verify each by its SHA-256.
    Copy(Box<Transfer>),
    /// Let a guest run that is paused for the move, and take the seal away. A guest that is off stays off. This is also how a
    /// source takes back what a move that failed left paused. Refused while a move of it is under way.
    Resume,
    /// Take the guest away: at the target the copy that nobody will use, at the source what is left after the commit. Refused
    /// if it runs, or is paused otherwise than for the move. Its files stay, also those for firmware variables.
    Remove,
}

/// Who lets the guest run at the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResumedBy {
    /// The target's manager, after its commit: whatever breaks, the guest runs once.
    #[default]
    ByManager,
    /// The hypervisor, at once: a shorter pause. Where the link breaks in the last moment it may run on both hosts, so only where
    /// its disks are locked.
    ByHypervisor,
}

/// Where to, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transfer {
    /// The other plane's host. For `Move`, addresses as the *source host* reaches them; for `Copy`, as this *daemon* does.
    pub destination: Destination,
    /// How fast, how long, with which means.
    pub limits: MigrationLimits,
    /// Who lets it run there.
    pub resume: ResumedBy,
    /// What is called otherwise there: paths of files, bridges, addresses.
    pub rewriting: Rewriting,
}

/// A guest's definition, as it can be given to another host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// The domain's XML, as it will be when it is started next; without what belongs to this host's running copy. May contain
    /// secrets (passwords of consoles): it is meant for the record and the peer, not for logs. [`super::portrait`] reads it.
    pub xml: Arc<str>,
    /// Sizes of its disks in bytes, by target (`vda`), as far as the host tells.
    pub disk_bytes: Vec<(Arc<str>, u64)>,
}

impl HandoverStep {
    /// Its name in the log of effects.
    pub fn name(&self) -> &'static str {
        match self {
            HandoverStep::Mark { sealed: true, .. } => "seal",
            HandoverStep::Mark { sealed: false, .. } => "unseal",
            HandoverStep::Define { .. } => "define",
            HandoverStep::Move(_) => "move",
            HandoverStep::Copy(_) => "copy",
            HandoverStep::Resume => "resume",
            HandoverStep::Remove => "remove",
        }
    }

    /// Where it takes the guest or its files, if it does.
    pub fn transfer(&self) -> Option<&Transfer> {
        match self {
            HandoverStep::Move(transfer) | HandoverStep::Copy(transfer) => Some(transfer),
            _ => None,
        }
    }
}
