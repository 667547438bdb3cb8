//! A small plane and its records, for tests of the API and of the command line.

use super::metrics::Metrics;
use super::reload::Reloader;
use super::state::Doors;
use crate::clock::VirtualClock;
use crate::manager::{Handle, HostSettings, Manager, Outlet, Output, Settings};
use crate::model::testing::{host, vm};
use crate::model::{
    Action, ActionId, ActionKind, ActionState, ActionUpdate, Batch, DomainReport, ElementId, EmbotId, EmbotRow, Event,
    EventBody, Host, HostReport, Input, Level, Link, Maintenance, Mode, ModuleRow, ModuleVersion, Place, Progress, Proposal,
    Read, Reason, Record, Refusal, Span, TimerRow, Timestamp, Value, Vm, VmId, VmState, World,
};
use crate::store::{Recovered, Writer};
use std::collections::BTreeMap;
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
    off.mode = Mode::Advise;
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
        cancelling: None,
    }
}

/// An action that waits for an admin.
pub fn advice() -> Action {
    let mut action = action();
    action.id = ActionId(18);
    action.proposal.kind = ActionKind::Start { vm: id(4) };
    action.proposal.reason = "db-1 stopped unexpectedly, attempt 2 of 5".into();
    action.proposal.embot = Some(EmbotId { module: "relieve-hot-host".into(), element: ElementId::Host("host-b".into()) });
    // A policy that has left its module since.
    if let Some(place) = &mut action.proposal.place {
        place.file = "restart-crashed.rhai".into();
    }
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
        Record::Refused { number: 4, refusal: refusal() },
        Record::Action { action: ActionId(17), update: ActionUpdate::Started },
        Record::Action {
            action: ActionId(17),
            update: ActionUpdate::Progress(Progress { done_bytes: 42 << 20, total_bytes: 96 << 20 }),
        },
        Record::Action { action: ActionId(17), update: ActionUpdate::Done },
        Record::Settled { action: ActionId(18), how: "approved".into(), by: "ada".into(), reason: Some("CHG-7".into()) },
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

const MANIFEST: &str = "module: relieve-hot-host
version: \"1.0.0\"
description: Moves a guest off a host that has been hot for a while.
policies: [relieve-hot-host.rhai]
covers: { each: host }
mode: advise
permits: [migrate, notify]
settings: { hot: 0.85 }
";

const POLICY: &str = "fn settings() { #{ hot: 0.9 } }
fn on_load(host, settings) {
    if host.cpu > settings.hot { host.vms[0].migrate(`${host.name} is hot`); }
}
";

/// The module that proposes.
fn module() -> ModuleRow {
    let version = ModuleVersion {
        file: "relieve-hot-host.yaml".into(),
        manifest: MANIFEST.into(),
        policies: vec![("relieve-hot-host.rhai".into(), POLICY.into())],
        loaded_at: before(3_600),
        by: "ada".into(),
    };
    ModuleRow { mode: Some(Mode::Act), versions: vec![version], declared: None }
}

/// What every host of [`world`] says of itself.
fn reports() -> Vec<Input> {
    let world = world();
    let domain = |vm: &Vm| DomainReport {
        vm: vm.id,
        state: vm.state,
        reason: vm.reason,
        balloon_mib: Some(vm.balloon_mib),
        load: vm.load,
        description: None,
    };
    let report = |host: &Host| match &host.link {
        Link::Down(reason) => Input::HostLost(host.id.clone(), reason.as_str().into()),
        _ => Input::Report(
            host.id.clone(),
            HostReport {
                asked_at: before(2),
                capacity: host.capacity,
                load: Some(host.load),
                domains: world.vms_on(&host.id).map(domain).collect(),
            },
        ),
    };
    world.hosts().map(report).collect()
}

/// A manager of [`world`] with these actions. Where one of them is under way, it waits to hear what became of it, and decides
/// nothing meanwhile.
fn manager_with(actions: Vec<Action>) -> Manager {
    let world = world();
    let hosts: Vec<HostSettings> = world
        .hosts()
        .map(|host| HostSettings { id: host.id.clone(), site: host.site.clone(), labels: host.labels.clone() })
        .collect();
    let embot = EmbotRow {
        state: BTreeMap::from([(
            "relieve-hot-host".into(),
            Value::Map(BTreeMap::from([("since".into(), Value::Int(5))])).into(),
        )]),
        faults: 3,
        fault_at: before(30),
        suspended: Some("three faults within a minute, the last: relieve-hot-host.rhai:7:9: division by zero".into()),
    };
    let hot = EmbotId { module: "relieve-hot-host".into(), element: ElementId::Host("host-a".into()) };
    let timer =
        TimerRow { embot: hot.clone(), due: Timestamp(NOW.0 + 60_000), name: "look-again".into(), content: Value::Unit };
    let mut recovered = Recovered {
        hosts: world.hosts().map(|host| (host.id.clone(), host.clone())).collect(),
        vms: world.vms().map(|vm| (vm.id, vm.clone())).collect(),
        embots: BTreeMap::from([(hot, embot)]),
        timers: BTreeMap::from([(1, timer)]),
        actions: actions.into_iter().map(|action| (action.id, action)).collect(),
        modules: BTreeMap::from([("relieve-hot-host".into(), module())]),
        last_now: before(1),
        fresh: false,
        ..Recovered::nothing()
    };
    recovered.plane.next_action = 19;
    let mut manager = Manager::new(Settings { plane: "home".into(), hosts, ..Settings::default() }, recovered);
    manager.turn(reports(), NOW);
    manager
}

/// A manager with an action under way, one that waits for an admin and one that failed.
pub fn manager() -> Manager {
    manager_with(vec![failure(), action(), advice()])
}

/// Carries nothing out.
struct Nowhere;

impl Outlet for Nowhere {
    fn leave(&mut self, _: Output) {}
}

/// A plane that runs, with a store in memory and hosts that never say anything more.
pub fn plane() -> (Handle, Doors) {
    let (handle, inbox) = Handle::new(64);
    let store = crate::store::Store::in_memory().expect("a store in memory");
    let journal = store.journal();
    let (commits, to_store) = crossbeam_channel::bounded(4);
    let (from_store, committed) = crossbeam_channel::unbounded();
    let writer = Writer::spawn(store, to_store, from_store, Span::ZERO).expect("a thread");
    let clock = VirtualClock::at(NOW);
    let metrics = Metrics::new(NOW, None, writer.commits().clone());
    // Nobody reads a configuration again here.
    let (reloader, _) = Reloader::new();
    let (clock_of, notifiers) = (clock.clone(), Default::default());
    let doors = Doors { journal, clock: clock_of, link: None, notifiers, metrics, reloader, tokens: None };
    let door = handle.clone();
    std::thread::spawn(move || {
        let manager = manager_with(vec![failure(), advice()]);
        crate::manager::run(manager, &door, &inbox, &commits, &committed, &mut Nowhere, &*clock).expect("a manager that runs")
    });
    (handle, doors)
}
