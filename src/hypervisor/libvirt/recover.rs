//! What became of an order that was under way when its manager died.
//!
//! libvirt goes on with what it was asked, a migration included, whether or not who asked still listens. So the answer is in
//! the host's present state. Where a job still runs it is adopted: waited for with its progress, and aborted when the wish is
//! withdrawn. Nothing is started here.

use super::job::{self, Abort, Follow, Job, Outcome};
use super::migration;
use super::neighbours;
use super::order::{Errand, Found, look, lookup};
use super::session::{ANSWER, Session};
use crate::hypervisor::{Destination, ErrorKind, Fate, HypervisorError};
use crate::model::{ActionKind, HostId, Mark, Reason, Span, VmId, VmState};

/// A start, or the end of a migration, that is just being completed has this long.
const COMPLETION: Span = Span::seconds(60);
const LOOK: Span = Span(250);

/// Finds out.
pub fn fate(errand: &Errand<'_>) -> Result<Fate, HypervisorError> {
    let order = errand.order;
    if let ActionKind::Migrate { .. } = order.kind {
        return match &order.destination {
            Some(destination) => migration(errand, destination),
            None => Ok(Fate::NotDone("the order names no destination".into())),
        };
    }
    if let ActionKind::Save { .. } = order.kind {
        let followed = Follow {
            monitor: errand.session,
            vm: errand.vm,
            watch: errand.watch,
            clock: errand.clock,
            timeout: None,
            max_downtime: None,
        }
        .without_call();
        if let Outcome::Ended(Err(error), _) = followed {
            return Err(error);
        }
    }
    let Some(found) = completed(errand)? else { return Ok(absent(&order.kind)) };
    let is = |done: bool| if done { Fate::Done } else { Fate::NotDone(format!("it is {} ({})", found.state, found.reason)) };
    let figure = |now: u64, wanted: u64, unit: &str| {
        if now == wanted { Fate::Done } else { Fate::NotDone(format!("it has {now} {unit}, not {wanted}")) }
    };
    Ok(match order.kind {
        ActionKind::Start { .. } | ActionKind::Restore { .. } => is(found.is_active()),
        ActionKind::Shutdown { .. } | ActionKind::Destroy { .. } => is(!found.is_active()),
        ActionKind::Suspend { .. } => is(found.state == VmState::Paused && found.reason != Reason::Migration),
        ActionKind::Resume { .. } => is(found.state == VmState::Running),
        ActionKind::Save { .. } => is(!found.is_active() && found.reason == Reason::Saved),
        ActionKind::Reset { .. } => Fate::NotDone("a reset leaves no trace, so nobody can tell whether it happened".into()),
        ActionKind::SetVcpus { vcpus, .. } => figure(u64::from(size(errand)?.vcpus), u64::from(vcpus), "vcpus"),
        ActionKind::SetMemory { memory_mib, .. } => figure(size(errand)?.most_mib, memory_mib, "MiB"),
        ActionKind::Balloon { memory_mib, .. } => figure(size(errand)?.held_mib, memory_mib, "MiB"),
        ActionKind::Define { .. } | ActionKind::Adopt { .. } => {
            let ours = Mark { plane: order.plane.clone(), epoch: order.epoch };
            let done = found.marked.is_some_and(|marked| marked.mark == ours);
            if done { Fate::Done } else { Fate::NotDone("it does not carry this mark".into()) }
        }
        ActionKind::Undefine { .. } => Fate::NotDone("it is still defined".into()),
        ActionKind::Migrate { .. } | ActionKind::Notify { .. } | ActionKind::Handover { .. } => {
            Fate::NotDone("this is nothing a hypervisor does".into())
        }
    })
}

fn absent(kind: &ActionKind) -> Fate {
    match kind {
        // A guest without a definition is gone when it is off.
        ActionKind::Shutdown { .. } | ActionKind::Destroy { .. } | ActionKind::Undefine { .. } => Fate::Done,
        _ => Fate::NotDone("there is no such guest on this host".into()),
    }
}

/// The guest, once it no longer is in the midst of being started.
fn completed(errand: &Errand<'_>) -> Result<Option<Found>, HypervisorError> {
    let since = errand.clock.now();
    loop {
        let found = errand.look()?;
        let starting = found.as_ref().is_some_and(|found| found.state == VmState::Paused && found.reason == Reason::Booted);
        if !starting || errand.watch.is_cancelled() || errand.clock.now().since(since) >= COMPLETION {
            return Ok(found);
        }
        errand.clock.sleep(LOOK);
    }
}

struct Size {
    vcpus: u32,
    most_mib: u64,
    held_mib: u64,
}

fn size(errand: &Errand<'_>) -> Result<Size, HypervisorError> {
    let vm = errand.vm;
    errand.session.call(format!("read the size of guest {vm}"), ANSWER, move |connect| {
        let info = lookup(connect, vm)?.info()?;
        Ok(Size { vcpus: info.nr_virt_cpu, most_mib: info.max_mem / 1024, held_mib: info.memory / 1024 })
    })
}

/// What became of a migration, seen from its source.
pub fn migration(errand: &Errand<'_>, destination: &Destination) -> Result<Fate, HypervisorError> {
    let (vm, target) = (errand.vm, &destination.host);
    let limits = errand.order.limits;
    let follow = Follow {
        monitor: errand.session,
        vm,
        watch: errand.watch,
        clock: errand.clock,
        timeout: limits.timeout,
        max_downtime: limits.max_downtime,
    };
    let aborted = match follow.without_call() {
        Outcome::Ended(Ok(()), aborted) => aborted,
        Outcome::Ended(Err(error), _) => return Err(error),
        Outcome::Stuck(_) => {
            let what = format!(
                "the migration of guest {vm} was told to end and does not: {target} may hang; restart libvirtd on one of the hosts"
            );
            return Err(HypervisorError::new(ErrorKind::TimedOut, what));
        }
    };
    // The job is over a little before the source forgets the guest.
    let since = errand.clock.now();
    while let Some(found) = errand.look()? {
        let leaving = found.reason == Reason::Migration && found.state != VmState::Running;
        let active_job = matches!(job::look(errand.session, vm)?, Job::Active(_));
        if !(leaving || active_job) || errand.clock.now().since(since) >= COMPLETION {
            let why = match aborted {
                Some(Abort::Cancelled) => "the migration was cancelled; ",
                Some(Abort::TimedOut) => "the migration took too long and was given up; ",
                None => "",
            };
            return Ok(Fate::NotDone(format!("{why}it is still on {}: {} ({})", errand.door.host, found.state, found.reason)));
        }
        errand.clock.sleep(LOOK);
    }
    // The source has forgotten it, which it does only after the target runs it. Look there too, where we can.
    match at_target(target, vm) {
        Some(false) => Ok(Fate::NotDone(format!(
            "it is neither on {} nor on {target}; look for it with `virsh list --all`",
            errand.door.host
        ))),
        Some(true) | None => {
            migration::arrived(target, vm);
            Ok(Fate::Done)
        }
    }
}

/// Does the target know the guest? `None`: it cannot be asked.
fn at_target(target: &HostId, vm: VmId) -> Option<bool> {
    let answers =
        neighbours::doors(target).into_iter().map(|door| look(&Session::open(&door, None), vm).map(|found| found.is_some()));
    let answers: Vec<bool> = answers.collect::<Result<_, _>>().ok()?;
    if answers.is_empty() { None } else { Some(answers.contains(&true)) }
}
