//! What one plane handed over to another, by the journals of both: which guests went, and which facts went with them.

use crate::account::Account;
use embot::migration::bundle::{Changes, Waiting};
use embot::migration::message::{self, Message, Payload, Record};
use embot::model::{MigrationId, MigrationInput, VmId};
use std::collections::{BTreeMap, BTreeSet};

/// What a journal tells of migrations.
#[derive(Default)]
pub struct Handed {
    /// Migrations of this plane that the other one has committed, as it was told.
    pub moved: BTreeSet<MigrationId>,
    /// Facts that the other plane has taken over, by their numbers here.
    pub sent: BTreeSet<u64>,
    /// Guests that were offered to this plane.
    offered: BTreeMap<MigrationId, VmId>,
    /// Facts that came for them, by their numbers at the other plane.
    brought: BTreeMap<MigrationId, BTreeSet<u64>>,
}

impl Handed {
    /// Takes what a peer said into account.
    pub fn hear(&mut self, own: &str, input: &MigrationInput) {
        let MigrationInput::Message { bytes, .. } = input else { return };
        let said = message::decode(&bytes.0).expect("a message that the link let through");
        match said.message {
            Message::Offer(offer) => drop(self.offered.insert(said.id, offer.vm)),
            Message::Events(facts) => self.bring(said.id, |vm| Waiting::from_bytes(&facts.0, vm)),
            Message::Late(late) => self.bring(said.id, |vm| Waiting::from_bytes(&late.payload.0, vm)),
            Message::Dirty(round) => self.bring(said.id, |vm| {
                let Payload(bytes) = &round.payload;
                Waiting::from_bytes(&Changes::from_bytes(bytes, vm)?.events, vm)
            }),
            Message::CompleteAck { .. } | Message::Status(Record::Committed { .. }) if *said.id.plane == *own => {
                self.moved.insert(said.id);
            }
            _ => {}
        }
    }

    fn bring<E: std::fmt::Debug>(&mut self, id: MigrationId, read: impl Fn(VmId) -> Result<Waiting, E>) {
        // Of a migration that was forgotten here, whoever sent it is told so.
        let Some(vm) = self.offered.get(&id) else { return };
        let facts = read(*vm).expect("facts that can be read");
        self.brought.entry(id).or_default().extend(facts.events.iter().map(|event| event.seq));
    }
}

/// What went from each plane to the others.
pub fn hand_over(accounts: &mut [Account]) {
    for source in 0..accounts.len() {
        let moved = &accounts[source].handed.moved;
        let brought = accounts.iter().flat_map(|account| &account.handed.brought);
        let sent = brought.filter(|(id, _)| moved.contains(id)).flat_map(|(_, facts)| facts).copied().collect();
        accounts[source].handed.sent = sent;
    }
}
