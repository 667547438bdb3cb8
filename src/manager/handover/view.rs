//! What others may see of migrations and peers: plain data.

use super::{Entry, Machine};
use crate::manager::Manager;
use crate::model::{Action, HostId, MigrationId, Outcome, Peer, Phase, Side, Summary, VmId};
use std::sync::Arc;

/// A migration as this plane has it.
#[derive(Debug, Clone, PartialEq)]
pub struct MigrationView {
    /// Which.
    pub id: MigrationId,
    /// Which end this plane is.
    pub side: Side,
    /// The other end.
    pub peer: Arc<str>,
    /// The guest.
    pub vm: VmId,
    /// Its name.
    pub name: Arc<str>,
    /// The host of this plane that it leaves or comes to.
    pub host: HostId,
    /// While it runs?
    pub live: bool,
    /// The phases it went through, the present one last.
    pub phases: Vec<Phase>,
    /// How it ended, once it has.
    pub outcome: Option<Outcome>,
    /// Why only an admin can decide it, where it is so.
    pub undecided: Option<Arc<str>>,
    /// Bytes that the hypervisor has sent, and in all, as far as known.
    pub sent_bytes: u64,
    /// Bytes in all, as far as known.
    pub total_bytes: u64,
    /// Facts of the guest that wait.
    pub held: usize,
    /// Can it still be cancelled?
    pub is_cancellable: bool,
}

/// A peer as this plane knows it.
pub type PeerView = Peer;

impl Manager {
    fn migration_view(&self, id: &MigrationId, entry: &Entry) -> MigrationView {
        let row = &entry.row;
        let (progress, is_cancellable) = match &entry.machine {
            Machine::Source(machine) => (machine.progress, machine.is_cancellable()),
            Machine::Target(_) => Default::default(),
        };
        MigrationView {
            id: id.clone(),
            side: row.side,
            peer: row.peer.clone(),
            vm: row.vm,
            name: row.name.clone(),
            host: row.host.clone(),
            live: row.live,
            phases: row.phases.clone(),
            outcome: row.outcome.clone(),
            undecided: entry.machine.undecided().map(|reason| reason.text.clone()),
            sent_bytes: progress.sent_bytes,
            total_bytes: progress.total_bytes,
            held: if row.is_held { self.queue.held(&entry.vm()).count() } else { 0 },
            is_cancellable,
        }
    }

    /// How many bytes of management a guest has: what a handover would send of it now.
    pub fn management_bytes(&self, vm: VmId) -> Option<usize> {
        self.bundle(vm, true).ok().map(|bundle| bundle.to_bytes().len())
    }

    /// The migrations of this plane, the oldest first.
    pub fn migrations(&self) -> Vec<MigrationView> {
        let mut views: Vec<MigrationView> =
            self.handovers.entries.iter().map(|(id, entry)| self.migration_view(id, entry)).collect();
        views.sort_by_key(|view| view.phases.first().map(|phase| phase.at));
        views
    }

    /// One migration.
    pub fn migration_named(&self, id: &MigrationId) -> Option<MigrationView> {
        self.handovers.entries.get(id).map(|entry| self.migration_view(id, entry))
    }

    /// The plane that decided this, where it was not this one: the guest has come from there since.
    pub fn decided_elsewhere(&self, action: &Action) -> Option<Arc<str>> {
        let vm = action.proposal.kind.vm()?;
        let rows = self.handovers.entries.of(vm).map(|(_, entry)| &entry.row);
        // Epochs rise from stay to stay, so it was decided in the stay that the first of these ended.
        let ended = rows.filter(|row| row.outcome == Some(Outcome::Moved) && row.epoch >= action.epoch);
        let first = ended.min_by_key(|row| row.epoch)?;
        (first.side == Side::Target).then(|| first.peer.clone())
    }

    /// What this plane has to give, for its peers.
    pub fn summary(&self) -> Summary {
        self.weighed(|planner, situation| planner.summary(situation, &[]))
    }

    /// The other planes, by name.
    pub fn peers(&self) -> Vec<PeerView> {
        self.world.borrow().peers.values().cloned().collect()
    }
}
