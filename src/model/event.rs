//! What happened: time-stamped facts about one element.
//!
//! [`EventBody`] is closed: every consumer says what it does with each kind. To add a kind, add a variant, its row in
//! [`EventKind::ALL`], and the sensor that states it; policies can then handle it as `on_<name>`.

use super::action::ActionId;
use super::element::{ElementId, EmbotId, HostId, Kind};
use super::offer::Offer;
use super::report::AgentState;
use super::time::Timestamp;
use super::value::Value;
use super::vm::{Mark, Reason};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Samples are frequent, and an unread one is replaced by a newer one of the same kind and element. Facts are durable and
/// ordered, and none is ever dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventClass {
    /// May be replaced by a newer one.
    Sample,
    /// Never dropped.
    Fact,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its number: rises by one with each event of the plane, in the order of intake.
    pub seq: u64,
    /// When it happened, by the plane's clock.
    pub at: Timestamp,
    /// What it is about.
    pub element: ElementId,
    /// Set for what is meant for one embot only: its timer, a message to it, the result of its action.
    pub to: Option<EmbotId>,
    /// What happened.
    pub body: EventBody,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventBody {
    /// A new sample of a host or a guest stands in the world.
    Load,
    /// A guest was seen for the first time.
    Appeared,
    /// A guest is no longer defined on any host of the plane.
    Gone,
    /// A guest runs that did not run before.
    Started(Reason),
    /// A guest is off.
    Stopped(Reason),
    /// A guest, or the process that ran it, died.
    Crashed(Reason),
    /// A guest is paused.
    Paused(Reason),
    /// A paused guest runs again.
    Resumed(Reason),
    /// A guest is on another host now.
    Migrated {
        /// Where it was.
        from: HostId,
        /// Where it is.
        to: HostId,
    },
    /// A guest's definition changed: name, size, devices, labels, autostart.
    Changed,
    /// A guest's balloon has a new size.
    Balloon {
        /// Memory it holds now, in MiB.
        memory_mib: u64,
    },
    /// A guest's watchdog fired.
    Watchdog {
        /// What the hypervisor did about it (`none`, `pause`, `reset`, ...).
        action: Arc<str>,
    },
    /// A disk of a guest failed an operation; stated about the disk.
    IoError {
        /// What the hypervisor says.
        reason: Arc<str>,
    },
    /// A guest's agent connected or went away.
    Agent(AgentState),
    /// A guest carries the mark of another plane, or a newer epoch than ours: alarm.
    Conflict(Mark),
    /// A host answers again, or for the first time.
    HostUp,
    /// A host stopped answering; why.
    HostDown(Arc<str>),
    /// A host entered or left maintenance.
    Maintenance {
        /// Entered?
        on: bool,
    },
    /// The embot came to be, or its module was loaded anew.
    Loaded,
    /// A timer the embot set is due.
    Timer {
        /// The name it gave.
        name: Arc<str>,
        /// What it attached.
        content: Value,
    },
    /// A message from another embot.
    Message {
        /// Who sent it.
        from: EmbotId,
        /// The channel, as declared by both modules.
        channel: Arc<str>,
        /// What it says.
        content: Value,
    },
    /// An action this embot proposed was carried out.
    ActionDone(ActionId),
    /// An action this embot proposed failed, was cancelled, rejected or expired.
    ActionFailed {
        /// Which.
        action: ActionId,
        /// Why.
        reason: Arc<str>,
    },
    /// A peer offers a guest; stated about the plane, for the guest is not ours yet.
    MigrationOffer(Arc<Offer>),
}

/// What the rest of the house knows about a kind of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventKind {
    /// Its name; a policy handles it in a function `on_<name>`.
    pub name: &'static str,
    /// Sample or fact.
    pub class: EventClass,
    /// The kinds of elements it is about.
    pub about: &'static [Kind],
    /// What it means, for the reference.
    pub doc: &'static str,
    /// The fields a policy reads of it beyond `at`, `kind` and `element`: name and meaning.
    pub fields: &'static [(&'static str, &'static str)],
}

const REASON: &[(&str, &str)] = &[("reason", "why, as far as the hypervisor tells (`booted`, `asked`, `migration`, ...)")];
const fn fact(
    name: &'static str,
    about: &'static [Kind],
    doc: &'static str,
    fields: &'static [(&'static str, &'static str)],
) -> EventKind {
    EventKind { name, class: EventClass::Fact, about, doc, fields }
}

impl EventKind {
    /// Every kind, in the order of the reference.
    pub const ALL: &'static [EventKind] = &[
        EventKind {
            name: "load",
            class: EventClass::Sample,
            about: &[Kind::Host, Kind::Vm],
            doc: "A new sample of a host or guest: read it from `host` or `vm`.",
            fields: &[],
        },
        fact("appeared", &[Kind::Vm], "A guest was seen for the first time.", &[]),
        fact("gone", &[Kind::Vm], "A guest is no longer defined on any host of the plane.", &[]),
        fact("started", &[Kind::Vm], "A guest runs that did not run before.", REASON),
        fact("stopped", &[Kind::Vm], "A guest is off.", REASON),
        fact("crashed", &[Kind::Vm], "A guest, or the process that ran it, died.", REASON),
        fact("paused", &[Kind::Vm], "A guest is paused.", REASON),
        fact("resumed", &[Kind::Vm], "A paused guest runs again.", REASON),
        fact(
            "migrated",
            &[Kind::Vm],
            "A guest is on another host now.",
            &[("from", "the host it left"), ("to", "the host it is on")],
        ),
        fact("changed", &[Kind::Vm], "A guest's definition changed.", &[]),
        fact("balloon", &[Kind::Vm], "A guest's balloon has a new size.", &[("memory_mib", "memory it holds now, in MiB")]),
        fact("watchdog", &[Kind::Vm], "A guest's watchdog fired.", &[("action", "what the hypervisor did about it")]),
        fact("io_error", &[Kind::Disk], "A disk of a guest failed an operation.", &[("reason", "what the hypervisor says")]),
        fact("agent", &[Kind::Vm], "A guest's agent connected or went away.", &[("connected", "true or false")]),
        fact(
            "conflict",
            &[Kind::Vm],
            "A guest carries the mark of another plane or of a newer epoch.",
            &[("plane", "the plane the mark names"), ("epoch", "the epoch it names")],
        ),
        fact("host_up", &[Kind::Host], "A host answers.", &[]),
        fact("host_down", &[Kind::Host], "A host stopped answering.", &[("reason", "why")]),
        fact("maintenance", &[Kind::Host], "A host entered or left maintenance.", &[("on", "true: entered")]),
        fact("loaded", &[Kind::Plane, Kind::Host, Kind::Vm], "The embot came to be, or its module was loaded anew.", &[]),
        fact(
            "timer",
            &[Kind::Plane, Kind::Host, Kind::Vm],
            "A timer set with `after` is due.",
            &[("name", "the name given to `after`"), ("content", "what was attached")],
        ),
        fact(
            "message",
            &[Kind::Plane, Kind::Host, Kind::Vm],
            "A message from another embot.",
            &[("from", "the sender, as text"), ("channel", "the channel"), ("content", "what it says")],
        ),
        fact(
            "action_done",
            &[Kind::Plane, Kind::Host, Kind::Vm],
            "An action this embot proposed was carried out.",
            &[("action", "its number")],
        ),
        fact(
            "action_failed",
            &[Kind::Plane, Kind::Host, Kind::Vm],
            "An action this embot proposed failed, was cancelled, rejected or expired.",
            &[("action", "its number"), ("reason", "why")],
        ),
        fact(
            "migration_offer",
            &[Kind::Plane],
            "A peer offers a guest with its management; `offer.accept()` or `offer.deny(reason)` answers, silence denies.",
            &[("from", "the plane that offers")],
        ),
    ];

    /// The kind with this name.
    pub fn named(name: &str) -> Option<&'static EventKind> {
        EventKind::ALL.iter().find(|kind| kind.name == name)
    }
}

impl EventBody {
    /// The kind's position in [`EventKind::ALL`].
    pub fn index(&self) -> usize {
        match self {
            EventBody::Load => 0,
            EventBody::Appeared => 1,
            EventBody::Gone => 2,
            EventBody::Started(_) => 3,
            EventBody::Stopped(_) => 4,
            EventBody::Crashed(_) => 5,
            EventBody::Paused(_) => 6,
            EventBody::Resumed(_) => 7,
            EventBody::Migrated { .. } => 8,
            EventBody::Changed => 9,
            EventBody::Balloon { .. } => 10,
            EventBody::Watchdog { .. } => 11,
            EventBody::IoError { .. } => 12,
            EventBody::Agent(_) => 13,
            EventBody::Conflict(_) => 14,
            EventBody::HostUp => 15,
            EventBody::HostDown(_) => 16,
            EventBody::Maintenance { .. } => 17,
            EventBody::Loaded => 18,
            EventBody::Timer { .. } => 19,
            EventBody::Message { .. } => 20,
            EventBody::ActionDone(_) => 21,
            EventBody::ActionFailed { .. } => 22,
            EventBody::MigrationOffer(_) => 23,
        }
    }

    /// What is known about this kind of event.
    pub fn kind(&self) -> &'static EventKind {
        &EventKind::ALL[self.index()]
    }

    /// Sample or fact.
    pub fn class(&self) -> EventClass {
        self.kind().class
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_body_finds_its_own_row() {
        let vm = ElementId::Plane;
        let embot = EmbotId { module: "m".into(), element: vm };
        let bodies = [
            (EventBody::Load, "load"),
            (EventBody::Appeared, "appeared"),
            (EventBody::Gone, "gone"),
            (EventBody::Started(Reason::Booted), "started"),
            (EventBody::Stopped(Reason::Asked), "stopped"),
            (EventBody::Crashed(Reason::Crashed), "crashed"),
            (EventBody::Paused(Reason::Asked), "paused"),
            (EventBody::Resumed(Reason::Asked), "resumed"),
            (EventBody::Migrated { from: "a".into(), to: "b".into() }, "migrated"),
            (EventBody::Changed, "changed"),
            (EventBody::Balloon { memory_mib: 1 }, "balloon"),
            (EventBody::Watchdog { action: "reset".into() }, "watchdog"),
            (EventBody::IoError { reason: "".into() }, "io_error"),
            (EventBody::Agent(AgentState::Connected), "agent"),
            (EventBody::Conflict(Mark { plane: "x".into(), epoch: 1 }), "conflict"),
            (EventBody::HostUp, "host_up"),
            (EventBody::HostDown("".into()), "host_down"),
            (EventBody::Maintenance { on: true }, "maintenance"),
            (EventBody::Loaded, "loaded"),
            (EventBody::Timer { name: "".into(), content: Value::Unit }, "timer"),
            (EventBody::Message { from: embot, channel: "".into(), content: Value::Unit }, "message"),
            (EventBody::ActionDone(ActionId(1)), "action_done"),
            (EventBody::ActionFailed { action: ActionId(1), reason: "".into() }, "action_failed"),
            (EventBody::MigrationOffer(Arc::new(super::super::testing::offer("b"))), "migration_offer"),
        ];
        assert_eq!(bodies.len(), EventKind::ALL.len());
        for (body, name) in bodies {
            assert_eq!(body.kind().name, name);
        }
    }
}
