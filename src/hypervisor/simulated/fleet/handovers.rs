//! Steps of handovers: the same checks as on libvirt, at the last moment, and the same answer when a step is repeated.
//!
//! In a fleet that two planes share a guest may be known to two hosts at once. The one it was on keeps the [`Guest`], the other
//! has a [`Copied`]; when the first lets go, the copy becomes the guest.

use super::machine::Copied;
use super::orders::{JobId, OrderState, Run, Stage, error};
use super::*;
use crate::hypervisor::{
    Busy, Definition, ErrorKind, Found, Handover, HandoverStep, HypervisorError, MigrationLimits, Order, Seal, Transfer,
    Verdict, import, judge, rewrite,
};
use crate::model::{ActionId, ActionKind, Description, Progress, Sighting};
use serde::{Deserialize, Serialize};

/// What became of a step that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Begun {
    /// It is done.
    Done,
    /// It takes its time: [`Fleet::poll`] tells.
    Job(JobId),
}

impl Fleet {
    /// A guest as one host has it.
    fn found(&self, host: &HostId, vm: VmId, id: Option<&JobId>) -> Option<Found> {
        let machine = self.hosts.get(host)?;
        if let Some(copy) = self.copies.get(&(vm, host.clone())) {
            let Copied { state, reason, description, seal, .. } = copy.clone();
            let Description { name, mark, .. } = description;
            return Some(Found { name, state, reason, mark, seal, job: Busy::No });
        }
        let guest = self.guests.get(&vm)?;
        let Description { name, mark, .. } = guest.description.clone();
        let seal = guest.seal.clone();
        if machine.incoming.contains_key(&vm) {
            return Some(Found { name, state: VmState::Paused, reason: Reason::Migration, mark, seal, job: Busy::Arriving });
        }
        let job = match &guest.work {
            None => Busy::No,
            work if work.as_ref() == id => Busy::Ours,
            Some(_) => Busy::Other,
        };
        machine.guests.contains(&vm).then_some(Found { name, state: guest.state, reason: guest.reason, mark, seal, job })
    }

    /// What a host says of one guest.
    pub fn look(&self, host: &HostId, vm: VmId) -> Result<Option<Sighting>, HypervisorError> {
        self.answers(host)?;
        let Some(found) = self.found(host, vm, None) else { return Ok(None) };
        let arriving = self.hosts.get(host).and_then(|machine| machine.incoming.get(&vm)).map(|(job, _)| job);
        let leaving = self.guests.get(&vm).filter(|guest| guest.host == *host).and_then(|guest| guest.work.as_ref());
        let job = arriving.or(leaving).and_then(|job| match &self.orders.get(job)?.stage {
            // The target does not know how much there is to come.
            Stage::Migrating(_) if arriving.is_some() => Some(Progress::default()),
            Stage::Migrating(migration) => Some(migration.progress(self.now)),
            _ => None,
        });
        let standing = found.standing();
        Ok(Some(Sighting { standing, mark: found.mark, sealed: found.seal.map(|seal| seal.handover), job }))
    }

    /// A guest's definition.
    pub fn definition(&self, host: &HostId, vm: VmId) -> Result<Definition, HypervisorError> {
        self.answers(host)?;
        let guest = self.guests.get(&vm).filter(|guest| guest.host == *host);
        let guest = guest.ok_or_else(|| error(ErrorKind::NotFound, format!("no guest {vm} on host {host}")))?;
        let disk = guest.description.disks.first().map(|disk| (disk.clone(), guest.disk_mib << 20));
        let Description { persistent, autostart, .. } = guest.description;
        let (xml, disk_bytes) = (definition::write(guest).into(), disk.into_iter().collect());
        Ok(Definition { xml, disk_bytes, bases: Vec::new(), persistent, autostart: autostart || guest.autostart_after })
    }

    /// Carries out a step, or begins it. An error means that nothing was done.
    pub fn hand_over(&mut self, host: &HostId, handover: &Handover, now: Timestamp) -> Result<Begun, HypervisorError> {
        self.run_to(now);
        self.answers(host)?;
        if self.hosts.get(host).is_some_and(|machine| machine.has(Trouble::Refuses)) {
            let step = handover.step.name();
            return Err(error(ErrorKind::Failed, format!("host {host} refused to {step}: internal error (a simulated fault)")));
        }
        let id = JobId::Handover(handover.id.clone());
        let found = self.found(host, handover.vm, Some(&id));
        match (judge(host, handover, found.as_ref())?, &handover.step) {
            (Verdict::Done, _) => return Ok(Begun::Done),
            (Verdict::Follow, _) => return Ok(Begun::Job(id)),
            (_, HandoverStep::Move(transfer) | HandoverStep::Copy(transfer)) => {
                return self.step_transfer(host, handover, transfer);
            }
            (_, HandoverStep::ShutDown { force_after }) => return Ok(self.step_shut_down(host, handover, *force_after)),
            (Verdict::Seal(seal), HandoverStep::Seal { becomes }) => {
                self.write(host, handover.vm, becomes.clone(), Some(seal));
            }
            (Verdict::Resume { resume, start }, HandoverStep::Resume { becomes, .. }) => {
                self.step_resume(host, handover.vm, becomes, resume, start)?;
            }
            (_, HandoverStep::Define { xml, rewriting, trusted, autostart, .. }) => {
                let change = if *trusted { rewrite } else { import };
                let xml = change(xml, rewriting);
                self.step_define(host, handover, xml, *autostart)?;
            }
            _ => self.step_remove(host, handover.vm),
        }
        self.log_step(host, handover, Outcome::Done);
        Ok(Begun::Done)
    }

    /// Writes mark and seal into a host's copy of the metadata.
    fn write(&mut self, host: &HostId, vm: VmId, mark: Mark, seal: Option<Seal>) {
        self.definitions += 1;
        let number = self.definitions;
        if let Some(copy) = self.copies.get_mut(&(vm, host.clone())) {
            (copy.description.mark, copy.seal, copy.definition) = (Some(mark), seal, number);
            let body = NoticeBody::Described(Box::new(copy.description.clone()));
            return self.say(host, vm, body);
        }
        if let Some(guest) = self.guests.get_mut(&vm) {
            (guest.description.mark, guest.seal) = (Some(mark), seal);
            self.redefined(vm);
        }
    }

    fn step_define(
        &mut self,
        host: &HostId,
        handover: &Handover,
        xml: Result<String, String>,
        autostart_after: bool,
    ) -> Result<(), HypervisorError> {
        let vm = handover.vm;
        let failed = |what: String| error(ErrorKind::Failed, format!("{host}: cannot define guest {vm}: {what}"));
        let mut guest = definition::read(vm, &xml.map_err(failed)?).map_err(failed)?;
        let machine = self.hosts.get(host);
        let mut names = machine.iter().flat_map(|machine| &machine.guests).filter_map(|vm| self.guests.get(vm));
        if names.any(|other| other.description.name == guest.description.name) {
            return Err(failed("the host has another guest of this name".to_owned()));
        }
        let seal = Some(Seal { handover: handover.id.clone(), stays_paused: false });
        guest.description.mark = Some(handover.mark.clone());
        if self.guests.contains_key(&vm) {
            self.definitions += 1;
            let (definition, description) = (self.definitions, guest.description);
            let body = NoticeBody::Described(Box::new(description.clone()));
            let (state, reason) = (VmState::Off, Reason::Unknown);
            let copy = Copied { state, reason, description, seal, autostart_after, definition };
            self.copies.insert((vm, host.clone()), copy);
            self.say(host, vm, body);
            return Ok(());
        }
        (guest.host, guest.seal, guest.autostart_after) = (host.clone(), seal, autostart_after);
        self.guests.insert(vm, guest);
        if let Some(machine) = self.hosts.get_mut(host) {
            machine.guests.insert(vm);
        }
        self.redefined(vm);
        Ok(())
    }

    fn step_resume(
        &mut self,
        host: &HostId,
        vm: VmId,
        becomes: &Mark,
        resume: bool,
        start: bool,
    ) -> Result<(), HypervisorError> {
        let copy = self.copies.get_mut(&(vm, host.clone()));
        let noted = match (copy, self.guests.get_mut(&vm)) {
            (Some(copy), _) => Some((&mut copy.description, &mut copy.autostart_after)),
            (None, guest) => guest.map(|guest| (&mut guest.description, &mut guest.autostart_after)),
        };
        if let Some((description, autostart_after)) = noted {
            description.autostart |= std::mem::take(autostart_after);
        }
        self.write(host, vm, becomes.clone(), None);
        if start && let Some(guest) = self.guests.get(&vm) {
            self.check_room(host, guest.balloon_mib, &guest.description.name)?;
        }
        if !resume && !start {
            return Ok(());
        }
        let (state, reason) = (VmState::Running, if start { Reason::Booted } else { Reason::Migration });
        self.touch(host);
        if let Some(copy) = self.copies.get_mut(&(vm, host.clone())) {
            (copy.state, copy.reason) = (state, reason);
            self.say(host, vm, NoticeBody::State(state, reason));
            self.note_runs(vm);
        } else if start {
            self.started(vm);
        } else {
            self.set_state(vm, state, reason);
        }
        Ok(())
    }

    fn step_remove(&mut self, host: &HostId, vm: VmId) {
        let arriving = self.hosts.get(host).and_then(|machine| machine.incoming.get(&vm)).map(|(job, _)| job.clone());
        if let Some(job) = arriving {
            // As on libvirt: the target's half goes, and with it the move.
            let what = "the target dropped what it had of the guest";
            return self.end(&job, OrderState::Failed(error(ErrorKind::Failed, what)));
        }
        self.say(host, vm, NoticeBody::State(VmState::Off, Reason::Migration));
        self.say(host, vm, NoticeBody::Undefined);
        self.touch(host);
        if self.copies.remove(&(vm, host.clone())).is_some() {
            return self.note_runs(vm);
        }
        self.let_go(host, vm);
    }

    /// A host knows a guest no more. Where another has a copy, that is the guest from here on.
    pub(super) fn let_go(&mut self, host: &HostId, vm: VmId) {
        let elsewhere = self.copies_of(vm).next().map(|(target, _)| target.clone());
        let copy = elsewhere.and_then(|target| {
            let copy = self.copies.remove(&(vm, target.clone()))?;
            Some((target, copy))
        });
        self.touch(host);
        match copy {
            Some((target, copy)) => {
                if let Some(guest) = self.guests.get_mut(&vm) {
                    (guest.state, guest.reason, guest.seal) = (copy.state, copy.reason, copy.seal);
                    guest.autostart_after = copy.autostart_after;
                    guest.description = copy.description;
                    guest.definition = copy.definition;
                }
                self.change_host(vm, host, &target);
            }
            None => {
                if let Some(machine) = self.hosts.get_mut(host) {
                    machine.guests.remove(&vm);
                }
                self.guests.remove(&vm);
                self.note_runs(vm);
            }
        }
    }

    /// A host went down: its copies were in memory only.
    pub(super) fn copies_die(&mut self, host: &HostId) {
        let copied: Vec<VmId> = self.copies_on(host).map(|(vm, _)| *vm).collect();
        for vm in copied {
            let key = (vm, host.clone());
            match self.copies.get_mut(&key) {
                // What was defined stays, and is off; what only arrived is gone.
                Some(copy) if copy.state == VmState::Off => copy.reason = Reason::Unknown,
                _ => drop(self.copies.remove(&key)),
            }
            self.note_runs(vm);
        }
    }

    fn step_shut_down(&mut self, host: &HostId, handover: &Handover, force_after: Option<Span>) -> Begun {
        let job = JobId::Handover(handover.id.clone());
        let order = Order {
            action: ActionId(0),
            kind: ActionKind::Shutdown { vm: handover.vm, force_after },
            plane: handover.plane.clone(),
            epoch: handover.mark.epoch,
            expects: None,
            destination: None,
            limits: MigrationLimits::default(),
        };
        let handover = Some(Box::new(handover.clone()));
        let ticket = self.last_ticket(&job);
        self.start(Run { order, handover, host: host.clone(), stage: Stage::Working, begun: true, ticket });
        Begun::Job(job)
    }

    /// A handover's jobs follow each other under one name: what stands on the agenda for an earlier one is void for the next.
    fn last_ticket(&self, job: &JobId) -> u64 {
        self.orders.get(job).map_or(0, |run| run.ticket)
    }

    fn step_transfer(&mut self, host: &HostId, handover: &Handover, transfer: &Transfer) -> Result<Begun, HypervisorError> {
        let (vm, target) = (handover.vm, &transfer.destination.host);
        let job = JobId::Handover(handover.id.clone());
        let moves = matches!(handover.step, HandoverStep::Move(_));
        let no = |why: &str| {
            let what = format!("cannot {} guest {vm} from host {host}: {why}", handover.step.name());
            Err(error(ErrorKind::Failed, what))
        };
        if target == host {
            return no("it is there already");
        }
        if self.guests.get(&vm).is_none_or(|guest| guest.host != *host) {
            return no("this is only a copy of it");
        }
        let sealed = |found: Found| found.seal.is_some_and(|seal| seal.handover == handover.id);
        if !moves && self.hosts.contains_key(target) && !self.found(target, vm, None).is_some_and(sealed) {
            return no(&format!("host {target} does not know it yet: it must be defined there first"));
        }
        let run = Run {
            order: Order {
                action: ActionId(0),
                kind: ActionKind::Migrate { vm, to: Some(target.clone()), live: moves },
                plane: handover.plane.clone(),
                epoch: handover.mark.epoch,
                expects: None,
                destination: Some(transfer.destination.clone()),
                limits: transfer.limits,
            },
            handover: Some(Box::new(handover.clone())),
            host: host.clone(),
            stage: Stage::Working,
            begun: true,
            ticket: self.last_ticket(&job),
        };
        if let Some(guest) = self.guests.get(&vm) {
            if moves {
                self.check_target(host, guest, &run.order)?;
            } else {
                self.reachable(target)?;
            }
        }
        if !moves && !transfer.limits.copy_storage {
            // Its disks are shared, and it has no other files.
            return Ok(Begun::Done);
        }
        self.log(&run, Outcome::Begun);
        self.orders.insert(job.clone(), run);
        if let Some(guest) = self.guests.get_mut(&vm) {
            guest.work = Some(job.clone());
            if !moves {
                guest.autostart_after |= std::mem::take(&mut guest.description.autostart);
            }
        }
        self.start_migration(&job, vm);
        Ok(Begun::Job(job))
    }
}
