//! Real hosts, through libvirt.
//!
//! What it guarantees:
//!
//! * No call waits without end, whatever a host does: each runs on a `session`'s thread and is given up after a time. A host
//!   that hangs costs its own poller some patience and nobody else anything.
//! * A guest whose QEMU hangs does not hide the others: its host is then reported without figures that only QEMU knows.
//! * After a lost connection the next report connects again and carries every definition. Events are a shortcut only: what they
//!   would have told is found by the next report.
//! * Before each order the guest's mark, epoch and state are read, in the same breath as the act (`order`).
//! * What is paused or off because it moves is reported as a migration, at the source and at the target.
//!
//! How it is laid out: `session` owns connections, `ffi` all unsafe code, `hearing` the meaning of events, `statistics`, `state`,
//! `description` and `abilities` turn libvirt's data into the plane's, `order`, `lifecycle`, `job`, `migration` and `recover` carry out;
//! `handover`, `leaving`, `copy` and `volumes` do what a move to another plane takes.
//! Reports share one session; each order opens its own, so that a long call holds up nobody.

mod abilities;
mod copy;
mod description;
mod event_loop;
mod failure;
mod ffi;
mod handover;
mod hearing;
mod job;
mod leaving;
mod lifecycle;
mod migration;
mod neighbours;
mod order;
mod recover;
mod session;
mod shutdown;
mod state;
mod statistics;
mod volumes;

use super::{Definition, ErrorKind, Fate, Handover, HandoverStep, Hypervisor, HypervisorError, NoticeSink, Order, Watch};
use crate::clock::Clock;
use crate::model::{
    Abilities, ActionKind, Capacity, DomainReport, HostId, HostReport, Mark, Reason, Sighting, Timestamp, VmId, VmState,
};
use description::Described;
use ffi::{Depth, Ear};
use handover::Hand;
use hearing::Hearing;
use order::Errand;
use session::{ANSWER, Door, Session};
use statistics::{Meters, Node, Reading};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use virt::connect::Connect;
use virt_sys as sys;

/// How many definitions are read in one request: each takes three calls, and a far host some milliseconds for each.
const DEFINITIONS: usize = 32;
/// Statistics that take longer are given up for this time, in favour of what can be had without asking any QEMU.
const STATISTICS: Duration = Duration::from_secs(8);
/// Before an order opens a session of its own, the host must answer a question this fast.
const PROBE: Duration = Duration::from_secs(5);

/// A host with libvirt.
pub struct LibvirtHost {
    door: Arc<Door>,
    clock: Arc<dyn Clock>,
    hearing: Arc<Hearing>,
    meters: Mutex<Meters>,
    /// The session that reports are read through; opened when first needed.
    main: Mutex<Option<Session>>,
    /// Another, for while that one waits for an answer that does not come: often it is not the host that hangs but one QEMU.
    spare: Mutex<Option<Session>>,
}

/// What one request of a report reads.
struct Poll {
    node: Node,
    readings: Vec<(VmId, Reading)>,
    autostart: BTreeSet<VmId>,
}

impl LibvirtHost {
    /// The host `host` of the plane, at a URI of libvirt (`qemu:///system`, `qemu+ssh://root@10.0.0.2/system`). Connects when
    /// first asked something.
    pub fn new(host: HostId, uri: &str, clock: Arc<dyn Clock>) -> LibvirtHost {
        let door = Arc::new(Door { host, uri: uri.into() });
        neighbours::register(&door);
        let hearing = Arc::new(Hearing::new(clock.clone()));
        LibvirtHost { door, clock, hearing, meters: Mutex::default(), main: Mutex::default(), spare: Mutex::default() }
    }

    /// The session for reports; a new one where there is none or the old one was lost.
    fn main(&self) -> Session {
        let mut main = self.main.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = main.as_ref().filter(|session| !session.is_lost()) {
            return session.clone();
        }
        self.hearing.reset();
        let hearing = self.hearing.clone();
        let session = Session::open(&self.door, Some(Ear::new(move |vm, said| hearing.hear(vm, &said))));
        *main = Some(session.clone());
        session
    }

    fn spare(&self) -> Session {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = spare.as_ref().filter(|session| !session.is_lost()) {
            return session.clone();
        }
        let session = Session::open(&self.door, None);
        *spare = Some(session.clone());
        session
    }

    /// The session that is most likely to answer.
    fn responsive(&self) -> Session {
        let main = self.main();
        if main.is_overdue() { self.spare() } else { main }
    }

    /// Asks something. Where the session turns out to have broken since the last time, once more through a new one.
    fn ask<T>(&self, ask: impl Fn(&Session) -> Result<T, HypervisorError>) -> Result<T, HypervisorError> {
        let session = self.responsive();
        match ask(&session) {
            Err(error) if error.kind == ErrorKind::Unreachable && session.broke() => ask(&self.responsive()),
            answer => answer,
        }
    }

    fn report_through(&self, session: &Session, depth: Depth, asked_at: Timestamp) -> Result<HostReport, HypervisorError> {
        self.hearing.tell_agents();
        let events = self.hearing.events();
        let (what, patience) = match depth {
            Depth::Full => ("read statistics", STATISTICS),
            Depth::Shallow => ("read states", ANSWER),
        };
        let poll = session.call(what, patience, move |connect| Ok(poll(connect, depth)?))?;
        let sampled_at = self.clock.now();
        let described = self.describe(session, &poll)?;
        let mut meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        let mut listed = BTreeMap::new();
        let mut domains = Vec::with_capacity(poll.readings.len());
        let mut waiting = 0.0;
        for (vm, reading) in &poll.readings {
            let Some((state, reason)) = reading.state() else { continue };
            let (state, reason) = self.hearing.settled(*vm, state, reason, described.get(vm));
            let load = meters.sample(*vm, sampled_at, reading);
            waiting += load.cpu_wait_cores.unwrap_or(0.0);
            listed.insert(*vm, (state, reason));
            domains.push(DomainReport {
                vm: *vm,
                state,
                reason,
                balloon_mib: reading.balloon_kib.map(|kib| kib / 1024),
                load,
                description: described.get(vm).map(|described| Box::new(described.description.clone())),
            });
        }
        meters.retain(|vm| listed.contains_key(vm));
        let load = meters.host(sampled_at, &poll.node, waiting);
        drop(meters);
        self.hearing.polled(events, &listed, &described);
        Ok(HostReport { asked_at, capacity: poll.node.capacity, load, domains })
    }

    /// Reads the definitions that are new or may have changed. One that cannot be read now is left out, and read next time.
    fn describe(&self, session: &Session, poll: &Poll) -> Result<BTreeMap<VmId, Described>, HypervisorError> {
        let wanted: Vec<(VmId, bool)> = poll
            .readings
            .iter()
            .map(|(vm, reading)| (vm, reading, poll.autostart.contains(vm)))
            .filter(|(vm, reading, autostart)| self.hearing.must_describe(**vm, reading, *autostart))
            .map(|(vm, _, autostart)| (*vm, autostart))
            .collect();
        let mut described = BTreeMap::new();
        for some in wanted.chunks(DEFINITIONS) {
            let some = some.to_vec();
            described.extend(session.call("read definitions", ANSWER, move |connect| {
                Ok(some
                    .into_iter()
                    .filter_map(|(vm, autostart)| describe(connect, vm, autostart).map(|it| (vm, it)))
                    .collect::<Vec<_>>())
            })?);
        }
        Ok(described)
    }

    /// A session for one order. The host is asked something first: a host that hangs lets sessions pile up, one an order.
    fn session(&self) -> Result<Session, HypervisorError> {
        self.ask(|session| session.call("take an order", PROBE, |connect| Ok(connect.lib_version()?)))?;
        Ok(Session::open(&self.door, None))
    }

    fn carry_out(&self, errand: &Errand<'_>) -> Result<(), HypervisorError> {
        let monitor = || Session::open(&self.door, None);
        match &errand.order.kind {
            ActionKind::Start { .. } => lifecycle::start(errand),
            ActionKind::Shutdown { force_after, .. } => lifecycle::shutdown(errand, *force_after),
            ActionKind::Destroy { .. } => lifecycle::destroy(errand),
            ActionKind::Reset { .. } => lifecycle::reset(errand),
            ActionKind::Suspend { .. } => lifecycle::suspend(errand),
            ActionKind::Resume { .. } => lifecycle::resume(errand),
            ActionKind::Save { .. } => lifecycle::save(errand, &monitor()),
            ActionKind::Restore { .. } => lifecycle::restore(errand),
            ActionKind::Migrate { live, .. } => migration::migrate(errand, &monitor(), *live),
            ActionKind::SetVcpus { vcpus, .. } => lifecycle::set_vcpus(errand, *vcpus),
            ActionKind::SetMemory { memory_mib, .. } => lifecycle::set_memory(errand, *memory_mib),
            ActionKind::Balloon { memory_mib, .. } => lifecycle::balloon(errand, *memory_mib),
            ActionKind::Define { xml, .. } => lifecycle::define(errand, xml),
            ActionKind::Undefine { .. } => lifecycle::undefine(errand),
            ActionKind::Adopt { .. } => lifecycle::adopt(errand),
            ActionKind::Notify { .. } | ActionKind::Handover { .. } => Err(self.not_ours(errand.order)),
        }
    }

    fn not_ours(&self, order: &Order) -> HypervisorError {
        let what = format!("{}: `{}` is nothing a hypervisor does", self.door.host, order.kind.verb());
        HypervisorError::new(ErrorKind::Unsupported, what)
    }
}

impl Hypervisor for LibvirtHost {
    fn report(&self, asked_at: Timestamp) -> Result<HostReport, HypervisorError> {
        let unreachable = |error: &HypervisorError| error.kind == ErrorKind::Unreachable;
        let main = self.main();
        if !main.is_overdue() {
            match self.report_through(&main, Depth::Full, asked_at) {
                Err(error) if unreachable(&error) && main.broke() => {
                    return self.report_through(&self.main(), Depth::Full, asked_at);
                }
                Err(error) if unreachable(&error) && main.is_overdue() => {}
                answer => return answer,
            }
        }
        // Perhaps one QEMU hangs, and with it libvirt's question to it. The states of all guests are known without.
        self.report_through(&self.spare(), Depth::Shallow, asked_at)
    }

    fn abilities(&self) -> Result<Abilities, HypervisorError> {
        self.ask(|session| session.call("read what guests can have there", ANSWER, |connect| Ok(abilities::read(connect)?)))
    }

    fn subscribe(&self, sink: NoticeSink) {
        self.hearing.subscribe(sink);
    }

    fn mark(&self, vm: VmId) -> Result<Option<Mark>, HypervisorError> {
        let marked = self.ask(|session| {
            session.call(format!("read the mark of guest {vm}"), ANSWER, move |connect| {
                order::read_mark(&order::lookup(connect, vm)?)
            })
        })?;
        Ok(marked.map(|marked| marked.mark))
    }

    fn execute(&self, order: &Order, watch: &dyn Watch) -> Result<(), HypervisorError> {
        let vm = order.kind.vm().ok_or_else(|| self.not_ours(order))?;
        let session = self.session()?;
        let errand = Errand { door: &self.door, session: &session, order, vm, watch, clock: &*self.clock };
        let result = self.carry_out(&errand);
        // Not every change has an event, and a failed order may have changed something.
        self.hearing.changed(vm);
        result
    }

    fn look(&self, vm: VmId) -> Result<Option<Sighting>, HypervisorError> {
        self.ask(|session| handover::look(session, vm))
    }

    fn definition(&self, vm: VmId) -> Result<Definition, HypervisorError> {
        self.ask(|session| handover::definition(session, vm))
    }

    fn hand_over(&self, handover: &Handover, watch: &dyn Watch) -> Result<(), HypervisorError> {
        let session = self.session()?;
        let hand = Hand { door: &self.door, session: &session, handover, watch, clock: &*self.clock };
        let result = match &handover.step {
            HandoverStep::Move(transfer) => leaving::leave(&hand, &Session::open(&self.door, None), transfer),
            HandoverStep::ShutDown { force_after } => handover::shut_down(&hand, *force_after),
            HandoverStep::Copy(transfer) => copy::copy(&hand, transfer),
            _ => handover::act(&hand),
        };
        self.hearing.changed(handover.vm);
        result
    }

    fn recover(&self, order: &Order, watch: &dyn Watch) -> Result<Fate, HypervisorError> {
        let vm = order.kind.vm().ok_or_else(|| self.not_ours(order))?;
        let session = self.session()?;
        recover::fate(&Errand { door: &self.door, session: &session, order, vm, watch, clock: &*self.clock })
    }
}

/// Reads all that a report needs apart from definitions.
fn poll(connect: &Connect, depth: Depth) -> Result<Poll, virt::error::Error> {
    let info = connect.node_info()?;
    let node = Node {
        capacity: Capacity { cpus: info.cpus, memory_mib: info.memory / 1024 },
        // Not every driver tells these.
        cpu_ns: ffi::node_cpu_times(connect).unwrap_or_default(),
        memory_kib: ffi::node_memory(connect).unwrap_or_default(),
        shared_pages: ffi::shared_pages(connect).unwrap_or_default(),
    };
    let mut readings = Vec::new();
    ffi::all_domain_stats(connect, depth, |vm, params| readings.push((vm, Reading::of(params))))?;
    readings.sort_by_key(|(vm, _)| *vm);
    // To tell whether a guest is in a migration, libvirt may have to ask its QEMU, which may hang in the midst of one.
    if depth == Depth::Full {
        for (vm, reading) in &mut readings {
            if reading.state() == Some((VmState::Paused, Reason::Migration)) && is_stranded(connect, *vm) {
                reading.forget_reason();
            }
        }
    }
    // The flag has no event and is not in the definition; asking for the list of those that have it costs one call.
    let autostart = connect.list_all_domains(sys::VIR_CONNECT_LIST_DOMAINS_AUTOSTART)?;
    let autostart = autostart.iter().filter_map(|domain| domain.uuid().ok().map(VmId)).collect();
    Ok(Poll { node, readings, autostart })
}

/// Is a guest that says it is paused for a migration in none? It can be left so when something failed at the wrong moment, and
/// nobody would look after it if it went on saying so. At the target of a migration libvirt does not tell, so there it is not.
fn is_stranded(connect: &Connect, vm: VmId) -> bool {
    order::lookup(connect, vm).and_then(|domain| job::is_active(&domain)).is_ok_and(|active| !active)
}

/// Reads a definition; `None`: it went away meanwhile, or makes no sense.
fn describe(connect: &Connect, vm: VmId, autostart: bool) -> Option<Described> {
    let domain = order::lookup(connect, vm).ok()?;
    let (xml, persistent) = (domain.xml_desc(0).ok()?, domain.is_persistent().ok()?);
    description::read(&xml, persistent, autostart).map_err(|error| tracing::warn!("guest {vm}: {error}")).ok()
}

impl std::fmt::Debug for LibvirtHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LibvirtHost").field("door", &self.door).finish_non_exhaustive()
    }
}
