//! An order of a migration, with all that a host needs to carry it out.

use super::Order;
use super::message::Rewrite;
use crate::model::{HostId, Mark, MigrationId, VmId};
use std::sync::Arc;

/// A step of a migration for a host of this plane.
#[derive(Debug, Clone, PartialEq)]
pub struct MigrationOrder {
    /// Of which migration.
    pub migration: MigrationId,
    /// Its number among the orders of that migration.
    pub number: u32,
    /// The guest.
    pub vm: VmId,
    /// The host.
    pub host: HostId,
    /// The mark that the guest carried when it was offered.
    pub offered: Mark,
    /// The mark that it carries from the move on.
    pub coming: Mark,
    /// Its definition at the source, where it may have to be made again.
    pub definition: Arc<str>,
    /// Did its host at the source start it by itself?
    pub autostart: bool,
    /// Are its disks copied?
    pub copies: bool,
    /// Base images that its disks rest on, by path.
    pub bases: Vec<Arc<str>>,
    /// At the target: what of it is called otherwise there. `None`: this is the source, and the definition its own.
    pub rewrites: Option<Vec<Rewrite>>,
    /// What to do.
    pub order: Order,
}
