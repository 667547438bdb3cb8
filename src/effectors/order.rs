//! From an action to what a hypervisor is asked, and how long its answer may take.

use crate::hypervisor::{Destination, MigrationLimits, Order};
use crate::model::{Action, ActionKind, HostId, Span};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What an order needs beyond its action; from the plane's configuration.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// The plane's name.
    pub plane: Arc<str>,
    /// How each host is reached from the others.
    pub destinations: BTreeMap<HostId, Destination>,
    /// How migrations may behave.
    pub migration: MigrationLimits,
}

impl Catalog {
    /// The order for an action. A destination that is not in the catalogue stays empty; the hypervisor refuses it.
    pub fn order(&self, action: &Action) -> Order {
        let kind = action.proposal.kind.clone();
        let target = match &kind {
            ActionKind::Migrate { to, .. } => to.as_ref(),
            _ => None,
        };
        Order {
            action: action.id,
            plane: self.plane.clone(),
            epoch: action.epoch,
            expects: action.expects,
            destination: target.and_then(|host| self.destinations.get(host)).cloned(),
            limits: self.migration,
            kind,
        }
    }
}

/// How long to wait for a hypervisor before its silence counts as a failure. Waiting for a free worker counts the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Without a sign of life: its start, or progress.
    pub silence: Span,
    /// In all, however lively it is.
    pub total: Option<Span>,
}

/// For what a hypervisor does at once, or soon.
const SILENCE: Span = Span::minutes(5);
/// For what moves a guest's memory to or from a disk, perhaps without telling how far it is.
const SILENCE_ON_DISK: Span = Span::minutes(30);
/// What a hypervisor gets to end a migration by itself that has run out of its own limit.
const MARGIN: Span = Span::minutes(1);

impl Patience {
    /// The patience with an order. A long migration is not cut short while it tells of progress, unless the plane's limits
    /// say so.
    pub fn of(kind: &ActionKind, limits: MigrationLimits) -> Patience {
        let plus = |span: Span, more: Span| Span(span.0.saturating_add(more.0));
        match kind {
            ActionKind::Migrate { .. } => {
                Patience { silence: SILENCE, total: limits.timeout.map(|timeout| plus(timeout, MARGIN)) }
            }
            ActionKind::Shutdown { force_after, .. } => {
                Patience { silence: plus(force_after.unwrap_or(SILENCE), SILENCE), total: None }
            }
            ActionKind::Save { .. } | ActionKind::Restore { .. } => Patience { silence: SILENCE_ON_DISK, total: None },
            _ => Patience { silence: SILENCE, total: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::VmId;

    #[test]
    fn patience_follows_what_the_admin_set() {
        let vm = VmId(uuid::Uuid::nil());
        let limits = MigrationLimits { timeout: Some(Span::minutes(10)), ..MigrationLimits::default() };
        let migrate = ActionKind::Migrate { vm, to: None, live: true };
        assert_eq!(Patience::of(&migrate, limits).total, Some(Span::minutes(11)));
        assert_eq!(Patience::of(&migrate, MigrationLimits::default()).total, None);
        let shutdown = ActionKind::Shutdown { vm, force_after: Some(Span::minutes(20)) };
        assert_eq!(Patience::of(&shutdown, limits).silence, Span::minutes(25));
        let forever = ActionKind::Shutdown { vm, force_after: Some(Span(u64::MAX)) };
        assert_eq!(Patience::of(&forever, limits).silence, Span(u64::MAX));
    }
}
