//! Orders of migrations between planes: each becomes steps of its host's hypervisor, and is answered once.
//!
//! ```text
//! manager --MigrationOrder--> lane of the migration --one after the other--> look, then the step it calls for --> Answer
//!         --CancelJob--------------------^ at once: the job that runs is asked to stop
//! ```
//! An order may be repeated, and may find its work half done: so each looks at the guest first and does what is missing. Marks
//! and seals are checked by the hypervisor once more, at the last moment; what it refuses is told to the machine.

use super::Catalog;
use crate::hypervisor::{
    Destination, ErrorKind, Handover, HandoverStep, Hypervisor, HypervisorError, ResumedBy, Rewriting, Transfer, Watch,
    portrait,
};
use crate::migration::message::{DiskOffer, GuestOffer, NicOffer, Rewrite};
use crate::migration::order::MigrationOrder;
use crate::migration::{Activity, Answer, Guest, Job, Order, OrderFault, Reason, ReasonKind, ResumeBy, Way};
use crate::model::{Mark, Mode, Progress, Sighting, Standing, VmId, VmState};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a peer must know of a guest, as its host tells it. Name, size and labels the plane knows better, and fills in.
pub fn describe(hypervisor: &dyn Hypervisor, vm: VmId, catalog: &Catalog) -> Result<GuestOffer, String> {
    let definition = hypervisor.definition(vm).map_err(|error| error.what)?;
    let portrait = portrait(&definition.xml)?;
    let bytes: BTreeMap<&Arc<str>, u64> = definition.disk_bytes.iter().map(|(target, bytes)| (target, *bytes)).collect();
    let disk = |disk: &crate::hypervisor::DiskFile| DiskOffer {
        target: disk.target.clone(),
        path: disk.path.clone(),
        format: "".into(),
        bytes: bytes.get(&disk.target).copied().unwrap_or(0),
        shared: !catalog.migration.copy_storage,
        base: None,
    };
    let nic = |network: &Arc<str>| NicOffer { address: "".into(), network: network.clone() };
    Ok(GuestOffer {
        name: "".into(),
        state: VmState::Off,
        vcpus: 0,
        memory_mib: 0,
        cpu_millicores: 0,
        labels: BTreeMap::new(),
        mode: Mode::Observe,
        cpu_model: portrait.cpu.clone(),
        cpu_features: Default::default(),
        machine: portrait.machine.clone(),
        passthrough: portrait.passthrough.clone(),
        disks: portrait.disks.iter().map(disk).collect(),
        nics: portrait.bridges.iter().chain(&portrait.networks).map(nic).collect(),
        description: definition.xml,
    })
}

/// The step that moves a guest.
pub fn move_step(order: &MigrationOrder, job: &Job, catalog: &Catalog) -> Handover {
    let grants = &job.grants;
    let migration_uri = Some(grants.migration_uri.clone()).filter(|uri| !uri.is_empty());
    let destination = Destination { host: grants.host.clone(), uri: grants.hypervisor_uri.clone(), migration_uri };
    let resume = match job.resume {
        ResumeBy::Manager => ResumedBy::ByManager,
        ResumeBy::Hypervisor => ResumedBy::ByHypervisor,
    };
    let transfer =
        Box::new(Transfer { destination, limits: catalog.migration, resume, rewriting: rewriting(&grants.rewrites) });
    let step = match job.way {
        Way::Live => HandoverStep::Move(transfer),
        Way::Cold => HandoverStep::Copy(transfer),
    };
    step_of(order, order.coming.clone(), catalog, step)
}

fn rewriting(rewrites: &[Rewrite]) -> Rewriting {
    let mut rewriting = Rewriting::default();
    for rewrite in rewrites {
        match rewrite {
            Rewrite::File { from, to } => drop(rewriting.paths.insert(from.clone(), to.clone())),
            Rewrite::Network { from, to } => {
                rewriting.networks.insert(from.clone(), to.clone());
                rewriting.bridges.insert(from.clone(), to.clone());
            }
            Rewrite::Listen { to, .. } => rewriting.listen = Some(to.clone()),
            // By target, not by path: nothing here sends these.
            Rewrite::Disk { .. } => {}
        }
    }
    rewriting
}

fn step_of(order: &MigrationOrder, mark: Mark, catalog: &Catalog, step: HandoverStep) -> Handover {
    Handover { id: order.migration.to_string().into(), plane: catalog.plane.clone(), vm: order.vm, mark, step }
}

/// What became of the job, in the words of the exchange.
pub fn job_ended(result: Result<(), HypervisorError>) -> Answer {
    Answer::JobEnded(result.map_err(|error| {
        let kind = match error.kind {
            ErrorKind::Cancelled => ReasonKind::Cancelled,
            ErrorKind::TimedOut => ReasonKind::TimedOut,
            _ => ReasonKind::Hypervisor,
        };
        Reason::new(kind, error.what)
    }))
}

/// An order at a host.
struct AtHost<'a> {
    hypervisor: &'a dyn Hypervisor,
    order: &'a MigrationOrder,
    catalog: &'a Catalog,
    watch: &'a dyn Watch,
}

/// Carries an order out; the answer to it, if it has one. Waits as long as the hypervisor takes.
pub fn carry_out(hypervisor: &dyn Hypervisor, order: &MigrationOrder, catalog: &Catalog, watch: &dyn Watch) -> Option<Answer> {
    let at = AtHost { hypervisor, order, catalog, watch };
    let done = match &order.order {
        Order::Mark(mark) => at.step(&order.offered, HandoverStep::Seal { becomes: mark.clone() }),
        Order::StartJob(job) => {
            return Some(job_ended(hypervisor.hand_over(&move_step(order, job, catalog), watch)));
        }
        Order::CancelJob => {
            at.cancel();
            return None;
        }
        Order::Look => return Some(at.look().map_or_else(failed, |seen| Answer::Guest(guest(seen)))),
        Order::Reclaim { mark, redefine } => at.reclaim(mark, *redefine),
        Order::Remove(mark) => at.remove(mark, false),
        Order::Resume { mark, force } => at.resume(mark, *force),
        Order::DestroyCopy { mark, running } => at.remove(mark, *running),
    };
    Some(done.map_or_else(|answer| answer, |()| Answer::Done))
}

/// A sighting in the words of the exchange.
fn guest(seen: Option<Sighting>) -> Guest {
    let Some(seen) = seen else { return Guest::Gone };
    let activity = match seen.standing {
        Standing::Running | Standing::Paused => Activity::Running,
        Standing::Migrating => Activity::Paused,
        Standing::Off => Activity::Off,
    };
    Guest::Here { activity, job: seen.job.is_some(), mark: seen.mark }
}

fn failed(error: HypervisorError) -> Answer {
    let fault = match error.kind {
        ErrorKind::Unreachable => OrderFault::Unreachable,
        ErrorKind::NotFound => OrderFault::Gone,
        ErrorKind::NotOwner => OrderFault::Marked,
        _ => OrderFault::Refused,
    };
    Answer::Failed(fault, error.what.into())
}

impl AtHost<'_> {
    fn look(&self) -> Result<Option<Sighting>, HypervisorError> {
        self.hypervisor.look(self.order.vm)
    }

    fn step(&self, mark: &Mark, step: HandoverStep) -> Result<(), Answer> {
        let handover = step_of(self.order, mark.clone(), self.catalog, step);
        self.hypervisor.hand_over(&handover, self.watch).map_err(failed)
    }

    fn gone(&self) -> Answer {
        Answer::Failed(OrderFault::Gone, format!("there is no guest {} on {}", self.order.vm, self.order.host).into())
    }

    /// Makes the guest this plane's own, and lets it run on. The hypervisor sees to it that what is done is not done again, and
    /// that it carries this handover's seal, or an older mark of this plane.
    fn reclaim(&self, mark: &Mark, redefine: bool) -> Result<(), Answer> {
        if self.look().map_err(failed)?.is_none() {
            return if redefine { self.define(mark, true) } else { Err(self.gone()) };
        }
        self.take(mark)
    }

    /// Puts a mark on the guest, lets it run where the move has stopped it, takes the seal away.
    fn take(&self, mark: &Mark) -> Result<(), Answer> {
        self.step(mark, HandoverStep::Resume { becomes: mark.clone(), start: false })
    }

    /// Makes the guest anew from the record, off. At the target the record is what the peer sent.
    fn define(&self, mark: &Mark, trusted: bool) -> Result<(), Answer> {
        let (xml, rewriting) = (self.order.definition.clone(), Rewriting::default());
        self.step(mark, HandoverStep::Define { xml, rewriting, trusted })?;
        self.take(mark)
    }

    fn resume(&self, mark: &Mark, force: bool) -> Result<(), Answer> {
        let Some(seen) = self.look().map_err(failed)? else {
            return if force { self.define(mark, false) } else { Err(self.gone()) };
        };
        match seen.mark {
            Some(carries) if carries != *mark && !force => {
                let text = format!("the copy carries the mark of {}, epoch {}", carries.plane, carries.epoch);
                Err(Answer::Failed(OrderFault::Marked, text.into()))
            }
            _ => self.take(mark),
        }
    }

    /// Takes away what carries this or an older mark.
    fn remove(&self, mark: &Mark, running: bool) -> Result<(), Answer> {
        let handover = step_of(self.order, mark.clone(), self.catalog, HandoverStep::Remove { running });
        self.hypervisor.hand_over(&handover, self.watch).map_err(|error| match error.kind {
            ErrorKind::Precondition => Answer::Failed(OrderFault::Running, error.what.into()),
            _ => failed(error),
        })
    }

    /// Nobody here waits for the job: it was begun before a restart. It is joined, to be cancelled.
    fn cancel(&self) {
        let Ok(Some(seen)) = self.look() else { return };
        let (Some(_), Some(mark)) = (seen.job, seen.mark) else { return };
        let destination = Destination { host: self.order.host.clone(), uri: "".into(), migration_uri: None };
        let transfer = Transfer {
            destination,
            limits: self.catalog.migration,
            resume: ResumedBy::default(),
            rewriting: Rewriting::default(),
        };
        let joined = step_of(self.order, mark, self.catalog, HandoverStep::Move(Box::new(transfer)));
        // What became of it, the machine sees when it looks.
        let _ = self.hypervisor.hand_over(&joined, &Withdrawn);
    }
}

/// A wish that is withdrawn.
struct Withdrawn;

impl Watch for Withdrawn {
    fn progress(&self, _: Progress) {}

    fn is_cancelled(&self) -> bool {
        true
    }
}
