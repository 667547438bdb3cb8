//! What libvirt's events mean, and which definitions must be read again because of them.
//!
//! Events are told to the plane as notices at once. What would take a call (a definition) is only noted; the next report reads
//! it. That keeps libvirt's event thread free, and a burst of changes costs one reading. Nothing depends on an event arriving:
//! after a reconnect everything is read anew.

use super::description::Described;
use super::ffi::Said;
use super::state;
use super::statistics::Reading;
use crate::clock::Clock;
use crate::hypervisor::NoticeSink;
use crate::model::{AgentState, Notice, NoticeBody, Reason, VmId, VmState};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where a domain is in its life, as far as it takes to tell events apart that libvirt words alike.
///
/// ```text
/// Off --Started--> Active --Stopped--> Off          (a Resumed while Off belongs to the start that follows)
/// Off --Started Migrated--> Arriving --Resumed--> Active
///                           Arriving --Stopped--> Off     (an arrival that was given up, no crash)
/// Active --Crashed--> Panicked --Resumed--> Active        (started anew after a panic)
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    #[default]
    Unknown,
    Off,
    Arriving,
    Active,
    Panicked,
}

impl Phase {
    fn of(state: VmState, reason: Reason, was: Phase) -> Phase {
        match (state, reason) {
            (VmState::Paused, Reason::Migration) if was != Phase::Active => Phase::Arriving,
            (VmState::Off, _) => Phase::Off,
            (VmState::Crashed, _) if was == Phase::Panicked => Phase::Panicked,
            (VmState::Crashed, _) => Phase::Off,
            _ => Phase::Active,
        }
    }
}

/// What an event means.
#[derive(Debug, PartialEq, Default)]
struct Meaning {
    notice: Option<NoticeBody>,
    /// The definition must be read again.
    changed: bool,
}

fn interpret(phase: &mut Phase, said: &Said) -> Meaning {
    let notice = |body| Meaning { notice: Some(body), changed: false };
    match said {
        Said::Lifecycle(event, detail) => lifecycle(phase, *event, *detail),
        Said::Reboot => notice(NoticeBody::Rebooted),
        Said::Watchdog(action) => notice(NoticeBody::Watchdog(state::watchdog_action(*action).into())),
        Said::Balloon(kib) => notice(NoticeBody::Balloon(kib / 1024)),
        Said::Agent(1) => notice(NoticeBody::Agent(AgentState::Connected)),
        Said::Agent(_) => notice(NoticeBody::Agent(AgentState::Disconnected)),
        Said::IoError(alias, reason) => notice(NoticeBody::IoError(alias.as_str().into(), io_reason(reason).into())),
        Said::Changed => Meaning { notice: None, changed: true },
    }
}

fn io_reason(reason: &str) -> &str {
    if reason.is_empty() { "other" } else { reason }
}

/// The numbers are those of `virDomainEventType` and its details.
fn lifecycle(phase: &mut Phase, event: i32, detail: i32) -> Meaning {
    let state = |state, reason| Some(NoticeBody::State(state, reason));
    let was = *phase;
    let (notice, changed) = match (event, detail) {
        // Defined; undefined only to be defined under another name.
        (0, _) | (1, 1) => (None, true),
        (1, _) => (Some(NoticeBody::Undefined), true),
        // Started Migrated: it is being received and does not run yet.
        (2, 1) => {
            *phase = Phase::Arriving;
            (state(VmState::Paused, Reason::Migration), true)
        }
        (2, _) => {
            *phase = Phase::Active;
            let reason = match detail {
                0 => Reason::Booted,
                2 => Reason::Saved,
                _ => Reason::Asked,
            };
            (state(VmState::Running, reason), true)
        }
        (3, _) => {
            let reason = match detail {
                1 | 7 => Reason::Migration,
                // It has arrived, and waits for its new manager.
                _ if was == Phase::Arriving => Reason::Migration,
                2 => Reason::IoError,
                3 => Reason::Watchdog,
                4 => Reason::Saved,
                6 | 8 => Reason::Failed,
                _ => Reason::Asked,
            };
            (state(VmState::Paused, reason), false)
        }
        (4, 0) if was == Phase::Off => (None, false),
        (4, _) => {
            *phase = Phase::Active;
            let moved = matches!(detail, 1 | 3) || was == Phase::Arriving;
            let reason = match was {
                _ if moved => Reason::Migration,
                Phase::Panicked => Reason::Crashed,
                _ => Reason::Asked,
            };
            (state(VmState::Running, reason), moved)
        }
        (5, _) => {
            *phase = Phase::Off;
            let (ended, reason) = match detail {
                // However libvirt ends an arrival: the guest runs elsewhere.
                _ if was == Phase::Arriving => (VmState::Off, Reason::Migration),
                0 => (VmState::Off, Reason::Shutdown),
                2 => (VmState::Crashed, Reason::Crashed),
                3 => (VmState::Off, Reason::Migration),
                4 => (VmState::Off, Reason::Saved),
                // It never ran: it could not be started. It did: its QEMU died.
                5 if was == Phase::Off => (VmState::Off, Reason::Failed),
                5 => (VmState::Crashed, Reason::Crashed),
                _ => (VmState::Off, Reason::Asked),
            };
            (state(ended, reason), true)
        }
        (7, _) => (state(VmState::Asleep, Reason::Asked), false),
        (8, 0) => {
            *phase = Phase::Panicked;
            (state(VmState::Crashed, Reason::Crashed), false)
        }
        // Shutdown Finished: Stopped follows. Crashed Loaded: its crash kernel runs on.
        _ => (None, false),
    };
    Meaning { notice, changed }
}

/// What is known of a domain between reports.
#[derive(Debug, Default)]
struct Guest {
    phase: Phase,
    /// Number of the last event about it.
    heard: u64,
    /// Number of the last event that changed its definition.
    changed: u64,
    /// How many events had come when its definition was last read; `None`: not read yet.
    described: Option<u64>,
    vcpus: u32,
    memory_mib: u64,
    autostart: bool,
    /// Paused for a handover, whenever it is paused.
    sealed: bool,
    disk_aliases: BTreeMap<String, Arc<str>>,
    /// Its agent was found connected, and the plane was not told yet.
    tell_agent: bool,
}

#[derive(Default)]
struct Known {
    sinks: Vec<NoticeSink>,
    guests: BTreeMap<VmId, Guest>,
    /// How many events have come.
    events: u64,
}

/// Listens to one host.
pub struct Hearing {
    clock: Arc<dyn Clock>,
    known: Mutex<Known>,
}

impl Hearing {
    /// Listens, with nobody to tell yet.
    pub fn new(clock: Arc<dyn Clock>) -> Hearing {
        Hearing { clock, known: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more who wants to hear notices.
    pub fn subscribe(&self, sink: NoticeSink) {
        self.known().sinks.push(sink);
    }

    /// A new connection: what was known may be wrong, all definitions are to be read.
    pub fn reset(&self) {
        self.known().guests.clear();
    }

    /// An event, on libvirt's event thread.
    pub fn hear(&self, vm: VmId, said: &Said) {
        let at = self.clock.now();
        let mut known = self.known();
        known.events += 1;
        let event = known.events;
        let guest = known.guests.entry(vm).or_default();
        let mut meaning = interpret(&mut guest.phase, said);
        guest.heard = event;
        if meaning.changed {
            guest.changed = event;
        }
        match &mut meaning.notice {
            Some(NoticeBody::IoError(disk, _)) => {
                if let Some(target) = guest.disk_aliases.get(&**disk) {
                    *disk = target.clone();
                }
            }
            Some(NoticeBody::Agent(_)) => guest.tell_agent = false,
            _ => {}
        }
        let sinks = known.sinks.clone();
        drop(known);
        if let Some(body) = meaning.notice {
            for sink in &sinks {
                sink(Notice { vm, at, body: body.clone() });
            }
        }
    }

    /// A guest's definition was changed by ourselves: read it again, whether or not an event comes.
    pub fn changed(&self, vm: VmId) {
        let mut known = self.known();
        known.events += 1;
        let event = known.events;
        known.guests.entry(vm).or_default().changed = event;
    }

    /// How many events have come: to be asked before a poll.
    pub fn events(&self) -> u64 {
        self.known().events
    }

    /// Must a definition be read, given what a poll says of the domain?
    pub fn must_describe(&self, vm: VmId, reading: &Reading, autostart: bool) -> bool {
        let known = self.known();
        let Some(guest) = known.guests.get(&vm) else { return true };
        let Some(described) = guest.described else { return true };
        guest.changed > described
            || guest.autostart != autostart
            || reading.vcpus.is_some_and(|vcpus| vcpus != guest.vcpus)
            || reading.maximum_kib.is_some_and(|kib| kib / 1024 != guest.memory_mib)
    }

    /// What to report of a domain in this state. One whose QEMU is just being made is not there yet: it is off still where it
    /// was off, and arrives otherwise. (The target of a migration says "paused, starting up" before it says "migrating".)
    /// One that is sealed for a handover and paused is paused for that, whatever libvirt calls it: nobody shall take it for hung.
    pub fn settled(&self, vm: VmId, state: VmState, reason: Reason, described: Option<&Described>) -> (VmState, Reason) {
        if state == VmState::Paused && reason != Reason::IoError {
            let sealed = || self.known().guests.get(&vm).is_some_and(|guest| guest.sealed);
            if described.map_or_else(sealed, |described| described.sealed) {
                return (VmState::Paused, Reason::Migration);
            }
        }
        if (state, reason) != (VmState::Paused, Reason::Booted) {
            return (state, reason);
        }
        match self.known().guests.get(&vm).map(|guest| guest.phase) {
            Some(Phase::Off) => (VmState::Off, Reason::Unknown),
            _ => (VmState::Paused, Reason::Migration),
        }
    }

    /// A poll is complete: `listed` are its domains with their states, asked for when `events` events had come. `described`
    /// was read after that and is now on its way to the plane.
    pub fn polled(&self, events: u64, listed: &BTreeMap<VmId, (VmState, Reason)>, described: &BTreeMap<VmId, Described>) {
        let mut known = self.known();
        // An event about a domain that the poll could not know yet keeps it.
        known.guests.retain(|vm, guest| listed.contains_key(vm) || guest.heard > events);
        for (vm, (state, reason)) in listed {
            let guest = known.guests.entry(*vm).or_default();
            if guest.heard <= events {
                guest.phase = Phase::of(*state, *reason, guest.phase);
            }
            let Some(new) = described.get(vm) else { continue };
            guest.vcpus = new.description.vcpus;
            guest.memory_mib = new.description.memory_mib;
            guest.autostart = new.description.autostart;
            guest.sealed = new.sealed;
            guest.disk_aliases = new.disk_aliases.clone();
            guest.tell_agent |= guest.described.is_none() && new.agent_connected == Some(true);
            // The plane does not take in a guest that is only arriving: describe it again when it has.
            guest.described = (guest.phase != Phase::Arriving).then_some(events);
        }
    }

    /// Tells of agents that were found connected. The plane knows their guests only after it took in the report that described
    /// them, so this is for the next one.
    pub fn tell_agents(&self) {
        let at = self.clock.now();
        let mut known = self.known();
        let mut vms = Vec::new();
        for (vm, guest) in &mut known.guests {
            if guest.described.is_some() && std::mem::take(&mut guest.tell_agent) {
                vms.push(*vm);
            }
        }
        let sinks = known.sinks.clone();
        drop(known);
        for vm in vms {
            for sink in &sinks {
                sink(Notice { vm, at, body: NoticeBody::Agent(AgentState::Connected) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::VirtualClock;
    use crate::model::Timestamp;

    const GUEST: VmId = VmId(uuid::Uuid::from_u128(1));

    #[test]
    fn a_qemu_that_is_being_made_is_no_paused_guest() {
        let hearing = Hearing::new(VirtualClock::at(Timestamp(0)));
        let starting = (VmState::Paused, Reason::Booted);
        assert_eq!(hearing.settled(GUEST, starting.0, starting.1, None), (VmState::Paused, Reason::Migration));
        hearing.polled(0, &[(GUEST, (VmState::Off, Reason::Shutdown))].into(), &BTreeMap::new());
        assert_eq!(hearing.settled(GUEST, starting.0, starting.1, None), (VmState::Off, Reason::Unknown));
        assert_eq!(hearing.settled(GUEST, VmState::Paused, Reason::Asked, None), (VmState::Paused, Reason::Asked));
        let xml = "<domain><name>x</name><memory>1024</memory><metadata><m:mark xmlns:m='urn:embot:mark:1' plane='a' epoch='1' handover='a/4'/></metadata></domain>";
        let sealed = super::super::description::read(xml, true, false).unwrap();
        let seen = |state| hearing.settled(GUEST, state, Reason::Asked, Some(&sealed));
        assert_eq!(seen(VmState::Paused), (VmState::Paused, Reason::Migration));
        assert_eq!(seen(VmState::Running), (VmState::Running, Reason::Asked));
    }

    #[test]
    fn a_change_while_a_definition_was_read_is_read_again() {
        let hearing = Hearing::new(VirtualClock::at(Timestamp(0)));
        let reading = Reading::default();
        let xml = "<domain><name>x</name><memory>1024</memory></domain>";
        let described = || [(GUEST, super::super::description::read(xml, true, false).unwrap())].into();
        let listed = [(GUEST, (VmState::Running, Reason::Booted))].into();
        assert!(hearing.must_describe(GUEST, &reading, false));
        let before = hearing.events();
        hearing.hear(GUEST, &Said::Changed);
        hearing.polled(before, &listed, &described());
        assert!(hearing.must_describe(GUEST, &reading, false), "the event may be newer than what was read");
        hearing.polled(hearing.events(), &listed, &described());
        assert!(!hearing.must_describe(GUEST, &reading, false));
        assert!(hearing.must_describe(GUEST, &reading, true), "its autostart flag changed");
        let mut grown = reading;
        grown.vcpus = Some(2);
        assert!(hearing.must_describe(GUEST, &grown, false), "it got a processor");
        hearing.reset();
        assert!(hearing.must_describe(GUEST, &reading, false), "after a reconnect everything is read");
    }

    /// Notices of state for a row of lifecycle events, from a phase.
    fn states(phase: Phase, events: &[(i32, i32)]) -> Vec<(VmState, Reason)> {
        let mut phase = phase;
        let told = events.iter().filter_map(|(event, detail)| lifecycle(&mut phase, *event, *detail).notice);
        told.filter_map(|notice| match notice {
            NoticeBody::State(state, reason) => Some((state, reason)),
            _ => None,
        })
        .collect()
    }

    const STARTED: i32 = 2;
    const SUSPENDED: i32 = 3;
    const RESUMED: i32 = 4;
    const STOPPED: i32 = 5;

    #[test]
    fn a_start_is_told_once_and_as_booted() {
        assert_eq!(states(Phase::Off, &[(RESUMED, 0), (STARTED, 0)]), [(VmState::Running, Reason::Booted)]);
    }

    #[test]
    fn a_pause_and_its_end_were_asked_for() {
        let paused = [(VmState::Paused, Reason::Asked), (VmState::Running, Reason::Asked)];
        assert_eq!(states(Phase::Active, &[(SUSPENDED, 0), (RESUMED, 0)]), paused);
    }

    #[test]
    fn an_arrival_runs_only_when_it_resumes() {
        let arrival = [(VmState::Paused, Reason::Migration), (VmState::Running, Reason::Migration)];
        assert_eq!(states(Phase::Unknown, &[(STARTED, 1), (0, 0), (RESUMED, 1)]), arrival);
    }

    #[test]
    fn an_arrival_that_waits_for_its_manager_is_not_paused_by_somebody() {
        let arrival =
            [(VmState::Paused, Reason::Migration), (VmState::Paused, Reason::Migration), (VmState::Running, Reason::Migration)];
        assert_eq!(states(Phase::Unknown, &[(STARTED, 1), (SUSPENDED, 0), (RESUMED, 0)]), arrival);
    }

    #[test]
    fn an_arrival_that_is_given_up_is_no_crash() {
        for (event, detail) in [(STOPPED, 5), (STOPPED, 1)] {
            let given_up = [(VmState::Paused, Reason::Migration), (VmState::Off, Reason::Migration)];
            assert_eq!(states(Phase::Unknown, &[(STARTED, 1), (event, detail)]), given_up);
        }
    }

    #[test]
    fn the_same_words_after_it_ran_are_a_crash() {
        assert_eq!(states(Phase::Active, &[(STOPPED, 5)]), [(VmState::Crashed, Reason::Crashed)]);
        assert_eq!(states(Phase::Off, &[(STOPPED, 5)]), [(VmState::Off, Reason::Failed)]);
        let arrived = states(Phase::Unknown, &[(STARTED, 1), (RESUMED, 1), (STOPPED, 5)]);
        assert_eq!(arrived.last(), Some(&(VmState::Crashed, Reason::Crashed)));
    }

    #[test]
    fn leaving_is_no_fault() {
        let left = [(VmState::Paused, Reason::Migration), (VmState::Off, Reason::Migration)];
        assert_eq!(states(Phase::Active, &[(SUSPENDED, 1), (STOPPED, 3)]), left);
    }

    #[test]
    fn a_panic_that_restarts_runs_because_of_the_crash() {
        let crashed = [(VmState::Crashed, Reason::Crashed), (VmState::Running, Reason::Crashed)];
        assert_eq!(states(Phase::Active, &[(8, 0), (RESUMED, 0)]), crashed);
        assert_eq!(states(Phase::Active, &[(8, 0), (STOPPED, 2)]), [(VmState::Crashed, Reason::Crashed); 2]);
    }

    #[test]
    fn a_new_name_is_no_end() {
        let mut phase = Phase::Active;
        assert_eq!(lifecycle(&mut phase, 1, 1), Meaning { notice: None, changed: true });
        assert_eq!(lifecycle(&mut phase, 1, 0).notice, Some(NoticeBody::Undefined));
    }

    #[test]
    fn events_of_a_newer_libvirt_do_no_harm() {
        let mut phase = Phase::Active;
        for event in -1..20 {
            for detail in -1..20 {
                lifecycle(&mut phase, event, detail);
            }
        }
        assert_eq!(lifecycle(&mut phase, 99, 0), Meaning::default());
    }
}
