//! A small plane and its records, for tests of the API and of the command line.

use super::state::Doors;
use crate::clock::VirtualClock;
use crate::manager::{self, Handle, Manager};
use crate::model::testing::{host, vm};
use crate::model::{
    Action, ActionId, ActionKind, ActionState, ActionUpdate, Batch, Command, ElementId, EmbotId, Event, EventBody, Level, Link,
    Maintenance, Mode, ModuleVersion, Place, Progress, Proposal, Read, Reason, Record, Refusal, Reply, Timestamp, Value, VmId,
    VmState, World,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// 2026-03-01T12:03:04Z.
pub const NOW: Timestamp = Timestamp(1_772_366_584_000);

/// The guest with this number.
pub fn id(number: u128) -> VmId {
    VmId(uuid::Uuid::from_u128(number))
}

fn before(seconds: i64) -> Timestamp {
    Timestamp(NOW.0 - seconds * 1_000)
}

/// Three hosts (one hot, one in maintenance, one down) and four guests.
pub fn world() -> World {
    let mut world = World::new("home");
    let mut hot = host("host-a");
    hot.site = "north".into();
    hot.load.cpu_cores = 7.44;
    hot.load.memory_used_mib = 20_480.0;
    hot.load_at = before(2);
    let mut quiet = host("host-b");
    quiet.site = "north".into();
    quiet.maintenance = Maintenance::On(before(600));
    let mut down = host("host-c");
    down.link = Link::Down("cannot connect to 10.0.0.3:16509: connection refused".into());
    for one in [hot, quiet, down] {
        world.put_host(one);
    }
    let mut web = vm(3, "web-3", "host-a");
    web.load.cpu_cores = Some(1.9);
    web.load.memory_used_mib = Some(1_024.0);
    web.since = before(86_400);
    let mut off = vm(4, "db-1", "host-b");
    off.state = VmState::Off;
    off.reason = Reason::Shutdown;
    off.mode = Mode::Observe;
    off.mark = None;
    off.since = before(30);
    for one in [vm(1, "web-1", "host-a"), vm(2, "web-2", "host-a"), web, off] {
        world.put_vm(one);
    }
    world.open.insert(id(3), (ActionId(17), crate::model::Verb::Migrate));
    world
}

/// What the shipped policy proposes when `host-a` is hot.
pub fn proposal() -> Proposal {
    let host = ElementId::Host("host-a".into());
    let event = Event { seq: 4_711, at: before(41), element: host.clone(), to: None, body: EventBody::Load };
    Proposal {
        embot: Some(EmbotId { module: "relieve-hot-host".into(), element: host.clone() }),
        admin: None,
        kind: ActionKind::Migrate { vm: id(3), to: Some("host-c".into()), live: true },
        reason: "host-a at 93 % for 30s".into(),
        place: Some(Place { file: "relieve-hot-host.rhai".into(), line: 3, column: 12 }),
        cause: Some(Arc::new(event)),
        reads: Arc::new([
            Read { element: host.clone(), what: "cpu".into(), value: Value::Float(0.93) },
            Read { element: host, what: "usage(cpu).mean(30s)".into(), value: Value::Float(0.917_213_4) },
            Read { element: ElementId::Vm(id(3)), what: "running".into(), value: Value::Bool(true) },
        ]),
    }
}

/// A refusal of the same step.
pub fn refusal() -> Refusal {
    let mut proposal = proposal();
    proposal.kind = ActionKind::Migrate { vm: id(1), to: None, live: true };
    Refusal {
        proposal,
        guardrail: "cooldown".into(),
        reason: "web-1 was migrated 2m10s ago; guests are left alone for 5m after an action (guardrails.cooldown)".into(),
    }
}

/// An action that is under way.
pub fn action() -> Action {
    Action {
        id: ActionId(17),
        proposal: proposal(),
        host: Some("host-a".into()),
        expects: Some(VmState::Running),
        epoch: 1,
        mode: Mode::Act,
        decided_at: before(40),
        state: ActionState::Started,
        state_at: before(39),
        progress: Some(Progress { done_bytes: 42 << 20, total_bytes: 96 << 20 }),
        approved_by: None,
        weighed: vec![
            "host-c: cpu 31 % -> 42 %, memory 50 % -> 53 %; chosen".into(),
            "host-b: in maintenance".into(),
            "gain 1140 core-seconds, cost 21 core-seconds: 54 times (minimum 2)".into(),
        ],
        refused: vec![refusal()],
    }
}

/// An action that waits for an admin.
pub fn advice() -> Action {
    let mut action = action();
    action.id = ActionId(18);
    action.proposal.kind = ActionKind::Start { vm: id(4) };
    action.proposal.reason = "db-1 stopped unexpectedly, attempt 2 of 5".into();
    action.proposal.embot = Some(EmbotId { module: "restart-crashed".into(), element: ElementId::Vm(id(4)) });
    action.host = Some("host-b".into());
    action.mode = Mode::Advise;
    action.state = ActionState::Advised { until: Timestamp(NOW.0 + 3_600_000) };
    action.progress = None;
    action
}

/// An action that failed.
pub fn failure() -> Action {
    let mut action = action();
    action.id = ActionId(9);
    action.state =
        ActionState::Failed { reason: "cannot connect to host-c: connection refused; web-3 goes on running on host-a".into() };
    action.state_at = before(300);
    action.decided_at = before(320);
    action.progress = None;
    action
}

/// A batch with one record of each sort.
pub fn a_batch(seq: u64) -> Batch {
    let embot = proposal().embot.unwrap_or_else(|| EmbotId { module: "none".into(), element: ElementId::Plane });
    let crashed = Event { seq: 1, at: NOW, element: ElementId::Vm(id(4)), to: None, body: EventBody::Crashed(Reason::Failed) };
    let mut planned = action();
    planned.state = ActionState::Planned;
    let records = vec![
        Record::Event { event: crashed },
        Record::Planned { action: planned },
        Record::Planned { action: advice() },
        Record::Refused { refusal: refusal() },
        Record::Action { action: ActionId(17), update: ActionUpdate::Started },
        Record::Action {
            action: ActionId(17),
            update: ActionUpdate::Progress(Progress { done_bytes: 42 << 20, total_bytes: 96 << 20 }),
        },
        Record::Action { action: ActionId(17), update: ActionUpdate::Done },
        Record::Settled { action: ActionId(18), how: "approved".into(), by: "ada".into() },
        Record::Fault {
            embot: embot.clone(),
            error: "relieve-hot-host.rhai:7:9: error: division by zero".into(),
            deadline: false,
            suspended: true,
        },
        Record::Log { embot, text: "looking for room".into() },
        Record::Notice { level: Level::Alarm, text: "db-1 crashed 5 times in 10m: no more restarts".into() },
    ];
    Batch { seq, now: NOW, records, ..Batch::default() }
}

/// The module that proposes.
pub fn module() -> manager::ModuleView {
    let text = "// Moves a guest off a hot host.\nfn on_load(host, settings) {\n    if host.cpu > settings.hot { host.vms[0].migrate(`${host.name} is hot`); }\n}\n";
    manager::ModuleView {
        module: "relieve-hot-host".into(),
        version: "1.0.0".into(),
        description: "Moves a guest off a host that has been hot for a while.".into(),
        mode: Mode::Act,
        mode_set: true,
        permits: BTreeSet::from([crate::model::Verb::Migrate, crate::model::Verb::Notify]),
        settings: BTreeMap::from([("relieve-hot-host".into(), BTreeMap::from([("hot".to_owned(), Value::Float(0.85))]))]),
        versions: vec![ModuleVersion {
            file: "relieve-hot-host.yaml".into(),
            manifest: "module: relieve-hot-host\n".into(),
            policies: vec![("relieve-hot-host.rhai".into(), text.into())],
            loaded_at: before(3_600),
            by: "ada".into(),
        }],
        embots: 3,
        suspended: 1,
    }
}

/// A manager that has all of these.
pub fn manager() -> Manager {
    let mut manager = Manager::default();
    manager.world.replace(world());
    manager.actions = [failure(), action(), advice()].into_iter().map(|action| (action.id, action)).collect();
    manager.modules = vec![module()];
    manager.embots = vec![manager::EmbotView {
        id: EmbotId { module: "relieve-hot-host".into(), element: ElementId::Host("host-a".into()) },
        faults: 3,
        suspended: Some("three faults within a minute, the last: relieve-hot-host.rhai:7:9: division by zero".into()),
        state: BTreeMap::from([("relieve-hot-host".into(), Value::Map(BTreeMap::from([("since".into(), Value::Int(5))])))]),
        element: "host-a".into(),
        timers: vec![("look-again".into(), NOW)],
    }];
    manager.refusals.push_back(manager::RefusalView {
        recorded_at: before(60),
        last_at: before(20),
        count: 3,
        refusal: refusal(),
    });
    manager
}

/// A stand-in that says yes to every command but one, commits a batch on each, and tells what it was asked.
pub fn plane() -> (Handle, std::sync::mpsc::Receiver<(Command, String)>) {
    let (sender, receiver) = std::sync::mpsc::channel();
    let mut seq = 0;
    let answer = move |_: &mut Manager, command: Command, by: &str| {
        sender.send((command.clone(), by.to_owned())).ok();
        seq += 1;
        let reply = match command {
            Command::Approve { action } if action == ActionId(17) => {
                Reply::Refused { reason: "action 17 is started, it needs no approval".into() }
            }
            _ => Reply::Done { message: "done".into(), actions: vec![ActionId(19)] },
        };
        (reply, Some(a_batch(seq)))
    };
    (manager::stand_in(manager, Box::new(answer)), receiver)
}

/// Doors that lead to little.
pub fn doors() -> Doors {
    Doors {
        clock: VirtualClock::at(NOW),
        export: Arc::new(|from, out| {
            (from..from + 3).try_for_each(|batch| writeln!(out, "{{\"batch\":{batch}}}")).map_err(|error| error.to_string())
        }),
        reload: Arc::new(|| Err("embots/x.yaml:3:1: error: `polices` is not known (did you mean `policies`?)".into())),
    }
}
