//! What leaves the manager once its batch is durable.

use crate::migration::Way;
use crate::migration::order::MigrationOrder;
use crate::model::{Action, ActionId, HostId, MigrationId, Reply, Ticket, VmId};
use std::sync::Arc;

/// What leaves the manager.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Carry this out.
    Dispatch(Box<Action>),
    /// Cancel this, if it still runs.
    Cancel(ActionId),
    /// Answer an admin.
    Reply(Ticket, Reply),
    /// Say this to a peer, if the link is up. What is lost is said again.
    Send {
        /// To which plane.
        peer: Arc<str>,
        /// The message, as it stands on the wire.
        bytes: Arc<[u8]>,
    },
    /// Ask a host of this plane for what a peer must know of a guest that is to go there; answered by
    /// [`crate::model::MigrationInput::Described`].
    Describe {
        /// For which migration.
        migration: MigrationId,
        /// Whom.
        vm: VmId,
        /// Where it is.
        host: HostId,
        /// How it is to go.
        way: Way,
    },
    /// Have a host of this plane do a step of a migration; answered by [`crate::model::MigrationInput::Answer`]. Those about
    /// one guest are carried out one after the other.
    Order(Box<MigrationOrder>),
}
