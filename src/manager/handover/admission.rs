//! A peer offers a guest: the policies of this plane decide, in the same turn.

use super::{Entry, Machine};
use crate::manager::Manager;
use crate::migration::message::{self, Digest, Grants};
use crate::migration::target::Verdict;
use crate::migration::{Reason, ReasonKind, Way};
use crate::model::{
    self, Admission, Answer, ElementId, Event, EventBody, Grant, Level, Mark, MigrationId, OfferedGuest, OfferedModule,
    Proposal, Record, Reservation,
};
use crate::plan::Terms;
use std::collections::BTreeSet;
use std::sync::Arc;

impl Manager {
    /// May this guest come? A verdict that permits has kept room for it.
    pub(super) fn consider(&mut self, id: &MigrationId, entry: &mut Entry) -> Verdict {
        let offer = match &entry.machine {
            Machine::Target(machine) => machine.offer.clone(),
            Machine::Source(_) => None,
        };
        let deny = |text: String| Verdict::Deny(Reason::new(ReasonKind::Denied, text));
        let Some(offer) = offer else { return deny("nothing was offered".to_owned()) };
        if let Some(why) = self.impossible(id, &offer) {
            return deny(why);
        }
        let offered = Arc::new(self.offered(id, &offer));
        let (admission, asked) = self.ask_policies(&offered);
        let plane = self.settings.plane.clone();
        let grant = match admission.verdict {
            model::Verdict::Accept(grant) => grant,
            model::Verdict::Deny { reason } => {
                let reason = match (admission.by.is_empty(), asked) {
                    (true, false) => format!(
                        "no module of plane {plane} answers offers, so none is accepted; its admin can load the shipped one: `embot modules load embots/admit-offers.yaml`"
                    ),
                    _ => reason.to_string(),
                };
                self.notice(
                    Level::Info,
                    format!("migration {id}: guest {} of plane {} is not let in: {reason}", offer.guest.name, offer.from),
                );
                return deny(reason);
            }
        };
        match self.grant(id, entry, &offer, &offered, grant) {
            Ok((grants, lacks)) => {
                self.notice(
                    Level::Info,
                    format!("migration {id}: guest {} of plane {} may come to {}", offer.guest.name, offer.from, grants.host),
                );
                Verdict::Permit { grants: Box::new(grants), lacks }
            }
            Err(why) => deny(why),
        }
    }

    /// What no policy can allow.
    fn impossible(&self, id: &MigrationId, offer: &message::Offer) -> Option<String> {
        let world = self.world.borrow();
        let plane = &self.settings.plane;
        let Some(peer) = world.peers.get(&offer.from).filter(|peer| peer.receives) else {
            return Some(format!("plane {plane} takes no guests of plane {}: its `peers` do not say so", offer.from));
        };
        if let Some(other) = world.arriving.get(&offer.vm).filter(|other| *other != id) {
            return Some(format!("guest {} is on its way already, in migration {other}", offer.guest.name));
        }
        let ours = |mark: &Mark| mark.plane == *plane;
        if world.vm(offer.vm).is_some_and(|vm| vm.mark.as_ref().is_some_and(ours)) {
            return Some(format!("plane {plane} has guest {} already, as its own", offer.guest.name));
        }
        let full = self.weighed(|planner, situation| planner.admits(situation, peer));
        full.err().map(|why| format!("plane {plane} takes no more guests just now: {why}"))
    }

    /// The offer as policies read it, with what this plane finds of its own hosts.
    fn offered(&self, id: &MigrationId, offer: &message::Offer) -> model::Offer {
        let live = offer.way == Way::Live;
        let guest = &offer.guest;
        let devices = guest.passthrough.iter().map(|device| Arc::from(format!("hostdev: {device}"))).collect();
        let guest = OfferedGuest {
            id: offer.vm,
            name: guest.name.clone(),
            epoch: offer.epoch,
            vcpus: guest.vcpus,
            memory_mib: guest.memory_mib,
            cpu_cores: Some(guest.cpu_millicores as f32 / 1_000.0),
            cpu_model: guest.cpu_model.clone(),
            devices,
            networks: guest.networks.iter().map(|network| self.called_here(network)).collect(),
            copy_bytes: guest.disks.iter().filter(|disk| !disk.shared).map(|disk| disk.bytes).sum(),
            labels: guest.labels.clone(),
        };
        let modules: Vec<OfferedModule> = offer.modules.iter().map(|module| self.offered_module(module)).collect();
        let permits: BTreeSet<model::Verb> = offer.modules.iter().flat_map(|module| module.permits.iter().copied()).collect();
        let hosts = self.weighed(|planner, situation| planner.places(situation, &guest, live, &[]));
        model::Offer {
            migration: id.to_string().into(),
            plane: offer.from.clone(),
            reason: offer.why.clone(),
            mode: offer.guest.mode,
            guest,
            modules,
            permits,
            host: offer.host.clone(),
            live,
            hosts,
        }
    }

    /// A network of the source by the name it has here.
    fn called_here(&self, network: &Arc<str>) -> Arc<str> {
        let renamed = self.settings.handover.rewrites.iter().find_map(|rewrite| match rewrite {
            message::Rewrite::Network { from, to } if from == network => Some(to.clone()),
            _ => None,
        });
        renamed.unwrap_or_else(|| network.clone())
    }

    /// Every embot of the plane hears the offer, now; with their answers, whether any handles offers at all.
    fn ask_policies(&mut self, offer: &Arc<model::Offer>) -> (Admission, bool) {
        let seq = self.row.next_event;
        self.row.next_event += 1;
        self.figures.events += 1;
        let event =
            Event { seq, at: self.now, element: ElementId::Plane, to: None, body: EventBody::MigrationOffer(offer.clone()) };
        self.turn.records.push(Record::Event { event: event.clone() });
        let mut wanted: Vec<(Proposal, Arc<Terms>)> = Vec::new();
        let mut answers: Vec<Answer> = Vec::new();
        let steps = self.figures.steps;
        for slot in self.roster.hearers(&ElementId::Plane).to_vec() {
            answers.extend(self.step(slot, &event, &mut wanted));
        }
        let asked = self.figures.steps > steps;
        if !wanted.is_empty() {
            self.decide(wanted);
        }
        (Admission::of(offer, answers), asked)
    }

    /// What is granted, in the words of the exchange; room is kept.
    fn grant(
        &mut self,
        id: &MigrationId,
        entry: &mut Entry,
        offer: &message::Offer,
        offered: &model::Offer,
        grant: Grant,
    ) -> Result<(Grants, BTreeSet<Digest>), String> {
        let settings = &self.settings.handover;
        let host = match grant.host.clone().or_else(|| offered.best_host().cloned()) {
            Some(host) => host,
            None => {
                let obstacles =
                    offered.hosts.iter().filter_map(|place| Some(format!("{}: {}", place.host, place.obstacle.as_ref()?)));
                return Err(format!(
                    "no host of plane {} can take it: {}",
                    self.settings.plane,
                    obstacles.collect::<Vec<_>>().join("; ")
                ));
            }
        };
        let place = offered.hosts.iter().find(|place| place.host == host);
        match place.map(|place| &place.obstacle) {
            None => return Err(format!("plane {} has no host {host}", self.settings.plane)),
            Some(Some(obstacle)) => return Err(format!("{host} cannot take it: {obstacle}")),
            Some(None) => {}
        }
        let Some((hypervisor_uri, migration_uri)) = settings.destinations.get(&host).cloned() else {
            return Err(format!("plane {} does not say how others reach {host}", self.settings.plane));
        };
        let grants = Grants {
            host: host.clone(),
            mode: grant.mode.unwrap_or(offered.mode).min(offered.mode),
            permits: grant.permits.clone().unwrap_or_else(|| offered.permits.clone()),
            lease: settings.lease,
            hypervisor_uri,
            migration_uri,
            rewrites: settings.rewrites.clone(),
        };
        if let Some(refusal) = offered.modules.iter().find_map(|module| module.refusal.clone()) {
            return Err(refusal.to_string());
        }
        let granted = Grant { mode: Some(grants.mode), permits: Some(grants.permits.clone()), host: grant.host };
        let lacks = self.take_modules(entry.row.vm, &offer.modules, &granted)?;
        let cores = offered.guest.cpu_cores.map_or(f64::from(offered.guest.vcpus), f64::from);
        let room = Reservation { host: host.clone(), vcpus: offer.guest.vcpus, memory_mib: offer.guest.memory_mib, cores };
        self.world.borrow_mut().reserved.insert(id.clone(), room.clone());
        entry.row.reservation = Some(room);
        entry.row.host = host;
        entry.row.grant = Some(granted);
        Ok((grants, lacks))
    }
}
