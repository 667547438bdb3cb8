//! Steps of handovers: the same checks as on libvirt, at the last moment, and the same answer when a step is repeated.
//!
//! In a fleet that two planes share a guest may be known to two hosts at once. The one it was on keeps the [`Guest`], the other
//! has a [`Copied`]; when the first lets go, the copy becomes the guest.

use super::guest::Seal;
use super::machine::Copied;
use super::orders::{JobId, OrderState, Run, Stage, error};
use super::*;
use crate::hypervisor::{Definition, ErrorKind, Handover, HandoverStep, HypervisorError, MigrationLimits, Order, Transfer};
use crate::hypervisor::{Rewriting, import};
use crate::model::{ActionId, ActionKind, Progress, Sighting, Standing};
use serde::{Deserialize, Serialize};

/// What became of a step that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Begun {
    /// It is done.
    Done,
    /// It takes its time: [`Fleet::poll`] tells.
    Job(JobId),
}

/// A guest as one host has it.
struct Here<'a> {
    name: &'a str,
    state: VmState,
    reason: Reason,
    mark: &'a Option<Mark>,
    seal: &'a Option<Seal>,
    /// What works on it.
    job: Option<&'a JobId>,
}

impl Here<'_> {
    fn is_sealed_for(&self, id: &str) -> bool {
        self.seal.as_ref().is_some_and(|seal| *seal.handover == *id)
    }

    fn waits(&self) -> bool {
        (self.state, self.reason) == (VmState::Paused, Reason::Migration)
    }
}

impl Fleet {
    fn here(&self, host: &HostId, vm: VmId) -> Option<Here<'_>> {
        let machine = self.hosts.get(host)?;
        if let Some(copy) = machine.copies.get(&vm) {
            let Copied { state, reason, description, seal, .. } = copy;
            let name = &description.name;
            return Some(Here { name, state: *state, reason: *reason, mark: &description.mark, seal, job: None });
        }
        let guest = self.guests.get(&vm)?;
        let name = &guest.description.name;
        let (mark, seal) = (&guest.description.mark, &guest.seal);
        if let Some((job, _)) = machine.incoming.get(&vm) {
            return Some(Here { name, state: VmState::Paused, reason: Reason::Migration, mark, seal, job: Some(job) });
        }
        let job = guest.work.as_ref();
        machine.guests.contains(&vm).then_some(Here { name, state: guest.state, reason: guest.reason, mark, seal, job })
    }

    /// What a host says of one guest.
    pub fn look(&self, host: &HostId, vm: VmId) -> Result<Option<Sighting>, HypervisorError> {
        self.answers(host)?;
        Ok(self.here(host, vm).map(|here| {
            let moves = |run: &&Run| matches!(run.stage, Stage::Migrating(_));
            let run = here.job.and_then(|job| self.orders.get(job)).filter(moves);
            let progress = run.map(|run| match &run.stage {
                // The target does not know how much there is to come.
                Stage::Migrating(migration) if run.host == *host => migration.progress(self.now),
                _ => Progress::default(),
            });
            Sighting {
                standing: Standing::of(here.state, here.reason),
                mark: here.mark.clone(),
                sealed: here.seal.as_ref().map(|seal| seal.handover.clone()),
                job: progress,
            }
        }))
    }

    /// A guest's definition.
    pub fn definition(&self, host: &HostId, vm: VmId) -> Result<Definition, HypervisorError> {
        self.answers(host)?;
        let guest = self.guests.get(&vm).filter(|guest| guest.host == *host);
        let guest = guest.ok_or_else(|| error(ErrorKind::NotFound, format!("no guest {vm} on host {host}")))?;
        let disk = guest.description.disks.first().map(|disk| (disk.clone(), guest.disk_mib << 20));
        Ok(Definition { xml: definition::write(guest).into(), disk_bytes: disk.into_iter().collect() })
    }

    /// Carries out a step, or begins it. An error means that nothing was done.
    pub fn hand_over(&mut self, host: &HostId, handover: &Handover, now: Timestamp) -> Result<Begun, HypervisorError> {
        self.run_to(now);
        self.answers(host)?;
        if self.hosts.get(host).is_some_and(|machine| machine.has(Trouble::Refuses)) {
            let step = handover.step.name();
            return Err(error(ErrorKind::Failed, format!("host {host} refused to {step}: internal error (a simulated fault)")));
        }
        let changed = match &handover.step {
            HandoverStep::Mark { becomes, sealed } => self.step_mark(host, handover, becomes, *sealed)?,
            HandoverStep::Define { xml, rewriting } => self.step_define(host, handover, xml, rewriting)?,
            HandoverStep::Resume => self.step_resume(host, handover)?,
            HandoverStep::Remove => self.step_remove(host, handover)?,
            HandoverStep::Move(transfer) | HandoverStep::Copy(transfer) => return self.step_transfer(host, handover, transfer),
        };
        if changed {
            self.log_step(host, handover, Outcome::Done);
        }
        Ok(Begun::Done)
    }

    /// The guest, if it is this handover's.
    fn own(&self, host: &HostId, handover: &Handover) -> Result<Option<Here<'_>>, HypervisorError> {
        let Some(here) = self.here(host, handover.vm) else { return Ok(None) };
        let (name, step, id) = (here.name, handover.step.name(), &handover.id);
        let what = match (here.seal, here.mark) {
            (Some(seal), _) if seal.handover != *id => {
                format!(
                    "guest {name} on host {host} is sealed for handover {}, not for {id}; {step} was not begun",
                    seal.handover
                )
            }
            (None, _) => format!("guest {name} on host {host} is not sealed for handover {id}; {step} was not begun"),
            (_, mark) if mark.as_ref() != Some(&handover.mark) => foreign(&here, host, handover),
            _ => return Ok(Some(here)),
        };
        Err(error(ErrorKind::NotOwner, what))
    }

    fn step_mark(&mut self, host: &HostId, handover: &Handover, becomes: &Mark, sealed: bool) -> Result<bool, HypervisorError> {
        let Some(here) = self.here(host, handover.vm) else { return Err(missing(host, handover)) };
        let (is_sealed, carries) = (here.is_sealed_for(&handover.id), here.mark.as_ref());
        if carries == Some(becomes) && (is_sealed == sealed && (sealed || here.seal.is_none())) {
            return Ok(false);
        }
        // What is not sealed yet may be; and only what is sealed for this may be changed otherwise.
        if !(sealed && here.seal.is_none() && carries == Some(&handover.mark)) {
            if here.seal.is_none() && sealed {
                return Err(error(ErrorKind::NotOwner, foreign(&here, host, handover)));
            }
            self.own(host, handover)?;
        }
        free(&here, host, handover)?;
        let stays_paused = here.state == VmState::Paused && !here.waits();
        let seal = match here.seal {
            Some(seal) => Some(seal.clone()),
            None => Some(Seal { handover: handover.id.clone(), stays_paused }),
        };
        self.write(host, handover.vm, becomes.clone(), seal.filter(|_| sealed));
        Ok(true)
    }

    /// Writes mark and seal into a host's copy of the metadata.
    fn write(&mut self, host: &HostId, vm: VmId, mark: Mark, seal: Option<Seal>) {
        self.definitions += 1;
        let number = self.definitions;
        if let Some(copy) = self.hosts.get_mut(host).and_then(|machine| machine.copies.get_mut(&vm)) {
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
        xml: &str,
        rewriting: &Rewriting,
    ) -> Result<bool, HypervisorError> {
        let vm = handover.vm;
        let failed = |what: String| error(ErrorKind::Failed, format!("host {host}: cannot define guest {vm}: {what}"));
        if let Some(here) = self.here(host, vm) {
            if here.is_sealed_for(&handover.id) && here.mark.as_ref() == Some(&handover.mark) {
                return Ok(false);
            }
            let what = format!("host {host}: cannot define guest {vm}: it is defined already, as {}", here.name);
            return Err(error(ErrorKind::Precondition, what));
        }
        let mut guest = definition::read(vm, &import(xml, rewriting).map_err(failed)?).map_err(failed)?;
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
            if let Some(machine) = self.hosts.get_mut(host) {
                machine.copies.insert(vm, Copied { state, reason, description, seal, definition });
            }
            self.say(host, vm, body);
            return Ok(true);
        }
        (guest.host, guest.seal) = (host.clone(), seal);
        self.guests.insert(vm, guest);
        if let Some(machine) = self.hosts.get_mut(host) {
            machine.guests.insert(vm);
        }
        self.redefined(vm);
        Ok(true)
    }

    fn step_resume(&mut self, host: &HostId, handover: &Handover) -> Result<bool, HypervisorError> {
        let Some(here) = self.here(host, handover.vm) else { return Err(missing(host, handover)) };
        if here.seal.is_none() && here.mark.as_ref() == Some(&handover.mark) && !here.waits() {
            return Ok(false);
        }
        self.own(host, handover)?;
        free(&here, host, handover)?;
        let stays = here.seal.as_ref().is_some_and(|seal| seal.stays_paused);
        let runs = here.waits() && !stays;
        self.write(host, handover.vm, handover.mark.clone(), None);
        let copy = self.hosts.get_mut(host).and_then(|machine| machine.copies.get_mut(&handover.vm));
        if !runs {
            return Ok(true);
        }
        let (state, reason) = (VmState::Running, Reason::Migration);
        if let Some(copy) = copy {
            (copy.state, copy.reason) = (state, reason);
            self.say(host, handover.vm, NoticeBody::State(state, reason));
            self.note_runs(handover.vm);
        } else {
            self.set_state(handover.vm, state, reason);
        }
        Ok(true)
    }

    fn step_remove(&mut self, host: &HostId, handover: &Handover) -> Result<bool, HypervisorError> {
        let vm = handover.vm;
        let Some(here) = self.own(host, handover)? else { return Ok(false) };
        if matches!(here.state, VmState::Running | VmState::Asleep) {
            let what = format!("guest {} on host {host} is {}: what runs is not removed", here.name, here.state);
            return Err(error(ErrorKind::Precondition, what));
        }
        if let Some(job) = here.job.cloned() {
            // As on libvirt: the target's half goes, and with it the move; at the source nothing is removed under a move's feet.
            if !self.hosts.get(host).is_some_and(|machine| machine.incoming.contains_key(&vm)) {
                free(&here, host, handover)?;
            }
            let what = "the target dropped what it had of the guest";
            self.end(&job, OrderState::Failed(error(ErrorKind::Failed, what)));
            return Ok(true);
        }
        if self.hosts.get_mut(host).is_some_and(|machine| machine.copies.remove(&vm).is_some()) {
            self.gone(host, vm);
            self.note_runs(vm);
            return Ok(true);
        }
        self.gone(host, vm);
        self.let_go(host, vm);
        Ok(true)
    }

    /// A host knows a guest no more. Where another has a copy, that is the guest from here on.
    pub(super) fn let_go(&mut self, host: &HostId, vm: VmId) {
        let elsewhere = self.hosts.iter().find(|(_, machine)| machine.copies.contains_key(&vm)).map(|(host, _)| host.clone());
        let copy = elsewhere.and_then(|target| {
            let copy = self.hosts.get_mut(&target)?.copies.remove(&vm)?;
            Some((target, copy))
        });
        match copy {
            Some((target, copy)) => {
                if let Some(guest) = self.guests.get_mut(&vm) {
                    (guest.state, guest.reason, guest.seal) = (copy.state, copy.reason, copy.seal);
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

    fn gone(&mut self, host: &HostId, vm: VmId) {
        self.say(host, vm, NoticeBody::State(VmState::Off, Reason::Migration));
        self.say(host, vm, NoticeBody::Undefined);
    }

    /// A host went down: its copies were in memory only.
    pub(super) fn copies_die(&mut self, host: &HostId) {
        let copies = self.hosts.get_mut(host).map(|machine| std::mem::take(&mut machine.copies)).unwrap_or_default();
        for (vm, mut copy) in copies {
            // What was defined stays, and is off; what only arrived is gone.
            if copy.state == VmState::Off
                && let Some(machine) = self.hosts.get_mut(host)
            {
                copy.reason = Reason::Unknown;
                machine.copies.insert(vm, copy);
            }
            self.note_runs(vm);
        }
    }

    fn step_transfer(&mut self, host: &HostId, handover: &Handover, transfer: &Transfer) -> Result<Begun, HypervisorError> {
        let (vm, target) = (handover.vm, &transfer.destination.host);
        let job = JobId::Handover(handover.id.clone());
        let moves = matches!(handover.step, HandoverStep::Move(_));
        let Some(here) = self.own(host, handover)? else {
            return if moves { Ok(Begun::Done) } else { Err(missing(host, handover)) };
        };
        if here.job == Some(&job) {
            return Ok(Begun::Job(job));
        }
        free(&here, host, handover)?;
        let no = |why: &str| {
            let what = format!("cannot {} guest {} from host {host}: {why}", handover.step.name(), here.name);
            Err(error(ErrorKind::Precondition, what))
        };
        if target == host {
            return no("it is there already");
        }
        if self.guests.get(&vm).is_none_or(|guest| guest.host != *host) {
            return no("this is only a copy of it");
        }
        match here.state {
            VmState::Running if moves => {}
            VmState::Paused if moves && !here.waits() => {}
            VmState::Paused if moves => return no("it is left paused by an earlier move; resume it first"),
            VmState::Off | VmState::Crashed if !moves => {
                let known = self.here(target, vm).is_some_and(|there| there.is_sealed_for(&handover.id));
                if !known && self.hosts.contains_key(target) {
                    return no(&format!("host {target} does not know it yet: it must be defined there first"));
                }
            }
            state => return no(&format!("it is {state}")),
        }
        let run = Run {
            order: Order {
                action: ActionId(0),
                kind: ActionKind::Migrate { vm, to: Some(target.clone()), live: moves },
                plane: handover.plane.clone(),
                epoch: handover.mark.epoch,
                expects: None,
                destination: Some(transfer.destination.clone()),
                limits: MigrationLimits { copy_storage: transfer.limits.copy_storage || !moves, ..transfer.limits },
            },
            handover: Some(Box::new(handover.clone())),
            host: host.clone(),
            stage: Stage::Working,
            begun: true,
            ticket: 0,
        };
        if let Some(guest) = self.guests.get(&vm) {
            if moves {
                self.check_target(host, guest, &run.order)?;
            } else {
                self.reachable(target)?;
            }
        }
        self.log(&run, Outcome::Begun);
        self.orders.insert(job.clone(), run);
        if let Some(guest) = self.guests.get_mut(&vm) {
            guest.work = Some(job.clone());
        }
        self.start_migration(&job, vm);
        Ok(Begun::Job(job))
    }
}

fn foreign(here: &Here<'_>, host: &HostId, handover: &Handover) -> String {
    let mark = |mark: &Mark| format!("plane {} (epoch {})", mark.plane, mark.epoch);
    let carries = here.mark.as_ref().map_or_else(|| "nobody".to_owned(), mark);
    let (name, step, wanted) = (here.name, handover.step.name(), mark(&handover.mark));
    format!("guest {name} on host {host} belongs to {carries}, not to {wanted}; {step} was not begun")
}

fn missing(host: &HostId, handover: &Handover) -> HypervisorError {
    error(ErrorKind::NotFound, format!("no guest {} on host {host}", handover.vm))
}

fn free(here: &Here<'_>, host: &HostId, handover: &Handover) -> Result<(), HypervisorError> {
    if here.job.is_none() {
        return Ok(());
    }
    let what = format!("guest {} on host {host}: cannot {} while another job works on it", here.name, handover.step.name());
    Err(error(ErrorKind::Precondition, what))
}
