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
    Destination, ErrorKind, Handover, HandoverStep, Hypervisor, HypervisorError, Rewriting, Transfer, Watch, portrait,
};
use crate::migration::message::{DiskOffer, GuestOffer, Rewrite};
use crate::migration::order::MigrationOrder;
use crate::migration::{Activity, Answer, Guest, Job, Order, OrderFault, Reason, ReasonKind, ResumeBy, Way};
use crate::model::{Mark, Mode, Progress, Sighting, Standing, VmId, VmState};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a peer must know of a guest, as its host tells it. Name, size and labels the plane knows better, and fills in. An error
/// where it cannot go in this way.
pub fn describe(hypervisor: &dyn Hypervisor, vm: VmId, way: Way, catalog: &Catalog) -> Result<GuestOffer, String> {
    let definition = hypervisor.definition(vm).map_err(|error| error.what)?;
    let portrait = portrait(&definition.xml)?;
    let passed =
        portrait.passthrough.first().map(|device| format!("it has {device}, which does not come along: take it out first"));
    let obstacle = match way {
        Way::Live => passed,
        Way::Cold if !definition.persistent => {
            Some("it is transient, and would be gone once it is off: define it (`virsh define`), or move it live".to_owned())
        }
        Way::Cold => passed.or_else(|| portrait.obstacle_to_a_copy(catalog.migration.copy_storage)),
    };
    if let Some(why) = obstacle {
        return Err(why);
    }
    let bytes: BTreeMap<&Arc<str>, u64> = definition.disk_bytes.iter().map(|(target, bytes)| (target, *bytes)).collect();
    let disk = |disk: &crate::hypervisor::DiskFile| DiskOffer {
        target: disk.target.clone(),
        path: disk.path.clone(),
        bytes: bytes.get(&disk.target).copied().unwrap_or(0),
        shared: !catalog.migration.copy_storage,
    };
    Ok(GuestOffer {
        name: "".into(),
        state: VmState::Off,
        vcpus: 0,
        memory_mib: 0,
        cpu_millicores: 0,
        labels: BTreeMap::new(),
        mode: Mode::Observe,
        cpu_model: portrait.cpu.clone(),
        machine: portrait.machine.clone(),
        passthrough: portrait.passthrough.clone(),
        disks: portrait.disks.iter().map(disk).collect(),
        bases: definition.bases,
        networks: portrait.bridges.iter().chain(&portrait.networks).cloned().collect(),
        autostart: definition.autostart,
        description: definition.xml,
    })
}

/// The steps of a job, to be carried out one after the other.
pub fn job_steps(order: &MigrationOrder, job: &Job, catalog: &Catalog) -> Vec<Handover> {
    let grants = &job.grants;
    let migration_uri = Some(grants.migration_uri.clone()).filter(|uri| !uri.is_empty());
    let destination = Destination { host: grants.host.clone(), uri: grants.hypervisor_uri.clone(), migration_uri };
    let transfer = Box::new(Transfer {
        destination,
        limits: catalog.migration,
        resume: job.resume,
        rewriting: rewriting(&grants.rewrites),
    });
    let steps = match job.way {
        Way::Live => vec![HandoverStep::Move(transfer)],
        Way::Cold => {
            let shut_down = job.shut_down.then_some(HandoverStep::ShutDown { force_after: job.force_after });
            shut_down.into_iter().chain([HandoverStep::Copy(transfer)]).collect()
        }
    };
    steps.into_iter().map(|step| step_of(order, order.coming.clone(), catalog, step)).collect()
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
            let mut steps = job_steps(order, job, catalog).into_iter();
            return Some(job_ended(steps.try_for_each(|step| hypervisor.hand_over(&step, watch))));
        }
        Order::CancelJob => {
            at.cancel();
            return None;
        }
        Order::Look => return Some(at.look().map_or_else(failed, |seen| Answer::Guest(guest(seen)))),
        Order::Reclaim { mark, start, redefine } => at.reclaim(mark, *start, *redefine),
        Order::Remove(mark) => at.remove(mark, false),
        Order::Define(mark) => at.needs().and_then(|needs| at.define(mark, needs)),
        Order::Resume { mark, start, force } => at.resume(mark, *start, *force),
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
    fn reclaim(&self, mark: &Mark, start: bool, redefine: bool) -> Result<(), Answer> {
        if self.look().map_err(failed)?.is_none() {
            if !redefine {
                return Err(self.gone());
            }
            self.define(mark, Vec::new())?;
            return self.take(mark, false);
        }
        self.take(mark, start)
    }

    /// Puts a mark on the guest, lets it run where the move has stopped it, takes the seal away.
    fn take(&self, mark: &Mark, start: bool) -> Result<(), Answer> {
        self.step(mark, HandoverStep::Resume { becomes: mark.clone(), start })
    }

    /// Makes the guest from the record, off and sealed: at the source from its own, at the target from what the peer sent, with
    /// the names that were granted.
    fn define(&self, mark: &Mark, needs: Vec<Arc<str>>) -> Result<(), Answer> {
        let MigrationOrder { definition: xml, autostart, .. } = self.order;
        let (xml, autostart, trusted) = (xml.clone(), *autostart, self.order.rewrites.is_none());
        self.step(mark, HandoverStep::Define { xml, rewriting: self.rewriting(), trusted, autostart, needs })
    }

    fn rewriting(&self) -> Rewriting {
        self.order.rewrites.as_ref().map(|rewrites| rewriting(rewrites)).unwrap_or_default()
    }

    /// The files that must be at the target before the guest can start there, and do not come with it.
    fn needs(&self) -> Result<Vec<Arc<str>>, Answer> {
        let refused = |text: String| Answer::Failed(OrderFault::Refused, text.into());
        let (rewriting, portrait) = (self.rewriting(), portrait(&self.order.definition).map_err(refused)?);
        let mut needs: Vec<Arc<str>> = Vec::new();
        for path in portrait.stationary(self.order.copies) {
            needs.push(rewriting.path(path).map_or_else(|| path.clone(), Arc::from));
        }
        for base in &self.order.bases {
            // Its name stands in the image that rests on it.
            if rewriting.path(base).as_deref() != Some(&**base) {
                let text = format!(
                    "a disk rests on the image {base}, which must be here under this very path: say in `handover.names.paths` that it \
                     stays as it is"
                );
                return Err(refused(text));
            }
            needs.push(base.clone());
        }
        Ok(needs)
    }

    fn resume(&self, mark: &Mark, start: bool, force: bool) -> Result<(), Answer> {
        let Some(seen) = self.look().map_err(failed)? else {
            if !force {
                return Err(self.gone());
            }
            self.define(mark, Vec::new())?;
            return self.take(mark, false);
        };
        match seen.mark {
            Some(carries) if carries != *mark && !force => {
                let text = format!("the copy carries the mark of {}, epoch {}", carries.plane, carries.epoch);
                Err(Answer::Failed(OrderFault::Marked, text.into()))
            }
            _ => self.take(mark, start),
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
            resume: ResumeBy::default(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hypervisor::{Definition, Fate, MigrationLimits, NoticeSink, Order as ActionOrder};
    use crate::model::{HostReport, MigrationId, Timestamp};
    use std::sync::Mutex;

    /// A host that does not know the guest, and notes the steps that it is told to take.
    #[derive(Default)]
    struct Empty(Mutex<Vec<HandoverStep>>, Option<Definition>);

    impl Hypervisor for Empty {
        fn report(&self, _: Timestamp) -> Result<HostReport, HypervisorError> {
            Err(HypervisorError::new(ErrorKind::Unsupported, "it only takes steps"))
        }

        fn subscribe(&self, _: NoticeSink) {}

        fn mark(&self, _: VmId) -> Result<Option<Mark>, HypervisorError> {
            Ok(None)
        }

        fn execute(&self, _: &ActionOrder, _: &dyn Watch) -> Result<(), HypervisorError> {
            Err(HypervisorError::new(ErrorKind::Unsupported, "it only takes steps"))
        }

        fn recover(&self, _: &ActionOrder, _: &dyn Watch) -> Result<Fate, HypervisorError> {
            Err(HypervisorError::new(ErrorKind::Unsupported, "it only takes steps"))
        }

        fn look(&self, _: VmId) -> Result<Option<Sighting>, HypervisorError> {
            Ok(None)
        }

        fn definition(&self, _: VmId) -> Result<Definition, HypervisorError> {
            self.1.clone().ok_or_else(|| HypervisorError::new(ErrorKind::NotFound, "there is none"))
        }

        fn hand_over(&self, handover: &Handover, _: &dyn Watch) -> Result<(), HypervisorError> {
            self.0.lock().unwrap().push(handover.step.clone());
            Ok(())
        }
    }

    fn order(order: Order, rewrites: Option<Vec<Rewrite>>) -> MigrationOrder {
        MigrationOrder {
            migration: MigrationId { plane: "a".into(), number: 1 },
            number: 1,
            vm: VmId(uuid::Uuid::from_u128(7)),
            host: "h".into(),
            offered: Mark { plane: "a".into(), epoch: 1 },
            coming: Mark { plane: "b".into(), epoch: 2 },
            definition: "<domain/>".into(),
            autostart: true,
            copies: false,
            bases: Vec::new(),
            rewrites,
            order,
        }
    }

    fn steps(wanted: Order, rewrites: Option<Vec<Rewrite>>) -> (Option<Answer>, Vec<HandoverStep>) {
        let order = order(wanted, rewrites);
        let catalog = Catalog { plane: "b".into(), destinations: BTreeMap::new(), migration: MigrationLimits::default() };
        let host = Empty::default();
        let answer = carry_out(&host, &order, &catalog, &Withdrawn);
        (answer, host.0.into_inner().unwrap())
    }

    /// What another plane sent is defined with the names that it was granted, so that it can be defined at all; a plane's own
    /// record as it is.
    #[test]
    fn the_record_is_defined_with_the_names_of_the_move() {
        let mark = Mark { plane: "b".into(), epoch: 4 };
        let granted = Some(vec![
            Rewrite::File { from: "/images/".into(), to: "/data/".into() },
            Rewrite::Network { from: "br0".into(), to: "lan".into() },
            Rewrite::Listen { from: "".into(), to: "10.0.0.1".into() },
        ]);
        let resumed = HandoverStep::Resume { becomes: mark.clone(), start: false };
        let define = |rewriting, trusted| HandoverStep::Define {
            xml: "<domain/>".into(),
            rewriting,
            trusted,
            autostart: true,
            needs: Vec::new(),
        };
        let named = |from: &str, to: &str| BTreeMap::from([(from.into(), to.into())]);
        let there = Rewriting {
            paths: named("/images/", "/data/"),
            bridges: named("br0", "lan"),
            networks: named("br0", "lan"),
            listen: Some("10.0.0.1".into()),
        };
        let force = Order::Resume { mark: mark.clone(), start: true, force: true };
        let expected = vec![define(there.clone(), false), resumed.clone()];
        assert_eq!(steps(force, granted.clone()), (Some(Answer::Done), expected), "and is not started: it may not be whole");
        assert_eq!(steps(Order::Define(mark.clone()), granted), (Some(Answer::Done), vec![define(there, false)]));
        let redefine = Order::Reclaim { mark, start: false, redefine: true };
        let expected = vec![define(Rewriting::default(), true), resumed];
        assert_eq!(steps(redefine, None), (Some(Answer::Done), expected));
    }

    const XML: &str = "<domain><os><kernel>/boot/k</kernel></os><devices>
        <disk><source file='/pool/a'/><target dev='vda'/></disk>
        <disk><source file='/iso/b'/><target dev='sda'/><readonly/></disk></devices></domain>";

    /// What would be lost on the way is refused when the guest is described: before anybody shuts it down.
    #[test]
    fn what_cannot_go_cold_is_not_even_offered() {
        let offered = |way, xml: &str, persistent| {
            let definition = Definition { xml: xml.into(), disk_bytes: vec![], bases: vec![], persistent, autostart: true };
            let limits = MigrationLimits { copy_storage: true, ..MigrationLimits::default() };
            let catalog = Catalog { plane: "a".into(), destinations: BTreeMap::new(), migration: limits };
            describe(&Empty(Mutex::default(), Some(definition)), VmId(uuid::Uuid::from_u128(7)), way, &catalog)
        };
        let guest = offered(Way::Cold, XML, true).unwrap();
        assert!(guest.autostart && guest.copies());
        let tpm = XML.replace("</devices>", "<tpm><backend type='emulator'/></tpm></devices>");
        for (xml, persistent, why) in [(XML, false, "transient"), (tpm.as_str(), true, "TPM")] {
            let refused = offered(Way::Cold, xml, persistent).unwrap_err();
            assert!(refused.contains(why), "{refused}");
            assert!(offered(Way::Live, xml, persistent).is_ok());
        }
    }

    #[test]
    fn the_target_is_told_which_files_must_be_there() {
        let needs = |copies, base: &str| {
            let mut order = order(
                Order::Define(Mark { plane: "b".into(), epoch: 2 }),
                Some(vec![
                    Rewrite::File { from: "/pool/".into(), to: "/data/".into() },
                    Rewrite::File { from: "/base/".into(), to: "/base/".into() },
                ]),
            );
            (order.definition, order.copies, order.bases) = (XML.into(), copies, vec![base.into()]);
            let host = Empty::default();
            let catalog = Catalog { plane: "b".into(), destinations: BTreeMap::new(), migration: MigrationLimits::default() };
            let answer = carry_out(&host, &order, &catalog, &Withdrawn);
            match host.0.into_inner().unwrap().pop() {
                Some(HandoverStep::Define { needs, .. }) => needs.join(" "),
                _ => format!("{answer:?}"),
            }
        };
        assert_eq!(needs(true, "/base/c"), "/iso/b /boot/k /base/c", "what is copied need not be there");
        assert_eq!(needs(false, "/base/c"), "/data/a /iso/b /boot/k /base/c");
        for base in ["/pool/c", "/etc/c"] {
            assert!(needs(true, base).contains("Refused") && needs(true, base).contains(base), "{}", needs(true, base));
        }
    }
}
